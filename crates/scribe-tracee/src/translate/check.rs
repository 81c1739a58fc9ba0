//! The comparison at the watched place.

use super::emit::{Emit, SLOTS};

/// Longest comparison.
pub const CHECK_LEN: usize = 512;

/// Something that is as looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The low half of a general register, by its number in instructions.
    Register(u8, u32),
    /// The low quarter of a vector register.
    Vector(u8, u32),
    /// Four bytes of memory.
    Memory(u64, u32),
}

/// Length of the gate in front of the watched place.
pub const GATE: u32 = 13;
/// A gate without a comparison: a jump over the rest of it.
pub const OPEN_GATE: [u8; GATE as usize] = [
    0xe9, 8, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
];

/// The gate at `head` to a comparison at `check`. Where the flags are free, the first test stands in
/// the gate itself: in a hot loop, that it fails costs nearly nothing.
pub fn gate(head: u32, check: u32, tests: &[Test], free_flags: bool) -> [u8; GATE as usize] {
    let mut emit = Emit::new(head);
    match tests.first() {
        Some(Test::Register(register, value)) if free_flags => {
            emit.compare(*register, *value);
            emit.bytes(&[0x0f, 0x84]); // je
            emit.distance(check);
        }
        _ => emit.jump(check),
    }
    let bytes = emit.finish();
    let mut gate = [0x90; GATE as usize];
    gate[..bytes.len()].copy_from_slice(&bytes);
    gate
}

/// Most tests: the rest is for the engine.
pub const MOST: usize = 6;

/// The code of a comparison at `at`, which goes on at `back`; and the address of its trap. With
/// `free_flags` nobody needs the flags there: then registers are compared as usual.
pub fn check(at: u32, back: u32, tests: &[Test], free_flags: bool) -> (Vec<u8>, u32) {
    let mut emit = Emit::new(at);
    let tests = &tests[..tests.len().min(MOST)];
    let quick = |test: &&Test| free_flags && matches!(test, Test::Register(..));
    for test in tests.iter().filter(quick) {
        if let Test::Register(register, value) = *test {
            emit.compare(register, value);
            emit.bytes(&[0x0f, 0x85]); // jne
            emit.distance(back);
        }
    }
    emit.store_rcx(SLOTS[0]);
    let slow = tests.iter().filter(|test| !quick(test));
    for (i, test) in slow.enumerate() {
        if i > 0 && matches!(test, Test::Register(1, _)) {
            emit.restore(1, SLOTS[0]);
        }
        match *test {
            Test::Register(register, value) => emit.subtract(register, value),
            Test::Vector(register, value) => {
                // movd %xmm, %ecx
                emit.bytes(&[0x66]);
                if register >= 8 {
                    emit.bytes(&[0x44]);
                }
                emit.bytes(&[0x0f, 0x7e, 0xc1 | (register & 7) << 3]);
                emit.subtract(1, value);
            }
            Test::Memory(addr, value) => {
                emit.load(1, addr);
                emit.bytes(&[0x8b, 0x09]); // mov (%rcx), %ecx
                emit.subtract(1, value);
            }
        }
        // jrcxz over what leads back
        emit.bytes(&[0xe3, 8 + 5]);
        emit.restore(1, SLOTS[0]);
        emit.jump(back);
    }
    emit.restore(1, SLOTS[0]);
    let hit = emit.here();
    emit.bytes(&[0xcc]);
    emit.jump(back);
    let bytes = emit.finish();
    debug_assert!(bytes.len() <= CHECK_LEN);
    (bytes, hit)
}
