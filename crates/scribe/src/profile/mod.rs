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

#[cfg(test)]
mod tests {
    use super::*;
    use scribe_log::{Exec, Position, Record, Section, Sections, Signal, Spawn, Syscall};

    /// Numbers without a plan (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }

        /// What breaks careless arithmetic.
        fn value(&mut self) -> u64 {
            const EDGES: [u64; 10] = [
                0,
                1,
                3,
                8,
                0x1000,
                0x1ff8,
                1 << 47,
                u64::MAX,
                u64::MAX - 7,
                1 << 63,
            ];
            match self.below(3) {
                0 => self.next(),
                1 => self.below(64),
                _ => EDGES[self.below(10) as usize],
            }
        }

        fn bytes(&mut self) -> Vec<u8> {
            let words = self.below(40);
            (0..words)
                .flat_map(|_| self.value().to_le_bytes())
                .collect()
        }
    }

    fn sections(n: &mut Numbers) -> Sections<'static> {
        let args = [(); 6].map(|()| n.value());
        let pieces: Vec<(bool, u64, Vec<u8>)> = (0..n.below(6))
            .map(|_| (n.below(2) == 0, args[n.below(6) as usize], n.bytes()))
            .collect();
        let (fd, value, with_args) = (n.value() as i32, n.value(), n.below(8) != 0);
        Sections::build(|w| {
            if with_args {
                w.args(&args);
            }
            for (written, addr, bytes) in &pieces {
                if *written {
                    w.out(*addr, bytes);
                } else {
                    w.input(*addr, value, bytes);
                }
            }
            w.section(&Section::Desc { fd, text: b"/x\n" });
            w.section(&Section::FileOut {
                addr: value,
                offset: value,
                len: value,
                file: 1,
            });
            if value % 5 == 0 {
                w.spawn(&Spawn {
                    task: fd as u32,
                    tid: fd,
                    pid: fd,
                    lane: 1,
                    flags: 0,
                });
            }
            if value % 3 == 0 {
                let mut regs = [value; 27];
                regs[19] = args[0];
                w.regs(&regs);
            }
        })
    }

    #[test]
    fn records_that_make_no_sense_are_printed() {
        let options = TextOptions {
            raw: false,
            pids: false,
            offsets: false,
            args: true,
            strsize: 40,
            style: Style::plain(),
        };
        let mut text = Text::new(options);
        let mut raw = Text::new(TextOptions {
            raw: true,
            ..options
        });
        let mut json = json::Json::new(true, 40);
        let mut summary = summary::Summary::new(Format::Text);
        let mut n = Numbers(88172645463325252);
        for _ in 0..5_000 {
            let sections = sections(&mut n);
            let record = match n.below(12) {
                0 => {
                    let (task, tid) = (n.value() as u32, n.value() as i32);
                    Record::Exec(Exec {
                        task,
                        tid,
                        pid: tid,
                        sections,
                    })
                }
                1 => Record::Signal(Signal {
                    signo: n.value() as u16,
                    flags: 0,
                    back: 0,
                    action: n.value() as u8,
                    info: n.bytes().into_iter().take(128).collect::<Vec<u8>>().into(),
                }),
                _ => Record::Syscall(Syscall {
                    nr: n.below(480) as u16,
                    flags: n.value() as u8,
                    ret: n.value() as i64,
                    in_hash: 0,
                    sections,
                }),
            };
            let task = n.below(4) as u32;
            let data = vec![(n.value(), n.bytes())];
            let item = Item {
                lane: 1,
                place: Position::default(),
                task,
                record,
                data,
            };
            let ids = Ids {
                tid: task as i32,
                pid: 1,
            };
            let lines = text.event(&item, ids);
            assert!(lines.ends_with('\n') && !lines.contains("\n\n"), "{lines}");
            raw.event(&item, ids);
            json.event(&item, ids);
            summary.event(&item);
        }
        summary.table();
    }
}
