//! Ids of tasks, as tasks of other pid namespaces know them.

use super::*;
use std::fs::{File, read_to_string};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;

/// `NS_GET_PARENT`; include/uapi/linux/nsfs.h.
const NS_GET_PARENT: libc::c_ulong = 0xb702;

/// What a task is called in each pid namespace that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// From our namespace to its own; never empty. The first number tells namespaces of the same depth
    /// apart.
    levels: Vec<(u64, Tid)>,
}

impl Ids {
    /// Of a task in our own namespace.
    pub fn plain(tid: Tid) -> Ids {
        Ids {
            levels: vec![(0, tid)],
        }
    }

    /// Of any task, which must still be there.
    pub fn read(tid: Tid) -> Ids {
        let mut levels: Vec<(u64, Tid)> = status_ids(tid, "NSpid:")
            .into_iter()
            .map(|id| (0, id))
            .collect();
        if levels.is_empty() {
            return Ids::plain(tid);
        }
        // The namespaces, from the task's own up to the one below ours.
        let mut namespace = File::open(format!("/proc/{tid}/ns/pid")).ok();
        for level in levels[1..].iter_mut().rev() {
            let Some(file) = namespace.take() else {
                break;
            };
            level.0 = file.metadata().map_or(0, |meta| meta.ino());
            // SAFETY: the descriptor is open; the call has no pointers, and gives a new descriptor.
            namespace = unsafe {
                let fd = libc::ioctl(file.as_raw_fd(), NS_GET_PARENT);
                (fd >= 0).then(|| File::from_raw_fd(fd))
            };
        }
        Ids { levels }
    }

    /// In its own namespace.
    pub fn own(&self) -> Tid {
        self.levels.last().map_or(0, |level| level.1)
    }

    /// Whether it is in a namespace below ours.
    pub fn is_nested(&self) -> bool {
        self.levels.len() > 1
    }

    /// Whether it is the first process of one.
    pub fn is_init(&self) -> bool {
        self.is_nested() && self.own() == 1
    }

    /// As a task of the namespace of `viewer` knows it; 0: not at all.
    pub fn seen_by(&self, viewer: &Ids) -> Tid {
        let Some((namespace, _)) = viewer.levels.last() else {
            return 0;
        };
        let level = self.levels.get(viewer.levels.len() - 1);
        level.map_or(0, |(same, id)| if same == namespace { *id } else { 0 })
    }

    /// As /proc shows it that was mounted where a task has the ids `shown` from there on inwards, and
    /// has these in all.
    pub fn in_proc_of(&self, shown: &[Tid], all: &Ids) -> Tid {
        let depth = all.levels.len().saturating_sub(shown.len());
        let levels = all.levels[..=depth.min(all.levels.len() - 1)].to_vec();
        self.seen_by(&Ids { levels })
    }

    /// Whether a line of /proc that shows `ids` is about this task.
    pub fn ends_in(&self, ids: &[Tid]) -> bool {
        let own: Vec<Tid> = self.levels.iter().map(|level| level.1).collect();
        own.ends_with(ids)
    }
}

/// The numbers of a line of `/proc/TID/status` that shows ids in the namespaces, from ours to the
/// innermost; proc_pid_status(5).
fn status_ids(tid: Tid, line: &str) -> Vec<Tid> {
    let status = read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|text| text.strip_prefix(line));
    line.map_or_else(Vec::new, |rest| numbers(rest.as_bytes()))
}

/// The numbers of such a line.
pub(super) fn numbers(line: &[u8]) -> Vec<Tid> {
    let text = String::from_utf8_lossy(line);
    let words = text.split_whitespace();
    words.map_while(|number| number.parse().ok()).collect()
}

impl Recorder {
    /// What a task that is there is called.
    pub(super) fn ids_of(&self, tid: Tid) -> Ids {
        match self.by_tid.get(&tid).and_then(|id| self.tasks.get(id)) {
            Some(task) => task.ids.clone(),
            None => self.read_ids(tid),
        }
    }

    /// The same for one that is new, or has a new id.
    pub(super) fn read_ids(&self, tid: Tid) -> Ids {
        match self.pid_namespaces {
            true => Ids::read(tid),
            false => Ids::plain(tid),
        }
    }

    /// What the task `viewer` knows a task or process by; 0: it cannot see it.
    pub(super) fn seen_by(&self, viewer: u32, tid: Tid) -> Tid {
        match self.tasks.get(&viewer) {
            Some(viewer) if self.pid_namespaces => self.ids_of(tid).seen_by(&viewer.ids),
            _ => tid,
        }
    }

    /// The recorded task that `viewer` means by `id`.
    pub(super) fn task_seen(&self, viewer: u32, id: Tid) -> Option<u32> {
        let viewer = self.tasks.get(&viewer)?;
        if viewer.ids.levels.len() == 1 {
            return self.by_tid.get(&id).copied();
        }
        let mut all = self.tasks.values();
        all.find(|task| id > 0 && task.ids.seen_by(&viewer.ids) == id)
            .map(|task| task.id)
    }

    /// Whether there is any process, recorded or not, that `viewer` means by `id`.
    pub(super) fn is_there(&self, viewer: u32, id: Tid) -> bool {
        let outside = self.task(viewer).ids.levels.len() == 1;
        // SAFETY: no signal is sent.
        self.task_seen(viewer, id).is_some() || outside && unsafe { libc::kill(id, 0) } == 0
    }

    /// What `viewer` knows the process group of a task by.
    pub(super) fn group_seen_by(&self, viewer: u32, tid: Tid) -> Tid {
        let depth = self
            .tasks
            .get(&viewer)
            .map_or(1, |task| task.ids.levels.len());
        if depth == 1 {
            // SAFETY: a call without pointers.
            return unsafe { libc::getpgid(tid) };
        }
        let groups = status_ids(tid, "NSpgid:");
        groups.get(depth - 1).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(levels: &[(u64, Tid)]) -> Ids {
        Ids {
            levels: levels.to_vec(),
        }
    }

    #[test]
    fn only_inwards_and_not_into_others() {
        let outside = Ids::plain(10);
        let inside = ids(&[(0, 11), (7, 1)]);
        let deeper = ids(&[(0, 12), (7, 2), (8, 1)]);
        let other = ids(&[(0, 13), (9, 1)]);
        assert_eq!(inside.seen_by(&outside), 11);
        assert_eq!(deeper.seen_by(&inside), 2);
        assert_eq!(inside.seen_by(&deeper), 0);
        assert_eq!(outside.seen_by(&inside), 0);
        assert_eq!(other.seen_by(&inside), 0);
        assert!(inside.is_init() && !outside.is_init() && deeper.own() == 1);
    }

    #[test]
    fn ids_as_a_mounted_proc_shows_them() {
        let tracer = ids(&[(0, 11), (7, 3)]);
        let tracee = ids(&[(0, 12), (7, 4), (8, 1)]);
        assert!(tracee.ends_in(&[4, 1]) && !tracee.ends_in(&[12, 1]));
        assert_eq!(tracer.in_proc_of(&[12, 4, 1], &tracee), 11);
        assert_eq!(tracer.in_proc_of(&[4, 1], &tracee), 3);
        assert_eq!(tracer.in_proc_of(&[1], &tracee), 0);
    }

    #[test]
    fn own_ids_are_read() {
        let own = std::process::id() as Tid;
        assert_eq!(Ids::read(own).seen_by(&Ids::plain(own)), own);
    }
}
