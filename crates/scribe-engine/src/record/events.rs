//! What the kernel reports of the tasks: ends, stops, and the instructions that trap.

use super::*;

impl Recorder {
    pub(super) fn on_event(&mut self, event: WaitEvent) -> Result<()> {
        let Some(&id) = self.by_tid.get(&event.tid) else {
            return self.on_newborn(event);
        };
        let task = self.task_mut(id);
        task.take_mask();
        let listened = std::mem::take(&mut task.listening);
        match event.stop {
            Stop::Signal(signal) => self.on_signal_stop(id, signal),
            Stop::Event(Event::Fork | Event::Vfork | Event::Clone) => self.on_new_task(id),
            Stop::Event(Event::VforkDone) => {
                self.vfork_done(id);
                self.resume_agent(id)
            }
            Stop::Event(Event::Exec) => self.on_exec(event.tid),
            Stop::Event(Event::Exit) => self.on_exit_stop(id),
            Stop::Event(Event::Stop(signal)) => self.on_group_stop(id, signal, listened),
            Stop::Syscall => self.on_syscall_stop(id),
            Stop::Exited(_) | Stop::Killed(..) => self.on_ended(id, event.status),
            Stop::Continued => Ok(()),
        }
    }

    /// A stop at a call where dispatch by SUD is missing (PTRACE_SYSEMU).
    pub(super) fn on_syscall_stop(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        if self.machine.sud || task.state != State::App {
            let go = if task.state == State::App {
                Go::Application
            } else {
                Go::Agent
            };
            let tid = task.tid;
            return Ok(self.machine.go(tid, go, 0)?);
        }
        self.syscall_entry(id, true)
    }

    pub(super) fn on_signal_stop(&mut self, id: u32, signal: i32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let stopped = self.machine.stopped(task.tid)?;
        let mut info = stopped.siginfo()?;
        if ptrace::is_of_exit(&info) && self.machine.take_report(task.tid)? {
            // It was killed as it stood, and stands in its exit stop now.
            return Ok(());
        }
        ptrace::honest_siginfo(signal, &mut info);
        if task.state == State::App
            && (self.signal_at_sync_point(id, signal, &info)?
                || self.signal_in_agent(id, signal, &info)?)
        {
            return Ok(());
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        if task.state == State::App && signal == libc::SIGTRAP && self.on_step(id, &info)? {
            return Ok(());
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let awaits = task.run.over.is_some() && signal == libc::SIGTRAP;
        if task.state == State::App && !awaits {
            self.end_over(id)?;
        }
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let stopped = self.machine.stopped(task.tid)?;
        match task.state {
            State::App if signal == libc::SIGTRAP && task.run.over.is_some() => {
                match self.on_over_trap(id)? {
                    true => Ok(()),
                    false => self.signal_in_application(id, signal, info),
                }
            }
            State::App if crate::machine::is_foreign_call(signal, &info) => self.foreign_call(id),
            State::App if signal == libc::SIGSYS && si_code(&info) == SYS_USER_DISPATCH => {
                self.syscall_entry(id, false)
            }
            State::App => self.signal_in_application(id, signal, info),
            State::InCall => {
                let regs = stopped.regs()?;
                if signal == libc::SIGTRAP
                    && si_code(&info) == libc::SI_KERNEL
                    && regs.rip == AGENT_BASE + AFTER_SYSCALL + 1
                {
                    return self.call_returned(id, &regs);
                }
                let before = regs.rip == AGENT_BASE + ENTRY_SYSCALL;
                self.note_interruption(id, &regs);
                self.signal_in_call(id, signal, info, regs, before)
            }
            State::Stopping => self.signal_while_stopping(id, signal, info),
            State::Exiting => Ok(self.machine.go(task.tid, Go::Agent, signal)?),
            State::Ready(_) | State::Traced => {
                // Cannot be: a stopped task reports nothing. Keep the signal.
                task.stash.push(signal as u32, info);
                Ok(())
            }
        }
    }

    /// A call by `int $0x80`, which a 64-bit program hardly ever makes: not supported, as on a
    /// kernel without 32-bit emulation. No event: replay answers the same.
    pub(super) fn foreign_call(&mut self, id: u32) -> Result<()> {
        self.warn_once("32-bit system calls (int $0x80) are answered with ENOSYS".into());
        let mut regs = self.machine.stopped(self.task(id).tid)?.regs()?;
        regs.rax = -i64::from(libc::ENOSYS) as u64;
        self.carry_on(id, regs)
    }

    /// Goes on from a stop that is no event. As replay does not know where it was, nothing may happen
    /// there: no signal, no other task's turn, no record.
    pub(super) fn carry_on(&mut self, id: u32, mut regs: Regs) -> Result<()> {
        regs.orig_rax = u64::MAX;
        let tid = self.task(id).tid;
        self.machine.stopped(tid)?.set_regs(&regs)?;
        self.run_on(id)
    }

    /// An instruction that was made to fault; true if the fault was one.
    pub(super) fn trapped_instruction(&mut self, id: u32) -> Result<bool> {
        let task = self.tasks.get_mut(&id).expect("tasks in by_tid exist");
        let mut regs = self.machine.stopped(task.tid)?.regs()?;
        let mut code = [0; 15];
        let got = task.space.mem.read_some(regs.rip, &mut code);
        let Some((which, length)) = Trapped::decode(&code[..got]) else {
            return Ok(false);
        };
        let (tsc_allowed, cpuid_allowed) = task.instructions;
        if !(if which == Trapped::Cpuid {
            cpuid_allowed
        } else {
            tsc_allowed
        }) {
            return Ok(false);
        }
        let at = regs.rip;
        regs.rip += length;
        self.stats.instructions += 1;
        if which == Trapped::Cpuid {
            self.cpuid.fill(&mut regs);
            if length == which.kind().length() as u64 {
                self.learn_place(id, at);
            }
            if !self.traced(id) && regs.eflags & cpu::TRAP_FLAG == 0 {
                self.carry_on(id, regs)?;
                return Ok(true);
            }
        } else {
            // With a prefix it is longer.
            if length == which.kind().length() as u64 {
                self.patch_place(id, at)?;
            }
            self.count_time(id, which, &mut regs);
        }
        self.task_mut(id).app = regs;
        if self.emulated_step(id, which != Trapped::Cpuid)? {
            return Ok(true);
        }
        if regs.eflags & cpu::TRAP_FLAG != 0 {
            // The program steps by itself: the trap behind the instruction.
            let tid = self.task(id).tid;
            regs.orig_rax = u64::MAX;
            self.machine.stopped(tid)?.set_regs(&regs)?;
            self.fault(id, libc::SIGTRAP, cpu::trap_info(regs.rip))?;
        } else {
            self.resume_application(id)?;
        }
        Ok(true)
    }

    /// Answers an RDTSC or RDTSCP, and records that.
    pub(super) fn count_time(&mut self, id: u32, which: Trapped, regs: &mut Regs) {
        let tsc = self.tsc.at(cpu::raw_clock());
        (regs.rax, regs.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
        let mut values = vec![tsc];
        if which == Trapped::Rdtscp {
            regs.rcx = 0;
            values.push(0);
        }
        let lane = self.task(id).lane;
        let record = Record::Instr {
            which: which as u16,
            values: values.into_iter().collect(),
        };
        self.write(lane, &record);
    }
}
