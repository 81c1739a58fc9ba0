//! Operations of asynchronous I/O: what is submitted is carried out at once; see [`super::aio`].

use super::aio::{EAGAIN, EFAULT, EINVAL, EVENT, TAIL_AT};
use super::calls::Kind;
use super::*;
use scribe_syscalls::{Call, Row};

type Answer<T> = std::result::Result<T, i64>;

impl Recorder {
    pub(super) fn io_submit(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [ring, count, list, ..] = call.args;
        let pending = self.prepare(id, row, call, Kind::Parked);
        let Some(index) = self.ring(id, ring).filter(|_| count as i64 >= 0) else {
            return self.answer_wrote(id, &pending, EINVAL, &[]);
        };
        let space = self.task(id).space.clone();
        let count = count.min(self.waits.rings[index].slots.into());
        let mut wrote = Vec::new();
        let (mut done, mut failed) = (0, 0);
        while done < count {
            match self.submit_one(id, index, list.wrapping_add(done * 8), &mut wrote)? {
                Ok(()) => done += 1,
                Err(errno) => {
                    failed = errno;
                    break;
                }
            }
        }
        let ret = if done > 0 { done as i64 } else { failed };
        if done > 0 {
            let tail = self.waits.rings[index].tail;
            space.mem.write(ring + TAIL_AT, &tail.to_le_bytes())?;
            wrote.push((ring + TAIL_AT, 4));
            self.wake_ring(id, ring)?;
        }
        self.answer_wrote(id, &pending, ret, &wrote)
    }

    /// Carries out one operation and puts its completion into the ring; fs/aio.c,
    /// `io_submit_one`.
    fn submit_one(
        &mut self,
        id: u32,
        index: usize,
        at: u64,
        wrote: &mut Vec<(u64, u64)>,
    ) -> Result<Answer<()>> {
        let space = self.task(id).space.clone();
        let mut bytes = [0; 64];
        let Ok(at) = space.mem.read_u64(at) else {
            return Ok(Err(EFAULT));
        };
        if space.mem.read(at, &mut bytes).is_err() {
            return Ok(Err(EFAULT));
        }
        let iocb = Iocb::parse(&bytes);
        if iocb.reserved != 0 || (iocb.len as i64) < 0 {
            return Ok(Err(EINVAL));
        }
        let ring = &self.waits.rings[index];
        let Some(head) = ring.head(&space) else {
            return Ok(Err(EFAULT));
        };
        if (ring.tail + 1) % ring.slots == head {
            return Ok(Err(EAGAIN));
        }
        let (slot, slots) = (u64::from(ring.tail), ring.slots);
        let place = ring.slot(slot);
        let notify = match self.notified(id, &iocb) {
            Ok(notify) => notify,
            Err(errno) => return Ok(Err(errno)),
        };
        // KIOCB_KEY.
        if space.mem.write(at + 8, &[0; 4]).is_err() {
            return Ok(Err(EFAULT));
        }
        wrote.push((at + 8, 4));
        let res = match self.carry_out(id, &iocb, wrote)? {
            Ok(res) => res,
            Err(errno) => return Ok(Err(errno)),
        };
        let event = [iocb.data, at, res as u64, 0];
        let event: Vec<u8> = event.iter().flat_map(|word| word.to_le_bytes()).collect();
        space.mem.write(place, &event)?;
        wrote.push((place, EVENT));
        self.waits.rings[index].tail = (slot as u32 + 1) % slots;
        if let Some(fd) = notify {
            space
                .mem
                .write(scribe_abi::AGENT_STRINGS, &1u64.to_le_bytes())?;
            let args = [fd, scribe_abi::AGENT_STRINGS, 8, 0, 0, 0];
            self.inject(id, libc::SYS_write, args)?;
            space.mem.write(scribe_abi::AGENT_STRINGS, &[0; 8])?;
        }
        Ok(Ok(()))
    }

    /// The eventfd that is told of the completion.
    fn notified(&self, id: u32, iocb: &Iocb) -> Answer<Option<u64>> {
        const EBADF: i64 = -(libc::EBADF as i64);
        if self.fd_info(id, iocb.fd).is_none() {
            return Err(EBADF);
        }
        if iocb.flags & IOCB_FLAG_RESFD == 0 {
            return Ok(None);
        }
        let link = format!("/proc/{}/fd/{}", self.task(id).tid, iocb.notify);
        let name = std::fs::read_link(link).map_err(|_| EBADF)?;
        if name.as_os_str() != "anon_inode:[eventfd]" {
            return Err(EINVAL);
        }
        Ok(Some(iocb.notify as u64))
    }

    /// Carries out one operation. The inner result is that of the operation, or that of the whole
    /// submission if the operation cannot begin.
    fn carry_out(
        &mut self,
        id: u32,
        iocb: &Iocb,
        wrote: &mut Vec<(u64, u64)>,
    ) -> Result<Answer<i64>> {
        let fd = iocb.fd as u64;
        let (reads, vector) = match iocb.opcode {
            IOCB_CMD_PREAD => (true, false),
            IOCB_CMD_PWRITE => (false, false),
            IOCB_CMD_PREADV => (true, true),
            IOCB_CMD_PWRITEV => (false, true),
            IOCB_CMD_FSYNC | IOCB_CMD_FDSYNC => {
                let plain = iocb.buf == 0 && iocb.offset == 0 && iocb.len == 0;
                if !plain || iocb.rw_flags != 0 {
                    return Ok(Err(EINVAL));
                }
                let nr = if iocb.opcode == IOCB_CMD_FSYNC {
                    libc::SYS_fsync
                } else {
                    libc::SYS_fdatasync
                };
                let ret = self.inject(id, nr, [fd, 0, 0, 0, 0, 0])?;
                return Ok(if ret == EINVAL { Err(ret) } else { Ok(ret) });
            }
            _ => return Ok(Err(EINVAL)),
        };
        if (iocb.offset as i64) < 0 {
            return Ok(Err(EINVAL));
        }
        let space = self.task(id).space.clone();
        let pieces = match iocb.pieces(&space, vector) {
            Ok(pieces) => pieces,
            Err(errno) => return Ok(Err(errno)),
        };
        if self.fd_info(id, iocb.fd).is_some_and(|info| info.may_block)
            && !self.is_ready(id, iocb.fd, reads)?
        {
            return Ok(Ok(EAGAIN));
        }
        // The vector is the program's own, or one made of its only buffer.
        let own = scribe_abi::AGENT_STRINGS;
        let (at, count) = if vector {
            (iocb.buf, iocb.len)
        } else {
            let vector = [iocb.buf.to_le_bytes(), iocb.len.to_le_bytes()].concat();
            space.mem.write(own, &vector)?;
            (own, 1)
        };
        let nr = if reads {
            libc::SYS_preadv2
        } else {
            libc::SYS_pwritev2
        };
        let flags = u64::from(iocb.rw_flags);
        let mut ret = self.inject(id, nr, [fd, at, count, iocb.offset, 0, flags])?;
        if ret == -i64::from(libc::ESPIPE) {
            // Position -1: the present one, and none for what has no positions.
            ret = self.inject(id, nr, [fd, at, count, u64::MAX, u64::MAX, flags])?;
        }
        space.mem.write(own, &[0; 16])?;
        let refused = [libc::EBADF, libc::EOPNOTSUPP].map(|errno| -i64::from(errno));
        if refused.contains(&ret) {
            return Ok(Err(ret));
        }
        if reads {
            let direct = self.fd_info(id, iocb.fd).is_some_and(|info| info.direct);
            // The kernel clears the rest of a sector or page at the end of the file.
            let mut left = if direct { u64::MAX } else { ret.max(0) as u64 };
            for (addr, len) in pieces {
                let len = len.min(left);
                if len > 0 && (ret > 0 || direct) {
                    wrote.push((addr, len));
                }
                left -= len;
            }
        }
        Ok(Ok(ret))
    }

    /// Whether an operation on the descriptor would not wait.
    fn is_ready(&mut self, id: u32, fd: i32, reads: bool) -> Result<bool> {
        let events = if reads { libc::POLLIN } else { libc::POLLOUT };
        let at = scribe_abi::AGENT_STRINGS;
        let mut image = [0; 8];
        image[..4].copy_from_slice(&fd.to_le_bytes());
        image[4..6].copy_from_slice(&events.to_le_bytes());
        let space = self.task(id).space.clone();
        space.mem.write(at, &image)?;
        let got = self.inject(id, libc::SYS_poll, [at, 1, 0, 0, 0, 0])?;
        space.mem.write(at, &[0; 8])?;
        Ok(got > 0)
    }
}

// include/uapi/linux/aio_abi.h
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;
const IOCB_CMD_FSYNC: u16 = 2;
const IOCB_CMD_FDSYNC: u16 = 3;
const IOCB_CMD_PREADV: u16 = 7;
const IOCB_CMD_PWRITEV: u16 = 8;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb`.
struct Iocb {
    data: u64,
    rw_flags: u32,
    opcode: u16,
    fd: i32,
    buf: u64,
    len: u64,
    offset: u64,
    reserved: u64,
    flags: u32,
    notify: i32,
}

impl Iocb {
    fn parse(bytes: &[u8; 64]) -> Iocb {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Iocb {
            data: u64_at(0),
            rw_flags: u32_at(12),
            opcode: u32_at(16) as u16,
            fd: u32_at(20) as i32,
            buf: u64_at(24),
            len: u64_at(32),
            offset: u64_at(40),
            reserved: u64_at(48),
            flags: u32_at(56),
            notify: u32_at(60) as i32,
        }
    }

    /// The buffers: address and length.
    fn pieces(&self, space: &AddressSpace, vector: bool) -> Answer<Vec<(u64, u64)>> {
        if !vector {
            return Ok(vec![(self.buf, self.len)]);
        }
        if self.len > 1024 {
            return Err(EINVAL);
        }
        let bytes = space.mem.read_vec(self.buf, self.len as usize * 16);
        let bytes = bytes.map_err(|_| EFAULT)?;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let pieces = bytes.chunks_exact(16);
        Ok(pieces
            .map(|piece| (word(&piece[..8]), word(&piece[8..])))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iocb() {
        let mut bytes = [0; 64];
        bytes[0] = 7;
        bytes[12] = 1;
        bytes[16] = 8;
        bytes[18] = 0xff;
        bytes[20..24].copy_from_slice(&(-1i32).to_le_bytes());
        bytes[47] = 0x80;
        bytes[56] = 1;
        bytes[60] = 9;
        let iocb = Iocb::parse(&bytes);
        assert_eq!(
            (iocb.data, iocb.rw_flags, iocb.opcode, iocb.fd),
            (7, 1, 8, -1)
        );
        assert_eq!(
            (iocb.offset as i64, iocb.flags, iocb.notify),
            (i64::MIN, 1, 9)
        );
    }
}
