//! `prctl(2)` and `arch_prctl(2)`: one row an option.

use linux_raw_sys::prctl as c;
use scribe_hooks::call as hooks;

use crate::arg::{Ctx, Field, Len, Shape, Ty};
use crate::call::{Special, Sub};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;
use crate::rows::creds::SOCK_FPROG;

/// An option by its name.
macro_rules! o {
    ($name:ident) => {
        sub32(0, c::$name, stringify!($name))
    };
    ($name:ident, $second:ident) => {
        Sub {
            and: Some((1, c::$second as u64)),
            ..sub32(0, c::$name, stringify!($name))
        }
    };
}

/// What a program tells Scribe: an operation of [`hooks::OPTION`].
const fn hook(operation: u32, name: &'static str) -> Sub {
    Sub {
        and: Some((1, operation as u64)),
        ..sub32(0, hooks::OPTION, name)
    }
}

const INT_OUT: Ty = sout(Shape::I32, 4);
/// `struct prctl_mm_map`: eleven addresses, the auxiliary vector with its size, a descriptor.
const MM_MAP: &[Field] = &[field(88, pin(Shape::Opaque, Len::Field(96, 4)))];

/// The filter counts for SECCOMP_MODE_FILTER.
fn fprog_len(ctx: &Ctx) -> u64 {
    if ctx.call.args[1] == 2 { 16 } else { 0 }
}

const FILTER: Ty = match SOCK_FPROG {
    Ty::Ptr(mut p) => {
        p.len = Len::With(fprog_len);
        Ty::Ptr(p)
    }
    other => other,
};

rows! { ROWS:
    157 prctl[o!(PR_SET_PDEATHSIG)](option: INT, sig: SIG) .eff(Effect::Signals);
    157 prctl[o!(PR_GET_PDEATHSIG)](option: INT, sig: INT_OUT) .eff(Effect::Signals);
    157 prctl[o!(PR_GET_DUMPABLE)](option: INT) .special(Special::PrctlGetDumpable);
    157 prctl[o!(PR_SET_DUMPABLE)](option: INT, dumpable: INT) .special(Special::PrctlSetDumpable);
    157 prctl[o!(PR_GET_KEEPCAPS)](option: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_SET_KEEPCAPS)](option: INT, state: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_GET_TIMING)](option: INT);
    157 prctl[o!(PR_SET_TIMING)](option: INT, mode: INT);
    // Also done at replay, so that tools show the name.
    157 prctl[o!(PR_SET_NAME)](option: INT, name: cstr(16)) .execute();
    157 prctl[o!(PR_GET_NAME)](option: INT, name: sout(Shape::Str, 16));
    157 prctl[o!(PR_GET_SECCOMP)](option: INT) .special(Special::Seccomp) .eff(Effect::Creds);
    157 prctl[o!(PR_SET_SECCOMP)](option: INT, mode: INT, filter: FILTER)
        .special(Special::Seccomp) .eff(Effect::Creds);
    157 prctl[o!(PR_CAPBSET_READ)](option: INT, cap: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_CAPBSET_DROP)](option: INT, cap: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_GET_TSC)](option: INT, state: INT_OUT) .special(Special::PrctlGetTsc);
    157 prctl[o!(PR_SET_TSC)](option: INT, state: INT) .special(Special::PrctlSetTsc);
    157 prctl[o!(PR_GET_SECUREBITS)](option: INT) -> Hex .eff(Effect::Creds);
    157 prctl[o!(PR_SET_SECUREBITS)](option: INT, bits: HEX) .eff(Effect::Creds);
    157 prctl[o!(PR_SET_TIMERSLACK)](option: INT, slack: ULONG) .eff(Effect::Timer);
    157 prctl[o!(PR_GET_TIMERSLACK)](option: INT) .eff(Effect::Timer);
    157 prctl[o!(PR_TASK_PERF_EVENTS_DISABLE)](option: INT);
    157 prctl[o!(PR_TASK_PERF_EVENTS_ENABLE)](option: INT);
    157 prctl[o!(PR_MCE_KILL)](option: INT, op: INT, policy: INT) .eff(Effect::Signals);
    157 prctl[o!(PR_MCE_KILL_GET)](option: INT) .eff(Effect::Signals);
    157 prctl[o!(PR_SET_MM, PR_SET_MM_AUXV)](option: INT, opt: INT, addr: bytes_in(3), size: SIZE)
        .special(Special::PrctlSetMm) .eff(Effect::Mm);
    157 prctl[o!(PR_SET_MM, PR_SET_MM_MAP)](option: INT, opt: INT,
        addr: Ty::Ptr(nest(pin(Shape::Opaque, Len::Arg(3)), 0, MM_MAP)), size: SIZE)
        .special(Special::PrctlSetMm) .eff(Effect::Mm);
    157 prctl[o!(PR_SET_MM, PR_SET_MM_MAP_SIZE)](option: INT, opt: INT, size: INT_OUT)
        .special(Special::PrctlSetMm) .eff(Effect::Mm);
    157 prctl[o!(PR_SET_MM)](option: INT, opt: INT, addr: ADDR, arg4: HEX, arg5: HEX)
        .special(Special::PrctlSetMm) .eff(Effect::Mm);
    157 prctl[o!(PR_SET_PTRACER)](option: INT, pid: PID) .eff(Effect::Creds);
    157 prctl[o!(PR_SET_CHILD_SUBREAPER)](option: INT, set: INT) .eff(Effect::Pid);
    157 prctl[o!(PR_GET_CHILD_SUBREAPER)](option: INT, set: INT_OUT) .eff(Effect::Pid);
    157 prctl[o!(PR_SET_NO_NEW_PRIVS)](option: INT, set: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_GET_NO_NEW_PRIVS)](option: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_GET_TID_ADDRESS)](option: INT, addr: sout(Shape::Hex64, 8));
    157 prctl[o!(PR_SET_THP_DISABLE)](option: INT, disable: INT, flags: HEX) .eff(Effect::Mm);
    157 prctl[o!(PR_GET_THP_DISABLE)](option: INT) .eff(Effect::Mm);
    157 prctl[o!(PR_CAP_AMBIENT)](option: INT, op: INT, cap: INT) .eff(Effect::Creds);
    157 prctl[o!(PR_GET_SPECULATION_CTRL)](option: INT, misfeature: INT) -> Hex;
    157 prctl[o!(PR_SET_SPECULATION_CTRL)](option: INT, misfeature: INT, value: HEX);
    157 prctl[o!(PR_SET_IO_FLUSHER)](option: INT, state: INT);
    157 prctl[o!(PR_GET_IO_FLUSHER)](option: INT);
    157 prctl[o!(PR_SET_SYSCALL_USER_DISPATCH)](option: INT, mode: INT, offset: ADDR, len: SIZE,
        selector: ADDR) .special(Special::PrctlSyscallUserDispatch);
    157 prctl[o!(PR_SCHED_CORE, PR_SCHED_CORE_GET)](option: INT, op: INT, pid: PID, kind: INT,
        cookie: sout(Shape::Hex64, 8)) .eff(Effect::Pid);
    157 prctl[o!(PR_SCHED_CORE)](option: INT, op: INT, pid: PID, kind: INT, cookie: UNUSED)
        .eff(Effect::Pid);
    157 prctl[o!(PR_SET_MDWE)](option: INT, bits: HEX) .special(Special::PrctlSetMdwe)
        .eff(Effect::Mm);
    157 prctl[o!(PR_GET_MDWE)](option: INT) -> Hex .eff(Effect::Mm);
    // The name of a mapping shows in /proc only.
    157 prctl[o!(PR_SET_VMA)](option: INT, attr: INT, addr: ADDR, size: SIZE, name: cstr(80))
        .eff(Effect::Mm);
    157 prctl[o!(PR_GET_AUXV)](option: INT, auxv: bytes_out(2), size: SIZE) -> Size
        .eff(Effect::Mm);
    157 prctl[o!(PR_SET_MEMORY_MERGE)](option: INT, state: INT) .eff(Effect::Mm);
    157 prctl[o!(PR_GET_MEMORY_MERGE)](option: INT) .eff(Effect::Mm);
    157 prctl[o!(PR_TIMER_CREATE_RESTORE_IDS)](option: INT, op: INT) .eff(Effect::Timer);
    157 prctl[o!(PR_FUTEX_HASH)](option: INT, op: INT, slots: ULONG, flags: HEX)
        .eff(Effect::Futex);
    157 prctl[hook(hooks::STATE, "SCRIBE_STATE")](option: INT, op: UNUSED) .special(Special::Hook);
    157 prctl[hook(hooks::BOOKMARK, "SCRIBE_BOOKMARK")](option: INT, op: UNUSED, name: bytes_in(3),
        size: SIZE) .special(Special::Hook);
    157 prctl[hook(hooks::TEXT, "SCRIBE_TEXT")](option: INT, op: UNUSED, text: bytes_in(3),
        size: SIZE) .special(Special::Hook);
    157 prctl[hook(hooks::EVENT, "SCRIBE_EVENT")](option: INT, op: UNUSED, name: bytes_in(3),
        size: SIZE, value: LONG) .special(Special::Hook);
    // Options of other architectures, all EINVAL here; and those that are newer than this table.
    157 prctl(option: INT, arg2: HEX, arg3: HEX, arg4: HEX, arg5: HEX) .refuse(f::EINVAL);
}

/// A code of `arch_prctl` (arch/x86/include/uapi/asm/prctl.h).
const fn a(code: u32, name: &'static str) -> Sub {
    sub32(0, code, name)
}

const MASK_OUT: Ty = sout(Shape::Hex64, 8);

rows! { ARCH:
    158 arch_prctl[a(0x1001, "ARCH_SET_GS")](code: INT, addr: ADDR)
        .special(Special::ArchPrctlSetGs);
    158 arch_prctl[a(0x1002, "ARCH_SET_FS")](code: INT, addr: ADDR)
        .special(Special::ArchPrctlSetFs);
    158 arch_prctl[a(0x1003, "ARCH_GET_FS")](code: INT, addr: MASK_OUT)
        .special(Special::ArchPrctlGetFs);
    158 arch_prctl[a(0x1004, "ARCH_GET_GS")](code: INT, addr: MASK_OUT)
        .special(Special::ArchPrctlGetGs);
    158 arch_prctl[a(0x1011, "ARCH_GET_CPUID")](code: INT) .special(Special::ArchPrctlGetCpuid);
    158 arch_prctl[a(0x1012, "ARCH_SET_CPUID")](code: INT, on: INT)
        .special(Special::ArchPrctlSetCpuid);
    158 arch_prctl[a(0x1021, "ARCH_GET_XCOMP_SUPP")](code: INT, mask: MASK_OUT);
    158 arch_prctl[a(0x1022, "ARCH_GET_XCOMP_PERM")](code: INT, mask: MASK_OUT);
    // Without it the first instruction that uses the state faults: needed at replay.
    158 arch_prctl[a(0x1023, "ARCH_REQ_XCOMP_PERM")](code: INT, feature: INT) .execute();
    158 arch_prctl[a(0x1024, "ARCH_GET_XCOMP_GUEST_PERM")](code: INT, mask: MASK_OUT);
    158 arch_prctl[a(0x1025, "ARCH_REQ_XCOMP_GUEST_PERM")](code: INT, feature: INT);
    158 arch_prctl[a(0x4001, "ARCH_GET_UNTAG_MASK")](code: INT, mask: MASK_OUT) .eff(Effect::Mm);
    // Tagged addresses and shadow stacks are not supported.
    158 arch_prctl[a(0x4002, "ARCH_ENABLE_TAGGED_ADDR")](code: INT, bits: INT) .refuse(f::ENODEV);
    158 arch_prctl[a(0x4003, "ARCH_GET_MAX_TAG_BITS")](code: INT, bits: MASK_OUT)
        .refuse(f::ENODEV);
    158 arch_prctl[a(0x4004, "ARCH_FORCE_TAGGED_SVA")](code: INT) .refuse(f::ENODEV);
    158 arch_prctl[a(0x5001, "ARCH_SHSTK_ENABLE")](code: INT, features: HEX) .refuse(f::EOPNOTSUPP);
    158 arch_prctl[a(0x5002, "ARCH_SHSTK_DISABLE")](code: INT, features: HEX)
        .refuse(f::EOPNOTSUPP);
    158 arch_prctl[a(0x5003, "ARCH_SHSTK_LOCK")](code: INT, features: HEX) .refuse(f::EOPNOTSUPP);
    158 arch_prctl[a(0x5004, "ARCH_SHSTK_UNLOCK")](code: INT, features: HEX) .refuse(f::EOPNOTSUPP);
    158 arch_prctl[a(0x5005, "ARCH_SHSTK_STATUS")](code: INT, features: MASK_OUT)
        .refuse(f::EOPNOTSUPP);
    158 arch_prctl(code: INT, addr: ADDR) .refuse(f::EINVAL);
}
