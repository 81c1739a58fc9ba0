//! The log as the recorder writes to it: in the lane of a record, what agents wrote before comes
//! first.

use crate::agent::LaneMemory;
use scribe_abi::log::{RECORD_HEAD, SWITCH, SYSCALL};
use scribe_log::{LogError, LogWriter, Stats};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The log, and the rings of all lanes.
pub(super) struct Journal {
    log: Arc<LogWriter>,
    rings: RefCell<HashMap<u32, Rc<LaneMemory>>>,
    /// Calls that agents recorded, by number.
    calls: RefCell<HashMap<u32, u64>>,
    events: Cell<u64>,
    switches: Cell<u64>,
}

impl Journal {
    pub(super) fn new(log: LogWriter) -> Journal {
        Journal {
            log: Arc::new(log),
            rings: RefCell::default(),
            calls: RefCell::default(),
            events: Cell::new(0),
            switches: Cell::new(0),
        }
    }

    /// A lane begins.
    pub(super) fn open(&self, lane: u32, ring: &Rc<LaneMemory>) {
        if ring.has_ring() {
            self.rings.borrow_mut().insert(lane, ring.clone());
        }
    }

    /// A lane ends.
    pub(super) fn close(&self, lane: u32) {
        self.drain(lane);
        self.rings.borrow_mut().remove(&lane);
    }

    /// Takes over what agents wrote in a lane.
    pub(super) fn drain(&self, lane: u32) {
        if let Some(ring) = self.rings.borrow().get(&lane) {
            self.take(lane, ring);
        }
    }

    /// The same in all lanes.
    pub(super) fn drain_all(&self) {
        for (lane, ring) in self.rings.borrow().iter() {
            self.take(*lane, ring);
        }
        self.log.maybe_flush();
    }

    fn take(&self, lane: u32, ring: &LaneMemory) {
        let (tail, bytes) = ring.filled();
        if bytes.is_empty() {
            return;
        }
        self.log.append(lane, |buf| buf.extend_from_slice(bytes));
        ring.tail.store(
            tail + bytes.len() as u32,
            std::sync::atomic::Ordering::Release,
        );
        let mut calls = self.calls.borrow_mut();
        let mut events = 0;
        let mut rest = bytes;
        let mut run = (u32::MAX, 0);
        while let Some(head) = rest.first_chunk::<RECORD_HEAD>() {
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let nr = u32::from(u16::from_le_bytes([head[2], head[3]]));
            events += 1;
            if head[0] == SWITCH {
                self.switches.set(self.switches.get() + 1);
            } else if head[0] == SYSCALL && nr == run.0 {
                run.1 += 1;
            } else {
                *calls.entry(run.0).or_default() += run.1;
                run = (nr, 1);
            }
            rest = rest.get(RECORD_HEAD + len..).unwrap_or_default();
        }
        *calls.entry(run.0).or_default() += run.1;
        self.events.set(self.events.get() + events);
    }

    /// See [`LogWriter::append`].
    pub(super) fn append<R>(&self, stream: u32, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.drain(stream);
        self.log.append(stream, f)
    }

    /// See [`LogWriter::maybe_flush`].
    pub(super) fn maybe_flush(&self) {
        self.log.maybe_flush();
    }

    /// See [`LogWriter::error`].
    pub(super) fn error(&self) -> Option<&LogError> {
        self.log.error()
    }

    /// Events that agents recorded, the switches among them, and their calls by number.
    pub(super) fn figures(&self) -> (u64, u64, HashMap<u32, u64>) {
        let mut calls = self.calls.borrow().clone();
        calls.remove(&u32::MAX);
        (self.events.get(), self.switches.get(), calls)
    }

    /// What is written from now on goes into another log; the result is the former one.
    pub(super) fn replace(&mut self, log: LogWriter) -> Arc<LogWriter> {
        std::mem::replace(&mut self.log, Arc::new(log))
    }

    /// The log itself, for streams that are no lanes.
    pub(super) fn writer(&self) -> &Arc<LogWriter> {
        &self.log
    }

    /// See [`LogWriter::finish`].
    pub(super) fn finish(self) -> Result<Stats, LogError> {
        self.drain_all();
        finish(self.log)
    }
}

/// Ends a log that nobody else writes to any more.
pub(super) fn finish(log: Arc<LogWriter>) -> Result<Stats, LogError> {
    match Arc::into_inner(log) {
        Some(log) => log.finish(),
        None => Ok(Stats::default()),
    }
}
