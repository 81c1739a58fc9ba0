//! Files that the recording mapped: from the log, or from the system by identity.

use super::{ReplayError, Result};
use crate::agent::Shared;
use scribe_log::{FileInfo, LogReader, META, Record, file_flags};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

/// An unnamed file in memory.
pub(super) fn memory_file() -> std::io::Result<File> {
    // SAFETY: a valid name; the descriptor is owned by the File.
    unsafe {
        let fd = libc::memfd_create(c"scribe".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(File::from_raw_fd(fd))
        }
    }
}

/// The files of a recording.
pub struct ReplayFiles {
    meta: scribe_log::LaneReader,
    infos: HashMap<u32, FileInfo<'static>>,
    contents: HashMap<u32, File>,
    open: HashMap<u32, Rc<File>>,
    /// Where agents find what is open.
    shared: Option<Rc<Shared>>,
}

impl ReplayFiles {
    /// Nothing is read yet.
    pub fn new(log: &LogReader, shared: Option<Rc<Shared>>) -> ReplayFiles {
        ReplayFiles {
            meta: log.lane(META),
            infos: HashMap::new(),
            contents: HashMap::new(),
            open: HashMap::new(),
            shared,
        }
    }

    /// A file by its number in the log, open for reading.
    pub fn get(&mut self, id: u32) -> Result<Rc<File>> {
        if let Some(file) = self.open.get(&id) {
            return Ok(file.clone());
        }
        while !self.infos.contains_key(&id) {
            if !self.read_on()? {
                return Err(ReplayError::Log(format!("it does not describe file {id}")));
            }
        }
        let info = &self.infos[&id];
        let file = match self.contents.remove(&id) {
            Some(file) => file,
            None if info.flags & file_flags::COPIED != 0 => {
                memory_file().map_err(|error| ReplayError::Setup {
                    what: "memory for a file".into(),
                    error,
                })?
            }
            None => open_same(info)?,
        };
        let file = Rc::new(file);
        if let Some(shared) = &self.shared {
            shared.file_opened(id, &file);
        }
        self.open.insert(id, file.clone());
        Ok(file)
    }

    fn read_on(&mut self) -> Result<bool> {
        let failed = |error: scribe_log::LogError| ReplayError::Log(error.to_string());
        let Some(record) = self.meta.next().map_err(failed)? else {
            return Ok(false);
        };
        match record {
            Record::File(info) => {
                self.infos.insert(info.id, info.into_owned());
            }
            Record::Blob {
                file,
                offset,
                bytes,
            } => {
                let failed = |error| ReplayError::Setup {
                    what: "memory for a file".into(),
                    error,
                };
                let content = match self.contents.entry(file) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        entry.insert(memory_file().map_err(failed)?)
                    }
                };
                content.write_all_at(&bytes, offset).map_err(failed)?;
            }
            _ => {}
        }
        Ok(true)
    }
}

/// Opens the file that `info` describes, if it is still the same.
fn open_same(info: &FileInfo) -> Result<File> {
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&info.path));
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        ReplayError::File(format!(
            "the recording maps {shown}, which cannot be opened here: {error}"
        ))
    })?;
    let meta = file
        .metadata()
        .map_err(|error| ReplayError::File(format!("{shown}: {error}")))?;
    let same_time = meta.mtime() == info.mtime_s && meta.mtime_nsec() as u32 == info.mtime_ns;
    if meta.size() == info.size && same_time && meta.ino() == info.ino {
        return Ok(file);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; 1 << 18];
    let mut offset = 0;
    while let Ok(got) = file.read_at(&mut buf, offset) {
        if got == 0 {
            break;
        }
        hasher.update(&buf[..got]);
        offset += got as u64;
    }
    let known = if info.flags & file_flags::SHORT_HASH != 0 {
        8
    } else {
        32
    };
    if hasher.finalize().as_bytes()[..known] != info.blake3[..known] {
        return Err(ReplayError::File(format!(
            "{shown} is not the file that was recorded (size {} then, {} now): the replay needs \
             the recorded version",
            info.size,
            meta.size()
        )));
    }
    Ok(file)
}
