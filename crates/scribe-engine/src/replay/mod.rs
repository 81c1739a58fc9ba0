//! The replayer: runs the recorded program again and answers it from the log.
//!
//! Each lane is a list of records in total order. The program's segments run natively; at each sync
//! point the task stops, the record at the head of its lane says what happens, and whether what it
//! asks for is what it asked for then. Lanes run in parallel. Nothing that a replayed task does
//! reaches the system, except what shapes its own address space and tasks.

mod agent;
mod aio;
mod bookmark;
mod calls;
mod divergence;
mod exec;
mod files;
mod forced;
mod live;
mod memory;
mod snapshot;
mod tracer;
mod turns;

pub use divergence::{Divergence, Reason, StackFrame, SyncPoint};
pub use live::{LiveFiles, LiveOptions, LivePoint};

use crate::agent::{Shared, TaskSlot};
use crate::cpu::{Cpuid, Trapped};
use crate::machine::{Go, Machine, si_code};
use crate::record::Outcome;
use crate::record::signals::{
    AT_ENTRY, HandlerEntry, RETURNS, SYNC, enter_handler, is_synchronous, returns,
};
use crate::state::AddressSpace;
use files::ReplayFiles;
use scribe_abi::{AGENT_BASE, ENTRY_SYSCALL};
use scribe_kernel::signal::frame::FaultInfo;
use scribe_kernel::signal::{Action, AltStack, Dispositions};
use scribe_log::{LaneReader, LogReader, Record, Section, action, flags, patch, place};
use scribe_syscalls::Call;
use scribe_tracee::inject::{call_args, call_regs};
use scribe_tracee::{Event, Regs, Stop, Tid, WaitEvent};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

/// Takes what the program wrote: 1 standard output, 2 standard error.
pub type Output = Box<dyn FnMut(u8, &[u8])>;

/// How to replay.
pub struct ReplayOptions {
    /// Compare registers and memory wherever the recording stored hashes.
    pub verify: bool,
    /// How many events of the diverging task are reported.
    pub backlog: usize,
    /// All calls by trap, none in the process.
    pub no_agent: bool,
    /// Use PTRACE_SYSEMU even where Syscall User Dispatch exists.
    pub no_sud: bool,
    /// Put the memory behind every hash into this directory: for finding what differs.
    pub dump: Option<std::path::PathBuf>,
    /// End at the bookmark with this number.
    pub to: Option<u32>,
    /// Turn live. The caller must have one thread only, and is moved to other namespaces.
    pub live: Option<LiveOptions>,
    /// Ends the replay when it is set; whoever sets it interrupts what waits.
    pub interrupt: Option<&'static std::sync::atomic::AtomicBool>,
    /// Receives what the program wrote: 1 standard output, 2 standard error.
    pub output: Output,
    /// Messages for the user.
    pub warn: Box<dyn FnMut(&str)>,
}

/// Why a replay ended before the recording did.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The replay did something other than the recording.
    #[error("{0}")]
    Divergence(Box<Divergence>),
    /// No task can go on.
    #[error("the replay is deadlocked: {0}")]
    Deadlock(String),
    /// The log cannot be read.
    #[error("the log cannot be replayed: {0}")]
    Log(String),
    /// A file that the recording used is missing or not the same.
    #[error("{0}")]
    File(String),
    /// This machine cannot run the program as it was recorded.
    #[error(
        "this CPU lacks what the recorded program was told it has ({0}); replay on a CPU of the recording's kind"
    )]
    Cpu(String),
    /// The replay cannot turn live.
    #[error("{0}")]
    Live(String),
    /// Tracing failed.
    #[error("tracing failed: {0}")]
    Trace(#[from] scribe_tracee::Error),
    /// The replay could not be set up.
    #[error("{what}: {error}")]
    Setup {
        /// The step.
        what: String,
        /// Why.
        error: std::io::Error,
    },
}

type Result<T> = std::result::Result<T, ReplayError>;

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the recording, whose root program ended like this.
    Complete(Outcome),
    /// At the end of a log that was cut off.
    Cut,
    /// At this bookmark.
    Bookmark(u32),
    /// At this bookmark, where its tasks became a normal program.
    Live(u32),
    /// [`ReplayOptions::interrupt`] was set, behind this bookmark.
    Asked(u32),
}

/// Figures of a replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayStats {
    /// Events replayed.
    pub events: u64,
    /// Those of them that agents answered, without a stop.
    pub fast: u64,
    /// Hashes compared.
    pub verified: u64,
    /// ptrace stops.
    pub stops: u64,
    /// Forced stops found again.
    pub forced: u64,
    /// How often their place was passed in vain, so that the engine had to look.
    pub misses: u64,
}

/// A place where a task has stopped and waits for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sync {
    Call(Call),
    Fault(i32, [u8; 128]),
    /// One instruction on.
    Step,
    Instruction(Trapped, u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Runs application code.
    Running,
    /// At a sync point whose event is done.
    Idle,
    /// At a sync point.
    Arrived(Sync),
    /// In exec, whose record is still at the head of the lane.
    Execing,
}

struct Task {
    id: u32,
    tid: Tid,
    tgid: Tid,
    /// Process id of the recording.
    pid: i32,
    /// Thread id of the recording.
    recorded_tid: i32,
    lane: u32,
    state: State,
    app: Regs,
    mask: u64,
    alt: AltStack,
    sighand: Rc<RefCell<Dispositions>>,
    space: Rc<AddressSpace>,
    fault: FaultInfo,
    instructions: (bool, bool),
    /// It executes one instruction only.
    stepping: bool,
    /// The point that it is to be stopped at.
    search: Option<forced::Search>,
    /// The mask that its call had installed when signals interrupted it.
    temporary: Option<u64>,
    history: VecDeque<Rc<[u8]>>,
    /// What it shares with its agent.
    area: Option<TaskSlot>,
}

struct Lane {
    reader: LaneReader,
    /// What was read ahead, for agents.
    ahead: agent::Ahead,
    current: u32,
    /// The next record, encoded, if it was read already.
    head: Option<Rc<[u8]>>,
    /// Content of `Data` records that belong to the next record.
    data: Vec<(u64, Vec<u8>)>,
    ended: bool,
}

/// A replay in progress.
pub struct Replayer {
    machine: Machine,
    log: LogReader,
    options: ReplayOptions,
    tasks: HashMap<u32, Box<Task>>,
    by_tid: HashMap<Tid, u32>,
    /// Tasks that have ended.
    gone: HashSet<u32>,
    lanes: BTreeMap<u32, Lane>,
    /// Lanes to look at.
    ready: VecDeque<u32>,
    early: Vec<WaitEvent>,
    cpuid: Cpuid,
    xstate: scribe_kernel::xstate::XstateLayout,
    agent_image: std::fs::File,
    /// Memory shared with the agents, unless the fast path is off.
    shared: Option<Rc<Shared>>,
    files: ReplayFiles,
    /// Memory of files that replayed processes share, by the number in their mappings.
    backing: HashMap<u32, std::fs::File>,
    /// Process id of the first process, here.
    root: Tid,
    outcome: Option<i32>,
    /// Terminal output that came before its turn: by serial.
    held: BTreeMap<u64, (u8, Vec<u8>)>,
    shown: u64,
    stats: ReplayStats,
    cut: bool,
    bookmarks: bookmark::Bookmarks,
    live: Option<live::Live>,
    /// Descriptors of their programs in processes that are being brought to life, by their first tasks.
    exes: HashMap<u32, i32>,
}

impl Replayer {
    /// Replays to the end.
    pub fn run(&mut self) -> Result<Ending> {
        let mut result = self.run_loop();
        let alive = self
            .bookmarks
            .at
            .filter(|_| result.is_ok() && self.live.is_some());
        if alive.is_some() {
            result = self.go_live();
        }
        self.kill_all();
        self.stats.stops = self.machine.stops;
        let held = std::mem::take(&mut self.held);
        if result.is_ok() {
            for (stream, bytes) in held.into_values() {
                (self.options.output)(stream, &bytes);
            }
        }
        result?;
        if let Some(id) = alive {
            return Ok(Ending::Live(id));
        }
        if self.interrupted() {
            return Ok(Ending::Asked(self.bookmarks.last()));
        }
        if let Some(id) = self.bookmarks.at {
            return Ok(Ending::Bookmark(id));
        }
        let end = self.log.end().ok().flatten();
        match self.outcome {
            _ if end.is_some_and(|end| end.detached) => Ok(Ending::Complete(Outcome::Detached)),
            Some(status) if !self.cut => Ok(Ending::Complete(Outcome::from_wait(status))),
            _ => Ok(Ending::Cut),
        }
    }

    /// Figures so far.
    pub fn stats(&self) -> ReplayStats {
        self.stats
    }

    fn run_loop(&mut self) -> Result<()> {
        loop {
            while let Some(lane) = self.ready.pop_front() {
                let done = self.advance(lane);
                self.survive(done)?;
            }
            if self.tasks.is_empty() || self.at_bookmark() || self.interrupted() {
                return Ok(());
            }
            if !self.machine.has_pending() && !self.goes_on() {
                if self.cut || self.lanes.values().all(|lane| lane.ended) {
                    return Ok(());
                }
                return Err(ReplayError::Deadlock(self.describe_deadlock()));
            }
            let event = match self.machine.next(true) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(scribe_tracee::Error::Gone) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let done = self.on_event(event);
            self.survive(done)?;
        }
    }

    fn interrupted(&self) -> bool {
        let flag = self.options.interrupt;
        flag.is_some_and(|flag| flag.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn survive(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(ReplayError::Trace(scribe_tracee::Error::Gone)) => Ok(()),
            other => other,
        }
    }

    fn describe_deadlock(&self) -> String {
        let lanes = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.ended)
            .map(|(id, lane)| {
                let task = self.tasks.get(&lane.current);
                let state = task.map_or("gone".to_owned(), |task| format!("{:?}", task.state));
                let head = lane.head.as_ref().and_then(|head| {
                    Record::decode(head)
                        .ok()
                        .map(|(record, _)| format!("{record:?}"))
                });
                format!(
                    "lane {id}: task {} is {state}, next record {head:.200?}",
                    lane.current
                )
            });
        lanes.collect::<Vec<_>>().join("; ")
    }

    /// Ends all replayed tasks.
    fn kill_all(&mut self) {
        for task in self.tasks.values() {
            scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
        }
        // Of a replay that turns live there is another child, which stays.
        while self.live.is_none() || !self.machine.is_empty() {
            let Ok(Some(event)) = self.machine.next(true) else {
                return;
            };
            if event.is_stop() {
                let _ = self.machine.go(event.tid, Go::Agent, 0);
            } else {
                self.machine.remove(event.tid);
            }
        }
    }

    fn on_event(&mut self, event: WaitEvent) -> Result<()> {
        let Some(&id) = self.by_tid.get(&event.tid) else {
            match event.stop {
                // A thread took its leader's id.
                Stop::Event(Event::Exec) if self.machine.knows(event.tid) => {
                    return self.on_exec(event.tid);
                }
                _ if !event.is_stop() => self.machine.remove(event.tid),
                _ if self.machine.knows(event.tid) => self.machine.go(event.tid, Go::Agent, 0)?,
                _ => self.early.push(event),
            }
            return Ok(());
        };
        // The lane may have gone through the hands of others meanwhile.
        let lane = self.task(id).lane;
        self.catch_up(lane);
        let task = self.task_mut(id);
        if let Some(area) = task.area.as_ref().filter(|_| task.state == State::Running) {
            // Its agent may have changed them.
            task.mask = area.mask.load(std::sync::atomic::Ordering::Relaxed);
            crate::agent::take_actions(area, &task.sighand);
        }
        match event.stop {
            Stop::Signal(signal) => self.on_signal_stop(id, signal),
            Stop::Syscall => self.on_syscall_stop(id),
            Stop::Event(Event::Exec) => self.on_exec(event.tid),
            Stop::Event(_) => Ok(self.machine.go(event.tid, self.way(id), 0)?),
            Stop::Exited(_) | Stop::Killed(..) => {
                // Only what the log says ends a task; whatever else killed it ended the replay of
                // its lane.
                let text = match event.stop {
                    Stop::Killed(signal, _) => format!("it was killed by signal {signal}"),
                    _ => "it ended".to_owned(),
                };
                self.machine.remove(event.tid);
                Err(self.diverged(id, Reason::Died(text)))
            }
            Stop::Continued => Ok(()),
        }
    }

    fn way(&self, id: u32) -> Go {
        if self.task(id).state == State::Running {
            Go::Application
        } else {
            Go::Agent
        }
    }

    fn on_syscall_stop(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let tid = task.tid;
        if self.machine.sud || task.state != State::Running {
            return Ok(self.machine.go(tid, self.way(id), 0)?);
        }
        let mut regs = self.machine.stopped(tid)?.regs()?;
        regs.rax = regs.orig_rax;
        self.arrive_at_call(id, regs)
    }

    fn arrive_at_call(&mut self, id: u32, mut regs: Regs) -> Result<()> {
        regs.orig_rax = u64::MAX;
        let task = self.task_mut(id);
        task.app = regs;
        let call = Call {
            nr: regs.rax as u32,
            args: call_args(&regs),
        };
        task.state = State::Arrived(Sync::Call(call));
        let lane = task.lane;
        self.ready.push_back(lane);
        Ok(())
    }

    fn on_signal_stop(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let tid = task.tid;
        let stopped = self.machine.stopped(tid)?;
        let info = stopped.siginfo()?;
        if task.state != State::Running {
            let way = self.way(id);
            return Ok(self.machine.go(tid, way, 0)?);
        }
        if self.signal_in_agent(id, signal, &info)? {
            return Ok(());
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        if task.search.is_some() && is_synchronous(signal, &info) {
            if self.on_search_stop(id, signal)? {
                return Ok(());
            }
            self.missed(id)?;
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let stopped = self.machine.stopped(tid)?;
        if crate::machine::is_foreign_call(signal, &info) {
            let mut regs = stopped.regs()?;
            regs.rax = -i64::from(libc::ENOSYS) as u64;
            task.app = regs;
            return self.resume(id);
        }
        if signal == libc::SIGSYS && si_code(&info) == 2 {
            let regs = stopped.regs()?;
            return self.arrive_at_call(id, regs);
        }
        if !is_synchronous(signal, &info) {
            // From the outside (a terminal's Ctrl-C, say): no business of the recorded program.
            return self.go_application(id);
        }
        let mut regs = stopped.regs()?;
        regs.orig_rax = u64::MAX;
        task.app = regs;
        if signal == libc::SIGTRAP && si_code(&info) == libc::TRAP_TRACE && self.stepped(id) {
            return Ok(());
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        task.state = State::Arrived(Sync::Fault(signal, info));
        if signal == libc::SIGSEGV && si_code(&info) == libc::SI_KERNEL {
            let mut code = [0; 15];
            let got = task.space.mem.read_some(regs.rip, &mut code);
            if let Some((which, length)) = Trapped::decode(&code[..got]) {
                let (tsc, cpuid) = task.instructions;
                if which == Trapped::Cpuid && cpuid {
                    // From the table: no event.
                    self.cpuid.fill(&mut task.app);
                    task.app.rip += length;
                    if self.stepped(id) {
                        return Ok(());
                    }
                    return self.resume(id);
                }
                if which != Trapped::Cpuid && tsc {
                    task.state = State::Arrived(Sync::Instruction(which, length));
                }
            }
        }
        let lane = self.task(id).lane;
        self.ready.push_back(lane);
        Ok(())
    }

    // ---- lanes ----

    /// Makes sure that the lane's next record is in `head`; false at its end.
    fn fetch(&mut self, lane_id: u32) -> Result<bool> {
        self.catch_up(lane_id);
        let Some(lane) = self.lanes.get_mut(&lane_id) else {
            return Ok(false);
        };
        if lane.ended {
            return Ok(false);
        }
        match lane.fetch() {
            Ok(true) => Ok(true),
            Ok(false) => {
                lane.ended = true;
                Ok(false)
            }
            Err(error) => {
                (self.options.warn)(&format!(
                    "the log is damaged: {error}; the replay ends there"
                ));
                lane.ended = true;
                self.cut = true;
                Ok(false)
            }
        }
    }

    fn consume(&mut self, lane_id: u32) -> Option<Rc<[u8]>> {
        self.stats.events += 1;
        let lane = self.lanes.get_mut(&lane_id)?;
        let record = lane.take()?;
        let current = lane.current;
        let backlog = self.options.backlog;
        if let Some(task) = self.tasks.get_mut(&current) {
            if task.history.len() >= backlog.max(1) {
                task.history.pop_front();
            }
            if record.len() <= 1 << 16 {
                task.history.push_back(record.clone());
            }
        }
        Some(record)
    }

    /// Takes the lane as far as it goes without application code.
    fn advance(&mut self, lane_id: u32) -> Result<()> {
        loop {
            // Its agent may be reading ahead.
            if self.runs(lane_id) {
                return Ok(());
            }
            if !self.fetch(lane_id)? {
                return self.at_end(lane_id);
            }
            let Some(lane) = self.lanes.get(&lane_id) else {
                return Ok(());
            };
            let current = lane.current;
            let bytes = lane.head.clone().expect("fetched");
            let (record, _) =
                Record::decode(&bytes).map_err(|error| ReplayError::Log(error.to_string()))?;
            let state = self
                .tasks
                .get(&current)
                .filter(|task| task.lane == lane_id)
                .map(|task| task.state);
            if concerns_others(&record) && self.recall(lane_id) {
                return Ok(());
            }
            match (&record, state) {
                (Record::Data { addr, bytes }, _) => {
                    let lane = self.lanes.get_mut(&lane_id).expect("the lane exists");
                    lane.data.push((*addr, bytes.to_vec()));
                    lane.take();
                }
                (Record::Switch { task, flags }, state) => {
                    let in_call = flags & flags::PREV_IN_CALL != 0;
                    match state {
                        // It stands in its agent, at its next call.
                        Some(State::Running) if in_call && lane.ahead.asked => {}
                        Some(State::Running | State::Execing) => return Ok(()),
                        Some(State::Idle) if in_call => return self.resume(current),
                        Some(State::Arrived(_)) if !in_call => {
                            return Err(self.diverged(current, Reason::RanOn));
                        }
                        _ => {}
                    }
                    // The next task may still have to come from another lane. One that ended with
                    // its process got the token, and gave it back, on its way out.
                    let here = self.tasks.get(task).map(|next| next.lane == lane_id);
                    if !here.unwrap_or_else(|| self.gone.contains(task)) {
                        return Ok(());
                    }
                    let task = *task;
                    self.consume(lane_id);
                    self.lanes
                        .get_mut(&lane_id)
                        .expect("the lane exists")
                        .current = task;
                    if self.give_turn(lane_id) {
                        return Ok(());
                    }
                }
                (Record::Exit(exit), state) if exit.flags & ASYNC != 0 => {
                    let (task, status) = (exit.task, exit.status);
                    if exit.flags & AT_CALL != 0 && task == current {
                        match state {
                            Some(State::Running | State::Execing) => return Ok(()),
                            Some(State::Idle) => return self.resume(current),
                            _ => {}
                        }
                    }
                    if let Some(task) = self.tasks.get(&task) {
                        for (addr, bytes) in exit.sections.outs() {
                            task.space.mem.write(addr, bytes)?;
                        }
                    }
                    self.consume(lane_id);
                    self.end_process(task, status)?;
                }
                (
                    Record::Bookmark {
                        id,
                        time,
                        tasks,
                        text,
                    },
                    _,
                ) => {
                    return self.bookmark(lane_id, (*id, *time, text), tasks);
                }
                (Record::Note { .. } | Record::Gap { .. } | Record::Objects { .. }, _) => {
                    self.consume(lane_id);
                }
                // It left by exec, and comes back by a merge: both without another task in between.
                (_, None) if self.tasks.contains_key(&current) => return Ok(()),
                // Of a thread on its way out, behind the end of its process: it had no effect.
                (_, None) if self.gone.contains(&current) => {
                    self.consume(lane_id);
                }
                (_, None) => {
                    return Err(ReplayError::Log(format!(
                        "lane {lane_id} has a record for task {current}, which has ended"
                    )));
                }
                (_, Some(State::Running | State::Execing)) => return Ok(()),
                (Record::Patch { flags, sites }, Some(State::Idle | State::Arrived(_))) => {
                    if state == Some(State::Idle) && flags & patch::HERE == 0 {
                        return self.resume(current);
                    }
                    self.consume(lane_id);
                    self.patch(current, *flags, sites)?;
                }
                (Record::Merge { into_lane, .. }, Some(State::Arrived(_))) => {
                    let into = *into_lane;
                    self.consume(lane_id);
                    return self.merge(lane_id, into);
                }
                (Record::Signal(signal), Some(State::Idle))
                    if signal.flags & (AT_ENTRY | SYNC) == 0 =>
                {
                    self.consume(lane_id);
                    self.signal(current, signal)?;
                }
                (Record::Forced(forced), Some(State::Idle)) => {
                    return self.seek(current, forced);
                }
                (Record::Tracer(tracer), Some(state)) if tracer.place == place::HERE => {
                    if matches!(state, State::Running | State::Execing) {
                        return Ok(());
                    }
                    self.consume(lane_id);
                    self.tracer_changes(tracer)?;
                }
                (Record::Tracer(tracer), Some(State::Idle)) if tracer.place == place::STEP => {
                    return self.step(current);
                }
                (_, Some(State::Idle)) => return self.resume(current),
                (_, Some(State::Arrived(sync))) => {
                    if matches!(record, Record::Exec(_)) {
                        return self.begin_exec(current, sync);
                    }
                    self.consume(lane_id);
                    self.apply(current, sync, &record)?;
                }
            }
        }
    }

    /// Whether the lane's task runs application code, or another that this one gave the lane to.
    fn runs(&self, lane_id: u32) -> bool {
        let Some(lane) = self.lanes.get(&lane_id).filter(|lane| !lane.ahead.asked) else {
            return false;
        };
        let task = self.tasks.get(&lane.current);
        task.is_some_and(|task| task.lane == lane_id && task.state == State::Running)
    }

    /// No more records in this lane.
    fn at_end(&mut self, lane_id: u32) -> Result<()> {
        let unfinished: Vec<u32> = self
            .tasks
            .values()
            .filter(|task| task.lane == lane_id)
            .map(|task| task.id)
            .collect();
        if unfinished.is_empty() {
            return Ok(());
        }
        self.cut = true;
        for id in unfinished {
            self.end_task(id, true, 0)?;
        }
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        for task in self.tasks.values_mut().filter(|task| task.lane == from) {
            task.lane = into;
        }
        self.lanes.remove(&from);
        self.ready.push_back(into);
        let moved: Vec<u32> = self
            .tasks
            .values()
            .filter(|task| task.lane == into)
            .map(|task| task.id)
            .collect();
        for id in moved {
            self.agent_for(id)?;
        }
        Ok(())
    }

    /// Lets application code go on from the sync point.
    fn resume(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.state = State::Running;
        task.temporary = None;
        let (tid, mut app) = (task.tid, task.app);
        app.rip = task.space.sites.borrow().resume(app.rip);
        self.lend_to_agent(id);
        self.machine.stopped(tid)?.set_regs(&app)?;
        self.go_application(id)
    }

    /// A record for a task that stands at a sync point.
    fn apply(&mut self, id: u32, sync: Sync, record: &Record) -> Result<()> {
        match (sync, record) {
            (Sync::Call(call), Record::Syscall(event)) => self.call(id, call, event),
            (Sync::Call(call), Record::Exit(exit)) => {
                let expected = [libc::SYS_exit as u32, libc::SYS_exit_group as u32];
                if exit.flags & AT_CALL == 0 && !expected.contains(&call.nr) {
                    return Err(self.diverged(id, Reason::OtherRecord(sync.into())));
                }
                for (addr, bytes) in exit.sections.outs() {
                    self.task(id).space.mem.write(addr, bytes)?;
                }
                let group = exit.flags & flags::GROUP != 0;
                let last = !self
                    .tasks
                    .values()
                    .any(|t| t.tgid == self.task(id).tgid && t.id != id);
                if group || last {
                    self.end_process(id, exit.status)
                } else {
                    self.end_task(id, false, 0)
                }
            }
            (Sync::Call(_), Record::Signal(signal)) if signal.flags & AT_ENTRY != 0 => {
                self.task_mut(id).app.rip -= 2;
                self.signal(id, signal)
            }
            (Sync::Fault(signo, _), Record::Signal(signal))
                if signal.flags & SYNC != 0 && i32::from(signal.signo) == signo =>
            {
                self.signal(id, signal)
            }
            (
                Sync::Instruction(which, length),
                Record::Instr {
                    which: recorded,
                    values,
                },
            ) if which as u16 == *recorded => {
                let app = &mut self.task_mut(id).app;
                let tsc = values.get(0).unwrap_or(0);
                (app.rax, app.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
                if which == Trapped::Rdtscp {
                    app.rcx = values.get(1).unwrap_or(0);
                }
                app.rip += length;
                self.task_mut(id).state = State::Idle;
                Ok(())
            }
            (sync, Record::Tracer(tracer)) => self.tracer(id, sync, tracer),
            (_, Record::Checksum { regs, mem }) => {
                self.verify(id, *regs, *mem, self.options.verify)
            }
            _ => Err(self.diverged(id, Reason::OtherRecord(sync.into()))),
        }
    }

    /// Compares a task's state with hashes; that of its memory only if that is wanted, as it costs most.
    fn verify(
        &mut self,
        id: u32,
        regs: Option<u64>,
        mem: Option<u64>,
        with_memory: bool,
    ) -> Result<()> {
        let task = self.task(id);
        if let (Some(dir), Some(mem)) = (&self.options.dump, mem) {
            // Named by what the recording saw.
            let hashes = (regs.unwrap_or(0), mem);
            let stopped = self.machine.stopped(task.tid)?;
            crate::state::dump(dir, stopped, &task.space.mem, &task.app, hashes);
        }
        if let Some(expected) = regs
            && crate::state::regs_hash(&task.app) != expected
        {
            return Err(self.diverged(id, Reason::Registers));
        }
        if let Some(expected) = mem
            && with_memory
        {
            let task = self.task(id);
            let found = crate::state::memory_hash(task.tid, &task.space.mem);
            if found != expected {
                return Err(self.diverged(id, Reason::Memory));
            }
        }
        self.stats.verified += 1;
        Ok(())
    }

    /// A recorded signal reaches the task.
    fn signal(&mut self, id: u32, signal: &scribe_log::Signal) -> Result<()> {
        let signo = i32::from(signal.signo);
        if signal.action != action::HANDLER {
            if matches!(signal.action, action::TERMINATE | action::CORE) {
                for (addr, bytes) in self.take_data(id) {
                    self.task(id).space.mem.write(addr, &bytes)?;
                }
                return self.end_process(id, signo);
            }
            return Ok(());
        }
        let info = signal.siginfo();
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let temporary = task.temporary.take();
        let Action::Handler(disposition) = task.sighand.borrow().what_to_do(signo as u32) else {
            return Err(self.diverged(id, Reason::NoHandler(signo)));
        };
        task.app.rip = task.app.rip.wrapping_sub(signal.back.into());
        if signal.flags & RETURNS != 0 {
            returns(&task.space.mem, &mut task.app);
        }
        let entered = enter_handler(
            self.machine.stopped(task.tid)?,
            &task.space.mem,
            HandlerEntry {
                signal: signo,
                info: &info,
                disposition: &disposition,
                app: &mut task.app,
                mask: &mut task.mask,
                temporary,
                alt: &mut task.alt,
                sighand: &mut task.sighand.borrow_mut(),
                fault: &mut task.fault,
            },
            &self.xstate,
        )?;
        let task = self.task_mut(id);
        if !entered {
            // No room for the frame: the next record says what came of it.
            task.temporary = temporary;
        }
        task.state = State::Idle;
        Ok(())
    }

    // ---- ends ----

    /// Ends one task.
    fn end_task(&mut self, id: u32, whole: bool, status: i32) -> Result<()> {
        let Some(task) = self.tasks.remove(&id) else {
            return Ok(());
        };
        self.gone.insert(id);
        self.by_tid.remove(&task.tid);
        let nr = if whole {
            libc::SYS_exit_group
        } else {
            libc::SYS_exit
        };
        // Seen by a parent if the replay turns live.
        let args = [(status >> 8 & 0xff) as u64, 0, 0, 0, 0, 0];
        let regs = call_regs(&task.app, AGENT_BASE + ENTRY_SYSCALL, nr as u64, &args);
        // One that is gone already went with another of its process.
        let asked = self
            .machine
            .stopped(task.tid)
            .and_then(|stopped| {
                stopped.end_unseen()?;
                stopped.set_regs(&regs)
            })
            .and_then(|()| self.machine.go(task.tid, Go::Agent, 0));
        if asked.is_err() {
            scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
        }
        Ok(())
    }

    /// Ends all tasks of a process.
    fn end_process(&mut self, id: u32, status: i32) -> Result<()> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(());
        };
        let tgid = task.tgid;
        if tgid == self.root {
            self.outcome = Some(status);
        }
        let all: Vec<u32> = self
            .tasks
            .values()
            .filter(|task| task.tgid == tgid)
            .map(|task| task.id)
            .collect();
        for id in all {
            self.end_task(id, true, status)?;
        }
        Ok(())
    }

    /// Shows terminal output in the order in which it was written.
    fn show(&mut self, stream: u8, serial: u64, bytes: Vec<u8>) {
        self.held.insert(serial, (stream, bytes));
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= self.shown + 1
        {
            self.shown = self.shown.max(*entry.key());
            let (stream, bytes) = entry.remove();
            (self.options.output)(stream, &bytes);
        }
    }

    fn task(&self, id: u32) -> &Task {
        &self.tasks[&id]
    }

    fn task_mut(&mut self, id: u32) -> &mut Task {
        self.tasks.get_mut(&id).expect("the task exists")
    }
}

/// Flag of exit records: the process was killed from outside, wherever it stood.
pub(crate) const ASYNC: u8 = 2;
/// Flag of such records: it had come to its next call. Without [`ASYNC`]: the call ended the thread.
pub(crate) const AT_CALL: u8 = 4;

/// Whether a record may be about more than the state of the task that its lane is at.
fn concerns_others(record: &Record) -> bool {
    matches!(
        record,
        Record::Bookmark { .. } | Record::Merge { .. } | Record::Move { .. } | Record::Tracer(_)
    )
}

/// Unused sections are skipped by their kind.
fn spawn_section(event: &scribe_log::Syscall) -> Option<scribe_log::Spawn> {
    event.sections.iter().find_map(|section| match section {
        Section::Spawn(spawn) => Some(spawn),
        _ => None,
    })
}
