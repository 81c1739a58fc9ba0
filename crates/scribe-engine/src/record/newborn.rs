//! New tasks that the kernel reports before it reports that they were made, and those whose maker is killed in
//! between: of these nobody will ever tell. A thread dies with its process; a process is killed before its first
//! instruction, as if its maker had been killed a moment before it made it.

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
        for (tid, process, tracer) in children(tgid) {
            if tracer != ours || self.by_tid.contains_key(&tid) || !self.newborn.lost.insert(tid) {
                continue;
            }
            if process != tgid {
                scribe_tracee::kill(process, tid, libc::SIGKILL);
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

/// The threads of a process, and the processes that it has made: thread id, process, and tracer of each (proc(5),
/// status). What ends meanwhile is left out.
fn children(tgid: Tid) -> Vec<(Tid, Tid, Tid)> {
    let ids = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        let ids = names.filter_map(|name| name.to_str()?.parse::<Tid>().ok());
        ids.collect::<Vec<Tid>>()
    };
    let mut all = ids(&format!("/proc/{tgid}/task"));
    all.extend(ids("/proc").into_iter().filter(|pid| *pid != tgid));
    let mut out = Vec::new();
    for tid in all {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{tid}/status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse::<Tid>().ok())
        };
        let (Some(process), Some(parent), Some(tracer)) =
            (field("Tgid:"), field("PPid:"), field("TracerPid:"))
        else {
            continue;
        };
        if process == tgid || parent == tgid {
            out.push((tid, process, tracer));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::children;

    #[test]
    fn threads_and_children_are_found() {
        let me = std::process::id() as i32;
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .expect("it runs");
        let found = children(me);
        let pid = child.id() as i32;
        child.kill().expect("it can be killed");
        child.wait().expect("it is ours");
        assert!(found.contains(&(me, me, 0)), "{found:?}");
        assert!(found.contains(&(pid, pid, 0)), "{found:?}");
    }
}
