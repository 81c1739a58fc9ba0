//! What is said when a replay does something other than the recording.

use super::*;
use scribe_tracee::maps;

/// In which way.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Another call.
    OtherCall {
        /// What the program called.
        call: Call,
        /// Number of the recorded call.
        expected: u32,
    },
    /// The same call, with other arguments or input.
    Arguments {
        /// What the program called.
        call: Call,
    },
    /// Something of another kind than the record says.
    OtherRecord(SyncPoint),
    /// It should have given way to another task.
    RanOn,
    /// Registers differ at a sync point.
    Registers,
    /// Memory differs at a sync point.
    Memory,
    /// It came to its next sync point without having been in the state of a forced stop.
    Missed,
    /// A signal's handler is not there, or its frame has no room.
    NoHandler(i32),
    /// A signal frame cannot be read.
    BadFrame,
    /// A call that is repeated at replay had another result.
    Repeated {
        /// Its number.
        nr: i64,
        /// The recorded result.
        expected: i64,
        /// The result at replay.
        got: i64,
    },
    /// The task ended by itself.
    Died(String),
}

/// A sync point, for messages.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncPoint {
    /// At a call.
    Call(Call),
    /// At a fault with this signal.
    Fault(i32),
    /// Behind one instruction.
    Step,
    /// At a trapped instruction.
    Instruction(&'static str),
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrame {
    /// Address of the instruction.
    pub addr: u64,
    /// File that is mapped there, and the offset in it.
    pub file: Option<(String, u64)>,
}

/// A replay that differs from its recording.
#[derive(Debug)]
pub struct Divergence {
    /// The task, by its number in the log.
    pub task: u32,
    /// Its thread id in the recording.
    pub tid: i32,
    /// Its lane.
    pub lane: u32,
    /// What happened.
    pub reason: Reason,
    /// The record that did not fit, encoded.
    pub expected: Option<Rc<[u8]>>,
    /// The last records of the task, encoded, oldest first.
    pub history: Vec<Rc<[u8]>>,
    /// Registers of the task.
    pub regs: Box<Regs>,
    /// Its stack, innermost first.
    pub stack: Vec<StackFrame>,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "task {} (recorded thread {}, lane {}) diverged: ",
            self.task, self.tid, self.lane
        )?;
        let name = |nr: u32| scribe_syscalls::syscall_name(nr).unwrap_or("unknown call");
        match &self.reason {
            Reason::OtherCall { call, expected } => write!(
                f,
                "the recording called {}, the replay calls {}",
                name(*expected),
                name(call.nr)
            ),
            Reason::Arguments { call } => {
                write!(
                    f,
                    "{} is called with other arguments or input",
                    name(call.nr)
                )
            }
            Reason::OtherRecord(at) => write!(
                f,
                "the recording has another event where the replay is {at}"
            ),
            Reason::RanOn => f.write_str("it ran on where the recording ran another task"),
            Reason::Missed => f.write_str(
                "it went past the state in which the recording stopped it between two events",
            ),
            Reason::Registers => f.write_str("registers differ from the recorded ones"),
            Reason::Memory => f.write_str("memory differs from the recorded one"),
            Reason::NoHandler(signal) => {
                write!(f, "signal {signal} has no handler")
            }
            Reason::BadFrame => f.write_str("its signal frame cannot be read"),
            Reason::Repeated { nr, expected, got } => {
                write!(
                    f,
                    "{} returned {got:#x} instead of {expected:#x}",
                    name(*nr as u32)
                )
            }
            Reason::Died(how) => write!(f, "{how}, which the recording does not have here"),
        }
    }
}

impl std::fmt::Display for SyncPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SyncPoint::Call(call) => {
                write!(
                    f,
                    "at a call of {}",
                    scribe_syscalls::syscall_name(call.nr).unwrap_or("?")
                )
            }
            SyncPoint::Fault(signal) => write!(f, "at a fault (signal {signal})"),
            SyncPoint::Step => f.write_str("behind one instruction"),
            SyncPoint::Instruction(name) => write!(f, "at the instruction {name}"),
        }
    }
}

impl From<super::Sync> for SyncPoint {
    fn from(sync: super::Sync) -> SyncPoint {
        match sync {
            super::Sync::Call(call) => SyncPoint::Call(call),
            super::Sync::Fault(signal, _) => SyncPoint::Fault(signal),
            super::Sync::Step => SyncPoint::Step,
            super::Sync::Instruction(Trapped::Cpuid, _) => SyncPoint::Instruction("cpuid"),
            super::Sync::Instruction(..) => SyncPoint::Instruction("rdtsc"),
        }
    }
}

impl Replayer {
    /// Gathers what is known of a divergence of the task.
    pub(super) fn diverged(&mut self, id: u32, reason: Reason) -> ReplayError {
        let Some(task) = self.tasks.get(&id) else {
            return ReplayError::Log(format!("task {id} is gone: {reason:?}"));
        };
        let lane = self.lanes.get(&task.lane);
        // The record at hand was consumed just before, or is still at the head.
        let expected = lane
            .and_then(|lane| lane.head.clone())
            .or_else(|| task.history.back().cloned());
        ReplayError::Divergence(Box::new(Divergence {
            task: id,
            tid: task.recorded_tid,
            lane: task.lane,
            reason,
            expected,
            history: task.history.iter().cloned().collect(),
            regs: Box::new(task.app),
            stack: stack(task),
        }))
    }
}

/// Return addresses along the chain of frame pointers, or, where there is none, values on the
/// stack that point behind a call instruction into executable memory.
fn stack(task: &Task) -> Vec<StackFrame> {
    let maps = maps::read(task.tid);
    let find = |addr: u64| {
        maps.iter().find(|map| {
            (map.start..map.end).contains(&addr) && map.prot & libc::PROT_EXEC as u32 != 0
        })
    };
    let frame = |addr: u64| StackFrame {
        addr,
        file: find(addr)
            .filter(|map| !map.name.is_empty())
            .map(|map| (map.name.clone(), addr - map.start + map.offset)),
    };
    let mut frames = vec![frame(task.app.rip)];
    let mut words = vec![0u8; 8 * 512];
    let got = task.space.mem.read_some(task.app.rsp, &mut words);
    for word in words[..got].chunks_exact(8) {
        let addr = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let mut before = [0; 5];
        if frames.len() < 32
            && find(addr).is_some()
            && task.space.mem.read(addr.wrapping_sub(5), &mut before).is_ok()
            // call rel32; or call *r/m with a two or three byte form.
            && (before[0] == 0xe8 || before[3] == 0xff || before[2] == 0xff)
        {
            frames.push(frame(addr));
        }
    }
    frames
}
