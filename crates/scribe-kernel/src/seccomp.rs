//! Seccomp as a model: filters are checked and evaluated here, since under interception the
//! application's calls do not reach the kernel by its own `syscall` instructions.
//!
//! Sources: seccomp(2); kernel/seccomp.c `seccomp_check_filter`, `seccomp_run_filters`,
//! `__seccomp_filter`, `mode1_syscalls`; net/core/filter.c `bpf_check_classic`,
//! `check_load_and_stores`, `bpf_convert_filter`.

use crate::signal::SigInfo;
use crate::{Errno, le};
use std::sync::Arc;

/// `AUDIT_ARCH_X86_64` (include/uapi/linux/audit.h).
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `BPF_MAXINSNS`: the longest program.
pub const MAX_INSNS: usize = 4096;
/// The longest sum of all programs of a task, each but the newest costing 4 more
/// (`MAX_INSNS_PER_PATH`).
pub const MAX_INSNS_PER_PATH: usize = 32768;

/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;
/// `BPF_MEMWORDS`: cells of scratch memory.
const MEM_WORDS: usize = 16;
const MAX_ERRNO: u16 = 4095;

/// Classic BPF opcodes (include/uapi/linux/bpf_common.h, filter.h), as far as seccomp takes them.
mod op {
    pub const LD_ABS: u16 = 0x20;
    pub const LD_LEN: u16 = 0x80;
    pub const LDX_LEN: u16 = 0x81;
    pub const LD_IMM: u16 = 0x00;
    pub const LDX_IMM: u16 = 0x01;
    pub const LD_MEM: u16 = 0x60;
    pub const LDX_MEM: u16 = 0x61;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const RET_K: u16 = 0x06;
    pub const RET_A: u16 = 0x16;
    pub const TAX: u16 = 0x07;
    pub const TXA: u16 = 0x87;
    pub const NEG: u16 = 0x84;
    pub const JA: u16 = 0x05;
    /// Bit that selects X as the source of an arithmetic or jump instruction.
    pub const X: u16 = 0x08;
    pub const ADD: u16 = 0x04;
    pub const SUB: u16 = 0x14;
    pub const MUL: u16 = 0x24;
    pub const DIV: u16 = 0x34;
    pub const OR: u16 = 0x44;
    pub const AND: u16 = 0x54;
    pub const LSH: u16 = 0x64;
    pub const RSH: u16 = 0x74;
    pub const XOR: u16 = 0xa4;
    pub const JEQ: u16 = 0x15;
    pub const JGT: u16 = 0x25;
    pub const JGE: u16 = 0x35;
    pub const JSET: u16 = 0x45;
}

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Opcode.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    /// Size of the struct.
    pub const SIZE: usize = 8;

    /// The bytes of the struct.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        le::put16(&mut out, 0, self.code);
        (out[2], out[3]) = (self.jt, self.jf);
        le::put32(&mut out, 4, self.k);
        out
    }

    /// The inverse of [`Insn::to_bytes`].
    pub fn from_bytes(b: &[u8; Self::SIZE]) -> Self {
        Self {
            code: u16::from_le_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: le::u32(b, 4),
        }
    }

    /// The opcode of a conditional jump without its source bit.
    fn conditional(&self) -> Option<u16> {
        let code = self.code & !op::X;
        matches!(code, op::JEQ | op::JGT | op::JGE | op::JSET).then_some(code)
    }
}

/// What a system call looks like to a filter (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Number of the call.
    pub nr: u32,
    /// [`AUDIT_ARCH_X86_64`].
    pub arch: u32,
    /// Address behind the `syscall` instruction.
    pub ip: u64,
    /// Arguments.
    pub args: [u64; 6],
}

impl Data {
    /// The 32-bit word at an offset that the validator let through.
    fn word(&self, offset: u32) -> u32 {
        let half = |v: u64| {
            if offset & 4 == 0 {
                v as u32
            } else {
                (v >> 32) as u32
            }
        };
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => half(self.ip),
            _ => half(self.args[(offset as usize - 16) / 8 % 6]),
        }
    }
}

/// A program that passed the kernel's checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Arc<[Insn]>);

impl Program {
    /// Checks a program as the kernel does when it is installed.
    pub fn new(insns: &[Insn]) -> Result<Self, Errno> {
        if check(insns) {
            Ok(Self(insns.into()))
        } else {
            Err(Errno(libc::EINVAL))
        }
    }

    /// [`Program::new`] from the array of `struct sock_filter` that a `struct sock_fprog` names.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Errno> {
        if !bytes.len().is_multiple_of(Insn::SIZE) {
            return Err(Errno(libc::EINVAL));
        }
        let insn = |b: &[u8]| Insn::from_bytes(b.try_into().expect("chunk of 8"));
        Self::new(&bytes.chunks_exact(Insn::SIZE).map(insn).collect::<Vec<_>>())
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.0
    }

    /// Runs the program: its return value. Jumps go forward only, so it ends.
    pub fn run(&self, data: &Data) -> u32 {
        let (mut a, mut x, mut pc) = (0u32, 0u32, 0usize);
        let mut mem = [0u32; MEM_WORDS];
        while let Some(i) = self.0.get(pc) {
            pc += 1;
            let src = if i.code & op::X != 0 { x } else { i.k };
            if let Some(code) = i.conditional() {
                let hit = match code {
                    op::JEQ => a == src,
                    op::JGT => a > src,
                    op::JGE => a >= src,
                    _ => a & src != 0,
                };
                pc += usize::from(if hit { i.jt } else { i.jf });
                continue;
            }
            match i.code {
                op::RET_K => return i.k,
                op::RET_A => return a,
                op::LD_ABS => a = data.word(i.k),
                op::LD_LEN => a = DATA_SIZE,
                op::LDX_LEN => x = DATA_SIZE,
                op::LD_IMM => a = i.k,
                op::LDX_IMM => x = i.k,
                op::LD_MEM => a = mem[i.k as usize % MEM_WORDS],
                op::LDX_MEM => x = mem[i.k as usize % MEM_WORDS],
                op::ST => mem[i.k as usize % MEM_WORDS] = a,
                op::STX => mem[i.k as usize % MEM_WORDS] = x,
                op::TAX => x = a,
                op::TXA => a = x,
                op::NEG => a = a.wrapping_neg(),
                op::JA => pc = pc.saturating_add(i.k as usize),
                code => match alu(code & !op::X, a, src) {
                    Some(v) => a = v,
                    // Division by zero ends the program with 0.
                    None => return 0,
                },
            }
        }
        libc::SECCOMP_RET_KILL_PROCESS
    }
}

fn alu(code: u16, a: u32, src: u32) -> Option<u32> {
    Some(match code {
        op::ADD => a.wrapping_add(src),
        op::SUB => a.wrapping_sub(src),
        op::MUL => a.wrapping_mul(src),
        op::DIV => return a.checked_div(src),
        op::OR => a | src,
        op::AND => a & src,
        // The kernel's own interpreter and its JITs count modulo 32.
        op::LSH => a.wrapping_shl(src),
        op::RSH => a.wrapping_shr(src),
        _ => a ^ src,
    })
}

fn check(insns: &[Insn]) -> bool {
    let n = insns.len();
    (1..=MAX_INSNS).contains(&n)
        && insns
            .iter()
            .enumerate()
            .all(|(pc, i)| check_insn(i, n - pc - 1))
        && matches!(insns[n - 1].code, op::RET_K | op::RET_A)
        && check_memory(insns)
}

/// `after` is the number of instructions behind this one.
fn check_insn(i: &Insn, after: usize) -> bool {
    if i.conditional().is_some() {
        return usize::from(i.jt) < after && usize::from(i.jf) < after;
    }
    match i.code {
        op::LD_ABS => i.k < DATA_SIZE && i.k & 3 == 0,
        op::LD_MEM | op::LDX_MEM | op::ST | op::STX => (i.k as usize) < MEM_WORDS,
        op::JA => (i.k as usize) < after,
        op::LD_LEN | op::LDX_LEN | op::LD_IMM | op::LDX_IMM => true,
        op::RET_K | op::RET_A | op::TAX | op::TXA | op::NEG => true,
        op::DIV => i.k != 0,
        op::LSH | op::RSH => i.k < 32,
        code => matches!(
            code & !op::X,
            op::ADD | op::SUB | op::MUL | op::DIV | op::OR | op::AND | op::LSH | op::RSH | op::XOR
        ),
    }
}

/// `check_load_and_stores`: no cell is read that was not written on every way there.
fn check_memory(insns: &[Insn]) -> bool {
    let mut masks = vec![!0u16; insns.len()];
    let mut valid = 0u16;
    for (pc, i) in insns.iter().enumerate() {
        valid &= masks[pc];
        let mut targets = [None; 2];
        match i.code {
            op::ST | op::STX => valid |= 1 << i.k,
            op::LD_MEM | op::LDX_MEM if valid & 1 << i.k == 0 => return false,
            op::JA => targets[0] = Some(i.k as usize),
            _ if i.conditional().is_some() => {
                targets = [Some(usize::from(i.jt)), Some(usize::from(i.jf))];
            }
            _ => {}
        }
        for t in targets.into_iter().flatten() {
            masks[pc + 1 + t] &= valid;
        }
        if targets[0].is_some() {
            valid = !0;
        }
    }
    true
}

/// What is to be done with a call. The numbers are the filter's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The process dies by SIGSYS, with a core dump. Also for return values nobody knows.
    KillProcess,
    /// The task dies by SIGSYS; so does the process if it has no other task.
    KillThread,
    /// Strict mode: the task dies by SIGKILL.
    KillStrict,
    /// SIGSYS with [`trap_siginfo`]; rax as before the call, which is not made.
    Trap(u16),
    /// The call gives this error; 0 gives 0.
    Errno(u16),
    /// A supervisor decides; ENOSYS if there is none.
    UserNotif(u16),
    /// The tracer decides. The application's tracer, that is: ENOSYS if it has none.
    Trace(u16),
    /// The call is made, and logged.
    Log,
    /// The call is made.
    Allow,
}

impl Action {
    /// Decodes the return value of a filter.
    pub fn from_ret(ret: u32) -> Self {
        let data = ret as u16;
        match ret & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Self::KillThread,
            libc::SECCOMP_RET_TRAP => Self::Trap(data),
            libc::SECCOMP_RET_ERRNO => Self::Errno(data.min(MAX_ERRNO)),
            libc::SECCOMP_RET_USER_NOTIF => Self::UserNotif(data),
            libc::SECCOMP_RET_TRACE => Self::Trace(data),
            libc::SECCOMP_RET_LOG => Self::Log,
            libc::SECCOMP_RET_ALLOW => Self::Allow,
            _ => Self::KillProcess,
        }
    }
}

/// Whether the kernel knows an action (`SECCOMP_GET_ACTION_AVAIL`).
pub fn action_available(action: u32) -> bool {
    action == libc::SECCOMP_RET_KILL_PROCESS
        || action & 0xffff == 0 && Action::from_ret(action) != Action::KillProcess
}

/// The filters of a task, oldest first. A copy is what fork gives the child; filters are never
/// taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<Program>);

impl Filters {
    /// Installs one more (`seccomp_attach_filter`). That the task may do so at all
    /// (`no_new_privs` or `CAP_SYS_ADMIN`, else EACCES) is the caller's to check. The kernel counts
    /// the instructions after translation, so its limit can come a little earlier.
    pub fn push(&mut self, program: Program) -> Result<(), Errno> {
        let older: usize = self.0.iter().map(|p| p.insns().len() + 4).sum();
        if older + program.insns().len() > MAX_INSNS_PER_PATH {
            return Err(Errno(libc::ENOMEM));
        }
        self.0.push(program);
        Ok(())
    }

    /// The programs, oldest first.
    pub fn programs(&self) -> &[Program] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this task's filters start with all of `older`: what `SECCOMP_FILTER_FLAG_TSYNC`
    /// demands of the other tasks' filters (`is_ancestor`).
    pub fn extends(&self, older: &Filters) -> bool {
        self.0.len() >= older.0.len()
            && self
                .0
                .iter()
                .zip(&older.0)
                .all(|(a, b)| Arc::ptr_eq(&a.0, &b.0))
    }

    /// Runs all, newest first; the most restrictive action wins, and of equal ones the newest.
    pub fn evaluate(&self, data: &Data) -> Action {
        let rank = |ret: u32| (ret & libc::SECCOMP_RET_ACTION_FULL) as i32;
        let mut ret = libc::SECCOMP_RET_ALLOW;
        for p in self.0.iter().rev() {
            let cur = p.run(data);
            if rank(cur) < rank(ret) {
                ret = cur;
            }
        }
        Action::from_ret(ret)
    }
}

/// The seccomp state of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Not in use.
    #[default]
    Disabled,
    /// Only read, write, exit and rt_sigreturn.
    Strict,
    /// Filters.
    Filter(Filters),
}

impl Seccomp {
    /// `SECCOMP_SET_MODE_STRICT`.
    pub fn set_strict(&mut self) -> Result<(), Errno> {
        match self {
            Self::Filter(_) => Err(Errno(libc::EINVAL)),
            _ => {
                *self = Self::Strict;
                Ok(())
            }
        }
    }

    /// `SECCOMP_SET_MODE_FILTER`.
    pub fn add_filter(&mut self, program: Program) -> Result<(), Errno> {
        match self {
            Self::Strict => Err(Errno(libc::EINVAL)),
            Self::Filter(f) => f.push(program),
            Self::Disabled => {
                let mut f = Filters::default();
                f.push(program)?;
                *self = Self::Filter(f);
                Ok(())
            }
        }
    }

    /// What `prctl(PR_GET_SECCOMP)` gives and /proc/pid/status shows.
    pub fn mode(&self) -> u32 {
        match self {
            Self::Disabled => 0,
            Self::Strict => 1,
            Self::Filter(_) => 2,
        }
    }

    /// What becomes of a 64-bit system call; `ip` is the address behind the instruction.
    pub fn evaluate(&self, nr: u32, ip: u64, args: [u64; 6]) -> Action {
        const STRICT: [i64; 4] = [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_exit,
            libc::SYS_rt_sigreturn,
        ];
        match self {
            Self::Disabled => Action::Allow,
            Self::Strict if STRICT.contains(&i64::from(nr)) => Action::Allow,
            Self::Strict => Action::KillStrict,
            Self::Filter(f) => f.evaluate(&Data {
                nr,
                arch: AUDIT_ARCH_X86_64,
                ip,
                args,
            }),
        }
    }
}

/// The siginfo of [`Action::Trap`] and of the killing actions (`force_sig_seccomp`, kernel/signal.c).
pub fn trap_siginfo(nr: u32, ip: u64, data: u16) -> SigInfo {
    const SYS_SECCOMP: u32 = 1;
    let mut info = [0; 128];
    le::put32(&mut info, 0, libc::SIGSYS as u32);
    le::put32(&mut info, 4, u32::from(data));
    le::put32(&mut info, 8, SYS_SECCOMP);
    le::put64(&mut info, 16, ip);
    le::put32(&mut info, 24, nr);
    le::put32(&mut info, 28, AUDIT_ARCH_X86_64);
    info
}

#[cfg(test)]
mod tests;
