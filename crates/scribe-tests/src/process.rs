//! Running a command with its output in files, a time limit, and nothing left behind.

use crate::Settings;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, process, thread};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It left with this code.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
    /// It was killed when its time was up.
    TimedOut,
}

impl End {
    fn from_status(status: ExitStatus) -> End {
        match status.code() {
            Some(code) => End::Exit(code),
            None => End::Signal(status.signal().unwrap_or(0)),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exit(200) => write!(f, "exit 200 (divergence)"),
            End::Exit(35) => write!(f, "exit 35 (deadlock)"),
            End::Exit(code) => write!(f, "exit {code}"),
            End::Signal(sig) => write!(f, "killed by signal {sig}"),
            End::TimedOut => write!(f, "timed out"),
        }
    }
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub elapsed: Duration,
    /// Processes that were still there afterwards (killed now): pid and command name.
    pub left: Vec<(i32, String)>,
}

/// A command to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Further environment.
    pub env: Vec<(String, OsString)>,
    /// Files for output and errors are written here, named after the label.
    pub outputs: PathBuf,
    /// Names the output files.
    pub label: String,
    /// After this it is killed.
    pub limit: Duration,
}

/// Marks the processes of one run, so that all of them are found afterwards wherever they went.
const MARK: &str = "SCRIBE_TEST_RUN";
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    mark: String,
    spec: Spec,
    started: Instant,
    finished: bool,
}

impl Spec {
    /// Starts it in a process group of its own.
    pub fn start(self, settings: &Settings) -> Running {
        let mark = format!(
            "{}-{}",
            process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let file = |kind: &str| {
            let path = self.outputs.join(format!("{}.{kind}", self.label));
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            options
                .open(&path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .current_dir(&self.cwd)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .env(MARK, &mark)
            .env("TMPDIR", &self.cwd)
            .stdin(File::open("/dev/null").expect("/dev/null"))
            .stdout(Stdio::from(file("out")))
            .stderr(Stdio::from(file("err")))
            .process_group(0);
        become_user(&mut command, settings, &self.cwd);
        let started = Instant::now();
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{:?}: {e}", self.argv[0]));
        Running {
            child,
            mark,
            spec: self,
            started,
            finished: false,
        }
    }

    /// Runs it to its end.
    pub fn run(self, settings: &Settings) -> Outcome {
        self.start(settings).wait()
    }
}

/// Makes the command run as the user of the settings.
pub fn become_user(command: &mut Command, settings: &Settings, home: &Path) {
    if let Some((uid, gid, name)) = &settings.user {
        command
            .uid(*uid)
            .gid(*gid)
            .env("HOME", home)
            .env("USER", name)
            .env("LOGNAME", name);
    }
}

impl Running {
    /// The process that was started.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether it has not ended.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end or the time limit.
    pub fn wait(mut self) -> Outcome {
        let deadline = self.started + self.spec.limit;
        let ended = wait_until(self.pid(), deadline);
        if !ended {
            kill_all(self.pid(), &self.mark);
        }
        let status = self.child.wait().expect("own child");
        let elapsed = self.started.elapsed();
        // What still runs may just be ending.
        let group = self.pid();
        let mut left = left_behind(&self.mark, group);
        for _ in 0..40 {
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(25));
            left = left_behind(&self.mark, group);
        }
        for (pid, _) in &left {
            kill(*pid, libc::SIGKILL);
        }
        self.finished = true;
        let read = |kind: &str| {
            fs::read(
                self.spec
                    .outputs
                    .join(format!("{}.{kind}", self.spec.label)),
            )
            .unwrap_or_default()
        };
        Outcome {
            end: if ended {
                End::from_status(status)
            } else {
                End::TimedOut
            },
            stdout: read("out"),
            stderr: read("err"),
            elapsed,
            left,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.finished {
            kill_all(self.pid(), &self.mark);
            let _ = self.child.wait();
        }
    }
}

/// Waits for the process to end; false when the time came first.
fn wait_until(pid: i32, deadline: Instant) -> bool {
    // SAFETY: plain call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        // `alive` has seen its end already.
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}");
        return true;
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut p = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let ms = left.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&mut p, 1, ms) } {
            1 => return true,
            0 if left.is_zero() => return false,
            _ => {}
        }
    }
}

/// Sends a signal to one process.
pub fn kill(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: plain call without pointers.
    unsafe { libc::kill(pid, signal) };
}

fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Pid and name of the living processes that the mark or the process group tells to be of a run.
/// The mark finds those that left the group; the group finds those in the middle of an exec, whose
/// environment reads as empty until the kernel has written the new one.
fn left_behind(mark: &str, group: i32) -> Vec<(i32, String)> {
    let group = group.to_string();
    let in_group = |pid: i32| {
        stat_fields(pid)
            .is_some_and(|stat| !stat.starts_with(['Z', 'X']) && field(&stat, 2) == group)
    };
    processes()
        .filter(|pid| has_mark(*pid, mark) || in_group(*pid))
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim_end().to_owned())
        })
        .collect()
}

fn has_mark(pid: i32, mark: &str) -> bool {
    let wanted = format!("{MARK}={mark}").into_bytes();
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == wanted))
}

/// What stands behind the name in /proc/PID/stat: state, parent, process group...
fn stat_fields(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

fn field(stat: &str, index: usize) -> &str {
    stat.split_whitespace().nth(index).unwrap_or_default()
}

/// The parent of a process.
fn parent_of(pid: i32) -> Option<i32> {
    field(&stat_fields(pid)?, 1).parse().ok()
}

/// The process and everything below it.
pub fn descendants(root: i32) -> HashSet<i32> {
    let mut family = HashSet::from([root]);
    let all: Vec<(i32, i32)> = processes()
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    loop {
        let before = family.len();
        for (pid, parent) in &all {
            if family.contains(parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// Kills the process, everything below it, and everything that carries the mark.
fn kill_all(root: i32, mark: &str) {
    let mut family = descendants(root);
    family.extend(processes().filter(|pid| has_mark(*pid, mark)));
    for pid in family {
        kill(pid, libc::SIGKILL);
    }
}
