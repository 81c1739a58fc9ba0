//! Registers as ptrace shows and takes them: arch/x86/kernel/ptrace.c.

use super::*;
use crate::regs::{from_words, words};

/// Size of `struct user_regs_struct`, which is also the beginning of `struct user`.
pub(super) const REGS_LEN: usize = 27 * 8;
/// Size of `struct user` (sys/user.h).
const USER_LEN: u64 = 912;
/// Where the debug registers lie in it.
const DEBUG_REGS: std::ops::Range<u64> = 848..912;
/// The flags that a tracer may change (`FLAG_MASK`): CF PF AF ZF SF TF DF OF NT RF AC.
const FLAGS: u64 = 0x5_4dd5;
/// `TASK_SIZE_MAX`.
const ADDRESSES: u64 = (1 << 47) - 4096;
/// Size of the area of FXSAVE, and of what in it is the CPU's.
pub(super) const FXSAVE: usize = 512;
const FXSAVE_USED: usize = 464;

/// The registers as a tracer sets them: what it may not change stays. `Err`: EIO.
pub(super) fn checked(old: &Regs, new: &[u64; 27]) -> std::result::Result<Regs, ()> {
    let mut regs = from_words(new);
    let selector = |value: u64| value == 0 || value & 3 == 3;
    if ![regs.ds, regs.es, regs.fs, regs.gs]
        .iter()
        .all(|value| selector(*value))
        || regs.cs & 3 != 3
        || regs.ss & 3 != 3
        || regs.fs_base >= ADDRESSES
        || regs.gs_base >= ADDRESSES
    {
        return Err(());
    }
    regs.eflags = old.eflags & !FLAGS | regs.eflags & FLAGS;
    (regs.cs, regs.ss) = (old.cs, old.ss);
    (regs.ds, regs.es, regs.fs, regs.gs) = (old.ds, old.es, old.fs, old.gs);
    Ok(regs)
}

/// The bytes of the general registers.
pub(super) fn to_bytes(regs: &Regs) -> [u8; REGS_LEN] {
    let mut bytes = [0; REGS_LEN];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words(regs)) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The registers with `bytes` over their beginning, as words.
pub(super) fn overwritten(regs: &Regs, bytes: &[u8]) -> [u64; 27] {
    let mut words = words(regs);
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    words
}

/// What can be done with a word of `struct user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserWord {
    /// A general register.
    Register(usize),
    /// A debug register: zero, and to stay so.
    Debug,
    /// Something that reads as zero.
    Nothing,
}

/// The word at an offset of `struct user`. `None`: EIO.
pub(super) fn user_word(offset: u64) -> Option<UserWord> {
    if !offset.is_multiple_of(8) || offset >= USER_LEN {
        return None;
    }
    Some(match offset {
        0..216 => UserWord::Register(offset as usize / 8),
        _ if DEBUG_REGS.contains(&offset) => UserWord::Debug,
        _ => UserWord::Nothing,
    })
}

/// The FXSAVE area out of the whole extended state.
pub(super) fn fxsave(xstate: &[u8]) -> [u8; FXSAVE] {
    let mut area = [0; FXSAVE];
    let used = FXSAVE_USED.min(xstate.len());
    area[..used].copy_from_slice(&xstate[..used]);
    area
}

/// Puts an FXSAVE area into the extended state; its two components are in use then.
pub(super) fn set_fxsave(xstate: &mut [u8], area: &[u8]) {
    let used = FXSAVE_USED.min(xstate.len()).min(area.len());
    xstate[..used].copy_from_slice(&area[..used]);
    if let Some(bits) = xstate.get_mut(FXSAVE) {
        *bits |= 3;
    }
}

/// `struct ptrace_syscall_info` (include/uapi/linux/ptrace.h) of a stop.
pub(super) fn syscall_info(cause: &Cause, regs: &Regs) -> Vec<u8> {
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    let op = match cause {
        Cause::Entry => 1u8,
        Cause::Exit => 2,
        _ => 0,
    };
    let mut info = vec![op, 0, 0, 0];
    info.extend_from_slice(&AUDIT_ARCH_X86_64.to_le_bytes());
    info.extend_from_slice(&regs.rip.to_le_bytes());
    info.extend_from_slice(&regs.rsp.to_le_bytes());
    match cause {
        Cause::Entry => {
            info.extend_from_slice(&regs.orig_rax.to_le_bytes());
            for arg in scribe_tracee::inject::call_args(regs) {
                info.extend_from_slice(&arg.to_le_bytes());
            }
        }
        Cause::Exit => {
            info.extend_from_slice(&regs.rax.to_le_bytes());
            info.push(u8::from((-4095..0).contains(&(regs.rax as i64))));
        }
        _ => {}
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regs() -> Regs {
        let mut words = [0; 27];
        // cs and ss
        (words[17], words[20]) = (0x33, 0x2b);
        from_words(&words)
    }

    #[test]
    fn privileged_flags_stay() {
        let mut new = words(&regs());
        new[18] = u64::MAX;
        let set = checked(&regs(), &new).expect("nothing is wrong");
        assert_eq!(set.eflags, FLAGS);
        new[17] = 0;
        assert!(checked(&regs(), &new).is_err());
        new[17] = 0x33;
        new[21] = 1 << 47;
        assert!(checked(&regs(), &new).is_err());
    }

    #[test]
    fn words_of_user() {
        assert_eq!(user_word(16 * 8), Some(UserWord::Register(16)));
        assert_eq!(user_word(848), Some(UserWord::Debug));
        assert_eq!(user_word(216), Some(UserWord::Nothing));
        assert_eq!(user_word(4), None);
        assert_eq!(user_word(912), None);
    }

    #[test]
    fn syscall_infos_have_their_length() {
        let mut regs = regs();
        (regs.orig_rax, regs.rax) = (39, -22i64 as u64);
        assert_eq!(syscall_info(&Cause::Entry, &regs).len(), 80);
        let exit = syscall_info(&Cause::Exit, &regs);
        assert_eq!((exit.len(), exit[32]), (33, 1));
        assert_eq!(syscall_info(&Cause::Event(1), &regs).len(), 24);
    }
}
