//! Reads arbitrary bytes as a log. No input may make the reader panic, loop, or take memory beyond
//! its limits.
//!
//! The first byte says how the rest is wrapped, so that the fuzzer reaches the inner layers without
//! having to guess checksums: a file, a file without its header, a chunk, the records of a lane.
//!
//! Works with a stable compiler: `RUSTC_BOOTSTRAP=1 cargo fuzz run -s none parse_log`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scribe_log::{LogReader, META, Record};

fuzz_target!(|data: &[u8]| {
    let Some((&how, rest)) = data.split_first() else {
        return;
    };
    match how % 6 {
        0 => read(LogReader::from_bytes(rest.to_vec())),
        1 => read(LogReader::from_bytes_unchecked(rest.to_vec())),
        2 => read(LogReader::from_bytes_unchecked(
            [&FILE_HEADER, rest].concat(),
        )),
        3 => read(LogReader::from_bytes_unchecked(chunk(rest.to_vec()))),
        4 => {
            // The same records as global ones and as a lane.
            let cut = rest.len() / 2;
            let mut raw = Vec::new();
            for (stream, part) in [(META, &rest[..cut]), (1, rest)] {
                raw.extend_from_slice(&stream.to_le_bytes());
                raw.extend_from_slice(&(part.len() as u32).to_le_bytes());
                raw.extend_from_slice(part);
            }
            read(LogReader::from_bytes_unchecked(chunk(raw)));
        }
        _ => records(rest),
    }
});

const FILE_HEADER: [u8; 16] = *b"\x89SCRIBE\n\x01\0\0\0\0\0\0\0";

/// A file with one stored chunk.
fn chunk(raw: Vec<u8>) -> Vec<u8> {
    let len = (raw.len() as u32).to_le_bytes();
    let mut b = FILE_HEADER.to_vec();
    b.extend_from_slice(b"SCHK\x01\0\0\0\0\0\0\0");
    b.extend_from_slice(&len);
    b.extend_from_slice(&[0xff; 8]);
    b.extend_from_slice(&len);
    b.extend_from_slice(&[0; 12]);
    b.extend_from_slice(&raw);
    b
}

/// Reads all there is, in all ways there are.
fn read(log: scribe_log::Result<LogReader>) {
    let Ok(log) = log else { return };
    let _ = (log.start(), log.end(), log.truncated());
    let mut buf = [0; 100];
    for f in log.files().unwrap_or_default().iter().take(8) {
        let _ = log.read_file(f.id, f.size / 2, &mut buf);
    }
    let mut it = log.in_order();
    let mut places = Vec::new();
    while let Ok(Some((stream, place, record))) = it.next() {
        inspect(&record);
        if places.len() < 16 {
            places.push((stream, place));
        }
    }
    for (stream, place) in places {
        let mut lane = log.lane(stream);
        // Damage behind this place may have cut the log in the meantime, never before it.
        lane.seek(place).expect("a place that was read before");
        assert!(matches!(lane.next(), Ok(Some(_))));
        assert_eq!(lane.last_position(), Some(place));
    }
    let mut lane = log.lane(1);
    while let Ok(Some(_)) = lane.peek() {
        let _ = lane.next();
    }
    let _ = log.truncated();
}

fn records(mut b: &[u8]) {
    while let Ok((r, n)) = Record::decode(b) {
        assert!(n >= 8 && n <= b.len());
        inspect(&r);
        let mut again = Vec::new();
        r.encode(&mut again);
        let (r2, n2) = Record::decode(&again).expect("an encoded record");
        assert_eq!((&r2, n2), (&canonical(r), again.len()));
        b = &b[n..];
    }
}

/// What writing and reading is allowed to change.
fn canonical(mut r: Record<'_>) -> Record<'_> {
    if let Record::Signal(s) = &mut r {
        let n = s.info.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        s.info.to_mut().truncate(n);
    }
    r
}

fn inspect(r: &Record<'_>) {
    let sections = match r {
        Record::Syscall(s) => &s.sections,
        Record::Exec(s) | Record::Snapshot(s) => &s.sections,
        Record::Exit(s) => &s.sections,
        Record::Start(s) => &s.sections,
        Record::End(s) => &s.sections,
        Record::Signal(s) => {
            s.siginfo();
            return;
        }
        Record::Instr { values, .. } => {
            assert_eq!(values.iter().count(), values.len());
            return;
        }
        _ => return,
    };
    use scribe_log::Section;
    let mut n = 0;
    for s in sections {
        n += 1;
        match s {
            Section::Argv(l) | Section::Uname(l) => assert!(l.iter().count() <= 1 << 24),
            Section::Cpuid(t) => assert!(t.iter().count() <= 1 << 20),
            Section::Regs(r) => drop(r.values()),
            _ => {}
        }
    }
    assert_eq!(n == 0, sections.is_empty());
    assert_eq!(
        sections
            .iter()
            .collect::<scribe_log::Sections>()
            .iter()
            .count(),
        n
    );
}
