//! Restarting system calls that a signal interrupted: signal(7), include/linux/errno.h,
//! arch/x86/kernel/signal.c `handle_signal` and `arch_do_signal_or_restart`.

use super::SA_RESTART;

/// Restarted if no handler runs, or one with `SA_RESTART`.
pub const ERESTARTSYS: i64 = 512;
/// Always restarted.
pub const ERESTARTNOINTR: i64 = 513;
/// Restarted if no handler runs.
pub const ERESTARTNOHAND: i64 = 514;
/// Restarted through `restart_syscall` if no handler runs.
pub const ERESTART_RESTARTBLOCK: i64 = 516;
/// The number of `restart_syscall`.
pub const NR_RESTART_SYSCALL: u64 = 219;

/// What becomes of an interrupted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    /// The same call again: rax = its number, rip back to the `syscall` instruction.
    Same,
    /// `restart_syscall` (219) from the same place.
    RestartBlock,
    /// The program sees EINTR.
    Eintr,
    /// The call ended; its result stands.
    None,
}

/// Decides by the result of the call (the raw rax, negative for errors) and the flags of the handler
/// that is about to run; `None` if no handler runs.
pub fn restart(ret: i64, handler_flags: Option<u64>) -> Restart {
    match (ret.wrapping_neg(), handler_flags) {
        (ERESTARTNOINTR, _) | (ERESTARTSYS | ERESTARTNOHAND, None) => Restart::Same,
        (ERESTARTSYS, Some(flags)) if flags & SA_RESTART != 0 => Restart::Same,
        (ERESTART_RESTARTBLOCK, None) => Restart::RestartBlock,
        (ERESTARTSYS | ERESTARTNOHAND | ERESTART_RESTARTBLOCK, Some(_)) => Restart::Eintr,
        _ => Restart::None,
    }
}
