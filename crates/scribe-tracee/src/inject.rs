//! Registers for a call made on behalf of a stopped task, through the agent's instructions.
//! How the stops around it are handled is the engine's business, which owns the event loop.

use crate::Regs;

/// `__USER_CS` and `__USER_DS` (arch/x86/include/asm/segment.h).
const USER_SEGMENTS: (u64, u64) = (0x33, 0x2b);
/// The trap flag.
const TF: u64 = 1 << 8;

/// Registers that make one call through the `syscall; int3` at `entry`, all else as in `base`.
pub fn call_regs(base: &Regs, entry: u64, nr: u64, args: &[u64; 6]) -> Regs {
    let mut regs = *base;
    regs.rip = entry;
    regs.rax = nr;
    // -1: the kernel is not to think that this stop interrupted a call that it must restart.
    regs.orig_rax = u64::MAX;
    // The program's may be of no use (a handler can change them), or trap behind each instruction.
    (regs.cs, regs.ss) = USER_SEGMENTS;
    regs.eflags &= !TF;
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = *args;
    regs
}

/// Words as they lie in memory.
pub fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Length of `struct clone_args` (include/uapi/linux/sched.h).
pub const CLONE_ARGS: u64 = 88;

/// Arguments for clone3(2) that ask for an id, as they are to lie at `at`, with the id behind them.
pub fn clone_args(at: u64, flags: u64, exit_signal: u64, id: u64) -> Vec<u8> {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    let ids = at + CLONE_ARGS;
    bytes_of(&[flags, 0, 0, 0, exit_signal, 0, 0, 0, ids, 1, 0, id])
}

/// The arguments of a system call, from the registers at the call.
pub fn call_args(regs: &Regs) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}
