//! Which AF_UNIX socket is connected with which: sock_diag(7) knows.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// include/uapi/linux/sock_diag.h, unix_diag.h, netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_SHUTDOWN: u16 = 6;
const NLM_F_REQUEST: u16 = 1;
/// Heads of a message and of an answer, bytes.
const NLMSGHDR: usize = 16;
const UNIX_DIAG_MSG: usize = 16;

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Local {
    /// Inode of the socket that it is connected with; 0: none, or one that was not accepted yet.
    pub peer: u64,
    /// What of it was shut down (RCV_SHUTDOWN 1, SEND_SHUTDOWN 2).
    pub shut: u8,
    /// Bytes that wait to be read; connections that wait to be accepted.
    pub waiting: u32,
}

/// A connection to the kernel's list of sockets.
pub(super) struct Diag(OwnedFd);

impl Diag {
    pub(super) fn open() -> Option<Diag> {
        // SAFETY: plain numbers; the result is a descriptor of our own.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG);
            (fd >= 0).then(|| Diag(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// What is known of the socket with this inode.
    pub(super) fn unix(&self, ino: u64) -> Option<Local> {
        let mut request = Vec::new();
        let len = (NLMSGHDR + 24) as u32;
        request.extend_from_slice(&len.to_le_bytes());
        request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_le_bytes());
        request.extend_from_slice(&NLM_F_REQUEST.to_le_bytes());
        request.extend_from_slice(&[0; 8]);
        // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie.
        request.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
        request.extend_from_slice(&u32::MAX.to_le_bytes());
        request.extend_from_slice(&(ino as u32).to_le_bytes());
        request.extend_from_slice(&(UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN).to_le_bytes());
        request.extend_from_slice(&[0xff; 8]);
        let mut answer = [0u8; 4096];
        // SAFETY: buffers with their lengths.
        let got = unsafe {
            let fd = self.0.as_raw_fd();
            let sent = libc::send(fd, request.as_ptr().cast(), request.len(), 0);
            if sent != request.len() as isize {
                return None;
            }
            libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        attributes(answer.get(..usize::try_from(got).ok()?)?)
    }
}

/// Reads an answer.
fn attributes(answer: &[u8]) -> Option<Local> {
    let word = |at: usize| Some(u16::from_le_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if word(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut found = Local::default();
    let mut at = NLMSGHDR + UNIX_DIAG_MSG;
    while let (Some(len), Some(kind)) = (word(at), word(at + 2)) {
        if len < 4 {
            break;
        }
        let value = answer.get(at + 4..at + usize::from(len))?;
        match kind {
            UNIX_DIAG_PEER => {
                found.peer = u64::from(u32::from_le_bytes(value.get(..4)?.try_into().ok()?));
            }
            UNIX_DIAG_RQLEN => {
                found.waiting = u32::from_le_bytes(value.get(..4)?.try_into().ok()?);
            }
            UNIX_DIAG_SHUTDOWN => found.shut = *value.first()?,
            _ => {}
        }
        at += usize::from(len).next_multiple_of(4);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_pair_knows_each_other() {
        let (a, b) = UnixStream::pair().unwrap();
        let ino = |socket: &UnixStream| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            std::fs::metadata(path).unwrap().ino()
        };
        let Some(diag) = Diag::open() else { return };
        // Where the kernel has no unix_diag, nothing is known.
        if let Some(found) = diag.unix(ino(&a)) {
            assert_eq!((found.peer, found.shut), (ino(&b), 0));
            a.shutdown(std::net::Shutdown::Write).unwrap();
            let other = diag.unix(ino(&b)).unwrap();
            assert_eq!((other.peer, other.shut), (ino(&a), 1));
        }
    }
}
