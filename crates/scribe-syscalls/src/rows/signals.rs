//! Signals.

use crate::arg::{Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const SIGINFO_IN: Ty = sin(Shape::Siginfo, 128);
/// `siginfo_t` is written whole: what its kind does not use is cleared (`copy_siginfo_to_user`).
const SIGINFO_OUT: Ty = output(Shape::Siginfo, Len::Fixed(128), Out::Positive);
const SIGACTION_IN: Ty = sin(Shape::Sigaction, 32);
const SIGACTION_OUT: Ty = sout(Shape::Sigaction, 32);

const fn sigset_out(size: u8) -> Ty {
    output(Shape::Sigset, Len::Small(size), Out::Full)
}

rows! { ROWS:
    13 rt_sigaction(signum: SIG, act: SIGACTION_IN, oldact: SIGACTION_OUT, size: SIZE)
        .special(Special::RtSigaction) .eff(Effect::Signals);
    14 rt_sigprocmask(how: oneof(&f::SIG_HOW), set: sigset_in(3), oldset: sigset_out(3), size: SIZE)
        .special(Special::RtSigprocmask) .eff(Effect::Signals);
    15 rt_sigreturn() .special(Special::RtSigreturn) .eff(Effect::Signals);
    127 rt_sigpending(set: sigset_out(1), size: SIZE)
        .special(Special::RtSigpending) .eff(Effect::Signals);
    128 rt_sigtimedwait(set: sigset_in(3), info: SIGINFO_OUT, timeout: TIMESPEC, size: SIZE)
        .may() .special(Special::RtSigtimedwait) .eff(Effect::Signals);
    130 rt_sigsuspend(mask: sigmask(1), size: SIZE)
        .may() .special(Special::RtSigsuspend) .eff(Effect::Signals);
    131 sigaltstack(ss: sin(Shape::StackT, 24), old_ss: sout(Shape::StackT, 24))
        .special(Special::Sigaltstack) .eff(Effect::Signals);
    34 pause() .may() .eff(Effect::Signals);
    219 restart_syscall() .may() .special(Special::RestartSyscall);

    62 kill(pid: PID, sig: SIG) .eff(Effect::Kills);
    200 tkill(tid: PID, sig: SIG) .eff(Effect::Kills);
    234 tgkill(tgid: PID, tid: PID, sig: SIG) .eff(Effect::Kills);
    129 rt_sigqueueinfo(pid: PID, sig: SIG, info: SIGINFO_IN) .eff(Effect::Kills);
    297 rt_tgsigqueueinfo(tgid: PID, tid: PID, sig: SIG, info: SIGINFO_IN) .eff(Effect::Kills);
    424 pidfd_send_signal(pidfd: FD, sig: SIG, info: SIGINFO_IN, flags: HEX) .eff(Effect::Kills);
}
