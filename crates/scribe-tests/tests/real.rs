//! Programs that people use, recorded and replayed. Each test is skipped, with a word of why, where
//! its program is not installed; `tests/packages.txt` names the packages.

#[path = "real/interactive.rs"]
mod interactive;
#[path = "real/servers.rs"]
mod servers;
#[path = "real/tools.rs"]
mod tools;

use scribe_tests::round::Case;
use scribe_tests::{Settings, check_case, installed};

/// One round with the case, if the commands it needs are there.
fn check(needs: &[&str], case: Case) {
    if installed(needs) {
        check_case(&case, &Settings::from_env());
    }
}
