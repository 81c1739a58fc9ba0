//! Taking the description of processes that stand still from /proc, and from copies of their
//! descriptors (pidfd_getfd(2), which asks for the right to trace them).

mod diag;
mod fds;
mod peek;
mod proc;
mod sockets;
mod transit;

use crate::ipc::Attached;
use crate::model::{Changed, File, Named, Objects, Process, Shared};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

pub use proc::{timers, zombies};
pub use transit::under_way;

/// Where contents of files and pipes go.
pub trait Store {
    /// A new content: stream and number.
    fn begin(&mut self) -> (u32, u32);
    /// Some of it.
    fn put(&mut self, content: (u32, u32), offset: u64, bytes: &[u8]);
}

/// A file as it was when its content was kept: size, times of change.
type Stamp = (u64, (i64, i64), (i64, i64));

/// What is known from one taking to the next.
#[derive(Debug, Default)]
pub struct Taker {
    kept: HashMap<(u64, u64), (Stamp, (u32, u32))>,
}

/// How much is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one file that may be written to.
    pub file: u64,
    /// Bytes of one file that is only read, and does not belong to the system.
    pub read: u64,
    /// Bytes of all files together that are kept anew.
    pub total: u64,
}

/// A process to be described.
#[derive(Debug)]
pub struct Subject {
    /// Its id here.
    pub pid: i32,
    /// As it sees it itself.
    pub own: i32,
    /// Files that it has mapped, where others see what it writes.
    pub mapped: Vec<Mapped>,
    /// System V shared memory that it has attached.
    pub attached: Vec<Attached>,
}

impl Subject {
    /// Inodes of what it has mapped: as /proc has them, and as stat(2) does, which may be another for an overlay.
    fn mapped_files(&self) -> impl Iterator<Item = u64> {
        let files = self.mapped.iter().filter_map(|map| map.file.as_ref());
        let found = files.filter_map(|file| Some(file.metadata().ok()?.ino()));
        found.chain(self.mapped.iter().map(|map| map.ino))
    }
}

/// A mapping of a file.
#[derive(Debug)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset of its beginning in the file.
    pub offset: u64,
    /// PROT_ bits.
    pub prot: u32,
    /// Inode.
    pub ino: u64,
    /// The file's name, as /proc has it.
    pub name: String,
    /// The file, if it can be opened.
    pub file: Option<fs::File>,
}

/// The taking that is going on.
pub(crate) struct Taking<'a> {
    taker: &'a mut Taker,
    store: &'a mut dyn Store,
    limits: Limits,
    /// Bytes that may still be kept.
    left: u64,
    subjects: &'a [Subject],
    /// Descriptors of this process that stand for what the recording came with: input, output, errors.
    standard: [i32; 3],
    pub objects: Objects,
    files: HashMap<(u64, u64), usize>,
    /// Inodes of files through which processes share memory: they change without it showing in their times.
    mapped: HashSet<u64>,
    pipes: HashMap<u64, Option<(u32, u32)>>,
    seen: Vec<fds::Seen>,
    diag: Option<diag::Diag>,
}

impl Taker {
    /// What was kept is not in the log that is written now.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// Describes these processes, which stand still. Tasks, timers and what only the process itself can be
    /// asked are left to the caller.
    pub fn take(
        &mut self,
        subjects: &[Subject],
        standard: [i32; 3],
        limits: Limits,
        store: &mut dyn Store,
    ) -> Objects {
        let mut taking = self.begin(subjects, standard, limits, store);
        for subject in subjects {
            let mut process = proc::process(subject, subjects);
            let pidfd = pidfd(subject.pid);
            taking.fds(subject.pid, pidfd.as_ref(), &mut process);
            taking.shared(subject, &mut process);
            process.attached.clone_from(&subject.attached);
            taking.objects.processes.push(process);
        }
        taking.peers();
        let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME].map(clock);
        taking.objects.clocks = clocks.into();
        taking.objects
    }

    /// Adds to a description what has these names.
    pub fn names<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        limits: Limits,
        store: &mut dyn Store,
        objects: &mut Objects,
    ) {
        let mut taking = self.begin(&[], [-1; 3], limits, store);
        taking.objects = std::mem::take(objects);
        for (at, file) in taking.objects.files.iter().enumerate() {
            taking.files.insert((file.dev, file.ino), at);
        }
        for name in names {
            let what = taking.named(name);
            taking.objects.changed.push(Changed {
                path: name.into(),
                what,
            });
        }
        *objects = taking.objects;
    }

    fn begin<'a>(
        &'a mut self,
        subjects: &'a [Subject],
        standard: [i32; 3],
        limits: Limits,
        store: &'a mut dyn Store,
    ) -> Taking<'a> {
        Taking {
            taker: self,
            store,
            limits,
            left: limits.total,
            subjects,
            standard,
            objects: Objects::default(),
            files: HashMap::new(),
            mapped: subjects.iter().flat_map(Subject::mapped_files).collect(),
            pipes: HashMap::new(),
            seen: Vec::new(),
            diag: None,
        }
    }
}

/// Nanoseconds of a clock.
pub fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointers; the result is a descriptor of our own.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Whether a name is the system's: such files are the same for everyone, and do not change.
fn is_system(path: &str) -> bool {
    let system = ["/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/etc/"];
    system.iter().any(|dir| path.starts_with(dir))
}

impl Taking<'_> {
    /// The place of a regular file in the list; its content is kept if it may be needed.
    fn file(&mut self, file: &fs::File, path: &str, written: bool) -> Option<usize> {
        let meta = file.metadata().ok()?;
        let key = (meta.dev(), meta.ino());
        let mapped = self.mapped.contains(&key.1);
        let deleted = meta.nlink() == 0;
        let at = match self.files.get(&key) {
            Some(at) => *at,
            None => {
                let memory = path.strip_prefix("/memfd:");
                let name = memory.unwrap_or(path);
                let bare = name.strip_suffix(" (deleted)").unwrap_or(name);
                let name = if deleted { bare } else { name };
                self.objects.files.push(File {
                    path: name.into(),
                    deleted,
                    memory: memory.is_some(),
                    dev: key.0,
                    ino: key.1,
                    mode: meta.mode(),
                    size: meta.size(),
                    mtime: (meta.mtime(), meta.mtime_nsec()),
                    content: None,
                });
                self.files.insert(key, self.objects.files.len() - 1);
                self.objects.files.len() - 1
            }
        };
        let most = match written || deleted {
            true => self.limits.file,
            false if is_system(path) => 0,
            false => self.limits.read,
        };
        if self.objects.files[at].content.is_none() && meta.size() <= most {
            let content = self.keep(file, &meta, mapped);
            self.objects.files[at].content = content;
        }
        Some(at)
    }

    /// What has a name.
    fn named(&mut self, name: &str) -> Named {
        let Ok(meta) = fs::symlink_metadata(name) else {
            return Named::Absent;
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            return Named::Directory(meta.mode() & 0o7777);
        }
        if kind.is_symlink() {
            let target = fs::read_link(name).unwrap_or_default();
            return Named::Symlink(target.to_string_lossy().into_owned());
        }
        let file = match kind.is_file() {
            true => fs::File::open(name).ok(),
            false => None,
        };
        let place = file.and_then(|file| self.file(&file, name, true));
        match place {
            // Another name of a file that has one already: it would be made twice.
            Some(at) if self.objects.files[at].path == name => Named::File(at),
            _ => Named::Other,
        }
    }

    /// Keeps the content of a file, if it was not kept before.
    fn keep(&mut self, file: &fs::File, meta: &fs::Metadata, mapped: bool) -> Option<(u32, u32)> {
        let key = (meta.dev(), meta.ino());
        let times = [
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        let stamp = (meta.size(), (times[0], times[1]), (times[2], times[3]));
        if let Some((known, content)) = self.taker.kept.get(&key)
            && *known == stamp
            && !mapped
        {
            return Some(*content);
        }
        self.left = self.left.checked_sub(meta.size())?;
        let content = self.store.begin();
        let mut buf = vec![0; 256 << 10];
        let mut at = next_data(file, 0);
        while at < meta.size() {
            match file.read_at(&mut buf, at) {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    self.store.put(content, at, &buf[..n]);
                    at += n as u64;
                    if n < buf.len() || at.is_multiple_of(16 << 20) {
                        at = next_data(file, at);
                    }
                }
            }
        }
        // Times move in steps: one that changed just now may change again without it being seen.
        let settled = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .is_ok_and(|now| now.as_nanos() as i128 > nanos(stamp.2) + 20_000_000);
        if settled && !mapped {
            self.taker.kept.insert(key, (stamp, content));
        }
        Some(content)
    }

    /// Mappings of files through which the process shares memory.
    fn shared(&mut self, subject: &Subject, process: &mut Process) {
        for map in &subject.mapped {
            let written = map.prot & libc::PROT_WRITE as u32 != 0;
            let file = match &map.file {
                Some(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => {
                    self.file(file, &map.name, written)
                }
                Some(_) => None,
                // It may have a descriptor.
                None => self
                    .objects
                    .files
                    .iter()
                    .position(|file| file.ino == map.ino),
            };
            if let Some(file) = file {
                process.shared.push(Shared {
                    start: map.start,
                    end: map.end,
                    offset: map.offset,
                    prot: map.prot,
                    file,
                });
            }
        }
    }
}

fn nanos(time: (i64, i64)) -> i128 {
    i128::from(time.0) * 1_000_000_000 + i128::from(time.1)
}

/// The place at or behind an offset where a file has content that was written: all else is holes (lseek(2),
/// SEEK_DATA). Moves the file's position.
pub fn next_data(file: &fs::File, at: u64) -> u64 {
    use std::os::fd::AsRawFd;
    // SAFETY: no memory is involved.
    let found = unsafe { libc::lseek(file.as_raw_fd(), at as i64, libc::SEEK_DATA) };
    match std::io::Error::last_os_error().raw_os_error() {
        _ if found >= 0 => found as u64,
        Some(libc::ENXIO) => u64::MAX,
        // A file system that does not tell.
        _ => at,
    }
}
