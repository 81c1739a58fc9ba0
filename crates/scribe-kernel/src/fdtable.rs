//! Descriptor tables: which descriptor of which task refers to what. For names in profiles and
//! messages; what the calls returned is known from the log, nothing is allocated here.
//!
//! Sources: open(2), dup(2), close_range(2), execve(2), clone(2) (`CLONE_FILES`).

use std::collections::BTreeMap;
use std::sync::Arc;

/// An end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PipeEnd {
    /// The end to read from.
    Read,
    /// The end to write to.
    Write,
}

/// What kind of object a file description is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Regular { path: String },
    Dir { path: String },
    Pipe { id: u64, end: PipeEnd },
    Socket { domain: i32, ty: i32, protocol: i32 },
    Tty { path: String },
    EventFd,
    Epoll,
    Timerfd,
    Signalfd,
    Inotify,
    Pidfd { pid: i32 },
    Memfd { name: String },
    Other,
}

/// An open file description: what descriptors made by dup and fork have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileDesc {
    /// Distinguishes descriptions of one recording.
    pub id: u64,
    /// The kind of object.
    pub kind: Kind,
    /// How to show it to a person.
    pub text: String,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it refers to.
    pub desc: Arc<FileDesc>,
    /// Whether exec closes it.
    pub cloexec: bool,
}

/// A descriptor table. Operations on descriptors that are not open do nothing: the kernel gave
/// EBADF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdTable(BTreeMap<i32, Descriptor>);

impl FdTable {
    /// What a descriptor refers to.
    pub fn get(&self, fd: i32) -> Option<&Arc<FileDesc>> {
        self.0.get(&fd).map(|d| &d.desc)
    }

    /// All descriptors, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Descriptor)> {
        self.0.iter().map(|(&fd, d)| (fd, d))
    }

    /// A call gave `fd`. Returns what `fd` referred to before.
    pub fn open(&mut self, fd: i32, desc: Arc<FileDesc>, cloexec: bool) -> Option<Arc<FileDesc>> {
        self.0
            .insert(fd, Descriptor { desc, cloexec })
            .map(|d| d.desc)
    }

    /// close: returns what was closed.
    pub fn close(&mut self, fd: i32) -> Option<Arc<FileDesc>> {
        self.0.remove(&fd).map(|d| d.desc)
    }

    /// dup, dup2, dup3, `F_DUPFD`, `F_DUPFD_CLOEXEC`: `new` refers to what `old` refers to.
    /// Returns what `new` referred to before. dup2 of a descriptor to itself changes nothing.
    pub fn dup(&mut self, old: i32, new: i32, cloexec: bool) -> Option<Arc<FileDesc>> {
        if old == new {
            return None;
        }
        let desc = self.get(old)?.clone();
        self.open(new, desc, cloexec)
    }

    /// `F_SETFD`, `FIOCLEX`, `FIONCLEX`.
    pub fn set_cloexec(&mut self, fd: i32, cloexec: bool) {
        if let Some(d) = self.0.get_mut(&fd) {
            d.cloexec = cloexec;
        }
    }

    /// close_range: closes, or with `CLOSE_RANGE_CLOEXEC` marks, all of `first..=last`. Returns
    /// what was closed.
    pub fn close_range(
        &mut self,
        first: u32,
        last: u32,
        only_mark: bool,
    ) -> Vec<(i32, Arc<FileDesc>)> {
        if only_mark {
            for (&fd, d) in &mut self.0 {
                d.cloexec |= (first..=last).contains(&(fd as u32));
            }
            return vec![];
        }
        self.remove_if(|fd, _| (first..=last).contains(&(fd as u32)))
    }

    /// exec: closes what is marked. Returns it.
    pub fn exec(&mut self) -> Vec<(i32, Arc<FileDesc>)> {
        self.remove_if(|_, d| d.cloexec)
    }

    fn remove_if(
        &mut self,
        mut gone: impl FnMut(i32, &Descriptor) -> bool,
    ) -> Vec<(i32, Arc<FileDesc>)> {
        let mut out = vec![];
        self.0.retain(|&fd, d| {
            let gone = gone(fd, d);
            if gone {
                out.push((fd, d.desc.clone()));
            }
            !gone
        });
        out
    }
}

/// The tables of all tasks of a recording; threads share theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdTables {
    of_task: BTreeMap<i32, u64>,
    tables: BTreeMap<u64, FdTable>,
    next: u64,
}

impl FdTables {
    /// A task that is there from the start.
    pub fn add_task(&mut self, tid: i32, table: FdTable) {
        self.exit(tid);
        let id = self.next;
        self.next += 1;
        self.tables.insert(id, table);
        self.of_task.insert(tid, id);
    }

    /// The table of a task.
    pub fn get(&self, tid: i32) -> Option<&FdTable> {
        self.tables.get(self.of_task.get(&tid)?)
    }

    /// The table of a task, to be changed for all who share it.
    pub fn get_mut(&mut self, tid: i32) -> Option<&mut FdTable> {
        self.tables.get_mut(self.of_task.get(&tid)?)
    }

    /// What a descriptor of a task refers to.
    pub fn lookup(&self, tid: i32, fd: i32) -> Option<&Arc<FileDesc>> {
        self.get(tid)?.get(fd)
    }

    /// fork, vfork, clone; `share` is `CLONE_FILES`.
    pub fn clone_task(&mut self, parent: i32, child: i32, share: bool) {
        let Some(&id) = self.of_task.get(&parent) else {
            return;
        };
        if share {
            self.of_task.insert(child, id);
        } else {
            self.add_task(child, self.tables[&id].clone());
        }
    }

    /// unshare(`CLONE_FILES`), and `CLOSE_RANGE_UNSHARE` before the closing.
    pub fn unshare(&mut self, tid: i32) {
        if let Some(table) = self.get(tid).cloned() {
            self.add_task(tid, table);
        }
    }

    /// exec: the task gets a table of its own, without what is marked. Returns what was closed.
    pub fn exec(&mut self, tid: i32) -> Vec<(i32, Arc<FileDesc>)> {
        self.unshare(tid);
        self.get_mut(tid).map(FdTable::exec).unwrap_or_default()
    }

    /// The task ended. Returns its table if no other task shares it.
    pub fn exit(&mut self, tid: i32) -> Option<FdTable> {
        let id = self.of_task.remove(&tid)?;
        if self.of_task.values().any(|&other| other == id) {
            return None;
        }
        self.tables.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(id: u64) -> Arc<FileDesc> {
        Arc::new(FileDesc {
            id,
            kind: Kind::EventFd,
            text: format!("eventfd {id}"),
        })
    }

    fn ids(t: &FdTable) -> Vec<(i32, u64, bool)> {
        t.iter().map(|(fd, d)| (fd, d.desc.id, d.cloexec)).collect()
    }

    fn table() -> FdTable {
        let mut t = FdTable::default();
        for fd in 0..4 {
            assert_eq!(t.open(fd, desc(fd as u64), fd == 3), None);
        }
        t
    }

    #[test]
    fn one_table() {
        let mut t = table();
        assert_eq!(t.dup(1, 2, false).unwrap().id, 2);
        assert_eq!(t.dup(3, 7, false), None);
        assert_eq!(t.dup(3, 3, false), None);
        assert_eq!(t.dup(99, 5, false), None);
        assert_eq!(
            ids(&t),
            [
                (0, 0, false),
                (1, 1, false),
                (2, 1, false),
                (3, 3, true),
                (7, 3, false)
            ]
        );
        assert!(Arc::ptr_eq(t.get(1).unwrap(), t.get(2).unwrap()));
        assert_eq!(t.close(0).unwrap().id, 0);
        assert_eq!(t.close(0), None);
        assert_eq!(t.close_range(2, u32::MAX, true), []);
        t.set_cloexec(2, false);
        t.set_cloexec(99, false);
        let closed: Vec<_> = t.exec().into_iter().map(|(fd, d)| (fd, d.id)).collect();
        assert_eq!(closed, [(3, 3), (7, 3)]);
        assert_eq!(t.close_range(2, 2, false).len(), 1);
        assert_eq!(ids(&t), [(1, 1, false)]);
    }

    #[test]
    fn tables_of_tasks() {
        let mut all = FdTables::default();
        all.add_task(10, table());
        all.clone_task(10, 11, true);
        all.clone_task(10, 20, false);
        all.clone_task(99, 98, true);
        assert!(all.get(98).is_none());
        all.get_mut(11).unwrap().close(0);
        assert!(all.lookup(10, 0).is_none());
        assert_eq!(all.lookup(20, 0).unwrap().id, 0);
        // A copy refers to the same descriptions.
        assert!(Arc::ptr_eq(
            all.lookup(10, 1).unwrap(),
            all.lookup(20, 1).unwrap()
        ));
        let closed = all.exec(11);
        assert_eq!((closed.len(), closed[0].0), (1, 3));
        assert!(all.lookup(10, 3).is_some() && all.lookup(11, 3).is_none());
        all.clone_task(10, 12, true);
        assert_eq!(all.exit(10), None);
        assert_eq!(ids(&all.exit(12).unwrap()).len(), 3);
        assert_eq!(all.exit(12), None);
        all.unshare(20);
        assert_eq!(ids(all.get(20).unwrap()).len(), 4);
    }
}
