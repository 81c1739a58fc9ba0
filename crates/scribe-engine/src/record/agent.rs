//! The agents' side of a recording: who may record by itself, and what agents pass on.

use super::calls::Kind;
use super::*;
use crate::agent::{
    Place, answer_cpuid, behind_instruction, give_up_call, lend_actions, pass_on, set_lane,
    tell_actions,
};
use scribe_abi::shared::{ask, mode, phase, reason};
use scribe_syscalls::{Call, Class, Special};
use scribe_tracee::inject::call_args;

/// The memory to share with agents; `None`: all calls come by trap.
pub(super) fn shared(options: &RecordOptions, sud: bool) -> Option<Rc<Shared>> {
    // What agents do not write.
    let more =
        options.level > 1 || options.registers || options.checksum == start::Checksums::Every;
    // Every call is an occasion for chaos.
    if options.no_agent || options.chaos.is_some() || !sud || more {
        return None;
    }
    let keep = calls::INPUT_KEPT[options.level as usize] as u32;
    let shared = Shared::new(options.level, keep).ok()?;
    for (which, stdio) in options.stdio.iter().enumerate() {
        if let Some(file) = stdio.and_then(|stdio| stdio.file) {
            shared.output(which, file);
        }
    }
    Some(shared)
}

impl Recorder {
    /// Begins a lane with one task.
    pub(super) fn new_lane(&mut self, lane: u32, task: u32) {
        let area = Rc::new(Shared::lane(self.shared.as_ref(), task));
        self.log.open(lane, &area);
        self.lanes.insert(lane, Lane::new(task, area));
    }

    /// Other tasks are in the lane than before, or they are in another than before: tells their
    /// agents.
    pub(super) fn lane_changed(&mut self, lane: u32) -> Result<()> {
        let Some(state) = self.lanes.get(&lane) else {
            return Ok(());
        };
        state.count_members();
        let address = state.area.address();
        for member in state.members.clone() {
            self.tell_lane(member, address)?;
        }
        Ok(())
    }

    fn tell_lane(&self, id: u32, address: u64) -> Result<()> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(());
        };
        if let Some(area) = &task.area {
            area.lane.store(address, Relaxed);
        }
        if task.space.agent.get() {
            set_lane(&task.space.mem, address)?;
        }
        Ok(())
    }

    /// Gives a task what it needs for an agent: after exec, or as a child.
    pub(super) fn agent_for(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if let Some(shared) = &self.shared
            && task.space.agent.get()
        {
            if task.area.is_none() {
                task.area = shared.task(id);
                task.set_exit_words(task.clear_tid, task.robust_list);
            }
            let mut files = task.files.borrow_mut();
            if files.classes.is_none() {
                files.classes = shared.files();
            }
            if let (Some(area), Some(classes)) = (&task.area, &files.classes) {
                area.files.store(classes.0.address(), Relaxed);
                area.space.store(task.space_number(), Relaxed);
            }
        } else {
            (task.clear_tid, task.robust_list) = (task.clear_tid(), task.robust_list());
            task.area = None;
        }
        let lane = task.lane;
        self.lane_changed(lane)
    }

    /// Whether the task's agent may record calls by itself.
    fn may_record(&self, id: u32) -> bool {
        let task = self.task(id);
        task.seccomp == Seccomp::Disabled
            && !self.ptrace.in_use()
            && task
                .area
                .as_ref()
                .is_some_and(|area| area.files.load(Relaxed) != 0)
            && self.lanes[&task.lane].area.has_ring()
    }

    /// The task is about to run application code, with the token: its agent takes over.
    pub(super) fn lend_to_agent(&mut self, id: u32) -> Result<()> {
        if self.shared.is_none() {
            return Ok(());
        }
        if self.ptrace.in_use() {
            self.unpatch(id, 0, u64::MAX)?;
            self.task(id).space.sites.borrow_mut().off = true;
        }
        let may = self.may_record(id);
        let asked = self.stops_before_call(id);
        let task = self.task(id);
        let lane = &self.lanes[&task.lane];
        if let Some(area) = &task.area {
            let waits = asked || task.stash.next(Mask(task.mask)).is_some();
            area.pending.store(waits.into(), Relaxed);
            area.mask.store(task.mask, Relaxed);
            area.held.store(task.stash.pending().0, Relaxed);
            lend_actions(area, &task.sighand, !self.ptrace.in_use());
            area.phase.store(phase::OUTSIDE, Relaxed);
            let to = if may { mode::RECORD } else { mode::PASS };
            area.mode.store(to, Relaxed);
            if let Some(slot) = task.slot {
                let len = task.space.scratch.borrow().get(&slot).copied().unwrap_or(0);
                area.scratch.store(scratch_base(slot), Relaxed);
                area.scratch_len.store(len, Relaxed);
            }
        }
        // Its area is another one since an exec, also where it had the token all the time.
        let address = task.area.as_ref().map_or(0, |area| area.0.address());
        lane.area.area.store(address, Relaxed);
        self.log.drain(task.lane);
        lane.area.reset();
        Ok(())
    }

    /// Tells the agents of all that share a task's dispositions which are the default.
    pub(super) fn tell_actions(&self, id: u32) {
        let tasks = self.tasks.values();
        let tasks = tasks.map(|task| (&task.sighand, task.area.as_ref()));
        tell_actions(&self.task(id).sighand, tasks);
    }

    /// Agents of all tasks pass on what they are at: something has begun that they cannot do.
    pub(super) fn quiet_agents(&mut self) -> Result<()> {
        let running: Vec<Tid> = self
            .tasks
            .values()
            .filter(|task| {
                if let Some(area) = &task.area {
                    area.mode.store(mode::PASS, Relaxed);
                    area.pending.store(1, Relaxed);
                }
                task.area.is_some() && task.state == State::App
            })
            .map(|task| task.tid)
            .collect();
        for tid in running {
            if let Some(&id) = self.by_tid.get(&tid) {
                self.task_mut(id).run.ask();
            }
            let asked = self.machine.interrupt(tid);
            self.survive(asked.map_err(Into::into))?;
        }
        Ok(())
    }

    /// How far the agent of a task is with a call.
    pub(super) fn agent_phase(&self, id: u32) -> u32 {
        let area = self.task(id).area.as_ref();
        area.map_or(phase::OUTSIDE, |area| area.phase.load(Relaxed))
    }

    /// A signal that stopped a task whose state is `App`. True: it was in the agent, and all is done.
    pub(super) fn signal_in_agent(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
    ) -> Result<bool> {
        if self.shared.is_none() {
            return Ok(false);
        }
        let task = self.task(id);
        let tid = task.tid;
        let mut regs = self.machine.stopped(tid)?.regs()?;
        let Some(place) = Place::of(&regs) else {
            return Ok(false);
        };
        let trap = signal == libc::SIGTRAP && si_code(info) == libc::SI_KERNEL;
        if trap && place == Place::Passed {
            self.end_over(id)?;
            return self.passed_on(id, regs);
        }
        if trap && place == Place::Asked {
            let task = self.task(id);
            let wish = task.area.as_ref().map(|area| area.reason.load(Relaxed));
            let lane = task.lane;
            match wish {
                Some(ask::DRAIN) => {
                    self.log.drain(lane);
                    self.lanes[&lane].area.reset();
                    self.log.maybe_flush();
                    self.look_now_and_then(id);
                }
                Some(ask::RELEASED) => self.grant(lane),
                Some(ask::TOKEN) => {
                    self.want_token(id, Ready::Agent);
                    return Ok(true);
                }
                _ => {}
            }
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if trap && place == Place::Cpuid {
            let task = self.task(id);
            let mem = &task.space.mem;
            let behind = behind_instruction(mem)?;
            let site = task.space.sites.borrow().by_tail(behind);
            if let Some(which) = site.and_then(|site| cpu::Trapped::counter(site.kind)) {
                let lane = task.lane;
                (regs.rip, regs.orig_rax) = (behind, u64::MAX);
                self.count_time(id, which, &mut regs);
                // Its ring may have been full.
                self.lanes[&lane].area.reset();
                self.log.maybe_flush();
            } else {
                answer_cpuid(&self.cpuid, mem, &mut regs)?;
            }
            self.stats.instructions += 1;
            self.machine.stopped(tid)?.set_regs(&regs)?;
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if task.run.over.is_some() {
            return Ok(false);
        }
        if signals::is_synchronous(signal, info) {
            return self.agent_fault(id, regs);
        }
        let action = task.sighand.borrow().what_to_do(signal as u32);
        use scribe_kernel::signal::{Action, DefaultAction};
        let blocked = task.mask >> (signal - 1) & 1 != 0;
        let nothing = matches!(
            action,
            Action::Ignore | Action::Default(DefaultAction::Ignore | DefaultAction::Continue)
        );
        // What is being made of its action may be decided already.
        let noting = task.area.as_ref().map(|area| area.noting.load(Relaxed));
        if nothing && !blocked && noting.unwrap_or(0) == 0 {
            // Natively it would not even wake the task.
            self.undo_interruption(id)?;
        } else {
            self.keep(id, signal, *info, blocked)?;
            let task = self.task_mut(id);
            if let Some(area) = &task.area {
                area.held.store(task.stash.pending().0, Relaxed);
            }
            if !blocked {
                self.bail_out(id, place, &mut regs)?;
            }
        }
        self.machine.go(tid, Go::Application, 0)?;
        Ok(true)
    }

    /// The agent touched memory that is not there: the kernel, or the engine, is to find the same.
    fn agent_fault(&mut self, id: u32, mut regs: Regs) -> Result<bool> {
        let task = self.task(id);
        let Some(area) = &task.area else {
            return Ok(false);
        };
        let why = match area.phase.load(Relaxed) {
            phase::INSIDE => reason::CALL,
            phase::MADE => reason::RETURNED,
            _ => return Ok(false),
        };
        pass_on(&mut regs, area, why);
        let tid = task.tid;
        self.machine.stopped(tid)?.set_regs(&regs)?;
        self.machine.go(tid, Go::Application, 0)?;
        Ok(true)
    }

    /// An agent, or a stub without one, passes a call on. False: nobody called.
    fn passed_on(&mut self, id: u32, mut regs: Regs) -> Result<bool> {
        let task = self.task_mut(id);
        let Some(site) = task.space.sites.borrow().by_tail(regs.rcx) else {
            return Ok(false);
        };
        // As after the instruction itself.
        regs.rip = site.next();
        regs.rcx = site.next();
        regs.r11 = regs.eflags;
        regs.orig_rax = u64::MAX;
        let (why, result, hash, moved) = match &task.area {
            Some(area) => {
                area.phase.store(phase::OUTSIDE, Relaxed);
                let (hash, moved) = (area.hash.load(Relaxed), area.moved.load(Relaxed));
                let (why, result) = (area.reason.load(Relaxed), area.result.load(Relaxed));
                (why, result, hash, moved)
            }
            None => (reason::CALL, 0, 0, 0),
        };
        if task
            .area
            .as_ref()
            .is_none_or(|area| area.lane.load(Relaxed) == 0)
        {
            self.call_at(id, regs)?;
            return Ok(true);
        }
        match why {
            reason::DONE => {
                self.task_mut(id).app = regs;
                self.settle(id)?;
            }
            reason::CARRIED => {
                self.task_mut(id).app = regs;
                let call = Call {
                    nr: regs.rax as u32,
                    args: call_args(&regs),
                };
                let Some(row) = scribe_syscalls::lookup(&call) else {
                    self.dispatch(id)?;
                    return Ok(true);
                };
                *self.stats.calls.entry(call.nr).or_default() += 1;
                let kind = match row.class {
                    Class::Special(Special::Mmap) => Kind::mapped(&call),
                    Class::Special(Special::Brk) => Kind::Brk,
                    _ => Kind::Plain,
                };
                let mut pending = self.prepare(id, row, call, kind);
                pending.ret = result;
                self.task_mut(id).call = Some(Box::new(pending));
                self.finish_call(id)?;
            }
            reason::INTERRUPTED | reason::RETURNED => {
                let task = self.task_mut(id);
                task.app = regs;
                let signal = task.stash.next(Mask(task.mask)).is_some();
                let lane = task.lane;
                let crowded = self.lanes[&lane].members.len() > 1;
                let fetched = !signal && !self.stops_before_call(id);
                let interrupted = why == reason::INTERRUPTED;
                if interrupted && fetched && self.ptrace.in_use() {
                    // It was only fetched; it waits on as one whose tracer knows of it.
                    self.want_token(id, Ready::Dispatch);
                    return Ok(true);
                }
                let call = Call {
                    nr: regs.rax as u32,
                    args: call_args(&regs),
                };
                let Some(row) = scribe_syscalls::lookup(&call) else {
                    self.dispatch(id)?;
                    return Ok(true);
                };
                let mut pending = self.prepare(id, row, call, Kind::Plain);
                pending.ret = result;
                pending.may_block = true;
                // The outputs may lie where the inputs were.
                pending.hash = hash;
                if interrupted {
                    // What it has written stays where it is until the call is over.
                    pending.released = crowded;
                    pending.interrupted = true;
                    if moved != 0 {
                        pending.was_moved(moved);
                    } else if crowded {
                        self.move_outputs(id, &mut pending)?;
                    }
                }
                *self.stats.calls.entry(call.nr).or_default() += 1;
                self.task_mut(id).call = Some(Box::new(pending));
                if self.holds_token(id) {
                    self.finish_call(id)?;
                } else {
                    self.want_token(id, Ready::FinishCall);
                }
            }
            _ => self.call_at(id, regs)?,
        }
        Ok(true)
    }

    /// Stores hashes now and then also where all calls are fast: the next one is to be the engine's.
    fn look_now_and_then(&self, id: u32) {
        if self.options.checksum != start::Checksums::Off && Instant::now() >= self.next_checksum {
            let lane = &self.lanes[&self.task(id).lane];
            lane.area.look.store(1, Relaxed);
        }
    }

    /// An agent was stopped on request, as one that keeps others waiting: it is to pass its call on.
    /// True if the task stood in the agent.
    pub(super) fn asked_in_agent(&mut self, id: u32) -> Result<bool> {
        let task = self.task(id);
        let tid = task.tid;
        let mut regs = self.machine.stopped(tid)?.regs()?;
        let Some(place) = Place::of(&regs) else {
            return Ok(false);
        };
        self.bail_out(id, place, &mut regs)?;
        self.machine.go(tid, Go::Application, 0)?;
        Ok(true)
    }

    /// Whether a task with these registers is in its agent, or about to be.
    pub(super) fn is_in_agent(&self, id: u32, regs: &Regs) -> bool {
        self.agent_phase(id) != phase::OUTSIDE || Place::of(regs).is_some()
    }

    /// The agent of a task that stopped in it is to pass its call on, also where that has begun.
    fn bail_out(&self, id: u32, place: Place, regs: &mut Regs) -> Result<()> {
        let task = self.task(id);
        if let Some(area) = &task.area {
            area.pending.store(1, Relaxed);
        }
        if give_up_call(place, regs) {
            self.machine.stopped(task.tid)?.set_regs(regs)?;
        }
        Ok(())
    }
}

/// Where the scratch area of a slot is.
fn scratch_base(slot: u64) -> u64 {
    scribe_abi::SCRATCH_BASE + slot % scribe_abi::SCRATCH_SLOTS * scribe_abi::SCRATCH_PITCH
}
