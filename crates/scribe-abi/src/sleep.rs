//! Futexes that tasks of one lane wait for: who waits, and who was woken, stands in the lane's area. So a
//! waking needs no call of the kernel, and the task sleeps on until the token is given up: one hand-over for
//! each turn, as natively.
//!
//! Only the holder of the token adds sleepers and wakes them. A task that gives up by itself (a signal, its end)
//! does without the token: it changes its own word, and its place is found empty later.

use crate::shared::{LaneArea, SLEEPERS, TaskArea, WOKEN, turn};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Commands of futex(2), without flags: include/uapi/linux/futex.h.
#[allow(missing_docs)]
pub mod command {
    pub const WAIT: u32 = 0;
    pub const WAKE: u32 = 1;
    pub const REQUEUE: u32 = 3;
    pub const CMP_REQUEUE: u32 = 4;
    pub const WAKE_OP: u32 = 5;
    pub const WAIT_BITSET: u32 = 9;
    pub const WAKE_BITSET: u32 = 10;
    /// FUTEX_PRIVATE_FLAG.
    pub const PRIVATE: u32 = 128;
    /// FUTEX_CLOCK_REALTIME.
    pub const REALTIME: u32 = 256;
}

/// What a call wakes of those who sleep in agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waking {
    /// Those that wait for this futex; 0: for any.
    pub futex: u64,
    /// With one of these bits.
    pub bits: u32,
    /// At most so many.
    pub count: u32,
    /// The kernel does not have to look for more.
    pub enough: bool,
}

impl Waking {
    /// What this call wakes; `None`: nobody that sleeps in an agent. Where it moves tasks to another futex they are
    /// woken, which every user of futexes has to expect.
    pub fn of(nr: u64, args: &[u64; 6]) -> Option<Waking> {
        const FUTEX: u64 = 202;
        const FUTEX_WAKE: u64 = 454;
        const FUTEX_REQUEUE: u64 = 456;
        let any = Waking {
            futex: 0,
            bits: u32::MAX,
            count: u32::MAX,
            enough: false,
        };
        match nr {
            FUTEX => {}
            FUTEX_WAKE | FUTEX_REQUEUE => return Some(any),
            _ => return None,
        }
        let [futex, op, count, ..] = *args;
        let op = op as u32;
        if op & command::PRIVATE == 0 || !futex.is_multiple_of(4) {
            return None;
        }
        // The kernel wakes one where less is asked for.
        let count = (count as i32).max(1) as u32;
        match op & !(command::PRIVATE | command::REALTIME) {
            command::WAKE => Some(Waking {
                futex,
                bits: u32::MAX,
                count,
                enough: true,
            }),
            command::WAKE_BITSET => Some(Waking {
                futex,
                bits: args[5] as u32,
                count,
                enough: true,
            }),
            command::REQUEUE | command::CMP_REQUEUE | command::WAKE_OP => Some(any),
            _ => None,
        }
    }

    fn fits(&self, space: u64, area: &TaskArea) -> bool {
        area.space.load(Relaxed) == space
            && (self.futex == 0 || self.futex == area.futex.load(Relaxed))
            && self.bits & area.futex_bits.load(Relaxed) != 0
    }
}

impl LaneArea {
    /// The task in this slot is about to wait. False: there is no room.
    #[inline(never)]
    pub fn add_sleeper(&self, slot: u16) -> bool {
        let count = (self.sleeping.load(Relaxed) as usize).min(SLEEPERS);
        let mut kept = 0;
        for i in 0..count {
            let other = place(&self.sleepers, i).load(Relaxed);
            // It may have given up earlier, and stand here still.
            if other != slot {
                place(&self.sleepers, kept).store(other, Relaxed);
                kept += 1;
            }
        }
        let room = kept < SLEEPERS;
        if room {
            place(&self.sleepers, kept).store(slot, Relaxed);
            kept += 1;
        }
        self.sleeping.store(kept as u32, Relaxed);
        room
    }

    /// Wakes tasks of an address space, and calls `woken` for each. `area`: that of a slot, if there is one. The
    /// result is their number.
    #[inline(never)]
    pub fn wake_sleepers<'a>(
        &self,
        space: u64,
        waking: Waking,
        area: impl Fn(u16) -> Option<&'a TaskArea>,
        mut woken: impl FnMut(u16, &'a TaskArea),
    ) -> u32 {
        let count = (self.sleeping.load(Relaxed) as usize).min(SLEEPERS);
        let (mut kept, mut hit) = (0, 0);
        for i in 0..count {
            let slot = place(&self.sleepers, i).load(Relaxed);
            if hit < waking.count {
                let there = area(slot).filter(|area| area.turn.load(Relaxed) == turn::WAITS);
                let Some(there) = there else {
                    continue;
                };
                if waking.fits(space, there) {
                    let gone = there
                        .turn
                        .compare_exchange(turn::WAITS, turn::GO, SeqCst, SeqCst);
                    if gone.is_ok() {
                        hit += 1;
                        woken(slot, there);
                    }
                    continue;
                }
            }
            place(&self.sleepers, kept).store(slot, Relaxed);
            kept += 1;
        }
        self.sleeping.store(kept as u32, Relaxed);
        hit
    }

    /// A task that was woken sleeps on until the token is given up. False: there is no room for it.
    pub fn put_woken(&self, slot: u16) -> bool {
        let (into, out) = (self.woken_in.load(Relaxed), self.woken_out.load(SeqCst));
        if into.wrapping_sub(out) as usize >= WOKEN {
            return false;
        }
        place(&self.woken, into as usize).store(slot, Relaxed);
        self.woken_in.store(into.wrapping_add(1), SeqCst);
        true
    }

    /// Whether there are such tasks.
    pub fn has_woken(&self) -> bool {
        self.woken_in.load(SeqCst) != self.woken_out.load(SeqCst)
    }

    /// The first of them. Whoever gives the token up, or has found it free, may take it.
    pub fn take_woken(&self) -> Option<u16> {
        loop {
            let (into, out) = (self.woken_in.load(SeqCst), self.woken_out.load(SeqCst));
            if into == out {
                return None;
            }
            let slot = place(&self.woken, out as usize).load(Relaxed);
            let next = out.wrapping_add(1);
            let taken = self.woken_out.compare_exchange(out, next, SeqCst, SeqCst);
            if taken.is_ok() {
                return Some(slot);
            }
        }
    }
}

/// The element at an index, modulo the length: never out of range, without a check that could fail.
#[inline(always)]
fn place<T, const N: usize>(all: &[T; N], index: usize) -> &T {
    &all[index % N]
}

impl TaskArea {
    /// A call that waited for a futex is over, or was broken off, with this result: whether it was woken.
    pub fn was_woken(&self) -> bool {
        self.turn.swap(turn::NONE, SeqCst) == turn::GO
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn area(futex: u64) -> TaskArea {
        // SAFETY: all zero is a valid value of these integers.
        let area: TaskArea = unsafe { core::mem::zeroed() };
        area.space.store(1, Relaxed);
        area.futex.store(futex, Relaxed);
        area.futex_bits.store(u32::MAX, Relaxed);
        area.turn.store(turn::WAITS, Relaxed);
        area
    }

    fn wake(futex: u64, count: u64) -> Waking {
        Waking::of(202, &[futex, 129, count, 0, 0, 0]).expect("it wakes")
    }

    #[test]
    fn wakes_in_order_and_only_who_fits() {
        let lane = LaneArea::new(1);
        let areas: Vec<TaskArea> = [8, 16, 8, 8].into_iter().map(area).collect();
        for slot in [0, 1, 2, 3] {
            assert!(lane.add_sleeper(slot));
        }
        let of = |slot: u16| areas.get(usize::from(slot));
        let mut woken = Vec::new();
        assert_eq!(lane.wake_sleepers(2, wake(8, 9), of, |_, _| {}), 0);
        // It gave up.
        assert!(!areas[0].was_woken());
        assert_eq!(
            lane.wake_sleepers(1, wake(8, 1), of, |slot, _| woken.push(slot)),
            1
        );
        assert_eq!(
            lane.wake_sleepers(1, wake(8, 9), of, |slot, _| woken.push(slot)),
            1
        );
        assert_eq!(woken, [2, 3]);
        assert!(areas[2].was_woken());
        assert_eq!(lane.sleeping.load(Relaxed), 1);
        assert!(lane.add_sleeper(1));
        assert_eq!(lane.sleeping.load(Relaxed), 1);
    }

    #[test]
    fn woken_are_a_queue() {
        let lane = LaneArea::new(1);
        for round in 0..3 {
            for slot in 0..WOKEN as u16 {
                assert!(lane.put_woken(slot), "{round}");
            }
            assert!(!lane.put_woken(0));
            for slot in 0..WOKEN as u16 {
                assert_eq!(lane.take_woken(), Some(slot));
            }
            assert_eq!(lane.take_woken(), None);
        }
    }
}
