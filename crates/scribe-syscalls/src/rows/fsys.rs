//! Mounts, file systems, quotas.

use crate::arg::{Ctx, Len, Out, OutCtx, Shape, Ty};
use crate::call::Sub;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const MNT: Effect = Effect::Mounts;

/// Structures that begin with their size (`struct mnt_id_req`).
fn own_size(ctx: &Ctx) -> u64 {
    ctx.mem
        .read_u32(ctx.addr)
        .unwrap_or(0)
        .clamp(4, 4096)
        .into()
}

/// `struct statmount` begins with the size that was written, strings included.
fn statmount_size(ctx: &mut OutCtx) -> u64 {
    let mut size = [0; 4];
    if (ctx.read)(0, &mut size) {
        u32::from_le_bytes(size).into()
    } else {
        0
    }
}

const fn fsc(cmd: u32, name: &'static str) -> Sub {
    sub32(1, cmd, name)
}

/// A command of `quotactl`: the type of quota is in its low byte.
const fn quota(arg: u8, cmd: u32, name: &'static str) -> Sub {
    Sub {
        arg,
        mask: 0xffff_ff00,
        value: (cmd as u64) << 8,
        and: None,
        name,
    }
}

const SREQ: Ty = input(Shape::Opaque, Len::With(own_size));
const KEY: Ty = cstr(256);

rows! { MOUNTS:
    165 mount(source: cstr(PATH_MAX), target: PATH, fstype: cstr(PATH_MAX), flags: flags(&f::MS),
        data: input(Shape::Opaque, Len::Readable(4096))) .eff(MNT);
    166 umount2(target: PATH, flags: flags(&f::UMOUNT)) .eff(MNT);
    155 pivot_root(new_root: PATH, put_old: PATH) .eff(MNT);
    428 open_tree(dirfd: DIRFD, path: PATH, flags: HEX) -> Fd .eff(Effect::OpensFd);
    467 open_tree_attr(dirfd: DIRFD, path: PATH, flags: HEX, attr: input(Shape::Opaque,
        Len::Small(4)),
        size: SIZE) -> Fd .eff(Effect::OpensFd);
    429 move_mount(from_dirfd: DIRFD, from_path: PATH, to_dirfd: DIRFD, to_path: PATH, flags: HEX)
        .eff(MNT);
    442 mount_setattr(dirfd: DIRFD, path: PATH, flags: flags(&f::AT),
        attr: input(Shape::Opaque, Len::Small(4)), size: SIZE) .eff(MNT);
    430 fsopen(fsname: cstr(PATH_MAX), flags: HEX) -> Fd .eff(Effect::OpensFd);
    433 fspick(dirfd: DIRFD, path: PATH, flags: HEX) -> Fd .eff(Effect::OpensFd);
    432 fsmount(fs_fd: FD, flags: HEX, attr_flags: HEX) -> Fd .eff(Effect::OpensFd);
    431 fsconfig[fsc(0, "FSCONFIG_SET_FLAG")](fd: FD, cmd: UINT, key: KEY) .eff(MNT);
    431 fsconfig[fsc(1, "FSCONFIG_SET_STRING")](fd: FD, cmd: UINT, key: KEY, value: KEY) .eff(MNT);
    431 fsconfig[fsc(2, "FSCONFIG_SET_BINARY")](fd: FD, cmd: UINT, key: KEY,
        value: input(Shape::Bytes, Len::Arg32(4)), aux: INT) .eff(MNT);
    431 fsconfig[fsc(3, "FSCONFIG_SET_PATH")](fd: FD, cmd: UINT, key: KEY, value: PATH, aux: DIRFD)
        .eff(MNT);
    431 fsconfig[fsc(4, "FSCONFIG_SET_PATH_EMPTY")](fd: FD, cmd: UINT, key: KEY, value: PATH,
        aux: DIRFD)
        .eff(MNT);
    431 fsconfig[fsc(5, "FSCONFIG_SET_FD")](fd: FD, cmd: UINT, key: KEY, value: UNUSED, aux: FD)
        .eff(MNT);
    431 fsconfig[fsc(6, "FSCONFIG_CMD_CREATE")](fd: FD, cmd: UINT) .eff(MNT);
    431 fsconfig[fsc(7, "FSCONFIG_CMD_RECONFIGURE")](fd: FD, cmd: UINT) .eff(MNT);
    431 fsconfig[fsc(8, "FSCONFIG_CMD_CREATE_EXCL")](fd: FD, cmd: UINT) .eff(MNT);
    431 fsconfig(fd: FD, cmd: UINT, key: ADDR, value: ADDR, aux: INT) .refuse(f::EOPNOTSUPP)
        .eff(MNT);
    457 statmount(req: SREQ, buf: output(Shape::Opaque, Len::Arg(2), Out::With(statmount_size)),
        bufsize: SIZE, flags: HEX) .eff(Effect::PathReads);
    458 listmount(req: SREQ, ids: output(Shape::U64s, Len::Elems(2, 8), Out::RetTimes(8)),
        nr_ids: SIZE,
        flags: HEX) .eff(Effect::PathReads);
}

/// `quotactl` and `quotactl_fd` take the same commands, in different arguments.
macro_rules! quotas {
    ($($cmd:literal $name:ident: $addr:expr;)*) => {
        rows! { QUOTAS:
            $(
                179 quotactl[quota(0, $cmd, stringify!($name))](cmd: HEX, special: PATH, id: ID,
                    addr: $addr) .eff(MNT);
                443 quotactl_fd[quota(1, $cmd, stringify!($name))](fd: FD, cmd: HEX, id: ID,
                    addr: $addr)
                    .eff(MNT);
            )*
            179 quotactl(cmd: HEX, special: PATH, id: ID, addr: ADDR) .refuse(f::EINVAL) .eff(MNT);
            443 quotactl_fd(fd: FD, cmd: HEX, id: ID, addr: ADDR) .refuse(f::EINVAL) .eff(MNT);
        }
    };
}

quotas! {
    0x80_0001 Q_SYNC: UNUSED;
    0x80_0002 Q_QUOTAON: PATH;
    0x80_0003 Q_QUOTAOFF: UNUSED;
    0x80_0004 Q_GETFMT: sout(Shape::U32, 4);
    0x80_0005 Q_GETINFO: raw_out(24);
    0x80_0006 Q_SETINFO: raw_in(24);
    0x80_0007 Q_GETQUOTA: raw_out(72);
    0x80_0008 Q_SETQUOTA: raw_in(72);
    0x80_0009 Q_GETNEXTQUOTA: raw_out(72);
    0x5801 Q_XQUOTAON: raw_in(4);
    0x5802 Q_XQUOTAOFF: raw_in(4);
    0x5803 Q_XGETQUOTA: raw_out(112);
    0x5804 Q_XSETQLIM: raw_in(112);
    0x5805 Q_XGETQSTAT: raw_out(80);
    0x5806 Q_XQUOTARM: raw_in(4);
    0x5807 Q_XQUOTASYNC: UNUSED;
    0x5808 Q_XGETQSTATV: raw_inout(160);
    0x5809 Q_XGETNEXTQUOTA: raw_out(112);
}
