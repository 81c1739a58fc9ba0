//! Records and replays racing programs over and over. Keeps what is needed to look into a failure.

use scribe_tests::program::Program;
use scribe_tests::round::{self, Case};
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, repository};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

const USAGE: &str = "scribe-stress [--seconds S] [--count N] [--filter NAME] [--jobs J] [--all]
              [--keep DIR] [--stop-at N] [--flags RECORD-FLAGS...]

Records and replays (--verify) the programs of tests/races, and with --all those of tests/programs
too, in turn, for S seconds (default 60) or N rounds in all. Outputs and logs of failed rounds stay
in DIR (default: a new directory in the temporary directory). --stop-at ends after N failures.
--flags takes the rest of the line. The last line is `N passed, N failed`; the exit status is 1
after a failure.";

struct Options {
    seconds: Option<f64>,
    count: Option<u64>,
    filter: Option<String>,
    jobs: usize,
    all: bool,
    keep: PathBuf,
    stop_at: u64,
    flags: Vec<String>,
}

fn usage(message: &str) -> ! {
    eprintln!("{message}\n{USAGE}");
    process::exit(2);
}

fn options() -> Options {
    let keep = env::temp_dir().join(format!("scribe-stress-{}", process::id()));
    let mut o = Options {
        seconds: None,
        count: None,
        filter: None,
        jobs: 1,
        all: false,
        keep,
        stop_at: 20,
        flags: Vec::new(),
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| usage(&format!("{arg} wants a value")))
        };
        fn number<T: std::str::FromStr>(text: String) -> T {
            text.parse()
                .unwrap_or_else(|_| usage(&format!("{text:?} is no number")))
        }
        match arg.as_str() {
            "--seconds" => o.seconds = Some(number(value())),
            "--count" => o.count = Some(number(value())),
            "--filter" => o.filter = Some(value()),
            "--jobs" => o.jobs = number(value()),
            "--keep" => o.keep = value().into(),
            "--stop-at" => o.stop_at = number(value()),
            "--all" => o.all = true,
            "--flags" => o.flags = args.by_ref().collect(),
            "-h" | "--help" => {
                println!("{USAGE}");
                process::exit(0);
            }
            _ => usage(&format!("unknown argument {arg}")),
        }
    }
    o
}

fn cases(o: &Options) -> Vec<Case> {
    let mut programs = Program::all("races");
    if o.all {
        programs.extend(Program::all("programs"));
    }
    if let Some(filter) = &o.filter {
        if !o.all && !programs.iter().any(|p| p.name.contains(filter)) {
            programs = Program::all("programs");
        }
        programs.retain(|p| p.name.contains(filter));
    }
    if programs.is_empty() {
        usage("no such program");
    }
    programs
        .iter()
        .map(|p| p.case().unwrap_or_else(|e| usage(&e)))
        .collect()
}

fn main() {
    let o = options();
    let mut settings = Settings::from_env();
    settings.record_flags.extend(o.flags.iter().cloned());
    println!(
        "{} in {}",
        settings.scribe.display(),
        repository().display()
    );
    let cases = cases(&o);
    let deadline = match (o.seconds, o.count) {
        (Some(s), _) => Some(Instant::now() + Duration::from_secs_f64(s)),
        (None, None) => Some(Instant::now() + Duration::from_secs(60)),
        (None, Some(_)) => None,
    };
    let (next, passed, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let tally: Mutex<Vec<(u64, u64)>> = Mutex::new(vec![(0, 0); cases.len()]);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let over = deadline.is_some_and(|d| Instant::now() >= d);
            if over || o.count.is_some_and(|n| turn >= n) {
                break;
            }
            let index = (turn % cases.len() as u64) as usize;
            let case = &cases[index];
            let scratch = Scratch::new(&case.name, &settings);
            match round::run(case, &settings, scratch.path(), false) {
                Ok(_) => {
                    passed.fetch_add(1, Ordering::Relaxed);
                    tally.lock().unwrap()[index].0 += 1;
                }
                Err(failure) => {
                    tally.lock().unwrap()[index].1 += 1;
                    let kept = o.keep.join(format!("{}-{turn}", case.name));
                    fs::create_dir_all(&o.keep).expect("directory for failures");
                    let moved = process::Command::new("cp")
                        .args(["-a".as_ref(), scratch.path().as_os_str(), kept.as_os_str()])
                        .status();
                    let _ = fs::write(kept.join("failure"), format!("{failure}\n"));
                    println!("{failure}");
                    match moved {
                        Ok(s) if s.success() => println!("kept in {}", kept.display()),
                        other => println!("not kept: {other:?}"),
                    }
                    if failed.fetch_add(1, Ordering::Relaxed) + 1 >= o.stop_at {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    thread::scope(|s| {
        for _ in 0..o.jobs.max(1) {
            s.spawn(worker);
        }
    });
    for (case, (good, bad)) in cases.iter().zip(tally.into_inner().unwrap()) {
        println!("{:<32} {good:>6} passed {bad:>6} failed", case.name);
    }
    let (passed, failed) = (passed.into_inner(), failed.into_inner());
    println!("{passed} passed, {failed} failed");
    process::exit(if failed > 0 { 1 } else { 0 });
}
