//! Priority-inheriting futexes: what the kernel decides about words and waiters, as values.
//!
//! The kernel's own implementation writes futex words at moments that nobody sees. Here the same
//! decisions are made by the caller, who then writes the words and lets tasks wait and go on as
//! the answers say. Nothing is boosted: tasks that can touch a word run one at a time.
//!
//! Sources: kernel/futex/pi.c (`futex_lock_pi_atomic`, `attach_to_pi_state`,
//! `attach_to_pi_owner`, `futex_unlock_pi`, `wake_futex_pi`, `fixup_pi_state_owner`,
//! `exit_pi_state_list`), kernel/futex/requeue.c (`futex_requeue`, `futex_proxy_trylock_atomic`,
//! `futex_wait_requeue_pi`), Documentation/locking/pi-futex.rst, futex(2).

use crate::Errno;
use crate::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use std::collections::HashMap;
use std::hash::Hash;

const EPERM: Errno = Errno(1);
const ESRCH: Errno = Errno(3);
const EAGAIN: Errno = Errno(11);
const EINVAL: Errno = Errno(22);
const EDEADLK: Errno = Errno(35);

/// A task, as a waiter or owner of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Any number that names it.
    pub task: u32,
    /// Its thread id, as futex words have it.
    pub tid: u32,
    /// Lower goes first; equal ones in order of arrival.
    pub priority: i32,
}

/// A lock that somebody waits for or has just been given.
#[derive(Debug)]
struct Lock {
    owner: Who,
    waiters: Vec<Who>,
    /// The owner was given the lock while it waited, and has not come back yet.
    coming: bool,
    /// The owner before ended with the lock in its hands: the new one writes the word.
    died: bool,
}

/// A waiter of `FUTEX_WAIT_REQUEUE_PI`.
#[derive(Debug)]
struct Requeued<K> {
    who: Who,
    target: K,
}

/// What a wish for a lock led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// New value of the futex word, if it changes.
    pub word: Option<u32>,
    /// The answer of the call; `None`: the task waits.
    pub answer: Option<Result<(), Errno>>,
}

/// What an unlocking led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// New value of the futex word.
    pub word: u32,
    /// The waiter that has the lock now.
    pub next: Option<u32>,
}

/// What a requeueing led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// New value of the second futex word, if it changes.
    pub word: Option<u32>,
    /// The answer of the call: how many were woken or moved.
    pub answer: Result<u32, Errno>,
    /// The waiter that has the lock now.
    pub next: Option<u32>,
}

/// All locks and waiters. `K` identifies a futex word.
#[derive(Debug)]
pub struct Locks<K> {
    locks: HashMap<K, Lock>,
    conditions: HashMap<K, Vec<Requeued<K>>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks {
            locks: HashMap::new(),
            conditions: HashMap::new(),
        }
    }
}

/// Puts a waiter behind all that go before it.
fn enqueue(waiters: &mut Vec<Who>, who: Who) {
    let at = waiters.partition_point(|other| other.priority <= who.priority);
    waiters.insert(at, who);
}

impl<K: Clone + Eq + Hash> Locks<K> {
    /// `FUTEX_LOCK_PI`, and with `try_only` `FUTEX_TRYLOCK_PI`. `owner` finds a living task by its
    /// thread id.
    pub fn lock(
        &mut self,
        key: &K,
        word: u32,
        who: Who,
        try_only: bool,
        owner: impl FnOnce(u32) -> Option<Who>,
    ) -> Asked {
        let mut asked = self.attach(key, word, who, false, owner);
        if asked.answer.is_none() {
            if try_only {
                asked.answer = Some(Err(EAGAIN));
            } else if self.is_circle(key, who.task) {
                asked.answer = Some(Err(EDEADLK));
            } else if let Some(lock) = self.locks.get_mut(key) {
                enqueue(&mut lock.waiters, who);
            }
            self.tidy(key);
        }
        asked
    }

    /// `futex_lock_pi_atomic`: takes the lock, or makes sure that its owner is known (no answer).
    fn attach(
        &mut self,
        key: &K,
        word: u32,
        who: Who,
        set_waiters: bool,
        owner: impl FnOnce(u32) -> Option<Who>,
    ) -> Asked {
        let done = |word, answer| Asked {
            word,
            answer: Some(answer),
        };
        let tid = word & FUTEX_TID_MASK;
        if tid == who.tid {
            return done(None, Err(EDEADLK));
        }
        if let Some(lock) = self.locks.get(key) {
            // Until the new owner has come back, the word may still name the dead one.
            let fits = tid == lock.owner.tid
                || (lock.died && lock.coming)
                || (tid == 0 && word & FUTEX_OWNER_DIED != 0);
            let answer = (!fits).then_some(Err(EINVAL));
            return Asked { word: None, answer };
        }
        if tid == 0 {
            let waiters = if set_waiters { FUTEX_WAITERS } else { 0 };
            let word = word & FUTEX_OWNER_DIED | who.tid | waiters;
            return done(Some(word), Ok(()));
        }
        let word = Some(word | FUTEX_WAITERS);
        let Some(owner) = owner(tid) else {
            return done(word, Err(ESRCH));
        };
        let lock = Lock {
            owner,
            waiters: Vec::new(),
            coming: false,
            died: false,
        };
        self.locks.insert(key.clone(), lock);
        Asked { word, answer: None }
    }

    /// Whether `task` would wait for itself (the kernel: `rt_mutex_adjust_prio_chain`).
    fn is_circle(&self, key: &K, task: u32) -> bool {
        let mut key = key;
        for _ in 0..=self.locks.len() {
            let Some(lock) = self.locks.get(key) else {
                return false;
            };
            let owner = lock.owner.task;
            if owner == task {
                return true;
            }
            let waits = |lock: &Lock| lock.waiters.iter().any(|other| other.task == owner);
            match self.locks.iter().find(|(_, lock)| waits(lock)) {
                Some((next, _)) => key = next,
                None => return false,
            }
        }
        false
    }

    /// Forgets a lock that nobody waits for.
    fn tidy(&mut self, key: &K) {
        if self
            .locks
            .get(key)
            .is_some_and(|lock| lock.waiters.is_empty() && !lock.coming)
        {
            self.locks.remove(key);
        }
    }

    /// `FUTEX_UNLOCK_PI`.
    pub fn unlock(&mut self, key: &K, word: u32, who: Who) -> Result<Unlocked, Errno> {
        if word & FUTEX_TID_MASK != who.tid {
            return Err(EPERM);
        }
        let Some(lock) = self.locks.get_mut(key) else {
            return Ok(Unlocked {
                word: 0,
                next: None,
            });
        };
        if lock.owner.task != who.task {
            return Err(EINVAL);
        }
        if lock.waiters.is_empty() {
            self.locks.remove(key);
            return Ok(Unlocked {
                word: 0,
                next: None,
            });
        }
        let next = lock.waiters.remove(0);
        (lock.owner, lock.coming, lock.died) = (next, true, false);
        Ok(Unlocked {
            word: FUTEX_WAITERS | next.tid,
            next: Some(next.task),
        })
    }

    /// Whether the task was given the lock that it waits for.
    pub fn has(&self, key: &K, task: u32) -> bool {
        self.locks
            .get(key)
            .is_some_and(|lock| lock.coming && lock.owner.task == task)
    }

    /// A task that was given the lock has come back. `Some`: the new value of the word, whose
    /// value is `word` now.
    pub fn came(&mut self, key: &K, word: u32) -> Option<u32> {
        let lock = self.locks.get_mut(key)?;
        lock.coming = false;
        let died = std::mem::take(&mut lock.died);
        let tid = lock.owner.tid;
        self.tidy(key);
        (died && word & FUTEX_TID_MASK != tid).then_some(FUTEX_OWNER_DIED | FUTEX_WAITERS | tid)
    }

    /// The task no longer waits, for a signal or because its time is over.
    pub fn give_up(&mut self, task: u32) {
        for lock in self.locks.values_mut() {
            lock.waiters.retain(|other| other.task != task);
        }
        self.locks
            .retain(|_, lock| !lock.waiters.is_empty() || lock.coming);
        for waiters in self.conditions.values_mut() {
            waiters.retain(|other| other.who.task != task);
        }
        self.conditions.retain(|_, waiters| !waiters.is_empty());
    }

    /// The task has ended. The result are the waiters that have its locks now.
    pub fn ended(&mut self, task: u32) -> Vec<u32> {
        self.give_up(task);
        let mut next = Vec::new();
        self.locks.retain(|_, lock| {
            if lock.owner.task != task {
                return true;
            }
            if lock.waiters.is_empty() {
                return false;
            }
            lock.owner = lock.waiters.remove(0);
            (lock.coming, lock.died) = (true, true);
            next.push(lock.owner.task);
            true
        });
        next.sort_unstable();
        next
    }

    /// `FUTEX_WAIT_REQUEUE_PI`, once the first word was found to have the wanted value: the task
    /// waits for `FUTEX_CMP_REQUEUE_PI` from `key` to `target`.
    pub fn wait(&mut self, key: K, target: K, who: Who) {
        let waiters = self.conditions.entry(key).or_default();
        let at = waiters.partition_point(|other| other.who.priority <= who.priority);
        waiters.insert(at, Requeued { who, target });
    }

    /// Whether the task still waits to be moved.
    pub fn waits(&self, key: &K, task: u32) -> bool {
        let waiters = self.conditions.get(key);
        waiters.is_some_and(|waiters| waiters.iter().any(|other| other.who.task == task))
    }

    /// `FUTEX_CMP_REQUEUE_PI`, once the first word was found to have the wanted value: the first
    /// waiter gets the lock if it is free, others wait for it from now on. `word` is the second
    /// one.
    pub fn requeue(
        &mut self,
        key: &K,
        target: &K,
        word: u32,
        most: u32,
        owner: impl FnOnce(u32) -> Option<Who>,
    ) -> Moved {
        let nothing = |answer| Moved {
            word: None,
            answer,
            next: None,
        };
        let Some(first) = self.conditions.get(key).and_then(|waiters| waiters.first()) else {
            return nothing(Ok(0));
        };
        if first.target != *target {
            return nothing(Err(EINVAL));
        }
        let who = first.who;
        let asked = self.attach(target, word, who, most > 0, owner);
        let (mut count, mut next) = (0, None);
        match asked.answer {
            Some(Err(errno)) => {
                return Moved {
                    word: asked.word,
                    answer: Err(errno),
                    next,
                };
            }
            Some(Ok(())) => {
                self.give_up(who.task);
                let lock = Lock {
                    owner: who,
                    waiters: Vec::new(),
                    coming: true,
                    died: false,
                };
                self.locks.insert(target.clone(), lock);
                (count, next) = (1, Some(who.task));
            }
            None => {}
        }
        let answer = loop {
            // One is woken (or waits for the lock in place of that); then `most` are moved.
            let first = self.conditions.get(key).and_then(|waiters| waiters.first());
            let Some(first) = first.filter(|_| i64::from(count) - 1 < i64::from(most)) else {
                break Ok(count);
            };
            if first.target != *target {
                break Err(EINVAL);
            }
            let who = first.who;
            if self.is_circle(target, who.task) {
                break Err(EDEADLK);
            }
            if let Some(waiters) = self.conditions.get_mut(key) {
                waiters.remove(0);
            }
            if let Some(lock) = self.locks.get_mut(target) {
                enqueue(&mut lock.waiters, who);
            }
            count += 1;
        };
        self.conditions.retain(|_, waiters| !waiters.is_empty());
        self.tidy(target);
        Moved {
            word: asked.word,
            answer,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Who = Who {
        task: 1,
        tid: 101,
        priority: 0,
    };
    const B: Who = Who {
        task: 2,
        tid: 102,
        priority: 0,
    };
    const C: Who = Who {
        task: 3,
        tid: 103,
        priority: 0,
    };
    /// Goes before the others.
    const R: Who = Who {
        task: 4,
        tid: 104,
        priority: -10,
    };

    fn find(tid: u32) -> Option<Who> {
        [A, B, C, R].into_iter().find(|who| who.tid == tid)
    }

    const WAITS: Option<Result<(), Errno>> = None;

    #[test]
    fn hand_over() {
        let mut locks = Locks::default();
        let free = locks.lock(&'x', 0, A, false, find);
        assert_eq!(
            free,
            Asked {
                word: Some(101),
                answer: Some(Ok(()))
            }
        );
        let own = locks.lock(&'x', 101, A, false, find);
        assert_eq!(own.answer, Some(Err(EDEADLK)));
        let tried = locks.lock(&'x', 101, B, true, find);
        assert_eq!(
            tried,
            Asked {
                word: Some(FUTEX_WAITERS | 101),
                answer: Some(Err(EAGAIN))
            }
        );
        let word = FUTEX_WAITERS | 101;
        assert_eq!(
            locks.lock(&'x', word, B, false, find),
            Asked {
                word: Some(word),
                answer: WAITS
            }
        );
        assert_eq!(
            locks.lock(&'x', word, C, false, find),
            Asked {
                word: None,
                answer: WAITS
            }
        );
        assert_eq!(locks.lock(&'x', word, R, false, find).answer, WAITS);
        assert_eq!(locks.unlock(&'x', word, B), Err(EPERM));
        // The higher priority first, then the first.
        let word = FUTEX_WAITERS | 104;
        assert_eq!(
            locks.unlock(&'x', FUTEX_WAITERS | 101, A),
            Ok(Unlocked {
                word,
                next: Some(4)
            })
        );
        assert!(locks.has(&'x', 4) && !locks.has(&'x', 2));
        assert_eq!(locks.came(&'x', word), None);
        let word = FUTEX_WAITERS | 102;
        assert_eq!(
            locks.unlock(&'x', FUTEX_WAITERS | 104, R),
            Ok(Unlocked {
                word,
                next: Some(2)
            })
        );
        assert_eq!(locks.came(&'x', word), None);
        locks.give_up(3);
        assert_eq!(
            locks.unlock(&'x', word, B),
            Ok(Unlocked {
                word: 0,
                next: None
            })
        );
        assert!(locks.locks.is_empty());
    }

    #[test]
    fn nobody_has_it() {
        let mut locks = Locks::default();
        let gone = locks.lock(&'x', 999, A, false, find);
        assert_eq!(
            gone,
            Asked {
                word: Some(FUTEX_WAITERS | 999),
                answer: Some(Err(ESRCH))
            }
        );
        // The bit of the dead owner stays for the new one to see; the waiters' bit goes.
        let died = FUTEX_OWNER_DIED | FUTEX_WAITERS;
        let taken = locks.lock(&'x', died, A, false, find);
        assert_eq!(
            taken,
            Asked {
                word: Some(FUTEX_OWNER_DIED | 101),
                answer: Some(Ok(()))
            }
        );
    }

    #[test]
    fn an_owner_dies() {
        let mut locks = Locks::default();
        assert_eq!(locks.lock(&'x', 101, B, false, find).answer, WAITS);
        assert_eq!(
            locks.lock(&'x', FUTEX_WAITERS | 101, C, false, find).answer,
            WAITS
        );
        assert_eq!(locks.ended(1), [2]);
        // Somebody comes while the new owner is on its way: whatever the word says.
        for word in [FUTEX_OWNER_DIED | FUTEX_WAITERS, FUTEX_WAITERS | 101] {
            assert_eq!(
                locks.lock(&'x', word, R, true, find).answer,
                Some(Err(EAGAIN))
            );
        }
        let word = FUTEX_OWNER_DIED | FUTEX_WAITERS | 102;
        assert_eq!(
            locks.came(&'x', FUTEX_OWNER_DIED | FUTEX_WAITERS),
            Some(word)
        );
        // The next one, too, before it has come back.
        assert_eq!(locks.ended(2), [3]);
        assert_eq!(locks.ended(3), []);
        assert!(locks.locks.is_empty());
    }

    #[test]
    fn circles() {
        let mut locks = Locks::default();
        assert_eq!(locks.lock(&'x', 101, B, false, find).answer, WAITS);
        assert_eq!(locks.lock(&'y', 102, C, false, find).answer, WAITS);
        assert_eq!(
            locks.lock(&'z', 103, A, false, find).answer,
            Some(Err(EDEADLK))
        );
        assert_eq!(locks.lock(&'z', 103, R, false, find).answer, WAITS);
        // The word names somebody else than the one who waited last time.
        let fiddled = locks.lock(&'x', FUTEX_WAITERS | 103, R, false, find);
        assert_eq!(fiddled.answer, Some(Err(EINVAL)));
    }

    #[test]
    fn requeue_takes_a_free_lock() {
        let mut locks = Locks::default();
        assert_eq!(locks.requeue(&'c', &'x', 0, 5, find).answer, Ok(0));
        locks.wait('c', 'x', A);
        locks.wait('c', 'x', B);
        locks.wait('c', 'x', R);
        assert_eq!(locks.requeue(&'c', &'y', 0, 5, find).answer, Err(EINVAL));
        let moved = locks.requeue(&'c', &'x', 0, 1, find);
        let word = FUTEX_WAITERS | 104;
        assert_eq!(
            moved,
            Moved {
                word: Some(word),
                answer: Ok(2),
                next: Some(4)
            }
        );
        assert!(locks.has(&'x', 4) && !locks.waits(&'c', 1) && locks.waits(&'c', 2));
        assert_eq!(locks.came(&'x', word), None);
        assert_eq!(
            locks.unlock(&'x', word, R).map(|done| done.next),
            Ok(Some(1))
        );
    }

    #[test]
    fn requeue_behind_an_owner() {
        let mut locks = Locks::default();
        locks.wait('c', 'x', A);
        locks.wait('c', 'x', B);
        let moved = locks.requeue(&'c', &'x', 103, 1, find);
        let word = FUTEX_WAITERS | 103;
        assert_eq!(
            moved,
            Moved {
                word: Some(word),
                answer: Ok(2),
                next: None
            }
        );
        assert_eq!(
            locks.unlock(&'x', word, C).map(|done| done.next),
            Ok(Some(1))
        );
        locks.give_up(2);
        assert_eq!(locks.came(&'x', FUTEX_WAITERS | 101), None);
        assert!(locks.locks.is_empty() && locks.conditions.is_empty());
        // Not one is woken without the lock.
        locks.wait('c', 'x', A);
        locks.wait('c', 'x', B);
        assert_eq!(locks.requeue(&'c', &'x', 0, 0, find).answer, Ok(1));
        assert!(locks.waits(&'c', 2));
    }
}
