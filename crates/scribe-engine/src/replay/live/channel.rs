//! Messages that carry more than bytes: a descriptor, or who sent them. unix(7), cmsg(3).

use scribe_objects::check;
use scribe_tracee::Tid;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Calls `f` with a message of these bytes, and room for what it carries.
fn with_message(
    bytes: &mut [u8],
    control: &mut [u64],
    f: impl FnOnce(&mut libc::msghdr) -> io::Result<i64>,
) -> io::Result<i64> {
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zero is a value of this structure, whose pointers may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(control);
    f(&mut message)
}

/// Sends a descriptor, with one byte.
pub(super) fn send_descriptor(channel: &OwnedFd, fd: i32) -> io::Result<()> {
    // Room for one descriptor with its head.
    let mut control = [0u64; 3];
    // SAFETY: all that the message points to outlives the call, and has room for what is written.
    let sent = with_message(&mut [0], &mut control, |message| unsafe {
        let head = libc::CMSG_FIRSTHDR(message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(head).cast(), fd);
        check(libc::sendmsg(channel.as_raw_fd(), message, libc::MSG_NOSIGNAL) as i64)
    });
    sent.map(drop)
}

/// Receives two numbers, and the id here of who sent them, which the socket is to tell (SO_PASSCRED).
pub(super) fn receive(socket: &OwnedFd) -> io::Result<([i32; 2], Tid)> {
    let mut bytes = [0u8; 8];
    // Room for one struct ucred with its head.
    let mut control = [0u64; 8];
    let mut sender = 0;
    // SAFETY: all that the message points to outlives the call, and is as long as it says.
    let got = with_message(&mut bytes, &mut control, |message| unsafe {
        let got = loop {
            match check(libc::recvmsg(socket.as_raw_fd(), message, 0) as i64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let head = libc::CMSG_FIRSTHDR(message);
        if got > 0 && (head.is_null() || (*head).cmsg_type != libc::SCM_CREDENTIALS) {
            return Err(io::Error::other("a message without a sender"));
        }
        if got > 0 {
            let who: libc::ucred = std::ptr::read_unaligned(libc::CMSG_DATA(head).cast());
            sender = who.pid;
        }
        Ok(got)
    });
    if got? != bytes.len() as i64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    Ok(([number(0), number(4)], sender))
}
