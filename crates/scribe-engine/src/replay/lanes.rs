//! Lanes: the record at the head of each says what happens next, and to which task.

use super::*;

impl Replayer {
    /// Makes sure that the lane's next record is in `head`; false at its end.
    pub(super) fn fetch(&mut self, lane_id: u32) -> Result<bool> {
        self.catch_up(lane_id);
        let Some(lane) = self.lanes.get_mut(&lane_id) else {
            return Ok(false);
        };
        if lane.ended {
            return Ok(false);
        }
        match lane.fetch() {
            Ok(true) => Ok(true),
            Ok(false) => {
                lane.ended = true;
                Ok(false)
            }
            Err(error) => {
                (self.options.warn)(&format!(
                    "the log is damaged: {error}; the replay ends there"
                ));
                lane.ended = true;
                self.cut = true;
                Ok(false)
            }
        }
    }

    pub(super) fn consume(&mut self, lane_id: u32) -> Option<Rc<[u8]>> {
        self.stats.events += 1;
        let lane = self.lanes.get_mut(&lane_id)?;
        let record = lane.take()?;
        let current = lane.current;
        let backlog = self.options.backlog;
        if let Some(task) = self.tasks.get_mut(&current) {
            if task.history.len() >= backlog.max(1) {
                task.history.pop_front();
            }
            if record.len() <= 1 << 16 {
                task.history.push_back(record.clone());
            }
        }
        Some(record)
    }

    /// Takes the lane as far as it goes without application code.
    pub(super) fn advance(&mut self, lane_id: u32) -> Result<()> {
        loop {
            // Its agent may be reading ahead.
            if self.runs(lane_id) {
                return Ok(());
            }
            if !self.fetch(lane_id)? {
                return self.at_end(lane_id);
            }
            let Some(lane) = self.lanes.get(&lane_id) else {
                return Ok(());
            };
            let current = lane.current;
            let bytes = lane.head.clone().expect("fetched");
            let (record, _) =
                Record::decode(&bytes).map_err(|error| ReplayError::Log(error.to_string()))?;
            let state = self
                .tasks
                .get(&current)
                .filter(|task| task.lane == lane_id)
                .map(|task| task.state);
            if concerns_others(&record) && self.recall(lane_id) {
                return Ok(());
            }
            match (&record, state) {
                (Record::Data { addr, bytes }, _) => {
                    let lane = self.lanes.get_mut(&lane_id).expect("the lane exists");
                    lane.data.push((*addr, bytes.to_vec()));
                    lane.take();
                }
                (Record::Switch { task, flags }, state) => {
                    let in_call = flags & flags::PREV_IN_CALL != 0;
                    match state {
                        // It stands in its agent, at its next call.
                        Some(State::Running) if in_call && lane.ahead.asked => {}
                        Some(State::Running | State::Execing) => return Ok(()),
                        Some(State::Idle) if in_call => return self.resume(current),
                        Some(State::Arrived(_)) if !in_call => {
                            return Err(self.diverged(current, Reason::RanOn));
                        }
                        _ => {}
                    }
                    // The next task may still have to come from another lane. One that ended with
                    // its process got the token, and gave it back, on its way out.
                    let here = self.tasks.get(task).map(|next| next.lane == lane_id);
                    if !here.unwrap_or_else(|| self.gone.contains(task)) {
                        return Ok(());
                    }
                    let task = *task;
                    self.consume(lane_id);
                    self.lanes
                        .get_mut(&lane_id)
                        .expect("the lane exists")
                        .current = task;
                    if self.give_turn(lane_id) {
                        return Ok(());
                    }
                }
                (Record::Exit(exit), state) if exit.flags & ASYNC != 0 => {
                    let (task, status) = (exit.task, exit.status);
                    if exit.flags & AT_CALL != 0 && task == current {
                        match state {
                            Some(State::Running | State::Execing) => return Ok(()),
                            Some(State::Idle) => return self.resume(current),
                            _ => {}
                        }
                    }
                    if let Some(task) = self.tasks.get(&task) {
                        for (addr, bytes) in exit.sections.outs() {
                            task.space.mem.write(addr, bytes)?;
                        }
                    }
                    self.consume(lane_id);
                    self.end_process(task, status)?;
                }
                (
                    Record::Bookmark {
                        id,
                        time,
                        tasks,
                        text,
                    },
                    _,
                ) => {
                    return self.bookmark(lane_id, (*id, *time, text), tasks);
                }
                (Record::Note { .. } | Record::Gap { .. } | Record::Objects { .. }, _) => {
                    self.consume(lane_id);
                }
                // It left by exec, and comes back by a merge: both without another task in between.
                (_, None) if self.tasks.contains_key(&current) => return Ok(()),
                // Of a thread on its way out, behind the end of its process: it had no effect.
                (_, None) if self.gone.contains(&current) => {
                    self.consume(lane_id);
                }
                (_, None) => {
                    return Err(ReplayError::Log(format!(
                        "lane {lane_id} has a record for task {current}, which has ended"
                    )));
                }
                (_, Some(State::Running | State::Execing)) => return Ok(()),
                (Record::Patch { flags, sites }, Some(State::Idle | State::Arrived(_))) => {
                    if state == Some(State::Idle) && flags & patch::HERE == 0 {
                        return self.resume(current);
                    }
                    self.consume(lane_id);
                    self.patch(current, *flags, sites)?;
                }
                (Record::Merge { into_lane, .. }, Some(State::Arrived(_))) => {
                    let into = *into_lane;
                    self.consume(lane_id);
                    return self.merge(lane_id, into);
                }
                (Record::Signal(signal), Some(State::Idle))
                    if signal.flags & (AT_ENTRY | SYNC) == 0 =>
                {
                    self.consume(lane_id);
                    self.signal(current, signal)?;
                }
                (Record::Forced(forced), Some(State::Idle)) => {
                    return self.seek(current, forced);
                }
                (Record::Tracer(tracer), Some(state)) if tracer.place == place::HERE => {
                    if matches!(state, State::Running | State::Execing) {
                        return Ok(());
                    }
                    self.consume(lane_id);
                    self.tracer_changes(tracer)?;
                }
                (Record::Tracer(tracer), Some(State::Idle)) if tracer.place == place::STEP => {
                    return self.step(current);
                }
                (_, Some(State::Idle)) => return self.resume(current),
                (_, Some(State::Arrived(sync))) => {
                    if matches!(record, Record::Exec(_)) {
                        return self.begin_exec(current, sync);
                    }
                    self.consume(lane_id);
                    self.apply(current, sync, &record)?;
                }
            }
        }
    }

    /// Whether the lane's task runs application code, or another that this one gave the lane to.
    pub(super) fn runs(&self, lane_id: u32) -> bool {
        let Some(lane) = self.lanes.get(&lane_id).filter(|lane| !lane.ahead.asked) else {
            return false;
        };
        let task = self.tasks.get(&lane.current);
        task.is_some_and(|task| task.lane == lane_id && task.state == State::Running)
    }

    /// No more records in this lane.
    pub(super) fn at_end(&mut self, lane_id: u32) -> Result<()> {
        let unfinished = self.ids_of(|task| task.lane == lane_id);
        if unfinished.is_empty() {
            return Ok(());
        }
        self.cut = true;
        for id in unfinished {
            self.end_task(id, true, 0)?;
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        for task in self.tasks.values_mut().filter(|task| task.lane == from) {
            task.lane = into;
        }
        self.lanes.remove(&from);
        self.ready.push_back(into);
        let moved = self.ids_of(|task| task.lane == into);
        for id in moved {
            self.agent_for(id)?;
        }
        Ok(())
    }

    /// Lets application code go on from the sync point.
    pub(super) fn resume(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.state = State::Running;
        task.temporary = None;
        let (tid, mut app) = (task.tid, task.app);
        app.rip = task.space.sites.borrow().resume(app.rip);
        self.lend_to_agent(id);
        self.machine.stopped(tid)?.set_regs(&app)?;
        self.go_application(id)
    }

    /// A record for a task that stands at a sync point.
    pub(super) fn apply(&mut self, id: u32, sync: Sync, record: &Record) -> Result<()> {
        match (sync, record) {
            (Sync::Call(call), Record::Syscall(event)) => self.call(id, call, event),
            (Sync::Call(call), Record::Exit(exit)) => {
                let expected = [libc::SYS_exit as u32, libc::SYS_exit_group as u32];
                if exit.flags & AT_CALL == 0 && !expected.contains(&call.nr) {
                    return Err(self.diverged(id, Reason::OtherRecord(sync.into())));
                }
                for (addr, bytes) in exit.sections.outs() {
                    self.task(id).space.mem.write(addr, bytes)?;
                }
                let group = exit.flags & flags::GROUP != 0;
                let last = !self
                    .tasks
                    .values()
                    .any(|t| t.tgid == self.task(id).tgid && t.id != id);
                if group || last {
                    self.end_process(id, exit.status)
                } else {
                    self.end_task(id, false, 0)
                }
            }
            (Sync::Call(_), Record::Signal(signal)) if signal.flags & AT_ENTRY != 0 => {
                self.task_mut(id).app.rip -= 2;
                self.signal(id, signal)
            }
            (Sync::Fault(signo, _), Record::Signal(signal))
                if signal.flags & SYNC != 0 && i32::from(signal.signo) == signo =>
            {
                self.signal(id, signal)
            }
            (
                Sync::Instruction(which, length),
                Record::Instr {
                    which: recorded,
                    values,
                },
            ) if which as u16 == *recorded => {
                let app = &mut self.task_mut(id).app;
                let tsc = values.get(0).unwrap_or(0);
                (app.rax, app.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
                if which == Trapped::Rdtscp {
                    app.rcx = values.get(1).unwrap_or(0);
                }
                app.rip += length;
                if !self.stepped_by_flag(id) {
                    self.task_mut(id).state = State::Idle;
                }
                Ok(())
            }
            (sync, Record::Tracer(tracer)) => self.tracer(id, sync, tracer),
            (_, Record::Checksum { regs, mem }) => {
                self.verify(id, *regs, *mem, self.options.verify)
            }
            _ => Err(self.diverged(id, Reason::OtherRecord(sync.into()))),
        }
    }

    /// Compares a task's state with hashes; that of its memory only if that is wanted, as it costs most.
    pub(super) fn verify(
        &mut self,
        id: u32,
        regs: Option<u64>,
        mem: Option<u64>,
        with_memory: bool,
    ) -> Result<()> {
        let task = self.task(id);
        if let (Some(dir), Some(mem)) = (&self.options.dump, mem) {
            // Named by what the recording saw.
            let hashes = (regs.unwrap_or(0), mem);
            let stopped = self.machine.stopped(task.tid)?;
            crate::state::dump(dir, stopped, &task.space.mem, &task.app, hashes);
        }
        if let Some(expected) = regs
            && crate::state::regs_hash(&task.app) != expected
        {
            return Err(self.diverged(id, Reason::Registers));
        }
        if let Some(expected) = mem
            && with_memory
        {
            let task = self.task(id);
            let found = crate::state::memory_hash(task.tid, &task.space.mem);
            if found != expected {
                return Err(self.diverged(id, Reason::Memory));
            }
        }
        self.stats.verified += 1;
        Ok(())
    }

    /// A recorded signal reaches the task.
    pub(super) fn signal(&mut self, id: u32, signal: &scribe_log::Signal) -> Result<()> {
        let signo = i32::from(signal.signo);
        if signal.action != action::HANDLER {
            if matches!(signal.action, action::TERMINATE | action::CORE) {
                for (addr, bytes) in self.take_data(id) {
                    self.task(id).space.mem.write(addr, &bytes)?;
                }
                return self.end_process(id, signo);
            }
            return Ok(());
        }
        let info = signal.siginfo();
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let temporary = task.temporary.take();
        let Action::Handler(disposition) = task.sighand.borrow().what_to_do(signo as u32) else {
            return Err(self.diverged(id, Reason::NoHandler(signo)));
        };
        task.app.rip = task.app.rip.wrapping_sub(signal.back.into());
        if signal.flags & RETURNS != 0 {
            returns(&task.space.mem, &mut task.app);
        }
        let entered = enter_handler(
            self.machine.stopped(task.tid)?,
            &task.space.mem,
            HandlerEntry {
                signal: signo,
                info: &info,
                disposition: &disposition,
                app: &mut task.app,
                mask: &mut task.mask,
                temporary,
                alt: &mut task.alt,
                sighand: &mut task.sighand.borrow_mut(),
                fault: &mut task.fault,
            },
            &self.xstate,
        )?;
        let task = self.task_mut(id);
        if !entered {
            // No room for the frame: the next record says what came of it.
            task.temporary = temporary;
        }
        task.state = State::Idle;
        Ok(())
    }
}
