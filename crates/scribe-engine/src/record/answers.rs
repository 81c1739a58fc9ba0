//! Calls that are answered without the kernel, or whose meaning nobody knows.

use super::calls::{Kind, PendingCall};
use super::placing::Outputs;
use super::*;
use scribe_syscalls::{Call, Row};

impl Recorder {
    /// Answers a call without the kernel.
    pub(super) fn answer(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        ret: i64,
    ) -> Result<()> {
        let mut pending = self.prepare(id, row, call, Kind::Answer { ret, wrote: None });
        pending.ret = ret;
        self.write_answer(id, pending)
    }

    /// Answers a call without the kernel, with memory that was already written.
    pub(super) fn answer_with(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        ret: i64,
        writes: &[(u64, &[u8])],
    ) -> Result<()> {
        let pending = self.prepare(id, row, call, Kind::Answer { ret, wrote: None });
        self.answer_pending(id, pending, ret, writes)
    }

    /// The same for what the call writes to the caller's memory whatever that is for, as a write to
    /// `/proc/PID/mem` does.
    pub(super) fn answer_forced(
        &mut self,
        id: u32,
        row: &'static Row,
        call: Call,
        ret: i64,
        writes: &[(u64, Vec<u8>)],
    ) -> Result<()> {
        let mut pending = self.prepare(id, row, call, Kind::Answer { ret, wrote: None });
        pending.ret = ret;
        for (addr, bytes) in writes {
            self.task(id).space.mem.write(*addr, bytes)?;
        }
        let ranges = writes
            .iter()
            .map(|(addr, bytes)| (*addr, *addr, bytes.len() as u64))
            .collect();
        self.write_call(id, &pending, &Outputs { ranges }, ret, 0)?;
        self.task_mut(id).app.rax = ret as u64;
        self.settle(id)
    }

    /// The same for a call that is in progress.
    pub(super) fn answer_pending(
        &mut self,
        id: u32,
        mut pending: PendingCall,
        ret: i64,
        writes: &[(u64, &[u8])],
    ) -> Result<()> {
        pending.ret = ret;
        for (addr, bytes) in writes {
            if !self.write_for(id, *addr, bytes) {
                pending.ret = -i64::from(libc::EFAULT);
                pending.kind = Kind::Answer {
                    ret: pending.ret,
                    wrote: None,
                };
                return self.write_answer(id, pending);
            }
        }
        let ranges = writes
            .iter()
            .map(|(addr, bytes)| (*addr, *addr, bytes.len() as u64))
            .collect();
        self.write_call(id, &pending, &Outputs { ranges }, pending.ret, 0)?;
        self.task_mut(id).app.rax = pending.ret as u64;
        self.settle(id)
    }

    /// Reads what a call is given in a task's memory; false where the kernel could not read it for the
    /// task.
    pub(super) fn read_for(&self, id: u32, addr: u64, buf: &mut [u8]) -> bool {
        let task = self.task(id);
        match scribe_tracee::read_as_allowed(task.tid, addr, buf) {
            Err(libc::EFAULT) => false,
            Err(_) => task.space.mem.read(addr, buf).is_ok(),
            Ok(()) => true,
        }
    }

    /// The same for a word.
    pub(super) fn word_for(&self, id: u32, addr: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.read_for(id, addr, &mut word)
            .then(|| u64::from_le_bytes(word))
    }

    /// Writes to a task's memory what a call gives it; false where the kernel could not write for it.
    pub(super) fn write_for(&self, id: u32, addr: u64, bytes: &[u8]) -> bool {
        let task = self.task(id);
        // Unlike /proc/PID/mem this minds what the pages are for.
        match scribe_tracee::write_as_allowed(task.tid, addr, bytes) {
            Err(libc::EFAULT) => false,
            Err(_) => task.space.mem.write(addr, bytes).is_ok(),
            Ok(()) => true,
        }
    }

    pub(super) fn write_answer(&mut self, id: u32, pending: PendingCall) -> Result<()> {
        let ret = pending.ret;
        self.write_call(id, &pending, &Outputs { ranges: Vec::new() }, ret, 0)?;
        self.task_mut(id).app.rax = ret as u64;
        self.settle(id)
    }

    /// A command of ioctl that nobody knows was tried. Most are asked of a file of another kind, whose
    /// driver does not know them either: then nothing happened. Otherwise memory may have changed.
    pub(super) fn finish_unknown(&mut self, id: u32, pending: &PendingCall) -> Result<()> {
        let refused = [
            libc::ENOTTY,
            libc::EBADF,
            libc::EINVAL,
            libc::EOPNOTSUPP,
            libc::ENODEV,
            libc::ENXIO,
            libc::EPERM,
            libc::EACCES,
            libc::EFAULT,
        ];
        if refused
            .iter()
            .all(|error| pending.ret != -i64::from(*error))
        {
            return Err(self.unknown_call(id, &pending.call));
        }
        self.answer_unknown(id, pending.call, pending.ret)
    }

    pub(super) fn unknown_call(&self, id: u32, call: &Call) -> RecordError {
        RecordError::UnknownCall {
            pid: self.task(id).tgid,
            name: describe_unknown(call),
        }
    }

    /// Answers a call that has no row; only its number is verified at replay.
    pub(super) fn answer_unknown(&mut self, id: u32, call: Call, ret: i64) -> Result<()> {
        let lane = self.task(id).lane;
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            scribe_log::begin_syscall(buf, call.nr as u16, ret, 0, 0).finish();
        });
        self.task_mut(id).app.rax = ret as u64;
        self.settle(id)
    }
}

/// Name for a call without a row: of the call, and its command.
fn describe_unknown(call: &Call) -> String {
    let name = scribe_syscalls::syscall_name(call.nr).unwrap_or("system call");
    let command = if i64::from(call.nr) == libc::SYS_futex || name == "ioctl" || name == "fcntl" {
        call.args[1]
    } else {
        call.args[0]
    };
    format!("{name} ({}), command {command:#x}", call.nr)
}
