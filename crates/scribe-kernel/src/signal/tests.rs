use super::altstack::{MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK};
use super::frame::FaultCause;
use super::frame::{self, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS};
use super::stash::pop_next;
use super::*;
use crate::regs::{USER_CS, USER_DS, UserRegs};
use crate::xstate::{self, XstateLayout, feature, tests::layout};
use crate::{Errno, le};
use std::mem::offset_of;

const EINVAL: Errno = Errno(libc::EINVAL);

fn s(signo: i32) -> u32 {
    signo as u32
}

#[test]
fn masks() {
    assert_eq!(Mask::of(&[1, 64, 0, 65]).0, 1 | 1 << 63);
    assert_eq!(kernel_mask(Mask(u64::MAX)).0, !(1 << 30 | 1 << 4 | 1 << 10));
    let m = sigprocmask(Mask(1), libc::SIG_BLOCK, Mask(u64::MAX)).unwrap();
    assert_eq!(m, Mask(!(1 << 8 | 1 << 18)));
    assert_eq!(
        sigprocmask(m, libc::SIG_UNBLOCK, Mask(!2)).unwrap(),
        Mask(2)
    );
    assert_eq!(sigprocmask(m, libc::SIG_SETMASK, Mask(7)).unwrap(), Mask(7));
    assert_eq!(sigprocmask(m, 3, Mask(7)), Err(EINVAL));
    assert_eq!(Mask(0b101).iter().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn sigaction_like_the_kernel() {
    let mut d = Dispositions::default();
    let new = Disposition {
        handler: 0x1000,
        flags: !0,
        restorer: 0x2000,
        mask: !0,
    };
    assert_eq!(d.sigaction(0, None), Err(EINVAL));
    assert_eq!(d.sigaction(65, None), Err(EINVAL));
    assert_eq!(d.sigaction(s(libc::SIGKILL), Some(new)), Err(EINVAL));
    assert_eq!(
        d.sigaction(s(libc::SIGSTOP), None),
        Ok(Disposition::default())
    );
    assert_eq!(d.sigaction(64, Some(new)), Ok(Disposition::default()));
    let got = d.sigaction(64, None).unwrap();
    assert_eq!(got.flags, 0xdc00_0807);
    assert_eq!(got.mask, !(1 << 8 | 1 << 18));
    assert_eq!((got.handler, got.restorer), (0x1000, 0x2000));
    assert_eq!(Disposition::from_bytes(&got.to_bytes()), got);
    assert_eq!(d.what_to_do(64), Action::Handler(got));

    // SA_RESETHAND
    assert_eq!(d.deliver(64), Action::Handler(got));
    assert_eq!(d.what_to_do(64), Action::Default(DefaultAction::Term));

    let ign = Disposition {
        handler: SIG_IGN,
        flags: SA_RESTART,
        ..Default::default()
    };
    d.sigaction(1, Some(ign)).unwrap();
    d.sigaction(2, Some(new)).unwrap();
    d.exec_reset();
    let want = Disposition {
        handler: SIG_IGN,
        ..Default::default()
    };
    assert_eq!(
        (*d.get(1).unwrap(), *d.get(2).unwrap()),
        (want, Disposition::default())
    );
    assert!(d.ignored(1) && !d.ignored(2) && d.ignored(s(libc::SIGCHLD)));
    assert_eq!(d.force(1, Mask(1)), Mask::EMPTY);
    assert_eq!(d.what_to_do(1), Action::Default(DefaultAction::Term));
}

#[test]
fn default_actions() {
    use DefaultAction::*;
    let of = |a| {
        (1..=64)
            .filter(|&n| default_action(n) == a)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Ignore), [17, 23, 28]);
    assert_eq!(of(Stop), [19, 20, 21, 22]);
    assert_eq!(of(Continue), [18]);
    assert_eq!(of(Core), [3, 4, 5, 6, 7, 8, 11, 24, 25, 31]);
}

#[test]
fn altstack_rules() {
    let mut a = AltStack::default();
    let st = |sp, flags, size| Some(AltStack { sp, flags, size });
    assert_eq!(a.sigaltstack(None, 5, None).unwrap().flags, SS_DISABLE);
    assert_eq!(a.sigaltstack(st(0x1000, 4, 4096), 5, None), Err(EINVAL));
    let small = a.sigaltstack(st(0x1000, 0, MINSIGSTKSZ - 1), 5, None);
    assert_eq!(small, Err(Errno(libc::ENOMEM)));
    let strict = a.sigaltstack(st(0x1000, 0, 4096), 5, Some(4096));
    assert_eq!(strict, Err(Errno(libc::ENOMEM)));
    a.sigaltstack(st(0x1000, SS_ONSTACK, 4096), 5, Some(4095))
        .unwrap();
    // The bottom is not on it, the top is.
    assert_eq!(a.mode(0x1000), 0);
    assert_eq!(a.mode(0x2000), SS_ONSTACK);
    assert_eq!(a.mode(0x2001), 0);
    assert_eq!(
        a.sigaltstack(st(0, SS_DISABLE, 0), 0x1800, None),
        Err(Errno(libc::EPERM))
    );
    assert_eq!(a.sigaltstack(None, 0x1800, None).unwrap().flags, SS_ONSTACK);
    a.sigaltstack(st(0x1000, SS_AUTODISARM, 4096), 5, None)
        .unwrap();
    assert_eq!(
        a.sigaltstack(None, 0x1800, None).unwrap().flags,
        SS_AUTODISARM
    );
    a.sigaltstack(st(7, SS_DISABLE, 9), 0x1800, None).unwrap();
    assert_eq!(a, AltStack::default());
    assert_eq!(AltStack::from_bytes(&a.to_bytes()), a);
}

#[test]
fn restarts() {
    use Restart::{Eintr, RestartBlock, Same};
    let all = |ret: i64| [Option::<u64>::None, Some(0), Some(SA_RESTART)].map(|f| restart(-ret, f));
    assert_eq!(all(512), [Same, Eintr, Same]);
    assert_eq!(all(513), [Same, Same, Same]);
    assert_eq!(all(514), [Same, Eintr, Eintr]);
    assert_eq!(all(516), [RestartBlock, Eintr, Eintr]);
    assert_eq!(all(4), [Restart::None; 3]);
    assert_eq!(restart(512, Some(0)), Restart::None);
    assert_eq!(restart(i64::MIN, Some(0)), Restart::None);
}

fn info(signo: u32, code: i32, tag: u8) -> SigInfo {
    let mut i = [0; 128];
    le::put32(&mut i, 0, signo);
    le::put32(&mut i, 8, code as u32);
    i[127] = tag;
    i
}

#[test]
fn queue_order() {
    let mut q = SignalQueue::default();
    assert!(q.push(40, info(40, -1, 1)));
    assert!(q.push(2, info(2, 0, 2)));
    assert!(!q.push(2, info(2, 0, 3)));
    assert!(q.push(40, info(40, -1, 4)));
    assert!(q.push(11, info(11, 0, 5)));
    assert!(q.push(1, info(1, 0, 6)));
    assert!(!q.push(0, [0; 128]) && !q.push(65, [0; 128]));
    let mut order = vec![];
    while let Some(p) = q.pop(Mask::of(&[1])) {
        order.push((p.signo, p.info[127]));
    }
    assert_eq!(order, [(11, 5), (2, 2), (40, 1), (40, 4)]);
    assert_eq!(q.pending(), Mask(1));
    q.flush(Mask(1));
    assert!(q.is_empty());
}

#[test]
fn own_synchronous_signals_first() {
    let (mut own, mut process) = (SignalQueue::default(), SignalQueue::default());
    own.push(7, info(7, 0, 0)); // sent by kill: not synchronous
    own.push(11, info(11, 1, 0));
    own.push(1, info(1, 0, 0));
    process.push(4, info(4, 0, 0));
    let mut next = |m| pop_next(&mut own, &mut process, m).map(|p| p.signo);
    assert_eq!([next(Mask::EMPTY), next(Mask::EMPTY)], [Some(11), Some(7)]);
    assert_eq!(
        [next(Mask(1)), next(Mask(1)), next(Mask(0))],
        [Some(4), None, Some(1)]
    );
}

fn regs() -> UserRegs {
    let mut w = [0; 27];
    for (i, x) in w.iter_mut().enumerate() {
        *x = 0xabcd_0000 + i as u64;
    }
    let base = UserRegs::from_words(&w);
    UserRegs {
        rsp: 0x7fff_0000_1238,
        rip: 0x40_1000,
        eflags: 0x5_0dd5 | 0x202,
        cs: USER_CS,
        ss: USER_DS,
        orig_rax: u64::MAX,
        ..base
    }
}

fn image(l: &XstateLayout) -> Vec<u8> {
    let mut a = xstate::fresh_image(l);
    le::put16(&mut a, 0, 0x27f);
    le::put32(&mut a, 24, 0x1fa0);
    a[170] = 7;
    a[580] = 8;
    a[1700] = 9;
    xstate::normalise(l, &mut a);
    a
}

/// Memory made of the writes of a frame.
fn reader(f: &Frame) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
    |addr, buf| {
        f.writes.iter().any(|(at, data)| {
            let Some(from) = addr.checked_sub(*at).map(|o| o as usize) else {
                return false;
            };
            let Some(src) = data.get(from..from + buf.len()) else {
                return false;
            };
            buf.copy_from_slice(src);
            true
        })
    }
}

fn disp(flags: u64) -> Disposition {
    Disposition {
        handler: 0x5000,
        flags: flags | SA_RESTORER,
        restorer: 0x6000,
        mask: 0x70,
    }
}

struct Case {
    regs: UserRegs,
    layout: XstateLayout,
    image: Vec<u8>,
    info: SigInfo,
    disp: Disposition,
}

impl Case {
    fn new(flags: u64) -> Self {
        let layout = layout();
        let image = image(&layout);
        Self {
            regs: regs(),
            image,
            layout,
            info: info(10, 0, 0x55),
            disp: disp(flags),
        }
    }

    fn input(&self) -> FrameInput<'_> {
        FrameInput {
            regs: &self.regs,
            xstate: &self.image,
            layout: &self.layout,
            siginfo: &self.info,
            signo: 10,
            disp: &self.disp,
            blocked: Mask(0x4000),
            saved_mask: Mask(0x8000),
            fault: FaultInfo {
                trapno: 14,
                err: 6,
                cr2: 0x1234,
            },
        }
    }
}

#[test]
fn frame_layout_is_that_of_ucontext_t() {
    let c = Case::new(SA_SIGINFO);
    let f = frame::build(&c.input(), &mut AltStack::default()).unwrap();
    assert_eq!(f.addr % 16, 8);
    assert_eq!(f.fpstate % 64, 0);
    assert!(f.fpstate + 2696 + 4 <= c.regs.rsp - 128);
    assert!(f.fpstate + 2696 + 4 + 64 > c.regs.rsp - 128);
    assert!(f.addr + 440 <= f.fpstate);

    let (at, b) = &f.writes[0];
    assert_eq!((*at, b.len()), (f.addr, 440));
    assert_eq!(le::u64(b, 0), 0x6000);
    let uc = &b[8..];
    let flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    assert_eq!(le::u64(uc, offset_of!(libc::ucontext_t, uc_flags)), flags);
    assert_eq!(le::u64(uc, offset_of!(libc::ucontext_t, uc_link)), 0);
    let stack = offset_of!(libc::ucontext_t, uc_stack);
    assert_eq!(uc[stack..stack + 24], AltStack::default().to_bytes());
    assert_eq!(
        le::u64(uc, offset_of!(libc::ucontext_t, uc_sigmask)),
        0x8000
    );
    let greg = |i: i32| {
        le::u64(
            uc,
            offset_of!(libc::ucontext_t, uc_mcontext) + i as usize * 8,
        )
    };
    let r = &c.regs;
    for (i, want) in [
        (libc::REG_R8, r.r8),
        (libc::REG_R15, r.r15),
        (libc::REG_RDI, r.rdi),
        (libc::REG_RSI, r.rsi),
        (libc::REG_RBP, r.rbp),
        (libc::REG_RBX, r.rbx),
        (libc::REG_RDX, r.rdx),
        (libc::REG_RAX, r.rax),
        (libc::REG_RCX, r.rcx),
        (libc::REG_RSP, r.rsp),
        (libc::REG_RIP, r.rip),
        (libc::REG_EFL, r.eflags),
        (libc::REG_CSGSFS, 0x2b_0000_0000_0033),
        (libc::REG_ERR, 6),
        (libc::REG_TRAPNO, 14),
        (libc::REG_OLDMASK, 0x8000),
        (libc::REG_CR2, 0x1234),
    ] {
        assert_eq!(greg(i), want, "greg {i}");
    }
    // fpregs follows the gregs.
    assert_eq!(greg(23), f.fpstate);
    assert_eq!(b[312..], c.info);

    let fp = &f.writes[1].1;
    assert_eq!((f.writes[1].0, fp.len()), (f.fpstate, 2700));
    assert_eq!(le::u32(fp, 464), 0x4650_5853);
    assert_eq!(le::u32(fp, 468), 2700);
    assert_eq!(le::u64(fp, 472), 0x2e7);
    assert_eq!(le::u32(fp, 480), 2696);
    assert_eq!(le::u32(fp, 2696), 0x4650_5845);
    assert_eq!(le::u32(fp, 28), 0xffff);
    assert_eq!(xstate::xstate_bv(fp), 0x287);
    assert_eq!(fp[..28], c.image[..28]);
    assert_eq!(fp[576..2696], c.image[576..2696]);

    assert_eq!(
        (f.regs.rdi, f.regs.rsi, f.regs.rdx),
        (10, f.addr + 312, f.addr + 8)
    );
    assert_eq!((f.regs.rip, f.regs.rsp, f.regs.rax), (0x5000, f.addr, 0));
    assert_eq!(f.regs.eflags, c.regs.eflags & !0x1_0500);
    assert_eq!((f.regs.rbx, f.regs.fs_base), (c.regs.rbx, c.regs.fs_base));
    assert_eq!(f.new_mask, Mask(0x4070 | 1 << 9));
}

#[test]
fn flags_of_the_disposition() {
    let c = Case::new(SA_NODEFER);
    let f = frame::build(&c.input(), &mut AltStack::default()).unwrap();
    assert_eq!(f.writes[0].1.len(), 312);
    assert_eq!(f.new_mask, Mask(0x4070));

    let mut c = Case::new(0);
    c.disp.flags = SA_SIGINFO;
    let e = frame::build(&c.input(), &mut AltStack::default());
    assert_eq!(e, Err(FrameError::NoRestorer));
    let mut c = Case::new(0);
    for rsp in [0, 3000, 1 << 47, u64::MAX] {
        c.regs.rsp = rsp;
        let e = frame::build(&c.input(), &mut AltStack::default());
        assert_eq!(e, Err(FrameError::NoStack), "{rsp:x}");
    }
    c.image.truncate(600);
    let e = frame::build(&c.input(), &mut AltStack::default());
    assert_eq!(e, Err(FrameError::ShortXstate(600)));
}

#[test]
fn frames_on_the_alternate_stack() {
    let mut c = Case::new(SA_ONSTACK);
    let mut alt = AltStack {
        sp: 0x10_0000,
        flags: 0,
        size: 8192,
    };
    let f = frame::build(&c.input(), &mut alt).unwrap();
    // No red zone there.
    assert_eq!(f.fpstate, (0x10_2000 - 2700) & !63);
    // Nested: goes on below; red zone kept.
    c.regs.rsp = f.regs.rsp;
    let g = frame::build(&c.input(), &mut alt).unwrap();
    assert!(g.fpstate + 2700 <= f.addr - 128 && g.addr > 0x10_0000);
    // Overflow, entering and nested.
    c.regs.rsp = g.regs.rsp;
    assert_eq!(frame::build(&c.input(), &mut alt), Err(FrameError::NoStack));
    c.regs.rsp = 0x7000_0000;
    let mut tiny = AltStack { size: 2048, ..alt };
    assert_eq!(
        frame::build(&c.input(), &mut tiny),
        Err(FrameError::NoStack)
    );
    // Without SA_ONSTACK the alternate stack is not used.
    c.disp.flags = SA_RESTORER;
    assert!(frame::build(&c.input(), &mut tiny).unwrap().addr > 0x6000_0000);

    // Disarmed while the handler runs, armed again by the frame.
    c.disp.flags |= SA_ONSTACK;
    let armed = AltStack {
        flags: SS_AUTODISARM,
        ..alt
    };
    let mut a = armed;
    let f = frame::build(&c.input(), &mut a).unwrap();
    assert_eq!(a, AltStack::default());
    let r = parse_sigreturn(f.addr + 8, &mut reader(&f), &f.regs, &c.layout, &a).unwrap();
    assert_eq!(r.altstack, armed);
}

#[test]
fn round_trip() {
    let c = Case::new(SA_SIGINFO);
    let mut alt = AltStack::default();
    let f = frame::build(&c.input(), &mut alt).unwrap();
    let r = parse_sigreturn(f.addr + 8, &mut reader(&f), &f.regs, &c.layout, &alt).unwrap();
    assert_eq!(r.regs, c.regs);
    assert_eq!(r.mask, Mask(0x8000));
    assert_eq!(r.altstack, alt);
    assert_eq!(r.xstate.as_deref(), Some(&c.image[..]));
}

/// Builds a frame, changes it, and reads it back. The closure gets the ucontext and the XSAVE area.
fn changed(change: impl FnOnce(&mut [u8], &mut [u8])) -> Result<Restored, BadFrame> {
    let c = Case::new(SA_SIGINFO);
    let mut f = frame::build(&c.input(), &mut AltStack::default()).unwrap();
    let (a, b) = f.writes.split_at_mut(1);
    change(&mut a[0].1[8..], &mut b[0].1);
    let alt = AltStack::default();
    parse_sigreturn(f.addr + 8, &mut reader(&f), &f.regs, &c.layout, &alt)
}

#[test]
fn changed_registers() {
    let r = changed(|uc, _| {
        le::put64(uc, 40 + 136, !0); // eflags
        le::put16(uc, 40 + 144, 0); // cs
        le::put16(uc, 40 + 150, 0); // ss
        le::put64(uc, 296, !0);
    })
    .unwrap();
    // 0x202 stays from the current flags; of the frame only what a program may set.
    assert_eq!(r.regs.eflags, 0x5_0fd7);
    assert_eq!((r.regs.cs, r.regs.ss), (3, 3));
    assert_eq!(r.mask, Mask(!0).settable());
    let r = changed(|uc, _| {
        le::put64(uc, 0, UC_FP_XSTATE);
        le::put16(uc, 40 + 150, 0);
    });
    assert_eq!(r.unwrap().regs.ss, USER_DS);
    let r = changed(|uc, _| le::put64(uc, 40 + 184, 0));
    assert_eq!(r.unwrap().xstate, None);
    let r = changed(|uc, _| {
        uc[16..40].copy_from_slice(
            &AltStack {
                sp: 0x1000,
                flags: 0,
                size: 4096,
            }
            .to_bytes(),
        )
    });
    assert_eq!(r.unwrap().altstack.size, 4096);
}

#[test]
fn changed_extended_state() {
    let l = layout();
    let bv = |r: Result<Restored, BadFrame>| xstate::xstate_bv(&r.unwrap().xstate.unwrap());
    // A damaged magic: x87 and SSE only.
    assert_eq!(bv(changed(|_, fp| fp[464] = 0)), feature::FPSSE);
    assert_eq!(bv(changed(|_, fp| fp[2696] = 0)), feature::FPSSE);
    assert_eq!(bv(changed(|_, fp| le::put32(fp, 480, 100))), feature::FPSSE);
    // A shorter area that is well formed.
    let avx = changed(|_, fp| {
        le::put32(fp, 468, 836);
        le::put64(fp, 472, 7);
        le::put32(fp, 480, 832);
        le::put32(fp, 832, 0x4650_5845);
    });
    assert_eq!(bv(avx), 7);
    // A clear bit means init, but MXCSR is loaded all the same.
    let r = changed(|_, fp| le::put64(fp, 512, 0));
    let mut want = xstate::init_image(&l);
    le::put32(&mut want, 24, 0x1fa0);
    le::put64(&mut want, 512, feature::SSE);
    assert_eq!(r.unwrap().xstate.unwrap(), want);
    // What XRSTOR refuses.
    let bad = Err(BadFrame {
        mask: Some(Mask(0x8000)),
    });
    assert_eq!(changed(|_, fp| le::put64(fp, 512, 1 << 60)), bad);
    assert_eq!(changed(|_, fp| fp[520] = 1), bad);
    assert_eq!(changed(|_, fp| fp[26] = 1), bad);
    assert_eq!(changed(|uc, _| uc[40 + 184] += 8), bad);
    assert_eq!(changed(|uc, _| le::put64(uc, 40 + 184, 0x10)), bad);
    assert_eq!(changed(|uc, _| le::put64(uc, 40 + 184, !63)), bad);
}

#[test]
fn unreadable_frame() {
    let c = Case::new(0);
    for sp in [8, 0, 1 << 47, u64::MAX] {
        let alt = AltStack::default();
        let r = parse_sigreturn(sp, &mut |_, _| false, &c.regs, &c.layout, &alt);
        assert_eq!(r, Err(BadFrame { mask: None }));
    }
}

#[test]
fn faults() {
    let mut i = info(11, 1, 0);
    le::put64(&mut i, 16, 0xdead);
    let mut cause = FaultCause {
        write: true,
        ..FaultCause::default()
    };
    let old = FaultInfo::default();
    let f = |i: &SigInfo, signo| old.from_siginfo(signo, i, &cause);
    assert_eq!(
        f(&i, 11),
        Some(FaultInfo {
            trapno: 14,
            err: 6,
            cr2: 0xdead
        })
    );
    assert_eq!(f(&info(11, 0, 0), 11), None);
    assert_eq!(f(&info(8, 1, 0), 8).unwrap().trapno, 0);
    assert_eq!(f(&info(8, 3, 0), 8).unwrap().trapno, 19);
    le::put64(&mut i, 16, 0xffff_8000_0000_0000);
    assert_eq!(f(&i, 11).unwrap().err, 7);
    // The address of the last page fault stays.
    cause = FaultCause {
        x87: true,
        interrupt: Some(0x2d),
        ..FaultCause::default()
    };
    let old = FaultInfo {
        cr2: 0xdead,
        ..FaultInfo::default()
    };
    let f = |signo, code| old.from_siginfo(signo, &info(signo, code, 0), &cause);
    assert_eq!(f(8, 3).unwrap().trapno, 16);
    assert_eq!(
        f(11, 0x80),
        Some(FaultInfo {
            trapno: 13,
            err: 0x16a,
            cr2: 0xdead
        })
    );
}
