//! Memory that the engine shares with all traced processes of a recording or replay, mapped at the
//! same place in each, so that a fork inherits it.
//!
//! ```text
//! SHARED_BASE + 0          Config
//!             + FILES      classes of descriptors, one table for each set of descriptors
//!             + TASKS      task areas: registers, the agent's stack
//!             + LANES      lane areas: token, ring
//! ```
//!
//! A ring is a buffer that is filled from its beginning: whoever holds the lane's token appends
//! (record) or takes (replay) whole records; the engine empties or fills it while the lane stands
//! still, and begins at the start again.

use crate::PAGE;
use crate::fast::FastTable;
use crate::token::Token;
use core::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Above Java's compressed pointers (32 GiB), below the scratch areas.
pub const SHARED_BASE: u64 = 0x8_0000_0000;
/// Bytes that [`Config`] has.
pub const CONFIG_LEN: u64 = 64 * PAGE;
/// Offset of the tables of descriptor classes.
pub const FILES: u64 = CONFIG_LEN;
/// Descriptors in a table; those above have no class.
pub const FILES_FDS: u64 = 4096;
/// How many tables.
pub const FILES_SLOTS: u64 = 256;
/// Offset of the task areas.
pub const TASKS: u64 = 2 << 20;
/// Bytes of a task area.
pub const TASK_LEN: u64 = 8 * PAGE;
/// Where in it the beginning of a record is kept while its call waits.
pub const STAGE: u64 = PAGE;
/// Bytes there.
pub const STAGE_LEN: u64 = PAGE;
/// Where in it outputs of calls that wait go, if they fit.
pub const NEAR_SCRATCH: u64 = 2 * PAGE;
/// Bytes there.
pub const NEAR_SCRATCH_LEN: u64 = 4 * PAGE;
/// How many tasks can have one at a time; others call by trap.
pub const TASK_SLOTS: u64 = 1024;
/// Offset of the lane areas.
pub const LANES: u64 = TASKS + TASK_LEN * TASK_SLOTS;
/// Bytes of a lane area.
pub const LANE_LEN: u64 = 128 * PAGE;
/// Bytes of a lane's ring, behind the page with the rest.
pub const RING_LEN: u64 = LANE_LEN - PAGE;
/// Where the ring begins in a lane area.
pub const PAGE_OF_LANE: usize = PAGE as usize;
/// How many lanes can have one at a time.
pub const LANE_SLOTS: u64 = 256;
/// Bytes of all.
pub const SHARED_LEN: u64 = LANES + LANE_LEN * LANE_SLOTS;
/// End of the shared memory.
pub const SHARED_END: u64 = SHARED_BASE + SHARED_LEN;

const _: () = assert!(size_of::<Config>() as u64 <= CONFIG_LEN);
const _: () = assert!(size_of::<Process>() as u64 <= PAGE);
const _: () = assert!(size_of::<TaskArea>() as u64 <= STAGE);
const _: () = assert!(size_of::<LaneArea>() as u64 <= PAGE);
const _: () = assert!(FILES + FILES_FDS * FILES_SLOTS <= TASKS);

/// See [`Config::devices`].
pub const DEVICES: usize = 8;
/// See [`Config::mapped`].
pub const MAPPED: usize = 64;

/// What holds for all processes.
#[repr(C)]
pub struct Config {
    /// Verbosity of the recording.
    pub level: u32,
    /// Bytes of each input that are kept in the log.
    pub keep: u32,
    /// Device numbers of file systems whose regular files are just files.
    pub devices: [AtomicU64; DEVICES],
    /// Device and inode of the recording's outputs, which the engine shows.
    pub outputs: [[AtomicU64; 2]; 2],
    /// Device and inode of files that are mapped and shared.
    pub mapped: [[AtomicU64; 2]; MAPPED],
    /// How many of them; more than there is room for: agents ask about every descriptor.
    pub mapped_count: AtomicU32,
    /// Programs had restartable sequences registered before they were recorded: their libc insists that
    /// new threads can, too, which the engine sees to.
    pub sequences: AtomicU32,
    /// The calls of the fast path.
    pub table: FastTable,
    /// CPUID answers: leaf, subleaf, eax, ebx, ecx, edx.
    pub cpuid: [[u32; 6]; CPUID_LEAVES],
    /// How many; others are the engine's.
    pub cpuid_count: u32,
    /// The time-stamp counter that the recording shows.
    pub tsc: Tsc,
    /// Files that are in the log, so that agents can name them: see [`place_of_file`].
    pub files: [KnownFile; KNOWN_FILES],
    /// Replay: the engine's process id, and for each number of a file the engine's descriptor of it, and 1.
    pub engine: AtomicU32,
    #[allow(missing_docs)]
    pub opened: [AtomicU32; KNOWN_FILES],
}

/// A file that the log holds, or names.
#[repr(C)]
#[derive(Debug)]
pub struct KnownFile {
    /// Device, inode, size; time of the last change (`ctime`): seconds, nanoseconds.
    pub identity: [AtomicU64; 5],
    /// Its number in the log, written last; 0: the place is free.
    pub id: AtomicU32,
    #[allow(missing_docs)]
    pub pad: u32,
}

/// Room for known files; those that find none are the engine's.
pub const KNOWN_FILES: usize = 512;
/// How many places behind its own a file may stand in.
pub const KNOWN_FILES_NEAR: usize = 8;

/// Where a file stands in [`Config::files`], or at one of the [`KNOWN_FILES_NEAR`] places from there on.
pub const fn place_of_file(ino: u64) -> usize {
    ino as usize % (KNOWN_FILES - KNOWN_FILES_NEAR)
}

/// A time-stamp counter that follows `CLOCK_MONOTONIC_RAW`: the CPU's traps while it is recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tsc {
    /// The clock at some time, in nanoseconds.
    pub ns: u64,
    /// The counter then.
    pub ticks: u64,
    /// Ticks a nanosecond, times 2^32.
    pub rate: u64,
}

impl Tsc {
    /// The counter at a time of the clock, which is no earlier.
    pub fn at(&self, ns: u64) -> u64 {
        let passed = u128::from(ns.wrapping_sub(self.ns)) * u128::from(self.rate);
        self.ticks.wrapping_add((passed >> 32) as u64)
    }
}

/// What belongs to one address space; private memory at [`crate::PROCESS`], written by the engine.
#[repr(C)]
pub struct Process {
    /// Used by the agent's entry, which runs with the token only.
    pub saved_rcx: u64,
    /// Address of the lane's area; 0: no agent here.
    pub lane: u64,
    /// Where a patched CPUID returns to.
    pub saved_ret: u64,
    /// Replay: end of the heap that `brk` moves.
    pub brk: u64,
    /// How many of `texts` count.
    pub text_count: u64,
    /// Start and end of texts that are, or may be, patched: the engine has to know what becomes of
    /// them.
    pub texts: [[u64; 2]; TEXTS],
}

/// Most texts that are told apart; more become one range.
pub const TEXTS: usize = 32;

/// Most CPUID answers that agents know.
pub const CPUID_LEAVES: usize = 192;

/// In place of a subleaf in [`Config::cpuid`]: the leaf has none, whatever ecx holds.
pub const ANY_SUBLEAF: u32 = u32::MAX;

/// Signals that a kernel's mask never holds: SIGTRAP, SIGSEGV, SIGSYS.
pub const NEVER_BLOCKED: u64 = 1 << 4 | 1 << 10 | 1 << 30;

/// What the agent does with a call.
#[allow(missing_docs)]
pub mod mode {
    /// Passes all to the engine.
    pub const PASS: u32 = 0;
    pub const RECORD: u32 = 1;
    pub const REPLAY: u32 = 2;
}

/// How far the agent is with the present call.
#[allow(missing_docs)]
pub mod phase {
    /// In application code, or the event is written.
    pub const OUTSIDE: u32 = 0;
    /// The call is not over: it has no event.
    pub const INSIDE: u32 = 1;
    /// The kernel has returned from it; no event yet.
    pub const MADE: u32 = 2;
}

/// Why the agent passes a call to the engine ([`TaskArea::reason`]).
#[allow(missing_docs)]
pub mod reason {
    /// The engine is to handle it from the beginning.
    pub const CALL: u32 = 1;
    /// Something interrupted it: `result` is one of the kernel's restart codes.
    pub const INTERRUPTED: u32 = 2;
    /// It was made and has its result, but no event; outputs are in place.
    pub const RETURNED: u32 = 3;
    /// It shapes the address space; it was made, the engine does the rest.
    pub const CARRIED: u32 = 5;
    /// Its event is done; something else has to be done before the application goes on.
    pub const DONE: u32 = 4;
}

/// What the agent asks the engine for in the middle of a call ([`TaskArea::reason`]).
#[allow(missing_docs)]
pub mod ask {
    /// To empty the ring.
    pub const DRAIN: u32 = 16;
    /// To fill the ring.
    pub const FILL: u32 = 17;
    /// To hand on the token, which was given up while somebody waited for it in the engine.
    pub const RELEASED: u32 = 18;
    /// To get the token: waiting for it here has taken long.
    pub const TOKEN: u32 = 19;
    /// Replay: to go on with the next record, which gives the lane to a task that is not waiting in its agent.
    pub const SWITCH: u32 = 20;
}

/// Values of [`TaskArea::turn`]: a task that waits in its agent for what others of its lane do.
#[allow(missing_docs)]
pub mod turn {
    /// It does not wait.
    pub const NONE: u32 = 0;
    /// For a futex (recording), or for its turn (replay).
    pub const WAITS: u32 = 1;
    /// What it waits for has come.
    pub const GO: u32 = 2;
    /// Replay: it is to pass its call on.
    pub const LEAVE: u32 = 3;
}

/// Counters of a task, for statistics.
#[allow(missing_docs)]
pub mod counter {
    pub const FAST: usize = 0;
    /// No row for the call.
    pub const NO_ROW: usize = 1;
    /// The descriptor's class is not known or needs the engine.
    pub const DESCRIPTOR: usize = 2;
    /// May wait, and others share the lane.
    pub const WAITS: usize = 3;
    /// A signal, or others wait.
    pub const ASKED: usize = 4;
    /// Too much data, odd arguments.
    pub const ODD: usize = 5;
    /// Replay: the next record is another.
    pub const RECORD: usize = 6;
    /// Made here, finished by the engine.
    pub const CARRIED: usize = 7;
    pub const COUNT: usize = 8;
}

/// What belongs to one task. The fields up to `saved` are at fixed offsets, which the agent's entry
/// knows.
#[repr(C)]
#[derive(Debug)]
pub struct TaskArea {
    /// 0x00: the call's number, then its result.
    pub rax: u64,
    /// 0x08: its arguments, rdi to r9.
    pub args: [u64; 6],
    /// 0x38.
    pub rsp: u64,
    /// 0x40.
    pub flags: u64,
    /// 0x48: where to return to.
    pub ret: u64,
    /// 0x50: not 0 if a signal waits that can be delivered, or the engine wants the task for other
    /// reasons: its next call is the engine's.
    pub pending: AtomicU32,
    /// 0x54: see [`mode`].
    pub mode: AtomicU32,
    /// 0x58: see [`phase`].
    pub phase: AtomicU32,
    /// 0x5c: see [`reason`] and [`ask`].
    pub reason: AtomicU32,
    /// 0x60: rbx, rbp, r12 to r15, in case the agent is broken off.
    pub saved: [u64; 6],
    /// Address of the area of its lane.
    pub lane: AtomicU64,
    /// Address of its table of classes.
    pub files: AtomicU64,
    /// Where outputs of calls that wait go, and how much room there is.
    pub scratch: AtomicU64,
    #[allow(missing_docs)]
    pub scratch_len: AtomicU64,
    /// The kernel's result of the call at hand.
    pub result: AtomicI64,
    /// Where its outputs went, one behind the other; 0: where the application has them.
    pub moved: AtomicU64,
    /// The hash of its inputs.
    pub hash: AtomicU32,
    /// Number of the task.
    pub task: AtomicU32,
    /// Blocked signals as the application sees them. The agent changes it while its task runs.
    pub mask: AtomicU64,
    /// Signals that the engine keeps for the task.
    pub held: AtomicU64,
    /// Signals whose action is the default, as far as the engine knows: one that it does not name here
    /// may be, too.
    pub default_actions: AtomicU64,
    /// What the agent gives the kernel.
    pub kernel_mask: u64,
    /// Where the kernel clears the thread id at the end, and the head of the list of robust futexes: the
    /// agent may set both.
    pub clear_tid: AtomicU64,
    #[allow(missing_docs)]
    pub robust_list: AtomicU64,
    /// Nobody shares the task's dispositions, so that the agent may change them: see `noted`.
    pub own_actions: AtomicU32,
    /// Replay: calls that shape the address space concern nobody but the agent.
    pub may_shape: AtomicU32,
    /// An action is being changed.
    pub noting: AtomicU32,
    /// Signals whose disposition is all zero, as far as the engine knows; and those whose handler the
    /// engine may have used up, of which the kernel does not know.
    pub unset_actions: AtomicU64,
    #[allow(missing_docs)]
    pub once_actions: AtomicU64,
    /// How many of `notes` count: what the agent changed since the engine last looked.
    pub noted: AtomicU32,
    /// Signal; and its `struct kernel_sigaction`: handler, flags, restorer, mask.
    pub notes: [[AtomicU64; 5]; NOTES],
    /// See [`counter`].
    pub counters: [AtomicU64; counter::COUNT],
    /// See [`mod@turn`]; a futex word.
    pub turn: AtomicU32,
    /// Recording: the bits (`FUTEX_WAIT_BITSET`) and the address of the futex that it waits for.
    pub futex_bits: AtomicU32,
    #[allow(missing_docs)]
    pub futex: AtomicU64,
    /// What tells its address space from others.
    pub space: AtomicU64,
}

/// Room for changed actions; more are the engine's.
pub const NOTES: usize = 64;

/// The agent's stack begins here in a task area and grows downwards.
pub const STACK_TOP: u64 = TASK_LEN;

/// What belongs to one lane; the ring is behind this page.
#[repr(C)]
#[derive(Debug)]
pub struct LaneArea {
    /// Who may run.
    pub token: Token,
    /// 0x40: address of the area of the task that has the token; 0: it has none.
    pub area: AtomicU64,
    /// More than one task is in the lane: the token is to be given up for calls that wait.
    pub crowded: AtomicU32,
    /// Somebody has waited for the token in the engine for a timeslice: after its present call the
    /// holder goes there.
    pub wanted: AtomicU32,
    /// Somebody waits for the token in the engine: who gives it up tells.
    pub queued: AtomicU32,
    /// How many agents wait for the token (more, if some were killed), sleeping on its word.
    pub waiters: AtomicU32,
    /// The next call is the engine's (to store hashes).
    pub look: AtomicU32,
    /// Bytes of the ring that hold records.
    pub head: AtomicU32,
    /// Bytes of the ring that were taken.
    pub tail: AtomicU32,
    /// Recording: how many wakings of futexes are not put off, as the one that was took long to come about.
    pub direct: AtomicU32,
    /// Recording: which of two kinds of waiting tasks gets the token next.
    pub flip: AtomicU32,
    /// How many of `sleepers` count; they are the token's holder's.
    pub sleeping: AtomicU32,
    /// How many tasks were put into `woken`, and how many taken out; both only grow.
    pub woken_in: AtomicU32,
    #[allow(missing_docs)]
    pub woken_out: AtomicU32,
    /// Recording: tasks that wait for futexes, the one that waits longest first, by the number of their areas.
    /// Some may have given up.
    pub sleepers: [AtomicU16; SLEEPERS],
    /// Recording: tasks whose futex was woken. They sleep on until the token is given up.
    pub woken: [AtomicU16; WOKEN],
    /// Replay: the lane's tasks, by their numbers: the numbers of their areas, and 1.
    pub peers: [AtomicU16; PEERS],
}

/// Room in [`LaneArea::sleepers`]; tasks that find none wait in the kernel.
pub const SLEEPERS: usize = 256;
/// Room in [`LaneArea::woken`]; tasks that find none are woken at once.
pub const WOKEN: usize = 64;
/// Tasks whose numbers are the same modulo this share a place in [`LaneArea::peers`].
pub const PEERS: usize = 256;

impl LaneArea {
    /// Without tasks; its free token is one that `task` had last.
    pub fn new(task: u32) -> LaneArea {
        LaneArea {
            token: Token::new(task),
            area: AtomicU64::new(0),
            crowded: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
            look: AtomicU32::new(0),
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            direct: AtomicU32::new(0),
            flip: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
            woken_in: AtomicU32::new(0),
            woken_out: AtomicU32::new(0),
            sleepers: [const { AtomicU16::new(0) }; SLEEPERS],
            woken: [const { AtomicU16::new(0) }; WOKEN],
            peers: [const { AtomicU16::new(0) }; PEERS],
        }
    }
}

/// One table of classes: see [`crate::fast::class`].
pub type Classes = [AtomicU8; FILES_FDS as usize];

/// Address of a task area in traced processes.
pub const fn task_address(slot: u32) -> u64 {
    SHARED_BASE + TASKS + slot as u64 * TASK_LEN
}

/// Number of the task area at this address.
pub const fn task_slot(address: u64) -> u16 {
    ((address - SHARED_BASE - TASKS) / TASK_LEN) as u16
}

/// Address of a lane area in traced processes.
pub const fn lane_address(slot: u32) -> u64 {
    SHARED_BASE + LANES + slot as u64 * LANE_LEN
}

/// Address of a table of classes in traced processes.
pub const fn files_address(slot: u32) -> u64 {
    SHARED_BASE + FILES + slot as u64 * FILES_FDS
}

const _: () = assert!(core::mem::offset_of!(TaskArea, rsp) == 0x38);
const _: () = assert!(core::mem::offset_of!(TaskArea, flags) == 0x40);
const _: () = assert!(core::mem::offset_of!(TaskArea, ret) == 0x48);
const _: () = assert!(core::mem::offset_of!(TaskArea, pending) == 0x50);
const _: () = assert!(core::mem::offset_of!(TaskArea, phase) == 0x58);
const _: () = assert!(core::mem::offset_of!(TaskArea, reason) == 0x5c);
const _: () = assert!(core::mem::offset_of!(TaskArea, saved) == 0x60);
const _: () = assert!(core::mem::offset_of!(LaneArea, area) == 0x40);
