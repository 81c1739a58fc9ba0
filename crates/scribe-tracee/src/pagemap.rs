//! Which pages of a range hold data of the process's own. Documentation/admin-guide/mm/pagemap.rst.

use crate::Tid;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;
const PAGE: u64 = scribe_abi::PAGE;

/// Ranges longer than this are looked through for regions that are not empty first: sanitizers map
/// terabytes.
const LONG: u64 = 64 << 20;
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
/// `PAGE_IS_PRESENT`, `PAGE_IS_SWAPPED`; include/uapi/linux/fs.h.
const IN_USE: u64 = 1 << 3 | 1 << 4;
/// Regions that are asked for at once.
const REGIONS: usize = 512;

/// How much is looked at for a first page.
const LOOK: u64 = 1 << 20;

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
        let mut from = start;
        while end - from > LONG {
            let Some((regions, walked)) = regions_in_use::<REGIONS>(file, from, end) else {
                break;
            };
            for (start, end) in regions {
                each_entry(file, start, end, &mut page);
            }
            from = walked;
        }
        each_entry(file, from, end, &mut page);
    }
}

impl Pagemap {
    /// The first page of `[start, end)` that is anonymous memory of this process alone.
    pub fn first_own(&self, start: u64, end: u64) -> Option<u64> {
        let file = self.file.as_ref()?;
        let mut from = start;
        while from < end {
            let mut found = None;
            let mut look = |at, page| {
                if page == Page::Private {
                    found = found.or(Some(at));
                }
            };
            // Piece by piece, as it is hardly ever far.
            let mut next = end.min(from + LOOK);
            match regions_in_use::<1>(file, from, end) {
                Some((regions, walked)) => match regions.first() {
                    Some((start, stop)) => {
                        next = *stop.min(&(start + LOOK));
                        each_entry(file, *start, next, &mut look);
                    }
                    None => next = walked,
                },
                None => each_entry(file, from, next, &mut look),
            }
            if found.is_some() {
                return found;
            }
            from = next.max(from + PAGE);
        }
        None
    }
}

/// Regions in `[start, end)` with pages that are not absent, up to an address. `None`: this kernel
/// cannot tell (before Linux 6.7).
fn regions_in_use<const MOST: usize>(
    file: &File,
    start: u64,
    end: u64,
) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut found = [[0u64; 3]; MOST];
    // struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, and masks:
    // inverted, all of, any of, returned.
    let mut arg = [0u64; 12];
    (arg[0], arg[2], arg[3]) = (96, start, end);
    (arg[5], arg[6]) = (found.as_mut_ptr() as u64, MOST as u64);
    (arg[10], arg[11]) = (IN_USE, IN_USE);
    // SAFETY: the structure is the one that the kernel wants, and `found` has room for so many
    // regions.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, arg.as_mut_ptr()) };
    let regions = found.get(..usize::try_from(got).ok()?)?;
    let walked = arg[4];
    (start < walked && walked <= end)
        .then(|| (regions.iter().map(|r| (r[0], r[1])).collect(), walked))
}

fn each_entry(file: &File, start: u64, end: u64, page: &mut impl FnMut(u64, Page)) {
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
