//! `ioctl(2)`: one row a command. Commands without a row are unknown on purpose: the direction and
//! size in a number say nothing of pointers in the structure, and often not the truth. They are only
//! carried out to see whether the kernel refuses them.

use linux_raw_sys::ioctl as c;

use crate::arg::{Ctx, Field, Len, Out, Shape, Ty};
use crate::call::{Row, Sub};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;
use crate::rows::creds::SOCK_FPROG;

/// Value of a command: the constant of that name, or the one given.
macro_rules! value {
    ($name:ident) => {
        c::$name
    };
    ($name:ident $value:literal) => {
        $value
    };
}

/// `NAME [= number] [& mask]: type of the argument .property();`
macro_rules! ioctls {
    ($table:ident: $(
        $name:ident $(= $value:literal)? $(& $mask:literal)? : $ty:expr $(; -> $ret:ident)?
        $(; . $prop:ident ( $($p:expr),* ))* ,
    )*) => {
        pub(crate) const $table: &[Row] = &[ $(
            ioctl(&[
                crate::arg::Arg { name: "fd", ty: FD },
                crate::arg::Arg { name: "request", ty: HEX },
                crate::arg::Arg { name: "arg", ty: $ty },
            ], command(stringify!($name), value!($name $($value)?), &[$($mask)?]))
            $(.ret(crate::call::Ret::$ret))? $(. $prop($($p),*))*
        ),* ];
    };
}

const fn command(name: &'static str, value: u32, mask: &[u64]) -> Sub {
    let mask = if mask.is_empty() {
        0xffff_ffff
    } else {
        mask[0]
    };
    Sub {
        arg: 1,
        mask,
        value: value as u64,
        and: None,
        name,
    }
}

const fn ioctl(args: &'static [crate::arg::Arg], sub: Sub) -> Row {
    let effect = match &args[2].ty {
        Ty::Ptr(p) if matches!(p.dir, crate::arg::Dir::Out) => Effect::GetsFile(0),
        _ => Effect::SetsFile(0),
    };
    Row::new(16, "ioctl", args).sub(sub).eff(effect)
}

/// Stands for a command without a row, so that it can be tried: what the kernel refuses has no
/// meaning.
pub static UNKNOWN: Row = Row::new(
    16,
    "ioctl",
    &[
        crate::arg::Arg { name: "fd", ty: FD },
        crate::arg::Arg {
            name: "request",
            ty: HEX,
        },
        crate::arg::Arg {
            name: "arg",
            ty: HEX,
        },
    ],
)
.may();

const NONE: Ty = UNUSED;
const IN4: Ty = sin(Shape::I32, 4);
const OUT4: Ty = sout(Shape::I32, 4);
const OUT8: Ty = sout(Shape::U64, 8);
const OUT1: Ty = raw_out(1);
const TERMIOS_IN: Ty = sin(Shape::Termios, 36);
const TERMIOS_OUT: Ty = sout(Shape::Termios, 36);
const TERMIOS2_IN: Ty = sin(Shape::Termios, 44);
const TERMIOS2_OUT: Ty = sout(Shape::Termios, 44);
const PID_IN: Ty = sin(Shape::Pid, 4);
const PID_OUT: Ty = sout(Shape::Pid, 4);

ioctls! { TTY:
    TCGETS: TERMIOS_OUT,
    TCSETS: TERMIOS_IN,
    TCSETSW: TERMIOS_IN; .may(),
    TCSETSF: TERMIOS_IN; .may(),
    TCGETA: raw_out(18),
    TCSETA: raw_in(18),
    TCSETAW: raw_in(18); .may(),
    TCSETAF: raw_in(18); .may(),
    TCGETS2: TERMIOS2_OUT,
    TCSETS2: TERMIOS2_IN,
    TCSETSW2: TERMIOS2_IN; .may(),
    TCSETSF2: TERMIOS2_IN; .may(),
    TCSBRK: INT; .may(),
    TCSBRKP: INT; .may(),
    TCXONC: INT,
    TCFLSH: INT,
    TIOCGLCKTRMIOS: TERMIOS_OUT,
    TIOCSLCKTRMIOS: TERMIOS_IN,
    TIOCEXCL: NONE,
    TIOCNXCL: NONE,
    TIOCGEXCL: OUT4,
    TIOCSCTTY: INT,
    TIOCNOTTY: NONE,
    TIOCGPGRP: PID_OUT,
    TIOCSPGRP: PID_IN,
    TIOCGSID: PID_OUT,
    TIOCOUTQ: OUT4,
    TIOCSTI: raw_in(1),
    TIOCGWINSZ: sout(Shape::Winsize, 8),
    TIOCSWINSZ: sin(Shape::Winsize, 8),
    TIOCMGET: OUT4,
    TIOCMBIS: IN4,
    TIOCMBIC: IN4,
    TIOCMSET: IN4,
    TIOCMIWAIT: HEX; .may(),
    TIOCGICOUNT: raw_out(80),
    TIOCGSOFTCAR: OUT4,
    TIOCSSOFTCAR: IN4,
    TIOCCONS: NONE,
    TIOCGSERIAL: raw_out(72),
    TIOCSSERIAL: raw_in(72),
    TIOCGRS485: raw_out(32),
    TIOCSRS485: raw_inout(32),
    TIOCPKT: IN4,
    TIOCGPKT: OUT4,
    TIOCGPTN: OUT4,
    TIOCSPTLCK: IN4,
    TIOCGPTLCK: OUT4,
    TIOCGPTPEER: flags(&f::OPEN); -> Fd; .eff(Effect::OpensFd),
    TIOCGDEV: OUT4,
    TIOCSIG: SIG,
    TIOCVHANGUP: NONE,
    TIOCGETD: OUT4,
    TIOCSETD: IN4,
    TIOCSBRK: NONE,
    TIOCCBRK: NONE,
    KDGKBTYPE: OUT1,
    KDGKBMODE: OUT4,
    KDSKBMODE: INT,
    KDGETMODE: OUT4,
    KDSETMODE: INT,
    KDGETLED: OUT1,
    KDSETLED: INT,
    KDGKBLED: OUT1,
    KDSKBLED: INT,
    KDGKBMETA: OUT4,
    KDSKBMETA: INT,
    KDGKBENT: raw_inout(4),
    KDSKBENT: raw_in(4),
    KIOCSOUND: INT,
    KDMKTONE: HEX,
    VT_OPENQRY: OUT4,
    VT_GETMODE: raw_out(8),
    VT_SETMODE: raw_in(8),
    VT_GETSTATE: raw_out(6),
    VT_RELDISP: INT,
    VT_ACTIVATE: INT,
    VT_WAITACTIVE: INT; .may(),
    VT_DISALLOCATE: INT,
}

/// `struct fiemap`: a header of 32 bytes and `fm_extent_count` extents of 56.
fn fiemap_len(ctx: &Ctx) -> u64 {
    32 + u64::from(ctx.mem.read_u32(ctx.addr.wrapping_add(24)).unwrap_or(0)) * 56
}

/// `struct file_dedupe_range`: a header of 24 bytes and `dest_count` (16 bits) entries of 32.
fn dedupe_len(ctx: &Ctx) -> u64 {
    let count = ctx.mem.read_u32(ctx.addr.wrapping_add(16)).unwrap_or(0) & 0xffff;
    24 + u64::from(count) * 32
}

/// `struct fsverity_digest`: algorithm, size, digest.
fn verity_len(ctx: &Ctx) -> u64 {
    4 + u64::from(ctx.mem.read_u32(ctx.addr).unwrap_or(0) >> 16)
}

/// `struct pm_scan_arg` of PAGEMAP_SCAN: a vector of regions, 24 bytes each; the result counts
/// them.
const PM_SCAN: &[Field] = &[field(
    40,
    pout(Shape::Opaque, Len::FieldElems(48, 8, 24), Out::RetTimes(24)),
)];
/// `struct procmap_query`: room for the name and the build id, with sizes that are written back.
const PROCMAP: &[Field] = &[
    field(88, pout(Shape::Str, Len::Field(80, 4), Out::Field(80, 4))),
    field(
        96,
        pout(Shape::Opaque, Len::Field(84, 4), Out::Field(84, 4)),
    ),
];

ioctls! { FILES:
    FIONREAD: OUT4,
    FIONBIO: IN4,
    FIOASYNC: IN4,
    FIOCLEX: NONE; .eff(Effect::SetsFdFlags(0)),
    FIONCLEX: NONE; .eff(Effect::SetsFdFlags(0)),
    FIOQSIZE: OUT8,
    FICLONE: FD; .eff(Effect::InodeWrites(0)),
    FICLONERANGE: raw_in(32); .eff(Effect::InodeWrites(0)),
    FS_IOC_RESVSP = 0x4030_5828: raw_in(48); .eff(Effect::InodeWrites(0)),
    FS_IOC_UNRESVSP = 0x4030_5829: raw_in(48); .eff(Effect::InodeWrites(0)),
    FS_IOC_RESVSP64 = 0x4030_582a: raw_in(48); .eff(Effect::InodeWrites(0)),
    FS_IOC_UNRESVSP64 = 0x4030_582b: raw_in(48); .eff(Effect::InodeWrites(0)),
    FS_IOC_ZERO_RANGE = 0x4030_5839: raw_in(48); .eff(Effect::InodeWrites(0)),
    FIDEDUPERANGE: inout(Shape::Opaque, Len::With(dedupe_len), Out::Full),
    FS_IOC_GETFLAGS: OUT4,
    FS_IOC_SETFLAGS: IN4; .eff(Effect::InodeWrites(0)),
    FS_IOC_GETVERSION: OUT4,
    FS_IOC_SETVERSION: IN4; .eff(Effect::InodeWrites(0)),
    FS_IOC_FIEMAP: inout(Shape::Opaque, Len::With(fiemap_len), Out::Always),
    FS_IOC_FSGETXATTR: raw_out(28),
    FS_IOC_FSSETXATTR: raw_in(28); .eff(Effect::InodeWrites(0)),
    FS_IOC_GETFSLABEL: Ty::Ptr(gaps(pout(Shape::Str, Len::Fixed(256), Out::Full))),
    FS_IOC_SETFSLABEL: cstr(256),
    FS_IOC_GETFSUUID = 0x8011_1500: raw_out(17),
    FS_IOC_GETFSSYSFSPATH = 0x8081_1501: raw_out(129),
    FS_IOC_GET_ENCRYPTION_POLICY: raw_out(12),
    FS_IOC_MEASURE_VERITY: inout(Shape::Opaque, Len::With(verity_len), Out::Always),
    FIGETBSZ: OUT4,
    FIBMAP: sinout(Shape::I32, 4),
    FIFREEZE: INT,
    FITHAW: INT,
    FITRIM: raw_inout(24),
    PAGEMAP_SCAN = 0xc060_6610: Ty::Ptr(nest(
        pinout(Shape::Opaque, Len::Fixed(96), Out::Parts(&[(32, 8)])), 0, PM_SCAN)),
    PROCMAP_QUERY = 0xc068_6611: Ty::Ptr(nest(
        pinout(Shape::Opaque, Len::Fixed(104), Out::Parts(&[(24, 64)])), 0, PROCMAP)),
    BLKGETSIZE: OUT8,
    BLKGETSIZE64: OUT8,
    BLKSSZGET: OUT4,
    BLKBSZGET: OUT4,
    BLKBSZSET: IN4,
    BLKROGET: OUT4,
    BLKROSET: IN4,
    BLKRRPART: NONE,
    BLKFLSBUF: NONE,
    BLKRAGET: OUT8,
    BLKRASET: ULONG,
    BLKFRAGET: OUT8,
    BLKFRASET: ULONG,
    BLKSECTGET: raw_out(2),
    BLKIOMIN: OUT4,
    BLKIOOPT: OUT4,
    BLKALIGNOFF: OUT4,
    BLKPBSZGET: OUT4,
    BLKDISCARD: raw_in(16),
    BLKSECDISCARD: raw_in(16),
    BLKZEROOUT: raw_in(16),
    BLKDISCARDZEROES: OUT4,
    BLKROTATIONAL: raw_out(2),
    BLKGETDISKSEQ: OUT8,
    BLKGETZONESZ: OUT4,
    BLKGETNRZONES: OUT4,
    HDIO_GETGEO = 0x301: raw_out(16),
    NS_GET_USERNS: NONE; -> Fd; .eff(Effect::OpensFd),
    NS_GET_PARENT: NONE; -> Fd; .eff(Effect::OpensFd),
    NS_GET_NSTYPE: NONE; -> Hex,
    NS_GET_OWNER_UID: sout(Shape::U32, 4),
    NS_GET_MNTNS_ID = 0x8008_b705: OUT8,
    NS_GET_ID = 0x8008_b70d: OUT8,
    NS_GET_PID_FROM_PIDNS = 0x8004_b706: PID; -> Pid,
    NS_GET_TGID_FROM_PIDNS = 0x8004_b707: PID; -> Pid,
    NS_GET_PID_IN_PIDNS = 0x8004_b708: PID; -> Pid,
    NS_GET_TGID_IN_PIDNS = 0x8004_b709: PID; -> Pid,
    NS_MNT_GET_INFO = 0x8010_b70a: raw_inout(16),
    NS_MNT_GET_NEXT = 0x8010_b70b: raw_inout(16); -> Fd; .eff(Effect::OpensFd),
    NS_MNT_GET_PREV = 0x8010_b70c: raw_inout(16); -> Fd; .eff(Effect::OpensFd),
}

/// `struct ifreq`: read and, for most, written.
const IFREQ: Ty = sinout(Shape::Ifreq, 40);
const IFREQ_IN: Ty = sin(Shape::Ifreq, 40);
/// `struct ifconf`: length, and a pointer to the `ifreq`s.
const IFCONF: &[Field] = &[field(
    8,
    pout(Shape::Opaque, Len::Field(0, 4), Out::Field(0, 4)),
)];
/// `struct rtentry`: the name of a device behind a pointer.
const ROUTE: Ty = Ty::Ptr(nest(
    pin(Shape::Opaque, Len::Fixed(120)),
    0,
    &[field(88, pin(Shape::Str, Len::Str(16)))],
));

/// What the pointer of SIOCETHTOOL leads to begins with a command, which the structure depends on:
/// as much as the longest may have.
fn ethtool_len(ctx: &Ctx) -> u64 {
    let word = |off| {
        let at = ctx.addr.wrapping_add(off);
        u64::from(ctx.mem.read_u32(at).unwrap_or(0))
    };
    match word(0) {
        // GSET, SSET
        1 | 2 => 44,
        // GDRVINFO
        3 => 196,
        // GREGS
        4 => 12 + word(8).min(1 << 20),
        // GMSGLVL, SMSGLVL, GLINK, GRXCSUM... SFLAGS: a value
        7 | 8 | 0xa | 0x14..=0x19 | 0x1e | 0x1f | 0x21..=0x28 | 0x2b | 0x2c => 8,
        _ => ctx.mem.readable(ctx.addr, 1 << 16),
    }
}

const ETHTOOL: Ty = Ty::Ptr(nest(
    // The name: what follows is the pointer, which is the program's.
    pinout(Shape::Ifreq, Len::Fixed(40), Out::Parts(&[(0, 16)])),
    0,
    &[field(
        16,
        pinout(Shape::Opaque, Len::With(ethtool_len), Out::Full),
    )],
));

ioctls! { SOCKETS:
    FIOSETOWN: PID_IN,
    SIOCSPGRP: PID_IN,
    FIOGETOWN: PID_OUT,
    SIOCGPGRP: PID_OUT,
    SIOCATMARK: OUT4,
    SIOCGSTAMP_OLD = 0x8906: sout(Shape::Timeval, 16),
    SIOCGSTAMPNS_OLD = 0x8907: sout(Shape::Timespec, 16),
    SIOCGSTAMP_NEW = 0x8010_8906: sout(Shape::Timeval, 16),
    SIOCGSTAMPNS_NEW = 0x8010_8907: sout(Shape::Timespec, 16),
    SIOCOUTQNSD = 0x894b: OUT4,
    SIOCGSKNS = 0x894c: NONE; -> Fd; .eff(Effect::OpensFd),
    SIOCUNIXFILE = 0x89e0: NONE; -> Fd; .eff(Effect::OpensFd),
    SIOCADDRT: ROUTE,
    SIOCDELRT: ROUTE,
    SIOCETHTOOL = 0x8946: ETHTOOL,
    SIOCBRADDBR = 0x89a0: raw_in(16),
    SIOCBRDELBR = 0x89a1: raw_in(16),
    SIOCBRADDIF = 0x89a2: IFREQ_IN,
    SIOCBRDELIF = 0x89a3: IFREQ_IN,
    SIOCGIFNAME: IFREQ,
    SIOCGIFCONF: Ty::Ptr(nest(
        pinout(Shape::Opaque, Len::Fixed(16), Out::Parts(&[(0, 4)])), 0, IFCONF)),
    SIOCGIFFLAGS: IFREQ,
    SIOCSIFFLAGS: IFREQ_IN,
    SIOCGIFADDR: IFREQ,
    SIOCSIFADDR: IFREQ_IN,
    SIOCGIFDSTADDR: IFREQ,
    SIOCSIFDSTADDR: IFREQ_IN,
    SIOCGIFBRDADDR: IFREQ,
    SIOCSIFBRDADDR: IFREQ_IN,
    SIOCGIFNETMASK: IFREQ,
    SIOCSIFNETMASK: IFREQ_IN,
    SIOCGIFMETRIC: IFREQ,
    SIOCSIFMETRIC: IFREQ_IN,
    SIOCGIFMTU: IFREQ,
    SIOCSIFMTU: IFREQ_IN,
    SIOCSIFNAME: IFREQ_IN,
    SIOCGIFHWADDR: IFREQ,
    SIOCSIFHWADDR: IFREQ_IN,
    SIOCGIFMAP: IFREQ,
    SIOCADDMULTI: IFREQ_IN,
    SIOCDELMULTI: IFREQ_IN,
    SIOCGIFINDEX: IFREQ,
    SIOCGIFPFLAGS: IFREQ,
    SIOCGIFCOUNT: IFREQ,
    SIOCGIFTXQLEN: IFREQ,
    SIOCSIFTXQLEN: IFREQ_IN,
    SIOCGARP: raw_inout(68),
    SIOCSARP: raw_in(68),
    SIOCDARP: raw_in(68),
    TUNSETIFF: IFREQ,
    TUNGETIFF: IFREQ,
    TUNGETFEATURES: OUT4,
    TUNATTACHFILTER = 0x4010_54d5: SOCK_FPROG,
    TUNDETACHFILTER = 0x4010_54d6: NONE,
    TUNGETFILTER = 0x8010_54db: raw_out(16),
    TUNSETLINK = 0x4004_54cd: INT,
    TUNSETQUEUE = 0x4004_54d9: IFREQ_IN,
    TUNSETIFINDEX = 0x4004_54da: IN4,
    TUNSETVNETLE = 0x4004_54dc: IN4,
    TUNGETVNETLE = 0x8004_54dd: OUT4,
    TUNSETVNETBE = 0x4004_54de: IN4,
    TUNGETVNETBE = 0x8004_54df: OUT4,
    TUNSETCARRIER = 0x4004_54e2: IN4,
    TUNSETPERSIST: INT,
    TUNSETOWNER: ID,
    TUNSETGROUP: ID,
    TUNSETOFFLOAD: HEX,
    TUNGETSNDBUF: OUT4,
    TUNSETSNDBUF: IN4,
    TUNGETVNETHDRSZ: OUT4,
    TUNSETVNETHDRSZ: IN4,
}

/// Bytes that the number of the command says.
fn ioc_size(ctx: &Ctx) -> u64 {
    ctx.call.args[1] >> 16 & 0x3fff
}

/// An output whose size is in the number of the command; the result says how much was written
/// (evdev).
const SIZED: Ty = output(Shape::Opaque, Len::With(ioc_size), Out::Ret);

/// `struct rand_pool_info`: entropy, size, data.
fn rand_pool_len(ctx: &Ctx) -> u64 {
    8 + u64::from(ctx.mem.read_u32(ctx.addr.wrapping_add(4)).unwrap_or(0))
}

ioctls! { DEVICES:
    RNDGETENTCNT: OUT4,
    RNDADDTOENTCNT: IN4,
    RNDADDENTROPY: input(Shape::Opaque, Len::With(rand_pool_len)),
    RNDZAPENTCNT: NONE,
    RNDCLEARPOOL: NONE,
    RNDRESEEDCRNG: NONE,
    RTC_AIE_ON: NONE,
    RTC_AIE_OFF: NONE,
    RTC_UIE_ON: NONE,
    RTC_UIE_OFF: NONE,
    RTC_PIE_ON: NONE,
    RTC_PIE_OFF: NONE,
    RTC_WIE_ON: NONE,
    RTC_WIE_OFF: NONE,
    RTC_RD_TIME: raw_out(36),
    RTC_SET_TIME: raw_in(36),
    RTC_ALM_READ: raw_out(36),
    RTC_ALM_SET: raw_in(36),
    RTC_IRQP_READ: OUT8,
    RTC_IRQP_SET: ULONG,
    RTC_EPOCH_READ: OUT8,
    RTC_EPOCH_SET: ULONG,
    RTC_WKALM_RD: raw_out(40),
    RTC_WKALM_SET: raw_in(40),
    RTC_VL_READ: OUT4,
    RTC_VL_CLR: NONE,
    TFD_IOC_SET_TICKS = 0x4008_5400: raw_in(8),
    EPIOCSPARAMS = 0x4008_8a01: raw_in(8),
    EPIOCGPARAMS = 0x8008_8a02: raw_out(8),
    INOTIFY_IOC_SETNEXTWD = 0x4004_4900: INT,
    LOOP_SET_FD = 0x4c00: FD,
    LOOP_CLR_FD = 0x4c01: NONE,
    LOOP_SET_STATUS = 0x4c02: raw_in(168),
    LOOP_GET_STATUS = 0x4c03: raw_out(168),
    LOOP_SET_STATUS64 = 0x4c04: raw_in(232),
    LOOP_GET_STATUS64 = 0x4c05: raw_out(232),
    LOOP_CHANGE_FD = 0x4c06: FD,
    LOOP_SET_CAPACITY = 0x4c07: NONE,
    LOOP_SET_DIRECT_IO = 0x4c08: ULONG,
    LOOP_SET_BLOCK_SIZE = 0x4c09: ULONG,
    LOOP_CONFIGURE = 0x4c0a: raw_in(304),
    LOOP_CTL_ADD = 0x4c80: INT,
    LOOP_CTL_REMOVE = 0x4c81: INT,
    LOOP_CTL_GET_FREE = 0x4c82: NONE,
    IOCTL_VM_SOCKETS_GET_LOCAL_CID = 0x7b9: sout(Shape::U32, 4),
    FUSE_DEV_IOC_CLONE = 0x8004_e500: IN4,
    SECCOMP_IOCTL_NOTIF_RECV = 0xc050_2100: raw_inout(80); .may(),
    SECCOMP_IOCTL_NOTIF_SEND = 0xc018_2101: raw_inout(24),
    SECCOMP_IOCTL_NOTIF_ID_VALID = 0x4008_2102: raw_in(8),
    SECCOMP_IOCTL_NOTIF_ADDFD = 0x4018_2103: raw_in(24),
    USERFAULTFD_IOC_NEW = 0xaa00: HEX; .refuse(f::ENOTTY),
    PIDFD_GET_CGROUP_NAMESPACE = 0xff01: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_IPC_NAMESPACE = 0xff02: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_MNT_NAMESPACE = 0xff03: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_NET_NAMESPACE = 0xff04: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_PID_NAMESPACE = 0xff05: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE = 0xff06: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_TIME_NAMESPACE = 0xff07: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE = 0xff08: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_USER_NAMESPACE = 0xff09: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_UTS_NAMESPACE = 0xff0a: NONE; -> Fd; .eff(Effect::OpensFd),
    PIDFD_GET_INFO = 0xc000_ff0b & 0xc000_ffff:
        inout(Shape::Opaque, Len::With(ioc_size), Out::Full),
    EVIOCGVERSION = 0x8004_4501: OUT4,
    EVIOCGID = 0x8008_4502: raw_out(8),
    EVIOCGREP = 0x8008_4503: raw_out(8),
    EVIOCSREP = 0x4008_4503: raw_in(8),
    EVIOCGNAME = 0x8000_4506 & 0xc000_ffff: SIZED,
    EVIOCGPHYS = 0x8000_4507 & 0xc000_ffff: SIZED,
    EVIOCGUNIQ = 0x8000_4508 & 0xc000_ffff: SIZED,
    EVIOCGPROP = 0x8000_4509 & 0xc000_ffff: SIZED,
    EVIOCGKEY = 0x8000_4518 & 0xc000_ffff: SIZED,
    EVIOCGLED = 0x8000_4519 & 0xc000_ffff: SIZED,
    EVIOCGSND = 0x8000_451a & 0xc000_ffff: SIZED,
    EVIOCGSW = 0x8000_451b & 0xc000_ffff: SIZED,
    EVIOCGBIT = 0x8000_4520 & 0xc000_ffe0: SIZED,
    EVIOCGABS = 0x8018_4540 & 0xffff_ffc0: raw_out(24),
    EVIOCGRAB = 0x4004_4590: INT,
    EVIOCREVOKE = 0x4004_4591: INT,
    EVIOCSCLOCKID = 0x4004_45a0: IN4,
}
