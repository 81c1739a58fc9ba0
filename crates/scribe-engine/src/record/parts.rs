//! A recording in parts, each a log of its own: all tasks are brought together, the log ends as if the
//! program was let go, and the next one begins with a snapshot, as if the program was found running. A
//! replay can begin at each part; of a long recording only the last ones need be kept.

use super::start::create_log;
use super::*;
use crate::state::{AddressSpace, Pages, input_hash};
use std::thread::JoinHandle;

/// When a part ends, and where the next one goes.
pub trait Parts {
    /// Whether the part that is being written, which is this old, has gone on for long enough.
    fn is_due(&mut self, age: Duration) -> bool;
    /// Where the next part goes.
    fn next(&mut self) -> LogTarget;
    /// The part before that is complete; it covers this time.
    fn closed(&mut self, age: Duration);
}

/// How long to wait where a part cannot end now.
const LATER: Duration = Duration::from_secs(1);

/// The part that is being written.
pub(super) struct Part {
    began: Instant,
    /// Not to be ended before.
    not_before: Instant,
    /// The part before, whose last records are being written, and the time that it covers.
    closing: Option<(JoinHandle<Closed>, Duration)>,
}

type Closed = std::result::Result<scribe_log::Stats, scribe_log::LogError>;

impl Part {
    pub(super) fn new() -> Part {
        let now = Instant::now();
        Part {
            began: now,
            not_before: now,
            closing: None,
        }
    }
}

impl Recorder {
    /// Whether a part is to end.
    pub(super) fn part_is_due(&mut self) -> bool {
        self.close_former(false);
        // Each part has all of the memory that it begins with.
        if self.part.closing.is_some() || self.copies.are_in_use() {
            return false;
        }
        let (age, ready) = (self.part.began.elapsed(), self.part.not_before);
        let parts = self.options.parts.as_mut();
        parts.is_some_and(|parts| Instant::now() >= ready && parts.is_due(age))
    }

    /// Why a part cannot end now; later it may.
    pub(super) fn part_hindrance(&mut self) -> Option<&'static str> {
        let why = self.find_hindrance();
        if why.is_some() {
            self.part.not_before = Instant::now() + LATER;
        }
        why
    }

    pub(super) fn find_hindrance(&self) -> Option<&'static str> {
        if !self.waits.rings.is_empty() {
            return Some("it uses asynchronous I/O (io_setup), whose ring Scribe keeps");
        }
        for task in self.tasks.values() {
            if task.listening || task.state == State::Stopping {
                return Some("it is stopped");
            }
            let mut all = self.tasks.values();
            match all.find(|other| other.tid == task.tgid) {
                Some(leader) if leader.state != State::Exiting => {}
                _ => return Some("the first thread of a process has ended, and others go on"),
            }
            let mut all = self.tasks.values();
            if all.any(|t| t.tgid != task.tgid && Rc::ptr_eq(&t.space, &task.space)) {
                return Some("processes share all of their memory");
            }
        }
        None
    }

    /// All tasks are together: ends the part, and begins the next, if each task stands where that can be
    /// done.
    pub(super) fn next_part(&mut self, held: &[u32]) -> Result<()> {
        let stands = |task: &Task| {
            let ready = [Ready::Resume, Ready::Dispatch, Ready::Relaunch].map(State::Ready);
            held.contains(&task.id) && ready.contains(&task.state)
        };
        let together = self.tasks.values().all(|task| stands(task));
        if !together || self.find_hindrance().is_some() {
            self.part.not_before = Instant::now() + LATER;
            return Ok(());
        }
        let Some(parts) = &mut self.options.parts else {
            return Ok(());
        };
        let log = match create_log(&parts.next()) {
            Ok(log) => log,
            Err(error) => {
                self.part.not_before = Instant::now() + 10 * LATER;
                self.warn_once(format!("{error}; the recording goes on in the log before"));
                return Ok(());
            }
        };
        self.clear_copies()?;
        self.look_at_copies();
        self.bookmark(gather::Cause::Periodic);
        self.log.drain_all();
        let events = self.stats.events;
        self.log.append(scribe_log::META, |buf| {
            scribe_log::begin_detached(buf, events).finish();
        });
        let before = self.log.replace(log);
        self.forget_logged();
        self.write_beginning()?;
        let age = self.part.began.elapsed();
        self.part = Part::new();
        // The program does not wait for that.
        let thread =
            scribe_log::without_signals(|| std::thread::spawn(move || journal::finish(before)));
        self.part.closing = Some((thread, age));
        Ok(())
    }

    /// Takes note that the part before is complete; waits for that if `wait`.
    pub(super) fn close_former(&mut self, wait: bool) {
        let closing = self.part.closing.take();
        let Some((thread, age)) = closing else {
            return;
        };
        if !wait && !thread.is_finished() {
            self.part.closing = Some((thread, age));
            return;
        }
        // A full disk ends the former part early, no more.
        if let Ok(Err(error)) = thread.join() {
            self.warn_once(format!(
                "the former part of the log is not complete: {error}"
            ));
        }
        if let Some(parts) = &mut self.options.parts {
            parts.closed(age);
        }
    }

    /// Takes away what is left of copies of processes, while all tasks stand still.
    pub(super) fn clear_copies(&mut self) -> Result<()> {
        let tasks = &self.tasks;
        let of = |process: Tid| {
            let mut all = tasks.values();
            let task = all.find(|task| task.tgid == process && task.state != State::Exiting)?;
            Some((task.tid, task.app))
        };
        Ok(self.copies.clear(&mut self.machine, of)?)
    }

    /// What was in the log is not in the next one.
    fn forget_logged(&mut self) {
        self.files.forget_known();
        self.taker.forget();
        if let Some(shared) = &self.shared {
            shared.forget_files();
        }
        self.serial = 0;
    }

    /// Writes the head of a log that begins here.
    fn write_beginning(&mut self) -> Result<()> {
        let members = self.by_process();
        let first = |tasks: &Vec<u32>| {
            let leader = self.task(tasks[0]);
            (leader.id, leader.ids.own(), leader.lane)
        };
        let roots: Vec<_> = members.iter().map(first).collect();
        self.write_start(&roots);
        // The task in each lane that the log is about.
        let mut current: HashMap<u32, u32> = HashMap::new();
        for (task, _, lane) in &roots {
            current.entry(*lane).or_insert(*task);
        }
        let mut patched = Vec::new();
        for tasks in &members {
            let task = self.task(tasks[0]);
            let (tid, app, space) = (task.tid, task.app, task.space.clone());
            // The agent moves it without a word to us.
            let brk = self.machine.inject(tid, &app, libc::SYS_brk, [0; 6])?;
            self.take_strays(tasks[0])?;
            space.brk.set(brk as u64);
            let sites = space.sites.borrow_mut().take_out(&space.mem);
            for task in tasks {
                // As the replay gives it to the task: which parts of it are in use shows in memory.
                crate::regs::begin_xstate(self.machine.stopped(self.task(*task).tid)?)?;
            }
            self.write_snapshot(tasks)?;
            patched.push(sites);
        }
        for (tasks, sites) in members.iter().zip(patched) {
            let (leader, space) = (tasks[0], self.task(tasks[0]).space.clone());
            let done = space.sites.borrow_mut().patch(&space.mem, &sites, None)?;
            if done.is_empty() {
                continue;
            }
            let lane = self.task(leader).lane;
            if current.insert(lane, leader) != Some(leader) {
                let flags = 0;
                self.write(
                    lane,
                    &Record::Switch {
                        task: leader,
                        flags,
                    },
                );
            }
            let sites = crate::agent::encode_sites(&done).into();
            let flags = scribe_log::patch::HERE;
            self.write(lane, &Record::Patch { flags, sites });
        }
        for (lane, task) in current {
            if let Some(lane) = self.lanes.get(&lane) {
                lane.area.token.restart(task);
            }
        }
        self.hash_inputs_anew();
        Ok(())
    }

    /// Calls that are made again: at replay their input is that of the snapshot, to which poll(2) and
    /// select(2) may have written when they were interrupted.
    fn hash_inputs_anew(&mut self) {
        for task in self.tasks.values_mut() {
            let space: Rc<AddressSpace> = task.space.clone();
            if let Some(call) = &mut task.call {
                call.hash = input_hash(call.row, &call.call, &call.plan, &Pages::new(&space.mem));
            }
        }
    }
}
