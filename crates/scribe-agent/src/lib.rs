//! scribe-agent
