//! ptrace(2) among recorded tasks. All of them are traced by Scribe already, so the kernel would
//! refuse: the recorder is the tracer's kernel instead. A tracee stops for its tracer at sync
//! points only, where it simply is not let go; what the tracer changes is written to the tracee's
//! own lane ([`scribe_log::Tracer`]), so that replay needs to know nothing of tracers: their calls
//! are answered from the log, and their tracees' streams say what happened to those.
//!
//! Sources: ptrace(2); kernel/ptrace.c, kernel/signal.c, kernel/exit.c, arch/x86/kernel/ptrace.c.

mod memory;
mod registers;
mod requests;
mod stops;
mod wait;

use super::*;
use std::collections::BTreeMap;

pub(super) use memory::Later;
pub(super) use wait::{finds_ended, honest_siginfo, honest_signalfd, is_of_exit};

/// `PTRACE_EVENT_STOP`, which libc lacks; include/uapi/linux/ptrace.h.
const EVENT_STOP: i32 = 128;
/// `CLONE_UNTRACED`: the child is not attached to its parent's tracer.
const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;

/// How a tracer let its tracee go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// To the next signal or event.
    #[default]
    Cont,
    /// To the next entry to or exit from a call, too.
    Syscall,
    /// For one instruction.
    Step,
}

/// Why a tracee stands still.
#[derive(Clone, Debug)]
enum Cause {
    /// About to get this signal.
    Signal(i32, [u8; 128]),
    /// At the entry to a call.
    Entry,
    /// At the exit from a call.
    Exit,
    /// `PTRACE_EVENT_*`.
    Event(i32),
    /// Its process was stopped by this signal.
    Group(i32),
}

impl Cause {
    /// What `wait` reports, without the low byte.
    fn code(&self, tracee: &Tracee) -> i32 {
        match *self {
            Cause::Signal(signal, _) => signal,
            Cause::Entry | Cause::Exit if tracee.has(libc::PTRACE_O_TRACESYSGOOD) => {
                libc::SIGTRAP | 0x80
            }
            Cause::Entry | Cause::Exit => libc::SIGTRAP,
            Cause::Event(event) => libc::SIGTRAP | event << 8,
            Cause::Group(signal) if tracee.seized => signal | EVENT_STOP << 8,
            Cause::Group(signal) => signal,
        }
    }
}

/// Where a tracee stands, as far as going on is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind an event.
    Event,
    /// Before a call, which has not begun.
    Entry,
    /// In a call, which was broken off: it is [`Task::call`].
    Interrupted,
    /// Before that call begins again.
    Restart,
    /// In the kernel's own stop: the parent of a vfork.
    Kernel,
    /// In the kernel's group stop.
    Group,
    /// On its way out.
    Exit,
}

/// A stop of a tracee.
#[derive(Clone, Debug)]
struct Halt {
    cause: Cause,
    place: Place,
    /// The registers as the tracer saw them first.
    before: Regs,
    /// The registers as the tracer left them.
    regs: Regs,
    /// The result of the call is not in the registers yet.
    keep_rax: bool,
    /// A wait has told the tracer.
    reported: bool,
}

impl Halt {
    fn changed(&self) -> bool {
        crate::regs::words(&self.before) != crate::regs::words(&self.regs)
    }
}

/// A task that another one traces.
#[derive(Clone, Debug, Default)]
struct Tracee {
    /// The task that traces it.
    tracer: u32,
    /// By PTRACE_SEIZE.
    seized: bool,
    /// `PTRACE_O_*`.
    options: u64,
    mode: Mode,
    /// The stop that it is in.
    halt: Option<Halt>,
    /// The stop that it is about to leave.
    left: Option<Halt>,
    /// For PTRACE_GETEVENTMSG.
    message: u64,
    /// Events to be reported at the next sync point.
    events: VecDeque<(i32, u64)>,
    /// It is to stop at the next sync point (PTRACE_INTERRUPT, or the end of a group stop).
    interrupt: bool,
    /// It has entered a call whose end has not been looked at.
    in_call: bool,
    /// The next entry to a call was reported already.
    skip_entry: bool,
    /// A handler was entered while single-stepping.
    entered: bool,
    /// The signal that the tracer lets through.
    inject: Option<(i32, [u8; 128])>,
    /// `orig_rax`: the number of the call that it is in, or -1.
    orig: u64,
    /// The mask that its call had installed when a signal interrupted it.
    temporary: Option<u64>,
    /// The tracer changed the extended registers.
    new_xstate: bool,
    /// The tracer changed the signal mask.
    new_mask: bool,
    /// The kernel may hold signals that came up while it stood still.
    flush: bool,
    /// No longer traced, once it has left its stop.
    detached: bool,
    /// The task that made it, whose own stop for that has not been yet. A tracer may hear of the two in any order
    /// (ptrace(2)), but from the kernel hardly ever hears of the new one first; here the maker's stop takes longer.
    after: Option<u32>,
}

impl Tracee {
    fn has(&self, option: i32) -> bool {
        self.options & option as u64 != 0
    }
}

/// A tracee's end that its tracer has not waited for, and of which the kernel tells it nothing.
#[derive(Clone, Debug)]
struct Ended {
    /// Process of the tracer.
    tracer: Tid,
    tid: Tid,
    /// What the tracer knows it by.
    seen: Tid,
    status: i32,
    uid: u32,
}

/// Who traces whom.
#[derive(Default)]
pub(super) struct Ptrace {
    tracees: BTreeMap<u32, Tracee>,
    /// The task whose child each one is.
    parents: HashMap<u32, u32>,
    ended: VecDeque<Ended>,
    /// Tasks in the kernel's group stop, and the signal that stopped them.
    grouped: HashMap<u32, i32>,
    /// Writes to memory that wait for a sync point.
    later: Vec<Later>,
    /// The program has begun to trace, or to write to the memory of other processes.
    used: bool,
}

impl Ptrace {
    /// Whether the program traces, or has traced: then no agent works, and no text is patched, as
    /// tracers look at texts, registers and single steps.
    pub(super) fn in_use(&self) -> bool {
        self.used
    }

    /// Whether the task executes single instructions.
    pub(super) fn steps(&self, id: u32) -> bool {
        let tracee = self.tracees.get(&id);
        tracee.is_some_and(|tracee| tracee.mode == Mode::Step && !tracee.detached)
    }
}

impl Recorder {
    /// Whether the program itself traces the task.
    pub(super) fn traced(&self, id: u32) -> bool {
        self.ptrace
            .tracees
            .get(&id)
            .is_some_and(|tracee| !tracee.detached)
    }

    /// The same, or its tracing has just ended and it has not gone on yet.
    pub(super) fn has_tracer(&self, id: u32) -> bool {
        self.ptrace.tracees.contains_key(&id)
    }

    /// Thread id of the task that traces one, as /proc shows it where that has the ids `shown` (its
    /// line `NSpid`); 0: none.
    pub(super) fn tracer_id(&self, shown: &[Tid]) -> Tid {
        let mut tasks = self.tasks.values();
        let Some(task) = tasks.find(|task| task.ids.ends_in(shown)) else {
            return 0;
        };
        let tracee = self.ptrace.tracees.get(&task.id);
        tracee
            .filter(|tracee| !tracee.detached)
            .and_then(|tracee| self.tasks.get(&tracee.tracer))
            .map_or(0, |tracer| tracer.ids.in_proc_of(shown, &task.ids))
    }

    /// The program begins to trace.
    fn tracing_begins(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ptrace.used, true) {
            return Ok(());
        }
        self.quiet_agents()
    }

    fn tracee(&mut self, id: u32) -> Option<&mut Tracee> {
        self.ptrace.tracees.get_mut(&id)
    }

    /// Lets application code run, one instruction if the tracer wants it so.
    pub(super) fn go_application(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        if self.ptrace.steps(id) {
            return Ok(self.machine.step(tid)?);
        }
        Ok(self.machine.go(tid, Go::Application, 0)?)
    }

    /// A new task: the tracer of its maker may become its tracer.
    pub(super) fn adopt_tracee(&mut self, parent: u32, child: u32) {
        let maker = self.task(parent);
        let flags = maker.clone_flags;
        let inherited = (libc::CLONE_PARENT | libc::CLONE_THREAD) as u64;
        let child_of = if flags & inherited == 0 {
            Some(parent)
        } else {
            self.ptrace.parents.get(&parent).copied()
        };
        if let Some(of) = child_of {
            self.ptrace.parents.insert(child, of);
        }
        if !self.traced(parent) || flags & UNTRACED != 0 {
            return;
        }
        let event = clone_event(self.task(parent));
        let tid = self.task(child).tid;
        let Some(tracee) = self.ptrace.tracees.get(&parent) else {
            return;
        };
        if !tracee.has(1 << event) {
            return;
        }
        let tracer = tracee.tracer;
        let seen = self.seen_by(tracer, tid);
        let Some(tracee) = self.tracee(parent) else {
            return;
        };
        tracee.events.push_back((event, seen as u64));
        let new = Tracee {
            tracer: tracee.tracer,
            seized: tracee.seized,
            options: tracee.options,
            interrupt: tracee.seized,
            orig: tracee.orig,
            after: Some(parent),
            ..Tracee::default()
        };
        let seized = new.seized;
        self.ptrace.tracees.insert(child, new);
        if !seized {
            let info = wait::siginfo(libc::SIGSTOP, libc::SI_USER, 0, 0, 0);
            self.task_mut(child).stash.push(libc::SIGSTOP as u32, info);
        }
    }

    /// The parent of a vfork may have to stop before it waits for its child; true if it does.
    pub(super) fn vfork_stop(&mut self, id: u32) -> Result<bool> {
        if !self.traced(id) {
            return Ok(false);
        }
        let Some((event, message)) = self.tracee(id).and_then(|t| t.events.pop_front()) else {
            return Ok(false);
        };
        self.tracee(id).expect("it is traced").message = message;
        self.halt(id, Cause::Event(event), Place::Kernel)?;
        Ok(true)
    }

    /// The child of a vfork has memory of its own, or is gone.
    pub(super) fn vfork_done(&mut self, id: u32) {
        let child = self.task(id).app.rax;
        if let Some(tracee) = self.tracee(id)
            && tracee.has(libc::PTRACE_O_TRACEVFORKDONE)
        {
            tracee
                .events
                .push_back((libc::PTRACE_EVENT_VFORK_DONE, child));
        }
    }

    /// The task has a new program; `former` is the thread id that it had.
    pub(super) fn exec_tracee(&mut self, id: u32, former: Tid) {
        if !self.traced(id) {
            return;
        }
        let tgid = self.task(id).tgid;
        let own = self.task(id).ids.own();
        let tracee = self.tracee(id).expect("it is traced");
        if tracee.has(libc::PTRACE_O_TRACEEXEC) {
            tracee
                .events
                .push_back((libc::PTRACE_EVENT_EXEC, former as u64));
        } else if !tracee.seized {
            let uid = wait::uid_of(tgid);
            let info = wait::siginfo(libc::SIGTRAP, libc::SI_USER, own, uid, 0);
            self.task_mut(id).stash.push(libc::SIGTRAP as u32, info);
        }
    }

    /// The task is in the kernel's stop on its way out; true if it stays there for its tracer.
    pub(super) fn exit_stop(&mut self, id: u32, status: i32) -> Result<bool> {
        if !self.traced(id) {
            return Ok(false);
        }
        let tracee = self.tracee(id).expect("it is traced");
        (tracee.halt, tracee.left, tracee.interrupt) = (None, None, false);
        self.new_ones_may_stop(id);
        let tracee = self.tracee(id).expect("it is traced");
        // One that was killed outright does not stop (ptrace_stop).
        if !tracee.has(libc::PTRACE_O_TRACEEXIT) || status & 0x7f == libc::SIGKILL {
            return Ok(false);
        }
        tracee.message = status as u64;
        self.halt(id, Cause::Event(libc::PTRACE_EVENT_EXIT), Place::Exit)?;
        Ok(true)
    }

    /// The task is no more: its tracer hears of it, its tracees are left alone.
    pub(super) fn ptrace_forget(&mut self, id: u32, status: i32) -> Result<()> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(());
        };
        let (tid, tgid) = (task.tid, task.tgid);
        self.ptrace.grouped.remove(&id);
        self.ptrace.later.retain(|later| !later.is_about(id));
        self.new_ones_may_stop(id);
        if let Some(tracee) = self.ptrace.tracees.remove(&id)
            && let Some(tracer) = self.tasks.get(&tracee.tracer).map(|tracer| tracer.tgid)
            && !tracee.detached
        {
            let parent = self
                .ptrace
                .parents
                .get(&id)
                .and_then(|id| self.tasks.get(id));
            // Of its own child's end the kernel tells the tracer itself.
            if tid != tgid || parent.is_none_or(|parent| parent.tgid != tracer) {
                let uid = wait::uid_of(tracer);
                let seen = self.seen_by(tracee.tracer, tid);
                self.ptrace.ended.push_back(Ended {
                    tracer,
                    tid,
                    seen,
                    status,
                    uid,
                });
                self.notify_end(tracee.tracer, seen, status, uid);
            }
        }
        let left: Vec<u32> = self
            .ptrace
            .tracees
            .iter()
            .filter(|(_, tracee)| tracee.tracer == id && !tracee.detached)
            .map(|(id, _)| *id)
            .collect();
        for tracee in left {
            let kill = self.ptrace.tracees[&tracee].has(libc::PTRACE_O_EXITKILL);
            if kill && let Some(task) = self.tasks.get(&tracee) {
                scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
            }
            self.detach(tracee, 0)?;
        }
        let orphans = |parent: &u32| *parent == id;
        if let Some(heir) = self.tasks.values().find(|t| t.tgid == tgid && t.id != id) {
            let heir = heir.id;
            for parent in self.ptrace.parents.values_mut().filter(|p| orphans(p)) {
                *parent = heir;
            }
        } else {
            self.ptrace.parents.retain(|_, parent| !orphans(parent));
            self.ptrace.ended.retain(|ended| ended.tracer != tgid);
        }
        self.ptrace.parents.remove(&id);
        Ok(())
    }

    /// Ends the tracing of a task; it goes on by itself.
    fn detach(&mut self, id: u32, signal: i32) -> Result<()> {
        let Some(tracee) = self.tracee(id) else {
            return Ok(());
        };
        tracee.detached = true;
        tracee.events.clear();
        (tracee.interrupt, tracee.in_call) = (false, false);
        self.new_ones_may_stop(id);
        let Some(tracee) = self.tracee(id) else {
            return Ok(());
        };
        if tracee.left.is_some() {
            return Ok(());
        }
        if tracee.halt.is_some() {
            let gone = |error: &RecordError| {
                matches!(error, RecordError::Trace(scribe_tracee::Error::Gone))
            };
            return self
                .let_go(id, Mode::Cont, signal)
                .or_else(|error| if gone(&error) { Ok(()) } else { Err(error) });
        }
        self.ptrace.tracees.remove(&id);
        Ok(())
    }
}

/// Which of the clone events a task causes that has just made a child (kernel/fork.c,
/// kernel_clone).
fn clone_event(maker: &Task) -> i32 {
    let nr = maker.app.rax as i64;
    let exit_signal = match nr {
        libc::SYS_fork => libc::SIGCHLD as u64,
        // clone_args.exit_signal
        libc::SYS_clone3 => maker.space.mem.read_u64(maker.app.rdi + 32).unwrap_or(0),
        _ => maker.clone_flags & 0xff,
    };
    if maker.clone_flags & libc::CLONE_VFORK as u64 != 0 {
        libc::PTRACE_EVENT_VFORK
    } else if exit_signal != libc::SIGCHLD as u64 {
        libc::PTRACE_EVENT_CLONE
    } else {
        libc::PTRACE_EVENT_FORK
    }
}
