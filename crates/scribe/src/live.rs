//! `scribe replay --live-at`: how it is asked for, and waiting for the program then.

use crate::cli::{LiveAt, LiveFilesArg, ReplayArgs};
use crate::files;
use crate::ui::{Failure, say};
use scribe_engine::replay::{LiveFiles, LiveOptions, LivePoint};
use scribe_engine::{ReplayError, Replayer};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

/// Somebody asked by SIGUSR1 that the replay turn live.
pub static ASKED: AtomicBool = AtomicBool::new(false);
/// Where the id of what was brought to life is told.
static BIRTH: AtomicI32 = AtomicI32::new(-1);
/// The program that was brought to life.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

extern "C" fn ask(_: libc::c_int) {
    scribe_engine::replay::ask(&ASKED);
}

extern "C" fn pass_on(signal: libc::c_int) {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(PROGRAM.load(Relaxed), signal) };
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int), restart: libc::c_int) {
    // SAFETY: a valid structure, with a handler that makes only async-signal-safe calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = restart;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// SIGUSR1 asks from here on; it interrupts what waits.
pub fn listen() {
    handle(libc::SIGUSR1, ask, 0);
}

/// What the options say. `behind`: at the first bookmark behind this one, as SIGUSR1 asks.
pub fn options(args: &ReplayArgs, log: &Path, behind: Option<u32>) -> Option<LiveOptions> {
    let at = match (args.live_at, behind) {
        (_, Some(last)) => LivePoint::After(last),
        (Some(LiveAt::Bookmark(id)), None) => LivePoint::Bookmark(id),
        (Some(LiveAt::End), None) => LivePoint::End,
        (None, None) => return None,
    };
    let files = match args.files {
        LiveFilesArg::Real => LiveFiles::Real,
        LiveFilesArg::Isolated => LiveFiles::Isolated(match &args.files_dir {
            Some(dir) => dir.clone(),
            None => free_name(log),
        }),
    };
    Some(LiveOptions {
        at,
        files,
        anyway: args.live_anyway,
    })
}

/// A directory beside the log that is not there yet: NAME.live, NAME.live.2...
fn free_name(log: &Path) -> PathBuf {
    let stem = log.with_extension("live");
    let numbered = |n: u32| match n {
        1 => stem.clone(),
        n => PathBuf::from(format!("{}.{n}", stem.display())),
    };
    let free = (1..).map(numbered).find(|path| !path.exists());
    let path = free.unwrap_or(stem);
    std::path::absolute(&path).unwrap_or(path)
}

/// Goes on in a child, as a replay that turns live leaves the namespaces that it began in; this process
/// stays there, and says at the end which files have changed. `None`: this is the child.
/// `record_on`: the program is recorded from then on, into this log.
pub fn in_child(options: &LiveOptions, record_on: Option<&Path>) -> Result<Option<i32>, Failure> {
    let (mut born, birth) = std::io::pipe()
        .map_err(|error| Failure::new(1, format!("cannot start the replay: {error}")))?;
    // SAFETY: there is one thread only.
    let child = unsafe { libc::fork() };
    match child {
        0 => {
            BIRTH.store(birth.into_raw_fd(), Relaxed);
            return Ok(None);
        }
        -1 => {
            let error = std::io::Error::last_os_error();
            return Err(Failure::new(1, format!("cannot start the replay: {error}")));
        }
        _ => {}
    }
    drop(birth);
    pass_signals_to(child);
    let mut recorder = None;
    if let Some(log) = record_on {
        let mut pid = [0; 4];
        // None comes if the replay does not get there.
        if born.read_exact(&mut pid).is_ok() {
            recorder = Some(record(i32::from_le_bytes(pid), log)?);
        }
    }
    let mut status = 0;
    // SAFETY: room for the status.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(Failure::new(
                1,
                format!("cannot wait for the replay: {error}"),
            ));
        }
    }
    if let Some(mut recorder) = recorder {
        let _ = recorder.wait();
    }
    if let LiveFiles::Isolated(dir) = &options.files {
        report(dir);
    }
    Ok(Some(match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    }))
}

/// Records a process and its descendants.
fn record(pid: libc::pid_t, log: &Path) -> Result<Child, Failure> {
    let own = std::env::current_exe().unwrap_or_else(|_| "scribe".into());
    let mut command = Command::new(own);
    command.args(["record", "--tree", "-p", &pid.to_string(), "-o"]);
    let failed = |error| Failure::new(1, format!("cannot record what is live now: {error}"));
    command.arg(log).spawn().map_err(failed)
}

/// Says what the program changed in files of its own.
fn report(dir: &Path) {
    let changes = files::changes(dir).len();
    if changes == 0 {
        return files::discard(dir);
    }
    let (dir, s) = (dir.display(), if changes == 1 { "" } else { "s" });
    say(format!(
        "{changes} file{s} changed, for the program only: scribe files {dir} lists them, scribe files \
         --apply {dir} puts them in place"
    ));
}

/// Signals of the terminal go to all that run on it; others are passed on.
fn pass_signals_to(process: libc::pid_t) {
    PROGRAM.store(process, Relaxed);
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        handle(signal, pass_on, libc::SA_RESTART);
    }
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1] {
        // SAFETY: a valid signal.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Waits for the program that goes on; its exit status.
pub fn wait(replayer: &mut Replayer, bookmark: u32) -> Result<i32, Failure> {
    pass_signals_to(replayer.live_root());
    say(format!("live at bookmark {bookmark}"));
    let told = BIRTH.swap(-1, Relaxed);
    if told >= 0 {
        // SAFETY: the descriptor is ours, and in nobody else's hands.
        let mut birth = unsafe { std::fs::File::from_raw_fd(told) };
        // Nobody may want to know.
        let _ = birth.write_all(&replayer.live_root().to_le_bytes());
    }
    let failed = |error: ReplayError| Failure::new(1, error.to_string());
    Ok(replayer.wait_live().map_err(failed)?.shell_status())
}
