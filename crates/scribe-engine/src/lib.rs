//! scribe-engine
