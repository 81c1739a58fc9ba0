//! Forced stops at replay: the task runs to the address of the recorded point, and on, until its
//! state is the recorded one.

use super::*;
use crate::spin::{Breakpoint, Point, Search};

impl Replayer {
    /// The next record of the task, which stands at a sync point, is a forced stop.
    pub(super) fn seek(&mut self, id: u32, point: Point) -> Result<()> {
        let layout = &self.xstate;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let tid = task.tid;
        let mem = &task.space.mem;
        let stopped = self.machine.stopped(tid)?;
        let mut app = task.app;
        app.rip = task.space.sites.borrow().resume(app.rip);
        stopped.set_regs(&app)?;
        if point.has_regs(&task.app) && Point::here(stopped, &task.app, mem, layout)? == point {
            let lane = task.lane;
            self.consume(lane);
            self.ready.push_back(lane);
            return Ok(());
        }
        let mut breakpoint = Breakpoint::new(mem, point.rip)?;
        let stepping = task.app.rip == point.rip;
        if !stepping {
            breakpoint.set(mem)?;
        }
        task.search = Some(Search {
            point,
            breakpoint,
            stepping,
            hits: 0,
        });
        task.state = State::Running;
        task.temporary = None;
        self.lend_to_agent(id);
        if stepping {
            self.machine.go_with(tid, |stopped| stopped.step(0))?;
        } else {
            self.machine.go(tid, Go::Application, 0)?;
        }
        Ok(())
    }

    /// A SIGTRAP while a point is looked for. False: it is the program's own.
    pub(super) fn on_search_trap(&mut self, id: u32) -> Result<bool> {
        let layout = &self.xstate;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let Some(mut search) = task.search.take() else {
            return Ok(false);
        };
        let tid = task.tid;
        let mem = &task.space.mem;
        let stopped = self.machine.stopped(tid)?;
        let mut regs = stopped.regs()?;
        if search.stepping {
            search.stepping = false;
            search.breakpoint.set(mem)?;
            task.search = Some(search);
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
        if search.point.has_regs(&regs) && Point::here(stopped, &regs, mem, layout)? == search.point
        {
            task.app = regs;
            task.state = State::Idle;
            let lane = task.lane;
            self.consume(lane);
            self.ready.push_back(lane);
            return Ok(true);
        }
        stopped.set_regs(&regs)?;
        search.stepping = true;
        task.search = Some(search);
        self.machine.go_with(tid, |stopped| stopped.step(0))?;
        Ok(true)
    }

    /// The task reached a sync point without having passed the recorded point.
    pub(super) fn missed(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if let Some(mut search) = task.search.take() {
            search.breakpoint.clear(&task.space.mem)?;
            return Err(self.diverged(id, Reason::Missed));
        }
        Ok(())
    }
}
