//! Temporary directories that vanish unless they are kept.

use crate::Settings;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A fresh directory, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    kept: bool,
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    /// Makes a directory that the user of the settings may write to.
    pub fn new(name: &str, settings: &Settings) -> Scratch {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("scribe-test-{name}-{}-{serial}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        give(&path, settings);
        Scratch { path, kept: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it in place for good.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Lets the user whom tests run as own the directory.
pub fn give(path: &Path, settings: &Settings) {
    if let Some((uid, gid, _)) = settings.user {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("SCRIBE_TEST_USER needs root");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own directory");
}

/// A new directory in the given one, which the tests' user owns.
pub fn subdirectory(parent: &Path, name: &str, settings: &Settings) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    give(&path, settings);
    path
}
