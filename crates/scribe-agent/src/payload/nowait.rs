//! Recording: a call that may wait, made so that it does not. While others of the lane want the token, giving it up
//! for a call that would not have waited costs a whole turn of theirs.

use crate::entry::BAIL;
use core::sync::atomic::Ordering::Relaxed;
use scribe_abi::shared::LaneArea;

const READ: u16 = 0;
const WRITE: u16 = 1;
const READV: u16 = 19;
const SENDTO: u16 = 44;
const RECVFROM: u16 = 45;
const RECVMSG: u16 = 47;
const EPOLL_WAIT: u16 = 232;
const PREADV2: u64 = 327;
const PWRITEV2: u64 = 328;
/// include/uapi/linux/fs.h.
const RWF_NOWAIT: u64 = 8;
/// The file's own position: readv(2).
const HERE: u64 = u64::MAX;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_WAITALL: u64 = 0x100;
/// A result of these says nothing of what the call itself would do: EINTR, EAGAIN, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP.
const TELLS_NOTHING: [i64; 6] = [-4, -11, -14, -22, -38, -95];

/// Whether another task of the lane would take the token if it was given up.
pub fn is_wanted(lane: &LaneArea) -> bool {
    lane.queued.load(Relaxed) != 0 || lane.waiters.load(Relaxed) != 0 || lane.has_woken()
}

/// Number and arguments of the call that does not wait, if there is one that has the same outputs. `iov`: room for
/// one entry of it.
pub fn instead(nr: u16, args: &[u64; 6], iov: &mut [u64; 2]) -> Option<[u64; 7]> {
    let [fd, at, len, fourth, fifth, sixth] = *args;
    let mut one = || {
        *iov = [at, len];
        core::ptr::from_mut(iov) as u64
    };
    match nr {
        READ => Some([PREADV2, fd, one(), 1, HERE, 0, RWF_NOWAIT]),
        WRITE => Some([PWRITEV2, fd, one(), 1, HERE, 0, RWF_NOWAIT]),
        READV => Some([PREADV2, fd, at, len, HERE, 0, RWF_NOWAIT]),
        RECVFROM if fourth & MSG_WAITALL != 0 => None,
        SENDTO | RECVFROM => Some([nr.into(), fd, at, len, fourth | MSG_DONTWAIT, fifth, sixth]),
        RECVMSG if len & MSG_WAITALL != 0 => None,
        RECVMSG => Some([nr.into(), fd, at, len | MSG_DONTWAIT, fourth, fifth, sixth]),
        EPOLL_WAIT => Some([nr.into(), fd, at, len, 0, fifth, sixth]),
        _ => None,
    }
}

/// Whether the call itself has to be made, and may wait, after its substitute had this result. `Some(0)`: all of it;
/// else without the first so many bytes, which were written.
pub fn left_to_do(nr: u16, args: &[u64; 6], ret: i64) -> Option<u64> {
    let nothing = TELLS_NOTHING.contains(&ret) || (-516..=-512).contains(&ret);
    match nr {
        _ if ret == BAIL => None,
        _ if nothing => Some(0),
        EPOLL_WAIT if ret == 0 => Some(0),
        WRITE | SENDTO if ret > 0 && (ret as u64) < args[2] => Some(ret as u64),
        _ => None,
    }
}
