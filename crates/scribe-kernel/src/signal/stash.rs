//! Signals that were taken from the kernel and not yet delivered to the application.

use super::Mask;
use crate::le;
use std::collections::VecDeque;

/// `siginfo_t`: 128 bytes.
pub type SigInfo = [u8; 128];

/// `si_code` of a `siginfo_t`.
pub fn si_code(info: &SigInfo) -> i32 {
    le::u32(info, 8) as i32
}

/// Whether a signal was sent to one task, as far as it tells.
fn to_task(info: &SigInfo) -> bool {
    si_code(info) == SI_TKILL
}

/// `si_code` of `tgkill` (include/uapi/asm-generic/siginfo.h).
const SI_TKILL: i32 = -6;

/// A signal with its information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The signal.
    pub signo: u32,
    /// What the handler gets to see.
    pub info: SigInfo,
}

/// A queue of signals with the kernel's rules (kernel/signal.c `__send_signal_locked`,
/// `next_signal`): standard signals are pending once, with the information of the first; real-time
/// signals queue. The kernel has such a queue per task and one per process; a task looks into its
/// own first ([`pop_next`]). Where this holds what came from both, `tgkill` tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalQueue {
    entries: VecDeque<Pending>,
}

/// First real-time signal as the kernel counts (`SIGRTMIN` of asm/signal.h; libc's is higher).
const KERNEL_SIGRTMIN: u32 = 32;

impl SignalQueue {
    /// Adds a signal; false if it coalesced with a pending one (or is no signal).
    pub fn push(&mut self, signo: u32, info: SigInfo) -> bool {
        if !(1..=super::NSIG).contains(&signo)
            || signo < KERNEL_SIGRTMIN
                && self
                    .entries
                    .iter()
                    .any(|e| e.signo == signo && to_task(&e.info) == to_task(&info))
        {
            return false;
        }
        self.entries.push_back(Pending { signo, info });
        true
    }

    /// The pending set.
    pub fn pending(&self) -> Mask {
        self.entries
            .iter()
            .fold(Mask::EMPTY, |m, e| m.with(e.signo))
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, oldest first: for snapshots.
    pub fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.entries.iter()
    }

    /// The signal that [`SignalQueue::pop`] would give.
    pub fn next(&self, blocked: Mask) -> Option<u32> {
        Some(self.entries[self.first(blocked)?].signo)
    }

    fn first(&self, blocked: Mask) -> Option<usize> {
        let ready = self.entries.iter().enumerate();
        let ready = ready.filter(|(_, e)| !blocked.has(e.signo));
        let rank = |e: &Pending| (!Mask::SYNCHRONOUS.has(e.signo), !to_task(&e.info), e.signo);
        ready.min_by_key(|(_, e)| rank(e)).map(|(at, _)| at)
    }

    /// Takes the next signal that is not blocked: those that an instruction may cause first, then
    /// those to the task, then the lowest number, and of one number the oldest.
    pub fn pop(&mut self, blocked: Mask) -> Option<Pending> {
        let at = self.first(blocked)?;
        self.entries.remove(at)
    }

    /// Drops what is pending of these signals (`flush_sigqueue_mask`): a signal became ignored, or
    /// SIGCONT and the stop signals drop each other.
    pub fn flush(&mut self, signals: Mask) {
        self.entries.retain(|e| !signals.has(e.signo));
    }
}

/// The next signal of a task (`get_signal`): a synchronous one of its own (by its `si_code` caused
/// by the kernel) before all others, then its own, then the process's.
pub fn pop_next(
    own: &mut SignalQueue,
    process: &mut SignalQueue,
    blocked: Mask,
) -> Option<Pending> {
    let sync = own
        .entries
        .iter()
        .position(|e| Mask::SYNCHRONOUS.minus(blocked).has(e.signo) && si_code(&e.info) > 0);
    match sync {
        Some(at) => own.entries.remove(at),
        None => own.pop(blocked).or_else(|| process.pop(blocked)),
    }
}
