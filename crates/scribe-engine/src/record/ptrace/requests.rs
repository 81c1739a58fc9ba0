//! The requests of a tracer.

use super::registers::{self, UserWord};
use super::*;
use crate::regs::words;
use scribe_syscalls::{Call, Row};

const EPERM: i64 = -(libc::EPERM as i64);
const ESRCH: i64 = -(libc::ESRCH as i64);
const EIO: i64 = -(libc::EIO as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

/// All `PTRACE_O_*` (include/uapi/linux/ptrace.h), and those that are supported.
const OPTIONS: u64 = 0xff | 1 << 20 | 1 << 21;
const OPTIONS_KNOWN: u64 = 0x7f | 1 << 20;
/// Register sets: include/uapi/linux/elf.h.
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
/// Not in libc; include/uapi/linux/ptrace.h.
const PEEKSIGINFO_SHARED: u32 = 1;

/// What a request gives: a result, and memory of the tracer that it writes.
type Answer = (i64, Vec<(u64, Vec<u8>)>);

fn plain(ret: i64) -> Result<Answer> {
    Ok((ret, Vec::new()))
}

impl Recorder {
    /// A call of ptrace.
    pub(in crate::record) fn ptrace(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
    ) -> Result<()> {
        self.tracing_begins()?;
        let [request, pid, addr, data, ..] = call.args;
        let request = request as u32;
        let pid = pid as Tid;
        if request == libc::PTRACE_POKETEXT || request == libc::PTRACE_POKEDATA {
            let Some(target) = self.stopped_tracee(id, pid) else {
                return self.answer(id, row, call, ESRCH);
            };
            let mut old = [0; 8];
            if self.task(target).space.mem.read(addr, &mut old).is_err() {
                return self.answer(id, row, call, EIO);
            }
            let writes = vec![(addr, data.to_le_bytes().to_vec())];
            return self.poke(id, (row, call), 0, target, writes);
        }
        let (ret, writes) = match request {
            libc::PTRACE_TRACEME => (self.trace_me(id), Vec::new()),
            libc::PTRACE_ATTACH | libc::PTRACE_SEIZE => (
                self.attach(id, pid, request == libc::PTRACE_SEIZE, data)?,
                Vec::new(),
            ),
            _ => match self.tracee_of(id, pid) {
                Some(target) => match self.request(id, target, &call) {
                    // Killed meanwhile.
                    Err(RecordError::Trace(scribe_tracee::Error::Gone)) => (ESRCH, Vec::new()),
                    done => done?,
                },
                None => (ESRCH, Vec::new()),
            },
        };
        let writes: Vec<(u64, &[u8])> = writes
            .iter()
            .map(|(at, bytes)| (*at, bytes.as_slice()))
            .collect();
        self.answer_with(id, row, call, ret, &writes)
    }

    /// The tracee that the task may give this request to.
    fn tracee_of(&self, id: u32, pid: Tid) -> Option<u32> {
        let target = self.task_seen(id, pid)?;
        let tracee = self.ptrace.tracees.get(&target)?;
        (tracee.tracer == id && !tracee.detached).then_some(target)
    }

    fn stopped_tracee(&self, id: u32, pid: Tid) -> Option<u32> {
        let target = self.tracee_of(id, pid)?;
        let halt = self.ptrace.tracees[&target].halt.as_ref()?;
        (!self.is_killed(target, halt)).then_some(target)
    }

    /// PTRACE_TRACEME: the parent becomes the tracer.
    fn trace_me(&mut self, id: u32) -> i64 {
        if self.traced(id) {
            return EPERM;
        }
        let parent = self.ptrace.parents.get(&id).copied();
        let Some(parent) = parent.filter(|parent| self.tasks.contains_key(parent)) else {
            self.warn_once(
                "PTRACE_TRACEME by a task whose parent is not recorded is refused with EPERM"
                    .into(),
            );
            return EPERM;
        };
        let new = Tracee {
            tracer: parent,
            orig: libc::SYS_ptrace as u64,
            ..Tracee::default()
        };
        self.ptrace.tracees.insert(id, new);
        0
    }

    /// PTRACE_ATTACH, PTRACE_SEIZE.
    fn attach(&mut self, id: u32, pid: Tid, seize: bool, options: u64) -> Result<i64> {
        if seize && options & !OPTIONS != 0 {
            return Ok(EIO);
        }
        let Some(target) = self.task_seen(id, pid) else {
            let there = self.is_there(id, pid);
            if there {
                self.warn_once(
                    "ptrace of processes outside the recording is refused with EPERM".into(),
                );
            }
            return Ok(if there { EPERM } else { ESRCH });
        };
        let exiting = self.task(target).state == State::Exiting;
        if self.traced(target) || exiting || self.task(target).tgid == self.task(id).tgid {
            return Ok(EPERM);
        }
        // One that is just leaving its last tracer's stop keeps that.
        let mut tracee = self.ptrace.tracees.remove(&target).unwrap_or_default();
        tracee.detached = false;
        tracee.tracer = id;
        tracee.seized = seize;
        tracee.options = if seize { self.options_of(options) } else { 0 };
        tracee.mode = Mode::Cont;
        tracee.orig = u64::MAX;
        self.ptrace.tracees.insert(target, tracee);
        if self.halt_group(target)? {
            return Ok(0);
        }
        if !seize {
            let info = wait::siginfo(libc::SIGSTOP, libc::SI_KERNEL, 0, 0, 0);
            self.task_mut(target).stash.push(libc::SIGSTOP as u32, info);
            self.call_in(target)?;
        }
        Ok(0)
    }

    fn options_of(&mut self, options: u64) -> u64 {
        if options & !OPTIONS_KNOWN != 0 {
            self.warn_once(
                "PTRACE_O_TRACESECCOMP and PTRACE_O_SUSPEND_SECCOMP have no effect".into(),
            );
        }
        options & OPTIONS_KNOWN
    }

    /// Brings a task to its next sync point, where something waits for it.
    fn call_in(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        if task.state == State::InCall && !task.vfork_wait {
            let tid = task.tid;
            self.machine.fetch(tid)?;
        } else {
            self.ticking_for(id);
        }
        Ok(())
    }

    /// A request about a tracee.
    fn request(&mut self, id: u32, target: u32, call: &Call) -> Result<Answer> {
        let [request, _, addr, data, ..] = call.args;
        let request = request as u32;
        match request {
            libc::PTRACE_INTERRUPT => return plain(self.interrupt(target)?),
            libc::PTRACE_KILL => {
                if self.ptrace.tracees[&target].halt.is_some() {
                    let task = self.task(target);
                    scribe_tracee::kill(task.tgid, task.tid, libc::SIGKILL);
                }
                return plain(0);
            }
            _ => {}
        }
        let Some(halt) = self.ptrace.tracees[&target].halt.clone() else {
            return plain(ESRCH);
        };
        if self.is_killed(target, &halt) {
            return plain(ESRCH);
        }
        let resumed = match request {
            libc::PTRACE_CONT => Some(Mode::Cont),
            libc::PTRACE_SYSCALL => Some(Mode::Syscall),
            libc::PTRACE_SINGLESTEP => Some(Mode::Step),
            _ => None,
        };
        if resumed.is_some() || request == libc::PTRACE_DETACH {
            if data > 64 {
                return plain(EIO);
            }
            // That it was killed meanwhile is told by its end.
            let done = match resumed {
                Some(mode) => self.let_go(target, mode, data as i32),
                None => self.detach(target, data as i32),
            };
            self.survive(done)?;
            return plain(0);
        }
        let regs = halt.regs;
        match request {
            libc::PTRACE_LISTEN => self.listen(target, &halt),
            libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
                match self.task(target).space.mem.read_u64(addr) {
                    Ok(word) => Ok((0, vec![(data, word.to_le_bytes().to_vec())])),
                    Err(_) => plain(EIO),
                }
            }
            libc::PTRACE_PEEKUSER => {
                let word = match registers::user_word(addr) {
                    Some(UserWord::Register(n)) => words(&regs)[n],
                    Some(_) => 0,
                    None => return plain(EIO),
                };
                Ok((0, vec![(data, word.to_le_bytes().to_vec())]))
            }
            libc::PTRACE_POKEUSER => match registers::user_word(addr) {
                Some(UserWord::Register(n)) => {
                    let mut new = words(&regs);
                    new[n] = data;
                    plain(self.set_registers(target, &regs, &new))
                }
                Some(UserWord::Debug) if data == 0 => plain(0),
                Some(UserWord::Debug) => {
                    self.warn_once(
                        "hardware breakpoints and watchpoints (PTRACE_POKEUSER of debug \
                         registers) are not supported and are refused with EIO"
                            .into(),
                    );
                    plain(EIO)
                }
                _ => plain(EIO),
            },
            libc::PTRACE_GETREGS => Ok((0, vec![(data, registers::to_bytes(&regs).to_vec())])),
            libc::PTRACE_SETREGS => {
                let Ok(bytes) = self.task(id).space.mem.read_vec(data, registers::REGS_LEN) else {
                    return plain(EFAULT);
                };
                let new = registers::overwritten(&regs, &bytes);
                plain(self.set_registers(target, &regs, &new))
            }
            libc::PTRACE_GETFPREGS => {
                let xstate = self.machine.stopped(self.task(target).tid)?.xstate()?;
                Ok((0, vec![(data, registers::fxsave(&xstate).to_vec())]))
            }
            libc::PTRACE_SETFPREGS => {
                let area = self.task(id).space.mem.read_vec(data, registers::FXSAVE);
                let Ok(area) = area else {
                    return plain(EFAULT);
                };
                plain(self.set_fxsave(target, &area)?)
            }
            libc::PTRACE_GETREGSET => self.get_register_set(id, target, addr, data, &regs),
            libc::PTRACE_SETREGSET => self.set_register_set(id, target, addr, data, &regs),
            _ => self.request_state(id, target, call, &halt),
        }
    }

    /// Requests about signals, options and events.
    fn request_state(&mut self, id: u32, target: u32, call: &Call, halt: &Halt) -> Result<Answer> {
        let [request, _, addr, data, ..] = call.args;
        let mem = &self.task(id).space.mem;
        match request as u32 {
            libc::PTRACE_SETOPTIONS | 21 => {
                if data & !OPTIONS != 0 {
                    return plain(EINVAL);
                }
                let options = self.options_of(data);
                self.tracee(target).expect("it is traced").options = options;
                plain(0)
            }
            libc::PTRACE_GETEVENTMSG => {
                let message = self.ptrace.tracees[&target].message;
                Ok((0, vec![(data, message.to_le_bytes().to_vec())]))
            }
            libc::PTRACE_GETSIGINFO => {
                let tracee = &self.ptrace.tracees[&target];
                let code = halt.cause.code(tracee);
                let own = |signal: i32| {
                    let tid = self.task(target).tid;
                    let own = self.task(target).ids.own();
                    wait::siginfo(signal, code, own, wait::uid_of(tid), 0)
                };
                let info = match halt.cause {
                    Cause::Signal(_, info) => info,
                    Cause::Group(_) if !tracee.seized => return plain(EINVAL),
                    Cause::Group(signal) => own(signal),
                    _ => own(libc::SIGTRAP),
                };
                Ok((0, vec![(data, info.to_vec())]))
            }
            libc::PTRACE_SETSIGINFO => {
                let mut new = [0; 128];
                if mem.read(data, &mut new).is_err() {
                    return plain(EFAULT);
                }
                match self.tracee(target).and_then(|tracee| tracee.halt.as_mut()) {
                    Some(Halt {
                        cause: Cause::Signal(_, info),
                        ..
                    }) => *info = new,
                    Some(Halt {
                        cause: Cause::Group(_),
                        ..
                    }) => return plain(EINVAL),
                    _ => {}
                }
                plain(0)
            }
            libc::PTRACE_PEEKSIGINFO => self.peek_siginfo(id, target, addr, data),
            libc::PTRACE_GETSIGMASK => {
                if addr != 8 {
                    return plain(EINVAL);
                }
                let mask = self.task(target).mask;
                Ok((0, vec![(data, mask.to_le_bytes().to_vec())]))
            }
            libc::PTRACE_SETSIGMASK => {
                if addr != 8 {
                    return plain(EINVAL);
                }
                let Ok(mask) = mem.read_u64(data) else {
                    return plain(EFAULT);
                };
                let mask = Mask(mask).settable().0;
                let task = self.task_mut(target);
                task.mask = mask;
                let tid = task.tid;
                let stopped = self.machine.stopped(tid)?;
                stopped.set_sigmask(signals::kernel_mask(mask))?;
                let tracee = self.tracee(target).expect("it is traced");
                tracee.new_mask = true;
                plain(0)
            }
            libc::PTRACE_GET_SYSCALL_INFO => {
                let info = registers::syscall_info(&halt.cause, &halt.regs);
                let len = info.len().min(addr as usize);
                Ok((info.len() as i64, vec![(data, info[..len].to_vec())]))
            }
            other => {
                self.warn_once(format!(
                    "ptrace request {other:#x} is not supported among recorded tasks and is \
                     refused with EIO"
                ));
                plain(EIO)
            }
        }
    }

    fn interrupt(&mut self, target: u32) -> Result<i64> {
        let tracee = self.tracee(target).expect("it is traced");
        if !tracee.seized {
            return Ok(EIO);
        }
        if tracee.halt.is_some() {
            // Noticed when it goes on.
            tracee.interrupt = true;
            return Ok(0);
        }
        if self.halt_group(target)? {
            // It listened: the same stop again.
            return Ok(0);
        }
        if let Some(tracee) = self.tracee(target) {
            tracee.interrupt = true;
        }
        self.call_in(target)?;
        Ok(0)
    }

    /// A tracee in the kernel's group stop that nobody holds there is halted in it. False if it is
    /// not in one.
    fn halt_group(&mut self, target: u32) -> Result<bool> {
        let Some(&signal) = self.ptrace.grouped.get(&target) else {
            return Ok(false);
        };
        let tid = self.task(target).tid;
        if self.machine.stopped(tid).is_err() {
            // It listens: that ends with the same stop again.
            self.machine.interrupt(tid)?;
            let event = self.machine.wait_for(tid)?;
            if event.stop != Stop::Event(Event::Stop(signal)) {
                self.machine.push_back(event);
                return Ok(false);
            }
        }
        self.halt(target, Cause::Group(signal), Place::Group)?;
        Ok(true)
    }

    /// PTRACE_LISTEN: a tracee in its group stop stays there, until something happens.
    fn listen(&mut self, target: u32, halt: &Halt) -> Result<Answer> {
        let tracee = self.tracee(target).expect("it is traced");
        let stop = matches!(halt.cause, Cause::Group(_) | Cause::Event(EVENT_STOP));
        if !tracee.seized || !stop {
            return plain(EIO);
        }
        if halt.place == Place::Group {
            tracee.halt = None;
            let tid = self.task(target).tid;
            self.machine.go_with(tid, |stopped| stopped.listen())?;
        }
        plain(0)
    }

    fn set_registers(&mut self, target: u32, old: &Regs, new: &[u64; 27]) -> i64 {
        let Ok(regs) = registers::checked(old, new) else {
            return EIO;
        };
        if let Some(halt) = self.tracee(target).and_then(|tracee| tracee.halt.as_mut()) {
            halt.regs = regs;
        }
        0
    }

    fn set_fxsave(&mut self, target: u32, area: &[u8]) -> Result<i64> {
        let mut xstate = self.machine.stopped(self.task(target).tid)?.xstate()?;
        registers::set_fxsave(&mut xstate, area);
        self.set_xstate(target, &xstate)
    }

    fn set_xstate(&mut self, target: u32, image: &[u8]) -> Result<i64> {
        let stopped = self.machine.stopped(self.task(target).tid)?;
        match crate::regs::put_xstate(stopped, image.to_vec()) {
            Ok(()) => {}
            Err(scribe_tracee::Error::Os { source, .. }) => {
                return Ok(-i64::from(source.raw_os_error().unwrap_or(libc::EINVAL)));
            }
            Err(error) => return Err(error.into()),
        }
        self.tracee(target).expect("it is traced").new_xstate = true;
        Ok(0)
    }

    /// Address and length of the tracer's buffer.
    fn iovec(&self, id: u32, at: u64) -> Option<(u64, u64)> {
        let mem = &self.task(id).space.mem;
        Some((mem.read_u64(at).ok()?, mem.read_u64(at + 8).ok()?))
    }

    fn get_register_set(
        &mut self,
        id: u32,
        target: u32,
        kind: u64,
        at: u64,
        regs: &Regs,
    ) -> Result<Answer> {
        let Some((base, room)) = self.iovec(id, at) else {
            return plain(EFAULT);
        };
        let stopped = self.machine.stopped(self.task(target).tid)?;
        let bytes = match kind {
            NT_PRSTATUS => registers::to_bytes(regs).to_vec(),
            NT_PRFPREG => registers::fxsave(&stopped.xstate()?).to_vec(),
            NT_X86_XSTATE => stopped.xstate()?,
            _ => return plain(self.unknown_set(kind)),
        };
        let align = if kind == NT_PRFPREG { 4 } else { 8 };
        if room % align != 0 {
            return plain(EINVAL);
        }
        let len = bytes.len().min(room as usize);
        let count = (len as u64).to_le_bytes().to_vec();
        Ok((0, vec![(base, bytes[..len].to_vec()), (at + 8, count)]))
    }

    fn set_register_set(
        &mut self,
        id: u32,
        target: u32,
        kind: u64,
        at: u64,
        regs: &Regs,
    ) -> Result<Answer> {
        let Some((base, room)) = self.iovec(id, at) else {
            return plain(EFAULT);
        };
        let most = match kind {
            NT_PRSTATUS => registers::REGS_LEN,
            NT_PRFPREG => registers::FXSAVE,
            NT_X86_XSTATE => self.machine.stopped(self.task(target).tid)?.xstate()?.len(),
            _ => return plain(self.unknown_set(kind)),
        };
        let len = most.min(room as usize);
        let Ok(bytes) = self.task(id).space.mem.read_vec(base, len) else {
            return plain(EFAULT);
        };
        let ret = match kind {
            NT_PRSTATUS => {
                let new = registers::overwritten(regs, &bytes);
                self.set_registers(target, regs, &new)
            }
            NT_PRFPREG => self.set_fxsave(target, &bytes)?,
            _ => self.set_xstate(target, &bytes)?,
        };
        if ret != 0 {
            return plain(ret);
        }
        Ok((0, vec![(at + 8, (len as u64).to_le_bytes().to_vec())]))
    }

    fn unknown_set(&mut self, kind: u64) -> i64 {
        self.warn_once(format!("register set {kind:#x} is not supported: EINVAL"));
        EINVAL
    }

    /// PTRACE_PEEKSIGINFO: signals that wait.
    fn peek_siginfo(&mut self, id: u32, target: u32, at: u64, out: u64) -> Result<Answer> {
        let mem = &self.task(id).space.mem;
        let (Ok(offset), Ok(rest)) = (mem.read_u64(at), mem.read_u64(at + 8)) else {
            return plain(EFAULT);
        };
        let (flags, count) = (rest as u32, (rest >> 32) as i32);
        if flags & !PEEKSIGINFO_SHARED != 0 || count < 0 {
            return plain(EINVAL);
        }
        let shared = flags & PEEKSIGINFO_SHARED != 0;
        let task = self.task(target);
        let mut infos = self.machine.stopped(task.tid)?.pending(shared)?;
        if !shared {
            infos.extend(task.stash.iter().map(|pending| pending.info));
        }
        let infos = infos.iter().skip(offset as usize).take(count as usize);
        let bytes: Vec<u8> = infos.flatten().copied().collect();
        Ok((bytes.len() as i64 / 128, vec![(out, bytes)]))
    }
}
