//! The model of what the kernel does to a task: signals, seccomp filters, descriptors, robust
//! futexes, the vDSO image.
//!
//! Everything here is a function over values. Recorder and replayer call the same functions, so
//! that the same inputs give the same bytes on both sides.
//!
//! May depend on: `libc` (constants and layouts), `thiserror`. May not: touch processes, know of
//! ptrace, do I/O, know of the log.

#![forbid(unsafe_code)]

pub mod fdtable;
pub mod futex;
pub mod pi;
pub mod regs;
pub mod seccomp;
pub mod signal;
pub mod vdso;
pub mod xstate;

pub use regs::UserRegs;
pub use xstate::XstateLayout;

/// A kernel error number, positive (`libc::EINVAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("errno {0}")]
pub struct Errno(pub i32);

impl Errno {
    /// The value that the system call leaves in rax.
    pub fn rax(self) -> u64 {
        -i64::from(self.0) as u64
    }
}

/// End of the user half of the address space with 4-level paging
/// (`TASK_SIZE_MAX`, arch/x86/include/asm/page_64_types.h).
pub const TASK_SIZE_MAX: u64 = (1 << 47) - 4096;

/// The kernel's `access_ok`: whether a range lies in the user half.
pub(crate) fn access_ok(addr: u64, len: u64) -> bool {
    addr.checked_add(len)
        .is_some_and(|end| end <= TASK_SIZE_MAX)
}

/// Little-endian access to byte images, with the panics of slice indexing.
pub(crate) mod le {
    pub fn u32(b: &[u8], off: usize) -> u32 {
        u32::from_le_bytes(b[off..off + 4].try_into().expect("4 bytes"))
    }
    pub fn u64(b: &[u8], off: usize) -> u64 {
        u64::from_le_bytes(b[off..off + 8].try_into().expect("8 bytes"))
    }
    pub fn put16(b: &mut [u8], off: usize, v: u16) {
        b[off..off + 2].copy_from_slice(&v.to_le_bytes());
    }
    pub fn put32(b: &mut [u8], off: usize, v: u32) {
        b[off..off + 4].copy_from_slice(&v.to_le_bytes());
    }
    pub fn put64(b: &mut [u8], off: usize, v: u64) {
        b[off..off + 8].copy_from_slice(&v.to_le_bytes());
    }
}
