//! Calls at replay: answered from the log, or, where they shape tasks and address space, repeated
//! with the recorded results.

use super::*;
use crate::regs;
use crate::state::{Pages, input_hash};
use scribe_abi::AGENT_STRINGS;
use scribe_kernel::signal::{Mask, parse_sigreturn, sigprocmask};
use scribe_kernel::xstate;
use scribe_log::Syscall;
use scribe_syscalls::{Class, Dir, Plan, Slot, Special};
use scribe_tracee::Running;
use scribe_tracee::inject::{CLONE_ARGS, clone_args};

impl Replayer {
    /// The task has made the call that the record is about, or should have.
    pub(super) fn call(&mut self, id: u32, call: Call, event: &Syscall) -> Result<()> {
        if call.nr as u16 != event.nr {
            return Err(self.diverged(
                id,
                Reason::OtherCall {
                    call,
                    expected: event.nr.into(),
                },
            ));
        }
        let data = self.take_data(id);
        let Some(row) = scribe_syscalls::lookup(&call) else {
            self.answer(id, event.ret);
            return Ok(());
        };
        let space = self.task(id).space.clone();
        let mem = Pages::new(&space.mem);
        let plan = scribe_syscalls::plan(row, &call, &mem);
        if event.in_hash != input_hash(row, &call, &plan, &mem) {
            return Err(self.diverged(id, Reason::Arguments { call }));
        }
        if event.flags & (flags::STDOUT | flags::STDERR) != 0 {
            self.terminal_output(id, &call, &plan, event);
        }
        let backed = event
            .sections
            .map()
            .is_some_and(|map| map.flags & MAP_BACKED != 0);
        let mapped = event.sections.map().is_some();
        if !mapped {
            for (addr, bytes) in &data {
                space.mem.write(*addr, bytes)?;
            }
        }
        // What clone writes it writes to the parent, when the child has its copy already.
        let spawns = spawn_section(event).is_some();
        for (addr, bytes) in event.sections.outs().filter(|_| !spawns) {
            space.mem.write(addr, bytes)?;
        }
        for section in &event.sections {
            if let Section::FileOut {
                addr,
                offset,
                len,
                file,
            } = section
            {
                self.read_file(&space, addr, file, offset, len)?;
            }
        }
        if event.flags & flags::RESTART != 0 {
            let task = self.task_mut(id);
            task.temporary = temporary_mask(&plan, &space);
            task.app.rax = call.nr.into();
            task.app.rip -= 2;
            task.state = State::Idle;
            return Ok(());
        }
        if event.ret == -i64::from(libc::EINTR) {
            self.task_mut(id).temporary = temporary_mask(&plan, &space);
        }
        if let Some(map) = event.sections.map()
            && map.flags & MAP_CHANGED != 0
        {
            let moved = matches!(row.class, Class::Special(Special::Mremap));
            self.change_backing(&map, &data, moved)?;
            if !moved {
                self.answer(id, event.ret);
                return Ok(());
            }
        }
        let failed = (-4095..0).contains(&event.ret);
        if !failed {
            self.pin_maker_of_code(id, &call);
        }
        match row.class {
            _ if event.flags & flags::BLOCKED != 0 => {}
            Class::Execute if !failed => self.repeat(id, call, event.ret)?,
            Class::Special(special)
                if self.special(id, call, special, event, &data, failed, backed)? =>
            {
                return Ok(());
            }
            _ => {}
        }
        if self.live.is_some() && !failed {
            self.repeat_for_live(id, call.nr, &call.args)?;
        }
        self.answer(id, event.ret);
        Ok(())
    }

    /// As in the recording.
    fn pin_maker_of_code(&mut self, id: u32, call: &Call) {
        if !self.machine.cpuid_faults && crate::pin::maps_unknown_code(call.nr, &call.args) {
            let space = self.task(id).space.clone();
            space.unknown_code.set(true);
            let tasks = self.tasks.values();
            let own = tasks.filter(|task| Rc::ptr_eq(&task.space, &space));
            space.pin(own.map(|task| task.tid));
        }
    }

    /// What a call read from a file that the log names.
    fn read_file(
        &mut self,
        space: &AddressSpace,
        addr: u64,
        file: u32,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let file = self.files.get(file)?;
        let mut buf = vec![0; 1 << 20];
        let mut done = 0;
        while done < len {
            let piece = &mut buf[..(1 << 20).min((len - done) as usize)];
            if file.read_exact_at(piece, offset + done).is_err() {
                return Err(ReplayError::File(
                    "a file that was read has become shorter".into(),
                ));
            }
            space.mem.write(addr + done, piece)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    fn answer(&mut self, id: u32, ret: i64) {
        let task = self.task_mut(id);
        task.app.rax = ret as u64;
        task.state = State::Idle;
    }

    pub(super) fn take_data(&mut self, id: u32) -> Vec<(u64, Vec<u8>)> {
        let lane = self.task(id).lane;
        self.lanes
            .get_mut(&lane)
            .map(|lane| std::mem::take(&mut lane.data))
            .unwrap_or_default()
    }

    /// Makes the same call in the replayed task; it must have the same result.
    fn repeat(&mut self, id: u32, call: Call, ret: i64) -> Result<()> {
        let mut args = call.args;
        if i64::from(call.nr) == libc::SYS_madvise && args[2] as i32 == libc::MADV_FREE {
            args[2] = libc::MADV_DONTNEED as u64;
        }
        self.inject_expecting(id, call.nr.into(), args, ret)
    }

    /// Injects a call whose result is known.
    pub(super) fn inject_expecting(
        &mut self,
        id: u32,
        nr: i64,
        args: [u64; 6],
        expected: i64,
    ) -> Result<()> {
        let got = self.inject(id, nr, args)?;
        if got != expected {
            return Err(self.diverged(id, Reason::Repeated { nr, expected, got }));
        }
        Ok(())
    }

    pub(super) fn inject(&mut self, id: u32, nr: i64, args: [u64; 6]) -> Result<i64> {
        self.code_may_change(id, nr, &args);
        let task = self.task(id);
        let (tid, app) = (task.tid, task.app);
        let got = self.machine.inject(tid, &app, nr, args)?;
        // Whatever signal came meanwhile came from outside.
        self.machine.take_strays(tid);
        Ok(got)
    }

    /// What a call does to memory that code may have been translated from.
    pub(super) fn code_may_change(&self, id: u32, nr: i64, args: &[u64; 6]) {
        match nr {
            libc::SYS_mmap
            | libc::SYS_munmap
            | libc::SYS_mprotect
            | libc::SYS_pkey_mprotect
            | libc::SYS_madvise => {
                self.code_changed(id, args[0], args[0].saturating_add(args[1]));
            }
            libc::SYS_mremap => {
                self.code_changed(id, args[0], args[0].saturating_add(args[1]));
                self.code_changed(id, args[4], args[4].saturating_add(args[2]));
            }
            libc::SYS_shmat | libc::SYS_shmdt => {
                if let Some(known) = &mut *self.task(id).space.translation.borrow_mut() {
                    known.expire();
                }
            }
            _ => {}
        }
    }

    /// True when the task's state and result are set already.
    #[allow(clippy::too_many_arguments)]
    fn special(
        &mut self,
        id: u32,
        call: Call,
        special: Special,
        event: &Syscall,
        data: &[(u64, Vec<u8>)],
        failed: bool,
        backed: bool,
    ) -> Result<bool> {
        let args = call.args;
        match special {
            Special::Brk => self.brk(id, event.ret as u64)?,
            // Its result is whatever the frame held in rax.
            Special::RtSigreturn => return self.sigreturn(id).map(|()| true),
            // What lies before the place where these fail is changed all the same.
            Special::Mprotect | Special::Madvise | Special::PkeyMprotect if failed => {
                self.repeat_failed(id, call, event.ret)?
            }
            _ if failed => {}
            Special::Mmap | Special::Shmat => self.mmap(id, call, special, event, data, backed)?,
            Special::Munmap | Special::Mprotect | Special::Madvise | Special::PkeyMprotect => {
                self.around_ours(id, call, event.ret)?
            }
            Special::IoSetup | Special::IoDestroy => self.io_ring(id, special, event, data)?,
            Special::PkeyAlloc | Special::PkeyFree => self.repeat(id, call, event.ret)?,
            Special::Mremap => {
                let mut args = args;
                if event.ret as u64 != args[0] {
                    args[3] |= (libc::MREMAP_FIXED | libc::MREMAP_MAYMOVE) as u64;
                    args[4] = event.ret as u64;
                }
                self.inject_expecting(id, libc::SYS_mremap, args, event.ret)?;
            }
            Special::Shmdt => {
                if let Some(map) = scribe_tracee::maps::read(self.task(id).tid)
                    .iter()
                    .find(|map| map.start == args[0])
                {
                    let range = [map.start, map.size(), 0, 0, 0, 0];
                    self.inject_expecting(id, libc::SYS_munmap, range, 0)?;
                }
            }
            Special::Clone | Special::Clone3 | Special::Fork | Special::Vfork => {
                return self.spawn(id, call, special, event).map(|()| true);
            }
            Special::RtSigaction if args[1] != 0 => {
                let mut bytes = [0; 32];
                let task = self.task(id);
                task.space.mem.read(args[1], &mut bytes)?;
                let action = scribe_kernel::signal::Disposition::from_bytes(&bytes);
                let _ = task
                    .sighand
                    .borrow_mut()
                    .sigaction(args[0] as u32, Some(action));
                let tasks = self.tasks.values();
                let tasks = tasks.map(|task| (&task.sighand, task.area.as_ref()));
                crate::agent::tell_actions(&self.task(id).sighand, tasks);
            }
            Special::RtSigprocmask if args[1] != 0 => {
                let task = self.task_mut(id);
                let set = Mask(task.space.mem.read_u64(args[1])?);
                if let Ok(mask) = sigprocmask(Mask(task.mask), args[0] as i32, set) {
                    task.mask = mask.0;
                }
            }
            Special::Sigaltstack if args[0] != 0 => {
                let mut bytes = [0; 24];
                let task = self.task_mut(id);
                task.space.mem.read(args[0], &mut bytes)?;
                let stack = AltStack::from_bytes(&bytes);
                let _ = task.alt.sigaltstack(Some(stack), task.app.rsp, None);
            }
            // How far the stack may grow is decided here, too.
            Special::Setrlimit if args[0] == libc::RLIMIT_STACK as u64 => {
                self.limit_stack(id, args[1])?;
            }
            Special::Prlimit64 if args[1] == libc::RLIMIT_STACK as u64 && args[2] != 0 => {
                let task = self.task(id);
                if args[0] == 0 || args[0] == task.pid as u64 {
                    self.limit_stack(id, args[2])?;
                }
            }
            Special::ArchPrctlSetFs => self.task_mut(id).app.fs_base = args[1],
            Special::ArchPrctlSetGs => self.task_mut(id).app.gs_base = args[1],
            Special::ArchPrctlSetCpuid if failed => {}
            Special::ArchPrctlSetCpuid => self.task_mut(id).instructions.1 = args[1] != 0,
            Special::PrctlSetTsc => self.task_mut(id).instructions.0 = args[1] == 1,
            _ => {}
        }
        Ok(false)
    }

    fn limit_stack(&mut self, id: u32, at: u64) -> Result<()> {
        let task = self.task(id);
        let soft = task.space.mem.read_u64(at)?;
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: valid pointers to one rlimit each.
        unsafe {
            libc::prlimit(task.tid, libc::RLIMIT_STACK, std::ptr::null(), &mut limit);
            limit.rlim_cur = soft.min(limit.rlim_max);
            libc::prlimit(task.tid, libc::RLIMIT_STACK, &limit, std::ptr::null_mut());
        }
        Ok(())
    }

    fn sigreturn(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let mem = &task.space.mem;
        let mut read = |addr: u64, buf: &mut [u8]| mem.read(addr, buf).is_ok();
        let user = regs::to_user(&task.app);
        let restored = parse_sigreturn(task.app.rsp, &mut read, &user, &self.xstate, &task.alt);
        let Ok(restored) = restored else {
            return Err(self.diverged(id, Reason::BadFrame));
        };
        let image = restored
            .xstate
            .unwrap_or_else(|| xstate::fresh_image(&self.xstate));
        regs::put_xstate(self.machine.stopped(task.tid)?, image)?;
        let task = self.task_mut(id);
        task.alt = restored.altstack;
        task.mask = restored.mask.0;
        task.app = regs::from_user(&restored.regs);
        task.state = State::Idle;
        Ok(())
    }

    /// clone and its kin: a real child, which then stands where its own lane's records want it.
    fn spawn(&mut self, id: u32, call: Call, special: Special, event: &Syscall) -> Result<()> {
        let Some(spawn) = spawn_section(event) else {
            return Err(ReplayError::Log(
                "a clone event does not say what was created".into(),
            ));
        };
        let space = self.task(id).space.clone();
        let word = |offset: u64| space.mem.read_u64(call.args[0] + offset);
        let (flags, stack, child_tid, tls) = match special {
            Special::Clone => (call.args[0], call.args[1], call.args[3], call.args[4]),
            Special::Clone3 => {
                let (stack, size) = (word(40)?, word(48)?);
                (
                    word(0)?,
                    if stack == 0 { 0 } else { stack + size },
                    word(16)?,
                    word(56)?,
                )
            }
            Special::Vfork => ((libc::CLONE_VM | libc::CLONE_VFORK) as u64, 0, 0, 0),
            _ => (0, 0, 0, 0),
        };
        let has = |flag: i32| flags & flag as u64 != 0;
        // The child's parent is us, so that it does not stay a zombie when it ends.
        let really = if has(libc::CLONE_THREAD) {
            libc::CLONE_VM
                | libc::CLONE_FS
                | libc::CLONE_FILES
                | libc::CLONE_SIGHAND
                | libc::CLONE_THREAD
                | libc::CLONE_SYSVSEM
        } else if has(libc::CLONE_VM) {
            libc::CLONE_VM | libc::CLONE_PARENT | libc::SIGCHLD
        } else {
            libc::CLONE_PARENT | libc::SIGCHLD
        };
        let parent = self.task(id);
        let (parent_tid, base) = (parent.tid, parent.app);
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let regs = match self.live {
            None => {
                let nr = libc::SYS_clone as u64;
                call_regs(&base, entry, nr, &[really as u64, 0, 0, 0, 0, 0])
            }
            Some(_) => {
                let exits = match special {
                    Special::Clone3 => word(32)?,
                    Special::Clone => flags & 0xff,
                    _ => libc::SIGCHLD as u64,
                };
                let parent = if has(libc::CLONE_PARENT) {
                    libc::CLONE_PARENT
                } else {
                    0
                };
                let own = (really & !(libc::CLONE_PARENT | 0xff) | parent) as u64;
                let thread = has(libc::CLONE_THREAD) || has(libc::CLONE_PARENT);
                let exits = if thread { 0 } else { exits };
                // With the id that it had.
                let args = clone_args(AGENT_STRINGS, own, exits, spawn.tid as u64);
                space.mem.write(AGENT_STRINGS, &args)?;
                let nr = libc::SYS_clone3 as u64;
                call_regs(&base, entry, nr, &[AGENT_STRINGS, CLONE_ARGS, 0, 0, 0, 0])
            }
        };
        let tid = self.clone_now(id, parent_tid, &regs)?;
        let parent = self.task(id);
        let mut app = parent.app;
        app.rax = 0;
        if stack != 0 {
            app.rsp = stack;
        }
        if has(libc::CLONE_SETTLS) {
            app.fs_base = tls;
        }
        let child_space = if has(libc::CLONE_VM) {
            space
        } else {
            Rc::new(space.forked(tid)?)
        };
        if has(libc::CLONE_CHILD_SETTID) {
            let _ = child_space.mem.write(child_tid, &spawn.tid.to_le_bytes());
        }
        let sighand = if has(libc::CLONE_SIGHAND) {
            parent.sighand.clone()
        } else {
            let mut own = parent.sighand.borrow().clone();
            if flags & CLONE_CLEAR_SIGHAND != 0 {
                own.exec_reset();
            }
            Rc::new(RefCell::new(own))
        };
        let alt = if has(libc::CLONE_VM) && !has(libc::CLONE_VFORK) {
            AltStack::default()
        } else {
            parent.alt
        };
        let child = Task {
            id: spawn.task,
            tid,
            tgid: if has(libc::CLONE_THREAD) {
                parent.tgid
            } else {
                tid
            },
            pid: spawn.pid,
            recorded_tid: spawn.tid,
            lane: spawn.lane,
            state: State::Idle,
            app,
            mask: parent.mask,
            alt,
            sighand,
            space: child_space,
            fault: parent.fault,
            instructions: parent.instructions,
            temporary: None,
            stepping: false,
            search: None,
            area: None,
            history: VecDeque::new(),
        };
        if self.machine.sud {
            self.machine
                .stopped(tid)?
                .arm_sud(AGENT_BASE, scribe_abi::AGENT_CODE_LEN)?;
        }
        self.by_tid.insert(tid, spawn.task);
        self.tasks.insert(spawn.task, Box::new(child));
        if !self.lanes.contains_key(&spawn.lane) {
            self.add_lane(spawn.lane, spawn.task);
        }
        self.agent_for(spawn.task)?;
        self.ready.push_back(spawn.lane);
        for (addr, bytes) in event.sections.outs() {
            self.task(id).space.mem.write(addr, bytes)?;
        }
        self.answer(id, event.ret);
        Ok(())
    }

    /// Runs a clone in `tid` and returns the child, stopped.
    pub(super) fn clone_now(&mut self, id: u32, tid: Tid, regs: &Regs) -> Result<Tid> {
        self.machine.stopped(tid)?.set_regs(regs)?;
        self.machine.go(tid, Go::Agent, 0)?;
        let mut child = None;
        loop {
            let event = self.machine.wait_for(tid)?;
            match event.stop {
                Stop::Event(Event::Clone | Event::Fork | Event::Vfork) => {
                    child = Some(self.machine.stopped(tid)?.event_message()? as Tid);
                }
                Stop::Signal(libc::SIGTRAP) => break,
                Stop::Exited(_) | Stop::Killed(..) | Stop::Event(Event::Exit) => {
                    self.machine.push_back(event);
                    return Err(scribe_tracee::Error::Gone.into());
                }
                _ => {}
            }
            self.machine.go(tid, Go::Agent, 0)?;
        }
        let Some(child) = child else {
            let got = self.machine.stopped(tid)?.regs()?.rax as i64;
            let nr = libc::SYS_clone;
            return Err(self.diverged(
                id,
                Reason::Repeated {
                    nr,
                    expected: 1,
                    got,
                },
            ));
        };
        self.machine.add(Running::attached(child));
        if let Some(at) = self.early.iter().position(|event| event.tid == child) {
            let event = self.early.remove(at);
            self.machine.note_early(event);
        } else {
            self.machine.wait_for(child)?;
        }
        Ok(child)
    }

    pub(super) fn add_lane(&mut self, lane: u32, first: u32) {
        let reader = self.log.lane(lane);
        let lane_state = Lane {
            reader,
            ahead: agent::Ahead::new(self.shared.as_ref(), first),
            current: first,
            head: None,
            data: Vec::new(),
            ended: false,
        };
        self.lanes.insert(lane, lane_state);
    }

    /// Shows what a call wrote to the recording's terminal.
    fn terminal_output(&mut self, id: u32, call: &Call, plan: &Plan, event: &Syscall) {
        let space = self.task(id).space.clone();
        let nested = plan
            .bufs
            .iter()
            .any(|buf| matches!(buf.slot, Slot::Nested { .. }));
        let mut left = event.ret.max(0) as u64;
        let mut bytes = Vec::new();
        for buf in plan.bufs.iter().filter(|buf| buf.dir == Dir::In) {
            if nested && !matches!(buf.slot, Slot::Nested { .. }) {
                continue;
            }
            let len = buf.cap.min(left);
            crate::state::for_pieces(&space.mem, buf.addr, len, |_, piece| {
                bytes.extend_from_slice(piece);
            });
            left -= len;
        }
        let _ = call;
        let serial = event.sections.serial().unwrap_or(self.shown + 1);
        let stream = if event.flags & flags::STDERR != 0 {
            2
        } else {
            1
        };
        self.show(stream, serial, bytes);
    }
}

/// The signal mask that a call installed while it waited.
fn temporary_mask(plan: &Plan, space: &AddressSpace) -> Option<u64> {
    let buf = plan.bufs.iter().find(|buf| buf.sigmask && buf.cap >= 8)?;
    space.mem.read_u64(buf.addr).ok()
}

/// clone3 only; include/uapi/linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;

use crate::record::memory::{MAP_BACKED, MAP_CHANGED};
