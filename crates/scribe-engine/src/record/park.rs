//! Tasks that wait in a call which the engine carries out itself.
//!
//! Such a task sleeps in a futex call of the agent's, on a word of its scratch area that nobody
//! wakes. So signals, group stops, time limits and kills find it as they would in the call proper.
//! When what it waits for has happened, the engine fetches it by `PTRACE_INTERRUPT`: the stop ends
//! the sleep wherever it is, and the call is answered from there.

use super::aio::{Ring, Wish};
use super::calls::{Kind, PendingCall};
use super::pi::Word;
use super::placing::Outputs;
use super::*;
use scribe_abi::PAGE;
use scribe_kernel::pi::Locks;
use scribe_kernel::signal::Action;

/// `futex(2)`: `FUTEX_BITSET_MATCH_ANY`.
const ANY: u64 = 0xffff_ffff;

/// Until when a task waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// For ever.
    Never,
    /// Until a point of a clock, as the program gave it.
    At {
        /// `CLOCK_REALTIME`, otherwise `CLOCK_MONOTONIC`.
        realtime: bool,
        /// `struct timespec`.
        time: [u8; 16],
    },
    /// Until a point of our own clock.
    Until(Instant),
}

/// What a task waits for.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A lock with priority inheritance, whose word is at this address.
    Lock { word: Word, addr: u64 },
    /// To be moved from one word to the lock of another, and then for the lock.
    Requeue { from: Word, word: Word, addr: u64 },
    /// Completions of asynchronous I/O.
    Events(Wish),
}

/// A task that waits.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    limit: Limit,
    pub what: What,
    /// It was fetched.
    woken: bool,
}

/// Why the sleep of a task is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time is.
    Timeout,
    /// A signal with a handler.
    Handler,
    /// A signal that stops or ends the program.
    Default,
    /// It was fetched, or nothing that matters.
    Other,
}

/// All that the engine waits for in place of the kernel.
#[derive(Default)]
pub(super) struct Waits {
    parked: HashMap<u32, Parked>,
    pub locks: Locks<Word>,
    pub rings: Vec<Ring>,
}

impl Waits {
    /// Tasks that wait for something like this.
    pub fn waiting_for(&self, mut this: impl FnMut(&What) -> bool) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .parked
            .iter()
            .filter(|(_, parked)| this(&parked.what))
            .map(|(id, _)| *id)
            .collect();
        all.sort_unstable();
        all
    }

    /// Whether the task was fetched, and what it waited for is to be looked at.
    pub fn is_woken(&self, id: u32) -> bool {
        self.parked.get(&id).is_some_and(|parked| parked.woken)
    }

    /// The task is gone, or has other memory.
    pub fn forget(&mut self, id: u32) {
        self.parked.remove(&id);
    }
}

impl Recorder {
    /// Lets the task wait in the call `pending`, without the token.
    pub(super) fn park(
        &mut self,
        id: u32,
        mut pending: PendingCall,
        limit: Limit,
        what: What,
    ) -> Result<()> {
        let alone = self.lanes[&self.task(id).lane].members.len() == 1;
        pending.kind = Kind::Parked;
        pending.may_block = true;
        pending.released = !alone;
        let parked = Parked {
            limit,
            what,
            woken: false,
        };
        self.sleep(id, pending, parked)
    }

    /// (Re)starts the sleep.
    pub(super) fn sleep(
        &mut self,
        id: u32,
        mut pending: PendingCall,
        mut parked: Parked,
    ) -> Result<()> {
        parked.woken = false;
        let base = self.scratch(id, PAGE)?;
        let mut image = [0; 32];
        let (mut op, mut timeout) = (
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            base + 16,
        );
        match parked.limit {
            Limit::Never => timeout = 0,
            Limit::At { realtime, time } => {
                image[16..].copy_from_slice(&time);
                if realtime {
                    op |= libc::FUTEX_CLOCK_REALTIME;
                }
            }
            Limit::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                image[16..24].copy_from_slice(&left.as_secs().to_le_bytes());
                image[24..].copy_from_slice(&u64::from(left.subsec_nanos()).to_le_bytes());
                op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            }
        }
        let task = self.task(id);
        task.space.mem.write(base, &image)?;
        if let Some(mask) = pending.temporary_mask {
            let mask = signals::kernel_mask(mask);
            self.machine.stopped(task.tid)?.set_sigmask(mask)?;
        }
        pending.agent_nr = libc::SYS_futex as u64;
        pending.agent_args = [base, op as u64, 0, timeout, 0, ANY];
        self.waits.parked.insert(id, parked);
        self.launch(id, pending)
    }

    /// What a task waits for may have happened: fetches it from its sleep.
    pub(super) fn wake(&mut self, id: u32) -> Result<()> {
        let Some(parked) = self.waits.parked.get_mut(&id) else {
            return Ok(());
        };
        parked.woken = true;
        match self.tasks.get(&id) {
            Some(task) if task.state == State::InCall => {
                let tid = task.tid;
                self.machine.fetch(tid)
            }
            // It looks for itself when it gets the token.
            _ => Ok(()),
        }
        .or_else(|error| match error {
            scribe_tracee::Error::Gone => Ok(()),
            error => Err(error.into()),
        })
    }

    /// The task has the token, and its sleep is over.
    pub(super) fn unpark(&mut self, id: u32, pending: Box<PendingCall>) -> Result<()> {
        let Some(parked) = self.waits.parked.remove(&id) else {
            return self.settle(id);
        };
        if pending.temporary_mask.is_some() {
            let task = self.task(id);
            let mask = signals::kernel_mask(task.mask);
            self.machine.stopped(task.tid)?.set_sigmask(mask)?;
        }
        let why = self.why(id, &pending);
        match parked.what.clone() {
            What::Lock { word, addr } => self.pi_returned(id, pending, parked, why, (word, addr)),
            What::Requeue { word, addr, .. } => {
                self.pi_returned(id, pending, parked, why, (word, addr))
            }
            What::Events(wish) => self.events_returned(id, pending, parked, why, wish),
        }
    }

    fn why(&self, id: u32, pending: &PendingCall) -> Why {
        if pending.ret == -i64::from(libc::ETIMEDOUT) {
            return Why::Timeout;
        }
        let task = self.task(id);
        let mask = pending.temporary_mask.unwrap_or(task.mask);
        let Some(signal) = task.stash.next(Mask(mask)) else {
            return Why::Other;
        };
        match task.sighand.borrow().what_to_do(signal) {
            Action::Handler(_) => Why::Handler,
            Action::Default(_) => Why::Default,
            Action::Ignore => Why::Other,
        }
    }

    /// The wait goes on.
    pub(super) fn sleep_on(
        &mut self,
        id: u32,
        pending: Box<PendingCall>,
        parked: Parked,
        why: Why,
    ) -> Result<()> {
        if self.traced(id) && why != Why::Timeout && pending.ret < 0 {
            // Its tracer sees it before the call, which is made again.
            self.waits.locks.give_up(id);
            return self.abort_call(id);
        }
        if why == Why::Default {
            self.waits.parked.insert(id, parked);
            return self.interrupted_by_default(id, pending);
        }
        self.discard_ignored(id);
        self.sleep(id, *pending, parked)
    }

    /// The call of a task that waited, as it is to be written now: memory may have changed
    /// meanwhile, and replay looks at it now. To be made before the outputs are written.
    pub(super) fn fresh(&self, id: u32, pending: &PendingCall) -> PendingCall {
        let mut fresh = self.prepare(id, pending.row, pending.call, Kind::Parked);
        fresh.temporary_mask = pending.temporary_mask;
        fresh
    }

    /// Ends a call with this result; these outputs (address, length) were written.
    pub(super) fn answer_wrote(
        &mut self,
        id: u32,
        pending: &PendingCall,
        ret: i64,
        wrote: &[(u64, u64)],
    ) -> Result<()> {
        self.write_call(id, pending, &Outputs::in_place(wrote), ret, 0)?;
        self.task_mut(id).app.rax = ret as u64;
        let interrupted = ret == -i64::from(libc::EINTR);
        self.settle_masked(id, pending.temporary_mask.filter(|_| interrupted))
    }
}
