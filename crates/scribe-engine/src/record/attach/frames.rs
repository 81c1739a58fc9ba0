//! Handlers that interrupted a function of the kernel's vDSO, and are going to return there: when a recording begins, other
//! functions lie at that place.

use scribe_kernel::vdso;
use scribe_tracee::{Mem, maps};

/// How much of a stack is looked at: all of it, unless it lies in something larger.
const STACK: u64 = 16 << 20;
/// A frame has the registers in the order of struct sigcontext (include/uapi/asm/sigcontext.h): ..., rsp, rip, eflags, and
/// a word with the segments: cs, gs, fs, ss. Those of 64-bit code are __USER_CS, 0, 0, __USER_DS.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;

/// Where a process has the kernel's vDSO, and where functions begin in it.
pub(super) struct Code {
    range: std::ops::Range<u64>,
    starts: Vec<u64>,
}

impl Code {
    /// `None`: it has none, or ours, which stays.
    pub fn find(mem: &Mem, maps: &[maps::Mapping]) -> Option<Code> {
        let map = maps.iter().find(|map| map.name == "[vdso]")?;
        let image = mem.read_vec(map.start, map.size() as usize).ok()?;
        if vdso::replaced(&image).is_none_or(|ours| ours == image) {
            return None;
        }
        let starts = vdso::starts(&image).into_iter();
        Some(Code {
            range: map.start..map.end,
            starts: starts.map(|at| map.start + at as u64).collect(),
        })
    }

    /// Whether one of the handlers in which a thread is, whose stack pointer this is, returns into a function.
    pub fn is_interrupted(&self, mem: &Mem, maps: &[maps::Mapping], rsp: u64) -> bool {
        let mut looked_at: Vec<std::ops::Range<u64>> = Vec::new();
        // A handler on an alternate stack interrupted what has another one.
        let mut stacks = vec![rsp];
        while let Some(top) = stacks.pop() {
            let top = top & !7;
            let map = maps.iter().find(|map| (map.start..map.end).contains(&top));
            let Some(map) = map.filter(|map| map.writable()) else {
                continue;
            };
            if looked_at.iter().any(|range| range.contains(&top)) {
                continue;
            }
            let end = map.end.min(top + STACK);
            let mut bytes = vec![0; (end - top) as usize];
            let got = mem.read_some(top, &mut bytes);
            looked_at.push(top..end);
            let words: Vec<u64> = bytes[..got]
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
                .collect();
            for frame in words.windows(4).filter(|frame| frame[3] == SEGMENTS) {
                let (rsp, rip) = (frame[0], frame[1]);
                if self.range.contains(&rip) && !self.starts.contains(&rip) {
                    return true;
                }
                stacks.push(rsp);
            }
        }
        false
    }
}
