//! Points of an execution that no sync point marks, for recorder and replayer alike: the state by which
//! they are recognised.
//!
//! A point matches when registers and memory are equal: from there on two executions cannot be told
//! apart, however often a loop went round. So a task that waits in a loop without changing anything
//! is found again at the loop's first round, and one that computes exactly where it was.

use crate::state::{memory_hash, memory_hash_by_page, regs_hash};
use scribe_kernel::xstate::{self, XstateLayout};
use scribe_tracee::{Mem, Regs, Result, Stopped};
use xxhash_rust::xxh3::xxh3_64;

/// Flags that say how a task came to stand where it does, and are not the program's: TF, by which it
/// is made to step, and RF, which is on where a page fault was just served. The frame of a signal
/// would show them.
pub const EFLAGS_OF_STOPS: u64 = 1 << 8 | 1 << 16;
const INT3: u8 = 0xcc;

/// What a point is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Address of the next instruction.
    pub rip: u64,
    /// Hash of the general registers.
    pub regs: u64,
    /// Hash of the extended state.
    pub xstate: u64,
    /// Hash of the memory.
    pub mem: u64,
}

/// Addresses of pages and their hashes, in order.
pub type Pages = Vec<(u64, u64)>;

impl Point {
    /// The present point of a stopped task, its extended state, and the hashes of its pages, in the order of their
    /// addresses.
    pub fn here(
        stopped: &Stopped,
        regs: &Regs,
        mem: &Mem,
        layout: &XstateLayout,
    ) -> Result<(Point, Vec<u8>, Pages)> {
        let (plain, image) = extended(stopped, layout)?;
        let mut pages = Vec::new();
        let mem = memory_hash_by_page(stopped.tid(), mem, |addr, hash| pages.push((addr, hash)));
        let point = Point {
            rip: regs.rip,
            regs: point_regs(regs),
            xstate: xxh3_64(&plain),
            mem,
        };
        Ok((point, image, pages))
    }

    /// Whether the registers are this point's: the cheap part of the comparison.
    pub fn has_regs(&self, regs: &Regs) -> bool {
        self.rip == regs.rip && self.regs == point_regs(regs)
    }

    /// Whether the extended state (see [`extended`]) is.
    pub fn has_extended(&self, image: &[u8]) -> bool {
        self.xstate == xxh3_64(image)
    }

    /// Whether the memory is: the dear part.
    pub fn has_memory(&self, stopped: &Stopped, mem: &Mem) -> bool {
        self.mem == memory_hash(stopped.tid(), mem)
    }
}

/// Bytes of the extended state that name the last x87 instruction and its operand (FOP, FIP, FDP):
/// in translated code they are others.
pub const LAST_X87: std::ops::Range<usize> = 6..24;

/// The extended state of a task, in the form that depends neither on context switches nor on where
/// its code lies; and as it is.
pub fn extended(stopped: &Stopped, layout: &XstateLayout) -> Result<(Vec<u8>, Vec<u8>)> {
    let image = stopped.xstate()?;
    let mut plain = image.clone();
    if let Some(last) = plain.get_mut(LAST_X87) {
        last.fill(0);
    }
    xstate::normalise(layout, &mut plain);
    Ok((plain, image))
}

fn point_regs(regs: &Regs) -> u64 {
    let mut plain = *regs;
    plain.eflags &= !EFLAGS_OF_STOPS;
    regs_hash(&plain)
}

/// A breakpoint that is, or was, in the program's text.
#[derive(Clone, Copy, Debug)]
pub struct Breakpoint {
    addr: u64,
    byte: u8,
    set: bool,
}

impl Breakpoint {
    /// At an address.
    pub fn set(mem: &Mem, addr: u64) -> Result<Breakpoint> {
        let mut byte = [0];
        mem.read(addr, &mut byte)?;
        mem.write(addr, &[INT3])?;
        Ok(Breakpoint {
            addr,
            byte: byte[0],
            set: true,
        })
    }

    /// Puts the program's byte back.
    pub fn clear(&mut self, mem: &Mem) -> Result<()> {
        if self.set {
            mem.write(self.addr, &[self.byte])?;
            self.set = false;
        }
        Ok(())
    }

    /// Whether a task that trapped with these registers trapped here.
    pub fn hit(&self, regs: &Regs) -> bool {
        self.set && regs.rip == self.addr + 1
    }
}

/// Asks the kernel for a SIGALRM every `interval`, so that waiting for tasks ends in time to look
/// after those that do not stop; `None` ends that.
pub fn tick(interval: Option<std::time::Duration>) {
    tick_from(interval, interval);
}

/// The same, the first of them after another time.
pub fn tick_from(first: Option<std::time::Duration>, interval: Option<std::time::Duration>) {
    extern "C" fn nothing(_: libc::c_int) {}
    let value = |time: Option<std::time::Duration>| libc::timeval {
        tv_sec: 0,
        tv_usec: time.map_or(0, |time| time.subsec_micros()).into(),
    };
    let timer = libc::itimerval {
        it_interval: value(interval),
        it_value: value(first),
    };
    // SAFETY: the handler does nothing; without SA_RESTART a wait returns EINTR, which is the aim.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
}
