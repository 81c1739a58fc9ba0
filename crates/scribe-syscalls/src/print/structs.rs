//! Structures of the kernel: files, time, processes, signals, polling. Offsets are those of x86-64
//! (include/uapi/asm-generic, arch/x86/include/uapi/asm).

use std::fmt::Write;

use super::Printer;
use crate::arg::Shape;
use crate::flags as f;

/// Bytes of a structure that was read whole.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Raw {
    fn get(&self, off: usize, width: usize) -> u64 {
        let mut b = [0; 8];
        if let Some(from) = self.0.get(off..off + width) {
            b[..width].copy_from_slice(from);
        }
        u64::from_le_bytes(b)
    }

    pub(super) fn u16(&self, off: usize) -> u64 {
        self.get(off, 2)
    }

    pub(super) fn u32(&self, off: usize) -> u64 {
        self.get(off, 4)
    }

    pub(super) fn i32(&self, off: usize) -> i32 {
        self.get(off, 4) as i32
    }

    pub(super) fn u64(&self, off: usize) -> u64 {
        self.get(off, 8)
    }

    pub(super) fn i64(&self, off: usize) -> i64 {
        self.get(off, 8) as i64
    }
}

macro_rules! emit {
    ($p:expr, $($arg:tt)*) => {{ let _ = write!($p.out, $($arg)*); }};
}
pub(super) use emit;

impl Printer<'_> {
    /// Prints what lies at `addr`; false if it cannot be read or is not known.
    pub(super) fn shape(&mut self, shape: Shape, addr: u64, len: u64, index: usize) -> bool {
        use Shape::*;
        match shape {
            Opaque => return false,
            Bytes => return self.data(addr, len),
            Str => return self.cstr(addr, len, true),
            Path => return self.cstr(addr, len, false),
            Strs => return self.strs(addr, len, index),
            Iovec => return self.iovec(addr, len, index),
            Msghdr => return self.msghdr(addr, index, 0),
            Mmsghdr => return self.mmsghdr(addr, len, index),
            FdSet => return self.fd_set(addr, len),
            Dirent64 => return self.dirents(addr, len),
            Sockaddr => return self.sockaddr(addr, len),
            Sockopt => return self.sockopt(addr, len),
            _ => {}
        }
        if let Some((size, signed)) = integer(shape) {
            return self.integers(shape, addr, len, size, signed);
        }
        // Prefixes are enough: fields that are missing read as 0.
        let Some(raw) = self.read(addr, len.min(4096)).map(Raw) else {
            return false;
        };
        match shape {
            Timespec => self.timespec(&raw, 0),
            Timeval => self.timeval(&raw, 0),
            Timespec2 => self.pair(&raw, Self::utime),
            Timeval2 => self.pair(&raw, Self::timeval),
            Itimerspec => self.interval(&raw, Self::timespec),
            Itimerval => self.interval(&raw, Self::timeval),
            Timezone => emit!(
                self,
                "{{tz_minuteswest={}, tz_dsttime={}}}",
                raw.i32(0),
                raw.i32(4)
            ),
            Timex => emit!(
                self,
                "{{modes={:#x}, offset={}, ...}}",
                raw.u32(0),
                raw.i64(8)
            ),
            Stat => self.stat(&raw),
            Statx => self.statx(&raw),
            Statfs => emit!(
                self,
                "{{f_type={:#x}, f_bsize={}, f_blocks={}, f_bfree={}, ...}}",
                raw.u64(0),
                raw.u64(8),
                raw.u64(16),
                raw.u64(24)
            ),
            Pollfd => return self.pollfds(&raw, len),
            EpollEvent => return self.epoll_events(&raw, len),
            Sigset => self.sigset(raw.u64(0)),
            SigsetPair => return self.sigset_pair(addr, index),
            Sigaction => self.sigaction(&raw),
            Siginfo => self.siginfo(&raw),
            Sigevent => self.sigevent(&raw),
            StackT => self.stack_t(&raw),
            WaitStatus => self.wait_status(raw.u32(0) as u32),
            Rlimit => self.rlimit(&raw),
            Rusage => {
                self.put("{ru_utime=");
                self.timeval(&raw, 0);
                self.put(", ru_stime=");
                self.timeval(&raw, 16);
                self.put(", ...}");
            }
            Termios => self.termios(&raw),
            Winsize => emit!(
                self,
                "{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}",
                raw.u16(0),
                raw.u16(2),
                raw.u16(4),
                raw.u16(6)
            ),
            Utsname => self.utsname(&raw),
            Sysinfo => emit!(
                self,
                "{{uptime={}, loads=[{}, {}, {}], totalram={}, freeram={}, ...}}",
                raw.i64(0),
                raw.u64(8),
                raw.u64(16),
                raw.u64(24),
                raw.u64(32),
                raw.u64(40)
            ),
            Flock => self.flock(&raw),
            FOwnerEx => emit!(self, "{{type={}, pid={}}}", raw.i32(0), raw.i32(4)),
            OpenHow => self.open_how(&raw),
            CloneArgs => self.clone_args(&raw),
            SchedParam => emit!(self, "[{}]", raw.i32(0)),
            CapHeader => emit!(self, "{{version={:#x}, pid={}}}", raw.u32(0), raw.i32(4)),
            CapData => emit!(
                self,
                "{{effective={:#x}, permitted={:#x}, inheritable={:#x}}}",
                raw.u32(0),
                raw.u32(4),
                raw.u32(8)
            ),
            Sembuf => return self.sembufs(&raw, len),
            Tms => emit!(
                self,
                "{{tms_utime={}, tms_stime={}, tms_cutime={}, tms_cstime={}}}",
                raw.i64(0),
                raw.i64(8),
                raw.i64(16),
                raw.i64(24)
            ),
            Ifreq => {
                self.put("{ifr_name=");
                self.fixed_str(&raw.0[..raw.0.len().min(16)]);
                self.put(", ...}");
            }
            _ => return false,
        }
        true
    }

    fn integers(&mut self, shape: Shape, addr: u64, len: u64, size: u64, signed: bool) -> bool {
        let hex = matches!(shape, Shape::Hex64);
        self.array(len / size, |p, i| {
            let Some(raw) = p.read(addr + i * size, size).map(Raw) else {
                return false;
            };
            match (size, signed) {
                (4, true) => p.num(raw.i32(0)),
                (_, true) => p.num(raw.i64(0)),
                _ if hex => p.hex(raw.u64(0)),
                _ => p.num(raw.get(0, size as usize)),
            }
            true
        })
    }

    fn timespec(&mut self, raw: &Raw, off: usize) {
        emit!(
            self,
            "{{tv_sec={}, tv_nsec={}}}",
            raw.i64(off),
            raw.i64(off + 8)
        );
    }

    /// A time of `utimensat`, where the nanoseconds have special values.
    fn utime(&mut self, raw: &Raw, off: usize) {
        match raw.u64(off + 8) {
            0x3fff_ffff => self.put("UTIME_NOW"),
            0x3fff_fffe => self.put("UTIME_OMIT"),
            _ => self.timespec(raw, off),
        }
    }

    fn timeval(&mut self, raw: &Raw, off: usize) {
        emit!(
            self,
            "{{tv_sec={}, tv_usec={}}}",
            raw.i64(off),
            raw.i64(off + 8)
        );
    }

    fn pair(&mut self, raw: &Raw, each: impl Fn(&mut Self, &Raw, usize)) {
        self.put("[");
        each(self, raw, 0);
        self.put(", ");
        each(self, raw, 16);
        self.put("]");
    }

    fn interval(&mut self, raw: &Raw, each: impl Fn(&mut Self, &Raw, usize)) {
        self.put("{it_interval=");
        each(self, raw, 0);
        self.put(", it_value=");
        each(self, raw, 16);
        self.put("}");
    }

    fn file_mode(&mut self, mode: u64) {
        match f::FILE_MODE.name(mode & 0o170_000) {
            Some(name) => emit!(self, "{name}|0{:02o}", mode & 0o7777),
            None => emit!(self, "0{mode:02o}"),
        }
    }

    fn stat(&mut self, raw: &Raw) {
        let mode = raw.u32(24);
        self.put("{st_mode=");
        self.file_mode(mode);
        if matches!(mode & 0o170_000, 0o020_000 | 0o060_000) {
            self.put(", st_rdev=");
            self.dev(raw.u64(40));
        } else {
            emit!(self, ", st_size={}", raw.i64(48));
        }
        self.put(", ...}");
    }

    fn statx(&mut self, raw: &Raw) {
        self.put("{stx_mask=");
        self.flags(&f::STATX, raw.u32(0));
        emit!(self, ", stx_attributes={:#x}, stx_mode=", raw.u64(8));
        self.file_mode(raw.u16(28));
        emit!(self, ", stx_size={}, ...}}", raw.u64(40));
    }

    fn dirents(&mut self, addr: u64, len: u64) -> bool {
        let Some(raw) = self.read(addr, len).map(Raw) else {
            return false;
        };
        let (mut at, mut count) = (0, 0);
        while at + 19 <= raw.0.len() {
            // d_ino, d_off, d_reclen: the same in `linux_dirent`.
            let reclen = raw.u16(at + 16) as usize;
            if reclen == 0 {
                break;
            }
            at += reclen;
            count += 1;
        }
        self.hex(addr);
        let plural = if count == 1 { "entry" } else { "entries" };
        emit!(self, " /* {count} {plural} */");
        true
    }

    fn fd_set(&mut self, addr: u64, len: u64) -> bool {
        let Some(bytes) = self.read(addr, len) else {
            return false;
        };
        let nfds = (self.call.args[0] as i32).max(0) as usize;
        let set = (0..nfds.min(bytes.len() * 8)).filter(|i| bytes[i / 8] >> (i % 8) & 1 != 0);
        self.put("[");
        for (n, fd) in set.enumerate() {
            emit!(self, "{}{fd}", if n > 0 { " " } else { "" });
        }
        self.put("]");
        true
    }

    fn pollfds(&mut self, raw: &Raw, len: u64) -> bool {
        self.array(len / 8, |p, i| {
            let at = i as usize * 8;
            emit!(p, "{{fd={}", raw.i32(at));
            if raw.i32(at) >= 0 {
                p.put(", events=");
                p.flags(&f::POLL, raw.u16(at + 4));
            }
            p.put("}");
            true
        })
    }

    /// The descriptors of poll that have events, as strace lists them behind the result.
    pub(super) fn revents(&mut self) {
        let found = self
            .plan
            .arg(0)
            .map(|b| (self.plan.bufs[b].addr, self.plan.bufs[b].cap));
        let Some(raw) = found.and_then(|(addr, cap)| self.read(addr, cap)).map(Raw) else {
            return self.put("?");
        };
        self.put("[");
        let mut first = true;
        for at in (0..raw.0.len())
            .step_by(8)
            .filter(|at| raw.u16(at + 6) != 0)
        {
            emit!(
                self,
                "{}{{fd={}, revents=",
                if first { "" } else { ", " },
                raw.i32(at)
            );
            self.flags(&f::POLL, raw.u16(at + 6));
            self.put("}");
            first = false;
        }
        self.put("]");
    }

    fn epoll_events(&mut self, raw: &Raw, len: u64) -> bool {
        let one = |p: &mut Self, i: u64| {
            let at = i as usize * 12;
            p.put("{events=");
            p.flags(&f::EPOLL_EVENTS, raw.u32(at));
            emit!(
                p,
                ", data={{u32={}, u64={}}}}}",
                raw.u32(at + 4),
                raw.u64(at + 4)
            );
            true
        };
        // epoll_ctl takes one event, the others write arrays.
        if self.row.nr == 233 {
            one(self, 0)
        } else {
            self.array(len / 12, one)
        }
    }

    fn sembufs(&mut self, raw: &Raw, len: u64) -> bool {
        self.array(len / 6, |p, i| {
            let at = i as usize * 6;
            emit!(
                p,
                "{{sem_num={}, sem_op={}, sem_flg={:#x}}}",
                raw.u16(at),
                raw.u16(at + 2) as i16,
                raw.u16(at + 4)
            );
            true
        })
    }

    fn rlimit(&mut self, raw: &Raw) {
        for (name, off) in [("{rlim_cur=", 0), (", rlim_max=", 8)] {
            self.put(name);
            match raw.u64(off) {
                u64::MAX => self.put("RLIM64_INFINITY"),
                n if n > 1024 && n % 1024 == 0 => emit!(self, "{}*1024", n / 1024),
                n => self.num(n),
            }
        }
        self.put("}");
    }

    fn utsname(&mut self, raw: &Raw) {
        for (i, name) in [
            "{sysname=",
            ", nodename=",
            ", release=",
            ", version=",
            ", machine=",
        ]
        .iter()
        .enumerate()
        {
            self.put(name);
            self.fixed_str(raw.0.get(i * 65..i * 65 + 65).unwrap_or(&[]));
        }
        self.put(", ...}");
    }

    fn flock(&mut self, raw: &Raw) {
        self.put("{l_type=");
        self.one_of(&f::LOCK_TYPE, raw.u16(0));
        self.put(", l_whence=");
        self.one_of(&f::WHENCE, raw.u16(2));
        emit!(self, ", l_start={}, l_len={}", raw.i64(8), raw.i64(16));
        if matches!(self.row.sub, Some(s) if s.name.ends_with("GETLK")) {
            emit!(self, ", l_pid={}", raw.i32(24));
        }
        self.put("}");
    }

    fn open_how(&mut self, raw: &Raw) {
        self.put("{flags=");
        self.flags(&f::OPEN, raw.u64(0));
        if raw.u64(8) != 0 {
            self.put(", mode=");
            self.mode(raw.u64(8) as u32);
        }
        self.put(", resolve=");
        self.flags(&f::RESOLVE, raw.u64(16));
        self.put("}");
    }

    fn clone_args(&mut self, raw: &Raw) {
        self.put("{flags=");
        self.flags(&f::CLONE, raw.u64(0));
        for (name, off) in [(", pidfd=", 8), (", child_tid=", 16), (", parent_tid=", 24)] {
            if raw.u64(off) != 0 {
                self.put(name);
                self.hex(raw.u64(off));
            }
        }
        self.put(", exit_signal=");
        self.signal(raw.u64(32) as i32);
        self.put(", stack=");
        self.addr(raw.u64(40));
        self.put(", stack_size=");
        self.hex(raw.u64(48));
        if raw.u64(56) != 0 {
            self.put(", tls=");
            self.hex(raw.u64(56));
        }
        self.put("}");
    }
}

/// Integers: width, and whether signed.
fn integer(shape: Shape) -> Option<(u64, bool)> {
    use Shape::*;
    Some(match shape {
        I32 | I32s | Fd | FdPair | Pid | Socklen => (4, true),
        U32 | U32s => (4, false),
        I64 => (8, true),
        U64 | U64s | Hex64 => (8, false),
        U16 | U16s => (2, false),
        _ => return None,
    })
}
