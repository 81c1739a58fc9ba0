//! What was learnt of programs' texts, kept in the user's cache directory from one recording to the
//! next: which places came up, and how they can be patched. So that also the first process of a
//! recording need not stop at each of them.
//!
//! One small file a text, named after the text's identity; it is written to a new file that then
//! takes the old one's place, so readers never see half of it, and of two writers one wins. Nothing
//! in it is trusted further than that the patched bytes must be those it was made from; a file that
//! is not the user's own, or odd in any way, is not there. Without a cache all works, by trap.

use super::patches::TextKey;
use scribe_tracee::patch::{Extent, Kind};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A place: how it is patched, and a hash of the bytes that are replaced.
pub(crate) type Place = (Extent, Kind, u32);
/// Places by their offset in the text.
pub(super) type Places = BTreeMap<u32, Option<Place>>;

/// What is known of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub places: Places,
    /// The state of the file ([`state`]) in which all its CPUIDs became places; 0: they were not looked for.
    pub searched: u64,
}

/// First bytes of a file: name and version.
const MAGIC: &[u8; 8] = b"scrplac2";
/// Magic, five words of identity, and the state in which CPUIDs were looked for.
const HEAD: usize = 8 + 5 * 8 + 8;
/// Offset (4 bytes), hash (4), bytes before and behind, kind, 0.
const ENTRY: usize = 12;
/// Most places that are kept.
const MOST: usize = 400;
/// In place of a kind: the place cannot be patched.
const UNFIT: u8 = 0xff;

fn directory() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let base = base.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|path| !path.is_empty())?;
        Some(PathBuf::from(home).join(".cache"))
    })?;
    base.is_absolute().then(|| base.join("scribe/places"))
}

fn identity(key: &TextKey) -> [u8; 40] {
    let (dev, ino, mtime, offset, size) = *key;
    let words = [dev, ino, mtime as u64, offset, size];
    let mut bytes = [0; 40];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn file(key: &TextKey) -> Option<PathBuf> {
    let name = xxhash_rust::xxh3::xxh3_64(&identity(key));
    Some(directory()?.join(format!("{name:016x}")))
}

/// What is known of a text; nothing where that cannot be read.
pub(super) fn load(key: &TextKey) -> Known {
    read(key).unwrap_or_default()
}

fn read(key: &TextKey) -> Option<Known> {
    decode(key, &content(&file(key)?, (HEAD + MOST * ENTRY) as u64)?)
}

/// What a file of the cache holds, at most so many bytes.
fn content(path: &Path, most: u64) -> Option<Vec<u8>> {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let meta = open.metadata().ok()?;
    // SAFETY: a call without arguments.
    let me = unsafe { libc::geteuid() };
    if !meta.is_file() || meta.uid() != me || meta.mode() & 0o022 != 0 || meta.len() > most {
        return None;
    }
    let mut bytes = Vec::new();
    open.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn decode(key: &TextKey, bytes: &[u8]) -> Option<Known> {
    let (head, searched) = bytes.get(..HEAD)?.split_at(HEAD - 8);
    if head[..8] != *MAGIC || head[8..] != identity(key) {
        return None;
    }
    let searched = u64::from_le_bytes(searched.try_into().ok()?);
    let mut places = Places::new();
    for entry in bytes[HEAD..].chunks(ENTRY) {
        let entry: &[u8; ENTRY] = entry.try_into().ok()?;
        let word = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let extent = Extent {
            before: entry[8],
            after: entry[9],
        };
        let place = match entry[10] {
            UNFIT => None,
            kind => Some((extent, Kind::new(kind)?, word(4))),
        };
        places.insert(word(0), place);
    }
    Some(Known { places, searched })
}

fn encode(key: &TextKey, known: &Known) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&identity(key));
    let all = known.places.len() <= MOST;
    let searched = if all { known.searched } else { 0 };
    bytes.extend_from_slice(&searched.to_le_bytes());
    for (offset, place) in known.places.iter().take(MOST) {
        bytes.extend_from_slice(&offset.to_le_bytes());
        let (hash, rest) = match place {
            Some((extent, kind, hash)) => (*hash, [extent.before, extent.after, *kind as u8, 0]),
            None => (0, [0, 0, UNFIT, 0]),
        };
        bytes.extend_from_slice(&hash.to_le_bytes());
        bytes.extend_from_slice(&rest);
    }
    bytes
}

/// Keeps what is known of a text, with what others have learnt meanwhile. Failing is no harm.
pub(super) fn save(key: &TextKey, places: &Places, searched: u64) {
    let _ = try_save(key, places, searched);
}

fn try_save(key: &TextKey, places: &Places, searched: u64) -> Option<()> {
    let path = file(key)?;
    let mut all = load(key);
    let new = places.iter().map(|(offset, place)| (*offset, *place));
    all.places.extend(new);
    if searched != 0 {
        all.searched = searched;
    }
    replace(&path, &encode(key, &all))
}

/// Puts a new file of the cache in the place of the old one.
fn replace(path: &Path, bytes: &[u8]) -> Option<()> {
    let directory = path.parent()?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .ok()?;
    let new = directory.join(format!(".new-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.ok()
}

/// Device, inode, size, and times of the last change of content and of inode: seconds and nanoseconds.
pub(super) type FileKey = [u64; 7];

/// The key of a file.
pub(super) fn file_key(meta: &fs::Metadata) -> FileKey {
    let times = [
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ];
    let [mtime, mtime_ns, ctime, ctime_ns] = times.map(|time| time as u64);
    [
        meta.dev(),
        meta.ino(),
        meta.size(),
        mtime,
        mtime_ns,
        ctime,
        ctime_ns,
    ]
}

/// The state of a file as one number, which is not 0.
pub(super) fn state(meta: &fs::Metadata) -> u64 {
    let bytes: Vec<u8> = file_key(meta)
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    xxhash_rust::xxh3::xxh3_64(&bytes).max(1)
}

/// Hashes of files of the installed system, which take longer to compute than a short program runs. Only who may
/// change such a file could make one wrong, and the time of the inode's last change says that it was changed.
#[derive(Default)]
pub(super) struct Hashes {
    known: Option<Vec<(FileKey, [u8; 32])>>,
    changed: bool,
}

const HASHES_MAGIC: &[u8; 8] = b"scrhash1";
const HASH_ENTRY: usize = 7 * 8 + 32;
/// Most hashes that are kept; the oldest go.
const MOST_HASHES: usize = 512;

impl Hashes {
    fn file() -> Option<PathBuf> {
        Some(directory()?.join("hashes"))
    }

    fn load() -> Option<Vec<(FileKey, [u8; 32])>> {
        let bytes = content(&Hashes::file()?, (8 + MOST_HASHES * HASH_ENTRY) as u64)?;
        let entries = bytes.strip_prefix(HASHES_MAGIC)?.chunks_exact(HASH_ENTRY);
        let decode = |entry: &[u8]| {
            let mut key = FileKey::default();
            let mut hash = [0; 32];
            for (word, bytes) in key.iter_mut().zip(entry.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            }
            hash.copy_from_slice(&entry[56..]);
            (key, hash)
        };
        Some(entries.map(decode).collect())
    }

    /// The hash of a file, if it is known.
    pub(super) fn get(&mut self, key: &FileKey) -> Option<[u8; 32]> {
        let known = self
            .known
            .get_or_insert_with(|| Hashes::load().unwrap_or_default());
        known
            .iter()
            .find(|(of, _)| of == key)
            .map(|(_, hash)| *hash)
    }

    /// Keeps a hash.
    pub(super) fn put(&mut self, key: FileKey, hash: [u8; 32]) {
        if let Some(known) = &mut self.known {
            known.push((key, hash));
            self.changed = true;
        }
    }

    /// Keeps what is new for the next recording. Failing is no harm.
    pub(super) fn save(&self) {
        let (Some(known), true) = (&self.known, self.changed) else {
            return;
        };
        let mut bytes = HASHES_MAGIC.to_vec();
        for (key, hash) in &known[known.len().saturating_sub(MOST_HASHES)..] {
            bytes.extend(key.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend_from_slice(hash);
        }
        if let Some(file) = Hashes::file() {
            let _ = replace(&file, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let extent = Extent {
            before: 5,
            after: 0,
        };
        let places = Places::from([
            (0x1000, Some((extent, Kind::Syscall, 7))),
            (0x2000, None),
            (
                0x3000,
                Some((
                    Extent {
                        before: 0,
                        after: 6,
                    },
                    Kind::Cpuid,
                    9,
                )),
            ),
        ]);
        Known {
            places,
            searched: 8,
        }
    }

    #[test]
    fn what_does_not_fit_must_be_looked_for_again() {
        let mut all = known();
        all.places
            .extend((0x4000..0x4000 + MOST as u32).map(|at| (at, None)));
        let key = (1, 2, 3, 4, 5);
        assert_eq!(decode(&key, &encode(&key, &all)).unwrap().searched, 0);
    }

    #[test]
    fn comes_back_as_it_was() {
        let key = (1, 2, 3, 4, 5);
        let bytes = encode(&key, &known());
        assert_eq!(decode(&key, &bytes), Some(known()));
        assert_eq!(decode(&(1, 2, 4, 4, 5), &bytes), None);
    }

    #[test]
    fn what_is_odd_is_not_there() {
        let key = (1, 2, 3, 4, 5);
        let good = encode(&key, &known());
        for len in 0..good.len() {
            let whole = len >= HEAD && (len - HEAD).is_multiple_of(ENTRY);
            assert_eq!(decode(&key, &good[..len]).is_some(), whole, "{len}");
        }
        let mut bad = good.clone();
        bad[HEAD + 10] = 77;
        assert_eq!(decode(&key, &bad), None);
    }
}
