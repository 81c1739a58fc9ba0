//! Tasks that come and go: clone and its kin, exit, death from outside.

use super::*;
use crate::record::calls::Kind;
use crate::state::memory_hash;
use scribe_log::Spawn;
use scribe_log::flags::GROUP;
use scribe_syscalls::{Call, Row};
use scribe_tracee::Running;

/// Flags of clone that the engine carries out itself or that would hide the child from it.
const OURS: u64 = (libc::CLONE_CHILD_SETTID | libc::CLONE_UNTRACED) as u64;
/// The time between two checksums is at least that which the last took, times this: a share of
/// 1 %.
pub(super) const CHECKSUM_SHARE: u32 = 100;
/// No sooner than after this time in any case.
const SELDOM: Duration = Duration::from_millis(5);
/// Ends of processes may take a larger share than what lies between: one that has much memory may fork many children,
/// each of which ends with a copy of it.
const END_SHARE: u32 = 4;
/// A hash at an end that takes no longer than this keeps no other from being made.
const CHEAP: Duration = Duration::from_millis(5);
/// Processes with more memory are hashed only when somebody wants that: they would stand still for longer than anybody
/// who waits for an answer should notice.
const MUCH: u64 = 128 << 20;

/// How often leaders are looked for that have slipped away: it takes a file of /proc for each.
const SLIPPED: Duration = Duration::from_millis(100);

/// Whether a hash of the task's memory takes long.
pub(super) fn takes_long(task: &Task) -> bool {
    crate::state::own_memory(task.tgid) > MUCH
}

impl Recorder {
    /// clone, fork, vfork, clone3. `flags` as clone has them; `args` is what the agent is to pass.
    pub(super) fn start_clone(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        flags: u64,
    ) -> Result<()> {
        self.pid_namespaces |= flags & libc::CLONE_NEWPID as u64 != 0;
        let mut pending = self.prepare(id, row, call, Kind::Spawn(None));
        let nr = i64::from(call.nr);
        if nr == libc::SYS_clone {
            pending.agent_args[0] = flags & !OURS;
        } else if nr == libc::SYS_clone3 {
            // The structure is changed in a copy.
            let size = (call.args[1] as usize).min(4096);
            let mut args = vec![0; size];
            if !self.read_for(id, call.args[0], &mut args) {
                return self.answer(id, row, call, -i64::from(libc::EFAULT));
            }
            args[..8].copy_from_slice(&(flags & !OURS).to_le_bytes());
            let at = self.scratch(id, args.len() as u64)?;
            self.task(id).space.mem.write(at, &args)?;
            pending.agent_args[0] = at;
        }
        self.task_mut(id).clone_flags = flags;
        if self.traced(id) && flags & libc::CLONE_VFORK as u64 != 0 {
            // Its tracer may want to hear of the end of that.
            let tid = self.task(id).tid;
            self.machine.stopped(tid)?.see_vfork_done()?;
        }
        self.launch(id, pending)
    }

    /// The kernel has made a child of this task.
    pub(super) fn on_new_task(&mut self, id: u32) -> Result<()> {
        let parent_tid = self.task(id).tid;
        let stopped = self.machine.stopped(parent_tid)?;
        let child_tid = stopped.event_message()? as Tid;
        if super::ptrace::is_of_exit(&stopped.siginfo()?) {
            // It was killed as it stood, and the message may be its status.
            return Ok(());
        }
        self.machine.add(Running::attached(child_tid));
        let event = if let Some(event) = self.newborn.claim(child_tid) {
            self.machine.note_early(event);
            event
        } else {
            self.machine.wait_for(child_tid)?
        };
        if !event.is_stop() {
            // Killed before it ever ran.
            self.machine.remove(child_tid);
            return self.resume_agent(id);
        }
        let child = self.adopt(id, child_tid)?;
        // Kept now: the child may be gone by the time the event is written.
        let spawn = self.spawn_of(child);
        let flags = self.task(id).clone_flags;
        if let Some(pending) = &mut self.task_mut(id).call {
            pending.kind = Kind::Spawn(spawn);
        }
        if flags & libc::CLONE_VFORK as u64 != 0 {
            // The parent waits for the child: its event is written now, it goes on later.
            let Some(mut pending) = self.task_mut(id).call.take() else {
                return self.resume_agent(id);
            };
            let ret = i64::from(self.seen_by(id, child_tid));
            pending.ret = ret;
            self.write_finished(id, &mut pending)?;
            let task = self.task_mut(id);
            task.app.rax = ret as u64;
            task.vfork_wait = true;
            self.release(id, Left::AfterEvent);
        }
        let vfork = self.task(id).vfork_wait;
        // One that was killed meanwhile leaves its child to itself.
        let done = if !vfork && self.goes_on_from_here(id) {
            self.clone_made(id, child_tid)
        } else if vfork && self.vfork_stop(id)? {
            Ok(())
        } else {
            self.resume_agent(id)
        };
        if matches!(event.stop, Stop::Event(Event::Exit)) {
            // Killed, too, before it ever ran.
            self.machine.push_back(event);
        } else {
            self.want_token(child, Ready::Resume);
        }
        done
    }

    /// Whether a task that has made a child may go on in application code from the event of that, before its call is over. The kernel
    /// sets its result, in rax, only on the way out: nothing may happen there that needs another value.
    fn goes_on_from_here(&self, id: u32) -> bool {
        let task = self.task(id);
        !self.pid_namespaces
            && !self.has_tracer(id)
            && task.stash.next(Mask(task.mask)).is_none()
            && !self.stops_before_call(id)
            && self.chaos.is_none()
            && !self.gather.is_on()
            && self.holds_token(id)
            && self.lanes[&task.lane].waiting.is_empty()
    }

    fn clone_made(&mut self, id: u32, child: Tid) -> Result<()> {
        if let Some(call) = &mut self.task_mut(id).call {
            call.ret = child.into();
        }
        self.finish_call(id)
    }

    /// Makes the child known and gives it its registers.
    fn adopt(&mut self, parent: u32, tid: Tid) -> Result<u32> {
        let id = self.next_task;
        self.next_task += 1;
        self.stats.tasks += 1;
        let from = self.task(parent);
        let flags = from.clone_flags;
        let has = |flag: i32| flags & flag as u64 != 0;
        let stopped = self.machine.stopped(tid)?;
        let kernel = stopped.regs()?;
        let mut app = from.app;
        app.rax = 0;
        app.orig_rax = u64::MAX;
        (app.fs_base, app.gs_base) = (kernel.fs_base, kernel.gs_base);
        app.rsp = kernel.rsp;
        let space = if has(libc::CLONE_VM) {
            from.space.clone()
        } else {
            Rc::new(from.space.forked(tid)?)
        };
        let ids = self.read_ids(tid);
        let init = ids.is_init();
        if has(libc::CLONE_CHILD_SETTID) {
            let at = from.child_tid_address();
            // The kernel ignores a bad address here, too.
            let _ = space.mem.write(at, &ids.own().to_le_bytes());
        }
        let share = has(libc::CLONE_VM) || space.shared.get();
        let task = Task {
            id,
            tid,
            tgid: if has(libc::CLONE_THREAD) {
                from.tgid
            } else {
                tid
            },
            ids,
            process: if has(libc::CLONE_THREAD) {
                from.process.clone()
            } else {
                Rc::new(RefCell::new(Process {
                    exit_recorded: false,
                }))
            },
            sighand: if has(libc::CLONE_SIGHAND) {
                from.sighand.clone()
            } else {
                let mut own = from.sighand.borrow().clone();
                if flags & CLONE_CLEAR_SIGHAND != 0 {
                    own.exec_reset();
                }
                own.set_init(init);
                Rc::new(RefCell::new(own))
            },
            files: if has(libc::CLONE_FILES) {
                from.files.clone()
            } else {
                Rc::new(RefCell::new(
                    from.files.borrow().forked(self.shared.as_ref()),
                ))
            },
            space,
            lane: if share { from.lane } else { self.next_lane },
            state: State::Ready(Ready::Resume),
            app,
            mask: from.mask,
            alt: if has(libc::CLONE_VM) && !has(libc::CLONE_VFORK) {
                AltStack::default()
            } else {
                from.alt
            },
            stash: SignalQueue::default(),
            keeps: false,
            call: None,
            slot: None,
            vfork_wait: false,
            after_stop: Ready::Resume,
            listening: false,
            agent_regs: None,
            clone_flags: 0,
            clear_tid: if has(libc::CLONE_CHILD_CLEARTID) {
                from.child_tid_address()
            } else {
                0
            },
            robust_list: 0,
            run: forced::Run::new(),
            area: None,
            seccomp: from.seccomp.clone(),
            fault: from.fault,
            instructions: from.instructions,
            rseq: match has(libc::CLONE_VM) {
                true => Default::default(),
                false => from.rseq,
            },
            broken: 0,
        };
        if self.machine.sud {
            stopped.arm_sud(AGENT_BASE, scribe_abi::AGENT_CODE_LEN)?;
        }
        stopped.set_sigmask(signals::kernel_mask(task.mask))?;
        let lane = task.lane;
        self.by_tid.insert(tid, id);
        self.tasks.insert(id, Box::new(task));
        if share {
            self.lanes
                .get_mut(&lane)
                .expect("the parent's lane exists")
                .members
                .insert(id);
        } else {
            self.next_lane += 1;
            self.new_lane(lane, id);
        }
        self.agent_for(id)?;
        self.adopt_tracee(parent, id);
        Ok(id)
    }

    /// The tasks of each process, the first thread first; that whose end is the recording's before the others.
    pub(super) fn by_process(&self) -> Vec<Vec<u32>> {
        let mut all: Vec<&Task> = self.tasks.values().map(|task| &**task).collect();
        all.sort_by_key(|task| {
            (
                task.tgid != self.root,
                task.tgid,
                task.tid != task.tgid,
                task.id,
            )
        });
        let processes = all.chunk_by(|a, b| a.tgid == b.tgid);
        processes
            .map(|tasks| tasks.iter().map(|task| task.id).collect())
            .collect()
    }

    /// The part of a clone event that says what was made.
    pub(super) fn spawn_of(&self, child: u32) -> Option<Spawn> {
        let task = self.tasks.get(&child)?;
        Some(Spawn {
            task: child,
            tid: task.ids.own(),
            pid: self.ids_of(task.tgid).own(),
            lane: task.lane,
            flags: 0,
        })
    }

    /// exit and exit_group.
    pub(super) fn start_exit(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let group = i64::from(call.nr) == libc::SYS_exit_group;
        let task = self.task(id);
        let last = self
            .tasks
            .values()
            .filter(|other| other.tgid == task.tgid)
            .count()
            == 1;
        if group || last {
            // Memory that lives on is hashed at another time: a vfork child ends with all that its
            // parent has, and a program may make thousands of them.
            let space = &task.space;
            let lives_on = self
                .tasks
                .values()
                .any(|other| other.tgid != task.tgid && Rc::ptr_eq(&other.space, space));
            let due = task.tgid == self.root || Instant::now() >= self.next_end_checksum;
            self.checksum(id, due && !lives_on);
        }
        let status = (call.args[0] as i32 & 0xff) << 8;
        let effects = self.exit_effects(id, group);
        let task = self.task(id);
        if group || last {
            task.process.borrow_mut().exit_recorded = true;
        }
        let lane = task.lane;
        let flags = if group { GROUP } else { 0 };
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            let mut event = scribe_log::begin_exit(buf, id, status, flags);
            for (addr, word) in &effects {
                event.out(*addr, &word.to_le_bytes());
            }
            event.finish();
        });
        let pending = self.prepare(id, row, call, Kind::Plain);
        // Its end is written: no handler may run any more.
        let tid = self.task(id).tid;
        if last && self.alone_in_lane(id) && !self.has_tracer(id) {
            self.machine.stopped(tid)?.end_unseen()?;
        }
        self.machine
            .stopped(tid)?
            .set_sigmask(signals::kernel_mask(u64::MAX))?;
        self.launch(id, pending)?;
        self.task_mut(id).state = State::Exiting;
        Ok(())
    }

    /// Stores a hash of registers and memory, as often as its cost allows.
    pub(super) fn checksum(&mut self, id: u32, at_end: bool) {
        if self.options.checksum == start::Checksums::Off {
            return;
        }
        let every = self.options.checksum == start::Checksums::Every;
        let begin = Instant::now();
        if !every && !at_end && begin < self.next_checksum {
            return;
        }
        let task = self.task(id);
        let regs = crate::state::regs_hash(&task.app);
        let all = every || at_end || !takes_long(task);
        let mem = all.then(|| memory_hash(task.tid, &task.space.mem));
        let lane = task.lane;
        if let (Some(dir), Some(mem)) = (&self.options.dump, mem)
            && let Ok(stopped) = self.machine.stopped(task.tid)
        {
            crate::state::dump(dir, stopped, &task.space.mem, &task.app, (regs, mem));
        }
        let now = Instant::now();
        let took = now - begin;
        self.next_checksum = now + (took * CHECKSUM_SHARE).max(SELDOM);
        if at_end && took > CHEAP {
            self.next_end_checksum = now + took * END_SHARE;
        }
        self.write(
            lane,
            &Record::Checksum {
                regs: Some(regs),
                mem,
            },
        );
    }

    /// The task is about to end.
    pub(super) fn on_exit_stop(&mut self, id: u32) -> Result<()> {
        self.lose_newborn(id)?;
        self.announce_newborn(|task| task.id == id)?;
        let task = self.task(id);
        let tid = task.tid;
        let status = self.machine.stopped(tid)?.event_message()? as i32;
        let by_exec = self.executes(task.tgid);
        if !by_exec && self.held_at_exit(id, status)? {
            return Ok(());
        }
        if self.task(id).state != State::Exiting && !by_exec {
            self.record_death(id, status, 0);
        }
        let task = self.task_mut(id);
        task.state = State::Exiting;
        if self.exit_stop(id, status)? {
            return Ok(());
        }
        self.leave_exit_stop(id)
    }

    /// The task goes from its last stop to its end.
    pub(super) fn leave_exit_stop(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, tgid) = (task.tid, task.tgid);
        let leader = tid == tgid;
        let others = self.tasks.values().any(|t| t.tgid == tgid && t.id != id);
        if leader && others {
            // As a zombie it cannot be detached from, and its threads are to outlive us then.
            self.machine.stopped(tid)?.spare()?;
        }
        self.machine.go(tid, Go::Agent, 0)?;
        // A leader that ends before its threads becomes a zombie that is not reported; its token
        // must not be lost.
        if leader && others && self.holds_token(id) {
            wait_for_zombie(tid);
            self.pi_ended(id);
            self.release(id, Left::AfterEvent);
        }
        self.leave_last(tgid)
    }

    /// Whether a thread of the process is about to execute another program, of which its other threads die.
    fn executes(&self, tgid: Tid) -> bool {
        let threads = self.tasks.values().filter(|task| task.tgid == tgid);
        let mut calls = threads.filter_map(|task| task.call.as_ref());
        calls.any(|call| matches!(call.kind, Kind::Exec))
    }

    /// Leaders that were killed, and let go from their exit stops before we heard of those: nothing more is heard of
    /// them before their threads have gone, which may wait for the token that they had.
    pub(super) fn find_slipped(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_slipped {
            return Ok(());
        }
        self.next_slipped = now + SLIPPED;
        let leads = |task: &Task| task.tid == task.tgid && task.state != State::Exiting;
        let mut slipped = Vec::new();
        for task in self.tasks.values().filter(|task| leads(task)) {
            let waited_for = self.dying.waits_for_others(task.tgid)
                || !self.lanes[&task.lane].waiting.is_empty() && self.holds_token(task.id);
            if waited_for && !self.executes(task.tgid) && self.machine.has_slipped_away(task.tid) {
                slipped.push(task.id);
            }
        }
        for id in slipped {
            self.lose_newborn(id)?;
            self.record_death(id, libc::SIGKILL, 0);
            self.task_mut(id).state = State::Exiting;
            if self.holds_token(id) {
                self.pi_ended(id);
                self.release(id, Left::AfterEvent);
            }
            let tgid = self.task(id).tgid;
            self.leave_last(tgid)?;
        }
        Ok(())
    }

    /// The task is no more.
    pub(super) fn on_ended(&mut self, id: u32, status: i32) -> Result<()> {
        let task = self.task(id);
        let (tid, tgid) = (task.tid, task.tgid);
        if task.state != State::Exiting {
            self.record_death(id, status, 0);
        }
        if tid == self.root && tgid == tid {
            self.outcome = Some(status);
        }
        self.ptrace_forget(id, status)?;
        self.forget(id);
        self.leave_last(tgid)
    }

    /// Removes a task that has ended, and hands its token on.
    pub(super) fn forget(&mut self, id: u32) {
        self.leave_terminal(id);
        self.pi_ended(id);
        self.forget_dying(id);
        self.release(id, Left::AfterEvent);
        let Some(task) = self.tasks.remove(&id) else {
            return;
        };
        if let Some(area) = &task.area {
            self.note_counters(area);
        }
        self.machine.remove(task.tid);
        self.by_tid.remove(&task.tid);
        self.runnable.retain(|other| *other != id);
        if let Some(slot) = task.slot {
            task.space.slots.borrow_mut().remove(&slot);
        }
        if let Some(lane) = self.lanes.get_mut(&task.lane) {
            lane.waiting.retain(|other| *other != id);
            lane.members.remove(&id);
            if lane.members.is_empty() {
                self.lanes.remove(&task.lane);
                self.log.close(task.lane);
            } else {
                lane.count_members();
            }
        }
    }
}

/// Waits until a task that will not be reported has gone through its exit.
pub(super) fn wait_for_zombie(tid: Tid) {
    for _ in 0..1000 {
        if crate::machine::is_gone(tid) {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// clone3 only; include/uapi/linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
