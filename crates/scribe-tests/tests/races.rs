//! One test for each file in `tests/races`: a single round. `scribe-stress` runs them over and over.

include!(concat!(env!("OUT_DIR"), "/races.rs"));
