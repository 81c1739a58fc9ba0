//! What a call does to descriptors and other kernel objects.

/// What a call that succeeds does to the kernel's objects. Numbers are indices of arguments.
///
/// One effect a row: the one that a model of descriptors must follow, or else the object that the
/// call mainly reads or changes. [`Effect::resources`] lists the objects it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Touches nothing outside the calling task, or only reads values of the system.
    None,
    /// The result is a new descriptor.
    OpensFd,
    /// The result is a new descriptor; a path was looked up from the directory descriptor `dir`
    /// (`None`: from the working directory).
    OpensPath {
        /// Argument with the directory descriptor.
        dir: Option<u8>,
        /// Argument with the path.
        path: u8,
    },
    /// Two new descriptors, an `int[2]` written at the pointer in `arg`.
    OpensFds2 {
        /// The argument.
        arg: u8,
    },
    /// One new descriptor, an `int` written at the pointer in `arg` plus `off` (`clone` with
    /// `CLONE_PIDFD`, `SO_PEERPIDFD`).
    OpensFdAt {
        /// The argument.
        arg: u8,
        /// Offset in what it points to.
        off: u8,
    },
    /// The result is a descriptor of a connection accepted on the socket in this argument.
    Accepts(u8),
    /// Closes the descriptor.
    ClosesFd(u8),
    /// `close_range(first, last, flags)`.
    ClosesRange,
    /// The result is a copy of the descriptor `from`. With `to` the number was chosen by the caller
    /// and what it was before is closed.
    Dup {
        /// Argument with the old descriptor.
        from: u8,
        /// Argument with the new number (`dup2`, `dup3`).
        to: Option<u8>,
        /// Whether the copy is closed on exec (`dup3` says it in its flags, and has false here).
        cloexec: bool,
    },
    /// Receives on the socket; control data may carry descriptors (`SCM_RIGHTS`).
    RecvFds(u8),
    /// Sends on the socket; control data may carry descriptors.
    SendFds(u8),
    /// Reads from the descriptor (and moves its offset if it has one).
    Reads(u8),
    /// Writes to the descriptor.
    Writes(u8),
    /// Reads at a given offset; the descriptor's own does not move.
    ReadsAt(u8),
    /// Writes at a given offset.
    WritesAt(u8),
    /// Moves data from one descriptor to another in the kernel.
    Moves {
        /// Argument with the source.
        from: u8,
        /// Argument with the destination.
        to: u8,
    },
    /// Moves the offset of the descriptor.
    Seeks(u8),
    /// Changes the entry of the descriptor table (`FD_CLOEXEC`).
    SetsFdFlags(u8),
    /// Changes the open file (`O_NONBLOCK`, owner, lock, lease, options, terminal state).
    SetsFile(u8),
    /// Reads the state of the open file behind the descriptor.
    GetsFile(u8),
    /// Binds, connects, listens, shuts down: changes the state of the socket.
    SetsSocket(u8),
    /// Waits for events of many descriptors (poll, select).
    Polls,
    /// Waits on the epoll, or changes its set.
    Epoll(u8),
    /// Looks a path up and reads the file's metadata.
    PathReads,
    /// Changes the tree of files, or metadata of a file found by path.
    PathWrites,
    /// Changes which files have which names, or what one holds: for each name the argument of its
    /// directory, if there is one, and that of the path.
    ChangesNames(&'static [(Option<u8>, u8)]),
    /// Changes metadata or length of the file behind the descriptor.
    InodeWrites(u8),
    /// Working directory, by path or descriptor.
    Chdir,
    /// Root directory, mounts, namespaces.
    Mounts,
    /// File mode creation mask.
    Umask,
    /// Address space.
    Mm,
    /// Reads the memory of another process, or changes it.
    OtherMm,
    /// Creates or ends a task, or changes what program it runs.
    Tasks,
    /// Waits for a child, or reads or changes attributes of a process (group, session,
    /// priority...).
    Pid,
    /// Sends a signal.
    Kills,
    /// Signal handlers, mask, pending signals of the caller.
    Signals,
    /// User and group ids, capabilities, keys, security attributes.
    Creds,
    /// Limits on resources.
    Limits,
    /// Futex words.
    Futex,
    /// Timers and alarms of the process.
    Timer,
    /// Clocks of the system: reading, sleeping, setting.
    Clock,
    /// System V and POSIX message queues, semaphores, shared memory.
    Ipc,
    /// State of the system as a whole (host name, modules, swap, reboot).
    System,
}

/// A class of kernel objects, as the profiler counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Descriptor table (`files_struct`).
    Files,
    /// Open file description (`file`), sockets and pipes included.
    File,
    /// A file itself: data, metadata.
    Inode,
    /// Working directory, root, umask (`fs_struct`) and the tree of files.
    Fs,
    /// Address space (`mm_struct`).
    Mm,
    /// Processes, groups, sessions (`pid`).
    Pid,
    /// Signal handlers and pending signals (`sighand_struct`, `signal_struct`).
    Signal,
    /// Credentials.
    Creds,
    /// Futex words.
    Futex,
    /// Timers.
    Timer,
    /// IPC objects that have names.
    Ipc,
    /// Everything else that is global.
    System,
}

impl Effect {
    /// Kinds of objects that a call with this effect touches.
    pub const fn resources(&self) -> &'static [Resource] {
        use Resource::*;
        match self {
            Effect::None => &[],
            Effect::OpensFd | Effect::OpensFds2 { .. } | Effect::OpensFdAt { .. } => &[Files],
            Effect::OpensPath { .. } => &[Files, Fs, Inode],
            Effect::Accepts(_) => &[Files, File],
            Effect::ClosesFd(_) => &[Files, File],
            Effect::ClosesRange | Effect::SetsFdFlags(_) => &[Files],
            Effect::Dup { .. } => &[Files, File],
            Effect::RecvFds(_) => &[Files, File],
            Effect::SendFds(_) => &[File],
            Effect::Reads(_) | Effect::Writes(_) => &[File],
            Effect::ReadsAt(_) | Effect::WritesAt(_) => &[Inode],
            Effect::Moves { .. } => &[File, Inode],
            Effect::Seeks(_) | Effect::SetsFile(_) | Effect::GetsFile(_) => &[File],
            Effect::SetsSocket(_) => &[File],
            Effect::Polls | Effect::Epoll(_) => &[File],
            Effect::PathReads => &[Fs, Inode],
            Effect::PathWrites | Effect::ChangesNames(_) => &[Fs, Inode],
            Effect::InodeWrites(_) => &[Inode],
            Effect::Chdir | Effect::Mounts | Effect::Umask => &[Fs],
            Effect::Mm | Effect::OtherMm => &[Mm],
            Effect::Tasks => &[Pid, Mm],
            Effect::Pid => &[Pid],
            Effect::Kills => &[Pid, Signal],
            Effect::Signals => &[Signal],
            Effect::Creds => &[Creds],
            Effect::Limits => &[Pid],
            Effect::Futex => &[Futex],
            Effect::Timer => &[Timer],
            Effect::Clock => &[],
            Effect::Ipc => &[Ipc],
            Effect::System => &[System],
        }
    }
}
