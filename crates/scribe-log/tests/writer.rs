//! The writer: errors, back-pressure, time, files.

mod common;

use common::*;
use scribe_log::*;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

fn note(w: &LogWriter, stream: u32, text: &[u8]) {
    w.append(stream, |b| Record::Note { text: text.into() }.encode(b));
}

fn wait_until(mut f: impl FnMut() -> bool) {
    let t = Instant::now();
    while !f() {
        assert!(t.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn pending_records_are_written_after_a_while() {
    let m = Memory::default();
    let options = WriteOptions {
        tick: Duration::from_millis(30),
        ..Default::default()
    };
    let w = LogWriter::to_writer(Box::new(m.clone()), &options).unwrap();
    for i in 0..3 {
        note(&w, 1, b"hello");
        // The thread has gone to sleep in between.
        wait_until(|| LogReader::from_bytes(m.bytes()).unwrap().chunks() == i + 1);
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(w);
    assert_eq!(LogReader::from_bytes(m.bytes()).unwrap().chunks(), 3);
}

#[test]
fn dropped_without_finish() {
    let m = Memory::default();
    let w = LogWriter::to_writer(Box::new(m.clone()), &options()).unwrap();
    note(&w, 1, b"hello");
    drop(w);
    let log = LogReader::from_bytes(m.bytes()).unwrap();
    assert_eq!(read_all(&log).0.len(), 1);
    assert!(matches!(log.truncated(), Some(LogError::NoEnd { .. })));
}

#[test]
fn full_disk() {
    let w = LogWriter::create("/dev/full", &options());
    let e = match w {
        // The header is written at once.
        Err(e) => e,
        Ok(w) => w.finish().unwrap_err(),
    };
    assert_eq!(e.raw_os_error(), Some(libc::ENOSPC), "{e}");
}

/// Takes so many bytes, then fails.
struct Limited(usize, i32);

impl Write for Limited {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        let n = b.len().min(self.0);
        self.0 -= n;
        if n == 0 {
            Err(io::Error::from_raw_os_error(self.1))
        } else {
            Ok(n)
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_stick_and_do_not_block() {
    for errno in [libc::ENOSPC, libc::EPIPE] {
        let w = LogWriter::to_writer(Box::new(Limited(100, errno)), &options()).unwrap();
        assert!(w.error().is_none());
        for i in 0..200u32 {
            let noise: Vec<u8> = (0..100_000u32)
                .map(|k| ((k ^ i).wrapping_mul(0x9e37_79b1) >> 13) as u8)
                .collect();
            note(&w, i % 3, &noise);
            w.maybe_flush();
        }
        w.flush();
        wait_until(|| w.error().is_some());
        assert_eq!(w.error().unwrap().raw_os_error(), Some(errno));
        note(&w, 1, b"after");
        w.flush();
        assert_eq!(w.finish().unwrap_err().raw_os_error(), Some(errno));
    }
}

#[test]
fn unwritable_records() {
    type Append = fn(&mut Vec<u8>);
    let cases: [Append; 5] = [
        |b| {
            Record::Note {
                text: vec![0; MAX_RECORD].into(),
            }
            .encode(b)
        },
        |b| {
            begin_syscall(b, 0, 0, 0, 0).out(0, &vec![0; MAX_SECTION + 10]);
        },
        |b| b.extend_from_slice(b"no record"),
        |b| b.resize(MAX_RECORD * 2, 0),
        |b| b.clear(),
    ];
    for f in cases {
        let m = Memory::default();
        let w = LogWriter::to_writer(Box::new(m.clone()), &options()).unwrap();
        note(&w, 3, b"before");
        w.flush();
        note(&w, 3, b"together with it");
        w.append(3, f);
        w.flush();
        wait_until(|| w.error().is_some());
        let e = w.finish().unwrap_err();
        assert!(matches!(e, LogError::Unwritable { stream: 3, .. }), "{e}");
        // What was written before is a log.
        let log = LogReader::from_bytes(m.bytes()).unwrap();
        let (records, error) = read_all(&log);
        assert!(error.is_none() && records.len() <= 1);
    }
    // The longest that may be written.
    let text = vec![7; MAX_RECORD - 8];
    let bytes = log(|w| note(w, 1, &text));
    let (all, _) = read_all(&LogReader::from_bytes(bytes).unwrap());
    assert!(matches!(&all[..], [(1, _, Record::Note { text: t })] if **t == text));
}

/// Writes when told to.
struct Gate(Receiver<()>);

impl Write for Gate {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(b.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_sink_makes_the_engine_wait() {
    let (open, gate) = channel();
    open.send(()).unwrap();
    let w = LogWriter::to_writer(Box::new(Gate(gate)), &options()).unwrap();
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..50 {
                note(&w, 1, &vec![1; 1 << 20]);
                w.maybe_flush();
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        let n = done.load(std::sync::atomic::Ordering::SeqCst);
        assert!(
            (1..16).contains(&n),
            "{n} MiB accepted by a writer that cannot write"
        );
        drop(open);
    });
    assert_eq!(w.finish().unwrap().records, 50);
}

#[test]
fn files() {
    let dir = Dir::new("files");
    let path = dir.path("log");
    LogWriter::create(&path, &options())
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let e = LogWriter::create(&path, &options()).err().unwrap();
    assert_eq!(e.raw_os_error(), Some(libc::EEXIST));

    // Who is reading the old log goes on reading the old log.
    let old = LogReader::open(&path).unwrap();
    let force = WriteOptions {
        force: true,
        ..options()
    };
    let w = LogWriter::create(&path, &force).unwrap();
    note(&w, 1, b"new");
    w.finish().unwrap();
    assert!(!old.refresh().unwrap());
    assert_eq!(LogReader::open(&path).unwrap().chunks(), 1);

    let link = dir.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(LogWriter::create(&link, &options()).is_err());
    LogWriter::create(&link, &force).unwrap().finish().unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(LogReader::open(&path).unwrap().chunks(), 0);

    let w = LogWriter::create("/dev/null", &force).unwrap();
    note(&w, 1, b"gone");
    w.finish().unwrap();
    assert!(
        std::fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn index() {
    let many = |options: &WriteOptions| {
        let m = Memory::default();
        let w = LogWriter::to_writer(Box::new(m.clone()), options).unwrap();
        for i in 0..200u32 {
            note(&w, i % 70, &i.to_le_bytes());
            w.flush();
        }
        w.append(META, |b| begin_end(b, 0, 0).finish());
        let stats = w.finish().unwrap();
        assert_eq!(stats.chunks, 201);
        assert_eq!(stats.compressed_bytes, m.bytes().len() as u64);
        m.bytes()
    };
    let with = many(&options());
    let without = many(&WriteOptions {
        no_index: true,
        ..options()
    });
    assert!(with.len() > without.len() && with[..without.len()] == without);
    let plain = LogReader::from_bytes(without.clone()).unwrap();
    let (want, _) = read_all(&plain);
    assert_eq!(want.len(), 201);
    let indexed = LogReader::from_bytes(with.clone()).unwrap();
    assert_eq!(read_all(&indexed).0, want);
    assert_eq!(indexed.len(), with.len() as u64);
    assert!(indexed.is_complete() && !indexed.refresh().unwrap());
    assert!(edit::diff(&plain, &indexed).unwrap().is_empty());

    // Cut anywhere in the index, or with a bit of it flipped, the log is what it is without.
    let index = without.len();
    for at in (index..with.len()).step_by(3) {
        let mut bad = with.clone();
        bad[at] ^= 4;
        for b in [bad, with[..at].to_vec()] {
            let log = LogReader::from_bytes(b.clone()).unwrap();
            assert!(log.truncated().is_none(), "{at}");
            assert_eq!(log.chunks(), 201);
            // Nor does it harm without checksums.
            if at % 7 == 0 {
                read_all(&LogReader::from_bytes_unchecked(b).unwrap());
            }
        }
    }
}

#[test]
fn many_streams() {
    let bytes = log(|w| {
        for i in (0..20_000u32).rev() {
            note(w, i * 3, &i.to_le_bytes());
            w.maybe_flush();
        }
    });
    let log = LogReader::from_bytes(bytes).unwrap();
    for i in (0..20_000u32).step_by(997) {
        let mut lane = log.lane(i * 3);
        assert!(matches!(lane.next(), Ok(Some(Record::Note { text })) if *text == i.to_le_bytes()));
        assert!(lane.next().unwrap().is_none());
        assert!(log.lane(i * 3 + 1).next().unwrap().is_none());
    }
}
