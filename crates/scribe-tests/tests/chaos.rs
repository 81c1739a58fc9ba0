//! `scribe record --chaos` and `--until-failure`, with the programs of `tests/bugs`.

use scribe_tests::Settings;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

/// Recordings of each program.
const ROUNDS: u64 = 12;

fn program(name: &str) -> OsString {
    let all = Program::all("bugs");
    let found = all.iter().find(|program| program.name == name).unwrap();
    found.case().unwrap().argv.remove(0)
}

fn scribe(settings: &Settings, dir: &Path, args: &[&str], program: Option<&OsString>) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).args(args).args(program);
    command.output().unwrap()
}

/// Whatever comes of it, it replays to the same end.
#[test]
fn recordings_replay() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("chaos", &settings);
    for bug in Program::all("bugs") {
        let program = bug.case().unwrap().argv.remove(0);
        for seed in 0..ROUNDS {
            let chaos = format!("--chaos={seed}");
            let record = ["record", "--force", "-o", "log", &chaos];
            let recorded = scribe(&settings, scratch.path(), &record, Some(&program));
            let replay = ["replay", "--verify", "log"];
            let replayed = scribe(&settings, scratch.path(), &replay, None);
            let what = format!(
                "{}, seed {seed}: {}",
                bug.name,
                String::from_utf8_lossy(&replayed.stderr)
            );
            assert!(matches!(recorded.status.code(), Some(0 | 1)), "{what}");
            assert_eq!(recorded.status, replayed.status, "{what}");
            assert_eq!(recorded.stdout, replayed.stdout, "{what}");
        }
    }
}

/// Failures that native runs hardly ever show are found, and stay.
#[test]
fn failures_are_found_and_kept() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("until-failure", &settings);
    for name in [
        "order_violation",
        "toctou",
        "lost_update",
        "signal_handler",
        "torn_pair",
    ] {
        let args = ["record", "-o", name, "--chaos=1", "--until-failure", "1000"];
        let found = scribe(&settings, scratch.path(), &args, Some(&program(name)));
        let text = String::from_utf8_lossy(&found.stderr).into_owned();
        assert_eq!(found.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains("ended with status 1 in round"), "{text}");
        for _ in 0..5 {
            let replay = ["replay", "--verify", name];
            let again = scribe(&settings, scratch.path(), &replay, None);
            assert_eq!(again.status.code(), Some(1), "{name}");
        }
    }
}

/// A program that does not fail leaves no log; one that does not end has failed.
#[test]
fn rounds_and_time_are_limited() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("limits", &settings);
    let dir = scratch.path();
    let args = ["record", "-o", "log", "--until-failure=2", "true"];
    let fine = scribe(&settings, dir, &args, None);
    assert_eq!(fine.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&fine.stderr).contains("did not fail in 2 rounds"));
    assert!(!dir.join("log").exists());
    let args = ["record", "-o", "log", "--until-failure=2", "--time-limit=1"];
    let late = scribe(
        &settings,
        dir,
        &[&args[..], &["sleep", "60"]].concat(),
        None,
    );
    assert_eq!(late.status.code(), Some(137));
    assert!(String::from_utf8_lossy(&late.stderr).contains("did not end in time in round 1"));
    let replay = scribe(&settings, dir, &["replay", "log"], None);
    assert_eq!(replay.status.code(), Some(137));
}
