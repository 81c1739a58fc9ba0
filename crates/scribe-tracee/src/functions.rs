//! Instructions of a kind in a program's file, found without running it: where functions begin and end stands
//! in the tables for unwinding (`.eh_frame_hdr`), which also stripped files have, and from a function's beginning
//! on instructions can be told from data that looks like them.

use crate::patch::Kind;
use iced_x86::{Decoder, DecoderOptions};

/// `PT_GNU_EH_FRAME`.
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`: what all linkers write.
const TABLE_ENCODING: u8 = 0x3b;
/// Bytes of a program header.
const PHDR: usize = 56;
/// Longer functions are not decoded.
const LONGEST: u64 = 1 << 20;

/// A loadable part of the file.
struct Load {
    addr: u64,
    offset: u64,
    len: u64,
}

/// An ELF file of 64 bits as far as functions are concerned.
struct File<'a> {
    bytes: &'a [u8],
    loads: Vec<Load>,
    /// Where the table of functions stands: its address, that of its first entry, and how many entries.
    table: (u64, u64, u64),
}

/// Offsets in the file of the instructions of this kind between `from` and `to` that stand in functions.
/// What cannot be made out is left out.
pub fn instructions(bytes: &[u8], kind: Kind, from: u64, to: u64) -> Vec<u64> {
    let Some(file) = File::parse(bytes) else {
        return Vec::new();
    };
    let to = (to as usize).min(bytes.len());
    let Some(text) = bytes.get(from as usize..to) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    // The last function that was decoded: several places stand in one mostly.
    let mut last: Option<(u64, u64, Vec<u64>)> = None;
    for at in memchr::memmem::find_iter(text, kind.code()) {
        let offset = from + at as u64;
        let Some(addr) = file.address(offset) else {
            continue;
        };
        if last
            .as_ref()
            .is_none_or(|(start, end, _)| !(*start..*end).contains(&addr))
        {
            last = file.function(addr).map(|(start, end)| {
                let places = file.decode(kind, start, end);
                (start, end, places)
            });
        }
        if last
            .as_ref()
            .is_some_and(|(_, _, places)| places.contains(&addr))
        {
            found.push(offset);
        }
    }
    found
}

impl<'a> File<'a> {
    fn parse(bytes: &'a [u8]) -> Option<File<'a>> {
        // ELFCLASS64, little endian.
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let first = word(bytes, 32)?;
        let count = u64::from(half(bytes, 56)?);
        let mut loads = Vec::new();
        let mut header = None;
        for i in 0..count {
            let at = first.checked_add(i * PHDR as u64)?;
            let kind = int(bytes, at)?;
            let load = Load {
                addr: word(bytes, at + 16)?,
                offset: word(bytes, at + 8)?,
                len: word(bytes, at + 32)?,
            };
            match kind {
                1 => loads.push(load),
                PT_GNU_EH_FRAME => header = Some(load.addr),
                _ => {}
            }
        }
        let mut file = File {
            bytes,
            loads,
            table: (0, 0, 0),
        };
        let header = header?;
        let at = file.offset(header)?;
        // Version 1; .eh_frame's address in four bytes, and so the number of entries (DW_EH_PE_udata4).
        let head = bytes.get(at as usize..)?.get(..4)?;
        let narrow = head[1] & 0xf == 3 || head[1] & 0xf == 0xb;
        if head[0] != 1 || !narrow || head[2] != 3 || head[3] != TABLE_ENCODING {
            return None;
        }
        let count = int(bytes, at + 8)?;
        file.table = (header, at + 12, count.into());
        Some(file)
    }

    fn offset(&self, addr: u64) -> Option<u64> {
        let inside = |load: &&Load| addr >= load.addr && addr - load.addr < load.len;
        let load = self.loads.iter().find(inside)?;
        load.offset.checked_add(addr - load.addr)
    }

    fn address(&self, offset: u64) -> Option<u64> {
        let inside = |load: &&Load| offset >= load.offset && offset - load.offset < load.len;
        let load = self.loads.iter().find(inside)?;
        load.addr.checked_add(offset - load.offset)
    }

    /// One of the table's entries: where its function begins, and where that is described.
    fn entry(&self, index: u64) -> Option<(u64, u64)> {
        let (base, first, _) = self.table;
        let relative = |at: u64| {
            let distance = i64::from(int(self.bytes, at)? as i32);
            Some(base.wrapping_add_signed(distance))
        };
        let at = first.checked_add(index.checked_mul(8)?)?;
        Some((relative(at)?, relative(at + 4)?))
    }

    /// Beginning and end of the function around an address.
    fn function(&self, addr: u64) -> Option<(u64, u64)> {
        let (mut low, mut high) = (0, self.table.2);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.0 <= addr {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let (start, description) = self.entry(low.checked_sub(1)?)?;
        // Length, CIE, beginning relative to here, length. That the beginning is the same shows that addresses
        // have this form, the usual one.
        let at = self.offset(description)?;
        let distance = i64::from(int(self.bytes, at + 8)? as i32);
        let len = u64::from(int(self.bytes, at + 12)?);
        let begins = description.wrapping_add(8).wrapping_add_signed(distance);
        let end = start.checked_add(len)?;
        (begins == start && addr < end && len <= LONGEST).then_some((start, end))
    }

    /// Addresses of the instructions of a kind in a function.
    fn decode(&self, kind: Kind, start: u64, end: u64) -> Vec<u64> {
        let Some(code) = self.offset(start).and_then(|at| {
            let rest = self.bytes.get(at as usize..)?;
            rest.get(..(end - start) as usize)
        }) else {
            return Vec::new();
        };
        let mut places = Vec::new();
        for instruction in &mut Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
            if instruction.is_invalid() {
                // Data from here on.
                break;
            }
            let at = (instruction.ip() - start) as usize;
            if instruction.len() == kind.length() && code[at..].starts_with(kind.code()) {
                places.push(instruction.ip());
            }
        }
        places
    }
}

fn half(bytes: &[u8], at: u64) -> Option<u16> {
    let raw = bytes.get(at as usize..)?.first_chunk()?;
    Some(u16::from_le_bytes(*raw))
}

fn int(bytes: &[u8], at: u64) -> Option<u32> {
    let raw = bytes.get(at as usize..)?.first_chunk()?;
    Some(u32::from_le_bytes(*raw))
}

fn word(bytes: &[u8], at: u64) -> Option<u64> {
    let raw = bytes.get(at as usize..)?.first_chunk()?;
    Some(u64::from_le_bytes(*raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_asks_the_cpu() {
        let Ok(bytes) = std::fs::read("/lib64/ld-linux-x86-64.so.2") else {
            return;
        };
        let len = bytes.len() as u64;
        let found = instructions(&bytes, Kind::Cpuid, 0, len);
        assert!(found.len() > 8, "{found:?}");
        for at in found {
            assert!(bytes[at as usize..].starts_with(&[0x0f, 0xa2]));
        }
    }

    #[test]
    fn what_is_odd_has_no_functions() {
        let Ok(good) = std::fs::read("/proc/self/exe") else {
            return;
        };
        for len in (0..1000).chain([good.len() / 2]) {
            instructions(&good[..len], Kind::Cpuid, 0, u64::MAX);
        }
        let mut bad = good[..good.len().min(1 << 16)].to_vec();
        for at in 0..512 {
            let was = std::mem::replace(&mut bad[at], 0xff);
            instructions(&bad, Kind::Cpuid, 0, u64::MAX);
            bad[at] = was;
        }
    }
}
