//! `rt_sigprocmask`: the mask that the program sees is in the task's area, and the kernel is given it
//! without the signals that must always come through.

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
