//! Sockets: asked through a copy of the descriptor, which changes nothing about them.

use super::peek::{events, peek};
use super::transit::SIOCOUTQNSD;
use super::{Taking, diag::Diag};
use crate::address;
use crate::model::{Kind, Socket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Options that are kept: level, name, length.
const OPTIONS: [(i32, i32, usize); 17] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, 4),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT, 4),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 4),
    (libc::SOL_SOCKET, libc::SO_BROADCAST, 4),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, 4),
    (libc::SOL_SOCKET, libc::SO_PASSCRED, 4),
    (libc::SOL_SOCKET, libc::SO_LINGER, 8),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, 16),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO, 16),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 4),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, 4),
    (libc::IPPROTO_TCP, libc::TCP_CORK, 4),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 4),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 4),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 4),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 4),
];

/// `tcpi_state` values (include/net/tcp_states.h).
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_LAST_ACK: u8 = 9;
const TCP_CLOSING: u8 = 11;

pub(super) fn option(fd: RawFd, level: i32, name: i32, len: usize) -> Option<Vec<u8>> {
    let mut value = vec![0; len];
    let mut got = len as libc::socklen_t;
    // SAFETY: room for the length.
    let ok = unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut got) } == 0;
    value.truncate(got as usize);
    ok.then_some(value)
}

pub(super) fn number(fd: RawFd, name: i32) -> i32 {
    let value = option(fd, libc::SOL_SOCKET, name, 4);
    value
        .and_then(|value| Some(i32::from_le_bytes(value.try_into().ok()?)))
        .unwrap_or(0)
}

pub(super) fn ioctl(fd: RawFd, what: libc::c_ulong) -> u32 {
    let mut value = 0i32;
    // SAFETY: these requests write one int.
    let ok = unsafe { libc::ioctl(fd, what as _, &mut value) } == 0;
    if ok { value.max(0) as u32 } else { 0 }
}

impl Taking<'_> {
    pub(super) fn socket(&mut self, id: u64, socket: &OwnedFd) -> Kind {
        let fd = socket.as_raw_fd();
        let mut found = Socket {
            id,
            domain: number(fd, libc::SO_DOMAIN),
            kind: number(fd, libc::SO_TYPE),
            protocol: number(fd, libc::SO_PROTOCOL),
            name: address(fd, false).unwrap_or_default(),
            ..Socket::default()
        };
        for (level, name, len) in OPTIONS {
            let tcp = level == libc::IPPROTO_TCP && found.protocol != libc::IPPROTO_TCP;
            if tcp || level == libc::IPPROTO_IPV6 && found.domain != libc::AF_INET6 {
                continue;
            }
            if let Some(value) = option(fd, level, name, len).filter(|v| v.iter().any(|b| *b != 0))
            {
                found.options.push((level, name, value));
            }
        }
        if number(fd, libc::SO_ACCEPTCONN) != 0 {
            found.listens = Some(backlog(fd, &found));
            return Kind::Socket(Box::new(found));
        }
        let peer = address(fd, true).ok();
        found.connected = peer.is_some();
        found.peer_name = peer.unwrap_or_default();
        if found.domain == libc::AF_UNIX {
            self.diag = self.diag.take().or_else(Diag::open);
            let known = self.diag.as_ref().and_then(|diag| diag.unix(id));
            (found.peer, found.shut) = known.map_or((0, 0), |known| (known.peer, known.shut));
        } else if found.protocol == libc::IPPROTO_TCP {
            if !found.connected {
                found.over = over(events(fd));
            }
            let info = option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 104).unwrap_or_default();
            found.shut = match info.first() {
                Some(&TCP_CLOSE_WAIT) => 1,
                Some(&(TCP_FIN_WAIT1 | TCP_FIN_WAIT2)) => 2,
                Some(&(TCP_LAST_ACK | TCP_CLOSING)) => 3,
                _ => 0,
            };
            // What the other end has got it holds, though it may not have said so yet.
            found.unsent = ioctl(fd, SIOCOUTQNSD);
        }
        self.queue(fd, &mut found);
        Kind::Socket(Box::new(found))
    }

    /// Copies what waits to be read.
    fn queue(&mut self, fd: RawFd, socket: &mut Socket) {
        let stream = socket.kind == libc::SOCK_STREAM;
        if stream && !socket.connected && socket.name.is_empty() {
            return;
        }
        let mut carries = false;
        peek(fd, stream, |bytes, more| {
            let content = self.store.begin();
            self.store.put(content, 0, bytes);
            socket.queue.push((content.0, content.1, Vec::new()));
            carries |= more && socket.domain == libc::AF_UNIX;
        });
        if carries {
            let lost = "descriptors that are under way between its processes";
            self.objects.lost.push(lost.into());
        }
    }

    /// Finds out which sockets are connected with each other.
    pub(super) fn peers(&mut self) {
        let sockets: Vec<Socket> = self
            .objects
            .open
            .iter()
            .filter_map(|open| match &open.kind {
                Kind::Socket(socket) => Some((**socket).clone()),
                _ => None,
            })
            .collect();
        for open in &mut self.objects.open {
            let Kind::Socket(socket) = &mut open.kind else {
                continue;
            };
            let here = |other: &&Socket| match socket.domain {
                libc::AF_UNIX => other.id == socket.peer,
                _ => {
                    other.id != socket.id
                        && other.connected
                        && socket.connected
                        && other.protocol == socket.protocol
                        && same_address(&other.name, &socket.peer_name)
                        && same_address(&other.peer_name, &socket.name)
                }
            };
            socket.peer = sockets.iter().find(here).map_or(0, |peer| peer.id);
        }
    }
}

/// How the connection of a socket that has none ended, if it had one.
fn over(events: i16) -> u8 {
    match events {
        _ if events & libc::POLLERR != 0 => 2,
        _ if events & libc::POLLRDHUP != 0 => 1,
        _ => 0,
    }
}

/// Whether two addresses are the same, also where one is an IPv4 address in IPv6's form.
pub(super) fn same_address(a: &[u8], b: &[u8]) -> bool {
    /// Port and address of sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)).
    fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let family = i32::from(u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let address = match family {
            libc::AF_INET => bytes.get(4..8)?,
            libc::AF_INET6 => {
                let all = bytes.get(8..24)?;
                all.strip_prefix(&mapped).unwrap_or(all)
            }
            _ => return None,
        };
        Some((bytes.get(2..4)?, address))
    }
    parts(a).is_some() && parts(a) == parts(b)
}

/// How many connections may wait: of TCP the kernel says it (tcpi_sacked of a listening socket).
fn backlog(fd: RawFd, socket: &Socket) -> i32 {
    /// Offset of tcpi_sacked in struct tcp_info (include/uapi/linux/tcp.h).
    const SACKED: usize = 28;
    let info = match socket.protocol {
        libc::IPPROTO_TCP => option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 104),
        _ => None,
    };
    let found = info.and_then(|info| {
        Some(u32::from_le_bytes(
            info.get(SACKED..SACKED + 4)?.try_into().ok()?,
        ))
    });
    found.map_or(libc::SOMAXCONN, |found| found as i32)
}
