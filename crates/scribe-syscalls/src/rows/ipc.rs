//! System V and POSIX IPC.

use crate::arg::{Ctx, Field, Len, Out, Shape, Ty};
use crate::call::{Special, Sub};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// A message: `long mtype` and the text.
fn msg_len(ctx: &Ctx) -> u64 {
    ctx.call.args[2].saturating_add(8)
}

/// `attr` of `mq_open` counts with `O_CREAT`.
fn mq_attr_len(ctx: &Ctx) -> u64 {
    if ctx.call.args[1] & 0o100 != 0 { 64 } else { 0 }
}

/// With `SIGEV_THREAD` the value points to a cookie of 32 bytes (`NOTIFY_COOKIE_LEN`,
/// ipc/mqueue.c).
fn cookie_len(ctx: &Ctx) -> u64 {
    if ctx.mem.read_u32(ctx.parent.wrapping_add(12)) == Some(2) {
        32
    } else {
        0
    }
}

const COOKIE: &[Field] = &[field(0, pin(Shape::Opaque, Len::With(cookie_len)))];
const SIGEVENT: Ty = Ty::Ptr(nest(pin(Shape::Sigevent, Len::Fixed(64)), 0, COOKIE));
const IPC: Effect = Effect::Ipc;
const IPCFLG: Ty = flags(&f::IPC_FLAGS);

const fn shm(cmd: u32, name: &'static str) -> Sub {
    sub32(1, cmd, name)
}

const fn sem(cmd: u32, name: &'static str) -> Sub {
    sub32(2, cmd, name)
}

rows! { ROWS:
    29 shmget(key: HEX, size: SIZE, shmflg: IPCFLG) .eff(IPC);
    30 shmat(shmid: INT, shmaddr: ADDR, shmflg: flags(&f::SHM_FLAGS)) -> Addr
        .special(Special::Shmat) .eff(Effect::Mm);
    67 shmdt(shmaddr: ADDR) .special(Special::Shmdt) .eff(Effect::Mm);
    31 shmctl[shm(0, "IPC_RMID")](shmid: INT, cmd: INT, buf: UNUSED) .eff(IPC);
    31 shmctl[shm(1, "IPC_SET")](shmid: INT, cmd: INT, buf: raw_in(112)) .eff(IPC);
    31 shmctl[shm(2, "IPC_STAT")](shmid: INT, cmd: INT, buf: raw_out(112)) .eff(IPC);
    31 shmctl[shm(3, "IPC_INFO")](shmid: INT, cmd: INT, buf: raw_out(72)) .eff(IPC);
    31 shmctl[shm(11, "SHM_LOCK")](shmid: INT, cmd: INT, buf: UNUSED) .eff(IPC);
    31 shmctl[shm(12, "SHM_UNLOCK")](shmid: INT, cmd: INT, buf: UNUSED) .eff(IPC);
    31 shmctl[shm(13, "SHM_STAT")](shmid: INT, cmd: INT, buf: raw_out(112)) .eff(IPC);
    31 shmctl[shm(14, "SHM_INFO")](shmid: INT, cmd: INT, buf: raw_out(48)) .eff(IPC);
    31 shmctl[shm(15, "SHM_STAT_ANY")](shmid: INT, cmd: INT, buf: raw_out(112)) .eff(IPC);
    31 shmctl(shmid: INT, cmd: INT, buf: ADDR) .refuse(f::EINVAL) .eff(IPC);

    64 semget(key: HEX, nsems: INT, semflg: IPCFLG) .eff(IPC);
    65 semop(semid: INT, sops: input(Shape::Sembuf, Len::Elems32(2, 6)), nsops: UINT) .may()
        .eff(IPC);
    220 semtimedop(semid: INT, sops: input(Shape::Sembuf, Len::Elems32(2, 6)), nsops: UINT,
        timeout: TIMESPEC) .may() .eff(IPC);
    66 semctl[sem(0, "IPC_RMID")](semid: INT, semnum: INT, cmd: INT, arg: UNUSED) .eff(IPC);
    66 semctl[sem(1, "IPC_SET")](semid: INT, semnum: INT, cmd: INT, arg: raw_in(104)) .eff(IPC);
    66 semctl[sem(2, "IPC_STAT")](semid: INT, semnum: INT, cmd: INT, arg: raw_out(104)) .eff(IPC);
    66 semctl[sem(3, "IPC_INFO")](semid: INT, semnum: INT, cmd: INT, arg: raw_out(40)) .eff(IPC);
    66 semctl[sem(11, "GETPID")](semid: INT, semnum: INT, cmd: INT, arg: UNUSED) .eff(IPC);
    66 semctl[sem(12, "GETVAL")](semid: INT, semnum: INT, cmd: INT, arg: UNUSED) .eff(IPC);
    // The number of semaphores is not in the call. `outputs` names all that could have been
    // written; the engine may ask for `sem_nsems` instead.
    66 semctl[sem(13, "GETALL")](semid: INT, semnum: INT, cmd: INT,
        arg: Ty::Ptr(in_place(gaps(pout(Shape::U16s, Len::Readable(64_000), Out::Full)))))
        .special(Special::SemctlGetall) .eff(IPC);
    66 semctl[sem(14, "GETNCNT")](semid: INT, semnum: INT, cmd: INT, arg: UNUSED) .eff(IPC);
    66 semctl[sem(15, "GETZCNT")](semid: INT, semnum: INT, cmd: INT, arg: UNUSED) .eff(IPC);
    66 semctl[sem(16, "SETVAL")](semid: INT, semnum: INT, cmd: INT, arg: INT) .eff(IPC);
    66 semctl[sem(17, "SETALL")](semid: INT, semnum: INT, cmd: INT,
        arg: Ty::Ptr(in_place(pin(Shape::U16s, Len::Readable(64_000))))) .eff(IPC);
    66 semctl[sem(18, "SEM_STAT")](semid: INT, semnum: INT, cmd: INT, arg: raw_out(104)) .eff(IPC);
    66 semctl[sem(19, "SEM_INFO")](semid: INT, semnum: INT, cmd: INT, arg: raw_out(40)) .eff(IPC);
    66 semctl[sem(20, "SEM_STAT_ANY")](semid: INT, semnum: INT, cmd: INT, arg: raw_out(104))
        .eff(IPC);
    66 semctl(semid: INT, semnum: INT, cmd: INT, arg: ADDR) .refuse(f::EINVAL) .eff(IPC);

    68 msgget(key: HEX, msgflg: IPCFLG) .eff(IPC);
    69 msgsnd(msqid: INT, msgp: input(Shape::Opaque, Len::With(msg_len)), msgsz: SIZE,
        msgflg: IPCFLG)
        .may() .eff(IPC);
    70 msgrcv(msqid: INT, msgp: output(Shape::Opaque, Len::With(msg_len), Out::RetPlus(8)),
        msgsz: SIZE,
        msgtyp: LONG, msgflg: IPCFLG) -> Size .may() .eff(IPC);
    71 msgctl[shm(0, "IPC_RMID")](msqid: INT, cmd: INT, buf: UNUSED) .eff(IPC);
    71 msgctl[shm(1, "IPC_SET")](msqid: INT, cmd: INT, buf: raw_in(120)) .eff(IPC);
    71 msgctl[shm(2, "IPC_STAT")](msqid: INT, cmd: INT, buf: raw_out(120)) .eff(IPC);
    71 msgctl[shm(3, "IPC_INFO")](msqid: INT, cmd: INT, buf: raw_out(32)) .eff(IPC);
    71 msgctl[shm(11, "MSG_STAT")](msqid: INT, cmd: INT, buf: raw_out(120)) .eff(IPC);
    71 msgctl[shm(12, "MSG_INFO")](msqid: INT, cmd: INT, buf: raw_out(32)) .eff(IPC);
    71 msgctl[shm(13, "MSG_STAT_ANY")](msqid: INT, cmd: INT, buf: raw_out(120)) .eff(IPC);
    71 msgctl(msqid: INT, cmd: INT, buf: ADDR) .refuse(f::EINVAL) .eff(IPC);

    240 mq_open(name: cstr(PATH_MAX), oflag: flags(&f::OPEN), mode: MODE,
        attr: input(Shape::Opaque, Len::With(mq_attr_len))) -> Fd .eff(Effect::OpensFd);
    241 mq_unlink(name: cstr(PATH_MAX)) .eff(IPC);
    242 mq_timedsend(mqdes: FD, msg: bytes_in(2), len: SIZE, prio: UINT, timeout: TIMESPEC)
        .may() .eff(Effect::Writes(0));
    243 mq_timedreceive(mqdes: FD, msg: bytes_out(2), len: SIZE, prio: sout(Shape::U32, 4),
        timeout: TIMESPEC) -> Size .may() .eff(Effect::Reads(0));
    244 mq_notify(mqdes: FD, sevp: SIGEVENT) .eff(Effect::SetsFile(0));
    245 mq_getsetattr(mqdes: FD, newattr: raw_in(64), oldattr: raw_out(64))
        .eff(Effect::SetsFile(0));
}
