//! `scribe profile`: a log in readable form.

mod event;
mod json;
mod memory;
mod model;
mod raw;
mod summary;
mod text;
mod walk;

pub use text::{Text, TextOptions};
pub use walk::{Ids, Item, Walk};

use crate::cli::{Format, ProfileArgs};
use crate::ui::{self, Failure, Style, say};
use scribe_log::LogReader;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// How often a log that grows is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(args: &ProfileArgs, style: Style) -> Result<i32, Failure> {
    let log = ui::open_log(&args.log, 1)?;
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut sink = Sink::new(args, style);
    let mut walk = Walk::new(&log);
    let error = print_all(args, &log, &mut walk, &mut sink, &mut out)?;
    out.write_all(sink.end().as_bytes())?;
    out.flush()?;
    drop(out);
    let name = if args.log == Path::new("-") {
        "standard input".into()
    } else {
        args.log.display().to_string()
    };
    Ok(match error.or_else(|| log.truncated()) {
        None => 0,
        Some(error) if ui::is_cut(&error) => {
            say(format!(
                "{name}: {error}: the recording still runs, or was cut off"
            ));
            0
        }
        Some(error) => {
            say(ui::explain(&name, &error));
            1
        }
    })
}

/// Prints what there is; gives why the log cannot be read further, if that is so.
fn print_all(
    args: &ProfileArgs,
    log: &LogReader,
    walk: &mut Walk,
    sink: &mut Sink,
    out: &mut impl Write,
) -> Result<Option<scribe_log::LogError>, Failure> {
    let mut last = false;
    loop {
        let item = match walk.next() {
            Ok(item) => item,
            Err(error) => return Ok(Some(error)),
        };
        let Some(item) = item else {
            if last {
                return Ok(None);
            }
            if args.follow && !log.is_complete() {
                out.flush()?;
                std::thread::sleep(POLL);
                if let Err(error) = log.refresh() {
                    return Ok(Some(error));
                }
            } else {
                walk.set_last();
                last = true;
            }
            continue;
        };
        let ids = walk.tasks.ids(item.task);
        if wanted(&args.pid, &item, ids) {
            out.write_all(sink.event(&item, ids).as_bytes())?;
        } else {
            sink.skip(&item, ids);
        }
    }
}

fn wanted(pids: &[i64], item: &Item, ids: Ids) -> bool {
    let task = i64::from(item.task);
    pids.is_empty()
        || (task != 0
            && pids
                .iter()
                .any(|p| [task, ids.pid.into(), ids.tid.into()].contains(p)))
}

enum Sink {
    Text(Box<Text>),
    Json(Box<json::Json>),
    Summary(summary::Summary),
}

impl Sink {
    fn new(args: &ProfileArgs, style: Style) -> Sink {
        if args.summary {
            return Sink::Summary(summary::Summary::new(args.format));
        }
        if args.format == Format::Json {
            return Sink::Json(Box::new(json::Json::new(args.raw, args.strsize)));
        }
        let options = TextOptions {
            raw: args.raw,
            pids: args.pids,
            offsets: args.offsets,
            args: args.args,
            strsize: args.strsize,
            style,
        };
        Sink::Text(Box::new(Text::new(options)))
    }

    fn event(&mut self, item: &Item, ids: Ids) -> String {
        match self {
            Sink::Text(text) => text.event(item, ids),
            Sink::Json(json) => json.event(item, ids),
            Sink::Summary(summary) => {
                summary.event(item);
                String::new()
            }
        }
    }

    fn skip(&mut self, item: &Item, ids: Ids) {
        match self {
            Sink::Text(text) => text.skip(item, ids),
            Sink::Json(json) => {
                json.event(item, ids);
            }
            Sink::Summary(_) => {}
        }
    }

    fn end(&self) -> String {
        match self {
            Sink::Summary(summary) => summary.table(),
            _ => String::new(),
        }
    }
}
