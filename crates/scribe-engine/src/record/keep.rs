//! Signals that were taken from the kernel, on their way to the next sync point of their task.

use super::signals::kernel_mask;
use super::*;

impl Recorder {
    /// Keeps signals that came up during injected calls.
    pub(super) fn take_strays(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        for (signal, mut info) in self.machine.take_strays(tid) {
            ptrace::honest_siginfo(signal, &mut info);
            self.keep(id, signal, info, false)?;
        }
        Ok(())
    }

    /// Keeps a signal of a stopped task for its next sync point. Until then the kernel blocks it, if
    /// the program does not: one that comes again and again, as that of a timer of a microsecond, would
    /// never let the task get there.
    pub(super) fn keep(
        &mut self,
        id: u32,
        signal: i32,
        info: [u8; 128],
        blocked: bool,
    ) -> Result<()> {
        let traced = self.has_tracer(id);
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.stash.push(signal as u32, info);
        if blocked || traced {
            return Ok(());
        }
        let call = task.call.as_ref();
        let mask = call.and_then(|call| call.temporary_mask);
        let mask = mask.unwrap_or(task.mask) | task.stash.pending().0;
        task.keeps = true;
        let stopped = self.machine.stopped(task.tid)?;
        Ok(stopped.set_sigmask(kernel_mask(mask))?)
    }

    /// The kernel blocks what the program does, no more.
    pub(super) fn keep_no_more(&mut self, id: u32) -> Result<()> {
        let task = self.task_mut(id);
        if std::mem::take(&mut task.keeps) {
            let (tid, mask) = (task.tid, task.mask);
            self.machine.stopped(tid)?.set_sigmask(kernel_mask(mask))?;
        }
        Ok(())
    }

    /// Takes what else the kernel has for a task that is about to get signals: of those that it gets at
    /// one point, the last one's handler runs first.
    pub(super) fn take_waiting(&mut self, id: u32) -> Result<()> {
        while self.more_waits(id)? {
            let (tid, app) = (self.task(id).tid, self.task(id).app);
            self.machine.inject(tid, &app, libc::SYS_getpid, [0; 6])?;
            self.take_strays(id)?;
        }
        Ok(())
    }

    /// Whether the kernel holds signals for a stopped task that it would present now.
    pub(super) fn more_waits(&self, id: u32) -> Result<bool> {
        let stopped = self.machine.stopped(self.task(id).tid)?;
        let blocked = Mask(stopped.sigmask()?);
        let mut waiting = stopped.pending(false)?;
        waiting.extend(stopped.pending(true)?);
        let signals = waiting
            .iter()
            .map(|info| u32::from_le_bytes([info[0], info[1], info[2], info[3]]));
        Ok(signals
            .filter(|signal| (1..=64).contains(signal))
            .any(|signal| !blocked.has(signal)))
    }
}
