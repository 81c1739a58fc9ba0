//! Records: what a stream of the log consists of.

use crate::bytes::Cur;
use crate::error::RecordError;
use crate::section::{Sections, tag};
use crate::types::{
    BookmarkTask, End, Exec, Exit, FileInfo, Forced, Signal, Start, Syscall, Tracer, Unknown,
    Values, flags, kind,
};
use std::borrow::Cow;

/// The longest record, head included.
pub const MAX_RECORD: usize = 4 << 20;

/// The most memory content that goes into one section or [`Record::Data`]; more is split.
pub const MAX_DATA: usize = 1 << 20;

/// Length of a record's head.
pub(crate) const HEAD: usize = 8;

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// Another task runs in this lane from here on.
    Switch {
        /// The task.
        task: u32,
        /// [`flags::PREV_IN_CALL`].
        flags: u8,
    },
    /// A system call returned.
    Syscall(Syscall<'a>),
    /// Memory written by the next record of this lane that is not `Data`.
    Data {
        /// Address in the task.
        addr: u64,
        /// What was written there.
        bytes: Cow<'a, [u8]>,
    },
    /// A signal was delivered.
    Signal(Signal<'a>),
    /// An instruction with a result that is not determined.
    Instr {
        /// See [`crate::instr`].
        which: u16,
        /// Its result.
        values: Values<'a>,
    },
    /// A task got a new address space.
    Exec(Exec<'a>),
    /// A task as it was when its recording began, in the middle of its run: the first of a process with
    /// the address space, those that share it behind that one.
    Snapshot(Exec<'a>),
    /// A task ended.
    Exit(Exit<'a>),
    /// The tasks of one lane run in another from here on.
    Merge {
        /// The lane that ends.
        from_lane: u32,
        /// The lane that goes on.
        into_lane: u32,
    },
    /// A task runs in another lane from here on.
    Move {
        /// The task.
        task: u32,
        /// Its new lane.
        lane: u32,
    },
    /// The task was stopped here, at no sync point; a point is this one when all hashes are equal.
    Forced(Forced<'a>),
    /// Hashes of the state of the running task, for `--verify`.
    Checksum {
        /// Hash of the registers.
        regs: Option<u64>,
        /// Hash of the memory.
        mem: Option<u64>,
    },
    /// A tracer within the recording stopped or changed a task.
    Tracer(Tracer<'a>),
    /// Places of calls in the program's text were patched, or put back.
    Patch {
        /// See [`crate::patch`].
        flags: u8,
        /// 12 bytes each: address of the `syscall` instruction (8), number of its stub (2), bytes
        /// replaced before it (1) and behind it (1).
        sites: Cow<'a, [u8]>,
    },
    /// The recording begins.
    Start(Start<'a>),
    /// A file, by which other records may name it from here on.
    File(FileInfo<'a>),
    /// Content of a file.
    Blob {
        /// Id of the file.
        file: u32,
        /// Offset in the file.
        offset: u64,
        /// Its bytes there.
        bytes: Cow<'a, [u8]>,
    },
    /// Text for people.
    Note {
        /// The text.
        text: Cow<'a, [u8]>,
    },
    /// A named place.
    Bookmark {
        /// Its number.
        id: u32,
        /// Nanoseconds since the recording began.
        time: u64,
        /// The tasks of this lane.
        tasks: Vec<BookmarkTask>,
        /// Its name.
        text: Cow<'a, [u8]>,
    },
    /// Where the kernel objects of the program are described, as they were at a bookmark.
    Objects {
        /// Its number.
        bookmark: u32,
        /// The stream: contents as `Blob` records, the description (JSON) as number 0.
        stream: u32,
        /// No more than a name, as it was before the program changed it for the first time, behind that
        /// bookmark ([`flags::BEFORE`]).
        before: bool,
    },
    /// Events are missing here.
    Gap {
        /// How many, if known.
        lost: u64,
        /// Why.
        text: Cow<'a, [u8]>,
    },
    /// The recording ended.
    End(End<'a>),
    /// Of a kind that this version does not know.
    Unknown(Unknown<'a>),
}

#[derive(Clone, Copy)]
struct Head {
    kind: u8,
    flags: u8,
    arg: u16,
    len: usize,
}

fn head(c: &mut Cur<'_>) -> Result<Head, RecordError> {
    let cut = || RecordError("head cut off");
    let kind = c.u8().ok_or_else(cut)?;
    let flags = c.u8().ok_or_else(cut)?;
    let arg = c.u16().ok_or_else(cut)?;
    let len = c.u32().ok_or_else(cut)? as usize;
    if len > MAX_RECORD - HEAD {
        return Err(RecordError("too long"));
    }
    Ok(Head {
        kind,
        flags,
        arg,
        len,
    })
}

/// Checks the heads of the records in `bytes`, and counts them.
pub(crate) fn count(mut bytes: &[u8]) -> Result<u64, RecordError> {
    let mut n = 0;
    while !bytes.is_empty() {
        bytes = &bytes[skip(bytes)?..];
        n += 1;
    }
    Ok(n)
}

/// Length of the record at the beginning of `bytes`.
pub(crate) fn skip(bytes: &[u8]) -> Result<usize, RecordError> {
    let mut c = Cur(bytes);
    let h = head(&mut c)?;
    c.take(h.len).ok_or(RecordError("body cut off"))?;
    Ok(HEAD + h.len)
}

/// Length of the record at the beginning of `bytes`, which is as good as [`Record::decode`] finds it. Quick for what
/// there is most of.
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<usize, RecordError> {
    if let Some(n) = plain_call(bytes) {
        return Ok(n);
    }
    Record::decode(bytes).map(|(_, n)| n)
}

/// The same for a call whose sections are of the usual kinds; `None`: look closer.
#[inline]
fn plain_call(bytes: &[u8]) -> Option<usize> {
    /// Result and hash.
    const FIXED: usize = 12;
    let mut c = Cur(bytes);
    let h = head(&mut c).ok()?;
    if h.kind != kind::SYSCALL {
        return None;
    }
    let mut rest = c.take(h.len)?.get(FIXED..)?;
    while let Some((word, more)) = rest.split_first_chunk::<4>() {
        let word = u32::from_le_bytes(*word);
        let len = (word >> 8) as usize;
        let least = match word as u8 {
            tag::OUT => 8,
            tag::ARGS => 48,
            tag::IN => 16,
            _ => return None,
        };
        if len < least {
            return None;
        }
        rest = more.get(len..)?;
    }
    rest.is_empty().then_some(HEAD + h.len)
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning of `bytes`; also says how long it is.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<(Record<'a>, usize), RecordError> {
        let mut c = Cur(bytes);
        let h = head(&mut c)?;
        let body = c.take(h.len).ok_or(RecordError("body cut off"))?;
        let rec = Self::body(h, body)?.ok_or(RecordError("body too short"))?;
        Ok((rec, HEAD + h.len))
    }

    /// `Ok(None)`: too short.
    #[inline]
    fn body(h: Head, body: &'a [u8]) -> Result<Option<Record<'a>>, RecordError> {
        let mut c = Cur(body);
        // A macro rather than closures: each `?` on a cursor read means "too short".
        macro_rules! rd {
            ($e:expr) => {
                match $e {
                    Some(v) => v,
                    None => return Ok(None),
                }
            };
        }
        let flags = h.flags;
        Ok(Some(match h.kind {
            kind::SWITCH => Record::Switch {
                task: rd!(c.u32()),
                flags,
            },
            kind::SYSCALL => Record::Syscall(Syscall {
                nr: h.arg,
                flags,
                ret: rd!(c.i64()),
                in_hash: rd!(c.u32()),
                sections: Sections::parse(c.rest())?,
            }),
            kind::DATA => Record::Data {
                addr: rd!(c.u64()),
                bytes: c.rest().into(),
            },
            kind::SIGNAL => {
                let [action, back, ..] = rd!(c.u32()).to_le_bytes();
                let info = c.rest();
                if info.len() > 128 {
                    return Err(RecordError("siginfo too long"));
                }
                Record::Signal(Signal {
                    signo: h.arg,
                    flags,
                    back,
                    action,
                    info: info.into(),
                })
            }
            kind::INSTR => {
                if !body.len().is_multiple_of(8) {
                    return Err(RecordError("list of numbers with a fraction"));
                }
                Record::Instr {
                    which: h.arg,
                    values: Values(Cow::Borrowed(body)),
                }
            }
            kind::EXEC | kind::SNAPSHOT => {
                let exec = Exec {
                    task: rd!(c.u32()),
                    tid: rd!(c.i32()),
                    pid: rd!(c.i32()),
                    sections: Sections::parse(c.rest())?,
                };
                match h.kind {
                    kind::EXEC => Record::Exec(exec),
                    _ => Record::Snapshot(exec),
                }
            }
            kind::EXIT => Record::Exit(Exit {
                task: rd!(c.u32()),
                status: rd!(c.i32()),
                flags,
                sections: Sections::parse(c.rest())?,
            }),
            kind::MERGE => Record::Merge {
                from_lane: rd!(c.u32()),
                into_lane: rd!(c.u32()),
            },
            kind::MOVE => Record::Move {
                task: rd!(c.u32()),
                lane: rd!(c.u32()),
            },
            kind::FORCED => Record::Forced(Forced {
                rip: rd!(c.u64()),
                regs: rd!(c.u64()),
                xstate: rd!(c.u64()),
                mem: rd!(c.u64()),
                sections: Sections::parse(c.rest())?,
            }),
            kind::CHECKSUM => {
                let (regs, mem) = (rd!(c.u64()), rd!(c.u64()));
                Record::Checksum {
                    regs: (flags & flags::HAS_REGS != 0).then_some(regs),
                    mem: (flags & flags::HAS_MEM != 0).then_some(mem),
                }
            }
            kind::TRACER => Record::Tracer(Tracer {
                task: rd!(c.u32()),
                place: flags,
                signo: h.arg,
                sections: Sections::parse(c.rest())?,
            }),
            kind::PATCH => {
                if !body.len().is_multiple_of(12) {
                    return Err(RecordError("list of patched places with a fraction"));
                }
                Record::Patch {
                    flags,
                    sites: body.into(),
                }
            }
            kind::START => Record::Start(Start {
                sections: Sections::parse(body)?,
            }),
            kind::FILE => Record::File(FileInfo {
                id: rd!(c.u32()),
                flags: rd!(c.u32()),
                size: rd!(c.u64()),
                mtime_s: rd!(c.i64()),
                mtime_ns: rd!(c.u32()),
                mode: rd!(c.u32()),
                dev: rd!(c.u64()),
                ino: rd!(c.u64()),
                blake3: rd!(c.array()),
                path: c.rest().into(),
            }),
            kind::BLOB => Record::Blob {
                file: rd!(c.u32()),
                offset: rd!(c.u64()),
                bytes: c.rest().into(),
            },
            kind::NOTE => Record::Note { text: body.into() },
            kind::BOOKMARK => {
                let (id, count, time) = (rd!(c.u32()), rd!(c.u32()), rd!(c.u64()));
                let mut tasks = Vec::new();
                for _ in 0..count {
                    tasks.push(rd!(bookmark_task(&mut c)));
                }
                Record::Bookmark {
                    id,
                    time,
                    tasks,
                    text: c.rest().into(),
                }
            }
            kind::OBJECTS => Record::Objects {
                bookmark: rd!(c.u32()),
                stream: rd!(c.u32()),
                before: flags & flags::BEFORE != 0,
            },
            kind::GAP => Record::Gap {
                lost: rd!(c.u64()),
                text: c.rest().into(),
            },
            kind::END => Record::End(End {
                status: rd!(c.i32()),
                events: rd!(c.u64()),
                detached: flags & crate::types::flags::DETACHED != 0,
                sections: Sections::parse(c.rest())?,
            }),
            kind => Record::Unknown(Unknown {
                kind,
                flags,
                arg: h.arg,
                body: body.into(),
            }),
        }))
    }

    /// Appends the record to `out`. One that is longer than [`MAX_RECORD`] is appended in a form
    /// that [`crate::LogWriter`] refuses.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, flags, arg) = match self {
            Record::Switch { flags, .. } => (kind::SWITCH, *flags, 0),
            Record::Syscall(s) => (kind::SYSCALL, s.flags, s.nr),
            Record::Data { .. } => (kind::DATA, 0, 0),
            Record::Signal(s) => (kind::SIGNAL, s.flags, s.signo),
            Record::Instr { which, .. } => (kind::INSTR, 0, *which),
            Record::Exec(_) => (kind::EXEC, 0, 0),
            Record::Snapshot(_) => (kind::SNAPSHOT, 0, 0),
            Record::Exit(e) => (kind::EXIT, e.flags, 0),
            Record::Merge { .. } => (kind::MERGE, 0, 0),
            Record::Move { .. } => (kind::MOVE, 0, 0),
            Record::Forced(_) => (kind::FORCED, 0, 0),
            Record::Checksum { regs, mem } => (
                kind::CHECKSUM,
                regs.map_or(0, |_| flags::HAS_REGS) | mem.map_or(0, |_| flags::HAS_MEM),
                0,
            ),
            Record::Tracer(t) => (kind::TRACER, t.place, t.signo),
            Record::Patch { flags, .. } => (kind::PATCH, *flags, 0),
            Record::Start(_) => (kind::START, 0, 0),
            Record::File(_) => (kind::FILE, 0, 0),
            Record::Blob { .. } => (kind::BLOB, 0, 0),
            Record::Note { .. } => (kind::NOTE, 0, 0),
            Record::Bookmark { .. } => (kind::BOOKMARK, 0, 0),
            Record::Objects { before, .. } => {
                (kind::OBJECTS, if *before { flags::BEFORE } else { 0 }, 0)
            }
            Record::Gap { .. } => (kind::GAP, 0, 0),
            Record::End(e) => (kind::END, if e.detached { flags::DETACHED } else { 0 }, 0),
            Record::Unknown(u) => (u.kind, u.flags, u.arg),
        };
        begin(out, kind, flags, arg);
        match self {
            Record::Switch { task, .. } => out.extend_from_slice(&task.to_le_bytes()),
            Record::Syscall(s) => {
                out.extend_from_slice(&s.ret.to_le_bytes());
                out.extend_from_slice(&s.in_hash.to_le_bytes());
                out.extend_from_slice(s.sections.as_bytes());
            }
            Record::Data { addr, bytes } => {
                out.extend_from_slice(&addr.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Record::Signal(s) => {
                out.extend_from_slice(&[s.action, s.back, 0, 0]);
                let n = s.info.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
                out.extend_from_slice(&s.info[..n]);
            }
            Record::Instr { values, .. } => out.extend_from_slice(&values.0),
            Record::Exec(e) | Record::Snapshot(e) => {
                out.extend_from_slice(&e.task.to_le_bytes());
                out.extend_from_slice(&e.tid.to_le_bytes());
                out.extend_from_slice(&e.pid.to_le_bytes());
                out.extend_from_slice(e.sections.as_bytes());
            }
            Record::Exit(e) => {
                out.extend_from_slice(&e.task.to_le_bytes());
                out.extend_from_slice(&e.status.to_le_bytes());
                out.extend_from_slice(e.sections.as_bytes());
            }
            Record::Merge {
                from_lane: a,
                into_lane: b,
            }
            | Record::Objects {
                bookmark: a,
                stream: b,
                ..
            }
            | Record::Move { task: a, lane: b } => {
                out.extend_from_slice(&a.to_le_bytes());
                out.extend_from_slice(&b.to_le_bytes());
            }
            Record::Forced(f) => {
                for word in [f.rip, f.regs, f.xstate, f.mem] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                out.extend_from_slice(f.sections.as_bytes());
            }
            Record::Checksum { regs, mem } => {
                out.extend_from_slice(&regs.unwrap_or(0).to_le_bytes());
                out.extend_from_slice(&mem.unwrap_or(0).to_le_bytes());
            }
            Record::Tracer(t) => {
                out.extend_from_slice(&t.task.to_le_bytes());
                out.extend_from_slice(t.sections.as_bytes());
            }
            Record::Patch { sites, .. } => out.extend_from_slice(sites),
            Record::Start(s) => out.extend_from_slice(s.sections.as_bytes()),
            Record::File(f) => {
                out.extend_from_slice(&f.id.to_le_bytes());
                out.extend_from_slice(&f.flags.to_le_bytes());
                out.extend_from_slice(&f.size.to_le_bytes());
                out.extend_from_slice(&f.mtime_s.to_le_bytes());
                out.extend_from_slice(&f.mtime_ns.to_le_bytes());
                out.extend_from_slice(&f.mode.to_le_bytes());
                out.extend_from_slice(&f.dev.to_le_bytes());
                out.extend_from_slice(&f.ino.to_le_bytes());
                out.extend_from_slice(&f.blake3);
                out.extend_from_slice(&f.path);
            }
            Record::Blob {
                file,
                offset,
                bytes,
            } => {
                out.extend_from_slice(&file.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Record::Note { text } => out.extend_from_slice(text),
            Record::Bookmark {
                id,
                time,
                tasks,
                text,
            } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&(tasks.len() as u32).to_le_bytes());
                out.extend_from_slice(&time.to_le_bytes());
                for task in tasks {
                    let what = task.regs.map_or(0, |_| flags::HAS_REGS)
                        | task.mem.map_or(0, |_| flags::HAS_MEM)
                        | if task.in_call { flags::IN_CALL } else { 0 };
                    out.extend_from_slice(&task.task.to_le_bytes());
                    out.extend_from_slice(&u32::from(what).to_le_bytes());
                    out.extend_from_slice(&task.regs.unwrap_or(0).to_le_bytes());
                    out.extend_from_slice(&task.mem.unwrap_or(0).to_le_bytes());
                }
                out.extend_from_slice(text);
            }
            Record::Gap { lost, text } => {
                out.extend_from_slice(&lost.to_le_bytes());
                out.extend_from_slice(text);
            }
            Record::End(e) => {
                out.extend_from_slice(&e.status.to_le_bytes());
                out.extend_from_slice(&e.events.to_le_bytes());
                out.extend_from_slice(e.sections.as_bytes());
            }
            Record::Unknown(u) => out.extend_from_slice(&u.body),
        }
        finish(out, start);
    }

    /// The same record, owning its bytes.
    pub fn into_owned(self) -> Record<'static> {
        match self {
            Record::Switch { task, flags } => Record::Switch { task, flags },
            Record::Syscall(s) => Record::Syscall(Syscall {
                sections: s.sections.into_owned(),
                ..s
            }),
            Record::Data { addr, bytes } => Record::Data {
                addr,
                bytes: owned(bytes),
            },
            Record::Signal(s) => Record::Signal(Signal {
                info: owned(s.info),
                ..s
            }),
            Record::Instr { which, values } => Record::Instr {
                which,
                values: Values(owned(values.0)),
            },
            Record::Exec(e) => Record::Exec(Exec {
                sections: e.sections.into_owned(),
                ..e
            }),
            Record::Snapshot(e) => Record::Snapshot(Exec {
                sections: e.sections.into_owned(),
                ..e
            }),
            Record::Exit(e) => Record::Exit(Exit {
                sections: e.sections.into_owned(),
                ..e
            }),
            Record::Merge {
                from_lane,
                into_lane,
            } => Record::Merge {
                from_lane,
                into_lane,
            },
            Record::Move { task, lane } => Record::Move { task, lane },
            Record::Forced(f) => Record::Forced(Forced {
                sections: f.sections.into_owned(),
                ..f
            }),
            Record::Checksum { regs, mem } => Record::Checksum { regs, mem },
            Record::Tracer(t) => Record::Tracer(Tracer {
                sections: t.sections.into_owned(),
                ..t
            }),
            Record::Patch { flags, sites } => Record::Patch {
                flags,
                sites: owned(sites),
            },
            Record::Start(s) => Record::Start(Start {
                sections: s.sections.into_owned(),
            }),
            Record::File(f) => Record::File(f.into_owned()),
            Record::Blob {
                file,
                offset,
                bytes,
            } => Record::Blob {
                file,
                offset,
                bytes: owned(bytes),
            },
            Record::Note { text } => Record::Note { text: owned(text) },
            Record::Bookmark {
                id,
                time,
                tasks,
                text,
            } => Record::Bookmark {
                id,
                time,
                tasks,
                text: owned(text),
            },
            Record::Objects {
                bookmark,
                stream,
                before,
            } => Record::Objects {
                bookmark,
                stream,
                before,
            },
            Record::Gap { lost, text } => Record::Gap {
                lost,
                text: owned(text),
            },
            Record::End(e) => Record::End(End {
                sections: e.sections.into_owned(),
                ..e
            }),
            Record::Unknown(u) => Record::Unknown(Unknown {
                body: owned(u.body),
                ..u
            }),
        }
    }
}

fn bookmark_task(c: &mut Cur<'_>) -> Option<BookmarkTask> {
    let (task, what, regs, mem) = (c.u32()?, c.u32()?, c.u64()?, c.u64()?);
    let has = |bit: u8| what & u32::from(bit) != 0;
    Some(BookmarkTask {
        task,
        in_call: has(flags::IN_CALL),
        regs: has(flags::HAS_REGS).then_some(regs),
        mem: has(flags::HAS_MEM).then_some(mem),
    })
}

fn owned(c: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
    Cow::Owned(c.into_owned())
}

/// Appends a record's head, with the length left open.
#[inline]
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8, flags: u8, arg: u16) {
    let [a, b] = arg.to_le_bytes();
    out.extend_from_slice(&[kind, flags, a, b, 0, 0, 0, 0]);
}

/// Fills in the length of the record that begins at `start`. One that is too long gets a
/// length that no reader accepts, so that the writer notices.
#[inline]
pub(crate) fn finish(out: &mut Vec<u8>, start: usize) {
    let total = out.len().saturating_sub(start);
    let len = if total > MAX_RECORD {
        out.truncate(start + HEAD);
        u32::MAX
    } else {
        total.saturating_sub(HEAD) as u32
    };
    if let Some(b) = out.get_mut(start + 4..start + HEAD) {
        b.copy_from_slice(&len.to_le_bytes());
    }
}
