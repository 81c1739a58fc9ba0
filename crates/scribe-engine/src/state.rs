//! What recorder and replayer both know of a process's memory, and the hashes which compare two
//! executions.

use crate::agent::Sites;
use scribe_abi::hash::Hash;
use scribe_abi::{PAGE, is_ours};
use scribe_kernel::xstate::xstate_bv;
use scribe_syscalls::{Call, Memory, Plan, Row};
use scribe_tracee::translate::Translation;
use scribe_tracee::{Mem, Regs, Stopped, Tid, maps, pagemap};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use xxhash_rust::xxh3::xxh3_64;

/// One address space, shared by the tasks that share memory.
pub struct AddressSpace {
    /// Access to it.
    pub mem: Mem,
    /// Scratch areas: slot to mapped length.
    pub scratch: RefCell<HashMap<u64, u64>>,
    /// Scratch slots in use.
    pub slots: RefCell<BTreeSet<u64>>,
    /// Whether memory in it is (or was) shared with other processes: their tasks belong to the
    /// same domain. Never cleared before the next exec.
    pub shared: Cell<bool>,
    /// End of the heap that `brk` moves.
    pub brk: Cell<u64>,
    /// Patched places.
    pub sites: RefCell<Sites>,
    /// The memory shared with the engine is mapped in it.
    pub agent: Cell<bool>,
    /// Where the vDSO was put, while recording.
    pub vdso: Cell<(u64, u64)>,
    /// How far before it the kernel had put the data that its own uses.
    pub vvar_gap: Cell<Option<u64>>,
    /// Its code as replays run it before forced stops.
    pub translation: RefCell<Option<Translation>>,
    /// Its tasks are kept on one CPU; where they could run before.
    pub(crate) pinned: RefCell<Option<crate::pin::Cpus>>,
    /// There is code in it that nobody has searched for CPUIDs.
    pub(crate) unknown_code: Cell<bool>,
}

impl AddressSpace {
    /// A new one, as exec makes it.
    pub fn open(tid: Tid) -> scribe_tracee::Result<AddressSpace> {
        Ok(AddressSpace {
            mem: Mem::open(tid)?,
            scratch: RefCell::default(),
            slots: RefCell::default(),
            shared: Cell::new(false),
            brk: Cell::new(0),
            sites: RefCell::default(),
            agent: Cell::new(false),
            vdso: Cell::new((0, 0)),
            vvar_gap: Cell::new(None),
            translation: RefCell::default(),
            pinned: RefCell::default(),
            unknown_code: Cell::new(false),
        })
    }

    /// Where the kernel put its vDSO, and the data that it uses.
    pub fn note_vdso(&self, maps: &[maps::Mapping]) {
        if let Some(vdso) = maps.iter().find(|map| map.name == "[vdso]") {
            self.vdso.set((vdso.start, vdso.end));
            let vvar = maps.iter().filter(|map| map.name.starts_with("[vvar"));
            let first = vvar.map(|map| map.start).min();
            let gap = first.and_then(|first| vdso.start.checked_sub(first));
            self.vvar_gap.set(gap);
        }
    }

    /// The copy that fork makes.
    pub fn forked(&self, tid: Tid) -> scribe_tracee::Result<AddressSpace> {
        Ok(AddressSpace {
            mem: Mem::open(tid)?,
            scratch: self.scratch.clone(),
            slots: RefCell::default(),
            shared: self.shared.clone(),
            brk: self.brk.clone(),
            sites: self.sites.clone(),
            agent: self.agent.clone(),
            vdso: self.vdso.clone(),
            vvar_gap: self.vvar_gap.clone(),
            translation: self.translation.clone(),
            pinned: self.pinned.clone(),
            unknown_code: self.unknown_code.clone(),
        })
    }

    /// Takes the lowest free scratch slot.
    pub fn take_slot(&self) -> u64 {
        let mut slots = self.slots.borrow_mut();
        let free = (0..)
            .find(|slot| !slots.contains(slot))
            .expect("slots are unbounded");
        slots.insert(free);
        free
    }
}

impl Memory for AddressSpace {
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.mem.read_some(addr, buf)
    }
}

/// Memory of a stopped task that is read by pages, each once: what a call leads to is gone through several times, and
/// the strings of an execve are many.
pub struct Pages<'a> {
    mem: &'a Mem,
    seen: RefCell<HashMap<u64, Option<Box<[u8]>>>>,
}

impl<'a> Pages<'a> {
    /// Nothing is read yet.
    pub fn new(mem: &'a Mem) -> Pages<'a> {
        Pages {
            mem,
            seen: RefCell::default(),
        }
    }
}

impl Memory for Pages<'_> {
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        if buf.len() > PAGE as usize || addr >= 1 << 47 {
            return self.mem.read_some(addr, buf);
        }
        let mut seen = self.seen.borrow_mut();
        let mut done = 0;
        while done < buf.len() {
            let at = addr + done as u64;
            let page = seen.entry(at & !(PAGE - 1)).or_insert_with_key(|start| {
                let mut page = vec![0; PAGE as usize].into_boxed_slice();
                (self.mem.read_some(*start, &mut page) == page.len()).then_some(page)
            });
            let Some(page) = page else {
                break;
            };
            let from = &page[(at % PAGE) as usize..];
            let n = from.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&from[..n]);
            done += n;
        }
        done
    }
}

/// Largest piece of memory hashed or copied at once.
const PIECE: usize = scribe_abi::hash::PIECE;

/// Calls `each` with successive pieces of `[addr, addr + len)`; stops where memory is unreadable.
pub fn for_pieces(mem: &Mem, addr: u64, len: u64, each: impl FnMut(u64, &[u8])) {
    pieces(|at, buf| mem.read_some(at, buf), addr, len, each);
}

fn pieces(
    read_some: impl Fn(u64, &mut [u8]) -> usize,
    addr: u64,
    len: u64,
    mut each: impl FnMut(u64, &[u8]),
) {
    let mut buf = vec![0; PIECE.min(len as usize)];
    let mut done = 0;
    while done < len {
        let want = PIECE.min((len - done) as usize);
        let got = read_some(addr + done, &mut buf[..want]);
        if got == 0 {
            return;
        }
        each(addr + done, &buf[..got]);
        done += got as u64;
    }
}

/// Hash of what a call reads: its number, its arguments, the memory they lead to. Verified at
/// replay.
pub fn input_hash(row: &Row, call: &Call, plan: &Plan, mem: &impl Memory) -> u32 {
    let mut hash = Hash::new(call.nr);
    for arg in call.args.iter().take(row.args.len()) {
        hash.word(*arg);
    }
    for buf in plan.bufs.iter().filter(|buf| buf.input) {
        let read = |at, to: &mut [u8]| mem.read_some(at, to);
        pieces(read, buf.addr, buf.cap, |_, piece| hash.bytes(piece));
    }
    hash.finish()
}

/// Hash of the general registers at a sync point.
pub fn regs_hash(regs: &Regs) -> u64 {
    // RF (bit 16) is set by the CPU on some faults and means nothing to the program.
    let flags = regs.eflags & !(1 << 16);
    let words = [
        regs.r15,
        regs.r14,
        regs.r13,
        regs.r12,
        regs.rbp,
        regs.rbx,
        regs.r11,
        regs.r10,
        regs.r9,
        regs.r8,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        regs.rip,
        flags,
        regs.rsp,
        regs.fs_base,
        regs.gs_base,
    ];
    let mut bytes = [0u8; 20 * 8];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&bytes)
}

/// Hash of one page at its address; zero for a page of zeroes, so that untouched and zeroed memory
/// are the same.
fn page_hash(addr: u64, page: &[u8]) -> u64 {
    if page.iter().all(|byte| *byte == 0) {
        return 0;
    }
    // Mixing the address in by the seed makes swapped pages differ.
    xxhash_rust::xxh3::xxh3_64_with_seed(page, addr)
}

/// Whether a mapping's content is the program's own state.
fn is_state(map: &maps::Mapping) -> bool {
    map.writable()
        && !is_ours(map.start, map.end)
        && !map.name.starts_with("[v")
        && map.start < 1 << 47
        && (!map.name.starts_with("/dev/")
            || map.name.starts_with("/dev/shm/")
            || map.name.starts_with("/dev/zero"))
        && !map.name.starts_with("/memfd:i915")
}

/// Most memory that is read at once for hashing, in bytes: it should stay in the cache.
const RUN: usize = 64 << 10;

/// How much of a mapping of a file is looked at page by page, in bytes.
const WHOLE: u64 = 64 << 20;

/// Page hashes of the writable memory of a task, for comparing two executions: sum them for one
/// number, list them to find the page that differs.
pub fn page_hashes(tid: Tid, mem: &Mem, mut each: impl FnMut(u64, u64)) {
    let pages = pagemap::Pagemap::open(tid);
    let mut buf = vec![0; RUN];
    for map in maps::read(tid).iter().filter(|map| is_state(map)) {
        // Pages of a shared object need not be in this process's page tables. A page of a private mapping
        // that is still the file's may have become the process's own without any change of what it holds:
        // by mlock, or by a store that was stopped behind its fault and before its effect.
        let whole = match map.shared || map.ino != 0 {
            true => map.size().min(WHOLE),
            false => 0,
        };
        for_pieces(mem, map.start, whole, |at, piece| {
            for (i, page) in piece.chunks(PAGE as usize).enumerate() {
                let addr = at + i as u64 * PAGE;
                each(addr, page_hash(addr, page));
            }
        });
        if map.shared {
            continue;
        }
        // Pages side by side are read at once.
        let rest = map.start + whole;
        let mut run = rest..rest;
        let mut hash = |run: &std::ops::Range<u64>| {
            let mut at = run.start;
            while at < run.end {
                let len = (run.end - at).min(RUN as u64) as usize;
                if mem.read(at, &mut buf[..len]).is_ok() {
                    for (i, page) in buf[..len].chunks_exact(PAGE as usize).enumerate() {
                        let addr = at + i as u64 * PAGE;
                        each(addr, page_hash(addr, page));
                    }
                }
                at += len as u64;
            }
        };
        pages.for_each(rest, map.end, |addr, page| {
            if page != pagemap::Page::Private {
                return;
            }
            if addr != run.end {
                hash(&run);
                run.start = addr;
            }
            run.end = addr + PAGE;
        });
        hash(&run);
    }
}

/// Writes the registers and the memory that is hashed to a file in `dir`, named by the hashes that
/// the recording has for them: what a failed comparison is looked into with. Errors are not
/// reported; the file is missing then.
pub fn dump(dir: &std::path::Path, stopped: &Stopped, mem: &Mem, regs: &Regs, hashes: (u64, u64)) {
    let tid = stopped.tid();
    let in_use = stopped.xstate().map_or(0, |image| xstate_bv(&image));
    use std::io::Write;
    let path = dir.join(format!("{:016x}-{:016x}", hashes.0, hashes.1));
    let Ok(file) = std::fs::File::create(path) else {
        return;
    };
    let mut out = std::io::BufWriter::new(file);
    let _ = writeln!(out, "{regs:x?}");
    let _ = writeln!(out, "components in use {in_use:x}");
    let mut page = [0u8; PAGE as usize];
    page_hashes(tid, mem, |addr, hash| {
        let _ = writeln!(out, "page {addr:#x} {hash:016x}");
        if mem.read(addr, &mut page).is_ok() {
            for (i, row) in page.chunks_exact(16).enumerate() {
                if row.iter().any(|byte| *byte != 0) {
                    let _ = writeln!(out, "{:#x}: {row:02x?}", addr + i as u64 * 16);
                }
            }
        }
    });
}

/// Memory of a process that no file holds: resident pages without those of files (/proc/PID/statm).
pub fn own_memory(tid: Tid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{tid}/statm")).unwrap_or_default();
    let mut fields = text
        .split_whitespace()
        .skip(1)
        .map(|n| n.parse().unwrap_or(0));
    let (resident, shared): (u64, u64) = (
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
    );
    resident.saturating_sub(shared) * PAGE
}

/// One number for all writable memory of a task; independent of how it is cut into mappings.
pub fn memory_hash(tid: Tid, mem: &Mem) -> u64 {
    memory_hash_by_page(tid, mem, |_, _| ())
}

/// The same; `each` gets what [`page_hashes`] gives.
pub fn memory_hash_by_page(tid: Tid, mem: &Mem, mut each: impl FnMut(u64, u64)) -> u64 {
    let mut sum = 0u64;
    page_hashes(tid, mem, |addr, hash| {
        sum = sum.wrapping_add(hash);
        each(addr, hash);
    });
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_do_not_count() {
        assert_eq!(page_hash(0x1000, &[0; 4096]), 0);
        assert_ne!(page_hash(0x1000, &[1; 4096]), page_hash(0x2000, &[1; 4096]));
    }

    #[test]
    fn resume_flag_is_ignored() {
        // SAFETY: all zero is a valid value of this plain struct.
        let mut regs: Regs = unsafe { std::mem::zeroed() };
        let plain = regs_hash(&regs);
        regs.eflags |= 1 << 16;
        assert_eq!(regs_hash(&regs), plain);
        regs.rdi = 1;
        assert_ne!(regs_hash(&regs), plain);
    }
}
