//! scribe-log
