//! Making objects again, as descriptors of this process, from where they can be handed on.
//!
//! Paths are resolved as this process sees them: who wants other files under the same names changes
//! its root first.

mod files;
mod sockets;

use crate::model::{Kind, Objects, Open, PosixQueue};
use crate::{check, owned};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Contents that were kept with a description.
pub trait Contents {
    /// The pieces of one, by offset.
    fn read(&self, content: (u32, u32), piece: &mut dyn FnMut(u64, &[u8])) -> io::Result<()>;
}

/// Makes the objects of one description.
pub struct Maker<'a> {
    objects: &'a Objects,
    contents: &'a dyn Contents,
    /// What stands for the recording's standard input, output and errors.
    standard: [RawFd; 3],
    /// The process here that has an id of the description.
    find: &'a dyn Fn(i32) -> Option<i32>,
    pipes: HashMap<u64, (OwnedFd, OwnedFd)>,
    /// Connected sockets, by their inode in the description.
    sockets: HashMap<u64, OwnedFd>,
    files: HashMap<usize, OwnedFd>,
    /// POSIX message queues, by their inode in the description.
    queues: HashMap<u64, OwnedFd>,
    /// What could only be made in part, for people.
    pub notes: Vec<String>,
}

impl<'a> Maker<'a> {
    /// Nothing is made yet.
    pub fn new(
        objects: &'a Objects,
        contents: &'a dyn Contents,
        standard: [RawFd; 3],
        find: &'a dyn Fn(i32) -> Option<i32>,
    ) -> Maker<'a> {
        Maker {
            objects,
            contents,
            standard,
            find,
            pipes: HashMap::new(),
            sockets: HashMap::new(),
            files: HashMap::new(),
            queues: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Makes all open files, in their order; says which cannot be made, and why.
    pub fn all(&mut self) -> Vec<Result<OwnedFd, String>> {
        // Connections come through the sockets that wait for them.
        let mut made: Vec<Option<Result<OwnedFd, String>>> = Vec::new();
        made.resize_with(self.objects.open.len(), || None);
        for pass in [true, false] {
            for (i, open) in self.objects.open.iter().enumerate() {
                let listens = match &open.kind {
                    Kind::Socket(socket) => socket.listens.is_some(),
                    _ => false,
                };
                if listens != pass {
                    continue;
                }
                let one = self.one(open);
                if let (Ok(fd), Kind::Socket(socket)) = (&one, &open.kind)
                    && pass
                    && let Ok(copy) = fd.try_clone()
                {
                    self.sockets.insert(socket.id, copy);
                }
                made[i] =
                    Some(one.map_err(|error| format!("{}: {error}", describe(open, self.objects))));
            }
        }
        let missing = || Err("it was not made".to_owned());
        made.into_iter()
            .map(|one| one.unwrap_or_else(missing))
            .collect()
    }

    fn one(&mut self, open: &Open) -> io::Result<OwnedFd> {
        let flags = open.flags as i32;
        let nonblock = flags & libc::O_NONBLOCK;
        let fd = match &open.kind {
            Kind::File(file) => self.open_file(*file, flags, open.pos)?,
            Kind::Directory(path) => {
                let fd = files::open(&self.here(path), flags)?;
                // SAFETY: a valid descriptor, plain numbers.
                unsafe { libc::lseek(fd.as_raw_fd(), open.pos as i64, libc::SEEK_SET) };
                fd
            }
            Kind::Device(path) if is_terminal(path) => {
                // The terminal at hand, whichever that was.
                let own = self.standard.into_iter().find(|fd| {
                    // SAFETY: any number may be asked about.
                    unsafe { libc::isatty(*fd) == 1 }
                });
                match own {
                    Some(fd) => files::reopen(fd, flags)?,
                    None => files::open("/dev/null", flags)?,
                }
            }
            Kind::Device(path) => {
                let fd = files::open(&self.here(path), flags)?;
                // Where nothing can be sought, nothing is.
                // SAFETY: a valid descriptor, plain numbers.
                unsafe { libc::lseek(fd.as_raw_fd(), open.pos as i64, libc::SEEK_SET) };
                fd
            }
            Kind::Fifo(path) => files::open(path, flags & !libc::O_ACCMODE | libc::O_RDWR)?,
            Kind::Standard(which) => {
                let fd = self.standard[usize::from(*which).min(2)];
                check(
                    // SAFETY: a descriptor of our own, plain numbers.
                    unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) }.into(),
                )
                .map(owned)?
            }
            Kind::Pipe {
                id,
                capacity,
                content,
            } => {
                self.pipe(*id, *capacity, *content)?;
                let (read, write) = &self.pipes[id];
                let end = match flags & libc::O_ACCMODE {
                    libc::O_RDONLY => read,
                    _ => write,
                };
                // An open file of its own: each has its flags.
                files::reopen(end.as_raw_fd(), flags)?
            }
            Kind::Socket(socket) => {
                let fd = self.socket(socket)?;
                set_nonblock(&fd, nonblock)?;
                fd
            }
            Kind::EventFd { count, semaphore } => {
                let flags = nonblock | if *semaphore { libc::EFD_SEMAPHORE } else { 0 };
                // SAFETY: plain numbers.
                let fd = check(unsafe { libc::eventfd(0, flags | libc::EFD_CLOEXEC) }.into());
                let fd = owned(fd?);
                if *count > 0 {
                    write(&fd, &count.to_le_bytes())?;
                }
                fd
            }
            Kind::Epoll(_) => {
                // SAFETY: plain numbers.
                check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }.into()).map(owned)?
            }
            Kind::TimerFd {
                clock,
                interval,
                left,
            } => {
                // SAFETY: plain numbers.
                let fd = unsafe { libc::timerfd_create(*clock, nonblock | libc::TFD_CLOEXEC) };
                let fd = owned(check(fd.into())?);
                let time = libc::itimerspec {
                    it_interval: timespec(*interval),
                    it_value: timespec(*left),
                };
                // SAFETY: a valid structure.
                let set = unsafe {
                    libc::timerfd_settime(fd.as_raw_fd(), 0, &time, std::ptr::null_mut())
                };
                check(set.into())?;
                fd
            }
            Kind::SignalFd(mask) => {
                let flags = nonblock | libc::SFD_CLOEXEC;
                let at = &raw const *mask;
                // SAFETY: the kernel reads a set of eight bytes.
                check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, at, 8, flags) }).map(owned)?
            }
            Kind::Inotify(marks) => self.inotify(marks, nonblock)?,
            Kind::PidFd(pid) => {
                let gone = || io::Error::other("that process is not there any more");
                let here = (self.find)(*pid).ok_or_else(gone)?;
                // SAFETY: plain numbers.
                check(unsafe { libc::syscall(libc::SYS_pidfd_open, here, 0) }).map(owned)?
            }
            Kind::Queue(queue) => self.queue(queue, flags)?,
            Kind::Other(_) => return Err(io::Error::other("nothing that could be made again")),
        };
        Ok(fd)
    }

    /// A name in /proc of a process that is here another.
    fn here(&self, path: &str) -> String {
        let found = || {
            let rest = path.strip_prefix("/proc/")?;
            let (pid, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let pid = (self.find)(pid.parse().ok()?)?;
            Some(format!("/proc/{pid}{rest}"))
        };
        found().unwrap_or_else(|| path.to_owned())
    }

    fn pipe(&mut self, id: u64, capacity: u32, content: Option<(u32, u32)>) -> io::Result<()> {
        if self.pipes.contains_key(&id) {
            return Ok(());
        }
        let (read, write) = io::pipe()?;
        let write = OwnedFd::from(write);
        // SAFETY: a valid descriptor, plain numbers. Without the right to so much it stays as it is.
        unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, capacity as i32) };
        if let Some(content) = content {
            set_nonblock(&write, libc::O_NONBLOCK)?;
            self.contents.read(content, &mut |_, bytes| {
                let _ = self::write(&write, bytes);
            })?;
        }
        self.pipes.insert(id, (read.into(), write));
        Ok(())
    }

    /// A message queue of the caller's IPC namespace.
    fn queue(&mut self, queue: &PosixQueue, flags: i32) -> io::Result<OwnedFd> {
        let made = match self.queues.entry(queue.ino) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(new_queue(queue)?),
        };
        files::reopen(made.as_raw_fd(), flags)
    }

    fn inotify(&mut self, marks: &[(i32, String, u32)], nonblock: i32) -> io::Result<OwnedFd> {
        /// How far numbers may be apart.
        const MOST: usize = 10_000;
        // SAFETY: plain numbers.
        let fd = check(unsafe { libc::inotify_init1(nonblock | libc::IN_CLOEXEC) }.into());
        let fd = owned(fd?);
        let mut marks = marks.to_vec();
        marks.sort();
        for (wd, path, mask) in marks {
            let name = files::c_path(&path)?;
            for _ in 0..MOST {
                // SAFETY: a valid descriptor and a valid path.
                let got = unsafe { libc::inotify_add_watch(fd.as_raw_fd(), name.as_ptr(), mask) };
                if got == wd {
                    break;
                }
                if got < 0 || got > wd {
                    self.notes
                        .push(format!("{path} is not watched any more (inotify)"));
                    break;
                }
                // Numbers go up.
                // SAFETY: plain numbers.
                unsafe { libc::inotify_rm_watch(fd.as_raw_fd(), got) };
            }
        }
        Ok(fd)
    }
}

/// What an open file is, for people.
pub fn describe(open: &Open, objects: &Objects) -> String {
    match &open.kind {
        Kind::File(file) => match objects.files.get(*file) {
            Some(file) => file.path.clone(),
            None => "a file".into(),
        },
        Kind::Directory(path) | Kind::Device(path) | Kind::Fifo(path) => path.clone(),
        Kind::Standard(which) => ["standard input", "standard output", "standard error"]
            [usize::from(*which).min(2)]
        .into(),
        Kind::Pipe { .. } => "a pipe".into(),
        Kind::Socket(socket) => sockets::describe(socket),
        Kind::EventFd { .. } => "an eventfd".into(),
        Kind::Epoll(_) => "an epoll set".into(),
        Kind::TimerFd { .. } => "a timerfd".into(),
        Kind::SignalFd(_) => "a signalfd".into(),
        Kind::Inotify(_) => "an inotify queue".into(),
        Kind::PidFd(pid) => format!("a pidfd of process {pid}"),
        Kind::Queue(queue) => format!("POSIX message queue {}", queue.name),
        Kind::Other(what) => what.clone(),
    }
}

fn new_queue(queue: &PosixQueue) -> io::Result<OwnedFd> {
    let name = files::c_path(&queue.name)?;
    let how = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: all zero is a value of this structure; a valid name; valid descriptors.
    unsafe {
        let mut attr: libc::mq_attr = std::mem::zeroed();
        (attr.mq_maxmsg, attr.mq_msgsize) = (queue.messages, queue.size);
        let made = libc::mq_open(name.as_ptr(), how, queue.mode, &raw mut attr);
        let made = owned(check(made.into())?);
        libc::fchmod(made.as_raw_fd(), queue.mode);
        libc::fchown(made.as_raw_fd(), queue.owner.0, queue.owner.1);
        if queue.deleted {
            libc::mq_unlink(name.as_ptr());
        }
        Ok(made)
    }
}

/// Whether a device is a terminal that belongs to a session, not one that anybody means by its name.
fn is_terminal(path: &str) -> bool {
    path == "/dev/tty" || path.starts_with("/dev/pts/") || path.starts_with("/dev/ttyS")
}

fn timespec(nanos: u64) -> libc::timespec {
    let time = Duration::from_nanos(nanos);
    libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Sets or clears O_NONBLOCK.
fn set_nonblock(fd: &impl AsFd, nonblock: i32) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: a valid descriptor, plain numbers.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK | nonblock)
    };
    check(done.into()).map(drop)
}

fn write(fd: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: a valid buffer with its length.
    let wrote = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    check(wrote as i64).map(|n| n as usize)
}
