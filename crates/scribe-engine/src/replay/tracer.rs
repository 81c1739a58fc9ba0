//! Tracees of the recording at replay: nobody traces them here, their own lane says where they
//! stopped, and what their tracer changed there.

use super::*;
use scribe_kernel::signal::Mask;
use scribe_log::Tracer;

impl Replayer {
    /// Lets application code run.
    pub(super) fn go_application(&mut self, id: u32) -> Result<()> {
        let task = self.task(id);
        let tid = task.tid;
        if task.stepping {
            return Ok(self.machine.step(tid)?);
        }
        Ok(self.machine.go(tid, Go::Application, 0)?)
    }

    /// Lets the task execute one instruction.
    pub(super) fn step(&mut self, id: u32) -> Result<()> {
        self.task_mut(id).stepping = true;
        self.resume(id)
    }

    /// An instruction is over; true if it was the one that the task was to execute.
    pub(super) fn stepped(&mut self, id: u32) -> bool {
        let task = self.task_mut(id);
        let stepped = std::mem::take(&mut task.stepping);
        if stepped {
            task.state = State::Arrived(Sync::Step);
            let lane = task.lane;
            self.ready.push_back(lane);
        }
        stepped
    }

    /// A record about a task that stopped for its tracer, where it stands now.
    pub(super) fn tracer(&mut self, id: u32, sync: Sync, record: &Tracer) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        match (sync, record.place) {
            (Sync::Call(_), place::ENTRY) => {
                self.tracer_changes(record)?;
                if record.task == id {
                    let app = self.task(id).app;
                    let call = Call {
                        nr: app.rax as u32,
                        args: call_args(&app),
                    };
                    self.task_mut(id).state = State::Arrived(Sync::Call(call));
                }
                return Ok(());
            }
            (Sync::Call(_), place::BEFORE) => task.app.rip = task.app.rip.wrapping_sub(2),
            (Sync::Fault(signal, _), place::FAULT) if signal == i32::from(record.signo) => {
                let mask = Mask(task.mask);
                task.mask = task.sighand.borrow_mut().force(signal as u32, mask).0;
            }
            (Sync::Step, place::STEP) => {
                let mask = Mask(task.mask);
                task.mask = task
                    .sighand
                    .borrow_mut()
                    .force(libc::SIGTRAP as u32, mask)
                    .0;
            }
            _ => return Err(self.diverged(id, Reason::OtherRecord(sync.into()))),
        }
        self.task_mut(id).state = State::Idle;
        self.tracer_changes(record)
    }

    /// Does what the tracer did.
    pub(super) fn tracer_changes(&mut self, record: &Tracer) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&record.task) else {
            return Err(ReplayError::Log(format!(
                "a record is about task {}, which has ended",
                record.task
            )));
        };
        for section in &record.sections {
            match section {
                Section::Out { addr, bytes } => task.space.mem.write(addr, bytes)?,
                Section::Regs(regs) => {
                    task.app = crate::regs::from_words(&regs.values());
                    task.app.orig_rax = u64::MAX;
                }
                Section::Xstate(image) => {
                    let stopped = self.machine.stopped(task.tid)?;
                    crate::regs::put_xstate(stopped, image.to_vec())?;
                }
                Section::Mask(mask) => task.mask = mask,
                _ => {}
            }
        }
        Ok(())
    }
}
