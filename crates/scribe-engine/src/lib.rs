//! Recorder and replayer: scheduling, signals, checkpoints, divergence.
//!
//! Sits on `scribe-tracee` (ptrace), `scribe-log`, `scribe-syscalls`, `scribe-kernel`; prints
//! nothing: what is to be said to the user goes through the options' callbacks and the results.

mod agent;
pub mod cpu;
mod faulting;
mod leave;
mod limits;
mod machine;
mod pin;
mod point;
pub mod record;
mod regs;
pub mod replay;
mod state;

pub use record::{Outcome, RecordError, RecordOptions, Recorder};
pub use replay::{Divergence, Ending, ReplayError, ReplayOptions, Replayer};
