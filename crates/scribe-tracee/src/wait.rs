//! Waiting for traced tasks, and what a wait status says.

use crate::{Error, Result, Tid};

/// What a ptrace event stop is about (`PTRACE_EVENT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// fork made a child.
    Fork,
    /// vfork made a child.
    Vfork,
    /// clone made a child.
    Clone,
    /// The parent of a vfork goes on.
    VforkDone,
    /// A new program was loaded.
    Exec,
    /// About to end.
    Exit,
    /// Group stop, or the first stop of a new task, with the stop signal.
    Stop(i32),
}

/// Why a task stopped or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// About to receive a signal.
    Signal(i32),
    /// Entry to or exit from a call.
    Syscall,
    /// A ptrace event.
    Event(Event),
    /// Ended by exit, with this status.
    Exited(i32),
    /// Killed by this signal; true with a core dump.
    Killed(i32, bool),
    /// Continued; of no interest to a tracer.
    Continued,
}

/// One report of `wait4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitEvent {
    /// Whom it is about.
    pub tid: Tid,
    /// What happened.
    pub stop: Stop,
    /// The raw wait status.
    pub status: i32,
}

impl WaitEvent {
    /// Whether the task is now in a ptrace stop.
    pub fn is_stop(&self) -> bool {
        matches!(self.stop, Stop::Signal(_) | Stop::Syscall | Stop::Event(_))
    }

    /// Decodes a wait status; ptrace(2).
    pub fn decode(tid: Tid, status: i32) -> WaitEvent {
        let stop = if libc::WIFEXITED(status) {
            Stop::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Stop::Killed(libc::WTERMSIG(status), libc::WCOREDUMP(status))
        } else if libc::WIFSTOPPED(status) {
            let signal = libc::WSTOPSIG(status);
            match status >> 16 {
                0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
                0 => Stop::Signal(signal),
                libc::PTRACE_EVENT_FORK => Stop::Event(Event::Fork),
                libc::PTRACE_EVENT_VFORK => Stop::Event(Event::Vfork),
                libc::PTRACE_EVENT_CLONE => Stop::Event(Event::Clone),
                libc::PTRACE_EVENT_VFORK_DONE => Stop::Event(Event::VforkDone),
                libc::PTRACE_EVENT_EXEC => Stop::Event(Event::Exec),
                libc::PTRACE_EVENT_EXIT => Stop::Event(Event::Exit),
                _ => Stop::Event(Event::Stop(signal)),
            }
        } else {
            Stop::Continued
        };
        WaitEvent { tid, stop, status }
    }
}

/// Waits for `tid`, or for any task with -1. `None`: a signal came (with `block`), or nothing is there
/// to report (without). `Gone`: nothing left to wait for.
pub fn wait(tid: Tid, block: bool) -> Result<Option<WaitEvent>> {
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    let got = unsafe { libc::waitpid(tid, &mut status, flags) };
    if got > 0 {
        return Ok(Some(WaitEvent::decode(got, status)));
    }
    if got == 0 {
        return Ok(None);
    }
    let source = std::io::Error::last_os_error();
    match source.raw_os_error() {
        Some(libc::EINTR) => Ok(None),
        Some(libc::ECHILD) => Err(Error::Gone),
        _ => Err(Error::Os {
            what: "waitpid",
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_decode() {
        assert_eq!(WaitEvent::decode(1, 0x0300).stop, Stop::Exited(3));
        assert_eq!(WaitEvent::decode(1, 9).stop, Stop::Killed(9, false));
        assert_eq!(WaitEvent::decode(1, 0x8b).stop, Stop::Killed(11, true));
        assert_eq!(WaitEvent::decode(1, 0x057f).stop, Stop::Signal(5));
        assert_eq!(WaitEvent::decode(1, 0x857f).stop, Stop::Syscall);
        assert_eq!(WaitEvent::decode(1, 0x4057f).stop, Stop::Event(Event::Exec));
        assert_eq!(
            WaitEvent::decode(1, 0x80137f).stop,
            Stop::Event(Event::Stop(19))
        );
        assert_eq!(WaitEvent::decode(1, 0xffff).stop, Stop::Continued);
    }
}
