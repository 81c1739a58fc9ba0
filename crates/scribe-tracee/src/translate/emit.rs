//! Machine code, byte by byte: the few instructions that translated code has more than the program.
//! None of them changes flags, unless it says so.

use scribe_abi::{PAGE, PROCESS};

/// Where translated code keeps registers for a moment, and what it looks up: words at the end of the
/// process's page.
pub const SLOTS: [u32; 4] = [
    (PROCESS + PAGE - 32) as u32,
    (PROCESS + PAGE - 24) as u32,
    (PROCESS + PAGE - 16) as u32,
    (PROCESS + PAGE - 8) as u32,
];

/// A buffer of code for a fixed address.
pub struct Emit {
    base: u32,
    bytes: Vec<u8>,
}

impl Emit {
    /// For this address.
    pub fn new(base: u32) -> Emit {
        Emit {
            base,
            bytes: Vec::with_capacity(512),
        }
    }

    /// The address of what comes next.
    pub fn here(&self) -> u32 {
        self.base + self.bytes.len() as u32
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends 32 bits.
    pub fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// Fills in 32 bits at an address.
    pub fn patch(&mut self, at: u32, word: u32) {
        let at = (at - self.base) as usize;
        self.bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// Stores a register in a slot: `mov %reg, slot`.
    pub fn store(&mut self, register: u8, slot: u32) {
        self.slot(0x89, register, slot);
    }

    /// `mov %rcx, slot`.
    pub fn store_rcx(&mut self, slot: u32) {
        self.store(1, slot);
    }

    /// Takes a register back: `mov slot, %reg`.
    pub fn restore(&mut self, register: u8, slot: u32) {
        self.slot(0x8b, register, slot);
    }

    fn slot(&mut self, opcode: u8, register: u8, slot: u32) {
        let rex = 0x48 | (register >> 3) << 2;
        self.bytes(&[rex, opcode, 0x04 | (register & 7) << 3, 0x25]);
        self.word(slot);
    }

    /// `mov $value, %reg`.
    pub fn load(&mut self, register: u8, value: u64) {
        match u32::try_from(value) {
            Ok(low) => {
                if register >= 8 {
                    self.bytes(&[0x41]);
                }
                self.bytes(&[0xb8 | register & 7]);
                self.word(low);
            }
            Err(_) => {
                self.bytes(&[0x48 | register >> 3, 0xb8 | register & 7]);
                self.bytes(&value.to_le_bytes());
            }
        }
    }

    /// `lea offset(%reg), %ecx`: zero exactly if the low half of the register is `-offset`.
    pub fn subtract(&mut self, register: u8, value: u32) {
        if register >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x8d, 0x88 | register & 7]);
        if register & 7 == 4 {
            self.bytes(&[0x24]);
        }
        self.word(value.wrapping_neg());
    }

    /// `cmp $value, %reg`, of 32 bits. Changes the flags.
    pub fn compare(&mut self, register: u8, value: u32) {
        if register >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x81, 0xf8 | register & 7]);
        self.word(value);
    }

    /// `jmp` to an address.
    pub fn jump(&mut self, to: u32) {
        self.bytes(&[0xe9]);
        self.distance(to);
    }

    /// The distance of a jump to an address.
    pub fn distance(&mut self, to: u32) {
        let behind = self.here() + 4;
        self.word(to.wrapping_sub(behind));
    }

    /// The code.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
