//! The fast path of a recording: the call is made here, and its record appended to the lane's ring.

use crate::copy::copy;
use crate::descriptor::classify;
use crate::entry::{BAIL, ask, kernel};
use crate::mask::{self, Action};
use crate::nowait;
use crate::plan::{Buf, Plan};
use crate::ring::{Writer, head, lane, place, publish, section_len};
use crate::shape::shape;
use crate::sleep;
use crate::token::{acquire, release};
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use scribe_abi::fast::{FastRow, NEVER_RESTARTED, NO_ARG, block, by, class, dir, effect};
use scribe_abi::log::{self, ARGS, IN, OUT, RECORD_HEAD};
use scribe_abi::shared::{
    FILES_FDS, LaneArea, NEAR_SCRATCH, NEAR_SCRATCH_LEN, RING_LEN, STAGE, STAGE_LEN, TaskArea, ask,
    counter, phase, reason,
};

/// Longest record that is made here: one that is longer is the engine's.
const LONGEST: u64 = RING_LEN / 2;

/// wait4 and its option WNOHANG.
const SYS_WAIT4: u64 = 61;
const WNOHANG: u64 = 1;

/// Longer reads of what may be a file of the installed system are the engine's.
const SHORT_READ: u64 = 8192;

/// Makes the call in the area's registers. See `scribe_agent_main`.
pub fn call(area: &mut TaskArea) -> u32 {
    area.phase.store(phase::INSIDE, Release);
    match attempt(area) {
        Ok(why) => {
            count(area, counter::FAST);
            area.phase.store(phase::OUTSIDE, Release);
            why
        }
        Err((why, which)) => {
            count(area, which);
            why
        }
    }
}

#[inline(always)]
fn count(area: &TaskArea, which: usize) {
    if let Some(counter) = area.counters.get(which) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

/// 0, or what the engine is to do; or why it has to see the call, and what counts that.
pub type Attempt = Result<u32, (u32, usize)>;

#[inline(always)]
fn attempt(area: &mut TaskArea) -> Attempt {
    let lane = lane(area);
    if area.pending.load(Relaxed) != 0 || lane.look.load(Relaxed) != 0 {
        return Err((reason::CALL, counter::ASKED));
    }
    let config = crate::config();
    let args = area.args;
    let mut action = Action::Keeps;
    let row = match config.table.find(area.rax & 0xffff_ffff, &args) {
        Some(row) if row.slow == by::AGENT => row,
        Some(row) if row.slow == by::ASKS && args[2] == 0 => row,
        Some(row) if matches!(row.slow, by::BOTH | by::NOTED | by::REFUSED) => {
            return shape(area, lane, row);
        }
        Some(row) if row.slow == by::ACTION => {
            // SAFETY: the engine sends the task to ENTRY_FAULT where memory is not there.
            action = unsafe { mask::action(area, &args) };
            if matches!(action, Action::Engines) {
                return Err((reason::CALL, counter::NO_ROW));
            }
            row
        }
        Some(row) if row.slow == by::MASK => return masking(area, lane, row),
        _ => return Err((reason::CALL, counter::NO_ROW)),
    };
    // Before the class is looked at: see `mapped_meanwhile`.
    let mapped = config.mapped_count.load(Acquire);
    let waits = may_wait(area, row).ok_or((reason::CALL, counter::DESCRIPTOR))?;
    let odd = Err((reason::CALL, counter::ODD));
    let mut plan = Plan::new();
    // SAFETY: the engine sends the task to ENTRY_FAULT where memory is not there.
    if !unsafe { plan.fill(row, &args) } {
        return odd;
    }
    let keep = if config.level > 0 {
        u64::from(config.keep)
    } else {
        0
    };
    let mut room = RECORD_HEAD as u64 + 12 + section_len(48);
    for buf in plan.bufs() {
        if buf.dir != dir::OUT {
            room += section_len(16 + buf.cap.min(keep));
        }
        if buf.dir != dir::IN {
            room += section_len(8 + buf.cap);
        }
    }
    if room > LONGEST {
        return odd;
    }
    let finds_ended = u64::from(row.nr) == SYS_WAIT4 && args[2] & WNOHANG != 0;
    let mut iov = [0; 2];
    let mut instead = None;
    if waits && lane.crowded.load(Relaxed) != 0 {
        if finds_ended {
            return odd;
        }
        if nowait::is_wanted(lane) {
            instead = nowait::instead(row.nr, &args, &mut iov);
        }
        if instead.is_none() {
            return waiting(area, lane, row, &mut plan, room, (keep, mapped, 0));
        }
    }
    if u64::from(head(lane)) + room > RING_LEN {
        area.reason.store(ask::DRAIN, Relaxed);
        ask();
    }
    let start = place(lane, head(lane));
    let mut record = Writer(start);
    // SAFETY: as above.
    let hash = unsafe { plan.hash(row, &args) };
    begin(&mut record, hash, &args, &plan, config.level, keep);
    // Also what is interrupted may have written where its inputs are.
    area.hash.store(hash, Relaxed);
    area.moved.store(0, Relaxed);
    let mut made = args;
    let asks = matches!(action, Action::Keeps) && row.slow == by::ACTION;
    if asks {
        // The answer may not be the right one: then the program's memory must be as it was.
        let near = core::ptr::from_ref(area) as u64 + NEAR_SCRATCH;
        // SAFETY: this task's; one action fits.
        unsafe { plan.move_outputs(near, &mut made) };
    }
    let ret = match action {
        Action::Keeps if let Some(instead) = &instead => kernel(area, instead),
        Action::Keeps if lane.sleeping.load(Relaxed) != 0 => {
            sleep::waking(area, lane, &numbers(area, &made))
        }
        Action::Keeps => kernel(area, &numbers(area, &made)),
        // SAFETY: as above.
        _ => unsafe {
            mask::act(area, action, &args, |area| {
                kernel(area, &numbers(area, &args))
            })
        },
    };
    if instead.is_some()
        && let Some(done) = nowait::left_to_do(row.nr, &args, ret)
    {
        return waiting(area, lane, row, &mut plan, room, (keep, mapped, done));
    }
    returned(area, ret)?;
    if finds_ended && ret == 0 {
        // One may have ended: the kernel tells of it when the engine has waited for it. Nothing has happened yet.
        return odd;
    }
    if asks {
        // SAFETY: as above.
        if !unsafe { mask::tells(&made, ret) } {
            return odd;
        }
        for buf in plan.bufs() {
            // SAFETY: as above. Nothing has happened yet, so that the engine can do all of it.
            unsafe { buf.bring_home(buf.written(&made, ret)) };
        }
    }
    area.phase.store(phase::MADE, Release);
    note_descriptors(area, row, ret);
    for buf in plan.bufs() {
        // SAFETY: as above.
        let len = unsafe { buf.written(&args, ret) };
        output(&mut record, buf, len);
    }
    mapped_meanwhile(row, mapped)?;
    finish(area, lane, row, start, record, ret)
}

/// The call changes, or shows, the mask of blocked signals.
fn masking(area: &mut TaskArea, lane: &LaneArea, row: &FastRow) -> Attempt {
    const SIG_SETMASK: u64 = 2;
    let odd = Err((reason::CALL, counter::ODD));
    let config = crate::config();
    let args = area.args;
    let old = args[2] as *mut u64;
    let mut plan = Plan::new();
    // SAFETY: the engine sends the task to ENTRY_FAULT where memory is not there.
    let (change, filled) = unsafe { (mask::change(area, &args), plan.fill(row, &args)) };
    let Some((before, after)) = change.filter(|_| filled) else {
        return odd;
    };
    if area.held.load(Relaxed) & !after != 0 {
        // Their turn comes with this call.
        return Err((reason::CALL, counter::ASKED));
    }
    let room = RECORD_HEAD as u64 + 12 + section_len(48) + 2 * section_len(24);
    if u64::from(head(lane)) + room > RING_LEN {
        area.reason.store(ask::DRAIN, Relaxed);
        ask();
    }
    let keep = if config.level > 0 { 8 } else { 0 };
    let start = place(lane, head(lane));
    let mut record = Writer(start);
    // SAFETY: as above. That the old mask has a place is found out before anything changes.
    let hash = unsafe {
        if !old.is_null() {
            // Volatile, as a write of what is there already would be left out.
            for byte in [old.cast::<u8>(), old.cast::<u8>().wrapping_add(7)] {
                byte.write_volatile(byte.read_volatile());
            }
        }
        plan.hash(row, &args)
    };
    begin(&mut record, hash, &args, &plan, config.level, keep);
    // The mask first: whatever signal this lets through is looked at with the new one.
    let set = mask::prepare(area, after);
    let nr = u64::from(row.nr);
    if kernel(area, &[nr, SIG_SETMASK, set, 0, args[3], 0, 0]) != 0 {
        area.mask.store(before, Relaxed);
        return Err((reason::CALL, counter::ASKED));
    }
    area.result.store(0, Relaxed);
    area.hash.store(hash, Relaxed);
    area.phase.store(phase::MADE, Release);
    if !old.is_null() {
        // SAFETY: as above.
        unsafe { old.write_unaligned(before) };
        for buf in plan.bufs().iter().filter(|buf| buf.dir == dir::OUT) {
            output(&mut record, buf, 8);
        }
    }
    finish(area, lane, row, start, record, 0)
}

/// Answers an RDTSC or RDTSCP by the clock, and records that: the counter, and what ECX gets from RDTSCP.
pub fn counter(area: &mut TaskArea, with_aux: bool) -> Option<(u64, u64)> {
    const CLOCK_GETTIME: u64 = 228;
    const MONOTONIC_RAW: u64 = 4;
    // Programs are told that they run on the first CPU.
    const AUX: u64 = 0;
    let len = if with_aux { 16 } else { 8 };
    let which = if with_aux { log::RDTSCP } else { log::RDTSC };
    let lane = lane(area);
    if area.pending.load(Relaxed) != 0 {
        return None;
    }
    if u64::from(head(lane)) + RECORD_HEAD as u64 + len > RING_LEN {
        // The engine empties it.
        return None;
    }
    let mut time = [0u64; 2];
    let to = core::ptr::from_mut(&mut time) as u64;
    if kernel(area, &[CLOCK_GETTIME, MONOTONIC_RAW, to, 0, 0, 0, 0]) != 0 {
        return None;
    }
    // SAFETY: the kernel has written there; a plain read could be taken from before.
    let [seconds, nanos] = unsafe { core::ptr::read_volatile(&raw const time) };
    let value = crate::config().tsc.at(seconds * 1_000_000_000 + nanos);
    let mut record = Writer(place(lane, head(lane)));
    record.word(u64::from(log::INSTR) | u64::from(which) << 16 | len << 32);
    record.word(value);
    if with_aux {
        record.word(AUX);
    }
    publish(lane, record.0);
    Some((value, AUX))
}

/// The same for a call that may wait while others share the lane: without the token, with outputs
/// that go to scratch memory, so that nobody sees memory change at a moment that has no record.
/// `done`: so many bytes were written already.
fn waiting(
    area: &mut TaskArea,
    lane: &LaneArea,
    row: &FastRow,
    plan: &mut Plan,
    room: u64,
    (keep, mapped, done): (u64, u32, u64),
) -> Attempt {
    let args = area.args;
    let base = core::ptr::from_ref(area) as u64;
    let level = crate::config().level;
    let total = plan.moved_len();
    let scratch = if total <= NEAR_SCRATCH_LEN {
        base + NEAR_SCRATCH
    } else if total <= area.scratch_len.load(Relaxed) {
        area.scratch.load(Relaxed)
    } else {
        // The engine maps enough of it.
        return Err((reason::CALL, counter::WAITS));
    };
    // The beginning of the record is put aside: the ring is others' meanwhile.
    let staged = RECORD_HEAD as u64 + 12 + section_len(48);
    let inputs = plan.bufs().iter().filter(|buf| buf.dir != dir::OUT);
    let inputs: u64 = inputs.map(|buf| section_len(16 + buf.cap.min(keep))).sum();
    if staged + inputs > STAGE_LEN {
        return Err((reason::CALL, counter::ODD));
    }
    // SAFETY: as above.
    let hash = unsafe { plan.hash(row, &args) };
    let stage = (base + STAGE) as *mut u8;
    let mut record = Writer(stage);
    begin(&mut record, hash, &args, plan, level, keep);
    let mut moved = args;
    // SAFETY: the scratch memory is this task's; faults at the application's are recovered from.
    unsafe { plan.move_outputs(scratch, &mut moved) };
    area.hash.store(hash, Relaxed);
    area.moved.store(scratch, Relaxed);
    moved[1] += done;
    moved[2] -= done;
    // SAFETY: as above.
    let sleeps = unsafe { sleep::begins(area, lane, row.nr) };
    release(area, lane);
    let ret = match sleeps {
        true => sleep::wait(area),
        false => kernel(area, &numbers(area, &moved)),
    };
    let ret = match done {
        0 => ret,
        // Broken off, or before it began: what was written counts.
        _ => done as i64 + ret.max(0),
    };
    if ret != BAIL {
        // Before the token is waited for: the kernel keeps what it needs to continue a call only until
        // the next one that is interrupted.
        returned(area, ret)?;
    }
    let lane = acquire(area, room);
    returned(area, ret)?;
    area.phase.store(phase::MADE, Release);
    note_descriptors(area, row, ret);
    let start = place(lane, head(lane));
    let begun = record.0 as usize - stage as usize;
    // SAFETY: both are memory shared with the engine; there is room.
    unsafe { copy(start, stage, begun) };
    let mut record = Writer(start.wrapping_add(begun));
    for buf in plan.bufs() {
        // SAFETY: as above.
        let len = unsafe { buf.written(&moved, ret) };
        if len > 0 {
            // SAFETY: a fault here is one that the kernel would have answered with EFAULT.
            unsafe { buf.bring_home(len) };
            output(&mut record, buf, len);
        }
    }
    mapped_meanwhile(row, mapped)?;
    finish(area, lane, row, start, record, ret)
}

#[inline(always)]
pub fn numbers(area: &TaskArea, args: &[u64; 6]) -> [u64; 7] {
    let [a, b, c, d, e, f] = *args;
    [area.rax & 0xffff_ffff, a, b, c, d, e, f]
}

/// Appends what is known of a call before it is made; number, length and result are filled in
/// afterwards.
#[inline(always)]
pub fn begin(record: &mut Writer, hash: u32, args: &[u64; 6], plan: &Plan, level: u32, keep: u64) {
    record.word(0);
    record.word(0);
    record.half(hash);
    if level == 0 {
        return;
    }
    record.section(ARGS, 48);
    args.iter().for_each(|arg| record.word(*arg));
    for buf in plan.bufs().iter().filter(|buf| buf.dir != dir::OUT) {
        let kept = buf.cap.min(keep);
        record.section(IN, 16 + kept);
        record.word(buf.addr);
        record.word(buf.cap);
        record.memory(buf.addr, kept);
    }
}

/// Result of a call that met memory which is not there.
const EFAULT: i64 = -14;

/// Whether the call was made and is over.
#[inline(always)]
pub fn returned(area: &TaskArea, ret: i64) -> Result<(), (u32, usize)> {
    if ret == BAIL {
        return Err((reason::CALL, counter::ASKED));
    }
    let ret = unless_for_nothing(area, ret);
    area.result.store(ret, Relaxed);
    if (-516..=-512).contains(&ret) {
        return Err((reason::INTERRUPTED, counter::ASKED));
    }
    if ret == EFAULT {
        // It may have written some of what it was to write: the engine looks at that.
        return Err((reason::RETURNED, counter::ODD));
    }
    Ok(())
}

/// The kernel wakes a thread for a signal that another then takes: the engine hears nothing of it, and the
/// program would not have been woken without a tracer, for whose sake signals without effect are kept.
#[inline(always)]
fn unless_for_nothing(area: &TaskArea, ret: i64) -> i64 {
    const EINTR: i64 = -4;
    const ERESTARTNOHAND: i64 = -514;
    let nr = area.rax as u32;
    if ret == EINTR && area.pending.load(Relaxed) == 0 {
        let never = NEVER_RESTARTED
            .iter()
            .fold(false, |any, one| any | (*one == nr));
        if never {
            return ERESTARTNOHAND;
        }
    }
    ret
}

/// A file that the call has changed may have been mapped by another process since its descriptor's
/// class was looked at: then the engine has to see what becomes of the mapping.
#[inline(always)]
fn mapped_meanwhile(row: &FastRow, before: u32) -> Result<(), (u32, usize)> {
    if row.effect == effect::WRITES && crate::config().mapped_count.load(Acquire) != before {
        return Err((reason::RETURNED, counter::DESCRIPTOR));
    }
    Ok(())
}

/// Appends written memory.
#[inline(always)]
fn output(record: &mut Writer, buf: &Buf, len: u64) {
    if len > 0 {
        record.section(OUT, 8 + len);
        record.word(buf.addr);
        record.memory(buf.addr, len);
    }
}

/// Completes the record.
#[inline(always)]
pub fn finish(
    area: &mut TaskArea,
    lane: &LaneArea,
    row: &FastRow,
    start: *mut u8,
    record: Writer,
    ret: i64,
) -> Attempt {
    let end = record.0;
    let body = end as u64 - start as u64 - RECORD_HEAD as u64;
    let mut record = Writer(start);
    record.word(u64::from(log::SYSCALL) | u64::from(row.nr) << 16 | body << 32);
    record.word(ret as u64);
    publish(lane, end);
    area.rax = ret as u64;
    if area.pending.load(Relaxed) != 0 || lane.wanted.load(Relaxed) != 0 {
        return Ok(reason::DONE);
    }
    Ok(0)
}

fn classes(area: &TaskArea, fd: u64) -> Option<&AtomicU8> {
    let fd = fd & 0xffff_ffff;
    // SAFETY: the table has an entry for each descriptor below FILES_FDS.
    (fd < FILES_FDS).then(|| unsafe { &*((area.files.load(Relaxed) + fd) as *const AtomicU8) })
}

/// Whether the call may have to wait; `None`: its descriptor is not one for the fast path.
#[inline(always)]
fn may_wait(area: &TaskArea, row: &FastRow) -> Option<bool> {
    if row.fd_arg == NO_ARG {
        return Some(row.block != block::NEVER);
    }
    let fd = *area.args.get(usize::from(row.fd_arg))?;
    let slot = classes(area, fd)?;
    let mut known = slot.load(Relaxed);
    if known == 0 {
        known = classify(fd)?;
        slot.store(known, Relaxed);
    }
    if known & class::SLOW_LONG_READ != 0
        && row.effect == effect::READS
        && *area.args.get(2)? > SHORT_READ
    {
        return None;
    }
    let unfit = class::SLOW_READ * u8::from(row.effect == effect::READS)
        | class::SLOW_WRITE * u8::from(row.effect == effect::WRITES);
    if known & class::KNOWN == 0 || known & unfit != 0 {
        return None;
    }
    Some(match row.block {
        block::NEVER => false,
        block::FD => known & class::MAY_BLOCK != 0,
        _ => true,
    })
}

/// Forgets what was known of descriptors that the call has changed.
#[inline(always)]
fn note_descriptors(area: &TaskArea, row: &FastRow, ret: i64) {
    let forget = |fd: u64| {
        if let Some(class) = classes(area, fd) {
            class.store(0, Relaxed);
        }
    };
    let arg = area
        .args
        .get(usize::from(row.effect_arg))
        .copied()
        .unwrap_or(0);
    match row.effect {
        effect::OPENS if ret >= 0 => forget(ret as u64),
        effect::CHANGES => forget(arg),
        effect::DUPS => {
            forget(arg);
            if ret >= 0 {
                forget(ret as u64);
            }
        }
        effect::OPENS2 if ret >= 0 => {
            // SAFETY: the kernel has just written there.
            let two = unsafe { (arg as *const [u32; 2]).read_unaligned() };
            forget(two[0].into());
            forget(two[1].into());
        }
        _ => {}
    }
}
