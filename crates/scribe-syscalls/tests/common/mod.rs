//! A fake memory and short names for tests.
#![allow(dead_code)]

use std::collections::BTreeMap;

use scribe_syscalls::{Call, Dir, Memory, OutRange, Plan, Row, lookup, outputs, plan};

/// Memory of whole pages.
#[derive(Debug, Default, Clone)]
pub struct Mem {
    pub pages: BTreeMap<u64, Vec<u8>>,
}

impl Mem {
    /// Maps the pages of a range, and writes bytes at its start.
    pub fn put(&mut self, addr: u64, bytes: &[u8]) -> &mut Self {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + done as u64;
            let off = (at % 4096) as usize;
            let n = (4096 - off).min(bytes.len() - done);
            let page = self.pages.entry(at / 4096).or_insert_with(|| vec![0; 4096]);
            page[off..off + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        self
    }

    /// Little-endian words of eight bytes.
    pub fn words(&mut self, addr: u64, words: &[u64]) -> &mut Self {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(addr, &bytes)
    }
}

impl Memory for Mem {
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            let Some(page) = self.pages.get(&(at / 4096)) else {
                break;
            };
            let off = (at % 4096) as usize;
            let n = (4096 - off).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&page[off..off + n]);
            done += n;
        }
        done
    }
}

pub struct Case {
    pub row: &'static Row,
    pub call: Call,
    pub plan: Plan,
    pub mem: Mem,
}

/// Looks up and plans a call.
pub fn case(mem: &Mem, nr: u32, args: &[u64]) -> Case {
    let mut call = Call { nr, args: [0; 6] };
    call.args[..args.len()].copy_from_slice(args);
    let row = lookup(&call).unwrap_or_else(|| panic!("no row for {call:x?}"));
    Case {
        row,
        call,
        plan: plan(row, &call, mem),
        mem: mem.clone(),
    }
}

impl Case {
    /// (direction, address, capacity) of the buffers.
    pub fn bufs(&self) -> Vec<(Dir, u64, u64)> {
        self.plan
            .bufs
            .iter()
            .map(|b| (b.dir, b.addr, b.cap))
            .collect()
    }

    /// (address, length) of what was written.
    pub fn out(&self, ret: i64) -> Vec<(u64, u64)> {
        let mut read = |i: usize, off: u64, bytes: &mut [u8]| {
            self.mem.read_exact(self.plan.bufs[i].addr + off, bytes)
        };
        let ranges = outputs(self.row, &self.call, &self.plan, ret, &mut read);
        ranges
            .iter()
            .map(|r: &OutRange| (self.plan.bufs[r.buf].addr + r.off, r.len))
            .collect()
    }
}
