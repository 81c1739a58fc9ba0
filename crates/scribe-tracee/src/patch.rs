//! Patching of system-call places, of CPUID, RDTSC and RDTSCP: a jump into a stub, over the instruction and as many of its
//! neighbours as the jump needs. Functions over bytes; who writes them sees to it that nobody runs
//! there.
//!
//! The jump is `jmp *slot` with a 32-bit address (7 bytes): stubs lie below 2 GiB, so they are in
//! reach from everywhere. Without a `call` and without a push, so that the red zone stays.
//!
//! ```text
//! stub + 0x00  slot: address of the entry
//!      + 0x08  entry: the instructions that stood before the syscall
//!              mov $tail, %ecx
//!              jmp agent                      returns to rcx
//!      + 0x20  tail: mov $next, %rcx          what syscall leaves there
//!              the instructions that stood behind the syscall
//!              jmp *end
//! ```

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use scribe_abi::{
    AGENT_BASE, ENTRY_CPUID, ENTRY_PATCHED, MARK_RDTSC, MARK_RDTSCP, PAGE, PROCESS, STUB_COUNT,
    STUB_SIZE, STUBS,
};

/// `scribe_abi::shared::Process::saved_ret`.
const SAVED_RET: u64 = PROCESS + 16;

/// Bytes of the jump.
const JUMP: usize = 7;
/// Most bytes moved from before the syscall, and from behind it.
const BEFORE: usize = 10;
const AFTER: usize = 8;
const ENTRY: usize = 0x08;
const TAIL: usize = 0x20;
/// For CPUID: storing the return place takes more room.
const CPUID_TAIL: usize = 0x28;

/// Instructions that are patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `syscall`.
    Syscall = 0,
    /// `cpuid`.
    Cpuid = 1,
    /// `rdtsc`.
    Rdtsc = 2,
    /// `rdtscp`.
    Rdtscp = 3,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Syscall, Kind::Cpuid, Kind::Rdtsc, Kind::Rdtscp];

    /// From its number.
    pub fn new(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The kind of the instruction at the start of `code`.
    pub fn of(code: &[u8]) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| code.starts_with(kind.code()))
    }

    /// Its bytes.
    pub fn code(self) -> &'static [u8] {
        match self {
            Kind::Syscall => &[0x0f, 0x05],
            Kind::Cpuid => &[0x0f, 0xa2],
            Kind::Rdtsc => &[0x0f, 0x31],
            Kind::Rdtscp => &[0x0f, 0x01, 0xf9],
        }
    }

    /// Bytes of the instruction.
    pub fn length(self) -> usize {
        self.code().len()
    }

    /// What tells the agent which instruction it is to answer: low bits of the address where it
    /// returns to.
    fn mark(self) -> u32 {
        match self {
            Kind::Syscall | Kind::Cpuid => 0,
            Kind::Rdtsc => MARK_RDTSC,
            Kind::Rdtscp => MARK_RDTSCP,
        }
    }
}
/// How far around a place branches are decoded one by one.
const NEAR: usize = 512;

/// How much around a `syscall` is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes before it.
    pub before: u8,
    /// Bytes behind it.
    pub after: u8,
}

/// A patched place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Address of the `syscall`.
    pub syscall: u64,
    /// What is replaced.
    pub extent: Extent,
    /// Number of its stub.
    pub stub: u16,
    /// What stands there.
    pub kind: Kind,
}

impl Site {
    /// First replaced byte.
    pub fn start(&self) -> u64 {
        self.syscall - u64::from(self.extent.before)
    }

    /// Behind the instruction: where the application is after the call.
    pub fn next(&self) -> u64 {
        self.syscall + self.kind.length() as u64
    }

    /// Behind the last replaced byte.
    pub fn end(&self) -> u64 {
        self.next() + u64::from(self.extent.after)
    }

    /// Whether its numbers are possible: they may come from a log.
    pub fn is_sound(&self) -> bool {
        u64::from(self.stub) < STUB_COUNT
            && usize::from(self.extent.before) <= BEFORE
            && usize::from(self.extent.after) <= AFTER
            && (PAGE..1 << 47).contains(&self.syscall)
    }

    fn stub_at(&self) -> u64 {
        STUBS + u64::from(self.stub) * STUB_SIZE
    }

    /// Where its stub begins.
    pub fn entry(&self) -> u64 {
        self.stub_at() + ENTRY as u64
    }

    /// Where the agent returns to.
    pub fn tail(&self) -> u64 {
        let tail = match self.kind {
            Kind::Syscall => TAIL,
            Kind::Cpuid | Kind::Rdtsc | Kind::Rdtscp => CPUID_TAIL,
        };
        self.stub_at() + tail as u64
    }

    /// Where a task has to go on that stands at `rip` in the unpatched program; `None`: right there.
    pub fn resume(&self, rip: u64) -> Option<u64> {
        if rip == self.next() {
            Some(self.tail())
        } else if rip == self.syscall && self.extent.before > 0 {
            Some(self.stub_at() + ENTRY as u64 + u64::from(self.extent.before))
        } else {
            None
        }
    }

    /// Address and content of the stub, and of the jump, for the bytes that stand at the place.
    pub fn code(&self, original: &[u8]) -> Option<[(u64, Vec<u8>); 2]> {
        let (before, after): (usize, usize) = (self.extent.before.into(), self.extent.after.into());
        let behind = before + self.kind.length();
        if original.len() != behind + after
            || original.len() < JUMP
            || before > BEFORE
            || after > AFTER
            || original[before..behind] != *self.kind.code()
        {
            return None;
        }
        let at = self.stub_at();
        let mut stub = vec![0xcc; STUB_SIZE as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            stub[at..at + bytes.len()].copy_from_slice(bytes);
            at + bytes.len()
        };
        put(0, &(at + ENTRY as u64).to_le_bytes());
        let mut p = put(ENTRY, &original[..before]);
        let entry = match self.kind {
            Kind::Syscall => {
                // mov $tail, %ecx
                p = put(p, &[0xb9]);
                p = put(p, &(self.tail() as u32).to_le_bytes());
                ENTRY_PATCHED
            }
            Kind::Cpuid | Kind::Rdtsc | Kind::Rdtscp => {
                // movq $tail, saved_ret
                p = put(p, &[0x48, 0xc7, 0x04, 0x25]);
                p = put(p, &(SAVED_RET as u32).to_le_bytes());
                p = put(p, &(self.tail() as u32 | self.kind.mark()).to_le_bytes());
                ENTRY_CPUID
            }
        };
        p = put(p, &[0xe9]);
        let from = at + p as u64 + 4;
        let distance = (AGENT_BASE + entry).wrapping_sub(from) as u32;
        put(p, &distance.to_le_bytes());
        p = (self.tail() - at) as usize;
        if self.kind == Kind::Syscall {
            p = put(p, &[0x48, 0xb9]);
            p = put(p, &self.next().to_le_bytes());
        }
        p = put(p, &original[behind..]);
        p = put(p, &[0xff, 0x25, 0, 0, 0, 0]);
        put(p, &self.end().to_le_bytes());
        let mut jump = vec![0xff, 0x24, 0x25];
        jump.extend_from_slice(&(at as u32).to_le_bytes());
        Some([(at, stub), (self.start(), jump)])
    }
}

const _: () = assert!(ENTRY + BEFORE + 17 <= CPUID_TAIL);
const _: () = assert!(CPUID_TAIL + AFTER + 14 <= STUB_SIZE as usize);
const _: () = assert!(ENTRY + BEFORE + 10 <= TAIL);
const _: () = assert!(TAIL + 10 + AFTER + 14 <= STUB_SIZE as usize);

/// Bytes that [`extent`] wants to see before and behind a place.
pub const WINDOW: usize = NEAR;

/// What can be replaced around the `syscall` at `at` in `text`, if it is safe: whole instructions
/// that do the same elsewhere, into which no direct branch leads. `text` is what stands around the
/// place (all of it, or [`WINDOW`] bytes on either side), its first byte at `base` of what `far` was
/// made from.
pub fn extent(text: &[u8], at: usize, base: usize, far: &FarBranches) -> Option<Extent> {
    let length = Kind::of(text.get(at..)?)?.length();
    let (list, index) = sweep(text, at)?;
    let moves = |i: &&Instruction| is_movable(i);
    let mut choices = Vec::new();
    // Best is a `mov $nr, %eax` right before.
    if number_before(text, at).is_some() {
        choices.push((5, 0));
    }
    let mut after = 0;
    for next in list[index + 1..].iter().take_while(moves) {
        after += next.len();
        if after + length >= JUMP {
            break;
        }
    }
    choices.push((0, after));
    let mut before = 0;
    for previous in list[..index].iter().rev().take_while(moves) {
        before += previous.len();
        choices.push((before, 0));
        choices.push((before, after));
    }
    let fits = |(before, after): &(usize, usize)| {
        *before <= BEFORE
            && *after <= AFTER
            && before + length + after >= JUMP
            && !branched_into(&list, at - before, at + length + after)
            && !far.into(base + at - before, base + at + length + after)
    };
    let (before, after) = choices.into_iter().find(fits)?;
    Some(Extent {
        before: before as u8,
        after: after as u8,
    })
}

/// The number of a call that a `mov $nr, %eax` right before loads. What decodes as something else
/// there (data in front of a function, say) would end with just these bytes by chance only.
fn number_before(text: &[u8], at: usize) -> Option<u32> {
    let mov = text.get(at.checked_sub(5)?..at)?;
    let nr = u32::from_le_bytes([mov[1], mov[2], mov[3], mov[4]]);
    // With a prefix it loads another register, or less of this one.
    let prefix = at > 5 && matches!(text[at - 6], 0x40..=0x4f | 0x66);
    (mov[0] == 0xb8 && nr < 1024 && !prefix).then_some(nr)
}

/// The instructions around `at`, and the index of the one there. Decoding begins before it, at
/// several places until the instructions come out at `at`: wrong beginnings fall into step with the
/// right ones within a few instructions.
fn sweep(text: &[u8], at: usize) -> Option<(Vec<Instruction>, usize)> {
    let first = at.saturating_sub(NEAR);
    (first..at).take(16).chain([at]).find_map(|start| {
        let end = text.len().min(at + NEAR);
        let mut decoder =
            Decoder::with_ip(64, &text[start..end], start as u64, DecoderOptions::NONE);
        let list: Vec<Instruction> = decoder.iter().collect();
        let index = list.iter().position(|i| i.ip() as usize == at)?;
        Some((list, index))
    })
}

/// Whether an instruction does the same at another address, cannot fault and goes on to the next.
fn is_movable(instruction: &Instruction) -> bool {
    let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    !instruction.is_invalid()
        && instruction.flow_control() == FlowControl::Next
        && !instruction.is_ip_rel_memory_operand()
        && (!memory || instruction.mnemonic() == iced_x86::Mnemonic::Lea)
        && !instruction.is_stack_instruction()
        && !instruction.is_string_instruction()
        && !instruction.is_privileged()
        && !matches!(
            instruction.mnemonic(),
            iced_x86::Mnemonic::Cpuid
                | iced_x86::Mnemonic::Rdtsc
                | iced_x86::Mnemonic::Rdtscp
                | iced_x86::Mnemonic::Div
                | iced_x86::Mnemonic::Idiv
                | iced_x86::Mnemonic::Hlt
        )
}

/// Whether a branch nearby leads behind the first byte of the range and into it.
fn branched_into(near: &[Instruction], start: usize, end: usize) -> bool {
    near.iter().any(|i| {
        matches!(
            i.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        ) && (start as u64 + 1..end as u64).contains(&i.near_branch_target())
    })
}

/// Where branches with a distance of 32 bits lead, of the places near `syscall` instructions.
/// Looked for at every offset, as branches can be decoded without knowing where instructions begin
/// only so.
#[derive(Clone, Debug, Default)]
pub struct FarBranches {
    /// Ascending.
    targets: Vec<usize>,
}

impl FarBranches {
    /// Goes through a text.
    pub fn find(text: &[u8]) -> FarBranches {
        // A bit for each byte that may be replaced.
        let mut hot = vec![0u64; text.len() / 64 + 1];
        for kind in Kind::ALL {
            for at in memchr::memmem::find_iter(text, kind.code()) {
                let behind = at + kind.length() + AFTER;
                let range = at.saturating_sub(BEFORE)..behind.min(text.len());
                range.for_each(|i| hot[i / 64] |= 1 << (i % 64));
            }
        }
        let mut targets = Vec::new();
        for at in memchr::memchr2_iter(0xe9, 0x0f, text) {
            // jmp rel32, or the two bytes of a jcc rel32.
            let behind = match (text[at], text.get(at + 1)) {
                (0xe9, _) => at + 1,
                (_, Some(0x80..=0x8f)) => at + 2,
                _ => continue,
            };
            let Some(distance) = text[behind..].first_chunk() else {
                continue;
            };
            let distance = i64::from(i32::from_le_bytes(*distance));
            let target = (behind as i64 + 4 + distance) as usize;
            let near = hot.get(target / 64);
            if near.is_some_and(|bits| bits >> (target % 64) & 1 != 0) {
                targets.push(target);
            }
        }
        targets.sort_unstable();
        FarBranches { targets }
    }

    /// Whether one leads behind the first byte of the range and into it.
    fn into(&self, start: usize, end: usize) -> bool {
        let first = self.targets.partition_point(|target| *target <= start);
        self.targets.get(first).is_some_and(|target| *target < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(code: &[u8]) -> Option<Extent> {
        let kinds = (0..code.len()).filter(|at| Kind::of(&code[*at..]).is_some());
        let at = kinds.into_iter().next().unwrap();
        extent(code, at, 0, &FarBranches::find(code))
    }

    #[test]
    fn number_before_the_syscall() {
        // mov $39,%eax; syscall; ret
        let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let extent = find(&code).unwrap();
        assert_eq!(
            extent,
            Extent {
                before: 5,
                after: 0
            }
        );
        let site = Site {
            syscall: 0x1005,
            extent,
            stub: 3,
            kind: Kind::Syscall,
        };
        let [(stub_at, stub), (at, jump)] = site.code(&code[..7]).unwrap();
        assert_eq!((stub_at, at), (STUBS + 3 * STUB_SIZE, 0x1000));
        assert_eq!(stub[8..13], code[..5]);
        assert_eq!(jump[..3], [0xff, 0x24, 0x25]);
        assert_eq!(
            u32::from_le_bytes(jump[3..].try_into().unwrap()),
            stub_at as u32
        );
        assert_eq!(site.resume(0x1005), Some(stub_at + 13));
        assert_eq!(site.resume(0x1007), Some(stub_at + 0x20));
        assert_eq!(site.resume(0x1000), None);
    }

    #[test]
    fn a_prefix_makes_it_another_instruction() {
        // mov $39,%r8d; syscall; ret: the number is not loaded here, but the mov can be moved.
        let code = [0x90, 0x90, 0x41, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        assert_eq!(
            find(&code),
            Some(Extent {
                before: 6,
                after: 0
            })
        );
        // Data in front of a function does not hide it.
        let code = [0, 0, 0, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0xcc];
        assert_eq!(
            find(&code),
            Some(Extent {
                before: 5,
                after: 0
            })
        );
    }

    #[test]
    fn comparison_behind_the_syscall() {
        // mov %rdi,%rax(not reached); syscall; cmp $-4095,%rax; jae
        let code = [
            0x8b, 0x07, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0x90,
        ];
        assert_eq!(
            find(&code),
            Some(Extent {
                before: 0,
                after: 6
            })
        );
    }

    #[test]
    fn a_branch_into_it_forbids_it() {
        // mov $1,%eax; syscall; jmp back to the syscall
        let code = [0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xfc];
        assert_eq!(find(&code), None);
        // The same by rel32.
        let code = [0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xe9, 0xf9, 0xff, 0xff, 0xff];
        assert_eq!(find(&code), None);
        // To its first byte is fine.
        let code = [0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
        assert_eq!(
            find(&code),
            Some(Extent {
                before: 5,
                after: 0
            })
        );
    }

    #[test]
    fn what_cannot_be_moved_is_left() {
        // syscall; ret: nothing to move.
        assert_eq!(find(&[0x90, 0xc3, 0x0f, 0x05, 0xc3, 0x90]), None);
        // syscall; mov 0(%rip),%rax
        assert_eq!(
            find(&[0xc3, 0x0f, 0x05, 0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3]),
            None
        );
    }
}
