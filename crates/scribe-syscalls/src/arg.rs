//! Types of arguments: how to print them, and which memory they reach.

use crate::call::{Call, Memory};
use crate::flags::FlagSet;

/// One argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Name, as in the manual page.
    pub name: &'static str,
    /// Type.
    pub ty: Ty,
}

/// Type of an argument.
#[derive(Clone, Copy, Debug)]
pub enum Ty {
    /// `int`: signed, 32 bits.
    Int,
    /// `long`: signed, 64 bits.
    Long,
    /// `unsigned int`.
    Uint,
    /// `unsigned long`, printed as a decimal number.
    Ulong,
    /// Number printed in hexadecimal.
    Hex,
    /// An address that the kernel does not follow (`mmap`), or that is followed later.
    Addr,
    /// A descriptor.
    Fd,
    /// A descriptor of a directory, or `AT_FDCWD`.
    DirFd,
    /// A process or thread id.
    Pid,
    /// A user or group id; -1 means no change.
    Id,
    /// Permissions, octal.
    Mode,
    /// A device number.
    Dev,
    /// File offset, signed.
    Off,
    /// Count of bytes.
    Size,
    /// Bits, each with a name.
    Flags(&'static FlagSet),
    /// One of several values with names.
    Enum(&'static FlagSet),
    /// Signal number.
    Signal,
    /// Socket option name; its names depend on the level in the argument before.
    SockOpt,
    /// Not used by this sub-command.
    Unused,
    /// A pointer that the kernel follows.
    Ptr(Ptr),
}

/// Direction in which memory is used, seen from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// The kernel reads.
    In,
    /// The kernel writes. What [`outputs`](crate::outputs) names was written, the rest was not.
    Out,
    /// The kernel reads and writes. Also used where it cannot be told how much was written: then
    /// `outputs` may name more than that, which does no harm to a buffer that was copied in first.
    InOut,
}

/// A pointer: what it points to, how long that is, and what of it is written.
#[derive(Clone, Copy, Debug)]
pub struct Ptr {
    /// Direction.
    pub dir: Dir,
    /// What it points to, for printing.
    pub shape: Shape,
    /// How many bytes are reachable.
    pub len: Len,
    /// Which of them were written.
    pub out: Out,
    /// Size of an element if it points to an array whose elements hold pointers (else the whole is
    /// one element).
    pub stride: u32,
    /// Pointers inside each element.
    pub fields: &'static [Field],
    /// Elements are messages of `sendmmsg`, `recvmmsg`: element i counts if the result is above i,
    /// and its length is a field of it.
    pub mmsg: bool,
    /// A signal mask that the kernel installs during the call.
    pub sigmask: bool,
    /// The address itself has a meaning to the kernel (a futex word, an `iocb`): never to be
    /// redirected.
    pub in_place: bool,
    /// An output with gaps: the kernel leaves some bytes (padding between entries) as they are, so
    /// that the buffer must hold its old content, but does not read it. `dir` is `InOut`.
    pub gaps: bool,
}

/// A pointer within a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Offset in the structure.
    pub off: u32,
    /// The pointer.
    pub ptr: Ptr,
}

/// What a rule for a length may look at.
pub struct Ctx<'a> {
    /// The call.
    pub call: &'a Call,
    /// Memory before the call.
    pub mem: &'a dyn Memory,
    /// Value of the pointer itself.
    pub addr: u64,
    /// Address of the structure that holds the pointer; 0 if it is an argument.
    pub parent: u64,
}

/// How many bytes a pointer reaches. Arguments are given by index, fields by offset in the
/// structure that holds the pointer.
#[derive(Clone, Copy, Debug)]
pub enum Len {
    /// This many bytes.
    Fixed(u64),
    /// Bytes in this argument (`size_t`).
    Arg(u8),
    /// Bytes in this argument (`int`; none if negative).
    Arg32(u8),
    /// Bytes in this argument (`size_t`); none if more than a page, which the kernel refuses: sets
    /// and structures that grow with its versions.
    Small(u8),
    /// Elements in this argument (`size_t`), of this size.
    Elems(u8, u32),
    /// Elements in this argument (`int`; none if negative), of this size.
    Elems32(u8, u32),
    /// Bytes in the `u32` that the pointer in this argument points to (`socklen_t *`).
    AtPtr(u8),
    /// Bytes in a field of this offset and width.
    Field(u32, u8),
    /// Elements in a field of this offset and width, each of this size.
    FieldElems(u32, u8, u32),
    /// A C string of at most so many bytes, NUL included.
    Str(u32),
    /// A vector of pointers to C strings that ends with a null pointer.
    Strs,
    /// As much as can be read, and at most this: the kernel reads up to the first fault.
    Readable(u32),
    /// A rule of its own. 0: the pointer is not followed.
    With(fn(&Ctx) -> u64),
}

/// What a rule for written bytes may look at.
pub struct OutCtx<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its result.
    pub ret: i64,
    /// Bytes that could have been written.
    pub cap: u64,
    /// Reads the buffer (offset in it) as it is after the call.
    pub read: &'a mut dyn FnMut(u64, &mut [u8]) -> bool,
}

/// Which bytes were written. If not said otherwise: only if the call succeeded, and never more than
/// [`Buf::cap`](crate::Buf::cap).
#[derive(Clone, Copy, Debug)]
pub enum Out {
    /// None: an input.
    Nothing,
    /// All.
    Full,
    /// All, and on failure too.
    Always,
    /// All, if the result is positive.
    Positive,
    /// As many as the result says.
    Ret,
    /// As the result says if that fits; nothing otherwise.
    RetFits,
    /// As many elements of this size as the result says.
    RetTimes(u32),
    /// The result and so many more.
    RetPlus(u32),
    /// As the `u32` says that the pointer in this argument points to after the call.
    AtPtr(u8),
    /// As a field of this offset and width in the enclosing structure says after the call.
    Field(u32, u8),
    /// Only these (offset, length) of the structure, or of each element.
    Parts(&'static [(u32, u32)]),
    /// As `Parts`, and on failure too unless it is EFAULT.
    PartsAlways(&'static [(u32, u32)]),
    /// As `Parts`, in as many elements as the result says.
    PartsRet(&'static [(u32, u32)]),
    /// This buffer's share of the result: the buffers of an `iovec` are filled in turn.
    Share,
    /// All, if the call failed with this errno (for EINTR also with the kernel's own restart
    /// codes).
    OnErr(i32),
    /// A rule of its own: that many bytes. It is asked on success only.
    With(fn(&mut OutCtx) -> u64),
}

/// What memory holds, for printing. Fixed layouts are those of the x86-64 kernel.
#[allow(missing_docs)] // Most are named after the structure of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Printed as an address.
    Opaque,
    /// Data, printed as a string.
    Bytes,
    /// C string.
    Str,
    /// File name.
    Path,
    /// Vector of C strings.
    Strs,
    I32,
    U32,
    I64,
    U64,
    Hex64,
    U16,
    /// Array of `int`, as many as fit.
    I32s,
    U32s,
    U16s,
    U64s,
    /// Two descriptors.
    FdPair,
    /// One descriptor.
    Fd,
    Pid,
    Iovec,
    Msghdr,
    Mmsghdr,
    Timespec,
    Timespec2,
    Timeval,
    Timeval2,
    Timezone,
    Itimerspec,
    Itimerval,
    Timex,
    Stat,
    Statx,
    Statfs,
    Sockaddr,
    Socklen,
    Sockopt,
    Pollfd,
    EpollEvent,
    FdSet,
    Sigset,
    SigsetPair,
    Sigaction,
    Siginfo,
    Sigevent,
    StackT,
    WaitStatus,
    Rlimit,
    Rusage,
    Termios,
    Winsize,
    Dirent64,
    Utsname,
    Sysinfo,
    Flock,
    FOwnerEx,
    OpenHow,
    CloneArgs,
    SchedParam,
    CapHeader,
    CapData,
    Sembuf,
    Tms,
    Ifreq,
}
