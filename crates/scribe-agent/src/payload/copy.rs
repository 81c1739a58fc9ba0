//! Moving memory without vector registers. Also the functions that the compiler calls by name.

/// From this length on the processor's own string move is faster than a loop (its start costs some
/// 30 cycles).
const STRING_MOVE: usize = 128;

/// Copies `len` bytes.
///
/// # Safety
///
/// Both ranges belong to the caller, who recovers from faults, and do not overlap.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: as the caller says.
    unsafe {
        if len >= STRING_MOVE {
            core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _,
                inout("rsi") from => _, options(nostack, preserves_flags));
            return;
        }
        let mut done = 0;
        while len - done >= 8 {
            let word = from.add(done).cast::<u64>().read_unaligned();
            to.add(done).cast::<u64>().write_unaligned(word);
            done += 8;
        }
        while done < len {
            to.add(done).write(from.add(done).read_volatile());
            done += 1;
        }
    }
}

/// Whether both ranges hold the same.
///
/// # Safety
///
/// Both can be read, or the caller recovers from faults.
pub unsafe fn same(a: *const u8, b: *const u8, len: usize) -> bool {
    // SAFETY: as the caller says.
    unsafe { (0..len).all(|i| a.add(i).read_volatile() == b.add(i).read_volatile()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the C function's contract; the string move calls nothing.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _,
            inout("rsi") from => _, options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the C function's contract.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _,
            in("al") byte as u8, options(nostack, preserves_flags));
    }
    to
}
