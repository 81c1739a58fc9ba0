//! The hash of what a call reads: its number, its arguments, its input memory. Recorder, replayer
//! and agent compute the same. It tells executions apart that went different ways by themselves;
//! it need not withstand anybody who looks for collisions.
//!
//! Each step multiplies two words to 128 bits and folds the halves (the construction of wyhash and
//! its kin), 16 bytes at a time: fast without vector registers, which the agent must not touch.

/// Pieces longer than this are hashed in parts of this length, so that who cannot hold a whole
/// buffer computes the same.
pub const PIECE: usize = 1 << 20;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd1b5_4a32_d192_ed03;
const K2: u64 = 0x8bb8_4b93_962e_acc9;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    wide as u64 ^ (wide >> 64) as u64
}

/// A hash in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// Begins with the number of a call.
    #[inline(always)]
    pub fn new(nr: u32) -> Hash {
        Hash(fold(u64::from(nr) ^ K0, K1))
    }

    /// Adds an argument.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, K2);
    }

    /// Adds memory: at most [`PIECE`] bytes.
    ///
    /// # Safety
    ///
    /// `len` bytes at `at` can be read. (The agent recovers from a fault here.)
    #[inline(always)]
    pub unsafe fn memory(&mut self, at: *const u8, len: usize) {
        let mut h = self.0 ^ len as u64;
        let mut done = 0;
        // SAFETY: within the range that the caller vouches for.
        unsafe {
            let word = |at: usize| at as *const u8;
            let base = at as usize;
            let read = |off: usize| word(base + off).cast::<u64>().read_unaligned();
            if len >= 32 {
                // Two chains, since one multiplication waits for the one before it.
                let mut g = h.rotate_left(32) ^ K0;
                while len - done >= 32 {
                    h = fold(read(done) ^ K1, read(done + 8) ^ h);
                    g = fold(read(done + 16) ^ K2, read(done + 24) ^ g);
                    done += 32;
                }
                h = fold(h ^ K2, g ^ K1);
            }
            while len - done >= 8 {
                h = fold(read(done) ^ K1, h ^ K2);
                done += 8;
            }
            if done < len {
                let mut last = 0u64;
                for i in 0..len - done {
                    last |= u64::from(word(base + done + i).read()) << (i * 8);
                }
                h = fold(last ^ K1, h ^ K2);
            }
        }
        self.0 = h;
    }

    /// Adds a slice of at most [`PIECE`] bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        // SAFETY: a slice can be read.
        unsafe { self.memory(bytes.as_ptr(), bytes.len()) }
    }

    /// The result.
    #[inline(always)]
    pub fn finish(self) -> u32 {
        fold(self.0 ^ K1, K0) as u32
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn of(nr: u32, args: &[u64], bytes: &[u8]) -> u32 {
        let mut hash = Hash::new(nr);
        args.iter().for_each(|arg| hash.word(*arg));
        hash.bytes(bytes);
        hash.finish()
    }

    #[test]
    fn every_byte_and_argument_counts() {
        for len in [0, 1, 7, 8, 9, 31, 32, 33, 64, 100] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let whole = of(1, &[2, 3], &bytes);
            assert_ne!(whole, of(0, &[2, 3], &bytes));
            assert_ne!(whole, of(1, &[3, 2], &bytes));
            for i in 0..bytes.len() {
                let mut other = bytes.clone();
                other[i] ^= 0x80;
                assert_ne!(whole, of(1, &[2, 3], &other), "{len} {i}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_ne!(whole, of(1, &[2, 3], &longer));
        }
    }
}
