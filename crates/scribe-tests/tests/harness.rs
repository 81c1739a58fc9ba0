//! The harness itself, with a stand-in for Scribe: it must pass what is right and find what is wrong.

use scribe_tests::process::End;
use scribe_tests::round::{self, Case, Stage};
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, pty};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

/// "Records" by keeping the outputs and the status, "replays" by printing them; $FAULT spoils it.
const STAND_IN: &str = r#"#!/bin/bash
if [ "$1" = record ]; then
    log=$3; shift 4
    [ "$FAULT" = no-log ] && exec "$@"
    { "$@" > "$log.out" 2> "$log.err"; } 2> /dev/null; status=$?
    cat "$log.out"; cat "$log.err" >&2; echo $status > "$log"
    [ "$FAULT" = status ] && exit 9
    [ "$FAULT" = leave ] && { sleep 100 & }
    exit $status
fi
log=$3
[ "$FAULT" = slow ] && sleep 100
[ "$FAULT" = effect ] && echo x > effect
cat "$log.out"; cat "$log.err" >&2
[ "$FAULT" = output ] && echo more
echo "scribe: a note of its own" >&2
exit $(cat "$log")
"#;

fn settings(dir: &Path) -> Settings {
    let scribe = dir.join("stand-in");
    fs::write(&scribe, STAND_IN).unwrap();
    fs::set_permissions(&scribe, fs::Permissions::from_mode(0o755)).unwrap();
    Settings {
        scribe,
        record_flags: vec![],
        replay_flags: vec![],
        user: None,
        keep: false,
        native_only: false,
        patience: 1.0,
    }
}

fn round_with(fault: &str, script: &str, expect: End) -> Result<(), (Stage, String)> {
    let dir = env::temp_dir().join(format!("scribe-harness-{}-{fault}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let settings = settings(&dir);
    let mut case = Case::bash("case", script).limit(5);
    case.env.push(("FAULT".into(), fault.into()));
    case.expect = Some(expect);
    if fault == "slow" {
        case.limit = Duration::from_millis(700);
    }
    let scratch = Scratch::new(&format!("harness-{fault}"), &settings);
    let result = round::run(&case, &settings, scratch.path(), true);
    fs::remove_dir_all(dir).unwrap();
    result.map(|_| ()).map_err(|f| (f.stage, f.message))
}

#[test]
fn passes_what_is_right() {
    assert_eq!(
        round_with("none", "echo $$; echo $RANDOM >&2; exit 3", End::Exit(3)),
        Ok(())
    );
}

#[test]
fn a_signal_may_show_as_in_a_shell() {
    assert_eq!(
        round_with("signal", "kill -USR1 $$", End::Signal(10)),
        Ok(())
    );
}

#[test]
fn finds_faults() {
    for (fault, stage, says) in [
        ("no-log", Stage::Record, "no log"),
        ("status", Stage::Record, "exit 9 instead of exit 0"),
        ("leave", Stage::Record, "sleep"),
        ("slow", Stage::Replay, "timed out"),
        ("output", Stage::Replay, "standard output differs in line 2"),
        ("effect", Stage::Replay, "side effects"),
    ] {
        let (at, message) = round_with(fault, "echo hello", End::Exit(0)).unwrap_err();
        assert_eq!(at, stage, "{fault}: {message}");
        assert!(message.contains(says), "{fault}: {message}");
    }
}

#[test]
fn finds_a_wrong_program() {
    let (at, message) = round_with("native", "exit 4", End::Exit(0)).unwrap_err();
    assert_eq!(
        (at, message.as_str()),
        (Stage::Native, "exit 4 instead of exit 0")
    );
    let (at, message) = round_with("stray", "sleep 50 & exit 0", End::Exit(0)).unwrap_err();
    assert!(
        at == Stage::Native && message.contains("sleep"),
        "{message}"
    );
}

#[test]
fn terminal_sessions() {
    let dir = env::temp_dir();
    let settings = settings(&{
        let d = dir.join(format!("scribe-harness-pty-{}", std::process::id()));
        fs::create_dir_all(&d).unwrap();
        d
    });
    let argv = ["bash", "--norc", "-i"].map(Into::into);
    let mut s = pty::Session::start(&argv, &dir, &settings).unwrap();
    s.send("stty size; echo $((6*7))x\n");
    assert!(s.expect("24 80", Duration::from_secs(5)), "{}", s.seen());
    assert!(s.expect("42x", Duration::from_secs(5)), "{}", s.seen());
    s.send("exit 5\n");
    let (end, seen) = s.finish(Duration::from_secs(5));
    assert_eq!(end, End::Exit(5), "{seen}");
    fs::remove_dir_all(settings.scribe.parent().unwrap()).unwrap();
}
