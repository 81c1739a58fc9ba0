//! What the agent does of signals.
//!
//! `rt_sigprocmask`: the mask that the program sees is in the task's area, and the kernel is given it
//! without the signals that must always come through.
//!
//! `rt_sigaction`: the kernel knows what the program set, but for the signals that must always come through, and
//! for handlers that are used up by their first signal. The engine, which delivers, is told by a note in the task's
//! area, which it reads when the task next stops.

use core::sync::atomic::Ordering::{Relaxed, Release};
use scribe_abi::shared::{NEVER_BLOCKED, NOTES, TaskArea};

/// Bytes of the kernel's `sigset_t`.
const SIZE: u64 = 8;
/// The kernel forgets such a handler with its first signal.
const SA_RESETHAND: u64 = 0x8000_0000;
/// A pointer that leads nowhere.
pub const EFAULT: i64 = -14;
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

/// What the agent does of an `rt_sigaction`.
#[derive(Clone, Copy)]
pub enum Action {
    /// The engine does it.
    Engines,
    /// It changes nothing that matters to the engine, about a signal that the kernel knows all of.
    Keeps,
    /// It shows the disposition of a signal of which the kernel does not know all: it was never set.
    Unset,
    /// It sets a disposition, here also the kernel's.
    Sets,
    /// The same, of a signal whose disposition the kernel must not know.
    SetsOurs,
}

/// What the agent does of an `rt_sigaction` with these arguments.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
#[inline(always)]
pub unsafe fn action(area: &TaskArea, args: &[u64; 6]) -> Action {
    const SIGCHLD: u64 = 17;
    let [signal, new, old, size, ..] = *args;
    let bit = (signal & 0xffff_ffff).wrapping_sub(1);
    if size != SIZE || bit >= 64 {
        return Action::Engines;
    }
    let has = |mask: u64| mask >> bit & 1 != 0;
    let ours = has(NEVER_BLOCKED);
    let unset = has(area.unset_actions.load(Relaxed));
    if new == 0 {
        return match (old, ours) {
            (0, _) => Action::Engines,
            (_, false) => Action::Keeps,
            (_, true) if unset => Action::Unset,
            _ => Action::Engines,
        };
    }
    let default = has(area.default_actions.load(Relaxed));
    // SAFETY: the caller recovers.
    let [handler, flags] = unsafe { (new as *const [u64; 2]).read_unaligned() };
    // The flags for SIGCHLD matter also without a handler.
    if !ours && default && old == 0 && bit + 1 != SIGCHLD && handler == 0 {
        return Action::Keeps;
    }
    let own = area.own_actions.load(Relaxed) != 0
        && (area.noted.load(Relaxed) as usize) < NOTES
        && !has(UNBLOCKABLE | area.held.load(Relaxed) | area.once_actions.load(Relaxed))
        && flags & SA_RESETHAND == 0;
    match (own, ours) {
        (false, _) => Action::Engines,
        (true, false) => Action::Sets,
        (true, true) if old == 0 || unset => Action::SetsOurs,
        (true, true) => Action::Engines,
    }
}

/// Does it. `kernel` makes the call; the result is the kernel's, or as it.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
pub unsafe fn act(
    area: &mut TaskArea,
    action: Action,
    args: &[u64; 6],
    kernel: impl FnOnce(&mut TaskArea) -> i64,
) -> i64 {
    let [signal, new, old, ..] = *args;
    let zero = |at: u64| {
        for i in 0..4 {
            // SAFETY: the caller recovers.
            unsafe { (at as *mut u64).wrapping_add(i).write_unaligned(0) };
        }
    };
    if let Action::Unset = action {
        zero(old);
        return 0;
    }
    // SAFETY: the caller recovers.
    let words = unsafe { (new as *const [u64; 4]).read_unaligned() };
    // Not over before the call has returned: a signal that comes up meanwhile is not to be dropped by what
    // was its action before.
    area.noting.store(1, Release);
    let ret = match action {
        Action::SetsOurs => {
            if old != 0 {
                zero(old);
            }
            0
        }
        _ => kernel(area),
    };
    // It is set also where the old one has no place.
    if ret == 0 || ret == EFAULT {
        note(area, signal & 0xffff_ffff, &words);
    }
    area.noting.store(0, Release);
    ret
}

/// Notes a new disposition for the engine.
pub fn note(area: &TaskArea, signal: u64, words: &[u64; 4]) {
    let noted = area.noted.load(Relaxed);
    if let Some([to, rest @ ..]) = area.notes.get(noted as usize) {
        to.store(signal, Relaxed);
        for (to, word) in rest.iter().zip(words) {
            to.store(*word, Relaxed);
        }
        area.noted.store(noted + 1, Release);
    }
    let bit = 1 << (signal.wrapping_sub(1) & 63);
    let set = |mask: &core::sync::atomic::AtomicU64, on: bool| {
        let others = mask.load(Relaxed) & !bit;
        mask.store(others | if on { bit } else { 0 }, Relaxed);
    };
    set(&area.default_actions, words[0] == 0);
    set(&area.unset_actions, false);
}

/// Whether the kernel's answer to it is the right one.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
#[inline(always)]
pub unsafe fn tells(args: &[u64; 6], ret: i64) -> bool {
    let old = args[2];
    // SAFETY: the caller recovers; the kernel has written there.
    old == 0
        || ret == 0 && unsafe { ((old + 8) as *const u64).read_unaligned() } & SA_RESETHAND == 0
}
