//! `fcntl(2)`: one row a command.

use crate::arg::{Shape, Ty};
use crate::call::Sub;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const fn op(cmd: u32, name: &'static str) -> Sub {
    sub32(1, cmd, name)
}

const SET: Effect = Effect::SetsFile(0);
const GET: Effect = Effect::GetsFile(0);
const FLOCK_IN: Ty = sin(Shape::Flock, 32);
const FLOCK: Ty = sinout(Shape::Flock, 32);
const HINT_IN: Ty = sin(Shape::U64, 8);
const HINT_OUT: Ty = sout(Shape::U64, 8);

rows! { ROWS:
    72 fcntl[op(0, "F_DUPFD")](fd: FD, op: INT, min: INT) -> Fd
        .eff(Effect::Dup { from: 0, to: None, cloexec: false });
    72 fcntl[op(1030, "F_DUPFD_CLOEXEC")](fd: FD, op: INT, min: INT) -> Fd
        .eff(Effect::Dup { from: 0, to: None, cloexec: true });
    72 fcntl[op(1027, "F_DUPFD_QUERY")](fd: FD, op: INT, fd2: FD) .eff(GET);
    72 fcntl[op(1028, "F_CREATED_QUERY")](fd: FD, op: INT) .eff(GET);
    72 fcntl[op(1, "F_GETFD")](fd: FD, op: INT) -> FdFlags .eff(GET);
    72 fcntl[op(2, "F_SETFD")](fd: FD, op: INT, flags: flags(&f::FD_FLAGS))
        .eff(Effect::SetsFdFlags(0));
    72 fcntl[op(3, "F_GETFL")](fd: FD, op: INT) -> OpenFlags .eff(GET);
    72 fcntl[op(4, "F_SETFL")](fd: FD, op: INT, flags: flags(&f::OPEN)) .eff(SET);
    72 fcntl[op(5, "F_GETLK")](fd: FD, op: INT, lock: FLOCK) .eff(GET);
    72 fcntl[op(6, "F_SETLK")](fd: FD, op: INT, lock: FLOCK_IN) .eff(SET);
    72 fcntl[op(7, "F_SETLKW")](fd: FD, op: INT, lock: FLOCK_IN) .may() .eff(SET);
    72 fcntl[op(36, "F_OFD_GETLK")](fd: FD, op: INT, lock: FLOCK) .eff(GET);
    72 fcntl[op(37, "F_OFD_SETLK")](fd: FD, op: INT, lock: FLOCK_IN) .eff(SET);
    72 fcntl[op(38, "F_OFD_SETLKW")](fd: FD, op: INT, lock: FLOCK_IN) .may() .eff(SET);
    72 fcntl[op(1029, "F_CANCELLK")](fd: FD, op: INT, lock: ADDR) .eff(SET);
    72 fcntl[op(8, "F_SETOWN")](fd: FD, op: INT, pid: PID) .eff(SET);
    // A group is a negative result, which is why F_GETOWN_EX exists.
    72 fcntl[op(9, "F_GETOWN")](fd: FD, op: INT) -> Pid .eff(GET);
    72 fcntl[op(15, "F_SETOWN_EX")](fd: FD, op: INT, owner: sin(Shape::FOwnerEx, 8)) .eff(SET);
    72 fcntl[op(16, "F_GETOWN_EX")](fd: FD, op: INT, owner: sout(Shape::FOwnerEx, 8)) .eff(GET);
    72 fcntl[op(17, "F_GETOWNER_UIDS")](fd: FD, op: INT, uids: sout(Shape::U32s, 8)) .eff(GET);
    72 fcntl[op(10, "F_SETSIG")](fd: FD, op: INT, sig: SIG) .eff(SET);
    72 fcntl[op(11, "F_GETSIG")](fd: FD, op: INT) .eff(GET);
    72 fcntl[op(1024, "F_SETLEASE")](fd: FD, op: INT, kind: oneof(&f::LOCK_TYPE)) .eff(SET);
    72 fcntl[op(1025, "F_GETLEASE")](fd: FD, op: INT) .eff(GET);
    72 fcntl[op(1026, "F_NOTIFY")](fd: FD, op: INT, events: HEX) .eff(SET);
    72 fcntl[op(1031, "F_SETPIPE_SZ")](fd: FD, op: INT, size: UINT) .eff(SET);
    72 fcntl[op(1032, "F_GETPIPE_SZ")](fd: FD, op: INT) .eff(GET);
    72 fcntl[op(1033, "F_ADD_SEALS")](fd: FD, op: INT, seals: flags(&f::SEALS))
        .eff(Effect::InodeWrites(0));
    72 fcntl[op(1034, "F_GET_SEALS")](fd: FD, op: INT) -> Hex .eff(GET);
    72 fcntl[op(1035, "F_GET_RW_HINT")](fd: FD, op: INT, hint: HINT_OUT) .eff(GET);
    72 fcntl[op(1036, "F_SET_RW_HINT")](fd: FD, op: INT, hint: HINT_IN) .eff(SET);
    72 fcntl[op(1037, "F_GET_FILE_RW_HINT")](fd: FD, op: INT, hint: HINT_OUT) .eff(GET);
    72 fcntl[op(1038, "F_SET_FILE_RW_HINT")](fd: FD, op: INT, hint: HINT_IN) .eff(SET);
    72 fcntl(fd: FD, op: INT, arg: HEX) .refuse(f::EINVAL) .eff(GET);
}
