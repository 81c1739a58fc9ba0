//! `scribe replay --live-at`: how it is asked for, and waiting for the program then.

use crate::cli::{LiveAt, LiveFilesArg, ReplayArgs};
use crate::files;
use crate::ui::{Failure, say};
use scribe_engine::replay::{LiveFiles, LiveOptions, LivePoint};
use scribe_engine::{ReplayError, Replayer};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

/// Somebody asked by SIGUSR1 that the replay turn live.
pub static ASKED: AtomicBool = AtomicBool::new(false);
/// The program that was brought to life.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

extern "C" fn ask(_: libc::c_int) {
    ASKED.store(true, Relaxed);
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

/// Waits for the program that goes on; its exit status. The terminal's signals are the program's.
pub fn wait(replayer: &mut Replayer, bookmark: u32, options: &LiveOptions) -> Result<i32, Failure> {
    PROGRAM.store(replayer.live_root(), Relaxed);
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        handle(signal, pass_on, libc::SA_RESTART);
    }
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1] {
        // SAFETY: a valid signal.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    say(format!("live at bookmark {bookmark}"));
    let failed = |error: ReplayError| Failure::new(1, error.to_string());
    let outcome = replayer.wait_live().map_err(failed)?;
    if let LiveFiles::Isolated(dir) = &options.files {
        let changes = files::changes(dir);
        match changes.len() {
            0 => files::discard(dir),
            n => {
                let (dir, s) = (dir.display(), if n == 1 { "" } else { "s" });
                say(format!(
                    "{n} file{s} changed, for the program only: scribe files {dir} lists them, \
                     scribe files --apply {dir} puts them in place"
                ));
            }
        }
    }
    Ok(outcome.shell_status())
}
