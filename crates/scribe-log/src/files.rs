//! The files that a log names, and their contents.

use crate::chunk::Chunk;
use crate::error::{LogError, Result};
use crate::lane::{LaneReader, Position};
use crate::reader::Inner;
use crate::record::Record;
use crate::types::FileInfo;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stream 0 said about files so far.
pub(crate) struct FileTable {
    meta: LaneReader,
    files: BTreeMap<u32, FileInfo<'static>>,
    /// By file and offset in it: length, and where the piece is.
    pieces: BTreeMap<(u32, u64), (u64, Position)>,
}

impl FileTable {
    pub fn new(meta: LaneReader) -> FileTable {
        FileTable {
            meta,
            files: BTreeMap::new(),
            pieces: BTreeMap::new(),
        }
    }

    /// Reads one more record of stream 0. `false`: there is none.
    fn step(&mut self) -> Result<bool> {
        match self.meta.next()? {
            None => return Ok(false),
            Some(Record::File(f)) => {
                let f = f.into_owned();
                self.files.insert(f.id, f);
            }
            Some(Record::Blob {
                file,
                offset,
                bytes,
            }) if !bytes.is_empty() => {
                let len = bytes.len() as u64;
                if let Some(place) = self.meta.last_position() {
                    self.pieces.insert((file, offset), (len, place));
                }
            }
            Some(_) => {}
        }
        Ok(true)
    }

    pub fn file(&mut self, id: u32) -> Result<Option<FileInfo<'static>>> {
        while !self.files.contains_key(&id) && self.step()? {}
        Ok(self.files.get(&id).cloned())
    }

    pub fn all(&mut self) -> Result<Vec<FileInfo<'static>>> {
        while self.step()? {}
        Ok(self.files.values().cloned().collect())
    }

    fn piece(&self, id: u32, offset: u64) -> Option<(u64, Position)> {
        let (key, piece) = self.pieces.range((id, 0)..=(id, offset)).next_back()?;
        let skip = offset - key.1;
        (skip < piece.0).then_some((skip, piece.1))
    }

    pub fn read(&mut self, inner: &Inner, id: u32, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (skip, at) = loop {
            if let Some(p) = self.piece(id, offset) {
                break p;
            }
            if !self.step()? {
                return Ok(0);
            }
        };
        let none = || LogError::NoSuchPosition {
            chunk: at.chunk,
            offset: at.offset,
        };
        let chunk: Arc<Chunk> = inner.load(inner.chunk_at(at.chunk).ok_or_else(none)?)?.1;
        let raw = chunk.raw.get(at.offset as usize..).unwrap_or_default();
        let Ok((Record::Blob { bytes, .. }, _)) = Record::decode(raw) else {
            return Err(none());
        };
        let bytes = bytes.get(skip as usize..).unwrap_or_default();
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }
}
