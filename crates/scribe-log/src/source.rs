//! Where the bytes of a log come from.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};

/// Bytes with random access.
pub(crate) enum Source {
    /// A file, which may grow.
    File(File),
    /// Bytes in memory.
    Memory(Vec<u8>),
    /// A stream, with what was read of it so far in a file without a name.
    Stream { file: File, input: Mutex<Input> },
}

/// The stream itself.
pub(crate) struct Input {
    reader: Box<dyn Read + Send>,
    /// Bytes copied to the file so far.
    got: u64,
    ended: bool,
}

impl Source {
    pub fn stream(reader: Box<dyn Read + Send>) -> io::Result<Source> {
        let input = Mutex::new(Input {
            reader,
            got: 0,
            ended: false,
        });
        Ok(Source::Stream {
            file: unnamed()?,
            input,
        })
    }

    /// Bytes that are there now.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Source::File(f) => Ok(f.metadata()?.len()),
            Source::Memory(m) => Ok(m.len() as u64),
            Source::Stream { input, .. } => {
                Ok(input.lock().unwrap_or_else(PoisonError::into_inner).got)
            }
        }
    }

    pub fn is_stream(&self) -> bool {
        matches!(self, Source::Stream { .. })
    }

    /// Waits until a stream has delivered `len` bytes in all, or has ended; says how many are
    /// there.
    pub fn want(&self, len: u64) -> io::Result<u64> {
        let Source::Stream { file, input } = self else {
            return self.len();
        };
        let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buf = [0; 16 << 10];
        while input.got < len && !input.ended {
            let n = buf
                .len()
                .min(usize::try_from(len - input.got).unwrap_or(usize::MAX));
            match input.reader.read(&mut buf[..n]) {
                Ok(0) => input.ended = true,
                Ok(n) => {
                    file.write_all_at(&buf[..n], input.got)?;
                    input.got += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(input.got)
    }

    /// Fills `buf` from `offset`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Source::File(file) | Source::Stream { file, .. } => file.read_exact_at(buf, offset),
            Source::Memory(m) => {
                let from = usize::try_from(offset).ok().and_then(|o| m.get(o..));
                let from = from.and_then(|m| m.get(..buf.len()));
                buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// A temporary file that nobody else can open, and that is gone when it is closed.
fn unnamed() -> io::Result<File> {
    let dir = std::env::temp_dir();
    let mut open = OpenOptions::new();
    open.read(true).write(true).mode(0o600);
    if let Ok(f) = open.clone().custom_flags(libc::O_TMPFILE).open(&dir) {
        return Ok(f);
    }
    for i in 0..100 {
        let path = dir.join(format!("scribe-{}-{i}", std::process::id()));
        match open.clone().create_new(true).open(&path) {
            Ok(f) => {
                std::fs::remove_file(&path)?;
                return Ok(f);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
