//! Futexes.
//!
//! The address of a futex word is its identity, so it is no buffer, except where the kernel changes
//! the word; then it is marked as one that must not be redirected.

use crate::arg::{Len, Shape, Ty};
use crate::call::{Special, Sub};
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// A command: private and realtime flags apart.
const fn op(value: u64, name: &'static str) -> Sub {
    Sub {
        arg: 1,
        mask: 0xffff_fe7f,
        value,
        and: None,
        name,
    }
}

const EFF: Effect = Effect::Futex;
const WORD: Ty = FUTEX_WORD;

rows! { ROWS:
    202 futex[op(0, "FUTEX_WAIT")](uaddr: ADDR, op: INT, val: UINT, timeout: TIMESPEC)
        .may() .eff(EFF);
    202 futex[op(1, "FUTEX_WAKE")](uaddr: ADDR, op: INT, val: INT) .eff(EFF);
    202 futex[op(3, "FUTEX_REQUEUE")](uaddr: ADDR, op: INT, val: INT, val2: INT, uaddr2: ADDR)
        .eff(EFF);
    202 futex[op(4, "FUTEX_CMP_REQUEUE")](uaddr: ADDR, op: INT, val: INT, val2: INT, uaddr2: ADDR,
        val3: UINT) .eff(EFF);
    202 futex[op(5, "FUTEX_WAKE_OP")](uaddr: ADDR, op: INT, val: INT, val2: INT, uaddr2: WORD,
        val3: HEX)
        .eff(EFF);
    202 futex[op(6, "FUTEX_LOCK_PI")](uaddr: WORD, op: INT, val: UNUSED, timeout: TIMESPEC)
        .may() .special(Special::FutexPi) .eff(EFF);
    202 futex[op(7, "FUTEX_UNLOCK_PI")](uaddr: WORD, op: INT) .special(Special::FutexPi) .eff(EFF);
    202 futex[op(8, "FUTEX_TRYLOCK_PI")](uaddr: WORD, op: INT) .special(Special::FutexPi) .eff(EFF);
    202 futex[op(9, "FUTEX_WAIT_BITSET")](uaddr: ADDR, op: INT, val: UINT, timeout: TIMESPEC,
        uaddr2: UNUSED, val3: HEX) .may() .eff(EFF);
    202 futex[op(10, "FUTEX_WAKE_BITSET")](uaddr: ADDR, op: INT, val: INT, timeout: UNUSED,
        uaddr2: UNUSED, val3: HEX) .eff(EFF);
    202 futex[op(11, "FUTEX_WAIT_REQUEUE_PI")](uaddr: ADDR, op: INT, val: UINT, timeout: TIMESPEC,
        uaddr2: WORD) .may() .special(Special::FutexPi) .eff(EFF);
    202 futex[op(12, "FUTEX_CMP_REQUEUE_PI")](uaddr: ADDR, op: INT, val: INT, val2: INT,
        uaddr2: WORD,
        val3: UINT) .special(Special::FutexPi) .eff(EFF);
    202 futex[op(13, "FUTEX_LOCK_PI2")](uaddr: WORD, op: INT, val: UNUSED, timeout: TIMESPEC)
        .may() .special(Special::FutexPi) .eff(EFF);
    202 futex(uaddr: ADDR, op: INT, val: UINT, timeout: ADDR, uaddr2: ADDR, val3: UINT)
        .refuse(f::ENOSYS) .eff(EFF);

    449 futex_waitv(waiters: input(Shape::Opaque, Len::Elems32(1, 24)), nr_futexes: UINT,
        flags: HEX,
        timeout: TIMESPEC, clockid: oneof(&f::CLOCK)) .may() .eff(EFF);
    454 futex_wake(uaddr: ADDR, mask: HEX, nr: INT, flags: flags(&f::FUTEX2)) .eff(EFF);
    455 futex_wait(uaddr: ADDR, val: ULONG, mask: HEX, flags: flags(&f::FUTEX2), timeout: TIMESPEC,
        clockid: oneof(&f::CLOCK)) .may() .eff(EFF);
    456 futex_requeue(waiters: raw_in(48), flags: HEX, nr_wake: INT, nr_requeue: INT) .eff(EFF);
}
