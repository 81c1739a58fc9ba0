//! What the kernel does to futex words when a task ends: a prediction, as a value.
//!
//! Sources: kernel/futex/core.c `exit_robust_list`, `handle_futex_death`; kernel/fork.c
//! `mm_release`; Documentation/locking/robust-futex-ABI.rst; get_robust_list(2).
//!
//! Order at exit: the robust list, then clear_child_tid. Ownership of PI futexes with waiters
//! passes on in the kernel without a write to memory; the new owner writes the word.

use crate::le;

/// Somebody waits in the kernel.
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
/// The owner died while it held the lock.
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// The thread id of the owner.
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// Most entries of a list that the kernel looks at.
pub const ROBUST_LIST_LIMIT: u32 = 2048;
/// `sizeof(struct robust_list_head)`: the only length that `set_robust_list` takes.
pub const ROBUST_LIST_HEAD_SIZE: usize = 24;

/// One thing that happens to a futex word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    /// Address of the word.
    pub addr: u64,
    /// What is written to it, if anything.
    pub write: Option<u32>,
    /// Whether one waiter is woken (as of a shared futex for robust ones, of the exact kind that
    /// the waiter used otherwise).
    pub wake: bool,
}

/// Memory with the effects so far.
struct Memory<'a> {
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> bool,
    effects: Vec<Effect>,
}

impl Memory<'_> {
    fn get<const N: usize>(&mut self, addr: u64) -> Option<[u8; N]> {
        let mut buf = [0; N];
        if !crate::access_ok(addr, N as u64) || !(self.read)(addr, &mut buf) {
            return None;
        }
        for e in &self.effects {
            let Some(value) = e.write else { continue };
            for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
                let at = (e.addr + i as u64).wrapping_sub(addr);
                if let Some(b) = usize::try_from(at).ok().and_then(|at| buf.get_mut(at)) {
                    *b = byte;
                }
            }
        }
        Some(buf)
    }

    fn u32(&mut self, addr: u64) -> Option<u32> {
        self.get::<4>(addr).map(u32::from_le_bytes)
    }

    fn u64(&mut self, addr: u64) -> Option<u64> {
        self.get::<8>(addr).map(|b| le::u64(&b, 0))
    }

    /// `fetch_robust_entry`: a pointer, whose bit 0 marks a PI futex.
    fn entry(&mut self, addr: u64) -> Option<Entry> {
        self.u64(addr).map(|v| Entry {
            addr: v & !1,
            pi: v & 1 != 0,
        })
    }

    /// `handle_futex_death`; `None` ends the walk.
    fn death(&mut self, addr: u64, tid: u32, pi: bool, pending: bool) -> Option<()> {
        if !addr.is_multiple_of(4) {
            return None;
        }
        let value = self.u32(addr)?;
        let owner = value & FUTEX_TID_MASK;
        if pending && !pi && owner == 0 {
            // Unlocked in memory, but perhaps the waiter was not woken yet.
            self.effects.push(Effect {
                addr,
                write: None,
                wake: true,
            });
        } else if owner == tid {
            self.effects.push(Effect {
                addr,
                write: Some(value & FUTEX_WAITERS | FUTEX_OWNER_DIED),
                wake: !pi && value & FUTEX_WAITERS != 0,
            });
        }
        Some(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    addr: u64,
    pi: bool,
}

/// What the kernel does with the robust list at `head` (0: none) when task `tid` ends, in order.
/// `tid` is the id in the task's own namespace. `read` reads memory as it is then; it is assumed
/// that words that can be read can be written. The same list is walked at exec.
pub fn robust_exit_effects(
    head: u64,
    tid: u32,
    read: &mut dyn FnMut(u64, &mut [u8]) -> bool,
) -> Vec<Effect> {
    let mut memory = Memory {
        read,
        effects: vec![],
    };
    if head != 0 {
        // The kernel gives up silently on the first sign of trouble.
        let _ = walk(&mut memory, head, tid);
    }
    memory.effects
}

fn walk(memory: &mut Memory, head: u64, tid: u32) -> Option<()> {
    let mut entry = memory.entry(head)?;
    let offset = memory.u64(head.wrapping_add(8))?;
    let pending = memory.entry(head.wrapping_add(16))?;
    let mut left = ROBUST_LIST_LIMIT;
    while entry.addr != head {
        // The next pointer is read before the word is touched: the new owner may free it.
        let next = memory.entry(entry.addr);
        if entry.addr != pending.addr {
            memory.death(entry.addr.wrapping_add(offset), tid, entry.pi, false)?;
        }
        entry = next?;
        left -= 1;
        if left == 0 {
            break;
        }
    }
    if pending.addr != 0 {
        memory.death(pending.addr.wrapping_add(offset), tid, pending.pi, true)?;
    }
    Some(())
}

/// What the kernel does with the address of `set_tid_address` or `CLONE_CHILD_CLEARTID` when a task
/// ends or execs: nothing if no other task uses the address space. The wake happens even if the
/// write fails.
pub fn clear_tid_effect(clear_child_tid: u64, shares_memory: bool) -> Option<Effect> {
    (clear_child_tid != 0 && shares_memory).then_some(Effect {
        addr: clear_child_tid,
        write: Some(0),
        wake: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const HEAD: u64 = 0x1000;
    const OFFSET: i64 = -32;
    const TID: u32 = 77;

    /// Sparse memory of 4-byte words.
    #[derive(Default)]
    struct Words(BTreeMap<u64, u32>);

    impl Words {
        /// A list of entries (address with the PI bit) and a pending one.
        fn list(entries: &[u64], pending: u64) -> Self {
            let mut m = Self::default();
            let mut at = HEAD;
            for &e in entries {
                m.put64(at, e);
                at = e & !1;
            }
            m.put64(at, HEAD);
            m.put64(HEAD + 8, OFFSET as u64);
            m.put64(HEAD + 16, pending);
            m
        }

        fn put64(&mut self, at: u64, v: u64) {
            self.0.insert(at, v as u32);
            self.0.insert(at + 4, (v >> 32) as u32);
        }

        /// The futex word of an entry.
        fn lock(mut self, entry: u64, v: u32) -> Self {
            self.0.insert(entry.wrapping_add_signed(OFFSET), v);
            self
        }

        fn effects(&self) -> Vec<(u64, Option<u32>, bool)> {
            let mut read = |at: u64, buf: &mut [u8]| {
                buf.chunks_mut(4).enumerate().all(|(i, c)| {
                    let w = self.0.get(&(at + i as u64 * 4));
                    w.map(|w| c.copy_from_slice(&w.to_le_bytes())).is_some()
                })
            };
            robust_exit_effects(HEAD, TID, &mut read)
                .into_iter()
                .map(|e| (e.addr.wrapping_add_signed(-OFFSET), e.write, e.wake))
                .collect()
        }
    }

    #[test]
    fn only_own_locks() {
        let m = Words::list(&[0x2000, 0x3001, 0x4000, 0x5000], 0)
            .lock(0x2000, TID)
            .lock(0x3000, TID | FUTEX_WAITERS)
            .lock(0x4000, TID + 1)
            .lock(0x5000, TID | FUTEX_WAITERS | FUTEX_OWNER_DIED);
        let both = Some(FUTEX_OWNER_DIED | FUTEX_WAITERS);
        assert_eq!(
            m.effects(),
            [
                (0x2000, Some(FUTEX_OWNER_DIED), false),
                // PI: no wake, the kernel hands the lock over.
                (0x3000, both, false),
                (0x5000, both, true),
            ]
        );
    }

    #[test]
    fn pending_entry() {
        // On the list too: once, last.
        let m = Words::list(&[0x2000, 0x3000], 0x2000)
            .lock(0x2000, TID)
            .lock(0x3000, TID);
        let died = Some(FUTEX_OWNER_DIED);
        assert_eq!(m.effects(), [(0x3000, died, false), (0x2000, died, false)]);
        // Released, waiter perhaps not woken.
        let m = Words::list(&[], 0x2000).lock(0x2000, FUTEX_WAITERS);
        assert_eq!(m.effects(), [(0x2000, None, true)]);
        let m = Words::list(&[], 0x2001).lock(0x2000, FUTEX_WAITERS);
        assert_eq!(m.effects(), []);
        let m = Words::list(&[], 0x2000).lock(0x2000, 5);
        assert_eq!(m.effects(), []);
    }

    #[test]
    fn trouble_ends_the_walk() {
        let died = Some(FUTEX_OWNER_DIED);
        // An unreadable word: neither the rest nor the pending entry.
        let m = Words::list(&[0x2000, 0x3000, 0x4000], 0x5000)
            .lock(0x2000, TID)
            .lock(0x4000, TID)
            .lock(0x5000, TID);
        assert_eq!(m.effects(), [(0x2000, died, false)]);
        // An unreadable next pointer: the entry itself still counts.
        let mut m = Words::list(&[0x2000], 0x5000)
            .lock(0x2000, TID)
            .lock(0x5000, TID);
        m.0.remove(&0x2000);
        assert_eq!(m.effects(), [(0x2000, died, false)]);
        // A word that is not aligned.
        let m = Words::list(&[0x2002], 0x5000)
            .lock(0x2002, TID)
            .lock(0x5000, TID);
        assert_eq!(m.effects(), []);
        // A head that cannot be read, and none.
        assert_eq!(Words::default().effects(), []);
        assert_eq!(
            robust_exit_effects(0, TID, &mut |_, _| panic!("nothing to read")),
            []
        );
        assert_eq!(robust_exit_effects(!0, TID, &mut |_, _| true), []);
    }

    #[test]
    fn circles_end() {
        // A circle that does not pass the head; each word dies once.
        let mut m = Words::list(&[0x2000, 0x3000], 0x4000)
            .lock(0x2000, TID)
            .lock(0x3000, TID)
            .lock(0x4000, TID);
        m.put64(0x3000, 0x2000);
        let died = Some(FUTEX_OWNER_DIED);
        let want = [0x2000, 0x3000, 0x4000].map(|a| (a, died, false));
        assert_eq!(m.effects(), want);
    }

    #[test]
    fn clear_tid() {
        let want = Effect {
            addr: 0x10,
            write: Some(0),
            wake: true,
        };
        assert_eq!(clear_tid_effect(0x10, true), Some(want));
        assert_eq!(clear_tid_effect(0x10, false), None);
        assert_eq!(clear_tid_effect(0, true), None);
    }
}
