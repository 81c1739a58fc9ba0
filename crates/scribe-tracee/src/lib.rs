//! Typed ptrace: tasks that are stopped and tasks that run are different types, so that an
//! operation on a running task does not compile. Registers, memory, signal masks, Syscall User
//! Dispatch, the kernel's maps and pagemap.
//!
//! May depend on `scribe-abi`; knows nothing of logs. A task may be killed at any moment: every
//! operation can answer [`Error::Gone`], which is an ordinary value.

pub mod fault;
pub mod functions;
pub mod inject;
pub mod maps;
pub mod mem;
pub mod near;
pub mod pagemap;
pub mod patch;
mod ptrace;
pub mod translate;
pub mod wait;

pub use mem::{Mem, read_as_allowed, write_as_allowed};
pub use ptrace::{
    Rseq, Running, Stopped, Tid, kill, seize, seize_options, seize_sparing, traceme_stop,
};
pub use wait::{Event, Stop, WaitEvent};

/// General registers, as `PTRACE_GETREGS` has them.
pub type Regs = libc::user_regs_struct;

/// What can go wrong when a task is touched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task was killed or has ended; its end is, or will be, reported by [`wait`].
    #[error("the task is gone")]
    Gone,
    /// Any other failure.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// The last OS error, as [`Error::Gone`] where it means that.
    pub(crate) fn last(what: &'static str) -> Error {
        let source = std::io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ESRCH) => Error::Gone,
            _ => Error::Os { what, source },
        }
    }
}

/// Result of touching a task.
pub type Result<T> = std::result::Result<T, Error>;
