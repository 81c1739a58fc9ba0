//! Registers for a call made on behalf of a stopped task, through the agent's instructions.
//! How the stops around it are handled is the engine's business, which owns the event loop.

use crate::Regs;

/// Registers that make one call through the `syscall; int3` at `entry`, all else as in `base`.
pub fn call_regs(base: &Regs, entry: u64, nr: u64, args: &[u64; 6]) -> Regs {
    let mut regs = *base;
    regs.rip = entry;
    regs.rax = nr;
    // -1: the kernel is not to think that this stop interrupted a call that it must restart.
    regs.orig_rax = u64::MAX;
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = *args;
    regs
}

/// The arguments of a system call, from the registers at the call.
pub fn call_args(regs: &Regs) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}
