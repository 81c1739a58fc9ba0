//! Calls that shape tasks, address space or signal state, and so need more than their row says.

use super::calls::Kind;
use super::*;
use crate::regs;
use crate::replay::AT_CALL;
use scribe_kernel::signal::{Disposition, parse_sigreturn, sigprocmask};
use scribe_kernel::xstate;
use scribe_syscalls::{Call, Row, Special};

const EPERM: i64 = -(libc::EPERM as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const ENOSYS: i64 = -(libc::ENOSYS as i64);

impl Recorder {
    pub(super) fn special(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        special: Special,
    ) -> Result<()> {
        let args = call.args;
        self.pid_namespaces |= match special {
            Special::Unshare => args[0] & libc::CLONE_NEWPID as u64 != 0,
            Special::Setns => true,
            _ => false,
        };
        match special {
            Special::Mmap => self.mmap(id, row, call),
            Special::Munmap | Special::Mprotect | Special::Madvise | Special::PkeyMprotect => {
                self.execute_call(id, row, call)
            }
            Special::Mremap => self.mremap(id, row, call),
            Special::RemapFilePages => self.answer(id, row, call, ENOSYS),
            Special::Brk => self.run_here(id, row, call, Kind::Brk),
            Special::Shmat => self.run_here(id, row, call, Kind::Shmat),
            Special::Shmdt | Special::PkeyAlloc | Special::PkeyFree => {
                self.run_here(id, row, call, Kind::Plain)
            }
            Special::Clone => self.start_clone(id, row, call, args[0]),
            Special::Fork => self.start_clone(id, row, call, 0),
            Special::Vfork => {
                let flags = (libc::CLONE_VFORK | libc::CLONE_VM) as u64;
                self.start_clone(id, row, call, flags)
            }
            Special::Clone3 => match self.word_for(id, args[0]) {
                Some(flags) if (64..=4096).contains(&args[1]) => {
                    self.start_clone(id, row, call, flags)
                }
                Some(_) => self.answer(id, row, call, EINVAL),
                None => self.answer(id, row, call, EFAULT),
            },
            Special::Execve | Special::Execveat => self.start_exec(id, row, call),
            Special::Exit | Special::ExitGroup => self.start_exit(id, row, call),
            Special::RtSigaction => self.sigaction(id, row, call),
            Special::RtSigprocmask => self.sigprocmask(id, row, call),
            Special::RtSigreturn => self.sigreturn(id, row, call),
            Special::Sigaltstack => self.sigaltstack(id, row, call),
            Special::RtSigsuspend | Special::RtSigtimedwait => self.sigwait(id, row, call, special),
            Special::RtSigpending => self.start_call(id, row, call, Kind::Plain),
            Special::SetTidAddress => {
                let task = self.task_mut(id);
                task.set_exit_words(args[0], task.robust_list());
                self.run_here(id, row, call, Kind::Plain)
            }
            Special::SetRobustList => {
                if args[1] == 24 {
                    let task = self.task_mut(id);
                    task.set_exit_words(task.clear_tid(), args[0]);
                }
                self.run_here(id, row, call, Kind::Plain)
            }
            Special::ArchPrctlSetFs | Special::ArchPrctlSetGs => {
                if args[1] >= 1 << 47 {
                    return self.answer(id, row, call, EPERM);
                }
                let app = &mut self.task_mut(id).app;
                if special == Special::ArchPrctlSetFs {
                    app.fs_base = args[1];
                } else {
                    app.gs_base = args[1];
                }
                self.answer(id, row, call, 0)
            }
            Special::ArchPrctlGetFs | Special::ArchPrctlGetGs => {
                let app = &self.task(id).app;
                let base = if special == Special::ArchPrctlGetFs {
                    app.fs_base
                } else {
                    app.gs_base
                };
                self.answer_with(id, row, call, 0, &[(args[1], &base.to_le_bytes())])
            }
            Special::ArchPrctlGetCpuid => {
                let allowed = self.task(id).instructions.1;
                self.answer(id, row, call, i64::from(allowed))
            }
            Special::ArchPrctlSetCpuid if !self.machine.cpuid_faults => {
                self.answer(id, row, call, -i64::from(libc::ENODEV))
            }
            Special::ArchPrctlSetCpuid => {
                // CPUID is to fault from now on, also where it was patched.
                self.unpatch_before_call(id, 0, u64::MAX)?;
                self.task(id).space.sites.borrow_mut().off = true;
                self.task_mut(id).instructions.1 = args[1] != 0;
                self.answer(id, row, call, 0)
            }
            Special::PrctlGetTsc => {
                let value = if self.task(id).instructions.0 {
                    1i32
                } else {
                    2
                };
                self.answer_with(id, row, call, 0, &[(args[1], &value.to_le_bytes())])
            }
            Special::PrctlSetTsc => match args[1] {
                1 | 2 => {
                    // RDTSC is to fault from now on, also where it was patched.
                    self.unpatch_before_call(id, 0, u64::MAX)?;
                    self.task(id).space.sites.borrow_mut().off = true;
                    self.task_mut(id).instructions.0 = args[1] == 1;
                    self.answer(id, row, call, 0)
                }
                _ => self.answer(id, row, call, EINVAL),
            },
            Special::PrctlSyscallUserDispatch => self.answer(id, row, call, EINVAL),
            Special::Seccomp => self.seccomp(id, row, call),
            Special::Ptrace => self.ptrace(id, row, call),
            Special::ProcessVmWritev => self.process_vm_writev(id, row, call),
            Special::RestartSyscall => self.answer(id, row, call, -i64::from(libc::EINTR)),
            Special::FutexPi => self.futex_pi(id, row, call),
            // What would change the caller's own memory: kernels before 6.13 take none of these here.
            Special::ProcessMadvise
                if !matches!(
                    args[3] as i32,
                    libc::MADV_WILLNEED
                        | libc::MADV_COLD
                        | libc::MADV_PAGEOUT
                        | libc::MADV_COLLAPSE
                ) =>
            {
                self.answer(id, row, call, EINVAL)
            }
            Special::Hook => self.hook(id, row, call),
            Special::IoSetup
            | Special::IoDestroy
            | Special::IoSubmit
            | Special::IoGetevents
            | Special::IoCancel => self.aio(id, row, call, special),
            _ => self.start_call(id, row, call, Kind::Plain),
        }
    }

    /// Runs a call in the kernel with the token held and the arguments as they are.
    pub(super) fn run_here(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        kind: Kind,
    ) -> Result<()> {
        let pending = self.prepare(id, row, call, kind);
        self.launch(id, pending)
    }

    fn sigaction(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [signal, new, old, size, ..] = call.args;
        let signal = signal as i32;
        if size != 8 {
            return self.answer(id, row, call, EINVAL);
        }
        let mut bytes = [0; 32];
        let mut action = None;
        if new != 0 {
            if !self.read_for(id, new, &mut bytes) {
                return self.answer(id, row, call, EFAULT);
            }
            action = Some(Disposition::from_bytes(&bytes));
        }
        let task = self.task(id);
        let stored = |task: &Task| {
            let sighand = task.sighand.borrow();
            sighand.get(signal as u32).copied().unwrap_or_default()
        };
        let known = stored(task);
        let changed = task.sighand.borrow_mut().sigaction(signal as u32, action);
        let before = match changed {
            Ok(before) => before,
            Err(errno) => return self.answer(id, row, call, -i64::from(errno.0)),
        };
        let stored = stored(task);
        self.tell_actions(id);
        let task = self.task(id);
        // The kernel must know what is ignored (children, exec), and answers in the agent. What the
        // agent may have set changes no action: it concerns defaults.
        let mut before = before.to_bytes();
        let agents = known.handler == libc::SIG_DFL as u64;
        let news = action.is_some() && (agents || stored.to_bytes() != known.to_bytes());
        if (news || agents && old != 0) && !Mask::FORCED.has(signal as u32) {
            let at = scribe_abi::AGENT_STRINGS;
            let (tid, app, space) = (task.tid, task.app, task.space.clone());
            // With the mask as it is: no handler is ever entered by the kernel.
            space.mem.write(at, &stored.to_bytes())?;
            let set = if news { at } else { 0 };
            let args = [signal as u64, set, at + 32, 8, 0, 0];
            self.machine
                .inject(tid, &app, libc::SYS_rt_sigaction, args)?;
            let mut told = [0; 32];
            space.mem.read(at + 32, &mut told)?;
            // Not if its first signal has used it up.
            if agents && told[..8] == before[..8] {
                before = told;
            }
            space.mem.write(at, &[0; 64])?;
            self.take_strays(id)?;
        }
        if old == 0 {
            return self.answer(id, row, call, 0);
        }
        self.answer_with(id, row, call, 0, &[(old, &before)])
    }

    fn sigprocmask(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [how, set, old, size, ..] = call.args;
        if size != 8 {
            return self.answer(id, row, call, EINVAL);
        }
        let before = self.task(id).mask;
        let mut after = before;
        if set != 0 {
            let Some(set) = self.word_for(id, set) else {
                return self.answer(id, row, call, EFAULT);
            };
            match sigprocmask(Mask(before), how as i32, Mask(set)) {
                Ok(mask) => after = mask.0,
                Err(errno) => return self.answer(id, row, call, -i64::from(errno.0)),
            }
        }
        // The mask changes also where the old one has no place.
        let fits = old == 0 || self.write_for(id, old, &before.to_le_bytes());
        let ret = if fits { 0 } else { EFAULT };
        let wrote = (old != 0 && fits).then_some((old, 8));
        let mut pending = self.prepare(id, row, call, Kind::Answer { ret, wrote });
        self.set_mask(id, after)?;
        if before & !after == 0 {
            if wrote.is_none() {
                return self.answer(id, row, call, ret);
            }
            return self.answer_with(id, row, call, 0, &[(old, &before.to_le_bytes())]);
        }
        // Signals that were blocked and wait come up now, before the next instruction: the kernel
        // presents them when the task is let go (`signal_at_sync_point`).
        pending.ret = ret;
        self.task_mut(id).call = Some(Box::new(pending));
        self.finish_call(id)
    }

    fn set_mask(&mut self, id: u32, mask: u64) -> Result<()> {
        let task = self.task_mut(id);
        task.mask = mask;
        task.keeps = false;
        let tid = task.tid;
        Ok(self
            .machine
            .stopped(tid)?
            .set_sigmask(signals::kernel_mask(mask))?)
    }

    fn sigreturn(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let task = self.task(id);
        let mut read = |addr: u64, buf: &mut [u8]| self.read_for(id, addr, buf);
        let stopped = self.machine.stopped(task.tid)?;
        let user = regs::to_user(&task.app);
        let restored = parse_sigreturn(task.app.rsp, &mut read, &user, &self.xstate, &task.alt);
        let Ok(restored) = restored else {
            self.record_death(id, libc::SIGSEGV, AT_CALL);
            return self.die(id, libc::SIGSEGV);
        };
        let image = restored
            .xstate
            .unwrap_or_else(|| xstate::fresh_image(&self.xstate));
        regs::put_xstate(stopped, image)?;
        let mut pending = self.prepare(id, row, call, Kind::Plain);
        pending.kind = Kind::Sigreturn(Box::new(regs::from_user(&restored.regs)));
        let task = self.task_mut(id);
        task.alt = restored.altstack;
        let before = std::mem::replace(&mut task.mask, restored.mask.0);
        self.set_mask(id, restored.mask.0)?;
        if before & !restored.mask.0 != 0 && !self.traced(id) {
            // What the return lets through comes before the next instruction, which may be the first one of
            // another handler.
            self.take_waiting(id)?;
        }
        self.task_mut(id).call = Some(Box::new(pending));
        self.finish_call(id)
    }

    fn sigaltstack(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [new, old, ..] = call.args;
        let mut bytes = [0; 24];
        let mut stack = None;
        if new != 0 {
            if !self.read_for(id, new, &mut bytes) {
                return self.answer(id, row, call, EFAULT);
            }
            stack = Some(AltStack::from_bytes(&bytes));
        }
        let task = self.tasks.get_mut(&id).expect("the task exists");
        match task.alt.sigaltstack(stack, task.app.rsp, None) {
            Err(errno) => self.answer(id, row, call, -i64::from(errno.0)),
            Ok(_) if old == 0 => self.answer(id, row, call, 0),
            Ok(before) => self.answer_with(id, row, call, 0, &[(old, &before.to_bytes())]),
        }
    }

    /// Waiting for signals, some of which may have been taken from the kernel already.
    fn sigwait(&mut self, id: u32, row: &'static Row, call: Call, special: Special) -> Result<()> {
        if special == Special::RtSigtimedwait
            && call.args[3] == 8
            && let Some(set) = self.word_for(id, call.args[0])
            && let Some(pending) = self.task_mut(id).stash.pop(Mask(!set))
        {
            let at = call.args[1];
            let ret = i64::from(pending.signo);
            if at == 0 {
                return self.answer(id, row, call, ret);
            }
            return self.answer_with(id, row, call, ret, &[(at, &pending.info)]);
        }
        self.start_call(id, row, call, Kind::Plain)
    }
}

impl Recorder {
    /// The filters that the program installed see its calls before the kernel does. `Some`: the
    /// call is not made.
    pub(super) fn seccomp_gate(&mut self, id: u32, call: &Call) -> Result<Option<Result<()>>> {
        use scribe_kernel::seccomp::Action;
        let task = self.task(id);
        if task.seccomp == Seccomp::Disabled {
            return Ok(None);
        }
        let action = task.seccomp.evaluate(call.nr, task.app.rip, call.args);
        let (ret, info) = match action {
            Action::Allow | Action::Log => return Ok(None),
            Action::Errno(errno) => (-i64::from(errno), None),
            // Nobody traces or listens.
            Action::Trace(_) | Action::UserNotif(_) => (ENOSYS, None),
            // A signal that is forced but blocked or ignored ends the process.
            Action::Trap(_) if self.cannot_be_handled(id, libc::SIGSYS) => {
                self.record_death(id, libc::SIGSYS, AT_CALL);
                return self.die(id, libc::SIGSYS).map(|()| Some(Ok(())));
            }
            Action::Trap(data) => {
                let info = scribe_kernel::seccomp::trap_siginfo(call.nr, task.app.rip, data);
                (call.nr.into(), Some(info))
            }
            Action::KillStrict => return Ok(Some(self.kill_thread(id, libc::SIGKILL))),
            Action::KillThread => return Ok(Some(self.kill_thread(id, libc::SIGSYS))),
            Action::KillProcess => {
                self.record_death(id, libc::SIGSYS, AT_CALL);
                return self.die(id, libc::SIGSYS).map(|()| Some(Ok(())));
            }
        };
        let Some(row) = scribe_syscalls::lookup(call) else {
            return Ok(Some(self.answer_unknown(id, *call, ret)));
        };
        // Replay does not know of filters: the event says that the call was not carried out.
        let pending = self.prepare(id, row, *call, Kind::Answer { ret, wrote: None });
        self.write_blocked(id, &pending, ret)?;
        self.task_mut(id).app.rax = ret as u64;
        if let Some(info) = info {
            self.task_mut(id).stash.push(libc::SIGSYS as u32, info);
        }
        Ok(Some(self.settle(id)))
    }

    /// Whether a signal that an instruction or a call causes would find itself blocked or ignored.
    fn cannot_be_handled(&self, id: u32, signal: i32) -> bool {
        let task = self.task(id);
        let ignored = task.sighand.borrow().what_to_do(signal as u32)
            == scribe_kernel::signal::Action::Ignore;
        ignored || Mask(task.mask).has(signal as u32)
    }

    /// seccomp(2), and prctl with PR_SET_SECCOMP.
    fn seccomp(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        use scribe_kernel::seccomp::{Program, action_available};
        let args = call.args;
        let prctl = i64::from(call.nr) == libc::SYS_prctl;
        // prctl: mode in the second argument; seccomp: operation in the first.
        let (strict, filter) = if prctl {
            if args[0] as i32 == libc::PR_GET_SECCOMP {
                let mode = self.task(id).seccomp.mode();
                return self.answer(id, row, call, i64::from(mode));
            }
            (args[1] == 1, args[1] == 2)
        } else {
            (args[0] == 0, args[0] == 1)
        };
        let (flags, program) = if prctl {
            (0, args[2])
        } else {
            (args[1], args[2])
        };
        if !prctl && args[0] == 2 {
            let mut word = [0; 4];
            if self.task(id).space.mem.read(program, &mut word).is_err() {
                return self.answer(id, row, call, EFAULT);
            }
            let known = action_available(u32::from_le_bytes(word));
            let ret = if known {
                0
            } else {
                -i64::from(libc::EOPNOTSUPP)
            };
            return self.answer(id, row, call, ret);
        }
        const TSYNC: u64 = 1;
        const LOG: u64 = 2;
        const SPEC_ALLOW: u64 = 4;
        const TSYNC_ESRCH: u64 = 16;
        if strict {
            let done = self.task_mut(id).seccomp.set_strict();
            return self.answer(id, row, call, done.map_or_else(|e| -i64::from(e.0), |()| 0));
        }
        if !filter || flags & !(TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH) != 0 {
            return self.answer(id, row, call, EINVAL);
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.task(id).tid));
        let status = status.unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .unwrap_or("")
        };
        let admin = u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0) >> 21 & 1 != 0;
        if field("NoNewPrivs:") != "1" && !admin {
            return self.answer(id, row, call, -i64::from(libc::EACCES));
        }
        // struct sock_fprog: length, 6 bytes of padding, pointer.
        let mem = &self.task(id).space.mem;
        let mut head = [0; 16];
        if mem.read(program, &mut head).is_err() {
            return self.answer(id, row, call, EFAULT);
        }
        let len = usize::from(u16::from_le_bytes([head[0], head[1]])) * 8;
        let at = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        let Ok(bytes) = mem.read_vec(at, len) else {
            return self.answer(id, row, call, EFAULT);
        };
        let done = Program::from_bytes(&bytes).and_then(|program| {
            let tgid = self.task(id).tgid;
            let all = flags & TSYNC != 0;
            for task in self
                .tasks
                .values_mut()
                .filter(|t| t.id == id || (all && t.tgid == tgid))
            {
                task.seccomp.add_filter(program.clone())?;
            }
            Ok(())
        });
        self.answer(id, row, call, done.map_or_else(|e| -i64::from(e.0), |()| 0))
    }
}
