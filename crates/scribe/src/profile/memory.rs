//! The memory of a task at a call, as far as the log holds it.

use scribe_log::{Section, Sections};
use scribe_syscalls::Memory;

/// What the log holds of memory at one event: what the call read, and what it wrote.
#[derive(Default)]
pub struct EventMemory<'a> {
    /// What was written comes first, so that it is found first.
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> EventMemory<'a> {
    /// Of a record's sections, and data that preceded it.
    pub fn new(sections: &'a Sections<'_>, data: &'a [(u64, Vec<u8>)]) -> EventMemory<'a> {
        let mut pieces: Vec<_> = sections.outs().collect();
        pieces.extend(data.iter().map(|(addr, bytes)| (*addr, &bytes[..])));
        pieces.extend(sections.iter().filter_map(|section| match section {
            Section::In { addr, bytes, .. } => Some((addr, bytes)),
            _ => None,
        }));
        pieces.retain(|piece| !piece.1.is_empty());
        EventMemory { pieces }
    }

    /// As much as is known of `len` bytes.
    pub fn bytes(&self, addr: u64, len: u64) -> Vec<u8> {
        let known: usize = self.pieces.iter().map(|piece| piece.1.len()).sum();
        let mut buf = vec![0; usize::try_from(len).map_or(known, |len| len.min(known))];
        let got = self.read_some(addr, &mut buf);
        buf.truncate(got);
        buf
    }
}

impl Memory for EventMemory<'_> {
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            let found = self
                .pieces
                .iter()
                .enumerate()
                .find_map(|(i, (start, bytes))| {
                    let skip = usize::try_from(at.checked_sub(*start)?).ok()?;
                    Some((i, bytes.get(skip..).filter(|rest| !rest.is_empty())?))
                });
            let Some((index, rest)) = found else { break };
            // Up to where a piece begins that hides this one.
            let hidden = self.pieces[..index]
                .iter()
                .filter_map(|piece| piece.0.checked_sub(at));
            let free = hidden
                .min()
                .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let n = rest.len().min(buf.len() - done).min(free.max(1));
            buf[done..done + n].copy_from_slice(&rest[..n]);
            done += n;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_and_output_wins() {
        let sections = Sections::build(|w| {
            w.input(0x1000, 8, b"abcdefgh");
            w.out(0x1004, b"XY");
            w.out(0x1008, b"!");
        });
        let memory = EventMemory::new(&sections, &[]);
        assert_eq!(memory.bytes(0x1004, 3), b"XYg");
        assert_eq!(memory.bytes(0x1006, 9), b"gh!");
        assert_eq!(memory.bytes(0x1002, 4), b"cdXY");
        assert!(memory.bytes(0xfff, 4).is_empty());
    }
}
