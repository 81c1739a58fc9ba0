//! Compares frames of the running kernel with those that `frame::build` makes.
//!
//! One test, since dispositions belong to the process.

use scribe_kernel::signal::{
    AltStack, Disposition, FaultInfo, FrameInput, Mask, SA_RESTORER, frame, parse_sigreturn,
};
use scribe_kernel::{UserRegs, XstateLayout, xstate};
use std::sync::Mutex;

#[derive(Default, Clone)]
struct Seen {
    frame_addr: u64,
    frame: Vec<u8>,
    fp_addr: u64,
    fp: Vec<u8>,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

/// Copies its own frame. Allocation is fine: the signal is raised synchronously, outside of malloc.
extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, uc: *mut libc::c_void) {
    let copy = |at: u64, len: usize| {
        // SAFETY: the kernel has just written the frame and the area at these addresses.
        unsafe { std::slice::from_raw_parts(at as *const u8, len) }.to_vec()
    };
    let frame_addr = uc as u64 - 8;
    let frame = copy(frame_addr, frame::FRAME_SIZE);
    let fp_addr = u64_at(&frame, 8 + 40 + 184);
    let size = u32_at(&copy(fp_addr, 512), 468) as usize;
    *SEEN.lock().unwrap() = Some(Seen {
        frame_addr,
        frame,
        fp_addr,
        fp: copy(fp_addr, size),
    });
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn raise(flags: i32) -> Seen {
    // SAFETY: plain libc calls with valid arguments; the handler is async-signal-safe enough here.
    unsafe {
        let mut sa: libc::sigaction = std::mem::zeroed();
        sa.sa_sigaction = handler as extern "C" fn(_, _, _) as usize;
        sa.sa_flags = libc::SA_SIGINFO | flags;
        libc::sigaddset(&mut sa.sa_mask, libc::SIGHUP);
        assert_eq!(libc::sigaction(libc::SIGUSR1, &sa, std::ptr::null_mut()), 0);
        libc::raise(libc::SIGUSR1);
    }
    SEEN.lock().unwrap().take().expect("handler ran")
}

fn layout() -> XstateLayout {
    XstateLayout::from_cpuid(|leaf, sub| {
        let r = std::arch::x86_64::__cpuid_count(leaf, sub);
        [r.eax, r.ebx, r.ecx, r.edx]
    })
}

/// Rebuilds the frame from what it says and compares.
fn check(seen: &Seen, flags: u64, mut alt: AltStack) {
    let uc = &seen.frame[8..312];
    let g = |i: usize| u64_at(uc, 40 + i * 8);
    let regs = UserRegs {
        r8: g(0),
        r9: g(1),
        r10: g(2),
        r11: g(3),
        r12: g(4),
        r13: g(5),
        r14: g(6),
        r15: g(7),
        rdi: g(8),
        rsi: g(9),
        rbp: g(10),
        rbx: g(11),
        rdx: g(12),
        rax: g(13),
        rcx: g(14),
        rsp: g(15),
        rip: g(16),
        eflags: g(17),
        cs: g(18) & 0xffff,
        ss: g(18) >> 48,
        orig_rax: u64::MAX,
        ..Default::default()
    };
    let layout = layout().restrict(u64_at(&seen.fp, 472));
    assert!(layout.is_sane());
    let size = layout.frame_size();
    assert_eq!(seen.fp.len(), size + 4);

    let mut image = seen.fp[..size].to_vec();
    image.resize(layout.image_size(), 0);
    // XSAVE leaves alone what is in its initial state: the stack's old bytes are there.
    let written = xstate::xstate_bv(&seen.fp);
    for (i, component) in layout.components.iter().enumerate().skip(2) {
        if written >> i & 1 == 0 && component.size != 0 {
            let start = component.offset as usize;
            image[start..start + component.size as usize].fill(0);
        }
    }
    xstate::normalise(&layout, &mut image);
    let disp = Disposition {
        handler: 0x1000,
        flags: flags | SA_RESTORER | libc::SA_SIGINFO as u64,
        restorer: u64_at(&seen.frame, 0),
        mask: 1,
    };
    let input = FrameInput {
        regs: &regs,
        xstate: &image,
        layout: &layout,
        siginfo: &seen.frame[312..].try_into().unwrap(),
        signo: libc::SIGUSR1 as u32,
        disp: &disp,
        blocked: Mask(g(21)),
        saved_mask: Mask(u64_at(uc, 296)),
        fault: FaultInfo {
            err: g(19),
            trapno: g(20),
            cr2: g(22),
        },
    };
    let f = frame::build(&input, &mut alt).unwrap();
    assert_eq!(f.addr, seen.frame_addr);
    assert_eq!(f.fpstate, seen.fp_addr);
    assert_eq!(f.writes[0].0, f.addr);
    assert_eq!(f.regs.rdx, seen.frame_addr + 8);

    // All but the reserved words of the sigcontext and the padding of uc_stack, which the kernel does
    // not write.
    let reserved = 8 + 40 + 192..8 + 296;
    let mut theirs = seen.frame.clone();
    theirs[reserved].fill(0);
    theirs[8 + 16 + 12..8 + 16 + 16].fill(0);
    assert_eq!(f.writes[0].1, theirs);

    // The XSAVE area: software bytes and magic as they are, components by content.
    let ours = &f.writes[1].1;
    assert_eq!(ours[464..512], seen.fp[464..512]);
    assert_eq!(ours[size..], seen.fp[size..]);
    assert_eq!(u32_at(ours, 28), u32_at(&seen.fp, 28), "MXCSR_MASK");
    let (our_bv, their_bv) = (xstate::xstate_bv(ours), xstate::xstate_bv(&seen.fp));
    assert_eq!(our_bv & !their_bv, 0, "{our_bv:x} {their_bv:x}");
    let mut again = ours[..size].to_vec();
    again.resize(layout.image_size(), 0);
    xstate::normalise(&layout, &mut again);
    assert_eq!(again, image);

    // And back.
    let mut read = |at: u64, buf: &mut [u8]| {
        for (base, mem) in [(seen.frame_addr, &seen.frame), (seen.fp_addr, &seen.fp)] {
            let Some(from) = at.checked_sub(base).map(|o| o as usize) else {
                continue;
            };
            if let Some(src) = mem.get(from..from + buf.len()) {
                buf.copy_from_slice(src);
                return true;
            }
        }
        false
    };
    let back = parse_sigreturn(f.addr + 8, &mut read, &f.regs, &layout, &alt).unwrap();
    assert_eq!(back.regs, regs);
    assert_eq!(back.xstate.unwrap(), image);
    assert_eq!(back.mask, input.saved_mask);
}

#[test]
fn frames_of_this_kernel() {
    // SAFETY: queries and sets the calling thread's alternate stack; the memory lives for ever.
    let (old, new) = unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &mut old);
        let memory = Vec::leak(vec![0u8; 1 << 16]);
        let new = libc::stack_t {
            ss_sp: memory.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: 1 << 16,
        };
        (old, new)
    };
    let model = |s: &libc::stack_t| AltStack {
        sp: s.ss_sp as u64,
        flags: s.ss_flags as u32,
        size: s.ss_size as u64,
    };
    check(&raise(0), 0, model(&old));
    check(
        &raise(libc::SA_ONSTACK),
        libc::SA_ONSTACK as u64,
        model(&old),
    );
    for flags in [0, 1 << 31] {
        let new = libc::stack_t {
            ss_flags: flags,
            ..new
        };
        // SAFETY: as above; no handler is running on the stack.
        assert_eq!(unsafe { libc::sigaltstack(&new, std::ptr::null_mut()) }, 0);
        check(
            &raise(libc::SA_ONSTACK),
            libc::SA_ONSTACK as u64,
            model(&new),
        );
        check(&raise(0), 0, model(&new));
    }
    // SAFETY: restores what was there.
    unsafe { libc::sigaltstack(&old, std::ptr::null_mut()) };
}
