//! What a descriptor is, where the engine has not said it: a plain file, a directory, a pipe or a socket that
//! needs nothing special. All others are left to the engine.

use crate::config;
use core::arch::asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use scribe_abi::fast::class;
use scribe_abi::shared::MAPPED;

const FSTAT: u64 = 5;
const FCNTL: u64 = 72;
const F_GETFL: u64 = 3;
const O_ACCMODE: i64 = 3;
const O_DIRECT: i64 = 0o40000;
const S_IFMT: u32 = 0o170000;
const S_IFREG: u32 = 0o100000;
const S_IFDIR: u32 = 0o040000;
const S_IFIFO: u32 = 0o010000;
const S_IFSOCK: u32 = 0o140000;
/// Words of `struct stat`.
const STAT: usize = 18;

/// A call of the agent's own.
pub fn call(nr: u64, a: u64, b: u64, c: u64) -> i64 {
    let result;
    // SAFETY: calls that only look, with memory of ours.
    unsafe {
        asm!("syscall", inlateout("rax") nr => result, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The words of a descriptor's `struct stat`, if it is open.
pub fn stat(fd: u64) -> Option<[u64; STAT]> {
    let mut stat = [0u64; STAT];
    (call(FSTAT, fd, stat.as_mut_ptr() as u64, 0) == 0).then_some(stat)
}

/// The class of a descriptor (`scribe_abi::fast::class`), if it is of a simple kind.
pub fn classify(fd: u64) -> Option<u8> {
    let fd = fd & 0xffff_ffff;
    let config = config();
    let mapped = config.mapped_count.load(Acquire) as usize;
    if mapped > MAPPED {
        return None;
    }
    // struct stat: st_dev, st_ino, st_nlink; st_mode and st_uid share the fourth word.
    let [dev, ino, _, mode_uid, ..] = stat(fd)?;
    let (mode, uid) = (mode_uid as u32, (mode_uid >> 32) as u32);
    let same = |[d, i]: &[core::sync::atomic::AtomicU64; 2]| {
        d.load(Relaxed) == dev && i.load(Relaxed) == ino
    };
    if config.outputs.iter().any(same) {
        return None;
    }
    let known = class::KNOWN | class::BY_AGENT;
    match mode & S_IFMT {
        S_IFIFO | S_IFSOCK => return Some(known | class::MAY_BLOCK),
        S_IFREG | S_IFDIR => {}
        _ => return None,
    }
    if !config
        .devices
        .iter()
        .any(|device| device.load(Relaxed) == dev)
    {
        return None;
    }
    let flags = call(FCNTL, fd, F_GETFL, 0);
    if flags < 0 || flags & O_DIRECT != 0 {
        return None;
    }
    let mut found = known;
    if config.mapped.iter().take(mapped).any(same) {
        found |= class::SLOW_WRITE;
    }
    // What the engine takes for the installed system's: see `Recorder::is_system`.
    if flags & O_ACCMODE == 0 && uid == 0 && mode & 0o022 == 0 {
        found |= class::SLOW_LONG_READ;
    }
    (config.mapped_count.load(Acquire) as usize == mapped).then_some(found)
}
