//! Processes that run already: recorded from here on, let go again, and looked at for what is left of Scribe.

use crate::Settings;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a recording may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A recorder that was attached to a process.
#[derive(Debug)]
pub struct Recording {
    /// The recorder.
    pub child: Child,
    said: PathBuf,
}

impl Recording {
    /// Starts to record a process into `log` in `dir`; does not wait.
    pub fn start(settings: &Settings, dir: &Path, log: &str, pid: u32, args: &[&str]) -> Recording {
        let said = dir.join(format!("{log}.said"));
        let child = Command::new(&settings.scribe)
            .current_dir(dir)
            .arg("record")
            .args(&settings.record_flags)
            .args(["--force", "-o", log, "-p", &pid.to_string()])
            .args(args)
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Recording { child, said }
    }

    /// What the recorder wrote to its standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until the recording has begun; otherwise the error is what the recorder said.
    pub fn begun(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        while !self.said().contains("recording process") {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status}: {}", self.said()));
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("does not begin: {}", self.said()));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        crate::process::kill(self.child.id() as i32, signal);
    }

    /// Lets the program go, and waits for the recorder's end.
    pub fn detach(mut self) -> Result<(), String> {
        self.signal(libc::SIGUSR1);
        let begin = Instant::now();
        loop {
            match self.child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("ended with {status}: {}", self.said())),
                None if begin.elapsed() > PATIENCE => {
                    return Err(format!("does not let go: {}", self.said()));
                }
                None => sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Replays a log with `--verify`; the error is what it said.
pub fn replays(settings: &Settings, dir: &Path, log: &str) -> Result<(), String> {
    let output = Command::new(&settings.scribe)
        .current_dir(dir)
        .arg("replay")
        .args(&settings.replay_flags)
        .args(["--verify", log])
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.code() == Some(0) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("replay of {log}: {}: {text}", output.status))
}

/// Lines of a file in /proc that begin with one of these names.
fn lines(path: &str, names: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    let wanted = lines.filter(|line| names.iter().any(|name| line.starts_with(name)));
    wanted.map(str::to_owned).collect()
}

/// What is left of Scribe in a process: nothing, in one that is not recorded.
pub fn left_of_scribe(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let status = task.path().join("status");
        let names = ["TracerPid:", "State:"];
        let strange = lines(&status.to_string_lossy(), &names)
            .into_iter()
            .filter(|line| line.contains("tracing stop") || line.contains("stopped"));
        found.extend(strange);
        let traced = lines(&status.to_string_lossy(), &names[..1]);
        found.extend(traced.into_iter().filter(|line| line != "TracerPid:\t0"));
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        if name.starts_with("scribe") {
            found.push(format!("child {child}, {name}"));
        }
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    for line in maps.lines() {
        let start = line.split('-').next().unwrap_or_default();
        let start = u64::from_str_radix(start, 16).unwrap_or(0);
        // The agent and its memory: the only things that Scribe puts into a process.
        let agent = (0x7000_0000..0x7800_0000).contains(&start);
        let scratch = (0x20_0000_0000..0x21_0000_0000).contains(&start);
        if agent || scratch || line.contains("memfd:scribe") {
            found.push(line.to_owned());
        }
    }
    let fds = fs::read_dir(format!("/proc/{pid}/fd"));
    for fd in fds.into_iter().flatten().flatten() {
        let to = fs::read_link(fd.path()).unwrap_or_default();
        if to.to_string_lossy().contains("memfd:scribe") {
            found.push(format!("{} -> {}", fd.path().display(), to.display()));
        }
    }
    found
}

/// Masks and actions of signals of all threads of a process.
pub fn signal_state(pid: u32) -> Vec<String> {
    let names = ["SigIgn:", "SigCgt:", "Seccomp:"];
    lines(&format!("/proc/{pid}/status"), &names)
}
