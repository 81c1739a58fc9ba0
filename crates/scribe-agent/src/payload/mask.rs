//! What the agent does of signals.
//!
//! `rt_sigprocmask`: the mask that the program sees is in the task's area, and the kernel is given it
//! without the signals that must always come through.
//!
//! `rt_sigaction`, if it only asks: the kernel knows what the program set, but for the signals that
//! must always come through, and for handlers that are used up by their first signal. Also if it makes
//! an action the default which it is already (posix_spawn does so for each signal). Else it is the
//! engine's: that delivers.

use core::sync::atomic::Ordering::Relaxed;
use scribe_abi::shared::{NEVER_BLOCKED, TaskArea};

/// Bytes of the kernel's `sigset_t`.
const SIZE: u64 = 8;
/// `SIGKILL` and `SIGSTOP`.
const UNBLOCKABLE: u64 = 1 << 8 | 1 << 18;

/// The mask before and after a call with these arguments; `None`: the engine knows what is wrong with
/// it.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
#[inline(always)]
pub unsafe fn change(area: &TaskArea, args: &[u64; 6]) -> Option<(u64, u64)> {
    let [how, set, _, size, ..] = *args;
    if size != SIZE {
        return None;
    }
    let before = area.mask.load(Relaxed);
    if set == 0 {
        return Some((before, before));
    }
    // SAFETY: the caller recovers.
    let set = unsafe { (set as *const u64).read_unaligned() };
    let after = match how & 0xffff_ffff {
        0 => before | set,
        1 => before & !set,
        2 => set,
        _ => return None,
    };
    Some((before, after & !UNBLOCKABLE))
}

/// Takes over the new mask, and prepares what the kernel is to be given: where that stands.
#[inline(always)]
pub fn prepare(area: &mut TaskArea, after: u64) -> u64 {
    area.mask.store(after, Relaxed);
    area.kernel_mask = after & !NEVER_BLOCKED;
    core::ptr::from_ref(&area.kernel_mask) as u64
}

/// Whether an `rt_sigaction` changes nothing that matters to the engine, about a signal that the kernel
/// knows all of.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
#[inline(always)]
pub unsafe fn keeps_actions(area: &TaskArea, args: &[u64; 6]) -> bool {
    const SIGCHLD: u64 = 17;
    let [signal, new, old, size, ..] = *args;
    let bit = (signal & 0xffff_ffff).wrapping_sub(1);
    if size != SIZE || bit >= 64 || NEVER_BLOCKED >> bit & 1 != 0 {
        return false;
    }
    if new == 0 {
        return old != 0;
    }
    let default = area.default_actions.load(Relaxed) >> bit & 1 != 0;
    // The flags for SIGCHLD matter also without a handler.
    // SAFETY: the caller recovers.
    default
        && old == 0
        && bit + 1 != SIGCHLD
        && unsafe { (new as *const u64).read_unaligned() } == 0
}

/// Whether the kernel's answer to it is the right one.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
#[inline(always)]
pub unsafe fn tells(args: &[u64; 6], ret: i64) -> bool {
    const SA_RESETHAND: u64 = 0x8000_0000;
    let old = args[2];
    // SAFETY: the caller recovers; the kernel has written there.
    old == 0
        || ret == 0 && unsafe { ((old + 8) as *const u64).read_unaligned() } & SA_RESETHAND == 0
}
