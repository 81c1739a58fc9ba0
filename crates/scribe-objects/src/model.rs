//! The description, as it is stored: JSON of these types (docs/LOG-FORMAT.md, "Objects"). Ids of
//! processes and tasks are those that the program sees.

use crate::ipc::{Attached, Ipc};
use serde::{Deserialize, Serialize};

/// All that processes have in the kernel beside their memory and registers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objects {
    /// The processes, parents before their children.
    pub processes: Vec<Process>,
    /// Open files (open(2): "open file descriptions"): descriptors name them by their place here.
    pub open: Vec<Open>,
    /// Files on disk or in memory: open files and mappings name them by their place here.
    pub files: Vec<File>,
    /// Nanoseconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME, as the program sees them.
    pub clocks: (u64, u64),
    /// Names that the program may have changed, as they are.
    pub changed: Vec<Changed>,
    /// System V shared memory, semaphores, message queues.
    pub ipc: Ipc,
    /// What cannot be made again, and is not described: for people.
    pub lost: Vec<String>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent, if that is one of these processes; otherwise 0.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// Its threads, itself first.
    pub tasks: Vec<Task>,
    /// Descriptors.
    pub fds: Vec<Fd>,
    /// Current directory.
    pub cwd: String,
    /// Root directory.
    pub root: String,
    /// File mode creation mask.
    pub umask: u32,
    /// The program's file.
    pub exe: String,
    /// Soft and hard limits (getrlimit(2)), by their numbers.
    pub limits: Vec<(u64, u64)>,
    /// Real, effective, saved and file system user.
    pub uids: Vec<u32>,
    /// Real, effective, saved and file system group.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Interval timers (setitimer(2)) that run: which, microseconds between, microseconds left.
    pub itimers: Vec<(u32, u64, u64)>,
    /// POSIX timers.
    pub timers: Vec<Timer>,
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end,
    /// env_start, env_end (prctl(2), PR_SET_MM); or none.
    pub mm: Vec<u64>,
    /// The auxiliary vector (getauxval(3)).
    pub auxv: Vec<u64>,
    /// Children that have ended and were not waited for: id, and status as wait(2) has it.
    pub ended: Vec<(i32, i32)>,
    /// Orphans come to it (PR_SET_CHILD_SUBREAPER).
    pub subreaper: bool,
    /// Mappings of files that others see.
    pub shared: Vec<Shared>,
    /// System V shared memory that it has attached.
    pub attached: Vec<Attached>,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// Its number in the log.
    pub task: u32,
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// Head of its list of robust futexes.
    pub robust_list: u64,
    /// Where the kernel clears its id when it ends.
    pub clear_tid: u64,
    /// Restartable sequences: address, size, signature.
    pub rseq: (u64, u32, u32),
    /// Signals that wait for it: number and siginfo.
    pub pending: Vec<(i32, Vec<u8>)>,
    /// How long it has been in the call that it makes again, nanoseconds.
    pub waited: u64,
}

/// A descriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fd {
    /// Its number.
    pub fd: i32,
    /// It is closed by exec.
    pub cloexec: bool,
    /// What is open.
    pub open: usize,
}

/// A POSIX timer (timer_create(2)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timer {
    /// Its id.
    pub id: i32,
    /// Its clock.
    pub clock: i32,
    /// Its signal.
    pub signal: i32,
    /// sigev_notify.
    pub notify: i32,
    /// Its thread, where that is to be told.
    pub tid: i32,
    /// sigev_value.
    pub value: u64,
    /// Nanoseconds between.
    pub interval: u64,
    /// Nanoseconds left; 0: it does not run.
    pub left: u64,
}

/// A mapping of a file that others see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset of its beginning in the file.
    pub offset: u64,
    /// PROT_ bits.
    pub prot: u32,
    /// The file's place in the list of files.
    pub file: usize,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Its name, as the process sees it.
    pub path: String,
    /// It has no name any more.
    pub deleted: bool,
    /// It never had one (memfd_create(2)); `path` is what it was called.
    pub memory: bool,
    /// Device number.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Permissions and type.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Time of the last change: seconds, nanoseconds.
    pub mtime: (i64, i64),
    /// Its content: number in the stream of this log (stream, number), if it was kept.
    pub content: Option<(u32, u32)>,
}

/// A name of the file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The name.
    pub path: String,
    /// What has it.
    pub what: Named,
}

/// What has a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// Nothing.
    Absent,
    /// A regular file: its place in the list of files.
    File(usize),
    /// A directory, with these permissions.
    Directory(u32),
    /// A symbolic link to this.
    Symlink(String),
    /// Something else: a device, a socket, a FIFO.
    Other,
}

/// An open file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Flags as open(2) has them.
    pub flags: u32,
    /// Position.
    pub pos: u64,
    /// What it is.
    pub kind: Kind,
    /// Locks that are held through it or by its processes.
    #[serde(default)]
    pub locks: Vec<Lock>,
}

/// A lock (/proc/locks).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// `POSIX`, `FLOCK` or `OFDLCK`.
    pub kind: String,
    /// It excludes others that read.
    pub write: bool,
    /// The process that holds it (POSIX).
    pub pid: i32,
    /// First byte.
    pub start: u64,
    /// Last byte; `None`: to the end, wherever that is.
    pub end: Option<u64>,
}

/// What is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file: its place in the list of files.
    File(usize),
    /// A directory.
    Directory(String),
    /// A device, by its name.
    Device(String),
    /// The terminal, or whatever else stood there, of the recording itself: 0 input, 1 output, 2 errors.
    Standard(u8),
    /// An end of a pipe.
    Pipe {
        /// Both ends have the same.
        id: u64,
        /// Bytes that it can hold.
        capacity: u32,
        /// Bytes in it, or none.
        content: Option<(u32, u32)>,
    },
    /// A FIFO, by its name.
    Fifo(String),
    /// A socket.
    Socket(Box<Socket>),
    /// eventfd(2).
    EventFd {
        /// Its counter.
        count: u64,
        /// EFD_SEMAPHORE.
        semaphore: bool,
    },
    /// epoll_create(2): what is watched (descriptor, events, data).
    Epoll(Vec<(i32, u32, u64)>),
    /// timerfd_create(2).
    TimerFd {
        /// Its clock.
        clock: i32,
        /// Nanoseconds between.
        interval: u64,
        /// Nanoseconds left; 0: it does not run.
        left: u64,
    },
    /// signalfd(2): the signals.
    SignalFd(u64),
    /// inotify(7): number, path, mask.
    Inotify(Vec<(i32, String, u32)>),
    /// pidfd_open(2): the process.
    PidFd(i32),
    /// A POSIX message queue (mq_overview(7)) without messages.
    Queue(PosixQueue),
    /// Something that cannot be made again.
    Other(String),
}

/// A POSIX message queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PosixQueue {
    /// Its name, which begins with a slash.
    pub name: String,
    /// It has no name any more.
    pub deleted: bool,
    /// Inode.
    pub ino: u64,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Messages that it can hold.
    pub messages: i64,
    /// Bytes of a message.
    pub size: i64,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// Its inode.
    pub id: u64,
    /// Inode of the socket that it is connected with, if that is one of these processes'.
    pub peer: u64,
    /// AF_ number.
    pub domain: i32,
    /// SOCK_ number.
    pub kind: i32,
    /// Protocol.
    pub protocol: i32,
    /// Connections are waited for, so many at most.
    pub listens: Option<i32>,
    /// It is connected.
    pub connected: bool,
    /// Its connection is over: it was closed (1), or has failed, which the program does not know yet (2).
    pub over: u8,
    /// Its own address, as the kernel has it; empty: none.
    pub name: Vec<u8>,
    /// The other end's address; empty: none.
    pub peer_name: Vec<u8>,
    /// Options: level, name, value.
    pub options: Vec<(i32, i32, Vec<u8>)>,
    /// What waits to be read, message by message (a stream is one); for each the sender's address.
    pub queue: Vec<(u32, u32, Vec<u8>)>,
    /// Bytes that the program has sent, and for which the other end has no room.
    pub unsent: u32,
    /// Nothing more comes (1), nothing more may be sent (2).
    pub shut: u8,
}
