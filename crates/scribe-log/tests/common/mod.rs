//! What the tests share.
#![allow(dead_code)]

use proptest::collection::vec;
use proptest::prelude::*;
use scribe_log::*;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A directory that is gone when the test ends.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("scribe-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A sink in memory that can be looked at while it is written to.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(b)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn options() -> WriteOptions {
    // No chunk that the test did not ask for.
    WriteOptions {
        tick: std::time::Duration::from_secs(3600),
        ..Default::default()
    }
}

/// Writes a log to memory.
pub fn log(f: impl FnOnce(&LogWriter)) -> Vec<u8> {
    let m = Memory::default();
    let w = LogWriter::to_writer(Box::new(m.clone()), &options()).unwrap();
    f(&w);
    w.finish().unwrap();
    m.bytes()
}

/// All records in the order of the file, and how it ended.
pub fn read_all(log: &LogReader) -> (Vec<(u32, Position, Record<'static>)>, Option<LogError>) {
    let mut it = log.in_order();
    let mut all = Vec::new();
    loop {
        match it.next() {
            Ok(Some((s, p, r))) => all.push((s, p, r.into_owned())),
            Ok(None) => return (all, None),
            Err(e) => return (all, Some(e)),
        }
    }
}

/// A log with `chunks` chunks, some records in each, in three streams.
pub fn sample(chunks: u32) -> Vec<u8> {
    log(|w| {
        w.append(META, |b| {
            begin_start(b)
                .version(b"scribe 0.1.0")
                .argv(["date", "-u"])
                .cwd(b"/tmp")
                .root(1, 100, 100, 1);
        });
        for i in 0..chunks {
            w.append(META, |b| {
                let path = format!("/usr/lib/{i}").into_bytes().into();
                Record::File(FileInfo {
                    id: i + 1,
                    size: 10,
                    path,
                    ..Default::default()
                })
                .encode(b);
                let bytes = format!("content {i:02}").into_bytes().into();
                Record::Blob {
                    file: i + 1,
                    offset: 0,
                    bytes,
                }
                .encode(b);
            });
            for lane in 1..3 {
                w.append(lane, |b| {
                    put_switch(b, lane * 10, 0);
                    put_instr(b, instr::RDTSC, &[u64::from(i) * 1000]);
                    begin_syscall(b, 0, 5, i, 0)
                        .out(0x1000, b"hello")
                        .serial(u64::from(i));
                });
            }
            if i + 1 == chunks {
                w.append(META, |b| begin_end(b, 0, u64::from(chunks) * 2).finish());
            }
            w.flush();
        }
    })
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

pub fn sections() -> impl Strategy<Value = Sections<'static>> {
    vec((0u8..29, any::<[u64; 6]>(), bytes(40)), 0..5).prop_map(|list| {
        Sections::build(|w| {
            for (what, v, b) in &list {
                one_section(w, *what, v, b);
            }
        })
    })
}

fn one_section(w: &mut SectionWriter<'_>, what: u8, v: &[u64; 6], b: &[u8]) {
    let [a, b4, c, d, e, f] = v.map(|v| v as u32);
    let (x, y) = (a as i32, b4 as i32);
    match what {
        0 => w.out(v[0], b),
        1 => w.args(v),
        2 => w.input(v[0], v[1], b),
        3 => w.serial(v[0]),
        4 => w.time(v[0]),
        5 => w.regs(&std::array::from_fn(|i| v[i % 6])),
        6 => w.spawn(&Spawn {
            task: c,
            tid: x,
            pid: y,
            lane: d,
            flags: e,
        }),
        7 => w.map(&MapInfo {
            file: a,
            offset: v[4],
            len: v[5],
            prot: b4,
            flags: c,
        }),
        8 => w.desc(x, b),
        9 => w.exec_map(&ExecMap {
            start: v[4],
            end: v[5],
            prot: a,
            flags: b4,
            file: c,
            kind: d,
            offset: v[1],
            name: b,
        }),
        10 => w.zero(v[0], v[1]),
        11 => w.brk(v[0]),
        12 => w.comm(b),
        13 => w.lane(a),
        14 => w.auxv(b),
        15 => w.version(b),
        16 => w.argv(b.split(|b| *b < 64)),
        17 => w.cwd(b),
        18 => w.uname(b.split(|b| *b > 200)),
        19 => w.realtime(v[0] as i64),
        20 => w.flags(v[0]),
        21 => w.level(a),
        22 => w.cpuid(&vec![
            CpuidEntry {
                leaf: a,
                subleaf: b4,
                eax: c,
                ebx: d,
                ecx: e,
                edx: f
            };
            b.len() % 4
        ]),
        23 => w.stdio(x, b4, b),
        24 => w.root(a, y, x, d),
        25 => w.xstate(b),
        26 => w.mask(v[1]),
        27 => w.section(&Section::Unknown { tag: 200, bytes: b }),
        _ => w.section(&Section::Comm(b)),
    };
}

pub fn record() -> impl Strategy<Value = Record<'static>> {
    let file = (
        any::<[u32; 4]>(),
        any::<[u64; 4]>(),
        any::<[u8; 32]>(),
        bytes(40),
    )
        .prop_map(|(a, b, blake3, path)| {
            Record::File(FileInfo {
                id: a[0],
                flags: a[1],
                size: b[0],
                mtime_s: b[1] as i64,
                mtime_ns: a[2],
                mode: a[3],
                dev: b[2],
                ino: b[3],
                blake3,
                path: path.into(),
            })
        });
    let signal = (any::<u16>(), any::<[u8; 3]>(), bytes(129)).prop_map(
        |(signo, [flags, back, action], mut info)| {
            while info.last() == Some(&0) {
                info.pop();
            }
            Record::Signal(Signal {
                signo,
                flags,
                back,
                action,
                info: info.into(),
            })
        },
    );
    let unknown =
        (64u8.., any::<u8>(), any::<u16>(), bytes(30)).prop_map(|(kind, flags, arg, body)| {
            Record::Unknown(Unknown {
                kind,
                flags,
                arg,
                body: body.into(),
            })
        });
    let syscall = (
        any::<u16>(),
        any::<u8>(),
        any::<i64>(),
        any::<u32>(),
        sections(),
    )
        .prop_map(|(nr, flags, ret, in_hash, sections)| {
            Record::Syscall(Syscall {
                nr,
                flags,
                ret,
                in_hash,
                sections,
            })
        });
    let task = prop_oneof![
        (any::<u32>(), any::<u8>()).prop_map(|(task, flags)| Record::Switch { task, flags }),
        (any::<u32>(), any::<i32>(), any::<i32>(), sections()).prop_map(
            |(task, tid, pid, sections)| Record::Exec(Exec {
                task,
                tid,
                pid,
                sections
            })
        ),
        (any::<u32>(), any::<i32>(), any::<i32>(), sections()).prop_map(
            |(task, tid, pid, sections)| Record::Snapshot(Exec {
                task,
                tid,
                pid,
                sections
            })
        ),
        (any::<u32>(), any::<i32>(), any::<u8>(), sections()).prop_map(
            |(task, status, flags, sections)| Record::Exit(Exit {
                task,
                status,
                flags,
                sections
            })
        ),
        any::<(u32, u32)>().prop_map(|(from_lane, into_lane)| Record::Merge {
            from_lane,
            into_lane
        }),
        any::<(u32, u32)>().prop_map(|(task, lane)| Record::Move { task, lane }),
        (any::<(u64, u64, u64, u64)>(), sections()).prop_map(
            |((rip, regs, xstate, mem), sections)| Record::Forced(Forced {
                rip,
                regs,
                xstate,
                mem,
                sections
            })
        ),
        (any::<u8>(), vec(any::<[u8; 12]>(), 0..9)).prop_map(|(flags, sites)| Record::Patch {
            flags,
            sites: sites.concat().into()
        }),
        (any::<u32>(), any::<u8>(), any::<u16>(), sections()).prop_map(
            |(task, place, signo, sections)| Record::Tracer(Tracer {
                task,
                place,
                signo,
                sections
            })
        ),
    ];
    let plain = prop_oneof![
        (any::<u64>(), bytes(99)).prop_map(|(addr, b)| Record::Data {
            addr,
            bytes: b.into()
        }),
        (any::<u16>(), vec(any::<u64>(), 0..9)).prop_map(|(which, v)| Record::Instr {
            which,
            values: v.into_iter().collect()
        }),
        any::<(Option<u64>, Option<u64>)>().prop_map(|(regs, mem)| Record::Checksum { regs, mem }),
        sections().prop_map(|sections| Record::Start(Start { sections })),
        (any::<u32>(), any::<u64>(), bytes(99)).prop_map(|(file, offset, b)| Record::Blob {
            file,
            offset,
            bytes: b.into()
        }),
        bytes(50).prop_map(|b| Record::Note { text: b.into() }),
        (any::<(u32, u64)>(), bookmark_tasks(), bytes(50)).prop_map(|((id, time), tasks, b)| {
            Record::Bookmark {
                id,
                time,
                tasks,
                text: b.into(),
            }
        }),
        (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(bookmark, stream, before)| {
            Record::Objects {
                bookmark,
                stream,
                before,
            }
        }),
        (any::<u64>(), bytes(50)).prop_map(|(lost, b)| Record::Gap {
            lost,
            text: b.into()
        }),
        (any::<i32>(), any::<(u64, bool)>(), sections()).prop_map(
            |(status, (events, detached), sections)| {
                Record::End(End {
                    status,
                    events,
                    detached,
                    sections,
                })
            }
        ),
    ];
    prop_oneof![3 => syscall, 2 => task, 3 => plain, 1 => file, 1 => signal, 1 => unknown]
}

fn bookmark_tasks() -> impl Strategy<Value = Vec<scribe_log::BookmarkTask>> {
    let task = any::<(u32, bool, Option<u64>, Option<u64>)>();
    let task = task.prop_map(|(task, in_call, regs, mem)| scribe_log::BookmarkTask {
        task,
        in_call,
        regs,
        mem,
    });
    prop::collection::vec(task, 0..5)
}
