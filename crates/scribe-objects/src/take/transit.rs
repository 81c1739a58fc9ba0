//! What is under way between a program's own sockets, where nobody can look at it: a connection that waits to be
//! accepted, with what was sent by it, bytes for which the other end has no room, and descriptors.

use super::diag::Diag;
use super::peek::peek;
use super::sockets::{ioctl, number, option, same_address};
use super::{fds, pidfd};
use crate::address;
use std::collections::HashSet;
use std::fs;
use std::os::fd::AsRawFd;

/// Offset of tcpi_unacked in struct tcp_info (include/uapi/linux/tcp.h): of a listening socket the number of
/// connections that wait.
const UNACKED: usize = 24;
/// Bytes that were not sent yet (include/uapi/linux/sockios.h).
pub(super) const SIOCOUTQNSD: libc::c_ulong = 0x894b;

/// A connected end, or a socket for which connections wait.
struct End {
    ino: u64,
    domain: i32,
    waited_for: bool,
    unsent: bool,
    /// Descriptors wait to be received.
    carries: bool,
    name: Vec<u8>,
    peer_name: Vec<u8>,
}

/// Whether that is so between these processes, which stand still.
pub fn under_way(pids: impl Iterator<Item = i32>) -> bool {
    let mut seen = HashSet::new();
    let mut ends = Vec::new();
    let mut diag = None;
    for pid in pids {
        let pidfd = pidfd(pid);
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let link = link.to_string_lossy();
            let ino = link.strip_prefix("socket:[");
            let ino = ino.and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok());
            let fd = entry.file_name().to_string_lossy().parse::<i32>().ok();
            if let (Some(ino), Some(fd)) = (ino, fd)
                && seen.insert(ino)
                && let Some(socket) = fds::copy(pidfd.as_ref(), fd)
            {
                ends.extend(end(ino, socket.as_raw_fd(), &mut diag));
            }
        }
    }
    ends.iter().any(|end| match end.domain {
        libc::AF_UNIX => end.carries || !end.waited_for && waits_local(end, &ends, &mut diag),
        _ => !end.waited_for && (waits(end, &ends) || end.unsent && has_peer(end, &ends)),
    })
}

fn end(ino: u64, fd: i32, diag: &mut Option<Diag>) -> Option<End> {
    let domain = number(fd, libc::SO_DOMAIN);
    let local = domain == libc::AF_UNIX;
    let tcp = number(fd, libc::SO_PROTOCOL) == libc::IPPROTO_TCP;
    if !local && !tcp {
        return None;
    }
    let kind = number(fd, libc::SO_TYPE);
    let mut end = End {
        ino,
        domain,
        waited_for: false,
        unsent: false,
        carries: false,
        name: address(fd, false).unwrap_or_default(),
        peer_name: Vec::new(),
    };
    if number(fd, libc::SO_ACCEPTCONN) != 0 {
        let waiting = match local {
            true => {
                *diag = diag.take().or_else(Diag::open);
                diag.as_ref()?.unix(ino)?.waiting
            }
            false => {
                let info = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 104)?;
                u32::from_le_bytes(info.get(UNACKED..UNACKED + 4)?.try_into().ok()?)
            }
        };
        end.waited_for = true;
        return (waiting > 0).then_some(end);
    }
    if local {
        peek(fd, kind == libc::SOCK_STREAM, |_, more| end.carries |= more);
    }
    let Ok(peer_name) = address(fd, true) else {
        return end.carries.then_some(end);
    };
    end.peer_name = peer_name;
    end.unsent = tcp && ioctl(fd, SIOCOUTQNSD) > 0;
    Some(end)
}

/// Its other end is one of these.
fn has_peer(end: &End, all: &[End]) -> bool {
    all.iter().any(|other| {
        !other.waited_for
            && other.ino != end.ino
            && same_address(&other.name, &end.peer_name)
            && same_address(&other.peer_name, &end.name)
    })
}

/// It waits to be accepted by one of these.
fn waits(end: &End, all: &[End]) -> bool {
    let port = |name: &[u8]| name.get(2..4).map(<[u8]>::to_vec);
    let listens = |other: &End| other.waited_for && port(&other.name) == port(&end.peer_name);
    all.iter().any(listens) && !has_peer(end, all)
}

/// The same of a local socket: what waits has no inode yet.
fn waits_local(end: &End, all: &[End], diag: &mut Option<Diag>) -> bool {
    let listens =
        |other: &End| other.waited_for && other.domain == end.domain && other.name == end.peer_name;
    if !all.iter().any(listens) {
        return false;
    }
    *diag = diag.take().or_else(Diag::open);
    let known = diag.as_ref().and_then(|diag| diag.unix(end.ino));
    known.is_some_and(|known| known.peer == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixDatagram;

    /// Of this process, which is not only this test's: so all in one.
    #[test]
    fn connections_that_wait() {
        let there = || under_way(std::iter::once(std::process::id() as i32));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(there());
        let server = listener.accept().unwrap();
        assert!(!there());
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 4096]).is_ok() {}
        assert!(there());
        drop((client, server));
        assert!(!there());
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(b"nothing but bytes").unwrap();
        assert!(!there());
        let mut byte = [1u8];
        let mut part = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // SAFETY: all that the message points to outlives the call, and has room for one descriptor with its head.
        unsafe {
            let mut control = [0u64; 3];
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            let head = libc::CMSG_FIRSTHDR(&message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(4) as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(head).cast(), b.as_raw_fd());
            assert_eq!(libc::sendmsg(a.as_raw_fd(), &message, 0), 1);
        }
        assert!(there());
        let mut bytes = [0; 20];
        assert_eq!(b.recv(&mut bytes).unwrap(), 17);
        assert_eq!(b.recv(&mut bytes).unwrap(), 1);
        assert!(!there());
    }
}
