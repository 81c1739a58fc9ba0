//! Tasks that wait for their turn in their agents (`payload/turns.rs`). For the engine they run; in truth only one
//! task of a lane does, and it is the engine that goes on with the lane when that one stops, or asks for it.

use super::*;
use scribe_abi::log::RECORD_HEAD;
use std::sync::atomic::Ordering::Relaxed;

/// The task that a record gives the lane to.
pub(super) fn switched_to(record: &[u8]) -> Option<u32> {
    let body = record.get(RECORD_HEAD..)?.first_chunk::<4>()?;
    (record.first() == Some(&scribe_abi::log::SWITCH)).then(|| u32::from_le_bytes(*body))
}

impl Replayer {
    /// The agent of a task has come to a record that gives the lane to one which does not wait in its agent.
    pub(super) fn asked_to_switch(&mut self, id: u32, lane_id: u32) {
        if let Some(lane) = self.lanes.get_mut(&lane_id) {
            // Not where the log says nothing of the kind: then it waits in vain.
            lane.ahead.asked = lane.current == id;
            self.ready.push_back(lane_id);
        }
    }

    /// It is the turn of the lane's current task. True: that waits in its agent, and goes on.
    pub(super) fn give_turn(&mut self, lane_id: u32) -> bool {
        let Some(lane) = self.lanes.get_mut(&lane_id) else {
            return false;
        };
        lane.ahead.asked = false;
        let task = self.tasks.get(&lane.current);
        let task = task.filter(|task| task.state == State::Running && task.lane == lane_id);
        let Some(area) = task.and_then(|task| task.area.as_ref()) else {
            return false;
        };
        let address = area.0.address();
        lane.ahead.area.area.store(address, Relaxed);
        area.give_turn()
    }

    /// Something comes that concerns more than the lane's current task: those that wait in their agents are to come
    /// to the engine first. True: some are still to come.
    pub(super) fn recall(&self, lane_id: u32) -> bool {
        let current = self.lanes.get(&lane_id).map(|lane| lane.current);
        let mut waits = false;
        for task in self.tasks.values() {
            let running = task.lane == lane_id && task.state == State::Running;
            if running && Some(task.id) != current {
                waits = true;
                if let Some(area) = &task.area {
                    area.send_away();
                }
            }
        }
        waits
    }

    /// Whether there is a task that will be heard of: all others wait for their turns.
    pub(super) fn goes_on(&self) -> bool {
        self.machine.running_tasks().any(|tid| {
            let Some(task) = self.by_tid.get(&tid).and_then(|id| self.tasks.get(id)) else {
                return true;
            };
            let waits = task.area.as_ref().is_some_and(TaskSlot::waits_for_turn);
            task.state != State::Running || self.runs(task.lane) || !waits
        })
    }
}
