//! Rows of the system-call table in the form in which the agent reads them. `scribe-syscalls` makes
//! them from the declarative table; what has no such form is left to the engine.

/// Most buffers that the arguments of a fast call lead to, elements of an iovec not counted.
pub const MAX_BUFS: usize = 4;
/// Most elements of an iovec on the fast path.
pub const MAX_IOVEC: usize = 16;
/// Most rows.
pub const MAX_ROWS: usize = 1280;
/// Numbers of calls that may have a row are below this.
pub const MAX_NR: usize = 512;
/// Longest transfer of the kernel (`MAX_RW_COUNT`, include/linux/fs.h).
pub const MAX_RW: u64 = 0x7fff_f000;

/// Flags of mmap that mean nothing at replay or could fail there: MAP_POPULATE, MAP_LOCKED, MAP_HUGETLB,
/// MAP_FIXED_NOREPLACE, MAP_32BIT, MAP_NONBLOCK, MAP_SYNC.
pub const MAP_DROPPED: u64 = 0x8000 | 0x2000 | 0x4_0000 | 0x10_0000 | 0x40 | 0x1_0000 | 0x8_0000;
/// Set in the flags of a logged mapping that is replayed from memory shared between the replayed processes.
pub const MAP_BACKED: u32 = 1 << 31;

/// Direction of a buffer, seen from the kernel.
#[allow(missing_docs)]
pub mod dir {
    pub const IN: u8 = 0;
    pub const OUT: u8 = 1;
    pub const INOUT: u8 = 2;
}

/// How a buffer's length is found.
#[allow(missing_docs)]
pub mod len {
    /// `n` bytes.
    pub const FIXED: u8 = 0;
    /// Bytes in argument `arg`.
    pub const ARG: u8 = 1;
    /// Bytes in argument `arg`, an `int`; none if negative.
    pub const ARG32: u8 = 2;
    /// Bytes in argument `arg`; none if more than a page.
    pub const SMALL: u8 = 3;
    /// Elements of `n` bytes in argument `arg`.
    pub const ELEMS: u8 = 4;
    /// The same, an `int`.
    pub const ELEMS32: u8 = 5;
    /// Bytes in the `u32` that argument `arg` points to.
    pub const AT_PTR: u8 = 6;
    /// A C string of at most `n` bytes.
    pub const STR: u8 = 7;
}

/// Which bytes of a buffer were written.
#[allow(missing_docs)]
pub mod out {
    pub const NOTHING: u8 = 0;
    /// All, on success.
    pub const FULL: u8 = 1;
    /// All, on failure too.
    pub const ALWAYS: u8 = 2;
    /// All, if the result is positive.
    pub const POSITIVE: u8 = 3;
    /// As many as the result says.
    pub const RET: u8 = 4;
    /// The same if that fits; nothing otherwise.
    pub const RET_FITS: u8 = 5;
    /// As many elements of `n` bytes as the result says.
    pub const RET_TIMES: u8 = 6;
    /// The result and `n` more.
    pub const RET_PLUS: u8 = 7;
    /// As the `u32` says that argument `arg` points to after the call.
    pub const AT_PTR: u8 = 8;
}

/// Values of [`FastBuf::nested`].
#[allow(missing_docs)]
pub mod nested {
    pub const NONE: u8 = 0;
    /// An iovec whose elements the kernel reads.
    pub const IOVEC_IN: u8 = 1;
    /// An iovec whose elements it fills in turn.
    pub const IOVEC_OUT: u8 = 2;
}

/// Whether a call may wait for something.
#[allow(missing_docs)]
pub mod block {
    pub const NEVER: u8 = 0;
    pub const MAY: u8 = 1;
    /// As the class of the descriptor says.
    pub const FD: u8 = 2;
}

/// What a call does to descriptors.
#[allow(missing_docs)]
pub mod effect {
    pub const NONE: u8 = 0;
    /// The result is a new descriptor.
    pub const OPENS: u8 = 1;
    /// The descriptor in argument `effect_arg` is closed, or changed.
    pub const CHANGES: u8 = 2;
    /// The result is a copy; the descriptor in argument `effect_arg` was closed.
    pub const DUPS: u8 = 3;
    /// Two new descriptors stand where argument `effect_arg` points to.
    pub const OPENS2: u8 = 4;
    /// Reads from the descriptor in `fd_arg`.
    pub const READS: u8 = 5;
    /// Writes to it.
    pub const WRITES: u8 = 6;
}

/// Bits of the class of a descriptor. 0: not known, ask the engine.
#[allow(missing_docs)]
pub mod class {
    pub const KNOWN: u8 = 1;
    pub const MAY_BLOCK: u8 = 2;
    /// Reading it needs the engine.
    pub const SLOW_READ: u8 = 4;
    /// Writing to it needs the engine.
    pub const SLOW_WRITE: u8 = 8;
    /// Reading much of it needs the engine: it may be a file of the installed system, of which the
    /// log says only which part was read.
    pub const SLOW_LONG_READ: u8 = 16;
    /// An agent found this out; the engine knows nothing of the descriptor.
    pub const BY_AGENT: u8 = 32;
}

/// Values of [`FastRow::slow`]: who does a call.
#[allow(missing_docs)]
pub mod by {
    pub const AGENT: u8 = 0;
    /// The row is there so that it is not taken for another.
    pub const ENGINE: u8 = 1;
    /// The agent makes it, in a recording, and the engine does the rest.
    pub const BOTH: u8 = 2;
    /// The agent makes it: it changes the mask of blocked signals.
    pub const MASK: u8 = 3;
    /// The agent makes it, or leaves it to the engine, by what it does to which signal's action.
    pub const ACTION: u8 = 4;
    /// The agent makes it, and notes what it said of the task.
    pub const NOTED: u8 = 5;
    /// The answer is the error in [`super::FastRow::effect_arg`], in a recording and a replay.
    pub const REFUSED: u8 = 6;
    /// The agent makes it if the third argument is 0: it only asks.
    pub const ASKS: u8 = 7;
}

/// Calls that the kernel does not restart when they are interrupted, whatever interrupts them:
/// signal(7). Numbers of x86-64: semop, msgsnd, msgrcv, rt_sigtimedwait, io_getevents, semtimedop, epoll_wait,
/// epoll_pwait, epoll_pwait2.
pub const NEVER_RESTARTED: [u32; 9] = [65, 69, 70, 128, 208, 220, 232, 281, 441];

/// No argument.
pub const NO_ARG: u8 = 0xff;

/// Memory that an argument leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastBuf {
    /// Index of the argument.
    pub arg: u8,
    /// See [`dir`].
    pub dir: u8,
    /// Its content is hashed.
    pub input: u8,
    /// A socket address: at most 128 bytes.
    pub sockaddr: u8,
    /// See [`len`].
    pub len: u8,
    /// Argument of the length.
    pub len_arg: u8,
    /// See [`out`].
    pub out: u8,
    /// Argument of the written length.
    pub out_arg: u8,
    /// Number of the length.
    pub len_n: u32,
    /// Number of the written length.
    pub out_n: u32,
    /// See [`nested`].
    pub nested: u8,
    /// The call installs a signal mask from here: only a null pointer is fast.
    pub sigmask: u8,
    /// The address has a meaning of its own and stays as it is.
    pub in_place: u8,
    #[allow(missing_docs)]
    pub pad: [u8; 5],
}

/// One row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastRow {
    /// Number of the call.
    pub nr: u16,
    /// How many arguments count.
    pub nargs: u8,
    /// See [`block`].
    pub block: u8,
    /// Argument whose class decides, or [`NO_ARG`].
    pub fd_arg: u8,
    /// See [`effect`].
    pub effect: u8,
    /// Argument of the effect.
    pub effect_arg: u8,
    /// How many of `bufs` are there.
    pub nbufs: u8,
    /// Argument that selects the row, or [`NO_ARG`] for every call of this number.
    pub sub_arg: u8,
    /// A second one whose low 32 bits must be `and_value`, or [`NO_ARG`].
    pub and_arg: u8,
    /// See [`by`].
    pub slow: u8,
    #[allow(missing_docs)]
    pub pad: u8,
    /// See `and_arg`.
    pub and_value: u32,
    /// Bits of the selecting argument that count.
    pub sub_mask: u64,
    /// Their value.
    pub sub_value: u64,
    /// The buffers, in the order of the arguments.
    pub bufs: [FastBuf; MAX_BUFS],
}

/// All rows: those of one number stand together, in the order in which they are to be tried.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FastTable {
    /// For each number the first row and how many there are.
    pub index: [(u16, u16); MAX_NR],
    /// The rows.
    pub rows: [FastRow; MAX_ROWS],
}

impl FastTable {
    /// The row of a call.
    #[inline]
    pub fn find(&self, nr: u64, args: &[u64; 6]) -> Option<&FastRow> {
        let (first, count) = *self.index.get(nr as usize)?;
        let rows = self
            .rows
            .get(usize::from(first)..usize::from(first) + usize::from(count))?;
        rows.iter().find(|row| {
            (row.sub_arg == NO_ARG
                || args[usize::from(row.sub_arg & 7) % 6] & row.sub_mask == row.sub_value)
                && (row.and_arg == NO_ARG
                    || args[usize::from(row.and_arg & 7) % 6] as u32 == row.and_value)
        })
    }
}
