//! Clocks, sleeping, timers.

use crate::arg::{Ctx, Len, Out, Shape, Ty};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// The rest of a sleep is written if a signal ended it.
const REMAINS: Out = Out::OnErr(4);

/// ... and if the time was relative.
fn remains_len(ctx: &Ctx) -> u64 {
    if ctx.call.args[1] & 1 != 0 { 0 } else { 16 }
}

const CLOCK: Ty = oneof(&f::CLOCK);
const ITIMERSPEC_IN: Ty = sin(Shape::Itimerspec, 32);
const ITIMERSPEC_OUT: Ty = sout(Shape::Itimerspec, 32);
const ITIMERVAL_OUT: Ty = sout(Shape::Itimerval, 32);
const CLK: Effect = Effect::Clock;
const TIMER: Effect = Effect::Timer;

rows! { ROWS:
    35 nanosleep(req: TIMESPEC, rem: output(Shape::Timespec, Len::Fixed(16), REMAINS)) .may()
        .eff(CLK);
    230 clock_nanosleep(clockid: CLOCK, flags: flags(&f::TIMER_FLAGS), req: TIMESPEC,
        rem: output(Shape::Timespec, Len::With(remains_len), REMAINS)) .may() .eff(CLK);
    96 gettimeofday(tv: sout(Shape::Timeval, 16), tz: sout(Shape::Timezone, 8)) .eff(CLK);
    164 settimeofday(tv: TIMEVAL, tz: sin(Shape::Timezone, 8)) .eff(CLK);
    201 time(tloc: sout(Shape::I64, 8)) .eff(CLK);
    227 clock_settime(clockid: CLOCK, tp: TIMESPEC) .eff(CLK);
    228 clock_gettime(clockid: CLOCK, tp: TIMESPEC_OUT) .eff(CLK);
    229 clock_getres(clockid: CLOCK, res: TIMESPEC_OUT) .eff(CLK);
    159 adjtimex(buf: sinout(Shape::Timex, 208)) .eff(CLK);
    305 clock_adjtime(clockid: CLOCK, buf: sinout(Shape::Timex, 208)) .eff(CLK);

    36 getitimer(which: oneof(&f::ITIMER), curr_value: ITIMERVAL_OUT) .eff(TIMER);
    38 setitimer(which: oneof(&f::ITIMER), new_value: sin(Shape::Itimerval, 32),
        old_value: ITIMERVAL_OUT) .eff(TIMER);
    37 alarm(seconds: UINT) .eff(TIMER);
    // With PR_TIMER_CREATE_RESTORE_IDS the id is an input.
    222 timer_create(clockid: CLOCK, sevp: sin(Shape::Sigevent, 64), timerid: sinout(Shape::I32, 4))
        .eff(TIMER);
    223 timer_settime(timerid: INT, flags: flags(&f::TIMER_FLAGS), new_value: ITIMERSPEC_IN,
        old_value: ITIMERSPEC_OUT) .eff(TIMER);
    224 timer_gettime(timerid: INT, curr_value: ITIMERSPEC_OUT) .eff(TIMER);
    225 timer_getoverrun(timerid: INT) .eff(TIMER);
    226 timer_delete(timerid: INT) .eff(TIMER);
    283 timerfd_create(clockid: CLOCK, flags: flags(&f::TFD)) -> Fd .eff(Effect::OpensFd);
    286 timerfd_settime(fd: FD, flags: flags(&f::TFD_SET), new_value: ITIMERSPEC_IN,
        old_value: ITIMERSPEC_OUT) .eff(Effect::SetsFile(0));
    287 timerfd_gettime(fd: FD, curr_value: ITIMERSPEC_OUT) .eff(Effect::GetsFile(0));
}
