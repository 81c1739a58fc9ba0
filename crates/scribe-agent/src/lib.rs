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
        at(ENTRY_TRAP, &[0xcc]);
        at(ENTRY_PASSED, &[0xcc]);
        at(ENTRY_ASK, &[0xcc, 0xc3]);
        at(CALL_INSN, &[0x0f, 0x05, 0xc3]);
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
