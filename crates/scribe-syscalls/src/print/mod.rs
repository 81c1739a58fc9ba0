//! Calls as text, in the style of strace.
//!
//! What a pointer leads to is found with [`plan`](crate::plan()) and [`outputs`](crate::outputs()),
//! so that printing holds no rules of its own. Memory is what was recorded of the call; what is
//! missing there is printed as an address.

mod control;
mod sock;
mod structs;
mod text;

use std::fmt::Write;

use crate::arg::{Dir, Shape, Ty};
use crate::call::{Call, Memory, Ret, Row};
use crate::flags::{self, FlagSet};
use crate::names::{errno_name, errno_text, signal_name};
use crate::plan::{Plan, Slot, outputs, plan};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct FormatOpts {
    /// Strings are cut after so many bytes.
    pub string_limit: usize,
    /// Arrays are cut after so many elements.
    pub array_limit: usize,
}

impl Default for FormatOpts {
    fn default() -> Self {
        FormatOpts {
            string_limit: 32,
            array_limit: 32,
        }
    }
}

/// A call with its result: `openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3`.
pub fn format_call(
    row: &Row,
    call: &Call,
    ret: i64,
    mem: &dyn Memory,
    opts: &FormatOpts,
) -> String {
    let mut p = Printer::new(row, call, Some(ret), mem, opts);
    p.call();
    p.result(ret);
    p.out
}

/// A call without its result: `openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC)`. Memory that
/// the kernel is yet to write is printed as an address.
pub fn format_args(row: &Row, call: &Call, mem: &dyn Memory, opts: &FormatOpts) -> String {
    let mut p = Printer::new(row, call, None, mem, opts);
    p.call();
    p.out
}

/// A result as it is printed behind a call: `3`, `-1 ENOENT (No such file or directory)`.
pub fn format_ret(row: &Row, ret: i64) -> String {
    let mut out = String::new();
    write_ret(&mut out, row.ret, ret);
    out
}

/// A call that has no row: its number or name, and six arguments.
pub fn format_unknown(call: &Call) -> String {
    let name = crate::table::syscall_name(call.nr);
    let mut out = name.map_or_else(|| format!("syscall_{}", call.nr), str::to_string);
    out.push('(');
    for (i, arg) in call.args.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        let _ = write!(out, "{comma}{arg:#x}");
    }
    out.push(')');
    out
}

struct Printer<'a> {
    row: &'a Row,
    call: &'a Call,
    ret: Option<i64>,
    mem: &'a dyn Memory,
    opts: &'a FormatOpts,
    plan: Plan,
    /// Bytes written to each buffer of the plan.
    written: Vec<u64>,
    out: String,
}

fn failed(ret: i64) -> bool {
    (-4095..0).contains(&ret)
}

impl<'a> Printer<'a> {
    fn new(
        row: &'a Row,
        call: &'a Call,
        ret: Option<i64>,
        mem: &'a dyn Memory,
        opts: &'a FormatOpts,
    ) -> Self {
        let plan = plan(row, call, mem);
        let mut written = vec![0; plan.bufs.len()];
        if let Some(ret) = ret {
            let mut read = |buf: usize, off: u64, bytes: &mut [u8]| {
                plan.bufs[buf]
                    .addr
                    .checked_add(off)
                    .is_some_and(|at| mem.read_exact(at, bytes))
            };
            for range in outputs(row, call, &plan, ret, &mut read) {
                written[range.buf] = written[range.buf].max(range.off + range.len);
            }
        }
        Printer {
            row,
            call,
            ret,
            mem,
            opts,
            plan,
            written,
            out: String::new(),
        }
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn num(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.out, "{value}");
    }

    fn hex(&mut self, value: u64) {
        if value == 0 {
            self.put("0");
        } else {
            let _ = write!(self.out, "{value:#x}");
        }
    }

    fn addr(&mut self, value: u64) {
        if value == 0 {
            self.put("NULL");
        } else {
            self.hex(value);
        }
    }

    fn call(&mut self) {
        self.put(self.row.name);
        self.put("(");
        let mut first = true;
        for i in 0..self.row.args.len() {
            if self.absent(i) {
                continue;
            }
            if !first {
                self.put(", ");
            }
            first = false;
            self.arg(i);
        }
        self.put(")");
    }

    /// Arguments that do not count with these values of others.
    fn absent(&self, i: usize) -> bool {
        let arg = &self.row.args[i];
        let selects = self.row.sub.is_some_and(|s| s.arg as usize == i);
        if matches!(arg.ty, Ty::Unused) && !selects {
            return true;
        }
        // A mode counts with O_CREAT and O_TMPFILE only.
        let creates = |flags: u64| flags & 0o20_000_100 != 0;
        match (self.row.nr, i) {
            (2, 2) | (240, 2 | 3) => !creates(self.call.args[1]),
            (257, 3) => !creates(self.call.args[2]),
            _ => false,
        }
    }

    fn arg(&mut self, i: usize) {
        let value = self.call.args[i];
        if let Some(sub) = self.row.sub.filter(|s| s.arg as usize == i) {
            self.put(sub.name);
            return self.rest_of_command(value & !sub.mask & 0xffff_ffff);
        }
        match &self.row.args[i].ty {
            Ty::Ptr(ptr) => match self.plan.arg(i as u8) {
                Some(buf) => self.buf(buf),
                None if value == 0 => self.put("NULL"),
                None if matches!(ptr.shape, Shape::Bytes) && value < 1 << 56 => self.put("\"\""),
                None => self.hex(value),
            },
            ty => self.scalar(ty, i, value),
        }
    }

    /// Bits of a command that do not select it: flags of futex operations, the type of a quota.
    fn rest_of_command(&mut self, rest: u64) {
        if self.row.nr == 202 {
            if rest & 128 != 0 {
                self.put("_PRIVATE");
            }
            if rest & 256 != 0 {
                self.put("|FUTEX_CLOCK_REALTIME");
            }
        } else if rest != 0 {
            self.put("|");
            self.hex(rest);
        }
    }

    fn scalar(&mut self, ty: &Ty, i: usize, value: u64) {
        match ty {
            Ty::Int | Ty::Fd | Ty::Pid => self.num(value as i32),
            Ty::Long | Ty::Off => self.num(value as i64),
            Ty::Uint => self.num(value as u32),
            Ty::Ulong | Ty::Size => self.num(value),
            Ty::Hex => self.hex(value),
            Ty::Addr => self.addr(value),
            Ty::DirFd if value as i32 == -100 => self.put("AT_FDCWD"),
            Ty::DirFd => self.num(value as i32),
            Ty::Id if value as u32 == u32::MAX => self.put("-1"),
            Ty::Id => self.num(value as u32),
            Ty::Mode => self.mode(value as u32),
            Ty::Dev => self.dev(value),
            Ty::Flags(set) => self.flags(set, value),
            Ty::Enum(set) => self.one_of(set, value),
            Ty::Signal => self.signal(value as i32),
            Ty::SockOpt => {
                let level = self.call.args[i - 1] as u32;
                self.sockopt_name(level, value);
            }
            Ty::Unused | Ty::Ptr(_) => self.hex(value),
        }
    }

    fn mode(&mut self, mode: u32) {
        if mode == 0 {
            self.put("000");
        } else {
            let _ = write!(self.out, "0{mode:02o}");
        }
    }

    fn dev(&mut self, dev: u64) {
        let major = (dev >> 8 & 0xfff) | (dev >> 32 & 0xffff_f000);
        let minor = (dev & 0xff) | (dev >> 12 & 0xffff_ff00);
        let _ = write!(self.out, "makedev({major:#x}, {minor:#x})");
    }

    fn signal(&mut self, signal: i32) {
        match signal_name(signal) {
            Some(name) => self.put(name),
            None => self.num(signal),
        }
    }

    /// Flags by name; what has none in hexadecimal.
    fn flags(&mut self, set: &FlagSet, value: u64) {
        let start = self.out.len();
        let mut rest = value;
        let part = value & set.field;
        if set.field != 0 {
            if let Some(name) = set.name(part) {
                self.put(name);
                rest &= !set.field;
            }
        } else if let Some(name) = set.name(value) {
            return self.put(name);
        }
        for &(bits, name) in set.names {
            if bits != 0 && bits & set.field == 0 && rest & bits == bits {
                if self.out.len() > start {
                    self.put("|");
                }
                self.put(name);
                rest &= !bits;
            }
        }
        if rest != 0 || self.out.len() == start {
            if self.out.len() > start {
                self.put("|");
            }
            self.hex(rest);
        }
    }

    fn one_of(&mut self, set: &FlagSet, value: u64) {
        let value = value & 0xffff_ffff;
        if set.field != 0 {
            return self.flags(set, value);
        }
        match set.name(value) {
            Some(name) => self.put(name),
            None => self.hex(value),
        }
    }

    /// A buffer of the plan: decoded if its bytes are there, its address otherwise.
    fn buf(&mut self, index: usize) {
        let buf = &self.plan.bufs[index];
        let (addr, shape) = (buf.addr, buf.shape);
        let len = match buf.dir {
            Dir::In | Dir::InOut if buf.input => buf.cap,
            _ => self.written[index],
        };
        if len == 0 {
            let empty = matches!(shape, Shape::Bytes) && self.ret.is_some_and(|r| r == 0);
            return if empty {
                self.put("\"\"")
            } else {
                self.hex(addr)
            };
        }
        let start = self.out.len();
        if !self.shape(shape, addr, len, index) {
            self.out.truncate(start);
            self.hex(addr);
        }
    }

    /// Buffer that the pointer at this offset of another leads to.
    fn nested(&self, buf: usize, off: u64) -> Option<usize> {
        // Buffers follow those that hold the pointers to them.
        let slot = Slot::Nested { buf, off };
        let found = self.plan.bufs[buf + 1..]
            .iter()
            .position(|b| b.slot == slot)?;
        Some(buf + 1 + found)
    }

    fn read(&self, addr: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len.min(1 << 20)).ok()?];
        self.mem.read_exact(addr, &mut bytes).then_some(bytes)
    }

    fn result(&mut self, ret: i64) {
        self.put(" = ");
        write_ret(&mut self.out, self.row.ret, ret);
        if !failed(ret) {
            self.more_results(ret);
        }
    }

    /// What strace puts in parentheses behind some results.
    fn more_results(&mut self, ret: i64) {
        match (self.row.ret, self.row.nr) {
            (Ret::OpenFlags, _) => {
                self.put(" (flags ");
                self.flags(&flags::OPEN, ret as u64);
                self.put(")");
            }
            (Ret::FdFlags, _) if ret != 0 => {
                self.put(" (flags ");
                self.flags(&flags::FD_FLAGS, ret as u64);
                self.put(")");
            }
            // poll, select, pselect6, ppoll
            (_, 7 | 23 | 270 | 271) if ret == 0 => self.put(" (Timeout)"),
            (_, 7 | 271) => {
                self.put(" (");
                self.revents();
                self.put(")");
            }
            _ => {}
        }
    }
}

fn write_ret(out: &mut String, kind: Ret, ret: i64) {
    if kind == Ret::Never {
        return out.push('?');
    }
    if failed(ret) {
        let errno = -ret as i32;
        let mark = if (512..=516).contains(&errno) {
            "?"
        } else {
            "-1"
        };
        let _ = match (errno_name(errno), errno_text(errno)) {
            (Some(name), Some(text)) => write!(out, "{mark} {name} ({text})"),
            _ => write!(out, "{ret}"),
        };
        return;
    }
    let _ = match kind {
        Ret::Addr | Ret::Hex | Ret::OpenFlags if ret != 0 => write!(out, "{ret:#x}"),
        Ret::FdFlags if ret != 0 => write!(out, "{ret:#x}"),
        Ret::Mode => write!(out, "0{ret:o}"),
        _ => write!(out, "{ret}"),
    };
}
