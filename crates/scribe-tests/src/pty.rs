//! A command on a pseudo terminal, driven like a user would.

use crate::Settings;
use crate::process::{End, become_user, descendants, kill};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{io, thread};

/// A running command and the other side of its terminal.
#[derive(Debug)]
pub struct Session {
    child: Child,
    master: File,
    seen: Vec<u8>,
    from: usize,
}

impl Session {
    /// Starts the command on a new terminal of 24 lines and 80 columns, which becomes its
    /// controlling terminal.
    pub fn start(argv: &[OsString], cwd: &Path, settings: &Settings) -> io::Result<Session> {
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: both results are valid places, the size is copied, the other pointers may be null.
        let r = unsafe {
            libc::openpty(
                &mut master,
                &mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        if r == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors are new and nobody else has them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: plain calls on own descriptors.
        unsafe {
            libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        }
        let mut command = Command::new(&argv[0]);
        command
            .args(&argv[1..])
            .current_dir(cwd)
            .env("TERM", "xterm")
            .env("HOME", cwd)
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        become_user(&mut command, settings, cwd);
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        Ok(Session {
            child,
            master,
            seen: Vec::new(),
            from: 0,
        })
    }

    /// Types the text.
    pub fn send(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.master.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.pump(),
                Err(e) => panic!("terminal: {e}"),
            }
        }
    }

    fn pump(&mut self) {
        let mut buf = [0; 4096];
        match self.master.read(&mut buf) {
            Ok(n) if n > 0 => self.seen.extend(&buf[..n]),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }

    /// Waits until the text shows up after what was seen by earlier calls; false when it does not.
    pub fn expect(&mut self, text: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let fresh = &self.seen[self.from..];
            if let Some(at) = fresh.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.from += at + text.len();
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            self.pump();
        }
    }

    /// Everything it has put out.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits for the end, and takes in all output.
    pub fn finish(mut self, limit: Duration) -> (End, String) {
        let deadline = Instant::now() + limit;
        let end = loop {
            self.pump();
            if let Some(status) = self.child.try_wait().expect("own child") {
                break match status.code() {
                    Some(code) => End::Exit(code),
                    None => End::Signal(status.signal().unwrap_or(0)),
                };
            }
            if Instant::now() > deadline {
                break End::TimedOut;
            }
        };
        let mut buf = [0; 4096];
        while let Ok(n) = self.master.read(&mut buf) {
            if n == 0 {
                break;
            }
            self.seen.extend(&buf[..n]);
        }
        (end, self.seen())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in descendants(self.child.id() as i32) {
                kill(pid, libc::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}
