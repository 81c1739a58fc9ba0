//! Signals: taken from the kernel when they come up, delivered at sync points only, by frames that
//! the engine builds (so that replay builds the same).

use super::*;
use crate::regs;
use crate::replay::AT_CALL;
use scribe_kernel::signal::frame::{self, FaultCause, FaultInfo, FrameInput};
use scribe_kernel::signal::{Action, DefaultAction, Disposition, Mask};
use scribe_kernel::vdso::{self, Inside};
use scribe_kernel::xstate;
use scribe_log::{Signal, action};

/// What became of the signals that could be delivered.
enum Delivered {
    /// This many handlers were entered.
    Handlers(usize),
    /// The task is on its way out, or into a group stop.
    Away,
}

/// Whether a signal is the direct effect of the instruction at which the task stands.
pub(crate) fn is_synchronous(signal: i32, info: &[u8; 128]) -> bool {
    let fault = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
    ];
    fault.contains(&signal) && si_code(info) > 0
}

/// The mask that the kernel is given for one that the application set.
pub(crate) fn kernel_mask(app: u64) -> u64 {
    scribe_kernel::signal::kernel_mask(Mask(app)).0
}

impl Recorder {
    /// A signal that stopped the task in application code.
    pub(super) fn signal_in_application(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
    ) -> Result<()> {
        if is_synchronous(signal, &info) {
            if signal == libc::SIGSEGV
                && si_code(&info) == libc::SI_KERNEL
                && self.trapped_instruction(id)?
            {
                return Ok(());
            }
            return self.fault(id, signal, info);
        }
        if self.traced(id) {
            return self.signal_to_running_tracee(id, signal, info);
        }
        let alone = self.alone_in_lane(id);
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let tid = task.tid;
        let blocked = task.mask >> (signal - 1) & 1 != 0;
        let action = task.sighand.borrow().what_to_do(signal as u32);
        match action {
            Action::Ignore | Action::Default(DefaultAction::Ignore | DefaultAction::Continue)
                if !blocked => {}
            // Nobody can see where exactly a task ends or pauses, as long as no other process
            // shares its memory. So that a program which computes can be interrupted.
            Action::Default(DefaultAction::Term | DefaultAction::Core) if alone && !blocked => {
                task.app = self.machine.stopped(tid)?.regs()?;
                self.record_death(id, signal, 0);
                return self.die(id, signal);
            }
            Action::Default(DefaultAction::Stop) if alone && !blocked => {
                return Ok(self.machine.go(tid, Go::Application, signal)?);
            }
            _ => {
                self.keep(id, signal, info, blocked)?;
                let task = self.task(id);
                if let Some(area) = &task.area {
                    area.held.store(task.stash.pending().0, Relaxed);
                    if !blocked {
                        area.pending.store(1, Relaxed);
                    }
                }
                // What the handler finds half done is not there for long.
                if self.chaos.is_some() && !blocked && self.machine.sud {
                    let regs = self.machine.stopped(tid)?.regs()?;
                    let task = self.task(id);
                    let free = task.run.over.is_none() && task.run.steps == 0;
                    if free && !self.is_in_agent(id, &regs) {
                        self.stop_at_a_place(id, regs.rip);
                    }
                }
            }
        }
        self.machine.go(tid, Go::Application, 0)?;
        self.ticking_for(id);
        Ok(())
    }

    /// A signal that comes up before the task, which was let go from a sync point, has executed
    /// anything (it was blocked until now, or came just then) is delivered there. False: it is none.
    pub(super) fn signal_at_sync_point(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
    ) -> Result<bool> {
        if is_synchronous(signal, info) || self.traced(id) || !self.at_sync_point(id)? {
            return Ok(false);
        }
        self.keep(id, signal, *info, false)?;
        self.settle(id)?;
        Ok(true)
    }

    /// Whether a task, which runs application code, has executed nothing since its last sync point.
    fn at_sync_point(&self, id: u32) -> Result<bool> {
        let task = self.task(id);
        if task.run.over.is_some() || self.agent_phase(id) != 0 {
            return Ok(false);
        }
        let mut regs = self.machine.stopped(task.tid)?.regs()?;
        let mut app = task.app;
        app.rip = task.space.sites.borrow().resume(app.rip);
        (regs.orig_rax, app.orig_rax) = (0, 0);
        // Behind a call rip stands in rcx as well, which only another call could bring about.
        Ok(task.app.rcx == task.app.rip && crate::regs::words(&regs) == crate::regs::words(&app))
    }

    /// Whether the lane holds tasks of this process only.
    pub(super) fn alone_in_lane(&self, id: u32) -> bool {
        let task = self.task(id);
        let members = &self.lanes[&task.lane].members;
        members
            .iter()
            .all(|other| self.tasks.get(other).is_none_or(|t| t.tgid == task.tgid))
    }

    /// A fault of the instruction at which the task stands: a sync point.
    pub(super) fn fault(&mut self, id: u32, signal: i32, info: [u8; 128]) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.app = self.machine.stopped(task.tid)?.regs()?;
        task.app.orig_rax = u64::MAX;
        if self.traced(id) {
            return self.traced_fault(id, signal, info);
        }
        let task = self.task(id);
        let blocked = task.mask >> (signal - 1) & 1 != 0;
        let action = task.sighand.borrow().what_to_do(signal as u32);
        match action {
            Action::Handler(disposition) if !blocked => {
                self.enter_handler(id, signal, &info, SYNC, &disposition, None)?;
                if signal == libc::SIGTRAP && si_code(&info) == libc::TRAP_TRACE {
                    self.steps_by_itself(id)?;
                }
                self.settle(id)
            }
            // A fault cannot be put off or ignored: the kernel ends the program.
            _ => {
                self.write_signal(id, signal, &info, SYNC, 3);
                self.task(id).process.borrow_mut().exit_recorded = true;
                self.die(id, signal)
            }
        }
    }

    /// A call in progress may have been interrupted, as its registers tell.
    pub(super) fn note_interruption(&mut self, id: u32, regs: &Regs) {
        if (-516..=-512).contains(&(regs.rax as i64))
            && let Some(call) = &mut self.task_mut(id).call
        {
            call.interrupted = true;
        }
    }

    /// A signal that came up while the task was on its way into or out of a call. `before`: the
    /// call has not begun.
    pub(super) fn signal_in_call(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
        mut regs: Regs,
        before: bool,
    ) -> Result<()> {
        let traced = self.traced(id);
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let tid = task.tid;
        if signal == libc::SIGSEGV
            && si_code(&info) == libc::SI_KERNEL
            && matches!(&task.call, Some(call) if matches!(call.kind, calls::Kind::Exec))
        {
            // exec has failed when the old program was gone already (fs/exec.c, point_of_no_return): there
            // is no memory to go back to.
            task.state = State::Exiting;
            self.record_death(id, signal, AT_CALL);
            return Ok(self.machine.go(tid, Go::Agent, signal)?);
        }
        let pending_mask = task.call.as_ref().and_then(|call| call.temporary_mask);
        let blocked = pending_mask.unwrap_or(task.mask) >> (signal - 1) & 1 != 0;
        let action = task.sighand.borrow().what_to_do(signal as u32);
        let nothing = matches!(
            action,
            Action::Ignore | Action::Default(DefaultAction::Ignore | DefaultAction::Continue)
        );
        if nothing && !blocked && !traced {
            // The kernel restarts what this interrupted; natively it would not even wake the task.
            self.undo_interruption(id)?;
            return self.go_on_in_call(id);
        }
        self.keep(id, signal, info, blocked)?;
        let task = self.task(id);
        if blocked || task.vfork_wait {
            return self.go_on_in_call(id);
        }
        if before && task.is_parked() {
            self.want_token(id, Ready::FinishCall);
            return Ok(());
        }
        if before
            && task
                .call
                .as_ref()
                .is_some_and(|call| matches!(call.kind, calls::Kind::Plain))
        {
            if traced {
                return self.break_call(id);
            }
            self.want_token(id, Ready::AbortCall);
            return Ok(());
        }
        if (-516..=-512).contains(&(regs.rax as i64)) {
            // Without this the kernel would restart the call behind our back.
            regs.orig_rax = u64::MAX;
            self.machine.stopped(tid)?.set_regs(&regs)?;
        }
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// A signal has no effect on a call, which goes on; unless the task was also fetched from it:
    /// then this was the only stop that there will be.
    fn go_on_in_call(&mut self, id: u32) -> Result<()> {
        if self.is_fetched(id) {
            return self.break_call(id);
        }
        if self.gather.is_on() && self.gathered_in_stop(id, false)? {
            return Ok(());
        }
        if self.waits.is_woken(id) {
            self.want_token(id, Ready::FinishCall);
            return Ok(());
        }
        let tid = self.task(id).tid;
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// A signal while a task goes into a group stop, or the trap at which it comes out.
    pub(super) fn signal_while_stopping(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
    ) -> Result<()> {
        if signal == libc::SIGTRAP && si_code(&info) == libc::SI_KERNEL {
            let (tgid, after) = (self.task(id).tgid, self.task(id).after_stop);
            self.group_stopped.remove(&tgid);
            if let Some(regs) = self.task_mut(id).agent_regs.take() {
                let tid = self.task(id).tid;
                self.machine.stopped(tid)?.set_regs(&regs)?;
            }
            self.want_token(id, after);
            return Ok(());
        }
        self.task_mut(id).stash.push(signal as u32, info);
        self.resume_agent(id)
    }

    /// The task is about to make a call, but a signal comes first.
    pub(super) fn abort_call(&mut self, id: u32) -> Result<()> {
        self.leave_terminal(id);
        let task = self.task_mut(id);
        let parked = task.is_parked();
        let call = match task.call.take() {
            // What it waited for may have come first.
            Some(call) if parked => return self.unpark(id, call),
            Some(call) => Some(call),
            None => self.broken_call(id),
        };
        // It had begun to wait when something else interrupted it: so a signal ends it as it does.
        if let Some(call) = call.filter(|call| (-516..=-512).contains(&call.ret))
            && !self.traced(id)
        {
            self.task_mut(id).broken = 0;
            return self.interrupted(id, call);
        }
        let task = self.task_mut(id);
        task.app.rip -= 2;
        if self.traced(id) {
            return self.stop_before_call(id);
        }
        match self.deliver(id, None, AT_ENTRY)? {
            Delivered::Away => Ok(()),
            Delivered::Handlers(0) => {
                self.task_mut(id).app.rip += 2;
                self.dispatch(id)
            }
            Delivered::Handlers(_) => self.resume_application(id),
        }
    }

    /// The task has finished with a sync point: signals that wait come first, then it goes on.
    pub(super) fn settle(&mut self, id: u32) -> Result<()> {
        self.settle_masked(id, None)
    }

    /// The same, where the call had installed a mask of its own.
    pub(super) fn settle_masked(&mut self, id: u32, mask: Option<u64>) -> Result<()> {
        if self.has_tracer(id) {
            if self.task(id).call.is_some() {
                self.unpatch_before_call(id, 0, u64::MAX)?;
            } else {
                self.unpatch(id, 0, u64::MAX)?;
            }
            return self.settle_tracee(id, mask);
        }
        match self.deliver(id, mask, 0)? {
            Delivered::Away => Ok(()),
            Delivered::Handlers(_) => self.resume_application(id),
        }
    }

    /// Drops signals that have no effect.
    pub(super) fn discard_ignored(&mut self, id: u32) {
        let task = self.task_mut(id);
        while let Some(signal) = task.stash.next(Mask(task.mask)) {
            let action = task.sighand.borrow().what_to_do(signal);
            match action {
                Action::Ignore
                | Action::Default(DefaultAction::Ignore | DefaultAction::Continue) => {
                    task.stash.pop(Mask(task.mask));
                }
                _ => return,
            }
        }
    }

    fn deliver(&mut self, id: u32, mut temporary: Option<u64>, flags: u8) -> Result<Delivered> {
        let mut handlers = 0;
        let task = self.task(id);
        // With a mask for one call they all come up during that.
        if temporary.is_none() && task.stash.next(Mask(task.mask)).is_some() {
            self.take_waiting(id)?;
        }
        loop {
            let task = self.task_mut(id);
            let mask = temporary.unwrap_or(task.mask);
            let Some((signal, info)) = pop(&mut task.stash, mask) else {
                return Ok(Delivered::Handlers(handlers));
            };
            let action = task.sighand.borrow().what_to_do(signal as u32);
            let flags = if handlers == 0 { flags } else { 0 };
            match action {
                Action::Ignore
                | Action::Default(DefaultAction::Ignore | DefaultAction::Continue) => {}
                Action::Handler(disposition) => {
                    let mask = temporary.take();
                    self.enter_handler(id, signal, &info, flags, &disposition, mask)?;
                    handlers += 1;
                }
                Action::Default(DefaultAction::Stop) => {
                    if flags & AT_ENTRY != 0 {
                        // The call is made when the task goes on.
                        self.task_mut(id).app.rip += 2;
                        self.stop(id, signal, Ready::Dispatch, Left::InCall)?;
                    } else {
                        self.stop(id, signal, Ready::Resume, Left::AfterEvent)?;
                    }
                    return Ok(Delivered::Away);
                }
                Action::Default(default) => {
                    let code = if default == DefaultAction::Core { 3 } else { 2 };
                    self.write_signal(id, signal, &info, flags, code);
                    self.task(id).process.borrow_mut().exit_recorded = true;
                    self.die(id, signal)?;
                    return Ok(Delivered::Away);
                }
            }
        }
    }

    /// A call was interrupted by a signal without a handler.
    pub(super) fn interrupted_by_default(
        &mut self,
        id: u32,
        pending: Box<PendingCall>,
    ) -> Result<()> {
        let mask = pending.temporary_mask.unwrap_or(self.task(id).mask);
        let Some((signal, info)) = pop(&mut self.task_mut(id).stash, mask) else {
            return self.launch(id, *pending);
        };
        let action = self.task(id).sighand.borrow().what_to_do(signal as u32);
        match action {
            Action::Default(DefaultAction::Term | DefaultAction::Core) => {
                let core = matches!(action, Action::Default(DefaultAction::Core));
                self.write_signal(id, signal, &info, AT_ENTRY, if core { 3 } else { 2 });
                self.task(id).process.borrow_mut().exit_recorded = true;
                self.die(id, signal)
            }
            Action::Default(DefaultAction::Stop) => {
                self.task_mut(id).call = Some(pending);
                self.stop(id, signal, Ready::Relaunch, Left::InCall)
            }
            _ => {
                self.task_mut(id).call = Some(pending);
                self.finish_call(id)
            }
        }
    }

    pub(super) fn write_signal(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
        flags: u8,
        action: u8,
    ) {
        self.write_signal_at(id, signal, info, (flags, 0), action);
    }

    fn write_signal_at(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
        (flags, back): (u8, u8),
        action: u8,
    ) {
        self.stats.signals += 1;
        if matches!(action, action::TERMINATE | action::CORE) {
            self.write_death_effects(id);
        }
        let lane = self.task(id).lane;
        let used = info
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let info = info[..used].into();
        let record = Record::Signal(Signal {
            signo: signal as u16,
            flags,
            back,
            action,
            info,
        });
        self.write(lane, &record);
    }

    /// A handler that interrupts a function of the vDSO returns to a place outside of it, or to where the function begins: when
    /// the program has been let go, the kernel's own functions are there, which have nothing in common with ours but that.
    /// Moves the task there; what the replay has to know of it: flags, and by how much it was moved back.
    fn leave_vdso(&mut self, id: u32) -> (u8, u8) {
        let task = self.task_mut(id);
        let (start, end) = task.space.vdso.get();
        let app = &mut task.app;
        if !(start..end).contains(&app.rip) {
            return (0, 0);
        }
        let mem = &task.space.mem;
        let mut image = vec![0; (end - start) as usize];
        let got = mem.read_some(start, &mut image);
        image.truncate(got);
        match vdso::inside(&image, (app.rip - start) as usize) {
            Some(Inside::Rest(back)) => {
                app.rip -= u64::from(back);
                (0, back)
            }
            Some(Inside::Return) if returns(mem, app) => (RETURNS, 0),
            _ => (0, 0),
        }
    }

    /// Writes that a signal comes here, builds the frame of its handler, and sets the registers to its entry.
    pub(super) fn enter_handler(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
        flags: u8,
        disposition: &Disposition,
        temporary: Option<u64>,
    ) -> Result<()> {
        let (moved, back) = match flags & SYNC {
            0 => self.leave_vdso(id),
            _ => (0, 0),
        };
        let at = (flags | moved, back);
        self.write_signal_at(id, signal, info, at, action::HANDLER);
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let entered = enter_handler(
            self.machine.stopped(task.tid)?,
            &task.space.mem,
            HandlerEntry {
                signal,
                info,
                disposition,
                app: &mut task.app,
                mask: &mut task.mask,
                temporary,
                alt: &mut task.alt,
                sighand: &mut task.sighand.borrow_mut(),
                fault: &mut task.fault,
            },
            &self.xstate,
        )?;
        if !entered {
            // No room for the frame: SIGSEGV, which can be caught if it is not that one that has no
            // room (kernel: force_sigsegv).
            const SEGV: i32 = libc::SIGSEGV;
            let blocked = temporary.unwrap_or(task.mask) >> (SEGV - 1) & 1 != 0;
            let action = task.sighand.borrow().what_to_do(SEGV as u32);
            if let Action::Handler(disposition) = action
                && signal != SEGV
                && !blocked
            {
                let mut info = [0; 128];
                info[..4].copy_from_slice(&SEGV.to_le_bytes());
                info[8..12].copy_from_slice(&libc::SI_KERNEL.to_le_bytes());
                return self.enter_handler(id, SEGV, &info, 0, &disposition, temporary);
            }
            self.record_death(id, libc::SIGSEGV, 0);
            self.die(id, libc::SIGSEGV)?;
            return Err(scribe_tracee::Error::Gone.into());
        }
        let task = self.task_mut(id);
        task.keeps = false;
        let (tid, mask) = (task.tid, task.mask);
        self.machine.stopped(tid)?.set_sigmask(kernel_mask(mask))?;
        Ok(())
    }

    /// Lets the kernel end the task's process by `signal`.
    pub(super) fn die(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.state = State::Exiting;
        let (tid, app) = (task.tid, task.app);
        let init = task.sighand.borrow().is_init();
        let space = task.space.clone();
        if init && signal != libc::SIGKILL {
            return self.die_as_init(id, signal);
        }
        // The kernel may have a handler for it that has since been used up, or that it must not
        // have: set the default action, unblock, deliver.
        space.mem.write(scribe_abi::AGENT_STRINGS, &[0; 32])?;
        let args = [signal as u64, scribe_abi::AGENT_STRINGS, 0, 8, 0, 0];
        self.machine
            .inject(tid, &app, libc::SYS_rt_sigaction, args)?;
        let stopped = self.machine.stopped(tid)?;
        stopped.set_sigmask(stopped.sigmask()? & !(1 << (signal - 1)))?;
        stopped.set_regs(&app)?;
        self.machine.go(tid, Go::Agent, signal)?;
        Ok(())
    }

    /// The same in the first process of a pid namespace: signals of tracers do not end it, as its own
    /// do not. What Syscall User Dispatch finds amiss does, with SIGSEGV (`force_exit_sig`).
    fn die_as_init(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.task(id);
        let (tid, mut regs) = (task.tid, task.app);
        if signal != libc::SIGSEGV || !self.machine.sud {
            return Ok(self.machine.go(tid, Go::Agent, libc::SIGKILL)?);
        }
        let stopped = self.machine.stopped(tid)?;
        stopped.break_sud()?;
        regs.rip = AGENT_BASE + ENTRY_SYSCALL;
        regs.rax = libc::SYS_getpid as u64;
        regs.orig_rax = u64::MAX;
        stopped.set_regs(&regs)?;
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// Sends the task into a group stop; it goes on as `after` says.
    pub(super) fn stop(&mut self, id: u32, signal: i32, after: Ready, left: Left) -> Result<()> {
        let (tid, app) = (self.task(id).tid, self.task(id).app);
        // A signal can be given to it only where one stopped it, as at the end of an injected call:
        // not, for example, where it was interrupted while it computed.
        self.machine.inject(tid, &app, libc::SYS_getpid, [0; 6])?;
        self.take_strays(id)?;
        // A blocked signal would be put by once more.
        self.keep_no_more(id)?;
        self.stand_at_trap(id, after)?;
        self.release(id, left);
        self.machine.go(tid, Go::Agent, signal)?;
        Ok(())
    }

    /// A task is in the kernel's group stop, which is complete, and known to the parent, when all of
    /// its process are: also those that the engine holds, and those that wait for the token.
    fn group_stop_begins(&mut self, id: u32) -> Result<()> {
        self.hand_token_on(id)?;
        let tgid = self.task(id).tgid;
        if !self.group_stopped.insert(tgid) {
            return Ok(());
        }
        let held = self.tasks.values().filter(|task| task.tgid == tgid);
        let held: Vec<(u32, Ready)> = held
            .filter_map(|task| match task.state {
                State::Ready(ready) => Some((task.id, ready)),
                _ => None,
            })
            .collect();
        for (other, ready) in held {
            if self.terminal_waits.contains(&other) || !self.joins_group_stop(other, ready) {
                continue;
            }
            self.runnable.retain(|waiting| *waiting != other);
            let lane = self.task(other).lane;
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.waiting.retain(|waiting| *waiting != other);
            }
        }
        Ok(())
    }

    /// A task in the kernel's group stop keeps no other process from running, if it was just about
    /// to go on, or to make a call.
    fn hand_token_on(&mut self, id: u32) -> Result<()> {
        if self.has_tracer(id) || !self.holds_token(id) {
            return Ok(());
        }
        let task = self.task(id);
        match task.state {
            State::App if self.at_sync_point(id)? => {
                self.stand_at_trap(id, Ready::Resume)?;
                self.release(id, Left::AfterEvent);
            }
            State::App => self.give_way_in_stop(id)?,
            State::InCall
                if self.machine.stopped(task.tid)?.regs()?.rip == AGENT_BASE + ENTRY_SYSCALL =>
            {
                self.leave_terminal(id);
                self.stand_at_trap(id, Ready::Relaunch)?;
                self.release(id, Left::InCall);
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets a task that the engine holds go into the group stop of its process: it comes out at the
    /// agent's trap, at once if there is no such stop any more. False: it has to stay.
    pub(super) fn joins_group_stop(&mut self, id: u32, ready: Ready) -> bool {
        let Some(task) = self.tasks.get(&id) else {
            return false;
        };
        let tid = task.tid;
        let joins = !matches!(ready, Ready::Traced | Ready::Die)
            && !self.gather.detaches()
            && self.group_stopped.contains(&task.tgid)
            && !self.has_tracer(id)
            && !self.holds_token(id)
            && self.stand_at_trap(id, ready).is_ok()
            && self.machine.go(tid, Go::Agent, 0).is_ok();
        if joins {
            self.leave_gathered(id);
        }
        joins
    }

    /// Puts a stopped task at the agent's trap, where it finds out how it goes on.
    pub(super) fn stand_at_trap(&mut self, id: u32, after: Ready) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let stopped = self.machine.stopped(task.tid)?;
        let mut regs = task.app;
        if after == Ready::Agent {
            regs = stopped.regs()?;
            task.agent_regs = Some(regs);
        }
        regs.rip = AGENT_BASE + scribe_abi::ENTRY_TRAP;
        regs.orig_rax = u64::MAX;
        stopped.set_regs(&regs)?;
        task.state = State::Stopping;
        task.after_stop = after;
        Ok(())
    }

    /// Group stop, or its end, or the first stop of a task.
    pub(super) fn on_group_stop(&mut self, id: u32, signal: i32, listened: bool) -> Result<()> {
        let task = self.task(id);
        let (tid, state) = (task.tid, task.state);
        if signal == libc::SIGTRAP {
            self.undo_interruption(id)?;
        }
        if state == State::InCall {
            let regs = self.machine.stopped(tid)?.regs()?;
            self.note_interruption(id, &regs);
        }
        let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        if self.gather.is_on() && self.gathered_in_stop(id, listened || stops.contains(&signal))? {
            return Ok(());
        }
        if stops.contains(&signal) {
            self.group_stop_begins(id)?;
            if self.group_stop(id, signal)? {
                return Ok(());
            }
            let job_control = self.task(id).tgid == self.root && tid == self.root;
            self.machine.go_with(tid, |stopped| stopped.listen())?;
            self.task_mut(id).listening = true;
            if job_control {
                suspend_with_the_program(self.root);
            }
            return Ok(());
        }
        let tgid = self.task(id).tgid;
        self.group_stopped.remove(&tgid);
        self.group_stop_over(id);
        if state == State::InCall && self.is_fetched(id) {
            return self.break_call(id);
        }
        if state == State::InCall && self.waits.is_woken(id) {
            self.want_token(id, Ready::FinishCall);
            return Ok(());
        }
        if self.on_asked_stop(id)? {
            return Ok(());
        }
        if state == State::App {
            return self.go_application(id);
        }
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }
}

/// The shell that started us waits for us, not for the program: stop with it. The SIGCONT to the
/// process group wakes both.
fn suspend_with_the_program(root: Tid) {
    // SAFETY: calls without pointers.
    unsafe {
        if libc::getpgid(root) == libc::getpgrp() && libc::tcgetpgrp(2) != -1 {
            libc::kill(libc::getpid(), libc::SIGSTOP);
        }
    }
}

/// What [`enter_handler`] works on.
pub(crate) struct HandlerEntry<'a> {
    pub signal: i32,
    pub info: &'a [u8; 128],
    pub disposition: &'a Disposition,
    pub app: &'a mut Regs,
    pub mask: &'a mut u64,
    pub temporary: Option<u64>,
    pub alt: &'a mut AltStack,
    pub sighand: &'a mut Dispositions,
    pub fault: &'a mut FaultInfo,
}

/// Puts a task at the entry of a signal handler: the same for recorder and replayer. False when
/// there is no room for the frame.
pub(crate) fn enter_handler(
    stopped: &scribe_tracee::Stopped,
    mem: &scribe_tracee::Mem,
    entry: HandlerEntry,
    layout: &xstate::XstateLayout,
) -> scribe_tracee::Result<bool> {
    let image = stopped.xstate()?;
    if is_synchronous(entry.signal, entry.info) {
        let mut code = [0; 15];
        let got = mem.read_some(entry.app.rip, &mut code);
        let addr = u64::from_le_bytes(entry.info[16..24].try_into().expect("eight bytes"));
        let found = scribe_tracee::fault::cause(&code[..got], entry.app, addr);
        let cause = FaultCause {
            write: found.write,
            fetch: found.fetch,
            x87: found.x87,
            interrupt: found.interrupt,
        };
        let fault = entry
            .fault
            .from_siginfo(entry.signal as u32, entry.info, &cause);
        *entry.fault = fault.unwrap_or(*entry.fault);
    }
    let before = *entry.alt;
    let input = FrameInput {
        regs: &regs::to_user(entry.app),
        xstate: &image,
        layout,
        siginfo: entry.info,
        signo: entry.signal as u32,
        disp: entry.disposition,
        blocked: Mask(entry.temporary.unwrap_or(*entry.mask)),
        saved_mask: Mask(*entry.mask),
        fault: *entry.fault,
    };
    let Ok(built) = frame::build(&input, entry.alt) else {
        return Ok(false);
    };
    for (addr, bytes) in &built.writes {
        if !put_frame(stopped.tid(), mem, *addr, bytes) {
            *entry.alt = before;
            return Ok(false);
        }
    }
    *entry.mask = built.new_mask.0;
    *entry.app = regs::from_user(&built.regs);
    // With SA_RESETHAND this puts the default back.
    entry.sighand.deliver(entry.signal as u32);
    // A handler starts with fresh floating-point state (arch/x86/kernel/signal.c, handle_signal).
    regs::put_xstate(stopped, xstate::fresh_image(layout))?;
    Ok(true)
}

/// Carries out the `ret` at which a task stands. False: its stack is not there.
pub(crate) fn returns(mem: &scribe_tracee::Mem, app: &mut Regs) -> bool {
    let Ok(to) = mem.read_u64(app.rsp) else {
        return false;
    };
    app.rip = to;
    app.rsp += 8;
    true
}

/// Writes to the program's memory, if the program itself could, or if its stack can grow there.
fn put_frame(tid: Tid, mem: &scribe_tracee::Mem, addr: u64, bytes: &[u8]) -> bool {
    if scribe_tracee::write_as_allowed(tid, addr, bytes).is_ok() {
        return true;
    }
    let end = addr.saturating_add(bytes.len() as u64);
    let maps = scribe_tracee::maps::read(tid);
    let mut hit = maps.iter().filter(|m| m.start < end && m.end > addr);
    hit.all(|map| map.writable()) && mem.write(addr, bytes).is_ok()
}

/// Flags of signal records.
pub(crate) const AT_ENTRY: u8 = scribe_log::flags::AT_ENTRY;
pub(crate) const SYNC: u8 = scribe_log::flags::SYNC;
pub(crate) const RETURNS: u8 = scribe_log::flags::RETURNS;

fn pop(stash: &mut SignalQueue, mask: u64) -> Option<(i32, [u8; 128])> {
    stash
        .pop(Mask(mask))
        .map(|pending| (pending.signo as i32, pending.info))
}
