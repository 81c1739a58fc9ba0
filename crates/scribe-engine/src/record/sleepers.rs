//! Tasks that wait for futexes in their agents (`scribe_abi::sleep`), as far as the engine has to do with them: calls
//! that it carries out wake them too, and one that waits long for its turn is woken for good.

use super::*;
use scribe_abi::sleep::Waking;
use scribe_syscalls::{Effect, Row};
use std::sync::atomic::Ordering::SeqCst;

/// Whoever was woken sleeps on until the token is given up, but no longer than this.
const PATIENCE: Duration = Duration::from_millis(15);
/// How often that is looked at.
pub(super) const OFTEN: Duration = Duration::from_millis(20);
/// When one had to wait so long, so many that come after it are not put off; each time more.
const DIRECT: u32 = 64;
const DIRECT_MAX: u32 = 1 << 20;

/// What is known of a lane's woken tasks.
pub(super) struct Woken {
    /// How many there had been when the last one was seen to go on, and since when there are others.
    out: u32,
    since: Option<Instant>,
    into: u32,
    direct: u32,
}

impl Woken {
    pub(super) fn new() -> Woken {
        Woken {
            out: 0,
            since: None,
            into: 0,
            direct: DIRECT,
        }
    }
}

impl Recorder {
    /// The task, which has the token, is about to make a call on the slow path: wakes who waits for that in an agent.
    /// The result is how many, and whether that is all that the call does.
    pub(super) fn wake_sleepers(
        &self,
        id: u32,
        row: &'static Row,
        pending: &mut PendingCall,
    ) -> (u32, bool) {
        let task = self.task(id);
        let lane = &self.lanes[&task.lane].area;
        let asleep = matches!(row.effect, Effect::Futex) && lane.sleeping.load(Relaxed) != 0;
        let call = &pending.call;
        let waking = Waking::of(call.nr.into(), &call.args).filter(|_| asleep);
        let Some(waking) = waking else {
            return (0, false);
        };
        let count = lane.wake_futex(task.space_number(), waking);
        if waking.enough && count < waking.count {
            pending.agent_args[2] = (waking.count - count).into();
        }
        (count, waking.enough && count >= waking.count)
    }

    /// A lane is given up for another: its tasks wait anew, there.
    pub(super) fn rouse(lane: &LaneMemory) {
        lane.wake_all();
        lane.rouse();
    }

    /// Looks after tasks that were woken and wait for their turn. True: there were such lately.
    pub(super) fn look_after_woken(&mut self) -> bool {
        let mut lately = false;
        for lane in self.lanes.values_mut() {
            let (area, known) = (&lane.area, &mut lane.woken);
            let (into, out) = (area.woken_in.load(SeqCst), area.woken_out.load(SeqCst));
            lately |= into != known.into;
            known.into = into;
            if into == out {
                known.since = None;
                continue;
            }
            lately = true;
            let since = match known.since {
                Some(since) if known.out == out => since,
                _ => *known.since.insert(Instant::now()),
            };
            known.out = out;
            if since.elapsed() >= PATIENCE {
                area.direct.store(known.direct, Relaxed);
                known.direct = (known.direct * 2).min(DIRECT_MAX);
                area.rouse();
            }
        }
        lately
    }
}
