//! Copies of processes: a process is forked in its own name while it stands still, and goes on; its memory, as it was then,
//! is read from the copy at leisure.
//!
//! The program is not to notice. The copy never runs a single instruction of it; it sends no signal when it ends, and
//! ordinary wait calls do not find it; it has no descriptors, so that no pipe or socket stays open for it; it
//! is in a session of its own, where no signal for a group of processes reaches it; where that is allowed, it has an id at the
//! far end of the range, so that none is left out. When its memory has been written it is killed, and what the kernel keeps of it
//! is taken away by a wait call in the program's name the next time that all tasks are together.

use super::pages::{Held, Sink, Stream};
use crate::machine::Machine;
use crate::state::own_memory;
use scribe_abi::AGENT_STRINGS;
use scribe_log::LogWriter;
use scribe_tracee::inject::{CLONE_ARGS, clone_args};
use scribe_tracee::pagemap::Pagemap;
use scribe_tracee::{Error, Mem, Regs, Result, Tid};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Processes with less memory of their own are read while they stand still, which takes no longer than a fork.
const LEAST: u64 = 1 << 20;
/// Ids that are tried for a copy.
const TRIES: u64 = 16;
/// While the log is behind.
const PAUSE: Duration = Duration::from_micros(300);

/// include/uapi/linux/close_range.h: without making copies of descriptors first.
const CLOSE_RANGE_UNSHARE: u64 = 2;

/// A mapping whose pages are read from the copy.
pub(super) struct Own {
    pub range: Range<u64>,
    pub of_file: bool,
}

/// Memory to be written.
struct Job {
    log: Arc<LogWriter>,
    stream: u32,
    held: Held,
    copy: Tid,
    mem: Mem,
    pages: Pagemap,
    ranges: Vec<Own>,
}

/// A copy of a process.
pub(super) struct Copy {
    tid: Tid,
    pub mem: Mem,
    pub pages: Pagemap,
}

/// Copies of a recording's processes, and the thread that writes their memory.
#[derive(Default)]
pub(in crate::record) struct Copies {
    thread: Option<(mpsc::Sender<Job>, JoinHandle<()>)>,
    shared: Arc<State>,
    /// All that were made and are not quite gone yet.
    left: Vec<Left>,
}

/// What is left of a copy.
struct Left {
    /// Whose copy it is.
    process: Tid,
    copy: Tid,
    /// What the process calls it.
    id: i64,
}

#[derive(Default)]
struct State {
    /// Those that are still being written.
    jobs: AtomicUsize,
    failed: AtomicBool,
}

impl Copies {
    /// Copies the process of `tid`, which stands still. `None`: it has little memory, or that cannot be.
    pub(super) fn make(
        &mut self,
        machine: &mut Machine,
        (process, tid): (Tid, Tid),
        mem: &Mem,
        base: &Regs,
    ) -> Result<Option<Copy>> {
        if own_memory(process) < LEAST {
            return Ok(None);
        }
        let Some((copy, id)) = fork(machine, tid, mem, base)? else {
            return Ok(None);
        };
        let hidden = hide(machine, copy, base);
        machine.remove(copy);
        self.left.push(Left { process, copy, id });
        if let Ok(Some((mem, pages))) = hidden {
            return Ok(Some(Copy {
                tid: copy,
                mem,
                pages,
            }));
        }
        kill(copy);
        Ok(None)
    }

    /// Writes memory: what was held, and these ranges of the copy, which ends then.
    pub(super) fn write(
        &mut self,
        log: &Arc<LogWriter>,
        stream: u32,
        held: Held,
        copy: Copy,
        ranges: Vec<Own>,
    ) {
        let job = Job {
            log: log.clone(),
            stream,
            held,
            copy: copy.tid,
            mem: copy.mem,
            pages: copy.pages,
            ranges,
        };
        self.shared.jobs.fetch_add(1, Ordering::SeqCst);
        let (sender, _) = self.thread.get_or_insert_with(|| {
            let (sender, jobs) = mpsc::channel();
            let shared = self.shared.clone();
            (
                sender,
                scribe_log::without_signals(|| std::thread::spawn(move || work(&jobs, &shared))),
            )
        });
        // The thread ends when the sender does.
        let _ = sender.send(job);
    }

    /// Whether memory is still being written.
    pub(in crate::record) fn are_in_use(&self) -> bool {
        self.shared.jobs.load(Ordering::SeqCst) != 0
    }

    /// Whether memory could not be written, since it was asked last.
    pub(in crate::record) fn failed(&self) -> bool {
        self.shared.failed.swap(false, Ordering::SeqCst)
    }

    /// Takes away what is left of copies that have ended, by calls of their processes, of each of which
    /// `of` gives a stopped thread and its registers.
    pub(in crate::record) fn clear(
        &mut self,
        machine: &mut Machine,
        of: impl Fn(Tid) -> Option<(Tid, Regs)>,
    ) -> Result<()> {
        if self.are_in_use() {
            return Ok(());
        }
        for Left { process, copy, id } in std::mem::take(&mut self.left) {
            // While a tracer has not heard of its end, nobody else does.
            loop {
                match scribe_tracee::wait::wait(copy, true) {
                    // A signal.
                    Ok(None) => continue,
                    Ok(Some(_)) | Err(Error::Gone) => break,
                    Err(error) => return Err(error),
                }
            }
            let Some((tid, base)) = of(process) else {
                continue;
            };
            let flags = (libc::__WALL | libc::WNOHANG) as u64;
            match machine.inject(tid, &base, libc::SYS_wait4, [id as u64, 0, flags, 0, 0, 0]) {
                Ok(_) | Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until all memory is written.
    pub(in crate::record) fn finish(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            if thread.join().is_err() {
                self.shared.failed.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// The thread's work.
fn work(jobs: &mpsc::Receiver<Job>, shared: &State) {
    while let Ok(mut job) = jobs.recv() {
        let mut to = Patient(Stream {
            log: &job.log,
            number: job.stream,
        });
        job.held.put_into(&mut to);
        let mut whole = true;
        for Own { range, of_file } in std::mem::take(&mut job.ranges) {
            whole &= to.put_own(&job.mem, &job.pages, range, of_file);
        }
        match whole {
            true => to.0.end(),
            false => shared.failed.store(true, Ordering::SeqCst),
        }
        kill(job.copy);
        drop(job);
        shared.jobs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets events of the program go first.
struct Patient<'l>(Stream<'l>);

impl Sink for Patient<'_> {
    fn put(&mut self, addr: u64, bytes: &[u8]) {
        while self.0.log.is_behind() {
            std::thread::sleep(PAUSE);
        }
        self.0.put(addr, bytes);
    }
}

fn kill(copy: Tid) {
    // SAFETY: a system call without pointers, to a process that nobody has waited for yet.
    unsafe { libc::kill(copy, libc::SIGKILL) };
}

/// Forks the process of a stopped thread: the copy, and its id for the process.
fn fork(machine: &mut Machine, tid: Tid, mem: &Mem, base: &Regs) -> Result<Option<(Tid, i64)>> {
    let flags = libc::CLONE_FILES as u64;
    for id in far_ids() {
        let bytes = clone_args(AGENT_STRINGS, flags, 0, id);
        mem.write(AGENT_STRINGS, &bytes)?;
        let made = machine.inject_clone(
            tid,
            base,
            libc::SYS_clone3,
            [AGENT_STRINGS, CLONE_ARGS, 0, 0, 0, 0],
        );
        mem.write(AGENT_STRINGS, &vec![0; bytes.len()])?;
        match made? {
            (Some(copy), id) => return Ok(Some((copy, id))),
            (None, taken) if taken == -i64::from(libc::EEXIST) => {}
            // Not allowed, or not known to this kernel.
            (None, _) => break,
        }
    }
    let (copy, id) = machine.inject_clone(tid, base, libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    Ok(copy.map(|copy| (copy, id)))
}

/// Ids that hardly any process has.
fn far_ids() -> impl Iterator<Item = u64> {
    let text = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let most: u64 = text.trim().parse().unwrap_or(0);
    (1..=TRIES).filter_map(move |n| most.checked_sub(n).filter(|id| *id > TRIES))
}

/// Takes from a copy what others could notice. `None`: that cannot be.
fn hide(machine: &mut Machine, copy: Tid, base: &Regs) -> Result<Option<(Mem, Pagemap)>> {
    machine.stopped(copy)?.only_kill()?;
    let mem = Mem::open(copy)?;
    mem.write(AGENT_STRINGS, b"scribe-snapshot\0")?;
    let all = u64::from(u32::MAX);
    let calls = [
        (
            libc::SYS_close_range,
            [0, all, CLOSE_RANGE_UNSHARE, 0, 0, 0],
        ),
        (libc::SYS_setsid, [0; 6]),
        (
            libc::SYS_prctl,
            [libc::PR_SET_NAME as u64, AGENT_STRINGS, 0, 0, 0, 0],
        ),
    ];
    let results = machine.batch(copy, &mem, base, &calls)?;
    Ok((results[0] == 0).then(|| (mem, Pagemap::open(copy))))
}
