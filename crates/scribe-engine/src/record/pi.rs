//! Futexes with priority inheritance, carried out by the engine: the kernel would write the futex
//! words at moments that nobody records. What is decided is in [`scribe_kernel::pi`]; here words
//! are read and written, and tasks wait and are fetched.
//!
//! A call that waits has two events. The first, with the flag `RESTART`, holds what the call wrote
//! before it waited (the bit that says so); the second is its end. At replay the call is simply
//! made twice.

use super::calls::{Kind, PendingCall};
use super::park::{Limit, Parked, What, Why};
use super::placing::Outputs;
use super::*;
use scribe_kernel::futex::FUTEX_TID_MASK;
use scribe_kernel::pi::Who;
use scribe_log::flags::RESTART;
use scribe_syscalls::{Call, Row};
use scribe_tracee::maps;

const ENOSYS: i64 = -(libc::ENOSYS as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const EAGAIN: i64 = -(libc::EAGAIN as i64);
const EPERM: i64 = -(libc::EPERM as i64);
/// include/linux/errno.h: made again, whether or not a handler runs.
const ERESTARTNOINTR: i64 = -513;
/// include/uapi/linux/futex.h; not in libc.
const FUTEX_LOCK_PI2: i32 = 13;

/// What identifies a futex word; kernel/futex/core.c, `get_futex_key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// In private memory: address space and address.
    Private(usize, u64),
    /// In shared memory: device, inode, offset.
    Shared(u64, u64, u64),
}

/// A result, and the futex word that was written.
type Done = (i64, Option<(u64, u32)>);
/// The same, or a call that fails without an effect.
type Answer<T = Done> = std::result::Result<T, i64>;

/// Where a call for a lock leads.
enum Led {
    Answered(Done),
    Waits(Option<(u64, u32)>, What),
}

impl Recorder {
    /// One of the commands of futex(2) with priority inheritance.
    pub(super) fn futex_pi(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        // What the call reads is verified as it is before words are written.
        let pending = self.prepare(id, row, call, Kind::Parked);
        let (limit, led) = match self.limit_pi(id, &call) {
            Ok(limit) => (limit, self.command_pi(id, &call)),
            Err(errno) => (Limit::Never, Err(errno)),
        };
        match led {
            Ok(Led::Answered((ret, wrote))) => self.answer_pi(id, &pending, ret, wrote),
            Err(errno) => self.answer_pi(id, &pending, errno, None),
            Ok(Led::Waits(wrote, what)) => {
                let wrote = wrote.map(|(addr, _)| (addr, 4));
                let outputs = Outputs::in_place(wrote.as_slice());
                self.write_call(id, &pending, &outputs, ERESTARTNOINTR, RESTART)?;
                self.park(id, pending, limit, what)
            }
        }
    }

    fn answer_pi(
        &mut self,
        id: u32,
        pending: &PendingCall,
        ret: i64,
        wrote: Option<(u64, u32)>,
    ) -> Result<()> {
        let wrote = wrote.map(|(addr, _)| (addr, 4));
        self.answer_wrote(id, pending, ret, wrote.as_slice())
    }

    /// Until when the call waits; kernel/futex/syscalls.c, `futex_init_timeout`, `do_futex`.
    fn limit_pi(&self, id: u32, call: &Call) -> Answer<Limit> {
        let [_, op, _, time, ..] = call.args;
        let (command, realtime) = split(op as i32);
        let waits = [
            libc::FUTEX_LOCK_PI,
            FUTEX_LOCK_PI2,
            libc::FUTEX_WAIT_REQUEUE_PI,
        ];
        let mut limit = Limit::Never;
        if waits.contains(&command) && time != 0 {
            let mut at = [0; 16];
            if !self.read_for(id, time, &mut at) {
                return Err(EFAULT);
            }
            if !is_valid_time(&at) {
                return Err(EINVAL);
            }
            let realtime = realtime || command == libc::FUTEX_LOCK_PI;
            limit = Limit::At { realtime, time: at };
        }
        if realtime && !waits[1..].contains(&command) {
            return Err(ENOSYS);
        }
        Ok(limit)
    }

    fn command_pi(&mut self, id: u32, call: &Call) -> Answer<Led> {
        let [addr, op, value, count, second, expected] = call.args;
        let op = op as i32;
        let (command, _) = split(op);
        match command {
            libc::FUTEX_UNLOCK_PI => self.unlock_pi(id, addr, op).map(Led::Answered),
            libc::FUTEX_CMP_REQUEUE_PI => {
                let counts = (value as i32, count as i32);
                self.requeue_pi(id, op, (addr, expected as u32), second, counts)
                    .map(Led::Answered)
            }
            libc::FUTEX_WAIT_REQUEUE_PI => {
                self.wait_requeue_pi(id, op, (addr, value as u32), second)
            }
            _ => self.lock_pi(id, addr, op, command == libc::FUTEX_TRYLOCK_PI),
        }
    }

    fn lock_pi(&mut self, id: u32, addr: u64, op: i32, try_only: bool) -> Answer<Led> {
        let word = self.futex_word(id, addr, op)?;
        let now = self.read_word(id, addr)?;
        // So that nothing has to be undone where it cannot be written.
        self.put_word(id, addr, now)?;
        let who = self.who(id);
        let owner = self.owner(now & FUTEX_TID_MASK);
        let locks = &mut self.waits.locks;
        let asked = locks.lock(&word, now, who, try_only, |_| owner);
        let mut wrote = None;
        if let Some(new) = asked.word {
            self.put_word(id, addr, new)?;
            wrote = Some((addr, new));
        }
        Ok(match asked.answer {
            Some(answer) => Led::Answered((errno_of(answer.map(|()| 0)), wrote)),
            None => Led::Waits(wrote, What::Lock { word, addr }),
        })
    }

    fn unlock_pi(&mut self, id: u32, addr: u64, op: i32) -> Answer {
        let now = self.read_word(id, addr)?;
        let who = self.who(id);
        if now & FUTEX_TID_MASK != who.tid {
            return Err(EPERM);
        }
        let word = self.futex_word(id, addr, op)?;
        self.put_word(id, addr, now)?;
        let done = self.waits.locks.unlock(&word, now, who);
        let done = done.map_err(|errno| -i64::from(errno.0))?;
        self.put_word(id, addr, done.word)?;
        self.fetch(done.next);
        Ok((0, Some((addr, done.word))))
    }

    fn requeue_pi(
        &mut self,
        id: u32,
        op: i32,
        (addr, expected): (u64, u32),
        second: u64,
        (wake, most): (i32, i32),
    ) -> Answer {
        if wake != 1 || most < 0 || addr == second {
            return Err(EINVAL);
        }
        let from = self.futex_word(id, addr, op)?;
        let to = self.futex_word(id, second, op)?;
        if from == to {
            return Err(EINVAL);
        }
        if self.read_word(id, addr)? != expected {
            return Err(EAGAIN);
        }
        let now = self.read_word(id, second)?;
        self.put_word(id, second, now)?;
        let owner = self.owner(now & FUTEX_TID_MASK);
        let locks = &mut self.waits.locks;
        let moved = locks.requeue(&from, &to, now, most as u32, |_| owner);
        if let Some(word) = moved.word {
            self.put_word(id, second, word)?;
        }
        self.fetch(moved.next);
        let ret = errno_of(moved.answer.map(i64::from));
        Ok((ret, moved.word.map(|word| (second, word))))
    }

    fn wait_requeue_pi(
        &mut self,
        id: u32,
        op: i32,
        (addr, value): (u64, u32),
        second: u64,
    ) -> Answer<Led> {
        if addr == second {
            return Err(EINVAL);
        }
        let word = self.futex_word(id, second, op)?;
        let from = self.futex_word(id, addr, op)?;
        if self.read_word(id, addr)? != value {
            return Err(EAGAIN);
        }
        if from == word {
            return Err(EINVAL);
        }
        let who = self.who(id);
        self.waits.locks.wait(from.clone(), word.clone(), who);
        let addr = second;
        Ok(Led::Waits(None, What::Requeue { from, word, addr }))
    }

    /// A task that waited for a lock has the token.
    pub(super) fn pi_returned(
        &mut self,
        id: u32,
        pending: Box<PendingCall>,
        parked: Parked,
        why: Why,
        (word, addr): (Word, u64),
    ) -> Result<()> {
        if self.waits.locks.has(&word, id) {
            let fresh = self.fresh(id, &pending);
            let now = self.read_word(id, addr).unwrap_or(0);
            let new = self.waits.locks.came(&word, now);
            let wrote = new.filter(|new| self.put_word(id, addr, *new).is_ok());
            return self.answer_pi(id, &fresh, 0, wrote.map(|new| (addr, new)));
        }
        let moved = match &parked.what {
            What::Requeue { from, .. } => !self.waits.locks.waits(from, id),
            _ => false,
        };
        let errno = match why {
            Why::Timeout => -i64::from(libc::ETIMEDOUT),
            // The first part cannot be made again.
            Why::Handler if moved => EAGAIN,
            // Replay stands before the call, which is made again after the handler.
            Why::Handler => {
                self.waits.locks.give_up(id);
                return self.abort_call(id);
            }
            Why::Default | Why::Other => return self.sleep_on(id, pending, parked, why),
        };
        self.waits.locks.give_up(id);
        let fresh = self.fresh(id, &pending);
        self.answer_pi(id, &fresh, errno, None)
    }

    /// The task has ended, or has other memory now: the locks that it had go on.
    pub(super) fn pi_ended(&mut self, id: u32) {
        self.waits.forget(id);
        for next in self.waits.locks.ended(id) {
            self.fetch(Some(next));
        }
    }

    /// Fetches a task that was given a lock. Where that fails it is gone, and its end will come.
    fn fetch(&mut self, next: Option<u32>) {
        if let Some(next) = next {
            let _ = self.wake(next);
        }
    }

    fn who(&mut self, id: u32) -> Who {
        let tid = self.futex_tid(id);
        Who {
            task: id,
            tid,
            priority: priority(self.task(id).tid),
        }
    }

    /// The thread id that the task has in its own namespace, as futex words have it.
    pub(super) fn futex_tid(&self, id: u32) -> u32 {
        self.task(id).ids.own() as u32
    }

    /// The living task with this thread id.
    fn owner(&mut self, tid: u32) -> Option<Who> {
        if tid == 0 {
            return None;
        }
        let first = self.by_tid.get(&(tid as Tid)).copied();
        let mut all: Vec<u32> = self.tasks.keys().copied().collect();
        all.sort_unstable();
        let all = first.into_iter().chain(all);
        let alive: Vec<u32> = all
            .filter(|id| {
                self.tasks
                    .get(id)
                    .is_some_and(|t| t.state != State::Exiting)
            })
            .collect();
        let id = alive.into_iter().find(|id| self.futex_tid(*id) == tid)?;
        Some(self.who(id))
    }

    /// What identifies the word at `addr`.
    fn futex_word(&self, id: u32, addr: u64, op: i32) -> Answer<Word> {
        if !addr.is_multiple_of(4) {
            return Err(EINVAL);
        }
        if addr >= 1 << 47 {
            return Err(EFAULT);
        }
        let task = self.task(id);
        let space = Rc::as_ptr(&task.space) as usize;
        if op & libc::FUTEX_PRIVATE_FLAG != 0 {
            return Ok(Word::Private(space, addr));
        }
        let maps = maps::read(task.tid);
        let map = maps.iter().find(|map| map.start <= addr && addr < map.end);
        Ok(match map {
            Some(map) if map.shared => {
                Word::Shared(map.dev, map.ino, map.offset + (addr - map.start))
            }
            _ => Word::Private(space, addr),
        })
    }

    fn read_word(&self, id: u32, addr: u64) -> Answer<u32> {
        let mut word = [0; 4];
        match self.read_for(id, addr, &mut word) {
            true => Ok(u32::from_le_bytes(word)),
            false => Err(EFAULT),
        }
    }

    /// Writes a futex word, if the program itself could.
    fn put_word(&self, id: u32, addr: u64, word: u32) -> Answer<()> {
        let task = self.task(id);
        let mut bytes = word.to_le_bytes();
        let from = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: 4,
        };
        let to = libc::iovec {
            iov_base: addr as *mut _,
            iov_len: 4,
        };
        // SAFETY: `from` describes `bytes`; `to` is memory of the other process.
        let got = unsafe { libc::process_vm_writev(task.tid, &from, 1, &to, 1, 0) };
        let error = std::io::Error::last_os_error().raw_os_error();
        match got {
            4 => Ok(()),
            _ if error == Some(libc::EFAULT) => Err(EFAULT),
            // Not allowed to us: without the check of its protection.
            _ => task.space.mem.write(addr, &bytes).map_err(|_| EFAULT),
        }
    }
}

/// Command and `FUTEX_CLOCK_REALTIME` of a futex operation.
fn split(op: i32) -> (i32, bool) {
    let flags = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    (op & !flags, op & libc::FUTEX_CLOCK_REALTIME != 0)
}

/// include/linux/time64.h, `timespec64_valid`.
fn is_valid_time(time: &[u8; 16]) -> bool {
    let (seconds, rest) = time.split_at(8);
    let number = |bytes: &[u8]| {
        i64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ])
    };
    number(seconds) >= 0 && (0..1_000_000_000).contains(&number(rest))
}

fn errno_of(answer: std::result::Result<i64, scribe_kernel::Errno>) -> i64 {
    answer.unwrap_or_else(|errno| -i64::from(errno.0))
}

/// Order of waiters: kernel/futex/waitwake.c, `__futex_queue`; realtime first.
fn priority(tid: Tid) -> i32 {
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is valid for the call.
    let policy = unsafe {
        libc::sched_getparam(tid, &mut param);
        libc::sched_getscheduler(tid)
    };
    match policy {
        libc::SCHED_FIFO | libc::SCHED_RR => -param.sched_priority,
        libc::SCHED_DEADLINE => -1000,
        _ => 0,
    }
}
