//! A log written and read back.

use scribe_log::*;

#[test]
fn small_log() {
    let dir = std::env::temp_dir().join(format!("scribe-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("small.log");
    let w = LogWriter::create(
        &path,
        &WriteOptions {
            force: true,
            ..Default::default()
        },
    )
    .unwrap();
    w.append(META, |b| {
        begin_start(b)
            .version(b"0.1")
            .argv(["date", "-u"])
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
    let log = LogReader::open(&path).unwrap();
    assert!(log.is_complete());
    assert!(log.truncated().is_none());
    let start = log.start().unwrap().unwrap();
    assert!(
        start
            .sections
            .iter()
            .any(|s| matches!(s, Section::Argv(l) if l.iter().eq([&b"date"[..], b"-u"])))
    );
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
    std::fs::remove_dir_all(&dir).unwrap();
}
