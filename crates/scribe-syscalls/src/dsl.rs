//! Short names that make the rows readable, and the macro that turns them into rows.

use crate::arg::{Dir, Field, Len, Out, Ptr, Shape, Ty};
use crate::call::Sub;
use crate::flags::FlagSet;

/// Declares a slice of rows:
/// `nr name [sub] (arg: type, ...) -> Ret .property(...) ;`
macro_rules! rows {
    ($table:ident: $(
        $nr:literal $name:ident $([$sub:expr])? ( $($arg:ident : $ty:expr),* $(,)? )
        $(-> $ret:ident)? $(. $prop:ident ( $($p:expr),* ))* ;
    )*) => {
        pub(crate) const $table: &[$crate::call::Row] = &[ $(
            $crate::call::Row::new($nr, stringify!($name), &[
                $( $crate::arg::Arg { name: stringify!($arg), ty: $ty } ),*
            ])
            $(.sub($sub))? $(.ret($crate::call::Ret::$ret))? $(. $prop($($p),*))*
        ),* ];
    };
}
pub(crate) use rows;

/// Largest transfer of one call (`MAX_RW_COUNT`, include/linux/fs.h).
pub(crate) const MAX_RW_COUNT: u64 = 0x7fff_f000;
/// Most elements of an iovec (`UIO_MAXIOV`).
pub(crate) const UIO_MAXIOV: u64 = 1024;
/// Longest path, NUL included.
pub(crate) const PATH_MAX: u32 = 4096;

pub(crate) const INT: Ty = Ty::Int;
pub(crate) const LONG: Ty = Ty::Long;
pub(crate) const UINT: Ty = Ty::Uint;
pub(crate) const ULONG: Ty = Ty::Ulong;
pub(crate) const HEX: Ty = Ty::Hex;
pub(crate) const ADDR: Ty = Ty::Addr;
pub(crate) const FD: Ty = Ty::Fd;
pub(crate) const DIRFD: Ty = Ty::DirFd;
pub(crate) const PID: Ty = Ty::Pid;
pub(crate) const ID: Ty = Ty::Id;
pub(crate) const MODE: Ty = Ty::Mode;
pub(crate) const DEV: Ty = Ty::Dev;
pub(crate) const OFF: Ty = Ty::Off;
pub(crate) const SIZE: Ty = Ty::Size;
pub(crate) const SIG: Ty = Ty::Signal;
pub(crate) const UNUSED: Ty = Ty::Unused;

pub(crate) const PTR: Ptr = Ptr {
    dir: Dir::In,
    shape: Shape::Opaque,
    len: Len::Fixed(0),
    out: Out::Nothing,
    stride: 0,
    fields: &[],
    mmsg: false,
    sigmask: false,
    in_place: false,
    gaps: false,
};

/// An input.
pub(crate) const fn pin(shape: Shape, len: Len) -> Ptr {
    Ptr { shape, len, ..PTR }
}

/// An output.
pub(crate) const fn pout(shape: Shape, len: Len, out: Out) -> Ptr {
    Ptr {
        dir: Dir::Out,
        shape,
        len,
        out,
        ..PTR
    }
}

/// Read and written.
pub(crate) const fn pinout(shape: Shape, len: Len, out: Out) -> Ptr {
    Ptr {
        dir: Dir::InOut,
        shape,
        len,
        out,
        ..PTR
    }
}

pub(crate) const fn input(shape: Shape, len: Len) -> Ty {
    Ty::Ptr(pin(shape, len))
}

pub(crate) const fn output(shape: Shape, len: Len, out: Out) -> Ty {
    Ty::Ptr(pout(shape, len, out))
}

pub(crate) const fn inout(shape: Shape, len: Len, out: Out) -> Ty {
    Ty::Ptr(pinout(shape, len, out))
}

/// An input structure of fixed size.
pub(crate) const fn sin(shape: Shape, size: u64) -> Ty {
    input(shape, Len::Fixed(size))
}

/// An output structure of fixed size, written whole on success.
pub(crate) const fn sout(shape: Shape, size: u64) -> Ty {
    output(shape, Len::Fixed(size), Out::Full)
}

/// A structure of fixed size, read, and written on success.
pub(crate) const fn sinout(shape: Shape, size: u64) -> Ty {
    inout(shape, Len::Fixed(size), Out::Full)
}

/// An opaque input of fixed size.
pub(crate) const fn raw_in(size: u64) -> Ty {
    sin(Shape::Opaque, size)
}

/// An opaque output of fixed size.
pub(crate) const fn raw_out(size: u64) -> Ty {
    sout(Shape::Opaque, size)
}

/// Opaque, read and written.
pub(crate) const fn raw_inout(size: u64) -> Ty {
    sinout(Shape::Opaque, size)
}

/// Input data whose length is in an argument.
pub(crate) const fn bytes_in(arg: u8) -> Ty {
    input(Shape::Bytes, Len::Arg(arg))
}

/// Output data: capacity in an argument, length is the result.
pub(crate) const fn bytes_out(arg: u8) -> Ty {
    output(Shape::Bytes, Len::Arg(arg), Out::Ret)
}

/// A C string of at most `max` bytes.
pub(crate) const fn cstr(max: u32) -> Ty {
    input(Shape::Str, Len::Str(max))
}

/// A structure or array with pointers inside.
pub(crate) const fn nest(mut ptr: Ptr, stride: u32, fields: &'static [Field]) -> Ptr {
    ptr.stride = stride;
    ptr.fields = fields;
    ptr
}

pub(crate) const fn field(off: u32, ptr: Ptr) -> Field {
    Field { off, ptr }
}

/// A path.
pub(crate) const PATH: Ty = input(Shape::Path, Len::Str(PATH_MAX));
pub(crate) const TIMESPEC: Ty = sin(Shape::Timespec, 16);
pub(crate) const TIMESPEC_OUT: Ty = sout(Shape::Timespec, 16);
pub(crate) const TIMEVAL: Ty = sin(Shape::Timeval, 16);
/// `argv` and `envp`.
pub(crate) const STRS: Ty = Ty::Ptr(nest(
    pin(Shape::Strs, Len::Strs),
    8,
    &[field(0, pin(Shape::Str, Len::Str(131_072)))],
));

/// The same pointer, never to be redirected.
pub(crate) const fn in_place(mut ptr: Ptr) -> Ptr {
    ptr.in_place = true;
    ptr
}

/// An output in which the kernel leaves gaps.
pub(crate) const fn gaps(mut ptr: Ptr) -> Ptr {
    ptr.dir = Dir::InOut;
    ptr.gaps = true;
    ptr
}

/// A futex word that the kernel changes.
pub(crate) const FUTEX_WORD: Ty = Ty::Ptr(in_place(pinout(Shape::U32, Len::Fixed(4), Out::Always)));

pub(crate) const fn flags(set: &'static FlagSet) -> Ty {
    Ty::Flags(set)
}

pub(crate) const fn oneof(set: &'static FlagSet) -> Ty {
    Ty::Enum(set)
}

/// A signal set with its size in an argument.
pub(crate) const fn sigset_in(size: u8) -> Ty {
    input(Shape::Sigset, Len::Small(size))
}

/// A signal mask that is installed during the call.
pub(crate) const fn sigmask(size: u8) -> Ty {
    let mut ptr = pin(Shape::Sigset, Len::Small(size));
    ptr.sigmask = true;
    Ty::Ptr(ptr)
}

/// Elements of an iovec that are written from (`writev`).
pub(crate) const IOV_IN: &[Field] = &[field(0, pin(Shape::Bytes, Len::Field(8, 8)))];
/// Elements of an iovec that are filled (`readv`).
pub(crate) const IOV_OUT: &[Field] = &[field(0, pout(Shape::Bytes, Len::Field(8, 8), Out::Share))];

/// An iovec whose count is in argument `count`; `fields` says whether it is read or filled.
pub(crate) const fn iovec(count: u8, fields: &'static [Field]) -> Ty {
    Ty::Ptr(nest(pin(Shape::Iovec, Len::Elems(count, 16)), 16, fields))
}

/// A socket address given with its length.
pub(crate) const fn sockaddr(len: u8) -> Ty {
    input(Shape::Sockaddr, Len::Arg32(len))
}

/// A socket address written by the kernel; its length is behind the pointer in argument `len`.
pub(crate) const fn sockaddr_out(len: u8) -> Ty {
    output(Shape::Sockaddr, Len::AtPtr(len), Out::AtPtr(len))
}

/// `socklen_t *`.
pub(crate) const SOCKLEN: Ty = sinout(Shape::Socklen, 4);

/// A sub-command in argument `arg`, of which the low 32 bits count.
pub(crate) const fn sub32(arg: u8, value: u32, name: &'static str) -> Sub {
    Sub {
        arg,
        mask: 0xffff_ffff,
        value: value as u64,
        and: None,
        name,
    }
}

/// A sub-command in argument `arg`, all 64 bits.
pub(crate) const fn sub64(arg: u8, value: u64, name: &'static str) -> Sub {
    Sub {
        arg,
        mask: u64::MAX,
        value,
        and: None,
        name,
    }
}
