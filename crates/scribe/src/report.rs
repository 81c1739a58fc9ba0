//! What is said of a divergence.

use crate::profile::{Ids, Item, Text, TextOptions};
use crate::symbols::Symbols;
use crate::ui::Style;
use scribe_engine::Divergence;
use scribe_engine::replay::Reason;
use scribe_log::{Position, Record};
use scribe_syscalls::{Call, FormatOpts, Memory, format_args, format_unknown, lookup};

/// Bytes of each string that are shown.
const STRING: usize = 64;

/// The report, as lines for standard error.
pub fn divergence(log: &str, divergence: &Divergence, backlog: usize, style: Style) -> String {
    let mut out = format!("scribe: {log}: {}\n", style.red(&divergence.to_string()));
    let mut printer = Printer::new(divergence, style);
    let expected = divergence.expected.as_deref();
    let mut history: Vec<&[u8]> = divergence.history.iter().map(|record| &**record).collect();
    // The record that did not fit was taken from the log before it was found not to fit.
    if expected.is_some() && history.last().copied() == expected {
        history.pop();
    }
    // Records that are no events of the program are not counted.
    let shown: Vec<String> = history
        .iter()
        .filter_map(|record| printer.shown(record))
        .collect();
    let shown = &shown[shown.len().saturating_sub(backlog)..];
    if !shown.is_empty() {
        let title = match shown.len() {
            1 => "last event of the task:\n".to_owned(),
            n => format!("last {n} events of the task:\n"),
        };
        out.push_str(&style.bold(&title));
        out.push_str(&shown.concat());
    }
    out.push_str(&style.bold("expected:\n"));
    match expected {
        Some(record) => out.push_str(&printer.event(record)),
        None => out.push_str("  the end of the log\n"),
    }
    out.push_str(&style.bold("happened:\n"));
    out.push_str(&format!("  {}\n", happened(&divergence.reason)));
    if matches!(divergence.reason, Reason::Registers) {
        out.push_str(&style.bold("registers:\n"));
        out.push_str(&registers(divergence));
    }
    out.push_str(&style.bold("stack of the task:\n"));
    let mut symbols = Symbols::default();
    for (i, frame) in divergence.stack.iter().enumerate() {
        let file = frame
            .file
            .as_ref()
            .map(|(name, offset)| (&name[..], *offset));
        out.push_str(&format!(
            "  #{i:<2} {:#018x} {}\n",
            frame.addr,
            symbols.describe(file, i > 0)
        ));
    }
    out
}

struct Printer {
    text: Text,
    task: u32,
    ids: Ids,
    lane: u32,
}

impl Printer {
    fn new(divergence: &Divergence, style: Style) -> Printer {
        let options = TextOptions {
            raw: false,
            pids: false,
            offsets: false,
            args: true,
            strsize: STRING,
            style,
        };
        Printer {
            text: Text::without_resources(options),
            task: divergence.task,
            ids: Ids {
                tid: divergence.tid,
                pid: 0,
            },
            lane: divergence.lane,
        }
    }

    /// A record, encoded, in the form of the profile, if it has one.
    fn shown(&mut self, bytes: &[u8]) -> Option<String> {
        let text = self.text.event(&self.item(bytes)?, self.ids);
        (!text.is_empty()).then(|| indented(&text))
    }

    /// A record, encoded, in the form of the profile; what has none there as it is.
    fn event(&mut self, bytes: &[u8]) -> String {
        let as_is = |item: &Item| indented(&self.text.as_is(item));
        let raw = self.item(bytes).as_ref().map(as_is);
        self.shown(bytes).or(raw).unwrap_or_default()
    }

    fn item(&self, bytes: &[u8]) -> Option<Item> {
        let (record, _) = Record::decode(bytes).ok()?;
        Some(Item {
            lane: self.lane,
            place: Position::default(),
            task: self.task,
            record: record.into_owned(),
            data: Vec::new(),
        })
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Memory of which nothing is known.
struct Nothing;

impl Memory for Nothing {
    fn read_some(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

fn call_text(call: &Call) -> String {
    match lookup(call) {
        Some(row) => format_args(row, call, &Nothing, &FormatOpts::default()),
        None => format_unknown(call),
    }
}

fn happened(reason: &Reason) -> String {
    match reason {
        Reason::OtherCall { call, .. } | Reason::Arguments { call } => call_text(call),
        Reason::OtherRecord(scribe_engine::replay::SyncPoint::Call(call)) => call_text(call),
        Reason::OtherRecord(at) => format!("the task is {at}"),
        Reason::RanOn => "the task ran on".into(),
        Reason::Registers => "the registers are other ones".into(),
        Reason::Memory => "the memory holds something else".into(),
        Reason::Repeated { expected, got, .. } => {
            format!("the call, made again, returned {got:#x} and not {expected:#x}")
        }
        Reason::Died(how) => how.clone(),
        other => format!("{other:?}"),
    }
}

fn registers(divergence: &Divergence) -> String {
    let r = &divergence.regs;
    let rows = [
        [
            ("rip", r.rip),
            ("rsp", r.rsp),
            ("rbp", r.rbp),
            ("eflags", r.eflags),
        ],
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
        ],
        [("rsi", r.rsi), ("rdi", r.rdi), ("r8", r.r8), ("r9", r.r9)],
        [
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
        ],
        [
            ("r14", r.r14),
            ("r15", r.r15),
            ("fs", r.fs_base),
            ("gs", r.gs_base),
        ],
    ];
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .map(|(name, value)| format!("{name:>6} {value:#018x}"))
            .collect();
        out.push_str(&format!("{}\n", line.join(" ")));
    }
    out
}
