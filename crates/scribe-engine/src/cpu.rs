//! Trapped instructions: which one stands at an address, what CPUID answers, the time-stamp
//! counter.

use scribe_abi::shared::Tsc;
use scribe_tracee::Regs;
use scribe_tracee::patch::Kind;
use std::arch::x86_64::{__cpuid_count, _rdtsc};

/// An instruction whose result differs from run to run or from machine to machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Trapped {
    /// RDTSC: edx:eax.
    Rdtsc = 0,
    /// RDTSCP: edx:eax and ecx.
    Rdtscp = 1,
    /// CPUID.
    Cpuid = 2,
}

impl Trapped {
    /// Decodes the instruction at the start of `code`; with its length in bytes.
    pub fn decode(code: &[u8]) -> Option<(Trapped, u64)> {
        // Legacy and REX prefixes have no effect on these three, but may be there.
        let skip = code
            .iter()
            .take_while(|b| matches!(b, 0x66 | 0xf2 | 0xf3 | 0x40..=0x4f))
            .count();
        let length = |n: usize| (skip + n) as u64;
        match &code[skip..] {
            [0x0f, 0x31, ..] => Some((Trapped::Rdtsc, length(2))),
            [0x0f, 0xa2, ..] => Some((Trapped::Cpuid, length(2))),
            [0x0f, 0x01, 0xf9, ..] => Some((Trapped::Rdtscp, length(3))),
            _ => None,
        }
    }

    /// As what it is patched.
    pub fn kind(self) -> Kind {
        match self {
            Trapped::Rdtsc => Kind::Rdtsc,
            Trapped::Rdtscp => Kind::Rdtscp,
            Trapped::Cpuid => Kind::Cpuid,
        }
    }

    /// The one that stood at a patched place, if it reads the counter.
    pub fn counter(kind: Kind) -> Option<Trapped> {
        [Trapped::Rdtsc, Trapped::Rdtscp]
            .into_iter()
            .find(|which| which.kind() == kind)
    }
}

/// TF of the flags: the CPU traps behind each instruction.
pub const TRAP_FLAG: u64 = 1 << 8;

/// The siginfo of such a trap.
pub fn trap_info(rip: u64) -> [u8; 128] {
    let mut info = [0; 128];
    info[..4].copy_from_slice(&libc::SIGTRAP.to_le_bytes());
    info[8..12].copy_from_slice(&libc::TRAP_TRACE.to_le_bytes());
    info[16..24].copy_from_slice(&rip.to_le_bytes());
    info
}

/// The engine's time-stamp counter.
fn rdtsc() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU; the engine itself does not trap it.
    unsafe { _rdtsc() }
}

/// `CLOCK_MONOTONIC_RAW`, in nanoseconds: it is made from the counter, and no clock discipline changes
/// its rate.
pub fn raw_clock() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A moment by the clock and by the counter.
pub struct Moment {
    ns: u64,
    ticks: u64,
}

impl Moment {
    /// This one: of several readings that between whose counters the least time passed, as an
    /// interruption in between makes the two belong to different moments.
    pub fn now() -> Moment {
        let readings = (0..8).map(|_| {
            let (before, ns, after) = (rdtsc(), raw_clock(), rdtsc());
            let gap = after.saturating_sub(before);
            let ticks = before + gap / 2;
            (gap, Moment { ns, ticks })
        });
        let (_, moment) = readings
            .min_by_key(|(gap, _)| *gap)
            .expect("there are eight");
        moment
    }

    /// The counter that the recording shows, measured since then, which should be some 200 us ago.
    /// All that a program could notice is a rate that is a little off.
    pub fn measure(&self) -> Tsc {
        let Moment { ns, ticks } = *self;
        loop {
            let now = Moment::now();
            if now.ns >= ns + 200_000 {
                let passed = u128::from(now.ticks.saturating_sub(ticks)) << 32;
                let rate = (passed / u128::from(now.ns - ns)) as u64;
                return Tsc { ns, ticks, rate };
            }
        }
    }
}

/// Executes a CPUID with these registers, as a task does where it does not trap.
pub fn execute(regs: &mut Regs) {
    let r = __cpuid_count(regs.rax as u32, regs.rcx as u32);
    (regs.rax, regs.rbx) = (r.eax.into(), r.ebx.into());
    (regs.rcx, regs.rdx) = (r.ecx.into(), r.edx.into());
}

/// One CPUID answer: leaf, subleaf, eax, ebx, ecx, edx.
pub type Leaf = [u32; 6];

/// What CPUID answers to the recorded program. A table, made once a recording, so that the answer
/// does not depend on the core that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuid {
    leaves: Vec<Leaf>,
    /// Programs do not see how much room the extended state needs; see [`Cpuid::hide_state_size`].
    hides: bool,
}

/// Flag of a recording (the log's Flags section): [`Cpuid::hide_state_size`].
pub(crate) const HIDES_STATE_SIZE: u64 = 1;

impl Cpuid {
    /// This machine's answers, without what a replay could not repeat: RDRAND, RDSEED, RDPID, and
    /// transactional memory; and without which CPU it was (APIC ids).
    pub fn host() -> Cpuid {
        let mut leaves = Vec::new();
        for base in [0u32, 0x4000_0000, 0x8000_0000] {
            let top = __cpuid_count(base, 0).eax;
            if base == 0x4000_0000 && !(base..base + 0x100).contains(&top) {
                continue;
            }
            for leaf in base..=top.clamp(base, base + 0x40) {
                ask(leaf, &mut leaves);
            }
        }
        Cpuid {
            leaves,
            hides: false,
        }
    }

    /// A recorded table.
    pub fn from_leaves(leaves: Vec<Leaf>) -> Cpuid {
        Cpuid {
            leaves,
            hides: false,
        }
    }

    /// From here on programs are told that no room is needed for the extended state (leaf 0xd), so that the
    /// dynamic loader saves registers by FXSAVE at each lazy binding. XSAVEC writes which components are in
    /// use, and only those: on CPUs of AMD an interruption turns that on for SSE registers that are all zero,
    /// and their next use off. These are CPUs where CPUID does not trap, so only code that was searched for it sees this.
    pub(crate) fn hide_state_size(&mut self) {
        self.hides = true;
    }

    /// Whether it is hidden, and how a log says so.
    pub(crate) fn flags(&self) -> u64 {
        if self.hides { HIDES_STATE_SIZE } else { 0 }
    }

    /// The table as programs see it.
    pub(crate) fn shown(&self) -> Vec<Leaf> {
        let show = |entry: &Leaf| {
            let [leaf, sub, eax, ebx, ecx, edx] = *entry;
            match (leaf, sub) {
                (0xd, 0) if self.hides => [leaf, sub, eax, 0, 0, edx],
                _ => [leaf, sub, eax, ebx, ecx, edx],
            }
        };
        self.leaves.iter().map(show).collect()
    }

    /// The table, for the log.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Answers as the CPU would: an unknown subleaf is zero; a leaf above the highest basic one
    /// answers as the highest basic one does (Intel SDM, CPUID).
    pub fn answer(&self, leaf: u32, sub: u32) -> [u32; 4] {
        let find = |leaf: u32, sub: u32| {
            let hit = self
                .leaves
                .iter()
                .find(|entry| entry[0] == leaf && entry[1] == sub);
            hit.map(|entry| [entry[2], entry[3], entry[4], entry[5]])
        };
        let sub = if max_subleaf(leaf) == 0 { 0 } else { sub };
        if let Some(answer) = find(leaf, sub) {
            return answer;
        }
        let known = self.leaves.iter().any(|entry| entry[0] == leaf);
        if known || matches!(leaf, 0x4000_0000..=0x4000_ffff) {
            return [0; 4];
        }
        let top = find(0, 0).map_or(0, |basic| basic[0]);
        find(top, if max_subleaf(top) == 0 { 0 } else { sub }).unwrap_or([0; 4])
    }

    /// Puts the answer to a CPUID that is executed with these registers into them.
    pub fn fill(&self, regs: &mut Regs) {
        let (leaf, sub) = (regs.rax as u32, regs.rcx as u32);
        let [a, mut b, mut c, d] = self.answer(leaf, sub);
        if self.hides && (leaf, sub) == (0xd, 0) {
            (b, c) = (0, 0);
        }
        (regs.rax, regs.rbx) = (a.into(), b.into());
        (regs.rcx, regs.rdx) = (c.into(), d.into());
    }

    /// Whether this machine can run what the table promises: every feature bit in it is here.
    pub fn missing_here(&self) -> Option<String> {
        let mut leaves = Vec::new();
        for leaf in [1, 7, 0xd, 0x8000_0001] {
            ask(leaf, &mut leaves);
        }
        let host = Cpuid::from_leaves(leaves);
        // Leaf 1 ecx/edx, leaf 7 ebx/ecx/edx, 0xd.0 eax (XCR0 bits), 0x80000001 ecx/edx.
        for (leaf, sub, register) in [
            (1, 0, 2),
            (1, 0, 3),
            (7, 0, 1),
            (7, 0, 2),
            (7, 0, 3),
            (7, 1, 0),
            (0xd, 0, 0),
            (0x8000_0001, 0, 2),
            (0x8000_0001, 0, 3),
        ] {
            let missing = self.answer(leaf, sub)[register] & !host.answer(leaf, sub)[register];
            if missing != 0 {
                let name = ["eax", "ebx", "ecx", "edx"][register];
                return Some(format!(
                    "CPUID leaf {leaf:#x} subleaf {sub} {name} bits {missing:#x}"
                ));
            }
        }
        None
    }
}

/// Highest subleaf worth asking for.
pub fn max_subleaf(leaf: u32) -> u32 {
    match leaf {
        4 | 0xb | 0x18 | 0x1f => 7,
        7 | 0x14 | 0x1d | 0x1e => 2,
        0xd => 19,
        0xf | 0x10 | 0x12 => 3,
        0x8000_001d => 5,
        _ => 0,
    }
}

/// Appends what the CPU answers for a leaf. Asking takes an exit to the hypervisor, so subleafs that are not there, which are zero,
/// are not asked for.
fn ask(leaf: u32, leaves: &mut Vec<Leaf>) {
    let cpuid = |sub: u32| {
        let r = __cpuid_count(leaf, sub);
        [r.eax, r.ebx, r.ecx, r.edx]
    };
    let first = cpuid(0);
    let mut put = |sub: u32, [a, b, c, d]: [u32; 4]| {
        let entry = mask([leaf, sub, a, b, c, d]);
        if entry[2..] != [0; 4] || sub == 0 {
            leaves.push(entry);
        }
    };
    put(0, first);
    let most = match leaf {
        _ if first == [0; 4] => 0,
        // The first subleaf names the highest.
        7 | 0x14 | 0x18 | 0x1d => max_subleaf(leaf).min(first[0]),
        _ => max_subleaf(leaf),
    };
    // State components: those of XCR0 are in the first subleaf, those of IA32_XSS in the second.
    let mut components = u64::MAX;
    for sub in 1..=most {
        if leaf == 0xd && sub > 1 && components >> sub & 1 == 0 {
            continue;
        }
        let [a, b, c, d] = cpuid(sub);
        put(sub, [a, b, c, d]);
        if leaf == 0xd && sub == 1 {
            components = u64::from(first[0] | c) | u64::from(first[3] | d) << 32;
        }
        if leaf == 4 && a & 0x1f == 0 {
            break;
        }
        if matches!(leaf, 0xb | 0x1f) && [a, b, c] == [0, 0, sub] {
            // No level from here on: only the number of the subleaf comes back (Intel SDM, CPUID).
            (sub + 1..=most).for_each(|sub| put(sub, [0, 0, sub, d]));
            break;
        }
    }
}

fn mask(mut entry: Leaf) -> Leaf {
    const RDRAND: u32 = 1 << 30;
    const RDSEED: u32 = 1 << 18;
    const HLE_RTM: u32 = 1 << 4 | 1 << 11;
    const RDPID: u32 = 1 << 22;
    const WAITPKG: u32 = 1 << 5;
    let [leaf, sub, _, ebx, ecx, edx] = &mut entry;
    match (*leaf, *sub) {
        (1, _) => {
            *ebx &= 0x00ff_ffff; // initial APIC id
            *ecx &= !RDRAND;
        }
        (7, 0) => {
            *ebx &= !(RDSEED | HLE_RTM);
            *ecx &= !(RDPID | WAITPKG);
            *edx &= !(1 << 11 | 1 << 13); // RTM_ALWAYS_ABORT, TSX_FORCE_ABORT
        }
        (0xb | 0x1f, _) => *edx = 0, // x2APIC id
        (0x8000_001e, _) => entry[2] = 0,
        _ => {}
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_decode() {
        assert_eq!(
            Trapped::decode(&[0x0f, 0x31, 0x90]),
            Some((Trapped::Rdtsc, 2))
        );
        assert_eq!(
            Trapped::decode(&[0x48, 0x0f, 0xa2]),
            Some((Trapped::Cpuid, 3))
        );
        assert_eq!(
            Trapped::decode(&[0x0f, 0x01, 0xf9]),
            Some((Trapped::Rdtscp, 3))
        );
        assert_eq!(Trapped::decode(&[0x0f, 0x01]), None);
        assert_eq!(Trapped::decode(&[]), None);
    }

    #[test]
    fn the_table_hides_randomness_and_fits_this_machine() {
        let table = Cpuid::host();
        assert_eq!(table.answer(1, 0)[2] & 1 << 30, 0);
        assert_eq!(table.answer(7, 0)[1] & 1 << 18, 0);
        assert_eq!(table.answer(1, 5), table.answer(1, 0));
        assert_eq!(table.missing_here(), None);
        assert_ne!(table.answer(0, 0)[0], 0);
    }

    #[test]
    fn what_is_not_asked_for_is_zero() {
        let table = Cpuid::host();
        for leaf in (0..=table.answer(0, 0)[0].min(0x40)).filter(|leaf| *leaf != 0xd) {
            for sub in 0..=max_subleaf(leaf) {
                let r = __cpuid_count(leaf, sub);
                let entry = mask([leaf, sub, r.eax, r.ebx, r.ecx, r.edx]);
                assert_eq!(table.answer(leaf, sub), entry[2..], "{leaf:#x} {sub}");
            }
        }
    }
}
