//! Going over a log in an order in which it could have happened: every record with the task that it
//! is about.
//!
//! A chunk holds all that was recorded in a short while, lane by lane. Within a chunk, lanes are
//! interleaved by the times or serials of their events, and a lane does not go on before the task
//! that it switches to has come to it.

use scribe_log::{
    FileInfo, InOrder, LogError, LogReader, META, Position, Record, Result, Section, Sections,
    Syscall, action, flags,
};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A record, and where it belongs.
#[derive(Debug, Clone)]
pub struct Item {
    /// The stream it is from; 0 holds what concerns no single task.
    pub lane: u32,
    /// Where it begins.
    pub place: Position,
    /// The task; 0 in stream 0.
    pub task: u32,
    /// The record.
    pub record: Record<'static>,
    /// Memory that it wrote and that was too long to be in it.
    pub data: Vec<(u64, Vec<u8>)>,
}

/// Ids of a task, as the recorded program saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Thread id.
    pub tid: i32,
    /// Process id.
    pub pid: i32,
}

/// What is known of the tasks so far.
#[derive(Default)]
pub struct Tasks {
    ids: HashMap<u32, Ids>,
    lane_of: HashMap<u32, u32>,
    current: HashMap<u32, u32>,
    /// Processes that run.
    running: HashSet<i32>,
}

impl Tasks {
    /// Ids of a task.
    pub fn ids(&self, task: u32) -> Ids {
        self.ids.get(&task).copied().unwrap_or_default()
    }

    fn add(&mut self, task: u32, ids: Ids, lane: u32) {
        self.ids.insert(task, ids);
        self.running.insert(ids.pid);
        self.lane_of.insert(task, lane);
        self.current.entry(lane).or_insert(task);
    }

    /// Follows a record; gives the task that it is about.
    fn observe(&mut self, lane: u32, record: &Record) -> u32 {
        let current = self.current.get(&lane).copied().unwrap_or(0);
        match record {
            Record::Start(start) => {
                for section in &start.sections {
                    if let Section::Root {
                        task,
                        tid,
                        pid,
                        lane,
                    } = section
                    {
                        self.add(task, Ids { tid, pid }, lane);
                    }
                }
                0
            }
            Record::Switch { task, .. } => {
                self.current.insert(lane, *task);
                *task
            }
            Record::Snapshot(exec) => {
                let (tid, pid) = (exec.tid, exec.pid);
                self.add(exec.task, Ids { tid, pid }, lane);
                exec.task
            }
            Record::Exec(exec) => {
                self.ids.insert(
                    exec.task,
                    Ids {
                        tid: exec.tid,
                        pid: exec.pid,
                    },
                );
                if let Some(new) = exec.sections.lane()
                    && new != lane
                {
                    self.lane_of.insert(exec.task, new);
                    self.current.insert(new, exec.task);
                }
                exec.task
            }
            Record::Exit(exit) => {
                let ids = self.ids(exit.task);
                // The process ends with its leader, unless threads go on; then all that is lost is
                // some order.
                if exit.flags & flags::GROUP != 0 || ids.pid == ids.tid {
                    self.running.remove(&ids.pid);
                }
                exit.task
            }
            Record::Signal(signal) if matches!(signal.action, action::TERMINATE | action::CORE) => {
                self.running.remove(&self.ids(current).pid);
                current
            }
            Record::Move { task, lane } => {
                self.lane_of.insert(*task, *lane);
                self.current.entry(*lane).or_insert(*task);
                *task
            }
            Record::Merge {
                from_lane,
                into_lane,
            } => {
                for at in self.lane_of.values_mut().filter(|at| **at == *from_lane) {
                    *at = *into_lane;
                }
                self.current.entry(*into_lane).or_insert(current);
                current
            }
            Record::Syscall(call) => {
                if let Some(spawn) = call.sections.spawn() {
                    self.add(
                        spawn.task,
                        Ids {
                            tid: spawn.tid,
                            pid: spawn.pid,
                        },
                        spawn.lane,
                    );
                }
                current
            }
            _ if lane == META => 0,
            _ => current,
        }
    }
}

/// Walks over a log.
pub struct Walk {
    records: InOrder,
    /// The first record of the next chunk.
    next: Option<(u32, Position, Record<'static>)>,
    /// What was read and not yet given, by lane.
    lanes: BTreeMap<u32, VecDeque<Pending>>,
    /// How many chunks that is.
    chunks: usize,
    data: HashMap<u32, Vec<(u64, Vec<u8>)>>,
    /// Why the log cannot be read further.
    error: Option<LogError>,
    /// Nothing comes behind what was read: no lane waits any longer.
    last: bool,
    files: Files,
    /// The tasks so far.
    pub tasks: Tasks,
}

struct Pending {
    place: Position,
    record: Record<'static>,
    /// Time or serial of this record or the next one that has one.
    key: u64,
}

/// More than anyone prints of it; replay needs the whole, a reader does not.
const DATA_KEPT: usize = 64 << 10;
/// How many chunks are read ahead in search of the event that made a task.
const AHEAD: usize = 8;

impl Walk {
    /// From the beginning of the log.
    pub fn new(log: &LogReader) -> Walk {
        Walk {
            records: log.in_order(),
            next: None,
            lanes: BTreeMap::new(),
            chunks: 0,
            data: HashMap::new(),
            error: None,
            last: false,
            files: Files::default(),
            tasks: Tasks::default(),
        }
    }

    /// The next record. `None`: there is no more for now; what waits for something that has not
    /// been written is given after [`Walk::set_last`].
    #[allow(clippy::should_implement_trait)] // An iterator would not be asked again after None.
    pub fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if self.lanes.is_empty() {
                self.chunks = 0;
            }
            let force = self.last || self.chunks > AHEAD;
            let Some(lane) = self.choose(force) else {
                if !self.load()? && (self.lanes.is_empty() || !self.last) {
                    return Ok(None);
                }
                continue;
            };
            let Some(Pending { place, record, .. }) = self.pop(lane) else {
                continue;
            };
            let task = self.tasks.observe(lane, &record);
            if let Record::Data { addr, bytes } = &record {
                let kept = bytes[..bytes.len().min(DATA_KEPT)].to_vec();
                self.data.entry(lane).or_default().push((*addr, kept));
            }
            let mut data = match record {
                Record::Data { .. } => Vec::new(),
                _ => self.data.remove(&lane).unwrap_or_default(),
            };
            match &record {
                Record::File(info) => self.files.add(info),
                Record::Syscall(call) => self.files.read(&call.sections, &mut data),
                _ => {}
            }
            return Ok(Some(Item {
                lane,
                place,
                task,
                record,
                data,
            }));
        }
    }

    /// Nothing more will be written to the log.
    pub fn set_last(&mut self) {
        self.last = true;
    }

    fn pop(&mut self, lane: u32) -> Option<Pending> {
        let queue = self.lanes.get_mut(&lane)?;
        let pending = queue.pop_front();
        if queue.is_empty() {
            self.lanes.remove(&lane);
        }
        pending
    }

    /// The lane to go on with: the one whose next known time is the earliest, if it can.
    fn choose(&mut self, force: bool) -> Option<u32> {
        let can = |lane: u32, pending: &Pending| match &pending.record {
            Record::Switch { task, .. } => self.tasks.lane_of.get(task) == Some(&lane),
            // A child has ended before somebody has waited for it.
            Record::Syscall(call)
                if waited_for(call).is_some_and(|p| self.tasks.running.contains(&p)) =>
            {
                false
            }
            _ => lane == META || self.tasks.current.contains_key(&lane),
        };
        let heads = self
            .lanes
            .iter()
            .filter_map(|(lane, queue)| Some((*lane, queue.front()?)));
        let best = heads
            .filter(|(lane, head)| can(*lane, head))
            .min_by_key(|(lane, head)| (head.key, *lane));
        match best {
            // While others may still come, the end waits.
            Some((_, head)) if head.key == LAST && self.lanes.len() > 1 && !force => None,
            Some((lane, _)) => Some(lane),
            // In a log that makes no sense no lane can go on: then the first one does.
            None if force => self.lanes.keys().next().copied(),
            None => None,
        }
    }

    /// Reads the next chunk.
    fn load(&mut self) -> Result<bool> {
        let mut chunk = None;
        while self.error.is_none() {
            let (lane, place, record) = match self.next.take() {
                Some(next) => next,
                None => match self.records.next() {
                    Ok(Some((lane, place, record))) => (lane, place, record.into_owned()),
                    Ok(None) => break,
                    // What was read before it comes first.
                    Err(error) => {
                        self.error = Some(error);
                        break;
                    }
                },
            };
            if *chunk.get_or_insert(place.chunk) != place.chunk {
                self.next = Some((lane, place, record));
                break;
            }
            let pending = Pending {
                place,
                record,
                key: UNKNOWN,
            };
            self.lanes.entry(lane).or_default().push_back(pending);
        }
        match &self.error {
            Some(error) if chunk.is_none() && self.lanes.is_empty() => return Err(error.clone()),
            Some(_) => self.last = true,
            None => {}
        }
        self.chunks += 1;
        self.set_keys();
        Ok(chunk.is_some())
    }

    fn set_keys(&mut self) {
        let timed = self
            .lanes
            .values()
            .flatten()
            .any(|p| stamp(&p.record).0.is_some());
        for (lane, queue) in &mut self.lanes {
            let mut key = if *lane == META { 0 } else { UNKNOWN };
            for pending in queue.iter_mut().rev() {
                let (time, serial) = stamp(&pending.record);
                key = if timed { time } else { serial }.unwrap_or(key);
                pending.key = if matches!(pending.record, Record::End(_)) {
                    LAST
                } else {
                    key
                };
            }
        }
    }
}

/// Of an event without a time, and without one behind it in its chunk.
const UNKNOWN: u64 = u64::MAX - 1;
/// Of what ends the log, although it is in the first stream.
const LAST: u64 = u64::MAX;

/// Files of the system, which the log names instead of holding what was read from them.
#[derive(Default)]
struct Files {
    known: HashMap<u32, FileInfo<'static>>,
    open: HashMap<u32, Option<File>>,
}

impl Files {
    fn add(&mut self, info: &FileInfo) {
        self.known.insert(info.id, info.clone().into_owned());
    }

    /// Adds what a call read from such files, if they are still the same.
    fn read(&mut self, sections: &Sections, data: &mut Vec<(u64, Vec<u8>)>) {
        for section in sections {
            let Section::FileOut {
                addr,
                offset,
                len,
                file,
            } = section
            else {
                continue;
            };
            let known = self.known.get(&file);
            let open = self
                .open
                .entry(file)
                .or_insert_with(|| known.and_then(open_same));
            let Some(file) = open else { continue };
            let mut bytes = vec![0; len.min(DATA_KEPT as u64) as usize];
            if file.read_exact_at(&mut bytes, offset).is_ok() {
                data.push((addr, bytes));
            }
        }
    }
}

/// Opens a file if nothing says that it has changed.
fn open_same(info: &FileInfo) -> Option<File> {
    let file = File::open(OsStr::from_bytes(&info.path)).ok()?;
    let meta = file.metadata().ok()?;
    let time = (meta.mtime(), meta.mtime_nsec());
    let same = meta.is_file()
        && meta.size() == info.size
        && time == (info.mtime_s, i64::from(info.mtime_ns));
    same.then_some(file)
}

/// The child whose end a wait4 has reported.
fn waited_for(call: &Syscall) -> Option<i32> {
    if i64::from(call.nr) != libc::SYS_wait4 || call.ret <= 0 {
        return None;
    }
    let status = call.sections.outs().next()?.1;
    let status = i32::from_le_bytes(status.get(..4)?.try_into().ok()?);
    (libc::WIFEXITED(status) || libc::WIFSIGNALED(status)).then_some(call.ret as i32)
}

/// Time and serial of an event.
fn stamp(record: &Record) -> (Option<u64>, Option<u64>) {
    match record {
        Record::Syscall(call) => (call.sections.time(), call.sections.serial()),
        _ => (None, None),
    }
}
