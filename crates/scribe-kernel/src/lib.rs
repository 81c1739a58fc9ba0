//! scribe-kernel
