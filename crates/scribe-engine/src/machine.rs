//! The traced tasks as the kernel has them: who is stopped, who runs, what was reported and not
//! looked at yet; and calls injected into a stopped task. Recorder and replayer drive it.

use scribe_abi::{AGENT_BASE, AGENT_DATA, BATCH_MAX, BatchCall, ENTRY_BATCH, ENTRY_CALL};
use scribe_kernel::signal::{Mask, kernel_mask};
use scribe_tracee::{
    Error, Event, Mem, Regs, Result, Running, Stop, Stopped, Tid, WaitEvent, inject, wait,
};
use std::collections::{HashMap, VecDeque};

/// How a task is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// Application code: calls must come to us.
    Application,
    /// Agent code: calls go to the kernel.
    Agent,
}

enum Handle {
    Stopped(Stopped),
    Running(Running),
}

struct Thread {
    handle: Handle,
    /// Signals that came up while a call was injected: number and siginfo.
    stray: VecDeque<(i32, [u8; 128])>,
}

/// Whether there is nothing left of a process or thread, but for what nobody has waited for; proc(5), stat.
pub fn is_gone(tid: Tid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/task/{tid}/stat"));
    let state = stat
        .ok()
        .and_then(|stat| Some(*stat.rsplit_once(") ")?.1.as_bytes().first()?));
    matches!(state, None | Some(b'Z' | b'X'))
}

/// All traced tasks.
pub struct Machine {
    threads: HashMap<Tid, Thread>,
    /// Reports taken while waiting for one certain task.
    pending: VecDeque<WaitEvent>,
    /// Whether Syscall User Dispatch is the trap; otherwise PTRACE_SYSEMU.
    pub sud: bool,
    /// Stops seen, for statistics.
    pub stops: u64,
    /// CPUID faults in the tasks.
    pub cpuid_faults: bool,
    /// The task that an injected call made.
    born: Option<Tid>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        crate::faulting::end();
    }
}

impl Machine {
    /// No tasks yet.
    pub fn new(sud: bool) -> Machine {
        Machine {
            threads: HashMap::new(),
            pending: VecDeque::new(),
            sud,
            stops: 0,
            cpuid_faults: false,
            born: None,
        }
    }

    /// Takes charge of a task that is traced and running.
    pub fn add(&mut self, running: Running) {
        let tid = running.tid();
        let handle = Handle::Running(running);
        self.threads.insert(
            tid,
            Thread {
                handle,
                stray: VecDeque::new(),
            },
        );
    }

    /// Forgets a task that has ended.
    pub fn remove(&mut self, tid: Tid) {
        self.threads.remove(&tid);
    }

    /// Whether the task is known.
    pub fn knows(&self, tid: Tid) -> bool {
        self.threads.contains_key(&tid)
    }

    /// Whether no task is known.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// The tasks that are running.
    pub fn running_tasks(&self) -> impl Iterator<Item = Tid> {
        let threads = self.threads.iter();
        let running = threads.filter(|(_, thread)| matches!(thread.handle, Handle::Running(_)));
        running.map(|(tid, _)| *tid)
    }

    /// Whether reports wait that were taken early.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Puts a report back, to be seen by [`Machine::next`].
    pub fn push_back(&mut self, event: WaitEvent) {
        self.pending.push_back(event);
    }

    /// A report of a task that came before the task was added.
    pub fn note_early(&mut self, event: WaitEvent) {
        self.note(&event);
    }

    fn note(&mut self, event: &WaitEvent) {
        self.stops += 1;
        let Some(mut thread) = self.threads.remove(&event.tid) else {
            return;
        };
        thread.handle = match thread.handle {
            Handle::Running(running) => match running.stopped(event) {
                Ok(stopped) => Handle::Stopped(stopped),
                Err(running) => Handle::Running(running),
            },
            stopped => stopped,
        };
        self.threads.insert(event.tid, thread);
    }

    /// The next report of any task; `None` when interrupted or nothing is there. `Gone`: no tasks.
    pub fn next(&mut self, block: bool) -> Result<Option<WaitEvent>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        let event = self.wait(-1, block)?;
        if let Some(event) = &event {
            self.note(event);
        }
        Ok(event)
    }

    /// Takes the reports that are there, to be seen by [`Machine::next`]. Of those that have ended, the
    /// kernel lets a parent know only when its tracer does.
    pub fn collect(&mut self) -> Result<()> {
        while let Some(event) = self.wait(-1, false)? {
            self.note(&event);
            self.pending.push_back(event);
        }
        Ok(())
    }

    /// Waits for the next report of `tid`; those of others wait in the queue.
    pub fn wait_for(&mut self, tid: Tid) -> Result<WaitEvent> {
        if let Some(at) = self.pending.iter().position(|event| event.tid == tid) {
            return Ok(self.pending.remove(at).expect("position is in range"));
        }
        loop {
            if let Some(event) = self.wait(tid, true)? {
                self.note(&event);
                return Ok(event);
            }
            // The clock ticks. One that was killed while it stood may have been let go from its exit stop, of which
            // we had not heard yet; as a leader it is not heard of again before all its threads have gone.
            if is_gone(tid) {
                return Err(Error::Gone);
            }
        }
    }

    /// Whether the task is a zombie of which nothing is reported: it runs, as far as we know.
    pub fn has_slipped_away(&self, tid: Tid) -> bool {
        let thread = self.threads.get(&tid);
        thread.is_some_and(|thread| matches!(thread.handle, Handle::Running(_))) && is_gone(tid)
    }

    fn wait(&self, tid: Tid, block: bool) -> Result<Option<WaitEvent>> {
        if !block {
            return wait::wait(tid, false);
        }
        if self.cpuid_faults {
            crate::faulting::begin();
        }
        wait::wait(tid, true)
    }

    /// The task, which must be stopped; one that is not was killed under our hands.
    pub fn stopped(&self, tid: Tid) -> Result<&Stopped> {
        match self.threads.get(&tid) {
            Some(Thread {
                handle: Handle::Stopped(stopped),
                ..
            }) => Ok(stopped),
            _ => Err(Error::Gone),
        }
    }

    /// Lets a stopped task go by `how`, which consumes its stopped state.
    pub fn go_with(
        &mut self,
        tid: Tid,
        how: impl FnOnce(Stopped) -> Result<Running>,
    ) -> Result<()> {
        let thread = self.threads.get_mut(&tid).ok_or(Error::Gone)?;
        let running = Handle::Running(Running::attached(tid));
        match std::mem::replace(&mut thread.handle, running) {
            Handle::Stopped(stopped) => how(stopped).map(drop),
            Handle::Running(_) => Err(Error::Gone),
        }
    }

    /// Lets a stopped task go.
    pub fn go(&mut self, tid: Tid, go: Go, signal: i32) -> Result<()> {
        let emulate = go == Go::Application && !self.sud;
        self.go_with(tid, |stopped| {
            if emulate {
                stopped.cont_emulating(signal)
            } else {
                stopped.cont(signal)
            }
        })
    }

    /// Lets a stopped task execute one instruction of the application's.
    pub fn step(&mut self, tid: Tid) -> Result<()> {
        let emulate = !self.sud;
        self.go_with(tid, |stopped| {
            if emulate {
                stopped.step_emulating(0)
            } else {
                stopped.step(0)
            }
        })
    }

    /// Asks a running task to stop, wherever it is; one that is stopped already stays so.
    pub fn interrupt(&self, tid: Tid) -> Result<()> {
        match self.threads.get(&tid) {
            Some(Thread {
                handle: Handle::Running(running),
                ..
            }) => running.interrupt(),
            Some(_) => Ok(()),
            None => Err(Error::Gone),
        }
    }

    /// The same, unless it is stopping anyway: a needless stop could break off its next call.
    pub fn fetch(&mut self, tid: Tid) -> Result<()> {
        let thread = self.threads.get(&tid);
        if !thread.is_some_and(|thread| matches!(thread.handle, Handle::Running(_))) {
            return Ok(());
        }
        if self.take_report(tid)? {
            return Ok(());
        }
        self.interrupt(tid)
    }

    /// Takes a report of the task, if one is there, to be seen by [`Machine::next`].
    pub fn take_report(&mut self, tid: Tid) -> Result<bool> {
        let Some(event) = wait::wait(tid, false)? else {
            return Ok(false);
        };
        self.note(&event);
        self.pending.push_back(event);
        Ok(true)
    }

    /// A task whose id an exec changed.
    pub fn rename(&mut self, from: Tid, to: Tid) {
        self.threads.remove(&from);
        // The kernel reports the stop under the new id, whose own thread is gone.
        let handle = Handle::Running(Running::attached(to));
        let event = WaitEvent::decode(to, libc::SIGTRAP << 8 | 0x7f);
        let handle = match handle {
            Handle::Running(running) => match running.stopped(&event) {
                Ok(stopped) => Handle::Stopped(stopped),
                Err(running) => Handle::Running(running),
            },
            stopped => stopped,
        };
        self.threads.insert(
            to,
            Thread {
                handle,
                stray: VecDeque::new(),
            },
        );
    }

    /// Signals that came up during injected calls.
    pub fn take_strays(&mut self, tid: Tid) -> VecDeque<(i32, [u8; 128])> {
        self.threads
            .get_mut(&tid)
            .map(|thread| std::mem::take(&mut thread.stray))
            .unwrap_or_default()
    }

    /// Runs `tid` from `regs` (agent code) until the `int3` behind it; returns the registers then.
    pub fn run_agent(&mut self, tid: Tid, regs: &Regs) -> Result<Regs> {
        self.stopped(tid)?.set_regs(regs)?;
        self.go(tid, Go::Agent, 0)?;
        // The mask, once a signal had to be blocked for the rest of the way.
        let mut before = None;
        loop {
            let event = self.wait_for(tid)?;
            match event.stop {
                Stop::Signal(libc::SIGTRAP) => {
                    let stopped = self.stopped(tid)?;
                    if stopped.siginfo()?[8..12] == 0x80i32.to_le_bytes() {
                        if let Some(mask) = before {
                            stopped.set_sigmask(mask)?;
                        }
                        return stopped.regs();
                    }
                    self.keep_stray(tid, libc::SIGTRAP, &mut before)?;
                }
                Stop::Signal(signal) => self.keep_stray(tid, signal, &mut before)?,
                Stop::Event(Event::Exit) | Stop::Exited(_) | Stop::Killed(..) => {
                    self.pending.push_back(event);
                    return Err(Error::Gone);
                }
                Stop::Event(Event::Clone) => {
                    self.born = Some(self.stopped(tid)?.event_message()? as Tid);
                    self.go(tid, Go::Agent, 0)?;
                }
                _ => self.go(tid, Go::Agent, 0)?,
            }
        }
    }

    /// Makes a call in `tid` that makes a process: that, stopped, and the call's result, which is its id for
    /// `tid`. `None`: none was made.
    pub fn inject_clone(
        &mut self,
        tid: Tid,
        base: &Regs,
        nr: i64,
        args: [u64; 6],
    ) -> Result<(Option<Tid>, i64)> {
        self.born = None;
        let made = self.inject(tid, base, nr, args)?;
        let Some(child) = self.born.take().filter(|_| made > 0) else {
            return Ok((None, made));
        };
        self.add(Running::attached(child));
        let event = self.wait_for(child)?;
        if !event.is_stop() {
            self.remove(child);
            return Err(Error::Gone);
        }
        Ok((Some(child), made))
    }

    /// A signal during an injected call: one of a number, as they may come faster than we go on.
    fn keep_stray(&mut self, tid: Tid, signal: i32, before: &mut Option<u64>) -> Result<()> {
        let stopped = self.stopped(tid)?;
        let info = stopped.siginfo()?;
        let mask = stopped.sigmask()?;
        before.get_or_insert(mask);
        let more = mask | 1 << (signal - 1);
        stopped.set_sigmask(kernel_mask(Mask(more)).0)?;
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.stray.push_back((signal, info));
        }
        self.go(tid, Go::Agent, 0)
    }

    /// Makes one call in `tid` and returns its result. The caller restores the registers.
    pub fn inject(&mut self, tid: Tid, base: &Regs, nr: i64, args: [u64; 6]) -> Result<i64> {
        let mut regs = inject::call_regs(base, AGENT_BASE + ENTRY_CALL, nr as u64, &args);
        regs.rbx = nr as u64;
        Ok(self.run_agent(tid, &regs)?.rax as i64)
    }

    /// The same through another `syscall; int3`.
    pub fn inject_at(
        &mut self,
        tid: Tid,
        base: &Regs,
        entry: u64,
        nr: i64,
        args: [u64; 6],
    ) -> Result<i64> {
        let regs = inject::call_regs(base, entry, nr as u64, &args);
        Ok(self.run_agent(tid, &regs)?.rax as i64)
    }

    /// Makes many calls with one stop for each [`BATCH_MAX`].
    pub fn batch(
        &mut self,
        tid: Tid,
        mem: &Mem,
        base: &Regs,
        calls: &[impl Copy + Into<InjectedCall>],
    ) -> Result<Vec<i64>> {
        let calls: Vec<InjectedCall> = calls.iter().map(|call| (*call).into()).collect();
        let mut results: Vec<i64> = Vec::with_capacity(calls.len());
        for part in calls.chunks(BATCH_MAX) {
            mem.write(AGENT_DATA, &InjectedCall::encode(part, &results))?;
            let mut regs = inject::call_regs(base, AGENT_BASE + ENTRY_BATCH, 0, &[0; 6]);
            (regs.rdi, regs.rsi) = (AGENT_DATA, part.len() as u64);
            self.run_agent(tid, &regs)?;
            results.extend(batch_results(mem, part.len())?);
        }
        Ok(results)
    }
}

/// A call to be made in a batch.
#[derive(Clone, Copy, Debug)]
pub struct InjectedCall {
    /// Number of the call.
    pub nr: i64,
    /// Arguments.
    pub args: [u64; 6],
    /// The earlier call of the batch that opened the descriptor which this one is about: it stands in place of the
    /// fifth argument (mmap), or the first (close).
    pub of: Option<usize>,
}

impl From<(i64, [u64; 6])> for InjectedCall {
    fn from((nr, args): (i64, [u64; 6])) -> InjectedCall {
        InjectedCall { nr, args, of: None }
    }
}

impl InjectedCall {
    /// The same about the descriptor that call number `of` opened.
    pub fn of(nr: i64, args: [u64; 6], of: usize) -> InjectedCall {
        let of = Some(of);
        InjectedCall { nr, args, of }
    }

    /// As the agent reads them at [`AGENT_DATA`]. `before`: results of those that came before these.
    pub fn encode(calls: &[InjectedCall], before: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size_of_val(calls));
        for call in calls {
            let mut args = call.args;
            let mut at = 0;
            match call.of {
                Some(of) if of < before.len() => {
                    let which = if call.nr == libc::SYS_close { 0 } else { 4 };
                    args[which] = before[of] as u64;
                }
                Some(of) => {
                    let place = (of - before.len() + 1) * size_of::<BatchCall>() - 8;
                    at = AGENT_DATA + place as u64;
                }
                None => {}
            }
            bytes.extend_from_slice(&call.nr.to_le_bytes());
            args.iter()
                .for_each(|arg| bytes.extend_from_slice(&arg.to_le_bytes()));
            bytes.extend_from_slice(&at.to_le_bytes());
        }
        bytes
    }
}

/// Takes the results of a batch, and leaves its memory as it was, for whoever hashes or dumps it.
pub fn batch_results(mem: &Mem, count: usize) -> Result<Vec<i64>> {
    let mut bytes = mem.read_vec(AGENT_DATA, count * size_of::<BatchCall>())?;
    let calls = bytes.chunks_exact(size_of::<BatchCall>());
    let results = calls.map(|call| i64::from_le_bytes(call[56..].try_into().expect("eight bytes")));
    let results = results.collect();
    bytes.fill(0);
    mem.write(AGENT_DATA, &bytes)?;
    Ok(results)
}

/// Code and origin of a signal, from its siginfo: `si_code`, bytes 8 to 12.
pub fn si_code(info: &[u8; 128]) -> i32 {
    i32::from_le_bytes(info[8..12].try_into().expect("four bytes"))
}

/// Whether a SIGSYS of Syscall User Dispatch is about a call of the 32-bit interface (`si_arch`,
/// bytes 28 to 32, other than AUDIT_ARCH_X86_64).
pub fn is_foreign_call(signal: i32, info: &[u8; 128]) -> bool {
    signal == libc::SIGSYS && si_code(info) == 2 && info[28..32] != 0xc000_003e_u32.to_le_bytes()
}
