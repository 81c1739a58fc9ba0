//! Strings and data.

use std::fmt::Write;

use super::Printer;

/// Data in quotes, escaped as in C: octal for what cannot be printed.
pub(super) fn quote(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for (i, &b) in bytes.iter().enumerate() {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(b.into());
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            b' '..=b'~' => out.push(b.into()),
            _ => {
                let digit_next = bytes.get(i + 1).is_some_and(|b| (b'0'..=b'7').contains(b));
                let _ = if digit_next {
                    write!(out, "\\{b:03o}")
                } else {
                    write!(out, "\\{b:o}")
                };
            }
        }
    }
    out.push('"');
}

impl Printer<'_> {
    /// Data of `len` bytes, cut.
    pub(super) fn data(&mut self, addr: u64, len: u64) -> bool {
        let shown = len.min(self.opts.string_limit as u64);
        let Some(bytes) = self.read(addr, shown) else {
            return false;
        };
        quote(&mut self.out, &bytes);
        if shown < len {
            self.put("...");
        }
        true
    }

    /// A C string of at most `max` bytes; paths are not cut.
    pub(super) fn cstr(&mut self, addr: u64, max: u64, cut: bool) -> bool {
        let Some(mut bytes) = self.mem.read_cstr(addr, max.min(1 << 17) as usize) else {
            return false;
        };
        let long = cut && bytes.len() > self.opts.string_limit;
        if long {
            bytes.truncate(self.opts.string_limit);
        }
        quote(&mut self.out, &bytes);
        if long {
            self.put("...");
        }
        true
    }

    /// A field of fixed size with a string, NUL-terminated unless full.
    pub(super) fn fixed_str(&mut self, bytes: &[u8]) {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        quote(&mut self.out, &bytes[..end]);
    }

    /// Vectors of strings: arguments are listed, the environment is counted.
    pub(super) fn strs(&mut self, addr: u64, len: u64, index: usize) -> bool {
        let count = len / 8 - 1;
        let env = self.plan.bufs[index].slot == crate::plan::Slot::Arg(self.env_arg());
        if env {
            self.hex(addr);
            let plural = if count == 1 { "" } else { "s" };
            let _ = write!(self.out, " /* {count} var{plural} */");
            return true;
        }
        self.array(count, |p, i| {
            match p.nested(index, i * 8) {
                Some(child) => p.buf(child),
                None => match p.mem.read_u64(addr + i * 8) {
                    Some(to) => p.hex(to),
                    None => p.put("?"),
                },
            }
            true
        })
    }

    fn env_arg(&self) -> u8 {
        self.row
            .args
            .iter()
            .position(|a| a.name == "envp")
            .map_or(u8::MAX, |i| i as u8)
    }

    /// `[a, b, ...]`; false if an element failed.
    pub(super) fn array(
        &mut self,
        count: u64,
        mut each: impl FnMut(&mut Self, u64) -> bool,
    ) -> bool {
        self.put("[");
        for i in 0..count {
            if i > 0 {
                self.put(", ");
            }
            if i as usize >= self.opts.array_limit {
                self.put("...");
                break;
            }
            if !each(self, i) {
                return false;
            }
        }
        self.put("]");
        true
    }
}
