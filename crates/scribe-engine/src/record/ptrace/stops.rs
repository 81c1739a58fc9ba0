//! The stops of a tracee: how it gets into them, and how it goes on.

use super::*;
use crate::regs::words;
use scribe_kernel::signal::restart::NR_RESTART_SYSCALL;
use scribe_kernel::signal::{Action, DefaultAction, Restart, restart};
use scribe_log::place;
use scribe_syscalls::Call;

const ERESTARTSYS: i64 = -512;

impl Recorder {
    /// Ends a call that the task was fetched from.
    pub(in crate::record) fn break_call(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        let stopped = self.machine.stopped(tid)?;
        let mut regs = stopped.regs()?;
        if regs.rip == AGENT_BASE + ENTRY_SYSCALL {
            // It had not begun.
            regs.rip = AGENT_BASE + AFTER_SYSCALL;
            regs.rax = ERESTARTSYS as u64;
        }
        if (-516..=-512).contains(&(regs.rax as i64)) {
            // Without this the kernel would restart the call.
            regs.orig_rax = u64::MAX;
            stopped.set_regs(&regs)?;
        }
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// Stops a tracee and tells its tracer.
    pub(super) fn halt(&mut self, id: u32, cause: Cause, place: Place) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let Some(tracee) = self.ptrace.tracees.get_mut(&id) else {
            return Ok(());
        };
        let mut regs = task.app;
        regs.orig_rax = tracee.orig;
        let mut keep_rax = false;
        match (&cause, place) {
            (_, Place::Entry | Place::Restart) => {
                (regs.orig_rax, regs.rax) = (task.app.rax, -i64::from(libc::ENOSYS) as u64);
                if let (Place::Restart, Some(call)) = (place, &task.call) {
                    regs.orig_rax = call.agent_nr;
                }
            }
            (_, Place::Interrupted) => {
                if let Some(call) = &task.call {
                    (regs.orig_rax, regs.rax) = (task.app.rax, call.ret as u64);
                }
            }
            (Cause::Event(event), _) if *event != EVENT_STOP && tracee.in_call => {
                regs.rax = -i64::from(libc::ENOSYS) as u64;
                keep_rax = true;
            }
            _ => {}
        }
        let left = match place {
            Place::Entry | Place::Interrupted | Place::Restart => Left::InCall,
            _ => Left::AfterEvent,
        };
        let makes = matches!(
            cause,
            Cause::Event(
                libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE
            )
        );
        tracee.halt = Some(Halt {
            cause,
            place,
            before: regs,
            regs,
            keep_rax,
            reported: false,
        });
        // On its way out it keeps the token: what the kernel then writes has its place.
        if place != Place::Exit {
            if place != Place::Group {
                task.state = State::Traced;
            }
            self.release(id, left);
        }
        self.notify_stop(id);
        if makes {
            self.new_ones_may_stop(id);
        }
        Ok(())
    }

    /// The tasks that this one made may stop for their tracer, as its own stop for that has been, or will not be.
    pub(super) fn new_ones_may_stop(&mut self, maker: u32) {
        let tracees = self.ptrace.tracees.iter_mut();
        let made = tracees.filter(|(_, tracee)| tracee.after == Some(maker));
        let ids: Vec<u32> = made
            .map(|(id, tracee)| {
                tracee.after = None;
                *id
            })
            .collect();
        for id in ids {
            self.notify_stop(id);
        }
    }

    /// The tracer lets its tracee go on.
    pub(super) fn let_go(&mut self, id: u32, mode: Mode, signal: i32) -> Result<()> {
        let Some(tracee) = self.ptrace.tracees.get_mut(&id) else {
            return Ok(());
        };
        tracee.mode = mode;
        let Some(halt) = tracee.halt.take() else {
            return Ok(());
        };
        tracee.flush = true;
        let tracer = tracee.tracer;
        let place = halt.place;
        let cause = halt.cause.clone();
        tracee.left = Some(halt);
        match cause {
            Cause::Signal(same, info) if signal == same => tracee.inject = Some((signal, info)),
            Cause::Signal(..) if signal != 0 => {
                let from = self.tasks.get(&tracer).map_or(0, |tracer| tracer.tgid);
                let uid = wait::uid_of(from);
                let from = self.seen_by(id, from);
                let info = wait::siginfo(signal, libc::SI_USER, from, uid, 0);
                if let Some(tracee) = self.tracee(id) {
                    tracee.inject = Some((signal, info));
                }
            }
            Cause::Entry | Cause::Exit if signal != 0 => {
                let info = wait::siginfo(signal, libc::SI_KERNEL, 0, 0, 0);
                self.task_mut(id).stash.push(signal as u32, info);
            }
            _ => {}
        }
        let tid = self.task(id).tid;
        match place {
            Place::Exit => self.leave_exit_stop(id),
            Place::Kernel => {
                self.task_mut(id).state = State::InCall;
                Ok(self.machine.go(tid, Go::Agent, 0)?)
            }
            Place::Group => {
                self.ptrace.grouped.remove(&id);
                Ok(self.machine.go(tid, Go::Agent, 0)?)
            }
            _ => {
                self.want_token(id, Ready::Traced);
                Ok(())
            }
        }
    }

    /// The tracee has the token to go on from its stop.
    pub(in crate::record) fn traced_go_on(&mut self, id: u32) -> Result<()> {
        if self.finish_later(id)? {
            return Ok(());
        }
        let left = self.tracee(id).and_then(|tracee| tracee.left.clone());
        match left {
            Some(halt) if halt.place == Place::Entry => self.enter_call(id, &halt),
            Some(halt) if halt.place == Place::Restart => self.restart_call(id, &halt),
            _ => self.settle(id),
        }
    }

    /// Makes the call at whose entry the tracee stood.
    fn enter_call(&mut self, id: u32, halt: &Halt) -> Result<()> {
        let changed = halt.changed();
        let nr = halt.regs.orig_rax as u32;
        if changed {
            let task = self.task_mut(id);
            task.app = halt.regs;
            (task.app.rax, task.app.orig_rax) = (nr.into(), u64::MAX);
        }
        self.write_changes(id, place::ENTRY, changed)?;
        if !self.left(id)
            && let Some(tracee) = self.tracee(id)
        {
            tracee.orig = nr as i32 as u64;
        }
        if (nr as i32) < 0 {
            // Not a call any more.
            let call = Call {
                nr,
                args: scribe_tracee::inject::call_args(&halt.regs),
            };
            return self.answer_unknown(id, call, halt.regs.rax as i64);
        }
        self.dispatch(id)
    }

    /// Makes the call again, at whose second entry the tracee stood.
    fn restart_call(&mut self, id: u32, halt: &Halt) -> Result<()> {
        if halt.changed() {
            self.abandon_call(id)?;
            let task = self.task_mut(id);
            task.app = halt.regs;
            task.app.rax = halt.regs.orig_rax;
            task.app.rip = halt.regs.rip.wrapping_sub(2);
            task.app.orig_rax = u64::MAX;
            self.write_changes(id, place::HERE, true)?;
            if !self.left(id)
                && let Some(tracee) = self.tracee(id)
            {
                (tracee.in_call, tracee.skip_entry) = (false, true);
            }
            return self.resume_application(id);
        }
        self.write_changes(id, place::ENTRY, false)?;
        self.left(id);
        match self.task_mut(id).call.take() {
            Some(call) => self.launch(id, *call),
            None => self.settle(id),
        }
    }

    /// The stop is left; true if with it the tracing ended.
    fn left(&mut self, id: u32) -> bool {
        let Some(tracee) = self.tracee(id) else {
            return true;
        };
        tracee.left = None;
        let detached = tracee.detached;
        if detached {
            self.ptrace.tracees.remove(&id);
        }
        detached
    }

    /// The call that was broken off is not made again from where it was.
    fn abandon_call(&mut self, id: u32) -> Result<()> {
        let Some(mut pending) = self.task_mut(id).call.take() else {
            return Ok(());
        };
        pending.ret = ERESTARTSYS;
        self.end_interrupted(id, &mut pending, true)
    }

    /// Writes what the tracer changed while the tracee stood still, memory aside.
    fn write_changes(&mut self, id: u32, place: u8, regs: bool) -> Result<()> {
        let Some(tracee) = self.ptrace.tracees.get_mut(&id) else {
            return Ok(());
        };
        let xstate = std::mem::take(&mut tracee.new_xstate);
        let mask = std::mem::take(&mut tracee.new_mask);
        if !regs && !xstate && !mask {
            return Ok(());
        }
        let task = &self.tasks[&id];
        let image = match xstate {
            true => self.machine.stopped(task.tid)?.xstate()?,
            false => Vec::new(),
        };
        self.stats.events += 1;
        self.log.append(task.lane, |buf| {
            let mut record = scribe_log::begin_tracer(buf, id, place, 0);
            if regs {
                record.regs(&words(&task.app));
            }
            if xstate {
                record.xstate(&image);
            }
            if mask {
                record.mask(task.mask);
            }
            record.finish();
        });
        Ok(())
    }

    /// Takes over the registers that the tracer left, behind an event or in a call that was broken
    /// off.
    fn commit(&mut self, id: u32, halt: &Halt) -> Result<()> {
        let changed = halt.changed();
        let in_call = self.task(id).call.is_some();
        if changed {
            self.abandon_call(id)?;
            let task = self.tasks.get_mut(&id).expect("the task exists");
            let mut regs = halt.regs;
            if halt.keep_rax {
                regs.rax = task.app.rax;
            }
            // What the kernel does when no handler runs (arch_do_signal_or_restart).
            if regs.orig_rax as i64 >= 0 {
                match restart(regs.rax as i64, None) {
                    Restart::Same => {
                        regs.rax = regs.orig_rax;
                        regs.rip = regs.rip.wrapping_sub(2);
                    }
                    Restart::RestartBlock => {
                        regs.rax = NR_RESTART_SYSCALL;
                        regs.rip = regs.rip.wrapping_sub(2);
                    }
                    _ => {}
                }
            }
            if let Some(tracee) = self.ptrace.tracees.get_mut(&id) {
                tracee.orig = regs.orig_rax;
            }
            regs.orig_rax = u64::MAX;
            task.app = regs;
        }
        let at = if in_call && !changed {
            place::ENTRY
        } else {
            place::HERE
        };
        self.write_changes(id, at, changed)
    }

    /// A tracee is about to make a call; true if it stops for its tracer first.
    pub(in crate::record) fn entry_stop(&mut self, id: u32) -> Result<bool> {
        let nr = self.task(id).app.rax;
        let Some(tracee) = self.tracee(id) else {
            return Ok(false);
        };
        tracee.in_call = true;
        tracee.orig = nr;
        let known = std::mem::take(&mut tracee.skip_entry);
        if tracee.mode != Mode::Syscall || known {
            return Ok(false);
        }
        tracee.message = 1; // PTRACE_EVENTMSG_SYSCALL_ENTRY
        self.halt(id, Cause::Entry, Place::Entry)?;
        Ok(true)
    }

    /// Whether a tracee is to stop before the call that it is about to make.
    pub(in crate::record) fn stops_before_call(&self, id: u32) -> bool {
        self.traced(id) && self.ptrace.tracees[&id].interrupt
    }

    /// The tracee stands at a call, but something comes before it.
    pub(in crate::record) fn stop_before_call(&mut self, id: u32) -> Result<()> {
        let lane = self.task(id).lane;
        self.write_place(lane, id, place::BEFORE, 0);
        if let Some(tracee) = self.tracee(id) {
            (tracee.in_call, tracee.orig) = (false, u64::MAX);
        }
        self.settle(id)
    }

    fn write_place(&mut self, lane: u32, id: u32, place: u8, signo: u16) {
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            scribe_log::begin_tracer(buf, id, place, signo).finish();
        });
    }

    /// A fault of a tracee, or the end of a single step. The registers are in `app`.
    pub(in crate::record) fn traced_fault(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
    ) -> Result<()> {
        let lane = self.task(id).lane;
        let tracee = self.tracee(id).expect("it is traced");
        tracee.orig = u64::MAX;
        let stepped = signal == libc::SIGTRAP && si_code(&info) == libc::TRAP_TRACE;
        if stepped && tracee.mode == Mode::Step {
            self.write_place(lane, id, place::STEP, 0);
        } else {
            self.write_place(lane, id, place::FAULT, signal as u16);
        }
        self.force(id, signal)?;
        self.halt(id, Cause::Signal(signal, info), Place::Event)
    }

    /// A signal that cannot be put off: blocked or ignored, it has its default effect
    /// (force_sig_info_to_task).
    fn force(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let mask = task
            .sighand
            .borrow_mut()
            .force(signal as u32, Mask(task.mask));
        if mask.0 != task.mask {
            task.mask = mask.0;
            let stopped = self.machine.stopped(task.tid)?;
            stopped.set_sigmask(signals::kernel_mask(mask.0))?;
        }
        Ok(())
    }

    /// An instruction was emulated for a tracee that may be single-stepping; true if it stops.
    pub(in crate::record) fn emulated_step(&mut self, id: u32, has_event: bool) -> Result<bool> {
        if !self.traced(id) || self.ptrace.tracees[&id].mode != Mode::Step {
            return Ok(false);
        }
        let (lane, rip) = (self.task(id).lane, self.task(id).app.rip);
        if !has_event {
            self.write_place(lane, id, place::STEP, 0);
        }
        self.tracee(id).expect("it is traced").orig = u64::MAX;
        let info = wait::fault_info(libc::SIGTRAP, libc::TRAP_TRACE, rip);
        self.halt(id, Cause::Signal(libc::SIGTRAP, info), Place::Event)?;
        Ok(true)
    }

    /// Whether the task is a tracee whose call was broken off.
    pub(in crate::record) fn broken_off(&self, id: u32) -> bool {
        let call = self.task(id).call.as_ref();
        self.has_tracer(id) && call.is_some_and(|call| matches!(call.ret, -516..=-512))
    }

    /// A signal stopped a tracee that runs application code.
    pub(in crate::record) fn signal_to_running_tracee(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
    ) -> Result<()> {
        let task = self.task_mut(id);
        task.stash.push(signal as u32, info);
        if self.ptrace.tracees[&id].mode == Mode::Step {
            // It has not moved: a step ends with a trap, which would have come first.
            return self.settle(id);
        }
        self.go_application(id)?;
        self.ticking_for(id);
        Ok(())
    }

    /// The call of a tracee was broken off.
    pub(in crate::record) fn traced_interrupted(
        &mut self,
        id: u32,
        pending: Box<PendingCall>,
    ) -> Result<()> {
        let mask = pending.temporary_mask.unwrap_or(self.task(id).mask);
        let idle = self.task(id).stash.next(Mask(mask)).is_none();
        let tracee = self.tracee(id).expect("it is traced");
        if idle && !tracee.interrupt {
            // By nothing that anybody sees.
            return self.launch_again(id, pending, false);
        }
        self.task_mut(id).call = Some(pending);
        self.settle(id)
    }

    fn launch_again(&mut self, id: u32, mut pending: Box<PendingCall>, seen: bool) -> Result<()> {
        if wait::is_wait(&pending.call) {
            pending.agent_nr = pending.call.nr.into();
        } else if restart(pending.ret, None) == Restart::RestartBlock {
            pending.agent_nr = NR_RESTART_SYSCALL;
        }
        pending.ret = 0;
        let nr = pending.agent_nr;
        if seen && let Some(tracee) = self.tracee(id) {
            (tracee.in_call, tracee.orig, tracee.message) = (true, nr, 1);
            if tracee.mode == Mode::Syscall {
                self.task_mut(id).call = Some(pending);
                return self.halt(id, Cause::Entry, Place::Restart);
            }
        }
        self.launch(id, *pending)
    }

    /// A tracee is at a sync point, with the token: it stops as often as there is something to
    /// report, then goes on. `temporary`: the mask that its call had installed.
    pub(in crate::record) fn settle_tracee(
        &mut self,
        id: u32,
        temporary: Option<u64>,
    ) -> Result<()> {
        let tracee = self.tracee(id).expect("it is traced");
        tracee.temporary = temporary.or(tracee.temporary);
        if let Some(halt) = tracee.left.clone() {
            self.commit(id, &halt)?;
        }
        let inject = self.tracee(id).and_then(|tracee| tracee.inject.take());
        if self.left(id) {
            if let Some((signal, info)) = inject {
                self.task_mut(id).stash.push(signal as u32, info);
            }
            return self.settle_untraced(id);
        }
        self.tracee(id).expect("it is traced").inject = inject;
        loop {
            let in_call = self.task(id).call.is_some();
            let place = if in_call {
                Place::Interrupted
            } else {
                Place::Event
            };
            let tracee = self.tracee(id).expect("it is traced");
            if let Some((signal, info)) = tracee.inject.take() {
                if self.act(id, signal, &info)? {
                    return Ok(());
                }
                continue;
            }
            if std::mem::take(&mut tracee.entered) {
                return self.halt(id, Cause::Event(0), place);
            }
            if let Some((event, message)) = tracee.events.pop_front() {
                tracee.message = message;
                return self.halt(id, Cause::Event(event), place);
            }
            if std::mem::take(&mut tracee.in_call) {
                match tracee.mode {
                    Mode::Syscall => {
                        tracee.message = 2; // PTRACE_EVENTMSG_SYSCALL_EXIT
                        return self.halt(id, Cause::Exit, place);
                    }
                    Mode::Step if !in_call => {
                        let rip = self.task(id).app.rip;
                        let info = wait::fault_info(libc::SIGTRAP, libc::TRAP_BRKPT, rip);
                        return self.halt(id, Cause::Signal(libc::SIGTRAP, info), place);
                    }
                    _ => {}
                }
            }
            let tracee = self.tracee(id).expect("it is traced");
            if std::mem::take(&mut tracee.interrupt) {
                return self.halt(id, Cause::Event(EVENT_STOP), place);
            }
            let mask = self.mask_of(id);
            if let Some(pending) = self.task_mut(id).stash.pop(Mask(mask)) {
                let cause = Cause::Signal(pending.signo as i32, pending.info);
                return self.halt(id, cause, place);
            }
            if !self.flush(id)? {
                break;
            }
        }
        let tracee = self.tracee(id).expect("it is traced");
        tracee.temporary = None;
        match self.task_mut(id).call.take() {
            Some(pending) => self.launch_again(id, pending, true),
            None => {
                self.tracee(id).expect("it is traced").orig = u64::MAX;
                self.resume_application(id)
            }
        }
    }

    /// What the untraced would do, for one that is traced no more.
    fn settle_untraced(&mut self, id: u32) -> Result<()> {
        if self.task(id).call.is_some() {
            return self.finish_call(id);
        }
        self.settle(id)
    }

    /// The signals that are blocked now.
    fn mask_of(&self, id: u32) -> u64 {
        let task = self.task(id);
        let call = task.call.as_ref().and_then(|call| call.temporary_mask);
        let tracee = self.ptrace.tracees.get(&id);
        call.or(tracee.and_then(|tracee| tracee.temporary))
            .unwrap_or(task.mask)
    }

    /// Takes the signals from the kernel that came while the tracee stood still; true if any did.
    fn flush(&mut self, id: u32) -> Result<bool> {
        let Some(tracee) = self.tracee(id) else {
            return Ok(false);
        };
        if !std::mem::take(&mut tracee.flush) {
            return Ok(false);
        }
        let (tid, app) = (self.task(id).tid, self.task(id).app);
        if !self.more_waits(id)? {
            return Ok(false);
        }
        self.machine.inject(tid, &app, libc::SYS_getpid, [0; 6])?;
        self.take_strays(id)?;
        Ok(true)
    }

    /// A signal that the tracer let through has its effect; true if the tracee does not go on here.
    fn act(&mut self, id: u32, signal: i32, info: &[u8; 128]) -> Result<bool> {
        let blocked = self.mask_of(id) >> (signal - 1) & 1 != 0;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if signal == libc::SIGKILL {
            scribe_tracee::kill(task.tgid, task.tid, signal);
            task.state = State::Traced;
            return Ok(true);
        }
        if blocked && signal != libc::SIGSTOP {
            task.stash.push(signal as u32, *info);
            return Ok(false);
        }
        let action = task.sighand.borrow().what_to_do(signal as u32);
        let in_call = task.call.is_some();
        match action {
            Action::Ignore | Action::Default(DefaultAction::Ignore | DefaultAction::Continue) => {
                Ok(false)
            }
            Action::Handler(disposition) => {
                if let Some(mut pending) = task.call.take() {
                    let temporary = pending.temporary_mask;
                    let again = restart(pending.ret, Some(disposition.flags)) != Restart::Eintr;
                    self.end_interrupted(id, &mut pending, again)?;
                    if let Some(tracee) = self.tracee(id) {
                        tracee.temporary = temporary;
                    }
                }
                let temporary = self.tracee(id).and_then(|tracee| tracee.temporary.take());
                self.enter_handler(id, signal, info, 0, &disposition, temporary)?;
                if let Some(tracee) = self.tracee(id) {
                    tracee.entered = tracee.mode == Mode::Step;
                }
                Ok(false)
            }
            Action::Default(DefaultAction::Stop) => {
                let (after, left) = match in_call {
                    true => (Ready::Relaunch, Left::InCall),
                    false => (Ready::Resume, Left::AfterEvent),
                };
                self.stop(id, signal, after, left)?;
                Ok(true)
            }
            Action::Default(default) => {
                let code = if default == DefaultAction::Core { 3 } else { 2 };
                let flags = if in_call { signals::AT_ENTRY } else { 0 };
                self.write_signal(id, signal, info, flags, code);
                self.task(id).process.borrow_mut().exit_recorded = true;
                self.die(id, signal)?;
                Ok(true)
            }
        }
    }

    /// A tracee, or one that may become it, is in the kernel's group stop, which is not left yet.
    /// True if it stays there for its tracer.
    pub(in crate::record) fn group_stop(&mut self, id: u32, signal: i32) -> Result<bool> {
        if self.task(id).state != State::Stopping {
            return Ok(false);
        }
        self.ptrace.grouped.insert(id, signal);
        if !self.traced(id) {
            return Ok(false);
        }
        self.halt(id, Cause::Group(signal), Place::Group)?;
        Ok(true)
    }

    /// The kernel's group stop is over.
    pub(in crate::record) fn group_stop_over(&mut self, id: u32) {
        let grouped = self.ptrace.grouped.remove(&id).is_some();
        if let Some(tracee) = self.tracee(id) {
            tracee.interrupt |= grouped && tracee.seized;
        }
    }

    /// The task was fetched from a call, because a stop or a wait's end is due; true if the call
    /// has to end here.
    pub(in crate::record) fn is_fetched(&self, id: u32) -> bool {
        let task = self.task(id);
        let Some(call) = &task.call else {
            return false;
        };
        if self.has_report(id, &call.call) {
            return true;
        }
        let mask = call.temporary_mask.unwrap_or(task.mask);
        self.traced(id)
            && (self.ptrace.tracees[&id].interrupt || task.stash.next(Mask(mask)).is_some())
    }
}
