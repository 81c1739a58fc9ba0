//! Programs that turn live at random points, over and over: at bookmarks that were asked for in all ways, and when
//! a replay is told to by a signal.
//!
//! `SCRIBE_LIVES` says how often for each program (the issue wants 50), `SCRIBE_SEED` at which points.

use crate::possible;
use scribe_tests::process::{End, Outcome, Running, Spec, kill};
use scribe_tests::program::Program;
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, installed, repository};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Without `SCRIBE_LIVES`.
const LIVES: u32 = 4;
/// No round takes longer.
const LIMIT: Duration = Duration::from_secs(90);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Random numbers that come again with the same seed.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }

    pub fn time_below(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }
}

/// How the point comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// SIGUSR2 to the recorder.
    Signal,
    /// `scribe bookmark`.
    Command,
    /// `record -a`.
    Every(Duration),
    /// The same; then SIGUSR1 to the replay.
    Asked(Duration),
}

/// Milliseconds that it took to turn live.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// From the command, or from the signal, until the program ran.
    whole: f64,
    /// Of that, from when the replay stood at the point.
    birth: f64,
    asked: bool,
}

/// One recording that turns live.
pub struct Round<'a> {
    pub settings: &'a Settings,
    pub dir: &'a Path,
    pub random: &'a mut Random,
    pub how: How,
    took: Option<Took>,
}

/// A replay that has been started.
pub struct Living {
    running: Running,
    begin: Instant,
}

impl Round<'_> {
    fn start(&self, label: &str, args: &[OsString]) -> Running {
        let mut argv = vec![self.settings.scribe.clone().into_os_string()];
        argv.extend_from_slice(args);
        let spec = Spec {
            argv,
            cwd: self.dir.to_owned(),
            env: Vec::new(),
            outputs: self.dir.to_owned(),
            label: label.into(),
            limit: LIMIT.mul_f64(self.settings.patience),
        };
        spec.start(self.settings)
    }

    /// What a command wrote to its standard error so far.
    pub fn said(&self, label: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{label}.err"))).unwrap_or_default()
    }

    pub fn record(&self, program: &[OsString]) -> Running {
        let mut args: Vec<OsString> = ["record", "-o", "log"].map(OsString::from).into();
        args.extend(self.settings.record_flags.iter().map(OsString::from));
        if let How::Every(every) | How::Asked(every) = self.how {
            args.extend(["-a".into(), every.as_secs_f64().to_string().into()]);
        }
        args.push("--".into());
        args.extend_from_slice(program);
        self.start("record", &args)
    }

    /// Waits until a file is there.
    fn wait_for(&self, name: &str) -> Result<(), String> {
        let begin = Instant::now();
        while !self.dir.join(name).exists() {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("no {name} after 20 seconds"));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Asks for a bookmark in the way of this round, if it does not come by itself.
    pub fn ask(&self, recorder: &Running) {
        match self.how {
            How::Signal => kill(recorder.pid(), libc::SIGUSR2),
            How::Command => {
                let mut command = Command::new(&self.settings.scribe);
                // The program may be over.
                let _ = command
                    .arg("bookmark")
                    .arg(recorder.pid().to_string())
                    .output();
            }
            How::Every(_) | How::Asked(_) => {}
        }
    }

    /// A bookmark of the recording at which it can turn live.
    fn a_bookmark(&mut self) -> Result<Option<u32>, String> {
        let told = self.scribe(&["replay", "--live-at", "4000000000", "log"])?;
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        // A recorder that was killed may have written nothing.
        if told.contains("without an end record") {
            return Ok(None);
        }
        let Some((_, list)) = told.split_once("; it has ") else {
            return Err(format!("asking for the bookmarks: {told}"));
        };
        let numbers = |text: &str| -> Vec<u32> {
            let words = text.split(|c: char| !c.is_ascii_digit());
            words.filter_map(|word| word.parse().ok()).collect()
        };
        let found = match list.split_once(" of them, ") {
            Some((_, range)) => match numbers(range)[..] {
                [first, last] => first + self.random.below(u64::from(last - first) + 1) as u32,
                _ => return Err(told),
            },
            None => match numbers(list.split(';').next().unwrap_or_default()) {
                all if all.is_empty() => return Ok(None),
                all => all[self.random.below(all.len() as u64) as usize],
            },
        };
        Ok(Some(found))
    }

    fn scribe(&self, args: &[&str]) -> Result<Output, String> {
        let mut command = Command::new(&self.settings.scribe);
        let output = command.current_dir(self.dir).args(args).output();
        output.map_err(|error| error.to_string())
    }

    /// Starts a replay that turns live. `None`: there is no bookmark, as the program was over.
    pub fn revive(&mut self, length: Duration) -> Result<Option<Living>, String> {
        let mut args = vec!["replay".to_owned(), "-v".into(), "log".into()];
        args.extend(self.settings.replay_flags.iter().cloned());
        let Some(bookmark) = self.a_bookmark()? else {
            return Ok(None);
        };
        let asked = matches!(self.how, How::Asked(_));
        if !asked {
            args.extend(["--live-at".into(), bookmark.to_string()]);
        }
        let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
        let mut begin = Instant::now();
        let mut running = self.start("live", &args);
        if asked {
            let status = format!("/proc/{}/status", running.pid());
            let caught = || {
                let text = fs::read_to_string(&status).unwrap_or_default();
                let set = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
                let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
                set.is_some_and(|set| set & 1 << (libc::SIGUSR1 - 1) != 0)
            };
            while !caught() && running.alive() {
                sleep(Duration::from_micros(200));
            }
            sleep(self.random.time_below(length.mul_f64(0.7)));
            begin = Instant::now();
            if running.alive() {
                kill(running.pid(), libc::SIGUSR1);
            }
        }
        let mut living = Living { running, begin };
        while !self.said("live").contains("live at ") && living.running.alive() {
            if begin.elapsed() > LIMIT {
                let told = self.said("live");
                return Err(format!("it does not turn live: {told}"));
            }
            sleep(Duration::from_millis(1));
        }
        let whole = living.begin.elapsed().as_secs_f64() * 1000.0;
        let told = self.said("live");
        let birth = told.split_once("brought to life within ");
        let birth = birth.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        self.took = birth.map(|birth| Took {
            whole,
            birth,
            asked,
        });
        living.begin = Instant::now();
        match (self.took, asked) {
            (None, false) => {
                let end = living.running.wait();
                Err(format!("it did not turn live: {}; {told}", end.end))
            }
            _ => Ok(Some(living)),
        }
    }
}

impl Living {
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Whether it has not ended.
    pub fn alive(&mut self) -> bool {
        self.running.alive()
    }

    /// Waits for its end; nothing may be left.
    pub fn end(self) -> Result<Outcome, String> {
        let end = self.running.wait();
        match end.left.is_empty() {
            true => Ok(end),
            false => Err(format!("left behind: {end:?}")),
        }
    }
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    match values {
        [] => "-".into(),
        all => format!("{:.0} ms ({:.0})", all[all.len() / 2], all[all.len() - 1]),
    }
}

/// Rounds until enough have turned live; then what failed, and how long it took.
pub fn lives(name: &str, every: (u64, u64), round: impl Fn(&mut Round) -> Result<bool, String>) {
    if !possible() {
        return;
    }
    let wanted = number("SCRIBE_LIVES").map_or(LIVES, |n| n as u32);
    let seed = number("SCRIBE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mut random = Random(seed);
    let settings = Settings::from_env();
    let (mut done, mut failed, mut took) = (0, Vec::new(), Vec::new());
    // One that was over before its bookmark came does not count.
    for n in 0..wanted * 3 {
        if done == wanted {
            break;
        }
        let mut scratch = Scratch::new(&format!("lives-{name}"), &settings);
        let apart = Duration::from_millis(every.0 + random.below(every.1 - every.0));
        let how = match n % 4 {
            0 => How::Signal,
            1 => How::Asked(apart),
            2 => How::Command,
            _ => How::Every(apart),
        };
        let dir = scratch.path().to_owned();
        let mut this = Round {
            settings: &settings,
            dir: &dir,
            random: &mut random,
            how,
            took: None,
        };
        let result = round(&mut this);
        let said = this.said("live");
        took.extend(this.took);
        match result {
            Ok(true) => done += 1,
            Ok(false) => {}
            Err(why) => {
                done += 1;
                let kept = match settings.keep {
                    true => format!(" kept in {};", scratch.keep().display()),
                    false => String::new(),
                };
                println!("{name}, round {n}, {how:?}:{kept} {why}; {said}");
                failed.push(n);
            }
        }
    }
    for asked in [false, true] {
        let these = took.iter().filter(|took| took.asked == asked);
        let (mut whole, mut birth): (Vec<f64>, Vec<f64>) =
            these.map(|took| (took.whole, took.birth)).unzip();
        let what = if asked { "SIGUSR1" } else { "--live-at" };
        println!(
            "{name}: {what}: {} turned live; until it ran {}, of that from the point on {}",
            whole.len(),
            spread(&mut whole),
            spread(&mut birth)
        );
    }
    let passed = done - failed.len() as u32;
    println!("{name}: {passed} of {done} passed, seed {seed}");
    assert!(failed.is_empty(), "seed {seed}: rounds {failed:?} failed");
    assert_eq!(done, wanted, "too few turned live");
}

/// A program that ends by itself: its output and its end are those of the recording. What
/// the recording `left` in files is spoilt before; `check` sees what is there afterwards.
fn to_its_end(
    round: &mut Round,
    program: &[OsString],
    length: Duration,
    left: &[&str],
    check: impl Fn(&Round) -> Result<(), String>,
) -> Result<bool, String> {
    let recorder = round.record(program);
    if matches!(round.how, How::Signal | How::Command) {
        // A signal to a recorder that has not come to take requests yet ends it.
        round.wait_for("log")?;
        sleep(round.random.time_below(length));
        round.ask(&recorder);
    }
    let recorded = recorder.wait();
    if !recorded.left.is_empty() || recorded.end == End::TimedOut {
        return Err(format!("recording: {recorded:?}"));
    }
    // How long a replay takes.
    let begin = Instant::now();
    if matches!(round.how, How::Asked(_)) {
        round.scribe(&["replay", "-q", "log"])?;
    }
    let took = begin.elapsed();
    for name in left {
        // Not removed: it has its inode, by which a program may know it.
        let file = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(round.dir.join(name));
        if let Ok(mut file) = file {
            let _ = file.write_all(b"nothing of the program's");
        }
    }
    let Some(living) = round.revive(took)? else {
        return Ok(false);
    };
    let end = living.end()?;
    if end.end != recorded.end || end.stdout != recorded.stdout {
        let text = |out: &Outcome| String::from_utf8_lossy(&out.stdout).into_owned();
        let (now, then) = (text(&end), text(&recorded));
        let (as_now, as_then) = (end.end, recorded.end);
        return Err(format!(
            "{as_now}, recorded {as_then};\n{now}\nrecorded:\n{then}"
        ));
    }
    if round.took.is_some() {
        check(round)?;
    }
    Ok(round.took.is_some())
}

fn script(interpreter: &str, name: &str) -> Vec<OsString> {
    let path = repository().join("tests/live").join(name);
    vec![interpreter.into(), path.into()]
}

#[test]
fn bash_in_the_middle_of_a_pipeline() {
    let program = script("bash", "pipeline.sh");
    lives("bash", (40, 300), |round| {
        to_its_end(
            round,
            &program,
            Duration::from_millis(1300),
            &[],
            |_| Ok(()),
        )
    });
}

#[test]
fn python_with_all_its_parts() {
    if !installed(&["/usr/bin/python3"]) {
        return;
    }
    for (name, length) in [("objects.py", 1600), ("work.py", 1600)] {
        let program = script("/usr/bin/python3", name);
        lives(name, (60, 400), |round| {
            to_its_end(round, &program, Duration::from_millis(length), &[], |_| {
                Ok(())
            })
        });
    }
}

/// Memory, semaphores and queues that programs find by keys and names.
#[test]
fn objects_of_system_v() {
    let all = Program::all("live");
    let found = all.iter().find(|program| program.name == "sysv");
    let program = found.unwrap().case().unwrap().argv;
    lives("sysv", (60, 200), |round| {
        to_its_end(round, &program, Duration::from_millis(500), &[], |_| Ok(()))
    });
}

/// Transactions that keep a sum; what they are told comes through a pipe.
fn transactions(mode: &str) -> String {
    format!(
        "(echo 'pragma journal_mode={mode}; create table t(a); create table s(total); \
         insert into s values(0);'; \
         for i in $(seq 60); do \
           echo \"begin; insert into t values($i); update s set total = total + $i; commit;\"; sleep 0.015; \
         done; \
         echo 'select count(*), sum(a), (select total from s) from t; pragma integrity_check;') | \
         sqlite3 -batch w.db"
    )
}

#[test]
fn sqlite3_between_transactions() {
    if !installed(&["sqlite3"]) {
        return;
    }
    lives("sqlite3", (60, 400), |round| {
        let modes = ["delete", "wal", "truncate"];
        let mode = modes[round.random.below(3) as usize];
        let program = ["bash".into(), "-c".into(), transactions(mode).into()];
        let length = Duration::from_millis(1300);
        let left = ["w.db", "w.db-wal", "w.db-shm", "w.db-journal"];
        let done = to_its_end(round, &program, length, &left, |round| {
            let applied = round.scribe(&["files", "--apply", "log.live"])?;
            if !applied.status.success() {
                return Err(format!("applying its files: {applied:?}"));
            }
            let ask =
                "select count(*), sum(a), (select total from s) from t; pragma integrity_check;";
            let mut sqlite = Command::new("sqlite3");
            let told = sqlite.arg(round.dir.join("w.db")).arg(ask).output();
            let told = told.map_err(|error| error.to_string())?;
            match told.stdout == b"60|1830|1830\nok\n" {
                true => Ok(()),
                false => Err(format!("the database: {told:?}")),
            }
        });
        done.map_err(|why| format!("journal_mode={mode}: {why}"))
    });
}
