//! Kernel objects of processes that stand still: a description of them, taken from the system, and the
//! making of the same objects again, for processes that go on elsewhere.
//!
//! May depend on: `libc`, `serde`. May not: trace, know of the log, print. What only the process itself
//! can do (where a descriptor goes, its timers and limits) is the caller's.

pub mod make;
pub mod model;
pub mod take;

pub use model::Objects;

/// A zeroed structure of the kernel's.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: Plain types are integers and arrays of them, for which all bits zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Types for which all bits zero is a value.
///
/// # Safety
/// Implemented only for structures of plain integers.
pub(crate) unsafe trait Plain {}
// SAFETY: integers and arrays of integers.
unsafe impl Plain for libc::sockaddr_storage {}

/// The result of a call, or its error.
pub(crate) fn check(result: i64) -> std::io::Result<i64> {
    match result {
        0.. => Ok(result),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A descriptor that a call has just returned.
pub(crate) fn owned(fd: i64) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the kernel made it for us, and nobody else knows it.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) }
}
