//! What the agent (inside a traced process) and the engine (outside it) agree on: where the
//! agent lies, how it is entered, and the token. `no_std`, no allocation, no dependencies.
#![no_std]

pub mod fast;
pub mod hash;
pub mod log;
pub mod shared;
pub mod sleep;
pub mod token;

/// Length of a page on x86-64, in bytes.
pub const PAGE: u64 = 4096;

/// Where the agent is mapped in every traced address space.
///
/// Below 2 GiB, above what non-PIE programs and their randomised heaps use (0x400000 plus at most
/// 32 MiB), below AddressSanitizer's shadow (0x7fff8000) and outside the first addresses that
/// Java, Go or node ask for.
pub const AGENT_BASE: u64 = 0x7000_0000;
/// Bytes of agent code: the one range which Syscall User Dispatch lets call the kernel.
pub const AGENT_CODE_LEN: u64 = 10 * PAGE;
/// The agent's private writable data: argument blocks for batches and strings for injected calls.
pub const AGENT_DATA: u64 = AGENT_BASE + AGENT_CODE_LEN;
/// Bytes of [`AGENT_DATA`].
pub const AGENT_DATA_LEN: u64 = 16 * PAGE;
/// What the agent must know of its address space (private, so that each fork has its own): see
/// [`shared::Process`].
pub const PROCESS: u64 = AGENT_DATA + AGENT_DATA_LEN;
/// Stubs of patched places: private memory of code that only the engine writes to.
pub const STUBS: u64 = PROCESS + PAGE;
/// Bytes of one stub.
pub const STUB_SIZE: u64 = 64;
/// How many stubs there is room for; the memory is used as far as there are any.
pub const STUB_COUNT: u64 = 2048;
/// End of what the agent occupies.
pub const AGENT_END: u64 = STUBS + STUB_SIZE * STUB_COUNT;

/// Offset in the agent's page of the bare `syscall; int3`.
pub const ENTRY_SYSCALL: u64 = 0x200;
/// Offset behind the bare `syscall`, where a task stands when its call is over.
pub const AFTER_SYSCALL: u64 = ENTRY_SYSCALL + 2;
/// Offset of the batch loop: rdi = first [`BatchCall`], rsi = how many.
pub const ENTRY_BATCH: u64 = 0x210;
/// Offset of `mov %rbx, %rax; syscall; int3`: for calls in a stop from which the kernel goes on with a result in rax.
pub const ENTRY_CALL: u64 = 0x2e0;
/// Offset of a lone `int3`: a task that is only to come back to the engine is sent here.
pub const ENTRY_TRAP: u64 = 0x2f0;
/// Offset of the `int3` by which a patched place hands its call to the engine. All registers are
/// the application's, but for rcx, which is the stub's place to return to, and r11.
pub const ENTRY_PASSED: u64 = 0x300;
/// Offset of the `int3` by which the agent asks the engine for something and then goes on: see
/// [`shared::Ask`].
pub const ENTRY_ASK: u64 = 0x310;
/// Offset of the first instruction between which and the `syscall` at [`CALL_INSN`] a signal must
/// keep the agent from making its call: the engine sends the task to [`CALL_BAIL`].
pub const CALL_BEGIN: u64 = 0x320;
/// Offset of the agent's `syscall` on the fast path.
pub const CALL_INSN: u64 = 0x350;
/// Offset behind it.
pub const CALL_AFTER: u64 = CALL_INSN + 2;
/// Offset where the call is given up before it was made.
pub const CALL_BAIL: u64 = 0x360;
/// Offset to which the engine sends a task whose agent touched memory that is not there: rcx = its
/// area, eax = the reason to pass the call on.
pub const ENTRY_FAULT: u64 = 0x370;
/// Offset of the `int3` at which a CPUID of a patched place comes to the engine, all registers the
/// application's; where to go on is in [`shared::Process::saved_ret`].
pub const ENTRY_CPUID_PASSED: u64 = 0x3a0;
/// Offset of the entry from patched places: rcx = where to return to, r11 is free.
pub const ENTRY_PATCHED: u64 = 0x3b0;
/// Offset of the entry from patched CPUID instructions: where to return to is in
/// [`shared::Process::saved_ret`], all registers are the application's.
pub const ENTRY_CPUID: u64 = 0x4c0;
/// Bits of [`shared::Process::saved_ret`] that tell the entry which instruction it is to answer, if not CPUID: addresses
/// of stubs do not have them.
pub const MARKS: u64 = (MARK_RDTSC | MARK_RDTSCP) as u64;
/// See [`MARKS`].
pub const MARK_RDTSC: u32 = 1;
/// See [`MARKS`].
pub const MARK_RDTSCP: u32 = 2;
/// Offset of the code that maps the agent into an address space without one. It is position independent: the
/// engine puts a copy somewhere in that space, [`BOOT_LEN`] bytes, the last [`BOOT_PATH_LEN`] of which are the
/// path of the agent's image; behind it stand the number of calls to make then, and the [`BatchCall`]s.
pub const ENTRY_BOOT: u64 = 0x600;
/// Bytes of that code and its path.
pub const BOOT_LEN: u64 = 0x100;
/// Bytes of the path.
pub const BOOT_PATH_LEN: u64 = 0x30;
/// Longest batch that fits into the data area while leaving a page for strings.
pub const BATCH_MAX: usize = ((AGENT_DATA_LEN - PAGE) / 64) as usize;
/// Strings for injected calls lie in the last page of the data area.
pub const AGENT_STRINGS: u64 = AGENT_DATA + AGENT_DATA_LEN - PAGE;

/// Scratch areas, where output of calls that may block goes: slot `i` starts at
/// `SCRATCH_BASE + i * SCRATCH_PITCH` and is mapped as far as it was needed.
/// Above Java's compressed-pointer range (32 GiB) and what valgrind keeps for itself (up to 128 GiB), below Go's arenas
/// (0xc0_0000_0000).
pub const SCRATCH_BASE: u64 = 0x20_0000_0000;
/// Distance between two scratch areas and thus the greatest length of one.
pub const SCRATCH_PITCH: u64 = 16 << 20;
/// How many scratch areas there are room for.
pub const SCRATCH_SLOTS: u64 = 4096;
/// End of the scratch range.
pub const SCRATCH_END: u64 = SCRATCH_BASE + SCRATCH_PITCH * SCRATCH_SLOTS;

/// One call of a batch, as the agent reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCall {
    /// System-call number.
    pub nr: u64,
    /// Arguments.
    pub args: [u64; 6],
    /// Set by the agent: what the kernel returned. Before that 0, or the address of another call's result,
    /// which is the descriptor that this one is about.
    pub ret: i64,
}

/// Whether `[start, end)` touches memory that belongs to Scribe in a traced process.
pub fn is_ours(start: u64, end: u64) -> bool {
    OURS.iter().any(|ours| start < ours.1 && end > ours.0)
}

/// The ranges of Scribe's memory in a traced process, ascending.
pub const OURS: [(u64, u64); 3] = [
    (AGENT_BASE, AGENT_END),
    (shared::SHARED_BASE, shared::SHARED_END),
    (SCRATCH_BASE, SCRATCH_END),
];
