//! What an instruction that faulted was about to do: the kernel tells the program's handler, but no
//! tracer.

use crate::Regs;
use crate::near::value;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess};

/// What stands at a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The instruction writes at the faulting address.
    pub write: bool,
    /// It could not be fetched.
    pub fetch: bool,
    /// It is one of the x87.
    pub x87: bool,
    /// It is `int n`, with this number.
    pub interrupt: Option<u8>,
}

/// Looks at the instruction at `regs.rip`, of which `code` holds what can be read. `addr` is the
/// address in the siginfo: `fetch` and `write` mean something where that was a page fault.
pub fn cause(code: &[u8], regs: &Regs, addr: u64) -> Cause {
    let i = Decoder::with_ip(64, code, regs.rip, DecoderOptions::NONE).decode();
    let length = if i.is_invalid() { 15 } else { i.len() as u64 };
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let mut info = InstructionInfoFactory::new();
    let memory = info.info(&i).used_memory();
    // Bit strings and scattered vectors lie elsewhere than the operand says.
    let only = memory.iter().all(|used| writes(used.access())) && !memory.is_empty();
    let write = memory.iter().any(|used| {
        let at = used.virtual_address(0, |register, _, _| value(register, regs));
        // Of what has no fixed size (xsave) somewhere in its area.
        let size = match used.memory_size().size() {
            // Repeated: the registers are those of the element at which it stands.
            0 if i.is_string_instruction() => 8,
            0 => 1 << 14,
            size => size as u64,
        };
        writes(used.access()) && at.is_some_and(|at| addr.wrapping_sub(at) < size)
    });
    let prefix = |byte: &&u8| {
        matches!(
            byte,
            0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64 | 0x65
        )
    };
    let opcode = code.iter().find(|byte| !prefix(byte));
    let fetch = addr.wrapping_sub(regs.rip) < length;
    Cause {
        write: (write || only) && !fetch && !i.is_invalid(),
        fetch,
        x87: opcode.is_some_and(|byte| matches!(byte, 0x9b | 0xd8..=0xdf)),
        interrupt: (i.mnemonic() == Mnemonic::Int).then(|| i.immediate8()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(code: &[u8], addr: u64) -> Cause {
        // SAFETY: plain integers.
        let mut regs: Regs = unsafe { std::mem::zeroed() };
        (regs.rip, regs.rsp, regs.rdi, regs.rsi) = (0x1000, 0x7000, 0x5000, 0x6000);
        cause(code, &regs, addr)
    }

    #[test]
    fn tells_reads_from_writes() {
        let write = Cause {
            write: true,
            ..Cause::default()
        };
        // mov (%rsi),%eax; mov %eax,(%rdi); incl 4(%rdi)
        assert_eq!(at(&[0x8b, 0x06], 0x6000), Cause::default());
        assert_eq!(at(&[0x89, 0x07], 0x5003), write);
        assert_eq!(at(&[0xff, 0x47, 0x04], 0x5004), write);
        // rep movsb: by the address
        assert_eq!(at(&[0xf3, 0xa4], 0x6000), Cause::default());
        assert_eq!(at(&[0xf3, 0xa4], 0x5000), write);
        // push %rax; call
        assert_eq!(at(&[0x50], 0x6ff8), write);
        assert_eq!(at(&[0xe8, 0, 0, 0, 0], 0x6ff8), write);
        // mov %eax,0x10(%rip); bts %eax,(%rdi)
        assert_eq!(at(&[0x89, 0x05, 0x10, 0, 0, 0], 0x1016), write);
        assert_eq!(at(&[0x0f, 0xab, 0x07], 0x5100), write);
        // fxsave (%rdi)
        assert_eq!(at(&[0x0f, 0xae, 0x07], 0x5100), write);
    }

    #[test]
    fn sees_fetches_and_kinds() {
        assert!(at(&[], 0x1000).fetch);
        assert!(at(&[0xe8, 0], 0x1002).fetch);
        assert!(at(&[0xc3], 0x1000).fetch);
        // add %al,(%rax)
        let zeroes = at(&[0, 0], 0x1000);
        assert!(zeroes.fetch && !zeroes.write);
        assert!(at(&[0xd8, 0xc0], 0).x87 && at(&[0x9b], 0).x87);
        assert!(!at(&[0xf2, 0x0f, 0x5e, 0xc1], 0).x87);
        assert_eq!(at(&[0xcd, 0x2d], 0).interrupt, Some(0x2d));
    }
}
