//! Giving up the token for a call that waits, and taking it again.

use crate::entry::ask;
use crate::ring::{Writer, head, lane, place, publish};
use crate::sleep::hand_on;
use core::arch::asm;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, fence};
use scribe_abi::log::{PREV_IN_CALL, RECORD_HEAD, SWITCH};
use scribe_abi::shared::{LaneArea, RING_LEN, TaskArea, ask};
use scribe_abi::token::Left;

/// Looks at the token before sleeping: a hand-over by the kernel costs some microseconds, a look a
/// few nanoseconds.
const LOOKS: u32 = 200;
/// Sleeps this long before it queues in the engine, which sees to it that everybody gets a turn.
const PATIENCE_NS: u64 = 5_000_000;
/// Bytes of a switch's record.
const SWITCH_LEN: u64 = RECORD_HEAD as u64 + 4;

/// Number of futex(2), and its commands.
pub const FUTEX: u64 = 202;
#[allow(missing_docs)]
pub const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const ETIMEDOUT: i64 = -110;

/// futex(2), whatever waits for the task.
pub fn futex(word: u64, op: u64, value: u32, timeout: Option<&[u64; 2]>, bits: u32) -> i64 {
    let result;
    let timeout = timeout.map_or(0, |t| t.as_ptr() as u64);
    // SAFETY: futex(2) reads the word and the timeout, of which the latter is ours; a word that is not there is an
    // error of the call.
    unsafe {
        asm!("syscall", inlateout("rax") FUTEX => result, in("rdi") word, in("rsi") op,
            in("rdx") u64::from(value), in("r10") timeout, in("r8") 0u64, in("r9") u64::from(bits),
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Wakes one that sleeps on a word of the shared memory.
pub fn wake(word: &AtomicU32) {
    futex(word.as_ptr() as u64, FUTEX_WAKE, 1, None, 0);
}

/// Sleeps on a word of the shared memory while it has this value.
pub fn sleep_while(word: &AtomicU32, value: u32, timeout: Option<&[u64; 2]>) -> i64 {
    futex(word.as_ptr() as u64, FUTEX_WAIT, value, timeout, 0)
}

/// Gives the token up, for a call.
pub fn release(area: &TaskArea, lane: &LaneArea) {
    lane.token.release(area.task.load(Relaxed), Left::InCall);
    // Who comes to wait now either sees that it is free, or is seen here.
    fence(SeqCst);
    if lane.queued.load(SeqCst) != 0 {
        area.reason.store(ask::RELEASED, Relaxed);
        ask();
        return;
    }
    // In turn: tasks whose futex was woken, and others.
    let waiters = lane.waiters.load(SeqCst) != 0;
    let first = !waiters || lane.flip.load(Relaxed) != 0;
    if first && lane.has_woken() && hand_on(lane) {
        lane.flip.store(0, Relaxed);
    } else if waiters {
        lane.flip.store(1, Relaxed);
        wake(lane.token.word());
    }
}

/// Takes the token of the task's lane, which may have become another one meanwhile. Then there is
/// room for a record of `room` bytes in the ring.
pub fn acquire(area: &TaskArea, room: u64) -> &'static LaneArea {
    let task = area.task.load(Relaxed);
    let mut looks = 0;
    let (lane, left) = loop {
        // Each time anew: a lane that was merged into another keeps its token for ever.
        let lane = lane(area);
        let holder = match lane.token.try_acquire(task) {
            Ok(left) => break (lane, left),
            Err(holder) => holder,
        };
        looks += 1;
        if looks < LOOKS {
            core::hint::spin_loop();
            continue;
        }
        lane.waiters.fetch_add(1, SeqCst);
        let slept = sleep_while(lane.token.word(), holder, Some(&[0, PATIENCE_NS]));
        lane.waiters.fetch_sub(1, SeqCst);
        if slept == ETIMEDOUT {
            // It comes back with the token, and the switch is written.
            area.reason.store(ask::TOKEN, Relaxed);
            ask();
            break (crate::ring::lane(area), None);
        }
    };
    lane.area.store(core::ptr::from_ref(area) as u64, Relaxed);
    if u64::from(head(lane)) + room + SWITCH_LEN > RING_LEN {
        area.reason.store(ask::DRAIN, Relaxed);
        ask();
    }
    if let Some(left) = left {
        let flags = if left == Left::InCall {
            PREV_IN_CALL
        } else {
            0
        };
        let mut record = Writer(place(lane, head(lane)));
        record.word(u64::from(SWITCH) | u64::from(flags) << 8 | 4 << 32);
        record.half(task);
        publish(lane, record.0);
    }
    lane
}
