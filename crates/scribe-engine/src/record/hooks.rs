//! What the program tells its recorder: texts, events and bookmarks (`scribe_hooks`, `include/scribe.h`). Depends on
//! the answering of calls, and for bookmarks on bringing tasks together (`gather`).
//!
//! A replay needs no code for these calls: it has the results.

use super::calls::Kind;
use super::*;
use scribe_hooks::call::{BOOKMARK, E2BIG, EFAULT, STATE, TEXT_MAX};
use scribe_syscalls::{Call, Row};

impl Recorder {
    /// Answers such a call; if it wants a bookmark, when there is one.
    pub(super) fn hook(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [_, operation, at, size, ..] = call.args;
        let operation = operation as u32;
        if operation == STATE {
            return self.answer(id, row, call, 1);
        }
        if size > TEXT_MAX as u64 {
            return self.answer(id, row, call, E2BIG);
        }
        let Ok(text) = self.task(id).space.mem.read_vec(at, size as usize) else {
            return self.answer(id, row, call, EFAULT);
        };
        if operation != BOOKMARK {
            return self.answer(id, row, call, 1);
        }
        // Its event comes when the bookmark is there, and has the number.
        let pending = self.prepare(id, row, call, Kind::Plain);
        self.task_mut(id).call = Some(Box::new(pending));
        self.await_bookmark(id, text);
        Ok(())
    }
}
