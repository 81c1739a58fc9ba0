//! Writing a log.
//!
//! The engine appends records to one pending buffer per stream. A thread takes all of them together
//! as one chunk, compresses and writes it. So that little is lost when the recorder is killed, and
//! a reader that follows sees events soon, the thread also takes what is pending when nobody gave
//! it anything for a while: the engine may be blocked in a wait for its tasks.
//!
//! Since a chunk always holds all that was pending, the chunks written so far are at any time a
//! prefix of what was appended, in the order of appending, over all streams together.

use crate::chunk::{
    self, CODEC_RAW, CODEC_ZSTD, FILE_HEADER, Header, KIND_DATA, MAX_CHUNK_RAW, stream_bit,
};
use crate::error::{LogError, Result};
use crate::index;
use crate::record::{self, MAX_RECORD};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pending bytes from which [`LogWriter::maybe_flush`] does something.
const FLUSH_AT: usize = 1 << 20;
/// Pending bytes from which appending itself flushes.
const FLUSH_HARD: usize = 3 << 20;
/// Chunks that may wait for the thread.
const QUEUE: usize = 4;
/// Bytes that may wait for the thread.
const QUEUE_BYTES: usize = 6 << 20;
/// Buffers kept for reuse, and how large one may be for that.
const POOL: usize = 8;
const POOL_CAPACITY: usize = 5 << 18;

/// How to write a log.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Replace an existing file.
    pub force: bool,
    /// How long records may stay pending.
    pub tick: Duration,
    /// zstd level for large chunks; small ones, where it costs little, are compressed harder.
    pub level: i32,
    /// Write no index at the end.
    pub no_index: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        let tick = Duration::from_millis(300);
        WriteOptions {
            force: false,
            tick,
            level: 3,
            no_index: false,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of records and segment headers.
    pub raw_bytes: u64,
    /// Bytes of the file.
    pub compressed_bytes: u64,
    /// Data chunks.
    pub chunks: u64,
    /// Records.
    pub records: u64,
}

type Segments = Vec<(u32, Vec<u8>)>;

#[derive(Default)]
struct State {
    /// Ascending by stream.
    slots: Segments,
    queue: VecDeque<Segments>,
    queued: usize,
    pool: Vec<Vec<u8>>,
    /// The thread sleeps without a timeout, since nothing is pending.
    idle: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    pending: AtomicUsize,
    error: OnceLock<LogError>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that is pending.
    fn take(&self, st: &mut State) -> Segments {
        self.pending.store(0, Relaxed);
        let mut segments = std::mem::take(&mut st.slots);
        segments.retain(|s| !s.1.is_empty());
        segments
    }

    /// Puts all that is pending into the queue; waits while that is full.
    fn flush(&self, mut st: MutexGuard<'_, State>) {
        if self.pending.load(Relaxed) == 0 {
            return;
        }
        while (st.queue.len() >= QUEUE || st.queued > QUEUE_BYTES) && self.error.get().is_none() {
            st = self.room.wait(st).unwrap_or_else(PoisonError::into_inner);
        }
        let segments = self.take(&mut st);
        if segments.is_empty() || self.error.get().is_some() {
            return;
        }
        st.queued += size(&segments);
        st.queue.push_back(segments);
        self.work.notify_one();
    }
}

fn size(segments: &Segments) -> usize {
    segments.iter().map(|s| s.1.len()).sum()
}

/// Writes a log. All methods may be called from several threads.
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Stats>>>,
}

impl LogWriter {
    /// Creates the file, readable and writable for its owner only: logs hold secrets. If `path`
    /// names a pipe or a device, writes to that.
    pub fn create(path: impl AsRef<Path>, options: &WriteOptions) -> Result<LogWriter> {
        let file = create(path.as_ref(), options.force).map_err(LogError::io("create the log"))?;
        Self::to_writer(Box::new(file), options)
    }

    /// Writes to anything.
    pub fn to_writer(out: Box<dyn Write + Send>, options: &WriteOptions) -> Result<LogWriter> {
        let shared = Arc::new(Shared::default());
        let sink = Sink::new(out, shared.clone(), options.clone())?;
        let thread = without_signals(|| {
            std::thread::Builder::new()
                .name("scribe-log".into())
                .spawn(move || sink.run())
        })
        .map_err(LogError::io("start the thread that writes the log"))?;
        Ok(LogWriter {
            shared,
            thread: Some(thread),
        })
    }

    /// Lets `f` append whole records to what is pending of `stream`. What one call appends stays
    /// together in one chunk, and must not be longer than [`MAX_RECORD`] in all.
    #[inline]
    pub fn append<R>(&self, stream: u32, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut st = self.shared.lock();
        let i = match st.slots.binary_search_by_key(&stream, |s| s.0) {
            Ok(i) => i,
            Err(i) => {
                let buf = st.pool.pop().unwrap_or_default();
                st.slots.insert(i, (stream, buf));
                i
            }
        };
        let buf = &mut st.slots[i].1;
        let before = buf.len();
        let r = f(buf);
        let after = buf.len();
        if after < before || after - before > MAX_RECORD {
            self.reject(&mut st, i, before);
            return r;
        }
        let pending = self.shared.pending.load(Relaxed) + (after - before);
        self.shared.pending.store(pending, Relaxed);
        if st.idle {
            st.idle = false;
            self.shared.work.notify_one();
        }
        if pending > FLUSH_HARD {
            self.shared.flush(st);
        }
        r
    }

    #[cold]
    fn reject(&self, st: &mut State, slot: usize, before: usize) {
        let (stream, buf) = &mut st.slots[slot];
        buf.truncate(before);
        let what = "more than the longest record was appended at once";
        let _ = self.shared.error.set(LogError::Unwritable {
            stream: *stream,
            what,
        });
    }

    /// Hands all that is pending to the thread, as one chunk. Waits if the thread is far behind.
    pub fn flush(&self) {
        self.shared.flush(self.shared.lock());
    }

    /// [`LogWriter::flush`] if enough is pending to make a chunk worthwhile.
    #[inline]
    pub fn maybe_flush(&self) {
        if self.shared.pending.load(Relaxed) > FLUSH_AT {
            self.flush();
        }
    }

    /// Whether the thread has more to do than what it is just writing: what is not urgent can wait.
    pub fn is_behind(&self) -> bool {
        self.shared.lock().queue.len() > 1
    }

    /// The error that stopped the writing. From then on all that is appended is dropped; the file
    /// holds all chunks before.
    #[inline]
    pub fn error(&self) -> Option<&LogError> {
        self.shared.error.get()
    }

    /// Writes the rest and, if the log is long, an index.
    pub fn finish(mut self) -> Result<Stats> {
        self.close()
    }

    fn close(&mut self) -> Result<Stats> {
        let Some(thread) = self.thread.take() else {
            return Ok(Stats::default());
        };
        self.flush();
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        thread.join().unwrap_or_else(|_| {
            let e = io::Error::other("the thread that writes the log panicked");
            Err(self
                .error()
                .cloned()
                .unwrap_or_else(|| LogError::io("write the log")(e)))
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Without `finish`: what is pending is still worth writing. Nobody is there for an error.
        let _ = self.close();
    }
}

/// The thread's side.
struct Sink {
    out: Box<dyn Write + Send>,
    shared: Arc<Shared>,
    options: WriteOptions,
    stats: Stats,
    index: Vec<u8>,
    seq: u32,
    zstd: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl Sink {
    fn new(
        mut out: Box<dyn Write + Send>,
        shared: Arc<Shared>,
        options: WriteOptions,
    ) -> Result<Sink> {
        out.write_all(&chunk::file_header())
            .and_then(|()| out.flush())
            .map_err(LogError::io("write the log"))?;
        let stats = Stats {
            compressed_bytes: FILE_HEADER as u64,
            ..Stats::default()
        };
        let zstd =
            zstd::bulk::Compressor::new(options.level).map_err(LogError::io("compress the log"))?;
        let (raw, packed, index) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Sink {
            out,
            shared,
            options,
            stats,
            index,
            seq: 0,
            zstd,
            raw,
            packed,
        })
    }

    fn run(mut self) -> Result<Stats> {
        let _guard = Guard(self.shared.clone());
        while let Some(segments) = self.next() {
            if self.shared.error.get().is_none()
                && let Err(e) = self.write(&segments)
            {
                let _ = self.shared.error.set(e);
            }
            self.recycle(segments);
        }
        if let Some(e) = self.shared.error.get() {
            return Err(e.clone());
        }
        let index = std::mem::take(&mut self.index);
        if let Some(b) = index::seal(index, self.stats.compressed_bytes) {
            self.put(&b)?;
        }
        Ok(self.stats)
    }

    /// Waits for the next chunk. `None`: the writer was closed.
    fn next(&self) -> Option<Segments> {
        let sh = &*self.shared;
        let mut st = sh.lock();
        loop {
            if let Some(segments) = st.queue.pop_front() {
                st.queued -= size(&segments);
                sh.room.notify_all();
                return Some(segments);
            }
            if st.closed {
                return None;
            }
            if sh.pending.load(Relaxed) == 0 {
                st.idle = true;
                st = sh.work.wait(st).unwrap_or_else(PoisonError::into_inner);
                st.idle = false;
                continue;
            }
            let (guard, r) = sh
                .work
                .wait_timeout(st, self.options.tick)
                .unwrap_or_else(PoisonError::into_inner);
            st = guard;
            if r.timed_out() && st.queue.is_empty() {
                let segments = sh.take(&mut st);
                if !segments.is_empty() {
                    return Some(segments);
                }
            }
        }
    }

    fn recycle(&self, segments: Segments) {
        let mut st = self.shared.lock();
        for (_, mut buf) in segments {
            if st.pool.len() < POOL && buf.capacity() <= POOL_CAPACITY {
                buf.clear();
                st.pool.push(buf);
            }
        }
    }

    fn write(&mut self, segments: &Segments) -> Result<()> {
        self.raw.clear();
        let mut streams = 0;
        for (stream, buf) in segments {
            // A log that its own reader refuses would be worse than one that ends here.
            let n = record::count(buf).map_err(|e| LogError::Unwritable {
                stream: *stream,
                what: e.0,
            })?;
            self.stats.records += n;
            streams |= stream_bit(*stream);
            self.raw.extend_from_slice(&stream.to_le_bytes());
            self.raw
                .extend_from_slice(&(buf.len() as u32).to_le_bytes());
            self.raw.extend_from_slice(buf);
        }
        if self.raw.len() > MAX_CHUNK_RAW {
            return Err(LogError::Unwritable {
                stream: 0,
                what: "chunk too long",
            });
        }
        self.compress().map_err(LogError::io("compress the log"))?;
        let (codec, payload) = if self.packed.len() < self.raw.len() {
            (CODEC_ZSTD, &self.packed)
        } else {
            (CODEC_RAW, &self.raw)
        };
        let h = Header {
            kind: KIND_DATA,
            codec,
            seq: self.seq,
            raw_len: self.raw.len() as u32,
            stored_len: payload.len() as u32,
            streams,
            checksum: 0,
        };
        let mut b = h.seal(payload).to_vec();
        b.extend_from_slice(payload);
        self.put(&b)?;
        self.seq = self.seq.wrapping_add(1);
        self.stats.raw_bytes += self.raw.len() as u64;
        self.stats.chunks += 1;
        if !self.options.no_index && self.stats.chunks as usize <= index::MAX_CHUNKS + 1 {
            index::put_entry(&mut self.index, &h);
        }
        Ok(())
    }

    fn compress(&mut self) -> io::Result<()> {
        // Short recordings are to be small; long ones are not to wait for the compression.
        let level = match self.raw.len() {
            0..=0x3fff => 12,
            0x4000..=0x3_ffff => 5,
            _ => self.options.level,
        };
        let behind = self.shared.lock().queue.len() > QUEUE / 2;
        self.zstd
            .set_compression_level(if behind { level.min(1) } else { level })?;
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.zstd.compress_to_buffer(&self.raw, &mut self.packed)?;
        Ok(())
    }

    fn put(&mut self, b: &[u8]) -> Result<()> {
        self.out
            .write_all(b)
            .and_then(|()| self.out.flush())
            .map_err(LogError::io("write the log"))?;
        self.stats.compressed_bytes += b.len() as u64;
        Ok(())
    }
}

/// Keeps the engine from waiting for ever if the thread panics: the tasks that it traces would hang
/// with it.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let e = io::Error::other("the thread that writes the log panicked");
            let _ = self.0.error.set(LogError::io("write the log")(e));
            let _st = self.0.lock();
            self.0.room.notify_all();
        }
    }
}

fn create(path: &Path, force: bool) -> io::Result<File> {
    let special = |t: std::fs::FileType| t.is_fifo() || t.is_char_device() || t.is_socket();
    if std::fs::metadata(path).is_ok_and(|m| special(m.file_type())) {
        return OpenOptions::new().write(true).open(path);
    }
    if force {
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) {
            // `/dev/stdout`, for one, must not be replaced.
            return OpenOptions::new().write(true).truncate(true).open(path);
        }
        // A new file rather than an emptied one: somebody may be reading the old log.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // The umask may have taken away more.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Runs `f`, which starts a thread, with all signals blocked: the thread inherits that, so signals
/// for the process go to the threads that expect them.
pub fn without_signals<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: sigset_t is plain data, and both calls only use the sets given to them.
    let old = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    };
    let r = f();
    // SAFETY: as above; `old` was filled in by the first call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
    r
}
