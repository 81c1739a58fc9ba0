//! Sockets: addresses, options, messages.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Printer;
use super::structs::{Raw, emit};
use super::text::quote;
use crate::flags as f;

impl Printer<'_> {
    pub(super) fn sockaddr(&mut self, addr: u64, len: u64) -> bool {
        let Some(raw) = self.read(addr, len.min(128)).map(Raw) else {
            return false;
        };
        if raw.0.len() < 2 {
            return false;
        }
        let family = raw.u16(0);
        self.put("{sa_family=");
        self.one_of(&f::AF, family);
        let port = (raw.u16(2) as u16).swap_bytes();
        match (family, raw.0.len()) {
            (1, 2) => {}
            (1, n) => self.sun_path(&raw.0[2..n]),
            (2, 8..) => {
                let ip = Ipv4Addr::from((raw.u32(4) as u32).swap_bytes());
                emit!(
                    self,
                    ", sin_port=htons({port}), sin_addr=inet_addr(\"{ip}\")"
                );
            }
            (10, 24..) => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&raw.0[8..24]);
                let ip = Ipv6Addr::from(octets);
                let flow = (raw.u32(4) as u32).swap_bytes();
                emit!(
                    self,
                    ", sin6_port=htons({port}), sin6_flowinfo=htonl({flow})"
                );
                emit!(self, ", inet_pton(AF_INET6, \"{ip}\", &sin6_addr)");
                emit!(self, ", sin6_scope_id={}", raw.u32(24));
            }
            (16, 12..) => {
                emit!(
                    self,
                    ", nl_pid={}, nl_groups={:08x}",
                    raw.u32(4),
                    raw.u32(8)
                );
            }
            (17, 12..) => {
                let protocol = (raw.u16(2) as u16).swap_bytes();
                emit!(
                    self,
                    ", sll_protocol=htons({protocol:#x}), sll_ifindex={}",
                    raw.i32(4)
                );
            }
            (40, 16..) => emit!(
                self,
                ", svm_cid={:#x}, svm_port={:#x}",
                raw.u32(8),
                raw.u32(4)
            ),
            (_, n) => {
                self.put(", sa_data=");
                quote(&mut self.out, &raw.0[2..n.min(16)]);
            }
        }
        self.put("}");
        true
    }

    /// Abstract names begin with a NUL, and may hold more of them.
    fn sun_path(&mut self, path: &[u8]) {
        self.put(", sun_path=");
        if path[0] == 0 && path.len() > 1 {
            self.put("@");
            quote(&mut self.out, &path[1..]);
        } else {
            self.fixed_str(path);
        }
    }

    pub(super) fn sockopt_name(&mut self, level: u32, name: u64) {
        let set = match level {
            0 => &f::IP,
            1 => &f::SO,
            6 => &f::TCP,
            41 => &f::IPV6,
            _ => return self.hex(name),
        };
        self.one_of(set, name);
    }

    pub(super) fn sockopt(&mut self, addr: u64, len: u64) -> bool {
        let Some(raw) = self.read(addr, len.min(4096)).map(Raw) else {
            return false;
        };
        let (level, name) = (self.call.args[1] as u32, self.call.args[2] as u32);
        match (level, name, raw.0.len()) {
            // SO_LINGER, SO_PEERCRED, SO_RCVTIMEO, SO_SNDTIMEO
            (1, 13, 8) => emit!(self, "{{l_onoff={}, l_linger={}}}", raw.i32(0), raw.i32(4)),
            (1, 17, 12) => {
                emit!(
                    self,
                    "{{pid={}, uid={}, gid={}}}",
                    raw.i32(0),
                    raw.u32(4),
                    raw.u32(8)
                );
            }
            (1, 20 | 21, 16) => {
                emit!(self, "{{tv_sec={}, tv_usec={}}}", raw.i64(0), raw.i64(8));
            }
            (1, 4, 4) => match crate::names::errno_name(raw.i32(0)) {
                Some(name) => emit!(self, "[{name}]"),
                None => emit!(self, "[{}]", raw.i32(0)),
            },
            (_, _, 4) => emit!(self, "[{}]", raw.i32(0)),
            _ => return self.data(addr, len),
        }
        true
    }

    pub(super) fn iovec(&mut self, addr: u64, len: u64, index: usize) -> bool {
        self.array(len / 16, |p, i| {
            let Some(raw) = p.read(addr + i * 16, 16).map(Raw) else {
                return false;
            };
            p.put("{iov_base=");
            match p.nested(index, i * 16) {
                Some(child) => p.buf(child),
                None if raw.u64(8) == 0 && raw.u64(0) != 0 => p.put("\"\""),
                None => p.addr(raw.u64(0)),
            }
            emit!(p, ", iov_len={}}}", raw.u64(8));
            true
        })
    }

    /// A `msghdr` at this offset of the buffer.
    pub(super) fn msghdr(&mut self, addr: u64, index: usize, off: u64) -> bool {
        let Some(raw) = self.read(addr + off, 56).map(Raw) else {
            return false;
        };
        self.put("{msg_name=");
        self.field(index, off, raw.u64(0));
        emit!(self, ", msg_namelen={}, msg_iov=", raw.u32(8));
        self.field(index, off + 16, raw.u64(16));
        emit!(self, ", msg_iovlen={}", raw.u64(24));
        let controllen = raw.u64(40);
        if raw.u64(32) != 0 && controllen != 0 {
            self.put(", msg_control=");
            if !self.control(raw.u64(32), controllen) {
                self.hex(raw.u64(32));
            }
        }
        emit!(self, ", msg_controllen={controllen}, msg_flags=");
        self.flags(&f::MSG, raw.u32(48));
        self.put("}");
        true
    }

    fn field(&mut self, index: usize, off: u64, value: u64) {
        match self.nested(index, off) {
            Some(child) => self.buf(child),
            None => self.addr(value),
        }
    }

    /// Control messages: descriptors and credentials are named, others by level and type.
    fn control(&mut self, addr: u64, len: u64) -> bool {
        if self.ret.is_none_or(super::failed) && self.row.nr == 47 {
            return false;
        }
        let Some(raw) = self.read(addr, len.min(4096)).map(Raw) else {
            return false;
        };
        let start = self.out.len();
        self.put("[");
        let mut at = 0;
        while at + 16 <= raw.0.len() {
            let size = raw.u64(at) as usize;
            if size < 16 || size > raw.0.len() - at {
                self.out.truncate(start);
                return false;
            }
            if at > 0 {
                self.put(", ");
            }
            let (level, kind) = (raw.i32(at + 8), raw.i32(at + 12));
            emit!(self, "{{cmsg_len={size}, cmsg_level=");
            self.one_of(&f::SOL, level as u32 as u64);
            self.put(", cmsg_type=");
            match (level, kind) {
                (1, 1) => {
                    self.put("SCM_RIGHTS, cmsg_data=[");
                    for (i, fd) in (at + 16..at + size - 3).step_by(4).enumerate() {
                        emit!(self, "{}{}", if i > 0 { ", " } else { "" }, raw.i32(fd));
                    }
                    self.put("]");
                }
                (1, 2) if size >= 28 => emit!(
                    self,
                    "SCM_CREDENTIALS, cmsg_data={{pid={}, uid={}, gid={}}}",
                    raw.i32(at + 16),
                    raw.u32(at + 20),
                    raw.u32(at + 24)
                ),
                _ => emit!(self, "{kind:#x}"),
            }
            self.put("}");
            at += size.next_multiple_of(8);
        }
        self.put("]");
        true
    }

    pub(super) fn mmsghdr(&mut self, addr: u64, len: u64, index: usize) -> bool {
        // Messages that were received; of those to be sent, all.
        let count = match self.ret {
            Some(ret) if self.row.nr == 299 => ret.max(0) as u64,
            None if self.row.nr == 299 => return false,
            _ => u64::MAX,
        };
        self.array((len / 64).min(count), |p, i| {
            p.put("{msg_hdr=");
            let ok = p.msghdr(addr, index, i * 64);
            emit!(
                p,
                ", msg_len={}}}",
                p.mem.read_u32(addr + i * 64 + 56).unwrap_or(0)
            );
            ok
        })
    }
}
