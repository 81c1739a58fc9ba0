//! The system as a whole, and calls that no longer exist.

use crate::arg::{Ctx, Field, Len, Out, Shape, Ty};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const SYS: Effect = Effect::System;

/// `syslog` writes for SYSLOG_ACTION_READ, READ_ALL and READ_CLEAR.
fn syslog_len(ctx: &Ctx) -> u64 {
    if matches!(ctx.call.args[0] as i32, 2..=4) {
        (ctx.call.args[2] as i32).max(0) as u64
    } else {
        0
    }
}

/// The string of `reboot` counts for LINUX_REBOOT_CMD_RESTART2.
fn reboot_len(ctx: &Ctx) -> u64 {
    if ctx.call.args[2] as u32 == 0xa1b2_c3d4 {
        ctx.mem.readable(ctx.addr, 256)
    } else {
        0
    }
}

/// `struct kexec_segment`: source, its size, destination, its size.
const SEGMENTS: &[Field] = &[field(0, pin(Shape::Opaque, Len::Field(8, 8)))];
/// Parameters of a module.
const PARAMS: Ty = cstr(1 << 20);

rows! { ROWS:
    63 uname(buf: sout(Shape::Utsname, 390)) .eff(SYS);
    99 sysinfo(info: sout(Shape::Sysinfo, 112)) .eff(SYS);
    318 getrandom(buf: bytes_out(1), buflen: SIZE, flags: flags(&f::GRND)) -> Size .eff(SYS);
    103 syslog(kind: INT, buf: output(Shape::Bytes, Len::With(syslog_len), Out::Ret), len: INT)
        .may() .eff(SYS);
    170 sethostname(name: input(Shape::Bytes, Len::Arg32(1)), len: INT) .eff(SYS);
    171 setdomainname(name: input(Shape::Bytes, Len::Arg32(1)), len: INT) .eff(SYS);
    169 reboot(magic: HEX, magic2: HEX, cmd: HEX, arg: input(Shape::Str, Len::With(reboot_len)))
        .eff(SYS);
    167 swapon(path: PATH, swapflags: HEX) .eff(SYS);
    168 swapoff(path: PATH) .eff(SYS);
    172 iopl(level: INT) .refuse(f::EPERM) .eff(SYS);
    173 ioperm(from: ULONG, num: ULONG, turn_on: INT) .refuse(f::EPERM) .eff(SYS);
    175 init_module(image: bytes_in(1), len: SIZE, params: PARAMS) .eff(SYS);
    313 finit_module(fd: FD, params: PARAMS, flags: HEX) .eff(SYS);
    176 delete_module(name: cstr(64), flags: flags(&f::OPEN_ONLY)) .eff(SYS);
    246 kexec_load(entry: ADDR, nr_segments: ULONG,
        segments: Ty::Ptr(nest(pin(Shape::Opaque, Len::Elems(1, 32)), 32, SEGMENTS)), flags: HEX)
        .eff(SYS);
    320 kexec_file_load(kernel_fd: FD, initrd_fd: FD, cmdline_len: SIZE, cmdline: bytes_in(2),
        flags: HEX)
        .eff(SYS);
    153 vhangup() .eff(SYS);
    139 sysfs[sub32(0, 1, "1")](option: INT, fsname: PATH) .eff(SYS);
    139 sysfs[sub32(0, 2, "2")](option: INT, fs_index: UINT,
        buf: Ty::Ptr(in_place(gaps(pout(Shape::Str, Len::Readable(256), Out::Full))))) .eff(SYS);
    139 sysfs[sub32(0, 3, "3")](option: INT) .eff(SYS);
    139 sysfs(option: INT) .refuse(f::EINVAL) .eff(SYS);
    136 ustat(dev: DEV, ubuf: raw_out(32)) .eff(SYS);
    134 uselib(library: PATH) .refuse(f::ENOSYS) .eff(Effect::Mm);

    // Answered with ENOSYS by every kernel of today, or of use to the kernel's own trampolines
    // only.
    156 _sysctl(args: ADDR) .refuse(f::ENOSYS);
    174 create_module() .refuse(f::ENOSYS);
    177 get_kernel_syms() .refuse(f::ENOSYS);
    178 query_module() .refuse(f::ENOSYS);
    180 nfsservctl() .refuse(f::ENOSYS);
    181 getpmsg() .refuse(f::ENOSYS);
    182 putpmsg() .refuse(f::ENOSYS);
    183 afs_syscall() .refuse(f::ENOSYS);
    184 tuxcall() .refuse(f::ENOSYS);
    185 security() .refuse(f::ENOSYS);
    212 lookup_dcookie(cookie: HEX, buffer: ADDR, len: SIZE) .refuse(f::ENOSYS);
    236 vserver() .refuse(f::ENOSYS);
    335 uretprobe() .refuse(f::ENOSYS);
    336 uprobe() .refuse(f::ENOSYS);
}
