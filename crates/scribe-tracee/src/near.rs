//! What the instructions at and after an address are about: for recognising a state later.

use crate::Regs;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How many instructions are looked at.
const FAR: usize = 48;
/// Most code that is looked at, in bytes to either side.
pub const WINDOW: usize = 256;

/// Whether a string instruction that repeats stands at the beginning of `code`; its length. A task
/// that was stopped there may be in the middle of it.
pub fn repeating(code: &[u8], ip: u64) -> Option<usize> {
    let instruction = Decoder::with_ip(64, code, ip, DecoderOptions::NONE).decode();
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    (instruction.is_string_instruction() && repeats).then(|| instruction.len())
}

/// Whether the instruction at the beginning of `code` may be one by which threads meet: it writes
/// memory that is not on the stack, or is atomic.
pub fn shares(code: &[u8], ip: u64) -> bool {
    meets(&Decoder::with_ip(64, code, ip, DecoderOptions::NONE).decode())
}

fn meets(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|op| i.op_kind(op) == OpKind::Memory);
    let stack = matches!(i.memory_base(), Register::RSP | Register::RBP);
    let atomic = i.has_lock_prefix() || (memory && i.mnemonic() == Mnemonic::Xchg);
    // What writes has its target first.
    let writes = i.op_count() > 0 && i.op0_kind() == OpKind::Memory && !i.is_stack_instruction();
    atomic || (writes && !stack)
}

/// Offsets in `code`, which holds nothing else, of instructions behind those by which threads may
/// meet, of atomic ones, as what they go by was read before, and of calls.
pub fn meeting_places(code: &[u8]) -> Vec<u32> {
    let mut places = Vec::new();
    for i in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        if i.is_invalid() {
            continue;
        }
        if i.flow_control() == FlowControl::Call {
            places.push(i.ip() as u32);
        } else if meets(&i) && i.flow_control() == FlowControl::Next {
            if i.has_lock_prefix() {
                places.push(i.ip() as u32);
            }
            places.push(i.next_ip() as u32);
        }
    }
    places.retain(|place| (*place as usize) < code.len());
    places.dedup();
    places
}

/// Addresses of memory that the instructions near `regs.rip` use, as far as the present registers
/// tell. `code` is what stands from `base` on, around rip. First what lies on the way from rip, where
/// branches back are followed: in a loop this finds what it counts in. Then everything around.
pub fn operands(code: &[u8], base: u64, regs: &Regs) -> Vec<u64> {
    let mut found = Vec::new();
    let mut add = |i: &Instruction| {
        if let Some(addr) = memory(i, regs)
            && !found.contains(&addr)
        {
            found.push(addr);
        }
    };
    let mut ip = regs.rip;
    for _ in 0..FAR {
        let Some(rest) = ip
            .checked_sub(base)
            .and_then(|from| code.get(from as usize..))
            .filter(|rest| !rest.is_empty())
        else {
            break;
        };
        let i = Decoder::with_ip(64, rest, ip, DecoderOptions::NONE).decode();
        if i.is_invalid() {
            break;
        }
        add(&i);
        let near = i.op0_kind() == OpKind::NearBranch64;
        ip = match i.flow_control() {
            FlowControl::Next => i.next_ip(),
            FlowControl::ConditionalBranch if i.near_branch_target() > ip => i.next_ip(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch if near => {
                i.near_branch_target()
            }
            FlowControl::Call | FlowControl::IndirectCall => i.next_ip(),
            _ => break,
        };
    }
    // A wrong beginning falls into step within a few instructions.
    for i in &mut Decoder::with_ip(64, code, base, DecoderOptions::NONE) {
        if !i.is_invalid() {
            add(&i);
        }
    }
    found
}

/// Whether a call may stand right before `addr`, so that it is where one returns to.
pub fn follows_call(mem: &crate::Mem, addr: u64) -> bool {
    let mut code = [0; 7];
    let Some(base) = addr.checked_sub(code.len() as u64) else {
        return false;
    };
    if mem.read(base, &mut code).is_err() {
        return false;
    }
    (2..=code.len()).any(|len| {
        let at = addr - len as u64;
        let rest = &code[code.len() - len..];
        let i = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
        let call = matches!(
            i.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        !i.is_invalid() && call && i.len() == len
    })
}

fn memory(i: &Instruction, regs: &Regs) -> Option<u64> {
    let operand = (0..i.op_count()).find(|op| i.op_kind(*op) == OpKind::Memory)?;
    i.virtual_address(operand, 0, |register, _, _| value(register, regs))
}

/// What a register holds, for addresses; nothing is known of vector registers.
pub(crate) fn value(register: Register, regs: &Regs) -> Option<u64> {
    Some(match register.full_register() {
        Register::RAX => regs.rax,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RBX => regs.rbx,
        Register::RSP => regs.rsp,
        Register::RBP => regs.rbp,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        Register::FS => regs.fs_base,
        Register::GS => regs.gs_base,
        Register::DS | Register::ES | Register::SS | Register::CS => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs(rip: u64) -> Regs {
        // SAFETY: plain integers.
        let mut regs: Regs = unsafe { std::mem::zeroed() };
        (regs.rip, regs.rbp, regs.rsp) = (rip, 0x8000, 0x7000);
        regs
    }

    #[test]
    fn finds_the_counter_of_a_loop() {
        // 1000: addl $1,-4(%rbp); 1004: nop; 1005: cmpl $9,-8(%rbp); 1009: jne 1000
        let code = [
            0x83, 0x45, 0xfc, 1, 0x90, 0x83, 0x7d, 0xf8, 9, 0x75, 0xf5, 0xc3,
        ];
        assert_eq!(operands(&code, 0x1000, &regs(0x1004)), [0x7ff8, 0x7ffc]);
        assert_eq!(
            operands(&code[..9], 0x2000, &regs(0x1004)),
            [0x7ffc, 0x7ff8]
        );
    }

    #[test]
    fn sees_string_instructions() {
        assert_eq!(repeating(&[0xf3, 0xa4, 0x90], 0), Some(2));
        assert_eq!(repeating(&[0xf3, 0x48, 0xab], 0), Some(3));
        assert_eq!(repeating(&[0xa4, 0x90], 0), None);
        // pause
        assert_eq!(repeating(&[0xf3, 0x90], 0), None);
    }
}
