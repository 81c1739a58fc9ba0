//! What a tracer hears of its tracees: SIGCHLD, and the results of wait4 and waitid.

use super::*;
use scribe_kernel::signal::{Action, SIG_IGN};
use scribe_syscalls::{Call, Row};

/// The kernel does not let us send a siginfo with a code of its own. So codes of SIGCHLD
/// (`CLD_*`) are sent as this minus the code, and put right when the signal comes up.
const CLD_BASE: i32 = -0x5c1b_e000;
/// Where a siginfo has the process that it is about, and a word that one of SIGCHLD does not use: the
/// kernel clears the first where we send it into a pid namespace.
const PID: std::ops::Range<usize> = 16..20;
const SPARE: std::ops::Range<usize> = 28..32;
/// `__WNOTHREAD`: children of this thread only; include/uapi/linux/wait.h.
const WNOTHREAD: i32 = 0x2000_0000;

/// A siginfo with its first fields: kernel/signal.c, SIL_KILL and SIL_CHLD.
pub(super) fn siginfo(signal: i32, code: i32, pid: Tid, uid: u32, status: i32) -> [u8; 128] {
    let mut info = [0; 128];
    info[..4].copy_from_slice(&signal.to_le_bytes());
    info[8..12].copy_from_slice(&code.to_le_bytes());
    info[16..20].copy_from_slice(&pid.to_le_bytes());
    info[20..24].copy_from_slice(&uid.to_le_bytes());
    info[24..28].copy_from_slice(&status.to_le_bytes());
    info
}

/// A siginfo of a fault at `addr`.
pub(super) fn fault_info(signal: i32, code: i32, addr: u64) -> [u8; 128] {
    let mut info = [0; 128];
    info[..4].copy_from_slice(&signal.to_le_bytes());
    info[8..12].copy_from_slice(&code.to_le_bytes());
    info[16..24].copy_from_slice(&addr.to_le_bytes());
    info
}

/// Whether this is what PTRACE_GETSIGINFO gives in an exit stop (kernel/signal.c, ptrace_do_notify).
pub(in crate::record) fn is_of_exit(info: &[u8; 128]) -> bool {
    si_code(info) == libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8
}

/// The siginfo as the program is to see it.
pub(in crate::record) fn honest_siginfo(signal: i32, info: &mut [u8; 128]) {
    let code = CLD_BASE.wrapping_sub(si_code(info));
    if signal == libc::SIGCHLD && (1..=6).contains(&code) {
        info[8..12].copy_from_slice(&code.to_le_bytes());
        info.copy_within(SPARE, PID.start);
        info[SPARE].fill(0);
    }
}

/// The same for what a signalfd gives (signalfd(2), struct signalfd_siginfo).
pub(in crate::record) fn honest_signalfd(records: &[u8]) -> Vec<u8> {
    let mut out = records.to_vec();
    for record in out.chunks_exact_mut(128) {
        let word =
            |at: usize| i32::from_le_bytes(record[at..at + 4].try_into().unwrap_or_default());
        let code = CLD_BASE.wrapping_sub(word(8));
        if word(0) == libc::SIGCHLD && (1..=6).contains(&code) {
            // The sigval, in which we sent the status and, in its upper half, the process.
            let (status, pid) = (word(44), word(52));
            record[8..12].copy_from_slice(&code.to_le_bytes());
            record[12..16].copy_from_slice(&pid.to_le_bytes());
            record[40..44].copy_from_slice(&status.to_le_bytes());
            record[44..56].fill(0);
        }
    }
    out
}

/// Real user of a task.
pub(super) fn uid_of(tid: Tid) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{tid}")).map_or(0, |meta| meta.uid())
}

/// Whether the call is wait4 or waitid.
pub(super) fn is_wait(call: &Call) -> bool {
    [libc::SYS_wait4, libc::SYS_waitid].contains(&i64::from(call.nr))
}

/// Whether the call is a wait for what has ended already. A process that ends is seen by a pidfd before its parent
/// may wait for it: that waits until its tracer has done so. With a pidfd that does not block no option says so.
pub(in crate::record) fn finds_ended(call: &Call) -> bool {
    let by_pidfd = |wait: &Wait| wait.by_id && call.args[0] as u32 == libc::P_PIDFD;
    Wait::of(call).is_some_and(|wait| !wait.hangs() || by_pidfd(&wait))
}

/// Whom a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Any,
    Task(Tid),
    Group(Tid),
    Nobody,
}

/// A call of wait4 or waitid, taken apart.
#[derive(Clone, Copy, Debug)]
struct Wait {
    whom: Whom,
    options: i32,
    by_id: bool,
    /// Where the status (wait4) or siginfo (waitid) goes, and the rusage; 0: nowhere.
    out: u64,
    rusage: u64,
}

impl Wait {
    fn of(call: &Call) -> Option<Wait> {
        if !is_wait(call) {
            return None;
        }
        let [first, second, third, fourth, fifth, _] = call.args;
        if i64::from(call.nr) == libc::SYS_wait4 {
            let whom = match first as i32 {
                -1 => Whom::Any,
                0 => Whom::Group(0),
                pid if pid < 0 => Whom::Group(pid.wrapping_neg()),
                pid => Whom::Task(pid),
            };
            return Some(Wait {
                whom,
                options: third as i32,
                by_id: false,
                out: second,
                rusage: fourth,
            });
        }
        let whom = match first as u32 {
            libc::P_ALL => Whom::Any,
            libc::P_PID => Whom::Task(second as i32),
            libc::P_PGID => Whom::Group(second as i32),
            _ => Whom::Nobody,
        };
        Some(Wait {
            whom,
            options: fourth as i32,
            by_id: true,
            out: third,
            rusage: fifth,
        })
    }

    fn hangs(&self) -> bool {
        self.options & libc::WNOHANG == 0
    }

    fn wants_ends(&self) -> bool {
        !self.by_id || self.options & libc::WEXITED != 0
    }
}

/// What a wait is answered with.
struct Report {
    tid: Tid,
    /// What the task that waits knows it by.
    seen: Tid,
    status: i32,
    uid: u32,
}

/// `si_code` and `si_status` of waitid for a status (kernel/exit.c, wait_task_stopped,
/// wait_task_zombie).
fn child_code(status: i32) -> (i32, i32) {
    match status {
        s if s & 0xff == 0x7f => (libc::CLD_TRAPPED, s >> 8),
        s if s & 0x7f == 0 => (libc::CLD_EXITED, s >> 8 & 0xff),
        s if s & 0x80 != 0 => (libc::CLD_DUMPED, s & 0x7f),
        s => (libc::CLD_KILLED, s & 0x7f),
    }
}

impl Recorder {
    /// Whether a wait of the task `id` asks for this one, which it knows by `seen`.
    fn asks_for(&self, id: u32, wait: Wait, tid: Tid, seen: Tid) -> bool {
        // SAFETY: calls without pointers.
        let group = |of: Tid| unsafe { libc::getpgid(of) };
        match wait.whom {
            Whom::Any => true,
            Whom::Task(pid) => pid == seen,
            Whom::Group(0) => group(tid) == group(self.task(id).tgid),
            Whom::Group(wanted) => self.group_seen_by(id, tid) == wanted,
            Whom::Nobody => false,
        }
    }

    /// Tells a tracer that its tracee has stopped.
    pub(super) fn notify_stop(&mut self, id: u32) {
        let Some(tracee) = self.ptrace.tracees.get(&id) else {
            return;
        };
        let Some(halt) = tracee.halt.as_ref().filter(|_| tracee.after.is_none()) else {
            return;
        };
        let code = match halt.cause {
            Cause::Group(_) | Cause::Event(EVENT_STOP) => libc::CLD_STOPPED,
            _ => libc::CLD_TRAPPED,
        };
        let (tracer, status) = (tracee.tracer, halt.cause.code(tracee) & 0x7f);
        let tid = self.task(id).tid;
        let seen = self.seen_by(tracer, tid);
        let info = siginfo(libc::SIGCHLD, code, seen, uid_of(tid), status);
        self.notify(tracer, info, true);
    }

    /// Tells a tracer that its tracee, which it knows by `seen`, has ended.
    pub(super) fn notify_end(&mut self, tracer: u32, seen: Tid, status: i32, uid: u32) {
        let (code, status) = child_code(status);
        let info = siginfo(libc::SIGCHLD, code, seen, uid, status);
        self.notify(tracer, info, false);
    }

    /// kernel/signal.c, do_notify_parent_cldstop and do_notify_parent.
    fn notify(&mut self, tracer: u32, mut info: [u8; 128], stop: bool) {
        let Some(task) = self.tasks.get(&tracer) else {
            return;
        };
        let tgid = task.tgid;
        let sighand = task.sighand.borrow();
        let sigchld = libc::SIGCHLD as u32;
        let disposition = sighand.get(sigchld).copied().unwrap_or_default();
        let handled = matches!(sighand.what_to_do(sigchld), Action::Handler(_));
        let unwanted = disposition.handler == SIG_IGN
            || stop && disposition.flags & libc::SA_NOCLDSTOP as u64 != 0;
        drop(sighand);
        let waits = |task: &Task| {
            let call = task.call.as_ref();
            let mask = call
                .and_then(|call| call.temporary_mask)
                .unwrap_or(task.mask);
            task.mask & 1 << (sigchld - 1) != 0 || mask & 1 << (sigchld - 1) != 0
        };
        let group = self.tasks.values().filter(|task| task.tgid == tgid);
        // Nobody sees one that is neither handled nor blocked.
        if !unwanted && (handled || group.clone().any(|task| waits(task))) {
            let code = CLD_BASE.wrapping_sub(si_code(&info));
            info[8..12].copy_from_slice(&code.to_le_bytes());
            info.copy_within(PID, SPARE.start);
            // SAFETY: the siginfo is valid; kernel/signal.c allows negative codes to anybody.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigqueueinfo,
                    tgid,
                    libc::SIGCHLD,
                    info.as_ptr(),
                );
            }
        }
        let waiting: Vec<Tid> = group
            .filter(|task| task.state == State::InCall)
            .filter(|task| {
                task.call
                    .as_ref()
                    .is_some_and(|call| self.has_report(task.id, &call.call))
            })
            .map(|task| task.tid)
            .collect();
        for tid in waiting {
            // One that is gone needs no answer.
            let _ = self.machine.fetch(tid);
        }
    }

    /// The tracees that a wait asks for.
    fn waited_for(&self, id: u32, wait: Wait) -> impl Iterator<Item = (u32, &Tracee)> {
        let by = self.tasks.get(&id).map_or(0, |task| task.tgid);
        let tgid = move |id: u32| self.tasks.get(&id).map(|task| task.tgid);
        let mine = move |tracer: u32| {
            tracer == id || wait.options & WNOTHREAD == 0 && tgid(tracer) == Some(by)
        };
        self.ptrace
            .tracees
            .iter()
            .filter(move |(_, tracee)| !tracee.detached && mine(tracee.tracer))
            .filter(move |(target, _)| {
                let task = self.tasks.get(target);
                task.is_some_and(|task| {
                    self.asks_for(id, wait, task.tid, self.seen_by(id, task.tid))
                })
            })
            .map(|(id, tracee)| (*id, tracee))
    }

    /// Whether the wait can be answered now.
    pub(in crate::record) fn has_report(&self, id: u32, call: &Call) -> bool {
        let Some(wait) = Wait::of(call) else {
            return false;
        };
        self.ended_report(id, wait).is_some() || self.stop_report(id, wait).is_some()
    }

    fn ended_report(&self, id: u32, wait: Wait) -> Option<usize> {
        let tgid = self.task(id).tgid;
        self.ptrace.ended.iter().position(|ended| {
            ended.tracer == tgid
                && wait.wants_ends()
                && self.asks_for(id, wait, ended.tid, ended.seen)
        })
    }

    fn stop_report(&self, id: u32, wait: Wait) -> Option<u32> {
        self.waited_for(id, wait)
            .find(|(id, tracee)| {
                let halt = tracee.halt.as_ref();
                let halt = halt.filter(|halt| !halt.reported && tracee.after.is_none());
                halt.is_some_and(|halt| !self.is_killed(*id, halt))
            })
            .map(|(id, _)| id)
    }

    /// Whether a tracee that stood still was killed, and is on its way out.
    pub(super) fn is_killed(&self, id: u32, halt: &Halt) -> bool {
        let tid = self.task(id).tid;
        match self
            .machine
            .stopped(tid)
            .and_then(|stopped| stopped.siginfo())
        {
            Ok(info) => halt.place != Place::Exit && is_of_exit(&info),
            Err(error) => matches!(error, scribe_tracee::Error::Gone),
        }
    }

    /// Puts right what the kernel wrote for a call that took a signal.
    pub(in crate::record) fn honest_output(&self, id: u32, call: &Call, ret: i64) -> Result<()> {
        let mem = &self.task(id).space.mem;
        // Signals that were taken from the kernel, as it cannot block them for us, are pending, too.
        if i64::from(call.nr) == libc::SYS_rt_sigpending && ret == 0 {
            let task = self.task(id);
            let held = (task.stash.pending().0 & task.mask).to_le_bytes();
            let mut set = [0; 8];
            let set = &mut set[..call.args[1].min(8) as usize];
            mem.read(call.args[0], set)?;
            for (byte, held) in set.iter_mut().zip(held) {
                *byte |= held;
            }
            return Ok(mem.write(call.args[0], set)?);
        }
        let at = call.args[1];
        if i64::from(call.nr) != libc::SYS_rt_sigtimedwait || at == 0 {
            return Ok(());
        }
        let mut info = [0; 128];
        if ret == i64::from(libc::SIGCHLD) && mem.read(at, &mut info).is_ok() {
            honest_siginfo(libc::SIGCHLD, &mut info);
            mem.write(at, &info)?;
        }
        Ok(())
    }

    fn take_report(&mut self, id: u32, wait: Wait) -> Option<Report> {
        let keep = wait.options & libc::WNOWAIT != 0;
        if let Some(at) = self.ended_report(id, wait) {
            let ended = match keep {
                true => self.ptrace.ended.get(at).cloned()?,
                false => self.ptrace.ended.remove(at)?,
            };
            return Some(Report {
                tid: ended.tid,
                seen: ended.seen,
                status: ended.status,
                uid: ended.uid,
            });
        }
        let stopped = self.stop_report(id, wait)?;
        let tid = self.task(stopped).tid;
        let tracee = self.ptrace.tracees.get_mut(&stopped)?;
        let code = tracee.halt.as_ref()?.cause.code(tracee);
        tracee.halt.as_mut()?.reported = !keep;
        Some(Report {
            tid,
            seen: self.seen_by(id, tid),
            status: code << 8 | 0x7f,
            uid: uid_of(tid),
        })
    }

    /// wait4 or waitid by a task that may be a tracer. `None`: it is the kernel's business alone.
    pub(in crate::record) fn tracer_waits(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
    ) -> Result<Option<()>> {
        let Some(wait) = Wait::of(&call) else {
            return Ok(None);
        };
        let Some(report) = self.take_report(id, wait) else {
            return Ok(None);
        };
        let pending = self.prepare(id, row, call, super::calls::Kind::Plain);
        self.answer_wait(id, pending, wait, &report).map(Some)
    }

    /// A wait that the kernel has answered, or that was broken off. `Some`: it goes on, or is
    /// answered, otherwise.
    pub(in crate::record) fn tracer_waited(
        &mut self,
        id: u32,
        mut pending: Box<PendingCall>,
    ) -> Result<Option<Box<PendingCall>>> {
        let Some(wait) = Wait::of(&pending.call) else {
            return Ok(Some(pending));
        };
        let broken = matches!(pending.ret, -516..=-512);
        let childless = pending.ret == -i64::from(libc::ECHILD);
        if broken && pending.agent_nr == libc::SYS_pause as u64 {
            // As the wait itself would have been.
            pending.ret = -512;
        }
        if (broken || childless)
            && let Some(report) = self.take_report(id, wait)
        {
            self.answer_wait(id, *pending, wait, &report)?;
            return Ok(None);
        }
        if childless && self.waited_for(id, wait).next().is_some() {
            if wait.hangs() {
                // Nothing of the kernel's own to wait for.
                pending.agent_nr = libc::SYS_pause as u64;
                self.launch(id, *pending)?;
                return Ok(None);
            }
            pending.ret = 0;
        }
        Ok(Some(pending))
    }

    fn answer_wait(
        &mut self,
        id: u32,
        pending: PendingCall,
        wait: Wait,
        report: &Report,
    ) -> Result<()> {
        let usage = rusage(report.tid);
        let status = report.status.to_le_bytes();
        let (code, of) = child_code(report.status);
        let info = siginfo(libc::SIGCHLD, code, report.seen, report.uid, of);
        let mut writes: Vec<(u64, &[u8])> = Vec::new();
        if wait.out != 0 && wait.by_id {
            // The fields that waitid writes one by one.
            writes.push((wait.out, &info[..12]));
            writes.push((wait.out + 16, &info[16..28]));
        } else if wait.out != 0 {
            writes.push((wait.out, &status));
        }
        if wait.rusage != 0 {
            writes.push((wait.rusage, &usage));
        }
        let ret = if wait.by_id {
            0
        } else {
            i64::from(report.seen)
        };
        self.answer_pending(id, pending, ret, &writes)
    }
}

/// `struct rusage` of a process, as far as /proc tells: times and page faults (proc(5), stat).
fn rusage(tid: Tid) -> [u8; 144] {
    let mut out = [0; 144];
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = rest
        .split(' ')
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    // Numbered from the third field on.
    let field = |n: usize| fields.get(n - 3).copied().unwrap_or(0);
    let ticks = [field(14) + field(16), field(15) + field(17)];
    let run = std::fs::read_to_string(format!("/proc/{tid}/schedstat")).unwrap_or_default();
    let run: u64 = run
        .split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(0);
    let us = run / 1000;
    // The kernel divides the exact time as the ticks are divided (cputime_adjust).
    let all = ticks[0] + ticks[1];
    let system = if ticks[0] == 0 {
        us
    } else {
        us * ticks[1] / all.max(1)
    };
    for (at, time) in [(0, us - system), (16, system)] {
        out[at..at + 8].copy_from_slice(&(time / 1_000_000).to_le_bytes());
        out[at + 8..at + 16].copy_from_slice(&(time % 1_000_000).to_le_bytes());
    }
    for (at, faults) in [(64, field(10) + field(11)), (72, field(12) + field(13))] {
        out[at..at + 8].copy_from_slice(&faults.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(nr: i64, args: [u64; 6]) -> Call {
        Call {
            nr: nr as u32,
            args,
        }
    }

    #[test]
    fn waits_are_taken_apart() {
        let any = Wait::of(&call(libc::SYS_wait4, [u64::MAX, 8, 1, 0, 0, 0]));
        let any = any.expect("it is a wait");
        assert_eq!((any.whom, any.out, any.hangs()), (Whom::Any, 8, false));
        let one = Wait::of(&call(libc::SYS_waitid, [1, 77, 16, 4, 0, 0]));
        let one = one.expect("it is a wait");
        assert_eq!(
            (one.whom, one.out, one.wants_ends()),
            (Whom::Task(77), 16, true)
        );
        assert!(Wait::of(&call(libc::SYS_read, [0; 6])).is_none());
    }

    #[test]
    fn codes_come_back() {
        let mut info = siginfo(
            libc::SIGCHLD,
            CLD_BASE.wrapping_sub(libc::CLD_TRAPPED),
            5,
            0,
            19,
        );
        honest_siginfo(libc::SIGCHLD, &mut info);
        assert_eq!(si_code(&info), libc::CLD_TRAPPED);
        let before = info;
        honest_siginfo(libc::SIGUSR1, &mut info);
        assert_eq!(info, before);
    }
}
