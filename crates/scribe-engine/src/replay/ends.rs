//! Ends of tasks, and what the program shows until then.

use super::*;

impl Replayer {
    /// Ends one task.
    pub(super) fn end_task(&mut self, id: u32, whole: bool, status: i32) -> Result<()> {
        let Some(task) = self.tasks.remove(&id) else {
            return Ok(());
        };
        self.gone.insert(id);
        self.by_tid.remove(&task.tid);
        let nr = if whole {
            libc::SYS_exit_group
        } else {
            libc::SYS_exit
        };
        // Seen by a parent if the replay turns live.
        let args = [(status >> 8 & 0xff) as u64, 0, 0, 0, 0, 0];
        let regs = call_regs(&task.app, AGENT_BASE + ENTRY_SYSCALL, nr as u64, &args);
        // One that is gone already went with another of its process.
        let asked = self
            .machine
            .stopped(task.tid)
            .and_then(|stopped| {
                stopped.end_unseen()?;
                stopped.set_regs(&regs)
            })
            .and_then(|()| self.machine.go(task.tid, Go::Agent, 0));
        if asked.is_err() {
            scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
        }
        Ok(())
    }

    /// Ends all tasks of a process.
    pub(super) fn end_process(&mut self, id: u32, status: i32) -> Result<()> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(());
        };
        let tgid = task.tgid;
        if tgid == self.root {
            self.outcome = Some(status);
        }
        let all = self.ids_of(|task| task.tgid == tgid);
        for id in all {
            self.end_task(id, true, status)?;
        }
        Ok(())
    }

    /// The tasks that are `wanted`.
    pub(super) fn ids_of(&self, wanted: impl Fn(&Task) -> bool) -> Vec<u32> {
        let tasks = self.tasks.values().filter(|task| wanted(task));
        tasks.map(|task| task.id).collect()
    }

    /// Shows terminal output in the order in which it was written.
    pub(super) fn show(&mut self, stream: u8, serial: u64, bytes: Vec<u8>) {
        self.held.insert(serial, (stream, bytes));
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= self.shown + 1
        {
            self.shown = self.shown.max(*entry.key());
            let (stream, bytes) = entry.remove();
            (self.options.output)(stream, &bytes);
        }
    }
}
