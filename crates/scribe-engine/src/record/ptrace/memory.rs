//! Memory that one recorded task writes for another: PTRACE_POKEDATA, `/proc/PID/mem`,
//! process_vm_writev. What is written belongs into the lane of the task whose memory it is, at a
//! sync point of that lane.

use super::*;
use crate::state::for_pieces;
use scribe_log::place;
use scribe_syscalls::{Call, Row};

const EIO: i64 = -(libc::EIO as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
/// Most that one call writes; a longer write ends short.
const MOST: usize = 16 << 20;
/// `UIO_MAXIOV`.
const MOST_PARTS: u64 = 1024;

/// Pieces of memory: address and content.
type Writes = Vec<(u64, Vec<u8>)>;

/// A write to memory that waits until its lane is at a sync point, and the call that makes it.
pub(in crate::record) struct Later {
    by: u32,
    row: &'static Row,
    call: Call,
    ret: i64,
    target: u32,
    writes: Writes,
    done: bool,
}

impl Later {
    /// Whether it cannot be done any more without this task.
    pub(super) fn is_about(&self, id: u32) -> bool {
        self.by == id
    }
}

impl Recorder {
    /// Writes to the memory of a task, for the call that `id` makes.
    pub(in crate::record) fn poke(
        &mut self,
        id: u32,
        (row, call): (&'static Row, Call),
        ret: i64,
        target: u32,
        writes: Writes,
    ) -> Result<()> {
        if Rc::ptr_eq(&self.task(id).space, &self.task(target).space) && id == target {
            return self.answer_forced(id, row, call, ret, &writes);
        }
        match self.try_poke(id, target, &writes)? {
            true => self.answer(id, row, call, ret),
            false => {
                self.task_mut(id).state = State::Traced;
                self.release(id, Left::InCall);
                self.ptrace.later.push(Later {
                    by: id,
                    row,
                    call,
                    ret,
                    target,
                    writes,
                    done: false,
                });
                Ok(())
            }
        }
    }

    /// Writes to the memory of `target` if its lane is at a sync point; false if it is not.
    fn try_poke(&mut self, by: u32, target: u32, writes: &Writes) -> Result<bool> {
        let Some(task) = self.tasks.get(&target) else {
            return Ok(true);
        };
        let (lane_id, state) = (task.lane, task.state);
        let halt = self
            .ptrace
            .tracees
            .get(&target)
            .and_then(|tracee| tracee.halt.as_ref());
        let before_call = state == State::InCall && !task.vfork_wait
            || halt.is_some_and(|halt| {
                matches!(
                    halt.place,
                    Place::Entry | Place::Interrupted | Place::Restart
                )
            });
        let Some(lane) = self.lanes.get(&lane_id) else {
            return Ok(true);
        };
        let place = if before_call {
            place::ENTRY
        } else {
            place::HERE
        };
        match lane.area.token.holder() {
            _ if state == State::Exiting => {
                // Its end is in the log already.
                for (addr, bytes) in writes {
                    task.space.mem.write(*addr, bytes)?;
                }
            }
            Some(holder) if holder == target && state != State::App => {
                self.write_memory(target, place, writes)?;
            }
            // It stands at the call that writes.
            Some(holder) if holder == by => self.write_memory(target, place::ENTRY, writes)?,
            Some(_) => return Ok(false),
            None => {
                self.take_free_token(target, lane_id);
                self.write_memory(target, place, writes)?;
                let left = if before_call {
                    Left::InCall
                } else {
                    Left::AfterEvent
                };
                self.release(target, left);
            }
        }
        Ok(true)
    }

    /// Writes the record, in the lane of the task, and then the memory.
    fn write_memory(&mut self, target: u32, place: u8, writes: &Writes) -> Result<()> {
        let task = self.task(target);
        let (lane, space) = (task.lane, task.space.clone());
        for (addr, bytes) in writes {
            for (i, piece) in bytes.chunks(scribe_log::MAX_DATA).enumerate() {
                let addr = addr + (i * scribe_log::MAX_DATA) as u64;
                self.stats.events += 1;
                self.log.append(lane, |buf| {
                    let mut record = scribe_log::begin_tracer(buf, target, place, 0);
                    record.out(addr, piece);
                    record.finish();
                });
                self.log.maybe_flush();
            }
            space.mem.write(*addr, bytes)?;
        }
        // What its call reads may have changed.
        if let Some((row, call)) = self
            .task(target)
            .call
            .as_ref()
            .map(|call| (call.row, call.call))
        {
            let hash = self
                .prepare(target, row, call, super::calls::Kind::Plain)
                .hash;
            if let Some(pending) = &mut self.task_mut(target).call {
                pending.hash = hash;
            }
        }
        Ok(())
    }

    /// The task is at a sync point with the token: what waits for that is written.
    pub(in crate::record) fn write_later(&mut self, id: u32) -> Result<()> {
        if self.ptrace.later.is_empty() {
            return Ok(());
        }
        let lane = self.task(id).lane;
        self.write_waiting(|recorder, later| {
            let same = recorder
                .tasks
                .get(&later.target)
                .is_some_and(|task| task.lane == lane);
            if same {
                recorder.write_memory(later.target, place::HERE, &later.writes)?;
            }
            Ok(same)
        })
    }

    /// Looks whether lanes have become free whose memory is to be written.
    pub(in crate::record) fn retry_later(&mut self) -> Result<()> {
        if self.ptrace.later.is_empty() {
            return Ok(());
        }
        self.write_waiting(|recorder, later| {
            recorder.try_poke(later.by, later.target, &later.writes)
        })
    }

    fn write_waiting(
        &mut self,
        mut write: impl FnMut(&mut Recorder, &Later) -> Result<bool>,
    ) -> Result<()> {
        let mut all = std::mem::take(&mut self.ptrace.later);
        let mut ready = Vec::new();
        for later in all.iter_mut().filter(|later| !later.done) {
            match write(self, later) {
                Ok(done) => later.done = done,
                // Its memory is gone with it.
                Err(RecordError::Trace(_)) => (later.ret, later.done) = (EIO, true),
                Err(error) => return Err(error),
            }
            if later.done {
                ready.push(later.by);
            }
        }
        self.ptrace.later.append(&mut all);
        for by in ready {
            if self.tasks.contains_key(&by) {
                self.want_token(by, Ready::Traced);
            }
        }
        Ok(())
    }

    /// The call that waited for its write to be done is over; true if there is one.
    pub(super) fn finish_later(&mut self, id: u32) -> Result<bool> {
        let mut waiting = self.ptrace.later.iter();
        let Some(at) = waiting.position(|later| later.by == id && later.done) else {
            return Ok(false);
        };
        let later = self.ptrace.later.remove(at);
        self.answer(id, later.row, later.call, later.ret)?;
        Ok(true)
    }

    /// Takes the token of a lane, which is free, for a task that does not run.
    fn take_free_token(&mut self, id: u32, lane_id: u32) {
        let Some(lane) = self.lanes.get(&lane_id) else {
            return;
        };
        if let Ok(Some(left)) = lane.area.token.try_acquire(id) {
            self.stats.switches += 1;
            let flags = if left == Left::InCall {
                flags::PREV_IN_CALL
            } else {
                0
            };
            self.write(lane_id, &Record::Switch { task: id, flags });
        }
    }

    /// What a call that writes by vectors has in them.
    fn gather(&self, id: u32, at: u64, parts: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for i in 0..parts.min(MOST_PARTS) {
            let word = |n: u64| self.word_for(id, at.wrapping_add(i * 16 + n));
            let (addr, len) = (word(0)?, word(8)?);
            let before = bytes.len();
            let want = len.min((MOST - before) as u64);
            for_pieces(&self.task(id).space.mem, addr, want, |_, piece| {
                bytes.extend_from_slice(piece);
            });
            if ((bytes.len() - before) as u64) < len {
                break;
            }
        }
        Some(bytes)
    }

    /// A write to `/proc/PID/mem` of a recorded task. `None`: it is not.
    pub(in crate::record) fn writes_memory(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
    ) -> Result<Option<()>> {
        let nr = i64::from(call.nr);
        let writes = [
            libc::SYS_write,
            libc::SYS_pwrite64,
            libc::SYS_writev,
            libc::SYS_pwritev,
            libc::SYS_pwritev2,
        ];
        if !writes.contains(&nr) {
            return Ok(None);
        }
        let [fd, from, count, offset, ..] = call.args;
        let vectors = nr != libc::SYS_write && nr != libc::SYS_pwrite64;
        let moves = match nr {
            libc::SYS_write | libc::SYS_writev => true,
            libc::SYS_pwritev2 => offset == u64::MAX,
            _ => false,
        };
        let Some(pid) = self.fd_info(id, fd as i32).and_then(|info| info.memory_of) else {
            return Ok(None);
        };
        let Some(&target) = self.by_tid.get(&pid) else {
            return Ok(None);
        };
        self.tracing_begins()?;
        let task = self.task(id);
        let tid = task.tid;
        let at = match moves {
            true => position(tid, fd as i32),
            false => offset,
        };
        let mut bytes = Vec::new();
        if !vectors {
            for_pieces(&task.space.mem, from, count.min(MOST as u64), |_, piece| {
                bytes.extend_from_slice(piece);
            });
        } else if let Some(all) = self.gather(id, from, count) {
            bytes = all;
        }
        if bytes.is_empty() && count != 0 {
            return self.answer(id, row, call, EFAULT).map(Some);
        }
        let mut old = vec![0; bytes.len()];
        bytes.truncate(self.task(target).space.mem.read_some(at, &mut old));
        if bytes.is_empty() && count != 0 {
            return self.answer(id, row, call, EIO).map(Some);
        }
        let len = bytes.len() as u64;
        if moves {
            let args = [fd, len, libc::SEEK_CUR as u64, 0, 0, 0];
            let app = self.task(id).app;
            self.machine.inject(tid, &app, libc::SYS_lseek, args)?;
            self.take_strays(id)?;
        }
        self.poke(id, (row, call), len as i64, target, vec![(at, bytes)])
            .map(Some)
    }

    /// process_vm_writev.
    pub(in crate::record) fn process_vm_writev(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
    ) -> Result<()> {
        self.tracing_begins()?;
        let [pid, local, locals, remote, remotes, flags] = call.args;
        let Some(target) = self.task_seen(id, pid as Tid) else {
            let there = self.is_there(id, pid as Tid);
            if there {
                self.warn_once(
                    "process_vm_writev to processes outside the recording is refused with EPERM"
                        .into(),
                );
            }
            let error = if there { libc::EPERM } else { libc::ESRCH };
            return self.answer(id, row, call, -i64::from(error));
        };
        if flags != 0 || locals > MOST_PARTS || remotes > MOST_PARTS {
            return self.answer(id, row, call, -i64::from(libc::EINVAL));
        }
        let mem = &self.task(id).space.mem;
        let parts = |at: u64, n: u64| -> Option<Vec<(u64, u64)>> {
            let word = |i: u64| mem.read_u64(at.wrapping_add(i * 8)).ok();
            (0..n)
                .map(|i| Some((word(2 * i)?, word(2 * i + 1)?)))
                .collect()
        };
        let (Some(from), Some(to)) = (parts(local, locals), parts(remote, remotes)) else {
            return self.answer(id, row, call, EFAULT);
        };
        let mut bytes = Vec::new();
        for (addr, len) in from {
            let before = bytes.len();
            let want = len.min((MOST - before) as u64);
            for_pieces(mem, addr, want, |_, piece| bytes.extend_from_slice(piece));
            if ((bytes.len() - before) as u64) < len {
                break;
            }
        }
        let asked = to.iter().map(|(_, len)| *len).fold(0, u64::saturating_add);
        let mut rest = bytes.as_slice();
        let mut writes: Writes = Vec::new();
        for (addr, len) in to {
            let len = rest.len().min(len as usize);
            let mut old = vec![0; len];
            // Unlike /proc/PID/mem this minds what the pages are for.
            let there = match writable(self.task(target).tid, addr, len as u64) {
                true => self.task(target).space.mem.read_some(addr, &mut old),
                false => 0,
            };
            writes.push((addr, rest[..there].to_vec()));
            if there < len {
                break;
            }
            rest = &rest[len..];
        }
        let done: usize = writes.iter().map(|(_, bytes)| bytes.len()).sum();
        if done == 0 && asked != 0 {
            return self.answer(id, row, call, EFAULT);
        }
        self.poke(id, (row, call), done as i64, target, writes)
    }
}

/// Whether a task may write to all of this memory.
fn writable(tid: Tid, addr: u64, len: u64) -> bool {
    let end = addr.saturating_add(len);
    let maps = scribe_tracee::maps::read(tid);
    let mut hit = maps.iter().filter(|map| map.start < end && map.end > addr);
    hit.all(|map| map.writable())
}

/// The position of a descriptor (proc(5), fdinfo).
fn position(tid: Tid, fd: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap_or_default();
    let pos = text.lines().find_map(|line| line.strip_prefix("pos:"));
    pos.and_then(|pos| pos.trim().parse().ok()).unwrap_or(0)
}
