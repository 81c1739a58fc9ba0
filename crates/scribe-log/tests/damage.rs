//! Logs that are cut off, damaged, or forged.

mod common;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use scribe_log::*;

/// Where each chunk of a log ends.
fn chunk_ends(bytes: &[u8]) -> Vec<usize> {
    let mut at = 16;
    let mut ends = Vec::new();
    while at < bytes.len() {
        at += 40 + u32::from_le_bytes(bytes[at + 24..at + 28].try_into().unwrap()) as usize;
        ends.push(at);
    }
    ends
}

#[test]
fn cut_at_every_byte() {
    let bytes = sample(4);
    let ends = chunk_ends(&bytes);
    assert_eq!(ends.len(), 4);
    let (whole, error) = read_all(&LogReader::from_bytes(bytes.clone()).unwrap());
    assert!(error.is_none());
    for cut in 0..bytes.len() {
        let log = match LogReader::from_bytes(bytes[..cut].to_vec()) {
            Ok(log) => log,
            Err(LogError::NotALog) if cut == 0 => continue,
            Err(LogError::Truncated {
                offset: 0, have, ..
            }) if cut < 16 => {
                assert_eq!(have, cut as u64);
                continue;
            }
            Err(e) => panic!("{cut}: {e}"),
        };
        let good = ends
            .iter()
            .take_while(|e| **e <= cut)
            .copied()
            .last()
            .unwrap_or(16);
        let (got, error) = read_all(&log);
        assert!(error.is_none());
        let want = whole.iter().take_while(|r| r.1.chunk < good as u64).count();
        assert_eq!(got, whole[..want], "{cut}");
        assert_eq!(log.len(), good as u64);
        assert!(!log.is_complete());
        match log.truncated() {
            Some(LogError::NoEnd { offset }) if cut == good => assert_eq!(offset, good as u64),
            Some(LogError::Truncated { offset, have, need }) => {
                assert_eq!((offset, have), (good as u64, (cut - good) as u64));
                assert!(need > have);
            }
            e => panic!("{cut}: {e:?}"),
        }
        assert_eq!(log.start().unwrap().is_some(), good > 16);
    }
}

#[test]
fn every_bit_flipped() {
    let bytes = sample(3);
    let (whole, _) = read_all(&LogReader::from_bytes(bytes.clone()).unwrap());
    let ends = chunk_ends(&bytes);
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // No checksum: only that nothing panics.
        if let Ok(log) = LogReader::from_bytes_unchecked(bad.clone()) {
            read_all(&log);
            let _ = (log.files(), log.truncated(), log.start());
        }
        let log = match LogReader::from_bytes(bad) {
            Ok(log) => log,
            Err(_) => {
                assert!(bit / 8 < 16);
                continue;
            }
        };
        let (got, error) = read_all(&log);
        assert_eq!(got, whole[..got.len()], "{bit}");
        if (10 * 8..12 * 8).contains(&bit) {
            assert!(
                log.truncated().is_none(),
                "another minor version is no damage"
            );
            continue;
        }
        // The damage is reported, with its place, and all chunks before are there.
        let begin = ends.iter().copied().rfind(|e| *e <= bit / 8).unwrap_or(16) as u64;
        let offset = match log.truncated() {
            Some(LogError::Damaged { offset, .. } | LogError::Truncated { offset, .. }) => offset,
            e => panic!("{bit}: {e:?} {error:?}"),
        };
        assert_eq!(offset, begin, "{bit}");
        let want = whole.iter().take_while(|r| r.1.chunk < begin).count();
        assert_eq!(got.len(), want, "{bit}");
    }
}

#[test]
fn damage_in_the_middle_stops_all_lanes() {
    let bytes = sample(3);
    let ends = chunk_ends(&bytes);
    let mut bad = bytes.clone();
    bad[ends[1] - 1] ^= 1;
    let log = LogReader::from_bytes(bad).unwrap();
    assert_eq!(log.chunks(), 3);
    let mut lane = log.lane(1);
    for _ in 0..3 {
        assert!(lane.next().unwrap().is_some());
    }
    let e = lane.next().unwrap_err();
    assert!(
        matches!(e, LogError::Damaged { offset, .. } if offset == ends[0] as u64),
        "{e}"
    );
    assert!(lane.next().unwrap().is_none());
    let mut lane = log.lane(2);
    for _ in 0..3 {
        assert!(lane.next().unwrap().is_some());
    }
    assert!(lane.next().unwrap().is_none());
    assert!(!log.refresh().unwrap());
    assert!(matches!(log.truncated(), Some(LogError::Damaged { .. })));
}

#[test]
fn missing_and_doubled_chunks() {
    let bytes = sample(3);
    let ends = chunk_ends(&bytes);
    let mut missing = bytes.clone();
    missing.drain(ends[0]..ends[1]);
    let mut doubled = bytes.clone();
    doubled.splice(ends[0]..ends[0], bytes[16..ends[0]].to_vec());
    for bad in [missing, doubled] {
        let log = LogReader::from_bytes(bad).unwrap();
        assert_eq!(log.chunks(), 1);
        assert!(
            matches!(log.truncated(), Some(LogError::Damaged { offset, .. })
                if offset == ends[0] as u64)
        );
    }
}

#[test]
fn not_a_log() {
    for b in [
        &b""[..],
        b"hello, world, this is text",
        b"\x89SCRIBA\n0000000000000000",
    ] {
        assert!(matches!(
            LogReader::from_bytes(b.to_vec()),
            Err(LogError::NotALog)
        ));
    }
    let mut newer = sample(1);
    newer[8] = 2;
    let e = LogReader::from_bytes(newer).err().unwrap();
    assert!(matches!(e, LogError::Version { major: 2, minor: 1 }), "{e}");
    let mut needs = sample(1);
    needs[12] = 1;
    assert!(matches!(
        LogReader::from_bytes(needs),
        Err(LogError::Version { .. })
    ));
    assert!(matches!(
        LogReader::open("/nonexistent"),
        Err(LogError::Io { .. })
    ));
    assert!(matches!(LogReader::open("/tmp"), Err(LogError::Io { .. })));
}

#[test]
fn zeros_at_the_end() {
    let mut bytes = sample(2);
    let end = chunk_ends(&bytes)[1];
    // After the end record: nobody cares.
    bytes.extend_from_slice(&[0; 5000]);
    let log = LogReader::from_bytes(bytes.clone()).unwrap();
    assert!(log.is_complete() && log.truncated().is_none());
    // In place of the end of the last chunk: as after a power failure.
    bytes[end - 10..end].fill(0);
    let log = LogReader::from_bytes(bytes).unwrap();
    assert_eq!(log.chunks(), 1);
    assert!(matches!(log.truncated(), Some(LogError::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// A chunk with any content, well sealed: only its records are nonsense.
    #[test]
    fn forged_content(raw in vec(any::<u8>(), 0..400), streams in any::<u64>()) {
        let mut b = sample(1)[..16].to_vec();
        b.extend_from_slice(b"SCHK\x01\0\0\0\0\0\0\0");
        b.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        b.extend_from_slice(&streams.to_le_bytes());
        b.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        b.extend_from_slice(&[0; 12]);
        b.extend_from_slice(&raw);
        let log = LogReader::from_bytes_unchecked(b).unwrap();
        read_all(&log);
        let _ = (log.start(), log.files(), log.end(), log.truncated());
    }
}

/// What the fuzzer has found so far, for those who have no fuzzer.
#[test]
fn the_corpus_of_the_fuzzer() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/parse_log");
    let header = &sample(1)[..16];
    let mut n = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let b = std::fs::read(entry.unwrap().path()).unwrap();
        let Some(b) = b.get(1..) else { continue };
        for b in [b.to_vec(), [header, b].concat()] {
            if let Ok(log) = LogReader::from_bytes_unchecked(b) {
                read_all(&log);
                let _ = (log.files(), log.start(), log.end(), log.truncated());
            }
        }
        let mut records = b;
        while let Ok((_, len)) = Record::decode(records) {
            records = &records[len..];
        }
        n += 1;
    }
    assert!(n > 100);
}
