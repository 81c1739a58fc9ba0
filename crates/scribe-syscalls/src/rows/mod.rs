//! The rows, by theme.

mod aio;
mod creds;
mod fcntl;
mod files;
mod fsys;
mod futex;
mod ioctl;
mod ipc;
mod keys;
mod memory;
mod net;
mod paths;
mod poll;
mod prctl;
mod process;
mod ptrace;
mod signals;
mod system;
mod time;

use crate::call::Row;

pub use ioctl::UNKNOWN_IOCTL;

/// All tables.
pub(crate) const TABLES: &[&[Row]] = &[
    aio::ROWS,
    creds::ROWS,
    fcntl::ROWS,
    files::ROWS,
    fsys::MOUNTS,
    fsys::QUOTAS,
    futex::ROWS,
    ioctl::TTY,
    ioctl::FILES,
    ioctl::SOCKETS,
    ioctl::DEVICES,
    ipc::ROWS,
    keys::ROWS,
    memory::ROWS,
    net::ROWS,
    paths::ROWS,
    poll::ROWS,
    prctl::ROWS,
    prctl::ARCH,
    process::ROWS,
    ptrace::ROWS,
    signals::ROWS,
    system::ROWS,
    time::ROWS,
];
