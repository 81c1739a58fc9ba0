//! Walking through the records of a log.

use crate::chunk::{Chunk, stream_bit};
use crate::error::{LogError, RecordError, Result};
use crate::reader::Inner;
use crate::record::{Record, skip};
use std::sync::Arc;

/// The place of a record. Positions in one stream are ordered as its records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Where in the file its chunk begins.
    pub chunk: u64,
    /// Where in the chunk's uncompressed content it begins.
    pub offset: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.chunk, self.offset)
    }
}

/// Reads one stream. Holds a copy of one segment of it, so any number of them is cheap. A clone
/// goes on from the same place.
#[derive(Clone)]
pub struct LaneReader {
    inner: Arc<Inner>,
    stream: u32,
    /// Number of the chunk to look at when `buf` is used up.
    next_chunk: usize,
    buf: Vec<u8>,
    pos: usize,
    /// Place of `buf[0]`.
    base: Position,
    last: Option<Position>,
    count: u64,
}

impl LaneReader {
    pub(crate) fn new(inner: Arc<Inner>, stream: u32) -> LaneReader {
        LaneReader {
            inner,
            stream,
            next_chunk: 0,
            buf: Vec::new(),
            pos: 0,
            base: Position::default(),
            last: None,
            count: 0,
        }
    }

    /// The stream that this reads.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Loads the next segment if the present one is used up. `false`: there is none.
    #[inline]
    fn fill(&mut self) -> Result<bool> {
        if self.pos < self.buf.len() {
            Ok(true)
        } else {
            self.fill_slow()
        }
    }

    #[cold]
    fn fill_slow(&mut self) -> Result<bool> {
        while let Some(i) = self.inner.find(stream_bit(self.stream), self.next_chunk)? {
            let (at, chunk) = self.inner.load(i)?;
            self.next_chunk = i + 1;
            if let Some((from, to)) = chunk.segment(self.stream)
                && from < to
            {
                self.enter(at, &chunk, from, to);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn enter(&mut self, at: u64, chunk: &Chunk, from: u32, to: u32) {
        self.buf.clear();
        // A large segment may be an exception: do not keep its memory for ever.
        self.buf.shrink_to(2 << 20);
        self.buf
            .extend_from_slice(&chunk.raw[from as usize..to as usize]);
        self.base = Position {
            chunk: at,
            offset: from,
        };
        self.pos = 0;
    }

    fn place(&self) -> Position {
        let offset = self.base.offset.saturating_add(self.pos as u32);
        Position {
            chunk: self.base.chunk,
            offset,
        }
    }

    /// The next record. `None`: the log has no more for now. Why, [`crate::LogReader::truncated`]
    /// says. An error about a bad record comes again with each call.
    #[allow(clippy::should_implement_trait)] // It lends from `self`, which an iterator cannot.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        if !self.fill()? {
            return Ok(None);
        }
        let place = self.place();
        let (rec, n) = Record::decode(&self.buf[self.pos..]).map_err(|e| bad_record(place, e))?;
        self.last = Some(place);
        self.pos += n;
        self.count += 1;
        Ok(Some(rec))
    }

    /// The next record, encoded: for who keeps records beyond the next call.
    pub fn next_raw(&mut self) -> Result<Option<&[u8]>> {
        if !self.fill()? {
            return Ok(None);
        }
        let place = self.place();
        let start = self.pos;
        let (_, n) = Record::decode(&self.buf[start..]).map_err(|e| bad_record(place, e))?;
        self.last = Some(place);
        self.pos += n;
        self.count += 1;
        Ok(Some(&self.buf[start..start + n]))
    }

    /// As many of the next records, encoded, as fit into `max` bytes: for who copies them. Empty: the next one is
    /// longer than that.
    pub fn next_batch(&mut self, max: usize) -> Result<Option<&[u8]>> {
        if !self.fill()? {
            return Ok(None);
        }
        let start = self.pos;
        let end = self.buf.len().min(start.saturating_add(max));
        let mut last = None;
        let mut count = 0;
        while self.pos < end {
            let n = match crate::record::check(&self.buf[self.pos..]) {
                Ok(n) => n,
                // What comes before is good.
                Err(_) if count > 0 => break,
                Err(e) => return Err(bad_record(self.place(), e)),
            };
            if self.pos + n > end {
                break;
            }
            last = Some(self.pos);
            self.pos += n;
            count += 1;
        }
        if let Some(last) = last {
            let offset = self.base.offset.saturating_add(last as u32);
            let chunk = self.base.chunk;
            self.last = Some(Position { chunk, offset });
        }
        self.count += count;
        Ok(Some(&self.buf[start..self.pos]))
    }

    /// The record that [`LaneReader::next`] is going to give.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_>>> {
        if !self.fill()? {
            return Ok(None);
        }
        let place = self.place();
        let (rec, _) = Record::decode(&self.buf[self.pos..]).map_err(|e| bad_record(place, e))?;
        Ok(Some(rec))
    }

    /// The place of the next record. At the end of a segment this is the place behind its last.
    pub fn position(&self) -> Position {
        self.place()
    }

    /// The place of the record that [`LaneReader::next`] gave last.
    pub fn last_position(&self) -> Option<Position> {
        self.last
    }

    /// How many records this reader has given.
    pub fn records_read(&self) -> u64 {
        self.count
    }

    /// Goes to a place that [`LaneReader::position`] or [`LaneReader::last_position`] gave for this
    /// stream.
    pub fn seek(&mut self, to: Position) -> Result<()> {
        let none = || LogError::NoSuchPosition {
            chunk: to.chunk,
            offset: to.offset,
        };
        if to == Position::default() {
            self.buf.clear();
            (self.pos, self.next_chunk, self.base) = (0, 0, to);
            return Ok(());
        }
        let i = self.inner.chunk_at(to.chunk).ok_or_else(none)?;
        let (at, chunk) = self.inner.load(i)?;
        let (from, end) = chunk.segment(self.stream).ok_or_else(none)?;
        let goal = to
            .offset
            .checked_sub(from)
            .filter(|_| to.offset <= end)
            .ok_or_else(none)?;
        let segment = &chunk.raw[from as usize..end as usize];
        let mut pos = 0;
        while pos < goal as usize {
            pos += skip(&segment[pos..]).map_err(|_| none())?;
        }
        if pos != goal as usize {
            return Err(none());
        }
        self.enter(at, &chunk, from, end);
        self.pos = pos;
        self.next_chunk = i + 1;
        Ok(())
    }
}

fn bad_record(at: Position, e: RecordError) -> LogError {
    LogError::BadRecord {
        chunk: at.chunk,
        offset: at.offset,
        what: e.0,
    }
}

/// Reads all streams in the order of the file.
pub struct InOrder {
    inner: Arc<Inner>,
    next_chunk: usize,
    at: u64,
    chunk: Option<Arc<Chunk>>,
    segment: usize,
    /// Offset in the chunk; 0: at the beginning of the segment.
    pos: u32,
}

impl InOrder {
    pub(crate) fn new(inner: Arc<Inner>) -> InOrder {
        InOrder {
            inner,
            next_chunk: 0,
            at: 0,
            chunk: None,
            segment: 0,
            pos: 0,
        }
    }

    /// The next record with its stream and place. `None`: the log has no more for now.
    #[allow(clippy::should_implement_trait)] // It lends from `self`, which an iterator cannot.
    pub fn next(&mut self) -> Result<Option<(u32, Position, Record<'_>)>> {
        let stream = loop {
            let segment = self
                .chunk
                .as_ref()
                .and_then(|c| c.segments.get(self.segment));
            match segment {
                Some(&(stream, from, to)) => {
                    self.pos = self.pos.max(from);
                    if self.pos < to {
                        break stream;
                    }
                    self.segment += 1;
                }
                None => {
                    let Some(i) = self.inner.find(u64::MAX, self.next_chunk)? else {
                        return Ok(None);
                    };
                    let (at, chunk) = self.inner.load(i)?;
                    self.next_chunk = i + 1;
                    (self.at, self.chunk, self.segment, self.pos) = (at, Some(chunk), 0, 0);
                }
            }
        };
        let Some(chunk) = &self.chunk else {
            return Ok(None);
        };
        let to = chunk.segments[self.segment].2;
        let place = Position {
            chunk: self.at,
            offset: self.pos,
        };
        let (rec, n) = Record::decode(&chunk.raw[self.pos as usize..to as usize])
            .map_err(|e| bad_record(place, e))?;
        self.pos += n as u32;
        Ok(Some((stream, place, rec)))
    }
}
