//! From a row and the arguments of a call to the memory that the kernel will reach, and from its
//! result to the bytes that it wrote.
//!
//! The table's rules are declarative; this is their interpreter. It copes with hostile arguments:
//! what it reads and allocates is bounded by what the kernel itself would accept.

use crate::arg::{Ctx, Dir, Len, Out, OutCtx, Ptr, Shape, Ty};
use crate::call::{Call, Memory, Row};
use crate::dsl::{MAX_RW_COUNT, UIO_MAXIOV};

/// Addresses from here on are never user memory (five-level paging).
const USER_END: u64 = 1 << 56;
/// Most buffers in a plan. The largest legitimate call is `execve`: 6 MiB of strings and their
/// pointers.
const MAX_BUFS: usize = 1 << 20;
/// Most bytes of strings in a plan (the kernel takes 6 MiB, fs/exec.c).
const MAX_STRINGS: u64 = 8 << 20;
/// Longest socket address (`struct sockaddr_storage`).
const MAX_SOCKADDR: u64 = 128;

/// Where the pointer to a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// In this argument of the call.
    Arg(u8),
    /// In another buffer (of lower index) of the plan, at this offset.
    Nested {
        /// Index of that buffer.
        buf: usize,
        /// Offset in it.
        off: u64,
    },
}

/// Memory that the kernel reads or writes in a call.
#[derive(Clone, Debug)]
pub struct Buf {
    /// Direction.
    pub dir: Dir,
    /// Address in the application; not null.
    pub addr: u64,
    /// Bytes reachable from there; not 0. The memory need not all be accessible.
    pub cap: u64,
    /// Where the pointer to it lies.
    pub slot: Slot,
    /// A signal mask that the kernel installs during the call.
    pub sigmask: bool,
    /// The address itself has a meaning to the kernel (a futex word): it must not be redirected.
    pub in_place: bool,
    /// The kernel reads it: its content is an input of the call. Always so for `In`, never for
    /// `Out`; `InOut` without it is an output in which the kernel leaves gaps.
    pub input: bool,
    /// What it holds, for printing.
    pub shape: Shape,
    rule: Rule,
}

/// What is known of a buffer's output before the call.
#[derive(Clone, Copy, Debug)]
struct Rule {
    out: Out,
    /// Lowest result with which the buffer is written.
    need: i64,
    /// The structure that holds the pointer: buffer, offset.
    parent: Option<(usize, u64)>,
    /// Where the length of a message lies if it is not the result: buffer, offset.
    total: Option<(usize, u64)>,
    /// Bytes in the buffers of the iovec before this one.
    before: u64,
    stride: u32,
}

/// The memory a call reaches. Buffers come after those that hold the pointers to them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buffers.
    pub bufs: Vec<Buf>,
}

impl Plan {
    /// Index of the buffer that an argument points to.
    pub fn arg(&self, arg: u8) -> Option<usize> {
        self.bufs.iter().position(|b| b.slot == Slot::Arg(arg))
    }
}

/// Bytes that the kernel wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutRange {
    /// Index of the buffer.
    pub buf: usize,
    /// Offset in it.
    pub off: u64,
    /// Count; not 0.
    pub len: u64,
}

/// Which memory the kernel will read and write in this call.
///
/// A pointer that is null, or that the kernel will not follow with these arguments, has no buffer.
/// Nor has a structure with pointers, a vector or a string that cannot be read: the kernel will
/// find the same and say EFAULT. Plain input buffers are not checked: the caller finds out when
/// copying them, and must then leave the pointer as it is.
pub fn plan(row: &Row, call: &Call, mem: &dyn Memory) -> Plan {
    let mut p = Planner {
        call,
        mem,
        bufs: Vec::new(),
        strings: 0,
    };
    for (i, arg) in row.args.iter().enumerate() {
        if let Ty::Ptr(ptr) = &arg.ty {
            p.add(ptr, call.args[i], Slot::Arg(i as u8), &Scope::default());
        }
    }
    Plan { bufs: p.bufs }
}

struct Planner<'a> {
    call: &'a Call,
    mem: &'a dyn Memory,
    bufs: Vec<Buf>,
    strings: u64,
}

/// Where a pointer is found.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    parent: Option<(usize, u64)>,
    /// Address and bytes of the structure.
    addr: u64,
    bytes: &'a [u8],
    need: i64,
    total: Option<(usize, u64)>,
    before: u64,
}

impl Planner<'_> {
    fn add(&mut self, ptr: &'static Ptr, addr: u64, slot: Slot, scope: &Scope) {
        if addr == 0 || addr >= USER_END || self.bufs.len() >= MAX_BUFS {
            return;
        }
        let cap = self.cap(ptr, addr, scope).min(USER_END - addr);
        if cap == 0 {
            return;
        }
        let stride = if ptr.stride == 0 {
            cap
        } else {
            u64::from(ptr.stride)
        };
        let bytes = if ptr.fields.is_empty() {
            Vec::new()
        } else {
            let Some(bytes) = self.read_all(addr, cap) else {
                return;
            };
            bytes
        };
        let index = self.bufs.len();
        self.bufs.push(Buf {
            dir: ptr.dir,
            addr,
            cap,
            slot,
            sigmask: ptr.sigmask,
            in_place: ptr.in_place,
            input: ptr.dir != Dir::Out && !ptr.gaps,
            shape: ptr.shape,
            rule: Rule {
                out: ptr.out,
                need: scope.need,
                parent: scope.parent,
                total: scope.total,
                before: scope.before,
                stride: stride as u32,
            },
        });
        if bytes.is_empty() {
            return;
        }
        let mut inner = Scope {
            need: scope.need,
            total: scope.total,
            ..Scope::default()
        };
        for (i, elem) in bytes.chunks_exact(stride as usize).enumerate() {
            let base = i as u64 * stride;
            if ptr.mmsg {
                inner.need = i as i64 + 1;
                inner.total = Some((index, base + 56));
            }
            inner.parent = Some((index, base));
            inner.addr = addr + base;
            inner.bytes = elem;
            for f in ptr.fields {
                let Some(to) = number(elem, f.off, 8) else {
                    continue;
                };
                let slot = Slot::Nested {
                    buf: index,
                    off: base + u64::from(f.off),
                };
                self.add(&f.ptr, to, slot, &inner);
            }
            if ptr.shape == Shape::Iovec {
                inner.before = inner.before.saturating_add(number(elem, 8, 8).unwrap_or(0));
            }
        }
    }

    /// Bytes that the pointer reaches.
    fn cap(&mut self, ptr: &Ptr, addr: u64, scope: &Scope) -> u64 {
        let args = &self.call.args;
        let int = |arg: u8| (args[arg as usize] as i32).max(0) as u64;
        let fld = |off, width| number(scope.bytes, off, width).unwrap_or(0);
        let cap = match ptr.len {
            Len::Fixed(n) => n,
            Len::Arg(a) => args[a as usize],
            Len::Arg32(a) => int(a),
            Len::Small(a) if args[a as usize] > 4096 => 0,
            Len::Small(a) => args[a as usize],
            Len::Elems(a, size) => args[a as usize].saturating_mul(size.into()),
            Len::Elems32(a, size) => int(a) * u64::from(size),
            Len::AtPtr(a) => {
                let n = self.mem.read_u32(args[a as usize]).unwrap_or(0);
                (n as i32).max(0) as u64
            }
            Len::Field(off, width) => fld(off, width),
            Len::FieldElems(off, width, size) => fld(off, width).saturating_mul(size.into()),
            Len::Str(max) => return self.string(addr, max),
            Len::Strs => return self.vector(addr),
            Len::Readable(max) => self.mem.readable(addr, max.into()),
            Len::With(f) => f(&Ctx {
                call: self.call,
                mem: self.mem,
                addr,
                parent: scope.addr,
            }),
        };
        match ptr.shape {
            Shape::Sockaddr => cap.min(MAX_SOCKADDR),
            Shape::Iovec if cap > UIO_MAXIOV * 16 => 0,
            // The kernel cuts an iovec's total (lib/iov_iter.c, __import_iovec).
            _ if scope.parent.is_some() => cap.min(MAX_RW_COUNT.saturating_sub(scope.before)),
            _ => cap.min(MAX_RW_COUNT),
        }
    }

    /// Length of a C string with its NUL; 0 if it cannot be read.
    fn string(&mut self, addr: u64, max: u32) -> u64 {
        let left = MAX_STRINGS.saturating_sub(self.strings);
        let max = u64::from(max).min(left);
        let Some(s) = self.mem.read_cstr(addr, max as usize) else {
            return 0;
        };
        let n = (s.len() as u64 + 1).min(max);
        self.strings += n;
        n
    }

    /// Length of a vector of pointers with the null at its end; 0 if it cannot be read.
    fn vector(&mut self, addr: u64) -> u64 {
        let mut n = 0u64;
        let mut chunk = [0u8; 512];
        while (n as usize) < MAX_BUFS {
            let Some(at) = addr.checked_add(n * 8) else {
                return 0;
            };
            let want = (4096 - (at % 4096)).clamp(8, 512) as usize / 8 * 8;
            let got = self.mem.read_some(at, &mut chunk[..want]).min(want) / 8 * 8;
            for word in chunk[..got].chunks_exact(8) {
                n += 1;
                if word == [0; 8] {
                    return n * 8;
                }
            }
            if got < want {
                return 0;
            }
        }
        0
    }

    /// A structure or array with pointers. Those are small; more than the kernel takes is not read.
    fn read_all(&self, addr: u64, cap: u64) -> Option<Vec<u8>> {
        if cap > MAX_BUFS as u64 * 8 {
            return None;
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < cap {
            let at = addr + bytes.len() as u64;
            let n = (4096 - at % 4096).min(cap - bytes.len() as u64) as usize;
            let old = bytes.len();
            bytes.resize(old + n, 0);
            if !self.mem.read_exact(at, &mut bytes[old..]) {
                return None;
            }
        }
        Some(bytes)
    }
}

/// A little-endian number in a structure.
fn number(bytes: &[u8], off: u32, width: u8) -> Option<u64> {
    let mut b = [0; 8];
    let from = bytes.get(off as usize..off as usize + width as usize)?;
    b[..width as usize].copy_from_slice(from);
    Some(u64::from_le_bytes(b))
}

/// Which bytes the kernel wrote, given the result of the call (-4095..-1: an error).
///
/// `read(buf, off, bytes)` reads a buffer of the plan as it is after the call. Pointers inside
/// buffers are never in the result, as they may point to scratch memory at that moment. Ranges of a
/// buffer with [`Dir::InOut`] may hold bytes that the kernel left as they were; memory that the
/// application itself cannot write may be named there too (a constant `timespec` of `ppoll`), and
/// is then unchanged.
pub fn outputs(
    row: &Row,
    call: &Call,
    plan: &Plan,
    ret: i64,
    read: &mut dyn FnMut(usize, u64, &mut [u8]) -> bool,
) -> Vec<OutRange> {
    debug_assert_eq!(row.nr, call.nr);
    let mut ranges = Vec::new();
    for (i, buf) in plan.bufs.iter().enumerate() {
        if buf.dir != Dir::In {
            written(&mut ranges, call, plan, i, buf, ret, read);
        }
    }
    ranges
}

fn written(
    ranges: &mut Vec<OutRange>,
    call: &Call,
    plan: &Plan,
    index: usize,
    buf: &Buf,
    ret: i64,
    read: &mut dyn FnMut(usize, u64, &mut [u8]) -> bool,
) {
    let rule = &buf.rule;
    let failed = (-4095..0).contains(&ret);
    let success = !failed && ret >= rule.need;
    let count = if failed { 0 } else { ret as u64 };
    let len = match rule.out {
        Out::Always => buf.cap,
        Out::OnErr(e) => {
            let restart = e == 4 && (-516..=-512).contains(&ret);
            if ret == -i64::from(e) || restart {
                buf.cap
            } else {
                0
            }
        }
        Out::PartsAlways(parts) if ret != -14 => return push_parts(ranges, index, buf, parts, 1),
        _ if !success => 0,
        Out::Nothing | Out::PartsAlways(_) => 0,
        Out::Full => buf.cap,
        Out::Positive => buf.cap * u64::from(ret > 0),
        Out::Ret => count,
        Out::RetFits if count > buf.cap => 0,
        Out::RetFits => count,
        Out::RetTimes(n) => count.saturating_mul(n.into()),
        Out::RetPlus(n) => count.saturating_add(n.into()),
        Out::AtPtr(arg) => plan
            .arg(arg)
            .and_then(|b| read_number(read, b, 0, 4))
            .unwrap_or(0),
        Out::Field(off, width) => rule
            .parent
            .and_then(|(b, base)| read_number(read, b, base + u64::from(off), width))
            .unwrap_or(0),
        Out::Parts(parts) => {
            let n = buf.cap / u64::from(rule.stride.max(1));
            return push_parts(ranges, index, buf, parts, n);
        }
        Out::PartsRet(parts) => return push_parts(ranges, index, buf, parts, count),
        Out::Share => {
            let total = match rule.total {
                None => Some(count),
                Some((b, off)) => read_number(read, b, off, 4),
            };
            total.unwrap_or(0).saturating_sub(rule.before)
        }
        Out::With(f) => {
            let mut at = |off: u64, bytes: &mut [u8]| read(index, off, bytes);
            f(&mut OutCtx {
                call,
                ret,
                cap: buf.cap,
                read: &mut at,
            })
        }
    };
    push(ranges, index, buf, 0, len);
}

fn push(ranges: &mut Vec<OutRange>, index: usize, buf: &Buf, off: u64, len: u64) {
    let len = len.min(buf.cap.saturating_sub(off));
    if len > 0 {
        ranges.push(OutRange {
            buf: index,
            off,
            len,
        });
    }
}

fn push_parts(
    ranges: &mut Vec<OutRange>,
    index: usize,
    buf: &Buf,
    parts: &[(u32, u32)],
    elems: u64,
) {
    let stride = u64::from(buf.rule.stride);
    for i in 0..elems.min(buf.cap / stride.max(1)).max(u64::from(elems > 0)) {
        for &(off, len) in parts {
            push(ranges, index, buf, i * stride + u64::from(off), len.into());
        }
    }
}

fn read_number(
    read: &mut dyn FnMut(usize, u64, &mut [u8]) -> bool,
    buf: usize,
    off: u64,
    width: u8,
) -> Option<u64> {
    let mut b = [0; 8];
    read(buf, off, &mut b[..usize::from(width).min(8)]).then(|| u64::from_le_bytes(b))
}
