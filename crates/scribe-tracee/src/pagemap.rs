//! Which pages of a range hold data of the process's own. Documentation/admin-guide/mm/pagemap.rst.

use crate::Tid;
use std::fs::File;
use std::os::unix::fs::FileExt;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;
const PAGE: u64 = scribe_abi::PAGE;

/// What is known of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Never touched: reads as the file, or as zero.
    Absent,
    /// Anonymous memory of this process alone.
    Private,
    /// A page of a file or of shared memory.
    Shared,
}

/// Reads the pagemap of a task.
pub struct Pagemap {
    file: Option<File>,
}

impl Pagemap {
    /// Opens it. Without the right to, every page is reported as private.
    pub fn open(tid: Tid) -> Pagemap {
        Pagemap {
            file: File::open(format!("/proc/{tid}/pagemap")).ok(),
        }
    }

    /// Calls `page(address, state)` for all pages of `[start, end)` that are not absent.
    pub fn for_each(&self, start: u64, end: u64, mut page: impl FnMut(u64, Page)) {
        let Some(file) = &self.file else {
            for addr in (start..end).step_by(PAGE as usize) {
                page(addr, Page::Private);
            }
            return;
        };
        let mut buf = [0u8; 8 * 512];
        let mut addr = start;
        while addr < end {
            let want = (((end - addr) / PAGE) as usize * 8).min(buf.len());
            let got = match file.read_at(&mut buf[..want], addr / PAGE * 8) {
                Ok(n) if n >= 8 => n / 8,
                _ => return,
            };
            for (i, entry) in buf[..got * 8].chunks_exact(8).enumerate() {
                let entry = u64::from_le_bytes(entry.try_into().expect("chunks of 8"));
                let at = addr + i as u64 * PAGE;
                if entry & (PRESENT | SWAPPED) != 0 {
                    let shared = entry & FILE_OR_SHARED != 0;
                    page(at, if shared { Page::Shared } else { Page::Private });
                }
            }
            addr += got as u64 * PAGE;
        }
    }
}
