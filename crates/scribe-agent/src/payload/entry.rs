//! Entry points, at the offsets that `scribe_abi` names.

use core::arch::{asm, global_asm};
use scribe_abi::shared::{STACK_TOP, TaskArea, reason};
use scribe_abi::{CALL_AFTER, ENTRY_ASK, PROCESS};

global_asm!(
    ".pushsection .scribe_entry, \"ax\"",
    ".globl scribe_agent_entry",
    "scribe_agent_entry:",
    // 0x200: one call, then back to the engine.
    "syscall",
    "int3",
    ".org scribe_agent_entry + 0x10, 0xcc",
    // 0x210: rdi = calls, rsi = count. The engine restores all registers afterwards.
    "mov r12, rdi",
    "mov r13, rsi",
    "2:",
    "test r13, r13",
    "jz 3f",
    "mov rax, [r12]",
    "mov rdi, [r12 + 8]",
    "mov rsi, [r12 + 16]",
    "mov rdx, [r12 + 24]",
    "mov r10, [r12 + 32]",
    "mov r8, [r12 + 40]",
    "mov r9, [r12 + 48]",
    "syscall",
    "mov [r12 + 56], rax",
    "add r12, 64",
    "dec r13",
    "jmp 2b",
    "3:",
    "int3",
    ".org scribe_agent_entry + 0xf0, 0xcc",
    // 0x2f0: a place to trap at.
    "int3",
    ".org scribe_agent_entry + 0x100, 0xcc",
    // 0x300: the call of a patched place, for the engine.
    "int3",
    ".org scribe_agent_entry + 0x110, 0xcc",
    // 0x310: a question to the engine.
    "int3",
    "ret",
    ".org scribe_agent_entry + 0x120, 0xcc",
    // 0x320: rdi = area, rsi = number and arguments. What stands between here and the `syscall` may
    // be gone through again, or be left for 0x360, at any instruction.
    "scribe_agent_call:",
    "mov r11, rdi",
    "mov rax, [rsi]",
    "mov rdi, [rsi + 0x08]",
    "mov rdx, [rsi + 0x18]",
    "mov r10, [rsi + 0x20]",
    "mov r8, [rsi + 0x28]",
    "mov r9, [rsi + 0x30]",
    "mov rsi, [rsi + 0x10]",
    "cmp dword ptr [r11 + 0x50], 0",
    "jne scribe_agent_entry + 0x160",
    ".org scribe_agent_entry + 0x150, 0x90",
    // 0x350
    "syscall",
    // 0x352
    "ret",
    ".org scribe_agent_entry + 0x160, 0xcc",
    // 0x360
    "mov rax, {bail}",
    "ret",
    ".org scribe_agent_entry + 0x170, 0xcc",
    // 0x370: rcx = area, eax = why. The agent's frames are given up.
    "lea rsp, [rcx + {stack_top}]",
    "jmp 5f",
    // No agent for this task.
    "4:",
    "mov rcx, [{saved_rcx}]",
    "jmp scribe_agent_entry + 0x100",
    ".org scribe_agent_entry + 0x1a0, 0xcc",
    // 0x3a0: a CPUID for the engine.
    "int3",
    ".org scribe_agent_entry + 0x1b0, 0xcc",
    // 0x3b0: from a patched place. The flags are the application's until they are saved: mov, lea
    // and jrcxz do not change them. While the token is held nobody else of this address space
    // comes here, so one word for rcx is enough.
    "mov [{saved_rcx}], rcx",
    "mov rcx, [{lane}]",
    "jrcxz 4b",
    "mov rcx, [rcx + 0x40]",
    "jrcxz 4b",
    "mov [rcx + 0x38], rsp",
    "lea rsp, [rcx + {stack_top}]",
    "pushfq",
    "pop qword ptr [rcx + 0x40]",
    "mov [rcx], rax",
    "mov [rcx + 0x08], rdi",
    "mov [rcx + 0x10], rsi",
    "mov [rcx + 0x18], rdx",
    "mov [rcx + 0x20], r10",
    "mov [rcx + 0x28], r8",
    "mov [rcx + 0x30], r9",
    "mov rax, [{saved_rcx}]",
    "mov [rcx + 0x48], rax",
    "mov [rcx + 0x60], rbx",
    "mov [rcx + 0x68], rbp",
    "mov [rcx + 0x70], r12",
    "mov [rcx + 0x78], r13",
    "mov [rcx + 0x80], r14",
    "mov [rcx + 0x88], r15",
    "cld",
    "mov rdi, rcx",
    "push rcx",
    "push rcx",
    "call scribe_agent_main",
    "pop rcx",
    "test eax, eax",
    "jnz 5f",
    "push qword ptr [rcx + 0x40]",
    "popfq",
    "mov r11, [rcx + 0x40]",
    "mov rax, [rcx]",
    "mov rdi, [rcx + 0x08]",
    "mov rsi, [rcx + 0x10]",
    "mov rdx, [rcx + 0x18]",
    "mov r10, [rcx + 0x20]",
    "mov r8, [rcx + 0x28]",
    "mov r9, [rcx + 0x30]",
    "mov rsp, [rcx + 0x38]",
    "mov rcx, [rcx + 0x48]",
    "jmp rcx",
    // rcx = area, eax = why.
    "5:",
    "mov [rcx + 0x5c], eax",
    "push qword ptr [rcx + 0x40]",
    "popfq",
    "mov rax, [rcx]",
    "mov rdi, [rcx + 0x08]",
    "mov rsi, [rcx + 0x10]",
    "mov rdx, [rcx + 0x18]",
    "mov r10, [rcx + 0x20]",
    "mov r8, [rcx + 0x28]",
    "mov r9, [rcx + 0x30]",
    "mov rbx, [rcx + 0x60]",
    "mov rbp, [rcx + 0x68]",
    "mov r12, [rcx + 0x70]",
    "mov r13, [rcx + 0x78]",
    "mov r14, [rcx + 0x80]",
    "mov r15, [rcx + 0x88]",
    "mov rsp, [rcx + 0x38]",
    "mov rcx, [rcx + 0x48]",
    "jmp scribe_agent_entry + 0x100",
    // A CPUID without an agent, or with a leaf that it does not know.
    "6:",
    "mov rcx, [{saved_rcx}]",
    "jmp scribe_agent_entry + 0x1a0",
    ".org scribe_agent_entry + 0x2c0, 0xcc",
    // 0x4c0: from a patched CPUID.
    "mov [{saved_rcx}], rcx",
    "mov rcx, [{lane}]",
    "jrcxz 6b",
    "mov rcx, [rcx + 0x40]",
    "jrcxz 6b",
    "mov [rcx + 0x38], rsp",
    "lea rsp, [rcx + {stack_top}]",
    "pushfq",
    "pop qword ptr [rcx + 0x40]",
    "mov [rcx], rax",
    "mov [rcx + 0x08], rdi",
    "mov [rcx + 0x10], rsi",
    "mov [rcx + 0x18], rdx",
    "mov [rcx + 0x20], r10",
    "mov [rcx + 0x28], r8",
    "mov [rcx + 0x30], r9",
    "mov [rcx + 0x48], r11",
    "mov [rcx + 0x60], rbx",
    "cld",
    "mov rdi, rcx",
    "mov esi, [{saved_rcx}]",
    "push rcx",
    "push rcx",
    "call scribe_agent_cpuid",
    "pop rcx",
    "push qword ptr [rcx + 0x40]",
    "popfq",
    "mov rdi, [rcx + 0x08]",
    "mov rsi, [rcx + 0x10]",
    "mov rdx, [rcx + 0x18]",
    "mov r10, [rcx + 0x20]",
    "mov r8, [rcx + 0x28]",
    "mov r9, [rcx + 0x30]",
    "mov r11, [rcx + 0x48]",
    "mov rbx, [rcx + 0x60]",
    "mov rsp, [rcx + 0x38]",
    // Without touching the flags: was there an answer?
    "mov rax, rcx",
    "mov ecx, [rcx + 0x5c]",
    "jrcxz 7f",
    "mov rcx, rax",
    "mov rax, [rcx]",
    "jmp 6b",
    "7:",
    "mov rcx, rax",
    "mov rax, [rcx]",
    "mov rcx, [{saved_rcx}]",
    "jmp [{saved_ret}]",
    ".popsection",
    saved_ret = const PROCESS + 16,
    saved_rcx = const PROCESS,
    lane = const PROCESS + 8,
    stack_top = const STACK_TOP,
    bail = const BAIL,
);

/// Result of a call that was given up before it was made. No result of the kernel.
pub const BAIL: i64 = -4096;

const _: () = assert!(CALL_AFTER == 0x352 && reason::CALL != 0);

unsafe extern "C" {
    fn scribe_agent_call(area: *const TaskArea, call: *const [u64; 7]) -> i64;
}

/// Makes a call, unless something waits that must come first: then the result is [`BAIL`].
#[inline(always)]
pub fn kernel(area: &TaskArea, call: &[u64; 7]) -> i64 {
    // SAFETY: the call is one that the application makes, with its arguments; the agent's own
    // memory is changed by none that the table lets through.
    unsafe { scribe_agent_call(area, call) }
}

/// Stops for the engine, which does what the area's reason says.
pub fn ask() {
    // SAFETY: the place is an int3 and a return; the engine changes no register.
    unsafe {
        asm!("call {place}", place = in(reg) scribe_abi::AGENT_BASE + ENTRY_ASK, clobber_abi("C"));
    }
}
