//! From a row and the arguments of a call to the memory that it reaches: what
//! `scribe_syscalls::plan` computes, for rows of the simple form, without allocation. A test
//! compares the two.

use core::mem::MaybeUninit;
use scribe_abi::fast::{FastBuf, FastRow, MAX_BUFS, MAX_IOVEC, MAX_RW, dir, len, nested, out};
use scribe_abi::hash::{Hash, PIECE};

/// Addresses from here on are never user memory (five-level paging).
const USER_END: u64 = 1 << 56;
const MAX: usize = MAX_BUFS + MAX_IOVEC;

/// A buffer of the call at hand.
#[derive(Clone, Copy)]
pub struct Buf {
    /// Where it is.
    pub addr: u64,
    /// How many bytes are reachable.
    pub cap: u64,
    /// See [`dir`].
    pub dir: u8,
    /// It is hashed.
    pub input: bool,
    /// It must not be moved.
    pub in_place: bool,
    /// The argument that points to it; elements of an iovec: that of the iovec.
    pub arg: u8,
    out: u8,
    out_arg: u8,
    out_n: u32,
    /// An element of an iovec: bytes in the elements before it.
    before: Option<u64>,
    /// An element of an iovec: its place in that.
    index: u32,
    /// Where it lies during the call; 0: where the application has it.
    placed: u64,
}

/// The buffers of a call.
pub struct Plan {
    bufs: [MaybeUninit<Buf>; MAX],
    count: usize,
}

impl Plan {
    /// Without buffers.
    #[inline(always)]
    pub fn new() -> Plan {
        Plan {
            bufs: [const { MaybeUninit::uninit() }; MAX],
            count: 0,
        }
    }

    /// The buffers found.
    #[inline(always)]
    pub fn bufs(&self) -> &[Buf] {
        // SAFETY: the first `count` were written.
        unsafe { core::slice::from_raw_parts(self.bufs.as_ptr().cast(), self.count) }
    }

    #[inline(always)]
    fn push(&mut self, buf: Buf) {
        if let Some(slot) = self.bufs.get_mut(self.count) {
            slot.write(buf);
            self.count += 1;
        }
    }

    /// Finds the buffers. False: the call is not one of the simple kind.
    ///
    /// # Safety
    ///
    /// Faults at the application's addresses are recovered from.
    #[inline(always)]
    pub unsafe fn fill(&mut self, row: &FastRow, args: &[u64; 6]) -> bool {
        for rule in row.bufs.iter().take(usize::from(row.nbufs)) {
            let addr = arg(args, rule.arg);
            if addr == 0 || addr >= USER_END {
                continue;
            }
            if rule.sigmask != 0 {
                return false;
            }
            // SAFETY: the caller recovers.
            let Some(mut cap) = (unsafe { capacity(rule, args, addr) }) else {
                return false;
            };
            if rule.sockaddr != 0 {
                cap = cap.min(128);
            }
            if rule.nested != nested::NONE && cap > 1024 * 16 {
                cap = 0;
            }
            cap = cap.min(MAX_RW).min(USER_END - addr);
            if cap == 0 {
                continue;
            }
            self.push(Buf {
                addr,
                cap,
                dir: rule.dir,
                input: rule.input != 0,
                in_place: rule.in_place != 0,
                arg: rule.arg,
                out: rule.out,
                out_arg: rule.out_arg,
                out_n: rule.out_n,
                before: None,
                index: 0,
                placed: 0,
            });
            // SAFETY: the caller recovers.
            if rule.nested != nested::NONE && !unsafe { self.iovec(rule, addr, cap) } {
                return false;
            }
        }
        true
    }

    unsafe fn iovec(&mut self, rule: &FastBuf, addr: u64, cap: u64) -> bool {
        let count = cap / 16;
        if count > MAX_IOVEC as u64 {
            return false;
        }
        let mut before = 0u64;
        for i in 0..count {
            // SAFETY: the caller recovers.
            let (base, len) = unsafe { (word(addr + i * 16), word(addr + i * 16 + 8)) };
            let cap = len.min(MAX_RW.saturating_sub(before));
            if base != 0 && base < USER_END && cap != 0 {
                let out = rule.nested == nested::IOVEC_OUT;
                self.push(Buf {
                    addr: base,
                    cap: cap.min(USER_END - base),
                    dir: if out { dir::OUT } else { dir::IN },
                    input: !out,
                    in_place: false,
                    arg: rule.arg,
                    out: out::NOTHING,
                    out_arg: 0,
                    out_n: 0,
                    before: Some(before),
                    index: i as u32,
                    placed: 0,
                });
            }
            before = before.saturating_add(len);
        }
        true
    }

    /// Bytes of scratch memory that [`Plan::move_outputs`] needs.
    #[inline(always)]
    pub fn moved_len(&self) -> u64 {
        let all = self.bufs().iter();
        all.filter(|buf| buf.moves(self))
            .map(|buf| round(buf.cap))
            .sum()
    }

    /// Moves the buffers that the kernel writes to, and iovecs that lead to such, into scratch
    /// memory, and changes the arguments accordingly.
    ///
    /// # Safety
    ///
    /// The scratch memory is large enough and the caller's; faults at the application's addresses
    /// are recovered from.
    #[inline(always)]
    pub unsafe fn move_outputs(&mut self, scratch: u64, args: &mut [u64; 6]) {
        let mut at = scratch;
        let mut vector = 0;
        for i in 0..self.count {
            let Some(mut buf) = self.bufs().get(i).copied().filter(|buf| buf.moves(self)) else {
                continue;
            };
            buf.placed = at;
            at += round(buf.cap);
            // SAFETY: the caller's scratch memory; faults are recovered from.
            unsafe {
                if buf.dir != dir::IN && buf.cap != 0 {
                    // Where the application has no room the kernel is to see that: it leaves what
                    // there is to read. Volatile, so that the writes are made.
                    for at in [buf.addr, buf.addr + buf.cap - 1] {
                        let at = at as *mut u8;
                        at.write_volatile(at.read_volatile());
                    }
                }
                if buf.before.is_some() {
                    let slot = vector + u64::from(buf.index) * 16;
                    (slot as *mut u64).write_unaligned(buf.placed);
                } else {
                    // Also what is only written: the kernel may leave gaps.
                    if buf.dir != dir::OUT {
                        crate::copy::copy(
                            buf.placed as *mut u8,
                            buf.addr as *const u8,
                            buf.cap as usize,
                        );
                    }
                    vector = buf.placed;
                    if let Some(arg) = args.get_mut(usize::from(buf.arg)) {
                        *arg = buf.placed;
                    }
                }
            }
            if let Some(slot) = self.bufs.get_mut(i) {
                slot.write(buf);
            }
        }
    }

    /// The hash of the call's inputs.
    ///
    /// # Safety
    ///
    /// Faults at the application's addresses are recovered from.
    #[inline(always)]
    pub unsafe fn hash(&self, row: &FastRow, args: &[u64; 6]) -> u32 {
        let mut hash = Hash::new(row.nr.into());
        for arg in args.iter().take(usize::from(row.nargs)) {
            hash.word(*arg);
        }
        for buf in self.bufs().iter().filter(|buf| buf.input) {
            let mut done = 0;
            while done < buf.cap {
                let piece = (buf.cap - done).min(PIECE as u64);
                // SAFETY: the caller recovers.
                unsafe { hash.memory((buf.addr + done) as *const u8, piece as usize) };
                done += piece;
            }
        }
        hash.finish()
    }
}

impl Buf {
    /// Whether it is moved to scratch memory for a call that waits.
    #[inline(always)]
    fn moves(&self, plan: &Plan) -> bool {
        if self.in_place {
            return false;
        }
        let leads_to_output =
            |other: &Buf| other.before.is_some() && other.arg == self.arg && other.dir != dir::IN;
        self.dir != dir::IN || plan.bufs().iter().any(leads_to_output)
    }

    /// Copies what the kernel wrote to where the application wants it.
    ///
    /// # Safety
    ///
    /// Faults at the application's addresses are recovered from.
    #[inline(always)]
    pub unsafe fn bring_home(&self, len: u64) {
        if self.placed == 0 {
            return;
        }
        // What is the same already is not written: it may lie in memory that the application itself
        // cannot write.
        // SAFETY: the caller recovers.
        unsafe {
            let (to, from) = (self.addr as *mut u8, self.placed as *const u8);
            if self.dir == dir::OUT || !crate::copy::same(to, from, len as usize) {
                crate::copy::copy(to, from, len as usize);
            }
        }
    }

    /// How many bytes of it a call with this result wrote.
    ///
    /// # Safety
    ///
    /// Faults at the application's addresses are recovered from.
    #[inline(always)]
    pub unsafe fn written(&self, args: &[u64; 6], ret: i64) -> u64 {
        if self.dir == dir::IN {
            return 0;
        }
        let failed = (-4095..0).contains(&ret);
        let count = if failed { 0 } else { ret as u64 };
        let n = match self.out {
            out::ALWAYS => self.cap,
            _ if failed => 0,
            _ if let Some(before) = self.before => count.saturating_sub(before),
            out::FULL => self.cap,
            out::POSITIVE if ret > 0 => self.cap,
            out::RET => count,
            out::RET_FITS if count <= self.cap => count,
            out::RET_TIMES => count.saturating_mul(self.out_n.into()),
            out::RET_PLUS => count.saturating_add(self.out_n.into()),
            // SAFETY: the caller recovers.
            out::AT_PTR => unsafe { u64::from(half(arg(args, self.out_arg))) },
            _ => 0,
        };
        n.min(self.cap)
    }
}

fn round(len: u64) -> u64 {
    (len + 15) & !15
}

#[inline(always)]
fn arg(args: &[u64; 6], index: u8) -> u64 {
    args.get(usize::from(index)).copied().unwrap_or(0)
}

#[inline(always)]
unsafe fn word(addr: u64) -> u64 {
    // SAFETY: the caller recovers from faults.
    unsafe { (addr as *const u64).read_unaligned() }
}

#[inline(always)]
unsafe fn half(addr: u64) -> u32 {
    if addr == 0 {
        return 0;
    }
    // SAFETY: the caller recovers from faults.
    unsafe { (addr as *const u32).read_unaligned() }
}

/// Bytes that a pointer reaches; `None`: not to be told here.
#[inline(always)]
unsafe fn capacity(rule: &FastBuf, args: &[u64; 6], addr: u64) -> Option<u64> {
    let value = arg(args, rule.len_arg);
    let int = (value as i32).max(0) as u64;
    let n = u64::from(rule.len_n);
    Some(match rule.len {
        len::FIXED => n,
        len::ARG => value,
        len::ARG32 => int,
        len::SMALL if value > 4096 => 0,
        len::SMALL => value,
        len::ELEMS => value.saturating_mul(n),
        len::ELEMS32 => int * n,
        // SAFETY: the caller recovers from faults.
        len::AT_PTR => unsafe { (half(value) as i32).max(0) as u64 },
        // SAFETY: as above.
        len::STR => unsafe { string(addr, n) },
        _ => return None,
    })
}

/// Length of a string with its NUL, at most `max`.
unsafe fn string(addr: u64, max: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut at = addr;
    // SAFETY: aligned words do not reach into pages behind the string; the caller recovers.
    unsafe {
        while !at.is_multiple_of(8) {
            if at - addr >= max || (at as *const u8).read() == 0 {
                return (at - addr + 1).min(max);
            }
            at += 1;
        }
        while at - addr < max {
            let word = (at as *const u64).read();
            let zero = word.wrapping_sub(ONES) & !word & (ONES << 7);
            if zero != 0 {
                return (at - addr + u64::from(zero.trailing_zeros() / 8) + 1).min(max);
            }
            at += 8;
        }
    }
    max
}
