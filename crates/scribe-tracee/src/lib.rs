//! scribe-tracee
