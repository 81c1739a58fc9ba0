//! Recording and replaying small programs through the command line.

mod common;

use common::{Dir, Ran};
use scribe_log::{LogReader, LogWriter, Record, WriteOptions, edit};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn date_shows_the_recorded_time() {
    let dir = Dir::new();
    let recorded = dir.scribe("record date").ends_with(0).silent();
    assert_eq!(dir.logs(), ["date.log"]);
    let mode = dir
        .path("date.log")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let replayed = dir.scribe("replay date.log").ends_with(0).silent();
    assert_eq!(replayed.stdout, recorded.stdout);
    // The latest log of the directory is the default.
    assert_eq!(
        dir.scribe("replay --verify").ends_with(0).stdout,
        recorded.stdout
    );
    assert_eq!(dir.scribe("replay -q").ends_with(0).stdout, "");
    let shown = dir.scribe("profile date.log").ends_with(0).silent();
    let written = format!(
        "data: size = {}, {:?}",
        recorded.stdout.len(),
        recorded.stdout
    );
    assert!(
        shown.stdout.contains(&written),
        "{written} in {}",
        shown.stdout
    );
    assert!(
        shown.stdout.contains("\", [\"date\"], "),
        "{}",
        shown.stdout
    );
}

#[test]
fn level_0_is_small() {
    let dir = Dir::new();
    // The environment is part of the log.
    let mut command = dir.command(["record", "-l", "0", "date"]);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8");
    let recorded = Ran::from(command.output().unwrap()).ends_with(0);
    assert!(dir.path("date.log").metadata().unwrap().len() <= 4300);
    assert_eq!(dir.scribe("replay").ends_with(0).stdout, recorded.stdout);
    dir.scribe("profile date.log")
        .ends_with(0)
        .prints("[02] write() = ");
}

#[test]
fn all_levels_and_flags_replay() {
    let dir = Dir::new();
    for (i, options) in ["-l 1", "-l 2", "-l 3", "-f as", "-f dtrc", "--checksum off"]
        .iter()
        .enumerate()
    {
        let log = format!("{i}.log");
        let recorded = dir
            .scribe(&format!("record {options} -o {log} echo hello"))
            .ends_with(0);
        assert_eq!(recorded.stdout, "hello\n");
        assert_eq!(
            dir.scribe(&format!("replay --verify {log}"))
                .ends_with(0)
                .stdout,
            "hello\n"
        );
    }
    dir.scribe("profile -r 1.log").prints("time 0.");
    dir.scribe("profile -r 2.log").prints("  regs [");
    dir.scribe("profile --summary 1.log")
        .ends_with(0)
        .prints("usecs/call");
}

#[test]
fn statuses_are_those_of_the_program() {
    let dir = Dir::new();
    dir.run(["record", "-s", "exit 7"]).ends_with(7);
    dir.scribe("replay sh.log").ends_with(7).silent();
    dir.run(["record", "-o", "kill.log", "-s", "kill -KILL $$"])
        .ends_with(137);
    dir.scribe("replay kill.log").ends_with(137);
    dir.scribe("record nosuchprogram")
        .ends_with(127)
        .says("nosuchprogram");
    let plain = dir.write("plain", "no program");
    dir.run(["record".as_ref(), plain.as_os_str()])
        .ends_with(126);
    dir.scribe("record -c /nodir true")
        .ends_with(125)
        .says("/nodir");
    // A program that was not started leaves no log.
    assert_eq!(dir.logs(), ["kill.log", "sh.log"]);
}

#[test]
fn logs_are_not_overwritten() {
    let dir = Dir::new();
    dir.scribe("record true").ends_with(0).silent();
    dir.scribe("record true")
        .ends_with(0)
        .says("true.log exists; recording into true.2.log");
    dir.scribe("record true").ends_with(0).says("true.3.log");
    assert_eq!(dir.logs(), ["true.2.log", "true.3.log", "true.log"]);
    dir.scribe("record -o true.log false")
        .ends_with(125)
        .says("--force");
    dir.scribe("replay true.log").ends_with(0);
    dir.scribe("record -o true.log --force false")
        .ends_with(1)
        .silent();
    dir.scribe("replay true.log").ends_with(1);
    dir.scribe("record -o . true")
        .ends_with(125)
        .says("is a directory");
    dir.scribe("record -o nodir/x.log true")
        .ends_with(125)
        .says("cannot create nodir/x.log");
}

#[test]
fn directory_and_environment() {
    let dir = Dir::new();
    let ran = dir.run([
        "record",
        "-c",
        "/",
        "--env",
        "GREETING=hi",
        "-s",
        "pwd; echo $GREETING",
    ]);
    assert_eq!(ran.ends_with(0).stdout, "/\nhi\n");
    assert_eq!(dir.scribe("replay sh.log").ends_with(0).stdout, "/\nhi\n");
}

#[test]
fn output_and_errors_keep_their_streams() {
    let dir = Dir::new();
    let script = "printf 'a\\0b'; echo err >&2; echo out";
    let recorded = dir.run(["record", "-s", script]).ends_with(0);
    assert_eq!(
        (&recorded.stdout[..], &recorded.stderr[..]),
        ("a\0bout\n", "err\n")
    );
    let replayed = dir.scribe("replay sh.log").ends_with(0);
    assert_eq!(
        (&replayed.stdout[..], &replayed.stderr[..]),
        ("a\0bout\n", "err\n")
    );
}

#[test]
fn the_log_on_standard_output() {
    let dir = Dir::new();
    let output = dir
        .command(["record", "-o", "-", "echo", "hello"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "hello\n");
    dir.write("streamed.log", &output.stdout);
    assert_eq!(
        dir.scribe("replay streamed.log").ends_with(0).stdout,
        "hello\n"
    );
    // And back in through a pipe.
    let file = std::fs::File::open(dir.path("streamed.log")).unwrap();
    let replayed: Ran = dir
        .command(["replay", "-"])
        .stdin(file)
        .output()
        .unwrap()
        .into();
    assert_eq!(replayed.ends_with(0).stdout, "hello\n");
}

#[test]
fn a_closed_pipe_ends_the_recording() {
    let dir = Dir::new();
    let mut child = dir
        .command([
            "record",
            "-o",
            "-",
            "sh",
            "-c",
            "while :; do sleep 0.1; done",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let begin = Instant::now();
    let status = child.wait().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(status.code(), Some(125));
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.contains("cannot write the log") && text.contains("Broken pipe"),
        "{text}"
    );
}

/// A signal waits for the next system call as long as the user says, and then for no longer.
#[test]
fn patience_with_a_program_that_computes() {
    let dir = Dir::new();
    let counts = "$SIG{ALRM} = sub { $n++ }; ualarm(3000, 3000); $x += $_ for 1 .. 3e6; ualarm(0); print $n || 0";
    let recorded = |name: &str, milliseconds: &str| {
        let options = ["record", "-o", name, "--patience", milliseconds];
        let program = ["perl", "-MTime::HiRes=ualarm", "-e", counts];
        let mut command = dir.command(options.iter().chain(&program));
        let recorded = Ran::from(command.output().unwrap()).ends_with(0);
        let replayed = dir.scribe(&format!("replay --verify {name}"));
        assert_eq!(replayed.ends_with(0).stdout, recorded.stdout);
        recorded.stdout.parse::<u32>().unwrap()
    };
    assert!(recorded("long.log", "60000") <= 1);
    assert!(recorded("short.log", "1") > 1);
}

/// A replay needs descriptors of its own for memory that processes may share, more than the usual limit; the
/// program sees the limit that it was given.
#[test]
fn more_shared_memory_than_descriptors() {
    let dir = Dir::new();
    let program = "
import ctypes, os, resource
mmap = ctypes.CDLL(None).mmap
for i in range(300):
    fd = os.memfd_create('x')
    os.ftruncate(fd, 4096)
    mmap(None, ctypes.c_size_t(4096), 3, 1, fd, ctypes.c_long(0))
    os.close(fd)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])";
    let limited = |args: &[&str]| {
        let scribe = dir.command(args.iter());
        let mut command = std::process::Command::new("prlimit");
        command
            .arg("--nofile=100:10000")
            .arg(scribe.get_program())
            .args(scribe.get_args())
            .current_dir(dir.path("."));
        Ran::from(command.output().unwrap())
    };
    let python = ["record", "-o", "x.log", "/usr/bin/python3", "-c", program];
    assert_eq!(limited(&python).ends_with(0).silent().stdout, "100\n");
    let replayed = limited(&["replay", "--verify", "x.log"]);
    assert_eq!(replayed.ends_with(0).silent().stdout, "100\n");
}

#[test]
fn figures() {
    let dir = Dir::new();
    dir.scribe("record --stats true")
        .ends_with(0)
        .says("system calls")
        .says("ptrace stops");
    let json = dir
        .scribe("record --stats --format json -o j.log true")
        .ends_with(0);
    let json: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(json["status"], 0);
    assert!(json["events"].as_u64() > Some(10));
    let replayed = dir.scribe("replay -v --verify j.log").ends_with(0);
    assert!(replayed.stderr.contains("hashes compared"), "{replayed:?}");
}

#[test]
fn terminating_scribe_ends_the_program_and_the_log() {
    let dir = Dir::new();
    let script = "echo ready; exec sleep 60";
    let mut child = dir
        .command(["record", "-s", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    // SAFETY: a signal to our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    let replayed = dir
        .scribe("replay sh.log")
        .ends_with(128 + libc::SIGTERM)
        .silent();
    assert_eq!(replayed.stdout, "ready\n");
    dir.scribe("profile sh.log").ends_with(0).prints("SIGTERM");
}

#[test]
fn a_killed_recorder_leaves_a_log() {
    let dir = Dir::new();
    let mut child = dir
        .command(["record", "-s", "echo one; sleep 60; echo two"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut one = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut one).unwrap();
    let begin = Instant::now();
    while dir.path("sh.log").metadata().map_or(0, |m| m.len()) < 1000 {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let replayed = dir
        .scribe("replay sh.log")
        .ends_with(0)
        .says("was recorded until then");
    assert_eq!(replayed.stdout, "one\n");
    dir.scribe("profile sh.log")
        .ends_with(0)
        .says("without an end record");
}

/// Writes a changed copy of a log.
fn edited(dir: &Dir, from: &str, to: &str, mut change: impl FnMut(&mut Record)) {
    let log = LogReader::open(dir.path(from)).unwrap();
    let writer = LogWriter::create(dir.path(to), &WriteOptions::default()).unwrap();
    edit::map(&log, &writer, |_, mut record| {
        change(&mut record);
        Some(record)
    })
    .unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_deadlock_is_told() {
    let dir = Dir::new();
    dir.scribe("record echo hello").ends_with(0);
    // The turn goes to a task that nobody ever makes: in the call, as a checksum may stand before it.
    let log = LogReader::open(dir.path("echo.log")).unwrap();
    let writer = LogWriter::create(dir.path("stuck.log"), &WriteOptions::default()).unwrap();
    edit::copy(&log, &writer, |stream, _, record, out| {
        if let Record::Syscall(call) = &record
            && i64::from(call.nr) == libc::SYS_write
        {
            out.record(
                stream,
                &Record::Switch {
                    task: 4242,
                    flags: scribe_log::flags::PREV_IN_CALL,
                },
            );
        }
        out.record(stream, &record);
    })
    .unwrap();
    writer.finish().unwrap();
    let stuck = dir.scribe("replay stuck.log").ends_with(35);
    let stuck = stuck.says("stuck.log").says("lane 1").says("4242");
    assert_eq!(stuck.stdout, "");
}

#[test]
fn a_divergence_is_explained() {
    let dir = Dir::new();
    dir.scribe("record echo hello").ends_with(0);
    let is_write = |nr: u16| i64::from(nr) == libc::SYS_write;
    edited(&dir, "echo.log", "hash.log", |record| {
        if let Record::Syscall(call) = record
            && is_write(call.nr)
        {
            call.in_hash ^= 1;
        }
    });
    let found = dir.scribe("replay hash.log").ends_with(200);
    let found = found.says("write is called with other arguments or input");
    let found = found
        .says("expected:")
        .says(r#"write(1, "hello\n", 6) = 6"#);
    let found = found
        .says("happened:")
        .says("last ")
        .says("stack of the task:")
        .says("#0 ");
    assert!(found.stderr.contains("openat(AT_FDCWD"), "{}", found.stderr);
    assert!(
        found.stderr.contains("write+0x") && found.stderr.contains("libc.so"),
        "{}",
        found.stderr
    );
    assert_eq!(found.stdout, "");
    let short = dir
        .scribe("replay -b 1 hash.log")
        .ends_with(200)
        .says("last event of the task");
    assert!(!short.stderr.contains("openat("), "{}", short.stderr);
    edited(&dir, "echo.log", "call.log", |record| {
        if let Record::Syscall(call) = record
            && is_write(call.nr)
        {
            call.nr = libc::SYS_read as u16;
        }
    });
    dir.scribe("replay call.log")
        .ends_with(200)
        .says("the recording called read")
        .says("calls write");
    dir.scribe("diff echo.log call.log")
        .ends_with(1)
        .prints("+ [02] read(");
}

#[test]
fn many_processes_in_one_profile() {
    let dir = Dir::new();
    let script = "for i in 1 2 3; do (echo $i | cat) & done; wait";
    dir.run(["record", "-s", script]).ends_with(0);
    let shown = dir.scribe("profile sh.log").ends_with(0).silent();
    // Each task is made before it does anything.
    let mut known = vec!["[02]".to_owned(), "[--]".to_owned()];
    for line in shown.stdout.lines() {
        let label = line.split(' ').next().unwrap();
        assert!(known.iter().any(|k| k == label), "{line}");
        if let Some((_, new)) = line.split_once("new task ") {
            known.push(new.split(',').next().unwrap().to_owned());
        }
    }
    assert!(known.len() >= 8, "{known:?}");
    let one = dir.scribe("profile -p 3 sh.log").ends_with(0);
    assert!(
        one.stdout.lines().all(|line| line.starts_with("[03] ")),
        "{}",
        one.stdout
    );
}

#[test]
fn following_a_log() {
    let dir = Dir::new();
    let mut recorder = dir
        .command(["record", "-s", "echo one; sleep 1; echo two; exit 3"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !dir.exists("sh.log") {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(100));
    let shown = dir.scribe("profile --follow sh.log").ends_with(0).silent();
    assert_eq!(recorder.wait().unwrap().code(), Some(3));
    assert!(shown.stdout.contains("\"two\\n\""), "{}", shown.stdout);
    assert!(
        shown.stdout.ends_with("[02] exit_group(3) = ?\n"),
        "{}",
        shown.stdout
    );
}
