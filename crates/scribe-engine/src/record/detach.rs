//! The end of tracing: the program goes on as if it had never been recorded.
//!
//! All tasks are together and stopped. What Scribe kept from the kernel is given to it (handlers of
//! signals that had to come through, alternate stacks, masks, signals that wait); what Scribe put into
//! the address spaces is taken out; each task goes on from its own registers, those that waited in a
//! call by making it again.

use super::interrupt::{ERESTART_RESTARTBLOCK, millis_left};
use super::*;
use crate::faulting::ARCH_SET_CPUID;
use scribe_abi::shared::{SHARED_BASE, SHARED_LEN};
use scribe_abi::{AGENT_END, AGENT_STRINGS, PAGE, SCRATCH_BASE, SCRATCH_END};
use scribe_kernel::signal::Disposition;
use scribe_tracee::inject::call_regs;
use scribe_tracee::maps;

/// include/uapi/asm/prctl.h (arch/x86).
const ARCH_MAP_VDSO_64: u64 = 0x2003;
/// Signals handed back in one batch, as far as there is room for what is known of them.
const SIGNALS_AT_ONCE: usize = 12;
/// How often a call is begun anew that is to be found waiting.
const TRIES: u32 = 1000;

impl Recorder {
    /// Ends the tracing of all tasks.
    pub(super) fn leave_program(&mut self, ids: &[u32]) -> Result<()> {
        self.log.drain_all();
        let done = self.clear_copies();
        self.survive(done)?;
        let mut sighands: Vec<Rc<RefCell<Dispositions>>> = Vec::new();
        for &id in ids {
            let of = self.task(id).sighand.clone();
            let first = !sighands.iter().any(|other| Rc::ptr_eq(other, &of));
            if first {
                sighands.push(of);
            }
            let done = self.give_back(id, first);
            self.survive(done)?;
        }
        let mut spaces: Vec<Rc<AddressSpace>> = Vec::new();
        for &id in ids {
            let space = self.task(id).space.clone();
            if !spaces.iter().any(|other| Rc::ptr_eq(other, &space)) {
                spaces.push(space);
                let done = self.clear_space(id);
                self.survive(done)?;
            }
        }
        // From here on nothing is missing for them to go on, whatever becomes of this process.
        for &id in ids {
            let done = self.stand_ready(id);
            self.survive(done)?;
        }
        for &id in ids {
            let stopped = self.machine.stopped(self.task(id).tid);
            let done = stopped.and_then(|stopped| stopped.spare());
            self.survive(done.map_err(RecordError::from))?;
        }
        // Leaders first: while they are traced the kernel keeps signals that the program ignores, and
        // wakes others of their threads for them.
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| self.task(*id).tid != self.task(*id).tgid);
        for id in ids {
            let done = self.leave(id);
            self.survive(done)?;
        }
        Ok(())
    }

    /// Gives the kernel what the engine kept for a task; with `actions`, also for its process.
    fn give_back(&mut self, id: u32, actions: bool) -> Result<()> {
        self.take_strays(id)?;
        self.wait_in_place(id)?;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        let mem = &space.mem;
        // Signals that come up now wait for the program; not the trap behind the agent's calls: the
        // kernel drops the handler of one that is forced upon a task which blocks it.
        let mask = signals::kernel_mask(u64::MAX);
        self.machine.stopped(tid)?.set_sigmask(mask)?;
        let (tsc, cpuid) = task.instructions;
        let tsc = match tsc {
            true => libc::PR_TSC_ENABLE,
            false => libc::PR_TSC_SIGSEGV,
        };
        let (set_tsc, tsc) = (libc::PR_SET_TSC as u64, tsc as u64);
        let mut calls = vec![
            (libc::SYS_prctl, [set_tsc, tsc, 0, 0, 0, 0]),
            (
                libc::SYS_arch_prctl,
                [ARCH_SET_CPUID, cpuid.into(), 0, 0, 0, 0],
            ),
            (libc::SYS_getpid, [0; 6]),
            (libc::SYS_gettid, [0; 6]),
        ];
        let rseq = task.rseq;
        if rseq.address != 0 {
            let (size, signature) = (rseq.size.into(), rseq.signature.into());
            calls.push((libc::SYS_rseq, [rseq.address, size, 0, signature, 0, 0]));
        }
        let mut data = Vec::new();
        if task.alt.size != 0 {
            calls.push((libc::SYS_sigaltstack, [AGENT_STRINGS, 0, 0, 0, 0, 0]));
            data.extend_from_slice(&task.alt.to_bytes());
        }
        if actions {
            let sighand = task.sighand.borrow();
            for signal in 1..=64 {
                let known = sighand.get(signal).copied().unwrap_or_default();
                let told = known.handler != libc::SIG_DFL as u64 || Mask::FORCED.has(signal);
                if told && !Mask::KERNEL_ONLY.has(signal) {
                    let at = AGENT_STRINGS + data.len() as u64;
                    calls.push((libc::SYS_rt_sigaction, [signal.into(), at, 0, 8, 0, 0]));
                    data.extend_from_slice(&Disposition::to_bytes(&known));
                }
            }
        }
        mem.write(AGENT_STRINGS, &data)?;
        let results = self.machine.batch(tid, mem, &app, &calls)?;
        let (pid, own) = (results[2] as u64, results[3] as u64);
        let mut waiting = Vec::new();
        while let Some(signal) = self.task_mut(id).stash.pop(Mask(0)) {
            waiting.push(signal);
        }
        for some in waiting.chunks(SIGNALS_AT_ONCE) {
            let mut calls = Vec::new();
            for (i, signal) in some.iter().enumerate() {
                let at = AGENT_STRINGS + 128 * i as u64;
                mem.write(at, &signal.info)?;
                let args = [pid, own, signal.signo.into(), at, 0, 0];
                calls.push((libc::SYS_rt_tgsigqueueinfo, args));
            }
            self.machine.batch(tid, mem, &app, &calls)?;
        }
        Ok(())
    }

    /// A call that the kernel would continue with memory of ours is made anew, with the program's own
    /// and the time that is left, so that the kernel continues that.
    fn wait_in_place(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, app, mem) = (task.tid, task.app, task.space.clone());
        let Some(pending) = &task.call else {
            return Ok(());
        };
        let continues = pending.agent_nr == libc::SYS_restart_syscall as u64;
        let moved = pending.agent_args != pending.call.args;
        if task.state != State::Ready(Ready::Relaunch) || !continues || !moved {
            return Ok(());
        }
        let (nr, mut args) = (pending.call.nr, pending.call.args);
        let since = pending.started.elapsed();
        let sleep = match i64::from(nr) {
            libc::SYS_poll => {
                let limit = Duration::from_millis(args[2]);
                args[2] = millis_left(limit, since);
                None
            }
            libc::SYS_nanosleep => Some(0),
            libc::SYS_clock_nanosleep => Some(2),
            _ => return Ok(()),
        };
        if let Some(at) = sleep {
            let mut time = [0; 16];
            mem.mem.read(args[at], &mut time)?;
            let part = |i: usize| u64::from_le_bytes(time[i..i + 8].try_into().expect("eight"));
            let limit = Duration::new(part(0), part(8) as u32);
            let left = limit.saturating_sub(since);
            time[..8].copy_from_slice(&left.as_secs().to_le_bytes());
            time[8..].copy_from_slice(&u64::from(left.subsec_nanos()).to_le_bytes());
            mem.mem.write(AGENT_STRINGS, &time)?;
            args[at] = AGENT_STRINGS;
        }
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let begin = call_regs(&app, entry, nr.into(), &args);
        self.machine.stopped(tid)?.set_regs(&begin)?;
        for _ in 0..TRIES {
            self.machine.go(tid, Go::Agent, 0)?;
            std::thread::sleep(Duration::from_micros(100));
            // Not if an earlier request stops it just now: that would be one request ahead for ever.
            self.machine.fetch(tid)?;
            let event = self.machine.wait_for(tid)?;
            if !event.is_stop() {
                self.machine.push_back(event);
                return Err(scribe_tracee::Error::Gone.into());
            }
            let regs = self.machine.stopped(tid)?.regs()?;
            if regs.rip == entry {
                continue;
            }
            let ret = regs.rax as i64;
            if ret == ERESTART_RESTARTBLOCK {
                if let Some(call) = &mut self.task_mut(id).call {
                    call.agent_args = call.call.args;
                }
                return Ok(());
            }
            if (-516..=-512).contains(&ret) {
                self.machine.stopped(tid)?.set_regs(&begin)?;
                continue;
            }
            // It is over.
            let task = self.task_mut(id);
            task.app.rax = ret as u64;
            task.state = State::Ready(Ready::Resume);
            return Ok(());
        }
        // It begins anew.
        if let Some(call) = &mut self.task_mut(id).call {
            call.agent_nr = nr.into();
        }
        Ok(())
    }

    /// Takes what is Scribe's out of an address space.
    fn clear_space(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        let mem = &space.mem;
        space.sites.borrow_mut().restore(mem, 0, u64::MAX);
        if self.machine.sud {
            self.machine.stopped(tid)?.disarm_sud()?;
        }
        let code = |maps: &[maps::Mapping]| {
            let vdso = maps.iter().find(|map| map.name == "[vdso]");
            vdso.map(|map| (map.start, map.size()))
        };
        let ours = code(&maps::read(tid));
        if let (Some((start, size)), Some(gap)) = (ours, space.vvar_gap.get()) {
            let calls = [
                (libc::SYS_munmap, [start, size, 0, 0, 0, 0]),
                (
                    libc::SYS_arch_prctl,
                    [ARCH_MAP_VDSO_64, start - gap, 0, 0, 0, 0],
                ),
            ];
            self.machine.batch(tid, mem, &app, &calls)?;
            if code(&maps::read(tid)) != Some((start, size)) {
                // The kernel's own cannot be had at this place: ours stays, which needs nothing of us.
                let (prot, flags) = (
                    (libc::PROT_READ | libc::PROT_EXEC) as u64,
                    (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64,
                );
                let args = [start, size, prot, flags, u64::MAX, 0];
                self.machine.inject(tid, &app, libc::SYS_mmap, args)?;
                if let Some(image) = scribe_kernel::vdso::image(size as usize) {
                    mem.write(start, &image)?;
                }
            }
        }
        // The last calls are made from memory that stays.
        let entry = ours.map_or(app.rip & !(PAGE - 1), |(start, _)| start);
        let boot = [0x0f, 0x05, 0xcc];
        let mut saved = [0; 3];
        mem.read(entry, &mut saved)?;
        mem.write(entry, &boot)?;
        let ranges = [
            (SCRATCH_BASE, SCRATCH_END),
            (SHARED_BASE, SHARED_BASE + SHARED_LEN),
            (AGENT_BASE, AGENT_END),
        ];
        for (start, end) in ranges {
            let args = [start, end - start, 0, 0, 0, 0];
            self.machine
                .inject_at(tid, &app, entry, libc::SYS_munmap, args)?;
        }
        mem.write(entry, &saved)?;
        Ok(())
    }

    /// Gives a task its own state, in a stop which it leaves as if nothing had been if its tracer ends: where it
    /// was about to get a signal, as behind the agent's calls, the kernel would deliver that.
    fn stand_ready(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let mut regs = task.app;
        regs.orig_rax = u64::MAX;
        if let State::Ready(Ready::Relaunch | Ready::Dispatch) = task.state {
            let broken = match &task.call {
                Some(call) if call.agent_nr == libc::SYS_restart_syscall as u64 => {
                    ERESTART_RESTARTBLOCK
                }
                Some(call) => call.ret,
                None => task.broken,
            };
            if (ERESTART_RESTARTBLOCK..=-512).contains(&broken) {
                // On its way out of the kernel it sees how this call was broken off: it is made
                // again, continued, or ended by a signal.
                (regs.rax, regs.orig_rax) = (broken as u64, regs.rax);
            } else {
                regs.rip -= 2;
            }
        }
        let (tid, mask) = (task.tid, task.mask);
        let stopped = self.machine.stopped(tid)?;
        stopped.set_regs(&regs)?;
        stopped.set_sigmask(mask)?;
        if self.machine.sud {
            stopped.disarm_sud()?;
        }
        Running::attached(tid).interrupt()?;
        self.machine.go(tid, Go::Agent, 0)?;
        let event = self.machine.wait_for(tid)?;
        if !event.is_stop() {
            self.machine.push_back(event);
            return Err(scribe_tracee::Error::Gone.into());
        }
        Ok(())
    }

    /// Lets a task go.
    fn leave(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        let mut left = Ok(());
        self.machine.go_with(tid, |stopped| {
            left = stopped.detach(0);
            Ok(Running::attached(tid))
        })?;
        left?;
        self.machine.remove(tid);
        Ok(())
    }
}
