//! The agent: the code that lies inside every traced process (`payload`, a freestanding program
//! that the build script compiles), as an image to be mapped. It also serves as the program that
//! the replayer executes to get an empty address space: its only segments are the agent's own.
//!
//! May depend on `scribe-abi` only.
#![no_std]

use scribe_abi::*;

#[cfg(test)]
#[path = "payload/copy.rs"]
#[allow(dead_code)]
mod copy;
#[cfg(test)]
#[path = "payload/plan.rs"]
#[allow(dead_code)] // Of a module of another program.
mod plan;

/// The agent's instructions, linked to [`AGENT_BASE`] + [`ENTRY_SYSCALL`].
static CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.bin"));

/// Bytes of [`image`].
pub const IMAGE_LEN: usize = AGENT_CODE_LEN as usize;

const _: () = assert!(CODE.len() + ENTRY_SYSCALL as usize <= IMAGE_LEN);

/// The agent as an ELF program.
///
/// ```text
/// 0x000  ELF header
/// 0x040  PT_LOAD: this image, R+X, at AGENT_BASE
/// 0x078  PT_LOAD: zeroes, R+W, at AGENT_DATA: the agent's data and that of the process
/// 0x0b0  PT_LOAD: zeroes, R+X, at STUBS
/// 0x0e8  PT_GNU_STACK: stack not executable
/// 0x200  code
/// ```
pub fn image() -> [u8; IMAGE_LEN] {
    // 0xcc is int3: a stray jump into the padding stops instead of running on.
    let mut image = [0xcc; IMAGE_LEN];
    image[..ENTRY_SYSCALL as usize].fill(0);
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        image[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(&2u16.to_le_bytes()); // ET_EXEC
    put(&62u16.to_le_bytes()); // EM_X86_64
    put(&1u32.to_le_bytes());
    put(&(AGENT_BASE + ENTRY_TRAP).to_le_bytes()); // entry
    put(&64u64.to_le_bytes()); // program headers
    put(&0u64.to_le_bytes()); // no section headers
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 4, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    let mut segment = |kind: u32, flags: u32, addr: u64, file: u64, mem: u64| {
        put(&kind.to_le_bytes());
        put(&flags.to_le_bytes());
        for word in [0, addr, addr, file, mem, PAGE] {
            put(&word.to_le_bytes());
        }
    };
    segment(1, 5, AGENT_BASE, AGENT_CODE_LEN, AGENT_CODE_LEN);
    segment(1, 6, AGENT_DATA, 0, STUBS - AGENT_DATA);
    segment(1, 5, STUBS, 0, AGENT_END - STUBS);
    segment(0x6474_e551, 6, 0, 0, 0);
    image[ENTRY_SYSCALL as usize..][..CODE.len()].copy_from_slice(CODE);
    image
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Register};

    #[test]
    fn entries_are_where_the_abi_says() {
        let image = image();
        let at = |offset: u64, bytes: &[u8]| {
            assert_eq!(
                &image[offset as usize..][..bytes.len()],
                bytes,
                "{offset:#x}"
            );
        };
        at(ENTRY_SYSCALL, &[0x0f, 0x05, 0xcc]);
        at(ENTRY_BATCH, &[0x49, 0x89, 0xfc]);
        at(ENTRY_CALL, &[0x48, 0x89, 0xd8, 0x0f, 0x05, 0xcc]);
        at(ENTRY_TRAP, &[0xcc]);
        at(ENTRY_PASSED, &[0xcc]);
        at(ENTRY_ASK, &[0xcc, 0xc3]);
        at(ENTRY_CPUID_PASSED, &[0xcc]);
        at(ENTRY_CPUID, &[0x48, 0x89, 0x0c, 0x25]);
        at(ENTRY_PATCHED, &[0x48, 0x89, 0x0c, 0x25]);
        at(CALL_INSN, &[0x0f, 0x05, 0xc3]);
        at(ENTRY_BOOT, &[0xfc, 0xbf]);
    }

    /// Memory of this process, as far as it belongs to a buffer.
    struct Own<'a>(&'a [u8]);

    impl scribe_syscalls::Memory for Own<'_> {
        fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
            let start = self.0.as_ptr() as u64;
            let Some(off) = addr
                .checked_sub(start)
                .filter(|off| *off < self.0.len() as u64)
            else {
                return 0;
            };
            let from = &self.0[off as usize..];
            let n = from.len().min(buf.len());
            buf[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    /// For random arguments the agent finds the same buffers, the same hash and the same written
    /// bytes as the table's own interpreter.
    #[test]
    fn the_agent_plans_as_the_table_says() {
        use scribe_abi::hash::{Hash, PIECE};
        use scribe_syscalls::{Call, Memory};
        let table = scribe_syscalls::fast_table();
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % below
        };
        let mut buffer = std::vec![0u8; 1 << 16];
        let (mut compared, mut odd) = (0, 0);
        for _ in 0..40_000 {
            for byte in buffer.iter_mut().take(512) {
                *byte = if random(4) == 0 { 0 } else { random(256) as u8 };
            }
            let base = buffer.as_ptr() as u64;
            // Vectors whose elements lie in the buffer, and lengths.
            for i in 0..24 {
                let pointer = if random(5) == 0 {
                    0
                } else {
                    base + random(1 << 14)
                };
                buffer[512 + i * 16..][..8].copy_from_slice(&pointer.to_le_bytes());
                buffer[520 + i * 16..][..8].copy_from_slice(&random(300).to_le_bytes());
            }
            let mut args = [0u64; 6];
            for arg in &mut args {
                *arg = match random(6) {
                    0 => 0,
                    1 => base + 512,
                    2 => base + random(1024),
                    3 => random(9),
                    4 => random(5000),
                    _ => -(random(3) as i64) as u64,
                };
            }
            let nr = random(450);
            let Some(row) = table.find(nr, &args).filter(|row| row.slow == 0) else {
                continue;
            };
            let call = Call {
                nr: nr as u32,
                args,
            };
            let full = scribe_syscalls::lookup(&call).expect("fast rows are rows");
            let own = Own(&buffer);
            let expected = scribe_syscalls::plan(full, &call, &own);
            // The agent reads for itself: only what is all in the buffer.
            let inside = |addr: u64, len: u64| addr >= base && addr - base + len <= 1 << 16;
            if expected.bufs.iter().any(|b| !inside(b.addr, b.cap)) {
                continue;
            }
            if row.bufs.iter().any(|b| {
                let at = args[usize::from(b.arg)];
                at != 0 && usize::from(b.arg) < full.args.len() && !inside(at, 1 << 13)
            }) {
                continue;
            }
            let mut plan = plan::Plan::new();
            // SAFETY: all pointers lead into the buffer.
            if !unsafe { plan.fill(row, &args) } {
                odd += 1;
                continue;
            }
            let name = full.full_name();
            assert_eq!(plan.bufs().len(), expected.bufs.len(), "{name} {args:x?}");
            for (a, b) in plan.bufs().iter().zip(&expected.bufs) {
                assert_eq!(
                    (a.addr, a.cap, a.input),
                    (b.addr, b.cap, b.input),
                    "{name} {args:x?}"
                );
                assert_eq!(a.in_place, b.in_place, "{name}");
            }
            let mut hash = Hash::new(call.nr);
            args.iter()
                .take(full.args.len())
                .for_each(|arg| hash.word(*arg));
            for buf in expected.bufs.iter().filter(|buf| buf.input) {
                let mut bytes = std::vec![0; buf.cap as usize];
                assert!(own.read_exact(buf.addr, &mut bytes));
                bytes.chunks(PIECE).for_each(|piece| hash.bytes(piece));
            }
            // SAFETY: as above.
            let got = unsafe { plan.hash(row, &args) };
            assert_eq!(got, hash.finish(), "{name} {args:x?}");
            for ret in [0, 1, 7, 200, -4, -11, -14, -22] {
                let mut read = |buf: usize, off: u64, out: &mut [u8]| {
                    own.read_exact(expected.bufs[buf].addr + off, out)
                };
                let outs = scribe_syscalls::outputs(full, &call, &expected, ret, &mut read);
                for (i, buf) in plan.bufs().iter().enumerate() {
                    let want = outs.iter().find(|o| o.buf == i).map_or(0, |o| o.len);
                    // SAFETY: as above.
                    let got = unsafe { buf.written(&args, ret) };
                    assert_eq!(got, want, "{name} {args:x?} = {ret}, buffer {i}");
                }
            }
            compared += 1;
        }
        assert!(
            compared > 5_000,
            "{compared} compared, {odd} left to the engine"
        );
    }

    /// The application's vector, x87 and segment registers are never saved, so they must not be
    /// touched.
    #[test]
    fn only_general_registers() {
        let start = (ENTRY_PATCHED - ENTRY_SYSCALL) as usize;
        let mut factory = InstructionInfoFactory::new();
        let decoder = Decoder::with_ip(
            64,
            &CODE[start..],
            AGENT_BASE + ENTRY_PATCHED,
            DecoderOptions::NONE,
        );
        for instruction in decoder {
            let info = factory.info(&instruction);
            for used in info.used_registers() {
                let register = used.register();
                let fine = register.is_gpr()
                    || [Register::RIP, Register::None].contains(&register)
                    || (register.is_segment_register()
                        && !matches!(register, Register::FS | Register::GS));
                assert!(
                    fine || instruction.ip() >= rodata(),
                    "{:#x}: {register:?}",
                    instruction.ip()
                );
            }
        }
    }

    /// Where constants begin: the linker script puts a mark there.
    fn rodata() -> u64 {
        let mark = CODE.windows(8).position(|w| w == b"endscode");
        AGENT_BASE + ENTRY_SYSCALL + mark.expect("the mark") as u64
    }
}
