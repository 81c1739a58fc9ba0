//! The parts of records: numbers, flags, bodies.

use crate::section::Sections;
use std::borrow::Cow;

/// Numbers of the record kinds.
#[allow(missing_docs)]
pub mod kind {
    pub const SWITCH: u8 = scribe_abi::log::SWITCH;
    pub const SYSCALL: u8 = scribe_abi::log::SYSCALL;
    pub const DATA: u8 = 3;
    pub const SIGNAL: u8 = scribe_abi::log::SIGNAL;
    pub const INSTR: u8 = scribe_abi::log::INSTR;
    pub const EXEC: u8 = 6;
    pub const EXIT: u8 = scribe_abi::log::EXIT;
    pub const MERGE: u8 = 8;
    pub const MOVE: u8 = 9;
    pub const CHECKSUM: u8 = scribe_abi::log::CHECKSUM;
    pub const TRACER: u8 = 11;
    pub const FORCED: u8 = 12;
    pub const PATCH: u8 = 13;
    pub const SNAPSHOT: u8 = 14;
    pub const START: u8 = 32;
    pub const FILE: u8 = 33;
    pub const BLOB: u8 = 34;
    pub const NOTE: u8 = 35;
    pub const BOOKMARK: u8 = 36;
    pub const GAP: u8 = 37;
    pub const OBJECTS: u8 = 38;
    pub const END: u8 = 63;
}

/// Bits of the `flags` of records. Unknown bits are kept.
pub mod flags {
    /// [`crate::Record::Switch`]: the task that had the lane before is inside a call.
    pub const PREV_IN_CALL: u8 = scribe_abi::log::PREV_IN_CALL;
    /// [`super::Syscall`]: a write that was shown on standard output.
    pub const STDOUT: u8 = 1;
    /// [`super::Syscall`]: a write that was shown on standard error.
    pub const STDERR: u8 = 2;
    /// [`super::Syscall`]: the call was interrupted and is going to be made again.
    pub const RESTART: u8 = 4;
    /// [`super::Syscall`]: the call was answered without being carried out (a seccomp filter).
    pub const BLOCKED: u8 = 8;
    /// [`super::Signal`]: delivered before the call that the task is about to make.
    pub const AT_ENTRY: u8 = scribe_abi::log::SIGNAL_AT_ENTRY;
    /// [`super::Signal`]: a fault of the task itself.
    pub const SYNC: u8 = scribe_abi::log::SIGNAL_SYNC;
    /// [`super::Signal`]: before the handler the task carries out the `ret` at which it stands.
    pub const RETURNS: u8 = scribe_abi::log::SIGNAL_RETURNS;
    /// [`super::Exit`]: the whole process ends.
    pub const GROUP: u8 = 1;
    /// [`crate::Record::Checksum`]: the hash of the registers is there.
    pub const HAS_REGS: u8 = 1;
    /// [`crate::Record::Checksum`]: the hash of the memory is there.
    pub const HAS_MEM: u8 = 2;
    /// [`super::BookmarkTask`]: it has come to a call whose event comes later.
    pub const IN_CALL: u8 = 4;
    /// [`crate::Record::Objects`]: a name before it was changed.
    pub const BEFORE: u8 = 1;
    /// [`super::End`]: the program went on.
    pub const DETACHED: u8 = 1;
}

/// Bits of the flags of [`crate::Record::Patch`].
pub mod patch {
    /// The program's own bytes were put back.
    pub const REMOVE: u8 = 1;
    /// Where the task stands, behind its last event; otherwise before the call that it makes next.
    pub const HERE: u8 = 2;
}

/// Values of [`Signal::action`]: what the signal did.
#[allow(missing_docs)]
pub mod action {
    pub const HANDLER: u8 = 1;
    pub const TERMINATE: u8 = 2;
    pub const CORE: u8 = 3;
    pub const STOP: u8 = 4;
    pub const IGNORE: u8 = 5;
}

/// Values of [`Tracer::place`]: how far the task runs before what the record says is done.
pub mod place {
    /// No further: it stands at a sync point already.
    pub const HERE: u8 = 0;
    /// To the call that it is about to make; what the record changes, it changes before the call.
    pub const ENTRY: u8 = 1;
    /// To a fault of its own, which the tracer took.
    pub const FAULT: u8 = 2;
    /// One instruction.
    pub const STEP: u8 = 3;
    /// To the call that it is about to make; it goes back to before the instruction.
    pub const BEFORE: u8 = 4;
}

/// Values of `which` in [`crate::Record::Instr`].
#[allow(missing_docs)]
pub mod instr {
    pub const RDTSC: u16 = scribe_abi::log::RDTSC;
    pub const RDTSCP: u16 = scribe_abi::log::RDTSCP;
    pub const CPUID: u16 = 2;
    pub const RDRAND: u16 = 3;
    pub const RDSEED: u16 = 4;
    pub const RDPID: u16 = 5;
    pub const XGETBV: u16 = 6;
}

/// Bits of [`FileInfo::flags`].
pub mod file_flags {
    /// The content is in the log.
    pub const COPIED: u32 = 1;
    /// The file belongs to an installed package.
    pub const PACKAGED: u32 = 2;
    /// The BLAKE3 hash is there.
    pub const HASHED: u32 = 4;
    /// There was no such file.
    pub const ABSENT: u32 = 8;
    /// Of the hash only the first 8 bytes are there.
    pub const SHORT_HASH: u32 = 16;
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Syscall<'a> {
    /// Its number.
    pub nr: u16,
    /// [`flags::STDOUT`], [`flags::STDERR`], [`flags::RESTART`].
    pub flags: u8,
    /// What it returned.
    pub ret: i64,
    /// Hash of its arguments and of the memory that it read.
    pub in_hash: u32,
    /// What else is known of it.
    pub sections: Sections<'a>,
}

/// A signal that was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signal<'a> {
    /// Its number.
    pub signo: u16,
    /// [`flags::AT_ENTRY`], [`flags::SYNC`], [`flags::RETURNS`].
    pub flags: u8,
    /// The handler interrupts the task as many bytes before the place where it stands.
    pub back: u8,
    /// See [`action`].
    pub action: u8,
    /// The `siginfo_t`, without the zeros at its end.
    pub info: Cow<'a, [u8]>,
}

impl Signal<'_> {
    /// The whole `siginfo_t`.
    pub fn siginfo(&self) -> [u8; 128] {
        let mut full = [0; 128];
        let n = self.info.len().min(128);
        full[..n].copy_from_slice(&self.info[..n]);
        full
    }
}

/// A task got a new address space; or, in [`crate::Record::Snapshot`], what it was found as.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exec<'a> {
    /// The task.
    pub task: u32,
    /// Its thread id from now on.
    pub tid: i32,
    /// Its process id.
    pub pid: i32,
    /// The address space.
    pub sections: Sections<'a>,
}

/// A task ended.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exit<'a> {
    /// The task.
    pub task: u32,
    /// As `wait` reports it.
    pub status: i32,
    /// [`flags::GROUP`].
    pub flags: u8,
    /// Memory that its end changed.
    pub sections: Sections<'a>,
}

/// A task was stopped at no sync point. The state is this one when all hashes are equal.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Forced<'a> {
    /// Address of the next instruction.
    pub rip: u64,
    /// Hash of the general registers.
    pub regs: u64,
    /// Hash of the extended state, normalised.
    pub xstate: u64,
    /// Hash of the memory.
    pub mem: u64,
    /// What to tell other states apart by, cheaply: [`crate::Section::Regs`],
    /// [`crate::Section::Xstate`] (its beginning), and memory: [`crate::Section::Out`].
    pub sections: Sections<'a>,
}

/// A tracer within the recording (`ptrace`) stopped a task, or changed it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tracer<'a> {
    /// The task that was changed.
    pub task: u32,
    /// See [`place`]: where the lane's running task has to be.
    pub place: u8,
    /// Signal of the fault, for [`place::FAULT`].
    pub signo: u16,
    /// What changed: [`crate::Section::Out`], [`crate::Section::Regs`], [`crate::Section::Xstate`],
    /// [`crate::Section::Mask`].
    pub sections: Sections<'a>,
}

/// The first record of stream 0.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Start<'a> {
    /// All about the recording.
    pub sections: Sections<'a>,
}

/// What a bookmark says of a task of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BookmarkTask {
    /// The task.
    pub task: u32,
    /// It has come to a call whose event comes later.
    pub in_call: bool,
    /// Hash of its registers.
    pub regs: Option<u64>,
    /// Hash of its writable memory; of tasks that share memory, the first has it.
    pub mem: Option<u64>,
}

/// The last record of stream 0.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct End<'a> {
    /// How the first task ended, as `wait` reports it.
    pub status: i32,
    /// Number of events recorded.
    pub events: u64,
    /// The program went on; only its recording ended.
    pub detached: bool,
    /// What else is known.
    pub sections: Sections<'a>,
}

/// A file that the recorded program mapped or opened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct FileInfo<'a> {
    /// By which other records name it. Never 0.
    pub id: u32,
    /// See [`file_flags`].
    pub flags: u32,
    pub size: u64,
    pub mtime_s: i64,
    pub mtime_ns: u32,
    pub mode: u32,
    pub dev: u64,
    pub ino: u64,
    pub blake3: [u8; 32],
    pub path: Cow<'a, [u8]>,
}

impl FileInfo<'_> {
    /// The same, owning its bytes.
    pub fn into_owned(self) -> FileInfo<'static> {
        FileInfo {
            path: Cow::Owned(self.path.into_owned()),
            ..self
        }
    }
}

/// A list of numbers, as stored.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Values<'a>(pub(crate) Cow<'a, [u8]>);

impl Values<'_> {
    /// The numbers.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()))
    }

    /// The number at `i`.
    pub fn get(&self, i: usize) -> Option<u64> {
        self.iter().nth(i)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len() / 8
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<u64> for Values<'static> {
    fn from_iter<T: IntoIterator<Item = u64>>(iter: T) -> Self {
        Values(Cow::Owned(
            iter.into_iter().flat_map(u64::to_le_bytes).collect(),
        ))
    }
}

/// A record of a kind that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Unknown<'a> {
    pub kind: u8,
    pub flags: u8,
    pub arg: u16,
    pub body: Cow<'a, [u8]>,
}
