//! Identity and, where it is needed, content of the files that the program maps.

use super::cache::{Hashes, file_key};
use super::*;
use scribe_log::{FileInfo, META, file_flags};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Files up to this size that belong to no package are copied into the log.
const COPY_LIMIT: u64 = 64 << 20;
/// Length of a piece of a copied file.
const PIECE: usize = 256 << 10;

/// The files known so far: identity to id.
#[derive(Default)]
pub struct Files {
    known: HashMap<(u64, u64, u64, i64, i64), u32>,
    hashes: Hashes,
}

impl Files {
    /// Another log begins, which knows no files.
    pub(super) fn forget_known(&mut self) {
        self.known.clear();
    }

    /// Keeps what was learnt for the next recording.
    pub(super) fn save(&self) {
        self.hashes.save();
    }
}

/// Whether a path belongs to the installed system, whose files are named by identity only.
fn is_packaged(path: &str, meta: &std::fs::Metadata) -> bool {
    let system = ["/usr/", "/lib", "/bin/", "/sbin/", "/opt/"];
    meta.uid() == 0
        && meta.mode() & 0o022 == 0
        && system.iter().any(|prefix| path.starts_with(prefix))
        && !path.starts_with("/usr/local/")
        && !path.ends_with(" (deleted)")
}

impl Recorder {
    /// Whether a file is named by its identity only: those of the installed system, and in the
    /// least log its configuration, too.
    pub(super) fn is_system(&self, path: &str, meta: &std::fs::Metadata) -> bool {
        let given = self.options.level == 0 && meta.uid() == 0 && path.starts_with("/etc/");
        given || is_packaged(path, meta)
    }

    /// The id of a file, which is written to the log at its first use. 0: it has no content that
    /// could be stored (a device).
    pub(super) fn file_id(&mut self, file: &File, path: &str) -> u32 {
        let Ok(meta) = file.metadata() else { return 0 };
        if !meta.is_file() {
            return 0;
        }
        let key = (
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
        );
        if let Some(id) = self.files.known.get(&key) {
            return *id;
        }
        let id = self.files.known.len() as u32 + 1;
        self.files.known.insert(key, id);
        let packaged = self.is_system(path, &meta);
        let short = packaged && self.options.level == 0;
        let copy = !packaged && meta.size() <= COPY_LIMIT;
        let identity = file_key(&meta);
        // Short ones are hashed as fast as they are looked up.
        let kept = packaged && meta.size() >= PIECE as u64 / 4;
        let hash = kept.then(|| self.files.hashes.get(&identity)).flatten();
        let mut hash = match hash {
            Some(hash) => hash,
            None => {
                let hash = self.hash_file(file, copy.then_some(id));
                if kept {
                    self.files.hashes.put(identity, hash);
                }
                hash
            }
        };
        if short {
            hash[8..].fill(0);
        }
        let info = FileInfo {
            id,
            flags: file_flags::HASHED
                | if copy { file_flags::COPIED } else { 0 }
                | if packaged { file_flags::PACKAGED } else { 0 }
                | if short { file_flags::SHORT_HASH } else { 0 },
            size: meta.size(),
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec() as u32,
            mode: meta.mode(),
            dev: meta.dev(),
            ino: meta.ino(),
            blake3: hash,
            path: path.as_bytes().into(),
        };
        self.log.append(META, |out| Record::File(info).encode(out));
        if let Some(shared) = &self.shared {
            let (dev, ino, size, mtime, nanos) = key;
            shared.file_known([dev, ino, size, mtime as u64, nanos as u64], id);
        }
        id
    }

    /// The hash of a file, whose content goes to the log under the number `copy`.
    fn hash_file(&self, file: &File, copy: Option<u32>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut buf = vec![0; PIECE];
        let mut offset = 0;
        while let Ok(got) = file.read_at(&mut buf, offset) {
            if got == 0 {
                break;
            }
            hasher.update(&buf[..got]);
            if let Some(file) = copy {
                let bytes = buf[..got].into();
                let blob = Record::Blob {
                    file,
                    offset,
                    bytes,
                };
                self.log.append(META, |out| blob.encode(out));
                self.log.maybe_flush();
            }
            offset += got as u64;
        }
        *hasher.finalize().as_bytes()
    }
}
