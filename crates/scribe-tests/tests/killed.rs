//! The recorder is killed while it attaches, lets go, or ends a part of a recording: the program goes on as if
//! nothing had been, or has ended. It never hangs.
//!
//! `SCRIBE_KILLS` says how often.

use scribe_tests::Settings;
use scribe_tests::process::{End, Running, Spec, kill};
use scribe_tests::program::Program;
use scribe_tests::running::{Recording, left_of_scribe, replays};
use scribe_tests::scratch::Scratch;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Without `SCRIBE_KILLS`.
const KILLS: u32 = 15;
/// The program writes something within that.
const PATIENCE: Duration = Duration::from_secs(20);

fn kills() -> u32 {
    let wanted = std::env::var("SCRIBE_KILLS").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(KILLS)
}

/// Each has output files of its own.
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// `tests/detach/steady.c`, which stops for ever if anything is lost.
struct Steady<'a> {
    settings: &'a Settings,
    dir: &'a Path,
    running: Option<Running>,
    serial: u32,
    ended: u32,
}

impl<'a> Steady<'a> {
    fn new(settings: &'a Settings, dir: &'a Path) -> Steady<'a> {
        Steady {
            settings,
            dir,
            running: None,
            serial: 0,
            ended: 0,
        }
    }

    fn label(&self) -> String {
        format!("steady{}", self.serial)
    }

    fn out(&self) -> PathBuf {
        self.dir.join(format!("{}.out", self.label()))
    }

    /// The one that runs; a new one if there is none.
    fn pid(&mut self) -> u32 {
        if self.running.is_none() {
            self.serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let all = Program::all("detach");
            let found = all.iter().find(|program| program.name == "steady");
            let spec = Spec {
                argv: found.unwrap().case().unwrap().argv,
                cwd: self.dir.to_owned(),
                env: Vec::new(),
                outputs: self.dir.to_owned(),
                label: self.label(),
                limit: Duration::from_secs(24 * 3600),
            };
            self.running = Some(spec.start(self.settings));
            let begin = Instant::now();
            while !fs::read_to_string(self.out()).is_ok_and(|text| text.contains("\n1\n")) {
                assert!(begin.elapsed() < PATIENCE, "it does not begin");
                sleep(Duration::from_millis(1));
            }
        }
        self.running.as_ref().unwrap().pid() as u32
    }

    /// The recorder was killed: all is well, or the program has ended.
    fn survives(&mut self, what: &str) {
        let (out, begin) = (self.out(), Instant::now());
        let size = || fs::metadata(&out).map_or(0, |meta| meta.len());
        let before = size();
        let running = self.running.as_mut().unwrap();
        while size() <= before + 8 {
            if !running.alive() {
                let end = self.running.take().unwrap().wait();
                assert_eq!(end.end, End::Signal(libc::SIGKILL), "{what}: {end:?}");
                self.ended += 1;
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: it does not go on");
            sleep(Duration::from_millis(1));
        }
        let left = left_of_scribe(running.pid() as u32);
        assert!(left.is_empty(), "{what}: {left:#?}");
    }

    fn end(&mut self) {
        self.pid();
        let running = self.running.take().unwrap();
        kill(running.pid(), libc::SIGTERM);
        let end = running.wait();
        assert_eq!(end.end, End::Exit(0), "{end:?}");
        assert!(end.stdout.ends_with(b"told to end\n"), "{end:?}");
    }
}

struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(u64::from(std::process::id()) | 1)
    }

    /// A time below the given one.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let micros = (self.0 >> 33) % most.as_micros().max(1) as u64;
        Duration::from_micros(micros)
    }
}

#[test]
fn while_it_attaches() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("killed-attach", &settings);
    let mut random = Random::new();
    let mut steady = Steady::new(&settings, scratch.path());
    for round in 0..kills() {
        let args: &[&str] = if round % 2 == 0 { &[] } else { &["--tree"] };
        let pid = steady.pid();
        let delay = random.below(Duration::from_millis(30));
        let mut recording = Recording::start(&settings, scratch.path(), "log", pid, args);
        sleep(delay);
        recording.signal(libc::SIGKILL);
        recording.child.wait().unwrap();
        steady.survives(&format!("round {round}, after {delay:?}, {args:?}"));
    }
    println!("{} of {} ended", steady.ended, kills());
    steady.end();
}

#[test]
fn while_it_lets_go() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("killed-detach", &settings);
    let mut random = Random::new();
    let mut steady = Steady::new(&settings, scratch.path());
    for round in 0..kills() {
        let args: &[&str] = if round % 2 == 0 { &[] } else { &["--tree"] };
        let pid = steady.pid();
        let mut recording = Recording::start(&settings, scratch.path(), "log", pid, args);
        recording.begun().unwrap();
        sleep(random.below(Duration::from_millis(30)));
        let delay = random.below(Duration::from_millis(30));
        recording.signal(libc::SIGUSR1);
        sleep(delay);
        recording.signal(libc::SIGKILL);
        recording.child.wait().unwrap();
        steady.survives(&format!("round {round}, after {delay:?}, {args:?}"));
    }
    println!("{} of {} ended", steady.ended, kills());
    steady.end();
}

/// The parts that were complete are good; what was being written when the recorder was killed is told from them.
#[test]
fn while_a_part_ends() {
    let settings = Settings::from_env();
    let scratch = Scratch::new("killed-part", &settings);
    let dir = scratch.path();
    let mut random = Random::new();
    for round in 0..kills().div_ceil(3) {
        let mut steady = Steady::new(&settings, dir);
        let pid = steady.pid();
        let args = ["--tree", "--snapshot-every", "0.1"];
        let mut recording = Recording::start(&settings, dir, "log", pid, &args);
        recording.begun().unwrap();
        let delay = Duration::from_millis(180) + random.below(Duration::from_millis(250));
        sleep(delay);
        recording.signal(libc::SIGKILL);
        recording.child.wait().unwrap();
        let what = format!("round {round}, after {delay:?}");
        steady.survives(&what);
        assert_eq!(steady.ended, 1, "{what}: it went on without its recorder");
        let mut complete = vec!["log".to_owned()];
        complete.extend((2..).map(|n| format!("log.part{n}")).take_while(|name| {
            let exists = dir.join(name).exists();
            exists && dir.join(next_part(name)).exists()
        }));
        if !dir.join("log.part2").exists() {
            complete.clear();
        }
        for part in &complete {
            // Of all but the last the next one is there: a replay would go on with that.
            let alone = dir.join("alone");
            fs::copy(dir.join(part), &alone).unwrap();
            replays(&settings, dir, "alone").unwrap_or_else(|why| panic!("{what}: {part}: {why}"));
        }
        for part in fs::read_dir(dir).unwrap().flatten() {
            if part.file_name().to_string_lossy().starts_with("log") {
                fs::remove_file(part.path()).unwrap();
            }
        }
    }
}

fn next_part(name: &str) -> String {
    let (stem, number) = name.rsplit_once(".part").unwrap();
    format!("{stem}.part{}", number.parse::<u32>().unwrap() + 1)
}
