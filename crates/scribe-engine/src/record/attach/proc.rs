//! What /proc says of processes that are to be recorded from here on, and why that cannot be.

use scribe_tracee::{Error, Tid, maps};

/// The value of a line of /proc/PID/status.
fn status(tid: Tid, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The process of a thread.
pub(super) fn process_of(tid: Tid) -> Option<Tid> {
    status(tid, "Tgid")?.parse().ok()
}

/// Who traces it, if anybody.
pub(in crate::record) fn tracer(tid: Tid) -> Option<Tid> {
    let tracer = status(tid, "TracerPid")?.parse().ok()?;
    (tracer != 0).then_some(tracer)
}

/// Whether it has ended.
pub(super) fn is_zombie(tid: Tid) -> bool {
    status(tid, "State").is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// The name of a process.
pub(super) fn name(tid: Tid) -> String {
    status(tid, "Name").unwrap_or_default()
}

/// Ids in a directory.
fn ids(path: &str) -> Vec<Tid> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut ids: Vec<Tid> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// Threads of a process.
pub(in crate::record) fn threads(pid: Tid) -> Vec<Tid> {
    ids(&format!("/proc/{pid}/task"))
}

/// All processes with their parents.
fn parents() -> Vec<(Tid, Tid)> {
    let all = ids("/proc").into_iter();
    all.filter_map(|pid| Some((pid, status(pid, "PPid")?.parse().ok()?)))
        .collect()
}

/// Processes that this one has made.
pub(in crate::record) fn children(pid: Tid) -> Vec<Tid> {
    let made = parents().into_iter().filter(|(_, of)| *of == pid);
    made.map(|(pid, _)| pid).collect()
}

/// Processes that descend from this one, parents first.
pub(super) fn descendants(pid: Tid) -> Vec<Tid> {
    let parents = parents();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Why a thread could not be traced.
pub(super) fn refusal(pid: Tid, tid: Tid, error: &Error) -> String {
    let name = name(pid);
    if let Some(tracer) = tracer(tid) {
        let who = self::name(tracer);
        return format!("process {tracer} ({who}) traces it already; only one can");
    }
    if is_zombie(pid) {
        return match threads(pid).len() {
            0 | 1 => format!("it has ended ({name}, a zombie that its parent has not waited for)"),
            _ => "its first thread has ended, and only others are left".into(),
        };
    }
    if std::fs::read_link(format!("/proc/{pid}/exe")).is_err() && status(pid, "VmSize").is_none() {
        return "it is a thread of the kernel".into();
    }
    let Error::Os { source, .. } = error else {
        return error.to_string();
    };
    if source.raw_os_error() != Some(libc::EPERM) {
        return error.to_string();
    }
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let scope = yama.ok().and_then(|text| text.trim().parse::<u32>().ok());
    let owner = status(pid, "Uid").and_then(|ids| ids.split_whitespace().next()?.parse().ok());
    // SAFETY: a system call without arguments.
    let own: u32 = unsafe { libc::geteuid() };
    match scope {
        _ if own != 0 && owner != Some(own) => {
            "it belongs to another user; only that user, or root, may trace it".into()
        }
        Some(scope @ 1..) if own != 0 => format!(
            "the system lets a process trace its children only (/proc/sys/kernel/yama/ptrace_scope is \
             {scope}); be root, or set it to 0"
        ),
        _ => "not permitted: it has more rights than this process, or a security module forbids it"
            .into(),
    }
}

/// Why a process that could be traced cannot be recorded from here on. `None`: it can.
pub(super) fn hindrance(pid: Tid) -> Option<String> {
    if status(pid, "Seccomp").is_some_and(|mode| mode != "0") {
        return Some(
            "it has seccomp filters, which forbid calls that Scribe makes in its name".into(),
        );
    }
    if is_32_bit(pid) {
        return Some("it is a 32-bit program, which Scribe does not support".into());
    }
    for fd in ids(&format!("/proc/{pid}/fd")) {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
        let what = match link.to_str().unwrap_or_default() {
            "anon_inode:[io_uring]" => "io_uring",
            "anon_inode:[userfaultfd]" => "userfaultfd",
            "anon_inode:[perf_event]" => "perf_event_open",
            _ => continue,
        };
        return Some(format!(
            "it uses {what} (descriptor {fd}), which changes its memory without any call"
        ));
    }
    for map in maps::read(pid) {
        if map.name.starts_with("/[aio]") {
            return Some("it uses native asynchronous I/O (io_setup)".into());
        }
        if scribe_abi::is_ours(map.start, map.end) {
            return Some(format!(
                "addresses that Scribe needs are in use there ({:#x}, {}); start it with scribe record",
                map.start,
                if map.name.is_empty() {
                    "anonymous memory"
                } else {
                    &map.name
                }
            ));
        }
    }
    None
}

/// Whether the program's file is one for the 32-bit interface: EI_CLASS (elf(5)).
fn is_32_bit(pid: Tid) -> bool {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 5];
    std::fs::File::open(format!("/proc/{pid}/exe"))
        .and_then(|file| file.read_exact_at(&mut head, 0))
        .is_ok_and(|()| head == *b"\x7fELF\x01")
}

#[cfg(test)]
mod tests {
    use super::{children, threads, tracer};

    #[test]
    fn threads_and_children_are_found() {
        let me = std::process::id() as i32;
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .expect("it runs");
        let (threads, children) = (threads(me), children(me));
        let pid = child.id() as i32;
        let tracers = (tracer(me), tracer(pid));
        child.kill().expect("it can be killed");
        child.wait().expect("it is ours");
        assert!(threads.contains(&me), "{threads:?}");
        assert!(children.contains(&pid), "{children:?}");
        assert_eq!(tracers, (None, None));
    }
}
