//! Bookmarks, and programs that are let go in the middle of their recording.

use scribe_tests::Settings;
use scribe_tests::guard::Guarded;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Points at which the program is let go, in milliseconds.
const POINTS: [u64; 6] = [30, 200, 500, 900, 1400, 2100];

fn program(name: &str) -> OsString {
    let all = Program::all("detach");
    let found = all.iter().find(|program| program.name == name);
    found.unwrap().case().unwrap().argv.remove(0)
}

fn everything() -> OsString {
    program("everything")
}

fn record(settings: &Settings, dir: &Path, args: &[&str], program: &[OsString]) -> Guarded {
    Command::new(&settings.scribe)
        .current_dir(dir)
        .arg("record")
        .args(&settings.record_flags)
        .args(["--force", "-o", "log"])
        .args(args)
        .arg("--")
        .args(program)
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(File::create(dir.join("err")).unwrap())
        .spawn()
        .map(Guarded::new)
        .unwrap()
}

fn replay(settings: &Settings, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).arg("replay");
    command.args(&settings.replay_flags).args(args).arg("log");
    command.output().unwrap()
}

fn ask(settings: &Settings, what: &str, pid: u32) {
    let mut command = Command::new(&settings.scribe);
    let status = command.arg(what).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "scribe {what} {pid}");
}

/// The recorded program, once it runs.
fn child_of(recorder: u32) -> u32 {
    let path = format!("/proc/{recorder}/task/{recorder}/children");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if let Some(pid) = text.split_whitespace().next() {
            return pid.parse().unwrap();
        }
        sleep(Duration::from_millis(1));
    }
    panic!("the recorder has no child");
}

/// A line of /proc/PID/status.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

fn wait_for_end(pid: u32) {
    let begin = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{pid} goes on");
        sleep(Duration::from_millis(10));
    }
}

/// Threads in calls of all kinds, in handlers, computing, with children: they find nothing unusual, and
/// nothing of Scribe is left.
#[test]
fn a_program_goes_on_without_its_recorder() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("detach", &settings);
    let dir = scratch.path();
    let program = [everything()];
    for point in POINTS {
        let mut recorder = record(&settings, dir, &[], &program);
        let pid = child_of(recorder.id());
        sleep(Duration::from_millis(point));
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let said = fs::read_to_string(dir.join("err")).unwrap();
            panic!("it ended within {point} ms: {said}");
        }
        ask(&settings, "detach", pid);
        let end = recorder.wait().unwrap();
        let said = fs::read_to_string(dir.join("err")).unwrap();
        assert_eq!(end.code(), Some(0), "at {point} ms: {said}");
        assert!(said.contains("goes on without being recorded"), "{said}");
        assert_eq!(status(pid, "TracerPid:"), "0");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        for name in ["[vdso]", "[vvar]"] {
            let said = || fs::read_to_string(dir.join("err")).unwrap();
            assert!(maps.contains(name), "no {name} in {maps}: {}", said());
        }
        for line in maps.lines() {
            let start = line.split('-').next().unwrap();
            let start = u64::from_str_radix(start, 16).unwrap();
            assert!(start >= 0x50_0000_0000, "{line}");
        }
        wait_for_end(pid);
        let out = fs::read_to_string(dir.join("out")).unwrap();
        let said = fs::read_to_string(dir.join("err")).unwrap();
        assert!(out.contains("all is well"), "at {point} ms: {out}{said}");
        let replayed = replay(&settings, dir, &["--verify"]);
        let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
        assert_eq!(replayed.status.code(), Some(0), "at {point} ms: {text}");
        assert!(out.as_bytes().starts_with(&replayed.stdout));
    }
}

/// A program that was recorded from its beginning has looked up where the functions of Scribe's vDSO are.
#[test]
fn a_program_that_began_recorded_asks_for_the_time() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("detach-times", &settings);
    let dir = scratch.path();
    let program = [program("times"), "alone".into()];
    let mut recorder = record(&settings, dir, &[], &program);
    let pid = child_of(recorder.id());
    sleep(Duration::from_millis(500));
    ask(&settings, "detach", pid);
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    wait_for_end(pid);
    let out = fs::read_to_string(dir.join("out")).unwrap();
    let said = fs::read_to_string(dir.join("err")).unwrap();
    assert!(out.contains("all is well"), "{out}{said}");
    assert_eq!(replay(&settings, dir, &["--verify"]).status.code(), Some(0));
}

/// What a program is in natively: masks, handlers, alternate stack and limits are the kernel's again.
#[test]
fn the_kernel_knows_again_what_the_program_set() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("detach-state", &settings);
    let dir = scratch.path();
    let script = "trap : USR1 SEGV TRAP SYS; trap '' HUP PIPE; while :; do :; done";
    let program = ["bash", "-c", script].map(OsString::from);
    let mut native = Command::new("bash")
        .args(&program[1..])
        .spawn()
        .map(Guarded::new)
        .unwrap();
    sleep(Duration::from_millis(300));
    let lines = ["SigBlk:", "SigIgn:", "SigCgt:", "Seccomp:", "NoNewPrivs:"];
    // The two signals that libc keeps for itself depend on who starts a program.
    let status = |pid: u32, name: &str| status(pid, name).replace("0000000180", "0000000080");
    let expected = lines.map(|line| status(native.id(), line));
    native.kill().unwrap();
    native.wait().unwrap();
    let mut recorder = record(&settings, dir, &[], &program);
    let pid = child_of(recorder.id());
    sleep(Duration::from_millis(600));
    ask(&settings, "detach", recorder.id());
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    assert_eq!(lines.map(|line| status(pid, line)), expected);
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    wait_for_end(pid);
    assert_eq!(replay(&settings, dir, &["--verify"]).status.code(), Some(0));
}

/// A group that was stopped stays so, and goes on when it is told to.
#[test]
fn a_stopped_program_stays_stopped() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("detach-stopped", &settings);
    let dir = scratch.path();
    let program = [everything(), "stopped".into()];
    let mut recorder = record(&settings, dir, &[], &program);
    let pid = child_of(recorder.id());
    sleep(Duration::from_millis(500));
    let kill = |signal: &str| {
        Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
    };
    kill("-STOP").unwrap();
    sleep(Duration::from_millis(200));
    // The recorder stopped with its program, as the shell expects it.
    Command::new("kill")
        .args(["-CONT", &recorder.id().to_string()])
        .status()
        .unwrap();
    ask(&settings, "detach", recorder.id());
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    assert_eq!(status(pid, "TracerPid:"), "0");
    sleep(Duration::from_millis(50));
    assert!(
        status(pid, "State:").starts_with('T'),
        "{}",
        status(pid, "State:")
    );
    kill("-CONT").unwrap();
    wait_for_end(pid);
    let out = fs::read_to_string(dir.join("out")).unwrap();
    let said = fs::read_to_string(dir.join("err")).unwrap();
    assert!(out.contains("all is well"), "{out}{said}");
    assert_eq!(replay(&settings, dir, &["--verify"]).status.code(), Some(0));
}

/// All tasks are in the recorded state at each bookmark; a replay can end there.
#[test]
fn bookmarks_are_passed_and_reached() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("bookmarks", &settings);
    let dir = scratch.path();
    let mut recorder = record(&settings, dir, &["-a", "0.2"], &[everything()]);
    let pid = child_of(recorder.id());
    sleep(Duration::from_millis(700));
    ask(&settings, "bookmark", pid);
    sleep(Duration::from_millis(400));
    ask(&settings, "bookmark", recorder.id());
    let end = recorder.wait().unwrap();
    let said = fs::read_to_string(dir.join("err")).unwrap();
    assert_eq!(end.code(), Some(0), "{said}");
    assert_eq!(said.matches("bookmark ").count(), 2, "{said}");
    let out = fs::read(dir.join("out")).unwrap();
    let whole = replay(&settings, dir, &["--verify"]);
    let text = String::from_utf8_lossy(&whole.stderr).into_owned();
    assert_eq!(whole.status.code(), Some(0), "{text}");
    assert_eq!(whole.stdout, out);
    let passed = text.matches("bookmark ").count();
    assert!(passed > 6, "{text}");
    for id in [1, passed / 2, passed] {
        let part = replay(&settings, dir, &["--to", &id.to_string()]);
        let text = String::from_utf8_lossy(&part.stderr).into_owned();
        assert_eq!(part.status.code(), Some(0), "{text}");
        assert_eq!(text.matches("bookmark ").count(), id, "{text}");
        assert!(out.starts_with(&part.stdout));
    }
    let none = replay(&settings, dir, &["--to", "9999"]);
    assert_eq!(none.status.code(), Some(1));
    let text = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(text.contains("has no bookmark 9999"), "{text}");
}

/// Bookmarks that follow each other without a pause keep nobody from going on: neither threads whose calls each
/// bookmark breaks off, nor an exec that ends all others. What runs then is stopped in the middle of the loader.
#[test]
fn threads_exec_between_bookmarks() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("bookmarks-exec", &settings);
    let dir = scratch.path();
    let program = program("exec_threads");
    for by in [None, Some("another")] {
        let args: Vec<OsString> = [Some(program.clone()), by.map(Into::into)]
            .into_iter()
            .flatten()
            .collect();
        for _ in 0..5 {
            let mut recorder = record(&settings, dir, &["-a", "0.001"], &args);
            let end = recorder.wait().unwrap();
            let out = fs::read_to_string(dir.join("out")).unwrap();
            let said = fs::read_to_string(dir.join("err")).unwrap();
            assert_eq!(end.code(), Some(0), "{by:?}: {out}{said}");
            let replayed = replay(&settings, dir, &["--verify"]);
            let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
            assert_eq!(replayed.status.code(), Some(0), "{by:?}: {text}");
            assert_eq!(String::from_utf8_lossy(&replayed.stdout), out);
        }
    }
}

/// At a bookmark, recording and replay have the same registers and memory, byte for byte.
#[test]
fn the_state_at_a_bookmark_is_the_recorded_one() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("bookmark-state", &settings);
    let dir = scratch.path();
    for sub in ["recorded", "replayed"] {
        fs::create_dir(dir.join(sub)).unwrap();
    }
    let mut recorder = record(
        &settings,
        dir,
        &["--dump-memory", "recorded"],
        &[everything()],
    );
    let pid = child_of(recorder.id());
    sleep(Duration::from_millis(900));
    // Only what belongs to the bookmark.
    for entry in fs::read_dir(dir.join("recorded")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    ask(&settings, "bookmark", pid);
    let end = recorder.wait().unwrap();
    let said = fs::read_to_string(dir.join("err")).unwrap();
    assert_eq!(end.code(), Some(0), "{said}");
    let at = ["--to", "1", "--dump-memory", "replayed"];
    assert_eq!(replay(&settings, dir, &at).status.code(), Some(0));
    // Registers and memory: which components of the extended state count as in use is the CPU's own affair.
    let state = |dump: Vec<u8>| {
        let text = String::from_utf8(dump).unwrap();
        let (registers, memory) = text.split_once("components in use").unwrap();
        let (_, memory) = memory.split_once('\n').unwrap();
        format!("{registers}{memory}")
    };
    let mut compared = 0;
    for entry in fs::read_dir(dir.join("replayed")).unwrap() {
        let name = entry.unwrap().file_name();
        let recorded = fs::read(dir.join("recorded").join(&name));
        if let Ok(recorded) = recorded {
            let replayed = fs::read(dir.join("replayed").join(&name)).unwrap();
            assert!(state(recorded) == state(replayed), "{name:?} differs");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

/// Who asks for what cannot be had is told so.
#[test]
fn nobody_is_signalled_by_mistake() {
    let settings = Settings::from_env();
    let own = std::process::id().to_string();
    for (pid, says) in [
        (own.as_str(), "is not being recorded"),
        ("4194305", "no process"),
    ] {
        for what in ["detach", "bookmark"] {
            let mut command = Command::new(&settings.scribe);
            let output = command.args([what, pid]).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(text.contains(says), "{text}");
        }
    }
}

/// Bookmarks come in time also while the program only sleeps.
#[test]
fn an_idle_program_gets_its_bookmarks() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("bookmarks-idle", &settings);
    let dir = scratch.path();
    let program = ["sleep", "1.5"].map(OsString::from);
    let begin = Instant::now();
    let mut recorder = record(&settings, dir, &["-a", "0.3"], &program);
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    // Taken out of its sleep each time, it sleeps no longer for that.
    assert!(begin.elapsed() < Duration::from_secs(5));
    let replayed = replay(&settings, dir, &["--verify"]);
    let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(0), "{text}");
    assert!(text.matches("bookmark ").count() >= 2, "{text}");
}
