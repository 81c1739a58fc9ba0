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
mod ends;
mod exec;
mod files;
mod forced;
mod lanes;
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
    /// When it is set ([`ask`]) the replay ends, if it could turn live at a bookmark that lies ahead.
    pub interrupt: Option<&'static std::sync::atomic::AtomicBool>,
    /// Receives what the program wrote: 1 standard output, 2 standard error.
    pub output: Output,
    /// Messages for the user.
    pub warn: Box<dyn FnMut(&str)>,
}

/// Sets [`ReplayOptions::interrupt`]. Async-signal-safe, in the thread of the replay, which looks soon: also when it was
/// about to wait just now.
pub fn ask(interrupt: &std::sync::atomic::AtomicBool) {
    interrupt.store(true, std::sync::atomic::Ordering::Relaxed);
    crate::point::tick(Some(std::time::Duration::from_millis(20)));
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
    #[error("{what}: {error}{}", crate::limits::hint(error))]
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
    /// How long it took to make a living program of the tasks, once they stood at the bookmark.
    pub birth: std::time::Duration,
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
        let asked = self.interrupted();
        let held = std::mem::take(&mut self.held);
        // What comes before it is still to come, if the replay begins anew.
        if result.is_ok() && !asked {
            for (stream, bytes) in held.into_values() {
                (self.options.output)(stream, &bytes);
            }
        }
        result?;
        if let Some(id) = alive {
            return Ok(Ending::Live(id));
        }
        if asked {
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

    /// Whether somebody wants it to turn live, and it can.
    fn interrupted(&mut self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(flag) = self.options.interrupt.filter(|flag| flag.load(Relaxed)) else {
            return false;
        };
        crate::point::tick(None);
        if live::lies_ahead(&self.log, self.bookmarks.last()) {
            return true;
        }
        flag.store(false, Relaxed);
        (self.options.warn)(
            "no bookmark lies ahead at which it could turn live; the replay goes on",
        );
        false
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
                    if !self.stepped_by_flag(id) {
                        return self.resume(id);
                    }
                    let lane = self.task(id).lane;
                    self.ready.push_back(lane);
                    return Ok(());
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

    /// Behind an instruction that the engine has carried out: whether the program steps by itself, so that
    /// it is trapped here.
    fn stepped_by_flag(&mut self, id: u32) -> bool {
        let task = self.task_mut(id);
        let stepped = task.app.eflags & crate::cpu::TRAP_FLAG != 0;
        if stepped {
            let info = crate::cpu::trap_info(task.app.rip);
            task.state = State::Arrived(Sync::Fault(libc::SIGTRAP, info));
        }
        stepped
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
