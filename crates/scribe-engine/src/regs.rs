//! One register set under two names: libc's for ptrace, scribe-kernel's for its pure functions.

use scribe_kernel::regs::UserRegs;
use scribe_kernel::xstate;
use scribe_tracee::{Regs, Stopped};

const _: () = assert!(size_of::<Regs>() == size_of::<[u64; 27]>());

/// As words, in the order of `struct user_regs_struct`.
pub fn words(regs: &Regs) -> [u64; 27] {
    // SAFETY: the struct is 27 u64 (sys/user.h), checked above.
    unsafe { std::mem::transmute(*regs) }
}

/// From words.
pub fn from_words(words: &[u64; 27]) -> Regs {
    // SAFETY: as above; every bit pattern is valid.
    unsafe { std::mem::transmute(*words) }
}

/// For scribe-kernel.
pub fn to_user(regs: &Regs) -> UserRegs {
    UserRegs::from_words(&words(regs))
}

/// For ptrace.
pub fn from_user(user: &UserRegs) -> Regs {
    from_words(&user.to_words())
}

/// Gives a task an extended state: the one way in which that is done (see [`xstate::claim_legacy`]).
pub fn put_xstate(stopped: &Stopped, mut image: Vec<u8>) -> scribe_tracee::Result<()> {
    xstate::claim_legacy(&mut image);
    stopped.set_xstate(&image)
}

/// After an exec: the state that the kernel gave it, in the one form.
pub fn begin_xstate(stopped: &Stopped) -> scribe_tracee::Result<()> {
    put_xstate(stopped, stopped.xstate()?)
}

/// The general registers in the order of their numbers in instructions.
pub fn general(regs: &Regs) -> [u64; 16] {
    [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ]
}
