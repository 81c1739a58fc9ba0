//! `scribe diff`.

use crate::cli::DiffArgs;
use crate::profile::{Text, TextOptions, Walk};
use crate::ui::{self, Failure, Style};
use scribe_log::{LogReader, META, Position, edit};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// The logs differ.
const DIFFERENT: i32 = 1;
/// A log cannot be read.
const FAILED: i32 = 2;

/// The events of one log around the first difference of a lane.
#[derive(Default)]
struct Around {
    place: Option<Position>,
    before: VecDeque<String>,
    text: String,
    raw: String,
}

/// Runs the command.
pub fn run(args: &DiffArgs, style: Style) -> Result<i32, Failure> {
    let (a, b) = (
        ui::open_log(&args.a, FAILED)?,
        ui::open_log(&args.b, FAILED)?,
    );
    let failed = |path: &Path| {
        let name = path.display().to_string();
        move |error| Failure::new(FAILED, ui::explain(&name, &error))
    };
    let mut lanes = edit::streams(&a).map_err(failed(&args.a))?;
    lanes.append(&mut edit::streams(&b).map_err(failed(&args.b))?);
    // What stream 0 holds (time, files) is about the recording, not about what the program did.
    lanes.remove(&META);
    let mut found = BTreeMap::new();
    for lane in lanes {
        if let Some(d) = edit::diff_stream(&a, &b, lane).map_err(failed(&args.a))? {
            found.insert(lane, d.index);
        }
    }
    if found.is_empty() {
        ui::print(b"the logs agree in all lanes\n")?;
        return Ok(0);
    }
    let mut events_a = around(&a, &found, args.backlog).map_err(failed(&args.a))?;
    let mut events_b = around(&b, &found, args.backlog).map_err(failed(&args.b))?;
    let mut out = String::new();
    for (lane, index) in found {
        let (a, b) = (
            events_a.remove(&lane).unwrap_or_default(),
            events_b.remove(&lane).unwrap_or_default(),
        );
        let place = |at: Option<Position>| at.map_or("the end".into(), |at| at.to_string());
        let (in_a, in_b) = (place(a.place), place(b.place));
        out.push_str(&style.bold(&format!(
            "lane {lane}, record {index}, at {in_a} and {in_b}:\n"
        )));
        for text in &a.before {
            out.push_str(&prefixed("  ", text));
        }
        let same = a.text == b.text;
        let (old, new) = if same {
            (a.raw, b.raw)
        } else {
            (a.text, b.text)
        };
        let nothing = |text: String| {
            if text.is_empty() {
                "no more records\n".to_owned()
            } else {
                text
            }
        };
        out.push_str(&style.red(&prefixed("- ", &nothing(old))));
        out.push_str(&style.green(&prefixed("+ ", &nothing(new))));
    }
    ui::print(out.as_bytes())?;
    Ok(DIFFERENT)
}

fn prefixed(prefix: &str, text: &str) -> String {
    text.lines()
        .map(|line| format!("{prefix}{line}\n"))
        .collect()
}

/// The events at and before these records of a log: lane to number in it.
fn around(
    log: &LogReader,
    wanted: &BTreeMap<u32, u64>,
    backlog: usize,
) -> scribe_log::Result<BTreeMap<u32, Around>> {
    // The differing lines are coloured as a whole.
    let style = Style::plain();
    let options = TextOptions {
        raw: false,
        pids: false,
        offsets: false,
        args: true,
        strsize: 128,
        style,
    };
    let mut text = Text::new(options);
    let mut walk = Walk::new(log);
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    let mut result: BTreeMap<u32, Around> = BTreeMap::new();
    let mut left = wanted.len();
    let mut last = false;
    while left > 0 {
        let Some(item) = walk.next()? else {
            if last {
                break;
            }
            walk.set_last();
            last = true;
            continue;
        };
        let ids = walk.tasks.ids(item.task);
        let line = text.event(&item, ids);
        let number = seen.entry(item.lane).or_default();
        let here = *number;
        *number += 1;
        let Some(goal) = wanted.get(&item.lane).filter(|goal| here <= **goal) else {
            continue;
        };
        let around = result.entry(item.lane).or_default();
        if here == *goal {
            around.place = Some(item.place);
            around.raw = text.as_is(&item);
            around.text = if line.is_empty() {
                around.raw.clone()
            } else {
                line
            };
            left -= 1;
        } else if !line.is_empty() {
            around.before.push_back(line);
            if around.before.len() > backlog {
                around.before.pop_front();
            }
        }
    }
    Ok(result)
}
