//! What /proc says of a process. proc(5).

use super::Subject;
use crate::model::{Process, Timer};
use std::fs;

/// A file of /proc/PID; empty where it cannot be read.
fn read(pid: i32, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn link(pid: i32, name: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// The numbers of a line of /proc/PID/status.
fn numbers(status: &str, name: &str, radix: u32) -> Vec<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let words = line.unwrap_or_default().split_whitespace();
    words
        .filter_map(|word| u64::from_str_radix(word, radix).ok())
        .collect()
}

/// An id as the innermost namespace has it.
fn own(status: &str, name: &str) -> i32 {
    numbers(status, name, 10).last().map_or(0, |id| *id as i32)
}

/// Everything that is not about descriptors, tasks or timers.
pub(super) fn process(subject: &Subject, all: &[Subject]) -> Process {
    let pid = subject.pid;
    let status = read(pid, "status");
    let parent = numbers(&status, "PPid", 10)
        .first()
        .map_or(0, |id| *id as i32);
    let parent = all.iter().find(|other| other.pid == parent);
    let list = |name| -> Vec<u32> {
        let all = numbers(&status, name, 10);
        all.into_iter().map(|id| id as u32).collect()
    };
    let (mm, auxv) = layout(pid);
    Process {
        pid: subject.own,
        parent: parent.map_or(0, |parent| parent.own),
        group: own(&status, "NSpgid"),
        session: own(&status, "NSsid"),
        cwd: link(pid, "cwd"),
        root: link(pid, "root"),
        umask: numbers(&status, "Umask", 8)
            .first()
            .map_or(0o22, |mask| *mask as u32),
        exe: link(pid, "exe"),
        limits: limits(pid),
        uids: list("Uid"),
        gids: list("Gid"),
        groups: list("Groups"),
        mm,
        auxv,
        ended: ended(pid),
        ..Process::default()
    }
}

/// Where the kernel notes that the parts of an address space are, and the auxiliary vector.
fn layout(pid: i32) -> (Vec<u64>, Vec<u64>) {
    let stat = read(pid, "stat");
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // The first of these is field 3.
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    // brk is the caller's to fill in: nothing shows it.
    let mm = [26, 27, 45, 46, 47, 47, 28, 48, 49, 50, 51].map(field);
    let auxv = fs::read(format!("/proc/{pid}/auxv")).unwrap_or_default();
    let words = auxv.chunks_exact(8);
    let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    (mm.to_vec(), words.collect())
}

fn limits(pid: i32) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for resource in 0..16u32 {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: nothing is set, and there is room for the answer.
        if unsafe { libc::prlimit(pid, resource, std::ptr::null(), &mut limit) } != 0 {
            break;
        }
        all.push((limit.rlim_cur, limit.rlim_max));
    }
    all
}

/// Children of a process that have ended and were not waited for, by their own ids.
pub fn zombies(pid: i32) -> Vec<i32> {
    ended(pid).into_iter().map(|(child, _)| child).collect()
}

/// The same, with the status of each.
fn ended(pid: i32) -> Vec<(i32, i32)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let name = format!("task/{}/children", thread.file_name().to_string_lossy());
        for child in read(pid, &name).split_whitespace() {
            let Ok(child) = child.parse::<i32>() else {
                continue;
            };
            let status = read(child, "status");
            let state = status.lines().find_map(|line| line.strip_prefix("State:"));
            if state.is_some_and(|state| state.trim_start().starts_with('Z')) {
                let stat = read(child, "stat");
                let code = stat
                    .split_whitespace()
                    .last()
                    .and_then(|code| code.parse().ok());
                found.push((own(&status, "NSpid"), code.unwrap_or(0)));
            }
        }
    }
    found
}

/// The POSIX timers of a process; how they run is not shown there. `tid`: the thread that is told, here.
pub fn timers(pid: i32) -> Vec<Timer> {
    let mut all: Vec<Timer> = Vec::new();
    for line in read(pid, "timers").lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name == "ID" {
            all.push(Timer {
                id: value.parse().unwrap_or(0),
                ..Timer::default()
            });
        }
        let Some(timer) = all.last_mut() else {
            continue;
        };
        match name {
            "signal" => {
                let (signal, sigval) = value.split_once('/').unwrap_or((value, "0"));
                timer.signal = signal.parse().unwrap_or(0);
                let sigval = sigval.trim_start_matches("0x").replace("(null)", "0");
                timer.value = u64::from_str_radix(&sigval, 16).unwrap_or(0);
            }
            "notify" => {
                let (how, whom) = value.split_once('/').unwrap_or((value, ""));
                timer.notify = match how {
                    "none" => libc::SIGEV_NONE,
                    "thread" => libc::SIGEV_THREAD,
                    _ => libc::SIGEV_SIGNAL,
                };
                if let Some(tid) = whom.strip_prefix("tid.") {
                    timer.notify |= libc::SIGEV_THREAD_ID;
                    timer.tid = tid.parse().unwrap_or(0);
                }
            }
            "ClockID" => timer.clock = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    all
}
