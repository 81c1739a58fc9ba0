//! Nothing panics, whatever a program passes.

mod common;

use common::Mem;
use proptest::prelude::*;
use scribe_syscalls::{
    Call, Dir, FormatOpts, Memory, Slot, format_args, format_call, format_unknown, lookup, outputs,
    plan, rows,
};

/// Numbers that a seed leads to (splitmix64): quicker than a strategy for each word of memory.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Pages with bytes that look like lengths and like pointers to one another.
fn memory() -> impl Strategy<Value = Mem> {
    any::<u64>().prop_map(|seed| {
        let mut rng = Rng(seed);
        let mut mem = Mem::default();
        for page in 1..=4 {
            if rng.next().is_multiple_of(5) {
                continue;
            }
            let words: Vec<u64> = (0..512)
                .map(|_| match rng.next() % 12 {
                    0..4 => 0,
                    4..7 => rng.next() % 200,
                    7..10 => 0x1000 + rng.next() % 0x4000,
                    10 => rng.next(),
                    _ => rng.next() >> 32,
                })
                .collect();
            mem.words(0x1000 * page, &words);
        }
        mem
    })
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0x1000u64..0x5000, 2 => (0x200u64..0xa00).prop_map(|a| a * 8),
        1 => any::<u64>()]
}

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![4 => address(), 3 => 0u64..70, 1 => Just(u64::MAX), 1 => any::<u64>(), 1 => Just(0)]
}

fn result() -> impl Strategy<Value = i64> {
    prop_oneof![-600i64..600, any::<i64>(), Just(0)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn no_call_panics(
        pick in any::<prop::sample::Index>(),
        mut args in prop::array::uniform6(argument()),
        ret in result(),
        mem in memory(),
    ) {
        let all: Vec<_> = rows().collect();
        let row = all[pick.index(all.len())];
        if let Some(sub) = row.sub {
            args[sub.arg as usize] = args[sub.arg as usize] & !sub.mask | sub.value;
            if let Some((arg, value)) = sub.and {
                args[arg as usize] = value;
            }
        }
        let call = Call { nr: row.nr, args };
        prop_assert!(lookup(&call).is_some());
        let plan = plan(row, &call, &mem);
        let mut slots = std::collections::HashSet::new();
        for (i, buf) in plan.bufs.iter().enumerate() {
            prop_assert!(buf.addr != 0 && buf.cap != 0);
            prop_assert!(buf.addr.checked_add(buf.cap).is_some());
            let slot = match buf.slot {
                Slot::Arg(a) => (usize::MAX, u64::from(a)),
                Slot::Nested { buf, off } => (buf, off),
            };
            prop_assert!(slots.insert(slot));
            match buf.slot {
                Slot::Arg(a) => prop_assert_eq!(args[a as usize], buf.addr),
                Slot::Nested { buf: parent, off } => {
                    prop_assert!(parent < i);
                    prop_assert!(off + 8 <= plan.bufs[parent].cap);
                    let at = plan.bufs[parent].addr + off;
                    prop_assert_eq!(mem.read_u64(at), Some(buf.addr));
                }
            }
        }
        let mut read = |i: usize, off: u64, bytes: &mut [u8]| {
            off + bytes.len() as u64 <= plan.bufs[i].cap
                && mem.read_exact(plan.bufs[i].addr + off, bytes)
        };
        for range in outputs(row, &call, &plan, ret, &mut read) {
            let buf = &plan.bufs[range.buf];
            prop_assert!(buf.dir != Dir::In && range.len > 0);
            prop_assert!(range.off + range.len <= buf.cap);
            // Pointers are never outputs.
            for other in &plan.bufs {
                if let Slot::Nested { buf, off } = other.slot {
                    prop_assert!(buf != range.buf
                        || off + 8 <= range.off || off >= range.off + range.len,
                        "{}: {:?}, pointer at {}", row.full_name(), range, off);
                }
            }
        }
        let opts = FormatOpts::default();
        let text = format_call(row, &call, ret, &mem, &opts);
        prop_assert!(text.starts_with(row.name), "{}", text);
        format_args(row, &call, &mem, &opts);
        format_unknown(&call);
    }

    #[test]
    fn any_number_can_be_looked_up(nr in any::<u32>(),
        args in prop::array::uniform6(any::<u64>())) {
        lookup(&Call { nr, args });
        scribe_syscalls::syscall_name(nr);
        scribe_syscalls::unknown_is_enosys(nr);
    }
}
