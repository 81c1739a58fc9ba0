//! One test for each file in `tests/programs`.

include!(concat!(env!("OUT_DIR"), "/programs.rs"));
