//! What changes in a task's memory while it computes: by that replay tells the state in which the task was
//! stopped from those before, where the registers are the same each time round. A loop of an interpreter
//! counts somewhere in its heap, far from all that the registers lead to.
//!
//! Two looks at the hashes of all pages tell which pages change; what these hold is kept, and a third look
//! tells which words do. In a task that is stopped again and again each stop is a look; before the first one,
//! the task is stopped twice more for a moment.

use crate::state::{own_memory, page_hashes};
use scribe_abi::PAGE;
use scribe_tracee::{Mem, Tid};
use std::time::{Duration, Instant};

/// Looks before the first stop.
const LOOKS: u8 = 2;
/// How long a task runs between these: some rounds of a loop.
pub(super) const BETWEEN: Duration = Duration::from_micros(30);
/// What was seen so long ago says nothing of the present loop.
const STALE: Duration = Duration::from_secs(1);
/// With more memory of its own than this, in bytes, a task is not stopped for the sake of a look.
const MOST_MEMORY: u64 = 32 << 20;
/// Most pages whose content is kept.
const PAGES: usize = 16;
/// Most words of a page, and of all, that are written. Where more of a page change, it holds data.
const WORDS_OF_PAGE: usize = 64;
const WORDS: usize = 256;

/// What the last looks at a task's memory have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Changing {
    /// When the last one was.
    last: Option<Instant>,
    /// Hashes of all pages then, in the order of their addresses.
    hashes: Vec<(u64, u64)>,
    /// Pages that had changed since the look before, with what they held.
    pages: Vec<(u64, Vec<u8>)>,
    /// Looks in the present run.
    looks: u8,
}

impl Changing {
    /// The task begins to run from a sync point.
    pub(super) fn begin_run(&mut self) {
        self.looks = 0;
    }

    /// Whether a task that is to be stopped is to be looked at, and to go on for a moment, before that.
    pub(super) fn wants_look(&self, tid: Tid) -> bool {
        let known = self.last.is_some_and(|last| last.elapsed() < STALE);
        (self.looks > 0 || !known) && self.looks < LOOKS && own_memory(tid) <= MOST_MEMORY
    }

    /// Looks at it.
    pub(super) fn look(&mut self, tid: Tid, mem: &Mem) {
        let mut hashes = Vec::with_capacity(self.hashes.len());
        page_hashes(tid, mem, |addr, hash| hashes.push((addr, hash)));
        self.looks += 1;
        self.seen(hashes, mem);
    }

    /// Pages have these hashes now.
    pub(super) fn seen(&mut self, hashes: Vec<(u64, u64)>, mem: &Mem) {
        let first = self.last.replace(Instant::now()).is_none();
        let before = std::mem::replace(&mut self.hashes, hashes);
        let known = |addr: u64| self.pages.iter().any(|(page, _)| *page == addr);
        let mut changed: Vec<u64> = match first {
            true => Vec::new(),
            false => differing(&before, &self.hashes),
        };
        // Those that change all the time first.
        changed.sort_by_key(|addr| !known(*addr));
        changed.truncate(PAGES);
        let content = |addr| Some((addr, mem.read_vec(addr, PAGE as usize).ok()?));
        self.pages = changed.into_iter().filter_map(content).collect();
    }

    /// Words that have changed since the last look, with what they hold now. Those first that have few others around
    /// them.
    pub(super) fn words(&self, mem: &Mem) -> Vec<(u64, Vec<u8>)> {
        let mut pages: Vec<Vec<(u64, Vec<u8>)>> = Vec::new();
        for (addr, before) in &self.pages {
            let Ok(now) = mem.read_vec(*addr, PAGE as usize) else {
                continue;
            };
            let words = before.chunks_exact(8).zip(now.chunks_exact(8)).enumerate();
            let changed = words.filter(|(_, (before, now))| before != now);
            let changed = changed.map(|(i, (_, now))| (addr + 8 * i as u64, now.to_vec()));
            pages.push(changed.collect());
        }
        pages.sort_by_key(Vec::len);
        let words = pages
            .into_iter()
            .flat_map(|page| page.into_iter().take(WORDS_OF_PAGE));
        words.take(WORDS).collect()
    }
}

/// Addresses whose hashes are not the same in two lists, both in order.
fn differing(before: &[(u64, u64)], now: &[(u64, u64)]) -> Vec<u64> {
    let mut before = before.iter().peekable();
    let mut found = Vec::new();
    for (addr, hash) in now {
        while before.next_if(|(other, _)| other < addr).is_some() {}
        // What was not there held zeros, whose hash is 0.
        let former = before.next_if(|(other, _)| other == addr);
        if former.map_or(0, |(_, hash)| *hash) != *hash {
            found.push(*addr);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_differ() {
        let before = [(1, 10), (2, 20), (4, 40), (5, 0)];
        let now = [(2, 20), (3, 0), (4, 41), (5, 0), (6, 60)];
        assert_eq!(differing(&before, &now), [4, 6]);
    }

    #[test]
    fn words_that_change_between_looks() {
        let tid = std::process::id() as Tid;
        let mem = Mem::open(tid).unwrap();
        let mut memory = vec![0u64; 3 * PAGE as usize / 8];
        let start = (memory.as_ptr() as u64).next_multiple_of(PAGE);
        let word = (start - memory.as_ptr() as u64) as usize / 8 + 5;
        let hashes = |value: u64| vec![(start, value), (start + PAGE, 7)];
        let mut changing = Changing::default();
        changing.seen(hashes(1), &mem);
        changing.seen(hashes(2), &mem);
        assert_eq!(changing.words(&mem), []);
        memory[word] = 3;
        std::hint::black_box(&mut memory);
        let expected = (start + 40, 3u64.to_le_bytes().to_vec());
        assert_eq!(changing.words(&mem), [expected]);
        assert_eq!(memory.iter().sum::<u64>(), 3);
    }
}
