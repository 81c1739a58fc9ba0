//! Appending records to a buffer without building them in memory first: the recorder's hot path.

use crate::record::{self, MAX_DATA};
use crate::section_writer::SectionWriter;
use crate::types::{flags, kind};
use std::ops::{Deref, DerefMut};

/// A record under construction at the end of a buffer. The methods of [`SectionWriter`] append
/// sections; the record is complete when the builder is dropped.
pub struct RecordBuilder<'v> {
    w: SectionWriter<'v>,
    start: usize,
}

impl<'v> RecordBuilder<'v> {
    #[inline]
    fn new(buf: &'v mut Vec<u8>, kind: u8, flags: u8, arg: u16) -> Self {
        let start = buf.len();
        record::begin(buf, kind, flags, arg);
        RecordBuilder {
            w: SectionWriter::new(buf),
            start,
        }
    }

    /// Completes the record. Dropping the builder does the same.
    #[inline]
    pub fn finish(self) {}
}

impl Drop for RecordBuilder<'_> {
    #[inline]
    fn drop(&mut self) {
        record::finish(self.w.buf, self.start);
    }
}

impl<'v> Deref for RecordBuilder<'v> {
    type Target = SectionWriter<'v>;
    fn deref(&self) -> &SectionWriter<'v> {
        &self.w
    }
}

impl<'v> DerefMut for RecordBuilder<'v> {
    fn deref_mut(&mut self) -> &mut SectionWriter<'v> {
        &mut self.w
    }
}

/// Begins a [`crate::Record::Syscall`]. Output beyond [`MAX_DATA`] goes to [`put_data`] before.
#[inline]
pub fn begin_syscall(
    buf: &mut Vec<u8>,
    nr: u16,
    ret: i64,
    in_hash: u32,
    flags: u8,
) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::SYSCALL, flags, nr);
    b.w.buf.extend_from_slice(&ret.to_le_bytes());
    b.w.buf.extend_from_slice(&in_hash.to_le_bytes());
    b
}

/// Begins a [`crate::Record::Exec`].
pub fn begin_exec(buf: &mut Vec<u8>, task: u32, tid: i32, pid: i32) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::EXEC, 0, 0);
    b.w.buf.extend_from_slice(&task.to_le_bytes());
    b.w.buf.extend_from_slice(&tid.to_le_bytes());
    b.w.buf.extend_from_slice(&pid.to_le_bytes());
    b
}

/// Begins a [`crate::Record::Snapshot`].
pub fn begin_snapshot(buf: &mut Vec<u8>, task: u32, tid: i32, pid: i32) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::SNAPSHOT, 0, 0);
    b.w.buf.extend_from_slice(&task.to_le_bytes());
    b.w.buf.extend_from_slice(&tid.to_le_bytes());
    b.w.buf.extend_from_slice(&pid.to_le_bytes());
    b
}

/// Begins a [`crate::Record::Exit`].
pub fn begin_exit(buf: &mut Vec<u8>, task: u32, status: i32, flags: u8) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::EXIT, flags, 0);
    b.w.buf.extend_from_slice(&task.to_le_bytes());
    b.w.buf.extend_from_slice(&status.to_le_bytes());
    b
}

/// Begins a [`crate::Record::Tracer`].
pub fn begin_tracer(buf: &mut Vec<u8>, task: u32, place: u8, signo: u16) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::TRACER, place, signo);
    b.w.buf.extend_from_slice(&task.to_le_bytes());
    b
}

/// Begins a [`crate::Record::Forced`]: address, and hashes of registers, extended state and memory.
pub fn begin_forced(buf: &mut Vec<u8>, point: [u64; 4]) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::FORCED, 0, 0);
    for word in point {
        b.w.buf.extend_from_slice(&word.to_le_bytes());
    }
    b
}

/// Begins a [`crate::Record::Start`].
pub fn begin_start(buf: &mut Vec<u8>) -> RecordBuilder<'_> {
    RecordBuilder::new(buf, kind::START, 0, 0)
}

/// Begins a [`crate::Record::End`].
pub fn begin_end(buf: &mut Vec<u8>, status: i32, events: u64) -> RecordBuilder<'_> {
    end(buf, status, events, 0)
}

/// Begins a [`crate::Record::End`] of a recording whose program goes on.
pub fn begin_detached(buf: &mut Vec<u8>, events: u64) -> RecordBuilder<'_> {
    end(buf, 0, events, flags::DETACHED)
}

fn end(buf: &mut Vec<u8>, status: i32, events: u64, flags: u8) -> RecordBuilder<'_> {
    let b = RecordBuilder::new(buf, kind::END, flags, 0);
    b.w.buf.extend_from_slice(&status.to_le_bytes());
    b.w.buf.extend_from_slice(&events.to_le_bytes());
    b
}

/// Appends as many [`crate::Record::Data`] as `bytes` need.
pub fn put_data(buf: &mut Vec<u8>, addr: u64, bytes: &[u8]) {
    let mut addr = addr;
    for piece in bytes.chunks(MAX_DATA) {
        let start = buf.len();
        record::begin(buf, kind::DATA, 0, 0);
        buf.extend_from_slice(&addr.to_le_bytes());
        buf.extend_from_slice(piece);
        record::finish(buf, start);
        addr = addr.wrapping_add(piece.len() as u64);
    }
}

/// Appends a [`crate::Record::Instr`].
#[inline]
pub fn put_instr(buf: &mut Vec<u8>, which: u16, values: &[u64]) {
    let start = buf.len();
    record::begin(buf, kind::INSTR, 0, which);
    for v in values {
        buf.extend_from_slice(&v.to_le_bytes());
    }
    record::finish(buf, start);
}

/// Appends a [`crate::Record::Switch`].
#[inline]
pub fn put_switch(buf: &mut Vec<u8>, task: u32, flags: u8) {
    let start = buf.len();
    record::begin(buf, kind::SWITCH, flags, 0);
    buf.extend_from_slice(&task.to_le_bytes());
    record::finish(buf, start);
}
