//! Calls that look up a path.

use crate::arg::{Ctx, Len, Out, Shape, Ty};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// `struct file_handle`: its first word says how much room follows the eight bytes of the header.
fn handle_len(ctx: &Ctx) -> u64 {
    // More than MAX_HANDLE_SZ is refused before anything is written (fs/fhandle.c).
    ctx.mem
        .read_u32(ctx.addr)
        .filter(|&n| n <= 128)
        .map_or(4, |n| 8 + u64::from(n))
}

/// The mount id of `name_to_handle_at`: wide with `AT_HANDLE_MNT_ID_UNIQUE`.
fn mount_id_len(ctx: &Ctx) -> u64 {
    if ctx.call.args[4] & 1 != 0 { 8 } else { 4 }
}

const HANDLE: Ty = inout(Shape::Opaque, Len::With(handle_len), Out::Always);

rows! { ROWS:
    2 open(path: PATH, flags: flags(&f::OPEN), mode: MODE) -> Fd
        .may() .eff(Effect::OpensPath { dir: None, path: 0 });
    85 creat(path: PATH, mode: MODE) -> Fd .may() .eff(Effect::OpensPath { dir: None, path: 0 });
    257 openat(dirfd: DIRFD, path: PATH, flags: flags(&f::OPEN), mode: MODE) -> Fd
        .may() .eff(Effect::OpensPath { dir: Some(0), path: 1 });
    437 openat2(dirfd: DIRFD, path: PATH, how: input(Shape::OpenHow, Len::Small(3)),
        size: SIZE) -> Fd
        .may() .eff(Effect::OpensPath { dir: Some(0), path: 1 });
    303 name_to_handle_at(dirfd: DIRFD, path: PATH, handle: HANDLE,
        mount_id: Ty::Ptr(gaps(pout(Shape::U32, Len::With(mount_id_len), Out::Always))),
        flags: flags(&f::AT))
        .eff(Effect::PathReads);
    304 open_by_handle_at(mount_fd: DIRFD, handle: input(Shape::Opaque, Len::With(handle_len)),
        flags: flags(&f::OPEN)) -> Fd .may() .eff(Effect::OpensFd);

    4 stat(path: PATH, statbuf: sout(Shape::Stat, 144)) .eff(Effect::PathReads);
    6 lstat(path: PATH, statbuf: sout(Shape::Stat, 144)) .eff(Effect::PathReads);
    262 newfstatat(dirfd: DIRFD, path: PATH, statbuf: sout(Shape::Stat, 144), flags: flags(&f::AT))
        .eff(Effect::PathReads);
    332 statx(dirfd: DIRFD, path: PATH, flags: flags(&f::AT), mask: flags(&f::STATX),
        statxbuf: sout(Shape::Statx, 256)) .eff(Effect::PathReads);
    137 statfs(path: PATH, buf: sout(Shape::Statfs, 120)) .eff(Effect::PathReads);
    21 access(path: PATH, mode: flags(&f::ACCESS)) .eff(Effect::PathReads);
    269 faccessat(dirfd: DIRFD, path: PATH, mode: flags(&f::ACCESS)) .eff(Effect::PathReads);
    439 faccessat2(dirfd: DIRFD, path: PATH, mode: flags(&f::ACCESS), flags: flags(&f::AT))
        .eff(Effect::PathReads);
    89 readlink(path: PATH, buf: output(Shape::Bytes, Len::Arg32(2), Out::Ret), bufsiz: INT) -> Size
        .eff(Effect::PathReads);
    267 readlinkat(dirfd: DIRFD, path: PATH, buf: output(Shape::Bytes, Len::Arg32(3), Out::Ret),
        bufsiz: INT) -> Size .eff(Effect::PathReads);
    // Returns the length of the string with its NUL, unlike the library's function.
    79 getcwd(buf: output(Shape::Str, Len::Arg(1), Out::Ret), size: SIZE) -> Size
        .eff(Effect::PathReads);
    468 file_getattr(dirfd: DIRFD, path: PATH, attr: output(Shape::Opaque, Len::Small(3),
        Out::Full),
        size: SIZE, flags: flags(&f::AT)) .eff(Effect::PathReads);
    469 file_setattr(dirfd: DIRFD, path: PATH, attr: input(Shape::Opaque, Len::Small(3)),
        size: SIZE,
        flags: flags(&f::AT)) .eff(Effect::PathWrites);

    76 truncate(path: PATH, length: OFF) .eff(Effect::ChangesNames(&[(None, 0)]));
    82 rename(oldpath: PATH, newpath: PATH) .eff(Effect::ChangesNames(&[(None, 0), (None, 1)]));
    264 renameat(olddirfd: DIRFD, oldpath: PATH, newdirfd: DIRFD, newpath: PATH)
        .eff(Effect::ChangesNames(&[(Some(0), 1), (Some(2), 3)]));
    316 renameat2(olddirfd: DIRFD, oldpath: PATH, newdirfd: DIRFD, newpath: PATH,
        flags: flags(&f::RENAME)) .eff(Effect::ChangesNames(&[(Some(0), 1), (Some(2), 3)]));
    83 mkdir(path: PATH, mode: MODE) .eff(Effect::ChangesNames(&[(None, 0)]));
    258 mkdirat(dirfd: DIRFD, path: PATH, mode: MODE) .eff(Effect::ChangesNames(&[(Some(0), 1)]));
    84 rmdir(path: PATH) .eff(Effect::ChangesNames(&[(None, 0)]));
    86 link(oldpath: PATH, newpath: PATH) .eff(Effect::ChangesNames(&[(None, 1)]));
    265 linkat(olddirfd: DIRFD, oldpath: PATH, newdirfd: DIRFD, newpath: PATH, flags: flags(&f::AT))
        .eff(Effect::ChangesNames(&[(Some(2), 3)]));
    87 unlink(path: PATH) .eff(Effect::ChangesNames(&[(None, 0)]));
    263 unlinkat(dirfd: DIRFD, path: PATH, flags: flags(&f::UNLINK_AT)) .eff(Effect::ChangesNames(&[(Some(0), 1)]));
    88 symlink(target: PATH, linkpath: PATH) .eff(Effect::ChangesNames(&[(None, 1)]));
    266 symlinkat(target: PATH, newdirfd: DIRFD, linkpath: PATH) .eff(Effect::ChangesNames(&[(Some(1), 2)]));
    90 chmod(path: PATH, mode: MODE) .eff(Effect::PathWrites);
    268 fchmodat(dirfd: DIRFD, path: PATH, mode: MODE) .eff(Effect::PathWrites);
    452 fchmodat2(dirfd: DIRFD, path: PATH, mode: MODE, flags: flags(&f::AT))
        .eff(Effect::PathWrites);
    92 chown(path: PATH, owner: ID, group: ID) .eff(Effect::PathWrites);
    94 lchown(path: PATH, owner: ID, group: ID) .eff(Effect::PathWrites);
    260 fchownat(dirfd: DIRFD, path: PATH, owner: ID, group: ID, flags: flags(&f::AT))
        .eff(Effect::PathWrites);
    133 mknod(path: PATH, mode: flags(&f::FILE_MODE), dev: DEV) .eff(Effect::ChangesNames(&[(None, 0)]));
    259 mknodat(dirfd: DIRFD, path: PATH, mode: flags(&f::FILE_MODE), dev: DEV)
        .eff(Effect::ChangesNames(&[(Some(0), 1)]));
    132 utime(path: PATH, times: raw_in(16)) .eff(Effect::PathWrites);
    235 utimes(path: PATH, times: sin(Shape::Timeval2, 32)) .eff(Effect::PathWrites);
    261 futimesat(dirfd: DIRFD, path: PATH, times: sin(Shape::Timeval2, 32))
        .eff(Effect::PathWrites);
    280 utimensat(dirfd: DIRFD, path: PATH, times: sin(Shape::Timespec2, 32), flags: flags(&f::AT))
        .eff(Effect::PathWrites);

    80 chdir(path: PATH) .eff(Effect::Chdir);
    161 chroot(path: PATH) .eff(Effect::Mounts);
    95 umask(mask: MODE) -> Mode .eff(Effect::Umask);
}
