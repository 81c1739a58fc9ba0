//! Letting tasks go: what was kept from the kernel is given to it (handlers of signals that had to come
//! through, alternate stacks, masks, signals that wait), what Scribe put into the address space is taken
//! out, and the task goes on by itself. For a recording that ends, and for a replay that turns live.

use crate::faulting::ARCH_SET_CPUID;
use crate::machine::{Go, Machine};
use crate::record::interrupt::{ERESTART_RESTARTBLOCK, millis_left};
use crate::record::signals;
use crate::state::AddressSpace;
use scribe_abi::{AGENT_BASE, AGENT_STRINGS, ENTRY_SYSCALL, OURS, PAGE};
use scribe_kernel::signal::{AltStack, Disposition, Dispositions, Mask};
use scribe_tracee::inject::call_regs;
use scribe_tracee::{Regs, Result, Rseq, Running, Tid, maps};
use std::time::Duration;

/// include/uapi/asm/prctl.h (arch/x86).
pub(crate) const ARCH_MAP_VDSO_64: u64 = 0x2003;
/// Signals handed back in one batch, as far as there is room for what is known of them.
const SIGNALS_AT_ONCE: usize = 12;
/// Length of struct prctl_mm_map (include/uapi/linux/prctl.h): eleven addresses, the auxiliary vector, its length and
/// the descriptor of the program.
const MAP_LEN: usize = 104;
/// How often a call is begun anew that is to be found waiting.
const TRIES: u32 = 1000;

/// A stopped task that is to be let go.
pub(crate) struct Leaving<'a> {
    pub tid: Tid,
    /// Application registers.
    pub app: Regs,
    pub space: &'a AddressSpace,
    pub alt: AltStack,
    /// TSC readable, CPUID usable.
    pub instructions: (bool, bool),
    pub rseq: Rseq,
    /// Signals that wait for it.
    pub pending: Vec<(i32, [u8; 128])>,
    /// What its process does about signals; `None`: another task of it has brought that.
    pub actions: Option<&'a Dispositions>,
}

/// What became of a call that was begun anew.
pub(crate) enum Waiting {
    /// It waits: the kernel goes on with it.
    Continues,
    /// It is over, with this result.
    Over(i64),
    /// Nothing was done: it is none of those.
    Untouched,
    /// It has to begin anew when the task goes on.
    Anew,
}

impl Machine {
    /// Gives the kernel what the engine kept for a task.
    pub(crate) fn give_back(&mut self, task: Leaving) -> Result<()> {
        let (tid, app, mem) = (task.tid, task.app, &task.space.mem);
        // Signals that come up now wait for the program; not the trap behind the agent's calls: the
        // kernel drops the handler of one that is forced upon a task which blocks it.
        let mask = signals::kernel_mask(u64::MAX);
        self.stopped(tid)?.set_sigmask(mask)?;
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
        if let Some(actions) = task.actions {
            for signal in 1..=64 {
                let known = actions.get(signal).copied().unwrap_or_default();
                let told = known.handler != libc::SIG_DFL as u64 || Mask::FORCED.has(signal);
                if told && !Mask::KERNEL_ONLY.has(signal) {
                    let at = AGENT_STRINGS + data.len() as u64;
                    calls.push((libc::SYS_rt_sigaction, [signal.into(), at, 0, 8, 0, 0]));
                    data.extend_from_slice(&Disposition::to_bytes(&known));
                }
            }
        }
        mem.write(AGENT_STRINGS, &data)?;
        let results = self.batch(tid, mem, &app, &calls)?;
        let (pid, own) = (results[2] as u64, results[3] as u64);
        for some in task.pending.chunks(SIGNALS_AT_ONCE) {
            let mut calls = Vec::new();
            for (i, (signo, info)) in some.iter().enumerate() {
                let at = AGENT_STRINGS + 128 * i as u64;
                mem.write(at, info)?;
                let args = [pid, own, *signo as u64, at, 0, 0];
                calls.push((libc::SYS_rt_tgsigqueueinfo, args));
            }
            self.batch(tid, mem, &app, &calls)?;
        }
        Ok(())
    }

    /// A call that waits for some time, and has done so for a while, is made anew with the time that is
    /// left, so that the kernel continues that: no memory of the program changes.
    pub(crate) fn wait_in_place(
        &mut self,
        tid: Tid,
        app: &Regs,
        space: &AddressSpace,
        (nr, mut args): (u32, [u64; 6]),
        since: Duration,
    ) -> Result<Waiting> {
        let sleep = match i64::from(nr) {
            libc::SYS_poll => {
                let limit = Duration::from_millis(args[2]);
                args[2] = millis_left(limit, since);
                None
            }
            libc::SYS_nanosleep => Some(0),
            libc::SYS_clock_nanosleep => Some(2),
            _ => return Ok(Waiting::Untouched),
        };
        if let Some(at) = sleep {
            let mut time = [0; 16];
            space.mem.read(args[at], &mut time)?;
            let part = |i: usize| u64::from_le_bytes(time[i..i + 8].try_into().expect("eight"));
            let limit = Duration::new(part(0), part(8) as u32);
            let left = limit.saturating_sub(since);
            time[..8].copy_from_slice(&left.as_secs().to_le_bytes());
            time[8..].copy_from_slice(&u64::from(left.subsec_nanos()).to_le_bytes());
            space.mem.write(AGENT_STRINGS, &time)?;
            args[at] = AGENT_STRINGS;
        }
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let begin = call_regs(app, entry, nr.into(), &args);
        self.stopped(tid)?.set_regs(&begin)?;
        for _ in 0..TRIES {
            self.go(tid, Go::Agent, 0)?;
            std::thread::sleep(Duration::from_micros(100));
            // Not if an earlier request stops it just now: that would be one request ahead for ever.
            self.fetch(tid)?;
            let event = self.wait_for(tid)?;
            if !event.is_stop() {
                self.push_back(event);
                return Err(scribe_tracee::Error::Gone);
            }
            let regs = self.stopped(tid)?.regs()?;
            if regs.rip == entry {
                continue;
            }
            let ret = regs.rax as i64;
            if ret == ERESTART_RESTARTBLOCK {
                return Ok(Waiting::Continues);
            }
            if (-516..=-512).contains(&ret) {
                self.stopped(tid)?.set_regs(&begin)?;
                continue;
            }
            return Ok(Waiting::Over(ret));
        }
        Ok(Waiting::Anew)
    }

    /// Takes what is Scribe's out of an address space, one of whose tasks this is. `exe`: the descriptor of
    /// its program, which is closed, and what the kernel is to know of it (struct prctl_mm_map, with the
    /// auxiliary vector behind it).
    pub(crate) fn clear_space(
        &mut self,
        tid: Tid,
        app: &Regs,
        space: &AddressSpace,
        exe: Option<(i32, Vec<u8>)>,
    ) -> Result<()> {
        let mem = &space.mem;
        space.sites.borrow_mut().restore(mem, 0, u64::MAX);
        if self.sud {
            self.stopped(tid)?.disarm_sud()?;
        }
        let code = |maps: &[maps::Mapping]| {
            let vdso = maps.iter().find(|map| map.name == "[vdso]");
            vdso.map(|map| (map.start, map.size()))
        };
        let ours = code(&maps::read(tid)).or_else(|| {
            let (start, end) = space.vdso.get();
            (end > start).then_some((start, end - start))
        });
        if let (Some((start, size)), Some(gap)) = (ours, space.vvar_gap.get()) {
            let calls = [
                (libc::SYS_munmap, [start, size, 0, 0, 0, 0]),
                (
                    libc::SYS_arch_prctl,
                    [ARCH_MAP_VDSO_64, start - gap, 0, 0, 0, 0],
                ),
            ];
            let held = mem.read_vec(start, size as usize).ok();
            self.batch(tid, mem, app, &calls)?;
            if code(&maps::read(tid)) != Some((start, size)) {
                // The kernel's own cannot be had at this place: ours stays, which needs nothing of us.
                let (prot, flags) = (
                    (libc::PROT_READ | libc::PROT_EXEC) as u64,
                    (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64,
                );
                let args = [start, size, prot, flags, u64::MAX, 0];
                self.inject(tid, app, libc::SYS_mmap, args)?;
                let own = || scribe_kernel::vdso::image(size as usize);
                if let Some(image) = held.or_else(own) {
                    mem.write(start, &image)?;
                }
            } else if let Some(held) = held {
                // The program has looked up where the functions are: if it began with ours, the kernel's are elsewhere.
                let kernels = mem.read_vec(start, size as usize)?;
                if scribe_kernel::vdso::replaced(&kernels).as_ref() != Some(&held) {
                    mem.write(start, &held)?;
                }
            }
        }
        // The last calls are made from memory that stays.
        let entry = ours.map_or(app.rip & !(PAGE - 1), |(start, _)| start);
        let boot = [0x0f, 0x05, 0xcc];
        /// Where the structure lies, behind the code.
        const MAP: u64 = 16;
        let mut saved = [0; 1024];
        mem.read(entry, &mut saved)?;
        mem.write(entry, &boot)?;
        // The agent at last, from which the calls before were made.
        let translation = space.translation.borrow_mut().take();
        let translation = translation.map(|translation| translation.range());
        for (start, end) in translation.into_iter().chain(OURS.into_iter().rev()) {
            let args = [start, end - start, 0, 0, 0, 0];
            self.inject_at(tid, app, entry, libc::SYS_munmap, args)?;
        }
        if let Some((fd, map)) = exe {
            let (set, what) = (libc::PR_SET_MM as u64, libc::PR_SET_MM_MAP as u64);
            let args = [set, what, entry + MAP, MAP_LEN as u64, 0, 0];
            for with in [fd, -1] {
                let mut map = map.clone();
                // Behind the structure lies what it points to: the auxiliary vector.
                map[88..96].copy_from_slice(&(entry + MAP + MAP_LEN as u64).to_le_bytes());
                map[100..104].copy_from_slice(&with.to_le_bytes());
                mem.write(entry + MAP, &map)?;
                // Without the right to name its file, the rest.
                if self.inject_at(tid, app, entry, libc::SYS_prctl, args)? == 0 || with < 0 {
                    break;
                }
            }
            if fd >= 0 {
                self.inject_at(tid, app, entry, libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
            }
        }
        mem.write(entry, &saved)?;
        Ok(())
    }

    /// Gives a task its own registers and mask, in a stop which it leaves as if nothing had been if its tracer
    /// ends: where it was about to get a signal, as behind the agent's calls, the kernel would deliver that.
    pub(crate) fn stand_ready(&mut self, tid: Tid, regs: &Regs, mask: u64) -> Result<()> {
        let sud = self.sud;
        let stopped = self.stopped(tid)?;
        stopped.set_regs(regs)?;
        stopped.set_sigmask(mask)?;
        if sud {
            stopped.disarm_sud()?;
        }
        Running::attached(tid).interrupt()?;
        self.go(tid, Go::Agent, 0)?;
        let event = self.wait_for(tid)?;
        if !event.is_stop() {
            self.push_back(event);
            return Err(scribe_tracee::Error::Gone);
        }
        Ok(())
    }

    /// Lets a task go that stands ready.
    pub(crate) fn let_go(&mut self, tid: Tid) -> Result<()> {
        let mut left = Ok(());
        self.go_with(tid, |stopped| {
            left = stopped.detach(0);
            Ok(Running::attached(tid))
        })?;
        left?;
        self.remove(tid);
        Ok(())
    }
}

/// Registers with which a task that was broken off in a call, or has come to one, goes on by itself.
/// `broken`: what the kernel had answered when it was broken off (include/linux/errno.h).
pub(crate) fn again(mut regs: Regs, broken: i64) -> Regs {
    if (ERESTART_RESTARTBLOCK..=-512).contains(&broken) {
        // On its way out of the kernel it sees how this call was broken off: it is made again,
        // continued, or ended by a signal.
        (regs.rax, regs.orig_rax) = (broken as u64, regs.rax);
    } else {
        regs.rip -= 2;
    }
    regs
}
