//! The alternate signal stack: sigaltstack(2), kernel/signal.c `do_sigaltstack`.

use crate::Errno;
use crate::le;

/// In use, or to be used.
pub const SS_ONSTACK: u32 = 1;
/// None.
pub const SS_DISABLE: u32 = 2;
/// Disabled while a handler runs on it.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest size that the kernel takes (`MINSIGSTKSZ`).
pub const MINSIGSTKSZ: u64 = 2048;

/// `stack_t`, and a task's alternate stack (`sas_ss_*` of `task_struct`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_*`, as last set.
    pub flags: u32,
    /// Size in bytes; 0 if there is none.
    pub size: u64,
}

impl Default for AltStack {
    /// What a new thread has.
    fn default() -> Self {
        Self {
            sp: 0,
            flags: SS_DISABLE,
            size: 0,
        }
    }
}

impl AltStack {
    /// Size of `stack_t`.
    pub const SIZE: usize = 24;

    /// The bytes of `stack_t`.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        le::put64(&mut out, 0, self.sp);
        le::put32(&mut out, 8, self.flags);
        le::put64(&mut out, 16, self.size);
        out
    }

    /// The inverse of [`AltStack::to_bytes`]; padding is dropped.
    pub fn from_bytes(b: &[u8; Self::SIZE]) -> Self {
        Self {
            sp: le::u64(b, 0),
            flags: le::u32(b, 8),
            size: le::u64(b, 16),
        }
    }

    /// What the first process of all has, and by fork every other one in which no thread and no program
    /// ever asked for something else: no stack, and flags that do not say so.
    pub fn initial() -> Self {
        Self {
            flags: 0,
            ..Self::default()
        }
    }

    /// exec (`setup_new_exec`): there is no stack any more, the flags stay.
    pub fn exec_reset(&mut self) {
        (self.sp, self.size) = (0, 0);
    }

    /// A new thread (`CLONE_VM` without `CLONE_VFORK`), and the entry of a handler with
    /// `SS_AUTODISARM` (`sas_ss_reset`).
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// `__on_sig_stack`: whether the address lies on the stack. The top belongs to it, the bottom
    /// does not.
    pub(crate) fn contains(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }

    /// `on_sig_stack`: with `SS_AUTODISARM` nobody is on it.
    pub fn on_stack(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.contains(sp)
    }

    /// `sas_ss_flags`: how the stack stands to this stack pointer.
    pub fn mode(&self, sp: u64) -> u32 {
        match self {
            Self { size: 0, .. } => SS_DISABLE,
            _ if self.on_stack(sp) => SS_ONSTACK,
            _ => 0,
        }
    }

    /// sigaltstack(2): the old stack as the program sees it. `current_sp` is the task's stack
    /// pointer. `frame_size` is the size of the largest signal frame where the kernel enforces it:
    /// the process has permission for dynamic features (AMX), or the kernel runs with
    /// `strict_sas_size` (`sigaltstack_size_valid`, arch/x86/kernel/signal.c).
    pub fn sigaltstack(
        &mut self,
        new: Option<AltStack>,
        current_sp: u64,
        frame_size: Option<u64>,
    ) -> Result<AltStack, Errno> {
        let old = AltStack {
            flags: self.mode(current_sp) | self.flags & SS_AUTODISARM,
            ..*self
        };
        let Some(mut new) = new else { return Ok(old) };
        if self.on_stack(current_sp) {
            return Err(Errno(libc::EPERM));
        }
        let mode = new.flags & !SS_AUTODISARM;
        if !matches!(mode, 0 | SS_ONSTACK | SS_DISABLE) {
            return Err(Errno(libc::EINVAL));
        }
        if *self == new {
            return Ok(old);
        }
        if mode == SS_DISABLE {
            (new.sp, new.size) = (0, 0);
        } else if new.size < MINSIGSTKSZ || frame_size.is_some_and(|f| new.size <= f) {
            return Err(Errno(libc::ENOMEM));
        }
        *self = new;
        Ok(old)
    }
}
