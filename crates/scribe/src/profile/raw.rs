//! Records as they are in the log.

use super::event::quote;
use scribe_log::{Record, Section, Sections, kind, patch};

/// A record in one line, and a line for each of its sections.
pub fn record(record: &Record, limit: usize) -> (String, Vec<String>) {
    let none = Vec::new;
    let text = |bytes: &[u8]| cut(bytes, limit);
    match record {
        Record::Switch { task, flags } => (format!("switch task={task} flags={flags:#x}"), none()),
        Record::Syscall(call) => {
            let name = scribe_syscalls::syscall_name(call.nr.into()).unwrap_or("unknown");
            let (nr, ret) = (call.nr, call.ret);
            let (hash, flags) = (call.in_hash, call.flags);
            let head = format!(
                "syscall nr={nr} ({name}) ret={ret:#x} in_hash={hash:#010x} flags={flags:#x}"
            );
            (head, sections(&call.sections, limit))
        }
        Record::Data { addr, bytes } => (
            format!("data addr={addr:#x} size={} {}", bytes.len(), text(bytes)),
            none(),
        ),
        Record::Signal(signal) => {
            let (signo, action, flags) = (signal.signo, signal.action, signal.flags);
            let info = text(&signal.info);
            (
                format!("signal signo={signo} action={action} flags={flags:#x} info={info}"),
                none(),
            )
        }
        Record::Instr { which, values } => {
            (format!("instr which={which} values={values:x?}"), none())
        }
        Record::Exec(exec) | Record::Snapshot(exec) => {
            let (kind, task) = (kind_name(record), exec.task);
            let head = format!("{kind} task={task} tid={} pid={}", exec.tid, exec.pid);
            (head, sections(&exec.sections, limit))
        }
        Record::Exit(exit) => {
            let (task, status, flags) = (exit.task, exit.status, exit.flags);
            let head = format!("exit task={task} status={status:#x} flags={flags:#x}");
            (head, sections(&exit.sections, limit))
        }
        Record::Merge {
            from_lane,
            into_lane,
        } => (
            format!("merge from_lane={from_lane} into_lane={into_lane}"),
            none(),
        ),
        Record::Move { task, lane } => (format!("move task={task} lane={lane}"), none()),
        Record::Forced(forced) => (
            format!("forced stop at {:#x}", forced.rip),
            sections(&forced.sections, limit),
        ),
        Record::Patch { flags, sites } => {
            let what = if flags & patch::REMOVE == 0 {
                "patched"
            } else {
                "put back"
            };
            // Entries of 12 bytes begin with the address, below the kind.
            let places = sites.chunks_exact(12).map(|site| {
                let mut address = [0; 8];
                address[..7].copy_from_slice(&site[..7]);
                format!("place {:#x}", u64::from_le_bytes(address))
            });
            (format!("{what} flags={flags:#x}"), places.collect())
        }
        Record::Checksum { regs, mem } => {
            let hash = |h: &Option<u64>| h.map_or("none".into(), |h| format!("{h:#018x}"));
            (
                format!("checksum regs={} mem={}", hash(regs), hash(mem)),
                none(),
            )
        }
        Record::Tracer(tracer) => {
            let (task, place, signo) = (tracer.task, tracer.place, tracer.signo);
            let head = format!("tracer task={task} place={place} signo={signo}");
            (head, sections(&tracer.sections, limit))
        }
        Record::Start(start) => ("start".into(), sections(&start.sections, limit)),
        Record::File(file) => {
            let head = format!(
                "file id={} size={} mode={:#o} mtime={}.{:09} dev={:#x} ino={} flags={:#x} path={}",
                file.id,
                file.size,
                file.mode,
                file.mtime_s,
                file.mtime_ns,
                file.dev,
                file.ino,
                file.flags,
                text(&file.path),
            );
            let hash: String = file
                .blake3
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            (head, vec![format!("blake3 {hash}")])
        }
        Record::Blob {
            file,
            offset,
            bytes,
        } => {
            let size = bytes.len();
            (
                format!(
                    "blob file={file} offset={offset} size={size} {}",
                    text(bytes)
                ),
                none(),
            )
        }
        Record::Note { text: note } => (format!("note {}", text(note)), none()),
        Record::Bookmark {
            id,
            time,
            tasks,
            text: name,
        } => {
            let head = format!("bookmark id={id} time={time} {}", text(name));
            let hash = |hash: Option<u64>| hash.map_or("-".into(), |hash| format!("{hash:016x}"));
            let task = |task: &scribe_log::BookmarkTask| {
                let in_call = if task.in_call { " in a call" } else { "" };
                let (regs, mem) = (hash(task.regs), hash(task.mem));
                format!("task {} regs={regs} mem={mem}{in_call}", task.task)
            };
            (head, tasks.iter().map(task).collect())
        }
        Record::Objects {
            bookmark,
            stream,
            before,
        } => {
            let what = if *before { " before" } else { "" };
            let head = format!("objects{what} bookmark={bookmark} stream={stream}");
            (head, none())
        }
        Record::Gap { lost, text: why } => (format!("gap lost={lost} {}", text(why)), none()),
        Record::End(end) => {
            let head = format!("end status={:#x} events={}", end.status, end.events);
            (head, sections(&end.sections, limit))
        }
        Record::Unknown(other) => {
            let (kind, flags, arg) = (other.kind, other.flags, other.arg);
            let head = format!(
                "kind {kind} flags={flags:#x} arg={arg} {}",
                text(&other.body)
            );
            (head, none())
        }
        other => (format!("{other:?}"), none()),
    }
}

fn cut(bytes: &[u8], limit: usize) -> String {
    let more = if bytes.len() > limit { "..." } else { "" };
    format!("{}{more}", quote(&bytes[..bytes.len().min(limit)]))
}

fn sections(sections: &Sections, limit: usize) -> Vec<String> {
    sections.iter().map(|one| section(&one, limit)).collect()
}

fn section(section: &Section, limit: usize) -> String {
    let text = |bytes: &[u8]| cut(bytes, limit);
    let list = |list: &scribe_log::StrList| list.iter().map(text).collect::<Vec<_>>().join(" ");
    match section {
        Section::Out { addr, bytes } => {
            format!("out addr={addr:#x} size={} {}", bytes.len(), text(bytes))
        }
        Section::FileOut {
            addr,
            offset,
            len,
            file,
        } => {
            format!("file_out addr={addr:#x} size={len} file={file} offset={offset}")
        }
        Section::Args(args) => format!("args {args:x?}"),
        Section::In {
            addr,
            full_len,
            bytes,
        } => {
            format!(
                "in addr={addr:#x} size={full_len} kept={} {}",
                bytes.len(),
                text(bytes)
            )
        }
        Section::Serial(serial) => format!("serial {serial}"),
        Section::Time(time) => format!("time {}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
        Section::Regs(regs) => format!("regs {:x?}", regs.values()),
        Section::Spawn(s) => format!(
            "spawn task={} tid={} pid={} lane={} flags={:#x}",
            s.task, s.tid, s.pid, s.lane, s.flags
        ),
        Section::Map(m) => format!(
            "map file={} offset={:#x} len={:#x} prot={} flags={:#x}",
            m.file, m.offset, m.len, m.prot, m.flags
        ),
        Section::Desc { fd, text: name } => format!("desc fd={fd} {}", text(name)),
        Section::ExecMap(m) => format!(
            "exec_map {:#x}-{:#x} prot={} flags={:#x} file={} offset={:#x} kind={} {}",
            m.start,
            m.end,
            m.prot,
            m.flags,
            m.file,
            m.offset,
            m.kind,
            text(m.name)
        ),
        Section::Zero { addr, len } => format!("zero addr={addr:#x} len={len}"),
        Section::Brk(brk) => format!("brk {brk:#x}"),
        Section::Comm(comm) => format!("comm {}", text(comm)),
        Section::Lane(lane) => format!("lane {lane}"),
        Section::Auxv(bytes) => format!("auxv {}", text(bytes)),
        Section::Version(version) => format!("version {}", text(version)),
        Section::Argv(argv) => format!("argv {}", list(argv)),
        Section::Cwd(cwd) => format!("cwd {}", text(cwd)),
        Section::Uname(uname) => format!("uname {}", list(uname)),
        Section::Realtime(time) => format!("realtime {time}"),
        Section::Flags(flags) => format!("flags {flags:#x}"),
        Section::Level(level) => format!("level {level}"),
        Section::Cpuid(table) => format!("cpuid {} entries", table.iter().count()),
        Section::Stdio {
            fd,
            kind,
            text: name,
        } => format!("stdio fd={fd} kind={kind} {}", text(name)),
        Section::Root {
            task,
            tid,
            pid,
            lane,
        } => {
            format!("root task={task} tid={tid} pid={pid} lane={lane}")
        }
        Section::Unknown { tag, bytes } => {
            format!("section {tag} size={} {}", bytes.len(), text(bytes))
        }
        other => format!("{other:?}"),
    }
}

/// Name of a record's kind, for programs.
pub fn kind_name(record: &Record) -> &'static str {
    match record {
        Record::Switch { .. } => "switch",
        Record::Syscall(_) => "syscall",
        Record::Data { .. } => "data",
        Record::Signal(_) => "signal",
        Record::Instr { .. } => "instruction",
        Record::Exec(_) => "exec",
        Record::Snapshot(_) => "snapshot",
        Record::Exit(_) => "exit",
        Record::Merge { .. } => "merge",
        Record::Move { .. } => "move",
        Record::Forced(_) => "forced",
        Record::Patch { .. } => "patch",
        Record::Checksum { .. } => "checksum",
        Record::Tracer(_) => "tracer",
        Record::Start(_) => "start",
        Record::File(_) => "file",
        Record::Blob { .. } => "blob",
        Record::Note { .. } => "note",
        Record::Bookmark { .. } => "bookmark",
        Record::Objects { .. } => "objects",
        Record::Gap { .. } => "gap",
        Record::End(_) => "end",
        Record::Unknown(other) if other.kind == kind::END => "end",
        _ => "unknown",
    }
}
