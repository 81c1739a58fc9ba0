//! Events for programs: one JSON object a line.

use super::event::{
    CallView, Transfer, exec_text, exit_text, signal_details, signal_text, snapshot_text,
};
use super::model::{Model, Touch, kind_name};
use super::raw;
use super::text::instruction;
use super::walk::{Ids, Item};
use scribe_log::{Record, flags};
use serde_json::{Map, Value, json};

/// Prints events.
pub struct Json {
    raw: bool,
    strsize: usize,
    model: Model,
}

impl Json {
    /// `raw`: also the records that are no events of the program.
    pub fn new(raw: bool, strsize: usize) -> Json {
        Json {
            raw,
            strsize,
            model: Model::default(),
        }
    }

    /// The line of an event, or nothing.
    pub fn event(&mut self, item: &Item, ids: Ids) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("place", item.place.to_string().into());
        put("lane", item.lane.into());
        if item.task != 0 {
            put("task", item.task.into());
            put("pid", ids.pid.into());
            put("tid", ids.tid.into());
        }
        put("kind", raw::kind_name(&item.record).into());
        let shown = self.details(item, ids, &mut object);
        if !shown && !self.raw {
            return String::new();
        }
        if self.raw {
            let (head, parts) = raw::record(&item.record, self.strsize);
            object.insert("record".into(), head.into());
            object.insert("sections".into(), parts.into());
        }
        format!("{}\n", Value::Object(object))
    }

    /// False if the record is no event of the program.
    fn details(&mut self, item: &Item, ids: Ids, object: &mut Map<String, Value>) -> bool {
        let mut put = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        match &item.record {
            Record::Syscall(event) => {
                let view = CallView::new(event, &item.data);
                let touches = view.touches(&mut self.model, item.task, ids);
                self.call(&view, &touches, object);
            }
            Record::Exec(exec) => {
                self.model.exec(item.task, ids);
                put("text", exec_text(exec, &item.data, self.strsize).into());
            }
            Record::Snapshot(exec) => {
                self.model.exec(item.task, ids);
                put("text", snapshot_text(exec).into());
            }
            Record::Exit(exit) => {
                self.model.exit(exit.task);
                let status = exit.status;
                if libc::WIFSIGNALED(status) {
                    put("signal", signal_text(libc::WTERMSIG(status)).into());
                } else {
                    put("status", libc::WEXITSTATUS(status).into());
                }
                put("group", (exit.flags & flags::GROUP != 0).into());
                put("text", exit_text(exit).into());
            }
            Record::Signal(signal) => {
                put("signal", signal_text(signal.signo.into()).into());
                put("text", signal_details(signal).into());
            }
            Record::Instr { which, values } => {
                put("name", instruction(*which).into());
                put("values", values.iter().collect::<Vec<u64>>().into());
            }
            Record::Note { text } => put("text", String::from_utf8_lossy(text).into()),
            Record::Bookmark { id, time, text, .. } => {
                put("id", (*id).into());
                put("time_ns", (*time).into());
                put("text", String::from_utf8_lossy(text).into());
            }
            Record::Gap { lost, text } => {
                put("lost", (*lost).into());
                put("text", String::from_utf8_lossy(text).into());
            }
            Record::Start(start) => {
                self.model.start(start);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn call(&self, view: &CallView, touches: &[Touch], object: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        put("name", view.name().into());
        if let Some(sub) = view.row.and_then(|row| row.sub) {
            put("command", sub.name.into());
        }
        if let Some(said) = view.said() {
            let kind = match said.value {
                None => "text",
                Some(_) => "event",
            };
            put("kind", kind.into());
            put("said", String::from_utf8_lossy(&said.text).into());
            if let Some(value) = said.value {
                put("value", value.into());
            }
        }
        put("nr", view.nr.into());
        put("ret", view.ret.into());
        if view.failed() {
            let name = scribe_syscalls::errno_name(-view.ret as i32);
            put("errno", name.map_or(Value::Null, Into::into));
        }
        if let Some(args) = view.args {
            put("args", args.to_vec().into());
            let (call, result) = view.text(true, self.strsize);
            put("text", format!("{call} = {result}").into());
        }
        if view.flags & flags::BLOCKED != 0 {
            put("carried_out", false.into());
        }
        if let Some(time) = view.time {
            put("time_ns", time.into());
        }
        if let Some(serial) = view.serial {
            put("serial", serial.into());
        }
        if !touches.is_empty() {
            put(
                "resources",
                touches.iter().map(touch).collect::<Vec<_>>().into(),
            );
        }
        if !view.data.is_empty() {
            put(
                "data",
                view.data
                    .iter()
                    .map(|data| self.data(data))
                    .collect::<Vec<_>>()
                    .into(),
            );
        }
        if let Some(spawn) = view.spawn {
            let new =
                json!({"task": spawn.task, "pid": spawn.pid, "tid": spawn.tid, "lane": spawn.lane});
            put("new_task", new);
        }
    }

    fn data(&self, data: &Transfer) -> Value {
        let shown = &data.bytes[..data.bytes.len().min(self.strsize)];
        let direction = if data.received { "in" } else { "out" };
        let (form, text) = match std::str::from_utf8(shown) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => (
                "hex",
                shown.iter().map(|byte| format!("{byte:02x}")).collect(),
            ),
        };
        json!({"direction": direction, "addr": data.addr, "size": data.size, form: text})
    }
}

fn touch(touch: &Touch) -> Value {
    let mut value = json!({"type": kind_name(touch.kind), "serial": touch.serial});
    if let (Some(desc), Some(object)) = (&touch.desc, value.as_object_mut()) {
        object.insert("desc".into(), desc.clone().into());
    }
    value
}
