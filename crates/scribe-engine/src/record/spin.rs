//! Tasks that run without a sync point while others of their lane, or signals, wait for them.
//!
//! The task is stopped where it is. If it comes back to the very same state (registers and memory)
//! it waits in a loop for somebody else: that state is a point which replay finds at the loop's
//! first round, and the token, or the signal, goes on there. A task that computes never comes back to
//! the same state; it goes on to its next sync point.

use super::*;
use crate::spin::{Breakpoint, Point, Search, behind_call, tick};

/// A task that has run this long without a sync point while others wait is looked at.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often waiting for reports is broken off while there may be such a task.
const TICK: Duration = Duration::from_millis(5);
/// How often the agents' records are taken over while nothing else happens.
const DRAIN: Duration = Duration::from_millis(250);
/// How often a task may pass the address before it counts as computing.
const HITS: u32 = 32;
/// The first and the longest time between two looks at the same task, which doubles each time.
const BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(2)];

/// What is known of a task's run since its last sync point.
#[derive(Clone, Debug)]
pub(super) struct Run {
    since: Instant,
    not_before: Instant,
    backoff: Duration,
    /// A stop was asked for.
    asked: bool,
    pub search: Option<Search>,
}

impl Run {
    pub(super) fn new() -> Run {
        let now = Instant::now();
        Run {
            since: now,
            not_before: now,
            backoff: BACKOFF[0],
            asked: false,
            search: None,
        }
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
        let task = self.task_mut(id);
        task.run.since = now;
        task.run.not_before = now;
        task.run.backoff = BACKOFF[0];
        self.ticking_for(id);
    }

    /// Whether the task keeps others or a signal waiting: then the clock has to tick.
    fn kept_waiting(&self, id: u32) -> bool {
        let Some(task) = self.tasks.get(&id) else {
            return false;
        };
        task.state == State::App
            && (task.stash.next(Mask(task.mask)).is_some()
                || self.stops_before_call(id)
                || self.lanes.get(&task.lane).is_some_and(|lane| {
                    !lane.waiting.is_empty() && lane.area.token.holder() == Some(id)
                }))
    }

    /// Without a task to watch the clock only sees to it that what agents record gets into the log.
    pub(super) fn tick_slowly(&self) {
        tick(self.shared.as_ref().map(|_| DRAIN));
    }

    /// Starts the clock if the task is one to be watched.
    pub(super) fn ticking_for(&mut self, id: u32) {
        if !self.ticking && self.kept_waiting(id) {
            self.ticking = true;
            tick(Some(TICK));
        }
    }

    /// Waiting was broken off: looks for tasks that have run too long.
    pub(super) fn look_around(&mut self) -> Result<()> {
        self.log.drain_all();
        if !self.ticking {
            return Ok(());
        }
        let watched: Vec<u32> = self
            .tasks
            .keys()
            .copied()
            .filter(|id| self.kept_waiting(*id))
            .collect();
        if watched.is_empty() {
            self.ticking = false;
            self.tick_slowly();
        }
        let now = Instant::now();
        for id in watched {
            let task = self.task_mut(id);
            let run = &mut task.run;
            if now < run.since + PATIENCE || now < run.not_before || run.asked {
                continue;
            }
            if let Some(area) = &task.area
                && area.pending.swap(1, Relaxed) == 0
            {
                // Its agent sees that at its next call, which may be soon.
                continue;
            }
            run.asked = true;
            run.not_before = now + run.backoff;
            run.backoff = (run.backoff * 2).min(BACKOFF[1]);
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
        let layout = &self.xstate;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let stopped = self.machine.stopped(task.tid)?;
        let mem = &task.space.mem;
        if let Some(mut search) = task.run.search.take() {
            // It has left the loop since the last look.
            search.breakpoint.clear(mem)?;
            let tid = task.tid;
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        let regs = stopped.regs()?;
        let tid = task.tid;
        if behind_call(&regs, mem) || !self.machine.sud {
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        let begin = Instant::now();
        let point = Point::here(stopped, &regs, mem, layout)?;
        // Large memory takes long to hash: look less often.
        task.run.not_before = task.run.not_before.max(begin + begin.elapsed() * 50);
        let breakpoint = Breakpoint::new(mem, regs.rip)?;
        task.run.search = Some(Search {
            point,
            breakpoint,
            stepping: true,
            hits: 0,
        });
        self.machine.go_with(tid, |stopped| stopped.step(0))?;
        Ok(true)
    }

    /// A SIGTRAP in application code while a point is looked for. False: it is the program's own.
    pub(super) fn on_search_trap(&mut self, id: u32) -> Result<bool> {
        let layout = &self.xstate;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let Some(mut search) = task.run.search.take() else {
            return Ok(false);
        };
        let tid = task.tid;
        let stopped = self.machine.stopped(tid)?;
        let mem = &task.space.mem;
        let mut regs = stopped.regs()?;
        if search.stepping {
            search.stepping = false;
            search.breakpoint.set(mem)?;
            task.run.search = Some(search);
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        if !search.breakpoint.hit(&regs) {
            search.breakpoint.clear(mem)?;
            return Ok(false);
        }
        regs.rip -= 1;
        regs.orig_rax = u64::MAX;
        search.breakpoint.clear(mem)?;
        search.hits += 1;
        if search.point.has_regs(&regs) && Point::here(stopped, &regs, mem, layout)? == search.point
        {
            task.app = regs;
            let lane = task.lane;
            let Point {
                rip,
                regs,
                xstate,
                mem,
            } = search.point;
            self.stats.forced += 1;
            self.write(
                lane,
                &Record::Forced {
                    rip,
                    regs,
                    xstate,
                    mem,
                },
            );
            // A waiter has waited long enough.
            self.lanes
                .get_mut(&lane)
                .expect("a task's lane exists")
                .since -= TIMESLICE * 2;
            self.settle(id)?;
            return Ok(true);
        }
        stopped.set_regs(&regs)?;
        if search.hits >= HITS {
            self.machine.go(tid, Go::Application, 0)?;
            return Ok(true);
        }
        search.stepping = true;
        task.run.search = Some(search);
        self.machine.go_with(tid, |stopped| stopped.step(0))?;
        Ok(true)
    }

    /// Another stop came first: the program's text is as it was.
    pub(super) fn end_search(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if let Some(mut search) = task.run.search.take() {
            search.breakpoint.clear(&task.space.mem)?;
        }
        Ok(())
    }
}
