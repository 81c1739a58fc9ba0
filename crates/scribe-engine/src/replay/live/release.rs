//! Letting the processes go, when each has all that is its own.

use crate::leave::{ARCH_MAP_VDSO_64, Leaving, Waiting, again};
use crate::replay::*;
use scribe_objects::model;
use scribe_tracee::inject::bytes_of;
use scribe_tracee::{Rseq, maps};
use std::time::Duration;

/// In place of a thread id that is not needed any more: the kernel goes on with the task's call.
const CONTINUES: i32 = -1;

impl Replayer {
    /// Gives the kernel what the engine kept for the tasks of a process.
    pub(super) fn give_tasks_back(&mut self, process: &model::Process) -> Result<()> {
        for (i, described) in process.tasks.iter().enumerate() {
            let id = described.task;
            let task = self.task(id);
            let (tid, app, space) = (task.tid, task.app, task.space.clone());
            if let State::Arrived(Sync::Call(call)) = task.state {
                let (call, since) = ((call.nr, call.args), Duration::from_nanos(described.waited));
                // It is found waiting when it is let go.
                match self.machine.wait_in_place(tid, &app, &space, call, since)? {
                    Waiting::Continues => self.task_mut(id).recorded_tid = CONTINUES,
                    Waiting::Over(ret) => {
                        let task = self.task_mut(id);
                        task.app.rax = ret as u64;
                        task.state = State::Idle;
                    }
                    Waiting::Anew | Waiting::Untouched => {}
                }
            }
            let info = |bytes: &[u8]| -> [u8; 128] {
                let mut info = [0; 128];
                let len = bytes.len().min(128);
                info[..len].copy_from_slice(&bytes[..len]);
                info
            };
            let task = &self.tasks[&id];
            let actions = task.sighand.borrow();
            let (address, size, signature) = described.rseq;
            self.machine.give_back(Leaving {
                tid,
                app: task.app,
                space: &space,
                alt: task.alt,
                instructions: task.instructions,
                rseq: Rseq {
                    address,
                    size,
                    signature,
                },
                pending: described
                    .pending
                    .iter()
                    .map(|(signo, bytes)| (*signo, info(bytes)))
                    .collect(),
                actions: (i == 0).then_some(&*actions),
            })?;
        }
        Ok(())
    }

    /// The recording's vDSO, whose functions the program has looked up, comes into a mapping that the kernel
    /// knows as its own; the data that the kernel's functions use are not needed.
    fn name_vdso(&mut self, id: u32, start: u64) -> Result<()> {
        let task = self.task(id);
        let (tid, space) = (task.tid, task.space.clone());
        let there = maps::read(tid).into_iter().find(|map| map.start == start);
        let Some(there) = there else {
            return Ok(());
        };
        space.vdso.set((there.start, there.end));
        let image = space.mem.read_vec(start, there.size() as usize)?;
        self.do_call(id, libc::SYS_arch_prctl, &[ARCH_MAP_VDSO_64, 0])?;
        let maps = maps::read(tid);
        let found = maps.iter().find(|map| map.name == "[vdso]");
        let Some(found) = found.filter(|map| map.start != start) else {
            return Ok(());
        };
        let fits = found.size() == there.size();
        for map in maps
            .iter()
            .filter(|map| map.name.starts_with("[vvar") || !fits && *map == found)
        {
            self.do_call(id, libc::SYS_munmap, &[map.start, map.size()])?;
        }
        if fits {
            let size = found.size();
            let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            self.do_call(id, libc::SYS_mremap, &[found.start, size, size, how, start])?;
            space.mem.write(start, &image)?;
        }
        Ok(())
    }

    /// Takes what is Scribe's out of a process, and tells the kernel what it is.
    pub(super) fn clear(&mut self, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        /// AT_SYSINFO_EHDR (getauxval(3)).
        const VDSO: u64 = 33;
        let mut pairs = process.auxv.chunks_exact(2);
        if let Some([_, start]) = pairs.find(|pair| pair[0] == VDSO) {
            self.name_vdso(id, *start)?;
        }
        space.vvar_gap.set(None);
        let own: Vec<Tid> = process
            .tasks
            .iter()
            .map(|task| self.task(task.task).tid)
            .collect();
        space.unpin(own);
        let mut exe = None;
        if process.mm.len() == 11 {
            /// More than AT_VECTOR_SIZE the kernel does not take (arch/x86/include/asm/elf.h).
            const MOST: usize = 46;
            let auxv = &process.auxv[..process.auxv.len().min(MOST)];
            let mut map = bytes_of(&process.mm);
            map.extend_from_slice(&[0; 8]);
            map.extend_from_slice(&(size_of_val(auxv) as u32).to_le_bytes());
            map.extend_from_slice(&[0; 4]);
            map.extend(bytes_of(auxv));
            exe = Some((self.exes.remove(&id).unwrap_or(-1), map));
        }
        Ok(self.machine.clear_space(tid, &app, &space, exe)?)
    }

    /// Gives a task its own registers.
    pub(super) fn stand_ready(&mut self, described: &model::Task) -> Result<()> {
        let task = self.task(described.task);
        let mut regs = task.app;
        regs.orig_rax = u64::MAX;
        if let State::Arrived(Sync::Call(_)) = task.state {
            let broken = match task.recorded_tid {
                CONTINUES => crate::record::interrupt::ERESTART_RESTARTBLOCK,
                _ => 0,
            };
            regs = again(regs, broken);
        }
        let (tid, mask) = (task.tid, task.mask);
        self.machine.stand_ready(tid, &regs, mask)?;
        self.machine.stopped(tid)?.spare()?;
        Ok(())
    }

    /// Lets a task go.
    pub(super) fn set_free(&mut self, described: &model::Task) -> Result<()> {
        let tid = self.task(described.task).tid;
        Ok(self.machine.let_go(tid)?)
    }
}
