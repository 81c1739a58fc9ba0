//! What the program has in the kernel, described at bookmarks and where the recording ends: so that a
//! replay that stops there can be turned into a living program.

use super::*;
use scribe_abi::is_ours;
use scribe_objects::ipc::{self, Attached};
use scribe_objects::model::{self, Objects, Timer};
use scribe_objects::take::{Limits, Mapped, Store, Subject};
use scribe_tracee::maps;

/// How much of files is kept: of those that may be written to, and of others.
const LIMITS: Limits = Limits {
    file: 64 << 20,
    read: 1 << 20,
    total: 256 << 20,
};
/// Where bookmarks come by themselves.
const SMALLER: Limits = Limits {
    file: 16 << 20,
    read: 1 << 20,
    total: 32 << 20,
};
/// Most of a content in one record.
const PIECE: usize = 256 << 10;

/// A stream of contents.
pub(super) struct Contents<'a> {
    log: &'a Journal,
    stream: u32,
    next: u32,
}

impl Contents<'_> {
    pub fn new(log: &Journal, stream: u32) -> Contents<'_> {
        Contents {
            log,
            stream,
            next: 0,
        }
    }
}

impl Store for Contents<'_> {
    fn begin(&mut self) -> (u32, u32) {
        self.next += 1;
        (self.stream, self.next)
    }

    fn put(&mut self, content: (u32, u32), offset: u64, bytes: &[u8]) {
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            self.log.append(self.stream, |buf| {
                Record::Blob {
                    file: content.1,
                    offset: offset + (i * PIECE) as u64,
                    bytes: piece.into(),
                }
                .encode(buf);
            });
            self.log.maybe_flush();
        }
    }
}

impl Recorder {
    /// Whether all tasks stand where they could go on without the recording.
    fn all_stand(&self) -> bool {
        let ready = [Ready::Resume, Ready::Dispatch, Ready::Relaunch].map(State::Ready);
        let asks = State::Ready(Ready::FinishCall);
        let mut tasks = self.tasks.values();
        let stands = |task: &Task| {
            ready.contains(&task.state) || task.state == asks && self.gather.asks(task.id)
        };
        tasks.all(|task| stands(task) && !task.listening) && !self.tasks.is_empty()
    }

    /// Whether something is on its way between sockets of the program, whose tasks all stand still, where nobody can
    /// look at it.
    pub(super) fn is_under_way(&self) -> bool {
        let processes = self.by_process();
        let pids = processes.iter().map(|tasks| self.task(tasks[0]).tid);
        scribe_objects::take::under_way(pids)
    }

    /// Describes the kernel objects of the program, whose tasks all stand still at a bookmark.
    pub(super) fn write_objects(&mut self, bookmark: u32, by_itself: bool) -> Result<()> {
        if !self.all_stand() {
            return Ok(());
        }
        let processes = self.by_process();
        let subject = |tasks: &Vec<u32>| {
            let leader = self.task(tasks[0]);
            Subject {
                pid: leader.tid,
                own: leader.ids.own(),
                mapped: mapped(leader.tid),
                attached: attached(leader.tid),
            }
        };
        let subjects: Vec<Subject> = processes.iter().map(subject).collect();
        let limits = if by_itself { SMALLER } else { LIMITS };
        let mut taker = std::mem::take(&mut self.taker);
        let stream = self.new_stream();
        let mut contents = Contents::new(&self.log, stream);
        let mut objects = taker.take(&subjects, [0, 1, 2], limits, &mut contents);
        let names = self.changes.names();
        taker.names(names, limits, &mut contents, &mut objects);
        self.taker = taker;
        let mut ids = self.ipc.clone();
        let attached = subjects.iter().flat_map(|subject| &subject.attached);
        ids.segments.extend(attached.map(|map| map.id));
        objects.ipc = ipc::take(&ids, limits, &mut contents, &mut objects.lost);
        for (tasks, process) in processes.iter().zip(&mut objects.processes) {
            let done = self.ask_process(tasks, process);
            self.survive(done)?;
        }
        self.name_losses(&mut objects);
        order(&mut objects);
        self.write_description(stream, &objects, bookmark, false);
        Ok(())
    }

    /// A call is over: the program may have got an object of System V's.
    pub(super) fn note_ipc(&mut self, pending: &PendingCall) {
        let id = pending.ret as i32;
        match i64::from(pending.call.nr) {
            _ if id < 0 => {}
            libc::SYS_shmget => drop(self.ipc.segments.insert(id)),
            libc::SYS_semget => drop(self.ipc.semaphores.insert(id)),
            libc::SYS_msgget => drop(self.ipc.queues.insert(id)),
            _ => {}
        }
    }

    /// The number of a stream that is no lane.
    pub(super) fn new_stream(&mut self) -> u32 {
        self.next_lane += 1;
        self.next_lane - 1
    }

    /// Ends a stream with the description to which its contents belong, and says what that is of.
    pub(super) fn write_description(
        &self,
        stream: u32,
        objects: &Objects,
        bookmark: u32,
        before: bool,
    ) {
        let text = serde_json::to_vec(objects).unwrap_or_default();
        Contents::new(&self.log, stream).put((stream, 0), 0, &text);
        self.log.close(stream);
        self.log.append(scribe_log::META, |buf| {
            Record::Objects {
                bookmark,
                stream,
                before,
            }
            .encode(buf);
        });
        self.log.maybe_flush();
    }

    /// What only the process can be asked, and what the engine keeps for it.
    fn ask_process(&mut self, tasks: &[u32], process: &mut model::Process) -> Result<()> {
        let leader = tasks[0];
        self.take_strays(leader)?;
        let task = self.task(leader);
        let (tid, tgid, app, space) = (task.tid, task.tgid, task.app, task.space.clone());
        let room = scribe_abi::AGENT_STRINGS;
        let timers = scribe_objects::take::timers(tgid);
        let mut calls: Vec<(i64, [u64; 6])> = vec![
            (libc::SYS_brk, [0; 6]),
            (
                libc::SYS_prctl,
                [libc::PR_GET_CHILD_SUBREAPER as u64, room, 0, 0, 0, 0],
            ),
        ];
        /// Answers lie one behind the other, this far apart.
        const APART: u64 = 32;
        /// As many as there is room for.
        const MOST: usize = 100;
        for which in 0..3u64 {
            let at = room + (1 + which) * APART;
            calls.push((libc::SYS_getitimer, [which, at, 0, 0, 0, 0]));
        }
        for (i, timer) in timers.iter().take(MOST).enumerate() {
            let at = room + (4 + i as u64) * APART;
            calls.push((libc::SYS_timer_gettime, [timer.id as u64, at, 0, 0, 0, 0]));
        }
        let results = self.machine.batch(tid, &space.mem, &app, &calls)?;
        self.take_strays(leader)?;
        let answers = space.mem.read_vec(room, calls.len() * APART as usize)?;
        space.mem.write(room, &vec![0; answers.len()])?;
        let word = |slot: usize, at: usize| {
            let from = slot * APART as usize + at * 8;
            u64::from_le_bytes(answers[from..from + 8].try_into().expect("eight bytes"))
        };
        if process.mm.len() == 11 {
            process.mm[5] = results[0] as u64;
        }
        process.subreaper = answers[0] != 0;
        for which in 0..3 {
            let micros = |at| word(1 + which, at) * 1_000_000 + word(1 + which, at + 1);
            // One whose signal waits to be taken is started again when it is (kernel/time/itimer.c).
            let left = if micros(2) == 0 { micros(0) } else { micros(2) };
            if results[2 + which] == 0 && left != 0 {
                process.itimers.push((which as u32, micros(0), left));
            }
        }
        for (i, timer) in timers.into_iter().take(MOST).enumerate() {
            let nanos = |at| word(4 + i, at) * 1_000_000_000 + word(4 + i, at + 1);
            let own = self
                .by_tid
                .get(&timer.tid)
                .map(|id| self.task(*id).ids.own());
            process.timers.push(Timer {
                interval: nanos(0),
                left: nanos(2),
                tid: own.unwrap_or(0),
                ..timer
            });
        }
        for (i, id) in tasks.iter().enumerate() {
            let described = self.describe_task(*id, i == 0)?;
            process.tasks.push(described);
        }
        Ok(())
    }

    fn describe_task(&mut self, id: u32, first: bool) -> Result<model::Task> {
        self.take_strays(id)?;
        let task = self.task(id);
        let stopped = self.machine.stopped(task.tid)?;
        let mut pending: Vec<(i32, Vec<u8>)> = task
            .stash
            .iter()
            .map(|signal| (signal.signo as i32, signal.info.to_vec()))
            .collect();
        let mut queues = stopped.pending(false).unwrap_or_default();
        if first {
            queues.extend(stopped.pending(true).unwrap_or_default());
        }
        for info in queues {
            let signo = i32::from_le_bytes(info[..4].try_into().expect("four bytes"));
            pending.push((signo, info.to_vec()));
        }
        let comm = std::fs::read(format!("/proc/{}/comm", task.tid)).unwrap_or_default();
        let call = task
            .call
            .as_deref()
            .filter(|_| task.state != State::Ready(Ready::Resume));
        let rseq = task.rseq;
        Ok(model::Task {
            task: id,
            tid: task.ids.own(),
            comm: String::from_utf8_lossy(comm.trim_ascii_end()).into_owned(),
            robust_list: task.robust_list(),
            clear_tid: task.clear_tid(),
            rseq: (rseq.address, rseq.size, rseq.signature),
            pending,
            waited: call.map_or(0, |call| call.started.elapsed().as_nanos() as u64),
        })
    }

    /// What going live cannot bring back, beyond what shows in the description.
    fn name_losses(&self, objects: &mut Objects) {
        let mut lost = Vec::new();
        if !self.waits.rings.is_empty() {
            lost.push("asynchronous I/O (io_setup)");
        }
        if self
            .tasks
            .values()
            .any(|task| task.seccomp != Seccomp::Disabled)
        {
            lost.push("seccomp filters");
        }
        if self.changes.too_many() {
            lost.push("what it changed in files (too many)");
        }
        if self.pid_namespaces {
            lost.push("pid namespaces of its own");
        }
        let lost = lost.into_iter().map(str::to_owned);
        objects.lost.extend(lost);
    }
}

/// Files that a process has mapped, where others see what it writes.
fn mapped(tid: Tid) -> Vec<Mapped> {
    let shared = |map: &maps::Mapping| {
        let nameless = map.name.starts_with("/dev/zero") || map.name.starts_with("/SYSV");
        map.shared && map.ino != 0 && !nameless && !is_ours(map.start, map.end)
    };
    let maps = maps::read(tid).into_iter().filter(shared);
    maps.map(|map| Mapped {
        start: map.start,
        end: map.end,
        offset: map.offset,
        prot: map.prot,
        ino: map.ino,
        file: exec::open_mapped(tid, &map),
        name: map.name,
    })
    .collect()
}

/// System V shared memory that a process has attached: the kernel names its mappings so, and numbers them by id.
fn attached(tid: Tid) -> Vec<Attached> {
    let maps = maps::read(tid).into_iter();
    maps.filter(|map| map.shared && map.name.starts_with("/SYSV"))
        .map(|map| Attached {
            start: map.start,
            end: map.end,
            offset: map.offset,
            prot: map.prot,
            id: map.ino as i32,
        })
        .collect()
}

/// Parents before their children.
fn order(objects: &mut Objects) {
    let mut rest = std::mem::take(&mut objects.processes);
    let mut done: Vec<model::Process> = Vec::new();
    while !rest.is_empty() {
        let known = |process: &model::Process| {
            process.parent == 0 || done.iter().any(|other| other.pid == process.parent)
        };
        let at = rest.iter().position(known).unwrap_or(0);
        done.push(rest.remove(at));
    }
    objects.processes = done;
}
