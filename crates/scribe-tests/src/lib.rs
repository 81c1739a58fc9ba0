//! Test harness: compiles a program, runs it natively, records it, replays the log, and compares.
//!
//! May start processes and read files. Uses Scribe only through its command line, as a user would,
//! and so must not depend on any other crate of the workspace.
//!
//! Environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `SCRIBE` | the binary to test; without it the one of this target directory, built if missing or stale |
//! | `SCRIBE_RECORD_FLAGS`, `SCRIBE_REPLAY_FLAGS` | further flags, split at spaces |
//! | `SCRIBE_TEST_USER` | run everything as this user (the harness must be root) |
//! | `SCRIBE_TEST_KEEP` | keep the logs and outputs of failed runs and name their directory |
//! | `SCRIBE_TEST_NATIVE` | only run natively: a check of the tests themselves |
//! | `SCRIBE_TEST_TIMEOUT` | factor for all time limits |

pub mod compare;
pub mod guard;
pub mod process;
pub mod program;
pub mod pty;
pub mod round;
pub mod running;
pub mod scratch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

/// What the environment says about how to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Scribe binary.
    pub scribe: PathBuf,
    /// Further flags for `scribe record`.
    pub record_flags: Vec<String>,
    /// Further flags for `scribe replay`.
    pub replay_flags: Vec<String>,
    /// User and group to run as, and the user's name.
    pub user: Option<(u32, u32, String)>,
    /// Keep the directories of failed runs.
    pub keep: bool,
    /// Do not record and replay.
    pub native_only: bool,
    /// Factor for all time limits.
    pub patience: f64,
}

impl Settings {
    /// Reads the environment and finds or builds the Scribe binary.
    pub fn from_env() -> Settings {
        let flags = |name: &str| -> Vec<String> {
            let text = env::var(name).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        let native_only = env::var_os("SCRIBE_TEST_NATIVE").is_some();
        Settings {
            scribe: if native_only {
                PathBuf::new()
            } else {
                scribe_binary()
            },
            native_only,
            record_flags: flags("SCRIBE_RECORD_FLAGS"),
            replay_flags: flags("SCRIBE_REPLAY_FLAGS"),
            user: env::var("SCRIBE_TEST_USER")
                .ok()
                .filter(|u| !u.is_empty())
                .map(|u| user(&u).unwrap_or_else(|| panic!("SCRIBE_TEST_USER: no user {u}"))),
            keep: env::var_os("SCRIBE_TEST_KEEP").is_some(),
            patience: env::var("SCRIBE_TEST_TIMEOUT")
                .ok()
                .and_then(|s| s.parse().ok())
                .unwrap_or(1.0),
        }
    }
}

/// User id, group id and name of a user.
pub fn user(name: &str) -> Option<(u32, u32, String)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let (uid, gid) = passwd.lines().find_map(|line| {
        let mut f = line.split(':');
        (f.next() == Some(name)).then_some(())?;
        Some((f.nth(1)?.parse().ok()?, f.next()?.parse().ok()?))
    })?;
    Some((uid, gid, name.to_owned()))
}

/// The top directory of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..")
        .canonicalize()
        .expect("the repository this was built from")
}

/// The directory of the profile (`target/debug`, `target/release`) that the running binary is in.
fn profile_dir() -> PathBuf {
    let exe = env::current_exe().expect("own path");
    let dir = exe.parent().expect("own directory");
    if dir.ends_with("deps") {
        dir.parent().unwrap().to_owned()
    } else {
        dir.to_owned()
    }
}

/// Where compiled test programs are kept: `tmp` in the target directory, as `CARGO_TARGET_TMPDIR`.
pub fn cache_dir() -> PathBuf {
    profile_dir()
        .parent()
        .expect("a target directory")
        .join("tmp/scribe-programs")
}

fn newest(dir: &Path, latest: &mut SystemTime) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            newest(&path, latest);
        } else if let Ok(t) = entry.metadata().and_then(|m| m.modified()) {
            *latest = t.max(*latest);
        }
    }
}

/// `$SCRIBE`, or the binary beside the running one, built when it is missing or older than its sources.
fn scribe_binary() -> PathBuf {
    if let Some(path) = env::var_os("SCRIBE") {
        let path = PathBuf::from(path);
        return path
            .canonicalize()
            .unwrap_or_else(|e| panic!("SCRIBE={}: {e}", path.display()));
    }
    let profile_dir = profile_dir();
    let path = profile_dir.join("scribe");
    let mut latest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(repository().join("crates"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name() != "scribe-tests" {
            newest(&entry.path(), &mut latest);
        }
    }
    if fs::metadata(&path)
        .and_then(|m| m.modified())
        .is_ok_and(|built| built >= latest)
    {
        return path;
    }
    let profile = profile_dir
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or("debug");
    let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "-p", "scribe", "--profile"])
        .arg(if profile == "debug" { "dev" } else { profile })
        .arg("--target-dir")
        .arg(profile_dir.parent().unwrap())
        .current_dir(repository())
        .status()
        .expect("cargo");
    assert!(
        status.success() && path.exists(),
        "cannot build scribe; set SCRIBE to a binary"
    );
    path
}

/// The body of each generated test: one round with the program, given relative to `tests/`.
pub fn check_program(source: &str) {
    let settings = Settings::from_env();
    let program = program::Program::read(&repository().join("tests").join(source));
    let case = match program.case() {
        Ok(case) => case,
        Err(message) => panic!("{message}"),
    };
    check_case(&case, &settings);
}

/// One round with the case; a failure panics with everything needed to understand it.
pub fn check_case(case: &round::Case, settings: &Settings) {
    let mut scratch = scratch::Scratch::new(&case.name, settings);
    if settings.native_only {
        let native = round::Round::new(case, settings, scratch.path()).native();
        native.unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    match round::run(case, settings, scratch.path(), true) {
        Ok(report) => println!("{report}"),
        Err(failure) => {
            if settings.keep {
                println!("kept in {}", scratch.keep().display());
            }
            panic!("{failure}");
        }
    }
}

/// Whether all of these commands are installed; says which is not.
pub fn installed(commands: &[&str]) -> bool {
    commands.iter().all(|c| {
        // An absolute path stands for itself.
        let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(c).is_file());
        if !found {
            println!("skipped: {c} is not installed");
        }
        found
    })
}
