use super::*;

fn i(code: u16, k: u32) -> Insn {
    Insn {
        code,
        k,
        ..Default::default()
    }
}

fn j(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

fn data(nr: u32) -> Data {
    Data {
        nr,
        arch: AUDIT_ARCH_X86_64,
        ip: 0x1_0000_0002,
        args: [3, 4, 5, 6, 7, 0x8_0000_0009],
    }
}

fn run(insns: &[Insn]) -> u32 {
    Program::new(insns).expect("valid").run(&data(42))
}

fn valid(insns: &[Insn]) -> bool {
    Program::new(insns).is_ok()
}

const RET_A: Insn = Insn {
    code: op::RET_A,
    jt: 0,
    jf: 0,
    k: 0,
};

#[test]
fn loads() {
    for (k, want) in [
        (0, 42),
        (4, AUDIT_ARCH_X86_64),
        (8, 2),
        (12, 1),
        (16, 3),
        (20, 0),
        (56, 9),
        (60, 8),
    ] {
        assert_eq!(run(&[i(op::LD_ABS, k), RET_A]), want, "offset {k}");
    }
    assert_eq!(run(&[i(op::LD_LEN, 0), RET_A]), 64);
    assert_eq!(run(&[i(op::LDX_LEN, 0), i(op::TXA, 0), RET_A]), 64);
    assert_eq!(
        run(&[
            i(op::LD_IMM, 5),
            i(op::ST, 15),
            i(op::LD_IMM, 0),
            i(op::LD_MEM, 15),
            RET_A
        ]),
        5
    );
}

#[test]
fn arithmetic() {
    let k = |code, a, b| run(&[i(op::LD_IMM, a), i(code, b), RET_A]);
    let x = |code, a, b| {
        run(&[
            i(op::LD_IMM, a),
            i(op::LDX_IMM, b),
            i(code | op::X, 0),
            RET_A,
        ])
    };
    for (code, a, b, want) in [
        (op::ADD, !0, 2, 1),
        (op::SUB, 1, 2, !0),
        (op::MUL, 1 << 31, 3, 1 << 31),
        (op::DIV, 7, 2, 3),
        (op::OR, 5, 2, 7),
        (op::AND, 7, 2, 2),
        (op::XOR, 7, 2, 5),
        (op::LSH, 3, 31, 1 << 31),
        (op::RSH, !0, 31, 1),
    ] {
        assert_eq!((k(code, a, b), x(code, a, b)), (want, want), "{code:x}");
    }
    assert_eq!(x(op::DIV, 7, 0), 0);
    assert_eq!(x(op::LSH, 1, 33), 2);
    assert_eq!(run(&[i(op::LD_IMM, 1), i(op::NEG, 0), RET_A]), !0);
}

#[test]
fn jumps() {
    let t = |code, a, k| {
        let r = |v| i(op::RET_K, v);
        let by_k = run(&[i(op::LD_IMM, a), j(code, k, 1, 0), r(0), r(1)]);
        let by_x = run(&[
            i(op::LD_IMM, a),
            i(op::LDX_IMM, k),
            j(code | op::X, 0, 1, 0),
            r(0),
            r(1),
        ]);
        assert_eq!(by_k, by_x);
        by_k == 1
    };
    assert!(t(op::JEQ, 5, 5) && !t(op::JEQ, 5, 6));
    assert!(t(op::JGT, !0, 1) && !t(op::JGT, 5, 5));
    assert!(t(op::JGE, 5, 5) && !t(op::JGE, 4, 5));
    assert!(t(op::JSET, 6, 2) && !t(op::JSET, 6, 1));
    assert_eq!(run(&[i(op::JA, 1), i(op::RET_K, 0), i(op::RET_K, 1)]), 1);
}

#[test]
fn the_validator() {
    assert!(!valid(&[]));
    assert!(valid(&[i(op::RET_K, 0); 4096]));
    assert!(!valid(&[i(op::RET_K, 0); 4097]));
    assert!(!valid(&[i(op::RET_K, 0), i(op::LD_IMM, 0)]));
    let with = |insn| valid(&[insn, i(op::RET_K, 0)]);
    for (insn, want) in [
        (i(op::LD_ABS, 60), true),
        (i(op::LD_ABS, 64), false),
        (i(op::LD_ABS, 2), false),
        (i(0x28, 0), false), // half word
        (i(0x94, 1), false), // modulo
        (i(0xa0, 0), false), // MSH
        (i(0x40, 0), false), // LD IND
        (i(op::DIV, 0), false),
        (i(op::DIV | op::X, 0), true),
        (i(op::LSH, 32), false),
        (i(op::LSH | op::X, 99), true),
        (i(op::ST, 16), false),
        (i(op::LD_MEM, 0), false), // not written before
        (i(op::JA, 0), true),
        (i(op::JA, 1), false),
        (i(op::JA, !0), false),
        (j(op::JEQ, 0, 0, 0), true),
        (j(op::JEQ, 0, 1, 0), false),
        (j(op::JSET | op::X, 0, 0, 1), false),
        (i(0x0e, 0), false), // RET X
        (i(op::NEG | op::X, 0), false),
        (i(op::JA | op::X, 0), false),
        (i(0x100, 0), false),
    ] {
        assert_eq!(with(insn), want, "{insn:?}");
    }
    // Memory written on one way only.
    let ret = i(op::RET_K, 0);
    assert!(!valid(&[
        j(op::JEQ, 0, 1, 0),
        i(op::ST, 3),
        i(op::LD_MEM, 3),
        ret
    ]));
    assert!(valid(&[
        i(op::ST, 3),
        j(op::JEQ, 0, 1, 0),
        i(op::ST, 4),
        i(op::LD_MEM, 3),
        ret
    ]));
    assert_eq!(Program::from_bytes(&[0; 7]), Err(Errno(libc::EINVAL)));
    let p = Program::from_bytes(&j(op::RET_K, 7, 1, 2).to_bytes()).unwrap();
    assert_eq!(p.insns(), [j(op::RET_K, 7, 1, 2)]);
}

fn always(ret: u32) -> Program {
    Program::new(&[i(op::RET_K, ret)]).unwrap()
}

#[test]
fn the_strictest_filter_wins() {
    let order = [
        (libc::SECCOMP_RET_ALLOW, Action::Allow),
        (libc::SECCOMP_RET_LOG, Action::Log),
        (libc::SECCOMP_RET_TRACE | 1, Action::Trace(1)),
        (libc::SECCOMP_RET_USER_NOTIF, Action::UserNotif(0)),
        (libc::SECCOMP_RET_ERRNO | 0xffff, Action::Errno(4095)),
        (libc::SECCOMP_RET_TRAP | 7, Action::Trap(7)),
        (libc::SECCOMP_RET_KILL_THREAD, Action::KillThread),
        (libc::SECCOMP_RET_KILL_PROCESS, Action::KillProcess),
    ];
    for (n, &(ret, want)) in order.iter().enumerate() {
        assert!(action_available(ret & 0xffff_0000));
        for &(weaker, _) in &order[..=n] {
            for pair in [[ret, weaker], [weaker, ret]] {
                let mut f = Filters::default();
                f.push(always(pair[0])).unwrap();
                f.push(always(pair[1])).unwrap();
                assert_eq!(f.evaluate(&data(0)), want);
            }
        }
    }
    // Of equal actions the newest gives the data.
    let mut f = Filters::default();
    f.push(always(libc::SECCOMP_RET_ERRNO | 1)).unwrap();
    let parent = f.clone();
    f.push(always(libc::SECCOMP_RET_ERRNO | 2)).unwrap();
    assert_eq!(f.evaluate(&data(0)), Action::Errno(2));
    assert!(f.extends(&parent) && !parent.extends(&f));
    // Unknown: killed.
    assert_eq!(Action::from_ret(0x1234_0000), Action::KillProcess);
    assert!(!action_available(0x1234_0000) && !action_available(libc::SECCOMP_RET_ERRNO | 1));
}

#[test]
fn limits_and_modes() {
    let long = Program::new(&[i(op::RET_K, 0); 4096]).unwrap();
    let mut s = Seccomp::default();
    assert_eq!(s.evaluate(1, 0, [0; 6]), Action::Allow);
    for _ in 0..7 {
        s.add_filter(long.clone()).unwrap();
    }
    assert_eq!(s.add_filter(long), Err(Errno(libc::ENOMEM)));
    assert_eq!((s.set_strict(), s.mode()), (Err(Errno(libc::EINVAL)), 2));

    let mut s = Seccomp::default();
    s.set_strict().unwrap();
    assert_eq!((s.set_strict(), s.mode()), (Ok(()), 1));
    assert_eq!(s.add_filter(always(0)), Err(Errno(libc::EINVAL)));
    let act = |nr: i64| s.evaluate(nr as u32, 0, [0; 6]);
    assert_eq!(act(libc::SYS_read), Action::Allow);
    assert_eq!(act(libc::SYS_exit_group), Action::KillStrict);
}

#[test]
fn siginfo_of_a_trap() {
    let info = trap_siginfo(39, 0x1234, 0xabc);
    assert_eq!(le::u32(&info, 0), 31);
    assert_eq!(le::u32(&info, 4), 0xabc);
    assert_eq!(le::u32(&info, 8), 1);
    assert_eq!(le::u64(&info, 16), 0x1234);
    assert_eq!(le::u32(&info, 24), 39);
    assert_eq!(le::u32(&info, 28), AUDIT_ARCH_X86_64);
}
