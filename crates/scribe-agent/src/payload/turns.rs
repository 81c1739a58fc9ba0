//! Replay: giving the lane to the task whose turn it is, and waiting for one's own turn, without the engine.

use crate::entry::ask;
use crate::token::{sleep_while, wake};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use scribe_abi::log::{PREV_IN_CALL, RECORD_HEAD, SWITCH};
use scribe_abi::shared::{LaneArea, PEERS, TASK_SLOTS, TaskArea, ask as wish, task_address, turn};

/// Kind and flags of the record of a task that gave the token up in its call.
pub const SWITCHES: u16 = SWITCH as u16 | (PREV_IN_CALL as u16) << 8;

/// The next record gives the lane to another task. Goes on when this one has it again; false: then its call is the
/// engine's.
///
/// # Safety
///
/// A whole record of that kind is there.
pub unsafe fn give_way(area: &TaskArea, lane: &LaneArea, record: *const u8) -> bool {
    // SAFETY: the record has a task's number behind its head.
    let task = unsafe { record.add(RECORD_HEAD).cast::<u32>().read_unaligned() };
    let next = peer(lane, task).filter(|next| next.turn.load(Acquire) == turn::WAITS);
    // Before anybody can give it back.
    area.turn.store(turn::WAITS, SeqCst);
    match next {
        Some(next) => {
            let tail = lane.tail.load(Relaxed);
            lane.tail.store(tail + RECORD_HEAD as u32 + 4, Release);
            lane.area.store(core::ptr::from_ref(next) as u64, Relaxed);
            next.turn.store(turn::GO, SeqCst);
            wake(&next.turn);
        }
        None => {
            area.reason.store(wish::SWITCH, Relaxed);
            ask();
        }
    }
    wait(area)
}

/// The area of a task that may be waiting in its agent.
fn peer(lane: &LaneArea, task: u32) -> Option<&'static TaskArea> {
    let slot = lane.peers.get(task as usize % PEERS)?.load(Relaxed);
    let slot = u64::from(slot).checked_sub(1)?;
    if slot >= TASK_SLOTS {
        return None;
    }
    // SAFETY: all areas are mapped; only what is atomic is used of those of others.
    let area: &TaskArea = unsafe { &*(task_address(slot as u32) as *const TaskArea) };
    (area.task.load(Relaxed) == task).then_some(area)
}

/// Without looking at the word first: who has the turn now needs a processor, and has some way to go.
fn wait(area: &TaskArea) -> bool {
    loop {
        match area.turn.load(Acquire) {
            turn::WAITS => {
                sleep_while(&area.turn, turn::WAITS, None);
            }
            state => {
                area.turn.store(turn::NONE, Relaxed);
                return state == turn::GO;
            }
        }
    }
}
