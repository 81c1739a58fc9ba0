//! Calls that something broke off: they are made again, continued, or end with EINTR.

use super::calls::{Kind, PendingCall};
use super::placing::Outputs;
use super::*;
use scribe_log::flags::RESTART;
use scribe_syscalls::Call;
use scribe_tracee::inject::call_args;

/// include/linux/errno.h: the call is made again unless a handler runs.
pub(super) const ERESTARTNOHAND: i64 = -514;
/// include/linux/errno.h: the kernel goes on with the call by restart_syscall(2).
pub(crate) const ERESTART_RESTARTBLOCK: i64 = -516;

/// What is left of a time limit, so that the call does not end before it.
pub(crate) fn millis_left(limit: Duration, since: Duration) -> u64 {
    let left = limit.saturating_sub(since);
    left.as_nanos().div_ceil(1_000_000) as u64
}

impl Recorder {
    /// A call that signals interrupted before it did anything: the kernel wants it restarted, or
    /// ended with EINTR when a handler runs.
    pub(super) fn interrupted(&mut self, id: u32, mut pending: Box<PendingCall>) -> Result<()> {
        use scribe_kernel::signal::{Action, Restart, restart};
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let mask = pending.temporary_mask.unwrap_or(task.mask);
        let first = task.stash.next(Mask(mask));
        let action = first.map(|signal| task.sighand.borrow().what_to_do(signal));
        let flags = match action {
            Some(Action::Handler(disposition)) => Some(disposition.flags),
            Some(Action::Default(_)) => return self.interrupted_by_default(id, pending),
            _ => None,
        };
        match restart(pending.ret, flags) {
            Restart::Eintr => {
                self.end_interrupted(id, &mut pending, false)?;
                self.settle_masked(id, pending.temporary_mask)
            }
            // A handler runs, then the call is made again from the application's instruction.
            _ if flags.is_some() => {
                self.end_interrupted(id, &mut pending, true)?;
                self.settle_masked(id, pending.temporary_mask)
            }
            how => {
                // Nothing to see for the program: the same call goes on.
                if how == Restart::RestartBlock {
                    pending.agent_nr = libc::SYS_restart_syscall as u64;
                }
                self.shorten(&mut pending);
                self.discard_ignored(id);
                self.task_mut(id).call = Some(pending);
                if self.hold(id, Ready::Relaunch, Left::InCall) {
                    return Ok(());
                }
                match self.task_mut(id).call.take() {
                    Some(pending) => self.launch(id, *pending),
                    None => self.settle(id),
                }
            }
        }
    }

    /// Writes the event of a call that was broken off: it is to be made `again`, from the
    /// application's instruction, or gives EINTR.
    pub(super) fn end_interrupted(
        &mut self,
        id: u32,
        pending: &mut PendingCall,
        again: bool,
    ) -> Result<()> {
        if again {
            let none = Outputs { ranges: Vec::new() };
            self.write_call(id, pending, &none, pending.ret, RESTART)?;
            let task = self.task_mut(id);
            task.app.rax = pending.call.nr.into();
            task.app.rip -= 2;
            return Ok(());
        }
        pending.ret = -i64::from(libc::EINTR);
        let outputs = self.collect(id, pending)?;
        self.write_call(id, pending, &outputs, pending.ret, 0)?;
        self.task_mut(id).app.rax = pending.ret as u64;
        self.after_call(id, pending)
    }

    /// The call that the task was in when its recording began, and has not made again yet.
    pub(super) fn broken_call(&self, id: u32) -> Option<Box<PendingCall>> {
        let task = self.task(id);
        let call = Call {
            nr: task.app.rax as u32,
            args: call_args(&task.app),
        };
        let row = scribe_syscalls::lookup(&call).filter(|_| task.broken != 0)?;
        let mut pending = self.prepare(id, row, call, Kind::Plain);
        pending.ret = task.broken;
        Some(Box::new(pending))
    }

    /// A request to stop broke off a call which the kernel never continues by itself (epoll_wait(2),
    /// semop(2): signal(7) has the list). Only signals are to end it: it is to be made again, unless one
    /// that has an effect came before.
    pub(super) fn undo_interruption(&self, id: u32) -> Result<()> {
        let task = self.task(id);
        let temporary = task.call.as_ref().and_then(|call| call.temporary_mask);
        if task
            .stash
            .next(Mask(temporary.unwrap_or(task.mask)))
            .is_some()
        {
            return Ok(());
        }
        let stopped = self.machine.stopped(task.tid)?;
        let mut regs = stopped.regs()?;
        let behind = [AFTER_SYSCALL, scribe_abi::CALL_AFTER].map(|offset| AGENT_BASE + offset);
        let in_call = behind.contains(&regs.rip) && regs.orig_rax as i64 >= 0;
        if in_call && regs.rax as i64 == -i64::from(libc::EINTR) {
            regs.rax = ERESTARTNOHAND as u64;
            stopped.set_regs(&regs)?;
        }
        Ok(())
    }

    /// The same where another thread took the signal for which this one was woken, so that nothing was
    /// heard of it.
    pub(super) fn unless_for_nothing(&self, id: u32, ret: i64) -> i64 {
        if ret != -i64::from(libc::EINTR) {
            return ret;
        }
        let task = self.task(id);
        let Some(call) = &task.call else {
            return ret;
        };
        let mask = Mask(call.temporary_mask.unwrap_or(task.mask));
        let never = scribe_abi::fast::NEVER_RESTARTED.contains(&call.call.nr);
        match never && !self.traced(id) && task.stash.next(mask).is_none() {
            true => ERESTARTNOHAND,
            false => ret,
        }
    }

    /// A call that is made again is to end when it would have ended.
    pub(super) fn shorten(&self, pending: &mut PendingCall) {
        let epoll = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
        if pending.ret == ERESTARTNOHAND && epoll.contains(&pending.call.nr.into()) {
            let limit = pending.call.args[3] as i32;
            if limit > 0 {
                let limit = Duration::from_millis(limit as u64);
                pending.agent_args[3] = millis_left(limit, pending.started.elapsed());
            }
        }
    }
}
