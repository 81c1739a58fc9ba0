//! Compiles the agent: a freestanding program without libc, linked to the fixed address at which it
//! is mapped, as a flat image. It must not touch vector registers (those hold the application's
//! values), so it is compiled without them; a test looks at the result.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let here = Path::new(&here);
    for path in ["build.rs", "src/payload", "../scribe-abi/src"] {
        println!("cargo::rerun-if-changed={}", here.join(path).display());
    }
    let script = format!("{out}/agent.ld");
    fs::write(&script, SCRIPT).expect("OUT_DIR can be written");
    let abi = format!("{out}/libscribe_abi.rlib");
    rustc(&[
        here.join("../scribe-abi/src/lib.rs").display().to_string(),
        "--crate-name=scribe_abi".into(),
        "--crate-type=rlib".into(),
        format!("-o{abi}"),
    ]);
    rustc(&[
        here.join("src/payload/main.rs").display().to_string(),
        "--crate-name=agent".into(),
        "--crate-type=bin".into(),
        format!("--extern=scribe_abi={abi}"),
        "-Clink-args=-nostdlib -nostartfiles -static -no-pie -Wl,--build-id=none \
         -Wl,--oformat=binary -Wl,-z,norelro"
            .into(),
        format!("-Clink-arg=-Wl,-T,{script}"),
        format!("-o{out}/agent.bin"),
    ]);
}

fn rustc(args: &[String]) {
    let rustc = env::var("RUSTC").expect("cargo sets RUSTC");
    let output = Command::new(rustc)
        .args([
            "--edition=2024",
            "-Copt-level=3",
            "-Cpanic=abort",
            "-Ccodegen-units=1",
        ])
        .args([
            "-Crelocation-model=static",
            "-Cforce-unwind-tables=no",
            "-Cdebuginfo=0",
        ])
        // Vector registers hold the application's values.
        .arg("-Ctarget-feature=-sse,-sse2")
        .arg("--target=x86_64-unknown-linux-gnu")
        .args(args)
        .output()
        .expect("rustc can be run");
    assert!(
        output.status.success(),
        "compiling the agent: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The entry points are at fixed offsets behind the ELF header, which is written separately. There
/// is no writable data: all state is in memory shared with the engine.
const SCRIPT: &str = "
SECTIONS {
    . = 0x70000200;
    .text : {
        KEEP(*(.scribe_entry))
        *(.text .text.*)
        . = ALIGN(16);
        /* \"endscode\": constants are behind it. */
        QUAD(0x65646f6373646e65)
        *(.rodata .rodata.* .got .got.*)
    }
    .data : { *(.data .data.* .bss .bss.*) }
    ASSERT(SIZEOF(.data) == 0, \"the agent has writable data\")
    /DISCARD/ : { *(.comment .eh_frame .eh_frame_hdr .note .note.* .gnu.* .debug*) }
}
ENTRY(scribe_agent_entry)
";
