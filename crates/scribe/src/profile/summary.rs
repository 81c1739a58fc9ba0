//! Counts of calls: the table of `strace -c`.

use super::event::CallView;
use super::walk::Item;
use crate::cli::Format;
use scribe_log::{Record, flags};
use serde_json::json;
use std::collections::HashMap;

#[derive(Clone, Copy, Default)]
struct Count {
    calls: u64,
    errors: u64,
    nanoseconds: u64,
}

/// Counts calls. The log says when a call was over, and not when it began: with each call goes the
/// time since the event of its task before it.
pub struct Summary {
    format: Format,
    counts: HashMap<String, Count>,
    timed: bool,
    last: HashMap<u32, u64>,
}

impl Summary {
    /// Nothing counted yet.
    pub fn new(format: Format) -> Summary {
        Summary {
            format,
            counts: HashMap::new(),
            timed: false,
            last: HashMap::new(),
        }
    }

    /// Counts a record.
    pub fn event(&mut self, item: &Item) {
        let (name, failed, time) = match &item.record {
            Record::Syscall(call) if call.flags & flags::RESTART == 0 => {
                let view = CallView::new(call, &[]);
                (view.name(), view.failed(), view.time)
            }
            Record::Exec(_) => ("execve".to_owned(), false, None),
            _ => return,
        };
        let count = self.counts.entry(name).or_default();
        count.calls += 1;
        count.errors += u64::from(failed);
        if let Some(time) = time {
            self.timed = true;
            let before = self.last.insert(item.task, time);
            count.nanoseconds += time.saturating_sub(before.unwrap_or(time));
        }
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut rows: Vec<(&str, Count)> = self.counts.iter().map(|(k, v)| (&k[..], *v)).collect();
        let weight = |count: &Count| {
            if self.timed {
                count.nanoseconds
            } else {
                count.calls
            }
        };
        rows.sort_by_key(|(name, count)| (u64::MAX - weight(count), u64::MAX - count.calls, *name));
        let mut total = Count::default();
        for (_, count) in &rows {
            total.calls += count.calls;
            total.errors += count.errors;
            total.nanoseconds += count.nanoseconds;
        }
        if self.format == Format::Json {
            return self.json(&rows);
        }
        let share = |count: &Count| 100.0 * weight(count) as f64 / weight(&total).max(1) as f64;
        let mut out = String::new();
        let rule = if self.timed {
            out.push_str("% time     seconds  usecs/call     calls    errors syscall\n");
            "------ ----------- ----------- --------- --------- ----------------\n"
        } else {
            out.push_str("% calls     calls    errors syscall\n");
            "------- --------- --------- ----------------\n"
        };
        out.push_str(rule);
        let line = |name: &str, count: &Count| {
            let errors = if count.errors == 0 {
                String::new()
            } else {
                count.errors.to_string()
            };
            let (calls, share) = (count.calls, share(count));
            if self.timed {
                let seconds = count.nanoseconds as f64 / 1e9;
                let each = count.nanoseconds / 1000 / calls.max(1);
                format!("{share:>6.2} {seconds:>11.6} {each:>11} {calls:>9} {errors:>9} {name}\n")
            } else {
                format!("{share:>7.2} {calls:>9} {errors:>9} {name}\n")
            }
        };
        for (name, count) in &rows {
            out.push_str(&line(name, count));
        }
        out.push_str(rule);
        out.push_str(&line("total", &total));
        out
    }

    fn json(&self, rows: &[(&str, Count)]) -> String {
        let mut out = String::new();
        for (name, count) in rows {
            let mut row = json!({"name": name, "calls": count.calls, "errors": count.errors});
            if let (true, Some(row)) = (self.timed, row.as_object_mut()) {
                row.insert("nanoseconds".into(), count.nanoseconds.into());
            }
            out.push_str(&format!("{row}\n"));
        }
        out
    }
}
