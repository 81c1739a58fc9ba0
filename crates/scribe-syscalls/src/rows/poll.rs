//! Waiting for events of descriptors: poll, select, epoll, inotify, fanotify, signalfd.

use crate::arg::{Ctx, Field, Len, Out, Ptr, Shape, Ty};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// Bytes of an `fd_set`: whole longs (`FDS_BYTES`, include/linux/poll.h). The kernel cuts `nfds` to
/// the size of the descriptor table, which may lie below what the caller says: as much as can be
/// read.
fn fd_set_len(ctx: &Ctx) -> u64 {
    let n = (ctx.call.args[0] as i32).max(0) as u64;
    let bytes = n.div_ceil(64) * 8;
    if bytes <= 128 {
        bytes
    } else {
        ctx.mem.readable(ctx.addr, bytes.min(1 << 21)) / 8 * 8
    }
}

const FDS: Ty = inout(Shape::FdSet, Len::With(fd_set_len), Out::Full);
/// The timeout of `select`, `pselect6`, `ppoll` is written back whatever the result
/// (`poll_select_finish`, fs/select.c).
const TIMEVAL_LEFT: Ty = inout(Shape::Timeval, Len::Fixed(16), Out::Always);
const TIMESPEC_LEFT: Ty = inout(Shape::Timespec, Len::Fixed(16), Out::Always);
/// `revents` are written whatever the result.
const POLLFDS: Ty = inout(Shape::Pollfd, Len::Elems32(1, 8), Out::Always);
/// Packed structures of 12 bytes on x86-64.
const EVENTS: Ty = output(Shape::EpollEvent, Len::Elems32(2, 12), Out::RetTimes(12));

const MASK_IN_PAIR: &[Field] = &[field(
    0,
    Ptr {
        sigmask: true,
        ..pin(Shape::Sigset, Len::Field(8, 8))
    },
)];
/// A pointer to a mask, and the size of the mask (`struct sigset_argpack`, fs/select.c).
pub(crate) const MASK_PAIR: Ty = Ty::Ptr(nest(
    pin(Shape::SigsetPair, Len::Fixed(16)),
    0,
    MASK_IN_PAIR,
));

rows! { ROWS:
    7 poll(fds: POLLFDS, nfds: UINT, timeout: INT) .may() .eff(Effect::Polls);
    271 ppoll(fds: POLLFDS, nfds: UINT, tmo_p: TIMESPEC_LEFT, sigmask: sigmask(4), size: SIZE)
        .may() .eff(Effect::Polls);
    23 select(nfds: INT, readfds: FDS, writefds: FDS, exceptfds: FDS, timeout: TIMEVAL_LEFT)
        .may() .eff(Effect::Polls);
    270 pselect6(nfds: INT, readfds: FDS, writefds: FDS, exceptfds: FDS, timeout: TIMESPEC_LEFT,
        sigmask: MASK_PAIR) .may() .eff(Effect::Polls);

    213 epoll_create(size: INT) -> Fd .eff(Effect::OpensFd);
    291 epoll_create1(flags: flags(&f::EPOLL_FLAGS)) -> Fd .eff(Effect::OpensFd);
    233 epoll_ctl(epfd: FD, op: oneof(&f::EPOLL_CTL), fd: FD, event: sin(Shape::EpollEvent, 12))
        .eff(Effect::Epoll(0));
    232 epoll_wait(epfd: FD, events: EVENTS, maxevents: INT, timeout: INT)
        .may() .eff(Effect::Epoll(0));
    281 epoll_pwait(epfd: FD, events: EVENTS, maxevents: INT, timeout: INT, sigmask: sigmask(5),
        size: SIZE) .may() .eff(Effect::Epoll(0));
    441 epoll_pwait2(epfd: FD, events: EVENTS, maxevents: INT, timeout: TIMESPEC,
        sigmask: sigmask(5),
        size: SIZE) .may() .eff(Effect::Epoll(0));
    214 epoll_ctl_old() .refuse(f::ENOSYS);
    215 epoll_wait_old() .refuse(f::ENOSYS);

    253 inotify_init() -> Fd .eff(Effect::OpensFd);
    294 inotify_init1(flags: flags(&f::INOTIFY_FLAGS)) -> Fd .eff(Effect::OpensFd);
    254 inotify_add_watch(fd: FD, path: PATH, mask: flags(&f::INOTIFY)) .eff(Effect::SetsFile(0));
    255 inotify_rm_watch(fd: FD, wd: INT) .eff(Effect::SetsFile(0));
    300 fanotify_init(flags: HEX, event_f_flags: flags(&f::OPEN)) -> Fd .eff(Effect::OpensFd);
    301 fanotify_mark(fd: FD, flags: HEX, mask: HEX, dirfd: DIRFD, path: PATH)
        .eff(Effect::SetsFile(0));

    282 signalfd(fd: FD, mask: sigset_in(2), size: SIZE) -> Fd .eff(Effect::OpensFd);
    289 signalfd4(fd: FD, mask: sigset_in(2), size: SIZE, flags: flags(&f::SFD)) -> Fd
        .eff(Effect::OpensFd);
}
