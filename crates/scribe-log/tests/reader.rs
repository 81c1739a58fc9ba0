//! The reader: streams, growing files, places, files in the log, editing.

mod common;

use common::*;
use scribe_log::*;
use std::io::{Read, Write};

fn note(w: &LogWriter, stream: u32, text: &[u8]) {
    w.append(stream, |b| Record::Note { text: text.into() }.encode(b));
}

/// Gives a few bytes at a time.
struct Trickle(Vec<u8>, usize);

impl Read for Trickle {
    fn read(&mut self, b: &mut [u8]) -> std::io::Result<usize> {
        let n = b.len().min(7).min(self.0.len() - self.1);
        b[..n].copy_from_slice(&self.0[self.1..][..n]);
        self.1 += n;
        Ok(n)
    }
}

#[test]
fn from_a_stream() {
    let bytes = sample(20);
    let (want, _) = read_all(&LogReader::from_bytes(bytes.clone()).unwrap());
    let log = LogReader::from_stream(Box::new(Trickle(bytes.clone(), 0))).unwrap();
    assert_eq!(log.chunks(), 0);
    assert!(log.truncated().is_none() && !log.is_complete());
    assert!(log.start().unwrap().is_some());
    assert_eq!(log.chunks(), 1);
    assert!(log.file(5).unwrap().is_some());
    assert!(log.chunks() < 7);
    assert_eq!(read_all(&log).0, want);
    assert!(log.is_complete() && log.truncated().is_none());
    assert!(!log.refresh().unwrap());

    let cut = bytes.len() - 5;
    let log = LogReader::from_stream(Box::new(Trickle(bytes[..cut].to_vec(), 0))).unwrap();
    let (got, error) = read_all(&log);
    assert!(error.is_none() && !got.is_empty() && got[..] == want[..got.len()]);
    assert!(matches!(log.truncated(), Some(LogError::Truncated { .. })));
}

#[test]
fn two_threads_on_a_stream() {
    let bytes = sample(50);
    let log = LogReader::from_stream(Box::new(Trickle(bytes, 0))).unwrap();
    std::thread::scope(|s| {
        for lane in 1..3 {
            let mut lane = log.lane(lane);
            s.spawn(move || {
                let mut n = 0;
                while lane.next().unwrap().is_some() {
                    n += 1;
                }
                assert_eq!(n, 150);
                assert_eq!(lane.records_read(), 150);
            });
        }
    });
}

#[test]
fn through_a_pipe() {
    let dir = Dir::new("pipe");
    let path = dir.path("fifo");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: `name` is a C string that lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            let w = LogWriter::create(&path, &options()).unwrap();
            note(&w, 1, b"one");
            w.flush();
            note(&w, 1, b"two");
            w.append(META, |b| begin_end(b, 0, 2).finish());
            w.finish().unwrap();
        });
        let log = LogReader::open(&path).unwrap();
        assert_eq!(log.files().unwrap(), []);
        assert!(log.is_complete());
        assert_eq!(read_all(&log).0.len(), 3);
    });
}

#[test]
fn following_a_file_that_grows() {
    let dir = Dir::new("follow");
    let path = dir.path("log");
    let bytes = sample(5);
    let (want, _) = read_all(&LogReader::from_bytes(bytes.clone()).unwrap());
    let mut f = std::fs::File::create(&path).unwrap();
    f.write_all(&bytes[..16]).unwrap();
    let log = LogReader::open(&path).unwrap();
    assert!(log.is_empty());
    let mut it = log.in_order();
    let mut lane = log.lane(1);
    let (mut got, mut in_lane) = (Vec::new(), 0);
    for piece in bytes[16..].chunks(33) {
        f.write_all(piece).unwrap();
        log.refresh().unwrap();
        while let Some((s, p, r)) = it.next().unwrap() {
            got.push((s, p, r.into_owned()));
        }
        while lane.next().unwrap().is_some() {
            in_lane += 1;
        }
    }
    assert_eq!(got, want);
    assert_eq!(in_lane, 15);
    assert!(log.is_complete() && log.truncated().is_none());
    assert_eq!(log.files().unwrap().len(), 5);
}

#[test]
fn places() {
    let log = LogReader::from_bytes(sample(10)).unwrap();
    let mut lane = log.lane(2);
    let mut seen = Vec::new();
    loop {
        let at = lane.position();
        let copy = lane.clone();
        let Some(r) = lane.next().unwrap().map(Record::into_owned) else {
            break;
        };
        seen.push((at, lane.last_position().unwrap(), copy, r));
    }
    assert_eq!(seen.len(), 30);
    assert!(seen.windows(2).all(|w| w[0].1 < w[1].1));
    for (at, exact, mut copy, r) in seen.into_iter().rev() {
        assert_eq!(copy.next().unwrap().unwrap(), r);
        for at in [at, exact] {
            lane.seek(at).unwrap();
            assert_eq!(lane.peek().unwrap().unwrap(), r);
            assert_eq!(lane.next().unwrap().unwrap(), r);
            assert_eq!(lane.last_position(), Some(exact));
        }
        assert_eq!(log.lane(2).seek(exact).ok(), Some(()));
        let wrong = Position {
            offset: exact.offset + 1,
            ..exact
        };
        assert!(matches!(
            lane.seek(wrong),
            Err(LogError::NoSuchPosition { .. })
        ));
        let wrong = Position {
            chunk: exact.chunk + 1,
            ..exact
        };
        assert!(matches!(
            lane.seek(wrong),
            Err(LogError::NoSuchPosition { .. })
        ));
        assert!(log.lane(7).seek(exact).is_err());
    }
}

#[test]
fn files_in_the_log() {
    let content: Vec<u8> = (0..700_000u32).map(|i| (i / 3) as u8).collect();
    let piece = 256 << 10;
    let bytes = log(|w| {
        for id in [7, 9] {
            w.append(META, |b| {
                let path = b"/bin/x"[..].into();
                let flags = if id == 7 { file_flags::COPIED } else { 0 };
                Record::File(FileInfo {
                    id,
                    flags,
                    path,
                    ..Default::default()
                })
                .encode(b)
            });
        }
        for (i, p) in content.chunks(piece).enumerate() {
            w.append(META, |b| {
                let offset = (i * piece) as u64;
                Record::Blob {
                    file: 7,
                    offset,
                    bytes: p.into(),
                }
                .encode(b)
            });
            w.flush();
        }
    });
    let log = LogReader::from_bytes(bytes).unwrap();
    let mut got = Vec::new();
    let mut buf = vec![0; 100_000];
    loop {
        let n = log.read_file(7, got.len() as u64, &mut buf).unwrap();
        if n == 0 {
            break;
        }
        got.extend_from_slice(&buf[..n]);
    }
    assert_eq!(got, content);
    assert_eq!(log.read_file(9, 0, &mut buf).unwrap(), 0);
    assert_eq!(log.read_file(8, 0, &mut buf).unwrap(), 0);
    assert_eq!(log.file(7).unwrap().unwrap().flags, file_flags::COPIED);
    assert!(log.file(8).unwrap().is_none());
    assert_eq!(
        log.files()
            .unwrap()
            .iter()
            .map(|f| f.id)
            .collect::<Vec<_>>(),
        [7, 9]
    );
}

#[test]
fn editing_and_comparing() {
    let a = LogReader::from_bytes(sample(6)).unwrap();
    let same = LogReader::from_bytes(log(|w| edit::map(&a, w, |_, r| Some(r)).unwrap())).unwrap();
    assert_eq!(edit::diff(&a, &same).unwrap(), []);
    assert_eq!(
        edit::streams(&same)
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );

    // Another result in lane 1, one record less in lane 2.
    let mut n = 0;
    let b = log(|w| {
        edit::map(&a, w, |stream, mut r| {
            if let (1, Record::Syscall(s)) = (stream, &mut r) {
                n += 1;
                if n == 4 {
                    s.ret = -1;
                }
            }
            match r {
                Record::Instr { ref values, .. } if stream == 2 && values.get(0) == Some(5000) => {
                    None
                }
                r => Some(r),
            }
        })
        .unwrap();
    });
    let b = LogReader::from_bytes(b).unwrap();
    let d = edit::diff(&a, &b).unwrap();
    assert_eq!(
        d.iter().map(|d| (d.stream, d.index)).collect::<Vec<_>>(),
        [(1, 11), (2, 16)]
    );
    let rets: Vec<i64> = [&d[0].a, &d[0].b]
        .iter()
        .map(|r| match r {
            Some((_, Record::Syscall(s))) => s.ret,
            r => panic!("{r:?}"),
        })
        .collect();
    assert_eq!(rets, [5, -1]);

    // A log that is the beginning of another.
    let short = log(|w| {
        edit::copy(&a, w, |stream, place, r, out| {
            if place.chunk < a.len() / 2 {
                out.record(stream, &r);
            }
        })
        .unwrap();
    });
    let d = edit::diff(&a, &LogReader::from_bytes(short).unwrap()).unwrap();
    assert_eq!(d.len(), 3);
    assert!(d.iter().all(|d| d.a.is_some() && d.b.is_none()));
}

#[test]
fn batches_are_the_same_records() {
    let log = LogReader::from_stream(Box::new(Trickle(sample(20), 0))).unwrap();
    for max in [0, 1, 100, 1000, 1 << 20] {
        let (mut one, mut many) = (log.lane(1), log.lane(1));
        let (mut want, mut got) = (Vec::new(), Vec::new());
        while let Some(bytes) = one.next_raw().unwrap() {
            want.extend_from_slice(bytes);
        }
        loop {
            match many.next_batch(max).unwrap() {
                None => break,
                Some([]) => got.extend_from_slice(many.next_raw().unwrap().unwrap()),
                Some(bytes) => {
                    assert!(bytes.len() <= max);
                    got.extend_from_slice(bytes);
                }
            }
        }
        assert!(!want.is_empty() && want == got, "{max}");
        assert_eq!(one.records_read(), many.records_read());
        assert_eq!(one.last_position(), many.last_position());
    }
}
