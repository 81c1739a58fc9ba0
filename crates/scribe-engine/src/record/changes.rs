//! Which names of the file system the program may have changed. A bookmark says what they have; what
//! changes for the first time behind a bookmark is kept before: so a replay that turns live there finds
//! the files as they were.

use super::objects::Contents;
use super::*;
use scribe_objects::model::Objects;
use scribe_objects::take::Limits;
use scribe_syscalls::Row;
use std::path::{Path, PathBuf};

/// More names are not kept in mind.
const MOST: usize = 100_000;
/// How much of a file is kept before it changes.
const BEFORE: Limits = Limits {
    file: 16 << 20,
    read: 0,
    total: 16 << 20,
};
/// What is not data lies there (hier(7)).
const SYSTEM: [&str; 3] = ["/dev/", "/proc/", "/sys/"];
/// `PATH_MAX`.
const PATH_MAX: usize = 4096;

/// The names.
#[derive(Debug, Default)]
pub(super) struct Changes {
    names: BTreeSet<String>,
    too_many: bool,
}

impl Changes {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub fn too_many(&self) -> bool {
        self.too_many
    }
}

impl Recorder {
    /// The task is about to make this call.
    pub(super) fn note_changes(
        &mut self,
        id: u32,
        row: &'static Row,
        call: &scribe_syscalls::Call,
    ) {
        for (dir, path) in row.changes(call) {
            let dir = dir.map(|arg| call.args[arg as usize] as i32);
            let Some(name) = self.name_of(id, dir, call.args[path as usize]) else {
                continue;
            };
            if SYSTEM.iter().any(|dir| name.starts_with(dir)) && !name.starts_with("/dev/shm/")
                || self.changes.names.contains(&name)
            {
                continue;
            }
            if self.changes.names.len() == MOST {
                self.changes.too_many = true;
                return;
            }
            if self.gather.bookmarks() > 0 {
                self.keep_before(&name);
            }
            self.changes.names.insert(name);
        }
    }

    /// The full name of what a path leads to.
    fn name_of(&self, id: u32, dir: Option<i32>, addr: u64) -> Option<String> {
        let task = self.task(id);
        let mut room = [0; PATH_MAX];
        let got = task.space.mem.read_some(addr, &mut room);
        let end = room[..got].iter().position(|byte| *byte == 0)?;
        let path = std::str::from_utf8(&room[..end])
            .ok()
            .filter(|path| !path.is_empty())?;
        let from = match dir {
            _ if path.starts_with('/') => format!("/proc/{}/root", task.tid),
            Some(fd) if fd != libc::AT_FDCWD => format!("/proc/{}/fd/{fd}", task.tid),
            _ => format!("/proc/{}/cwd", task.tid),
        };
        let from = std::fs::read_link(from).ok()?;
        let full = from.join(path.strip_prefix('/').unwrap_or(path));
        resolved(&full)?.into_os_string().into_string().ok()
    }

    /// Keeps what has a name.
    fn keep_before(&mut self, name: &str) {
        let stream = self.new_stream();
        let mut contents = Contents::new(&self.log, stream);
        let mut objects = Objects::default();
        let names = std::iter::once(name);
        self.taker.names(names, BEFORE, &mut contents, &mut objects);
        self.write_description(stream, &objects, self.gather.bookmarks(), true);
    }
}

/// The name without symbolic links and dots in its directories; the last part stays, unless it is a link to
/// something that is there.
fn resolved(path: &Path) -> Option<PathBuf> {
    let last = path.file_name()?;
    let place = path.parent()?.canonicalize().ok()?.join(last);
    match std::fs::symlink_metadata(&place) {
        Ok(meta) if meta.is_symlink() => Some(place.canonicalize().unwrap_or(place)),
        _ => Some(place),
    }
}
