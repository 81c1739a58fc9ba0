//! Sockets: those that wait for connections, connections within the description, and ends whose other
//! end is gone.

use super::{Maker, set_nonblock};
use crate::model::{Kind, Socket};
use crate::{address, check, owned};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// What a socket is, for people.
pub(super) fn describe(socket: &Socket) -> String {
    let kind = match socket.domain {
        libc::AF_UNIX => "a local socket",
        libc::AF_NETLINK => "a netlink socket",
        _ if socket.protocol == libc::IPPROTO_TCP => "a TCP socket",
        _ if socket.kind == libc::SOCK_DGRAM => "a UDP socket",
        _ => "a socket",
    };
    match (readable(&socket.name), readable(&socket.peer_name)) {
        (_, Some(peer)) => format!("{kind}, connected with {peer}"),
        (Some(own), None) => format!("{kind} at {own}"),
        _ => kind.into(),
    }
}

/// An address, for people.
fn readable(bytes: &[u8]) -> Option<String> {
    let family = i32::from(u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?));
    match family {
        libc::AF_UNIX => {
            let path = bytes.get(2..)?;
            let (at, path) = match path.split_first()? {
                (0, rest) => ("@", rest),
                _ => ("", path),
            };
            let end = path
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(path.len());
            (end > 0).then(|| format!("{at}{}", String::from_utf8_lossy(&path[..end])))
        }
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
            (port != 0).then(|| format!("{}:{port}", std::net::Ipv4Addr::from(ip)))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
            (port != 0).then(|| format!("[{}]:{port}", std::net::Ipv6Addr::from(ip)))
        }
        _ => None,
    }
}

fn create(socket: &Socket) -> io::Result<OwnedFd> {
    let kind = socket.kind | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers.
    check(unsafe { libc::socket(socket.domain, kind, socket.protocol) }.into()).map(owned)
}

fn bind(fd: &OwnedFd, name: &[u8]) -> io::Result<()> {
    // SAFETY: an address with its length.
    let done = unsafe { libc::bind(fd.as_raw_fd(), name.as_ptr().cast(), name.len() as u32) };
    check(done.into()).map(drop)
}

fn connect(fd: &OwnedFd, name: &[u8]) -> io::Result<()> {
    // SAFETY: an address with its length.
    let done = unsafe { libc::connect(fd.as_raw_fd(), name.as_ptr().cast(), name.len() as u32) };
    check(done.into()).map(drop)
}

fn set(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) {
    // SAFETY: a value with its length. What cannot be set is a hint that is not heeded.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
}

fn options(fd: &OwnedFd, socket: &Socket) {
    for (level, name, value) in &socket.options {
        set(fd, *level, *name, value);
    }
}

fn accept(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no address is wanted.
    let got = unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    };
    check(got.into()).map(owned)
}

/// The address without its port.
fn any_port(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    if let Some(port) = name.get_mut(2..4) {
        port.fill(0);
    }
    name
}

/// The path of an AF_UNIX address that is a file.
fn path_of(name: &[u8]) -> Option<String> {
    let path = name
        .get(2..)
        .filter(|path| path.first().is_some_and(|byte| *byte != 0))?;
    let end = path
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(path.len());
    Some(String::from_utf8_lossy(&path[..end]).into_owned())
}

impl Maker<'_> {
    pub(super) fn socket(&mut self, socket: &Socket) -> io::Result<OwnedFd> {
        if let Some(made) = self.sockets.remove(&socket.id) {
            return Ok(made);
        }
        let stream = socket.kind != libc::SOCK_DGRAM && socket.kind != libc::SOCK_RAW;
        if (socket.connected || socket.over != 0) && stream {
            return self.connection(socket);
        }
        let pair = socket.domain == libc::AF_UNIX && socket.peer != 0;
        if pair && path_of(&socket.name).is_none() {
            return self.connection(socket);
        }
        let fd = create(socket)?;
        // A former owner of the address may not be gone for long.
        if socket.listens.is_some() {
            set(
                &fd,
                libc::SOL_SOCKET,
                libc::SO_REUSEADDR,
                &1i32.to_le_bytes(),
            );
        }
        options(&fd, socket);
        let bound = match socket.domain {
            libc::AF_UNIX => socket.name.len() > 2,
            libc::AF_INET | libc::AF_INET6 => {
                socket.name.get(2..4).is_some_and(|port| port != [0, 0])
            }
            _ => false,
        };
        if bound {
            if let Some(path) = path_of(&socket.name) {
                // Left over by the recording, or somebody's.
                if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                let _ = std::fs::remove_file(&path);
            }
            bind(&fd, &socket.name)?;
        }
        if let Some(backlog) = socket.listens {
            // SAFETY: plain numbers.
            check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }.into())?;
        } else if socket.connected && connect(&fd, &socket.peer_name).is_err() {
            self.notes
                .push(format!("{}: not connected any more", describe(socket)));
        }
        if !socket.queue.is_empty() {
            self.notes.push(format!(
                "{}: what had come for it is lost",
                describe(socket)
            ));
        }
        Ok(fd)
    }

    /// One end of a connection; the other is kept until it is wanted, or closed if nobody has it.
    fn connection(&mut self, socket: &Socket) -> io::Result<OwnedFd> {
        let mut others = self
            .objects
            .open
            .iter()
            .filter_map(|open| match &open.kind {
                Kind::Socket(other) if other.id == socket.peer && socket.peer != 0 => {
                    Some(&**other)
                }
                _ => None,
            });
        let peer = others.next_back();
        let (fd, other) = match (socket.domain, peer) {
            (libc::AF_UNIX, _) => pair(socket)?,
            (_, Some(peer)) => self.through(socket, peer)?,
            (_, None) => meet(socket, socket)?,
        };
        options(&fd, socket);
        let Some(peer) = peer else {
            // Whoever was there is gone: it is told so.
            self.send(&other, socket)?;
            let now = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            let at = (&raw const now).cast::<u8>();
            // SAFETY: the bytes of a structure of two ints.
            let value = unsafe { std::slice::from_raw_parts(at, size_of_val(&now)) };
            if socket.over == 1 {
                shut(&fd, SEND_SHUTDOWN);
                return Ok(fd);
            }
            if socket.queue.is_empty() && socket.shut == 0 {
                set(&other, libc::SOL_SOCKET, libc::SO_LINGER, value);
            }
            self.notes.push(format!(
                "{}: it is told that the other end is gone",
                describe(socket)
            ));
            return Ok(fd);
        };
        options(&other, peer);
        self.send(&other, socket)?;
        self.send(&fd, peer)?;
        if socket.unsent > 0 || peer.unsent > 0 {
            self.notes
                .push(format!("{}: what was under way is lost", describe(socket)));
        }
        shut(&fd, socket.shut);
        shut(&other, peer.shut);
        self.sockets.insert(peer.id, other);
        Ok(fd)
    }

    /// A connection, by way of the socket that waits for such.
    fn through(&mut self, socket: &Socket, peer: &Socket) -> io::Result<(OwnedFd, OwnedFd)> {
        let listening = |name: &[u8]| {
            let mut all = self.objects.open.iter();
            all.find_map(|open| match &open.kind {
                Kind::Socket(other) if other.listens.is_some() && other.domain == socket.domain => {
                    let same = other.name.get(2..4) == name.get(2..4);
                    same.then(|| self.sockets.get(&other.id)).flatten()
                }
                _ => None,
            })
        };
        let mut ends = [(socket, peer, false), (peer, socket, true)].into_iter();
        let found = ends.find_map(|(client, server, turned)| {
            Some((client, server, turned, listening(&server.name)?))
        });
        let Some((client, server, turned, listener)) = found else {
            return meet(socket, peer);
        };
        let end = create(client)?;
        set(
            &end,
            libc::SOL_SOCKET,
            libc::SO_REUSEADDR,
            &1i32.to_le_bytes(),
        );
        let _ = bind(&end, &client.name);
        connect(&end, &server.name)?;
        let accepted = accept(listener)?;
        Ok(if turned {
            (accepted, end)
        } else {
            (end, accepted)
        })
    }

    /// Sends what waits at `to` from the other end.
    fn send(&mut self, from: &OwnedFd, to: &Socket) -> io::Result<()> {
        let mut complete = true;
        let datagrams = to.kind != libc::SOCK_STREAM;
        set_nonblock(from, libc::O_NONBLOCK)?;
        for (stream, number, _) in &to.queue {
            let mut message = Vec::new();
            self.contents.read((*stream, *number), &mut |_, bytes| {
                message.extend_from_slice(bytes);
            })?;
            let mut rest = &message[..];
            loop {
                let flags = libc::MSG_NOSIGNAL;
                // SAFETY: a buffer with its length.
                let n = unsafe {
                    libc::send(from.as_raw_fd(), rest.as_ptr().cast(), rest.len(), flags)
                };
                if n < 0 {
                    complete = false;
                    break;
                }
                rest = rest.get(n as usize..).unwrap_or_default();
                if rest.is_empty() || datagrams {
                    break;
                }
            }
        }
        set_nonblock(from, 0)?;
        if !complete {
            self.notes.push(format!(
                "{}: some of what had come for it is lost",
                describe(to)
            ));
        }
        Ok(())
    }
}

/// Nothing more may be sent by it.
fn shut(fd: &OwnedFd, what: u8) {
    if what & SEND_SHUTDOWN != 0 {
        // SAFETY: plain numbers.
        unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
    }
}

/// include/net/sock.h
const SEND_SHUTDOWN: u8 = 2;

/// A connected pair of local sockets.
fn pair(socket: &Socket) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = socket.kind | libc::SOCK_CLOEXEC;
    // SAFETY: room for two.
    let made = unsafe { libc::socketpair(socket.domain, kind, 0, fds.as_mut_ptr()) };
    check(made.into())?;
    let [a, b] = fds.map(i64::from).map(owned);
    Ok((a, b))
}

/// A connection with an end that nobody waits for.
fn meet(client: &Socket, server: &Socket) -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = create(server)?;
    let home = if client.id == server.id {
        &client.name
    } else {
        &server.name
    };
    bind(&listener, &any_port(home))?;
    // SAFETY: plain numbers.
    check(unsafe { libc::listen(listener.as_raw_fd(), 1) }.into())?;
    let end = create(client)?;
    connect(&end, &address(listener.as_raw_fd(), false)?)?;
    Ok((end, accept(&listener)?))
}
