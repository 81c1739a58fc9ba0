//! What a program tells Scribe (`include/scribe.h`), as the command line shows it.

use scribe_tests::Settings;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn program(dir: &str, name: &str) -> OsString {
    let all = Program::all(dir);
    let found = all.iter().find(|program| program.name == name);
    found.unwrap().case().unwrap().argv.remove(0)
}

fn scribe(settings: &Settings, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a profile from the first text of the program on, without what is neither text, event nor
/// bookmark.
fn said(profile: &Output) -> Vec<String> {
    let words = ["text ", "event ", "bookmark "];
    let lines = text(&profile.stdout);
    let lines = lines.lines().filter_map(|line| line.split_once("] "));
    let lines = lines.filter(|(_, line)| words.iter().any(|word| line.starts_with(word)));
    lines.map(|(_, line)| line.to_owned()).collect()
}

/// Natively nobody answers. Recorded: the texts and events are in the profile at each level, and a replay goes to
/// the bookmark.
#[test]
fn texts_are_shown_and_bookmarks_reached() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("hooks", &settings);
    let dir = scratch.path();
    let phases = program("programs", "hooks_phases");
    let native = Command::new(&phases).output().unwrap();
    let native = text(&native.stdout);
    assert_eq!(native.lines().count(), 2, "{native}");
    for level in ["0", "1", "2"] {
        let recorded = Command::new(&settings.scribe)
            .current_dir(dir)
            .arg("record")
            .args(&settings.record_flags)
            .args(["--force", "-l", level, "-o", "log", "--"])
            .arg(&phases)
            .output()
            .unwrap();
        assert_eq!(recorded.status.code(), Some(0), "{recorded:?}");
        let out = text(&recorded.stdout);
        let (before, after) = out.split_once("bookmark 1\n").unwrap();
        assert_eq!(after, "phase two\n");

        let whole = scribe(&settings, dir, &["replay", "--verify", "log"]);
        assert_eq!(whole.status.code(), Some(0), "{whole:?}");
        assert_eq!(text(&whole.stdout), out);
        let part = scribe(&settings, dir, &["replay", "--to", "1", "log"]);
        assert_eq!(part.status.code(), Some(0), "{part:?}");
        assert_eq!(text(&part.stdout), before);
        let passed = text(&part.stderr);
        let expected = "scribe: bookmark 1 \"between the phases\" at ";
        assert!(passed.starts_with(expected), "{passed}");

        let lines = said(&scribe(&settings, dir, &["profile", "log"]));
        let bookmark = lines.get(1).unwrap();
        assert!(bookmark.starts_with("bookmark 1 at "), "{bookmark}");
        assert!(
            bookmark.ends_with(" s \"between the phases\""),
            "{bookmark}"
        );
        let others: Vec<&str> = lines.iter().map(String::as_str).collect();
        let others = [&others[..1], &others[2..]].concat();
        let expected = [
            "text \"phase one is over\"",
            "event \"item\" = 0",
            "event \"item\" = 1",
            "event \"item\" = 4",
        ];
        assert_eq!(others, expected);

        let json = scribe(&settings, dir, &["profile", "--format", "json", "log"]);
        let json = text(&json.stdout);
        for (kind, parts) in [
            ("text", &["\"said\":\"phase one is over\""][..]),
            ("event", &["\"said\":\"item\"", "\"value\":4"]),
            ("bookmark", &["\"text\":\"between the phases\""]),
        ] {
            let kind = format!("\"kind\":\"{kind}\"");
            let found = json
                .lines()
                .any(|line| line.contains(&kind) && parts.iter().all(|part| line.contains(part)));
            assert!(found, "no {kind} with {parts:?} in {json}");
        }
    }
}

/// A program that is attached to, and let go again, finds that out at its next call.
#[test]
fn recordings_begin_and_end_between_two_calls() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("hooks-attach", &settings);
    let dir = scratch.path();
    let waits = program("detach", "hooks");
    for round in 0..8 {
        let mut child = Command::new(&waits)
            .stdout(File::create(dir.join("out")).unwrap())
            .stderr(File::create(dir.join("err")).unwrap())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        sleep(Duration::from_millis(50));
        let mut recorder = Command::new(&settings.scribe)
            .current_dir(dir)
            .arg("record")
            .args(&settings.record_flags)
            .args(["--force", "-o", "log", "-p", &pid])
            .stderr(File::create(dir.join("said")).unwrap())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !text(&fs::read(dir.join("said")).unwrap()).contains("scribe:") {
            assert!(begin.elapsed() < Duration::from_secs(30));
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(100 + 37 * round));
        let asked = scribe(&settings, dir, &["detach", &pid]);
        assert!(asked.status.success(), "{asked:?}");
        let end = recorder.wait().unwrap();
        let what = text(&fs::read(dir.join("said")).unwrap());
        assert_eq!(end.code(), Some(0), "{what}");
        let status = child.wait().unwrap();
        let (out, err) = ["out", "err"]
            .map(|name| text(&fs::read(dir.join(name)).unwrap()))
            .into();
        assert!(
            status.success() && out.contains("all is well"),
            "{out}{err}{what}"
        );

        let replayed = scribe(&settings, dir, &["replay", "--verify", "log"]);
        assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
        let lines = said(&scribe(&settings, dir, &["profile", "log"]));
        assert!(
            lines.contains(&"text \"it begins\"".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.iter().any(|line| line.ends_with(" s \"round\"")),
            "{lines:?}"
        );
        assert!(!lines.iter().any(|line| line.contains("too ")), "{lines:?}");
    }
}
