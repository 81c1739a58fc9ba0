//! Native asynchronous I/O (`io_setup` and its kin), carried out by the engine: the kernel would
//! write to buffers, and to a ring in user memory, at moments that nobody records.
//!
//! Each operation is carried out when it is submitted, by a call in the task; its completion is
//! put into a ring like the kernel's (fs/aio.c, `struct aio_ring`) at once. Libraries that look
//! into the ring themselves find what they know. All memory that this changes belongs to the
//! event of the submission. At replay only the mapping of the ring is made and unmade.
//!
//! What is not as the kernel has it: an operation on a pipe or socket that is not ready completes
//! with EAGAIN, where the submission would wait; `IOCB_CMD_POLL` is refused with EINVAL, as kernels
//! before 4.18 did; a write to a file that is also mapped shared does not reach the mapping at
//! replay.

use super::calls::{Kind, PendingCall};
use super::park::{Limit, Parked, What, Why};
use super::*;
use scribe_abi::PAGE;
use scribe_log::MapInfo;
use scribe_syscalls::{Call, Row, Special};
use std::rc::Weak;

const EINVAL: i64 = -(libc::EINVAL as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const EAGAIN: i64 = -(libc::EAGAIN as i64);
const ENOMEM: i64 = -(libc::ENOMEM as i64);

// fs/aio.c, `struct aio_ring`; include/uapi/linux/aio_abi.h, `struct io_event`.
const MAGIC: u32 = 0xa10a_10a1;
const HEAD_AT: u64 = 8;
const TAIL_AT: u64 = 12;
const HEADER: u64 = 32;
const EVENT: u64 = 32;
/// fs/aio.c, `ioctx_alloc`.
const MOST_EVENTS: u64 = 0x1000_0000 / EVENT;

/// A context of asynchronous I/O.
#[derive(Debug)]
pub(super) struct Ring {
    space: Weak<AddressSpace>,
    at: u64,
    len: u64,
    slots: u32,
    tail: u32,
}

/// What `io_getevents` waits for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    ring: u64,
    least: u64,
    most: u64,
    events: u64,
}

type Answer<T> = std::result::Result<T, i64>;

impl Recorder {
    /// One of the calls of asynchronous I/O.
    pub(super) fn aio(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        special: Special,
    ) -> Result<()> {
        match special {
            Special::IoSetup => self.io_setup(id, row, call),
            Special::IoDestroy => self.io_destroy(id, row, call),
            Special::IoSubmit => self.io_submit(id, row, call),
            Special::IoGetevents => self.io_getevents(id, row, call),
            // Whatever was submitted is complete already.
            _ => self.answer(id, row, call, EINVAL),
        }
    }

    fn io_setup(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [events, at, ..] = call.args;
        let events = u64::from(events as u32);
        let mem = &self.task(id).space.mem;
        let ret = match mem.read_u64(at) {
            Err(_) => EFAULT,
            Ok(0) if events > 0 && events <= MOST_EVENTS => 0,
            Ok(_) => EINVAL,
        };
        if ret != 0 {
            return self.answer(id, row, call, ret);
        }
        let mut pending = self.prepare(id, row, call, Kind::Plain);
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let bytes = HEADER + (events.max(cpus * 4) * 2 + 2) * EVENT;
        let len = bytes.next_multiple_of(PAGE);
        let slots = ((len - HEADER) / EVENT) as u32;
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let ring = self.inject(id, libc::SYS_mmap, [0, len, prot, flags, u64::MAX, 0])?;
        if (-4095..0).contains(&ring) {
            return self.answer(id, row, call, ENOMEM);
        }
        let ring = ring as u64;
        let task = self.task(id);
        let space = task.space.clone();
        let header = [0, slots, 0, 0, MAGIC, 1, 0, HEADER as u32];
        let header: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        space.mem.write(ring, &header)?;
        space.mem.write(at, &ring.to_le_bytes())?;
        self.waits
            .rings
            .retain(|ring| ring.space.strong_count() > 0);
        self.waits.rings.push(Ring {
            space: Rc::downgrade(&space),
            at: ring,
            len,
            slots,
            tail: 0,
        });
        // Memory of a mapping comes in `Data` records before the event.
        let lane = self.task(id).lane;
        self.write(
            lane,
            &Record::Data {
                addr: ring,
                bytes: header.into(),
            },
        );
        pending.kind = Kind::Ring(ring_info(ring, len));
        self.answer_wrote(id, &pending, 0, &[(at, 8)])
    }

    fn io_destroy(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let Some(index) = self.ring(id, call.args[0]) else {
            return self.answer(id, row, call, EINVAL);
        };
        let ring = self.waits.rings.swap_remove(index);
        self.inject(id, libc::SYS_munmap, [ring.at, ring.len, 0, 0, 0, 0])?;
        let mut pending = self.prepare(id, row, call, Kind::Plain);
        pending.kind = Kind::Ring(ring_info(ring.at, ring.len));
        self.wake_ring(id, ring.at)?;
        self.answer_wrote(id, &pending, 0, &[])
    }

    fn io_getevents(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [ring, least, most, events, time, mask] = call.args;
        let mut pending = self.prepare(id, row, call, Kind::Parked);
        let limit = match self.limit_of(id, time) {
            Ok(limit) => limit,
            Err(errno) => return self.answer_wrote(id, &pending, errno, &[]),
        };
        if i64::from(call.nr) != libc::SYS_io_getevents && mask != 0 {
            match self.mask_pair(id, mask) {
                Ok(mask) => pending.temporary_mask = mask,
                Err(errno) => return self.answer_wrote(id, &pending, errno, &[]),
            }
        }
        let wish = Wish {
            ring,
            least,
            most,
            events,
        };
        let over = matches!(limit, Limit::Until(end) if end <= Instant::now());
        if let Some(ret) = self.take_events(id, &wish, over) {
            let wrote = self.wrote_events(&wish, ret);
            return self.answer_wrote(id, &pending, ret, &wrote);
        }
        self.park(id, pending, limit, What::Events(wish))
    }

    /// A task that waited for completions has the token.
    pub(super) fn events_returned(
        &mut self,
        id: u32,
        pending: Box<PendingCall>,
        parked: Parked,
        why: Why,
        wish: Wish,
    ) -> Result<()> {
        let over = matches!(why, Why::Timeout | Why::Handler);
        let fresh = self.fresh(id, &pending);
        let Some(mut ret) = self.take_events(id, &wish, over) else {
            return self.sleep_on(id, pending, parked, why);
        };
        if ret == 0 && why == Why::Handler {
            ret = -i64::from(libc::EINTR);
        }
        let wrote = self.wrote_events(&wish, ret);
        self.answer_wrote(id, &fresh, ret, &wrote)
    }

    /// Moves completions to where the program wants them. `None`: there are not enough. `over`: the
    /// wait is over, what there is will do.
    fn take_events(&mut self, id: u32, wish: &Wish, over: bool) -> Option<i64> {
        let Some(index) = self.ring(id, wish.ring) else {
            return Some(EINVAL);
        };
        if wish.least as i64 > wish.most as i64 || (wish.least as i64) < 0 {
            return Some(EINVAL);
        }
        let space = self.task(id).space.clone();
        let ring = &self.waits.rings[index];
        let Some(head) = ring.head(&space) else {
            return Some(EFAULT);
        };
        let there = u64::from((ring.tail + ring.slots - head) % ring.slots);
        if there < wish.least && !over {
            return None;
        }
        let count = there.min(wish.most);
        for i in 0..count {
            let slot = (u64::from(head) + i) % u64::from(ring.slots);
            let event = space.mem.read_vec(ring.slot(slot), EVENT as usize);
            let moved = event.and_then(|event| space.mem.write(wish.events + i * EVENT, &event));
            if moved.is_err() {
                return Some(EFAULT);
            }
        }
        if count > 0 {
            let head = ((u64::from(head) + count) % u64::from(ring.slots)) as u32;
            let _ = space.mem.write(ring.at + HEAD_AT, &head.to_le_bytes());
        }
        Some(count as i64)
    }

    fn wrote_events(&self, wish: &Wish, ret: i64) -> Vec<(u64, u64)> {
        match ret {
            1.. => vec![(wish.events, ret as u64 * EVENT), (wish.ring + HEAD_AT, 4)],
            _ => Vec::new(),
        }
    }

    /// Index of the context `at` of the task's address space.
    fn ring(&self, id: u32, at: u64) -> Option<usize> {
        let space = Rc::as_ptr(&self.task(id).space);
        let own = |ring: &Ring| ring.at == at && ring.space.as_ptr() == space;
        self.waits.rings.iter().position(own)
    }

    /// A relative time limit. Negative ones are over, as for the kernel.
    fn limit_of(&self, id: u32, time: u64) -> Answer<Limit> {
        if time == 0 {
            return Ok(Limit::Never);
        }
        let mem = &self.task(id).space.mem;
        let (Ok(seconds), Ok(rest)) = (mem.read_u64(time), mem.read_u64(time.wrapping_add(8)))
        else {
            return Err(EFAULT);
        };
        let nanos = i128::from(seconds as i64) * 1_000_000_000 + i128::from(rest as i64);
        let nanos = nanos.clamp(0, i128::from(i64::MAX)) as u64;
        let end = Instant::now().checked_add(Duration::from_nanos(nanos));
        Ok(end.map_or(Limit::Never, Limit::Until))
    }

    /// The mask that `io_pgetevents` installs: `struct __aio_sigset`, pointer and size.
    fn mask_pair(&self, id: u32, at: u64) -> Answer<Option<u64>> {
        let mem = &self.task(id).space.mem;
        let (Ok(set), Ok(size)) = (mem.read_u64(at), mem.read_u64(at.wrapping_add(8))) else {
            return Err(EFAULT);
        };
        match set {
            0 => Ok(None),
            _ if size != 8 => Err(EINVAL),
            _ => mem.read_u64(set).map(Some).map_err(|_| EFAULT),
        }
    }

    /// Tasks that wait for completions of this context look again.
    pub(super) fn wake_ring(&mut self, id: u32, at: u64) -> Result<()> {
        let space = self.task(id).space.clone();
        let all = self
            .waits
            .waiting_for(|what| matches!(what, What::Events(wish) if wish.ring == at));
        for other in all {
            if self
                .tasks
                .get(&other)
                .is_some_and(|task| Rc::ptr_eq(&task.space, &space))
            {
                self.wake(other)?;
            }
        }
        Ok(())
    }

    /// Makes a call in the task, which must be stopped.
    pub(super) fn inject(&mut self, id: u32, nr: i64, args: [u64; 6]) -> Result<i64> {
        let task = self.task(id);
        let (tid, app) = (task.tid, task.app);
        let got = self.machine.inject(tid, &app, nr, args)?;
        self.take_strays(id);
        Ok(got)
    }

    fn io_submit(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
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

impl Ring {
    fn slot(&self, index: u64) -> u64 {
        self.at + HEADER + index * EVENT
    }

    /// The program may have moved it.
    fn head(&self, space: &AddressSpace) -> Option<u32> {
        let mut word = [0; 4];
        space.mem.read(self.at + HEAD_AT, &mut word).ok()?;
        Some(u32::from_le_bytes(word) % self.slots)
    }
}

/// The mapping of a ring, as its events have it: the address is where other mappings have the
/// offset.
fn ring_info(at: u64, len: u64) -> MapInfo {
    MapInfo {
        file: 0,
        offset: at,
        len,
        prot: (libc::PROT_READ | libc::PROT_WRITE) as u32,
        flags: (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32,
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
