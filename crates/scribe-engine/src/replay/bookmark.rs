//! Bookmarks at replay: what they say of the tasks is compared, and the replay may end at one.

use super::*;
use scribe_log::BookmarkTask;
use std::time::Duration;

/// Bookmarks passed, and the lanes that stand at the one where the replay is to end.
#[derive(Default)]
pub(super) struct Bookmarks {
    reached: std::collections::BTreeSet<u32>,
    /// The last one that was reported: its number, and its time.
    last: (u32, Duration),
    /// The replay ended at this one.
    pub at: Option<u32>,
}

impl Bookmarks {
    /// The last bookmark that was passed; 0: none.
    pub fn last(&self) -> u32 {
        self.last.0
    }
}

impl Replayer {
    /// The next record of the lane is a bookmark.
    pub(super) fn bookmark(
        &mut self,
        lane_id: u32,
        (id, time, name): (u32, u64, &[u8]),
        tasks: &[BookmarkTask],
    ) -> Result<()> {
        let current = self.lanes.get(&lane_id).map_or(0, |lane| lane.current);
        let state = self
            .tasks
            .get(&current)
            .filter(|task| task.lane == lane_id)
            .map(|task| task.state);
        let in_call = tasks
            .iter()
            .find(|task| task.task == current)
            .is_some_and(|task| task.in_call);
        match state {
            Some(State::Running | State::Execing) => return Ok(()),
            Some(State::Idle) if in_call => return self.resume(current),
            _ => {}
        }
        let stops = self.options.to == Some(id);
        for task in tasks {
            self.compare(task, stops)?;
        }
        if self.bookmarks.last.0 < id {
            let time = Duration::from_nanos(time);
            // A part of a recording may begin behind other bookmarks.
            let follows = self.bookmarks.last.0 != 0 || id == 1;
            let since = match follows {
                true => {
                    let since = time.saturating_sub(self.bookmarks.last.1);
                    format!(", {:.3} s after the last", since.as_secs_f64())
                }
                false => String::new(),
            };
            self.bookmarks.last = (id, time);
            let name = match name {
                [] => String::new(),
                name => format!(" {:?}", String::from_utf8_lossy(name)),
            };
            (self.options.warn)(&format!(
                "bookmark {id}{name} at {:.3} s{since}",
                time.as_secs_f64()
            ));
        }
        if stops {
            self.bookmarks.reached.insert(lane_id);
            return Ok(());
        }
        self.consume(lane_id);
        self.ready.push_back(lane_id);
        Ok(())
    }

    /// The state of a task against what the bookmark says of it.
    fn compare(&mut self, at: &BookmarkTask, stops: bool) -> Result<()> {
        let Some(task) = self.tasks.get(&at.task) else {
            return Err(ReplayError::Log(format!(
                "a bookmark names task {}, which is not there",
                at.task
            )));
        };
        if !self.options.verify && !stops || at.regs.is_none() {
            return Ok(());
        }
        if matches!(task.state, State::Running | State::Execing) {
            return Ok(());
        }
        self.verify(at.task, at.regs, at.mem, true)
    }

    /// Whether all that lives stands at the bookmark where the replay is to end.
    pub(super) fn at_bookmark(&mut self) -> bool {
        if self.bookmarks.reached.is_empty() {
            return false;
        }
        let reached = &self.bookmarks.reached;
        let all = self.tasks.values().all(|task| reached.contains(&task.lane));
        if all {
            self.bookmarks.at = self.options.to;
        }
        all
    }
}
