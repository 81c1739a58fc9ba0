//! Tasks that run without a sync point while others of their lane, or signals, wait for them.
//!
//! The task is stopped where it is, and its state is written: replay runs to that state. The token,
//! or the signal, goes on there.

use super::changing::{self, Changing};
use super::*;
use crate::point::{Breakpoint, EFLAGS_OF_STOPS, Point, tick, tick_from};
use scribe_abi::PAGE;
use scribe_tracee::{Stopped, near};

/// How long other tasks of the lane wait for a task that was found waiting in a loop the last time.
const SPIN_PATIENCE: Duration = Duration::from_millis(1);
/// How often waiting for reports is broken off while there may be such a task.
const TICK: Duration = Duration::from_millis(1);
/// The same, at most, where chaos is wanted.
const SHORTEST: Duration = Duration::from_micros(10);
/// How often the agents' records are taken over while nothing else happens.
const DRAIN: Duration = Duration::from_millis(250);
/// No more than one part in so many of the time is spent on stops: large memory takes long to hash.
const SHARE: u32 = 30;
/// Words at places that the code around names, which are written to tell states apart.
const WORDS: usize = 32;
/// Bytes before and behind what a register leads to.
const AROUND: u64 = 64;
/// What pointers there lead to: bytes of each, and how many.
const OBJECT: u64 = 32;
const OBJECTS: usize = 96;
/// Bytes of the stack, from its top: what callers count is there, many frames up.
const STACK: u64 = 2048;
/// Callers whose code is looked at for what they count in.
const CALLERS: usize = 12;
/// Bytes of the extended state that are written for that: the legacy registers.
const LEGACY: usize = 416;

/// What is known of a task's run since its last sync point.
#[derive(Clone, Debug)]
pub(super) struct Run {
    since: Instant,
    not_before: Instant,
    /// A stop was asked for.
    asked: bool,
    /// It runs to here: behind an instruction in whose middle it may stand, or where chaos stops it.
    pub over: Option<Breakpoint>,
    /// The point of its last stop.
    last: Option<Point>,
    /// It was found in the same state twice: it waits in a loop.
    spins: bool,
    /// How long others wait for it.
    patience: Duration,
    /// After so many instructions it is stopped; 0: it runs freely.
    pub steps: u32,
    /// It was made to step, and may still report that.
    pub stepped: bool,
    /// When its last single step began.
    stepped_at: Instant,
    /// It was stopped at no sync point just now.
    pub preempted: bool,
    /// What changes while it computes.
    changing: Changing,
    /// What looking at that took, in this run.
    looked: Duration,
}

impl Run {
    pub(super) fn new() -> Run {
        let now = Instant::now();
        Run {
            since: now,
            not_before: now,
            asked: false,
            over: None,
            last: None,
            spins: false,
            patience: TIMESLICE,
            steps: 0,
            stepped: false,
            stepped_at: now,
            preempted: false,
            changing: Changing::default(),
            looked: Duration::ZERO,
        }
    }

    /// When it began to run in application code.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// A stop was asked for.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }
}

impl Recorder {
    /// The task goes on in application code: its run begins.
    pub(super) fn note_run(&mut self, id: u32) {
        let now = Instant::now();
        let crowded = self.lanes[&self.task(id).lane].members.len() > 1;
        let chaos = self.chaos.as_mut();
        let chaos = chaos.map(|chaos| (chaos.run(), if crowded { chaos.steps() } else { 0 }));
        let timeslice = self.options.timeslice;
        let run = &mut self.task_mut(id).run;
        let usual = match run.spins {
            true => SPIN_PATIENCE.min(timeslice),
            false => timeslice,
        };
        run.since = now;
        run.changing.begin_run();
        run.looked = Duration::ZERO;
        (run.patience, run.steps) = chaos.unwrap_or((usual, 0));
        self.ticking_for(id);
    }

    /// How long the task may run on, if it keeps others or a signal waiting.
    fn kept_waiting(&self, id: u32) -> Option<Duration> {
        let task = self.tasks.get(&id)?;
        if task.state != State::App {
            return None;
        }
        if task.stash.next(Mask(task.mask)).is_some() || self.stops_before_call(id) {
            return Some(match self.chaos {
                Some(_) => task.run.patience,
                None => self.options.patience,
            });
        }
        let lane = self.lanes.get(&task.lane)?;
        let wanted = match self.chaos {
            Some(_) => lane.members.len() > 1,
            None => !lane.waiting.is_empty(),
        };
        let waited_for = wanted && lane.area.token.holder() == Some(id);
        waited_for.then_some(task.run.patience)
    }

    /// Without a task to watch the clock only sees to it that what agents record gets into the log, and that waiting
    /// for a certain task ends if that has slipped away.
    pub(super) fn tick_slowly(&self) {
        let usual = if self.often { sleepers::OFTEN } else { DRAIN };
        let every = self.options.bookmark_every.unwrap_or(usual);
        tick(Some(usual.min(every)));
    }

    /// Starts the clock if the task is one to be watched.
    pub(super) fn ticking_for(&mut self, id: u32) {
        if (!self.ticking || self.chaos.is_some())
            && let Some(patience) = self.kept_waiting(id)
        {
            self.tick_for(patience);
        }
    }

    /// The same, so that a time of this length is not missed by much.
    pub(super) fn tick_for(&mut self, time: Duration) {
        self.ticking = true;
        match self.chaos {
            // Once: a clock that ticks faster than what a tick costs would leave no time for anything else.
            Some(_) => tick_from(Some(time.clamp(SHORTEST, TICK)), Some(TICK)),
            None => tick(Some(TICK)),
        }
    }

    /// Waiting was broken off: looks for tasks that have run too long.
    pub(super) fn look_around(&mut self) -> Result<()> {
        self.log.drain_all();
        self.release_held();
        self.take_requests();
        self.find_slipped()?;
        let often = self.look_after_woken();
        let changed = often != std::mem::replace(&mut self.often, often);
        if !self.ticking {
            if changed {
                self.tick_slowly();
            }
            return Ok(());
        }
        self.tasks.values_mut().for_each(|task| task.take_mask());
        let watched: Vec<(u32, Duration)> = self
            .tasks
            .keys()
            .filter_map(|id| Some((*id, self.kept_waiting(*id)?)))
            .collect();
        let holds = self.chaos.as_ref().is_some_and(chaos::Chaos::holds_any);
        if watched.is_empty() && !holds && !self.gather.is_on() {
            self.ticking = false;
            self.tick_slowly();
        }
        let now = Instant::now();
        for (id, patience) in watched {
            let task = self.task_mut(id);
            let run = &mut task.run;
            if now < run.since + patience || now < run.not_before || run.asked {
                continue;
            }
            if let Some(area) = &task.area
                && area.pending.swap(1, Relaxed) == 0
            {
                // Its agent sees that at its next call, which may be soon.
                continue;
            }
            run.asked = true;
            let tid = task.tid;
            let asked = self.machine.interrupt(tid);
            self.survive(asked.map_err(Into::into))?;
        }
        Ok(())
    }

    /// The stop that was asked for. False: it was not ours.
    pub(super) fn on_asked_stop(&mut self, id: u32) -> Result<bool> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if !task.run.asked || task.state != State::App {
            return Ok(false);
        }
        task.run.asked = false;
        if self.asked_in_agent(id)? {
            return Ok(true);
        }
        let tid = self.task(id).tid;
        let stopped = self.machine.stopped(tid)?;
        let regs = stopped.regs()?;
        let trapped = has_trapped(stopped)?;
        if !trapped && self.chaos.is_some() {
            self.end_over(id)?;
        }
        if trapped || self.task(id).run.over.is_some() || !self.machine.sud {
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if self.gather.detaches() {
            if !self.stay_here(id, regs) {
                self.machine.go(tid, Go::Application, 0)?;
            }
            return Ok(true);
        }
        if self.chaos.is_none() && self.look_at(id)? {
            return Ok(true);
        }
        let mem = &self.task(id).space.mem;
        let mut code = [0; 15];
        let got = mem.read_some(regs.rip, &mut code);
        if let Some(len) = near::repeating(&code[..got], regs.rip) {
            // Its progress is in registers, but nobody passes there one by one.
            let over = Breakpoint::set(mem, regs.rip + len as u64)?;
            self.task_mut(id).run.over = Some(over);
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        self.stop_here(id, regs)?;
        Ok(true)
    }

    /// A task that is to be stopped goes on for a moment, if it is to be known what changes meanwhile. True: it does.
    fn look_at(&mut self, id: u32) -> Result<bool> {
        let begin = Instant::now();
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let tid = task.tid;
        if !task.run.changing.wants_look(tid) {
            return Ok(false);
        }
        task.run.changing.look(tid, &task.space.mem);
        task.run.looked += begin.elapsed();
        task.run.asked = true;
        self.machine.go(tid, Go::Application, 0)?;
        // Sleeping would take longer.
        let on = Instant::now();
        while on.elapsed() < changing::BETWEEN {
            std::hint::spin_loop();
        }
        let asked = self.machine.interrupt(tid);
        self.survive(asked.map_err(Into::into))?;
        Ok(true)
    }

    /// A SIGTRAP in application code while the task runs over an instruction. False: it is the
    /// program's own.
    pub(super) fn on_over_trap(&mut self, id: u32) -> Result<bool> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let Some(mut over) = task.run.over.take() else {
            return Ok(false);
        };
        let mut regs = self.machine.stopped(task.tid)?.regs()?;
        let hit = over.hit(&regs);
        over.clear(&task.space.mem)?;
        if hit {
            regs.rip -= 1;
            self.machine.stopped(task.tid)?.set_regs(&regs)?;
            self.stop_here(id, regs)?;
        }
        Ok(hit)
    }

    /// Where chaos is wanted, a task that is about to go on at `rip` may be stopped at a place of its program, if it
    /// comes there.
    pub(super) fn stop_at_a_place(&mut self, id: u32, rip: u64) {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let chaos = self.chaos.as_mut();
        let place = chaos.and_then(|chaos| chaos.place(task.tid));
        if let Some(place) = place.filter(|place| *place != rip) {
            task.run.over = Breakpoint::set(&task.space.mem, place).ok();
        }
    }

    /// Lets application code go on, by single steps if it is to be stopped soon.
    pub(super) fn run_on(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let tid = task.tid;
        if task.run.steps == 0 || !self.machine.sud || self.traced(id) {
            let (rip, crowded) = (task.app.rip, self.lanes[&task.lane].members.len() > 1);
            self.task_mut(id).run.steps = 0;
            if crowded && !self.traced(id) {
                self.stop_at_a_place(id, rip);
            }
            return self.go_application(id);
        }
        let run = &mut self.task_mut(id).run;
        (run.stepped, run.stepped_at) = (true, Instant::now());
        Ok(self.machine.step(tid)?)
    }

    /// A task that is to be stopped soon has executed an instruction. False: it has not.
    pub(super) fn on_step(&mut self, id: u32, info: &[u8; 128]) -> Result<bool> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        // A virtual processor that forgets to say which trap it was makes the kernel take it for `int1`.
        let step = [libc::TRAP_TRACE, libc::TRAP_BRKPT].contains(&si_code(info));
        if !task.run.stepped || !step {
            return Ok(false);
        }
        let tid = task.tid;
        if task.run.steps == 0 {
            // Another stop came between the step and its report.
            task.run.stepped = false;
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        task.run.steps -= 1;
        let now = Instant::now();
        let since = std::mem::replace(&mut task.run.stepped_at, now);
        if let Some(chaos) = &mut self.chaos {
            chaos.spend(now - since);
        }
        let mut code = [0; 15];
        let regs = self.machine.stopped(tid)?.regs()?;
        let got = task.space.mem.read_some(regs.rip, &mut code);
        // pushf would show the trap flag; a string instruction is stepped through one by one.
        let pushes = code[..got].iter().find(|byte| !matches!(byte, 0x66 | 0x48)) == Some(&0x9c);
        if near::repeating(&code[..got], regs.rip).is_some() {
            task.run.steps = 0;
            self.machine.go(tid, Go::Application, 0)?;
        } else if task.run.steps == 0 || pushes {
            task.run.steps = 0;
            self.stop_here(id, regs)?;
        } else {
            let shares = near::shares(&code[..got], regs.rip);
            if let Some(chaos) = self.chaos.as_mut().filter(|_| shares)
                && chaos.stops_at_shared()
            {
                // Right behind it.
                self.task_mut(id).run.steps = 1;
            }
            self.machine.step(tid)?;
        }
        Ok(true)
    }

    /// Another stop came first: the program's text is as it was.
    pub(super) fn end_over(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.run.steps = 0;
        if let Some(mut over) = task.run.over.take() {
            over.clear(&task.space.mem)?;
        }
        Ok(())
    }

    /// The task was stopped with its whole process, while it computed: other processes of its lane go
    /// on, if it stands between two instructions.
    pub(super) fn give_way_in_stop(&mut self, id: u32) -> Result<()> {
        if self.alone_in_lane(id) || !self.machine.sud || self.task(id).run.over.is_some() {
            return Ok(());
        }
        let task = self.task(id);
        let stopped = self.machine.stopped(task.tid)?;
        let regs = stopped.regs()?;
        let mut code = [0; 15];
        let got = task.space.mem.read_some(regs.rip, &mut code);
        if self.is_in_agent(id, &regs)
            || has_trapped(stopped)?
            || near::repeating(&code[..got], regs.rip).is_some()
        {
            return Ok(());
        }
        self.write_point(id, regs)?;
        self.stand_at_trap(id, Ready::Resume)?;
        self.release(id, Left::AfterEvent);
        Ok(())
    }

    /// Writes the state in which the task stands; whoever waits for it goes on.
    fn stop_here(&mut self, id: u32, regs: Regs) -> Result<()> {
        self.write_point(id, regs)?;
        self.settle(id)
    }

    fn write_point(&mut self, id: u32, mut regs: Regs) -> Result<()> {
        let begin = Instant::now();
        regs.orig_rax = u64::MAX;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.run.steps = 0;
        regs.eflags &= !EFLAGS_OF_STOPS;
        let stopped = self.machine.stopped(task.tid)?;
        let (point, image, pages) = Point::here(stopped, &regs, &task.space.mem, &self.xstate)?;
        let changed = task.run.changing.words(&task.space.mem);
        task.run.changing.seen(pages, &task.space.mem);
        let begin = begin.checked_sub(task.run.looked).unwrap_or(begin);
        if let Some(dir) = &self.options.dump {
            let hashes = (point.regs, point.mem);
            crate::state::dump(dir, stopped, &task.space.mem, &regs, hashes);
        }
        task.app = regs;
        task.run.spins = task.run.last.replace(point) == Some(point);
        let lane = task.lane;
        let near = near_memory(&task.space.mem, &regs);
        self.stats.forced += 1;
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            let Point {
                rip,
                regs: hash,
                xstate,
                mem,
            } = point;
            let mut record = scribe_log::begin_forced(buf, [rip, hash, xstate, mem]);
            record.regs(&crate::regs::words(&regs));
            record.xstate(&image[..LEGACY.min(image.len())]);
            for (addr, bytes) in near.iter().chain(&changed) {
                record.out(*addr, bytes);
            }
            record.finish();
        });
        let now = Instant::now();
        self.task_mut(id).run.preempted = true;
        let share = match &mut self.chaos {
            Some(chaos) => chaos.stopped(now - begin),
            None => SHARE,
        };
        self.task_mut(id).run.not_before = now + (now - begin) * share;
        // A waiter has waited long enough.
        let long_ago = now.checked_sub(self.options.timeslice * 2);
        self.lanes
            .get_mut(&lane)
            .expect("a task's lane exists")
            .since = long_ago.unwrap_or(now);
        Ok(())
    }
}

/// Whether a call, a fault or a breakpoint that a task has run into is still to be reported: where that
/// stands is no state between two instructions.
fn has_trapped(stopped: &Stopped) -> Result<bool> {
    Ok(stopped.pending(false)?.iter().any(|info| {
        let signal = i32::from_le_bytes([info[0], info[1], info[2], info[3]]);
        signals::is_synchronous(signal, info)
    }))
}

/// Memory by which replay may tell this state from others without looking at all of it.
fn near_memory(mem: &scribe_tracee::Mem, regs: &Regs) -> Vec<(u64, Vec<u8>)> {
    let mut base = regs.rip.saturating_sub(near::WINDOW as u64);
    let mut code = [0; 2 * near::WINDOW];
    let mut got = mem.read_some(base, &mut code);
    if got == 0 {
        // The mapping begins behind that.
        base = regs.rip;
        got = mem.read_some(base, &mut code);
    }
    let mut all = Vec::new();
    let mut add = |addr: u64, len: u64| {
        let mut bytes = vec![0; len as usize];
        if !scribe_abi::is_ours(addr, addr.saturating_add(len))
            && mem.read_some(addr, &mut bytes) == bytes.len()
        {
            all.push((addr, bytes));
        }
    };
    let operands = near::operands(&code[..got], base, regs);
    for addr in operands.into_iter().take(WORDS) {
        add(addr, 8);
    }
    for caller in callers(mem, regs) {
        let base = caller.rip.saturating_sub(near::WINDOW as u64);
        let got = mem.read_some(base, &mut code);
        let operands = near::operands(&code[..got], base, &caller);
        for addr in operands.into_iter().take(WORDS) {
            add(addr, 8);
        }
    }
    // What registers lead to: in an interpreter the program's variables are there, and nowhere in
    // the code around.
    let pointers = crate::regs::general(regs);
    let mut roots = Vec::new();
    for (i, pointer) in pointers.iter().enumerate() {
        let near = pointer & !7;
        if !pointers[..i].iter().any(|other| other & !7 == near) && near >= PAGE {
            add(near, AROUND);
            add(near.wrapping_sub(AROUND), AROUND);
            roots.push(near.wrapping_sub(AROUND));
        }
    }
    for object in objects(mem, &roots) {
        add(object, OBJECT);
    }
    let top = regs.rsp & !7;
    for offset in (AROUND..STACK).step_by(AROUND as usize) {
        add(top.saturating_add(offset), AROUND);
    }
    all
}

/// What the memory around registers leads to: where variables are objects of their own, as Python's numbers,
/// a loop may leave nothing else changed when it comes around.
fn objects(mem: &scribe_tracee::Mem, roots: &[u64]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut around = [0; 2 * AROUND as usize];
    for root in roots {
        let got = mem.read_some(*root, &mut around);
        for word in around[..got].chunks_exact(8) {
            let object = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            let known = |other: &u64| object.abs_diff(*other) < OBJECT;
            let plausible = object % 8 == 0 && (PAGE..1 << 47).contains(&object);
            let around = |root: &u64| (*root..root.saturating_add(2 * AROUND)).contains(&object);
            if plausible && !found.iter().any(known) && !roots.iter().any(around) {
                found.push(object);
                if found.len() == OBJECTS {
                    return found;
                }
            }
        }
    }
    found
}

/// Registers of the functions that wait on the stack for the present one to return, as far as these are known:
/// where they go on, and their stack.
fn callers(mem: &scribe_tracee::Mem, regs: &Regs) -> Vec<Regs> {
    let mut stack = vec![0; STACK as usize];
    let top = regs.rsp & !7;
    let got = mem.read_some(top, &mut stack);
    let mut found = Vec::new();
    for (i, word) in stack[..got].chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let slot = top + 8 * i as u64;
        if (PAGE..1 << 47).contains(&word)
            && word.abs_diff(slot) > u64::from(u32::MAX)
            && near::follows_call(mem, word)
        {
            let mut caller = *regs;
            (caller.rip, caller.rsp) = (word, slot + 8);
            found.push(caller);
            if found.len() == CALLERS {
                break;
            }
        }
    }
    found
}
