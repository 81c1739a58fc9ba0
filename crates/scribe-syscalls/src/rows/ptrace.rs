//! `ptrace(2)`: one row a request. All are the engine's, as it traces the same tasks itself.

use crate::arg::{Field, Len, Out, Shape, Ty};
use crate::call::{Special, Sub};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const fn rq(request: u64, name: &'static str) -> Sub {
    sub64(0, request, name)
}

/// `struct iovec` of a register set; its length is written back.
const REGSET_GET: Ty = Ty::Ptr(nest(
    pinout(Shape::Opaque, Len::Fixed(16), Out::Parts(&[(8, 8)])),
    0,
    &[field(
        0,
        pout(Shape::Opaque, Len::Field(8, 8), Out::Field(8, 8)),
    )],
));
const REGSET_FIELDS: &[Field] = &[field(0, pin(Shape::Opaque, Len::Field(8, 8)))];
const REGSET_SET: Ty = Ty::Ptr(nest(
    pinout(Shape::Opaque, Len::Fixed(16), Out::Parts(&[(8, 8)])),
    0,
    REGSET_FIELDS,
));
const P: Special = Special::Ptrace;
const E: Effect = Effect::OtherMm;
const PEEKED: Ty = sout(Shape::Hex64, 8);

rows! { ROWS:
    101 ptrace[rq(0, "PTRACE_TRACEME")](request: LONG) .special(P) .eff(E);
    101 ptrace[rq(1, "PTRACE_PEEKTEXT")](request: LONG, pid: PID, addr: ADDR, data: PEEKED)
        .special(P) .eff(E);
    101 ptrace[rq(2, "PTRACE_PEEKDATA")](request: LONG, pid: PID, addr: ADDR, data: PEEKED)
        .special(P) .eff(E);
    101 ptrace[rq(3, "PTRACE_PEEKUSER")](request: LONG, pid: PID, addr: ADDR, data: PEEKED)
        .special(P) .eff(E);
    101 ptrace[rq(4, "PTRACE_POKETEXT")](request: LONG, pid: PID, addr: ADDR, data: HEX)
        .special(P) .eff(E);
    101 ptrace[rq(5, "PTRACE_POKEDATA")](request: LONG, pid: PID, addr: ADDR, data: HEX)
        .special(P) .eff(E);
    101 ptrace[rq(6, "PTRACE_POKEUSER")](request: LONG, pid: PID, addr: ADDR, data: HEX)
        .special(P) .eff(E);
    101 ptrace[rq(7, "PTRACE_CONT")](request: LONG, pid: PID, addr: UNUSED, sig: SIG) .special(P)
        .eff(E);
    101 ptrace[rq(8, "PTRACE_KILL")](request: LONG, pid: PID) .special(P) .eff(E);
    101 ptrace[rq(9, "PTRACE_SINGLESTEP")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(12, "PTRACE_GETREGS")](request: LONG, pid: PID, addr: UNUSED, data: raw_out(216))
        .special(P) .eff(E);
    101 ptrace[rq(13, "PTRACE_SETREGS")](request: LONG, pid: PID, addr: UNUSED, data: raw_in(216))
        .special(P) .eff(E);
    101 ptrace[rq(14, "PTRACE_GETFPREGS")](request: LONG, pid: PID, addr: UNUSED,
        data: raw_out(512))
        .special(P) .eff(E);
    101 ptrace[rq(15, "PTRACE_SETFPREGS")](request: LONG, pid: PID, addr: UNUSED, data: raw_in(512))
        .special(P) .eff(E);
    101 ptrace[rq(16, "PTRACE_ATTACH")](request: LONG, pid: PID) .special(P) .eff(E);
    101 ptrace[rq(17, "PTRACE_DETACH")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(21, "PTRACE_OLDSETOPTIONS")](request: LONG, pid: PID, addr: UNUSED, options: HEX)
        .special(P) .eff(E);
    101 ptrace[rq(24, "PTRACE_SYSCALL")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(25, "PTRACE_GET_THREAD_AREA")](request: LONG, pid: PID, addr: INT,
        data: raw_out(16))
        .special(P) .eff(E);
    101 ptrace[rq(26, "PTRACE_SET_THREAD_AREA")](request: LONG, pid: PID, addr: INT,
        data: raw_in(16))
        .special(P) .eff(E);
    101 ptrace[rq(30, "PTRACE_ARCH_PRCTL")](request: LONG, pid: PID,
        addr: inout(Shape::Hex64, Len::With(arch_prctl_len), Out::Full), code: HEX) .special(P)
        .eff(E);
    101 ptrace[rq(31, "PTRACE_SYSEMU")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(32, "PTRACE_SYSEMU_SINGLESTEP")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(33, "PTRACE_SINGLEBLOCK")](request: LONG, pid: PID, addr: UNUSED, sig: SIG)
        .special(P) .eff(E);
    101 ptrace[rq(0x4200, "PTRACE_SETOPTIONS")](request: LONG, pid: PID, addr: UNUSED,
        options: flags(&f::PTRACE_O)) .special(P) .eff(E);
    101 ptrace[rq(0x4201, "PTRACE_GETEVENTMSG")](request: LONG, pid: PID, addr: UNUSED,
        data: sout(Shape::U64, 8)) .special(P) .eff(E);
    101 ptrace[rq(0x4202, "PTRACE_GETSIGINFO")](request: LONG, pid: PID, addr: UNUSED,
        data: sout(Shape::Siginfo, 128)) .special(P) .eff(E);
    101 ptrace[rq(0x4203, "PTRACE_SETSIGINFO")](request: LONG, pid: PID, addr: UNUSED,
        data: sin(Shape::Siginfo, 128)) .special(P) .eff(E);
    101 ptrace[rq(0x4204, "PTRACE_GETREGSET")](request: LONG, pid: PID, kind: HEX, data: REGSET_GET)
        .special(P) .eff(E);
    101 ptrace[rq(0x4205, "PTRACE_SETREGSET")](request: LONG, pid: PID, kind: HEX, data: REGSET_SET)
        .special(P) .eff(E);
    101 ptrace[rq(0x4206, "PTRACE_SEIZE")](request: LONG, pid: PID, addr: UNUSED,
        options: flags(&f::PTRACE_O)) .special(P) .eff(E);
    101 ptrace[rq(0x4207, "PTRACE_INTERRUPT")](request: LONG, pid: PID) .special(P) .eff(E);
    101 ptrace[rq(0x4208, "PTRACE_LISTEN")](request: LONG, pid: PID) .special(P) .eff(E);
    101 ptrace[rq(0x4209, "PTRACE_PEEKSIGINFO")](request: LONG, pid: PID, args: raw_in(16),
        data: output(Shape::Opaque, Len::With(peek_len), Out::RetTimes(128))) .special(P) .eff(E);
    101 ptrace[rq(0x420a, "PTRACE_GETSIGMASK")](request: LONG, pid: PID, size: SIZE,
        data: output(Shape::Sigset, Len::Small(2), Out::Full)) .special(P) .eff(E);
    101 ptrace[rq(0x420b, "PTRACE_SETSIGMASK")](request: LONG, pid: PID, size: SIZE,
        data: input(Shape::Sigset, Len::Small(2))) .special(P) .eff(E);
    // The capacity is not in the call: at most 4096 instructions (BPF_MAXINSNS).
    101 ptrace[rq(0x420c, "PTRACE_SECCOMP_GET_FILTER")](request: LONG, pid: PID, index: ULONG,
        data: Ty::Ptr(in_place(pout(Shape::Opaque, Len::Fixed(32_768), Out::RetTimes(8)))))
        .special(P) .eff(E);
    101 ptrace[rq(0x420d, "PTRACE_SECCOMP_GET_METADATA")](request: LONG, pid: PID, size: SIZE,
        data: inout(Shape::Opaque, Len::Small(2), Out::Ret)) .special(P) .eff(E);
    101 ptrace[rq(0x420e, "PTRACE_GET_SYSCALL_INFO")](request: LONG, pid: PID, size: SIZE,
        data: output(Shape::Opaque, Len::Small(2), Out::Ret)) .special(P) .eff(E);
    101 ptrace[rq(0x420f, "PTRACE_GET_RSEQ_CONFIGURATION")](request: LONG, pid: PID, size: SIZE,
        data: output(Shape::Opaque, Len::Small(2), Out::Ret)) .special(P) .eff(E);
    101 ptrace[rq(0x4210, "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG")](request: LONG, pid: PID,
        size: SIZE, data: input(Shape::Opaque, Len::Small(2))) .special(P) .eff(E);
    101 ptrace[rq(0x4211, "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG")](request: LONG, pid: PID,
        size: SIZE, data: output(Shape::Opaque, Len::Small(2), Out::Full)) .special(P) .eff(E);
    101 ptrace[rq(0x4212, "PTRACE_SET_SYSCALL_INFO")](request: LONG, pid: PID, size: SIZE,
        data: input(Shape::Opaque, Len::Small(2))) .special(P) .eff(E);
    101 ptrace(request: LONG, pid: PID, addr: HEX, data: HEX) .refuse(f::EIO) .eff(E);
}

/// `ARCH_GET_FS` and `ARCH_GET_GS` write to `addr`, the setting codes take it as a value.
fn arch_prctl_len(ctx: &crate::arg::Ctx) -> u64 {
    if matches!(ctx.call.args[3], 0x1003 | 0x1004) {
        8
    } else {
        0
    }
}

/// `struct ptrace_peeksiginfo_args`: offset, flags, count.
fn peek_len(ctx: &crate::arg::Ctx) -> u64 {
    let n = ctx
        .mem
        .read_u32(ctx.call.args[2].wrapping_add(12))
        .unwrap_or(0);
    (n as i32).max(0) as u64 * 128
}
