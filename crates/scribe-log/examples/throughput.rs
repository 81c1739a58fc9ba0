//! How fast records are appended, written and read: `throughput [file]`.

use scribe_log::{LogReader, LogWriter, Record, WriteOptions, begin_syscall, flags};
use std::time::Instant;

const EVENTS: u64 = 2_000_000;

fn main() -> scribe_log::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "/tmp/throughput.scribe".into());
    let options = WriteOptions {
        force: true,
        ..WriteOptions::default()
    };
    let log = LogWriter::create(&path, &options)?;
    let text = include_bytes!("throughput.rs");
    let t = Instant::now();
    let mut x = 1u64;
    for i in 0..EVENTS {
        x = x
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let hash = (x >> 40) as u32;
        log.append(1, |buf| match i % 4 {
            0 => {
                let time = (i * 1000 + (x >> 54)).to_le_bytes();
                begin_syscall(buf, 228, 0, hash, 0)
                    .out(0x7ffe_1234_5000, &time)
                    .serial(i);
            }
            1 => {
                let line = &text[(x >> 54) as usize..][..64];
                begin_syscall(buf, 0, 64, hash, 0)
                    .out(0x5555_0000 + i % 999, line)
                    .serial(i);
            }
            2 => {
                begin_syscall(buf, 1, 30, hash, flags::STDOUT).serial(i);
            }
            _ => {
                begin_syscall(buf, 202, -11, hash, 0).time(i * 1321);
            }
        });
        log.maybe_flush();
    }
    println!("append: {:?} an event", t.elapsed() / EVENTS as u32);
    let stats = log.finish()?;
    println!(
        "all written: {:?} an event, {stats:?}",
        t.elapsed() / EVENTS as u32
    );

    let t = Instant::now();
    let log = LogReader::open(&path)?;
    let mut lane = log.lane(1);
    let (mut n, mut bytes) = (0, 0);
    while let Some(r) = lane.next()? {
        if let Record::Syscall(s) = r {
            n += 1;
            bytes += s.sections.outs().map(|o| o.1.len()).sum::<usize>();
        }
    }
    println!(
        "read: {:?} an event, {n} events, {bytes} bytes",
        t.elapsed() / EVENTS as u32
    );
    Ok(())
}
