//! `scribe bookmark` and `scribe detach`: signals to a recorder, found by any process that it records.

use crate::cli::ControlArgs;
use crate::ui::Failure;

/// Sends the signal.
pub fn run(args: &ControlArgs, signal: libc::c_int) -> Result<i32, Failure> {
    let recorder = recorder_of(args.pid)?;
    // SAFETY: a system call without pointers.
    if unsafe { libc::kill(recorder, signal) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Failure::new(
            1,
            format!("cannot signal the recorder {recorder}: {error}"),
        ));
    }
    Ok(0)
}

/// The recorder: the process itself, or what traces it.
fn recorder_of(pid: libc::pid_t) -> Result<libc::pid_t, Failure> {
    let gone = |_| Failure::new(1, format!("there is no process {pid}"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(gone)?;
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))
        .and_then(|text| text.trim().parse::<libc::pid_t>().ok())
        .unwrap_or(0);
    let who = if tracer == 0 { pid } else { tracer };
    if records(who) {
        return Ok(who);
    }
    Err(Failure::new(
        1,
        format!(
            "process {pid} is not being recorded; give the id of one that is, or of scribe record"
        ),
    ))
}

/// Whether a process is `scribe record`: nothing else is to get a signal that might end it.
fn records(pid: libc::pid_t) -> bool {
    let of = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe"));
    use std::os::unix::fs::MetadataExt;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let args = line.split(|byte| *byte == 0);
    let named = args.skip(1).any(|arg| arg == b"record");
    match (of(&pid.to_string()), of("self")) {
        (Ok(a), Ok(b)) => named && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        // Another user's, or replaced since.
        _ => named,
    }
}
