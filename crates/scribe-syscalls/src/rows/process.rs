//! Tasks: creation, execution, end, waiting, ids, scheduling, limits.

use crate::arg::{Ctx, Field, Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;

/// `parent_tid` of `clone`: the id of the child, or a descriptor of it.
fn clone_tid(ctx: &Ctx) -> u64 {
    if ctx.call.args[0] & (CLONE_PIDFD | CLONE_PARENT_SETTID) != 0 {
        4
    } else {
        0
    }
}

/// The same in `clone_args`, whose first word holds the flags.
fn clone3_out<const FLAG: u64>(ctx: &Ctx) -> u64 {
    if ctx.mem.read_u64(ctx.parent).unwrap_or(0) & FLAG != 0 {
        4
    } else {
        0
    }
}

/// `struct clone_args` (include/uapi/linux/sched.h). `child_tid`, stack and tls belong to the
/// child: the engine sees to them.
const CLONE_ARGS: &[Field] = &[
    field(
        8,
        pout(Shape::Fd, Len::With(clone3_out::<CLONE_PIDFD>), Out::Full),
    ),
    field(
        24,
        pout(
            Shape::Pid,
            Len::With(clone3_out::<CLONE_PARENT_SETTID>),
            Out::Full,
        ),
    ),
    field(64, pin(Shape::I32s, Len::FieldElems(72, 8, 4))),
];

/// `struct sched_attr` starts with its size; 0 means the first version (kernel/sched/syscalls.c).
fn sched_attr_len(ctx: &Ctx) -> u64 {
    match ctx.mem.read_u32(ctx.addr) {
        Some(0) | None => 48,
        Some(n) if n > 4096 => 4,
        Some(n) => n.max(4).into(),
    }
}

/// A mask of processors: the kernel reads no more than it has room for, at most 8192 bits.
fn cpus_len(ctx: &Ctx) -> u64 {
    u64::from(ctx.call.args[1] as u32).min(1024)
}

/// The fields of `siginfo_t` that `waitid` writes one by one, even if it fails (kernel/exit.c).
const WAITID_INFO: Ty = output(
    Shape::Siginfo,
    Len::Fixed(128),
    Out::PartsAlways(&[(0, 12), (16, 12)]),
);
const RUSAGE: Ty = sout(Shape::Rusage, 144);

rows! { ROWS:
    56 clone(flags: flags(&f::CLONE), stack: ADDR,
        parent_tid: output(Shape::Pid, Len::With(clone_tid), Out::Full), child_tid: ADDR, tls: ADDR)
        -> Pid .special(Special::Clone) .eff(Effect::Tasks);
    57 fork() -> Pid .special(Special::Fork) .eff(Effect::Tasks);
    58 vfork() -> Pid .may() .special(Special::Vfork) .eff(Effect::Tasks);
    435 clone3(cl_args: Ty::Ptr(nest(pin(Shape::CloneArgs, Len::Small(1)), 0, CLONE_ARGS)),
        size: SIZE)
        -> Pid .special(Special::Clone3) .eff(Effect::Tasks);
    59 execve(path: PATH, argv: STRS, envp: STRS) .special(Special::Execve) .eff(Effect::Tasks);
    322 execveat(dirfd: DIRFD, path: PATH, argv: STRS, envp: STRS, flags: flags(&f::AT))
        .special(Special::Execveat) .eff(Effect::Tasks);
    60 exit(status: INT) -> Never .special(Special::Exit) .eff(Effect::Tasks);
    231 exit_group(status: INT) -> Never .special(Special::ExitGroup) .eff(Effect::Tasks);
    61 wait4(pid: PID, wstatus: output(Shape::WaitStatus, Len::Fixed(4), Out::Positive),
        options: flags(&f::WAIT), rusage: output(Shape::Rusage, Len::Fixed(144),
        Out::Positive)) -> Pid
        .may() .eff(Effect::Pid);
    // A result of 0 does not tell whether a child was found, and with it the usage written.
    247 waitid(idtype: oneof(&f::P_ID), id: PID, infop: WAITID_INFO, options: flags(&f::WAIT),
        rusage: Ty::Ptr(gaps(pout(Shape::Rusage, Len::Fixed(144), Out::Full)))) .may()
        .eff(Effect::Pid);
    272 unshare(flags: flags(&f::UNSHARE)) .special(Special::Unshare) .eff(Effect::Mounts);
    308 setns(fd: FD, nstype: flags(&f::UNSHARE)) .special(Special::Setns) .eff(Effect::Mounts);
    434 pidfd_open(pid: PID, flags: flags(&f::PIDFD)) -> Fd .eff(Effect::OpensFd);
    438 pidfd_getfd(pidfd: FD, targetfd: INT, flags: HEX) -> Fd .eff(Effect::OpensFd);
    312 kcmp(pid1: PID, pid2: PID, kind: INT, idx1: HEX, idx2: HEX) .eff(Effect::Pid);

    39 getpid() -> Pid;
    110 getppid() -> Pid;
    186 gettid() -> Pid;
    111 getpgrp() -> Pid;
    121 getpgid(pid: PID) -> Pid .eff(Effect::Pid);
    124 getsid(pid: PID) -> Pid .eff(Effect::Pid);
    109 setpgid(pid: PID, pgid: PID) .eff(Effect::Pid);
    112 setsid() -> Pid .eff(Effect::Pid);
    218 set_tid_address(tidptr: ADDR) -> Pid .special(Special::SetTidAddress);
    273 set_robust_list(head: ADDR, len: SIZE) .special(Special::SetRobustList) .eff(Effect::Futex);
    274 get_robust_list(pid: PID, head: sout(Shape::Hex64, 8), len: sout(Shape::U64, 8))
        .eff(Effect::Futex);
    334 rseq(rseq: ADDR, len: UINT, flags: HEX, sig: HEX) .refuse(f::ENOSYS);
    135 personality(persona: HEX) -> Hex .execute();
    163 acct(path: PATH) .eff(Effect::System);

    24 sched_yield() .may();
    142 sched_setparam(pid: PID, param: sin(Shape::SchedParam, 4)) .eff(Effect::Pid);
    143 sched_getparam(pid: PID, param: sout(Shape::SchedParam, 4)) .eff(Effect::Pid);
    144 sched_setscheduler(pid: PID, policy: oneof(&f::SCHED), param: sin(Shape::SchedParam, 4))
        .eff(Effect::Pid);
    145 sched_getscheduler(pid: PID) .eff(Effect::Pid);
    146 sched_get_priority_max(policy: oneof(&f::SCHED));
    147 sched_get_priority_min(policy: oneof(&f::SCHED));
    148 sched_rr_get_interval(pid: PID, tp: TIMESPEC_OUT) .eff(Effect::Pid);
    203 sched_setaffinity(pid: PID, len: UINT, mask: input(Shape::U64s, Len::With(cpus_len)))
        .eff(Effect::Pid);
    // Returns the bytes written.
    204 sched_getaffinity(pid: PID, len: UINT, mask: output(Shape::U64s, Len::Arg32(1), Out::Ret))
        .eff(Effect::Pid);
    // On E2BIG the size is written back.
    314 sched_setattr(pid: PID, attr: inout(Shape::Opaque, Len::With(sched_attr_len),
        Out::OnErr(7)),
        flags: HEX) .eff(Effect::Pid);
    315 sched_getattr(pid: PID, attr: Ty::Ptr(gaps(pout(Shape::Opaque, Len::Small(2), Out::Full))),
        size: UINT,
        flags: HEX) .eff(Effect::Pid);
    140 getpriority(which: oneof(&f::PRIO), who: PID) .eff(Effect::Pid);
    141 setpriority(which: oneof(&f::PRIO), who: PID, prio: INT) .eff(Effect::Pid);
    251 ioprio_set(which: INT, who: PID, ioprio: HEX) .eff(Effect::Pid);
    252 ioprio_get(which: INT, who: PID) .eff(Effect::Pid);
    309 getcpu(cpu: sout(Shape::U32, 4), node: sout(Shape::U32, 4), unused: UNUSED);

    97 getrlimit(resource: oneof(&f::RLIMIT), rlim: sout(Shape::Rlimit, 16)) .eff(Effect::Limits);
    160 setrlimit(resource: oneof(&f::RLIMIT), rlim: sin(Shape::Rlimit, 16))
        .special(Special::Setrlimit) .eff(Effect::Limits);
    302 prlimit64(pid: PID, resource: oneof(&f::RLIMIT), new_limit: sin(Shape::Rlimit, 16),
        old_limit: sout(Shape::Rlimit, 16)) .special(Special::Prlimit64) .eff(Effect::Limits);
    98 getrusage(who: oneof(&f::RUSAGE), usage: RUSAGE) .eff(Effect::Pid);
    100 times(buf: sout(Shape::Tms, 32)) .eff(Effect::Pid);

    // Only reading is harmless; a 32-bit segment would need engine code.
    154 modify_ldt[sub32(0, 0, "read")](func: INT, ptr: bytes_out(2), bytecount: ULONG)
        .eff(Effect::Mm);
    154 modify_ldt[sub32(0, 2, "read_default")](func: INT, ptr: bytes_out(2), bytecount: ULONG)
        .eff(Effect::Mm);
    154 modify_ldt(func: INT, ptr: bytes_in(2), bytecount: ULONG) .refuse(f::ENOSYS)
        .eff(Effect::Mm);
    205 set_thread_area(u_info: ADDR) .refuse(f::ENOSYS);
    211 get_thread_area(u_info: ADDR) .refuse(f::ENOSYS);
}
