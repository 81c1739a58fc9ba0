//! Beginning in the middle: processes that run already are recorded from here on.
//!
//! All their threads are stopped (`catch`); what keeps one from being recorded is found out before
//! anything is changed in it (`proc`). Then each address space gets the agent, the engine asks the
//! kernel, by calls in each thread's name, for what it keeps itself while it records (actions of
//! signals, alternate stacks, masks), and the log gets a snapshot of each process (`snapshot`). A thread
//! that waited in a call makes that call again, now recorded; one whose call the kernel would continue
//! (with the time that is left) has it continued.

mod catch;
pub(super) mod copy;
mod frames;
mod pages;
pub(super) mod proc;
mod snapshot;

use super::calls::PendingCall;
use super::exec::install_agent;
use super::interrupt::{ERESTART_RESTARTBLOCK, ERESTARTNOHAND};
use super::start::{create_log, setup};
use super::*;
use crate::faulting::ARCH_SET_CPUID;
use crate::machine::InjectedCall;
use catch::{Catch, Caught};
use frames::Code;
use scribe_abi::{AGENT_CODE_LEN, AGENT_DATA, AGENT_STRINGS};
use scribe_kernel::signal::Disposition;
use scribe_kernel::signal::altstack::SS_ONSTACK;
use scribe_syscalls::{Call, Dir};
use scribe_tracee::inject::call_args;
use scribe_tracee::{Mem, Rseq, maps};
use std::os::unix::ffi::OsStringExt;

/// include/uapi/asm/prctl.h (arch/x86).
const ARCH_GET_CPUID: u64 = 0x1011;
/// include/uapi/linux/prctl.h.
const PR_GET_TID_ADDRESS: u64 = 40;
/// include/uapi/linux/rseq.h.
const RSEQ_FLAG_UNREGISTER: u64 = 1;
/// A function of the vDSO has some hundred instructions; it begins anew when the clock's data change.
const VDSO_STEPS: usize = 100_000;
/// How long it is tried to find a program outside of handlers that interrupted such a function.
const HANDLERS: Duration = Duration::from_secs(10);
/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Where in a page of the agent's data a thread's answers are put.
mod answer {
    pub const TSC: u64 = 0;
    pub const TID_ADDRESS: u64 = 8;
    pub const ALT_STACK: u64 = 16;
    pub const NO_ALT_STACK: u64 = 40;
    pub const ACTIONS: u64 = 64;
    pub const NO_ACTION: u64 = ACTIONS + 64 * 32;
    pub const END: u64 = NO_ACTION + 32;
}

impl Recorder {
    /// Records process `pid` from here on, with all that descends from it if `tree`. What it starts
    /// is recorded in any case.
    pub fn attach_to(
        mut options: RecordOptions,
        target: LogTarget,
        pid: Tid,
        tree: bool,
    ) -> Result<Recorder> {
        let refused = |why: String| StartError::Attach { pid, why };
        if pid == std::process::id() as Tid {
            return Err(refused("that is scribe record itself".into()).into());
        }
        if let Some(process) = proc::process_of(pid).filter(|process| *process != pid) {
            let why = format!("that is a thread; its process is {process}");
            return Err(refused(why).into());
        }
        crate::limits::raise();
        let sud = !options.no_sud && sud_available();
        let agent_image = agent_file().map_err(setup("creating the agent's image"))?;
        let log = create_log(&target)?;
        let begin = crate::cpu::Moment::now();
        let since = Instant::now();
        let mut catch = catch_outside(sud, pid, tree, since).map_err(refused)?;
        let found = catch.processes();
        let mut fit = found
            .iter()
            .try_for_each(|(process, threads)| catch.fits(*process, threads));
        if fit.is_ok() {
            fit = catch.claim().map_err(|error| error.to_string());
        }
        if let Err(why) = fit {
            catch.release();
            return Err(refused(why).into());
        }
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        options.argv = line
            .split(|byte| *byte == 0)
            .map(|arg| std::ffi::OsString::from_vec(arg.to_vec()))
            .collect();
        options.stdio = [1, 2].map(|fd| start::stdio_of(&format!("/proc/{pid}/fd/{fd}")));
        let tsc = begin.measure();
        let mut recorder = Recorder::with(options, log, sud, agent_image, pid, tsc);
        let Catch {
            machine, threads, ..
        } = catch;
        recorder.machine = machine;
        recorder.take_over(found, threads)?;
        recorder.stats.stood_still("attach", since);
        Ok(recorder)
    }

    /// The tasks and lanes of what was caught; their snapshots; and on they go.
    fn take_over(
        &mut self,
        found: BTreeMap<Tid, Vec<Tid>>,
        mut threads: BTreeMap<Tid, Caught>,
    ) -> Result<()> {
        // The one that was asked for comes first.
        let mut order: Vec<Tid> = found.keys().copied().collect();
        order.sort_by_key(|process| (*process != self.root, *process));
        self.pid_namespaces = ids::Ids::read(self.root).is_nested();
        let lanes = self.share_out(&order);
        let mut roots = Vec::new();
        let mut tasks: Vec<Vec<u32>> = Vec::new();
        for (process, lane) in order.iter().zip(lanes) {
            let mut members = Vec::new();
            // The leader first.
            let mut tids = found[process].clone();
            tids.sort_by_key(|tid| (tid != process, *tid));
            for tid in tids {
                let id = self.next_task;
                self.next_task += 1;
                self.stats.tasks += 1;
                if members.is_empty() {
                    roots.push((id, self.read_ids(*process).own(), lane));
                }
                members.push(id);
                match self.lanes.get_mut(&lane) {
                    Some(lane) => drop(lane.members.insert(id)),
                    None => self.new_lane(lane, id),
                }
                let caught = threads.remove(&tid);
                let leader = members.first().copied().filter(|first| *first != id);
                self.take_task(id, (*process, tid), lane, leader, caught)?;
            }
            tasks.push(members);
        }
        self.write_start(&roots);
        for members in &tasks {
            self.write_snapshot(members)?;
        }
        for id in tasks.into_iter().flatten() {
            self.agent_for(id)?;
            let task = self.task(id);
            let ready = match (&task.call, task.broken) {
                (Some(_), _) => Ready::Relaunch,
                (None, 0) => Ready::Resume,
                _ => Ready::Dispatch,
            };
            self.want_token(id, ready);
        }
        Ok(())
    }

    /// A lane for each process; those that share memory have the same.
    fn share_out(&mut self, processes: &[Tid]) -> Vec<u32> {
        let mut lanes: Vec<u32> = Vec::new();
        for process in processes {
            lanes.push(self.next_lane);
            self.next_lane += 1;
            let maps = maps::read(*process);
            for key in maps.iter().filter_map(snapshot::shared_object) {
                let own = lanes.last().copied().unwrap_or_default();
                let Some((theirs, _)) = self.shared_files.get(&key).copied() else {
                    self.next_backing += 1;
                    self.shared_files.insert(key, (own, self.next_backing));
                    // Whoever has it open must not write to it behind our back.
                    if let Some(shared) = &self.shared {
                        shared.mapped(key);
                    }
                    continue;
                };
                let known = self.shared_files.values_mut().map(|(lane, _)| lane);
                for lane in lanes.iter_mut().chain(known) {
                    if *lane == own {
                        *lane = theirs;
                    }
                }
            }
        }
        lanes
    }

    /// Makes a stopped thread a task. With a `leader` it shares that one's process.
    fn take_task(
        &mut self,
        id: u32,
        (tgid, tid): (Tid, Tid),
        lane: u32,
        leader: Option<u32>,
        caught: Option<Caught>,
    ) -> Result<()> {
        let stopped = self.machine.stopped(tid)?;
        let (regs, mask) = (stopped.regs()?, stopped.sigmask()?);
        // Our calls end with a trap: where that is blocked, the kernel drops its handler.
        stopped.set_sigmask(signals::kernel_mask(mask))?;
        let rseq = stopped.rseq().unwrap_or_default();
        if rseq.address != 0
            && let Some(shared) = &self.shared
        {
            shared.let_sequences_through();
        }
        let before = maps::read(tid);
        let (space, process, files) = match leader {
            Some(leader) => {
                let leader = self.task(leader);
                (
                    leader.space.clone(),
                    leader.process.clone(),
                    leader.files.clone(),
                )
            }
            None => {
                let space = Rc::new(self.take_space(tid, &regs, &before)?);
                let process = Process {
                    exit_recorded: false,
                };
                (space, Rc::new(RefCell::new(process)), Rc::default())
            }
        };
        let found = self.ask_kernel(tid, &regs, &space.mem, rseq, leader.is_none())?;
        let ids = self.read_ids(tid);
        let sighand = match (leader, found.actions) {
            (Some(leader), _) => self.task(leader).sighand.clone(),
            (None, mut actions) => {
                actions.set_init(ids.is_init());
                Rc::new(RefCell::new(actions))
            }
        };
        let mut stash = SignalQueue::default();
        let signals = caught.map(|caught| caught.signals).unwrap_or_default();
        let strays = self.machine.take_strays(tid);
        for (signal, info) in signals.into_iter().chain(strays) {
            stash.push(signal as u32, info);
        }
        let mut app = leave_sequence(&space.mem, regs, rseq);
        if app.orig_rax == libc::SYS_restart_syscall as u64 {
            app.orig_rax = continued(&space.mem, app.rip).unwrap_or(app.orig_rax);
        }
        let broken = broken_off(&mut app);
        if self.machine.sud {
            self.machine
                .stopped(tid)?
                .arm_sud(AGENT_BASE, AGENT_CODE_LEN)?;
        }
        let stopped = self.machine.stopped(tid)?;
        crate::regs::begin_xstate(stopped)?;
        let task = Task {
            id,
            tid,
            tgid,
            ids,
            process,
            sighand,
            files,
            space,
            lane,
            // A call that was broken off is made again.
            state: State::Ready(match broken {
                0 => Ready::Resume,
                _ => Ready::Dispatch,
            }),
            app,
            mask,
            alt: found.alt,
            stash,
            keeps: false,
            call: None,
            slot: None,
            vfork_wait: false,
            after_stop: Ready::Resume,
            listening: false,
            agent_regs: None,
            clone_flags: 0,
            clear_tid: found.tid_address,
            robust_list: robust_list(tid),
            run: forced::Run::new(),
            area: None,
            seccomp: Default::default(),
            fault: Default::default(),
            instructions: found.instructions,
            rseq,
            broken,
        };
        if !self.machine.cpuid_faults {
            // Nobody knows what it has mapped.
            task.space.pin([tid]);
        }
        self.by_tid.insert(tid, id);
        self.tasks.insert(id, Box::new(task));
        if broken == ERESTART_RESTARTBLOCK {
            self.continue_call(id);
        }
        Ok(())
    }

    /// Puts agent and vDSO into an address space, by calls of the stopped thread `tid`.
    fn take_space(
        &mut self,
        tid: Tid,
        regs: &Regs,
        before: &[maps::Mapping],
    ) -> Result<AddressSpace> {
        let space = AddressSpace::open(tid)?;
        let own_vdso = before.iter().find(|map| map.name == "[vdso]");
        let image = own_vdso
            .map(|map| space.mem.read_vec(map.start, map.size() as usize))
            .transpose()?;
        let mut calls: Vec<InjectedCall> = vec![(libc::SYS_brk, [0; 6]).into()];
        for map in before.iter().filter(|map| map.name.starts_with("[vvar")) {
            calls.push((libc::SYS_munmap, [map.start, map.size(), 0, 0, 0, 0]).into());
        }
        let (mapped, results) = install_agent(
            &mut self.machine,
            tid,
            &space.mem,
            regs,
            before,
            &self.agent_image,
            self.shared.as_deref(),
            &calls,
        )?;
        space.agent.set(mapped);
        space.brk.set(results[0] as u64);
        // The program has looked up where the kernel's functions are.
        if let (Some(map), Some(image)) = (own_vdso, image) {
            let image = scribe_kernel::vdso::replaced(&image).unwrap_or(image);
            space.mem.write(map.start, &image)?;
        }
        space.note_vdso(before);
        let shared = before.iter().any(|map| map.shared && map.writable());
        space.shared.set(shared);
        Ok(space)
    }

    /// Asks the kernel for what it keeps of a thread, and takes that from it: from here on the engine
    /// has it.
    fn ask_kernel(
        &mut self,
        tid: Tid,
        regs: &Regs,
        mem: &Mem,
        rseq: Rseq,
        whole: bool,
    ) -> Result<Found> {
        let at = |what: u64| AGENT_STRINGS + what;
        let none = AltStack::default().to_bytes();
        mem.write(at(answer::NO_ALT_STACK), &none)?;
        let (get, set) = (libc::PR_GET_TSC as u64, libc::PR_SET_TSC as u64);
        let mut calls = vec![
            (libc::SYS_prctl, [get, at(answer::TSC), 0, 0, 0, 0]),
            (
                libc::SYS_prctl,
                [PR_GET_TID_ADDRESS, at(answer::TID_ADDRESS), 0, 0, 0, 0],
            ),
            (libc::SYS_arch_prctl, [ARCH_GET_CPUID, 0, 0, 0, 0, 0]),
            (
                libc::SYS_sigaltstack,
                [0, at(answer::ALT_STACK), 0, 0, 0, 0],
            ),
            (
                libc::SYS_sigaltstack,
                [at(answer::NO_ALT_STACK), 0, 0, 0, 0, 0],
            ),
            (libc::SYS_arch_prctl, [ARCH_SET_CPUID, 0, 0, 0, 0, 0]),
            (
                libc::SYS_prctl,
                [set, libc::PR_TSC_SIGSEGV as u64, 0, 0, 0, 0],
            ),
        ];
        if rseq.address != 0 {
            let (size, signature) = (rseq.size.into(), rseq.signature.into());
            let args = [rseq.address, size, RSEQ_FLAG_UNREGISTER, signature, 0, 0];
            calls.push((libc::SYS_rseq, args));
        }
        if whole {
            for signal in 1..=64u64 {
                let old = at(answer::ACTIONS) + (signal - 1) * 32;
                calls.push((libc::SYS_rt_sigaction, [signal, 0, old, 8, 0, 0]));
            }
            // What must come through to the engine has its default action.
            for signal in Mask::FORCED.iter() {
                let args = [signal.into(), at(answer::NO_ACTION), 0, 8, 0, 0];
                calls.push((libc::SYS_rt_sigaction, args));
            }
        }
        // Not as if on an alternate stack, which could not be changed then.
        let base = Regs {
            rsp: AGENT_DATA,
            ..*regs
        };
        let results = self.machine.batch(tid, mem, &base, &calls)?;
        self.machine.cpuid_faults = results[5] >= 0;
        let mut page = vec![0; answer::END as usize];
        mem.read(AGENT_STRINGS, &mut page)?;
        mem.write(AGENT_STRINGS, &vec![0; page.len()])?;
        let part = |from: u64, len: usize| &page[from as usize..][..len];
        let tsc = i32::from_le_bytes(part(answer::TSC, 4).try_into().expect("four bytes"));
        let word = |from| u64::from_le_bytes(part(from, 8).try_into().expect("eight bytes"));
        let mut alt = AltStack::from_bytes(part(answer::ALT_STACK, 24).try_into().expect("24"));
        // Whether it is in use follows from the stack pointer.
        alt.flags &= !SS_ONSTACK;
        let mut actions = Dispositions::default();
        for signal in (1..=64u32).filter(|_| whole) {
            let bytes = part(answer::ACTIONS + u64::from(signal - 1) * 32, 32);
            let known = Disposition::from_bytes(bytes.try_into().expect("32 bytes"));
            let _ = actions.sigaction(signal, Some(known));
        }
        Ok(Found {
            alt,
            actions,
            tid_address: word(answer::TID_ADDRESS),
            instructions: (tsc != libc::PR_TSC_SIGSEGV, results[2] != 0),
        })
    }

    /// Whether the process had registered restartable sequences before it was recorded: its libc insists
    /// that its new threads can, too.
    pub(in crate::record) fn had_sequences(&self, id: u32) -> bool {
        let process = &self.task(id).process;
        let mut tasks = self.tasks.values();
        tasks.any(|task| Rc::ptr_eq(&task.process, process) && task.rseq.address != 0)
    }

    /// rseq(2) of such a process: registered with the kernel when the program is let go. Until then the thread finds what
    /// the kernel writes for one that is not registered: CPU 0 to begin with, and -1, so that no sequence is carried out, as
    /// nobody watches over it. What is to be written where; or an error.
    pub(in crate::record) fn note_sequences(
        &mut self,
        id: u32,
        call: &Call,
    ) -> std::result::Result<(u64, [u8; 8]), i32> {
        const NOT_REGISTERED: [u8; 8] = (0xffff_ffff_u64 << 32).to_le_bytes();
        let [address, size, flags, signature, ..] = call.args;
        let (size, flags, signature) = (size as u32, flags as u32, signature as u32);
        let new = Rseq {
            address,
            size,
            signature,
        };
        let known = self.task(id).rseq;
        let noted = match u64::from(flags) {
            0 if known.address != 0 => return Err(libc::EBUSY),
            0 => new,
            RSEQ_FLAG_UNREGISTER if known.address != 0 && known.address == address => {
                Rseq::default()
            }
            _ => return Err(libc::EINVAL),
        };
        if !self.write_for(id, address, &NOT_REGISTERED) {
            return Err(libc::EFAULT);
        }
        self.task_mut(id).rseq = noted;
        Ok((address, NOT_REGISTERED))
    }

    /// The call that the kernel would continue by restart_syscall(2) is continued that way, unless it
    /// would write to the program's memory then, at a moment that nobody records: it is made again.
    fn continue_call(&mut self, id: u32) {
        let task = self.task(id);
        let crowded = self.lanes[&task.lane].members.len() > 1;
        let call = Call {
            nr: task.app.rax as u32,
            args: call_args(&task.app),
        };
        let Some(row) = scribe_syscalls::lookup(&call) else {
            return;
        };
        let pending = self.prepare(id, row, call, calls::Kind::Plain);
        if pending.plan.bufs.iter().any(|buf| buf.dir != Dir::In) {
            self.task_mut(id).broken = ERESTARTNOHAND;
            return;
        }
        let pending = PendingCall {
            agent_nr: libc::SYS_restart_syscall as u64,
            may_block: true,
            released: crowded,
            interrupted: true,
            ret: ERESTART_RESTARTBLOCK,
            ..pending
        };
        self.task_mut(id).call = Some(Box::new(pending));
    }
}

/// What the kernel kept of a thread, and of its process.
struct Found {
    alt: AltStack,
    actions: Dispositions,
    tid_address: u64,
    instructions: (bool, bool),
}

/// Catches a program while none of its handlers has interrupted a function of the vDSO, whose rest could not be carried out
/// any more: that never lasts long where there are few signals.
fn catch_outside(
    sud: bool,
    pid: Tid,
    tree: bool,
    since: Instant,
) -> std::result::Result<Catch, String> {
    loop {
        let mut catch = Catch::begin(Machine::new(sud), pid, tree)?;
        let Some(tid) = catch.returns_to_vdso() else {
            return Ok(catch);
        };
        catch.release();
        if since.elapsed() > HANDLERS {
            return Err(format!(
                "its thread {tid} is in a signal handler that interrupted a function of the vDSO (clock_gettime, for example), \
                 and so it was each time for {} seconds; try again",
                HANDLERS.as_secs()
            ));
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
}

impl Catch {
    /// A thread with a handler that is going to return into a function of the kernel's vDSO.
    fn returns_to_vdso(&self) -> Option<Tid> {
        for (process, threads) in self.processes() {
            let (Ok(mem), maps) = (Mem::open(process), maps::read(process)) else {
                continue;
            };
            let Some(code) = Code::find(&mem, &maps) else {
                continue;
            };
            let returns = |tid: &Tid| {
                let regs = self
                    .machine
                    .stopped(*tid)
                    .and_then(|stopped| stopped.regs());
                regs.is_ok_and(|regs| code.is_interrupted(&mem, &maps, regs.rsp))
            };
            if let Some(tid) = threads.into_iter().find(returns) {
                return Some(tid);
            }
        }
        None
    }

    /// Whether a process that stands still can be recorded.
    fn fits(&self, process: Tid, threads: &[Tid]) -> std::result::Result<(), String> {
        if !threads.contains(&process) {
            return Err("its first thread has ended, and only others are left".into());
        }
        if let Some(why) = proc::hindrance(process) {
            return Err(match threads.len() {
                _ if self.processes().len() > 1 => format!("{why} (process {process})"),
                _ => why,
            });
        }
        for tid in threads {
            let stopped = self.machine.stopped(*tid).map_err(|e| e.to_string())?;
            if stopped.uses_sud().unwrap_or(false) {
                return Err("it uses Syscall User Dispatch, as Scribe does".into());
            }
            // __USER32_CS
            if stopped.regs().is_ok_and(|regs| regs.cs == 0x23) {
                return Err("it runs 32-bit code, which Scribe does not support".into());
            }
        }
        Ok(())
    }

    /// From here on the threads are changed, and end with this process: all of them, before the first is. Sees
    /// to it that none is in the kernel's vDSO, which is going to be replaced.
    fn claim(&mut self) -> scribe_tracee::Result<()> {
        for tid in self.threads.keys() {
            self.machine.stopped(*tid)?.claim()?;
        }
        for (process, threads) in self.processes() {
            let maps = maps::read(process);
            if let Some(vdso) = maps.iter().find(|map| map.name == "[vdso]") {
                for tid in threads {
                    self.leave_vdso(tid, vdso)?;
                }
            }
        }
        Ok(())
    }

    fn leave_vdso(&mut self, tid: Tid, vdso: &maps::Mapping) -> scribe_tracee::Result<()> {
        for _ in 0..VDSO_STEPS {
            let rip = self.machine.stopped(tid)?.regs()?.rip;
            if !(vdso.start..vdso.end).contains(&rip) {
                return Ok(());
            }
            self.machine.go_with(tid, |stopped| stopped.step(0))?;
            let event = self.machine.wait_for(tid)?;
            if let Stop::Signal(signal) = event.stop
                && signal != libc::SIGTRAP
                && let Some(thread) = self.threads.get_mut(&tid)
            {
                let info = self.machine.stopped(tid)?.siginfo()?;
                thread.signals.push((signal, info));
            }
        }
        Ok(())
    }
}

/// A thread that stands within a restartable sequence is taken to its abort handler, as the kernel
/// does when it was interrupted there (rseq(2)): from here on nobody watches over it.
fn leave_sequence(mem: &Mem, mut regs: Regs, rseq: Rseq) -> Regs {
    if rseq.address == 0 {
        return regs;
    }
    // struct rseq: cpu_id_start, cpu_id, then the address of the descriptor. That: version and flags,
    // then three words.
    let descriptor = mem.read_u64(rseq.address + 8).unwrap_or(0);
    if descriptor != 0
        && let (Ok(start), Ok(len), Ok(abort)) = (
            mem.read_u64(descriptor + 8),
            mem.read_u64(descriptor + 16),
            mem.read_u64(descriptor + 24),
        )
        && regs.rip.wrapping_sub(start) < len
    {
        regs.rip = abort;
    }
    regs
}

/// The number of the call behind `rip` that the kernel is continuing already, by restart_syscall(2), as
/// after an earlier recording: what stands before the `syscall` loads it (mov $nr, %eax).
fn continued(mem: &Mem, rip: u64) -> Option<u64> {
    let mut code = [0; 7];
    mem.read(rip.wrapping_sub(7), &mut code).ok()?;
    let number = u32::from_le_bytes(code[1..5].try_into().ok()?);
    (code[0] == 0xb8 && code[5..] == [0x0f, 0x05]).then_some(number.into())
}

/// How a call was broken off, as the kernel says it (include/linux/errno.h): 0 if the thread is in none,
/// or has just come out of one. Otherwise the registers become those behind its instruction, before it
/// is made.
fn broken_off(regs: &mut Regs) -> i64 {
    let nr = regs.orig_rax;
    regs.orig_rax = u64::MAX;
    match regs.rax as i64 {
        ret @ (-516 | -514..=-512) if (nr as i64) >= 0 => {
            regs.rax = nr;
            ret
        }
        _ => 0,
    }
}

/// Head of the robust futex list of a thread (get_robust_list(2)); 0: none.
fn robust_list(tid: Tid) -> u64 {
    let (mut head, mut len) = (0u64, 0usize);
    // SAFETY: both are valid for the call.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    if got == 0 { head } else { 0 }
}
