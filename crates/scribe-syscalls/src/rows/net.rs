//! Sockets.

use crate::arg::{Ctx, Field, Len, Out, Ptr, Shape, Ty};
use crate::call::Sub;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;
use crate::rows::creds::SOCK_FPROG;

/// Pointers of a `struct msghdr` that is sent: name, buffers, control data.
const SEND: &[Field] = &[
    field(0, pin(Shape::Sockaddr, Len::Field(8, 4))),
    field(
        16,
        nest(pin(Shape::Iovec, Len::FieldElems(24, 8, 16)), 16, IOV_IN),
    ),
    field(32, pin(Shape::Opaque, Len::Field(40, 8))),
];
/// ... that is received. The lengths after the call are those of the structure.
const RECV: &[Field] = &[
    field(0, pout(Shape::Sockaddr, Len::Field(8, 4), Out::Field(8, 4))),
    field(
        16,
        nest(pin(Shape::Iovec, Len::FieldElems(24, 8, 16)), 16, IOV_OUT),
    ),
    // The padding behind each control message is not written (net/core/scm.c, put_cmsg).
    field(
        32,
        gaps(pout(Shape::Opaque, Len::Field(40, 8), Out::Field(40, 8))),
    ),
];
/// What is written of a `msghdr`: length of name, length of control data, flags.
const RECV_PARTS: Out = Out::Parts(&[(8, 4), (40, 8), (48, 4)]);
/// ... and the length of the message behind it in a `mmsghdr`.
const MRECV_PARTS: Out = Out::PartsRet(&[(8, 4), (40, 8), (48, 4), (56, 4)]);

const MSG_SEND: Ty = Ty::Ptr(nest(pin(Shape::Msghdr, Len::Fixed(56)), 0, SEND));
const MSG_RECV: Ty = Ty::Ptr(nest(
    pinout(Shape::Msghdr, Len::Fixed(56), RECV_PARTS),
    0,
    RECV,
));

/// A vector of messages: the kernel takes up to `UIO_MAXIOV` of them.
fn mmsg_len(ctx: &Ctx) -> u64 {
    u64::from(ctx.call.args[2] as u32).min(UIO_MAXIOV) * 64
}

const MMSG: Ptr = pinout(
    Shape::Mmsghdr,
    Len::With(mmsg_len),
    Out::PartsRet(&[(56, 4)]),
);
const MMSG_SEND: Ty = Ty::Ptr(Ptr {
    mmsg: true,
    ..nest(MMSG, 64, SEND)
});
const MMSG_RECV: Ty = Ty::Ptr(Ptr {
    mmsg: true,
    out: MRECV_PARTS,
    ..nest(MMSG, 64, RECV)
});

/// The descriptors are written before the sockets are made, which may fail (net/socket.c, `__sys_socketpair`).
const SV: Ty = Ty::Ptr(gaps(pout(Shape::FdPair, Len::Fixed(8), Out::Always)));

/// Some options read the value that they overwrite, and some write it only in part.
const OPTVAL: Ty = inout(Shape::Sockopt, Len::AtPtr(4), Out::AtPtr(4));
/// Written with ERANGE too (`SO_PEERSEC`, `SO_PEERGROUPS`).
const OPTLEN: Ty = inout(Shape::Socklen, Len::Fixed(4), Out::Always);
const LEVEL: Ty = oneof(&f::SOL);

/// `SO_GET_FILTER` counts instructions of eight bytes (net/core/filter.c, `sk_get_filter`).
fn filter_len(ctx: &Ctx) -> u64 {
    u64::from(ctx.mem.read_u32(ctx.call.args[4]).unwrap_or(0)) * 8
}

/// A socket option.
const fn opt(level: u64, name: u64, text: &'static str) -> Sub {
    Sub {
        arg: 2,
        mask: 0xffff_ffff,
        value: name,
        and: Some((1, level)),
        name: text,
    }
}

/// `struct ipt_replace` and `ip6t_replace`: the counters of the old entries are written back.
const XT_REPLACE: Ty = Ty::Ptr(nest(
    pin(Shape::Sockopt, Len::Arg32(4)),
    0,
    &[field(
        88,
        pout(Shape::Opaque, Len::FieldElems(84, 4, 16), Out::Full),
    )],
));
/// `struct arpt_replace`: the same with fewer hooks.
const ARPT_REPLACE: Ty = Ty::Ptr(nest(
    pin(Shape::Sockopt, Len::Arg32(4)),
    0,
    &[field(
        72,
        pout(Shape::Opaque, Len::FieldElems(68, 4, 16), Out::Full),
    )],
));

rows! { ROWS:
    41 socket(domain: oneof(&f::AF), kind: flags(&f::SOCK), protocol: INT) -> Fd
        .eff(Effect::OpensFd);
    53 socketpair(domain: oneof(&f::AF), kind: flags(&f::SOCK), protocol: INT,
        sv: SV) .eff(Effect::OpensFds2 { arg: 3 });
    42 connect(fd: FD, addr: sockaddr(2), addrlen: UINT) .may() .eff(Effect::SetsSocket(0));
    49 bind(fd: FD, addr: sockaddr(2), addrlen: UINT) .eff(Effect::SetsSocket(0));
    50 listen(fd: FD, backlog: INT) .eff(Effect::SetsSocket(0));
    48 shutdown(fd: FD, how: oneof(&f::SHUT)) .eff(Effect::SetsSocket(0));
    43 accept(fd: FD, addr: sockaddr_out(2), addrlen: SOCKLEN) -> Fd .may()
        .eff(Effect::Accepts(0));
    288 accept4(fd: FD, addr: sockaddr_out(2), addrlen: SOCKLEN, flags: flags(&f::SOCK_ONLY)) -> Fd
        .may() .eff(Effect::Accepts(0));
    51 getsockname(fd: FD, addr: sockaddr_out(2), addrlen: SOCKLEN) .eff(Effect::GetsFile(0));
    52 getpeername(fd: FD, addr: sockaddr_out(2), addrlen: SOCKLEN) .eff(Effect::GetsFile(0));

    44 sendto(fd: FD, buf: bytes_in(2), len: SIZE, flags: flags(&f::MSG), addr: sockaddr(5),
        addrlen: UINT) -> Size .may() .eff(Effect::Writes(0));
    45 recvfrom(fd: FD, buf: bytes_out(2), len: SIZE, flags: flags(&f::MSG), addr: sockaddr_out(5),
        addrlen: SOCKLEN) -> Size .may() .eff(Effect::Reads(0));
    46 sendmsg(fd: FD, msg: MSG_SEND, flags: flags(&f::MSG)) -> Size .may()
        .eff(Effect::SendFds(0));
    47 recvmsg(fd: FD, msg: MSG_RECV, flags: flags(&f::MSG)) -> Size .may()
        .eff(Effect::RecvFds(0));
    307 sendmmsg(fd: FD, msgvec: MMSG_SEND, vlen: UINT, flags: flags(&f::MSG))
        .may() .eff(Effect::SendFds(0));
    299 recvmmsg(fd: FD, msgvec: MMSG_RECV, vlen: UINT, flags: flags(&f::MSG),
        timeout: sinout(Shape::Timespec, 16)) .may() .eff(Effect::RecvFds(0));

    54 setsockopt(fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: input(Shape::Sockopt, Len::Arg32(4)), optlen: INT) .eff(Effect::SetsFile(0));
    54 setsockopt[opt(1, 26, "SO_ATTACH_FILTER")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: SOCK_FPROG, optlen: INT) .eff(Effect::SetsFile(0));
    54 setsockopt[opt(1, 51, "SO_ATTACH_REUSEPORT_CBPF")](fd: FD, level: LEVEL,
        optname: Ty::SockOpt,
        optval: SOCK_FPROG, optlen: INT) .eff(Effect::SetsFile(0));
    54 setsockopt[opt(0, 64, "IPT_SO_SET_REPLACE")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: XT_REPLACE, optlen: INT) .eff(Effect::SetsFile(0));
    54 setsockopt[opt(41, 64, "IP6T_SO_SET_REPLACE")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: XT_REPLACE, optlen: INT) .eff(Effect::SetsFile(0));
    54 setsockopt[opt(0, 96, "ARPT_SO_SET_REPLACE")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: ARPT_REPLACE, optlen: INT) .eff(Effect::SetsFile(0));
    // Memory shared with the kernel, or read by it after the call: programs do without.
    54 setsockopt[opt(1, 60, "SO_ZEROCOPY")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: input(Shape::Sockopt, Len::Arg32(4)), optlen: INT) .refuse(f::EOPNOTSUPP);
    54 setsockopt[opt(263, 5, "PACKET_RX_RING")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: input(Shape::Sockopt, Len::Arg32(4)), optlen: INT) .refuse(f::ENOPROTOOPT);
    54 setsockopt[opt(263, 13, "PACKET_TX_RING")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: input(Shape::Sockopt, Len::Arg32(4)), optlen: INT) .refuse(f::ENOPROTOOPT);
    54 setsockopt[opt(283, 4, "XDP_UMEM_REG")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: input(Shape::Sockopt, Len::Arg32(4)), optlen: INT) .refuse(f::ENOPROTOOPT);

    55 getsockopt(fd: FD, level: LEVEL, optname: Ty::SockOpt, optval: OPTVAL, optlen: OPTLEN)
        .eff(Effect::GetsFile(0));
    55 getsockopt[opt(1, 77, "SO_PEERPIDFD")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: sinout(Shape::Fd, 4), optlen: OPTLEN) .eff(Effect::OpensFdAt { arg: 3, off: 0 });
    55 getsockopt[opt(1, 26, "SO_GET_FILTER")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: inout(Shape::Opaque, Len::With(filter_len), Out::Full), optlen: OPTLEN)
        .eff(Effect::GetsFile(0));
    // Maps received pages into the caller.
    55 getsockopt[opt(6, 35, "TCP_ZEROCOPY_RECEIVE")](fd: FD, level: LEVEL, optname: Ty::SockOpt,
        optval: OPTVAL, optlen: OPTLEN) .refuse(f::ENOPROTOOPT);
}
