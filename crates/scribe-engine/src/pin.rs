//! Where CPUID does not trap, and may be executed from places that are not patched, processes stay on one CPU, at
//! recording and replay: some of its answers are different on each.

use crate::state::AddressSpace;
use scribe_tracee::Tid;

/// Text longer than this is not searched.
pub(crate) const LONG_TEXT: u64 = 32 << 20;

/// A set of CPUs, as the kernel has it.
pub(crate) type Cpus = [u64; 16];

/// Where a task may run.
fn cpus_of(tid: Tid) -> Option<Cpus> {
    let mut set = Cpus::default();
    // SAFETY: room for the result.
    let got = unsafe { libc::sched_getaffinity(tid, size_of_val(&set), set.as_mut_ptr().cast()) };
    (got == 0).then_some(set)
}

/// Lets a task run there. That it is gone, or may not be told so, is no harm.
fn put(tid: Tid, set: &Cpus) {
    // SAFETY: the set is as long as its size says.
    unsafe { libc::sched_setaffinity(tid, size_of_val(set), set.as_ptr().cast()) };
}

/// The CPU that the engine itself has first.
fn first() -> Option<Cpus> {
    let own = cpus_of(0)?;
    let word = own.iter().position(|word| *word != 0)?;
    let mut set = Cpus::default();
    set[word] = own[word] & own[word].wrapping_neg();
    Some(set)
}

/// Whether a call maps code that nobody has searched: what has just been made, or too long a file.
pub(crate) fn maps_unknown_code(nr: u32, args: &[u64; 6]) -> bool {
    let code = args[2] & libc::PROT_EXEC as u64 != 0;
    match i64::from(nr) {
        libc::SYS_mmap => {
            let flags = args[3] as i32;
            let private = flags & libc::MAP_TYPE == libc::MAP_PRIVATE;
            let file = private && flags & libc::MAP_ANONYMOUS == 0;
            code && (!file || args[1] > LONG_TEXT)
        }
        libc::SYS_mprotect | libc::SYS_pkey_mprotect => code,
        _ => false,
    }
}

impl AddressSpace {
    /// Keeps its tasks on one CPU; those that they make later stay there, too.
    pub(crate) fn pin(&self, tids: impl IntoIterator<Item = Tid>) {
        let mut pinned = self.pinned.borrow_mut();
        for tid in tids {
            if pinned.is_none() {
                *pinned = cpus_of(tid);
            }
            if let Some(only) = first() {
                put(tid, &only);
            }
        }
    }

    /// They may run where the program wants it again.
    pub(crate) fn unpin(&self, tids: impl IntoIterator<Item = Tid>) {
        if let Some(set) = self.pinned.take() {
            tids.into_iter().for_each(|tid| put(tid, &set));
        }
    }

    /// The program has just said where a task of it is to run.
    pub(crate) fn pin_again(&self, tid: Tid) {
        if self.pinned.borrow().is_some() {
            self.pinned.replace(None);
            self.pin([tid]);
        }
    }

    /// What sched_getaffinity(2) tells the program, if that is not what the kernel says.
    pub(crate) fn shown_cpus(&self) -> Option<Vec<u8>> {
        let set = (*self.pinned.borrow())?;
        Some(set.iter().flat_map(|word| word.to_le_bytes()).collect())
    }
}
