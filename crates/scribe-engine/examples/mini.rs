//! The engine without the command line, for trying things: `mini record LOG CMD...`,
//! `mini replay LOG`.
use scribe_engine::record::{Checksums, LogTarget};
use scribe_engine::{Ending, RecordOptions, Recorder, ReplayOptions, Replayer};
use std::io::Write;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let what = args.next().expect("record or replay");
    let log = args.next().expect("a log");
    if what == "dump" {
        let log = scribe_log::LogReader::open(&log).unwrap();
        let mut all = log.in_order();
        while let Some(entry) = all.next().unwrap() {
            println!("{:.500}", format!("{entry:?}"));
        }
    } else if what == "objects" {
        let log = scribe_log::LogReader::open(&log).unwrap();
        let mut meta = log.meta();
        while let Some(record) = meta.next().unwrap() {
            let scribe_log::Record::Objects {
                bookmark, stream, ..
            } = record
            else {
                continue;
            };
            let mut contents = log.lane(stream);
            let mut text = Vec::new();
            while let Some(record) = contents.next().unwrap() {
                if let scribe_log::Record::Blob { file: 0, bytes, .. } = record {
                    text.extend_from_slice(&bytes);
                }
            }
            println!("{bookmark} {}", String::from_utf8_lossy(&text));
        }
    } else if what == "replay" {
        let options = ReplayOptions {
            verify: true,
            backlog: 20,
            no_agent: false,
            no_sud: false,
            dump: None,
            to: None,
            live: None,
            interrupt: None,
            output: Box::new(|stream, bytes| {
                if stream == 2 {
                    std::io::stderr().write_all(bytes).unwrap();
                } else {
                    std::io::stdout().write_all(bytes).unwrap();
                }
            }),
            warn: Box::new(|text| eprintln!("scribe: {text}")),
        };
        let log = scribe_log::LogReader::open(&log).unwrap();
        let mut replayer = match Replayer::start(log, options) {
            Ok(replayer) => replayer,
            Err(error) => {
                eprintln!("scribe: {error}");
                std::process::exit(1);
            }
        };
        let result = replayer.run();
        std::io::stdout().flush().unwrap();
        eprintln!("[replay: {:?}]", replayer.stats());
        match result {
            Ok(Ending::Complete(outcome)) => std::process::exit(outcome.shell_status()),
            Ok(Ending::Cut | Ending::Bookmark(_) | Ending::Live(_) | Ending::Asked(_)) => {
                eprintln!("scribe: cut")
            }
            Err(scribe_engine::ReplayError::Divergence(d)) => {
                eprintln!("scribe: {d}");
                for r in d.history.iter().chain(&d.expected) {
                    eprintln!("  {:.400?}", scribe_log::Record::decode(r).unwrap().0);
                }
                eprintln!("{:x?}", d.regs);
                for frame in &d.stack {
                    eprintln!("  {frame:x?}");
                }
                std::process::exit(200);
            }
            Err(error) => {
                eprintln!("scribe: {error}");
                std::process::exit(1);
            }
        }
    } else {
        let mut options = RecordOptions::new(args.collect());
        options.warn = Box::new(|text| eprintln!("scribe: {text}"));
        if let Ok(level) = std::env::var("LEVEL") {
            options.level = level.parse().unwrap();
        }
        if std::env::var_os("EVERY").is_some() {
            options.checksum = Checksums::Every;
        }
        let target = LogTarget::File(log.into(), true);
        let mut recorder = match Recorder::start(options, target) {
            Ok(recorder) => recorder,
            Err(error) => {
                eprintln!("scribe: {error}");
                std::process::exit(125);
            }
        };
        let outcome = recorder.run();
        let stats = recorder.finish().unwrap();
        eprintln!(
            "[record: {} events, {} stops, {:?}]",
            stats.0.events, stats.0.stops, stats.1
        );
        match outcome {
            Ok(outcome) => std::process::exit(outcome.shell_status()),
            Err(error) => {
                eprintln!("scribe: {error}");
                std::process::exit(125);
            }
        }
    }
}
