//! A call, the memory of its caller, and the row that describes it.

use crate::arg::Arg;
use crate::effect::Effect;

/// A system call as the task made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Number of the call (`orig_rax`).
    pub nr: u32,
    /// `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    pub args: [u64; 6],
}

/// Read access to the memory of the calling task.
pub trait Memory {
    /// Reads up to `buf.len()` bytes at `addr`; returns how many could be read (short at the first
    /// page that cannot be read).
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// Reads exactly `buf.len()` bytes; false if not all could be read.
    fn read_exact(&self, addr: u64, buf: &mut [u8]) -> bool {
        self.read_some(addr, buf) == buf.len()
    }

    /// Reads a little-endian `u32`.
    fn read_u32(&self, addr: u64) -> Option<u32> {
        let mut b = [0; 4];
        self.read_exact(addr, &mut b).then(|| u32::from_le_bytes(b))
    }

    /// Reads a little-endian `u64`.
    fn read_u64(&self, addr: u64) -> Option<u64> {
        let mut b = [0; 8];
        self.read_exact(addr, &mut b).then(|| u64::from_le_bytes(b))
    }

    /// Reads a C string without its NUL. It is read page by page, so that a string at the end of a
    /// mapping is found. `None` if memory ends before the NUL; `max` bytes without a NUL are
    /// returned as they are.
    fn read_cstr(&self, addr: u64, max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut chunk = [0u8; 256];
        while out.len() < max {
            let at = addr.checked_add(out.len() as u64)?;
            // Chunks never cross a page: 256 divides 4096.
            let n = (256 - (at % 256) as usize).min(max - out.len());
            let got = self.read_some(at, &mut chunk[..n]).min(n);
            if let Some(nul) = chunk[..got].iter().position(|&b| b == 0) {
                out.extend_from_slice(&chunk[..nul]);
                return Some(out);
            }
            if got < n {
                return None;
            }
            out.extend_from_slice(&chunk[..n]);
        }
        Some(out)
    }

    /// How many of the `max` bytes at `addr` can be read.
    fn readable(&self, addr: u64, max: u64) -> u64 {
        let mut done = 0;
        let mut chunk = [0u8; 4096];
        while done < max {
            let Some(at) = addr.checked_add(done) else {
                break;
            };
            let n = (4096 - at % 4096).min(max - done) as usize;
            let got = self.read_some(at, &mut chunk[..n]).min(n);
            done += got as u64;
            if got < n {
                break;
            }
        }
        done
    }
}

/// One row of the table: a call, or one sub-command of a multiplexed call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Number of the call.
    pub nr: u32,
    /// Which sub-command this row is for; `None` for the whole call, or for all commands without a
    /// row of their own.
    pub sub: Option<Sub>,
    /// Name of the call ("read", "ioctl").
    pub name: &'static str,
    /// Arguments, at most six.
    pub args: &'static [Arg],
    /// How to read the result.
    pub ret: Ret,
    /// What recorder and replayer do with it.
    pub class: Class,
    /// Whether it may block.
    pub block: Block,
    /// What it does to kernel objects.
    pub effect: Effect,
}

/// Flags with which open(2) may change a file, or make one: O_ACCMODE, O_CREAT, O_TRUNC
/// (include/uapi/asm-generic/fcntl.h).
pub(crate) const CHANGING_FLAGS: u64 = 0o3 | 0o100 | 0o1000;

/// Selects a sub-command: `args[arg] & mask == value` (and `args[a] as u32 == v` for `and`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sub {
    /// Index of the selecting argument.
    pub arg: u8,
    /// Bits of it that select.
    pub mask: u64,
    /// Their value.
    pub value: u64,
    /// A second argument that must have this value (`getsockopt`: level and name).
    pub and: Option<(u8, u64)>,
    /// Name of the sub-command ("TCGETS").
    pub name: &'static str,
}

impl Sub {
    /// Whether a call is this sub-command.
    pub fn matches(&self, call: &Call) -> bool {
        call.args[self.arg as usize] & self.mask == self.value
            && self
                .and
                .is_none_or(|(arg, v)| call.args[arg as usize] & 0xffff_ffff == v)
    }
}

impl Row {
    /// A row with the defaults: emulated, never blocks, no effect, integer result.
    pub(crate) const fn new(nr: u32, name: &'static str, args: &'static [Arg]) -> Row {
        Row {
            nr,
            sub: None,
            name,
            args,
            ret: Ret::Int,
            class: Class::Emulate,
            block: Block::Never,
            effect: Effect::None,
        }
    }

    pub(crate) const fn sub(mut self, sub: Sub) -> Row {
        self.sub = Some(sub);
        self
    }

    pub(crate) const fn ret(mut self, ret: Ret) -> Row {
        self.ret = ret;
        self
    }

    /// May block.
    pub(crate) const fn may(mut self) -> Row {
        self.block = Block::May;
        self
    }

    /// May block, depending on what the descriptor in this argument is.
    pub(crate) const fn fd(mut self, arg: u8) -> Row {
        self.block = Block::Fd(arg);
        self
    }

    pub(crate) const fn special(mut self, special: Special) -> Row {
        self.class = Class::Special(special);
        self
    }

    pub(crate) const fn refuse(mut self, errno: i32) -> Row {
        self.class = Class::Refuse(errno);
        self
    }

    pub(crate) const fn execute(mut self) -> Row {
        self.class = Class::Execute;
        self
    }

    pub(crate) const fn eff(mut self, effect: Effect) -> Row {
        self.effect = effect;
        self
    }

    /// Whether it can change `O_DIRECT` of an open file: the one property of a file already open that
    /// decides how its data is recorded.
    pub fn sets_status_flags(&self) -> bool {
        self.sub.is_some_and(|sub| sub.name == "F_SETFL")
    }

    /// The flags of open(2) and its kin: which argument they are. `None`: the call has none, or elsewhere.
    pub(crate) fn open_flags(&self) -> Option<u8> {
        match self.name {
            "open" => Some(1),
            "openat" => Some(2),
            _ => None,
        }
    }

    /// The names whose files the call may change, or make: the argument of the directory, if there is one,
    /// and that of the path.
    pub fn changes(&self, call: &Call) -> Vec<(Option<u8>, u8)> {
        match self.effect {
            Effect::ChangesNames(names) => names.to_vec(),
            Effect::OpensPath { dir, path } => {
                let flags = self.open_flags().map(|arg| call.args[arg as usize]);
                match flags {
                    Some(flags) if flags & CHANGING_FLAGS == 0 => Vec::new(),
                    _ => vec![(dir, path)],
                }
            }
            _ => Vec::new(),
        }
    }

    /// Whether the call is one of a program to Scribe, which is for the log, whole.
    pub fn is_hook(&self) -> bool {
        self.class == Class::Special(Special::Hook)
    }

    /// Name of the call, with its sub-command if the row has one: `ioctl(TCGETS)`.
    pub fn full_name(&self) -> String {
        match &self.sub {
            Some(sub) => format!("{}({})", self.name, sub.name),
            None => self.name.to_string(),
        }
    }
}

/// What kind of value a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// A number, mostly 0.
    Int,
    /// A descriptor.
    Fd,
    /// A count of bytes.
    Size,
    /// A file offset.
    Off,
    /// An address.
    Addr,
    /// A number best read in hexadecimal.
    Hex,
    /// A process, thread, group or session id.
    Pid,
    /// A user or group id.
    Id,
    /// A file mode.
    Mode,
    /// Flags of open(2), as `F_GETFL` returns them.
    OpenFlags,
    /// `FD_CLOEXEC`, as `F_GETFD` returns it.
    FdFlags,
    /// The call does not return.
    Never,
}

/// What recorder and replayer do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Record: runs in the kernel, outputs are logged. Replay: answered from the log, the kernel is
    /// not entered.
    Emulate,
    /// As `Emulate`, and also executed at replay: it changes the state of the address space or task
    /// that native execution between calls depends on, and takes no engine code.
    Execute,
    /// Engine code handles it.
    Special(Special),
    /// Never reaches the kernel: answered with this errno at record and replay.
    Refuse(i32),
}

/// Calls that need code in the engine. Their rows still describe the memory they reach.
#[allow(missing_docs)] // The names are those of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    Mmap,
    Munmap,
    Mremap,
    Mprotect,
    Madvise,
    ProcessMadvise,
    Brk,
    RemapFilePages,
    Shmat,
    Shmdt,
    PkeyAlloc,
    PkeyFree,
    PkeyMprotect,
    Membarrier,
    Clone,
    Clone3,
    Fork,
    Vfork,
    Unshare,
    Setns,
    Execve,
    Execveat,
    Exit,
    ExitGroup,
    RtSigaction,
    RtSigprocmask,
    RtSigreturn,
    RtSigsuspend,
    RtSigpending,
    RtSigtimedwait,
    Sigaltstack,
    SetTidAddress,
    SetRobustList,
    RestartSyscall,
    ArchPrctlSetFs,
    ArchPrctlGetFs,
    ArchPrctlSetGs,
    ArchPrctlGetGs,
    ArchPrctlSetCpuid,
    ArchPrctlGetCpuid,
    PrctlSetTsc,
    PrctlGetTsc,
    PrctlSetDumpable,
    PrctlGetDumpable,
    PrctlSetMm,
    PrctlSetMdwe,
    PrctlSyscallUserDispatch,
    /// `seccomp(2)`, and `PR_SET_SECCOMP`, `PR_GET_SECCOMP` of `prctl(2)`.
    Seccomp,
    Ptrace,
    /// The priority-inheriting and robust commands of `futex(2)`: the kernel writes futex words
    /// itself.
    FutexPi,
    Setrlimit,
    Prlimit64,
    /// Native asynchronous I/O: the kernel maps its ring into the process, and writes to buffers
    /// later.
    IoSetup,
    IoDestroy,
    IoSubmit,
    IoGetevents,
    IoCancel,
    /// Writes to memory of another process, which may be a recorded one.
    ProcessVmWritev,
    /// Pages go into the pipe by reference: scratch memory must not be used.
    Vmsplice,
    /// The size of its output can only be learned with another call (`IPC_STAT`).
    SemctlGetall,
    /// What a program tells Scribe (`scribe_hooks::call`). The kernel does not have these calls.
    Hook,
}

/// Whether a call may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Returns without waiting for another task (it may wait for a disk).
    Never,
    /// May wait for another task.
    May,
    /// May block unless the descriptor in this argument is a regular file, directory or block
    /// device.
    Fd(u8),
}
