//! Programs on a terminal, with somebody typing.

use scribe_tests::process::End;
use scribe_tests::pty::Session;
use scribe_tests::round::{Case, Round};
use scribe_tests::scratch::{Scratch, subdirectory};
use scribe_tests::{Settings, installed};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Types at the recorded program; then the replay on another terminal, where nobody types, must
/// show the same texts (those that `drive` gives back) and end in the same way.
fn session(
    name: &str,
    argv: &[&str],
    drive: impl FnOnce(&mut Session) -> Vec<String>,
    expect: End,
) {
    if !installed(&argv[..1]) {
        return;
    }
    let settings = Settings::from_env();
    let case = Case::new(name, argv.iter().copied());
    let scratch = Scratch::new(name, &settings);
    let round = Round::new(&case, &settings, scratch.path());
    let cwd = subdirectory(scratch.path(), "record.cwd", &settings);
    let record = if settings.native_only {
        case.argv.clone()
    } else {
        round.record_argv()
    };
    let mut s = Session::start(&record, &cwd, &settings).unwrap();
    let texts = drive(&mut s);
    let (end, seen) = s.finish(SOON);
    assert_eq!(end, expect, "recording ended\n{seen}");
    if settings.native_only {
        return;
    }

    std::fs::rename(&cwd, scratch.path().join("away")).unwrap();
    let empty = subdirectory(scratch.path(), "replay.cwd", &settings);
    let replay = Session::start(&round.replay_argv(), &empty, &settings).unwrap();
    let (end, again) = replay.finish(SOON * 3);
    assert_eq!(end, expect, "replay ended\n{again}");
    for text in texts {
        assert!(
            again.contains(&text),
            "the replay lacks {text:?}\n--- recorded\n{seen}\n--- replayed\n{again}"
        );
    }
}

/// The first word of the output that starts like this.
fn word(seen: &str, start: &str) -> String {
    let found = seen
        .split_whitespace()
        .find(|w| w.starts_with(start) && !w.contains('$'));
    found
        .unwrap_or_else(|| panic!("no {start} in\n{seen}"))
        .to_owned()
}

fn want(s: &mut Session, text: &str) {
    assert!(s.expect(text, SOON), "waited for {text:?}\n{}", s.seen());
}

#[test]
fn bash() {
    let argv = ["env", "PS1=@> ", "bash", "--norc", "--noprofile", "-i"];
    let drive = |s: &mut Session| {
        want(s, "@> ");
        s.send("echo r''=$RANDOM:$$\n");
        want(s, "r=");
        want(s, "@> ");
        s.send("sleep 100\n");
        std::thread::sleep(Duration::from_millis(300));
        s.send("\x03"); // Ctrl-C
        want(s, "@> ");
        s.send("echo i''=$?\n");
        want(s, "i=130");
        s.send("cat\n");
        std::thread::sleep(Duration::from_millis(300));
        s.send("typed\n");
        want(s, "typed\r\ntyped");
        s.send("\x1a"); // Ctrl-Z
        want(s, "Stopped");
        s.send("jobs; fg\n");
        std::thread::sleep(Duration::from_millis(300));
        s.send("again\n");
        want(s, "again\r\nagain");
        s.send("\x04"); // end of file
        want(s, "@> ");
        s.send("(sleep 0.1; echo b''=$BASHPID) & wait\n");
        want(s, "b=");
        want(s, "@> ");
        s.send("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[D\n"); // history
        want(s, "@> ");
        let texts = ["r=", "i=130", "b="].map(|t| word(&s.seen(), t)).to_vec();
        s.send("exit 7\n");
        texts
    };
    session("bash-interactive", &argv, drive, End::Exit(7));
}

#[test]
fn vim() {
    let argv = ["vim", "-u", "NONE", "-N", "-i", "NONE", "file"];
    let drive = |s: &mut Session| {
        want(s, "file");
        s.send("ihello from vim\x1b");
        s.send(":r !echo t=$$\r");
        want(s, "t=");
        std::thread::sleep(Duration::from_millis(500));
        s.send(":%s/hello/goodbye/\r");
        want(s, "goodbye");
        s.send(":w\r");
        want(s, "written");
        s.send(":q\r");
        vec!["goodbye".to_owned(), "written".to_owned()]
    };
    session("vim", &argv, drive, End::Exit(0));
}

#[test]
fn python_prompt() {
    let argv = ["/usr/bin/python3", "-q", "-i"];
    let drive = |s: &mut Session| {
        want(s, ">>> ");
        s.send("import os, time\n");
        want(s, ">>> ");
        s.send("print('v=%d:%f' % (os.getpid(), time.time()))\n");
        want(s, "\nv=");
        want(s, ">>> ");
        let v = word(&s.seen(), "v=");
        s.send("exit(3)\n");
        vec![v]
    };
    session("python-prompt", &argv, drive, End::Exit(3));
}
