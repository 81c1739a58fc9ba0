//! Recordings that begin in the middle of a program's run.

use scribe_tests::Settings;
use scribe_tests::guard::Guarded;
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// When recording begins, and how long it lasts, in milliseconds.
const POINTS: [(u64, u64); 3] = [(20, 300), (700, 700), (1500, 5000)];

/// `from`: detach, or live, which does not mind how long its waits take.
fn everything(from: &str, dir: &Path) -> Guarded {
    let all = Program::all(from);
    let found = all.iter().find(|program| program.name == "everything");
    let program = found.unwrap().case().unwrap().argv.remove(0);
    let mut command = Command::new(program);
    command.current_dir(dir);
    command.stdout(File::create(dir.join("out")).unwrap());
    command.stderr(File::create(dir.join("err")).unwrap());
    command.spawn().map(Guarded::new).unwrap()
}

fn kill(signal: &str, pid: u32) {
    let pid = pid.to_string();
    let status = Command::new("kill").args([signal, &pid]).status();
    assert!(status.unwrap().success());
}

/// Begins to record a process; comes back when it is being recorded, or when that cannot be.
fn attach(settings: &Settings, dir: &Path, pid: u32, args: &[&str]) -> Guarded {
    let said = dir.join("said");
    let recorder = Command::new(&settings.scribe)
        .current_dir(dir)
        .arg("record")
        .args(&settings.record_flags)
        .args(["--force", "-o", "log", "-p", &pid.to_string()])
        .args(args)
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !fs::read_to_string(&said).unwrap().contains("scribe:") {
        assert!(begin.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(1));
    }
    Guarded::new(recorder)
}

fn said(dir: &Path) -> String {
    fs::read_to_string(dir.join("said")).unwrap()
}

fn replay(settings: &Settings, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(&settings.scribe);
    command.current_dir(dir).arg("replay");
    command.args(&settings.replay_flags).args(args).arg("log");
    command.output().unwrap()
}

fn replays(settings: &Settings, dir: &Path) {
    let replayed = replay(settings, dir, &["--verify"]);
    let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(0), "{text}");
    let out = fs::read(dir.join("out")).unwrap();
    let seen = &replayed.stdout;
    assert!(
        seen.is_empty() || out.windows(seen.len()).any(|part| part == seen),
        "the replay shows what the program did not write"
    );
}

/// Threads in calls of all kinds, in handlers, computing, with children: they find nothing unusual,
/// neither when the recording begins nor when it ends.
#[test]
fn a_running_program_is_recorded_for_a_while() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach", &settings);
    let dir = scratch.path();
    for (start, length) in POINTS {
        for tree in [&[][..], &["--tree"]] {
            let mut program = everything("detach", dir);
            sleep(Duration::from_millis(start));
            let mut recorder = attach(&settings, dir, program.id(), tree);
            sleep(Duration::from_millis(length));
            if recorder.try_wait().unwrap().is_none() {
                kill("-INT", recorder.id());
            }
            let end = recorder.wait().unwrap();
            let what = format!("{start} + {length} ms {tree:?}: {}", said(dir));
            assert_eq!(end.code(), Some(0), "{what}");
            let status = program.wait().unwrap();
            let out = fs::read_to_string(dir.join("out")).unwrap();
            let err = fs::read_to_string(dir.join("err")).unwrap();
            assert!(status.success(), "{what}{out}{err}");
            assert!(out.contains("all is well"), "{what}{out}{err}");
            replays(&settings, dir);
        }
    }
}

/// Again and again.
#[test]
fn recordings_of_a_program_follow_each_other() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-often", &settings);
    let dir = scratch.path();
    // Its calls with a time limit begin anew with each recording.
    let mut program = everything("live", dir);
    let mut rounds = 0;
    // Not for ever: calls with a time limit begin anew with each.
    while rounds < 10 && program.try_wait().unwrap().is_none() {
        let mut recorder = attach(&settings, dir, program.id(), &[]);
        if said(dir).contains("cannot attach") {
            // It has just ended.
            recorder.wait().unwrap();
            break;
        }
        sleep(Duration::from_millis(50));
        if recorder.try_wait().unwrap().is_none() {
            kill("-TERM", recorder.id());
        }
        let end = recorder.wait().unwrap();
        let err = fs::read_to_string(dir.join("err")).unwrap();
        assert_eq!(end.code(), Some(0), "{}{err}", said(dir));
        replays(&settings, dir);
        rounds += 1;
    }
    let status = program.wait().unwrap();
    let err = fs::read_to_string(dir.join("err")).unwrap();
    assert!(status.success(), "{err}{}", said(dir));
    assert!(rounds >= 3, "{rounds} rounds");
}

/// Nothing of Scribe is left in a program that was recorded for a while, and the kernel knows again all
/// that it knew.
#[test]
fn the_program_is_as_it_was() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-state", &settings);
    let dir = scratch.path();
    let script =
        "trap : USR1 SEGV TRAP SYS; trap '' HUP PIPE; while :; do read -t 0.01 <> <(:); done";
    let mut program = Command::new("bash")
        .args(["-c", script])
        .spawn()
        .map(Guarded::new)
        .unwrap();
    sleep(Duration::from_millis(300));
    let pid = program.id();
    let state = || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let wanted = ["SigBlk:", "SigIgn:", "SigCgt:", "Seccomp:", "TracerPid:"];
        let lines = text
            .lines()
            .filter(|line| wanted.iter().any(|w| line.starts_with(w)));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let mapped = || {
        let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains('/') || line.contains("[v"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let before = (state(), mapped());
    fs::write(dir.join("out"), "").unwrap();
    for _ in 0..3 {
        let mut recorder = attach(&settings, dir, pid, &[]);
        sleep(Duration::from_millis(100));
        kill("-INT", recorder.id());
        assert_eq!(recorder.wait().unwrap().code(), Some(0), "{}", said(dir));
        let after = (state(), mapped());
        assert_eq!(after.0, before.0);
        // Text that was patched stays a copy: one mapping may have become several.
        let files = |maps: &[String]| {
            let names = maps
                .iter()
                .filter_map(|line| line.split_whitespace().last());
            names
                .map(str::to_owned)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(files(&after.1), files(&before.1));
        replays(&settings, dir);
    }
    program.kill().unwrap();
    program.wait().unwrap();
}

/// A signal that comes while a program waits in pause(2) is not lost, whenever it comes.
#[test]
fn no_wakeup_is_lost() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-pause", &settings);
    let dir = scratch.path();
    let script = "use POSIX; $| = 1; $n = 0; $SIG{USR1} = sub { $n++ }; \
        while ($n < 40) { my $m = $n; print \"$m\\n\"; POSIX::pause() if $n == $m; }";
    let mut program = Command::new("perl")
        .args(["-e", script])
        .stdout(Stdio::piped())
        .spawn()
        .map(Guarded::new)
        .unwrap();
    let pid = program.id();
    let mut out = program.stdout.take().unwrap();
    fs::write(dir.join("out"), "").unwrap();
    let mut recorder: Option<Guarded> = None;
    let mut line = [0; 3];
    for n in 0..40u32 {
        // It says that it is about to wait; a signal before it does would be lost natively, too.
        let len = n.to_string().len() + 1;
        out.read_exact(&mut line[..len]).unwrap();
        wait_until_it_sleeps(pid);
        match recorder.take() {
            None => {
                let running = Command::new(&settings.scribe)
                    .current_dir(dir)
                    .args(["record", "--force", "-o", "log", "-p", &pid.to_string()])
                    .stderr(File::create(dir.join("said")).unwrap())
                    .spawn()
                    .unwrap();
                sleep(Duration::from_millis(u64::from(n) % 7));
                recorder = Some(Guarded::new(running));
            }
            Some(mut running) => {
                let begin = Instant::now();
                while !said(dir).contains("recording process") {
                    assert!(begin.elapsed() < Duration::from_secs(30), "{}", said(dir));
                    sleep(Duration::from_millis(1));
                }
                kill("-INT", running.id());
                sleep(Duration::from_millis(u64::from(n) % 3));
                kill("-USR1", pid);
                assert_eq!(running.wait().unwrap().code(), Some(0), "{}", said(dir));
                let replayed = replay(&settings, dir, &["--verify"]);
                let text = String::from_utf8_lossy(&replayed.stderr).into_owned();
                assert_eq!(replayed.status.code(), Some(0), "{text}");
                continue;
            }
        }
        kill("-USR1", pid);
    }
    assert!(program.wait().unwrap().success());
    assert!(recorder.is_none());
}

/// Waits until a program that does nothing else any more is in the call in which it waits.
fn wait_until_it_sleeps(pid: u32) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(2));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.rsplit(") ").next().unwrap().starts_with('S') {
            return;
        }
    }
    panic!("process {pid} does not wait");
}

/// What cannot be recorded is said, and left alone.
#[test]
fn what_cannot_be_recorded_goes_on() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-refused", &settings);
    let dir = scratch.path();
    let refused = |pid: u32| {
        let mut recorder = attach(&settings, dir, pid, &[]);
        assert_eq!(recorder.wait().unwrap().code(), Some(125), "{}", said(dir));
        assert!(!dir.join("log").exists());
        said(dir)
    };
    assert!(refused(4_194_305).contains("no such process"));
    let mut program = Command::new("sleep")
        .arg("100")
        .spawn()
        .map(Guarded::new)
        .unwrap();
    let pid = program.id();
    kill("-STOP", pid);
    assert!(refused(pid).contains("kill -CONT"));
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status().contains("State:\tT"), "{}", status());
    kill("-CONT", pid);
    let mut recorder = attach(&settings, dir, pid, &[]);
    let mut second = Command::new(&settings.scribe)
        .current_dir(dir)
        .args(["record", "-o", "other", "-p", &pid.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(125));
    let mut text = String::new();
    second.stderr.unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("traces it already"), "{text}");
    kill("-INT", recorder.id());
    assert_eq!(recorder.wait().unwrap().code(), Some(0), "{}", said(dir));
    // SAFETY: only asked as an ordinary user, where that can be had.
    if unsafe { libc::geteuid() } == 0 {
        let mut command = Command::new(&settings.scribe);
        command.current_dir("/").uid(65534).gid(65534);
        command.args(["record", "-o", "/dev/null", "-p", &pid.to_string()]);
        let output = command.output();
        // The build may lie where others cannot read it.
        if let Ok(output) = output {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(125), "{text}");
            assert!(text.contains("another user"), "{text}");
        }
    }
    program.kill().unwrap();
    program.wait().unwrap();
}

/// Whatever cannot be recorded: one clear sentence.
#[test]
fn each_refusal_says_why() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-why", &settings);
    let dir = scratch.path();
    let refused = |pid: u32| {
        let mut recorder = attach(&settings, dir, pid, &[]);
        assert_eq!(recorder.wait().unwrap().code(), Some(125), "{}", said(dir));
        let said = said(dir);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    // It ends at once, and nobody waits for it.
    let mut zombie = Command::new("true").spawn().unwrap();
    sleep(Duration::from_millis(200));
    let why = refused(zombie.id());
    assert!(why.contains("it has ended"), "{why}");
    zombie.wait().unwrap();
    // kthreadd, where the pid namespace has it.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        let why = refused(2);
        assert!(why.contains("a thread of the kernel"), "{why}");
    }
    let itself = "exec \"$0\" record -o itself -p $$";
    let output = Command::new("sh")
        .args(["-c", itself])
        .arg(&settings.scribe)
        .current_dir(dir)
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(why.contains("scribe record itself"), "{why}");
    // A thread that is not the first of its process: one of this one's.
    let (told, tid) = std::sync::mpsc::channel();
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: a call without arguments.
        told.send(unsafe { libc::gettid() } as u32).unwrap();
        let _ = wait.recv();
    });
    let why = refused(tid.recv().unwrap());
    assert!(why.contains("that is a thread"), "{why}");
    drop(over);
    thread.join().unwrap();
    thirty_two_bits(dir, &refused);
}

/// A program with 32-bit code, where one can be made.
fn thirty_two_bits(dir: &Path, refused: &dyn Fn(u32) -> String) {
    let source = ".globl _start\n_start: mov $29, %eax\n int $0x80\n jmp _start\n";
    fs::write(dir.join("small.S"), source).unwrap();
    let made = Command::new("gcc")
        .args(["-m32", "-nostdlib", "-static", "-o", "small", "small.S"])
        .current_dir(dir)
        .output();
    let small = Command::new(dir.join("small")).spawn();
    let (Ok(_), Ok(mut small)) = (made, small) else {
        println!("skipped: 32-bit programs cannot be made or run here");
        return;
    };
    sleep(Duration::from_millis(100));
    if small.try_wait().unwrap().is_none() {
        let why = refused(small.id());
        assert!(why.contains("32-bit"), "{why}");
    }
    small.kill().unwrap();
    small.wait().unwrap();
}

/// A shell records itself, with all that it starts but the recorder.
#[test]
fn a_shell_records_itself() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-parent", &settings);
    let dir = scratch.path();
    for tree in ["", "--tree"] {
        let script = format!(
            "\"$0\" record --force {tree} -o log -p $$ 2> said & R=$!; \
             until grep -q recording said; do sleep 0.05; done; echo recorded; \
             sleep 0.2; kill -USR1 $R; wait $R; echo status $?"
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .arg(&settings.scribe)
            .current_dir(dir)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, "recorded\nstatus 0\n", "{tree}: {}", said(dir));
        fs::write(dir.join("out"), "recorded\n").unwrap();
        replays(&settings, dir);
    }
}

/// Memory of all kinds is in the snapshot as it was, though the program goes on while that is written; and the
/// program does not notice that there is a copy of it.
#[test]
fn a_copy_is_not_noticed() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("attach-copy", &settings);
    let dir = scratch.path();
    let all = Program::all("detach");
    let found = all.iter().find(|program| program.name == "holds");
    let mut program = Command::new(found.unwrap().case().unwrap().argv.remove(0));
    program.current_dir(dir);
    program.stdout(File::create(dir.join("out")).unwrap());
    program.stderr(File::create(dir.join("err")).unwrap());
    let mut program = program.spawn().map(Guarded::new).unwrap();
    let pid = program.id();
    sleep(Duration::from_millis(200));
    for round in 0..6 {
        let parts: &[&str] = match round % 2 {
            0 => &[],
            _ => &["--snapshot-every", "0.3"],
        };
        let recorder = attach(&settings, dir, pid, parts);
        sleep(Duration::from_millis(100 + 400 * (round % 2)));
        kill("-USR1", recorder.id());
        let output = recorder.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(dir));
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        assert_eq!(children.unwrap().trim(), "", "round {round}");
        replays(&settings, dir);
    }
    kill("-TERM", pid);
    let status = program.wait().unwrap();
    let err = fs::read_to_string(dir.join("err")).unwrap();
    assert!(status.success(), "{err}");
    let out = fs::read_to_string(dir.join("out")).unwrap();
    assert!(out.ends_with("all is well\n"), "{err}");
}
