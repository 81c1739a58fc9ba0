//! Kernel objects of processes that stand still: a description of them, taken from the system, and the
//! making of the same objects again, for processes that go on elsewhere.
//!
//! May depend on: `libc`, `serde`. May not: trace, know of the log, print. What only the process itself
//! can do (where a descriptor goes, its timers and limits) is the caller's.

pub mod ipc;
pub mod make;
pub mod model;
pub mod take;

pub use model::Objects;

/// The address of a socket, or of the one that it is connected with (getsockname(2), getpeername(2)).
pub(crate) fn address(fd: std::os::fd::RawFd, of_peer: bool) -> std::io::Result<Vec<u8>> {
    let call = match of_peer {
        true => libc::getpeername,
        false => libc::getsockname,
    };
    let mut room = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut len = room.len() as libc::socklen_t;
    // SAFETY: room for the length.
    check(unsafe { call(fd, room.as_mut_ptr().cast(), &mut len) }.into())?;
    Ok(room[..(len as usize).min(room.len())].to_vec())
}

/// The result of a call, or its error.
pub fn check(result: i64) -> std::io::Result<i64> {
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
