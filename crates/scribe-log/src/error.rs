//! What can go wrong with a log.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// `Result` with [`LogError`].
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// Why a log could not be written or read (further). Offsets are byte offsets in the file.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The file does not begin as a log does.
    #[error("not a Scribe log")]
    NotALog,
    /// The log has a format that this version cannot read.
    #[error("log format {major}.{minor} cannot be read by this version of Scribe")]
    Version {
        /// Major version found.
        major: u16,
        /// Minor version found.
        minor: u16,
    },
    /// The log ends inside a chunk: the recorder was killed, or the disk was full.
    #[error("log cut off at byte {offset}: {have} of {need} bytes of a chunk are there")]
    Truncated {
        /// Where the incomplete chunk begins.
        offset: u64,
        /// Bytes that are there.
        have: u64,
        /// Bytes that are needed, as far as known.
        need: u64,
    },
    /// All chunks are good, but the recording was not brought to its end.
    #[error("log ends at byte {offset} without an end record")]
    NoEnd {
        /// Where the log ends.
        offset: u64,
    },
    /// The chunk at `offset` does not hold what a chunk must.
    #[error("log damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the damaged chunk begins.
        offset: u64,
        /// What is wrong with it.
        what: Cow<'static, str>,
    },
    /// A chunk is intact, but a record in it makes no sense.
    #[error("bad record in the chunk at byte {chunk}, {offset} bytes into its content: {what}")]
    BadRecord {
        /// Where the chunk begins.
        chunk: u64,
        /// Offset in the chunk's uncompressed content.
        offset: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The caller of the writer built something that is not a record, or one that is too long.
    #[error("record for stream {stream} cannot be written: {what}")]
    Unwritable {
        /// Its stream.
        stream: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The place asked for does not exist in this log.
    #[error("no record at byte {chunk} + {offset}")]
    NoSuchPosition {
        /// Offset of the chunk asked for.
        chunk: u64,
        /// Offset in the chunk's content asked for.
        offset: u32,
    },
}

impl LogError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> LogError {
        move |source| LogError::Io {
            what,
            source: Arc::new(source),
        }
    }

    pub(crate) fn damaged(offset: u64, what: impl Into<Cow<'static, str>>) -> LogError {
        LogError::Damaged {
            offset,
            what: what.into(),
        }
    }

    /// The `errno` behind the error, if there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            LogError::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Why some bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub &'static str);
