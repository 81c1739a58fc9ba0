//! New tasks that the kernel reports before it reports that they were made, and those whose maker is killed in
//! between: of these nobody will ever tell. A thread dies with its process; a process is killed before its first
//! instruction, as if its maker had been killed a moment before it made it.

use super::attach::proc;
use super::calls::Kind;
use super::*;
use scribe_tracee::Running;
use std::collections::HashSet;

/// New tasks that nobody has told of.
#[derive(Default)]
pub(super) struct Newborn {
    /// Their first stops.
    early: Vec<WaitEvent>,
    /// Those of whom nobody will tell.
    lost: HashSet<Tid>,
}

impl Newborn {
    /// The first stop of a task that its maker now tells of, if that has been.
    pub(super) fn claim(&mut self, tid: Tid) -> Option<WaitEvent> {
        let at = self.early.iter().position(|event| event.tid == tid)?;
        Some(self.early.remove(at))
    }
}

impl Recorder {
    /// A report of a task that is not known.
    pub(super) fn on_newborn(&mut self, event: WaitEvent) -> Result<()> {
        if !event.is_stop() {
            self.newborn.claim(event.tid);
            if self.newborn.lost.remove(&event.tid) {
                self.machine.remove(event.tid);
            }
        } else if self.newborn.lost.contains(&event.tid) {
            // On its way out.
            let gone = |error: &scribe_tracee::Error| matches!(error, scribe_tracee::Error::Gone);
            match self.machine.go(event.tid, Go::Agent, 0) {
                Err(error) if !gone(&error) => return Err(error.into()),
                _ => {}
            }
        } else {
            self.newborn.early.push(event);
        }
        Ok(())
    }

    /// Some tasks are on their way out: what they have made, but whose making is not in the log yet, gets there.
    pub(super) fn announce_newborn(&mut self, dying: impl Fn(&Task) -> bool) -> Result<()> {
        let dying = self.tasks.values().filter(|task| dying(task));
        let makers: Vec<(u32, u32)> = dying
            .filter_map(|task| match task.call.as_ref()?.kind {
                Kind::Spawn(Some(spawn)) => Some((task.id, spawn.task)),
                _ => None,
            })
            .collect();
        for (id, child) in makers {
            let Some(child) = self.tasks.get(&child).map(|child| child.tid) else {
                continue;
            };
            if !self.holds_token(id) || self.task(id).process.borrow().exit_recorded {
                continue;
            }
            let ret = i64::from(self.seen_by(id, child));
            if let Some(mut pending) = self.task_mut(id).call.take() {
                pending.ret = ret;
                self.write_finished(id, &mut pending)?;
            }
        }
        Ok(())
    }

    /// A task is on its way out: what it was about to make is lost.
    pub(super) fn lose_newborn(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let call = task.call.as_ref();
        if !call.is_some_and(|call| matches!(call.kind, Kind::Spawn(_))) {
            return Ok(());
        }
        let tgid = task.tgid;
        // SAFETY: a call without arguments. It is the thread that traces.
        let ours = unsafe { libc::gettid() };
        let children = proc::children(tgid);
        for tid in proc::threads(tgid).into_iter().chain(children.clone()) {
            let known = self.by_tid.contains_key(&tid) || self.newborn.lost.contains(&tid);
            if known || proc::tracer(tid) != Some(ours) {
                continue;
            }
            self.newborn.lost.insert(tid);
            if children.contains(&tid) {
                scribe_tracee::kill(tid, tid, libc::SIGKILL);
            }
            self.machine.add(Running::attached(tid));
            if let Some(event) = self.newborn.claim(tid) {
                self.machine.note_early(event);
                self.on_newborn(event)?;
            }
        }
        Ok(())
    }
}
