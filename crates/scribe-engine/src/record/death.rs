//! What the end of a task does to memory that others can see, and its place among what they do.
//!
//! The kernel writes to robust futexes and to cleared thread ids while a task ends
//! (kernel/exit.c, `do_exit`; kernel/futex/core.c, `exit_robust_list`). The event of the end says
//! what; the token stays with the task until it is gone. A process that ends as a whole and shares
//! memory with another writes its event when the first of its threads has the token; that thread
//! then waits, in its exit stop, for the others to be gone.

use super::*;
use crate::replay::{ASYNC, AT_CALL};
use scribe_kernel::futex::robust_exit_effects;
use scribe_log::flags::GROUP;

/// Tasks that wait in their exit stop.
#[derive(Default)]
pub(super) struct Dying {
    /// For the token: status, and flags of the event.
    waiting: HashMap<u32, (i32, u8)>,
    /// For the other threads of the process.
    last: HashMap<Tid, u32>,
}

impl Dying {
    /// Whether a thread of the process waits for all others to be gone.
    pub(super) fn waits_for_others(&self, tgid: Tid) -> bool {
        self.last.contains_key(&tgid)
    }
}

impl Recorder {
    /// A task stands in its exit stop. True: it stays there for now.
    pub(super) fn held_at_exit(&mut self, id: u32, status: i32) -> Result<bool> {
        // Where a tracer within the recording decides when it goes, others must not wait for it.
        if self.alone_in_lane(id) || self.traced(id) {
            return Ok(false);
        }
        let task = self.task(id);
        let (tgid, lane) = (task.tgid, task.lane);
        if task.process.borrow().exit_recorded {
            if !self.holds_token(id) {
                return Ok(false);
            }
            self.task_mut(id).state = State::Exiting;
            self.dying.last.insert(tgid, id);
            self.leave_last(tgid)?;
            return Ok(true);
        }
        // One that left by exit(2), as the only one of its threads.
        if task.state == State::Exiting {
            return Ok(false);
        }
        let at_call = match task.state {
            State::App => self.agent_phase(id) != scribe_abi::shared::phase::OUTSIDE,
            State::Exiting | State::Traced | State::Ready(Ready::Resume | Ready::Die) => false,
            State::Ready(Ready::Agent) => true,
            // A clone that is written as done is behind it.
            State::InCall => task.call.is_some(),
            State::Stopping => task.after_stop != Ready::Resume,
            State::Ready(_) => true,
        };
        let flags = if at_call { AT_CALL } else { 0 };
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.waiting.retain(|other| *other != id);
        }
        self.runnable.retain(|other| *other != id);
        self.dying.waiting.insert(id, (status, flags));
        self.want_token(id, Ready::Die);
        Ok(true)
    }

    /// The first task of a killed process to get the token, in its exit stop.
    pub(super) fn die_in_order(&mut self, id: u32) -> Result<()> {
        let Some((status, flags)) = self.dying.waiting.remove(&id) else {
            return Ok(());
        };
        self.record_death(id, status, flags);
        let task = self.task_mut(id);
        task.state = State::Exiting;
        let (tgid, lane) = (task.tgid, task.lane);
        let mut others: Vec<u32> = self.dying.waiting.keys().copied().collect();
        others.retain(|other| self.tasks.get(other).is_some_and(|t| t.tgid == tgid));
        for other in others {
            self.dying.waiting.remove(&other);
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.waiting.retain(|waiting| *waiting != other);
            }
            let task = self.task_mut(other);
            task.state = State::Exiting;
            let tid = task.tid;
            self.machine.go(tid, Go::Agent, 0)?;
        }
        self.dying.last.insert(tgid, id);
        self.leave_last(tgid)
    }

    /// Lets the thread go that waits for all others of its process, if they are gone.
    pub(super) fn leave_last(&mut self, tgid: Tid) -> Result<()> {
        let Some(&id) = self.dying.last.get(&tgid) else {
            return Ok(());
        };
        let others = self.tasks.values().filter(|t| t.tgid == tgid && t.id != id);
        for other in others {
            // A leader becomes a zombie that is reported when all others are gone.
            let zombie = other.tid == tgid
                && other.state == State::Exiting
                && self.machine.stopped(other.tid).is_err();
            if !zombie {
                return Ok(());
            }
            tasks::wait_for_zombie(other.tid);
        }
        self.dying.last.remove(&tgid);
        let tid = self.task(id).tid;
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// A task is gone.
    pub(super) fn forget_dying(&mut self, id: u32) {
        self.dying.waiting.remove(&id);
        self.dying.last.retain(|_, last| *last != id);
    }

    /// Writes the end of a process that did not call exit(2). Flags: [`AT_CALL`].
    pub(super) fn record_death(&mut self, id: u32, status: i32, flags: u8) {
        let tgid = self.task(id).tgid;
        // What it says of memory is read from a process that may be gone; then its death comes first.
        let _ = self.announce_newborn(|task| task.tgid == tgid);
        let task = self.task(id);
        let lane = task.lane;
        if task
            .process
            .replace(Process {
                exit_recorded: true,
            })
            .exit_recorded
        {
            return;
        }
        let effects = self.death_effects(id);
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            let mut event = scribe_log::begin_exit(buf, id, status, GROUP | ASYNC | flags);
            for (addr, word) in &effects {
                event.out(*addr, &word.to_le_bytes());
            }
            event.finish();
        });
    }

    /// Ends a thread, at a call, as seccomp does: by SIGKILL in strict mode, else by SIGSYS. Only the
    /// last of a process takes that with it.
    pub(super) fn kill_thread(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.task(id);
        let (tid, tgid, lane, app) = (task.tid, task.tgid, task.lane, task.app);
        let lives = |other: &Task| other.tgid == tgid && other.state != State::Exiting;
        if !self
            .tasks
            .values()
            .any(|other| other.id != id && lives(other))
        {
            self.record_death(id, signal, AT_CALL);
            return self.die(id, signal);
        }
        // The kernel's own seccomp ends it: before 5.16 the status of a leader is the process's.
        let mem = self.task(id).space.clone();
        let program = scribe_abi::AGENT_STRINGS + 16;
        let mut bytes = [0; 24];
        bytes[0] = 1;
        bytes[8..16].copy_from_slice(&program.to_le_bytes());
        bytes[16] = (libc::BPF_RET | libc::BPF_K) as u8;
        bytes[20..].copy_from_slice(&libc::SECCOMP_RET_KILL_THREAD.to_le_bytes());
        mem.mem.write(scribe_abi::AGENT_STRINGS, &bytes)?;
        let set = |option: i32, value: u32, at: u64| [option as u64, value.into(), at, 0, 0, 0];
        let (mode, at) = match signal {
            libc::SIGKILL => (libc::SECCOMP_MODE_STRICT, 0),
            _ => (libc::SECCOMP_MODE_FILTER, scribe_abi::AGENT_STRINGS),
        };
        let effects = self.exit_effects(id, false);
        let calls = [
            set(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
            set(libc::PR_SET_SECCOMP, mode, at),
        ];
        for args in calls {
            self.machine.inject(tid, &app, libc::SYS_prctl, args)?;
        }
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            let mut event = scribe_log::begin_exit(buf, id, signal, AT_CALL);
            for (addr, word) in &effects {
                event.out(*addr, &word.to_le_bytes());
            }
            event.finish();
        });
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let regs = scribe_tracee::inject::call_regs(&app, entry, libc::SYS_getpid as u64, &[0; 6]);
        let stopped = self.machine.stopped(tid)?;
        stopped.set_sigmask(signals::kernel_mask(u64::MAX))?;
        stopped.set_regs(&regs)?;
        self.task_mut(id).state = State::Exiting;
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// Writes what the end of the task's process by a signal will do, for the signal's event.
    pub(super) fn write_death_effects(&mut self, id: u32) {
        let lane = self.task(id).lane;
        for (addr, word) in self.death_effects(id) {
            let bytes = word.to_le_bytes().to_vec().into();
            self.write(lane, &Record::Data { addr, bytes });
        }
    }

    /// What others see of the end of a whole process.
    fn death_effects(&self, id: u32) -> Vec<(u64, u32)> {
        if self.alone_in_lane(id) || !self.holds_token(id) {
            return Vec::new();
        }
        self.exit_effects(id, true)
    }

    /// What the kernel will write into shared memory when the task, or its whole process, ends:
    /// robust futexes and the cleared thread id.
    pub(super) fn exit_effects(&self, id: u32, group: bool) -> Vec<(u64, u32)> {
        let task = self.task(id);
        if Rc::strong_count(&task.space) == 1 && !task.space.shared.get() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let all = self.tasks.values().filter(|other| {
            let alive = group && other.tgid == task.tgid && other.state != State::Exiting;
            other.id == id || alive
        });
        for other in all {
            let mem = &other.space.mem;
            if !is_empty(other.robust_list(), mem) {
                let tid = other.ids.own() as u32;
                let mut read = |addr: u64, buf: &mut [u8]| mem.read(addr, buf).is_ok();
                let list = robust_exit_effects(other.robust_list(), tid, &mut read);
                let writes = list.iter().filter_map(|e| Some((e.addr, e.write?)));
                effects.extend(writes);
            }
            let mut word = [0; 4];
            if other.clear_tid() != 0 && mem.read(other.clear_tid(), &mut word).is_ok() {
                effects.push((other.clear_tid(), 0));
            }
        }
        effects
    }
}

/// Whether a robust list has no entries, so that nobody's thread id matters.
fn is_empty(head: u64, mem: &scribe_tracee::Mem) -> bool {
    let mut words = [0; 24];
    if head == 0 || mem.read(head, &mut words).is_err() {
        return true;
    }
    words[..8] == head.to_le_bytes() && words[16..] == [0; 8]
}
