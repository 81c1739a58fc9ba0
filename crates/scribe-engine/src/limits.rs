//! How many descriptors Scribe itself may have open.
//!
//! A recorder needs some for each process, a replayer one for each file or memory object that processes share. The
//! usual soft limit of 1024 is there for programs that use select(2) (getrlimit(2)), which this one does not.

use std::sync::OnceLock;

/// What the limit was when Scribe began.
static FORMER: OnceLock<libc::rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one.
pub(crate) fn raise() {
    FORMER.get_or_init(|| {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a valid structure, for the answer and to be read.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
                let most = libc::rlimit {
                    rlim_cur: limit.rlim_max,
                    ..limit
                };
                libc::setrlimit(libc::RLIMIT_NOFILE, &most);
            }
        }
        limit
    });
}

/// Gives a program that is about to be executed the limit that Scribe was given. One async-signal-safe call.
pub(crate) fn restore() {
    if let Some(former) = FORMER.get().filter(|former| former.rlim_max != 0) {
        // SAFETY: a valid structure.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, former) };
    }
}

/// What to do about an error that comes of too few descriptors.
pub(crate) fn hint(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "; the hard limit must be raised (ulimit -Hn)",
        _ => "",
    }
}
