//! The signal frame: what the kernel puts on the stack before a handler runs.
//!
//! Source: arch/x86/kernel/signal_64.c `x64_setup_rt_frame`, arch/x86/kernel/signal.c
//! `get_sigframe` and `handle_signal`, arch/x86/kernel/fpu/signal.c `copy_fpstate_to_sigframe`,
//! kernel/signal.c `signal_delivered`; layouts from arch/x86/include/uapi/asm/sigcontext.h and
//! ucontext.h.
//!
//! Differences, all for the sake of determinism: bytes that the kernel leaves as they were on the
//! stack (the reserved words of the sigcontext, gaps of the XSAVE area) are zero here, and
//! XSTATE_BV is computed from content.

use super::altstack::{AltStack, SS_AUTODISARM};
use super::stash::{SigInfo, si_code};
use super::{Disposition, Mask, SA_NODEFER, SA_ONSTACK, SA_RESTORER, SA_SIGINFO};
use crate::regs::{EFLAGS_DF, EFLAGS_RF, EFLAGS_TF, USER_CS, USER_DS, UserRegs};
use crate::xstate::{self, XstateLayout};
use crate::{access_ok, le};

/// An XSAVE area lies at `fpstate` (`UC_FP_XSTATE`).
pub const UC_FP_XSTATE: u64 = 1;
/// The sigcontext has SS (`UC_SIGCONTEXT_SS`).
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// SS is to be restored as it is (`UC_STRICT_RESTORE_SS`).
pub const UC_STRICT_RESTORE_SS: u64 = 4;
/// First word of the software bytes of the legacy area.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// Behind the XSAVE area.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

/// `sizeof(struct rt_sigframe)`: return address, ucontext, siginfo.
pub const FRAME_SIZE: usize = 440;
/// Offset of the ucontext in the frame.
pub const UC: usize = 8;
/// Size of the kernel's ucontext.
pub const UC_SIZE: usize = 304;
/// Offset of the siginfo in the frame.
pub const INFO: usize = 312;
/// Offset of `uc_stack` in the ucontext.
pub const UC_STACK: usize = 16;
/// Offset of the sigcontext in the ucontext.
pub const UC_MCONTEXT: usize = 40;
/// Offset of `uc_sigmask` in the ucontext.
pub const UC_SIGMASK: usize = 296;

const RED_ZONE: u64 = 128;
const FRAME_ALIGN: u64 = 16;
const XSTATE_ALIGN: u64 = 64;

/// Offsets in `struct sigcontext`.
pub(crate) mod sc {
    pub const R8: usize = 0;
    pub const EFLAGS: usize = 136;
    pub const CS: usize = 144;
    pub const GS: usize = 146;
    pub const FS: usize = 148;
    pub const SS: usize = 150;
    pub const ERR: usize = 152;
    pub const TRAPNO: usize = 160;
    pub const OLDMASK: usize = 168;
    pub const CR2: usize = 176;
    pub const FPSTATE: usize = 184;
}

/// What the frame says about the last fault of the task (`thread.trap_nr`, `error_code`, `cr2`).
/// The kernel keeps the values of the last fault that became a signal for all later frames; so does
/// who calls [`build`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FaultInfo {
    /// Number of the exception.
    pub trapno: u64,
    /// Its error code.
    pub err: u64,
    /// Faulting address of a page fault.
    pub cr2: u64,
}

/// What the instruction that faulted tells beyond the siginfo: whoever calls
/// [`FaultInfo::from_siginfo`] has decoded it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCause {
    /// It was to write at the faulting address.
    pub write: bool,
    /// It could not be fetched.
    pub fetch: bool,
    /// It is one of the x87.
    pub x87: bool,
    /// It is `int n`, with this number.
    pub interrupt: Option<u8>,
}

impl FaultInfo {
    /// The values for a signal that the kernel sent for an exception, after those of the fault
    /// before; `None` if it was sent for another reason.
    /// Source: arch/x86/kernel/traps.c, arch/x86/mm/fault.c; error bits from
    /// arch/x86/include/asm/trap_pf.h.
    pub fn from_siginfo(self, signo: u32, info: &SigInfo, cause: &FaultCause) -> Option<Self> {
        const SI_KERNEL: i32 = 0x80;
        // TASK_SIZE_MAX with four levels of page tables. What lies above looks as if it was there
        // (sanitize_error_code).
        const TASK_SIZE: u64 = (1 << 47) - 4096;
        let addr = le::u64(info, 16);
        let access = 4
            | u64::from(addr >= TASK_SIZE)
            | u64::from(cause.write) << 1
            | u64::from(cause.fetch) << 4;
        // Only page faults have an address; that of the last one stays.
        let fault = |trapno, err| {
            Some(Self {
                trapno,
                err,
                cr2: self.cr2,
            })
        };
        match (signo as i32, si_code(info)) {
            // SEGV_MAPERR, SEGV_ACCERR, SEGV_PKUERR
            (libc::SIGSEGV, 1) => Some(Self {
                trapno: 14,
                err: access,
                cr2: addr,
            }),
            (libc::SIGSEGV, 2) => Some(Self {
                trapno: 14,
                err: access | 1,
                cr2: addr,
            }),
            (libc::SIGSEGV, 4) => Some(Self {
                trapno: 14,
                err: access | 0x21,
                cr2: addr,
            }),
            // General protection: the error code names a gate that is not for user space.
            (libc::SIGSEGV, SI_KERNEL) => {
                fault(13, cause.interrupt.map_or(0, |n| u64::from(n) << 3 | 2))
            }
            // Stack segment: an address by rsp or rbp that is not canonical.
            (libc::SIGBUS, SI_KERNEL) => fault(12, 0),
            // BUS_ADRALN (alignment check), BUS_ADRERR (page fault behind the end of a file)
            (libc::SIGBUS, 1) => fault(17, 0),
            (libc::SIGBUS, 2) => Some(Self {
                trapno: 14,
                err: access,
                cr2: addr,
            }),
            // FPE_INTDIV; the others come from x87 or SIMD
            (libc::SIGFPE, 1) => fault(0, 0),
            (libc::SIGFPE, 2..=7) if cause.x87 => fault(16, 0),
            (libc::SIGFPE, 2..=7) => fault(19, 0),
            // ILL_ILLOPN
            (libc::SIGILL, 2) => fault(6, 0),
            // int3 comes as SI_KERNEL; TRAP_BRKPT, TRAP_TRACE and TRAP_HWBKPT as debug exceptions
            (libc::SIGTRAP, SI_KERNEL) => fault(3, 0),
            (libc::SIGTRAP, 1 | 2 | 4) => fault(1, 0),
            _ => None,
        }
    }
}

/// Why there is no frame. In each case the kernel forces SIGSEGV (`force_sigsegv`), fatally if the
/// signal is SIGSEGV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stack pointer is no user address, or the alternate stack is too small.
    #[error("no room for the signal frame")]
    NoStack,
    /// The disposition lacks `SA_RESTORER`, which x86-64 insists on.
    #[error("the signal handler has no restorer")]
    NoRestorer,
    /// The given image of the extended state is shorter than the frame needs.
    #[error("extended state of {0} bytes is too short")]
    ShortXstate(usize),
}

/// What a frame is made of.
#[derive(Clone, Copy, Debug)]
pub struct FrameInput<'a> {
    /// The registers that the handler returns to: after the decision on a restart.
    pub regs: &'a UserRegs,
    /// The image that `PTRACE_GETREGSET` `NT_X86_XSTATE` gives.
    pub xstate: &'a [u8],
    /// How `xstate` is laid out.
    pub layout: &'a XstateLayout,
    /// The siginfo; written if the disposition has `SA_SIGINFO`.
    pub siginfo: &'a SigInfo,
    /// The signal.
    pub signo: u32,
    /// Its disposition.
    pub disp: &'a Disposition,
    /// The mask in force now. Not the saved one inside `sigsuspend`, `ppoll` and the like.
    pub blocked: Mask,
    /// The mask that sigreturn restores: the one from before `sigsuspend`, else `blocked`.
    pub saved_mask: Mask,
    /// The last fault of the task.
    pub fault: FaultInfo,
}

/// A frame, to be written to the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Address of the frame: rsp at the handler's entry.
    pub addr: u64,
    /// Address of the XSAVE area.
    pub fpstate: u64,
    /// What to write where.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// Registers at the handler's entry. The extended state there is [`xstate::fresh_image`].
    pub regs: UserRegs,
    /// The mask while the handler runs.
    pub new_mask: Mask,
}

/// Builds the frame of a signal. `alt` is disarmed if it is so set up, in case of success.
///
/// If a write of the result fails, the kernel's answer is that to [`FrameError`]; the caller has
/// to take back the change of `alt` then.
pub fn build(input: &FrameInput, alt: &mut AltStack) -> Result<Frame, FrameError> {
    let &FrameInput {
        regs, layout, disp, ..
    } = input;
    let (frame_xfeatures, xsize) = (layout.frame_features, layout.frame_size());
    if input.xstate.len() < xsize {
        return Err(FrameError::ShortXstate(input.xstate.len()));
    }
    if disp.flags & SA_RESTORER == 0 {
        return Err(FrameError::NoRestorer);
    }
    let (addr, fpstate) = place(regs.rsp, disp.flags, alt, xsize as u64 + 4)?;

    let info_size = if disp.flags & SA_SIGINFO != 0 {
        FRAME_SIZE
    } else {
        INFO
    };
    let mut frame = vec![0; info_size];
    le::put64(&mut frame, 0, disp.restorer);
    let uc = &mut frame[UC..UC + UC_SIZE];
    let mut uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS;
    if regs.cs == USER_CS {
        uc_flags |= UC_STRICT_RESTORE_SS;
    }
    le::put64(uc, 0, uc_flags);
    uc[UC_STACK..UC_STACK + AltStack::SIZE].copy_from_slice(&alt.to_bytes());
    put_sigcontext(&mut uc[UC_MCONTEXT..UC_SIGMASK], input, fpstate);
    le::put64(uc, UC_SIGMASK, input.saved_mask.0);
    if info_size == FRAME_SIZE {
        frame[INFO..].copy_from_slice(input.siginfo);
    }

    let mut fp = vec![0; xsize + 4];
    xstate::copy_components(layout, frame_xfeatures, input.xstate, &mut fp);
    le::put32(&mut fp, xstate::MXCSR, le::u32(input.xstate, xstate::MXCSR));
    le::put32(&mut fp, xstate::MXCSR + 4, layout.mxcsr_mask);
    le::put32(&mut fp, xstate::SW_RESERVED, FP_XSTATE_MAGIC1);
    le::put32(&mut fp, xstate::SW_RESERVED + 4, xsize as u32 + 4);
    le::put64(&mut fp, xstate::SW_RESERVED + 8, frame_xfeatures);
    le::put32(&mut fp, xstate::SW_RESERVED + 16, xsize as u32);
    // x87 and SSE always have their bits: a handler that changes them need not know the header
    // (`save_xstate_epilog`).
    let bv = xstate::bv_from_content(layout, input.xstate) & frame_xfeatures;
    le::put64(&mut fp, xstate::HEADER, bv | xstate::feature::FPSSE);
    le::put32(&mut fp, xsize, FP_XSTATE_MAGIC2);

    if alt.flags & SS_AUTODISARM != 0 {
        alt.reset();
    }
    let mut new_mask = input.blocked.union(Mask(disp.mask));
    if disp.flags & SA_NODEFER == 0 {
        new_mask = new_mask.with(input.signo);
    }
    Ok(Frame {
        addr,
        fpstate,
        writes: vec![(addr, frame), (fpstate, fp)],
        regs: UserRegs {
            rdi: u64::from(input.signo),
            rsi: addr + INFO as u64,
            rdx: addr + UC as u64,
            rax: 0,
            rsp: addr,
            rip: disp.handler,
            orig_rax: u64::MAX,
            eflags: regs.eflags & !(EFLAGS_DF | EFLAGS_RF | EFLAGS_TF),
            cs: USER_CS,
            ss: USER_DS,
            ..*regs
        },
        new_mask: new_mask.settable(),
    })
}

/// `get_sigframe`: the addresses of the frame and of the XSAVE area.
fn place(rsp: u64, flags: u64, alt: &AltStack, math_size: u64) -> Result<(u64, u64), FrameError> {
    let nested = alt.on_stack(rsp);
    let mut sp = rsp.wrapping_sub(RED_ZONE);
    let entering = flags & SA_ONSTACK != 0 && alt.mode(sp) == 0;
    if entering {
        sp = alt.sp.wrapping_add(alt.size);
    }
    let fpstate = sp.wrapping_sub(math_size) & !(XSTATE_ALIGN - 1);
    let frame = (fpstate.wrapping_sub(FRAME_SIZE as u64) & !(FRAME_ALIGN - 1)).wrapping_sub(8);
    // Overflowing the alternate stack is death rather than corruption of what lies below it.
    let overflow = (nested || entering) && !alt.contains(frame);
    if overflow || !access_ok(frame, FRAME_SIZE as u64) || !access_ok(fpstate, math_size) {
        return Err(FrameError::NoStack);
    }
    Ok((frame, fpstate))
}

fn put_sigcontext(out: &mut [u8], input: &FrameInput, fpstate: u64) {
    let r = input.regs;
    let words = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags,
    ];
    for (i, w) in words.into_iter().enumerate() {
        le::put64(out, sc::R8 + i * 8, w);
    }
    le::put16(out, sc::CS, r.cs as u16);
    le::put16(out, sc::GS, 0);
    le::put16(out, sc::FS, 0);
    le::put16(out, sc::SS, r.ss as u16);
    le::put64(out, sc::ERR, input.fault.err);
    le::put64(out, sc::TRAPNO, input.fault.trapno);
    le::put64(out, sc::OLDMASK, input.saved_mask.0);
    le::put64(out, sc::CR2, input.fault.cr2);
    le::put64(out, sc::FPSTATE, fpstate);
}
