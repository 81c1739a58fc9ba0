//! Looking at what waits to be read at a socket, so that nothing of it is taken away.

use super::sockets::{ioctl, number};
use std::os::fd::RawFd;

/// Messages looked at, and the longest of them.
const MESSAGES: usize = 1024;
const MESSAGE: usize = 256 << 10;

/// What poll(2) says of a socket.
pub(super) fn events(fd: RawFd) -> i16 {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLIN | libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one structure.
    unsafe { libc::poll(&mut asked, 1, 0) };
    asked.revents
}

/// Calls `each` with what waits, message by message (of a stream piece by piece), and whether descriptors (or other
/// things than bytes) come with it.
pub(super) fn peek(fd: RawFd, stream: bool, mut each: impl FnMut(&[u8], bool)) {
    // An error that the program does not know of yet would be ours.
    let bytes = ioctl(fd, libc::FIONREAD as _) as usize;
    if stream && bytes == 0 || !stream && events(fd) & libc::POLLERR != 0 {
        return;
    }
    let offset = |value: i32| {
        let at = (&raw const value).cast();
        // SAFETY: an int, as SO_PEEK_OFF wants it.
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, at, 4) == 0 }
    };
    // Peeking goes on behind what was seen; without that, at the first message only. It is the
    // socket's own setting, so it is put back.
    let before = number(fd, libc::SO_PEEK_OFF);
    let walks = offset(0);
    let room = match stream {
        true => (bytes + 1).max(MESSAGE),
        false => MESSAGE,
    };
    // Its sender's name is added to each message where the socket wants that: then there is always more than bytes.
    let names = number(fd, libc::SO_PASSCRED) != 0;
    let mut buf = vec![0u8; room];
    for _ in 0..MESSAGES {
        let mut part = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        // SAFETY: all zero is a value of this structure; it has no room for anything but the bytes, for which there is
        // room as it says.
        let (got, flags) = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
            let got = libc::recvmsg(fd, &mut message, libc::MSG_PEEK | libc::MSG_DONTWAIT);
            (got, message.msg_flags)
        };
        if got < 0 || got == 0 && stream {
            break;
        }
        // There was no room for them.
        each(
            &buf[..got as usize],
            flags & libc::MSG_CTRUNC != 0 && !names,
        );
        if !walks {
            break;
        }
    }
    if walks {
        offset(before);
    }
}
