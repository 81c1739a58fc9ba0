//! The token: the right to run application code in a lane.
//!
//! One cache line in memory that the agent and the engine share. It is the only scheduler state:
//! the engine's slow path and the agent's fast path take and release the same word. Who waits is
//! not in it; a waiter queues in the engine, or (agent) sleeps on the word as a futex.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Nobody holds the token.
pub const FREE: u32 = 0;

/// How the previous holder gave the token up. Replay needs it to know where that task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// After an event, before any further application code.
    AfterEvent,
    /// Inside a call: it ran on to its next sync point first.
    InCall,
}

/// The token of one lane.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Token {
    /// Task number of the holder, or [`FREE`]; also the futex word.
    holder: AtomicU32,
    /// Task number of the last holder; bit 31 set when it left the token inside a call.
    last: AtomicU32,
    /// How often the token went to another task than the one that had it last.
    serial: AtomicU64,
}

const IN_CALL: u32 = 1 << 31;

impl Token {
    /// A free token whose last holder is `task`, so that its first acquisition by `task` is no
    /// switch.
    pub fn new(task: u32) -> Token {
        Token {
            holder: AtomicU32::new(FREE),
            last: AtomicU32::new(task),
            serial: AtomicU64::new(0),
        }
    }

    /// The word that is the holder, for who sleeps on it (futex(2)).
    pub fn word(&self) -> &AtomicU32 {
        &self.holder
    }

    /// The present holder.
    pub fn holder(&self) -> Option<u32> {
        match self.holder.load(Ordering::Acquire) {
            FREE => None,
            task => Some(task),
        }
    }

    /// Takes the token for `task` if it is free. `Ok(None)`: the same task had it last, the
    /// schedule did not change. `Ok(Some(left))`: a switch, and how the last holder left it.
    /// `Err(holder)`: it is taken.
    pub fn try_acquire(&self, task: u32) -> Result<Option<Left>, u32> {
        self.holder
            .compare_exchange(FREE, task, Ordering::Acquire, Ordering::Acquire)?;
        let last = self.last.load(Ordering::Relaxed);
        if last & !IN_CALL == task {
            return Ok(None);
        }
        self.last.store(task, Ordering::Relaxed);
        self.serial.fetch_add(1, Ordering::Relaxed);
        Ok(Some(if last & IN_CALL != 0 {
            Left::InCall
        } else {
            Left::AfterEvent
        }))
    }

    /// A schedule begins anew: `task` is the last holder of the token, which must be free.
    pub fn restart(&self, task: u32) {
        debug_assert_eq!(self.holder(), None);
        self.last.store(task, Ordering::Relaxed);
    }

    /// Gives the token up. The caller must be the holder.
    pub fn release(&self, task: u32, left: Left) {
        debug_assert_eq!(self.holder(), Some(task));
        self.last.store(
            task | if left == Left::InCall { IN_CALL } else { 0 },
            Ordering::Relaxed,
        );
        self.holder.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reacquiring_is_no_switch() {
        let token = Token::new(7);
        assert_eq!(token.try_acquire(7), Ok(None));
        assert_eq!(token.try_acquire(8), Err(7));
        token.release(7, Left::InCall);
        assert_eq!(token.try_acquire(7), Ok(None));
        token.release(7, Left::InCall);
        assert_eq!(token.try_acquire(8), Ok(Some(Left::InCall)));
        token.release(8, Left::AfterEvent);
        assert_eq!(token.try_acquire(7), Ok(Some(Left::AfterEvent)));
        assert_eq!(token.holder(), Some(7));
    }
}
