//! The call by which a program speaks to Scribe: `prctl(OPTION, operation, text, size, value)`. Depends on
//! nothing; `include/scribe.h` has the same numbers, and the engine takes them from here.

/// The option of `prctl(2)`: "SCRB". The kernel's own are small numbers, and names of others (`PR_SET_VMA`).
pub const OPTION: u32 = 0x53435242;

/// Operation: does anybody answer? The result is 1.
pub const STATE: u32 = 0;
/// Operation: a bookmark. The text is its name, the result its number.
pub const BOOKMARK: u32 = 1;
/// Operation: a text for the log. The result is 1.
pub const TEXT: u32 = 2;
/// Operation: an event: a name, and a signed number in the fifth argument. The result is 1.
pub const EVENT: u32 = 3;

/// Most bytes of a text.
pub const TEXT_MAX: usize = 65536;

/// Natively: the kernel does not have the option.
pub const EINVAL: i64 = -22;
/// Natively: a filter of system calls is in the way.
pub const ENOSYS: i64 = -38;
/// Natively: a filter of system calls is in the way.
pub const EPERM: i64 = -1;
/// No bookmark can be set now.
pub const EBUSY: i64 = -16;
/// The text has more than [`TEXT_MAX`] bytes.
pub const E2BIG: i64 = -7;
/// The text cannot be read.
pub const EFAULT: i64 = -14;

/// Makes the call; what it returns, errors as negative numbers.
#[cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
))]
#[inline]
pub(crate) fn make(operation: u32, text: &[u8], value: i64) -> i64 {
    const PRCTL: i64 = 157;
    let ret: i64;
    // SAFETY: the kernel knows no such option and touches nothing; Scribe reads the text, which is there for
    // as long as the call. The registers that `syscall` changes are named.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") PRCTL => ret,
            in("rdi") u64::from(OPTION),
            in("rsi") u64::from(operation),
            in("rdx") text.as_ptr(),
            in("r10") text.len(),
            in("r8") value,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

/// Elsewhere nobody records.
#[cfg(not(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
)))]
#[inline]
pub(crate) fn make(_operation: u32, _text: &[u8], _value: i64) -> i64 {
    ENOSYS
}
