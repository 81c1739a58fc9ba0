//! Signals, wait status, terminals.

use std::fmt::Write;

use super::Printer;
use super::structs::{Raw, emit};
use crate::flags as f;
use crate::names::signal_name;

/// Codes of SIGCHLD, SIGSEGV, ... (include/uapi/asm-generic/siginfo.h).
fn si_code(signal: i32, code: i32) -> Option<&'static str> {
    const GENERAL: &[(i32, &str)] = &[
        (0, "SI_USER"),
        (0x80, "SI_KERNEL"),
        (-1, "SI_QUEUE"),
        (-2, "SI_TIMER"),
        (-3, "SI_MESGQ"),
        (-4, "SI_ASYNCIO"),
        (-5, "SI_SIGIO"),
        (-6, "SI_TKILL"),
    ];
    let named: &[&str] = match signal {
        4 => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
        ],
        5 => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"],
        7 => &[
            "BUS_ADRALN",
            "BUS_ADRERR",
            "BUS_OBJERR",
            "BUS_MCEERR_AR",
            "BUS_MCEERR_AO",
        ],
        8 => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        11 => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        17 => &[
            "CLD_EXITED",
            "CLD_KILLED",
            "CLD_DUMPED",
            "CLD_TRAPPED",
            "CLD_STOPPED",
            "CLD_CONTINUED",
        ],
        29 => &[
            "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP",
        ],
        31 => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    let general = GENERAL.iter().find(|c| c.0 == code).map(|c| c.1);
    general.or_else(|| {
        named
            .get(usize::try_from(code).ok()?.checked_sub(1)?)
            .copied()
    })
}

/// Speeds of terminals, by the bits of `CBAUD`.
const SPEEDS: &[(u64, &str)] = &[
    (0, "B0"),
    (7, "B300"),
    (9, "B1200"),
    (11, "B2400"),
    (12, "B4800"),
    (13, "B9600"),
    (14, "B19200"),
    (15, "B38400"),
    (0o10_001, "B57600"),
    (0o10_002, "B115200"),
    (0o10_003, "B230400"),
];

impl Printer<'_> {
    /// `[INT TERM]`; a set that is more than half full as what it lacks: `~[INT]`.
    pub(super) fn sigset(&mut self, bits: u64) {
        let full = bits.count_ones() > 32;
        let listed = if full { !bits } else { bits };
        self.put(if full { "~[" } else { "[" });
        let mut first = true;
        for signal in (1..=64).filter(|s| listed >> (s - 1) & 1 != 0) {
            if !first {
                self.put(" ");
            }
            first = false;
            let name = signal_name(signal).unwrap_or("?");
            self.put(name.strip_prefix("SIG").unwrap_or(name));
        }
        self.put("]");
    }

    /// The last argument of `pselect6`.
    pub(super) fn sigset_pair(&mut self, addr: u64, index: usize) -> bool {
        self.put("{sigmask=");
        match self.nested(index, 0) {
            Some(child) => self.buf(child),
            None => match self.mem.read_u64(addr) {
                Some(to) => self.addr(to),
                None => return false,
            },
        }
        emit!(
            self,
            ", sigsetsize={}}}",
            self.mem.read_u64(addr + 8).unwrap_or(0)
        );
        true
    }

    pub(super) fn sigaction(&mut self, raw: &Raw) {
        let flags = raw.u64(8);
        self.put(if flags & 4 != 0 {
            "{sa_sigaction="
        } else {
            "{sa_handler="
        });
        match raw.u64(0) {
            0 => self.put("SIG_DFL"),
            1 => self.put("SIG_IGN"),
            handler => self.hex(handler),
        }
        self.put(", sa_mask=");
        self.sigset(raw.u64(24));
        self.put(", sa_flags=");
        self.flags(&f::SA, flags);
        if flags & 0x0400_0000 != 0 {
            self.put(", sa_restorer=");
            self.hex(raw.u64(16));
        }
        self.put("}");
    }

    pub(super) fn siginfo(&mut self, raw: &Raw) {
        let (signal, errno, code) = (raw.i32(0), raw.i32(4), raw.i32(8));
        if signal == 0 {
            return self.put("{}");
        }
        self.put("{si_signo=");
        self.signal(signal);
        self.put(", si_code=");
        match si_code(signal, code) {
            Some(name) => self.put(name),
            None => self.num(code),
        }
        if errno != 0 {
            emit!(self, ", si_errno={errno}");
        }
        match (signal, code) {
            (17, 1..) => {
                emit!(
                    self,
                    ", si_pid={}, si_uid={}, si_status=",
                    raw.i32(16),
                    raw.u32(20)
                );
                if code == 1 {
                    self.num(raw.i32(24));
                } else {
                    self.signal(raw.i32(24));
                }
                // waitid does not write the times.
                if self.row.nr != 247 {
                    emit!(self, ", si_utime={}, si_stime={}", raw.i64(32), raw.i64(40));
                }
            }
            (_, 0 | -6) => emit!(self, ", si_pid={}, si_uid={}", raw.i32(16), raw.u32(20)),
            (4 | 5 | 7 | 8 | 11, 1..) => emit!(self, ", si_addr={:#x}", raw.u64(16)),
            (31, 1..) => emit!(
                self,
                ", si_call_addr={:#x}, si_syscall={}, si_arch={:#x}",
                raw.u64(16),
                raw.i32(24),
                raw.u32(28)
            ),
            (_, -2) => emit!(
                self,
                ", si_timerid={}, si_overrun={}, si_value={:#x}",
                raw.i32(16),
                raw.i32(20),
                raw.u64(24)
            ),
            (_, ..0) => emit!(
                self,
                ", si_pid={}, si_uid={}, si_value={:#x}",
                raw.i32(16),
                raw.u32(20),
                raw.u64(24)
            ),
            _ => {}
        }
        self.put("}");
    }

    pub(super) fn sigevent(&mut self, raw: &Raw) {
        emit!(self, "{{sigev_value={:#x}, sigev_signo=", raw.u64(0));
        self.signal(raw.i32(8));
        self.put(", sigev_notify=");
        match raw.i32(12) {
            0 => self.put("SIGEV_SIGNAL"),
            1 => self.put("SIGEV_NONE"),
            2 => self.put("SIGEV_THREAD"),
            4 => emit!(
                self,
                "SIGEV_THREAD_ID, sigev_notify_thread_id={}",
                raw.i32(16)
            ),
            n => self.num(n),
        }
        self.put("}");
    }

    pub(super) fn stack_t(&mut self, raw: &Raw) {
        self.put("{ss_sp=");
        self.addr(raw.u64(0));
        self.put(", ss_flags=");
        match raw.u32(8) {
            0 => self.put("0"),
            1 => self.put("SS_ONSTACK"),
            2 => self.put("SS_DISABLE"),
            n => self.hex(n),
        }
        emit!(self, ", ss_size={}}}", raw.u64(16));
    }

    pub(super) fn wait_status(&mut self, status: u32) {
        let (low, high) = (status & 0x7f, status >> 8 & 0xff);
        self.put("[{");
        if status == 0xffff {
            self.put("WIFCONTINUED(s)");
        } else if low == 0x7f {
            self.put("WIFSTOPPED(s) && WSTOPSIG(s) == ");
            self.signal((high & 0x7f) as i32);
            if high & 0x80 != 0 {
                self.put(" | 0x80");
            }
        } else if low == 0 {
            emit!(self, "WIFEXITED(s) && WEXITSTATUS(s) == {high}");
        } else {
            self.put("WIFSIGNALED(s) && WTERMSIG(s) == ");
            self.signal(low as i32);
            if status & 0x80 != 0 {
                self.put(" && WCOREDUMP(s)");
            }
        }
        self.put("}");
        if status >> 16 != 0 {
            emit!(self, " | {:#x}", status & !0xffff);
        }
        self.put("]");
    }

    /// In short, as strace does it: speed, and the flags that matter.
    pub(super) fn termios(&mut self, raw: &Raw) {
        let (oflag, cflag, lflag) = (raw.u32(4), raw.u32(8), raw.u32(12));
        self.put("{");
        let speed = cflag & 0o10_017;
        match SPEEDS.iter().find(|s| s.0 == speed) {
            Some((_, name)) => self.put(name),
            None => emit!(self, "{speed:#x}"),
        }
        for (on, name) in [
            (oflag & 1, "opost"),
            (lflag & 1, "isig"),
            (lflag & 2, "icanon"),
            (lflag & 8, "echo"),
        ] {
            emit!(self, " {}{name}", if on != 0 { "" } else { "-" });
        }
        self.put(" ...}");
    }
}
