//! Descriptors: each process takes those that were made for it through a socket that all have inherited, to where it
//! had them.

use super::channel::send_descriptor;
use super::namespace::CHANNEL;
use super::process::{DATA, call};
use super::{Live, cannot};
use crate::replay::*;
use scribe_objects::model::{self, Kind};
use scribe_tracee::inject::bytes_of;
use std::os::fd::{AsRawFd, OwnedFd};

impl Replayer {
    /// Takes a descriptor of ours into a process; its number there.
    pub(super) fn take(&mut self, live: &Live, id: u32, fd: &OwnedFd) -> Result<i32> {
        send_descriptor(&live.namespace.channel, fd.as_raw_fd()).map_err(|error| {
            ReplayError::Setup {
                what: "handing a descriptor to the program".into(),
                error,
            }
        })?;
        // struct msghdr (56 bytes), struct iovec (16), a byte, room for one descriptor (24).
        let (part, byte, control) = (DATA + 56, DATA + 72, DATA + 80);
        let words = [0, 0, part, 1, control, 24, 0, byte, 1, 0];
        let mut data = bytes_of(&words);
        data.resize(80 + 24, 0);
        let got = self.do_call_with(id, &data, libc::SYS_recvmsg, &[CHANNEL as u64, DATA])?;
        let mut number = [0; 4];
        self.task(id).space.mem.read(control + 16, &mut number)?;
        match got {
            1 => Ok(i32::from_le_bytes(number)),
            _ => Err(cannot(format!(
                "a process did not take a descriptor ({got})"
            ))),
        }
    }

    pub(super) fn descriptors(
        &mut self,
        live: &Live,
        process: &model::Process,
        made: &[Option<OwnedFd>],
    ) -> Result<()> {
        let id = self.leader(process);
        let (channel, all) = (CHANNEL as u64, u64::from(u32::MAX));
        self.do_calls(
            id,
            &[
                call(libc::SYS_close_range, &[0, channel - 1, 0]),
                call(libc::SYS_close_range, &[channel + 1, all, 0]),
            ],
        )?;
        // More may be open than the limit of the replay allows.
        let most = process
            .fds
            .iter()
            .map(|fd| fd.fd as u64 + 64)
            .max()
            .unwrap_or(0);
        raise_limit(self.task(id).tgid, most.max(1024));
        let mut wanted: Vec<&model::Fd> = process.fds.iter().collect();
        // What lies where the channel is comes last.
        wanted.sort_by_key(|fd| (fd.fd == CHANNEL, fd.fd));
        for fd in wanted {
            let Some(file) = made.get(fd.open).and_then(Option::as_ref) else {
                continue;
            };
            let got = self.take(live, id, file)?;
            let flags = if fd.cloexec {
                libc::O_CLOEXEC as u64
            } else {
                0
            };
            if got == fd.fd {
                let flag = u64::from(fd.cloexec);
                self.do_call(
                    id,
                    libc::SYS_fcntl,
                    &[got as u64, libc::F_SETFD as u64, flag],
                )?;
            } else {
                self.do_calls(
                    id,
                    &[
                        call(libc::SYS_dup3, &[got as u64, fd.fd as u64, flags]),
                        call(libc::SYS_close, &[got as u64]),
                    ],
                )?;
            }
        }
        // Sets know what they watch by its number, too.
        for fd in &process.fds {
            let Some(Kind::Epoll(watched)) = live.objects.open.get(fd.open).map(|open| &open.kind)
            else {
                continue;
            };
            for (target, events, data) in watched {
                let mut event = events.to_le_bytes().to_vec();
                event.extend_from_slice(&data.to_le_bytes());
                let add = libc::EPOLL_CTL_ADD as u64;
                let args = [fd.fd as u64, add, *target as u64, DATA];
                self.do_call_with(id, &event, libc::SYS_epoll_ctl, &args)?;
            }
        }
        Ok(())
    }

    pub(super) fn locks(&mut self, live: &Live, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        for fd in &process.fds {
            let Some(open) = live.objects.open.get(fd.open) else {
                continue;
            };
            for lock in &open.locks {
                let number = fd.fd as u64;
                if lock.kind == "FLOCK" {
                    let how = if lock.write {
                        libc::LOCK_EX
                    } else {
                        libc::LOCK_SH
                    };
                    let how = (how | libc::LOCK_NB) as u64;
                    self.do_call(id, libc::SYS_flock, &[number, how])?;
                    continue;
                }
                if lock.kind == "POSIX" && lock.pid != process.pid {
                    continue;
                }
                // struct flock: type, whence, start, length, pid.
                let kind = if lock.write {
                    libc::F_WRLCK
                } else {
                    libc::F_RDLCK
                } as u64;
                let len = lock.end.map_or(0, |end| end - lock.start + 1);
                let words = [kind, lock.start, len, 0];
                let data = bytes_of(&words);
                let set = match lock.kind.as_str() {
                    "POSIX" => libc::F_SETLK,
                    _ => libc::F_OFD_SETLK,
                };
                self.do_call_with(id, &data, libc::SYS_fcntl, &[number, set as u64, DATA])?;
            }
        }
        Ok(())
    }
}

/// Lets a process have so many descriptors.
fn raise_limit(pid: Tid, most: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: valid structures. Without the right to it the limit stays as it is.
    unsafe {
        libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut limit);
        if limit.rlim_cur < most {
            limit.rlim_cur = most;
            limit.rlim_max = limit.rlim_max.max(most);
            libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut());
        }
    }
}
