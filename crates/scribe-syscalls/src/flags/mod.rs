//! Names of flags and enumerated values.
//!
//! The values come from the kernel's own headers (crate `linux-raw-sys`), or are written out where
//! it has them not.

mod file;
mod misc;
mod sock;

pub(crate) use file::*;
pub(crate) use misc::*;
pub(crate) use sock::*;

/// Names of the bits or values of an argument.
#[derive(Debug)]
pub struct FlagSet {
    /// Bits that hold one enumerated value instead of a flag each (`O_ACCMODE`, the type of a
    /// socket).
    pub field: u64,
    /// Values with names; those that lie within `field` are its values.
    pub names: &'static [(u64, &'static str)],
}

impl FlagSet {
    /// Name of exactly this value.
    pub fn name(&self, value: u64) -> Option<&'static str> {
        self.names.iter().find(|n| n.0 == value).map(|n| n.1)
    }
}

/// `NAME [field]: CONSTANT ..., NAME = value ...;`
macro_rules! flagsets {
    ($module:path: $(
        $(#[$doc:meta])*
        $set:ident $([$field:expr])? { $($name:ident $(= $value:expr)?),* $(,)? }
    )*) => { $(
        $(#[$doc])*
        pub(crate) const $set: $crate::flags::FlagSet = {
            #[allow(unused_imports)]
            use $module::*;
            $crate::flags::FlagSet {
                field: $crate::flags::or_zero(&[$($field)?]),
                names: &[ $( ($crate::flags::flag_value!($name $(= $value)?),
                    stringify!($name)) ),* ],
            }
        };
    )* };
}
pub(crate) use flagsets;

macro_rules! flag_value {
    ($name:ident) => {
        $name as u32 as u64
    };
    ($name:ident = $value:expr) => {
        $value as u64
    };
}
pub(crate) use flag_value;

pub(crate) const fn or_zero(field: &[u64]) -> u64 {
    if field.is_empty() { 0 } else { field[0] }
}

pub(crate) const EPERM: i32 = 1;
pub(crate) const EIO: i32 = 5;
pub(crate) const ENODEV: i32 = 19;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENOTTY: i32 = 25;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const ENOPROTOOPT: i32 = 92;
pub(crate) const EOPNOTSUPP: i32 = 95;
