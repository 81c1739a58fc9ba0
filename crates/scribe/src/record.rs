//! `scribe record`.

use crate::cli::{Checksum, Format, RecordArgs};
use crate::ui::{Failure, say};
use scribe_engine::record::{Checksums, LogTarget, RecordStats, Requests};
use scribe_engine::{Outcome, RecordError, RecordOptions, Recorder};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The exit status where Scribe failed, and not the program.
pub const FAILED: i32 = 125;

fn failed(text: impl Into<String>) -> Failure {
    Failure::new(FAILED, text)
}

/// Runs the command.
pub fn run(args: &RecordArgs) -> Result<i32, Failure> {
    let argv = argv(args);
    if let Some(rounds) = args.until_failure {
        return crate::until::run(args, rounds.unwrap_or(crate::until::ROUNDS), &argv);
    }
    let mut options = options(args, &argv);
    let (target, path, pump) = match &args.output {
        Some(path) if path == Path::new("-") => {
            let (target, pump) = Pump::start()?;
            (target, None, Some(pump))
        }
        _ => {
            let path = log_path(args, &argv)?;
            (LogTarget::File(path.clone(), args.force), Some(path), None)
        }
    };
    let mut names = None;
    if args.snapshot_every.is_some() || args.keep.is_some() {
        let Some(path) = &path else {
            return Err(failed(
                "a log on standard output cannot be written in parts; give -o a file",
            ));
        };
        let (every, keep) = (args.snapshot_every, args.keep);
        let (parts, list) = crate::parts::Recording::new(path, args.force, every, keep)?;
        options.parts = Some(Box::new(parts));
        names = Some(list);
    }
    take_requests();
    let begin = Instant::now();
    let started = match args.pid {
        Some(pid) => {
            end_by_signals();
            Recorder::attach_to(options, target, pid, args.tree)
        }
        None => Recorder::start(options, target),
    };
    let mut recorder = match started {
        Ok(recorder) => recorder,
        Err(error) => return Err(not_started(&error, path.as_deref())),
    };
    if let Some(path) = path.as_deref().filter(|_| args.force) {
        crate::parts::remove_former(path);
    }
    let pump = pump.map(Pump::started);
    match args.pid {
        Some(pid) => say(attached(pid, path.as_deref(), recorder.tasks())),
        None => signals_go_to(first_child()),
    }
    // Whatever happens: what was recorded until then is to be a good log.
    let result = catch_unwind(AssertUnwindSafe(|| recorder.run()));
    let finished = recorder.finish();
    let pumped = pump.map_or(Ok(()), Pump::finish);
    let outcome = match result {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(Failure::quiet(FAILED)),
    };
    let (stats, log) = finished.map_err(|error| failed(error.to_string()))?;
    pumped.map_err(|e| failed(format!("cannot write the log to standard output: {e}")))?;
    if args.stats {
        let text = match args.format {
            Format::Text => stats_text(&stats, &log, begin.elapsed()),
            Format::Json => stats_json(&stats, &log, begin.elapsed(), outcome),
        };
        // Standard error: if it is closed, nobody wants the figures.
        let _ = io::stderr().write_all(text.as_bytes());
    }
    if let Some(names) = names.filter(|names| names.borrow().len() > 1) {
        let names = names.borrow();
        let names: Vec<String> = names
            .iter()
            .map(|name| name.display().to_string())
            .collect();
        say(format!("the log has these parts: {}", names.join(", ")));
    }
    if outcome == Outcome::Detached {
        let log = path.map_or("the log".into(), |path| path.display().to_string());
        say(format!(
            "the program goes on without being recorded; {log} is complete"
        ));
        let waits = args.pid.is_none().then(stay_with_the_program).flatten();
        return Ok(waits.unwrap_or(0));
    }
    Ok(outcome.shell_status())
}

fn argv(args: &RecordArgs) -> Vec<OsString> {
    if let Some(pid) = args.pid {
        let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        // That there is no such process is said later.
        let name = match name.trim_ascii_end() {
            b"" => b"process",
            name => name,
        };
        return vec![OsStr::from_bytes(name).to_owned()];
    }
    if !args.shell {
        return args.command.clone();
    }
    vec![
        "/bin/sh".into(),
        "-c".into(),
        args.command.join(OsStr::new(" ")),
    ]
}

fn options(args: &RecordArgs, argv: &[OsString]) -> RecordOptions {
    let flags = args.flags.unwrap_or_default();
    let mut options = RecordOptions::new(argv.to_vec());
    options.env = args.env.clone();
    options.cwd = args.chdir.clone();
    options.root = args.root.clone();
    options.new_net = args.new_net;
    options.level = args.level.max(flags.level);
    options.registers = args.level >= 3 || flags.registers;
    options.checksum = match args.checksum {
        _ if flags.checksums => Checksums::Every,
        Checksum::Off => Checksums::Off,
        Checksum::Some => Checksums::Sometimes,
        Checksum::All => Checksums::Every,
    };
    options.no_agent = args.no_agent;
    options.patch_some = args.patch_some;
    options.no_sud = args.no_sud;
    options.chaos = args.chaos.map(|seed| seed.unwrap_or_else(random_seed));
    options.dump = args.dump_memory.clone();
    options.requests = Some(&REQUESTS);
    options.bookmark_every = args.auto_bookmark;
    options.patience = args.patience;
    options.timeslice = args.timeslice;
    options.warn = Box::new(|text| say(text));
    options
}

/// A seed for those who do not care which.
pub fn random_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64) % 1_000_000_007
}

/// Where the log goes. Never to a file that exists, unless that is wanted.
pub fn log_path(args: &RecordArgs, argv: &[OsString]) -> Result<PathBuf, Failure> {
    let taken = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|m| m.is_file() || m.is_symlink())
    };
    if let Some(path) = &args.output {
        if path.is_dir() {
            let shown = path.display();
            return Err(failed(format!(
                "{shown} is a directory; give -o the name of a file"
            )));
        }
        if taken(path) && path.is_file() && !args.force {
            return Err(failed(format!(
                "{} exists; give another name with -o, or --force to replace it",
                path.display()
            )));
        }
        return Ok(path.clone());
    }
    let command = Path::new(argv.first().map_or(OsStr::new(""), |a| a));
    let stem = if args.shell {
        OsStr::new("sh")
    } else {
        command.file_name().unwrap_or(command.as_os_str())
    };
    if stem.is_empty() {
        return Err(failed("the command has an empty name; say what to record"));
    }
    let name = |number: u32| {
        let mut name = stem.to_owned();
        if number > 1 {
            name.push(format!(".{number}"));
        }
        name.push(".log");
        PathBuf::from(name)
    };
    let first = name(1);
    if args.force || !taken(&first) {
        return Ok(first);
    }
    let free = (2..)
        .map(name)
        .find(|path| !taken(path))
        .unwrap_or(first.clone());
    say(format!(
        "{} exists; recording into {}",
        first.display(),
        free.display()
    ));
    Ok(free)
}

/// Why the recording did not begin. The log that was just created holds nothing, and is removed.
fn not_started(error: &RecordError, path: Option<&Path>) -> Failure {
    let status = match error {
        RecordError::Start(error) => error.shell_status(),
        _ => FAILED,
    };
    if let RecordError::Log(text) = error {
        let shown = path.map_or("the log".into(), |path| path.display().to_string());
        let why = text
            .rsplit_once("create the log: ")
            .map_or(text.as_str(), |(_, why)| why);
        let text = format!("cannot create {shown}: {why}; choose another place with -o");
        return Failure::new(status, text);
    }
    if let Some(path) = path
        && path.symlink_metadata().is_ok_and(|m| m.is_file())
    {
        let _ = std::fs::remove_file(path);
    }
    Failure::new(status, error.to_string())
}

// ---- the log on standard output ----

/// Standard output for the log alone: what the program writes to its own goes to standard error.
struct Pump {
    thread: JoinHandle<io::Result<()>>,
    /// The end that the log's writer opens by name.
    write_end: Option<OwnedFd>,
}

impl Pump {
    fn start() -> Result<(LogTarget, Pump), Failure> {
        if io::stdout().is_terminal() {
            return Err(failed(
                "a log is binary, and is not written to a terminal; redirect standard output, or give \
                 -o a file",
            ));
        }
        let setup = |e: io::Error| failed(format!("cannot set up standard output: {e}"));
        let (read_end, write_end, out) = divert().map_err(setup)?;
        let thread = without_signals(|| std::thread::spawn(move || copy(read_end, out)));
        let path = format!("/proc/self/fd/{}", write_end.as_raw_fd());
        let pump = Pump {
            thread,
            write_end: Some(write_end),
        };
        Ok((LogTarget::File(path.into(), false), pump))
    }

    /// The log's writer has opened the pipe: its end is the end of the log.
    fn started(mut self) -> Pump {
        self.write_end = None;
        self
    }

    fn finish(mut self) -> io::Result<()> {
        self.write_end = None;
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the copying thread failed")))
    }
}

/// A pipe, and standard output under another number; standard error takes its place.
fn divert() -> io::Result<(File, OwnedFd, File)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors; each new one is owned by exactly one value afterwards.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        let (read_end, write_end) = (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]));
        let out = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        if out < 0 {
            return Err(io::Error::last_os_error());
        }
        let out = File::from_raw_fd(out);
        if libc::dup2(2, 1) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((read_end, write_end, out))
    }
}

fn copy(mut from: File, mut to: File) -> io::Result<()> {
    let mut buf = vec![0; 64 << 10];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            // On an error the pipe is closed, so that the log's writer hears of it.
            Ok(n) => to.write_all(&buf[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

// ---- signals ----

/// What signals ask the recorder for.
static REQUESTS: Requests = Requests::new();

/// A pidfd of the program: unlike an id, it never means another process.
static PROGRAM: AtomicI32 = AtomicI32::new(-1);

/// From here on: what the keyboard sends is the program's business, which gets it from the terminal
/// itself; what somebody sends to Scribe in order to end it goes to the program, whose end is then
/// recorded.
fn signals_go_to(pid: libc::pid_t) {
    // SAFETY: pidfd_open has no pointers; sigaction gets a valid structure whose handler makes only
    // calls that are safe in one.
    unsafe {
        PROGRAM.store(
            libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32,
            Ordering::SeqCst,
        );
        let keyboard = [
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
        ];
        for signal in keyboard {
            libc::signal(signal, libc::SIG_IGN);
        }
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            let mut action: libc::sigaction = std::mem::zeroed();
            // nohup: stays ignored.
            libc::sigaction(signal, std::ptr::null(), &mut action);
            if action.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = pass_on;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// The recorded program: the only child, so far. -1 where /proc does not tell.
fn first_child() -> libc::pid_t {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .unwrap_or(-1)
}

/// From here on bookmarks and the end of the recording can be asked for; also while the program is
/// being started.
fn take_requests() {
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: a valid structure, whose handler makes only calls that are safe in one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(i32) = asked;
            // Without SA_RESTART: waiting for the program is broken off.
            action.sa_sigaction = handler as usize;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// What ends a recorder of a process that ran before: that process goes on.
fn end_by_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: as above.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            if action.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            let handler: extern "C" fn(i32) = asked;
            action.sa_sigaction = handler as usize;
            action.sa_flags = 0;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// What is said when the recording has begun.
fn attached(pid: i32, log: Option<&Path>, tasks: usize) -> String {
    let threads = match tasks {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    let log = log.map_or(String::new(), |log| format!(" into {}", log.display()));
    format!("recording process {pid} ({threads}){log}; Ctrl-C ends that, and the program goes on")
}

extern "C" fn asked(signal: i32) {
    // SAFETY: the thread's own errno.
    unsafe {
        let errno = *libc::__errno_location();
        match signal {
            libc::SIGUSR2 => REQUESTS.bookmark(),
            _ => REQUESTS.detach(),
        }
        *libc::__errno_location() = errno;
    }
}

/// Waits for a program that was let go, if the shell waits for us in its place; its exit status.
fn stay_with_the_program() -> Option<i32> {
    let pid = first_child();
    // SAFETY: calls without pointers, but for the status.
    unsafe {
        let tty = [0, 1, 2].into_iter().find(|fd| libc::isatty(*fd) == 1)?;
        if pid <= 0
            || libc::tcgetpgrp(tty) != libc::getpgrp()
            || libc::getpgid(pid) != libc::getpgrp()
        {
            return None;
        }
        let mut status = 0;
        while libc::waitpid(pid, &mut status, libc::WUNTRACED) == pid {
            if !libc::WIFSTOPPED(status) {
                return Some(Outcome::from_wait(status).shell_status());
            }
            // Stopped by the keyboard: the shell is to see that.
            libc::kill(libc::getpid(), libc::SIGSTOP);
        }
    }
    None
}

extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo; the calls are async-signal-safe.
    unsafe {
        // The terminal hangs up: the program, in the same process group, gets that too.
        if !info.is_null() && (*info).si_code == libc::SI_KERNEL {
            return;
        }
        let errno = *libc::__errno_location();
        let fd = PROGRAM.load(Ordering::SeqCst);
        let none = std::ptr::null::<libc::siginfo_t>();
        if libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) != 0 {
            // The program has ended, only its children go on.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        *libc::__errno_location() = errno;
    }
}

/// Starts a thread that signals for the process do not go to.
fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    // SAFETY: both sets are valid; sigset_t is plain data.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
        result
    }
}

// ---- figures ----

fn by_count(calls: &HashMap<u32, u64>) -> Vec<(&'static str, u64)> {
    let name = |nr: &u32| scribe_syscalls::syscall_name(*nr).unwrap_or("unknown");
    let mut calls: Vec<_> = calls
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(nr, count)| (name(nr), *count))
        .collect();
    calls.sort_by_key(|(name, count)| (u64::MAX - count, *name));
    calls
}

fn stats_text(stats: &RecordStats, log: &scribe_log::Stats, time: Duration) -> String {
    let calls = by_count(&stats.calls);
    let slow = by_count(&stats.slow_calls);
    let total: u64 = calls.iter().map(|call| call.1).sum();
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<22}{value:>14}\n"));
    line("run time", format!("{:.3} s", time.as_secs_f64()));
    line("tasks", stats.tasks.to_string());
    line("events", stats.events.to_string());
    line("system calls", total.to_string());
    line("  without a stop", stats.fast.to_string());
    line("signals", stats.signals.to_string());
    line("trapped instructions", stats.instructions.to_string());
    line("task switches", stats.switches.to_string());
    line("ptrace stops", stats.stops.to_string());
    line("log, bytes", log.compressed_bytes.to_string());
    line("before compression", log.raw_bytes.to_string());
    line("chunks", log.chunks.to_string());
    for (name, count) in calls.iter().take(10) {
        line(&format!("  {name}"), count.to_string());
    }
    line("places patched", stats.patched.to_string());
    line(
        "calls by stops",
        slow.iter().map(|call| call.1).sum::<u64>().to_string(),
    );
    for (name, count) in slow.iter().take(10) {
        line(&format!("  {name}"), count.to_string());
    }
    for (name, count) in passed(stats) {
        line(&format!("  {name}"), count.to_string());
    }
    let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    for (what, still) in &stats.still {
        let name = format!("stood still, {what}");
        match still.times {
            1 => line(&name, ms(still.longest)),
            times => {
                line(&format!("{name}, times"), times.to_string());
                line("  the longest", ms(still.longest));
                line("  in all", ms(still.total));
            }
        }
    }
    let mut places: Vec<_> = stats.unpatched.iter().collect();
    places.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    if !places.is_empty() {
        text.push_str("calls from places that cannot be patched\n");
    }
    for (name, count) in places.iter().take(10) {
        text.push_str(&format!("{count:>36}  {name}\n"));
    }
    text
}

/// Why calls of patched places had to stop.
fn passed(stats: &RecordStats) -> Vec<(&'static str, u64)> {
    use scribe_abi::shared::counter;
    let names = [
        (counter::NO_ROW, "needs the engine"),
        (counter::DESCRIPTOR, "descriptor"),
        (counter::WAITS, "waits, large"),
        (counter::ASKED, "signal or turn"),
        (counter::ODD, "long or odd"),
    ];
    let counts = names.map(|(which, name)| (name, stats.passed[which]));
    counts.into_iter().filter(|count| count.1 > 0).collect()
}

fn stats_json(
    stats: &RecordStats,
    log: &scribe_log::Stats,
    time: Duration,
    outcome: Outcome,
) -> String {
    let calls: serde_json::Map<String, serde_json::Value> = by_count(&stats.calls)
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    let value = serde_json::json!({
        "status": outcome.shell_status(),
        "seconds": time.as_secs_f64(),
        "tasks": stats.tasks,
        "events": stats.events,
        "calls": calls,
        "fast_calls": stats.fast,
        "slow_calls": by_count(&stats.slow_calls).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "passed": passed(stats).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "unpatched": stats.unpatched,
        "patched": stats.patched,
        "stood_still": stats.still.iter().map(|(what, still)| {
            let (total, longest) = (still.total.as_secs_f64(), still.longest.as_secs_f64());
            (*what, serde_json::json!({"times": still.times, "seconds": total, "longest": longest}))
        }).collect::<std::collections::BTreeMap<_, _>>(),
        "signals": stats.signals,
        "instructions": stats.instructions,
        "switches": stats.switches,
        "stops": stats.stops,
        "log_bytes": log.compressed_bytes,
        "raw_bytes": log.raw_bytes,
        "chunks": log.chunks,
        "records": log.records,
    });
    format!("{value}\n")
}

/// The name of a log that `scribe record` would make.
pub fn is_log_name(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_bytes().ends_with(b".log"))
}
