//! A model of the kernel objects that the recorded calls touch: descriptors and the open files
//! behind them, inodes, address spaces and so on, each with a count of the accesses to it.
//!
//! It is kept from the log alone: which objects a call touches and what it does to descriptors is
//! said by the table's [`Effect`].

use super::memory::EventMemory;
use super::walk::Ids;
use scribe_log::{Section, Sections, Spawn, Start};
use scribe_syscalls::{Call, Effect, Memory, Ptr, Resource, Row, Shape, Ty};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// An access to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// What kind of object.
    pub kind: Resource,
    /// How often it was accessed before.
    pub serial: u64,
    /// Which one.
    pub desc: Option<String>,
}

/// Names of the kinds, as the kernel names its structures.
pub fn kind_name(kind: Resource) -> &'static str {
    match kind {
        Resource::Files => "files_struct",
        Resource::File => "file",
        Resource::Inode => "inode",
        Resource::Fs => "fs_struct",
        Resource::Mm => "mm_struct",
        Resource::Pid => "pid",
        Resource::Signal => "sighand_struct",
        Resource::Creds => "cred",
        Resource::Futex => "futex",
        Resource::Timer => "timer",
        Resource::Ipc => "ipc",
        Resource::System => "system",
    }
}

/// Index in [`Model::objects`].
type Id = usize;

struct Object {
    kind: Resource,
    serial: u64,
    name: Option<String>,
}

#[derive(Clone)]
struct Table {
    id: Id,
    fds: HashMap<i32, Id>,
}

#[derive(Clone)]
struct Fs {
    id: Id,
    cwd: Option<String>,
}

#[derive(Clone)]
struct Task {
    files: Rc<RefCell<Table>>,
    fs: Rc<RefCell<Fs>>,
    mm: Id,
    sighand: Id,
    creds: Id,
    timers: Id,
    ids: Ids,
}

/// The objects.
#[derive(Default)]
pub struct Model {
    objects: Vec<Object>,
    tasks: HashMap<u32, Task>,
    /// Objects that are found by a name of their own: inodes by path, processes by id, futexes by
    /// address space and address.
    named: HashMap<(Resource, String), Id>,
    cwd: Option<String>,
}

/// A call as the model sees it.
pub struct Event<'a> {
    /// The task.
    pub task: u32,
    /// Its ids.
    pub ids: Ids,
    /// The call.
    pub call: Call,
    /// Its row.
    pub row: &'static Row,
    /// What it returned.
    pub ret: i64,
    /// Memory at the call.
    pub memory: &'a EventMemory<'a>,
    /// Its sections.
    pub sections: &'a Sections<'a>,
}

const CLONE_VM: u64 = libc::CLONE_VM as u64;
const CLONE_FS: u64 = libc::CLONE_FS as u64;
const CLONE_FILES: u64 = libc::CLONE_FILES as u64;
const CLONE_SIGHAND: u64 = libc::CLONE_SIGHAND as u64;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;

impl Model {
    /// The beginning of a recording.
    pub fn start(&mut self, start: &Start) {
        for section in &start.sections {
            if let Section::Cwd(cwd) = section {
                self.cwd = Some(String::from_utf8_lossy(cwd).into_owned());
            }
        }
    }

    fn object(&mut self, kind: Resource, name: Option<String>) -> Id {
        self.objects.push(Object {
            kind,
            serial: 0,
            name,
        });
        self.objects.len() - 1
    }

    fn named(&mut self, kind: Resource, key: String, name: &str) -> Id {
        let key = (kind, key);
        if let Some(id) = self.named.get(&key) {
            return *id;
        }
        let id = self.object(kind, Some(name.to_owned()));
        self.named.insert(key, id);
        id
    }

    fn task(&mut self, task: u32, ids: Ids) -> Task {
        if let Some(task) = self.tasks.get_mut(&task) {
            task.ids = ids;
            return task.clone();
        }
        let cwd = self.cwd.clone();
        let new = Task {
            files: Rc::new(RefCell::new(Table {
                id: self.object(Resource::Files, None),
                fds: HashMap::new(),
            })),
            fs: Rc::new(RefCell::new(Fs {
                id: self.object(Resource::Fs, None),
                cwd,
            })),
            mm: self.object(Resource::Mm, None),
            sighand: self.object(Resource::Signal, None),
            creds: self.object(Resource::Creds, None),
            timers: self.object(Resource::Timer, None),
            ids,
        };
        self.tasks.insert(task, new.clone());
        new
    }

    /// The task has a new program: what exec does not share is new.
    pub fn exec(&mut self, id: u32, ids: Ids) {
        let mut task = self.task(id, ids);
        let table = task.files.borrow().clone();
        let own = Table {
            id: self.object(Resource::Files, None),
            ..table
        };
        task.files = Rc::new(RefCell::new(own));
        task.mm = self.object(Resource::Mm, None);
        task.sighand = self.object(Resource::Signal, None);
        task.ids = ids;
        self.tasks.insert(id, task);
    }

    /// The task has ended.
    pub fn exit(&mut self, id: u32) {
        self.tasks.remove(&id);
    }

    /// What a call touches, outermost first; and what it does to the objects.
    pub fn call(&mut self, event: &Event) -> Vec<Touch> {
        let task = self.task(event.task, event.ids);
        for section in event.sections {
            if let Section::Desc { fd, text } = section {
                let file = self.file(&task, fd);
                self.objects[file].name = Some(String::from_utf8_lossy(text).into_owned());
            }
        }
        let ids = self.touched(&task, event);
        let touches = ids.into_iter().map(|id| self.touch(id)).collect();
        self.apply(&task, event);
        if let Some(spawn) = event.sections.spawn() {
            self.spawn(&task, event, &spawn);
        }
        touches
    }

    fn touch(&mut self, id: Id) -> Touch {
        let object = &mut self.objects[id];
        let serial = object.serial;
        object.serial += 1;
        Touch {
            kind: object.kind,
            serial,
            desc: object.name.clone(),
        }
    }

    /// The open file behind a descriptor.
    fn file(&mut self, task: &Task, fd: i32) -> Id {
        if let Some(id) = task.files.borrow().fds.get(&fd) {
            return *id;
        }
        let id = self.object(Resource::File, None);
        task.files.borrow_mut().fds.insert(fd, id);
        id
    }

    /// The inode behind an open file, where that is more than the file itself.
    fn inode(&mut self, file: Id) -> Option<Id> {
        let name = self.objects[file].name.clone()?;
        let device = name.starts_with("/dev/") && !name.starts_with("/dev/shm/");
        (name.starts_with('/') && !device).then(|| self.named(Resource::Inode, name.clone(), &name))
    }

    fn pid(&mut self, pid: i32) -> Id {
        self.named(Resource::Pid, pid.to_string(), &pid.to_string())
    }

    /// The objects that a call touches, in the order in which it holds them.
    fn touched(&mut self, task: &Task, event: &Event) -> Vec<Id> {
        let (row, args) = (event.row, event.call.args);
        let mut fds = fds_of(row.effect, &event.call, event.memory);
        let mut kinds = row.effect.resources().to_vec();
        // A mapping of a file.
        let descriptors = row
            .args
            .iter()
            .zip(args)
            .filter(|(arg, _)| matches!(arg.ty, Ty::Fd));
        if row.effect == Effect::Mm {
            fds.extend(descriptors.map(|(_, fd)| fd as i32).filter(|fd| *fd >= 0));
        }
        // By a descriptor alone, although it is a call that could take a path.
        if let (Some((Some(dir), path)), true) = (path_args(row), fds.is_empty())
            && event
                .memory
                .read_cstr(args[path], 1)
                .is_some_and(|text| text.is_empty())
            && args[dir] as i32 >= 0
        {
            fds.push(args[dir] as i32);
            kinds = vec![Resource::File, Resource::Inode];
        }
        if event.ret == -i64::from(libc::EBADF) {
            fds.clear();
            kinds.retain(|kind| !matches!(kind, Resource::File | Resource::Inode));
            kinds.insert(0, Resource::Files);
        }
        let mut ids = Vec::new();
        if !fds.is_empty() {
            ids.push(task.files.borrow().id);
            for fd in fds {
                let file = self.file(task, fd);
                ids.push(file);
                if kinds.contains(&Resource::Inode)
                    && let Some(inode) = self.inode(file)
                {
                    ids.push(inode);
                }
            }
            kinds
                .retain(|kind| !matches!(kind, Resource::Files | Resource::File | Resource::Inode));
        }
        for kind in kinds {
            match kind {
                Resource::Files => ids.push(task.files.borrow().id),
                Resource::Fs => ids.push(task.fs.borrow().id),
                Resource::Inode => {
                    if let Some(path) = self.path(task, event) {
                        ids.push(self.named(Resource::Inode, path.clone(), &path));
                    }
                }
                Resource::Mm => ids.push(task.mm),
                Resource::Pid => {
                    let own = task.ids.pid;
                    let target = row.args.iter().zip(args).find_map(|(arg, value)| {
                        (matches!(arg.ty, Ty::Pid) && value as i32 > 0).then_some(value as i32)
                    });
                    ids.push(self.pid(target.unwrap_or(own)));
                }
                Resource::Signal => ids.push(task.sighand),
                Resource::Creds => ids.push(task.creds),
                Resource::Futex if args[0] != 0 => {
                    let name = format!("{:#x}", args[0]);
                    ids.push(self.named(kind, format!("{} {name}", task.mm), &name));
                }
                Resource::Timer => ids.push(task.timers),
                Resource::Ipc | Resource::System => {
                    ids.push(self.named(kind, String::new(), row.name))
                }
                Resource::File | Resource::Futex => {}
            }
        }
        ids.dedup();
        ids
    }

    /// The path that a call names, as an absolute one where that is known.
    fn path(&self, task: &Task, event: &Event) -> Option<String> {
        let (dir, path) = path_args(event.row)?;
        let text = event
            .memory
            .read_cstr(event.call.args[path], libc::PATH_MAX as usize)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.starts_with('/') {
            return Some(text);
        }
        let base = match dir.map(|arg| event.call.args[arg] as i32) {
            None | Some(libc::AT_FDCWD) => task.fs.borrow().cwd.clone(),
            Some(fd) => {
                let file = task.files.borrow().fds.get(&fd).copied();
                file.and_then(|file| self.objects[file].name.clone())
            }
        };
        let text = text.trim_start_matches("./");
        Some(match base {
            Some(base) if text.is_empty() || text == "." => base,
            Some(base) => format!("{}/{text}", base.trim_end_matches('/')),
            None => text.to_owned(),
        })
    }

    /// What a call that succeeded does to descriptors and directories.
    fn apply(&mut self, task: &Task, event: &Event) {
        let args = event.call.args;
        let new = |model: &mut Model, fd: i32, name: Option<String>| {
            let id = model.object(Resource::File, name);
            task.files.borrow_mut().fds.insert(fd, id);
        };
        if let Effect::ClosesFd(arg) = event.row.effect {
            // Gone even where close reports an error.
            task.files
                .borrow_mut()
                .fds
                .remove(&(args[arg as usize] as i32));
        }
        if event.ret < 0 {
            return;
        }
        let ret = event.ret as i32;
        match event.row.effect {
            Effect::OpensPath { .. } => {
                let path = self.path(task, event);
                new(self, ret, path);
            }
            Effect::OpensFd | Effect::Accepts(_) => new(self, ret, None),
            Effect::OpensFds2 { arg } => {
                let at = args[arg as usize];
                let second = at.wrapping_add(4);
                let both = [event.memory.read_u32(at), event.memory.read_u32(second)];
                for fd in both.into_iter().flatten() {
                    new(self, fd as i32, None);
                }
            }
            Effect::OpensFdAt { arg, off } => {
                let at = args[arg as usize].wrapping_add(off.into());
                if let Some(fd) = event.memory.read_u32(at) {
                    new(self, fd as i32, None);
                }
            }
            Effect::ClosesRange if args[2] & 4 == 0 => {
                let (from, to) = (args[0] as u32, args[1] as u32);
                let range = from..=to;
                task.files
                    .borrow_mut()
                    .fds
                    .retain(|fd, _| !range.contains(&(*fd as u32)));
            }
            Effect::Dup { from, .. } => {
                let file = self.file(task, args[from as usize] as i32);
                task.files.borrow_mut().fds.insert(ret, file);
            }
            Effect::Chdir => {
                let to = match path_args(event.row) {
                    Some(_) => self.path(task, event),
                    None => {
                        let file = self.file(task, args[0] as i32);
                        self.objects[file].name.clone()
                    }
                };
                task.fs.borrow_mut().cwd = to;
            }
            _ => {}
        }
    }

    fn spawn(&mut self, parent: &Task, event: &Event, spawn: &Spawn) {
        let flags = match event.row.name {
            "clone" => event.call.args[0],
            "clone3" => event.memory.read_u64(event.call.args[0]).unwrap_or(0),
            "vfork" => CLONE_VM,
            _ => 0,
        } | u64::from(spawn.flags);
        // A thread shares all, whatever of the flags is known.
        let all = spawn.pid == parent.ids.pid;
        let shares = |flag: u64| all || flags & flag != 0;
        let ids = Ids {
            tid: spawn.tid,
            pid: spawn.pid,
        };
        let mut child = Task {
            ids,
            ..parent.clone()
        };
        if !shares(CLONE_FILES) {
            let table = parent.files.borrow().clone();
            let own = Table {
                id: self.object(Resource::Files, None),
                ..table
            };
            child.files = Rc::new(RefCell::new(own));
        }
        if !shares(CLONE_FS) {
            let fs = parent.fs.borrow().clone();
            let own = Fs {
                id: self.object(Resource::Fs, None),
                ..fs
            };
            child.fs = Rc::new(RefCell::new(own));
        }
        if !shares(CLONE_VM) {
            child.mm = self.object(Resource::Mm, None);
        }
        if !shares(CLONE_SIGHAND) {
            child.sighand = self.object(Resource::Signal, None);
        }
        if !shares(CLONE_THREAD) {
            child.creds = self.object(Resource::Creds, None);
            child.timers = self.object(Resource::Timer, None);
        }
        self.tasks.insert(spawn.task, child);
    }
}

/// Argument with the directory descriptor, if there is one, and argument with the path.
fn path_args(row: &Row) -> Option<(Option<usize>, usize)> {
    let is_path = |ty: &Ty| {
        matches!(
            ty,
            Ty::Ptr(Ptr {
                shape: Shape::Path,
                ..
            })
        )
    };
    let path = row.args.iter().position(|arg| is_path(&arg.ty))?;
    let dir = path
        .checked_sub(1)
        .filter(|dir| matches!(row.args[*dir].ty, Ty::DirFd));
    Some((dir, path))
}

/// The descriptors whose open files a call uses.
fn fds_of(effect: Effect, call: &Call, memory: &EventMemory) -> Vec<i32> {
    let fd = |arg: u8| call.args[usize::from(arg).min(5)] as i32;
    match effect {
        Effect::Accepts(arg)
        | Effect::ClosesFd(arg)
        | Effect::RecvFds(arg)
        | Effect::SendFds(arg)
        | Effect::Reads(arg)
        | Effect::Writes(arg)
        | Effect::ReadsAt(arg)
        | Effect::WritesAt(arg)
        | Effect::Seeks(arg)
        | Effect::SetsFile(arg)
        | Effect::GetsFile(arg)
        | Effect::SetsSocket(arg)
        | Effect::Epoll(arg)
        | Effect::InodeWrites(arg)
        | Effect::Dup { from: arg, .. } => vec![fd(arg)],
        Effect::Moves { from, to } => vec![fd(from), fd(to)],
        Effect::Polls => polled(call, memory),
        _ => Vec::new(),
    }
}

/// The descriptors of poll and ppoll, as far as they are known.
fn polled(call: &Call, memory: &EventMemory) -> Vec<i32> {
    const POLL: [i64; 2] = [libc::SYS_poll, libc::SYS_ppoll];
    if !POLL.contains(&call.nr.into()) {
        return Vec::new();
    }
    let entries = memory.bytes(call.args[0], call.args[1].min(64) * 8);
    let fd = |entry: &[u8]| i32::from_le_bytes(entry[..4].try_into().unwrap_or_default());
    entries
        .chunks_exact(8)
        .map(fd)
        .filter(|fd| *fd >= 0)
        .collect()
}
