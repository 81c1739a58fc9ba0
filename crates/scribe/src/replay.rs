//! `scribe replay`.

use crate::cli::ReplayArgs;
use crate::live;
use crate::parts;
use crate::record::is_log_name;
use crate::report;
use crate::ui::{self, Failure, PIPE_CLOSED, Style, say};
use scribe_engine::{Ending, Outcome, ReplayError, ReplayOptions, Replayer};
use scribe_log::{LogError, LogReader, Section};
use std::cell::Cell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

/// The replay did something other than the recording.
const DIVERGED: i32 = 200;
/// No task of the replay can go on.
const DEADLOCKED: i32 = 35;

/// Runs the command.
pub fn run(args: &ReplayArgs, style: Style) -> Result<i32, Failure> {
    let mut path = match &args.log {
        Some(path) => path.clone(),
        None => latest(Path::new("."))?,
    };
    if !path.exists()
        && path != Path::new("-")
        && let Some(kept) = parts::first_kept(&path)
    {
        say(format!(
            "{} was not kept; this is {}",
            path.display(),
            kept.display()
        ));
        path = kept;
    }
    live::listen();
    let mut asked = None;
    let mut shown = [0; 2];
    loop {
        match run_part(args, style, &path, asked.take(), &mut shown)? {
            Step::Ended(status) => return Ok(status),
            Step::Asked(last) => {
                // From the beginning, in namespaces of its own; what was shown is not shown again.
                asked = Some(last);
                continue;
            }
            Step::Continued => shown = [0; 2],
        }
        let (first, number) = parts::parse_name(&path);
        path = parts::part_name(&first, number + 1);
    }
}

/// The log that goes on where this one ends, if it is a part.
fn has_next(path: &Path, log: &LogReader) -> bool {
    let (first, number) = parts::parse_name(path);
    let next = LogReader::open(parts::part_name(&first, number + 1));
    let begins = |log: &LogReader| {
        let start = log.start().ok().flatten()?;
        start.sections.iter().find_map(|section| match section {
            Section::Argv(argv) => Some(argv.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()),
            _ => None,
        })
    };
    next.is_ok_and(|next| begins(&next).is_some() && begins(&next) == begins(log))
}

/// How the replay of a log ended.
enum Step {
    /// With this exit status.
    Ended(i32),
    /// Its next part follows.
    Continued,
    /// Somebody wants it to turn live, behind this bookmark.
    Asked(u32),
}

/// Replays one log. `behind`: it is to turn live at the first bookmark behind this one. `shown`: bytes of
/// standard output and error that have been shown already.
fn run_part(
    args: &ReplayArgs,
    style: Style,
    path: &Path,
    behind: Option<u32>,
    shown: &mut [u64; 2],
) -> Result<Step, Failure> {
    let log = ui::open_log(path, 1)?;
    let name = if path == Path::new("-") {
        "standard input".into()
    } else {
        path.display().to_string()
    };
    // Of a log that arrives through a pipe the end is not known yet.
    let cut = if path == Path::new("-") {
        None
    } else {
        log.truncated()
    };
    if !matches!(log.start(), Ok(Some(_))) {
        let text = match cut {
            Some(error) => ui::explain(&name, &error),
            None => format!("{name} holds no recording: it has no beginning"),
        };
        return Err(Failure::new(1, text));
    }
    let continued = path != Path::new("-") && has_next(path, &log);
    let backlog = args.per_task.map_or(args.backlog, |n| n.min(args.backlog));
    let live = live::options(args, path, behind);
    if let Some(how) = &live
        && let Some(status) = live::in_child(how, args.record_on.as_deref())?
    {
        return Ok(Step::Ended(status));
    }
    let counted = Rc::new(Cell::new([0; 2]));
    let options = ReplayOptions {
        verify: args.verify,
        // Hashes may stand between the events; the last one is what does not fit.
        backlog: backlog.saturating_mul(2).saturating_add(1),
        no_agent: args.no_agent,
        no_sud: args.no_sud,
        dump: args.dump_memory.clone(),
        to: args.to,
        live,
        interrupt: behind.is_none().then_some(&live::ASKED),
        output: Box::new(output(args.quiet, *shown, counted.clone())),
        warn: Box::new(|text| say(text)),
    };
    let failed = |error: ReplayError| Failure::new(1, format!("{name}: {error}"));
    let mut replayer = Replayer::start(log, options).map_err(failed)?;
    let result = replayer.run();
    let stats = replayer.stats();
    if args.verbose {
        say(format!(
            "{} events, {} hashes compared, {} forced stops found ({} looks in vain), {} stops",
            stats.events, stats.verified, stats.forced, stats.misses, stats.stops
        ));
    }
    *shown = counted.get();
    match result {
        Ok(Ending::Live(bookmark)) => {
            if args.verbose {
                let took = stats.birth.as_secs_f64() * 1000.0;
                say(format!("brought to life within {took:.1} ms"));
            }
            Ok(Step::Ended(live::wait(&mut replayer, bookmark)?))
        }
        Ok(Ending::Asked(last)) => Ok(Step::Asked(last)),
        Ok(Ending::Bookmark(_)) => Ok(Step::Ended(0)),
        Ok(Ending::Complete(Outcome::Detached)) if continued => Ok(Step::Continued),
        Ok(Ending::Complete(_) | Ending::Cut) if args.to.is_some() => {
            let id = args.to.unwrap_or(0);
            Err(Failure::new(
                1,
                format!("{name} has no bookmark {id}; it was replayed to its end"),
            ))
        }
        Ok(Ending::Complete(Outcome::Detached)) => {
            say(format!(
                "{name} ends here: the program was let go, and went on without being recorded"
            ));
            Ok(Step::Ended(0))
        }
        Ok(Ending::Complete(outcome)) => Ok(Step::Ended(outcome.shell_status())),
        Ok(Ending::Cut) => {
            say(match cut {
                Some(error) => format!("{name}: {error}; this is what was recorded until then"),
                None => format!("{name} ends before the program does: the recording was cut off"),
            });
            Ok(Step::Ended(0))
        }
        Err(ReplayError::Divergence(divergence)) => {
            let text = report::divergence(&name, &divergence, backlog, style);
            let _ = io::stderr().write_all(text.as_bytes());
            Ok(Step::Ended(DIVERGED))
        }
        Err(error @ ReplayError::Deadlock(_)) => {
            Err(Failure::new(DEADLOCKED, format!("{name}: {error}")))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Shows what the program wrote: these bytes and no others, at once. What was shown before is only
/// counted.
fn output(quiet: bool, before: [u64; 2], counted: Rc<Cell<[u64; 2]>>) -> impl FnMut(u8, &[u8]) {
    move |stream, bytes| {
        let which = usize::from(stream == 2);
        let mut all = counted.get();
        let skip = before[which]
            .saturating_sub(all[which])
            .min(bytes.len() as u64);
        all[which] += bytes.len() as u64;
        counted.set(all);
        let bytes = &bytes[skip as usize..];
        if quiet || bytes.is_empty() {
            return;
        }
        let written = if stream == 2 {
            io::stderr().write_all(bytes)
        } else {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        };
        let Err(error) = written else { return };
        // The traced processes die with us. Who reads no further wants no further.
        if error.kind() != io::ErrorKind::BrokenPipe {
            say(format!("cannot write what the program wrote: {error}"));
            std::process::exit(1);
        }
        std::process::exit(PIPE_CLOSED);
    }
}

/// The log of a directory that was written last.
fn latest(dir: &Path) -> Result<PathBuf, Failure> {
    let entries = std::fs::read_dir(dir)
        .map_err(|e| Failure::new(1, format!("cannot read the current directory: {e}")))?;
    let mut logs: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_log_name(path))
        .filter_map(|path| {
            let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, path))
        })
        .collect();
    logs.sort();
    let good = |path: &PathBuf| {
        !matches!(
            LogReader::open(path),
            Err(LogError::NotALog | LogError::Io { .. })
        )
    };
    let found = logs.into_iter().rev().map(|(_, path)| path).find(good);
    let found = found.map(|path| path.strip_prefix("./").unwrap_or(&path).to_owned());
    found.ok_or_else(|| {
        let text =
            "there is no log in the current directory; name one, or make one with scribe record";
        Failure::new(1, text)
    })
}
