//! Turning a replay live: at a bookmark the replayed tasks become a normal program.
//!
//! The replay runs in namespaces of its own, in which its processes have the ids that they had, are
//! each other's children, and are in the sessions and groups that they were in. At the bookmark the
//! kernel objects are made again from their description in the log, first as descriptors of ours; each
//! process takes its own by injected calls. Then the tasks are let go as at the end of a recording.

mod channel;
mod contents;
mod descriptors;
mod ipc;
mod namespace;
mod overlay;
mod process;
mod release;

use super::*;
use contents::Streams;
pub(super) use contents::lies_ahead;
pub(super) use namespace::Namespace;
use scribe_objects::Objects;
use scribe_objects::ipc::Ipc;
use scribe_objects::make::Maker;
use scribe_objects::model::{Changed, Kind, Named, Open};
use std::path::PathBuf;

/// Where a replay turns live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivePoint {
    /// At the bookmark with this number.
    Bookmark(u32),
    /// Where the recording ended: at its last bookmark.
    End,
    /// At the first bookmark behind this one.
    After(u32),
}

/// Which files the living program has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveFiles {
    /// Those that it had; what it changes is its own, and goes into this directory.
    Isolated(PathBuf),
    /// Those that are there.
    Real,
}

/// How a replay turns live.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Where.
    pub at: LivePoint,
    /// With which files.
    pub files: LiveFiles,
    /// Also where something cannot be made again.
    pub anyway: bool,
}

/// A replay that turns live.
pub(super) struct Live {
    pub namespace: Namespace,
    options: LiveOptions,
    objects: Objects,
    streams: Streams,
    /// The bookmark.
    pub bookmark: u32,
}

fn cannot(what: impl Into<String>) -> ReplayError {
    ReplayError::Live(what.into())
}

impl Live {
    /// Looks into the log whether that can be done, and makes the namespaces.
    pub(super) fn prepare(log: LogReader, options: LiveOptions) -> Result<Live> {
        let all = contents::described(&log);
        let known: Vec<(usize, u32, u32)> = all
            .iter()
            .enumerate()
            .filter(|(_, (_, _, before))| !before)
            .map(|(at, (bookmark, stream, _))| (at, *bookmark, *stream))
            .collect();
        let found = match options.at {
            LivePoint::Bookmark(id) => known.iter().find(|(_, bookmark, _)| *bookmark == id),
            LivePoint::After(id) => known.iter().find(|(_, bookmark, _)| *bookmark > id),
            LivePoint::End => known.last(),
        };
        let numbers: Vec<String> = known
            .iter()
            .map(|(_, bookmark, _)| bookmark.to_string())
            .collect();
        let numbers = match numbers.len() {
            0 => "it has none; set bookmarks while recording (scribe bookmark PID, or record -a SECONDS)".into(),
            1..=20 => format!("it has {}", numbers.join(", ")),
            n => format!("it has {n} of them, {} to {}", numbers[0], numbers[n - 1]),
        };
        let Some((at, bookmark, stream)) = found.copied() else {
            let what = match options.at {
                LivePoint::Bookmark(id) => format!("the log has no bookmark {id} at which"),
                LivePoint::After(0) | LivePoint::End => "the log has no bookmark at which".into(),
                LivePoint::After(id) => format!("the log has no bookmark behind {id} at which"),
            };
            return Err(cannot(format!("{what} a replay can turn live; {numbers}")));
        };
        let streams = Streams::new(log);
        let mut objects = streams.objects(stream).map_err(|why| {
            cannot(format!(
                "the description of the program at bookmark {bookmark} cannot be read: {why}"
            ))
        })?;
        for (_, stream, before) in &all[at..] {
            if *before && let Ok(earlier) = streams.objects(*stream) {
                add_names(&mut objects, earlier);
            }
        }
        if !options.anyway {
            let mut lost = objects.lost.clone();
            lost.extend(objects.open.iter().filter_map(|open| match &open.kind {
                Kind::Other(what) => Some(what.clone()),
                _ => None,
            }));
            refuse(lost)?;
        }
        let queue = |open: &Open| matches!(open.kind, Kind::Queue(_));
        let ipc = objects.ipc != Ipc::default() || objects.open.iter().any(queue);
        let namespace = Namespace::enter(objects.clocks, ipc)?;
        Ok(Live {
            namespace,
            options,
            objects,
            streams,
            bookmark,
        })
    }
}

/// Adds names that were changed later, as they were before.
fn add_names(objects: &mut Objects, earlier: Objects) {
    for changed in earlier.changed {
        if objects
            .changed
            .iter()
            .any(|known| known.path == changed.path)
        {
            continue;
        }
        let mut what = changed.what;
        if let Named::File(at) = &mut what {
            let Some(file) = earlier.files.get(*at) else {
                continue;
            };
            let known = objects
                .files
                .iter()
                .position(|other| (other.dev, other.ino) == (file.dev, file.ino));
            *at = known.unwrap_or_else(|| {
                objects.files.push(file.clone());
                objects.files.len() - 1
            });
        }
        objects.changed.push(Changed {
            path: changed.path,
            what,
        });
    }
}

/// An error if something is lost.
fn refuse(mut lost: Vec<String>) -> Result<()> {
    lost.sort();
    lost.dedup();
    if lost.is_empty() {
        return Ok(());
    }
    Err(cannot(format!(
        "this cannot be brought back to life:\n  {}\ngo on without it with --live-anyway",
        lost.join("\n  ")
    )))
}

impl Replayer {
    /// All tasks stand at the bookmark: they become a normal program.
    pub(super) fn go_live(&mut self) -> Result<()> {
        let Some(live) = self.live.take() else {
            return Ok(());
        };
        let begin = std::time::Instant::now();
        let done = self.bring_to_life(&live);
        self.stats.birth = begin.elapsed();
        self.live = Some(live);
        done
    }

    fn bring_to_life(&mut self, live: &Live) -> Result<()> {
        let objects = &live.objects;
        for process in &objects.processes {
            for task in &process.tasks {
                let known = self.tasks.get(&task.task);
                if known.is_none_or(|known| {
                    !matches!(known.state, State::Idle | State::Arrived(Sync::Call(_)))
                }) {
                    return Err(cannot(format!(
                        "task {} does not stand where it can go on by itself",
                        task.task
                    )));
                }
            }
        }
        let mut lost = Vec::new();
        let mut notes = Vec::new();
        match &live.options.files {
            LiveFiles::Isolated(dir) => {
                let covered = overlay::cover(dir).map_err(|error| ReplayError::Setup {
                    what: format!("{}: a place for the program's own files", dir.display()),
                    error,
                })?;
                for dir in covered.open {
                    notes.push(format!("not isolated: {dir}"));
                }
                self.put_files(live, &mut lost);
            }
            LiveFiles::Real => self.check_files(live, &mut lost),
        }
        let processes: Vec<(i32, Tid)> = objects
            .processes
            .iter()
            .filter_map(|process| {
                Some((
                    process.pid,
                    self.tasks.get(&process.tasks.first()?.task)?.tgid,
                ))
            })
            .collect();
        let find = |pid: i32| {
            processes
                .iter()
                .find(|(own, _)| *own == pid)
                .map(|(_, here)| *here)
        };
        let mut maker = Maker::new(objects, &live.streams, [0, 1, 2], &find);
        let made: Vec<_> = maker
            .all()
            .into_iter()
            .map(|one| one.map_err(|why| lost.push(why)).ok())
            .collect();
        let maps = self.shared_files(objects, &mut maker, &mut lost);
        self.make_ipc(live, &mut lost);
        notes.append(&mut maker.notes);
        drop(maker);
        notes.sort();
        notes.dedup();
        for note in notes {
            (self.options.warn)(&note);
        }
        match live.options.anyway {
            true => lost
                .iter()
                .for_each(|lost| (self.options.warn)(&format!("lost: {lost}"))),
            false => refuse(lost)?,
        }
        for process in &objects.processes {
            self.rebuild(live, process, &made, &maps)?;
        }
        drop((made, maps));
        for segment in objects.ipc.segments.iter().filter(|one| one.removed) {
            scribe_objects::ipc::remove_segment(segment);
        }
        for process in &objects.processes {
            self.give_tasks_back(process)?;
        }
        // From here on nothing but what the tasks do can go wrong. Their /proc shows them; ours stays.
        // SAFETY: plain numbers.
        unsafe { libc::unshare(libc::CLONE_NEWNS) };
        live.namespace.release()?;
        for process in &objects.processes {
            let done = self.clear(process);
            self.survive(done)?;
        }
        let mut tasks: Vec<_> = objects
            .processes
            .iter()
            .flat_map(|process| &process.tasks)
            .collect();
        tasks.sort_by_key(|task| {
            let task = self.task(task.task);
            task.tid != task.tgid
        });
        for task in &tasks {
            let done = self.stand_ready(task);
            self.survive(done)?;
        }
        for task in tasks {
            // One that runs already may have ended others.
            let done = self.set_free(task);
            self.survive(done)?;
        }
        self.tasks.clear();
        self.by_tid.clear();
        Ok(())
    }

    /// Files that may have been written to come back as they were, in the program's own view of them.
    fn put_files(&mut self, live: &Live, lost: &mut Vec<String>) {
        let maker = Maker::new(&live.objects, &live.streams, [0, 1, 2], &|_| None);
        // Directories come before what is in them.
        for changed in &live.objects.changed {
            if let Err(error) = maker.put_name(changed) {
                lost.push(format!(
                    "{}: it cannot be put back as it was: {error}",
                    changed.path
                ));
            }
        }
        for file in live.objects.files.iter().filter(|file| !file.deleted) {
            if maker.is_same(file) {
                continue;
            }
            match file.content {
                Some(_) => {
                    if let Err(error) = maker.put_back(file) {
                        lost.push(format!(
                            "{}: it cannot be put back as it was: {error}",
                            file.path
                        ));
                    }
                }
                None => lost.push(format!(
                    "{}: it is not what it was, and the log does not hold its content",
                    file.path
                )),
            }
        }
    }

    /// Files as they are, if they are what they were.
    fn check_files(&mut self, live: &Live, lost: &mut Vec<String>) {
        let maker = Maker::new(&live.objects, &live.streams, [0, 1, 2], &|_| None);
        for file in live.objects.files.iter().filter(|file| !file.deleted) {
            if !maker.is_same(file) {
                lost.push(format!(
                    "{}: it is not what it was at the bookmark",
                    file.path
                ));
            }
        }
        for changed in &live.objects.changed {
            if !maker.has_name(changed) {
                lost.push(format!(
                    "{}: it is not what it was at the bookmark",
                    changed.path
                ));
            }
        }
    }

    /// Files that are to be mapped in place of what the replay had there, by their places in the list; their
    /// memory is what the replay has.
    fn shared_files(
        &mut self,
        objects: &Objects,
        maker: &mut Maker,
        lost: &mut Vec<String>,
    ) -> HashMap<(usize, bool), std::os::fd::OwnedFd> {
        let mut maps = HashMap::new();
        for process in &objects.processes {
            for map in &process.shared {
                let writes = map.prot & libc::PROT_WRITE as u32 != 0;
                let flags = if writes { libc::O_RDWR } else { libc::O_RDONLY };
                if maps.contains_key(&(map.file, writes)) {
                    continue;
                }
                match maker.open_anew(map.file, flags) {
                    Ok(fd) => {
                        maps.insert((map.file, writes), fd);
                    }
                    Err(error) => {
                        let path = objects
                            .files
                            .get(map.file)
                            .map_or("a file", |file| &file.path);
                        lost.push(format!("{path}, which is mapped: {error}"));
                    }
                }
            }
        }
        maps
    }

    /// Waits for the end of the program that was brought to life.
    pub fn wait_live(&mut self) -> Result<Outcome> {
        let live = self
            .live
            .as_ref()
            .ok_or_else(|| cannot("nothing was brought to life"))?;
        let root = live
            .objects
            .processes
            .iter()
            .find(|process| process.parent == 0);
        let status = live.namespace.wait(root.map_or(0, |root| root.pid))?;
        Ok(Outcome::from_wait(status))
    }

    /// The id here of the first process of the program that was brought to life.
    pub fn live_root(&self) -> Tid {
        self.root
    }
}
