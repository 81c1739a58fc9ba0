//! The model of signal state: masks, dispositions, alternate stacks, frames, restarts, queues.
//!
//! Source: kernel/signal.c, signal(7).

pub mod altstack;
pub mod frame;
pub mod restart;
pub mod sigreturn;
pub mod stash;

pub use altstack::AltStack;
pub use frame::{FaultInfo, Frame, FrameError, FrameInput};
pub use restart::{Restart, restart};
pub use sigreturn::{BadFrame, Restored, parse_sigreturn};
pub use stash::{Pending, SigInfo, SignalQueue};

use crate::Errno;

/// Number of signals (`_NSIG`).
pub const NSIG: u32 = 64;
/// The default disposition (`SIG_DFL`).
pub const SIG_DFL: u64 = 0;
/// The disposition that ignores (`SIG_IGN`).
pub const SIG_IGN: u64 = 1;

/// `SA_RESTORER`: the only flag that libc keeps to itself (arch/x86/include/uapi/asm/signal.h).
pub const SA_RESTORER: u64 = 0x0400_0000;
/// The flags that the kernel knows (`UAPI_SA_FLAGS`, include/linux/signal_types.h). Others,
/// `SA_UNSUPPORTED` among them, are cleared.
pub const UAPI_SA_FLAGS: u64 = 0x1 // SA_NOCLDSTOP
    | 0x2 // SA_NOCLDWAIT
    | 0x4 // SA_SIGINFO
    | 0x800 // SA_EXPOSE_TAGBITS
    | SA_RESTORER
    | 0x0800_0000 // SA_ONSTACK
    | 0x1000_0000 // SA_RESTART
    | 0x4000_0000 // SA_NODEFER
    | 0x8000_0000; // SA_RESETHAND
pub(crate) const SA_SIGINFO: u64 = 0x4;
pub(crate) const SA_ONSTACK: u64 = 0x0800_0000;
pub(crate) const SA_RESTART: u64 = 0x1000_0000;
pub(crate) const SA_NODEFER: u64 = 0x4000_0000;
pub(crate) const SA_RESETHAND: u64 = 0x8000_0000;

/// A set of signals: bit `signo - 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask(pub u64);

impl Mask {
    /// No signal.
    pub const EMPTY: Mask = Mask(0);
    /// SIGKILL and SIGSTOP: never blocked, never handled.
    pub const KERNEL_ONLY: Mask = Mask::of(&[libc::SIGKILL, libc::SIGSTOP]);
    /// What interception and breakpoints need: the kernel must never block or ignore these, whatever
    /// the application asked for.
    pub const FORCED: Mask = Mask::of(&[libc::SIGSYS, libc::SIGTRAP, libc::SIGSEGV]);
    /// Signals that an instruction causes (`SYNCHRONOUS_MASK`, include/linux/signal.h).
    pub const SYNCHRONOUS: Mask = Mask::of(&[
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGFPE,
        libc::SIGSYS,
    ]);

    /// The set of these signals; numbers out of range are left out.
    pub const fn of(signals: &[i32]) -> Mask {
        let (mut bits, mut i) = (0, 0);
        while i < signals.len() {
            bits |= Mask::bit(signals[i] as u32);
            i += 1;
        }
        Mask(bits)
    }

    const fn bit(signo: u32) -> u64 {
        if signo >= 1 && signo <= NSIG {
            1 << (signo - 1)
        } else {
            0
        }
    }

    /// Whether the signal is in the set.
    pub const fn has(self, signo: u32) -> bool {
        self.0 & Mask::bit(signo) != 0
    }

    /// The set with the signal.
    pub const fn with(self, signo: u32) -> Mask {
        Mask(self.0 | Mask::bit(signo))
    }

    /// The set without the signal.
    pub const fn without(self, signo: u32) -> Mask {
        Mask(self.0 & !Mask::bit(signo))
    }

    /// Both sets.
    pub const fn union(self, other: Mask) -> Mask {
        Mask(self.0 | other.0)
    }

    /// This set without the other.
    pub const fn minus(self, other: Mask) -> Mask {
        Mask(self.0 & !other.0)
    }

    /// What the kernel makes of a mask that a program sets (`set_current_blocked`).
    pub const fn settable(self) -> Mask {
        self.minus(Mask::KERNEL_ONLY)
    }

    /// The signals of the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (1..=NSIG).filter(move |&s| self.has(s))
    }
}

/// The mask that the kernel gets for a mask of the application: without [`Mask::FORCED`].
pub const fn kernel_mask(app: Mask) -> Mask {
    app.minus(Mask::FORCED)
}

/// `rt_sigprocmask` (kernel/signal.c `sigprocmask`): the new mask. The size argument is the
/// caller's to check (8, else EINVAL).
pub fn sigprocmask(current: Mask, how: i32, set: Mask) -> Result<Mask, Errno> {
    let set = set.settable();
    match how {
        libc::SIG_BLOCK => Ok(current.union(set)),
        libc::SIG_UNBLOCK => Ok(current.minus(set)),
        libc::SIG_SETMASK => Ok(set),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// `struct kernel_sigaction` of x86-64: what `rt_sigaction` reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disposition {
    /// Address of the handler, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: u64,
}

impl Disposition {
    /// Size of the struct.
    pub const SIZE: usize = 32;

    /// The bytes of the struct.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        for (i, w) in [self.handler, self.flags, self.restorer, self.mask]
            .into_iter()
            .enumerate()
        {
            crate::le::put64(&mut out, i * 8, w);
        }
        out
    }

    /// The inverse of [`Disposition::to_bytes`].
    pub fn from_bytes(b: &[u8; Self::SIZE]) -> Self {
        let w = |i: usize| crate::le::u64(b, i * 8);
        Self {
            handler: w(0),
            flags: w(1),
            restorer: w(2),
            mask: w(3),
        }
    }
}

/// What a signal does when the program says nothing (signal(7), include/linux/signal.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DefaultAction {
    /// Ends the process.
    Term,
    /// Ends the process, with a core dump.
    Core,
    /// Stops the process.
    Stop,
    /// Nothing.
    Ignore,
    /// Continues a stopped process.
    Continue,
}

/// The default action of a signal.
pub fn default_action(signo: u32) -> DefaultAction {
    use DefaultAction::*;
    match signo as i32 {
        libc::SIGCONT => Continue,
        libc::SIGCHLD | libc::SIGWINCH | libc::SIGURG => Ignore,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Stop,
        libc::SIGQUIT
        | libc::SIGILL
        | libc::SIGTRAP
        | libc::SIGABRT
        | libc::SIGFPE
        | libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGSYS
        | libc::SIGXCPU
        | libc::SIGXFSZ => Core,
        _ => Term,
    }
}

/// What is to be done about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process ignores it.
    Ignore,
    /// The default action.
    Default(DefaultAction),
    /// A handler is called.
    Handler(Disposition),
}

/// The dispositions of a process (`struct sighand_struct`), and whether it is the first process of a
/// pid namespace (`SIGNAL_UNKILLABLE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispositions([Disposition; NSIG as usize], bool);

impl Default for Dispositions {
    fn default() -> Self {
        Self([Disposition::default(); NSIG as usize], false)
    }
}

impl Dispositions {
    /// The disposition of a signal, if there is such a signal.
    pub fn get(&self, signo: u32) -> Option<&Disposition> {
        self.0.get((signo as usize).wrapping_sub(1))
    }

    /// `rt_sigaction` (kernel/signal.c `do_sigaction`): the old disposition. A caller that keeps
    /// pending signals drops those of a signal that is ignored now ([`Dispositions::ignored`]).
    pub fn sigaction(
        &mut self,
        signo: u32,
        new: Option<Disposition>,
    ) -> Result<Disposition, Errno> {
        let slot = self
            .0
            .get_mut((signo as usize).wrapping_sub(1))
            .ok_or(Errno(libc::EINVAL))?;
        let old = *slot;
        if let Some(new) = new {
            if Mask::KERNEL_ONLY.has(signo) {
                return Err(Errno(libc::EINVAL));
            }
            *slot = Disposition {
                flags: new.flags & UAPI_SA_FLAGS,
                mask: Mask(new.mask).settable().0,
                ..new
            };
        }
        Ok(old)
    }

    /// The signals whose action is the default.
    pub fn defaults(&self) -> Mask {
        self.those(|d| d.handler == SIG_DFL)
    }

    /// The signals whose disposition is all zero.
    pub fn unset(&self) -> Mask {
        self.those(|d| *d == Disposition::default())
    }

    /// The signals whose handler is used up by the first signal (`SA_RESETHAND`).
    pub fn once(&self) -> Mask {
        self.those(|d| d.flags & SA_RESETHAND != 0)
    }

    fn those(&self, which: impl Fn(&Disposition) -> bool) -> Mask {
        let bits = self.0.iter().enumerate();
        let bits = bits.map(|(i, d)| u64::from(which(d)) << i);
        Mask(bits.fold(0, |all, bit| all | bit))
    }

    /// exec, and `CLONE_CLEAR_SIGHAND` (`flush_signal_handlers`): handlers become default, what is
    /// ignored stays ignored, flags and masks are cleared.
    pub fn exec_reset(&mut self) {
        for d in &mut self.0 {
            let handler = if d.handler == SIG_IGN {
                SIG_IGN
            } else {
                SIG_DFL
            };
            *d = Disposition {
                handler,
                ..Default::default()
            };
        }
    }

    /// Whether the signal has no effect: ignored, or ignored by default (`sig_handler_ignored`).
    pub fn ignored(&self, signo: u32) -> bool {
        match self.what_to_do(signo) {
            Action::Ignore => true,
            Action::Default(d) => {
                matches!(d, DefaultAction::Ignore | DefaultAction::Continue)
            }
            Action::Handler(_) => false,
        }
    }

    /// Says whether the process is the first of a pid namespace: the default actions of signals do
    /// nothing there (`sig_task_ignored`).
    pub fn set_init(&mut self, init: bool) {
        self.1 = init;
    }

    /// Whether the process is the first of a pid namespace.
    pub fn is_init(&self) -> bool {
        self.1
    }

    /// What the signal does now.
    pub fn what_to_do(&self, signo: u32) -> Action {
        match self.get(signo) {
            Some(d) if d.handler == SIG_IGN => Action::Ignore,
            Some(d) if d.handler != SIG_DFL => Action::Handler(*d),
            _ if self.1 && !Mask::KERNEL_ONLY.has(signo) => Action::Ignore,
            _ => Action::Default(default_action(signo)),
        }
    }

    /// [`Dispositions::what_to_do`] for a delivery that takes place now: `SA_RESETHAND` puts the
    /// default back (`get_signal`).
    pub fn deliver(&mut self, signo: u32) -> Action {
        let action = self.what_to_do(signo);
        if let Action::Handler(d) = action
            && d.flags & SA_RESETHAND != 0
        {
            self.0[signo as usize - 1].handler = SIG_DFL;
        }
        action
    }

    /// A synchronous signal that is blocked or ignored (`force_sig_info_to_task`): the default is put
    /// in place and the signal is no longer blocked. Returns the task's new mask.
    pub fn force(&mut self, signo: u32, blocked: Mask) -> Mask {
        let is_blocked = blocked.has(signo);
        if let Some(d) = self.0.get_mut((signo as usize).wrapping_sub(1))
            && (is_blocked || d.handler == SIG_IGN)
        {
            d.handler = SIG_DFL;
        }
        blocked.without(signo)
    }
}

#[cfg(test)]
mod tests;
