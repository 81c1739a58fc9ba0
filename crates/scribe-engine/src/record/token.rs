//! The token of a lane: who has it, who gets it next, and what that task does with it then.

use super::*;

impl Recorder {
    /// Asks for the token for a stopped task, which goes on as `ready` says when it has it.
    pub(super) fn want_token(&mut self, id: u32, ready: Ready) {
        if self.joins_group_stop(id, ready) {
            return;
        }
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.state = State::Ready(ready);
        let lane = task.lane;
        if self.holds_token(id) {
            self.runnable.push_back(id);
            return;
        }
        let state = self.lanes.get_mut(&lane).expect("a task's lane exists");
        state.waiting.push_back(id);
        // Before looking at the token: who gives it up now either is seen, or sees this.
        state
            .area
            .queued
            .store(1, std::sync::atomic::Ordering::SeqCst);
        let holder = state.area.token.holder();
        self.grant(lane);
        if let Some(holder) = holder {
            self.ticking_for(holder);
        }
    }

    pub(super) fn holds_token(&self, id: u32) -> bool {
        let lane = self
            .tasks
            .get(&id)
            .and_then(|task| self.lanes.get(&task.lane));
        lane.is_some_and(|lane| lane.area.token.holder() == Some(id))
    }

    /// Gives a free token to the first task that waits for it.
    pub(super) fn grant(&mut self, lane_id: u32) {
        let Some(lane) = self.lanes.get_mut(&lane_id) else {
            return;
        };
        let chosen = match &mut self.chaos {
            Some(chaos) => chaos.choose(&lane.waiting),
            None => 0,
        };
        let Some(&next) = lane.waiting.get(chosen) else {
            lane.area.queued.store(0, Relaxed);
            if lane.area.token.holder().is_none() {
                lane.area.wake_one();
            }
            return;
        };
        match lane.area.token.try_acquire(next) {
            Err(_) => {}
            Ok(left) => {
                lane.waiting.remove(chosen);
                lane.since = Instant::now();
                lane.area.wanted.store(0, Relaxed);
                lane.area
                    .queued
                    .store((!lane.waiting.is_empty()).into(), Relaxed);
                let area = self.tasks.get(&next).and_then(|task| task.area.as_ref());
                let area = area.map_or(0, |area| area.0.address());
                lane.area.area.store(area, Relaxed);
                if let Some(left) = left {
                    self.stats.switches += 1;
                    let flags = if left == Left::InCall {
                        flags::PREV_IN_CALL
                    } else {
                        0
                    };
                    self.write(lane_id, &Record::Switch { task: next, flags });
                }
                self.runnable.push_back(next);
            }
        }
    }

    /// Gives the token up and hands it on.
    pub(super) fn release(&mut self, id: u32, left: Left) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let lane_id = task.lane;
        if let Some(lane) = self.lanes.get_mut(&lane_id)
            && lane.area.token.holder() == Some(id)
        {
            lane.area.token.release(id, left);
            self.grant(lane_id);
        }
    }

    pub(super) fn run_ready(&mut self, id: u32) -> Result<()> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(());
        };
        // The end of its process is in the log: it is on its way out, and nothing may come after that.
        let ended = task.process.borrow().exit_recorded;
        match task.state {
            State::Ready(Ready::FinishCall | Ready::Resume | Ready::Dispatch | Ready::Relaunch)
                if ended =>
            {
                self.release(id, Left::InCall);
                Ok(())
            }
            State::Ready(Ready::FinishCall) => self.finish_call(id),
            State::Ready(Ready::Resume) => self.settle(id),
            State::Ready(Ready::AbortCall) => self.abort_call(id),
            // Signals may have come while it was stopped.
            State::Ready(Ready::Dispatch | Ready::Relaunch)
                if task.stash.next(Mask(task.mask)).is_some() =>
            {
                self.abort_call(id)
            }
            State::Ready(Ready::Dispatch) => self.dispatch(id),
            State::Ready(Ready::Traced) => self.traced_go_on(id),
            State::Ready(Ready::Relaunch) if self.broken_off(id) => self.settle(id),
            State::Ready(Ready::Die) => self.die_in_order(id),
            State::Ready(Ready::Agent) => {
                let task = self.task_mut(id);
                task.state = State::App;
                let tid = task.tid;
                self.note_run(id);
                Ok(self.machine.go(tid, Go::Application, 0)?)
            }
            State::Ready(Ready::Relaunch) => match self.task_mut(id).call.take() {
                Some(call) if self.holds_broken_off(id, &call) => {
                    self.task_mut(id).call = Some(call);
                    Ok(())
                }
                Some(call) if matches!(call.kind, calls::Kind::Parked) => self.unpark(id, call),
                Some(call) => self.launch(id, *call),
                None => self.dispatch(id),
            },
            _ => Ok(()),
        }
    }

    /// The task is at a sync point with the token and has nothing left to do there: application
    /// code goes on, unless others have waited for a timeslice.
    pub(super) fn resume_application(&mut self, id: u32) -> Result<()> {
        self.write_later(id)?;
        if self.hold(id, Ready::Resume, Left::AfterEvent) {
            return Ok(());
        }
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let lane = self
            .lanes
            .get_mut(&task.lane)
            .expect("a task's lane exists");
        let mut over = lane.since.elapsed() > self.options.timeslice;
        if let Some(chaos) = &mut self.chaos {
            over |= chaos.yields(id, &lane.waiting);
        }
        if !lane.waiting.is_empty() && over {
            task.state = State::Ready(Ready::Resume);
            lane.waiting.push_back(id);
            if let Some(chaos) = &mut self.chaos {
                chaos.gives_way(id);
            }
            self.release(id, Left::AfterEvent);
            return Ok(());
        }
        if self.held_up(id) {
            return Ok(());
        }
        self.keep_no_more(id)?;
        self.lend_to_agent(id)?;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let mut regs = task.app;
        regs.orig_rax = u64::MAX;
        regs.rip = task.space.sites.borrow().resume(regs.rip);
        task.state = State::App;
        let tid = task.tid;
        self.note_run(id);
        self.machine.stopped(tid)?.set_regs(&regs)?;
        self.run_on(id)
    }

    pub(super) fn resume_agent(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        Ok(self.machine.go(tid, Go::Agent, 0)?)
    }
}
