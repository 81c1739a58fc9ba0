//! Reading, writing and managing open files.

use crate::arg::{Field, Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// Buffers of `vmsplice`: the direction depends on which end of the pipe the descriptor is.
const IOV_BOTH: &[Field] = &[field(0, pinout(Shape::Bytes, Len::Field(8, 8), Out::Share))];
/// Directory entries: the padding behind names is not written (fs/readdir.c).
const DIRENTS: Ty = Ty::Ptr(gaps(pout(Shape::Dirent64, Len::Arg32(2), Out::Ret)));
/// An offset that is read and moved (`sendfile`): the kernel writes it back even after some errors.
const OFFSET: Ty = inout(Shape::I64, Len::Fixed(8), Out::Always);
/// `struct xattr_args` (include/uapi/linux/xattr.h).
const XATTR_SET: Ty = Ty::Ptr(nest(
    pin(Shape::Opaque, Len::Small(5)),
    0,
    &[field(0, pin(Shape::Bytes, Len::Field(8, 4)))],
));
const XATTR_GET: Ty = Ty::Ptr(nest(
    pin(Shape::Opaque, Len::Small(5)),
    0,
    &[field(0, pout(Shape::Bytes, Len::Field(8, 4), Out::Ret))],
));
/// Name of an extended attribute (`XATTR_NAME_MAX` and NUL).
const XATTR: Ty = cstr(256);

rows! { ROWS:
    0 read(fd: FD, buf: bytes_out(2), count: SIZE) -> Size .fd(0) .eff(Effect::Reads(0));
    1 write(fd: FD, buf: bytes_in(2), count: SIZE) -> Size .fd(0) .eff(Effect::Writes(0));
    3 close(fd: FD) .eff(Effect::ClosesFd(0));
    8 lseek(fd: FD, offset: OFF, whence: oneof(&f::WHENCE)) -> Off .eff(Effect::Seeks(0));
    17 pread64(fd: FD, buf: bytes_out(2), count: SIZE, offset: OFF) -> Size
        .fd(0) .eff(Effect::ReadsAt(0));
    18 pwrite64(fd: FD, buf: bytes_in(2), count: SIZE, offset: OFF) -> Size
        .fd(0) .eff(Effect::WritesAt(0));
    19 readv(fd: FD, iov: iovec(2, IOV_OUT), iovcnt: ULONG) -> Size .fd(0) .eff(Effect::Reads(0));
    20 writev(fd: FD, iov: iovec(2, IOV_IN), iovcnt: ULONG) -> Size .fd(0) .eff(Effect::Writes(0));
    295 preadv(fd: FD, iov: iovec(2, IOV_OUT), iovcnt: ULONG, offset: OFF, high: UNUSED) -> Size
        .fd(0) .eff(Effect::ReadsAt(0));
    296 pwritev(fd: FD, iov: iovec(2, IOV_IN), iovcnt: ULONG, offset: OFF, high: UNUSED) -> Size
        .fd(0) .eff(Effect::WritesAt(0));
    // An offset of -1 means the file's own: the model has to look.
    327 preadv2(fd: FD, iov: iovec(2, IOV_OUT), iovcnt: ULONG, offset: OFF, high: UNUSED,
        flags: flags(&f::RWF)) -> Size .fd(0) .eff(Effect::ReadsAt(0));
    328 pwritev2(fd: FD, iov: iovec(2, IOV_IN), iovcnt: ULONG, offset: OFF, high: UNUSED,
        flags: flags(&f::RWF)) -> Size .fd(0) .eff(Effect::WritesAt(0));
    40 sendfile(out_fd: FD, in_fd: FD, offset: OFFSET, count: SIZE) -> Size
        .may() .eff(Effect::Moves { from: 1, to: 0 });
    275 splice(fd_in: FD, off_in: OFFSET, fd_out: FD, off_out: OFFSET, len: SIZE,
        flags: flags(&f::SPLICE)) -> Size .may() .eff(Effect::Moves { from: 0, to: 2 });
    276 tee(fd_in: FD, fd_out: FD, len: SIZE, flags: flags(&f::SPLICE)) -> Size
        .may() .eff(Effect::Moves { from: 0, to: 1 });
    // Pages are given to the pipe by reference, so later writes to them show in it: engine.
    278 vmsplice(fd: FD, iov: Ty::Ptr(nest(pin(Shape::Iovec, Len::Elems(2, 16)), 16, IOV_BOTH)),
        nr_segs: ULONG, flags: flags(&f::SPLICE)) -> Size
        .may() .special(Special::Vmsplice) .eff(Effect::Writes(0));
    326 copy_file_range(fd_in: FD, off_in: OFFSET, fd_out: FD, off_out: OFFSET, len: SIZE,
        flags: HEX)
        -> Size .may() .eff(Effect::Moves { from: 0, to: 2 });

    32 dup(oldfd: FD) -> Fd .eff(Effect::Dup { from: 0, to: None, cloexec: false });
    33 dup2(oldfd: FD, newfd: FD) -> Fd .eff(Effect::Dup { from: 0, to: Some(1), cloexec: false });
    292 dup3(oldfd: FD, newfd: FD, flags: flags(&f::OPEN_ONLY)) -> Fd
        .eff(Effect::Dup { from: 0, to: Some(1), cloexec: false });
    436 close_range(first: UINT, last: UINT, flags: flags(&f::CLOSE_RANGE))
        .eff(Effect::ClosesRange);
    22 pipe(pipefd: sout(Shape::FdPair, 8)) .eff(Effect::OpensFds2 { arg: 0 });
    293 pipe2(pipefd: sout(Shape::FdPair, 8), flags: flags(&f::OPEN_ONLY))
        .eff(Effect::OpensFds2 { arg: 0 });
    284 eventfd(initval: UINT) -> Fd .eff(Effect::OpensFd);
    290 eventfd2(initval: UINT, flags: flags(&f::EFD)) -> Fd .eff(Effect::OpensFd);
    319 memfd_create(name: cstr(250), flags: flags(&f::MFD)) -> Fd .eff(Effect::OpensFd);
    // Its memory cannot be read from outside the process.
    447 memfd_secret(flags: flags(&f::OPEN_ONLY)) -> Fd .refuse(f::ENOSYS) .eff(Effect::OpensFd);

    73 flock(fd: FD, operation: flags(&f::LOCK)) .may() .eff(Effect::SetsFile(0));
    74 fsync(fd: FD) .may() .eff(Effect::InodeWrites(0));
    75 fdatasync(fd: FD) .may() .eff(Effect::InodeWrites(0));
    162 sync() .may() .eff(Effect::System);
    306 syncfs(fd: FD) .may() .eff(Effect::InodeWrites(0));
    277 sync_file_range(fd: FD, offset: OFF, nbytes: OFF, flags: HEX)
        .may() .eff(Effect::InodeWrites(0));
    77 ftruncate(fd: FD, length: OFF) .eff(Effect::InodeWrites(0));
    285 fallocate(fd: FD, mode: flags(&f::FALLOC), offset: OFF, len: OFF)
        .eff(Effect::InodeWrites(0));
    187 readahead(fd: FD, offset: OFF, count: SIZE) .eff(Effect::GetsFile(0));
    221 fadvise64(fd: FD, offset: OFF, len: SIZE, advice: oneof(&f::FADVISE))
        .eff(Effect::SetsFile(0));
    451 cachestat(fd: UINT, range: raw_in(16), cstat: raw_out(40), flags: HEX)
        .eff(Effect::GetsFile(0));

    78 getdents(fd: FD, dirp: DIRENTS, count: UINT) -> Size
        .eff(Effect::Reads(0));
    217 getdents64(fd: FD, dirp: DIRENTS, count: UINT)
        -> Size .eff(Effect::Reads(0));
    5 fstat(fd: FD, statbuf: sout(Shape::Stat, 144)) .eff(Effect::GetsFile(0));
    138 fstatfs(fd: FD, buf: sout(Shape::Statfs, 120)) .eff(Effect::GetsFile(0));
    91 fchmod(fd: FD, mode: MODE) .eff(Effect::InodeWrites(0));
    93 fchown(fd: FD, owner: ID, group: ID) .eff(Effect::InodeWrites(0));
    81 fchdir(fd: FD) .eff(Effect::Chdir);

    190 fsetxattr(fd: FD, name: XATTR, value: bytes_in(3), size: SIZE, flags: flags(&f::XATTR))
        .eff(Effect::InodeWrites(0));
    193 fgetxattr(fd: FD, name: XATTR, value: bytes_out(3), size: SIZE) -> Size
        .eff(Effect::GetsFile(0));
    196 flistxattr(fd: FD, list: bytes_out(2), size: SIZE) -> Size .eff(Effect::GetsFile(0));
    199 fremovexattr(fd: FD, name: XATTR) .eff(Effect::InodeWrites(0));
    188 setxattr(path: PATH, name: XATTR, value: bytes_in(3), size: SIZE, flags: flags(&f::XATTR))
        .eff(Effect::PathWrites);
    189 lsetxattr(path: PATH, name: XATTR, value: bytes_in(3), size: SIZE, flags: flags(&f::XATTR))
        .eff(Effect::PathWrites);
    191 getxattr(path: PATH, name: XATTR, value: bytes_out(3), size: SIZE) -> Size
        .eff(Effect::PathReads);
    192 lgetxattr(path: PATH, name: XATTR, value: bytes_out(3), size: SIZE) -> Size
        .eff(Effect::PathReads);
    194 listxattr(path: PATH, list: bytes_out(2), size: SIZE) -> Size .eff(Effect::PathReads);
    195 llistxattr(path: PATH, list: bytes_out(2), size: SIZE) -> Size .eff(Effect::PathReads);
    197 removexattr(path: PATH, name: XATTR) .eff(Effect::PathWrites);
    198 lremovexattr(path: PATH, name: XATTR) .eff(Effect::PathWrites);
    463 setxattrat(dirfd: DIRFD, path: PATH, at_flags: flags(&f::AT), name: XATTR, args: XATTR_SET,
        size: SIZE) .eff(Effect::PathWrites);
    464 getxattrat(dirfd: DIRFD, path: PATH, at_flags: flags(&f::AT), name: XATTR, args: XATTR_GET,
        size: SIZE) -> Size .eff(Effect::PathReads);
    465 listxattrat(dirfd: DIRFD, path: PATH, at_flags: flags(&f::AT), list: bytes_out(4),
        size: SIZE)
        -> Size .eff(Effect::PathReads);
    466 removexattrat(dirfd: DIRFD, path: PATH, at_flags: flags(&f::AT), name: XATTR)
        .eff(Effect::PathWrites);
}
