//! Asynchronous I/O, and interfaces that are refused.

use crate::arg::{Ctx, Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;
use crate::rows::poll::MASK_PAIR;

/// Data of `IOCB_CMD_PWRITE`; `struct iocb` in include/uapi/linux/aio_abi.h.
fn written(c: &Ctx) -> u64 {
    if opcode(c) == Some(1) { length(c) } else { 0 }
}

/// The vector of `IOCB_CMD_PWRITEV`.
fn written_vector(c: &Ctx) -> u64 {
    if opcode(c) == Some(8) {
        length(c).saturating_mul(16)
    } else {
        0
    }
}

fn opcode(c: &Ctx) -> Option<u32> {
    c.mem.read_u32(c.parent + 16).map(|word| word & 0xffff)
}

fn length(c: &Ctx) -> u64 {
    c.mem.read_u64(c.parent + 32).unwrap_or(0)
}

/// Pointers to `struct iocb`s. The kernel writes a key into each, and gives its address back in the
/// event; buffers that it is to fill are the engine's.
const IOCBS: Ty = Ty::Ptr(nest(
    pin(Shape::U64s, Len::Elems(1, 8)),
    8,
    &[field(
        0,
        nest(
            in_place(pinout(Shape::Opaque, Len::Fixed(64), Out::Parts(&[(8, 4)]))),
            64,
            &[
                field(24, pin(Shape::Bytes, Len::With(written))),
                field(
                    24,
                    nest(pin(Shape::Iovec, Len::With(written_vector)), 16, IOV_IN),
                ),
            ],
        ),
    )],
));
const EVENTS: Ty = output(Shape::Opaque, Len::Elems(2, 32), Out::RetTimes(32));

rows! { ROWS:
    206 io_setup(nr_events: UINT, ctx_idp: sinout(Shape::Hex64, 8))
        .special(Special::IoSetup) .eff(Effect::Mm);
    207 io_destroy(ctx_id: HEX) .may() .special(Special::IoDestroy) .eff(Effect::Mm);
    208 io_getevents(ctx_id: HEX, min_nr: LONG, nr: LONG, events: EVENTS, timeout: TIMESPEC)
        .may() .special(Special::IoGetevents) .eff(Effect::Polls);
    333 io_pgetevents(ctx_id: HEX, min_nr: LONG, nr: LONG, events: EVENTS, timeout: TIMESPEC,
        usig: MASK_PAIR) .may() .special(Special::IoGetevents) .eff(Effect::Polls);
    209 io_submit(ctx_id: HEX, nr: LONG, iocbpp: IOCBS) .may() .special(Special::IoSubmit);
    210 io_cancel(ctx_id: HEX, iocb: Ty::Ptr(in_place(pin(Shape::Opaque, Len::Fixed(64)))),
        result: raw_out(32)) .special(Special::IoCancel);

    425 io_uring_setup(entries: UINT, params: ADDR) -> Fd .refuse(f::ENOSYS) .eff(Effect::OpensFd);
    426 io_uring_enter(fd: FD, to_submit: UINT, min_complete: UINT, flags: HEX, sig: ADDR,
        size: SIZE)
        .may() .refuse(f::ENOSYS);
    427 io_uring_register(fd: FD, opcode: UINT, arg: ADDR, nr_args: UINT) .refuse(f::ENOSYS);
    298 perf_event_open(attr: ADDR, pid: PID, cpu: INT, group_fd: FD, flags: HEX) -> Fd
        .refuse(f::ENOSYS) .eff(Effect::OpensFd);
    321 bpf(cmd: INT, attr: ADDR, size: UINT) .refuse(f::EPERM);
}
