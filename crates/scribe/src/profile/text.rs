//! Scribe's form: a line for each event, and below it, indented, what it held and moved.

use super::event::{
    CallView, Transfer, exec_text, exit_text, quote, quote_text, signal_details, snapshot_text,
};
use super::model::{Model, Touch, kind_name};
use super::raw;
use super::walk::{Ids, Item};
use crate::ui::Style;
use scribe_log::{Record, flags, instr};

/// What is shown, and how.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions {
    /// Records as they are.
    pub raw: bool,
    /// Thread ids instead of task numbers.
    pub pids: bool,
    /// Places in the log.
    pub offsets: bool,
    /// All arguments of all calls.
    pub args: bool,
    /// Bytes of a string that are shown.
    pub strsize: usize,
    /// Colours.
    pub style: Style,
}

/// Prints events.
pub struct Text {
    options: TextOptions,
    /// None: resources are not shown.
    model: Option<Model>,
}

/// Lines of one event, with their indentation.
#[derive(Default)]
struct Lines(Vec<(usize, String)>);

impl Lines {
    fn add(&mut self, depth: usize, text: impl Into<String>) {
        self.0.push((depth, text.into()));
    }
}

impl Text {
    /// With resources.
    pub fn new(options: TextOptions) -> Text {
        Text {
            options,
            model: (!options.raw).then(Model::default),
        }
    }

    /// Without resources: for events out of their context.
    pub fn without_resources(options: TextOptions) -> Text {
        Text {
            options,
            model: None,
        }
    }

    /// Follows an event that is not shown.
    pub fn skip(&mut self, item: &Item, ids: Ids) {
        if self.model.is_some() {
            self.lines(item, ids);
        }
    }

    /// The lines of an event, each with a newline; empty if it has none in this form.
    pub fn event(&mut self, item: &Item, ids: Ids) -> String {
        let lines = if self.options.raw {
            raw_lines(item, self.options.strsize)
        } else {
            self.lines(item, ids)
        };
        self.print(item, ids, &lines)
    }

    /// The record as it is.
    pub fn as_is(&self, item: &Item) -> String {
        self.print(item, Ids::default(), &raw_lines(item, self.options.strsize))
    }

    fn print(&self, item: &Item, ids: Ids, lines: &Lines) -> String {
        let label = match (item.task, self.options.pids) {
            (0, _) => "[--]".to_owned(),
            (_, true) => format!("[{}]", ids.tid),
            (task, false) => format!("[{task:02}]"),
        };
        let label = self.options.style.dim(&label);
        let mut out = String::new();
        for (i, (depth, text)) in lines.0.iter().enumerate() {
            if self.options.offsets {
                let place = if i == 0 {
                    item.place.to_string()
                } else {
                    String::new()
                };
                out.push_str(&format!("{place:>16} "));
            }
            out.push_str(&format!(
                "{label} {:indent$}{text}\n",
                "",
                indent = 2 * depth
            ));
        }
        out
    }

    fn lines(&mut self, item: &Item, ids: Ids) -> Lines {
        let mut lines = Lines::default();
        let limit = self.options.strsize;
        match &item.record {
            Record::Syscall(event) => {
                let view = CallView::new(event, &item.data);
                let touches = match &mut self.model {
                    Some(model) => view.touches(model, item.task, ids),
                    None => Vec::new(),
                };
                self.call(&mut lines, &view, &touches);
            }
            Record::Exec(exec) => {
                if let Some(model) = &mut self.model {
                    model.exec(item.task, ids);
                }
                lines.add(0, exec_text(exec, &item.data, limit));
            }
            Record::Snapshot(exec) => {
                if let Some(model) = &mut self.model {
                    model.exec(item.task, ids);
                }
                lines.add(0, snapshot_text(exec));
            }
            Record::Exit(exit) => {
                if let Some(model) = &mut self.model {
                    model.exit(exit.task);
                }
                lines.add(0, exit_text(exit));
            }
            Record::Start(start) => {
                if let Some(model) = &mut self.model {
                    model.start(start);
                }
            }
            Record::Signal(signal) => {
                lines.add(0, self.options.style.yellow(&signal_details(signal)));
            }
            Record::Instr { which, values } => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("{value:#x}")).collect();
                lines.add(
                    0,
                    format!("{}() = {}", instruction(*which), values.join(", ")),
                );
            }
            Record::Note { text } => {
                lines.add(0, format!("note: {}", String::from_utf8_lossy(text)))
            }
            Record::Bookmark { id, time, text, .. } => {
                let at = std::time::Duration::from_nanos(*time).as_secs_f64();
                let mut line = format!("bookmark {id} at {at:.3} s");
                if !text.is_empty() {
                    line.push_str(&format!(" {}", quote_text(text)));
                }
                lines.add(0, line);
            }
            Record::Gap { lost, text } => {
                let why = String::from_utf8_lossy(text);
                lines.add(0, format!("gap: {lost} events are missing here: {why}"));
            }
            _ => {}
        }
        lines
    }

    fn call(&self, lines: &mut Lines, view: &CallView, touches: &[Touch]) {
        let style = self.options.style;
        if let Some(said) = view.said() {
            // It is there to be read: no limit on its length.
            let text = quote_text(&said.text);
            let line = match said.value {
                None => format!("text {text}"),
                Some(value) => format!("event {text} = {value}"),
            };
            lines.add(0, style.bold(&line));
            return;
        }
        let (call, result) = view.text(self.options.args, self.options.strsize);
        let (name, args) = call.split_once('(').unwrap_or((&call, ""));
        let result = if view.failed() {
            style.red(&result)
        } else {
            result
        };
        let note = if view.flags & flags::BLOCKED != 0 {
            " <not carried out>"
        } else {
            ""
        };
        lines.add(0, format!("{}({args} = {result}{note}", style.bold(name)));
        for (depth, touch) in touches.iter().enumerate() {
            lines.add(depth + 1, style.dim(&touch_text(touch)));
        }
        let depth = touches.len() + 1;
        for data in &view.data {
            lines.add(depth, self.data(data));
        }
        if let Some(spawn) = view.spawn {
            let (task, pid, tid) = (spawn.task, spawn.pid, spawn.tid);
            lines.add(
                depth,
                match self.options.pids {
                    true => format!("new task [{tid}], pid = {pid}"),
                    false => format!("new task [{task:02}], pid = {pid}, tid = {tid}"),
                },
            );
        }
    }

    fn data(&self, data: &Transfer) -> String {
        if data.bytes.is_empty() {
            return format!(
                "data: size = {}, in the file, which has changed since",
                data.size
            );
        }
        let shown = &data.bytes[..data.bytes.len().min(self.options.strsize)];
        let more = if (shown.len() as u64) < data.size {
            "..."
        } else {
            ""
        };
        format!("data: size = {}, {}{more}", data.size, quote(shown))
    }
}

fn touch_text(touch: &Touch) -> String {
    let mut text = format!(
        "resource lock, type = {}, serial = {}",
        kind_name(touch.kind),
        touch.serial
    );
    if let Some(desc) = &touch.desc {
        text.push_str(&format!(", desc = {}", printable(desc)));
    }
    text
}

/// A name of a file in one line, whatever it holds.
fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        quote(text.as_bytes())
    } else {
        text.to_owned()
    }
}

/// Name of a trapped instruction.
pub fn instruction(which: u16) -> &'static str {
    match which {
        instr::RDTSC => "rdtsc",
        instr::RDTSCP => "rdtscp",
        instr::CPUID => "cpuid",
        instr::RDRAND => "rdrand",
        instr::RDSEED => "rdseed",
        instr::RDPID => "rdpid",
        instr::XGETBV => "xgetbv",
        _ => "instruction",
    }
}

fn raw_lines(item: &Item, limit: usize) -> Lines {
    let mut lines = Lines::default();
    let (head, parts) = raw::record(&item.record, limit);
    lines.add(0, format!("lane {}: {head}", item.lane));
    for part in parts {
        lines.add(1, part);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use scribe_log::{Position, Sections, Syscall};

    fn text(pids: bool) -> Text {
        let style = Style::plain();
        Text::new(TextOptions {
            raw: false,
            pids,
            offsets: false,
            args: false,
            strsize: 128,
            style,
        })
    }

    fn item(
        nr: i64,
        ret: i64,
        args: [u64; 6],
        more: impl FnOnce(&mut scribe_log::SectionWriter),
    ) -> Item {
        let sections = Sections::build(|w| {
            w.args(&args);
            more(w);
        });
        let record = Record::Syscall(Syscall {
            nr: nr as u16,
            ret,
            sections,
            ..Syscall::default()
        });
        Item {
            lane: 1,
            place: Position {
                chunk: 16,
                offset: 8,
            },
            task: 2,
            record,
            data: Vec::new(),
        }
    }

    const DATE: &[u8] = b"Mon Aug  8 04:18:33 EDT 2011\n";

    fn write() -> Item {
        item(libc::SYS_write, 29, [1, 0x1000, 29, 0, 0, 0], |w| {
            w.input(0x1000, 29, DATE);
        })
    }

    #[test]
    fn the_form_of_scribe() {
        let mut text = text(false);
        let fstat = item(libc::SYS_fstat, 0, [1, 0x2000, 0, 0, 0, 0], |w| {
            w.desc(1, b"/dev/pts/0");
        });
        text.event(&fstat, Ids::default());
        for _ in 0..30 {
            text.event(
                &item(libc::SYS_dup, -9, [99, 0, 0, 0, 0, 0], |_| {}),
                Ids::default(),
            );
        }
        let expected = r#"[02] write() = 29
[02]   resource lock, type = files_struct, serial = 31
[02]     resource lock, type = file, serial = 1, desc = /dev/pts/0
[02]       data: size = 29, "Mon Aug  8 04:18:33 EDT 2011\n"
"#;
        assert_eq!(text.event(&write(), Ids::default()), expected);
    }

    #[test]
    fn files_have_inodes_and_are_shared_by_dup_and_fork() {
        let mut text = text(false);
        let open = item(libc::SYS_open, 3, [0x100, 0, 0, 0, 0, 0], |w| {
            w.input(0x100, 7, b"/tmp/x\0");
        });
        let out = text.event(&open, Ids { tid: 7, pid: 7 });
        assert!(
            out.starts_with("[02] open(\"/tmp/x\", O_RDONLY) = 3\n"),
            "{out}"
        );
        assert!(
            out.contains("type = inode, serial = 0, desc = /tmp/x"),
            "{out}"
        );
        text.event(
            &item(libc::SYS_dup2, 5, [3, 5, 0, 0, 0, 0], |_| {}),
            Ids { tid: 7, pid: 7 },
        );
        let fork = item(libc::SYS_fork, 9, [0; 6], |w| {
            w.spawn(&scribe_log::Spawn {
                task: 3,
                tid: 9,
                pid: 9,
                lane: 2,
                flags: 0,
            });
        });
        let out = text.event(&fork, Ids { tid: 7, pid: 7 });
        assert!(out.contains("new task [03], pid = 9, tid = 9"), "{out}");
        let mut read = item(libc::SYS_read, 2, [5, 0x3000, 10, 0, 0, 0], |w| {
            w.out(0x3000, b"hi");
        });
        read.task = 3;
        let out = text.event(&read, Ids { tid: 9, pid: 9 });
        let expected = r#"[03] read() = 2
[03]   resource lock, type = files_struct, serial = 0
[03]     resource lock, type = file, serial = 1, desc = /tmp/x
"#;
        assert!(out.starts_with(expected), "{out}");
        assert!(out.ends_with("  data: size = 2, \"hi\"\n"), "{out}");
    }

    #[test]
    fn what_the_program_says() {
        use scribe_hooks::call;
        let mut text = text(false);
        let mut said = |operation: u32, bytes: &[u8], value: i64, ret: i64| {
            let (option, size) = (call::OPTION.into(), bytes.len() as u64);
            let args = [option, operation.into(), 0x1000, size, value as u64, 0];
            let item = item(libc::SYS_prctl, ret, args, |w| {
                w.input(0x1000, size, bytes);
            });
            text.event(&item, Ids::default())
        };
        let long = "ä\n".repeat(5000);
        let expected = format!("[02] text \"{}\"\n", "ä\\n".repeat(5000));
        assert_eq!(said(call::TEXT, long.as_bytes(), 0, 1), expected);
        assert_eq!(said(call::TEXT, b"a\xff", 0, 1), "[02] text \"a\\377\"\n");
        assert_eq!(
            said(call::EVENT, b"queue", -3, 1),
            "[02] event \"queue\" = -3\n"
        );
        let refused = said(call::TEXT, b"x", 0, -7);
        assert!(refused.contains("= -1 E2BIG"), "{refused}");
        let bookmark = said(call::BOOKMARK, b"here", 0, 4);
        assert_eq!(bookmark, "[02] prctl(SCRIBE_BOOKMARK, \"here\", 4) = 4\n");
    }

    #[test]
    fn pids_and_offsets() {
        let mut text = text(true);
        text.options.offsets = true;
        let out = text.event(&write(), Ids { tid: 77, pid: 76 });
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("            16+8 [77] write() = 29"));
        assert!(
            lines.all(|line| line.starts_with("                 [77]   ")),
            "{out}"
        );
    }
}
