//! What a snapshot holds of memory, on its way into a stream of the log.

use scribe_abi::PAGE;
use scribe_log::{LogWriter, Record};
use scribe_tracee::Mem;
use scribe_tracee::maps::Mapping;
use scribe_tracee::pagemap::{Page, Pagemap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Most memory in one record (the format's limit for a Blob).
const PIECE: u64 = 256 << 10;

/// Takes pieces of memory, by address.
pub(super) trait Sink {
    /// All of these bytes.
    fn put(&mut self, addr: u64, bytes: &[u8]);

    /// Memory that is zero where nothing is told of it.
    fn put_nonzero(&mut self, addr: u64, bytes: &[u8]) {
        let zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
        let mut from = 0;
        for (i, page) in bytes.chunks(PAGE as usize).enumerate() {
            let at = i * PAGE as usize;
            if zero(page) {
                self.put(addr + from as u64, &bytes[from..at]);
                from = at + page.len();
            }
        }
        self.put(addr + from as u64, &bytes[from..]);
    }

    /// What a file holds where it is mapped; holes are left out.
    fn put_file(&mut self, file: &File, map: &Mapping) {
        let mut buf = vec![0; PIECE as usize];
        let mut done = 0;
        while done < map.size() {
            let at = map.offset + done;
            let data = scribe_objects::take::next_data(file, at) & !(PAGE - 1);
            done = done.max(data.saturating_sub(map.offset));
            let want = PIECE.min(map.size().saturating_sub(done)) as usize;
            match file.read_at(&mut buf[..want], map.offset + done) {
                Ok(0) | Err(_) => return,
                Ok(got) => {
                    self.put_nonzero(map.start + done, &buf[..got]);
                    done += got as u64;
                }
            }
        }
    }

    /// All pages of a mapping.
    fn put_whole(&mut self, mem: &Mem, map: &Mapping) {
        let mut runs = Runs::new(mem, false);
        for page in (map.start..map.end).step_by(PAGE as usize) {
            runs.add(page, self);
        }
        runs.end(self);
    }

    /// The pages of a mapping that are the process's own; `of_file`: a file is behind it, so zeros count. False: not all of
    /// them could be read.
    fn put_own(&mut self, mem: &Mem, pages: &Pagemap, range: Range<u64>, of_file: bool) -> bool {
        let mut runs = Runs::new(mem, of_file);
        pages.for_each(range.start, range.end, |addr, page| {
            if page == Page::Private {
                runs.add(addr, self);
            }
        });
        runs.end(self)
    }
}

/// Pages side by side are read at once.
struct Runs<'m> {
    mem: &'m Mem,
    of_file: bool,
    run: Range<u64>,
    buf: Vec<u8>,
    whole: bool,
}

impl<'m> Runs<'m> {
    fn new(mem: &'m Mem, of_file: bool) -> Runs<'m> {
        Runs {
            mem,
            of_file,
            run: 0..0,
            buf: vec![0; PIECE as usize],
            whole: true,
        }
    }

    fn add<S: Sink + ?Sized>(&mut self, page: u64, sink: &mut S) {
        if page != self.run.end || self.run.end - self.run.start >= PIECE {
            self.end(sink);
            self.run.start = page;
        }
        self.run.end = page + PAGE;
    }

    /// Puts what was found last; whether all could be read.
    fn end<S: Sink + ?Sized>(&mut self, sink: &mut S) -> bool {
        let len = (self.run.end - self.run.start) as usize;
        let got = self.mem.read_some(self.run.start, &mut self.buf[..len]);
        self.whole &= got == len;
        match self.of_file {
            true => sink.put(self.run.start, &self.buf[..got]),
            false => sink.put_nonzero(self.run.start, &self.buf[..got]),
        }
        self.run = self.run.end..self.run.end;
        self.whole
    }
}

/// The stream of the log that holds the memory.
pub(super) struct Stream<'l> {
    pub log: &'l LogWriter,
    pub number: u32,
}

impl Stream<'_> {
    fn append(&self, offset: u64, bytes: &[u8]) {
        self.log.append(self.number, |buf| {
            Record::Blob {
                file: 0,
                offset,
                bytes: bytes.into(),
            }
            .encode(buf);
        });
        self.log.maybe_flush();
    }

    /// Says that this is all.
    pub fn end(self) {
        self.append(0, &[]);
    }
}

impl Sink for Stream<'_> {
    fn put(&mut self, addr: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.append(addr, bytes);
        }
    }
}

/// Memory that was copied while the program stood still.
#[derive(Default)]
pub(super) struct Held {
    pieces: Vec<(u64, Vec<u8>)>,
    size: usize,
}

impl Held {
    /// How much it is.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives it to a stream.
    pub fn put_into(&mut self, sink: &mut impl Sink) {
        self.size = 0;
        for (addr, bytes) in self.pieces.drain(..) {
            sink.put(addr, &bytes);
        }
    }
}

impl Sink for Held {
    fn put(&mut self, addr: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.size += bytes.len();
            self.pieces.push((addr, bytes.to_vec()));
        }
    }
}
