//! Files.

use super::Maker;
use crate::model::{Changed, File, Named};
use crate::{check, owned};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Flags that were about the opening only.
const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;

pub(super) fn c_path(path: &str) -> io::Result<CString> {
    Ok(CString::new(path)?)
}

/// Opens what has a name, without making anything the controlling terminal.
pub(super) fn open(path: &str, flags: i32) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let flags = flags & !ONCE | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a valid path.
    check(unsafe { libc::open(name.as_ptr(), flags) }.into()).map(owned)
}

/// What is open, opened anew.
pub(super) fn reopen(fd: RawFd, flags: i32) -> io::Result<OwnedFd> {
    open(&format!("/proc/self/fd/{fd}"), flags)
}

impl Maker<'_> {
    pub(super) fn open_file(&mut self, file: usize, flags: i32, pos: u64) -> io::Result<OwnedFd> {
        let fd = self.open_anew(file, flags)?;
        // SAFETY: a valid descriptor, plain numbers.
        unsafe { libc::lseek(fd.as_raw_fd(), pos as i64, libc::SEEK_SET) };
        Ok(fd)
    }

    /// A file of the description, opened: also for a mapping.
    pub fn open_anew(&mut self, file: usize, flags: i32) -> io::Result<OwnedFd> {
        let none = || io::Error::other("the description does not hold this file");
        let described = self.objects.files.get(file).ok_or_else(none)?;
        if !described.deleted {
            return open(&described.path, flags);
        }
        if !self.files.contains_key(&file) {
            let made = self.unnamed(described)?;
            self.files.insert(file, made);
        }
        reopen(self.files[&file].as_raw_fd(), flags)
    }

    /// A file that has no name (any more).
    fn unnamed(&self, file: &File) -> io::Result<OwnedFd> {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let name = c_path(&name[..name.len().min(200)])?;
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a valid name.
        let fd = owned(check(
            unsafe { libc::memfd_create(name.as_ptr(), flags) }.into(),
        )?);
        let made = fs::File::from(fd);
        self.fill(&made, file)?;
        Ok(made.into())
    }

    fn fill(&self, made: &fs::File, file: &File) -> io::Result<()> {
        let lost = || io::Error::other("its content was not kept");
        let content = file
            .content
            .or((file.size == 0).then_some((0, 0)))
            .ok_or_else(lost)?;
        made.set_len(0)?;
        if file.content.is_some() {
            let mut result = Ok(());
            self.contents.read(content, &mut |offset, bytes| {
                if result.is_ok() {
                    result = made.write_all_at(bytes, offset);
                }
            })?;
            result?;
        }
        made.set_len(file.size)
    }

    /// Whether a file that has a name is there as it was: size and time, or content.
    pub fn is_same(&self, file: &File) -> bool {
        let Ok(meta) = fs::metadata(&file.path) else {
            return false;
        };
        if meta.size() != file.size {
            return false;
        }
        if (meta.mtime(), meta.mtime_nsec()) == file.mtime && meta.ino() == file.ino {
            return true;
        }
        let (Some(content), Ok(there)) = (file.content, fs::File::open(&file.path)) else {
            return false;
        };
        let mut same = true;
        let mut expected = vec![0; file.size as usize];
        let read = self.contents.read(content, &mut |offset, bytes| {
            let at = offset as usize;
            match expected.get_mut(at..at + bytes.len()) {
                Some(room) => room.copy_from_slice(bytes),
                None => same = false,
            }
        });
        let mut found = vec![0; file.size as usize];
        read.is_ok() && same && there.read_exact_at(&mut found, 0).is_ok() && found == expected
    }

    /// Whether a name has what it had; of a regular file, that it is one.
    pub fn has_name(&self, changed: &Changed) -> bool {
        let found = fs::symlink_metadata(&changed.path);
        match (&changed.what, &found) {
            (Named::Absent, Err(_)) => true,
            (Named::File(_), Ok(meta)) => meta.is_file(),
            (Named::Directory(_), Ok(meta)) => meta.is_dir(),
            (Named::Symlink(target), Ok(_)) => {
                fs::read_link(&changed.path).is_ok_and(|there| there == Path::new(target))
            }
            (Named::Other, Ok(meta)) => !meta.is_dir() && !meta.is_symlink(),
            _ => false,
        }
    }

    /// Gives a name back what it had; regular files get their content by [`Maker::put_back`].
    pub fn put_name(&self, changed: &Changed) -> io::Result<()> {
        if self.has_name(changed) {
            return Ok(());
        }
        let path = Path::new(&changed.path);
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path)?,
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        match &changed.what {
            Named::Absent | Named::File(_) => Ok(()),
            Named::Directory(mode) => {
                fs::create_dir_all(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Named::Symlink(target) => std::os::unix::fs::symlink(target, path),
            Named::Other => Err(io::Error::other("it was no regular file")),
        }
    }

    /// Puts a file back as it was, under its name.
    pub fn put_back(&self, file: &File) -> io::Result<()> {
        let path = Path::new(&file.path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut how = fs::OpenOptions::new();
        how.read(true).write(true).create(true).mode(0o600);
        let made = how.open(path)?;
        self.fill(&made, file)?;
        fs::set_permissions(path, fs::Permissions::from_mode(file.mode & 0o7777))?;
        let since = |(s, ns): (i64, i64)| {
            std::time::UNIX_EPOCH
                + std::time::Duration::new(s.max(0) as u64, ns.clamp(0, 999_999_999) as u32)
        };
        made.set_modified(since(file.mtime))
    }
}
