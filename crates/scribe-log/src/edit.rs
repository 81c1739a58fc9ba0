//! Rewriting logs, and comparing them.

use crate::error::Result;
use crate::lane::Position;
use crate::reader::LogReader;
use crate::record::Record;
use crate::writer::LogWriter;
use std::collections::BTreeSet;

/// Where [`copy`] puts the records of the new log.
pub struct Emit<'w> {
    to: &'w LogWriter,
}

impl Emit<'_> {
    /// Appends a record to a stream.
    pub fn record(&mut self, stream: u32, record: &Record<'_>) {
        self.to.append(stream, |buf| record.encode(buf));
    }
}

/// Reads a log in the order of the file and lets `f` write another one: it is called for each
/// record, with its stream and place, and emits what is to stand there instead. Does not finish
/// the new log.
pub fn copy(
    from: &LogReader,
    to: &LogWriter,
    mut f: impl FnMut(u32, Position, Record<'_>, &mut Emit<'_>),
) -> Result<()> {
    let mut records = from.in_order();
    let mut emit = Emit { to };
    let mut chunk = None;
    while let Some((stream, place, record)) = records.next()? {
        if chunk.replace(place.chunk) != Some(place.chunk) {
            // Only between chunks: so the new log, cut anywhere, is a prefix in time as well.
            to.maybe_flush();
            if let Some(e) = to.error() {
                return Err(e.clone());
            }
        }
        f(stream, place, record, &mut emit);
    }
    to.error().cloned().map_or(Ok(()), Err)
}

/// Rewrites a log record by record: `f` gives the new record, or `None` to leave it out.
pub fn map(
    from: &LogReader,
    to: &LogWriter,
    mut f: impl for<'r> FnMut(u32, Record<'r>) -> Option<Record<'r>>,
) -> Result<()> {
    copy(from, to, |stream, _, record, emit| {
        if let Some(r) = f(stream, record) {
            emit.record(stream, &r);
        }
    })
}

/// The streams of a log. Reads all of it.
pub fn streams(log: &LogReader) -> Result<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    let mut records = log.in_order();
    while let Some((stream, ..)) = records.next()? {
        set.insert(stream);
    }
    Ok(set)
}

/// The first difference between two logs in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The stream.
    pub stream: u32,
    /// The number of the record in it, from 0.
    pub index: u64,
    /// The record of the first log; `None`: it has no more.
    pub a: Option<(Position, Record<'static>)>,
    /// The record of the second log; `None`: it has no more.
    pub b: Option<(Position, Record<'static>)>,
}

/// Compares two logs stream by stream, and gives the first difference in each that has one.
pub fn diff(a: &LogReader, b: &LogReader) -> Result<Vec<Difference>> {
    let mut all = streams(a)?;
    all.append(&mut streams(b)?);
    let mut out = Vec::new();
    for stream in all {
        if let Some(d) = diff_stream(a, b, stream)? {
            out.push(d);
        }
    }
    Ok(out)
}

/// The first difference between two logs in one stream.
pub fn diff_stream(a: &LogReader, b: &LogReader, stream: u32) -> Result<Option<Difference>> {
    let (mut la, mut lb) = (a.lane(stream), b.lane(stream));
    for index in 0.. {
        let (ra, rb) = (la.next()?, lb.next()?);
        if ra == rb {
            if ra.is_none() {
                break;
            }
            continue;
        }
        let (ra, rb) = (ra.map(Record::into_owned), rb.map(Record::into_owned));
        return Ok(Some(Difference {
            stream,
            index,
            a: la.last_position().zip(ra),
            b: lb.last_position().zip(rb),
        }));
    }
    Ok(None)
}
