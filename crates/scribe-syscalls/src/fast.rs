//! The table for the agent: each row that needs no more than its rules, in the form of
//! `scribe_abi::fast`. What has no such form is marked as the engine's.

use crate::arg::{Dir, Len, Out, Ptr, Shape, Ty};
use crate::call::{Block, CHANGING_FLAGS, Class, Row, Special};
use crate::effect::Effect;
use crate::table::{KNOWN_MAX, rows_of};
use scribe_abi::fast::{
    self, FastBuf, FastRow, FastTable, MAX_BUFS, MAX_NR, MAX_ROWS, NO_ARG, block, by, dir, effect,
    len, nested, out,
};

/// Calls with more rows than this would be slower to look up than a stop is.
const MOST_ROWS: usize = 400;

/// The table for the agent.
pub fn fast_table() -> Box<FastTable> {
    let mut table = Box::new(FastTable {
        index: [(0, 0); MAX_NR],
        rows: [FastRow::default(); MAX_ROWS],
    });
    fill_fast_table(&mut table);
    table
}

/// Writes the table for the agent over one of zeros: no more of it than there is, as each page costs.
pub fn fill_fast_table(table: &mut FastTable) {
    let mut used = 0;
    let mut rows: Vec<FastRow> = Vec::new();
    for nr in 0..=KNOWN_MAX {
        rows.clear();
        rows.extend(rows_of(nr).map(|row| fast_row(row).unwrap_or_else(|| slow_row(row))));
        let none = rows.iter().all(|row| row.slow == by::ENGINE);
        if none || rows.len() > MOST_ROWS || used + rows.len() > MAX_ROWS {
            continue;
        }
        table.index[nr as usize] = (used as u16, rows.len() as u16);
        table.rows[used..used + rows.len()].copy_from_slice(&rows);
        used += rows.len();
    }
}

fn head(row: &Row) -> FastRow {
    let mut fast = FastRow {
        nr: row.nr as u16,
        nargs: row.args.len() as u8,
        fd_arg: NO_ARG,
        sub_arg: NO_ARG,
        and_arg: NO_ARG,
        ..FastRow::default()
    };
    if let Some(sub) = &row.sub {
        (fast.sub_arg, fast.sub_mask, fast.sub_value) = (sub.arg, sub.mask, sub.value);
        if let Some((arg, value)) = sub.and {
            (fast.and_arg, fast.and_value) = (arg, value as u32);
        }
    }
    fast
}

/// A row whose rules are not the agent's; it may know what the call does all the same.
fn slow_row(row: &Row) -> FastRow {
    use Special::{
        ArchPrctlSetFs, Brk, Madvise, Mmap, Mprotect, Munmap, SetRobustList, SetTidAddress,
    };
    let (slow, effect_arg) = match row.class {
        Class::Special(Mmap | Munmap | Mprotect | Madvise | Brk) => (by::BOTH, 0),
        Class::Special(SetTidAddress | SetRobustList | ArchPrctlSetFs) => (by::NOTED, 0),
        // The one of which nobody is told.
        Class::Refuse(errno) if row.name == "rseq" => (by::REFUSED, errno as u8),
        _ => (by::ENGINE, 0),
    };
    FastRow {
        slow,
        effect_arg,
        ..head(row)
    }
}

/// The row, if the agent can do all that it says.
pub fn fast_row(row: &Row) -> Option<FastRow> {
    let slow = match row.class {
        Class::Emulate => by::AGENT,
        Class::Special(Special::RtSigprocmask) => by::MASK,
        Class::Special(Special::RtSigaction) => by::ACTION,
        Class::Special(Special::Prlimit64) => by::ASKS,
        _ => return None,
    };
    // The engine may keep the program on fewer CPUs than it is to see.
    if ["sched_getaffinity", "sched_setaffinity"].contains(&row.name) {
        return None;
    }
    let mut fast = FastRow { slow, ..head(row) };
    let never = row.block == Block::Never;
    (fast.effect, fast.fd_arg, fast.effect_arg) = match row.effect {
        Effect::Reads(fd) | Effect::ReadsAt(fd) => (effect::READS, fd, 0),
        // The length of a file matters, too, where it is mapped.
        Effect::Writes(fd)
        | Effect::WritesAt(fd)
        | Effect::InodeWrites(fd)
        | Effect::Moves { to: fd, .. } => (effect::WRITES, fd, 0),
        Effect::SetsFile(fd) if row.sets_status_flags() => (effect::CHANGES, NO_ARG, fd),
        Effect::ClosesFd(fd) => (effect::CHANGES, NO_ARG, fd),
        // The engine sees which files the program may change.
        Effect::OpensPath { .. } => {
            let flags = row.open_flags()?;
            (fast.sub_arg, fast.sub_mask, fast.sub_value) = (flags, CHANGING_FLAGS, 0);
            (effect::OPENS, NO_ARG, 0)
        }
        Effect::OpensFd | Effect::Accepts(_) => (effect::OPENS, NO_ARG, 0),
        Effect::Dup { to, .. } => (effect::DUPS, NO_ARG, to.unwrap_or(NO_ARG)),
        Effect::OpensFds2 { arg } => (effect::OPENS2, NO_ARG, arg),
        // Its results depend on more than the rules say.
        Effect::Pid if !never && row.name == "waitid" => return None,
        // Objects that the engine does not follow, or asks the kernel about when it needs them.
        Effect::None
        | Effect::Seeks(_)
        | Effect::GetsFile(_)
        | Effect::SetsSocket(_)
        | Effect::Epoll(_)
        | Effect::SetsFdFlags(_)
        | Effect::SetsFile(_)
        | Effect::Futex
        | Effect::Timer
        | Effect::Clock
        | Effect::PathReads
        | Effect::PathWrites
        | Effect::Umask
        | Effect::Chdir
        | Effect::Polls
        | Effect::Pid
        | Effect::Creds
        | Effect::Limits
        | Effect::System => (effect::NONE, NO_ARG, 0),
        Effect::Signals if slow != by::AGENT => (effect::NONE, NO_ARG, 0),
        _ => return None,
    };
    fast.block = match row.block {
        Block::Never => block::NEVER,
        Block::May => block::MAY,
        Block::Fd(fd) => {
            fast.fd_arg = fd;
            block::FD
        }
    };
    for (i, arg) in row.args.iter().enumerate() {
        if let Ty::Ptr(ptr) = &arg.ty {
            let buf = fast_buf(i as u8, ptr)?;
            if usize::from(fast.nbufs) == MAX_BUFS {
                return None;
            }
            fast.bufs[usize::from(fast.nbufs)] = buf;
            fast.nbufs += 1;
        }
    }
    Some(fast)
}

fn fast_buf(arg: u8, ptr: &Ptr) -> Option<FastBuf> {
    if ptr.mmsg {
        return None;
    }
    let nested = match ptr.fields {
        [] => nested::NONE,
        [field] if ptr.shape == Shape::Iovec && ptr.stride == 16 && ptr.dir == Dir::In => {
            let plain = field.off == 0
                && matches!(field.ptr.len, Len::Field(8, 8))
                && field.ptr.fields.is_empty()
                && !field.ptr.sigmask;
            match (plain, field.ptr.dir, field.ptr.out) {
                (true, Dir::In, _) => nested::IOVEC_IN,
                (true, Dir::Out, Out::Share) => nested::IOVEC_OUT,
                _ => return None,
            }
        }
        _ => return None,
    };
    let (len, len_arg, len_n) = match ptr.len {
        Len::Fixed(n) => (len::FIXED, 0, u32::try_from(n).ok()?),
        Len::Arg(arg) => (len::ARG, arg, 0),
        Len::Arg32(arg) => (len::ARG32, arg, 0),
        Len::Small(arg) => (len::SMALL, arg, 0),
        Len::Elems(arg, size) => (len::ELEMS, arg, size),
        Len::Elems32(arg, size) => (len::ELEMS32, arg, size),
        Len::AtPtr(arg) => (len::AT_PTR, arg, 0),
        Len::Str(max) => (len::STR, 0, max),
        _ => return None,
    };
    let (out, out_arg, out_n) = match ptr.out {
        _ if ptr.dir == Dir::In => (out::NOTHING, 0, 0),
        Out::Nothing => (out::NOTHING, 0, 0),
        Out::Full => (out::FULL, 0, 0),
        Out::Always => (out::ALWAYS, 0, 0),
        Out::Positive => (out::POSITIVE, 0, 0),
        Out::Ret => (out::RET, 0, 0),
        Out::RetFits => (out::RET_FITS, 0, 0),
        Out::RetTimes(n) => (out::RET_TIMES, 0, n),
        Out::RetPlus(n) => (out::RET_PLUS, 0, n),
        Out::AtPtr(arg) => (out::AT_PTR, arg, 0),
        // What is left of a sleep is written at each interruption, also where none is seen.
        _ => return None,
    };
    Some(FastBuf {
        arg,
        dir: match ptr.dir {
            Dir::In => dir::IN,
            Dir::Out => dir::OUT,
            Dir::InOut => dir::INOUT,
        },
        input: u8::from(ptr.dir != Dir::Out && !ptr.gaps),
        sockaddr: u8::from(ptr.shape == Shape::Sockaddr),
        len,
        len_arg,
        out,
        out_arg,
        len_n,
        out_n,
        nested,
        sigmask: u8::from(ptr.sigmask),
        in_place: u8::from(ptr.in_place),
        ..FastBuf::default()
    })
}

const _: () = assert!(fast::MAX_RW == crate::dsl::MAX_RW_COUNT);
