//! Futexes with priority inheritance, carried out by the engine: the kernel would write the futex
//! words at moments that nobody records. What is decided is in [`scribe_kernel::pi`]; here words
//! are read and written, and tasks wait and are fetched.
//!
//! A call that waits has two events. The first, with the flag `RESTART`, holds what the call wrote
//! before it waited (the bit that says so); the second is its end. At replay the call is simply
//! made twice.

use super::calls::{Kind, Outputs, PendingCall};
use super::park::{Limit, Parked, What, Why};
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

impl Recorder {
    /// One of the commands of futex(2) with priority inheritance.
    pub(super) fn futex_pi(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [addr, op, value, time, second, expected] = call.args;
        let op = op as i32;
        let command = op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        let realtime = op & libc::FUTEX_CLOCK_REALTIME != 0;
        let waits = [libc::FUTEX_LOCK_PI, FUTEX_LOCK_PI2, libc::FUTEX_WAIT_REQUEUE_PI];
        let mut limit = Limit::Never;
        if waits.contains(&command) && time != 0 {
            let mut at = [0; 16];
            if self.task(id).space.mem.read(time, &mut at).is_err() {
                return self.answer(id, row, call, EFAULT);
            }
            if !is_valid_time(&at) {
                return self.answer(id, row, call, EINVAL);
            }
            let realtime = realtime || command == libc::FUTEX_LOCK_PI;
            limit = Limit::At { realtime, time: at };
        }
        if realtime && ![FUTEX_LOCK_PI2, libc::FUTEX_WAIT_REQUEUE_PI].contains(&command) {
            return self.answer(id, row, call, ENOSYS);
        }
        let done = match command {
            libc::FUTEX_UNLOCK_PI => self.unlock_pi(id, addr, op),
            libc::FUTEX_CMP_REQUEUE_PI => {
                let counts = (value as i32, time as i32);
                self.requeue_pi(id, op, addr, second, counts, expected as u32)
            }
            libc::FUTEX_WAIT_REQUEUE_PI => {
                match self.begin_requeue(id, op, addr, second, value as u32) {
                    Ok(what) => return self.wait_pi(id, row, call, None, limit, what),
                    Err(errno) => Err(errno),
                }
            }
            _ => match self.lock_pi(id, addr, op, command == libc::FUTEX_TRYLOCK_PI) {
                Ok((word, Err(what))) => {
                    let word = word.map(|word| (addr, word));
                    return self.wait_pi(id, row, call, word, limit, what);
                }
                Ok((word, Ok(ret))) => Ok((ret, word.map(|word| (addr, word)))),
                Err(errno) => Err(errno),
            },
        };
        match done {
            Ok((ret, Some((at, word)))) => {
                self.answer_with(id, row, call, ret, &[(at, &word.to_le_bytes())])
            }
            Ok((ret, None)) => self.answer(id, row, call, ret),
            Err(errno) => self.answer(id, row, call, errno),
        }
    }

    /// The new word, and the answer or what the task waits for.
    #[allow(clippy::type_complexity)]
    fn lock_pi(
        &mut self,
        id: u32,
        addr: u64,
        op: i32,
        try_only: bool,
    ) -> std::result::Result<(Option<u32>, std::result::Result<i64, What>), i64> {
        let word = self.futex_word(id, addr, op)?;
        let now = self.read_word(id, addr)?;
        // So that nothing has to be undone where it cannot be written.
        self.put_word(id, addr, now)?;
        let who = self.who(id);
        let owner = self.owner(now & FUTEX_TID_MASK);
        let asked = self.waits.locks.lock(&word, now, who, try_only, |_| owner);
        if let Some(new) = asked.word {
            self.put_word(id, addr, new)?;
        }
        Ok(match asked.answer {
            Some(answer) => (asked.word, Ok(errno_of(answer.map(|()| 0)))),
            None => (asked.word, Err(What::Lock { word, addr })),
        })
    }

    #[allow(clippy::type_complexity)]
    fn unlock_pi(
        &mut self,
        id: u32,
        addr: u64,
        op: i32,
    ) -> std::result::Result<(i64, Option<(u64, u32)>), i64> {
        let now = self.read_word(id, addr)?;
        let who = self.who(id);
        if now & FUTEX_TID_MASK != who.tid {
            return Err(-i64::from(libc::EPERM));
        }
        let word = self.futex_word(id, addr, op)?;
        self.put_word(id, addr, now)?;
        match self.waits.locks.unlock(&word, now, who) {
            Err(errno) => Err(-i64::from(errno.0)),
            Ok(done) => {
                self.put_word(id, addr, done.word)?;
                self.fetch(done.next);
                Ok((0, Some((addr, done.word))))
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn requeue_pi(
        &mut self,
        id: u32,
        op: i32,
        addr: u64,
        second: u64,
        (wake, most): (i32, i32),
        expected: u32,
    ) -> std::result::Result<(i64, Option<(u64, u32)>), i64> {
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

    fn begin_requeue(
        &mut self,
        id: u32,
        op: i32,
        addr: u64,
        second: u64,
        value: u32,
    ) -> std::result::Result<What, i64> {
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
        Ok(What::Requeue { from, word, addr: second })
    }

    /// Writes the first event of a call that waits, and lets the task wait.
    fn wait_pi(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        wrote: Option<(u64, u32)>,
        limit: Limit,
        what: What,
    ) -> Result<()> {
        let mut pending = self.prepare(id, row, call, Kind::Parked);
        if let Some((addr, _)) = wrote {
            // What the call reads is verified as it was before.
            pending.hash = self.waits.hash_before.take().unwrap_or(pending.hash);
            let outputs = Outputs::in_place(&[(addr, 4)]);
            self.write_call(id, &pending, &outputs, ERESTARTNOINTR, RESTART)?;
        } else {
            let none = Outputs::in_place(&[]);
            self.write_call(id, &pending, &none, ERESTARTNOINTR, RESTART)?;
        }
        self.park(id, pending, limit, what)
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
            let now = self.read_word(id, addr).unwrap_or(0);
            let Some(new) = self.waits.locks.came(&word, now) else {
                return self.answer_parked(id, &pending, 0, &[]);
            };
            let before = self.prepare(id, pending.row, pending.call, Kind::Parked);
            self.waits.hash_before = Some(before.hash);
            let wrote = self.put_word(id, addr, new).is_ok();
            let wrote: &[_] = if wrote { &[(addr, 4)] } else { &[] };
            return self.answer_parked(id, &pending, 0, wrote);
        }
        let moved = match &parked.what {
            What::Requeue { from, .. } => !self.waits.locks.waits(from, id),
            _ => false,
        };
        match why {
            Why::Timeout => {
                self.waits.locks.give_up(id);
                self.answer_parked(id, &pending, -i64::from(libc::ETIMEDOUT), &[])
            }
            // Nothing of the first part can be made again.
            Why::Handler(_) if moved => {
                self.waits.locks.give_up(id);
                self.answer_parked(id, &pending, EAGAIN, &[])
            }
            // That the call will be made again was written when it began to wait.
            Why::Handler(_) => {
                self.waits.locks.give_up(id);
                let task = self.task_mut(id);
                task.app.rax = pending.call.nr.into();
                task.app.rip -= 2;
                self.settle(id)
            }
            Why::Default | Why::Other => self.sleep_on(id, pending, parked, why),
        }
    }
}
