//! Bringing running processes to a stop: all their threads, and those that come meanwhile.
//!
//! Nothing is changed in them yet: whatever goes wrong, they are let go and go on as before.

use super::proc;
use crate::machine::{Go, Machine};
use crate::record::interrupt::ERESTARTNOHAND;
use crate::record::signals::is_synchronous;
use scribe_abi::fast::NEVER_RESTARTED;
use scribe_tracee::{Error, Event, Running, Stop, Stopped, Tid, WaitEvent};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long threads may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often those that run are asked again: one may have taken a signal, and gone on.
const AGAIN: Duration = Duration::from_millis(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(100);

/// A thread that is being stopped.
pub(super) struct Caught {
    /// Its process.
    pub tgid: Tid,
    /// It stands where it is to stay.
    stopped: bool,
    /// It runs on the memory of its parent, which cannot stop before it has its own.
    vfork: bool,
    asked: Instant,
    /// Signals that it was about to take.
    pub signals: Vec<(i32, [u8; 128])>,
}

impl Caught {
    fn new(tgid: Tid) -> Caught {
        Caught {
            tgid,
            stopped: false,
            vfork: false,
            asked: Instant::now(),
            signals: Vec::new(),
        }
    }
}

/// All of them, by thread id.
pub(super) struct Catch {
    pub machine: Machine,
    pub threads: BTreeMap<Tid, Caught>,
    early: Vec<WaitEvent>,
}

impl Catch {
    /// Stops process `pid`, with all that descends from it if `tree`.
    pub fn begin(machine: Machine, pid: Tid, tree: bool) -> Result<Catch, String> {
        let mut catch = Catch {
            machine,
            threads: BTreeMap::new(),
            early: Vec::new(),
        };
        match catch.stop_all(pid, tree) {
            Ok(()) => Ok(catch),
            Err(why) => {
                catch.release();
                Err(why)
            }
        }
    }

    fn stop_all(&mut self, pid: Tid, tree: bool) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let new = self.seize_all(pid, tree)?;
            let mut heard = false;
            while let Some(event) = self.next()? {
                heard = true;
                match self.on_event(event) {
                    Ok(()) => {}
                    Err(Failed::Tracee(Error::Gone)) => {}
                    Err(Failed::Tracee(error)) => return Err(error.to_string()),
                    Err(Failed::Stopped(tid)) => {
                        return Err(format!(
                            "process {tid} is stopped (by a signal, or by job control); continue it \
                             first, with kill -CONT {tid}"
                        ));
                    }
                }
            }
            if !self.threads.values().any(|thread| thread.tgid == pid) {
                return Err("it has ended".into());
            }
            let running = self.threads.iter().find(|(_, thread)| !thread.stopped);
            match running {
                None if !new && !heard => return Ok(()),
                None => continue,
                Some((tid, _)) if begin.elapsed() > PATIENCE => {
                    return Err(format!(
                        "its thread {tid} does not stop; it may wait for a device, or for a child that \
                         vfork made"
                    ));
                }
                Some(_) => {}
            }
            let now = Instant::now();
            let machine = &self.machine;
            for (tid, thread) in &mut self.threads {
                if !thread.stopped && !thread.vfork && now > thread.asked + AGAIN {
                    thread.asked = now;
                    let _ = machine.interrupt(*tid);
                }
            }
            if !heard {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Becomes the tracer of threads that are not traced yet; whether there were any.
    fn seize_all(&mut self, pid: Tid, tree: bool) -> Result<bool, String> {
        let mut processes = vec![pid];
        if tree {
            // This one may be among them: where a shell starts to record itself.
            let own = std::process::id() as Tid;
            let others = proc::descendants(pid).into_iter();
            processes.extend(others.filter(|process| *process != own));
        }
        let mut new = false;
        for process in processes {
            if process != pid && crate::machine::is_gone(process) {
                continue;
            }
            for tid in proc::threads(process) {
                if self.threads.contains_key(&tid) {
                    continue;
                }
                match scribe_tracee::seize_sparing(tid) {
                    Ok(running) => {
                        new = true;
                        self.machine.add(running);
                        self.threads.insert(tid, Caught::new(process));
                        let _ = self.machine.interrupt(tid);
                    }
                    // It has ended, or is ours by now: its parent's report tells.
                    Err(Error::Gone) => {}
                    Err(_) if proc::tracer(tid) == Some(std::process::id() as Tid) => {}
                    Err(_) if tid != process && crate::machine::is_gone(tid) => {}
                    Err(_) if process != pid && crate::machine::is_gone(process) => {}
                    Err(error) => return Err(proc::refusal(process, tid, &error)),
                }
            }
        }
        if self.threads.is_empty() {
            return Err("there is no such process".into());
        }
        Ok(new)
    }

    fn next(&mut self) -> Result<Option<WaitEvent>, String> {
        let known = |event: &WaitEvent| self.threads.contains_key(&event.tid);
        if let Some(at) = self.early.iter().position(known) {
            let event = self.early.remove(at);
            self.machine.note_early(event);
            return Ok(Some(event));
        }
        match self.machine.next(false) {
            Ok(event) => Ok(event),
            Err(Error::Gone) => Err("it has ended".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn on_event(&mut self, event: WaitEvent) -> Result<(), Failed> {
        let tid = event.tid;
        let Some(thread) = self.threads.get_mut(&tid) else {
            if event.is_stop() {
                self.early.push(event);
            }
            return Ok(());
        };
        match event.stop {
            Stop::Event(Event::Stop(libc::SIGTRAP)) => {
                let stopped = self.machine.stopped(tid)?;
                if thread.vfork {
                    self.machine.go(tid, Go::Agent, 0)?;
                } else if takes_signal(stopped)? {
                    // It is heard of in the next stop.
                    thread.asked = Instant::now();
                    self.machine.go(tid, Go::Agent, 0)?;
                } else {
                    if thread.signals.is_empty() {
                        undo_interruption(stopped)?;
                    }
                    thread.stopped = true;
                }
                return Ok(());
            }
            Stop::Event(Event::Stop(_)) => return Err(Failed::Stopped(thread.tgid)),
            Stop::Signal(signal) => {
                let info = self.machine.stopped(tid)?.siginfo()?;
                // A fault comes up again when the instruction is executed again.
                if signal == libc::SIGTRAP || !is_synchronous(signal, &info) {
                    thread.signals.push((signal, info));
                    // It stays in this stop: if this process is killed now, the kernel delivers the
                    // signal, which is not lost.
                    thread.stopped = !thread.vfork;
                    if thread.stopped {
                        return Ok(());
                    }
                }
            }
            Stop::Event(Event::Fork | Event::Vfork | Event::Clone) => {
                let child = self.machine.stopped(tid)?.event_message()? as Tid;
                let mut caught = Caught::new(proc::process_of(child).unwrap_or(child));
                caught.vfork = event.stop == Stop::Event(Event::Vfork);
                self.threads.entry(child).or_insert(caught);
                if !self.machine.knows(child) {
                    self.machine.add(Running::attached(child));
                }
            }
            Stop::Event(Event::Exec) => {
                thread.vfork = false;
                let former = self.machine.stopped(tid)?.event_message()? as Tid;
                let tgid = thread.tgid;
                self.threads
                    .retain(|other, thread| *other == tid || thread.tgid != tgid);
                if former != tid {
                    self.machine.rename(former, tid);
                }
            }
            Stop::Event(Event::Exit) => return Ok(self.machine.go(tid, Go::Agent, 0)?),
            Stop::Exited(_) | Stop::Killed(..) => {
                self.machine.remove(tid);
                self.threads.remove(&tid);
                return Ok(());
            }
            Stop::Continued => return Ok(()),
            Stop::Event(_) | Stop::Syscall => {}
        }
        let waits = self.threads.get(&tid).is_some_and(|thread| !thread.vfork);
        if waits {
            // In a stop, this makes it stop again at once.
            Running::attached(tid).interrupt()?;
        }
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }

    /// Lets all go on as they were.
    pub fn release(&mut self) {
        for (tid, thread) in &self.threads {
            let mut signals = thread.signals.iter().map(|signal| signal.0);
            let first = signals.next().unwrap_or(0);
            // What cannot be stopped is let go when this process ends.
            let _ = self.machine.go_with(*tid, |stopped| {
                stopped.detach(first)?;
                Ok(Running::attached(*tid))
            });
            signals.for_each(|signal| scribe_tracee::kill(thread.tgid, *tid, signal));
        }
        self.threads.clear();
    }

    /// The processes, and their threads.
    pub fn processes(&self) -> BTreeMap<Tid, Vec<Tid>> {
        let mut processes: BTreeMap<Tid, Vec<Tid>> = BTreeMap::new();
        for (tid, thread) in &self.threads {
            processes.entry(thread.tgid).or_default().push(*tid);
        }
        processes
    }
}

enum Failed {
    Tracee(Error),
    /// The process is in a group stop.
    Stopped(Tid),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Tracee(error)
    }
}

/// A stop breaks off some calls for good (signal(7) has the list), which only signals are to do: the
/// kernel is told to make this one again.
fn undo_interruption(stopped: &Stopped) -> scribe_tracee::Result<()> {
    let mut regs = stopped.regs()?;
    let in_call = (regs.orig_rax as i64) >= 0 && regs.rax as i64 == -i64::from(libc::EINTR);
    if in_call && NEVER_RESTARTED.contains(&(regs.orig_rax as u32)) {
        regs.rax = ERESTARTNOHAND as u64;
        stopped.set_regs(&regs)?;
    }
    Ok(())
}

/// Whether a signal waits that the thread will take when it goes on.
fn takes_signal(stopped: &Stopped) -> scribe_tracee::Result<bool> {
    let mask = stopped.sigmask()?;
    let mut waiting = stopped.pending(false)?;
    waiting.extend(stopped.pending(true)?);
    Ok(waiting.iter().any(|info| {
        let signal = i32::from_le_bytes(info[..4].try_into().expect("four bytes"));
        (1..=64).contains(&signal) && mask >> (signal - 1) & 1 == 0
    }))
}
