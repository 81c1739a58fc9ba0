//! `scribe files`: what a program that was brought to life changed in files of its own, and putting that
//! in place. The directory holds the upper layers of overlays
//! (Documentation/filesystems/overlayfs.rst): a removed file is a character device 0:0.

use crate::cli::{FilesArgs, Format};
use crate::ui::{Failure, say};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Added,
    Changed,
    Removed,
}

/// A file that is not as in the rest of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub what: What,
    /// Its name.
    pub path: PathBuf,
    /// Where it is.
    pub stored: PathBuf,
}

/// All changes that a directory holds.
pub fn changes(dir: &Path) -> Vec<Change> {
    let mut found = Vec::new();
    for layer in fs::read_dir(dir.join("upper"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // The layers are named by the directories that they lie over.
        let name = layer.file_name().to_string_lossy().replace('\\', "/");
        walk(&layer.path(), &Path::new("/").join(name), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(stored: &Path, path: &Path, found: &mut Vec<Change>) {
    let Ok(entries) = fs::read_dir(stored) else {
        return;
    };
    for entry in entries.flatten() {
        let (stored, path) = (entry.path(), path.join(entry.file_name()));
        let Ok(meta) = fs::symlink_metadata(&stored) else {
            continue;
        };
        let there = fs::symlink_metadata(&path).is_ok();
        let removed = meta.file_type().is_char_device() && meta.rdev() == 0;
        let what = match (removed, there) {
            (true, false) => continue,
            (true, true) => What::Removed,
            (false, false) => What::Added,
            (false, true) => What::Changed,
        };
        if meta.is_dir() {
            if what == What::Added {
                found.push(Change {
                    what,
                    path: path.clone(),
                    stored: stored.clone(),
                });
            }
            walk(&stored, &path, found);
        } else if what == What::Removed || !same(&stored, &path) {
            found.push(Change { what, path, stored });
        }
    }
}

/// Whether two files are the same.
fn same(a: &Path, b: &Path) -> bool {
    let (Ok(x), Ok(y)) = (fs::symlink_metadata(a), fs::symlink_metadata(b)) else {
        return false;
    };
    if x.mode() != y.mode() || (x.uid(), x.gid()) != (y.uid(), y.gid()) {
        return false;
    }
    if x.is_symlink() {
        return matches!((fs::read_link(a), fs::read_link(b)), (Ok(a), Ok(b)) if a == b);
    }
    if !x.is_file() || x.len() != y.len() {
        return !x.is_file() && x.rdev() == y.rdev();
    }
    let (Ok(mut a), Ok(mut b)) = (fs::File::open(a), fs::File::open(b)) else {
        return false;
    };
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        use std::io::Read;
        let Ok(n) = a.read(&mut one) else {
            return false;
        };
        if n == 0 {
            return true;
        }
        if b.read_exact(&mut other[..n]).is_err() || one[..n] != other[..n] {
            return false;
        }
    }
}

/// Removes a directory in which nothing is.
pub fn discard(dir: &Path) {
    let _ = fs::remove_dir_all(dir.join("work"));
    let _ = fs::remove_dir_all(dir.join("upper"));
    let _ = fs::remove_dir(dir);
}

/// Runs the command.
pub fn run(args: &FilesArgs) -> Result<i32, Failure> {
    let dir = &args.dir;
    if !dir.join("upper").is_dir() {
        let text = format!(
            "{} holds no files of a program that was brought to life (scribe replay --live-at)",
            dir.display()
        );
        return Err(Failure::new(1, text));
    }
    let changes = changes(dir);
    let mut out = io::stdout().lock();
    for change in &changes {
        let path = change.path.display();
        let written = match args.format {
            Format::Text => {
                let letter = match change.what {
                    What::Added => 'A',
                    What::Changed => 'M',
                    What::Removed => 'D',
                };
                writeln!(out, "{letter} {path}")
            }
            Format::Json => {
                let what = match change.what {
                    What::Added => "added",
                    What::Changed => "changed",
                    What::Removed => "removed",
                };
                let line = serde_json::json!({
                    "what": what,
                    "path": change.path.to_string_lossy(),
                    "stored": change.stored.to_string_lossy(),
                });
                writeln!(out, "{line}")
            }
        };
        if let Err(error) = written {
            return Err(Failure::new(1, format!("cannot write: {error}")));
        }
    }
    if !args.apply {
        return Ok(0);
    }
    let mut failures = 0;
    // What is in a directory goes before it, and comes behind it.
    let (gone, come): (Vec<_>, Vec<_>) = changes.iter().partition(|c| c.what == What::Removed);
    for change in gone.into_iter().rev().chain(come) {
        if let Err(error) = apply(change) {
            failures += 1;
            say(format!("{}: {error}", change.path.display()));
        }
    }
    Ok(i32::from(failures > 0))
}

/// Puts one change in place.
fn apply(change: &Change) -> io::Result<()> {
    let path = &change.path;
    if change.what == What::Removed {
        let meta = fs::symlink_metadata(path)?;
        return if meta.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }
    let meta = fs::symlink_metadata(&change.stored)?;
    if meta.is_dir() {
        fs::create_dir_all(path)?;
    } else if meta.is_symlink() {
        let _ = fs::remove_file(path);
        std::os::unix::fs::symlink(fs::read_link(&change.stored)?, path)?;
        return Ok(());
    } else if meta.is_file() {
        // Beside it first: nobody finds half a file.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".scribe-new");
        let new = path.with_file_name(name);
        fs::copy(&change.stored, &new)?;
        fs::File::open(&new)?.set_modified(meta.modified()?)?;
        let _ = std::os::unix::fs::lchown(&new, Some(meta.uid()), Some(meta.gid()));
        return fs::rename(&new, path);
    } else {
        let text = "only files, directories and symbolic links can be put in place";
        return Err(io::Error::other(text));
    }
    fs::set_permissions(path, meta.permissions())?;
    let _ = std::os::unix::fs::lchown(path, Some(meta.uid()), Some(meta.gid()));
    Ok(())
}
