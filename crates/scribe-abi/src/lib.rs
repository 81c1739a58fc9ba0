//! scribe-abi
