//! CPUID faults in the engine's own thread, too, while it waits for tasks in which it does.
//!
//! That it faults belongs to a thread, and the kernel writes a register of the CPU at each switch between one
//! where it does and one where it does not (arch/x86/kernel/process.c, `__switch_to_xtra`). Under a hypervisor
//! such a write leaves the guest: two of them were 16 us of the 21 us that a stop cost on one CPU. Where
//! it faults on both sides of the switch nothing is written.
//!
//! Code of the engine's that executes CPUID all the same (compression looks for features of the CPU) comes to a
//! signal handler, which ends the faulting in its thread; it begins again when the thread next waits.

use std::cell::Cell;
use std::sync::OnceLock;

/// include/uapi/asm/prctl.h (arch/x86).
pub(crate) const ARCH_SET_CPUID: u64 = 0x1012;

thread_local! {
    static FAULTS: Cell<bool> = const { Cell::new(false) };
}

/// What was done about SIGSEGV before; `None`: our handler could not be installed.
static FORMER: OnceLock<Option<libc::sigaction>> = OnceLock::new();

fn set(faults: bool) -> bool {
    // SAFETY: a call without pointers, about this thread only.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, u64::from(!faults)) == 0 }
}

/// Whether this CPU, and kernel, can make CPUID fault.
pub(crate) fn is_possible() -> bool {
    // To allow what is allowed is refused where it cannot be forbidden.
    FAULTS.get() || set(false)
}

/// Makes CPUID fault in this thread, until [`end`].
pub(crate) fn begin() {
    if FAULTS.get() {
        return;
    }
    if FORMER.get_or_init(install).is_some() {
        FAULTS.set(set(true));
    }
}

/// Ends it.
pub(crate) fn end() {
    if FAULTS.replace(false) {
        set(false);
    }
}

fn install() -> Option<libc::sigaction> {
    // SAFETY: all zero is a valid value of this plain structure; the handler has the type that
    // SA_SIGINFO asks for, and makes async-signal-safe calls only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut former: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        (libc::sigaction(libc::SIGSEGV, &action, &mut former) == 0).then_some(former)
    }
}

extern "C" fn on_fault(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both; what stands at rip was just being executed, so it can be read.
    let cpuid = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        let rip = context.uc_mcontext.gregs[libc::REG_RIP as usize];
        (*info).si_code == libc::SI_KERNEL
            && (rip as *const [u8; 2]).read_unaligned() == [0x0f, 0xa2]
    };
    if cpuid && FAULTS.replace(false) && set(false) {
        return;
    }
    // Somebody else's: it comes up again, for whoever was there before.
    if let Some(Some(former)) = FORMER.get() {
        // SAFETY: a valid structure, which the kernel gave us.
        unsafe { libc::sigaction(libc::SIGSEGV, former, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::arch::x86_64::__cpuid_count;

    #[test]
    fn cpuid_still_answers() {
        let natively = __cpuid_count(0, 0);
        for _ in 0..3 {
            begin();
            assert_eq!(__cpuid_count(0, 0), natively);
            assert!(!FAULTS.get());
        }
        begin();
        end();
        assert_eq!(__cpuid_count(0, 0), natively);
    }
}
