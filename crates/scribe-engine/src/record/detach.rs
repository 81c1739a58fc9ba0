//! The end of tracing: the program goes on as if it had never been recorded.
//!
//! All tasks are together and stopped. What Scribe kept from the kernel is given to it, what Scribe put
//! into the address spaces is taken out; each task goes on from its own registers, those that waited in a
//! call by making it again.

use super::interrupt::ERESTART_RESTARTBLOCK;
use super::*;
use crate::leave::{Leaving, Waiting, again};

impl Recorder {
    /// Ends the tracing of all tasks.
    pub(super) fn leave_program(&mut self, ids: &[u32]) -> Result<()> {
        self.log.drain_all();
        let done = self.clear_copies();
        self.survive(done)?;
        let mut sighands: Vec<Rc<RefCell<Dispositions>>> = Vec::new();
        for &id in ids {
            let of = self.task(id).sighand.clone();
            let first = !sighands.iter().any(|other| Rc::ptr_eq(other, &of));
            if first {
                sighands.push(of);
            }
            let done = self.give_back(id, first);
            self.survive(done)?;
        }
        let mut spaces: Vec<Rc<AddressSpace>> = Vec::new();
        for &id in ids {
            let space = self.task(id).space.clone();
            if !spaces.iter().any(|other| Rc::ptr_eq(other, &space)) {
                let tasks = self.tasks.values();
                let own = tasks.filter(|task| Rc::ptr_eq(&task.space, &space));
                space.unpin(own.map(|task| task.tid));
                spaces.push(space);
                let done = self.clear_space(id);
                self.survive(done)?;
            }
        }
        // From here on nothing is missing for them to go on, whatever becomes of this process.
        for &id in ids {
            let done = self.stand_ready(id);
            self.survive(done)?;
        }
        for &id in ids {
            let stopped = self.machine.stopped(self.task(id).tid);
            let done = stopped.and_then(|stopped| stopped.spare());
            self.survive(done.map_err(RecordError::from))?;
        }
        // Leaders first: while they are traced the kernel keeps signals that the program ignores, and
        // wakes others of their threads for them.
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| self.task(*id).tid != self.task(*id).tgid);
        for id in ids {
            let done = self.leave(id);
            self.survive(done)?;
        }
        Ok(())
    }

    /// Gives the kernel what the engine kept for a task; with `actions`, also for its process.
    fn give_back(&mut self, id: u32, actions: bool) -> Result<()> {
        self.take_strays(id)?;
        self.wait_in_place(id)?;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let mut pending = Vec::new();
        while let Some(signal) = task.stash.pop(Mask(0)) {
            pending.push((signal.signo as i32, signal.info));
        }
        let task = self.tasks.get(&id).expect("the task exists");
        let sighand = task.sighand.borrow();
        self.machine.give_back(Leaving {
            tid: task.tid,
            app: task.app,
            space: &task.space,
            alt: task.alt,
            instructions: task.instructions,
            rseq: task.rseq,
            pending,
            actions: actions.then_some(&*sighand),
        })?;
        Ok(())
    }

    /// A call that the kernel would continue with memory of ours is made anew, with the program's own
    /// and the time that is left, so that the kernel continues that.
    fn wait_in_place(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        let Some(pending) = &task.call else {
            return Ok(());
        };
        let continues = pending.agent_nr == libc::SYS_restart_syscall as u64;
        let moved = pending.agent_args != pending.call.args;
        if task.state != State::Ready(Ready::Relaunch) || !continues || !moved {
            return Ok(());
        }
        let call = (pending.call.nr, pending.call.args);
        let since = pending.started.elapsed();
        let done = self.machine.wait_in_place(tid, &app, &space, call, since)?;
        let task = self.task_mut(id);
        match (done, &mut task.call) {
            (Waiting::Continues, Some(call)) => call.agent_args = call.call.args,
            (Waiting::Anew, Some(call)) => call.agent_nr = call.call.nr.into(),
            (Waiting::Over(ret), _) => {
                task.app.rax = ret as u64;
                task.state = State::Ready(Ready::Resume);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what is Scribe's out of an address space.
    fn clear_space(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        Ok(self.machine.clear_space(tid, &app, &space, None)?)
    }

    /// Gives a task its own state, in a stop which it leaves as if nothing had been if its tracer ends: where it
    /// was about to get a signal, as behind the agent's calls, the kernel would deliver that.
    fn stand_ready(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let mut regs = task.app;
        regs.orig_rax = u64::MAX;
        if let State::Ready(Ready::Relaunch | Ready::Dispatch) = task.state {
            let broken = match &task.call {
                Some(call) if call.agent_nr == libc::SYS_restart_syscall as u64 => {
                    ERESTART_RESTARTBLOCK
                }
                Some(call) => call.ret,
                None => task.broken,
            };
            regs = again(regs, broken);
        }
        let (tid, mask) = (task.tid, task.mask);
        Ok(self.machine.stand_ready(tid, &regs, mask)?)
    }

    /// Lets a task go.
    fn leave(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        Ok(self.machine.let_go(tid)?)
    }
}
