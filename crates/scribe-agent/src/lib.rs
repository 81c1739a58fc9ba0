//! The code that lies inside every traced process. Position independent, no libc, no allocation,
//! knows nothing of the engine. It also serves as the program image that the replayer executes to
//! get an empty address space: the image's only segment is the agent itself.
//!
//! May depend on `scribe-abi` only.
#![no_std]

use scribe_abi::*;

core::arch::global_asm!(
    ".pushsection .rodata.scribe_agent, \"a\"",
    ".balign 16",
    ".globl scribe_agent_code",
    ".globl scribe_agent_code_end",
    "scribe_agent_code:",
    // +0x000 (0x200 in the page): one call, then back to the engine.
    "syscall",
    "int3",
    ".org scribe_agent_code + 0x10, 0xcc",
    // +0x010: rdi = calls, rsi = count. The engine restores all registers afterwards.
    "mov r12, rdi",
    "mov r13, rsi",
    "2:",
    "test r13, r13",
    "jz 3f",
    "mov rax, [r12]",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8, [r12 + 40]",
    "mov r9, [r12 + 48]",
    "syscall",
    "mov [r12 + 56], rax",
    "add r12, 64",
    "dec r13",
    "jmp 2b",
    "3:",
    "int3",
    ".org scribe_agent_code + 0xf0, 0xcc",
    // +0x0f0: a place to trap at.
    "int3",
    "int3",
    "scribe_agent_code_end:",
    ".popsection",
);

unsafe extern "C" {
    static scribe_agent_code: u8;
    static scribe_agent_code_end: u8;
}

/// The agent's instructions.
fn code() -> &'static [u8] {
    // SAFETY: both symbols delimit one read-only object, defined by the assembly above.
    unsafe {
        let start = &raw const scribe_agent_code;
        let end = &raw const scribe_agent_code_end;
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// Bytes of [`image`].
pub const IMAGE_LEN: usize = PAGE as usize;

/// The agent as an ELF program of one page.
///
/// ```text
/// 0x000  ELF header
/// 0x040  PT_LOAD: this page, R+X, at AGENT_BASE
/// 0x078  PT_LOAD: AGENT_DATA_LEN bytes of zeroes, R+W, at AGENT_DATA
/// 0x0b0  PT_GNU_STACK: stack not executable
/// 0x200  code
/// ```
pub fn image() -> [u8; IMAGE_LEN] {
    // 0xcc is int3: a stray jump into the padding stops instead of running on.
    let mut image = [0xcc; IMAGE_LEN];
    image[..0x100].fill(0);
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
    for half in [64u16, 56, 3, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    let mut segment = |kind: u32, flags: u32, addr: u64, file: u64, mem: u64| {
        put(&kind.to_le_bytes());
        put(&flags.to_le_bytes());
        for word in [0, addr, addr, file, mem, PAGE] {
            put(&word.to_le_bytes());
        }
    };
    segment(1, 5, AGENT_BASE, PAGE, PAGE);
    segment(1, 6, AGENT_DATA, 0, AGENT_DATA_LEN);
    segment(0x6474_e551, 6, 0, 0, 0);
    let code = code();
    image[ENTRY_SYSCALL as usize..][..code.len()].copy_from_slice(code);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_where_the_abi_says() {
        let image = image();
        assert_eq!(&image[ENTRY_SYSCALL as usize..][..3], [0x0f, 0x05, 0xcc]);
        assert_eq!(&image[ENTRY_BATCH as usize..][..3], [0x49, 0x89, 0xfc]);
        assert_eq!(image[ENTRY_TRAP as usize], 0xcc);
    }
}
