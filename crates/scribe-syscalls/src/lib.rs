//! The declarative table of x86-64 Linux system calls: one row a call, and one row a sub-command
//! for multiplexed calls (`ioctl`, `fcntl`, `prctl`, `futex`, ...).
//!
//! Recorder, replayer, agent, profiler and divergence messages derive all that they know of a call
//! from here: its arguments, the memory it reads and writes ([`plan`], [`outputs`]), whether it may
//! block, how the replayer treats it ([`Class`]) and what it does to kernel objects ([`Effect`]).
//!
//! This crate may depend on crates of constants only, on `scribe-abi` for the agent's form of the
//! table, and on `scribe-hooks` for the numbers of its calls. It does no I/O, starts no processes and holds
//! no unsafe code; everything here is a function over values.
//!
//! Sources: the manual pages of section 2 (man-pages 6.x), and, where these are silent, the kernel
//! (6.18); a row's comment names the file where it matters.

#![forbid(unsafe_code)]

mod arg;
mod call;
mod dsl;
mod effect;
mod fast;
mod flags;
mod names;
mod plan;
mod print;
mod rows;
mod table;

pub use arg::{Arg, Ctx, Dir, Field, Len, Out, OutCtx, Ptr, Shape, Ty};
pub use call::{Block, Call, Class, Memory, Ret, Row, Special, Sub};
pub use effect::{Effect, Resource};
pub use fast::{fast_table, fill_fast_table};
pub use flags::FlagSet;
pub use names::{errno_by_name, errno_name, errno_text, signal_by_name, signal_name};
pub use plan::{Buf, OutRange, Plan, Slot, outputs, plan};
pub use print::{FormatOpts, format_args, format_call, format_ret, format_unknown};
pub use rows::ioctl::UNKNOWN as UNKNOWN_IOCTL;
pub use table::{KNOWN_MAX, by_name, lookup, rows, syscall_name, unknown_is_enosys};
