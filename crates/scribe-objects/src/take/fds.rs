//! Descriptors. proc_pid_fdinfo(5), kcmp(2), pidfd_getfd(2).

use super::Taking;
use crate::model::{Fd, Kind, Lock, Open, PosixQueue, Process};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A line of fdinfo that begins with this.
fn line<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = info.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(rest.trim())
}

fn number(info: &str, name: &str, radix: u32) -> u64 {
    let text = line(info, name).unwrap_or_default();
    let word = text.split_whitespace().next().unwrap_or_default();
    u64::from_str_radix(word, radix).unwrap_or(0)
}

/// Whether two descriptors are of one open file (kcmp(2), KCMP_FILE).
fn same(pid: i32, fd: i32, other: i32, other_fd: i32) -> bool {
    // SAFETY: no pointers. KCMP_FILE is 0 (include/uapi/linux/kcmp.h).
    unsafe { libc::syscall(libc::SYS_kcmp, pid, other, 0, fd, other_fd) == 0 }
}

/// A copy of a process's descriptor.
pub(super) fn copy(pidfd: Option<&OwnedFd>, fd: i32) -> Option<OwnedFd> {
    let pidfd = pidfd?.as_raw_fd();
    // SAFETY: no pointers; the result is a descriptor of our own.
    unsafe {
        let got = libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0) as i32;
        (got >= 0).then(|| OwnedFd::from_raw_fd(got))
    }
}

impl Taking<'_> {
    /// Describes all descriptors of a process.
    pub(super) fn fds(&mut self, pid: i32, pidfd: Option<&OwnedFd>, process: &mut Process) {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            self.objects
                .lost
                .push(format!("descriptors of process {}", process.pid));
            return;
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut fds: Vec<i32> = names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        fds.sort_unstable();
        for fd in fds {
            let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
            let link = link.to_string_lossy();
            let all = number(&info, "flags", 8) as u32;
            let cloexec = all & libc::O_CLOEXEC as u32 != 0;
            let flags = all & !(libc::O_CLOEXEC as u32);
            let known = self.seen.iter().find(|seen| {
                seen.link == link && seen.flags == flags && same(pid, fd, seen.pid, seen.fd)
            });
            let open = match known {
                Some(seen) => seen.open,
                None => {
                    let kind = self.kind(pid, pidfd, fd, &link, &info, flags);
                    self.objects.open.push(Open {
                        flags,
                        pos: number(&info, "pos", 10),
                        kind,
                        locks: self.locks(&info),
                    });
                    let open = self.objects.open.len() - 1;
                    let link = link.to_string();
                    self.seen.push(Seen {
                        pid,
                        fd,
                        link,
                        flags,
                        open,
                    });
                    open
                }
            };
            process.fds.push(Fd { fd, cloexec, open });
        }
    }

    fn kind(
        &mut self,
        pid: i32,
        pidfd: Option<&OwnedFd>,
        fd: i32,
        link: &str,
        info: &str,
        flags: u32,
    ) -> Kind {
        // SAFETY: no pointers.
        let us = unsafe { libc::getpid() };
        for (i, standard) in self.standard.into_iter().enumerate() {
            if standard >= 0 && same(pid, fd, us, standard) {
                return Kind::Standard(i as u8);
            }
        }
        let named = |prefix: &str| {
            let rest = link.strip_prefix(prefix)?;
            rest.strip_suffix(']')?.parse::<u64>().ok()
        };
        if let Some(id) = named("pipe:[") {
            let end = copy(pidfd, fd);
            return self.pipe(id, end.as_ref(), pid, fd);
        }
        if let Some(id) = named("socket:[") {
            return match copy(pidfd, fd) {
                Some(socket) => self.socket(id, &socket),
                None => Kind::Other("a socket".into()),
            };
        }
        if let Some(kind) = link.strip_prefix("anon_inode:") {
            return self.anonymous(kind, info, pid);
        }
        let Ok(meta) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
            return Kind::Other(link.into());
        };
        let kind = meta.file_type();
        if flags & libc::O_PATH as u32 != 0 && !kind.is_dir() {
            return Kind::Other(format!("{link} (O_PATH)"));
        }
        if kind.is_dir() {
            return Kind::Directory(link.into());
        }
        if kind.is_fifo() {
            return Kind::Fifo(link.into());
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Kind::Device(link.into());
        }
        match copy(pidfd, fd).map(|file| (system(&file), file)) {
            Some((MQUEUE_MAGIC, file)) => return queue(&file, link, &meta),
            // What it holds is made when it is read.
            Some((libc::PROC_SUPER_MAGIC | SYSFS_MAGIC, _)) => return Kind::Device(link.into()),
            _ => {}
        }
        let written = flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
        let file = fs::File::open(format!("/proc/{pid}/fd/{fd}"));
        let place = match &file {
            Ok(file) => self.file(file, link, written),
            Err(_) => None,
        };
        place.map_or_else(|| Kind::Other(link.into()), Kind::File)
    }

    fn anonymous(&mut self, kind: &str, info: &str, pid: i32) -> Kind {
        let time = |name| {
            let text = line(info, name).unwrap_or_default();
            let (s, ns) = text
                .trim_matches(['(', ')'])
                .split_once(", ")
                .unwrap_or(("0", "0"));
            let (s, ns): (u64, u64) = (s.parse().unwrap_or(0), ns.parse().unwrap_or(0));
            s.saturating_mul(1_000_000_000).saturating_add(ns)
        };
        match kind {
            "[eventfd]" => Kind::EventFd {
                count: number(info, "eventfd-count", 16),
                semaphore: match line(info, "eventfd-semaphore") {
                    Some(text) => text.trim() == "1",
                    None => false,
                },
            },
            "[eventpoll]" => Kind::Epoll(info.lines().filter_map(watched).collect()),
            "[timerfd]" => Kind::TimerFd {
                clock: number(info, "clockid", 10) as i32,
                interval: time("it_interval"),
                left: match number(info, "ticks", 10) {
                    // It has expired and was not read: so it does again, at once.
                    0 => time("it_value"),
                    _ => 1,
                },
            },
            "[signalfd]" => Kind::SignalFd(number(info, "sigmask", 16)),
            "inotify" => {
                let marks = info.lines().filter_map(|line| self.mark(pid, line));
                Kind::Inotify(marks.collect())
            }
            "[pidfd]" => {
                let ids = line(info, "NSpid").or_else(|| line(info, "Pid"));
                let own = ids.and_then(|ids| ids.split_whitespace().last()?.parse().ok());
                Kind::PidFd(own.unwrap_or(-1))
            }
            other => Kind::Other(other.trim_matches(['[', ']']).into()),
        }
    }

    /// A line of an inotify descriptor's fdinfo: "inotify wd:1 ino:2 sdev:3 mask:4 ...".
    fn mark(&self, pid: i32, line: &str) -> Option<(i32, String, u32)> {
        let rest = line.strip_prefix("inotify ")?;
        let field = |name: &str| {
            let mut words = rest.split_whitespace();
            let word = words.find_map(|word| word.strip_prefix(name))?;
            u64::from_str_radix(word, 16).ok()
        };
        let (wd, ino, mask) = (field("wd:")?, field("ino:")?, field("mask:")?);
        // Nothing tells the path; what is watched is mostly what the process has to do with.
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let known = self
            .objects
            .files
            .iter()
            .map(|file| file.path.clone().into());
        let dirs = self
            .objects
            .open
            .iter()
            .filter_map(|open| match &open.kind {
                Kind::Directory(path) => Some(path.into()),
                _ => None,
            });
        let mut candidates: Vec<std::path::PathBuf> = known.chain(dirs).collect();
        candidates.extend(cwd.ancestors().map(Into::into));
        let more: Vec<_> = candidates
            .iter()
            .filter_map(|path| path.parent())
            .map(Into::into)
            .collect();
        candidates.extend(more);
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        for arg in args.split(|byte| *byte == 0).filter(|arg| !arg.is_empty()) {
            candidates.push(cwd.join(String::from_utf8_lossy(arg).as_ref()));
        }
        let is =
            |path: &&std::path::PathBuf| fs::metadata(path).is_ok_and(|meta| meta.ino() == ino);
        let path = candidates.iter().find(is)?;
        Some((wd as i32, path.to_string_lossy().into_owned(), mask as u32))
    }

    /// An end of a pipe; what is in it is copied by the first end that can be read from.
    fn pipe(&mut self, id: u64, end: Option<&OwnedFd>, pid: i32, fd: i32) -> Kind {
        let capacity = match end {
            // SAFETY: a valid descriptor, no pointers.
            Some(end) => unsafe { libc::fcntl(end.as_raw_fd(), libc::F_GETPIPE_SZ) }.max(0) as u32,
            None => 0,
        };
        let content = match self.pipes.get(&id) {
            Some(known) => *known,
            None => {
                let content = self.pipe_content(pid, fd, capacity as usize);
                self.pipes.insert(id, content);
                content
            }
        };
        Kind::Pipe {
            id,
            capacity,
            content,
        }
    }

    /// The bytes in a pipe, which stay there (tee(2)).
    fn pipe_content(&mut self, pid: i32, fd: i32, capacity: usize) -> Option<(u32, u32)> {
        use std::io::Read;
        use std::os::unix::fs::OpenOptionsExt;
        let mut how = fs::OpenOptions::new();
        // Opened anew for reading, whatever this end is for.
        let from = how.read(true).custom_flags(libc::O_NONBLOCK);
        let from = from.open(format!("/proc/{pid}/fd/{fd}")).ok()?;
        let mut waiting = 0;
        // SAFETY: room for the number of bytes.
        if unsafe { libc::ioctl(from.as_raw_fd(), libc::FIONREAD, &mut waiting) } != 0
            || waiting == 0
        {
            return None;
        }
        let (mut read, write) = std::io::pipe().ok()?;
        // SAFETY: valid descriptors of pipes.
        let copied = unsafe {
            libc::fcntl(
                write.as_raw_fd(),
                libc::F_SETPIPE_SZ,
                capacity.max(1 << 16) as i32,
            );
            libc::tee(
                from.as_raw_fd(),
                write.as_raw_fd(),
                1 << 30,
                libc::SPLICE_F_NONBLOCK,
            )
        };
        if copied <= 0 {
            return None;
        }
        let mut bytes = vec![0; copied as usize];
        read.read_exact(&mut bytes).ok()?;
        let content = self.store.begin();
        self.store.put(content, 0, &bytes);
        Some(content)
    }

    /// Locks that fdinfo names.
    fn locks(&self, info: &str) -> Vec<Lock> {
        let parse = |line: &str| {
            let rest = line.strip_prefix("lock:")?;
            let words: Vec<&str> = rest.split_whitespace().collect();
            let [_, kind, _, access, pid, _, start, end] = words[..] else {
                return None;
            };
            let pid = pid.parse().ok()?;
            let holder = self.subjects.iter().find(|subject| subject.pid == pid);
            Some(Lock {
                kind: kind.into(),
                write: access == "WRITE",
                pid: holder.map_or(pid, |holder| holder.own),
                start: start.parse().ok()?,
                end: end.parse().ok(),
            })
        };
        info.lines().filter_map(parse).collect()
    }
}

/// include/uapi/linux/magic.h, ipc/mqueue.c.
const SYSFS_MAGIC: libc::c_long = 0x6265_6572;
const MQUEUE_MAGIC: libc::c_long = 0x1980_0202;

/// Its kind of file system; 0: unknown.
fn system(file: &OwnedFd) -> libc::c_long {
    // SAFETY: all zero is a value of this structure; there is room for the answer.
    unsafe {
        let mut system: libc::statfs = std::mem::zeroed();
        libc::fstatfs(file.as_raw_fd(), &mut system);
        system.f_type
    }
}

/// A POSIX message queue. Nobody can look at its messages without taking them away.
fn queue(file: &OwnedFd, link: &str, meta: &fs::Metadata) -> Kind {
    // SAFETY: all zero is a value of this structure; there is room for the answer.
    let attr = unsafe {
        let mut attr: libc::mq_attr = std::mem::zeroed();
        libc::mq_getattr(file.as_raw_fd(), &mut attr);
        attr
    };
    let state = fs::read_to_string(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let notifies = state.is_ok_and(|state| !state.contains("NOTIFY_PID:0"));
    if attr.mq_curmsgs > 0 || notifies {
        let what = if notifies {
            "that notifies"
        } else {
            "with messages"
        };
        return Kind::Other(format!("POSIX message queue {link} {what}"));
    }
    let deleted = meta.nlink() == 0;
    let bare = link.strip_suffix(" (deleted)").filter(|_| deleted);
    Kind::Queue(PosixQueue {
        name: bare.unwrap_or(link).into(),
        deleted,
        ino: meta.ino(),
        mode: meta.mode() & 0o777,
        owner: (meta.uid(), meta.gid()),
        messages: attr.mq_maxmsg,
        size: attr.mq_msgsize,
    })
}

/// A line of an epoll descriptor's fdinfo: "tfd: 5 events: 19 data: 5 pos:0 ino:1 sdev:2".
fn watched(line: &str) -> Option<(i32, u32, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["tfd:", fd, "events:", events, "data:", data, ..] = words[..] else {
        return None;
    };
    let events = u32::from_str_radix(events, 16).ok()?;
    Some((
        fd.parse().ok()?,
        events,
        u64::from_str_radix(data, 16).ok()?,
    ))
}

/// A descriptor whose open file is known.
pub(crate) struct Seen {
    pid: i32,
    fd: i32,
    link: String,
    flags: u32,
    open: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_lines() {
        let info = "pos:\t12\nflags:\t02004002\nmnt_id:\t3\ntfd:        5 events:       19 data: ff  pos:0 ino:1 sdev:2\n";
        assert_eq!(number(info, "pos", 10), 12);
        assert_eq!(number(info, "flags", 8), 0o2_004_002);
        let all: Vec<_> = info.lines().filter_map(watched).collect();
        assert_eq!(all, [(5, 0x19, 0xff)]);
    }
}
