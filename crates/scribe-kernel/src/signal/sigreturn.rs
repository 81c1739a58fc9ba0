//! Returning from a signal handler: `rt_sigreturn`.
//!
//! Source: arch/x86/kernel/signal_64.c `rt_sigreturn` and `restore_sigcontext`,
//! arch/x86/kernel/fpu/signal.c `__fpu_restore_sig`, kernel/signal.c `restore_altstack`; SDM
//! volume 1 section 13.8 (XRSTOR) for what the CPU refuses.

use super::Mask;
use super::altstack::AltStack;
use super::frame::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FRAME_SIZE, UC, UC_MCONTEXT, UC_SIGMASK, UC_SIZE, UC_STACK,
    UC_STRICT_RESTORE_SS, sc,
};
use crate::regs::{FIX_EFLAGS, USER_CS, USER_DS, UserRegs};
use crate::xstate::{self, XstateLayout, feature};
use crate::{access_ok, le};

/// Reads memory of the task; false if not all of it is readable.
pub type ReadMem<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> bool;

/// The state that a frame restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// General registers; `orig_rax` is -1, so that nothing is restarted.
    pub regs: UserRegs,
    /// The signal mask.
    pub mask: Mask,
    /// The alternate stack.
    pub altstack: AltStack,
    /// The extended state, normalised, for `PTRACE_SETREGSET`. `None`: [`xstate::fresh_image`].
    pub xstate: Option<Vec<u8>>,
}

/// The frame cannot be used: the kernel forces SIGSEGV (`signal_fault`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad signal frame")]
pub struct BadFrame {
    /// The mask, if it was restored before the fault was found.
    pub mask: Option<Mask>,
}

/// Reads the frame for a task at `rt_sigreturn`. `frame_sp` is its rsp (the return address above
/// the frame is already popped), `cur` its registers, `alt` its alternate stack.
pub fn parse_sigreturn(
    frame_sp: u64,
    read: ReadMem,
    cur: &UserRegs,
    layout: &XstateLayout,
    alt: &AltStack,
) -> Result<Restored, BadFrame> {
    let frame = frame_sp.wrapping_sub(8);
    let mut uc = [0; UC_SIZE];
    if !access_ok(frame, FRAME_SIZE as u64) || !read(frame + UC as u64, &mut uc) {
        return Err(BadFrame { mask: None });
    }
    let mask = Mask(le::u64(&uc, UC_SIGMASK)).settable();
    let uc_flags = le::u64(&uc, 0);

    // Errors of sigaltstack are swallowed. The stack pointer that counts is that of the handler,
    // since Linux 6.12 (before: that of the restored state).
    let mut altstack = *alt;
    let stack = uc[UC_STACK..UC_STACK + AltStack::SIZE]
        .try_into()
        .expect("size of stack_t");
    let _ = altstack.sigaltstack(Some(AltStack::from_bytes(stack)), frame_sp, None);

    let ctx = &uc[UC_MCONTEXT..UC_SIGMASK];
    let regs = restore_regs(ctx, uc_flags, cur);
    let fpstate = le::u64(ctx, sc::FPSTATE);
    let xstate = match fpstate {
        0 => None,
        at => Some(restore_xstate(at, read, layout).ok_or(BadFrame { mask: Some(mask) })?),
    };
    Ok(Restored {
        regs,
        mask,
        altstack,
        xstate,
    })
}

fn restore_regs(ctx: &[u8], uc_flags: u64, cur: &UserRegs) -> UserRegs {
    let w = |i: usize| le::u64(ctx, sc::R8 + i * 8);
    let seg = |off: usize| u64::from(ctx[off]) | u64::from(ctx[off + 1]) << 8 | 3;
    let cs = seg(sc::CS);
    let mut ss = seg(sc::SS);
    if uc_flags & UC_STRICT_RESTORE_SS == 0 && cs == USER_CS {
        // `force_valid_ss`. Segments of an LDT could be valid too; that needs the descriptor table.
        ss = USER_DS;
    }
    UserRegs {
        r8: w(0),
        r9: w(1),
        r10: w(2),
        r11: w(3),
        r12: w(4),
        r13: w(5),
        r14: w(6),
        r15: w(7),
        rdi: w(8),
        rsi: w(9),
        rbp: w(10),
        rbx: w(11),
        rdx: w(12),
        rax: w(13),
        rcx: w(14),
        rsp: w(15),
        rip: w(16),
        eflags: cur.eflags & !FIX_EFLAGS | le::u64(ctx, sc::EFLAGS) & FIX_EFLAGS,
        cs,
        ss,
        orig_rax: u64::MAX,
        ..*cur
    }
}

fn restore_xstate(at: u64, read: ReadMem, layout: &XstateLayout) -> Option<Vec<u8>> {
    let size = layout.frame_size();
    if !access_ok(at, size as u64 + 4) {
        return None;
    }
    let mut area = vec![0; size];
    if !read(at, &mut area[..xstate::LEGACY_SIZE]) {
        return None;
    }
    let mut out = xstate::init_image(layout);
    match extended_features(at, read, layout, &area)? {
        None => {
            // FXRSTOR needs an alignment of 16.
            if !at.is_multiple_of(16) {
                return None;
            }
            xstate::copy_components(layout, feature::FPSSE, &area, &mut out);
            put_mxcsr(layout, &area, &mut out)?;
        }
        Some(wanted) => {
            // XRSTOR needs an alignment of 64, no bits that XCR0 does not have, and the standard
            // format.
            if !at.is_multiple_of(64)
                || !read(at + 512, &mut area[xstate::HEADER..xstate::MIN_SIZE])
            {
                return None;
            }
            let bv = xstate::xstate_bv(&area);
            let rest = &area[xstate::HEADER + 8..xstate::HEADER + 24];
            if bv & !layout.features != 0 || rest.iter().any(|&b| b != 0) {
                return None;
            }
            let wanted = wanted & layout.frame_features;
            let tail = layout.size_of(wanted & bv);
            if tail > xstate::MIN_SIZE
                && !read(
                    at + xstate::MIN_SIZE as u64,
                    &mut area[xstate::MIN_SIZE..tail],
                )
            {
                return None;
            }
            xstate::copy_components(layout, wanted & bv, &area, &mut out);
            // The standard form loads MXCSR whatever XSTATE_BV says.
            if wanted & (feature::SSE | feature::YMM) != 0 {
                put_mxcsr(layout, &area, &mut out)?;
            }
        }
    }
    xstate::normalise(layout, &mut out);
    Some(out)
}

/// `check_xstate_in_sigframe`: the features that the frame claims to hold; `Some(None)` if it holds
/// a legacy area only, `None` if it cannot be read.
fn extended_features(
    at: u64,
    read: ReadMem,
    layout: &XstateLayout,
    legacy: &[u8],
) -> Option<Option<u64>> {
    let sw = &legacy[xstate::SW_RESERVED..];
    let (magic1, extended_size, xsize) = (le::u32(sw, 0), le::u32(sw, 4), le::u32(sw, 16));
    if magic1 != FP_XSTATE_MAGIC1
        || (xsize as usize) < xstate::MIN_SIZE
        || xsize as usize > layout.frame_size()
        || xsize > extended_size
    {
        return Some(None);
    }
    let mut magic2 = [0; 4];
    if !read(at + u64::from(xsize), &mut magic2) {
        return None;
    }
    let whole = u32::from_le_bytes(magic2) == FP_XSTATE_MAGIC2;
    Some(whole.then(|| le::u64(sw, 8)))
}

fn put_mxcsr(layout: &XstateLayout, from: &[u8], to: &mut [u8]) -> Option<()> {
    let mxcsr = le::u32(from, xstate::MXCSR);
    le::put32(to, xstate::MXCSR, mxcsr);
    (mxcsr & !layout.mxcsr_mask == 0).then_some(())
}
