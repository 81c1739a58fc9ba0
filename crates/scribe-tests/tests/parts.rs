//! Recordings in parts: replay can begin at each, and old ones are dropped.

use scribe_tests::Settings;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn record(settings: &Settings, dir: &Path, args: &[&str], command: &[&str]) {
    let mut recorder = Command::new(&settings.scribe);
    recorder
        .current_dir(dir)
        .arg("record")
        .args(&settings.record_flags);
    recorder
        .args(["-o", "a.log"])
        .args(args)
        .arg("--")
        .args(command);
    recorder.stdout(File::create(dir.join("out")).unwrap());
    recorder.stderr(File::create(dir.join("err")).unwrap());
    let status = recorder.status().unwrap();
    let err = fs::read_to_string(dir.join("err")).unwrap();
    assert!(status.success(), "{err}");
}

fn replay(settings: &Settings, dir: &Path, log: &Path) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).arg("replay");
    command
        .args(&settings.replay_flags)
        .arg("--verify")
        .arg(log);
    let replayed = command.output().unwrap();
    let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
    let code = replayed.status.code();
    assert_eq!(code, Some(0), "{}: {text}", log.display());
    replayed
}

/// All parts but the first, in no order.
fn parts(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let names = entries.map(|entry| PathBuf::from(entry.file_name()));
    names
        .filter(|name| name.to_string_lossy().contains(".part"))
        .collect()
}

/// Threads in calls of all kinds, in handlers, computing, with children.
#[test]
fn a_replay_can_begin_at_each_part() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("parts", &settings);
    let dir = scratch.path();
    let all = Program::all("detach");
    let found = all.iter().find(|program| program.name == "everything");
    let program = found.unwrap().case().unwrap().argv.remove(0);
    let program = program.to_string_lossy();
    record(&settings, dir, &["--snapshot-every", "0.4"], &[&program]);
    let out = fs::read(dir.join("out")).unwrap();
    assert!(String::from_utf8_lossy(&out).contains("all is well"));
    let whole = replay(&settings, dir, Path::new("a.log"));
    assert!(
        whole.stdout == out,
        "the parts together show something else"
    );
    let parts = parts(dir);
    assert!(!parts.is_empty());
    for part in parts {
        let replayed = replay(&settings, dir, &part);
        assert!(out.ends_with(&replayed.stdout), "{}", part.display());
    }
}

#[test]
fn only_the_last_seconds_are_kept() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("parts-keep", &settings);
    let dir = scratch.path();
    let script = "for i in $(seq 30); do date +$i-%N; sleep 0.1; done";
    record(&settings, dir, &["--keep", "1s"], &["bash", "-c", script]);
    assert!(!dir.join("a.log").exists());
    assert!((2..=4).contains(&parts(dir).len()));
    let replayed = replay(&settings, dir, Path::new("a.log"));
    let said = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert!(said.contains("a.log was not kept"), "{said}");
    let (out, seen) = (fs::read(dir.join("out")).unwrap(), replayed.stdout);
    let lines = seen.split(|byte| *byte == b'\n').count();
    assert!(
        out.ends_with(&seen) && (5..30).contains(&lines),
        "{lines} lines"
    );
}
