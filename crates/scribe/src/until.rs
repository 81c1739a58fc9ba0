//! `scribe record --until-failure`: records again and again until the program fails, and keeps that
//! recording only. Each recording is a process of its own, with the same options.

use crate::cli::RecordArgs;
use crate::record::{FAILED, log_path, random_seed};
use crate::ui::{Failure, say};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How often at most, if nothing else is said.
pub const ROUNDS: u32 = 1000;

/// Runs the command.
pub fn run(args: &RecordArgs, rounds: u32, argv: &[OsString]) -> Result<i32, Failure> {
    if args.output.as_deref() == Some(Path::new("-")) {
        return Err(Failure::new(
            FAILED,
            "--until-failure needs a file for the log; give -o its name",
        ));
    }
    let path = log_path(args, argv)?;
    let seed = args.chaos.map(|seed| seed.unwrap_or_else(random_seed));
    let limit = args.time_limit.map(Duration::from_secs);
    let me = std::env::current_exe().map_err(|e| failed(&format!("cannot start itself: {e}")))?;
    let begin = Instant::now();
    for round in 1..=rounds {
        let seed = seed.map(|seed| seed.wrapping_add(u64::from(round) - 1));
        let mut command = Command::new(&me);
        command.args(options(args, seed)).arg("--force").arg("-o");
        command.arg(&path).arg("--").args(&args.command);
        let child = command.spawn();
        let mut child = child.map_err(|e| failed(&format!("cannot start itself: {e}")))?;
        let (status, late) = wait(&mut child, limit)?;
        let code = status.code();
        if code == Some(FAILED) || code.is_none() {
            // It has said why; what was recorded stays.
            return Ok(code.unwrap_or(FAILED));
        }
        if code == Some(0) && !late {
            continue;
        }
        let how = match code {
            _ if late => "did not end in time".to_owned(),
            Some(code) if code > 128 => format!("was killed by signal {}", code - 128),
            Some(code) => format!("ended with status {code}"),
            None => String::new(),
        };
        let chaos = seed.map_or(String::new(), |seed| format!(", --chaos={seed}"));
        say(format!(
            "the program {how} in round {round}{chaos}; its recording is {}",
            path.display()
        ));
        return Ok(code.unwrap_or(FAILED));
    }
    let _ = std::fs::remove_file(&path);
    say(format!(
        "the program did not fail in {rounds} rounds ({:.0} s)",
        begin.elapsed().as_secs_f64()
    ));
    Ok(0)
}

fn failed(text: &str) -> Failure {
    Failure::new(FAILED, text)
}

/// The options of one recording.
fn options(args: &RecordArgs, seed: Option<u64>) -> Vec<OsString> {
    let mut list: Vec<OsString> = vec!["record".into(), format!("--level={}", args.level).into()];
    if let Some(seed) = seed {
        list.push(format!("--chaos={seed}").into());
    }
    for (name, path) in [("--chdir", &args.chdir), ("--root", &args.root)] {
        if let Some(path) = path {
            list.extend([name.into(), PathBuf::clone(path).into()]);
        }
    }
    for (name, value) in &args.env {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        list.extend(["--env".into(), pair]);
    }
    for (name, set) in [
        ("--shell", args.shell),
        ("--new-net", args.new_net),
        ("--no-agent", args.no_agent),
        ("--no-sud", args.no_sud),
        ("--stats", args.stats),
    ] {
        list.extend(set.then(|| name.into()));
    }
    list
}

/// Waits for a recording's end; after `limit` its program is killed. Whether it was.
fn wait(child: &mut Child, limit: Option<Duration>) -> Result<(ExitStatus, bool), Failure> {
    let broken = |e: std::io::Error| failed(&format!("cannot wait for a recording: {e}"));
    let mut late = false;
    if let Some(limit) = limit {
        let pid = child.id();
        // SAFETY: a call without pointers; a new descriptor has one owner.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        };
        let fd = fd.ok_or_else(|| broken(std::io::Error::last_os_error()))?;
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = limit.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: one valid entry.
        late = unsafe { libc::poll(&mut poll, 1, millis) } == 0;
        if late {
            // The recording then ends by itself.
            let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            for program in list.unwrap_or_default().split_whitespace() {
                if let Ok(program) = program.parse() {
                    // SAFETY: a call without pointers, to a child of our child that is not reaped
                    // before the recording ends.
                    unsafe { libc::kill(program, libc::SIGKILL) };
                }
            }
        }
    }
    Ok((child.wait().map_err(broken)?, late))
}
