//! `scribe check`: what this kernel and container offer.

mod probes;

use crate::cli::{CheckArgs, Format};
use crate::ui::{self, Failure, Style};
use serde_json::json;

/// How much a facility matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing can be recorded without it.
    Record,
    /// Nothing can be replayed without it.
    Replay,
    /// There is another way.
    Optional,
}

/// What was found out about one facility.
struct Finding {
    name: &'static str,
    need: Need,
    /// Why it is missing.
    result: Result<(), String>,
    /// What it is for.
    purpose: &'static str,
    /// What is used instead.
    instead: &'static str,
    /// What to change.
    change: String,
}

/// Runs the command.
pub fn run(args: &CheckArgs, style: Style) -> Result<i32, Failure> {
    let findings = probes::all();
    let works = |need| findings.iter().all(|f| f.need != need || f.result.is_ok());
    let (record, replay) = (works(Need::Record), works(Need::Replay));
    let text = match args.format {
        Format::Text => text(&findings, record, replay, style),
        Format::Json => findings.iter().map(json_line).collect(),
    };
    ui::print(text.as_bytes())?;
    Ok(if record { 0 } else { 1 })
}

fn text(findings: &[Finding], record: bool, replay: bool, style: Style) -> String {
    let mut out = format!("{:<26}{}\n", "kernel", probes::kernel());
    for finding in findings {
        let name = format!("{:<26}", finding.name);
        let Err(why) = &finding.result else {
            out.push_str(&format!(
                "{name}{}       {}\n",
                style.green("ok"),
                finding.purpose
            ));
            continue;
        };
        let missing = match finding.need {
            Need::Optional => style.yellow("missing"),
            _ => style.red("missing"),
        };
        out.push_str(&format!("{name}{missing}  {}: {why}\n", finding.purpose));
        let mut more = |label: &str, text: &str| {
            if !text.is_empty() {
                out.push_str(&format!("{:<35}{label}: {text}\n", ""));
            }
        };
        more("instead", finding.instead);
        more("to change", &finding.change);
    }
    out.push_str(match (record, replay) {
        (true, true) => "Programs can be recorded and replayed here.\n",
        (true, false) => "Programs can be recorded here, but not replayed.\n",
        (false, _) => "Programs cannot be recorded here.\n",
    });
    out
}

fn json_line(finding: &Finding) -> String {
    let need = match finding.need {
        Need::Record => "record",
        Need::Replay => "replay",
        Need::Optional => "optional",
    };
    let mut value = json!({
        "name": finding.name,
        "ok": finding.result.is_ok(),
        "needed_for": need,
        "purpose": finding.purpose,
    });
    if let (Err(why), Some(object)) = (&finding.result, value.as_object_mut()) {
        object.insert("why".into(), why.clone().into());
        if !finding.instead.is_empty() {
            object.insert("instead".into(), finding.instead.into());
        }
        if !finding.change.is_empty() {
            object.insert("change".into(), finding.change.clone().into());
        }
    }
    format!("{value}\n")
}
