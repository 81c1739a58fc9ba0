//! Bringing all tasks together: each stands at a sync point, or where it was stopped, and stays there
//! until what is to be done there is done: a bookmark, or the end of tracing.

use super::*;
use crate::state::{AddressSpace, memory_hash};
use scribe_log::BookmarkTask;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// What the recorder is asked for from outside, by signal handlers too.
#[derive(Debug, Default)]
pub struct Requests {
    bookmarks: AtomicU32,
    detach: AtomicBool,
}

impl Requests {
    /// None.
    pub const fn new() -> Requests {
        Requests {
            bookmarks: AtomicU32::new(0),
            detach: AtomicBool::new(false),
        }
    }

    /// Asks for a bookmark. Async-signal-safe, in the recorder's thread.
    pub fn bookmark(&self) {
        self.bookmarks.fetch_add(1, Relaxed);
        // Also where the recorder is about to wait.
        crate::point::tick(Some(SOON));
    }

    /// Asks to let the program go. Async-signal-safe, in the recorder's thread.
    pub fn detach(&self) {
        self.detach.store(true, Relaxed);
        crate::point::tick(Some(SOON));
    }
}

const SOON: Duration = Duration::from_millis(1);
/// How long a bookmark waits for a moment at which a replay could turn live.
const PATIENCE: Duration = Duration::from_millis(300);

/// What all tasks are brought together for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Bookmark(Cause),
    Detach,
    /// The next part of the log begins.
    Part,
}

/// Why there is to be a bookmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked for it from outside.
    Asked,
    /// It came by itself.
    Periodic,
    /// This task asked, and waits for it in its call.
    Program(u32),
}

/// Which tasks are together already.
#[derive(Default)]
pub(super) struct Gather {
    wanted: VecDeque<Purpose>,
    on: Option<Purpose>,
    /// When that began.
    since: Option<Instant>,
    /// They stand where they are to stay.
    held: BTreeSet<u32>,
    /// Taken out of their calls, or woken in a group stop.
    fetched: BTreeSet<u32>,
    /// When those that run were last asked to stop: one that waits in its agent comes in its turn.
    asked: HashMap<u32, Instant>,
    /// Tasks that wait in their call for a bookmark, and its name.
    askers: BTreeMap<u32, Vec<u8>>,
    bookmarks: u32,
    /// The tasks come out of their calls, so that the bookmark can be one where a replay turns live.
    live: bool,
    /// Why not.
    not_live: Option<&'static str>,
    /// When it was tried first.
    tried: Option<Instant>,
    /// When all were together first for a bookmark that was put off then, how often it was, and when they are brought
    /// together again.
    put_off: Option<(Instant, u32)>,
    not_before: Option<Instant>,
    next_periodic: Option<Instant>,
}

impl Gather {
    /// The program is being let go.
    pub fn detaches(&self) -> bool {
        self.on == Some(Purpose::Detach)
    }

    /// Tasks come out of their calls, also out of those in which Scribe itself lets them wait.
    fn clears(&self) -> bool {
        self.live || matches!(self.on, Some(Purpose::Detach | Purpose::Part))
    }

    /// How many there were.
    pub fn bookmarks(&self) -> u32 {
        self.bookmarks
    }

    /// Whether the task waits in its call for a bookmark.
    pub fn asks(&self, id: u32) -> bool {
        self.askers.contains_key(&id)
    }

    /// Whether it goes on.
    pub fn is_on(&self) -> bool {
        self.on.is_some() || !self.wanted.is_empty()
    }
}

impl Recorder {
    /// Whether something was asked for.
    pub(super) fn asked_for(&self) -> bool {
        let requests = self.options.requests;
        requests.is_some_and(|r| r.bookmarks.load(Relaxed) != 0 || r.detach.load(Relaxed))
    }

    /// Looks whether something was asked for; starts bringing the tasks together.
    pub(super) fn take_requests(&mut self) {
        if let Some(every) = self.options.bookmark_every {
            let now = Instant::now();
            let next = self
                .gather
                .next_periodic
                .get_or_insert(self.started + every);
            if now >= *next {
                *next = now + every;
                let periodic = Purpose::Bookmark(Cause::Periodic);
                self.gather.wanted.push_back(periodic);
            }
        }
        let asked = self.gather.on == Some(Purpose::Part);
        if !asked && !self.gather.wanted.contains(&Purpose::Part) && self.part_is_due() {
            self.gather.wanted.push_back(Purpose::Part);
        }
        if let Some(requests) = self.options.requests {
            for _ in 0..requests.bookmarks.swap(0, Relaxed) {
                let asked = Purpose::Bookmark(Cause::Asked);
                self.gather.wanted.push_back(asked);
            }
            if requests.detach.swap(false, Relaxed) {
                self.gather.wanted.push_back(Purpose::Detach);
            }
        }
        if self.gather.is_on() {
            self.ticking = true;
            self.tick_for(SOON);
        }
    }

    /// The task stays in its call, whose event is still to be written, until its bookmark is there.
    pub(super) fn await_bookmark(&mut self, id: u32, name: Vec<u8>) {
        self.gather.askers.insert(id, name);
        let purpose = Purpose::Bookmark(Cause::Program(id));
        self.gather.wanted.push_back(purpose);
        self.keep_asker(id);
        self.ticking = true;
        self.tick_for(SOON);
    }

    /// Keeps a task where it waits for its bookmark. False: it waits for none.
    pub(super) fn keep_asker(&mut self, id: u32) -> bool {
        if !self.gather.askers.contains_key(&id) {
            return false;
        }
        self.task_mut(id).state = State::Ready(Ready::FinishCall);
        self.gather.held.insert(id);
        self.release(id, Left::InCall);
        true
    }

    /// The task stands no longer where it was held: it asks for the token itself when it comes there again.
    pub(super) fn leave_gathered(&mut self, id: u32) {
        self.gather.held.remove(&id);
    }

    /// Ends a task's waiting for a bookmark with this result of its call, and lets it go on.
    fn answer_asker(&mut self, id: u32, ret: i64) {
        let waited = self.gather.askers.remove(&id).is_some();
        let held = self.gather.held.remove(&id);
        let Some(task) = self.tasks.get_mut(&id).filter(|_| waited) else {
            return;
        };
        if let Some(call) = &mut task.call {
            call.ret = ret;
        }
        // Where it is in a group stop it goes on by itself.
        if held && task.state == State::Ready(Ready::FinishCall) {
            self.want_token(id, Ready::FinishCall);
        }
    }

    /// Bookmarks that the program asked for are wanted no more.
    fn forget_asked(&mut self) {
        let asked = |purpose: &Purpose| matches!(purpose, Purpose::Bookmark(Cause::Program(_)));
        self.gather.wanted.retain(|purpose| !asked(purpose));
    }

    /// No bookmark that the program asked for can be set now: it is told so.
    fn refuse_askers(&mut self) {
        self.forget_asked();
        let askers: Vec<u32> = self.gather.askers.keys().copied().collect();
        for id in askers {
            self.answer_asker(id, scribe_hooks::call::EBUSY);
        }
    }

    /// While all are brought together, keeps a task there which has nothing left to do but to go on as
    /// `ready` says. False: it goes on.
    pub(super) fn hold(&mut self, id: u32, ready: Ready, left: Left) -> bool {
        if self.gather.on.is_none() || self.gather.detaches() && self.in_vdso(id) {
            return false;
        }
        self.task_mut(id).state = State::Ready(ready);
        self.gather.held.insert(id);
        self.gather.fetched.remove(&id);
        self.release(id, left);
        true
    }

    /// The same for a task whose call was broken off, and which is about to make it again: it would be taken out of it before
    /// it has begun.
    pub(super) fn holds_broken_off(&mut self, id: u32, call: &PendingCall) -> bool {
        let parked = matches!(call.kind, calls::Kind::Parked);
        let broken_off = matches!(call.ret, -516..=-512) && !parked;
        broken_off && self.hold(id, Ready::Relaunch, Left::InCall)
    }

    /// Whether the task stands in the vDSO, which is Scribe's own.
    fn in_vdso(&self, id: u32) -> bool {
        let task = self.task(id);
        let (from, to) = task.space.vdso.get();
        (from..to).contains(&task.app.rip)
    }

    /// Goes on with bringing the tasks together; does what is to be done when they are.
    pub(super) fn gather_step(&mut self) -> Result<()> {
        if self.gather.on.is_none() {
            let Some(next) = self.gather.wanted.front().copied() else {
                return Ok(());
            };
            if self.gather.not_before > Some(Instant::now()) {
                return Ok(());
            }
            // A task that waits for its vfork child stops for nobody: later.
            let vforks = |task: &Task| {
                let spawns = |call: &PendingCall| matches!(call.kind, calls::Kind::Spawn(_));
                let begins = task.clone_flags & libc::CLONE_VFORK as u64 != 0
                    && task.call.as_deref().is_some_and(spawns);
                // In a group stop the child is not there yet, or has gone on.
                (task.vfork_wait || begins) && !task.listening
            };
            if self.tasks.values().any(|task| vforks(task)) {
                // What the child does may wait for one of these.
                self.refuse_askers();
                return Ok(());
            }
            let not_live = match next {
                Purpose::Bookmark(_) => self.find_hindrance(),
                _ => None,
            };
            let since = *self.gather.tried.get_or_insert_with(Instant::now);
            let patience = match next {
                Purpose::Bookmark(Cause::Periodic) => Duration::ZERO,
                _ => PATIENCE,
            };
            if not_live.is_some() && since.elapsed() < patience {
                return Ok(());
            }
            self.gather.tried = None;
            // What is left of a copy is taken away by a call of its process: later.
            if next == Purpose::Detach && self.copies.are_in_use() {
                return Ok(());
            }
            self.gather.wanted.pop_front();
            let hindrance = match next {
                Purpose::Part => self.hindrance(next).or_else(|| self.part_hindrance()),
                _ => self.hindrance(next),
            };
            if let Purpose::Bookmark(Cause::Program(asker)) = next
                && (hindrance.is_some() || !self.tasks.contains_key(&asker))
            {
                self.answer_asker(asker, scribe_hooks::call::EBUSY);
                return Ok(());
            }
            if let Some(why) = hindrance {
                let what = match next {
                    Purpose::Detach => "the program cannot be let go",
                    Purpose::Bookmark(_) => "no bookmark can be set",
                    // It is tried again.
                    Purpose::Part => return Ok(()),
                };
                (self.options.warn)(&format!("{what}: {why}; the recording goes on"));
                return Ok(());
            }
            self.gather.on = Some(next);
            self.gather.live = matches!(next, Purpose::Bookmark(_)) && not_live.is_none();
            self.gather.not_live = not_live;
            self.gather.since = Some(Instant::now());
            if matches!(next, Purpose::Detach | Purpose::Part) {
                self.let_askers_go();
            }
        }
        let ids: Vec<u32> = self.tasks.keys().copied().collect();
        let mut together = true;
        for id in ids {
            match self.gathered(id) {
                Ok(there) => together &= there,
                Err(error) => {
                    self.survive(Err(error))?;
                    together = false;
                }
            }
        }
        if together { self.meet() } else { Ok(()) }
    }

    /// The log ends, and perhaps the next part of it begins: who waits for a bookmark makes the call again, to whom
    /// that goes then.
    fn let_askers_go(&mut self) {
        self.forget_asked();
        for id in std::mem::take(&mut self.gather.askers).into_keys() {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.call = None;
                match &mut task.state {
                    State::Ready(ready) => *ready = Ready::Dispatch,
                    _ => task.after_stop = Ready::Dispatch,
                }
            }
        }
    }

    /// Why that cannot be done now.
    fn hindrance(&self, what: Purpose) -> Option<&'static str> {
        if self.ptrace.in_use() {
            return Some("it traces processes of its own");
        }
        if what != Purpose::Detach {
            return None;
        }
        if !self.waits.rings.is_empty() {
            return Some("it uses asynchronous I/O (io_setup), whose ring Scribe keeps");
        }
        let mut tasks = self.tasks.values();
        if tasks.any(|task| task.seccomp != Seccomp::Disabled) {
            return Some("it has seccomp filters, which Scribe applies in place of the kernel");
        }
        None
    }

    /// Whether the task is where it is to be; if not, sees to it that it gets there.
    fn gathered(&mut self, id: u32) -> Result<bool> {
        let (detaches, clears) = (self.gather.detaches(), self.gather.clears());
        let Some(task) = self.tasks.get(&id) else {
            return Ok(true);
        };
        let (tid, state, listening) = (task.tid, task.state, task.listening);
        if self.gather.held.contains(&id) || listening && !detaches {
            return Ok(true);
        }
        match state {
            // A leader that has ended stays until its threads have.
            State::Exiting => {
                let leader = tid == task.tgid;
                let others = self.tasks.values();
                let mut others = others.filter(|t| t.tgid == tid && t.id != id);
                Ok(!clears || leader && others.any(|t| t.state != State::Exiting))
            }
            State::App if listening => {
                if self.gather.fetched.insert(id) {
                    self.machine.interrupt(tid)?;
                }
                Ok(false)
            }
            State::App => {
                if let Some(area) = &task.area {
                    area.pending.store(1, Relaxed);
                }
                let now = Instant::now();
                let last = self.gather.asked.get(&id);
                if last.is_none_or(|last| now > *last + SOON) {
                    self.gather.asked.insert(id, now);
                    self.task_mut(id).run.ask();
                    self.machine.interrupt(tid)?;
                }
                Ok(false)
            }
            State::InCall | State::Stopping => {
                let parked = task.is_parked();
                if parked && !clears || state == State::Stopping && !detaches {
                    return Ok(true);
                }
                if (!task.vfork_wait || listening) && self.gather.fetched.insert(id) {
                    if listening {
                        self.machine.interrupt(tid)?;
                    } else if state == State::InCall {
                        self.machine.fetch(tid)?;
                    }
                }
                Ok(false)
            }
            State::Ready(Ready::Relaunch) if self.terminal_waits.contains(&id) => {
                if clears {
                    self.gather.held.insert(id);
                }
                Ok(true)
            }
            State::Ready(_) | State::Traced => Ok(false),
        }
    }

    /// A task stopped for the group, or was woken in its group stop, while the program is being let
    /// go: there it stays, or comes out of its call first. False: nothing of that.
    pub(super) fn gathered_in_stop(&mut self, id: u32, for_group: bool) -> Result<bool> {
        let task = self.task(id);
        let (state, after) = (task.state, task.after_stop);
        let asked = self.gather.fetched.contains(&id);
        let leaves = self.gather.detaches();
        match state {
            State::InCall
                if asked && task.is_parked() && (leaves || !for_group && self.gather.clears()) =>
            {
                // It waits anew, by a call of its own.
                self.waits.forget(id);
                self.task_mut(id).call = None;
                Ok(self.hold(id, Ready::Dispatch, Left::InCall))
            }
            State::InCall if asked && (leaves || !for_group) => {
                self.break_call(id)?;
                Ok(true)
            }
            State::App if for_group && leaves => {
                let tid = task.tid;
                // Not while it is in our code: it stops again when it has been let go.
                if self.asked_in_agent(id)? {
                    return Ok(true);
                }
                let regs = self.machine.stopped(tid)?.regs()?;
                if !self.stay_here(id, regs) {
                    self.go_application(id)?;
                }
                Ok(true)
            }
            State::Stopping if asked && leaves => {
                // Others come out of the stop, and stop again when they have been let go.
                let known = [Ready::Resume, Ready::Dispatch, Ready::Relaunch];
                if !known.contains(&after) || !self.hold(id, after, Left::InCall) {
                    self.resume_agent(id)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A task that is let go stays between two instructions: nothing of the log depends on where.
    pub(super) fn stay_here(&mut self, id: u32, mut regs: Regs) -> bool {
        regs.orig_rax = u64::MAX;
        regs.eflags &= !crate::point::EFLAGS_OF_STOPS;
        self.task_mut(id).app = regs;
        self.hold(id, Ready::Resume, Left::AfterEvent)
    }

    /// All are together.
    fn meet(&mut self) -> Result<()> {
        let (purpose, since) = (self.gather.on, self.gather.since.take());
        let met = self.meet_for(purpose);
        if let (Some(purpose), Some(since)) = (purpose, since) {
            let what = match purpose {
                Purpose::Bookmark(_) => "bookmark",
                Purpose::Detach => "detach",
                Purpose::Part => "part",
            };
            self.stats.stood_still(what, since);
        }
        met
    }

    fn meet_for(&mut self, purpose: Option<Purpose>) -> Result<()> {
        match purpose {
            Some(purpose @ (Purpose::Bookmark(_) | Purpose::Part)) => {
                let mut answer = None;
                match purpose {
                    Purpose::Bookmark(cause) if self.put_off(cause) => {}
                    Purpose::Bookmark(cause) => {
                        let number = self.bookmark(cause);
                        if self.gather.live {
                            let by_itself = cause == Cause::Periodic;
                            self.write_objects(number, by_itself)?;
                        }
                        if let Cause::Program(asker) = cause {
                            answer = Some((asker, number));
                        }
                    }
                    _ => {
                        let held: Vec<u32> = self.gather.held.iter().copied().collect();
                        let done = self.next_part(&held);
                        self.survive(done)?;
                    }
                }
                self.gather.on = None;
                self.gather.live = false;
                self.gather.fetched.clear();
                self.gather.asked.clear();
                if let Some((asker, number)) = answer {
                    self.answer_asker(asker, number.into());
                }
                let askers = &self.gather.askers;
                let (stay, go) = std::mem::take(&mut self.gather.held)
                    .into_iter()
                    .partition(|id| askers.contains_key(id));
                self.gather.held = stay;
                let go: BTreeSet<u32> = go;
                // Who ran last comes last: another gathering may begin before it has given the token up.
                let mut go: Vec<u32> = go.into_iter().collect();
                go.sort_by_key(|id| self.tasks.get(id).map(|task| task.run.since()));
                for id in go {
                    let ready = match self.tasks.get(&id).map(|task| task.state) {
                        Some(State::Ready(ready)) => ready,
                        _ => continue,
                    };
                    self.want_token(id, ready);
                }
                Ok(())
            }
            Some(Purpose::Detach) => {
                let held: Vec<u32> = self.gather.held.iter().copied().collect();
                self.leave_program(&held)?;
                self.detached = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Something is under way between sockets of the program, which would be lost where a replay turns live: the bookmark
    /// comes a little later.
    fn put_off(&mut self, cause: Cause) -> bool {
        let (first, times) = self.gather.put_off.unwrap_or((Instant::now(), 1));
        let patience = match cause {
            Cause::Periodic => PATIENCE,
            _ => 6 * PATIENCE,
        };
        let again = self.gather.live && first.elapsed() < patience && self.is_under_way();
        if again {
            self.gather.wanted.push_front(Purpose::Bookmark(cause));
            // Who sends all the time is not to be stopped all the time.
            self.gather.not_before = Some(Instant::now() + SOON * times);
            self.gather.put_off = Some((first, times + 1));
        } else {
            self.gather.put_off = None;
        }
        again
    }

    /// Writes a bookmark into each lane, with the state of its tasks. Returns its number.
    pub(super) fn bookmark(&mut self, cause: Cause) -> u32 {
        let periodic = cause == Cause::Periodic;
        let name = match cause {
            Cause::Program(asker) => self.gather.askers.get(&asker).cloned(),
            _ => None,
        };
        let name = name.unwrap_or_default();
        self.gather.bookmarks += 1;
        let (id, time) = (self.gather.bookmarks, self.started.elapsed());
        let hashes = self.options.checksum != start::Checksums::Off
            && (!periodic || Instant::now() >= self.next_checksum);
        let begin = Instant::now();
        let lanes: Vec<(u32, Vec<u32>)> = self
            .lanes
            .iter()
            .map(|(lane, state)| (*lane, state.members.iter().copied().collect()))
            .collect();
        for (lane, members) in lanes {
            let mut spaces: Vec<Rc<AddressSpace>> = Vec::new();
            let mut tasks = Vec::new();
            for member in members {
                let Some(task) = self.tasks.get(&member) else {
                    continue;
                };
                // Replay has none of those left whose end is in the log.
                let ended = task.process.borrow().exit_recorded;
                if ended || matches!(task.state, State::Exiting) {
                    continue;
                }
                let in_call = match task.state {
                    State::Ready(ready) => ready != Ready::Resume,
                    State::Stopping => task.after_stop != Ready::Resume,
                    state => state == State::InCall,
                };
                let first = !spaces.iter().any(|space| Rc::ptr_eq(space, &task.space));
                if first {
                    spaces.push(task.space.clone());
                }
                // Where a stopped group was interrupted is no point that replay could find.
                let known = task.state != State::App && hashes;
                let regs = crate::state::regs_hash(&task.app);
                let exact = !self.wrote_early(&task.space);
                let wanted = known && first && exact && !(periodic && tasks::takes_long(task));
                let mem = memory_hash_if(wanted, task);
                if let (Some(dir), Some(mem)) = (&self.options.dump, mem)
                    && let Ok(stopped) = self.machine.stopped(task.tid)
                {
                    let hashes = (regs, mem);
                    crate::state::dump(dir, stopped, &task.space.mem, &task.app, hashes);
                }
                tasks.push(BookmarkTask {
                    task: member,
                    in_call,
                    regs: known.then_some(regs),
                    mem,
                });
            }
            self.stats.events += 1;
            self.log.append(lane, |buf| {
                Record::Bookmark {
                    id,
                    time: time.as_nanos() as u64,
                    text: (&name[..]).into(),
                    tasks,
                }
                .encode(buf);
            });
        }
        if periodic && hashes {
            let now = Instant::now();
            self.next_checksum = now + (now - begin) * tasks::CHECKSUM_SHARE;
        }
        self.log.maybe_flush();
        // The program has its number.
        if cause == Cause::Asked {
            let why = self.gather.not_live.map_or(String::new(), |why| {
                format!("; a replay cannot turn live there: {why}")
            });
            let seconds = time.as_secs_f64();
            (self.options.warn)(&format!("bookmark {id} at {seconds:.3} s{why}"));
        }
        id
    }
}

impl Recorder {
    /// Whether a call in this address space that is still to end has written its results already:
    /// poll(2) and select(2) do that each time they are interrupted.
    fn wrote_early(&self, space: &Rc<AddressSpace>) -> bool {
        let wrote = |call: &PendingCall| {
            let bufs = call.plan.bufs.iter().zip(&call.placed);
            let mut out = bufs.filter(|(buf, placed)| {
                buf.dir != scribe_syscalls::Dir::In && buf.addr == **placed && !buf.in_place
            });
            call.interrupted && out.next().is_some()
        };
        let mut tasks = self.tasks.values();
        tasks.any(|task| Rc::ptr_eq(&task.space, space) && task.call.as_deref().is_some_and(wrote))
    }
}

fn memory_hash_if(wanted: bool, task: &Task) -> Option<u64> {
    wanted.then(|| memory_hash(task.tid, &task.space.mem))
}
