//! The crate `scribe-hooks`, in a recorded program: this test's own executable.

mod common;

use common::Dir;
use scribe_hooks::{Refused, bookmark, call, event, recorded, text};

/// Set where [`speaks`] runs within a recording.
const WITHIN: &str = "SCRIBE_TEST_WITHIN";

/// The recorded program; natively all says that nobody records.
#[test]
fn speaks() {
    let within = std::env::var_os(WITHIN).is_some();
    assert_eq!(recorded(), within);
    assert_eq!(text("grüße"), within);
    assert_eq!(event("least", i64::MIN), within);
    let long = "x".repeat(call::TEXT_MAX + 1);
    assert!(!text(&long));
    if within {
        assert_eq!(bookmark(&long), Err(Refused::TooLong));
        assert_eq!(bookmark("here"), Ok(1));
        assert_eq!(bookmark(""), Ok(2));
    } else {
        assert_eq!(bookmark("here"), Err(Refused::NotRecorded));
    }
}

#[test]
fn the_log_has_what_the_crate_says() {
    let dir = Dir::new();
    let own = std::env::current_exe().expect("a test has an executable");
    let mut command = dir.command(["record", "-o", "log", "--"]);
    command.arg(own).args(["--exact", "speaks"]);
    let recorded = command.env(WITHIN, "1").output().expect("the binary");
    common::Ran::from(recorded).ends_with(0);
    dir.scribe("replay --verify log")
        .ends_with(0)
        .says("bookmark 1 \"here\" at ");
    dir.scribe("profile log")
        .ends_with(0)
        .prints("] text \"grüße\"\n")
        .prints("] event \"least\" = -9223372036854775808\n")
        .prints(" s \"here\"\n");
}
