//! What is written is what is read.

mod common;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use scribe_log::*;

#[test]
fn small_log() {
    let dir = Dir::new("small");
    let path = dir.path("log");
    let w = LogWriter::create(&path, &options()).unwrap();
    w.append(META, |b| {
        begin_start(b)
            .version(b"0.1")
            .argv(["date", "-u", ""])
            .root(1, 10, 10, 1);
    });
    for i in 0..100 {
        w.append(1, |b| {
            begin_syscall(b, 1, i, 7, flags::STDOUT)
                .out(0x1000, b"hello")
                .serial(i as u64);
        });
    }
    w.append(META, |b| begin_end(b, 0, 100).finish());
    let stats = w.finish().unwrap();
    assert_eq!((stats.chunks, stats.records), (1, 102));
    assert_eq!(
        stats.compressed_bytes,
        std::fs::metadata(&path).unwrap().len()
    );

    let log = LogReader::open(&path).unwrap();
    assert!(log.is_complete());
    assert!(log.truncated().is_none());
    assert_eq!(log.end().unwrap().unwrap().events, 100);
    let start = log.start().unwrap().unwrap();
    let argv = start.sections.iter().find_map(|s| match s {
        Section::Argv(l) => Some(l.iter().collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(argv.unwrap(), [&b"date"[..], b"-u", b""]);
    let mut lane = log.lane(1);
    for i in 0..100 {
        let Some(Record::Syscall(s)) = lane.next().unwrap() else {
            panic!()
        };
        assert_eq!((s.nr, s.ret, s.in_hash, s.flags), (1, i, 7, flags::STDOUT));
        assert_eq!(s.sections.serial(), Some(i as u64));
        assert!(s.sections.outs().eq([(0x1000, &b"hello"[..])]));
    }
    assert!(lane.next().unwrap().is_none());
    assert!(log.lane(2).next().unwrap().is_none());
}

#[test]
fn builders_equal_records() {
    let sections = Sections::build(|w| {
        w.out(1, b"x").time(5);
    });
    let pairs: Vec<(Record<'_>, Vec<u8>)> = vec![
        (
            Record::Syscall(Syscall {
                nr: 3,
                flags: 4,
                ret: -5,
                in_hash: 6,
                sections: sections.clone(),
            }),
            built(|b| {
                begin_syscall(b, 3, -5, 6, 4).out(1, b"x").time(5);
            }),
        ),
        (
            Record::Exec(Exec {
                task: 1,
                tid: 2,
                pid: 3,
                sections: sections.clone(),
            }),
            built(|b| {
                begin_exec(b, 1, 2, 3).out(1, b"x").time(5);
            }),
        ),
        (
            Record::Snapshot(Exec {
                task: 1,
                tid: 2,
                pid: 3,
                sections: sections.clone(),
            }),
            built(|b| {
                begin_snapshot(b, 1, 2, 3).out(1, b"x").time(5);
            }),
        ),
        (
            Record::Exit(Exit {
                task: 1,
                status: 256,
                flags: 1,
                sections: sections.clone(),
            }),
            built(|b| {
                begin_exit(b, 1, 256, 1).out(1, b"x").time(5);
            }),
        ),
        (
            Record::Start(Start {
                sections: sections.clone(),
            }),
            built(|b| {
                begin_start(b).out(1, b"x").time(5);
            }),
        ),
        (
            Record::End(End {
                status: 9,
                events: 8,
                detached: false,
                sections,
            }),
            built(|b| {
                begin_end(b, 9, 8).out(1, b"x").time(5);
            }),
        ),
        (
            Record::Data {
                addr: 7,
                bytes: b"yz"[..].into(),
            },
            built(|b| put_data(b, 7, b"yz")),
        ),
        (
            Record::Instr {
                which: instr::CPUID,
                values: [1, 2, 3].into_iter().collect(),
            },
            built(|b| put_instr(b, instr::CPUID, &[1, 2, 3])),
        ),
        (
            Record::Switch {
                task: 2,
                flags: flags::PREV_IN_CALL,
            },
            built(|b| put_switch(b, 2, flags::PREV_IN_CALL)),
        ),
    ];
    for (record, bytes) in pairs {
        assert_eq!(built(|b| record.encode(b)), bytes, "{record:?}");
    }
}

fn built(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut b = Vec::new();
    f(&mut b);
    b
}

#[test]
fn long_data_is_split() {
    let bytes: Vec<u8> = (0..MAX_DATA * 2 + 5).map(|i| (i / 7) as u8).collect();
    let b = built(|b| put_data(b, 0x1000, &bytes));
    let (mut at, mut got) = (0, Vec::new());
    while at < b.len() {
        let (Record::Data { addr, bytes }, n) = Record::decode(&b[at..]).unwrap() else {
            panic!()
        };
        assert_eq!(addr, 0x1000 + got.len() as u64);
        got.extend_from_slice(&bytes);
        at += n;
    }
    assert_eq!(got, bytes);
}

/// The figure that the project promises: a recording of `date` takes no more than 4.2 KB. Here are
/// events of that size and number.
#[test]
fn short_recordings_are_small() {
    let bytes = log(|w| {
        let table: Vec<CpuidEntry> = (0..40)
            .map(|i: u32| {
                let v = i.wrapping_mul(0x9e37_79b9);
                CpuidEntry {
                    leaf: i,
                    eax: v,
                    ebx: v >> 3,
                    ..Default::default()
                }
            })
            .collect();
        w.append(META, |b| {
            begin_start(b)
                .version(b"0.1.0")
                .argv(["date"])
                .cwd(b"/root")
                .cpuid(&table);
            for i in 1..4 {
                let path = format!("/usr/lib/x86_64-linux-gnu/lib{i}.so")
                    .into_bytes()
                    .into();
                let blake3 = [i as u8 * 77; 32];
                Record::File(FileInfo {
                    id: i,
                    blake3,
                    path,
                    ..Default::default()
                })
                .encode(b);
            }
        });
        for i in 0..120u64 {
            w.append(1, |b| {
                let hash = (i as u32).wrapping_mul(0x9e37_79b9);
                begin_syscall(b, (i * 7 % 300) as u16, i as i64, hash, 0)
                    .out(0x7fff_0000_0000 + i * 48, &hash.to_le_bytes());
            });
        }
        w.append(META, |b| begin_end(b, 0, 120).finish());
    });
    assert!(bytes.len() < 4200, "{} bytes", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn records(records in vec(record(), 0..20)) {
        let mut b = Vec::new();
        for r in &records {
            r.encode(&mut b);
        }
        let mut at = 0;
        for r in &records {
            let (got, n) = Record::decode(&b[at..]).unwrap();
            prop_assert_eq!(&got, r);
            // A record that is cut off is an error, wherever it is cut.
            for cut in at..at + n {
                prop_assert!(Record::decode(&b[at..cut]).is_err());
            }
            at += n;
        }
        prop_assert_eq!(at, b.len());
    }

    #[test]
    fn section_values(s in sections()) {
        prop_assert_eq!(s.iter().collect::<Sections>(), s.clone());
        prop_assert_eq!(&Sections::parse(s.as_bytes()).unwrap(), &s);
    }

    #[test]
    fn decode_survives_anything(b in vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(&b);
        if let Ok(s) = Sections::parse(&b) {
            for s in &s {
                let _ = format!("{s:?}");
            }
        }
    }

    #[test]
    fn whole_logs(records in vec((0u32..5, record(), any::<bool>()), 0..40)) {
        let bytes = log(|w| {
            for (stream, r, flush) in &records {
                w.append(*stream * 1000, |b| r.encode(b));
                if *flush {
                    w.flush();
                }
            }
        });
        let log = LogReader::from_bytes(bytes).unwrap();
        for stream in 0..5 {
            let mut lane = log.lane(stream * 1000);
            for (_, want, _) in records.iter().filter(|r| r.0 == stream) {
                prop_assert!(lane.peek().unwrap().as_ref() == Some(want));
                prop_assert!(lane.next().unwrap().as_ref() == Some(want));
            }
            prop_assert!(lane.next().unwrap().is_none());
        }
        let (all, error) = read_all(&log);
        prop_assert!(error.is_none());
        prop_assert_eq!(all.len(), records.len());
    }
}
