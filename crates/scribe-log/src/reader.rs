//! Reading a log: finished, growing, cut off, damaged, or arriving through a pipe.

use crate::META;
use crate::chunk::{
    CHUNK_HEADER, Chunk, FILE_HEADER, FILE_MAGIC, Header, KIND_DATA, check_file_header, stream_bit,
};
use crate::error::{LogError, Result};
use crate::files::FileTable;
use crate::index;
use crate::lane::{InOrder, LaneReader};
use crate::record::{self, Record};
use crate::source::Source;
use crate::types::{End, FileInfo, Start, kind};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Decompressed chunks kept for the lanes that come after.
const CACHE_CHUNKS: usize = 4;
const CACHE_BYTES: usize = 16 << 20;

/// A log that is being read. Lanes are read through [`LaneReader`]s, which are independent of each
/// other and may live in different threads.
pub struct LogReader {
    inner: Arc<Inner>,
    files: Mutex<FileTable>,
}

/// What the lane readers share.
pub(crate) struct Inner {
    source: Source,
    verify: bool,
    table: Mutex<Table>,
    /// By offset; the most recently used one last.
    cache: Mutex<Vec<(u64, Arc<Chunk>)>>,
}

#[derive(Default)]
struct Table {
    /// The data chunks with their offsets.
    chunks: Vec<(u64, Header)>,
    /// Where the next chunk begins.
    end: u64,
    /// Its number, counting all chunks.
    seq: u32,
    /// Why there is no chunk at `end`.
    fault: Option<LogError>,
    /// There is a chunk at `end`, but its content is damaged: nothing behind it counts.
    dead: bool,
    /// The stream has ended.
    ended: bool,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn new(source: Source, verify: bool) -> Inner {
        let table = Table {
            end: FILE_HEADER as u64,
            ..Table::default()
        };
        Inner {
            source,
            verify,
            table: Mutex::new(table),
            cache: Mutex::default(),
        }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut b = vec![0; len];
        self.source
            .read_at(&mut b, offset)
            .map_err(LogError::io("read the log"))?;
        Ok(b)
    }

    fn want(&self, len: u64) -> Result<u64> {
        self.source.want(len).map_err(LogError::io("read the log"))
    }

    fn check_file_header(&self) -> Result<()> {
        let have = self.want(FILE_HEADER as u64)?.min(FILE_HEADER as u64);
        let head = self.read(0, have as usize)?;
        if have < FILE_HEADER as u64 && have > 0 {
            let n = head.len().min(FILE_MAGIC.len());
            if head[..n] == FILE_MAGIC[..n] {
                return Err(LogError::Truncated {
                    offset: 0,
                    have,
                    need: FILE_HEADER as u64,
                });
            }
        }
        check_file_header(&head)
    }

    /// Goes on by one chunk; waits for it if the log is a stream. `false`: there is none.
    fn advance(&self) -> Result<bool> {
        let (at, seq) = {
            let t = lock(&self.table);
            if t.dead || t.ended {
                return Ok(false);
            }
            (t.end, t.seq)
        };
        // Without the lock: other lanes can go on while this one waits.
        let found = self.header_at(at, seq)?;
        let mut t = lock(&self.table);
        if t.end != at || t.dead {
            return Ok(!t.dead);
        }
        match found {
            Ok(Some(h)) => {
                if h.kind == KIND_DATA {
                    t.chunks.push((at, h));
                }
                t.end = at.saturating_add(h.total());
                t.seq = seq.wrapping_add(1);
                t.fault = None;
                Ok(true)
            }
            end => {
                t.ended = self.source.is_stream();
                t.fault = end.err();
                Ok(false)
            }
        }
    }

    /// The header of the chunk at `at`, if the whole chunk is there. The inner error says why the
    /// log ends here other than properly.
    fn header_at(&self, at: u64, seq: u32) -> Result<Result<Option<Header>>> {
        let need = CHUNK_HEADER as u64;
        let have = self.want(at.saturating_add(need))?.saturating_sub(at);
        if have == 0 {
            return Ok(Ok(None));
        }
        if have < need {
            return Ok(Err(LogError::Truncated {
                offset: at,
                have,
                need,
            }));
        }
        let h = match Header::parse(&self.read(at, CHUNK_HEADER)?, self.verify) {
            Ok(h) => h,
            Err(what) => return Ok(Err(LogError::damaged(at, what))),
        };
        if h.seq != seq && self.verify {
            let what = format!("chunk number {seq} is missing, number {} is there", h.seq);
            return Ok(Err(LogError::damaged(at, what)));
        }
        let need = h.total();
        let have = self.want(at.saturating_add(need))?.saturating_sub(at);
        if have < need {
            return Ok(Err(LogError::Truncated {
                offset: at,
                have,
                need,
            }));
        }
        Ok(Ok(Some(h)))
    }

    /// Uses the index, if there is a good one.
    fn try_index(&self) -> Result<()> {
        let end = self.want(0)?;
        let Some(at) = end.checked_sub(index::TRAILER as u64) else {
            return Ok(());
        };
        let Some(at) = index::trailer(&self.read(at, index::TRAILER)?) else {
            return Ok(());
        };
        if at < index::earliest(end) || at > end.saturating_sub(CHUNK_HEADER as u64) {
            return Ok(());
        }
        let b = self.read(at, (end - at) as usize)?;
        let Ok(h) = Header::parse(&b, self.verify) else {
            return Ok(());
        };
        if h.kind != index::KIND || h.total() != end - at {
            return Ok(());
        }
        let Ok(payload) = h.open(b[CHUNK_HEADER..].to_vec(), self.verify) else {
            return Ok(());
        };
        if let Some(mut chunks) = index::parse(&payload, at)
            && chunks.len() as u64 == u64::from(h.seq)
        {
            chunks.retain(|c| c.1.kind == KIND_DATA);
            let mut t = lock(&self.table);
            t.chunks = chunks;
            t.end = end;
            t.seq = h.seq.wrapping_add(1);
        }
        Ok(())
    }

    /// Drops damaged chunks at the end: what a crash of the machine leaves behind.
    fn check_tail(&self) -> Result<()> {
        loop {
            let chunks = lock(&self.table).chunks.len();
            let Some(last) = chunks.checked_sub(1) else {
                break;
            };
            match self.load(last) {
                Ok(_) => break,
                Err(LogError::Damaged { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The first data chunk from number `from` on that may hold a stream of `mask`. Waits for one
    /// if the log is a stream.
    pub fn find(&self, mask: u64, mut from: usize) -> Result<Option<usize>> {
        loop {
            {
                let t = lock(&self.table);
                let rest = t.chunks.get(from..).unwrap_or_default();
                if let Some(i) = rest.iter().position(|c| c.1.streams & mask != 0) {
                    return Ok(Some(from + i));
                }
                from = from.max(t.chunks.len());
            }
            if !self.source.is_stream() || !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// The number of the data chunk that begins at `offset`.
    pub fn chunk_at(&self, offset: u64) -> Option<usize> {
        lock(&self.table)
            .chunks
            .binary_search_by_key(&offset, |c| c.0)
            .ok()
    }

    /// Reads data chunk number `i`; also says where it begins.
    pub fn load(&self, i: usize) -> Result<(u64, Arc<Chunk>)> {
        let Some((at, known)) = lock(&self.table).chunks.get(i).copied() else {
            return Err(LogError::NoSuchPosition {
                chunk: 0,
                offset: 0,
            });
        };
        let mut cache = lock(&self.cache);
        if let Some(n) = cache.iter().position(|c| c.0 == at) {
            let hit = cache.remove(n);
            cache.push(hit.clone());
            return Ok(hit);
        }
        drop(cache);
        let chunk = match self.load_from(at, &known) {
            Ok(c) => Arc::new(c),
            Err(e) => {
                if let LogError::Damaged { .. } = e {
                    let mut t = lock(&self.table);
                    t.chunks.truncate(i);
                    t.end = at;
                    t.dead = true;
                    t.fault = Some(e.clone());
                }
                return Err(e);
            }
        };
        let mut cache = lock(&self.cache);
        cache.push((at, chunk.clone()));
        while cache.len() > 1
            && (cache.len() > CACHE_CHUNKS
                || cache.iter().map(|c| c.1.raw.len()).sum::<usize>() > CACHE_BYTES)
        {
            cache.remove(0);
        }
        Ok((at, chunk))
    }

    fn load_from(&self, at: u64, known: &Header) -> Result<Chunk> {
        let damaged = |what: &'static str| LogError::damaged(at, what);
        // The length was checked against the file when the chunk was found, or comes from an index
        // that fits the file.
        let mut payload = self.read(at, known.total() as usize)?;
        let h = Header::parse(&payload, self.verify).map_err(damaged)?;
        let same = Header {
            checksum: known.checksum,
            ..h
        };
        if same != *known {
            return Err(damaged("chunk header does not match the index"));
        }
        payload.drain(..CHUNK_HEADER);
        let raw = h
            .open(payload, self.verify)
            .map_err(|what| LogError::damaged(at, what))?;
        let chunk = Chunk::parse(raw).map_err(damaged)?;
        if chunk.mask() & !h.streams != 0 {
            return Err(damaged("chunk with streams that its header does not name"));
        }
        Ok(chunk)
    }

    /// The last record of stream 0 so far, if it is an end record.
    fn end(&self) -> Result<Option<End<'static>>> {
        let i = {
            let t = lock(&self.table);
            t.chunks
                .iter()
                .rposition(|c| c.1.streams & stream_bit(META) != 0)
        };
        let Some(i) = i else { return Ok(None) };
        let (at, chunk) = self.load(i)?;
        let Some((from, to)) = chunk.segment(META) else {
            return Ok(None);
        };
        let seg = &chunk.raw[from as usize..to as usize];
        let bad = |pos: usize, what| LogError::BadRecord {
            chunk: at,
            offset: from.saturating_add(pos as u32),
            what,
        };
        let (mut pos, mut last) = (0, 0);
        while pos < seg.len() {
            last = pos;
            pos += record::skip(&seg[pos..]).map_err(|e| bad(last, e.0))?;
        }
        if seg.get(last) != Some(&kind::END) {
            return Ok(None);
        }
        match Record::decode(&seg[last..])
            .map_err(|e| bad(last, e.0))?
            .0
            .into_owned()
        {
            Record::End(e) => Ok(Some(e)),
            _ => Ok(None),
        }
    }
}

impl LogReader {
    /// Opens a log. If `path` names a pipe or a device, reads from that as
    /// [`LogReader::from_stream`] does.
    pub fn open(path: impl AsRef<Path>) -> Result<LogReader> {
        let file = File::open(path).map_err(LogError::io("open the log"))?;
        let t = file
            .metadata()
            .map_err(LogError::io("open the log"))?
            .file_type();
        if t.is_fifo() || t.is_char_device() || t.is_socket() {
            return Self::from_stream(Box::new(file));
        }
        Self::new(Source::File(file), true)
    }

    /// Reads a log as it arrives. What has arrived is kept in a temporary file without a name, so
    /// that all lanes can be read independently. Reading waits for what has not arrived yet.
    pub fn from_stream(stream: Box<dyn Read + Send>) -> Result<LogReader> {
        let source = Source::stream(stream).map_err(LogError::io("create a temporary file"))?;
        Self::new(source, true)
    }

    /// Reads a log that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<LogReader> {
        Self::new(Source::Memory(bytes), true)
    }

    /// [`LogReader::from_bytes`] without checking checksums and chunk numbers, which a fuzzer could
    /// not get right.
    #[doc(hidden)]
    pub fn from_bytes_unchecked(bytes: Vec<u8>) -> Result<LogReader> {
        Self::new(Source::Memory(bytes), false)
    }

    fn new(source: Source, verify: bool) -> Result<LogReader> {
        let inner = Inner::new(source, verify);
        inner.check_file_header()?;
        if !inner.source.is_stream() {
            inner.try_index()?;
            while inner.advance()? {}
            inner.check_tail()?;
        }
        let inner = Arc::new(inner);
        let files = Mutex::new(FileTable::new(LaneReader::new(inner.clone(), META)));
        Ok(LogReader { inner, files })
    }

    /// A reader for one stream, at its beginning. A stream that is not there is empty.
    pub fn lane(&self, stream: u32) -> LaneReader {
        LaneReader::new(self.inner.clone(), stream)
    }

    /// Another reader of the same log.
    pub fn again(&self) -> LogReader {
        LogReader {
            inner: self.inner.clone(),
            files: Mutex::new(FileTable::new(LaneReader::new(self.inner.clone(), META))),
        }
    }

    /// A reader for the global records.
    pub fn meta(&self) -> LaneReader {
        self.lane(META)
    }

    /// All records in the order of the file: chunk by chunk, and in each stream by stream.
    pub fn in_order(&self) -> InOrder {
        InOrder::new(self.inner.clone())
    }

    /// The start record. `None`: the log was cut off before it.
    pub fn start(&self) -> Result<Option<Start<'static>>> {
        match self.meta().next()? {
            Some(Record::Start(s)) => Ok(Some(Start {
                sections: s.sections.into_owned(),
            })),
            _ => Ok(None),
        }
    }

    /// The end record. `None`: the recording is going on, or was cut off. Of a stream, only what
    /// has been read is considered.
    pub fn end(&self) -> Result<Option<End<'static>>> {
        self.inner.end()
    }

    /// Whether the log has an end record.
    pub fn is_complete(&self) -> bool {
        matches!(self.end(), Ok(Some(_)))
    }

    /// Why the log ends before its end record, if it does, and where. What comes before is
    /// readable. Of a log that is still being written, this only says how far it is.
    pub fn truncated(&self) -> Option<LogError> {
        let (fault, offset, more) = {
            let t = lock(&self.inner.table);
            (
                t.fault.clone(),
                t.end,
                self.inner.source.is_stream() && !t.ended,
            )
        };
        if more {
            return fault;
        }
        match self.end() {
            // Whatever is wrong behind the end record concerns nobody.
            Ok(Some(_)) => None,
            Ok(None) => Some(fault.unwrap_or(LogError::NoEnd { offset })),
            Err(e) => Some(fault.unwrap_or(e)),
        }
    }

    /// Looks for chunks that were appended since, and says whether there are any; then readers that
    /// had come to the end can go on. Of a stream, waits for the next chunk.
    pub fn refresh(&self) -> Result<bool> {
        let mut any = false;
        while self.inner.advance()? {
            any = true;
            if self.inner.source.is_stream() {
                break;
            }
        }
        Ok(any)
    }

    /// How many data chunks are known.
    pub fn chunks(&self) -> usize {
        lock(&self.inner.table).chunks.len()
    }

    /// Where the part of the log ends that is known and good.
    pub fn len(&self) -> u64 {
        lock(&self.inner.table).end
    }

    /// Whether the log has no chunk.
    pub fn is_empty(&self) -> bool {
        self.chunks() == 0
    }

    /// The file with this id. Of a stream, waits for it.
    pub fn file(&self, id: u32) -> Result<Option<FileInfo<'static>>> {
        lock(&self.files).file(id)
    }

    /// All files. Of a stream, waits for its end.
    pub fn files(&self) -> Result<Vec<FileInfo<'static>>> {
        lock(&self.files).all()
    }

    /// Fills `buf` with content of a file from `offset` on, as far as one piece of it goes, and
    /// says how much that was. 0: the log does not hold the file's content there.
    pub fn read_file(&self, id: u32, offset: u64, buf: &mut [u8]) -> Result<usize> {
        lock(&self.files).read(&self.inner, id, offset, buf)
    }
}
