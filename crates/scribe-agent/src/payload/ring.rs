//! The ring of a lane, and records in it.

use crate::copy::copy;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use scribe_abi::PAGE;
use scribe_abi::log::SECTION_HEAD;
use scribe_abi::shared::{LaneArea, TaskArea};

/// The lane of a task.
#[inline(always)]
pub fn lane(area: &TaskArea) -> &'static LaneArea {
    // SAFETY: the engine keeps the address right, and the area mapped.
    unsafe { &*(area.lane.load(Relaxed) as *const LaneArea) }
}

/// Address of a byte in the lane's ring.
#[inline(always)]
pub fn place(lane: &LaneArea, offset: u32) -> *mut u8 {
    (core::ptr::from_ref(lane) as u64 + PAGE + u64::from(offset)) as *mut u8
}

/// What of the ring is filled.
#[inline(always)]
pub fn head(lane: &LaneArea) -> u32 {
    lane.head.load(Acquire)
}

/// Makes all up to `at` visible.
#[inline(always)]
pub fn publish(lane: &LaneArea, at: *mut u8) {
    let start = place(lane, 0) as u64;
    lane.head.store((at as u64 - start) as u32, Release);
}

/// Appends to a record. Whoever makes it has seen to it that there is room.
pub struct Writer(pub *mut u8);

impl Writer {
    /// Appends a number.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        // SAFETY: there is room.
        unsafe {
            self.0.cast::<u64>().write_unaligned(word);
            self.0 = self.0.add(8);
        }
    }

    /// Appends a number of 32 bits.
    #[inline(always)]
    pub fn half(&mut self, half: u32) {
        // SAFETY: there is room.
        unsafe {
            self.0.cast::<u32>().write_unaligned(half);
            self.0 = self.0.add(4);
        }
    }

    /// Appends the head of a section.
    #[inline(always)]
    pub fn section(&mut self, tag: u8, len: u64) {
        self.half(u32::from(tag) | (len as u32) << 8);
    }

    /// Appends the application's memory.
    #[inline(always)]
    pub fn memory(&mut self, addr: u64, len: u64) {
        // SAFETY: there is room; a fault at the application's address is recovered from.
        unsafe {
            copy(self.0, addr as *const u8, len as usize);
            self.0 = self.0.add(len as usize);
        }
    }
}

/// Bytes of a section with this content.
pub const fn section_len(content: u64) -> u64 {
    SECTION_HEAD as u64 + content
}
