//! What a program can tell the Scribe that records it: the same as `include/scribe.h`, for Rust. `no_std`, no
//! allocation, no dependencies.
//!
//! Each function is one system call that the kernel refuses (`prctl` with an option that it does not have, some
//! 150 ns), and that Scribe answers in place of the kernel. So there is nothing to initialise and nothing is
//! kept: a program can be attached to, and let go, at any time between two calls. `errno` is not touched. What
//! is not Linux on x86-64 is never recorded.
//!
//! A replay gives the program what the recording gave it, here as everywhere: [`recorded`] is true in both,
//! [`bookmark`] returns the same number. No program can find out that it is being replayed.
//!
//! ```
//! scribe_hooks::text("the cache is warm");
//! scribe_hooks::event("queue length", 17);
//! if let Ok(id) = scribe_hooks::bookmark("before the merge") {
//!     assert!(scribe_hooks::recorded());
//!     assert!(id > 0);
//! }
//! ```

#![no_std]

pub mod call;

use call::{BOOKMARK, EVENT, STATE, TEXT};

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Nobody records the program.
    NotRecorded,
    /// The text has more than [`call::TEXT_MAX`] bytes.
    TooLong,
    /// No bookmark can be set now: a process waits for its `vfork` child, or the program traces processes of
    /// its own.
    Busy,
    /// The errno that was returned is none of those that this version knows.
    Other(i32),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refused::NotRecorded => f.write_str("the program is not being recorded"),
            Refused::TooLong => f.write_str("the text is too long for the recording"),
            Refused::Busy => f.write_str("no bookmark can be set now"),
            Refused::Other(errno) => write!(f, "the recorder refused with errno {errno}"),
        }
    }
}

impl core::error::Error for Refused {}

/// Whether the program is being recorded, or replayed (which it cannot tell apart).
#[inline]
pub fn recorded() -> bool {
    answer(call::make(STATE, b"", 0)).is_ok()
}

/// Sets a bookmark, under a name that may be empty, and returns its number: `scribe replay --to NUMBER` ends within
/// this call. All threads and processes of the recording are brought together for that, and their memory is
/// hashed: bookmarks are for phases, not for loops.
///
/// # Errors
///
/// [`Refused::NotRecorded`], [`Refused::TooLong`], [`Refused::Busy`].
#[inline]
pub fn bookmark(name: &str) -> Result<u32, Refused> {
    let id = answer(call::make(BOOKMARK, name.as_bytes(), 0))?;
    u32::try_from(id).map_err(|_| Refused::Other(0))
}

/// Puts a text into the log; `scribe profile` shows it among the calls. True if it was put there: false if the
/// program is not recorded, or the text has more than [`call::TEXT_MAX`] bytes.
#[inline]
pub fn text(text: &str) -> bool {
    answer(call::make(TEXT, text.as_bytes(), 0)).is_ok()
}

/// Puts an event into the log: a name and a number. True as in [`text`].
#[inline]
pub fn event(name: &str, value: i64) -> bool {
    answer(call::make(EVENT, name.as_bytes(), value)).is_ok()
}

/// What the call's result says.
fn answer(ret: i64) -> Result<i64, Refused> {
    match ret {
        // The kernel's, or that of a filter of system calls.
        call::EINVAL | call::ENOSYS | call::EPERM => Err(Refused::NotRecorded),
        call::E2BIG => Err(Refused::TooLong),
        call::EBUSY => Err(Refused::Busy),
        -4095..0 => Err(Refused::Other(-ret as i32)),
        ret => Ok(ret),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;
    use std::string::String;

    /// The value of a `#define` of the header, without its parentheses.
    fn defined(name: &str) -> String {
        let header = include_str!("../../../include/scribe.h");
        let line = header.lines().find_map(|line| {
            let rest = line.strip_prefix("#define ")?.strip_prefix(name)?;
            rest.starts_with(' ').then(|| String::from(rest.trim()))
        });
        line.unwrap_or_else(|| panic!("{name} is not defined"))
    }

    #[test]
    fn the_header_has_the_same_numbers() {
        assert_eq!(defined("SCRIBE_OPTION_"), format!("{:#x}", call::OPTION));
        for (name, value) in [
            ("SCRIBE_STATE_", STATE),
            ("SCRIBE_BOOKMARK_", BOOKMARK),
            ("SCRIBE_TEXT_", TEXT),
            ("SCRIBE_EVENT_", EVENT),
        ] {
            assert_eq!(defined(name), format!("{value}"));
        }
        assert_eq!(defined("SCRIBE_TEXT_MAX"), format!("{}", call::TEXT_MAX));
        assert_eq!(defined("SCRIBE_BUSY"), format!("({})", call::EBUSY));
        assert_eq!(defined("SCRIBE_TOO_LONG"), format!("({})", call::E2BIG));
        assert_eq!(defined("SCRIBE_BAD_ADDRESS"), format!("({})", call::EFAULT));
    }

    #[test]
    fn nothing_happens_where_nobody_records() {
        assert!(!recorded());
        assert!(!text("a text"));
        assert!(!event("an event", -1));
        assert_eq!(bookmark("a bookmark"), Err(Refused::NotRecorded));
        assert_eq!(bookmark(""), Err(Refused::NotRecorded));
    }

    #[test]
    fn results_are_told_apart() {
        assert_eq!(answer(7), Ok(7));
        assert_eq!(answer(-7), Err(Refused::TooLong));
        assert_eq!(answer(-16), Err(Refused::Busy));
        assert_eq!(answer(-14), Err(Refused::Other(14)));
    }
}
