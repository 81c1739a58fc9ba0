//! One round: natively, recorded, replayed; all that must agree is compared.

use crate::Settings;
use crate::compare::{difference, excerpt, same_end, without_own_lines};
use crate::process::{End, Outcome, Running, Spec};
use crate::scratch::subdirectory;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

/// Fills the directory a command is to run in.
pub type Prepare = Box<dyn Fn(&Path) + Send + Sync>;

/// A command to record and replay.
pub struct Case {
    /// Names it in messages.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Further environment.
    pub env: Vec<(String, OsString)>,
    /// How it must end; nothing when that may differ.
    pub expect: Option<End>,
    /// Time limit for each of the three runs.
    pub limit: Duration,
    /// Fills its working directory first.
    pub prepare: Option<Prepare>,
    /// Replay without the files that were in the recording's working directory.
    pub take_away: bool,
    /// A text that the recorded output must contain.
    pub wants: Option<String>,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            name: String::new(),
            argv: Vec::new(),
            env: Vec::new(),
            expect: Some(End::Exit(0)),
            limit: Duration::from_secs(60),
            prepare: None,
            take_away: true,
            wants: None,
        }
    }
}

impl Case {
    /// A command under a name.
    pub fn new<S: Into<OsString>>(name: &str, argv: impl IntoIterator<Item = S>) -> Case {
        let argv = argv.into_iter().map(Into::into).collect();
        Case {
            name: name.to_owned(),
            argv,
            ..Case::default()
        }
    }

    /// A bash script under a name.
    pub fn bash(name: &str, script: &str) -> Case {
        Case::new(name, ["bash", "-c", script])
    }

    /// Sets the time limit of each run, in seconds.
    pub fn limit(mut self, seconds: u64) -> Case {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Sets how the working directory is filled.
    pub fn prepare(mut self, f: impl Fn(&Path) + Send + Sync + 'static) -> Case {
        self.prepare = Some(Box::new(f));
        self
    }

    /// Sets a text that the output must contain.
    pub fn wants(mut self, text: &str) -> Case {
        self.wants = Some(text.to_owned());
        self
    }
}

/// Which part of a round went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The program itself, without Scribe.
    Native,
    /// `scribe record`.
    Record,
    /// `scribe replay`.
    Replay,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the case.
    pub name: String,
    /// Where it went wrong.
    pub stage: Stage,
    /// What, in one line or a few.
    pub message: String,
    /// What Scribe and the program wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.name, self.stage, self.message)?;
        if !self.stderr.is_empty() {
            write!(f, "\n--- its standard error\n{}", self.stderr)?;
        }
        Ok(())
    }
}

/// How long a good round took.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    native: Option<Duration>,
    record: Duration,
    replay: Duration,
    log_bytes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        if let Some(t) = self.native {
            write!(f, " native {:.3} s,", t.as_secs_f64())?;
        }
        let (record, replay) = (self.record.as_secs_f64(), self.replay.as_secs_f64());
        write!(
            f,
            " record {record:.3} s, replay {replay:.3} s, log {} bytes",
            self.log_bytes
        )
    }
}

/// The commands and directories of one round.
pub struct Round<'a> {
    case: &'a Case,
    settings: &'a Settings,
    dir: &'a Path,
}

impl<'a> Round<'a> {
    /// A round that keeps all its files in the directory.
    pub fn new(case: &'a Case, settings: &'a Settings, dir: &'a Path) -> Round<'a> {
        Round {
            case,
            settings,
            dir,
        }
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.scribe")
    }

    fn spec(&self, label: &str, argv: Vec<OsString>) -> Spec {
        Spec {
            argv,
            cwd: subdirectory(self.dir, &format!("{label}.cwd"), self.settings),
            env: self.case.env.clone(),
            outputs: self.dir.to_owned(),
            label: label.to_owned(),
            limit: self.case.limit.mul_f64(self.settings.patience),
        }
    }

    fn prepared(&self, spec: Spec) -> Spec {
        if let Some(prepare) = &self.case.prepare {
            prepare(&spec.cwd);
            if let Some((uid, gid, _)) = self.settings.user {
                give_all(&spec.cwd, uid, gid).expect("own files");
            }
        }
        spec
    }

    /// The command line of the recording.
    pub fn record_argv(&self) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.settings.scribe.clone().into(), "record".into()];
        argv.extend(["-o".into(), self.log().into_os_string()]);
        argv.extend(self.settings.record_flags.iter().map(Into::into));
        argv.push("--".into());
        argv.extend(self.case.argv.iter().cloned());
        argv
    }

    /// The command line of the replay.
    pub fn replay_argv(&self) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.settings.scribe.clone().into(), "replay".into()];
        argv.push("--verify".into());
        argv.extend(self.settings.replay_flags.iter().map(Into::into));
        argv.push(self.log().into_os_string());
        argv
    }

    /// Starts the program without Scribe.
    pub fn start_native(&self) -> Running {
        self.prepared(self.spec("native", self.case.argv.clone()))
            .start(self.settings)
    }

    /// Judges the finished native run.
    pub fn ran_natively(&self, out: Outcome) -> Result<Outcome, Failure> {
        let fail = |message| Err(self.failure(Stage::Native, message, &out));
        if let Some(expect) = self.case.expect
            && out.end != expect
        {
            return fail(format!("{} instead of {expect}", out.end));
        }
        if !out.left.is_empty() {
            return fail(format!("left {:?}", out.left));
        }
        Ok(out)
    }

    /// Runs the program without Scribe.
    pub fn native(&self) -> Result<Outcome, Failure> {
        self.ran_natively(self.start_native().wait())
    }

    /// Starts the recording.
    pub fn start_record(&self) -> Running {
        self.prepared(self.spec("record", self.record_argv()))
            .start(self.settings)
    }

    /// Judges the finished recording.
    pub fn recorded(&self, out: Outcome) -> Result<Outcome, Failure> {
        let fail = |message| Err(self.failure(Stage::Record, message, &out));
        match self.case.expect {
            _ if out.end == End::TimedOut => return fail("timed out".into()),
            Some(expect) if !same_end(expect, out.end) => {
                return fail(format!("{} instead of {expect}", out.end));
            }
            _ => {}
        }
        if !out.left.is_empty() {
            return fail(format!("left {:?}", out.left));
        }
        if let Some(text) = &self.case.wants
            && !String::from_utf8_lossy(&out.stdout).contains(text)
        {
            return fail(format!("output lacks {text:?}:\n{}", excerpt(&out.stdout)));
        }
        if fs::metadata(self.log()).map_or(0, |m| m.len()) == 0 {
            return fail("wrote no log".into());
        }
        Ok(out)
    }

    /// Replays, and compares with what the recording put out.
    pub fn replay(&self, recorded: &Outcome) -> Result<Outcome, Failure> {
        let made = self.dir.join("record.cwd");
        if self.case.take_away && made.exists() {
            fs::rename(&made, self.dir.join("record.cwd.away")).expect("own directory");
        }
        let spec = self.spec("replay", self.replay_argv());
        let cwd = spec.cwd.clone();
        let out = spec.run(self.settings);
        let fail = |message| Err(self.failure(Stage::Replay, message, &out));
        if out.end != recorded.end {
            return fail(format!("{} instead of {}", out.end, recorded.end));
        }
        let texts = [
            (
                "standard output",
                recorded.stdout.clone(),
                out.stdout.clone(),
            ),
            (
                "standard error",
                without_own_lines(&recorded.stderr),
                without_own_lines(&out.stderr),
            ),
        ];
        for (what, a, b) in &texts {
            if let Some(d) = difference(what, ("recorded", a), ("replayed", b)) {
                return fail(d);
            }
        }
        if !out.left.is_empty() {
            return fail(format!("left {:?}", out.left));
        }
        if made.exists() && self.case.take_away {
            return fail("made the directory of the recording again".into());
        }
        let strays: Vec<_> = fs::read_dir(&cwd)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        if !strays.is_empty() {
            return fail(format!("has side effects: {strays:?}"));
        }
        Ok(out)
    }

    fn failure(&self, stage: Stage, message: String, out: &Outcome) -> Failure {
        Failure {
            name: self.case.name.clone(),
            stage,
            message,
            stderr: excerpt(&out.stderr),
        }
    }
}

fn give_all(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Natively (if wanted), recorded, replayed.
pub fn run(
    case: &Case,
    settings: &Settings,
    dir: &Path,
    natively: bool,
) -> Result<Report, Failure> {
    let round = Round::new(case, settings, dir);
    let native = if natively {
        Some(round.native()?.elapsed)
    } else {
        None
    };
    let recorded = round.recorded(round.start_record().wait())?;
    let replayed = round.replay(&recorded)?;
    Ok(Report {
        name: case.name.clone(),
        native,
        record: recorded.elapsed,
        replay: replayed.elapsed,
        log_bytes: fs::metadata(round.log()).map_or(0, |m| m.len()),
    })
}
