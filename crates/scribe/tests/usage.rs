//! The command line itself: help, usage errors, logs that are missing or no logs.

mod common;

use common::Dir;
use scribe_log::{LogWriter, META, WriteOptions, begin_end, begin_start, begin_syscall};
use std::os::unix::fs::PermissionsExt;

/// A small log that no recorder made.
fn small_log(dir: &Dir, name: &str, text: &[u8]) {
    let writer = LogWriter::create(dir.path(name), &WriteOptions::default()).unwrap();
    writer.append(META, |buf| {
        begin_start(buf)
            .version(b"test")
            .argv(["echo"])
            .cwd(b"/tmp")
            .root(2, 100, 100, 1);
    });
    writer.append(1, |buf| {
        let len = text.len() as u64;
        begin_syscall(buf, libc::SYS_write as u16, len as i64, 0, 0)
            .args(&[1, 0x1000, len, 0, 0, 0])
            .input(0x1000, len, text)
            .desc(1, b"/dev/pts/0");
        begin_syscall(buf, libc::SYS_close as u16, -9, 0, 0).args(&[7, 0, 0, 0, 0, 0]);
    });
    writer.append(META, |buf| begin_end(buf, 0, 2).finish());
    writer.finish().unwrap();
}

#[test]
fn help_names_every_command() {
    let help = Dir::new().scribe("--help").ends_with(0).silent();
    for command in [
        "record",
        "replay",
        "profile",
        "diff",
        "check",
        "completions",
        "man",
    ] {
        assert!(
            help.stdout.contains(&format!("\n  {command}")),
            "{command}: {}",
            help.stdout
        );
        let one = Dir::new().scribe(&format!("{command} --help")).ends_with(0);
        assert!(one.stdout.contains("Usage: scribe"), "{}", one.stdout);
    }
    Dir::new()
        .scribe("--version")
        .ends_with(0)
        .prints("scribe ");
}

#[test]
fn bad_usage_is_status_2() {
    let dir = Dir::new();
    dir.scribe("").ends_with(2);
    dir.scribe("frobnicate").ends_with(2).says("frobnicate");
    dir.scribe("record").ends_with(2).says("<CMD>");
    dir.scribe("record -l 4 date").ends_with(2).says("0..=3");
    dir.scribe("record -f az date")
        .ends_with(2)
        .says("'z' is no flag")
        .says("r (registers)");
    dir.scribe("record --env =x date")
        .ends_with(2)
        .says("LANG=C");
    dir.scribe("record --checksum maybe date")
        .ends_with(2)
        .says("some");
    dir.scribe("profile").ends_with(2).says("<LOG>");
    dir.scribe("profile --raw --summary x.log").ends_with(2);
    dir.scribe("diff one").ends_with(2);
    dir.scribe("completions csh").ends_with(2);
    assert!(dir.logs().is_empty());
}

#[test]
fn missing_and_foreign_logs() {
    let dir = Dir::new();
    dir.write("text.log", "not a log at all");
    dir.write("empty.log", "");
    for command in ["replay", "profile", "diff x.log"] {
        let status = if command.starts_with("diff") { 2 } else { 1 };
        dir.write("x.log", "x");
        dir.scribe(&format!("{command} nothere.log"))
            .ends_with(status);
        dir.scribe(&format!("{command} text.log"))
            .ends_with(status)
            .says("is not a Scribe log");
        dir.scribe(&format!("{command} empty.log"))
            .ends_with(status)
            .says("is not a Scribe log");
        dir.scribe(&format!("{command} .")).ends_with(status);
    }
    dir.scribe("replay nothere.log")
        .says("nothere.log does not exist");
    dir.scribe("replay .").says("is a directory");
    dir.scribe("replay")
        .ends_with(1)
        .says("there is no log in the current directory");
    let secret = dir.write("secret.log", "x");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    dir.scribe("profile secret.log").ends_with(1);
}

#[test]
fn a_log_from_a_later_version() {
    let dir = Dir::new();
    let mut bytes = b"\x89SCRIBE\n".to_vec();
    bytes.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
    dir.write("new.log", bytes);
    dir.scribe("replay new.log")
        .ends_with(1)
        .says("9.0")
        .says("use the version of Scribe");
}

#[test]
fn profile_has_the_form_of_scribe() {
    let dir = Dir::new();
    small_log(&dir, "a.log", b"hello\n");
    let expected = "\
[02] write() = 6
[02]   resource lock, type = files_struct, serial = 0
[02]     resource lock, type = file, serial = 0, desc = /dev/pts/0
[02]       data: size = 6, \"hello\\n\"
[02] close(7) = -1 EBADF (Bad file descriptor)
[02]   resource lock, type = files_struct, serial = 1
";
    let shown = dir.scribe("profile a.log").ends_with(0).silent();
    assert_eq!(shown.stdout, expected);
    dir.scribe("profile --args a.log")
        .ends_with(0)
        .prints(r#"write(1, "hello\n", 6) = 6"#);
    dir.scribe("profile --pids a.log")
        .ends_with(0)
        .prints("[100] write() = 6");
    assert_eq!(dir.scribe("profile -p 100 a.log").stdout, expected);
    assert_eq!(dir.scribe("profile -p 3 a.log").stdout, "");
    dir.scribe("profile -o a.log")
        .ends_with(0)
        .prints("16+")
        .prints(" [02] write() = 6");
    dir.scribe("profile -r a.log")
        .prints("lane 1: syscall nr=1 (write) ret=0x6");
    dir.scribe("profile -s 3 a.log")
        .prints(r#"data: size = 6, "hel"..."#);
    dir.scribe("profile --color always a.log").prints("\x1b[");
    let summary = dir.scribe("profile --summary a.log").ends_with(0);
    let close = summary
        .stdout
        .lines()
        .find(|line| line.ends_with("close"))
        .unwrap();
    assert_eq!(
        close.split_whitespace().collect::<Vec<_>>(),
        ["50.00", "1", "1", "close"]
    );
}

#[test]
fn profile_for_programs() {
    let dir = Dir::new();
    small_log(&dir, "a.log", b"hello\n");
    let shown = dir.scribe("profile --format json a.log").ends_with(0);
    let lines: Vec<serde_json::Value> = shown
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["name"], "write");
    assert_eq!(lines[0]["data"][0]["text"], "hello\n");
    assert_eq!(lines[0]["resources"][1]["desc"], "/dev/pts/0");
    assert_eq!(lines[1]["errno"], "EBADF");
}

#[test]
fn profile_reads_standard_input_and_cut_logs() {
    let dir = Dir::new();
    small_log(&dir, "a.log", b"hello\n");
    let file = std::fs::File::open(dir.path("a.log")).unwrap();
    let shown = dir.command(["profile", "-"]).stdin(file).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("[02] write() = 6"));
    let bytes = std::fs::read(dir.path("a.log")).unwrap();
    dir.write("cut.log", &bytes[..bytes.len() - 3]);
    dir.scribe("profile cut.log")
        .ends_with(0)
        .says("cut off at byte 16");
    let mut bytes = bytes;
    bytes[80] ^= 1;
    dir.write("bad.log", bytes);
    dir.scribe("profile bad.log")
        .ends_with(1)
        .says("damaged at byte 16");
    dir.scribe("replay bad.log")
        .ends_with(1)
        .says("damaged at byte 16");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let dir = Dir::new();
    let writer = LogWriter::create(dir.path("long.log"), &WriteOptions::default()).unwrap();
    writer.append(META, |buf| {
        begin_start(buf).root(2, 100, 100, 1);
    });
    for _ in 0..20_000 {
        writer.append(1, |buf| begin_syscall(buf, 39, 100, 0, 0).finish());
    }
    writer.finish().unwrap();
    let line = format!(
        "{} profile long.log | head -1",
        env!("CARGO_BIN_EXE_scribe")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .current_dir(dir.root())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "[02] getpid() = 100\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn diff_shows_the_first_difference() {
    let dir = Dir::new();
    small_log(&dir, "a.log", b"hello\n");
    small_log(&dir, "same.log", b"hello\n");
    small_log(&dir, "b.log", b"jello\n");
    dir.scribe("diff a.log same.log")
        .ends_with(0)
        .prints("agree");
    let found = dir
        .scribe("diff a.log b.log")
        .ends_with(1)
        .prints("lane 1, record 0");
    let found = found.prints(r#"- [02]       data: size = 6, "hello\n""#);
    found.prints(r#"+ [02]       data: size = 6, "jello\n""#);
}

#[test]
fn check_says_what_is_there() {
    let dir = Dir::new();
    let text = dir.scribe("check");
    assert!(text.stdout.contains("Syscall User Dispatch"), "{text:?}");
    let json = dir.scribe("check --format json");
    assert_eq!(json.status, text.status);
    for line in json.stdout.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["ok"].is_boolean(), "{line}");
    }
}

#[test]
fn completions_and_manual_pages() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish"] {
        dir.scribe(&format!("completions {shell}"))
            .ends_with(0)
            .prints("scribe");
    }
    dir.scribe("man").ends_with(0).prints(".TH scribe 1");
    dir.scribe("man pages").ends_with(0);
    for page in [
        "scribe.1",
        "scribe-record.1",
        "scribe-replay.1",
        "scribe-profile.1",
    ] {
        assert!(dir.exists(&format!("pages/{page}")), "{page}");
    }
}
