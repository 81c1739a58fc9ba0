//! A call on the slow path: from the trap at the application's instruction, through the agent's
//! instruction, to the event in the log.

use super::placing::Outputs;
use super::*;
use crate::state::{Pages, for_pieces, input_hash};
use scribe_syscalls::{Block, Call, Class, Dir, Memory, Plan, Row};
use scribe_tracee::inject::{call_args, call_regs};

/// Outputs longer than this are written as `Data` records of this length before the event.
const OUT_PIECE: usize = 1 << 20;
/// Of the flags register; `syscall` leaves a copy of that in r11.
const TRAP_FLAG: u64 = 1 << 8;
/// How much of each input is kept in the log, from level 1 and from level 2 on.
pub(super) const INPUT_KEPT: [u64; 3] = [0, 512, 65536];

/// A call between its trap and its event.
pub struct PendingCall {
    pub row: &'static Row,
    pub call: Call,
    pub plan: Plan,
    /// Where each buffer of the plan lies during the call.
    pub placed: Vec<u64>,
    /// The call as the agent makes it.
    pub agent_nr: u64,
    pub agent_args: [u64; 6],
    pub hash: u32,
    /// It may wait for something that others do.
    pub may_block: bool,
    /// The token was given up.
    pub released: bool,
    pub ret: i64,
    /// How many waiting tasks it has woken without the kernel.
    pub woken: u32,
    /// Something interrupted it, and it went on.
    pub interrupted: bool,
    /// When it began.
    pub started: Instant,
    /// Place among all writes to the recording's terminal.
    pub serial: Option<u64>,
    /// Signals allowed during the call, where it installs a mask of its own.
    pub temporary_mask: Option<u64>,
    pub inputs: Vec<(u64, u64, Vec<u8>)>,
    pub kind: Kind,
}

/// What is to be done with the result, beside writing the event.
#[derive(Clone, Debug, Default)]
pub enum Kind {
    /// Nothing.
    #[default]
    Plain,
    /// The result is this, whatever the kernel said (if it was asked at all: the call was a way to
    /// let pending signals come up); memory was written already: address and length.
    Answer { ret: i64, wrote: Option<(u64, u64)> },
    /// rt_sigreturn: these registers instead of the call's.
    Sigreturn(Box<Regs>),
    /// mmap and its kin: note what is mapped.
    Mapped {
        fd: Option<i32>,
        offset: u64,
        len: u64,
        prot: u32,
        flags: u32,
    },
    /// brk.
    Brk,
    /// shmat.
    Shmat,
    /// A new task: it is written with the event.
    Spawn(Option<scribe_log::Spawn>),
    /// execve that may fail.
    Exec,
    /// The task waits for something that the engine does in place of the kernel.
    Parked,
    /// Calls that map or unmap the ring of asynchronous I/O.
    Ring(scribe_log::MapInfo),
}

impl Kind {
    /// mmap.
    pub(super) fn mapped(call: &Call) -> Kind {
        let [_, len, prot, flags, fd, offset] = call.args;
        let anonymous = flags as i32 & libc::MAP_ANONYMOUS != 0;
        Kind::Mapped {
            fd: (!anonymous).then_some(fd as i32),
            offset,
            len,
            prot: prot as u32,
            flags: flags as u32,
        }
    }
}

impl Recorder {
    /// The task stands behind its `syscall` instruction, which was not executed.
    pub(super) fn syscall_entry(&mut self, id: u32, emulated_stop: bool) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let mut regs = self.machine.stopped(task.tid)?.regs()?;
        if emulated_stop {
            regs.rax = regs.orig_rax;
        }
        regs.orig_rax = u64::MAX;
        if self.ptrace.steps(id) || task.run.stepped {
            // The call saw the trap flag, which belongs to its tracer, or to us.
            regs.r11 &= !TRAP_FLAG;
        }
        task.app = regs;
        if !emulated_stop {
            self.patch_place(id, regs.rip.wrapping_sub(2))?;
        }
        self.call_at(id, regs)
    }

    /// The task stands behind its call with these registers.
    pub(super) fn call_at(&mut self, id: u32, regs: Regs) -> Result<()> {
        let task = self.task_mut(id);
        (task.app, task.broken) = (regs, 0);
        self.patch_learnt(id)?;
        let task = self.task(id);
        if task.stash.next(Mask(task.mask)).is_some() || self.stops_before_call(id) {
            return self.abort_call(id);
        }
        if self.traced(id) {
            self.unpatch_before_call(id, 0, u64::MAX)?;
            if self.entry_stop(id)? {
                return Ok(());
            }
        }
        self.dispatch(id)
    }

    /// Starts the call whose registers are in `app`.
    pub(super) fn dispatch(&mut self, id: u32) -> Result<()> {
        if self.hold(id, Ready::Dispatch, Left::InCall) {
            return Ok(());
        }
        let task = self.task(id);
        let call = Call {
            nr: task.app.rax as u32,
            args: call_args(&task.app),
        };
        if let Some(done) = self.seccomp_gate(id, &call)? {
            return done;
        }
        let lane = &self.lanes[&self.task(id).lane];
        lane.area.look.store(0, Relaxed);
        self.checksum(id, false);
        let Some(row) = scribe_syscalls::lookup(&call) else {
            if scribe_syscalls::unknown_is_enosys(call.nr) {
                let name = scribe_syscalls::syscall_name(call.nr).unwrap_or("unknown");
                self.warn_once(format!(
                    "system call {} ({name}) is answered with ENOSYS",
                    call.nr
                ));
                return self.answer_unknown(id, call, -i64::from(libc::ENOSYS));
            }
            if i64::from(call.nr) == libc::SYS_ioctl {
                return self.start_call(id, &scribe_syscalls::UNKNOWN_IOCTL, call, Kind::Plain);
            }
            return Err(self.unknown_call(id, &call));
        };
        *self.stats.calls.entry(call.nr).or_default() += 1;
        if self.tracer_waits(id, row, call)?.is_some()
            || self.writes_memory(id, row, call)?.is_some()
        {
            return Ok(());
        }
        match row.class {
            Class::Refuse(_) if row.name == "rseq" && self.had_sequences(id) => {
                match self.note_sequences(id, &call) {
                    Ok((address, content)) => {
                        self.answer_with(id, row, call, 0, &[(address, &content)])
                    }
                    Err(errno) => self.answer(id, row, call, -i64::from(errno)),
                }
            }
            Class::Refuse(errno) => {
                // Every program with a recent libc asks for rseq; no need to tell.
                if row.name != "rseq" {
                    self.warn_once(format!(
                        "{} is not supported under Scribe and is refused with {}",
                        row.full_name(),
                        std::io::Error::from_raw_os_error(errno)
                    ));
                }
                self.answer(id, row, call, -i64::from(errno))
            }
            Class::Emulate if self.moves_to_terminal(id, row, &call) => {
                self.answer(id, row, call, -i64::from(libc::EINVAL))
            }
            Class::Emulate => self.start_call(id, row, call, Kind::Plain),
            Class::Execute => self.execute_call(id, row, call),
            Class::Special(special) => self.special(id, row, call, special),
        }
    }

    /// Prepares a call: what it reads, its hash, what of it is kept in the log.
    pub(super) fn prepare(
        &self,
        id: u32,
        row: &'static Row,
        call: Call,
        kind: Kind,
    ) -> PendingCall {
        let task = self.task(id);
        let mem = Pages::new(&task.space.mem);
        let plan = scribe_syscalls::plan(row, &call, &mem);
        let hash = input_hash(row, &call, &plan, &mem);
        let kept = match row.is_hook() {
            true => scribe_hooks::call::TEXT_MAX as u64,
            false => INPUT_KEPT[(self.options.level as usize).min(2)],
        };
        let inputs = plan
            .bufs
            .iter()
            .filter(|buf| buf.dir != Dir::Out && kept > 0)
            .map(|buf| {
                let mut bytes = vec![0; buf.cap.min(kept) as usize];
                let got = mem.read_some(buf.addr, &mut bytes);
                bytes.truncate(got);
                (buf.addr, buf.cap, bytes)
            });
        let inputs = inputs.collect();
        let placed = plan.bufs.iter().map(|buf| buf.addr).collect();
        PendingCall {
            row,
            call,
            plan,
            placed,
            agent_nr: call.nr.into(),
            agent_args: call.args,
            hash,
            may_block: false,
            released: false,
            ret: 0,
            woken: 0,
            interrupted: false,
            started: Instant::now(),
            serial: None,
            temporary_mask: None,
            inputs,
            kind,
        }
    }

    /// Makes a call whose only effects are its result and its output memory.
    pub(super) fn start_call(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        kind: Kind,
    ) -> Result<()> {
        self.note_changes(id, row, &call);
        let mut pending = self.prepare(id, row, call, kind);
        let (woken, enough) = self.wake_sleepers(id, row, &mut pending);
        if enough {
            return self.answer(id, row, call, woken.into());
        }
        pending.woken = woken;
        let may_block = match row.block {
            Block::Never => false,
            Block::May => true,
            Block::Fd(arg) => {
                let fd = call.args[arg as usize] as i32;
                self.fd_info(id, fd).is_none_or(|info| info.may_block)
            }
        };
        if super::ptrace::finds_ended(&call) {
            self.machine.collect()?;
        }
        let alone = self.lanes[&self.task(id).lane].members.len() == 1;
        let masked = pending.plan.bufs.iter().any(|buf| buf.sigmask);
        let writes = pending.plan.bufs.iter().any(|buf| buf.dir != Dir::In);
        let release = may_block && !alone;
        // What is edited, and perhaps read once more, is not to be seen before: a signal may come between.
        let edited = self.edits(id, &pending).is_some();
        pending.may_block = may_block;
        if masked || edited || (release && writes) {
            pending.released = self.move_outputs(id, &mut pending)? && release;
        } else {
            pending.released = release;
        }
        self.launch(id, pending)
    }

    /// Sends the task into the agent.
    pub(super) fn launch(&mut self, id: u32, mut pending: PendingCall) -> Result<()> {
        let broken = std::mem::take(&mut self.task_mut(id).broken);
        if broken != 0 {
            pending.ret = broken;
        }
        if self.has_report(id, &pending.call) {
            // Nothing to wait for.
            pending.ret = -512;
            self.task_mut(id).call = Some(Box::new(pending));
            return self.finish_call(id);
        }
        if self.shown_fd(id, &pending) != 0 {
            // One at a time, so that the order in the log is the order on the terminal.
            match self.terminal {
                Some(other) if other != id => {
                    let task = self.task_mut(id);
                    task.call = Some(Box::new(pending));
                    task.state = State::Ready(Ready::Relaunch);
                    self.terminal_waits.push_back(id);
                    return Ok(());
                }
                _ => self.terminal = Some(id),
            }
        }
        self.keep_no_more(id)?;
        let released = pending.released;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let regs = call_regs(&task.app, entry, pending.agent_nr, &pending.agent_args);
        task.call = Some(Box::new(pending));
        task.state = State::InCall;
        let tid = task.tid;
        self.machine.stopped(tid)?.set_regs(&regs)?;
        if released {
            self.release(id, Left::InCall);
        }
        self.machine.go(tid, Go::Agent, 0)?;
        Ok(())
    }

    /// The task is through with the terminal, or gone: the next one may write.
    pub(super) fn leave_terminal(&mut self, id: u32) {
        if self.terminal == Some(id) {
            self.terminal = None;
            if let Some(next) = self.terminal_waits.pop_front() {
                self.runnable.push_back(next);
            }
        } else {
            self.terminal_waits.retain(|other| *other != id);
        }
    }

    /// The call is over: the task stands behind the agent's `syscall`.
    pub(super) fn call_returned(&mut self, id: u32, regs: &Regs) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if task.vfork_wait {
            task.vfork_wait = false;
            task.call = None;
            self.want_token(id, Ready::Resume);
            return Ok(());
        }
        let ret = self.unless_for_nothing(id, regs.rax as i64);
        let shown = self.terminal == Some(id) && ret > 0;
        self.serial += u64::from(shown);
        let serial = shown.then_some(self.serial);
        if let Some(call) = &mut self.task_mut(id).call {
            call.ret = match ret {
                0.. => ret + i64::from(call.woken),
                _ => ret,
            };
            call.serial = serial.or(call.serial);
        }
        self.leave_terminal(id);
        if self.holds_token(id) {
            return self.finish_call(id);
        }
        self.want_token(id, Ready::FinishCall);
        Ok(())
    }

    /// Writes the event of a call that is over, with the token held, and lets the task go on.
    pub(super) fn finish_call(&mut self, id: u32) -> Result<()> {
        // It waits for its bookmark, and comes out of a group stop.
        if self.keep_asker(id) {
            return Ok(());
        }
        let Some(pending) = self.task_mut(id).call.take() else {
            return self.settle(id);
        };
        if matches!(pending.kind, Kind::Parked) {
            return self.unpark(id, pending);
        }
        let Some(mut pending) = self.tracer_waited(id, pending)? else {
            return Ok(());
        };
        if matches!(pending.ret, -516..=-512) && !matches!(pending.kind, Kind::Sigreturn(_)) {
            if self.traced(id) {
                return self.traced_interrupted(id, pending);
            }
            return self.interrupted(id, pending);
        }
        if let Some(into) = self.other_lane(id, &pending) {
            // The event belongs to the order of those who share the memory.
            self.task_mut(id).call = Some(pending);
            return self.merge_lanes(id, into);
        }
        let ret = match &pending.kind {
            Kind::Answer { ret, .. } => *ret,
            Kind::Sigreturn(regs) => regs.rax as i64,
            _ => pending.ret,
        };
        pending.ret = ret;
        if std::ptr::eq(pending.row, &scribe_syscalls::UNKNOWN_IOCTL) {
            return self.finish_unknown(id, &pending);
        }
        if self.reads_own_maps(id, &pending) {
            if matches!(pending.row.effect, scribe_syscalls::Effect::ReadsAt(_)) {
                pending.agent_args[3] += ret as u64;
            }
            return self.launch(id, *pending);
        }
        self.show_cpus(id, &pending)?;
        let outputs = self.collect(id, &mut pending)?;
        let ret = pending.ret;
        self.write_call(id, &pending, &outputs, ret, 0)?;
        let temporary = pending
            .temporary_mask
            .filter(|_| ret == -i64::from(libc::EINTR));
        let task = self.tasks.get_mut(&id).expect("the task exists");
        match &pending.kind {
            Kind::Sigreturn(regs) => task.app = **regs,
            _ => task.app.rax = ret as u64,
        }
        self.after_call(id, &pending)?;
        if !(-4095..0).contains(&ret) {
            self.patch_mapped(id, &pending.kind, ret as u64)?;
            self.pin_maker_of_code(id, &pending.call);
        }
        self.settle_masked(id, temporary)
    }

    /// A process that maps code which nobody has searched stays on one CPU where CPUID does not trap.
    fn pin_maker_of_code(&mut self, id: u32, call: &Call) {
        if !self.machine.cpuid_faults && crate::pin::maps_unknown_code(call.nr, &call.args) {
            let space = self.task(id).space.clone();
            let tasks = self.tasks.values();
            let own = tasks.filter(|task| Rc::ptr_eq(&task.space, &space));
            space.pin(own.map(|task| task.tid));
        }
    }

    /// The program sees the CPUs that it would have if it were not kept on one.
    fn show_cpus(&self, id: u32, pending: &PendingCall) -> Result<()> {
        let nr = i64::from(pending.call.nr);
        let known = [libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity];
        if !known.contains(&nr) || pending.ret < 0 {
            return Ok(());
        }
        let whose = match pending.call.args[0] as Tid {
            0 => Some(&id),
            tid => self.by_tid.get(&tid),
        };
        let Some(whose) = whose.and_then(|whose| self.tasks.get(whose)) else {
            return Ok(());
        };
        if nr == libc::SYS_sched_setaffinity {
            whose.space.pin_again(whose.tid);
            return Ok(());
        }
        let shown = whose.space.shown_cpus();
        if let (Some(mut shown), Some(at)) = (shown, pending.placed.first()) {
            shown.truncate(pending.ret as usize);
            self.task(id).space.mem.write(*at, &shown)?;
        }
        Ok(())
    }

    /// Writes one call event.
    pub(super) fn write_call(
        &mut self,
        id: u32,
        pending: &PendingCall,
        outputs: &Outputs,
        ret: i64,
        flags: u8,
    ) -> Result<()> {
        let shown = self.terminal_flags(id, pending, ret);
        let desc = self.describe_fds(id, pending);
        let space = self.task(id).space.clone();
        let lane = self.task(id).lane;
        let spawn = match pending.kind {
            Kind::Spawn(spawn) => spawn,
            _ => None,
        };
        let map = self.map_of(id, pending, ret)?;
        let level = self.options.level;
        let serial = pending.serial;
        let elapsed = (level > 1).then(|| self.started.elapsed().as_nanos() as u64);
        let regs = self.options.registers.then_some(self.task(id).app);
        let in_file = self.in_system_file(id, pending, &outputs.ranges);
        let inline: &[_] = if in_file.is_some() {
            &[]
        } else {
            &outputs.ranges
        };
        for (addr, _, len) in inline.iter().filter(|range| range.2 > OUT_PIECE as u64) {
            let (log, stats) = (&mut self.log, &mut self.stats);
            for_pieces(&space.mem, *addr, *len, |at, piece| {
                stats.events += 1;
                log.append(lane, |buf| {
                    Record::Data {
                        addr: at,
                        bytes: piece.into(),
                    }
                    .encode(buf)
                });
                log.maybe_flush();
            });
        }
        self.stats.events += 1;
        let mut bytes = Vec::new();
        self.log.append(lane, |buf| {
            let nr = pending.call.nr as u16;
            let mut event = scribe_log::begin_syscall(buf, nr, ret, pending.hash, flags | shown);
            if let (Some((file, offset)), [(addr, _, len)]) = (in_file, &outputs.ranges[..]) {
                event.file_out(*addr, offset, *len, file);
            }
            for (addr, _, len) in inline {
                if *len <= OUT_PIECE as u64 {
                    bytes.resize(*len as usize, 0);
                    if space.mem.read(*addr, &mut bytes).is_ok() {
                        event.out(*addr, &bytes);
                    }
                }
            }
            if level > 0 || pending.row.is_hook() {
                event.args(&pending.call.args);
                for (addr, len, bytes) in &pending.inputs {
                    event.input(*addr, *len, bytes);
                }
            }
            for (fd, text) in &desc {
                event.desc(*fd, text);
            }
            if let Some(serial) = serial {
                event.serial(serial);
            }
            if let Some(elapsed) = elapsed {
                event.time(elapsed);
            }
            if let Some(spawn) = &spawn {
                event.spawn(spawn);
            }
            if let Some(map) = &map {
                event.map(map);
            }
            if let Some(regs) = &regs {
                event.regs(&crate::regs::words(regs));
            }
            event.finish();
        });
        self.log.maybe_flush();
        Ok(())
    }

    /// Writes the event of a call that the kernel has carried out, without going on.
    pub(super) fn write_finished(&mut self, id: u32, pending: &mut PendingCall) -> Result<()> {
        let outputs = self.collect(id, pending)?;
        self.write_call(id, pending, &outputs, pending.ret, 0)
    }

    /// Writes the event of a call that was not carried out.
    pub(super) fn write_blocked(&mut self, id: u32, pending: &PendingCall, ret: i64) -> Result<()> {
        let flags = scribe_log::flags::BLOCKED;
        self.write_call(id, pending, &Outputs { ranges: Vec::new() }, ret, flags)
    }
}
