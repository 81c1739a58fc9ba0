//! Recording: waiting for a futex, and waking who waits, among the tasks of a lane: see
//! `scribe_abi::sleep`.

use crate::entry::kernel;
use crate::token::{self, FUTEX, FUTEX_WAIT, futex};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use scribe_abi::shared::{LaneArea, TASK_SLOTS, TaskArea, task_address, task_slot, turn};
use scribe_abi::sleep::{Waking, command};

/// The area of a slot.
fn area_of(slot: u16) -> Option<&'static TaskArea> {
    // SAFETY: all areas are mapped; only what is atomic is used of those of others.
    (u64::from(slot) < TASK_SLOTS).then(|| unsafe { &*(task_address(slot.into()) as *const _) })
}

/// Whether the call is to wait for a futex here. Then the task is one of the sleepers. Without a time limit only, as
/// the kernel could not continue that wait for the engine; and only private ones, which nobody else wakes.
///
/// # Safety
///
/// Faults at the application's addresses are recovered from.
pub unsafe fn begins(area: &TaskArea, lane: &LaneArea, nr: u16) -> bool {
    let [word, op, value, timeout, _, bits] = area.args;
    let bits = match op as u32 & !command::REALTIME {
        op if op == command::WAIT | command::PRIVATE => u32::MAX,
        op if op == command::WAIT_BITSET | command::PRIVATE => bits as u32,
        _ => return false,
    };
    let plain = u64::from(nr) == FUTEX && timeout == 0 && word.is_multiple_of(4) && bits != 0;
    if !plain || area.space.load(Relaxed) == 0 {
        return false;
    }
    // SAFETY: the caller recovers.
    let now = unsafe { (*(word as *const AtomicU32)).load(SeqCst) };
    if now != value as u32 {
        return false;
    }
    area.futex.store(word, Relaxed);
    area.futex_bits.store(bits, Relaxed);
    let slot = task_slot(core::ptr::from_ref(area) as u64);
    if !lane.add_sleeper(slot) {
        return false;
    }
    area.turn.store(turn::WAITS, SeqCst);
    true
}

/// Waits until the futex is woken; the result is that of the application's call.
pub fn wait(area: &TaskArea) -> i64 {
    let word = area.turn.as_ptr() as u64;
    let ret = kernel(
        area,
        &[FUTEX, word, FUTEX_WAIT, turn::WAITS.into(), 0, 0, 0],
    );
    if area.was_woken() { 0 } else { ret }
}

/// Makes a call that may wake who waits in an agent.
pub fn waking(area: &TaskArea, lane: &LaneArea, call: &[u64; 7]) -> i64 {
    let Some(waking) = Waking::of(call[0], &area.args) else {
        return kernel(area, call);
    };
    let space = area.space.load(Relaxed);
    let count = lane.wake_sleepers(space, waking, area_of, |slot, area| {
        // What it waits for in truth is the token: until that is given up it may sleep.
        let direct = lane.direct.load(Relaxed);
        if direct > 0 {
            lane.direct.store(direct - 1, Relaxed);
        }
        if direct > 0 || !lane.put_woken(slot) {
            token::wake(&area.turn);
        }
    });
    let woken = i64::from(count);
    let ret = match waking.enough && count > 0 {
        true if count >= waking.count => 0,
        // Nothing can come first any more.
        true => futex(call[1], call[2], waking.count - count, None, waking.bits),
        false => kernel(area, call),
    };
    if ret >= 0 { ret + woken } else { ret }
}

/// The token is free: the first of those who were woken may take it. False: there is none.
pub fn hand_on(lane: &LaneArea) -> bool {
    while let Some(slot) = lane.take_woken() {
        if let Some(next) = area_of(slot).filter(|next| next.turn.load(SeqCst) == turn::GO) {
            token::wake(&next.turn);
            return true;
        }
    }
    false
}
