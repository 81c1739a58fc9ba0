//! Recordings in parts (`record --snapshot-every`, `--keep`): what they are called, when one ends, and which
//! are kept. `NAME.log` is followed by `NAME.part2.log`, `NAME.part3.log` and so on.

use crate::ui::Failure;
use scribe_engine::record::{LogTarget, Parts};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// At least the last so long.
    Time(Duration),
    /// At most so many bytes of logs.
    Size(u64),
}

/// A part takes this share of the size that is kept.
const SHARE: u64 = 4;
/// No part ends sooner for its size: a snapshot may be larger than that already.
const LEAST: Duration = Duration::from_secs(5);

/// `30s`, `10m`, `2h`; `500M`, `2G`.
pub fn parse_keep(text: &str) -> Result<Keep, String> {
    let wrong = || "give a time as 30s, 10m or 2h, or a size as 500M or 2G".to_owned();
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit: (bool, u64) = match unit {
        "s" => (true, 1),
        "m" => (true, 60),
        "h" => (true, 3600),
        "M" => (false, 1 << 20),
        "G" => (false, 1 << 30),
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let amount = number.checked_mul(unit.1).filter(|amount| *amount > 0);
    match (unit.0, amount) {
        (true, Some(seconds)) => Ok(Keep::Time(Duration::from_secs(seconds))),
        (false, Some(bytes)) => Ok(Keep::Size(bytes)),
        _ => Err(wrong()),
    }
}

/// The name of a part of the log `first`; parts are counted from 1.
pub fn part_name(first: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return first.to_owned();
    }
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    let name = match name.strip_suffix(".log") {
        Some(stem) => format!("{stem}.part{number}.log"),
        None => format!("{name}.part{number}"),
    };
    first.with_file_name(name)
}

/// The log whose part has this name, and the part's number.
pub fn parse_name(path: &Path) -> (PathBuf, u32) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, end) = match name.strip_suffix(".log") {
        Some(stem) => (stem, ".log"),
        None => (&*name, ""),
    };
    let found = stem.rsplit_once(".part").and_then(|(stem, number)| {
        let number: u32 = number.parse().ok()?;
        (number > 1).then(|| (path.with_file_name(format!("{stem}{end}")), number))
    });
    found.unwrap_or_else(|| (path.to_owned(), 1))
}

/// The first part that is still there of a log whose beginning was not kept.
pub fn first_kept(path: &Path) -> Option<PathBuf> {
    numbers(path)
        .into_iter()
        .min()
        .map(|number| part_name(path, number))
}

/// Removes the further parts of a log that is going to be replaced: a replay would go on with them.
pub fn remove_former(path: &Path) {
    for number in numbers(path).into_iter().filter(|number| *number > 1) {
        let _ = std::fs::remove_file(part_name(path, number));
    }
}

/// Numbers of the parts that are there of a log.
fn numbers(path: &Path) -> Vec<u32> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let parts = entries.filter_map(|entry| {
        let (first, number) = parse_name(&path.with_file_name(entry.file_name()));
        (first == path).then_some(number)
    });
    parts.collect()
}

/// Names of the parts that there are, the one that is being written last.
pub type Names = Rc<RefCell<VecDeque<PathBuf>>>;

/// The parts of one recording.
pub struct Recording {
    first: PathBuf,
    force: bool,
    every: Option<Duration>,
    keep: Option<Keep>,
    number: u32,
    names: Names,
    /// Time and size of those that are complete.
    complete: VecDeque<(Duration, u64)>,
}

impl Recording {
    /// A recording whose first part is `first`.
    ///
    /// # Errors
    ///
    /// A part of an earlier recording is there.
    pub fn new(
        first: &Path,
        force: bool,
        every: Option<Duration>,
        keep: Option<Keep>,
    ) -> Result<(Recording, Names), Failure> {
        let second = part_name(first, 2);
        if second.exists() && !force {
            let text = format!(
                "{} exists, a part of an earlier recording; give another name with -o, or --force to replace it",
                second.display()
            );
            return Err(Failure::new(crate::record::FAILED, text));
        }
        let names = Names::default();
        names.borrow_mut().push_back(first.to_owned());
        let every = every.or(match keep {
            Some(Keep::Time(time)) => Some(time / 2),
            _ => None,
        });
        let recording = Recording {
            first: first.to_owned(),
            force,
            every,
            keep,
            number: 1,
            names: names.clone(),
            complete: VecDeque::new(),
        };
        Ok((recording, names))
    }

    fn is_too_much(&self) -> bool {
        match self.keep {
            None => false,
            Some(Keep::Time(time)) => {
                let later = self.complete.iter().skip(1);
                later.map(|part| part.0).sum::<Duration>() >= time
            }
            Some(Keep::Size(size)) => {
                let all: u64 = self.complete.iter().map(|part| part.1).sum();
                all > size - size / SHARE
            }
        }
    }
}

impl Parts for Recording {
    fn is_due(&mut self, age: Duration) -> bool {
        let long = self.every.is_some_and(|every| age >= every);
        let large = || match self.keep {
            Some(Keep::Size(size)) if age >= LEAST => {
                let path = part_name(&self.first, self.number);
                path.metadata().is_ok_and(|meta| meta.len() >= size / SHARE)
            }
            _ => false,
        };
        long || large()
    }

    fn next(&mut self) -> LogTarget {
        LogTarget::File(part_name(&self.first, self.number + 1), self.force)
    }

    fn closed(&mut self, age: Duration) {
        let mut names = self.names.borrow_mut();
        let size = names.back().and_then(|path| path.metadata().ok());
        self.complete.push_back((age, size.map_or(0, |m| m.len())));
        self.number += 1;
        names.push_back(part_name(&self.first, self.number));
        while self.is_too_much() && self.complete.pop_front().is_some() {
            if let Some(oldest) = names.pop_front() {
                let _ = std::fs::remove_file(oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for first in ["a.log", "dir/b.2.log", "plain"] {
            let first = Path::new(first);
            for number in [1, 2, 17] {
                let name = part_name(first, number);
                assert_eq!(parse_name(&name), (first.to_owned(), number));
            }
        }
        let odd = Path::new("x.part1.log");
        assert_eq!(parse_name(odd), (odd.to_owned(), 1));
    }

    #[test]
    fn times_and_sizes() {
        let seconds = |s| Ok(Keep::Time(Duration::from_secs(s)));
        assert_eq!(parse_keep("30s"), seconds(30));
        assert_eq!(parse_keep("2h"), seconds(7200));
        assert_eq!(parse_keep("500M"), Ok(Keep::Size(500 << 20)));
        for wrong in ["", "s", "0s", "-1s", "5", "5k", "99999999999999999999s"] {
            assert!(parse_keep(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn former_parts_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let names = ["a.log", "a.part2.log", "a.part9.log", "b.part2.log"];
        names
            .iter()
            .for_each(|name| std::fs::write(at(name), b"x").unwrap());
        remove_former(&at("a.log"));
        let left = names.map(|name| at(name).exists());
        assert_eq!(left, [true, false, false, true]);
    }

    #[test]
    fn the_last_seconds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("a.log");
        let keep = Some(Keep::Time(Duration::from_secs(10)));
        let (mut parts, names) = Recording::new(&first, false, None, keep).unwrap();
        std::fs::write(&first, b"x").unwrap();
        assert!(!parts.is_due(Duration::from_secs(4)) && parts.is_due(Duration::from_secs(5)));
        for _ in 0..5 {
            parts.closed(Duration::from_secs(5));
        }
        // Two complete ones of 5 s cover the time, whatever the last one holds.
        assert_eq!(names.borrow().len(), 3);
        assert!(!first.exists());
        assert_eq!(names.borrow()[0], part_name(&first, 4));
    }
}
