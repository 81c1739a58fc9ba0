//! The fast path of a replay: the call is answered from the lane's ring.

use crate::copy::copy;
use crate::entry::ask;
use crate::mask::{self, Action, EFAULT};
use crate::plan::Plan;
use crate::ring::{self, head, lane, place};
use crate::{shape, turns};
use core::sync::atomic::Ordering::{Relaxed, Release};
use scribe_abi::fast::by;
use scribe_abi::log::{self, ARGS, DESC, IN, MAP, MAP_LEN, OUT, RECORD_HEAD, SECTION_HEAD};
use scribe_abi::shared::{LaneArea, TaskArea, ask, counter, phase, reason};

/// Answers the call in the area's registers. See `scribe_agent_main`.
pub fn call(area: &mut TaskArea) -> u32 {
    area.phase.store(phase::INSIDE, Release);
    let done = attempt(area);
    let which = if done.is_some() {
        counter::FAST
    } else {
        counter::RECORD
    };
    if let Some(counter) = area.counters.get(which) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
    match done {
        Some(why) => {
            area.phase.store(phase::OUTSIDE, Release);
            why
        }
        None => reason::CALL,
    }
}

/// The record at the tail of the ring, which the engine fills if it is empty.
#[inline(always)]
fn next(area: &TaskArea, lane: &LaneArea) -> Option<*const u8> {
    if lane.tail.load(Relaxed) == head(lane) {
        area.reason.store(ask::FILL, Relaxed);
        ask();
    }
    let tail = lane.tail.load(Relaxed);
    (tail < head(lane)).then(|| place(lane, tail).cast_const())
}

#[inline(always)]
unsafe fn word(at: *const u8) -> u64 {
    // SAFETY: the engine puts whole records into the ring, with lengths that it has checked.
    unsafe { at.cast::<u64>().read_unaligned() }
}

#[inline(always)]
fn attempt(area: &mut TaskArea) -> Option<u32> {
    let mut lane = ring::lane(area);
    if area.pending.load(Relaxed) != 0 {
        return None;
    }
    let mut record = next(area, lane)?;
    // SAFETY: a whole record is there.
    let mut first = unsafe { word(record) };
    let nr = area.rax & 0xffff_ffff;
    let switches = first as u16 == turns::SWITCHES;
    if !switches && first & 0xffff_ffff != u64::from(log::SYSCALL) | nr << 16 {
        return None;
    }
    let args = area.args;
    let mut action = Action::Keeps;
    let row = crate::config()
        .table
        .find(nr, &args)
        .filter(|row| match row.slow {
            by::AGENT | by::MASK | by::BOTH | by::NOTED | by::REFUSED => true,
            by::ASKS => args[2] == 0,
            by::ACTION => {
                // SAFETY: as below.
                action = unsafe { mask::action(area, &args) };
                !matches!(action, Action::Engines)
            }
            _ => false,
        })?;
    let mut plan = Plan::new();
    // SAFETY: the engine sends the task to ENTRY_FAULT where memory is not there.
    unsafe {
        if !plan.fill(row, &args) {
            return None;
        }
        // Before others have their turns: the inputs are what they were when the call began.
        let hash = plan.hash(row, &args);
        if switches {
            while first as u16 == turns::SWITCHES {
                if !turns::give_way(area, lane, record) {
                    return None;
                }
                lane = ring::lane(area);
                record = next(area, lane)?;
                first = word(record);
            }
            if first & 0xffff_ffff != u64::from(log::SYSCALL) | nr << 16 {
                return None;
            }
        }
        let len = (first >> 32) as usize;
        let body = record.add(RECORD_HEAD);
        let ret = word(body);
        if body.add(8).cast::<u32>().read_unaligned() != hash {
            return None;
        }
        // What is not known here is the engine's: look before anything is written.
        let sections = (body.add(12), record.add(RECORD_HEAD + len));
        let mut simple = true;
        let mut map = None;
        each(sections, |tag, content, len| match tag {
            OUT | ARGS | IN | DESC => {}
            MAP if row.slow == by::BOTH && len as u64 == MAP_LEN => map = Some(content),
            _ => simple = false,
        });
        if !simple {
            return None;
        }
        let shapes = matches!(row.slow, by::BOTH | by::NOTED | by::REFUSED);
        if shapes && !shape::repeat(area, row, &args, ret, map) {
            return None;
        }
        if matches!(action, Action::Sets | Action::SetsOurs) && matches!(ret as i64, 0 | EFAULT) {
            let words = (args[1] as *const [u64; 4]).read_unaligned();
            mask::note(area, args[0] & 0xffff_ffff, &words);
        }
        if row.slow == by::MASK && ret == 0 {
            let (_, after) = mask::change(area, &args)?;
            area.mask.store(after, Relaxed);
        }
        each(sections, |tag, content, len| {
            if tag == OUT && len >= 8 {
                copy(word(content) as *mut u8, content.add(8), len - 8);
            }
        });
        area.rax = ret;
        let tail = lane.tail.load(Relaxed);
        lane.tail.store(tail + (RECORD_HEAD + len) as u32, Release);
    }
    Some(if goes_on(area, lane) { 0 } else { reason::DONE })
}

/// The recorded answer to an RDTSC or RDTSCP, if it is next, and what comes behind it does not concern the
/// engine: the counter, and what ECX gets from RDTSCP.
pub fn counter(area: &TaskArea, with_aux: bool) -> Option<(u64, u64)> {
    let len = if with_aux { 16 } else { 8 };
    let which = if with_aux { log::RDTSCP } else { log::RDTSC };
    let all = RECORD_HEAD as u32 + len;
    let lane = lane(area);
    let tail = lane.tail.load(Relaxed);
    if area.pending.load(Relaxed) != 0 || tail + all + RECORD_HEAD as u32 > head(lane) {
        return None;
    }
    // SAFETY: a whole record is there, and the head of another.
    unsafe {
        let record = place(lane, tail);
        let head = u64::from(log::INSTR) | u64::from(which) << 16 | u64::from(len) << 32;
        if word(record) != head || !leads_on(record.add(all as usize)) {
            return None;
        }
        let value = word(record.add(RECORD_HEAD));
        let aux = match with_aux {
            true => word(record.add(RECORD_HEAD + 8)),
            false => 0,
        };
        lane.tail.store(tail + all, Release);
        Some((value, aux))
    }
}

/// Calls `f` with tag, content and length of each section between two addresses.
#[inline(always)]
unsafe fn each((mut at, end): (*const u8, *const u8), mut f: impl FnMut(u8, *const u8, usize)) {
    while at < end {
        // SAFETY: the record is whole.
        unsafe {
            let head = at.cast::<u32>().read_unaligned();
            let len = (head >> 8) as usize;
            let content = at.add(SECTION_HEAD);
            f(head as u8, content, len);
            at = content.add(len);
        }
    }
}

/// Whether the application runs on to its next sync point: nothing happens to it before.
#[inline(always)]
fn goes_on(area: &TaskArea, lane: &LaneArea) -> bool {
    let Some(record) = next(area, lane) else {
        return false;
    };
    // SAFETY: a whole record is there.
    unsafe { leads_on(record) }
}

/// The same for the record that comes next.
#[inline(always)]
unsafe fn leads_on(record: *const u8) -> bool {
    // SAFETY: its head is there.
    let first = unsafe { word(record) };
    let (kind, flags) = (first as u8, (first >> 8) as u8);
    match kind {
        log::SYSCALL | log::CHECKSUM | log::INSTR => true,
        log::SWITCH => flags & log::PREV_IN_CALL != 0,
        log::SIGNAL => flags & (log::SIGNAL_AT_ENTRY | log::SIGNAL_SYNC) != 0,
        log::EXIT => flags & log::EXIT_ASYNC == 0,
        _ => false,
    }
}
