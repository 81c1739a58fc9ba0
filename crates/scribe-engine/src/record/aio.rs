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

pub(super) const EINVAL: i64 = -(libc::EINVAL as i64);
pub(super) const EFAULT: i64 = -(libc::EFAULT as i64);
pub(super) const EAGAIN: i64 = -(libc::EAGAIN as i64);
const ENOMEM: i64 = -(libc::ENOMEM as i64);

// fs/aio.c, `struct aio_ring`; include/uapi/linux/aio_abi.h, `struct io_event`.
const MAGIC: u32 = 0xa10a_10a1;
const HEAD_AT: u64 = 8;
pub(super) const TAIL_AT: u64 = 12;
const HEADER: u64 = 32;
pub(super) const EVENT: u64 = 32;
/// fs/aio.c, `ioctx_alloc`.
const MOST_EVENTS: u64 = 0x1000_0000 / EVENT;

/// A context of asynchronous I/O.
#[derive(Debug)]
pub(super) struct Ring {
    space: Weak<AddressSpace>,
    at: u64,
    len: u64,
    pub slots: u32,
    pub tail: u32,
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
        let ret = match self.word_for(id, at) {
            None => EFAULT,
            Some(0) if events > 0 && events <= MOST_EVENTS => match self.write_for(id, at, &[0; 8])
            {
                true => 0,
                false => EFAULT,
            },
            Some(_) => EINVAL,
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
    pub(super) fn ring(&self, id: u32, at: u64) -> Option<usize> {
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
        self.take_strays(id)?;
        Ok(got)
    }
}

impl Ring {
    pub fn slot(&self, index: u64) -> u64 {
        self.at + HEADER + index * EVENT
    }

    /// The program may have moved it.
    pub fn head(&self, space: &AddressSpace) -> Option<u32> {
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
