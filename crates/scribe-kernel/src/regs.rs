//! General registers, laid out as `struct user_regs_struct` (sys/user.h), which is what
//! `PTRACE_GETREGS` and `NT_PRSTATUS` carry.

/// `__USER_CS`: the code segment of 64-bit user code (arch/x86/include/asm/segment.h).
pub const USER_CS: u64 = 0x33;
/// `__USER_DS`: the stack and data segment of user code.
pub const USER_DS: u64 = 0x2b;

/// Trap flag.
pub const EFLAGS_TF: u64 = 1 << 8;
/// Direction flag.
pub const EFLAGS_DF: u64 = 1 << 10;
/// Resume flag.
pub const EFLAGS_RF: u64 = 1 << 16;
/// The flags that a program may change through a signal frame (`FIX_EFLAGS`,
/// arch/x86/include/asm/sighandling.h): AC OF DF TF SF ZF AF PF CF RF.
pub const FIX_EFLAGS: u64 = 0x5_0dd5;

/// Number of bytes of [`UserRegs`].
pub const USER_REGS_SIZE: usize = 27 * 8;

/// The general registers of a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl UserRegs {
    /// The registers as an array in the order of the struct.
    pub fn to_words(&self) -> [u64; 27] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            self.cs,
            self.eflags,
            self.rsp,
            self.ss,
            self.fs_base,
            self.gs_base,
            self.ds,
            self.es,
            self.fs,
            self.gs,
        ]
    }

    /// The inverse of [`UserRegs::to_words`].
    pub fn from_words(w: &[u64; 27]) -> Self {
        let [
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            ..,
        ] = *w;
        let [
            ..,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        ] = *w;
        Self {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax,
            rip,
            cs,
            eflags,
            rsp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        }
    }

    /// The bytes of the struct.
    pub fn to_bytes(&self) -> [u8; USER_REGS_SIZE] {
        let mut out = [0; USER_REGS_SIZE];
        for (chunk, w) in out.chunks_exact_mut(8).zip(self.to_words()) {
            chunk.copy_from_slice(&w.to_le_bytes());
        }
        out
    }

    /// The inverse of [`UserRegs::to_bytes`].
    pub fn from_bytes(b: &[u8; USER_REGS_SIZE]) -> Self {
        let mut w = [0; 27];
        for (i, word) in w.iter_mut().enumerate() {
            *word = crate::le::u64(b, i * 8);
        }
        Self::from_words(&w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn same_layout_as_libc() {
        assert_eq!(size_of::<UserRegs>(), size_of::<libc::user_regs_struct>());
        assert_eq!(size_of::<UserRegs>(), USER_REGS_SIZE);
        macro_rules! same {
            ($($f:ident)*) => {$(
                assert_eq!(offset_of!(UserRegs, $f), offset_of!(libc::user_regs_struct, $f));
            )*};
        }
        same!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags
            rsp ss fs_base gs_base ds es fs gs);
    }

    #[test]
    fn words_and_bytes_round_trip() {
        let mut w = [0; 27];
        for (i, x) in w.iter_mut().enumerate() {
            *x = 0x1000 + i as u64;
        }
        let r = UserRegs::from_words(&w);
        assert_eq!(r.to_words(), w);
        assert_eq!(
            r.orig_rax,
            0x1000 + offset_of!(UserRegs, orig_rax) as u64 / 8
        );
        assert_eq!(r.gs, 0x1000 + offset_of!(UserRegs, gs) as u64 / 8);
        assert_eq!(UserRegs::from_bytes(&r.to_bytes()), r);
    }
}
