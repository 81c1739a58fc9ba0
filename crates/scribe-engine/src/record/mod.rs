//! The recorder: drives the program, call by call, and writes what replay needs.
//!
//! One thread traces all tasks. A task that is stopped is either at a sync point (its registers
//! are in [`Task::app`]), or on its way there. Domains run in parallel: only the token of a lane
//! keeps tasks of the same lane apart.

mod agent;
mod aio;
mod answers;
mod attach;
mod cache;
mod calls;
mod changes;
mod changing;
mod chaos;
mod death;
mod detach;
mod events;
pub(crate) mod exec;
mod fds;
mod files;
mod forced;
mod gather;
mod hooks;
mod ids;
pub(crate) mod interrupt;
mod iocb;
mod journal;
mod keep;
pub(crate) mod memory;
mod newborn;
mod objects;
mod park;
mod parts;
mod patches;
mod pi;
mod places;
mod placing;
mod ptrace;
pub(crate) mod signals;
mod sleepers;
mod special;
mod start;
mod tasks;
mod token;

pub(crate) use cache::Place as KnownPlace;
pub use gather::Requests;
pub use parts::Parts;
pub(crate) use patches::Text;
pub(crate) use start::agent_file;
pub use start::sud_available;
pub use start::{Checksums, LogTarget, RecordOptions, StartError};

use crate::agent::{LaneMemory, Shared, TaskSlot};
use crate::cpu::{self, Cpuid, Trapped};
use crate::machine::{Go, Machine, si_code};
use crate::state::AddressSpace;
use calls::PendingCall;
use fds::FdCache;
use files::Files;
use journal::Journal;
use scribe_abi::token::Left;
use scribe_abi::{AFTER_SYSCALL, AGENT_BASE, ENTRY_SYSCALL};
use scribe_kernel::seccomp::Seccomp;
use scribe_kernel::signal::frame::FaultInfo;
use scribe_kernel::signal::{AltStack, Dispositions, Mask, SignalQueue};
use scribe_log::{LogWriter, Record, flags};
use scribe_tracee::{Event, Regs, Stop, Tid, WaitEvent};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Why a recording ended early. What was recorded until then is in the log.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The program made a call which the table does not know.
    #[error(
        "the program (process {pid}) made a call that Scribe does not know: {name}; the log holds \
         everything up to it"
    )]
    UnknownCall {
        /// Process id.
        pid: Tid,
        /// Name, or number and command.
        name: String,
    },
    /// The log could not be written.
    #[error(
        "cannot write the log: {0}; the recorded program was ended, the log holds what was written before"
    )]
    Log(String),
    /// A program for another kind of machine.
    #[error("process {0} started a 32-bit program, which Scribe cannot record; the log ends there")]
    Foreign(Tid),
    /// Tracing failed.
    #[error("tracing failed: {0}")]
    Trace(#[from] scribe_tracee::Error),
    /// The program could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

type Result<T> = std::result::Result<T, RecordError>;

/// How the recorded program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By exit with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It goes on; only the recording has ended.
    Detached,
}

impl Outcome {
    /// The exit status that a shell would show.
    pub fn shell_status(self) -> i32 {
        match self {
            Outcome::Exited(status) => status,
            Outcome::Killed(signal) => 128 + signal,
            Outcome::Detached => 0,
        }
    }

    /// From a wait status.
    pub fn from_wait(status: i32) -> Outcome {
        if libc::WIFSIGNALED(status) {
            Outcome::Killed(libc::WTERMSIG(status))
        } else {
            Outcome::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// Figures of a recording.
#[derive(Clone, Debug, Default)]
pub struct RecordStats {
    /// Events written.
    pub events: u64,
    /// Calls recorded, by number.
    pub calls: HashMap<u32, u64>,
    /// ptrace stops handled.
    pub stops: u64,
    /// Times the token of a lane went to another task.
    pub switches: u64,
    /// Tasks that lived.
    pub tasks: u64,
    /// Signals delivered.
    pub signals: u64,
    /// Trapped instructions.
    pub instructions: u64,
    /// Calls that the agents recorded, without a stop.
    pub fast: u64,
    /// Those of `calls` that came to the engine, by number.
    pub slow_calls: HashMap<u32, u64>,
    /// Calls that agents had to pass to the engine, by [`scribe_abi::shared::counter`].
    pub passed: [u64; scribe_abi::shared::counter::COUNT],
    /// Calls from places that cannot be patched, by file and offset.
    pub unpatched: HashMap<String, u64>,
    /// Places of calls that were patched.
    pub patched: u64,
    /// Stops at no sync point, of tasks that waited in a loop.
    pub forced: u64,
    /// How long the whole program stood still, by what for.
    pub still: BTreeMap<&'static str, Still>,
}

/// Times for which the whole program stood still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Still {
    /// How often.
    pub times: u64,
    /// In all.
    pub total: Duration,
    /// The longest of them.
    pub longest: Duration,
}

impl RecordStats {
    fn stood_still(&mut self, what: &'static str, since: Instant) {
        let (still, time) = (self.still.entry(what).or_default(), since.elapsed());
        still.times += 1;
        still.total += time;
        still.longest = still.longest.max(time);
    }
}

/// What a task that waits for the token will do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// Take in the result of its call.
    FinishCall,
    /// Go on in application code.
    Resume,
    /// Deliver a signal before the call that it was about to make.
    AbortCall,
    /// Make the call whose registers it has.
    Dispatch,
    /// Make its call again, which a stop interrupted.
    Relaunch,
    /// Go on from the stop in which its tracer held it.
    Traced,
    /// End, from its exit stop.
    Die,
    /// Go on in the agent, behind a call.
    Agent,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Runs application code and holds the token.
    App,
    /// Runs its call in the agent.
    InCall,
    /// Stopped, waits for the token.
    Ready(Ready),
    /// On the way into a group stop, standing at the agent's trap.
    Stopping,
    /// Stopped for the task that traces it, or until it may write to the memory of another.
    Traced,
    /// On its way out.
    Exiting,
}

/// What the tasks of one thread group share.
struct Process {
    /// Whether its end is already in the log.
    exit_recorded: bool,
}

struct Task {
    id: u32,
    tid: Tid,
    tgid: Tid,
    /// What other pid namespaces call it.
    ids: ids::Ids,
    process: Rc<RefCell<Process>>,
    sighand: Rc<RefCell<Dispositions>>,
    files: Rc<RefCell<FdCache>>,
    space: Rc<AddressSpace>,
    lane: u32,
    state: State,
    /// Application registers at the present sync point.
    app: Regs,
    /// Blocked signals as the application sees them.
    mask: u64,
    alt: AltStack,
    stash: SignalQueue,
    /// The kernel blocks more than the program does; see [`Recorder::keep`].
    keeps: bool,
    call: Option<Box<PendingCall>>,
    slot: Option<u64>,
    /// While the parent waits for a vfork child: the event is written, the call is not over.
    vfork_wait: bool,
    /// How it goes on after the group stop that it is going into.
    after_stop: Ready,
    /// It is in a group stop.
    listening: bool,
    /// Registers of its agent, if that is what goes on then.
    agent_regs: Option<Regs>,
    /// Flags of the clone call that it is making.
    clone_flags: u64,
    /// See [`Task::clear_tid`]: where it has no area.
    clear_tid: u64,
    /// Its run since the last sync point.
    run: forced::Run,
    /// What it shares with its agent.
    area: Option<TaskSlot>,
    /// See [`Task::robust_list`]: where it has no area.
    robust_list: u64,
    /// Filters that the program installed.
    seccomp: Seccomp,
    /// The last fault that became a signal, which later frames show, too.
    fault: FaultInfo,
    /// What the program set with PR_SET_TSC and ARCH_SET_CPUID: (TSC readable, CPUID usable).
    instructions: (bool, bool),
    /// Restartable sequences that it had registered before it was recorded, and has not now.
    rseq: scribe_tracee::Rseq,
    /// How its call was broken off when its recording began (include/linux/errno.h); 0: it is in none,
    /// or that call was made again.
    broken: i64,
}

impl Task {
    /// Whether it waits in a call that the engine carries out.
    fn is_parked(&self) -> bool {
        let call = self.call.as_ref();
        call.is_some_and(|call| matches!(call.kind, calls::Kind::Parked))
    }

    /// Takes over what its agent has made of its mask and its dispositions.
    fn take_mask(&mut self) {
        if self.state == State::App
            && let Some(area) = &self.area
        {
            self.mask = area.mask.load(Relaxed);
            crate::agent::take_actions(area, &self.sighand);
        }
    }

    /// Where the kernel clears the thread id at exit (set_tid_address(2)); 0: nowhere.
    fn clear_tid(&self) -> u64 {
        let area = self.area.as_ref();
        area.map_or(self.clear_tid, |area| area.clear_tid.load(Relaxed))
    }

    /// What tells its address space from others.
    fn space_number(&self) -> u64 {
        Rc::as_ptr(&self.space) as u64
    }

    /// Head of the robust futex list; 0: none.
    fn robust_list(&self) -> u64 {
        let area = self.area.as_ref();
        area.map_or(self.robust_list, |area| area.robust_list.load(Relaxed))
    }

    fn set_exit_words(&mut self, clear_tid: u64, robust_list: u64) {
        (self.clear_tid, self.robust_list) = (clear_tid, robust_list);
        if let Some(area) = &self.area {
            area.clear_tid.store(clear_tid, Relaxed);
            area.robust_list.store(robust_list, Relaxed);
        }
    }

    /// The address that clone's CHILD_SETTID and CHILD_CLEARTID are about.
    fn child_tid_address(&self) -> u64 {
        if self.app.rax as i64 == libc::SYS_clone3 {
            // clone_args.child_tid
            return self.space.mem.read_u64(self.app.rdi + 16).unwrap_or(0);
        }
        self.app.r10
    }
}

struct Lane {
    /// Token and ring, where the tasks' agents see them.
    area: Rc<LaneMemory>,
    waiting: VecDeque<u32>,
    members: BTreeSet<u32>,
    since: Instant,
    woken: sleepers::Woken,
}

impl Lane {
    fn new(task: u32, area: Rc<LaneMemory>) -> Lane {
        Lane {
            area,
            waiting: VecDeque::new(),
            members: BTreeSet::from([task]),
            since: Instant::now(),
            woken: sleepers::Woken::new(),
        }
    }

    /// Tells the agents whether the token has to be given up for calls that wait.
    fn count_members(&self) {
        let crowded = self.members.len() > 1;
        self.area.crowded.store(crowded.into(), Relaxed);
    }
}

/// How long a signal waits for a sync point of a task that computes, unless the user wants something else.
pub const PATIENCE: Duration = Duration::from_millis(5);
/// How long a task keeps the token while others of its lane wait for it, likewise.
pub const TIMESLICE: Duration = Duration::from_millis(20);

/// A recording in progress.
pub struct Recorder {
    machine: Machine,
    log: Journal,
    options: RecordOptions,
    tasks: HashMap<u32, Box<Task>>,
    by_tid: HashMap<Tid, u32>,
    lanes: HashMap<u32, Lane>,
    /// Areas of lanes that were merged into others.
    merged: Vec<Rc<LaneMemory>>,
    next_task: u32,
    /// Whether the program may have made a pid namespace, where tasks have other ids.
    pid_namespaces: bool,
    next_lane: u32,
    /// Names that the program may have changed.
    changes: changes::Changes,
    /// Objects of System V's that it has got.
    ipc: scribe_objects::ipc::Ids,
    /// Describes kernel objects.
    taker: scribe_objects::take::Taker,
    /// The task that writes to the recording's terminal, and those that wait to.
    terminal: Option<u32>,
    terminal_waits: VecDeque<u32>,
    /// Counter behind the `Serial` of events that touch objects shared between processes.
    serial: u64,
    files: Files,
    cpuid: Cpuid,
    /// The counter that the program sees.
    tsc: scribe_abi::shared::Tsc,
    root: Tid,
    outcome: Option<i32>,
    /// Tasks that hold their token and are to be run.
    runnable: VecDeque<u32>,
    newborn: newborn::Newborn,
    /// When to look for leaders that have slipped away.
    next_slipped: Instant,
    stats: RecordStats,
    started: Instant,
    warned: BTreeSet<String>,
    agent_image: std::fs::File,
    /// Memory shared with the agents, unless the fast path is off.
    shared: Option<Rc<Shared>>,
    /// What is known of programs' texts.
    texts: patches::Texts,
    xstate: scribe_kernel::xstate::XstateLayout,
    /// No hash of the memory is taken before then.
    next_checksum: Instant,
    /// The same for hashes at the ends of processes.
    next_end_checksum: Instant,
    /// Shared objects, by device and inode: the lane whose tasks map it, and its number in the log.
    shared_files: HashMap<(u64, u64), (u32, u32)>,
    next_backing: u32,
    /// Whether the clock runs that breaks off waiting for reports.
    ticking: bool,
    /// While it does not: whether there are tasks to look after now and then.
    often: bool,
    /// What the engine waits for in place of the kernel.
    waits: park::Waits,
    /// Which tasks trace which.
    ptrace: ptrace::Ptrace,
    /// Tasks that end, in an order.
    dying: death::Dying,
    /// Processes in the kernel's group stop, or on their way into it.
    group_stopped: HashSet<Tid>,
    /// The dice, if rare schedules are wanted.
    chaos: Option<chaos::Chaos>,
    /// Tasks that are brought together.
    gather: gather::Gather,
    /// The program was let go.
    detached: bool,
    part: parts::Part,
    /// Copies of processes, whose memory is being written.
    copies: attach::copy::Copies,
}

impl Recorder {
    /// Process id of the recorded program.
    pub fn root_pid(&self) -> Tid {
        self.root
    }

    /// How many tasks are being recorded.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Records until all tasks have ended. The result is the root program's end.
    pub fn run(&mut self) -> Result<Outcome> {
        self.tick_slowly();
        let result = self.run_loop();
        if result.is_err() {
            self.kill_all();
        }
        result
    }

    fn run_loop(&mut self) -> Result<Outcome> {
        loop {
            while let Some(id) = self.runnable.pop_front() {
                let done = self.run_ready(id);
                self.survive(done)?;
            }
            self.retry_later()?;
            if self.asked_for() {
                self.take_requests();
            }
            if self.runnable.is_empty() && self.gather.is_on() {
                self.gather_step()?;
            }
            if self.detached {
                return Ok(Outcome::Detached);
            }
            if !self.runnable.is_empty() {
                continue;
            }
            if let Some(error) = self.log.error() {
                return Err(RecordError::Log(error.to_string()));
            }
            let event = match self.machine.next(true) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.look_around()?;
                    continue;
                }
                Err(scribe_tracee::Error::Gone) => break,
                Err(error) => return Err(error.into()),
            };
            let done = self.on_event(event);
            self.survive(done)?;
            if self.tasks.is_empty() && self.outcome.is_some() {
                break;
            }
        }
        Ok(Outcome::from_wait(self.outcome.unwrap_or(0)))
    }

    /// That a task is gone is no error: its end is reported by the kernel and handled then.
    fn survive(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(RecordError::Trace(scribe_tracee::Error::Gone)) => Ok(()),
            other => other,
        }
    }

    fn kill_all(&mut self) {
        for task in self.tasks.values() {
            scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
        }
        while let Ok(Some(event)) = self.machine.next(true) {
            if event.is_stop() {
                let _ = self.machine.go(event.tid, Go::Agent, 0);
            }
        }
    }

    fn task(&self, id: u32) -> &Task {
        &self.tasks[&id]
    }

    fn task_mut(&mut self, id: u32) -> &mut Task {
        self.tasks.get_mut(&id).expect("the task exists")
    }

    fn write(&mut self, lane: u32, record: &Record) {
        self.stats.events += 1;
        self.log.append(lane, |buf| record.encode(buf));
    }

    fn warn_once(&mut self, text: String) {
        if self.warned.insert(text.clone()) {
            (self.options.warn)(&text);
        }
    }

    /// Says so if memory could not be written to the log.
    fn look_at_copies(&mut self) {
        if self.copies.failed() {
            self.warn_once(
                "the memory with which the log begins could not be written to it: somebody killed the copy of \
                 the process from which it was read; the log cannot be replayed"
                    .into(),
            );
        }
    }

    /// Ends the log; call after [`Recorder::run`].
    pub fn finish(mut self) -> Result<(RecordStats, scribe_log::Stats)> {
        self.stats.stops = self.machine.stops;
        self.close_former(true);
        self.copies.finish();
        self.look_at_copies();
        self.log.drain_all();
        self.texts.save();
        self.files.save();
        let (events, switches, calls) = self.log.figures();
        self.stats.slow_calls = self.stats.calls.clone();
        self.stats.events += events;
        self.stats.fast = calls.values().sum();
        self.stats.switches += switches;
        for (nr, count) in calls {
            *self.stats.calls.entry(nr).or_default() += count;
        }
        if let Some(status) = self.outcome.or(self.detached.then_some(0)) {
            let events = self.stats.events;
            self.log
                .append(scribe_log::META, |buf| match self.detached {
                    true => scribe_log::begin_detached(buf, events).finish(),
                    false => scribe_log::begin_end(buf, status, events).finish(),
                });
        }
        let stats = self
            .log
            .finish()
            .map_err(|error| RecordError::Log(error.to_string()))?;
        Ok((self.stats, stats))
    }
}

/// `si_code` of a SIGSYS from Syscall User Dispatch; include/uapi/asm-generic/siginfo.h.
const SYS_USER_DISPATCH: i32 = 2;
