//! Calls that shape the address space, or say something of the task that the engine must know: made here, recorded
//! here where the record needs nothing that only the engine has.

use crate::descriptor::{call, stat};
use crate::entry::{ask, kernel};
use crate::plan::Plan;
use crate::record::{Attempt, begin, finish, numbers, returned};
use crate::ring::{Writer, head, place, section_len};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use scribe_abi::PROCESS;
use scribe_abi::fast::{FastRow, MAP_BACKED, MAP_DROPPED, by};
use scribe_abi::log::{MAP, MAP_LEN, RECORD_HEAD};
use scribe_abi::shared::{
    KNOWN_FILES_NEAR, LaneArea, Process, RING_LEN, TaskArea, ask as wish, counter, phase,
    place_of_file, reason,
};

const MPROTECT: u16 = 10;
const MMAP: u16 = 9;
const BRK: u16 = 12;
const MADVISE: u16 = 28;
const ARCH_PRCTL: u16 = 158;
const SET_TID_ADDRESS: u16 = 218;
const SET_ROBUST_LIST: u16 = 273;

/// Makes such a call.
pub fn shape(area: &mut TaskArea, lane: &LaneArea, row: &FastRow) -> Attempt {
    let args = area.args;
    let config = crate::config();
    match row.slow {
        by::BOTH if !carries(row, &args) => return Err((reason::CALL, counter::NO_ROW)),
        by::REFUSED if config.sequences.load(Relaxed) != 0 => {
            return Err((reason::CALL, counter::NO_ROW));
        }
        // Not an address of the program's.
        by::NOTED if row.nr == ARCH_PRCTL && args[1] >= 1 << 47 => {
            return Err((reason::CALL, counter::NO_ROW));
        }
        _ => {}
    }
    let room = RECORD_HEAD as u64 + 12 + section_len(48) + section_len(MAP_LEN);
    if u64::from(head(lane)) + room > RING_LEN {
        area.reason.store(wish::DRAIN, Relaxed);
        ask();
    }
    let start = place(lane, head(lane));
    let mut record = Writer(start);
    let plan = Plan::new();
    // SAFETY: the row has no buffers.
    let hash = unsafe { plan.hash(row, &args) };
    begin(&mut record, hash, &args, &plan, config.level, 0);
    area.hash.store(hash, Relaxed);
    area.moved.store(0, Relaxed);
    let ret = match row.slow {
        by::REFUSED => -i64::from(row.effect_arg),
        _ => kernel(area, &numbers(area, &args)),
    };
    returned(area, ret)?;
    area.phase.store(phase::MADE, Release);
    match row.nr {
        SET_TID_ADDRESS => area.clear_tid.store(args[0], Relaxed),
        SET_ROBUST_LIST if ret == 0 => area.robust_list.store(args[0], Relaxed),
        MMAP if !(-4095..0).contains(&ret) && !describe(&mut record, &args) => {
            return Err((reason::CARRIED, counter::CARRIED));
        }
        _ => {}
    }
    finish(area, lane, row, start, record, ret)
}

/// Whether a call that shapes the address space can be made here: it names no memory of ours, nor
/// text that may be patched.
fn carries(row: &FastRow, args: &[u64; 6]) -> bool {
    const MADV_FREE: u64 = 8;
    // SAFETY: mapped as long as there is an agent; the engine changes it while the token is its.
    let process = unsafe { &*(PROCESS as *const Process) };
    let [start, len, advice, ..] = *args;
    let end = start.saturating_add(len);
    if makes_code(row, args) {
        return false;
    }
    let texts = process.texts.iter().take(process.text_count as usize);
    let text = texts.fold(false, |text, [from, to]| {
        text | (start < *to && end > *from)
    });
    row.nr == BRK
        || !(text
            || scribe_abi::is_ours(start, end)
            || row.nr == MADVISE && advice & 0xffff_ffff == MADV_FREE)
}

/// Whether memory becomes executable: where CPUID does not trap, the engine keeps the process on one CPU from then on, at
/// recording and replay.
fn makes_code(row: &FastRow, args: &[u64; 6]) -> bool {
    const PROT_EXEC: u64 = 4;
    (row.nr == MMAP || row.nr == MPROTECT) && args[2] & PROT_EXEC != 0
}

/// Appends what a new mapping shows. False: that, or what follows from it, is the engine's.
fn describe(record: &mut Writer, args: &[u64; 6]) -> bool {
    const PROT_EXEC: u64 = 4;
    const MAP_TYPE: u64 = 15;
    let [_, len, prot, flags, fd, offset] = *args;
    if flags & MAP_TYPE != MAP_PRIVATE {
        return false;
    }
    if flags & MAP_ANONYMOUS != 0 {
        return true;
    }
    // Text is patched.
    if prot & PROT_EXEC != 0 {
        return false;
    }
    let Some(file) = known_file(fd) else {
        return false;
    };
    record.section(MAP, MAP_LEN);
    record.half(file);
    record.word(offset);
    record.word(len);
    record.half(prot as u32);
    record.half(flags as u32);
    true
}

/// The number of a file in the log, unless it may be written to through this descriptor.
fn known_file(fd: u64) -> Option<u32> {
    const FCNTL: u64 = 72;
    const F_GETFL: u64 = 3;
    const O_ACCMODE: i64 = 3;
    let [
        dev,
        ino,
        _,
        _,
        _,
        _,
        size,
        _,
        _,
        _,
        _,
        _,
        _,
        changed,
        changed_ns,
        ..,
    ] = stat(fd & 0xffff_ffff)?;
    let wanted = [dev, ino, size, changed, changed_ns];
    let first = place_of_file(ino);
    let places = crate::config().files.get(first..first + KNOWN_FILES_NEAR)?;
    let known = places.iter().find(|file| {
        file.id.load(Acquire) != 0
            && wanted
                .iter()
                .zip(&file.identity)
                .fold(true, |same, (a, b)| same & (*a == b.load(Relaxed)))
    })?;
    let flags = call(FCNTL, fd & 0xffff_ffff, F_GETFL, 0);
    (flags >= 0 && flags & O_ACCMODE == 0).then_some(known.id.load(Relaxed))
}

/// Repeats such a call at replay; `ret` is the recorded result, `map` the content of its section about a mapping. False: the engine is to do it.
pub fn repeat(
    area: &TaskArea,
    row: &FastRow,
    args: &[u64; 6],
    ret: u64,
    map: Option<*const u8>,
) -> bool {
    let failed = (-4095..0).contains(&(ret as i64));
    match row.slow {
        by::NOTED => {
            // Ids and lists have no meaning for the kernel at replay.
            return row.nr != ARCH_PRCTL
                || args[1] < 1 << 47 && call(ARCH_PRCTL.into(), args[0], args[1], 0) == 0;
        }
        by::REFUSED => return true,
        _ => {}
    }
    let [start, len, ..] = *args;
    if area.may_shape.load(Relaxed) == 0 || failed || makes_code(row, args) {
        return false;
    }
    if row.nr == BRK {
        return move_brk(ret);
    }
    if row.nr == MMAP {
        return map_again(args, ret, map);
    }
    let make = [row.nr.into(), args[0], args[1], args[2], 0, 0, 0];
    carries(row, args)
        && !scribe_abi::is_ours(start, start.saturating_add(len))
        && made(&make) == ret as i64
}

const PROT_READ_WRITE: u64 = 3;
const MAP_PRIVATE: u64 = 2;
const MAP_FIXED: u64 = 16;
const MAP_ANONYMOUS: u64 = 32;

fn made(words: &[u64; 7]) -> i64 {
    let [nr, a, b, c, d, e, f] = *words;
    let result;
    // SAFETY: the call is one that the application makes, and the engine would repeat.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") nr => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The heap is memory like any other, at the recorded addresses.
fn move_brk(new: u64) -> bool {
    const MUNMAP: u64 = 11;
    // SAFETY: as in `carries`.
    let process = unsafe { &mut *(PROCESS as *mut Process) };
    let (from, to) = (
        process.brk.wrapping_add(4095) & !4095,
        new.wrapping_add(4095) & !4095,
    );
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let wanted = if to > from {
        made(&[
            MMAP.into(),
            from,
            to - from,
            PROT_READ_WRITE,
            flags,
            u64::MAX,
            0,
        ]) == from as i64
    } else {
        to == from || made(&[MUNMAP, to, from - to, 0, 0, 0, 0]) == 0
    };
    if wanted {
        process.brk = new;
    }
    wanted
}

fn map_again(args: &[u64; 6], at: u64, map: Option<*const u8>) -> bool {
    const MAP_TYPE: u64 = 15;
    let [_, len, prot, flags, ..] = *args;
    let flags = flags & !MAP_DROPPED;
    if flags & MAP_TYPE != MAP_PRIVATE || scribe_abi::is_ours(at, at.saturating_add(len)) {
        return false;
    }
    let Some(map) = map else {
        return flags & MAP_ANONYMOUS != 0
            && made(&[MMAP.into(), at, len, prot, flags | MAP_FIXED, u64::MAX, 0]) == at as i64;
    };
    // SAFETY: the section is whole: file, offset, length, protection, flags.
    let (id, offset, recorded) = unsafe {
        let half = |at: usize| map.add(at).cast::<u32>().read_unaligned();
        (half(0), map.add(4).cast::<u64>().read_unaligned(), half(24))
    };
    if recorded & MAP_BACKED != 0 {
        return false;
    }
    let config = crate::config();
    let Some(fd) = config.opened.get(id as usize) else {
        return false;
    };
    let fd = fd.load(Acquire);
    if id == 0 || fd == 0 {
        return false;
    }
    let path = Path::of(config.engine.load(Relaxed), fd - 1);
    const OPENAT: u64 = 257;
    const CLOSE: u64 = 3;
    const AT_FDCWD: u64 = -100i64 as u64;
    let fd = call(OPENAT, AT_FDCWD, core::ptr::from_ref(&path) as u64, 0);
    if fd < 0 {
        return false;
    }
    let flags = flags & !MAP_ANONYMOUS | MAP_FIXED;
    let got = made(&[MMAP.into(), at, len, prot, flags, fd as u64, offset]);
    call(CLOSE, fd as u64, 0, 0);
    got == at as i64
}

/// `/proc/PID/fd/FD`, of a descriptor of the engine's.
struct Path([u8; 40]);

impl Path {
    fn of(pid: u32, fd: u32) -> Path {
        let mut path = Path([0; 40]);
        let mut at = 0;
        for (name, number) in [(b"/proc/", pid), (b"/fd/\0\0", fd)] {
            for byte in name.iter().filter(|byte| **byte != 0) {
                path.put(&mut at, *byte);
            }
            let mut unit = 1_000_000_000;
            while unit > 0 {
                if number >= unit || unit == 1 {
                    path.put(&mut at, b'0' + (number / unit % 10) as u8);
                }
                unit /= 10;
            }
        }
        path
    }

    fn put(&mut self, at: &mut usize, byte: u8) {
        if let Some(place) = self.0.get_mut(*at) {
            *place = byte;
        }
        *at += 1;
    }
}
