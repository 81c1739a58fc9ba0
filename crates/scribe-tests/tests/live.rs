//! Replays that turn live: what the recording showed up to its bookmark, and what the living program shows
//! from there, is what an uninterrupted run shows.

#[path = "live/lives.rs"]
mod lives;
#[path = "live/servers.rs"]
mod servers;

use scribe_tests::guard::Guarded;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, installed, repository};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn script(interpreter: &str, name: &str) -> Vec<OsString> {
    let path = repository().join("tests/live").join(name);
    vec![interpreter.into(), path.into()]
}

fn record(settings: &Settings, dir: &Path, program: &[OsString]) -> Guarded {
    Command::new(&settings.scribe)
        .current_dir(dir)
        .args(["record", "--force", "-o", "log", "--"])
        .args(program)
        .stdin(Stdio::null())
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(File::create(dir.join("err")).unwrap())
        .spawn()
        .map(Guarded::new)
        .unwrap()
}

fn ask(recorder: &Child, signal: i32) {
    // SAFETY: a system call without pointers, about a child of ours.
    assert_eq!(unsafe { libc::kill(recorder.id() as i32, signal) }, 0);
}

fn go_live(settings: &Settings, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&settings.scribe);
    command
        .current_dir(dir)
        .arg("replay")
        .args(args)
        .arg("log")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// Namespaces, which a container may forbid.
fn possible() -> bool {
    let tried = Command::new("unshare")
        .args(["--pid", "--mount", "--fork", "true"])
        .status();
    let found = tried.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: this system does not allow namespaces");
    }
    found
}

/// Records with a bookmark at these points, milliseconds; goes on from there.
fn rounds(name: &str, program: &[OsString], points: &[u64]) {
    if !possible() {
        return;
    }
    let settings = Settings::from_env();
    let scratch = Scratch::new(name, &settings);
    let dir = scratch.path();
    for point in points {
        clear(dir);
        let mut recorder = record(&settings, dir, program);
        sleep(Duration::from_millis(*point));
        ask(&recorder, libc::SIGUSR2);
        let recorded = recorder.wait().unwrap();
        let said = fs::read_to_string(dir.join("err")).unwrap();
        if !said.contains("bookmark 1") {
            // It had not begun, or was over.
            continue;
        }
        let live = go_live(&settings, dir, &["--live-at", "1"])
            .output()
            .unwrap();
        let told = text(&live.stderr);
        assert!(told.contains("live at bookmark 1"), "at {point} ms: {told}");
        assert_eq!(live.status.code(), recorded.code(), "at {point} ms: {told}");
        let expected = fs::read(dir.join("out")).unwrap();
        assert_eq!(text(&live.stdout), text(&expected), "at {point} ms: {told}");
    }
}

#[test]
fn a_script_goes_on() {
    rounds(
        "live-script",
        &script("bash", "pipeline.sh"),
        &[150, 350, 500, 700, 900],
    );
}

#[test]
fn objects_are_there_again() {
    rounds(
        "live-objects",
        &script("python3", "objects.py"),
        &[300, 500, 700, 900],
    );
}

#[test]
fn a_database_is_sound() {
    rounds("live-database", &script("python3", "wal.py"), &[300, 700]);
}

/// Threads in calls of all kinds, handlers, timers, children; it looks at what it is in, too.
#[test]
fn a_program_finds_nothing_unusual() {
    if !possible() {
        return;
    }
    let all = Program::all("live");
    let found = all.iter().find(|program| program.name == "everything");
    let program = found.unwrap().case().unwrap().argv;
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-everything", &settings);
    let dir = scratch.path();
    for point in [300, 1500] {
        clear(dir);
        let mut recorder = record(&settings, dir, &program);
        sleep(Duration::from_millis(point));
        ask(&recorder, libc::SIGUSR2);
        assert!(recorder.wait().unwrap().success());
        let said = fs::read_to_string(dir.join("err")).unwrap();
        if !said.contains("bookmark 1") || said.contains("cannot turn live") {
            continue;
        }
        let live = go_live(&settings, dir, &["--live-at", "1"])
            .output()
            .unwrap();
        let told = text(&live.stderr);
        assert_eq!(live.status.code(), Some(0), "at {point} ms: {told}");
        assert!(
            text(&live.stdout).contains("all is well, untraced"),
            "at {point} ms: {told}"
        );
    }
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        sleep(Duration::from_millis(20));
    }
}

/// A program that was let go: the replay goes on where its recording ended.
#[test]
fn the_end_of_a_recording_goes_on() {
    if !possible() {
        return;
    }
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-end", &settings);
    let dir = scratch.path();
    let script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done; exit 4";
    let mut recorder = record(&settings, dir, &["bash", "-c", script].map(OsString::from));
    wait_for("output", || {
        fs::read_to_string(dir.join("out")).unwrap().contains('3')
    });
    ask(&recorder, libc::SIGUSR2);
    wait_for("the bookmark", || {
        let said = fs::read_to_string(dir.join("err")).unwrap();
        said.contains("bookmark 1")
    });
    ask(&recorder, libc::SIGUSR1);
    recorder.wait().unwrap();
    let args = ["--live-at", "end", "--record-on", "second"];
    let live = go_live(&settings, dir, &args).output().unwrap();
    assert_eq!(live.status.code(), Some(4), "{}", text(&live.stderr));
    assert_eq!(text(&live.stdout), "1\n2\n3\n4\n5\n6\n7\n8\n");
    // What was live was recorded in its turn.
    let mut second = Command::new(&settings.scribe);
    let args = ["replay", "--verify", "second"];
    let second = second.current_dir(dir).args(args).output().unwrap();
    assert_eq!(second.status.code(), Some(4), "{}", text(&second.stderr));
    assert!(
        second.stdout.ends_with(b"7\n8\n"),
        "{}",
        text(&second.stdout)
    );
}

/// SIGUSR1 turns a running replay live, at the next bookmark.
#[test]
fn a_running_replay_turns_live() {
    if !possible() {
        return;
    }
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-asked", &settings);
    let dir = scratch.path();
    // Computes for long enough, so that its replay does.
    let script = "n=0; for i in 1 2 3 4 5 6; do for j in {1..60000}; do n=$((n+j)); done; echo $i; done; \
                  sleep 0.3; echo $n";
    let mut recorder = record(&settings, dir, &["bash", "-c", script].map(OsString::from));
    wait_for("output", || {
        fs::read_to_string(dir.join("out")).unwrap().contains('6')
    });
    ask(&recorder, libc::SIGUSR2);
    assert!(recorder.wait().unwrap().success());
    let mut live = go_live(&settings, dir, &[]);
    let child = live
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(150));
    ask(&child, libc::SIGUSR1);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(ended.stdout, fs::read(dir.join("out")).unwrap());
    assert!(
        text(&ended.stderr).contains("live at bookmark 1"),
        "{}",
        text(&ended.stderr)
    );
}

fn files(settings: &Settings, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).arg("files").args(args);
    command.output().unwrap()
}

/// What the living program changes is its own until somebody wants it; with the real files it is told
/// that they differ.
#[test]
fn files_are_its_own() {
    if !possible() {
        return;
    }
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-files", &settings);
    let dir = scratch.path();
    let script = "echo one > a; echo old > gone; sleep 0.5; echo two >> a; rm gone; mkdir -p d; \
                  echo new > d/b; cat a";
    let mut recorder = record(&settings, dir, &["bash", "-c", script].map(OsString::from));
    wait_for("the file", || dir.join("gone").exists());
    sleep(Duration::from_millis(100));
    ask(&recorder, libc::SIGUSR2);
    assert!(recorder.wait().unwrap().success());
    let real = go_live(&settings, dir, &["--live-at", "1", "--files", "real"])
        .output()
        .unwrap();
    let told = text(&real.stderr);
    assert_eq!(real.status.code(), Some(1), "{told}");
    assert!(
        told.contains("is not what it was") && told.contains("--live-anyway"),
        "{told}"
    );
    fs::write(dir.join("a"), "other\n").unwrap();
    let live = go_live(&settings, dir, &["--live-at", "1"])
        .output()
        .unwrap();
    assert_eq!(text(&live.stdout), "one\ntwo\n", "{}", text(&live.stderr));
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "other\n");
    let listed = files(&settings, dir, &["log.live"]);
    let here = dir.canonicalize().unwrap();
    assert_eq!(
        text(&listed.stdout),
        format!("M {}\n", here.join("a").display())
    );
    assert!(
        files(&settings, dir, &["--apply", "log.live"])
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "one\ntwo\n");
}

/// What cannot be done is said before anything runs.
#[test]
fn what_is_missing_is_said() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-missing", &settings);
    let dir = scratch.path();
    let mut recorder = record(&settings, dir, &["echo", "done"].map(OsString::from));
    assert!(recorder.wait().unwrap().success());
    for (at, said) in [("3", "no bookmark 3"), ("end", "no bookmark")] {
        let refused = go_live(&settings, dir, &["--live-at", at])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            text(&refused.stderr).contains(said),
            "{}",
            text(&refused.stderr)
        );
        assert!(
            text(&refused.stderr).contains("scribe bookmark"),
            "{}",
            text(&refused.stderr)
        );
        assert_eq!(refused.stdout, b"");
    }
    let none = files(&settings, dir, &["."]);
    assert_eq!(none.status.code(), Some(1));
}

fn redis(port: u16, args: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    let out = command
        .args(["-p", &port.to_string()])
        .args(args)
        .output()
        .unwrap();
    text(&out.stdout).trim().to_owned()
}

/// A server: recorded under load, replayed, live, with all that it had acknowledged.
#[test]
fn a_server_serves_on() {
    if !possible() || !installed(&["redis-server", "redis-cli", "redis-benchmark"]) {
        return;
    }
    let settings = Settings::from_env();
    let scratch = Scratch::new("live-redis", &settings);
    let dir = scratch.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let number = port.to_string();
    let server = [
        "redis-server",
        "--port",
        &number,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let mut recorder = record(&settings, dir, &server.map(OsString::from));
    wait_for("the server", || redis(port, &["ping"]) == "PONG");
    let load = [
        "-p",
        &number,
        "-t",
        "set,lpush",
        "-n",
        "5000",
        "-r",
        "1000",
        "-q",
        "-c",
        "8",
    ];
    assert!(
        Command::new("redis-benchmark")
            .args(load)
            .output()
            .unwrap()
            .status
            .success()
    );
    for i in 0..50 {
        assert_eq!(
            redis(port, &["set", &format!("k{i}"), &format!("v{i}")]),
            "OK"
        );
    }
    ask(&recorder, libc::SIGUSR2);
    wait_for("the bookmark", || {
        fs::read_to_string(dir.join("err"))
            .unwrap()
            .contains("bookmark 1")
    });
    assert_eq!(redis(port, &["set", "late", "1"]), "OK");
    let size = redis(port, &["dbsize"]).parse::<u64>().unwrap() - 1;
    redis(port, &["shutdown", "nosave"]);
    assert!(recorder.wait().unwrap().success());
    let mut live = go_live(&settings, dir, &["-q", "--live-at", "1"]);
    let live = live
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the living server", || redis(port, &["ping"]) == "PONG");
    assert_eq!(redis(port, &["dbsize"]), size.to_string());
    for i in 0..50 {
        assert_eq!(redis(port, &["get", &format!("k{i}")]), format!("v{i}"));
    }
    assert_eq!(redis(port, &["get", "late"]), "");
    assert!(
        Command::new("redis-benchmark")
            .args(load)
            .output()
            .unwrap()
            .status
            .success()
    );
    redis(port, &["shutdown", "nosave"]);
    let ended = live.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
}
