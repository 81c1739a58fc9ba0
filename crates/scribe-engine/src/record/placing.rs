//! Where the buffers of a call lie while it is made: where the program has them, or in scratch memory, so
//! that nobody sees memory change at a moment that has no record; and what the call has written.

use super::calls::{Kind, PendingCall};
use super::*;
use crate::state::for_pieces;
use scribe_abi::{PAGE, SCRATCH_BASE, SCRATCH_PITCH, SCRATCH_SLOTS};
use scribe_kernel::signal::kernel_mask;
use scribe_syscalls::{Dir, Slot};

/// Of a buffer that a failed call may have written to, as much is kept at most.
const MOST_KEPT: u64 = 1 << 20;

/// What a finished call left to be written, gathered while tasks and log are borrowed apart.
pub(super) struct Outputs {
    pub ranges: Vec<(u64, u64, u64)>,
}

impl Outputs {
    /// Memory (address, length) that was written where the program wants it.
    pub(super) fn in_place(ranges: &[(u64, u64)]) -> Outputs {
        let ranges = ranges.iter().map(|(addr, len)| (*addr, *addr, *len));
        Outputs {
            ranges: ranges.collect(),
        }
    }
}

impl PendingCall {
    /// The agent has moved the outputs, and what leads to them, to this memory: as its
    /// `Plan::move_outputs` does.
    pub(super) fn was_moved(&mut self, scratch: u64) {
        let bufs = &self.plan.bufs;
        let leads = |this: usize| {
            let nested = |slot: Slot| matches!(slot, Slot::Nested { buf, .. } if buf == this);
            bufs.iter()
                .any(|buf| nested(buf.slot) && buf.dir != Dir::In)
        };
        let mut at = scratch;
        for (i, buf) in bufs.iter().enumerate() {
            if buf.in_place || buf.dir == Dir::In && !leads(i) {
                continue;
            }
            self.placed[i] = at;
            if let Slot::Arg(arg) = buf.slot {
                self.agent_args[arg as usize] = at;
            }
            at += round(buf.cap);
        }
    }
}

impl Recorder {
    /// Moves all buffers of a call into the task's scratch area. False: there is no room for them.
    pub(super) fn move_outputs(&mut self, id: u32, pending: &mut PendingCall) -> Result<bool> {
        let total: u64 = pending.plan.bufs.iter().map(|buf| round(buf.cap)).sum();
        if total > SCRATCH_PITCH {
            pending.released = false;
            return Ok(false);
        }
        self.redirect(id, pending, total)?;
        Ok(true)
    }

    /// Moves all buffers of a call into the task's scratch area.
    pub(super) fn redirect(
        &mut self,
        id: u32,
        pending: &mut PendingCall,
        total: u64,
    ) -> Result<()> {
        let base = self.scratch(id, total)?;
        let space = self.task(id).space.clone();
        let mut at = base;
        let mut images: Vec<Vec<u8>> = Vec::new();
        for (i, buf) in pending.plan.bufs.iter().enumerate() {
            let mut image = vec![0; if buf.in_place { 0 } else { buf.cap as usize }];
            if buf.dir == Dir::Out {
                image.clear();
            } else if !self.read_for(id, buf.addr, &mut image) {
                // Not all of it is readable: the kernel is to see that for itself.
                image.clear();
                images.push(image);
                continue;
            }
            if buf.in_place {
                images.push(image);
                continue;
            }
            if buf.dir != Dir::In && !self.has_room(id, buf.addr, buf.cap) {
                // The same: what it cannot write stays where it is, a message in its pipe.
                images.push(Vec::new());
                continue;
            }
            pending.placed[i] = at;
            at += round(buf.cap);
            if buf.sigmask && image.len() >= 8 {
                let mask = u64::from_le_bytes(image[..8].try_into().expect("eight bytes"));
                pending.temporary_mask = Some(mask);
                image[..8].copy_from_slice(&kernel_mask(Mask(mask)).0.to_le_bytes());
            }
            match buf.slot {
                Slot::Arg(arg) => pending.agent_args[arg as usize] = pending.placed[i],
                Slot::Nested { buf: parent, off } => {
                    let bytes = pending.placed[i].to_le_bytes();
                    if let Some(place) = images[parent].get_mut(off as usize..off as usize + 8) {
                        place.copy_from_slice(&bytes);
                    }
                }
            }
            images.push(image);
        }
        for ((image, place), buf) in images.iter().zip(&pending.placed).zip(&pending.plan.bufs) {
            if *place != buf.addr {
                space.mem.write(*place, image)?;
            }
        }
        Ok(())
    }

    /// Whether the program itself could write to both ends of a range.
    pub(super) fn has_room(&self, id: u32, addr: u64, len: u64) -> bool {
        let task = self.task(id);
        let ends = [addr, addr.wrapping_add(len.saturating_sub(1))];
        len == 0
            || ends.into_iter().all(|at| {
                let mut byte = [0];
                task.space.mem.read_some(at, &mut byte) == 1
                    && scribe_tracee::write_as_allowed(task.tid, at, &byte) != Err(libc::EFAULT)
            })
    }

    /// A scratch area of at least `len` bytes for the task.
    pub(super) fn scratch(&mut self, id: u32, len: u64) -> Result<u64> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let space = task.space.clone();
        let slot = *task.slot.get_or_insert_with(|| space.take_slot());
        let base = SCRATCH_BASE + slot % SCRATCH_SLOTS * SCRATCH_PITCH;
        let have = space.scratch.borrow().get(&slot).copied().unwrap_or(0);
        if have < len {
            let want = len.next_multiple_of(16 * PAGE).min(SCRATCH_PITCH);
            let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
            let flags =
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE)
                    as u64;
            let args = [base + have, want - have, prot, flags, u64::MAX, 0];
            let (tid, app) = (task.tid, task.app);
            let got = self.machine.inject(tid, &app, libc::SYS_mmap, args)?;
            self.take_strays(id)?;
            if got < 0 {
                return Err(scribe_tracee::Error::Os {
                    what: "mapping scratch memory in the program",
                    source: std::io::Error::from_raw_os_error(-got as i32),
                }
                .into());
            }
            space.scratch.borrow_mut().insert(slot, want);
        }
        Ok(base)
    }

    /// Which memory the call wrote; where it went to scratch it is copied home.
    pub(super) fn collect(&mut self, id: u32, pending: &mut PendingCall) -> Result<Outputs> {
        match pending.kind {
            Kind::Sigreturn(_) => return Ok(Outputs { ranges: Vec::new() }),
            Kind::Answer { wrote, .. } => {
                let ranges = wrote
                    .iter()
                    .map(|(addr, len)| (*addr, *addr, *len))
                    .collect();
                return Ok(Outputs { ranges });
            }
            _ => {}
        }
        let space = self.task(id).space.clone();
        let mut read = |buf: usize, off: u64, out: &mut [u8]| {
            pending
                .placed
                .get(buf)
                .is_some_and(|at| space.mem.read(at + off, out).is_ok())
        };
        if pending.ret == -i64::from(libc::EFAULT)
            && pending.plan.bufs.iter().any(|buf| buf.cap > 1)
        {
            // The kernel may have written up to where it could not.
            let outs = pending.plan.bufs.iter().zip(&pending.placed);
            let outs = outs.filter(|(buf, at)| buf.dir != Dir::In && buf.addr == **at);
            let ranges = outs
                .map(|(buf, _)| {
                    let there = scribe_syscalls::Memory::readable(
                        &*space,
                        buf.addr,
                        buf.cap.min(MOST_KEPT),
                    );
                    (buf.addr, buf.addr, there)
                })
                .filter(|range| range.2 > 0)
                .collect();
            return Ok(Outputs { ranges });
        }
        let ranges = scribe_syscalls::outputs(
            pending.row,
            &pending.call,
            &pending.plan,
            pending.ret,
            &mut read,
        );
        let ranges = ranges.iter().filter(|range| range.len > 0).map(|range| {
            let addr = pending.plan.bufs[range.buf].addr + range.off;
            (addr, pending.placed[range.buf] + range.off, range.len)
        });
        let mut ranges: Vec<_> = ranges.collect();
        let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
        if pending.interrupted && ranges.is_empty() && sleeps.contains(&pending.call.nr.into()) {
            // The time that was left is written each time, not only when the call gives EINTR.
            let out = pending.plan.bufs.iter().zip(&pending.placed);
            let out = out.filter(|(buf, _)| buf.dir == Dir::Out);
            ranges = out
                .map(|(buf, placed)| (buf.addr, *placed, buf.cap))
                .collect();
        }
        if self.reads_directly(id, pending) {
            // The kernel clears the rest of a sector or page at the end of the file.
            let out = pending.plan.bufs.iter().zip(&pending.placed);
            let out = out.filter(|(buf, _)| buf.dir == Dir::Out);
            ranges = out
                .map(|(buf, placed)| (buf.addr, *placed, buf.cap))
                .collect();
        }
        if let ([range], Some(edit)) = (&mut ranges[..], self.edits(id, pending)) {
            self.filter_output(id, pending, range, edit)?;
        }
        for (addr, placed, len) in &ranges {
            if addr != placed {
                copy_home(&space.mem, *addr, *placed, *len)?;
            }
        }
        self.honest_output(id, &pending.call, pending.ret)?;
        Ok(Outputs { ranges })
    }
}

/// Copies output from scratch to where the program wants it. What is the same already is not
/// written: it may lie in memory that the program itself cannot write.
fn copy_home(mem: &scribe_tracee::Mem, home: u64, placed: u64, len: u64) -> Result<()> {
    let mut failed = Ok(());
    for_pieces(mem, placed, len, |at, piece| {
        let to = home + (at - placed);
        let mut old = vec![0; piece.len()];
        if (mem.read_some(to, &mut old) < old.len() || old != piece) && failed.is_ok() {
            failed = mem.write(to, piece);
        }
    });
    Ok(failed?)
}

fn round(len: u64) -> u64 {
    len.next_multiple_of(16)
}
