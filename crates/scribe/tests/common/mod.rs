//! Running the binary in a directory of its own.

#![allow(dead_code)] // Each test file uses some of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that is removed with the value, and the binary run in it.
pub struct Dir {
    dir: tempfile::TempDir,
}

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Fails with all that is known unless the status is this.
    #[track_caller]
    pub fn ends_with(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "{self:#?}");
        assert!(!self.stderr.contains("internal error"), "{self:#?}");
        self
    }

    /// Standard error must contain a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Standard output must contain a text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Ran {
        assert!(self.stdout.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Standard error must be empty.
    #[track_caller]
    pub fn silent(self) -> Ran {
        assert_eq!(self.stderr, "", "{self:#?}");
        self
    }
}

impl Dir {
    pub fn new() -> Dir {
        Dir {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a writable directory");
        path
    }

    /// The binary with these arguments, not yet run.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scribe"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command.env_remove("RUST_BACKTRACE").env_remove("NO_COLOR");
        command
    }

    /// Runs the binary.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.command(args).output().expect("the binary").into()
    }

    /// The same, with arguments as in a shell, without quoting.
    pub fn scribe(&self, line: &str) -> Ran {
        self.run(line.split_whitespace())
    }

    /// Logs of the directory, sorted.
    pub fn logs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).expect("our directory");
        let names = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let mut logs: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
        logs.sort();
        logs
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}
