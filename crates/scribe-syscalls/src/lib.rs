//! scribe-syscalls
