//! Memory of a traced process, through `/proc/PID/mem`.
//!
//! The file is opened once per address space: the right is checked at open only, so it keeps
//! working when the program makes itself undumpable, and it reaches pages that the program itself
//! may not write (as ptrace does).

use crate::{Error, Result, Tid};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Writes to the memory of a task where its own protections allow that; the errno otherwise.
pub fn write_as_allowed(tid: Tid, addr: u64, data: &[u8]) -> std::result::Result<(), i32> {
    let local = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let remote = libc::iovec {
        iov_base: addr as *mut libc::c_void,
        iov_len: data.len(),
    };
    // SAFETY: the local vector is read only, and describes `data`.
    let done = unsafe { libc::process_vm_writev(tid, &local, 1, &remote, 1, 0) };
    match done {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        n if n as usize == data.len() => Ok(()),
        _ => Err(libc::EFAULT),
    }
}

/// Reads memory of a task where its own protections allow that, all or nothing; the errno otherwise.
pub fn read_as_allowed(tid: Tid, addr: u64, buf: &mut [u8]) -> std::result::Result<(), i32> {
    let local = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let remote = libc::iovec {
        iov_base: addr as *mut libc::c_void,
        iov_len: buf.len(),
    };
    // SAFETY: the local vector describes `buf`.
    let done = unsafe { libc::process_vm_readv(tid, &local, 1, &remote, 1, 0) };
    match done {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        n if n as usize == buf.len() => Ok(()),
        _ => Err(libc::EFAULT),
    }
}

/// Access to one address space.
#[derive(Debug)]
pub struct Mem {
    file: File,
    tid: Tid,
}

/// Most pieces that the kernel reads at once (`UIO_MAXIOV`).
const PIECES: usize = 1024;

impl Mem {
    /// Opens the present address space of `tid`. After an exec the old handle is of no use.
    pub fn open(tid: Tid) -> Result<Mem> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{tid}/mem"))
            .map(|file| Mem { file, tid })
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ENOENT | libc::ESRCH) => Error::Gone,
                _ => Error::Os {
                    what: "open /proc/PID/mem",
                    source,
                },
            })
    }

    /// Reads up to `buf.len()` bytes; short where memory is unmapped.
    pub fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            if at >= 1 << 63 {
                break;
            }
            match self.file.read_at(&mut buf[done..], at) {
                Ok(0) | Err(_) => break,
                Ok(n) => done += n,
            }
        }
        done
    }

    /// Reads exactly `buf.len()` bytes.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        if self.read_some(addr, buf) == buf.len() {
            return Ok(());
        }
        Err(Error::Os {
            what: "read of the program's memory",
            source: std::io::Error::from_raw_os_error(libc::EFAULT),
        })
    }

    /// Reads `len` bytes.
    pub fn read_vec(&self, addr: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }

    /// Reads many pieces of the same length, at these addresses, one behind the other.
    pub fn read_pieces(&self, addrs: &[u64], len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; addrs.len() * len];
        for (some, to) in addrs.chunks(PIECES).zip(bytes.chunks_mut(PIECES * len)) {
            let local = libc::iovec {
                iov_base: to.as_mut_ptr().cast(),
                iov_len: to.len(),
            };
            let remote = some.iter().map(|addr| libc::iovec {
                iov_base: *addr as *mut libc::c_void,
                iov_len: len,
            });
            let remote: Vec<_> = remote.collect();
            let count = remote.len() as libc::c_ulong;
            // SAFETY: the local vector describes `to`.
            let got =
                unsafe { libc::process_vm_readv(self.tid, &local, 1, remote.as_ptr(), count, 0) };
            if got == to.len() as isize {
                continue;
            }
            // Not by this way, at least: the task is another by now, or does not let itself be looked at.
            for (addr, to) in some.iter().zip(to.chunks_mut(len)) {
                self.read(*addr, to)?;
            }
        }
        Ok(bytes)
    }

    /// Reads a word.
    pub fn read_u64(&self, addr: u64) -> Result<u64> {
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Writes all of `data`.
    pub fn write(&self, addr: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.file
            .write_all_at(data, addr)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ESRCH) => Error::Gone,
                // The address space has ended (fs/proc/base.c, mem_rw): by exit or exec.
                None if source.kind() == std::io::ErrorKind::WriteZero => Error::Gone,
                _ => Error::Os {
                    what: "write to the program's memory",
                    source,
                },
            })
    }
}
