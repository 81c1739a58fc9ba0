//! The agents' side of a replay: the rings from which they answer calls, what they pass on, and the
//! patched places, which are those of the recording.

use super::*;
use crate::agent::{
    LaneMemory, Place, Shared, answer_cpuid, behind_instruction, decode_sites, lend_actions,
    pass_on, set_lane,
};
use scribe_abi::log::RECORD_HEAD;
use scribe_abi::shared::{RING_LEN, ask, mode, phase, reason};
use scribe_log::patch;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The part of a lane's records that is read ahead, where the agents of its tasks find it. What
/// agents take is accounted for when the lane is looked at next.
pub(super) struct Ahead {
    pub area: LaneMemory,
    /// Up to here the ring's records were accounted for.
    seen: u32,
    /// A record that was read and does not fit into the ring any more.
    spare: Option<Rc<[u8]>>,
    /// The head was never in the ring: it is too long, or there is no ring.
    loose: bool,
    /// The current task waits for its turn in its agent: another one's comes first.
    pub asked: bool,
}

impl Ahead {
    pub(super) fn new(shared: Option<&Rc<Shared>>, first: u32) -> Ahead {
        Ahead {
            area: Shared::lane(shared, first),
            seen: 0,
            spare: None,
            loose: false,
            asked: false,
        }
    }
}

impl Lane {
    /// Makes sure that the next record is in `head`; false at the end.
    pub(super) fn fetch(&mut self) -> std::result::Result<bool, scribe_log::LogError> {
        if self.head.is_some() {
            return Ok(true);
        }
        let (_, bytes) = self.ahead.area.filled();
        if let Some(record) = first_record(bytes) {
            self.head = Some(record.into());
            self.ahead.loose = false;
            return Ok(true);
        }
        self.ahead.area.reset();
        self.ahead.seen = 0;
        let mut filled = 0;
        loop {
            let record: Rc<[u8]> = match self.ahead.spare.take() {
                Some(spare) => spare,
                None if self.ahead.area.has_ring() => {
                    let room = (RING_LEN - filled) as usize;
                    match self.reader.next_batch(room) {
                        Ok(Some([])) => match self.reader.next_raw()? {
                            Some(bytes) => bytes.into(),
                            None => break,
                        },
                        Ok(Some(bytes)) => {
                            self.ahead.area.put(bytes);
                            filled += bytes.len() as u64;
                            continue;
                        }
                        Ok(None) => break,
                        // What came before is good.
                        Err(_) if filled > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                None => match self.reader.next_raw()? {
                    Some(bytes) => bytes.into(),
                    None => break,
                },
            };
            if self.ahead.area.put(&record) {
                filled += record.len() as u64;
                continue;
            }
            if filled == 0 {
                self.head = Some(record);
                self.ahead.loose = true;
                return Ok(true);
            }
            self.ahead.spare = Some(record);
            break;
        }
        if filled == 0 {
            return Ok(false);
        }
        self.fetch()
    }

    /// Takes the record in `head`.
    pub(super) fn take(&mut self) -> Option<Rc<[u8]>> {
        let record = self.head.take()?;
        if !self.ahead.loose {
            let area = &self.ahead.area;
            let tail = area.tail.load(Relaxed) + record.len() as u32;
            area.tail.store(tail, Relaxed);
            self.ahead.seen = tail;
        }
        Some(record)
    }

    /// The records that agents have taken since the lane was last looked at, at most the last
    /// `keep`, with the tasks that took them; and how many there were.
    fn taken(&mut self, keep: usize) -> (Vec<Taken>, u64) {
        let mut last = Vec::new();
        let mut count = 0usize;
        let tail = self.ahead.area.tail.load(Acquire);
        if tail <= self.ahead.seen {
            return (last, 0);
        }
        // What was at the head is gone.
        self.head = None;
        let taken = self.ahead.area.taken(self.ahead.seen, tail);
        self.ahead.seen = tail;
        // Two passes: to copy all of them only to drop most would cost more than the replay.
        let mut rest = taken;
        while let Some(record) = first_record(rest) {
            count += 1;
            rest = &rest[record.len()..];
        }
        let skip = count - keep.min(count);
        let mut rest = taken;
        for i in 0..count {
            let Some(record) = first_record(rest) else {
                break;
            };
            if i >= skip {
                last.push((self.current, record.into()));
            }
            self.current = turns::switched_to(record).unwrap_or(self.current);
            rest = &rest[record.len()..];
        }
        (last, count as u64)
    }
}

/// A record that an agent has taken, and the task that it was.
type Taken = (u32, Rc<[u8]>);

/// The record at the beginning of a part of a ring.
fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.first_chunk::<RECORD_HEAD>()?;
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    bytes.get(..RECORD_HEAD + len)
}

impl Replayer {
    /// Accounts for what agents of the lane have done.
    pub(super) fn catch_up(&mut self, lane_id: u32) {
        let backlog = self.options.backlog.max(1);
        let Some(lane) = self.lanes.get_mut(&lane_id) else {
            return;
        };
        let (last, count) = lane.taken(backlog);
        if count == 0 {
            return;
        }
        self.stats.events += count;
        self.stats.fast += count;
        for (id, record) in last {
            if let Some(task) = self.tasks.get_mut(&id) {
                if task.history.len() >= backlog {
                    task.history.pop_front();
                }
                task.history.push_back(record);
            }
        }
    }

    /// Gives a task what it needs for an agent: after exec, or as a child, or in another lane.
    pub(super) fn agent_for(&mut self, id: u32) -> Result<()> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let Some(task) = self.tasks.get_mut(&id) else {
            return Ok(());
        };
        if !task.space.agent.get() {
            task.area = None;
            return Ok(());
        }
        if task.area.is_none() {
            task.area = shared.task(id);
        }
        let Some(lane) = self.lanes.get(&task.lane) else {
            return Ok(());
        };
        let address = lane.ahead.area.address();
        if let Some(area) = &task.area {
            area.lane.store(address, Relaxed);
            lane.ahead.area.tell_peer(id, area);
            let to = if address == 0 {
                mode::PASS
            } else {
                mode::REPLAY
            };
            area.mode.store(to, Relaxed);
        }
        Ok(set_lane(&task.space.mem, address)?)
    }

    /// The task is about to run application code.
    pub(super) fn lend_to_agent(&mut self, id: u32) {
        let task = self.task(id);
        let lane = self.lanes.get(&task.lane);
        if let Some(lane) = lane {
            let address = task.area.as_ref().map_or(0, |area| area.0.address());
            lane.ahead.area.area.store(address, Relaxed);
        }
        // What the next call wrote has been taken from the ring, and is not in the call's record.
        let has_data = lane.is_some_and(|lane| !lane.data.is_empty());
        if let Some(area) = &task.area {
            area.phase.store(phase::OUTSIDE, Relaxed);
            area.mask.store(task.mask, Relaxed);
            lend_actions(area, &task.sighand, true);
            // What code was translated from must not change behind our back.
            let plain = matches!(task.space.translation.try_borrow().as_deref(), Ok(None));
            area.may_shape.store(plain.into(), Relaxed);
            // While a point between two sync points is looked for there are no records to take.
            let pending = task.search.is_some() || has_data;
            area.pending.store(pending.into(), Relaxed);
        }
    }

    /// A signal that stopped a running task. True: it was in the agent, and all is done.
    pub(super) fn signal_in_agent(
        &mut self,
        id: u32,
        signal: i32,
        info: &[u8; 128],
    ) -> Result<bool> {
        let task = self.task(id);
        if task.space.sites.borrow().is_empty() {
            return Ok(false);
        }
        let (tid, lane) = (task.tid, task.lane);
        let mut regs = self.machine.stopped(tid)?.regs()?;
        let Some(place) = Place::of(&regs) else {
            return Ok(false);
        };
        let trap = signal == libc::SIGTRAP && si_code(info) == libc::SI_KERNEL;
        if trap && place == Place::Asked {
            let wish = task.area.as_ref().map(|area| area.reason.load(Relaxed));
            match wish {
                Some(ask::FILL) => {
                    self.fetch(lane)?;
                }
                Some(ask::SWITCH) => self.asked_to_switch(id, lane),
                _ => {}
            }
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if trap && place == Place::Passed {
            let task = self.task(id);
            let Some(site) = task.space.sites.borrow().by_tail(regs.rcx) else {
                return Ok(false);
            };
            regs.rip = site.next();
            regs.rcx = site.next();
            regs.r11 = regs.eflags;
            let why = task.area.as_ref().map_or(reason::CALL, |area| {
                area.phase.store(phase::OUTSIDE, Relaxed);
                area.reason.load(Relaxed)
            });
            let bare = task
                .area
                .as_ref()
                .is_none_or(|area| area.lane.load(Relaxed) == 0);
            if task.search.is_some() {
                self.missed(id)?;
            }
            self.catch_up(lane);
            if why == reason::DONE && !bare {
                regs.orig_rax = u64::MAX;
                let task = self.task_mut(id);
                task.app = regs;
                task.state = State::Idle;
                self.ready.push_back(lane);
            } else {
                self.arrive_at_call(id, regs)?;
            }
            return Ok(true);
        }
        if trap && place == Place::Cpuid {
            let task = self.task(id);
            let behind = behind_instruction(&task.space.mem)?;
            let site = task.space.sites.borrow().by_tail(behind);
            if let Some(site) = site
                && let Some(which) = Trapped::counter(site.kind)
            {
                self.missed(id)?;
                self.catch_up(lane);
                (regs.rip, regs.orig_rax) = (site.syscall, u64::MAX);
                let task = self.task_mut(id);
                task.app = regs;
                let length = site.next() - site.syscall;
                task.state = State::Arrived(Sync::Instruction(which, length));
                self.ready.push_back(lane);
                return Ok(true);
            }
            answer_cpuid(&self.cpuid, &self.task(id).space.mem, &mut regs)?;
            regs.rip = self.still_translated(id, regs.rip)?;
            self.machine.stopped(tid)?.set_regs(&regs)?;
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if is_synchronous(signal, info)
            && let Some(area) = &task.area
            && area.phase.load(Relaxed) != phase::OUTSIDE
            && signal != libc::SIGTRAP
        {
            pass_on(&mut regs, area, reason::CALL);
            self.machine.stopped(tid)?.set_regs(&regs)?;
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Patches places, or puts them back, as the recording did.
    pub(super) fn patch(&mut self, id: u32, flags: u8, sites: &[u8]) -> Result<()> {
        let space = self.task(id).space.clone();
        let mut known = space.sites.borrow_mut();
        let bad = || ReplayError::Log("it patches calls where there are none".into());
        let sites: Option<Vec<_>> = decode_sites(sites).collect();
        let sites = sites.ok_or_else(bad)?;
        for site in &sites {
            self.code_changed(id, site.start(), site.end());
        }
        if flags & patch::REMOVE != 0 {
            for site in sites {
                known.restore(&space.mem, site.start(), site.end());
            }
        } else if known.patch(&space.mem, &sites, None)? != sites {
            return Err(bad());
        }
        let tasks = self.tasks.values();
        let own = tasks.filter(|task| Rc::ptr_eq(&task.space, &space));
        let own = own.map(|task| task.tid);
        if known.answers_cpuid() {
            if !space.unknown_code.get() {
                space.unpin(own);
            }
        } else if flags & patch::REMOVE != 0 && !self.machine.cpuid_faults {
            space.pin(own);
        }
        Ok(())
    }
}
