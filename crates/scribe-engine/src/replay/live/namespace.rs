//! Namespaces in which replayed processes have the ids that they had, and mounts of their own.
//!
//! Their first process is a small one of ours: it makes the processes of the replay under the ids that
//! it is told, waits for orphans, and goes when nobody is left. It is a copy of the replayer that makes
//! system calls only.

use super::channel::receive;
use crate::replay::{ReplayError, Result};
use scribe_objects::check;
use scribe_tracee::Tid;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Where processes of the replay have their end of the channel for descriptors: above what programs
/// have, below the usual limit of 1024.
pub(super) const CHANNEL: RawFd = 900;

/// The namespaces, while they are being filled.
#[derive(Debug)]
pub(in crate::replay) struct Namespace {
    /// To that process: ids of processes to be made (four bytes each); from it, ends of those.
    control: OwnedFd,
    /// Our end of the channel for descriptors.
    pub channel: OwnedFd,
    /// New processes read a byte from it before they begin.
    gate: OwnedFd,
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> ReplayError {
    let what = what.to_owned();
    move |error| ReplayError::Setup { what, error }
}

fn pair(kind: i32) -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: room for two; they are ours then.
    unsafe {
        let kind = kind | libc::SOCK_CLOEXEC;
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()).into())?;
        Ok(fds.map(|fd| OwnedFd::from_raw_fd(fd)))
    }
}

/// Enters a mount namespace of its own, and makes a pid namespace for children; as an ordinary user,
/// within a user namespace. `ipc`: and an IPC namespace.
fn unshare(ipc: bool) -> io::Result<()> {
    // SAFETY: plain numbers, here and below.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mut both = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    if ipc {
        both |= libc::CLONE_NEWIPC;
    }
    // SAFETY: as above.
    if unsafe { libc::unshare(both) } == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    check(unsafe { libc::unshare(both | libc::CLONE_NEWUSER) }.into())?;
    // Without this an ordinary user may not map its group (user_namespaces(7)).
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Gives processes made from here on clocks that go on where the program's stood (time_namespaces(7)). Where
/// the kernel has no such thing, time has passed for it.
fn set_clocks((monotonic, boottime): (u64, u64)) {
    // SAFETY: plain numbers.
    if monotonic == 0 || unsafe { libc::unshare(CLONE_NEWTIME) } != 0 {
        return;
    }
    let line = |name: &str, clock, then: u64| {
        let offset = then as i64 - scribe_objects::take::clock(clock) as i64;
        let (s, ns) = (
            offset.div_euclid(1_000_000_000),
            offset.rem_euclid(1_000_000_000),
        );
        format!("{name} {s} {ns}\n")
    };
    let text = line("monotonic", libc::CLOCK_MONOTONIC, monotonic)
        + &line("boottime", libc::CLOCK_BOOTTIME, boottime);
    let _ = fs::write("/proc/self/timens_offsets", text);
}

/// include/uapi/linux/sched.h
const CLONE_NEWTIME: i32 = 0x80;

impl Namespace {
    /// Makes them. This process is in the namespaces of mounts (and users) from here on; it must have one
    /// thread only.
    /// `clocks`: nanoseconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME that its processes find.
    /// `ipc`: they have objects of System V's, which get the ids that they had.
    pub(in crate::replay) fn enter(clocks: (u64, u64), ipc: bool) -> Result<Namespace> {
        unshare(ipc).map_err(|error| ReplayError::Setup {
            what: "a replay that turns live needs namespaces of its own, in which its processes \
                   have the ids that they had; this system does not allow that (unshare(2): be \
                   root, or let user namespaces be used)"
                .into(),
            error,
        })?;
        set_clocks(clocks);
        let what = "namespaces for the replay";
        // SAFETY: valid strings; nothing else is read.
        let private = unsafe {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let none = std::ptr::null();
            libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, flags, none.cast())
        };
        check(private.into()).map_err(failed(what))?;
        let [control, theirs] = pair(libc::SOCK_SEQPACKET).map_err(failed(what))?;
        let [channel, inherited] = pair(libc::SOCK_SEQPACKET).map_err(failed(what))?;
        let (gate, opener) = io::pipe().map_err(failed(what))?;
        // SAFETY: the copy makes system calls only, and never returns.
        unsafe {
            let init = libc::fork();
            if init == 0 {
                // Without us there is nothing to do, until the processes are let go.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::dup2(inherited.as_raw_fd(), CHANNEL) != CHANNEL {
                    libc::_exit(1);
                }
                serve(theirs.as_raw_fd(), gate.as_raw_fd());
            }
            check(init.into()).map_err(failed(what))?;
        }
        let on = 1i32;
        // SAFETY: the value is an int.
        let told = unsafe {
            let at = (&raw const on).cast();
            libc::setsockopt(
                control.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PASSCRED,
                at,
                4,
            )
        };
        check(told.into()).map_err(failed(what))?;
        Ok(Namespace {
            control,
            channel,
            gate: opener.into(),
        })
    }

    /// Makes a process with this id there, which waits until [`Namespace::open`], and then executes
    /// `path`'s file; its id here.
    pub(in crate::replay) fn process(&self, pid: i32, image: RawFd) -> Result<Tid> {
        let what = format!("making a process with the id {pid}");
        let mut order = pid.to_le_bytes().to_vec();
        order.extend_from_slice(&image.to_le_bytes());
        let fd = self.control.as_raw_fd();
        // SAFETY: a buffer with its length.
        let sent =
            unsafe { libc::send(fd, order.as_ptr().cast(), order.len(), libc::MSG_NOSIGNAL) };
        check(sent as i64).map_err(failed(&what))?;
        let (answer, from) = receive(&self.control).map_err(failed(&what))?;
        match answer {
            [0, _] => Ok(from),
            [error, _] => Err(failed(&what)(io::Error::from_raw_os_error(-error))),
        }
    }

    /// Lets a process go on that was made.
    pub(in crate::replay) fn open(&self) -> Result<()> {
        // SAFETY: one byte.
        let wrote = unsafe { libc::write(self.gate.as_raw_fd(), [0u8].as_ptr().cast(), 1) };
        check(wrote as i64).map_err(failed("starting the replay"))?;
        Ok(())
    }

    /// The processes are let go: they outlive this one.
    pub(in crate::replay) fn release(&self) -> Result<()> {
        let fd = self.control.as_raw_fd();
        let order = [0u8; 8];
        // SAFETY: a buffer with its length.
        let sent = unsafe { libc::send(fd, order.as_ptr().cast(), 8, libc::MSG_NOSIGNAL) };
        check(sent as i64).map_err(failed("letting the processes go"))?;
        // It has heard it.
        receive(&self.control).map_err(failed("letting the processes go"))?;
        Ok(())
    }

    /// Waits for the end of a process that was made, which had this id there; its status, as wait(2) has it.
    pub(in crate::replay) fn wait(&self, pid: i32) -> Result<i32> {
        loop {
            let ([ended, status], _) =
                receive(&self.control).map_err(failed("waiting for the program"))?;
            if ended == pid {
                return Ok(status);
            }
        }
    }
}

/// What the first process does. Signals of its children interrupt its waiting for orders.
///
/// # Safety
/// In a process that makes nothing but system calls.
unsafe fn serve(control: RawFd, gate: RawFd) -> ! {
    // SAFETY: plain numbers and buffers with their lengths throughout.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        let news = libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        let mut wanted = [
            libc::pollfd {
                fd: control,
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: news,
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        let mut released = false;
        loop {
            libc::poll(wanted.as_mut_ptr(), 2, -1);
            let mut order = [0i32; 2];
            let got = libc::recv(control, order.as_mut_ptr().cast(), 8, libc::MSG_DONTWAIT);
            match (got, order[0]) {
                (8, 0) => {
                    libc::prctl(libc::PR_SET_PDEATHSIG, 0);
                    released = true;
                    // Its processes see themselves there; where that is not allowed, those outside.
                    let (proc, none) = (c"proc".as_ptr(), std::ptr::null());
                    libc::mount(proc, c"/proc".as_ptr(), proc, 0, none);
                    libc::close(CHANNEL);
                    tell(control, [0, 0]);
                }
                (8, pid) => begin(control, gate, pid, order[1]),
                // Nobody is there any more to tell.
                (0, _) => wanted[0].fd = -1,
                _ => {}
            }
            let mut room = [0u8; 128];
            while libc::read(news, room.as_mut_ptr().cast(), room.len()) > 0 {}
            loop {
                let mut status = 0;
                match libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) {
                    0 => break,
                    pid if pid > 0 => tell(control, [pid, status]),
                    _ if released => libc::_exit(0),
                    _ => break,
                }
            }
        }
    }
}

/// # Safety
/// As [`serve`].
unsafe fn tell(control: RawFd, what: [i32; 2]) {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: a buffer with its length.
    unsafe { libc::send(control, what.as_ptr().cast(), 8, flags) };
}

/// Makes a process; it tells itself that it is there, so that the kernel tells its id.
///
/// # Safety
/// As [`serve`].
unsafe fn begin(control: RawFd, gate: RawFd, pid: i32, image: RawFd) {
    let wanted = [pid];
    // struct clone_args (clone(2)): exit_signal, set_tid, set_tid_size.
    let mut args = [0u64; 11];
    args[4] = libc::SIGCHLD as u64;
    args[8] = wanted.as_ptr() as u64;
    args[9] = 1;
    // SAFETY: a structure of this size; the copy makes system calls only.
    unsafe {
        let made = libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args));
        if made < 0 {
            tell(control, [-*libc::__errno_location(), 0]);
        }
        if made != 0 {
            return;
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        tell(control, [0, 0]);
        let mut byte = 0u8;
        libc::read(gate, (&raw mut byte).cast(), 1);
        // A replay must not dump core where the recording did not.
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::syscall(
            libc::SYS_close_range,
            3,
            CHANNEL - 1,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        libc::syscall(
            libc::SYS_close_range,
            CHANNEL + 1,
            i32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        keep_rights();
        let argv: [*const libc::c_char; 1] = [std::ptr::null()];
        let name = c"";
        let args = [name.as_ptr(), std::ptr::null()];
        libc::syscall(
            libc::SYS_execveat,
            image,
            name.as_ptr(),
            args.as_ptr(),
            argv.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        libc::_exit(127);
    }
}

/// Lets an ordinary user's process keep over exec what it may do in its user namespace, which is no less
/// than the replayer may: otherwise it could not open what it is given through the replayer's
/// descriptors (capabilities(7), "Ambient"). The program loses it when it comes to life.
///
/// # Safety
/// As [`serve`].
unsafe fn keep_rights() {
    /// _LINUX_CAPABILITY_VERSION_3, and how many 32-bit words its sets have (include/uapi/linux/capability.h).
    const HEAD: [u32; 2] = [0x2008_0522, 0];
    // SAFETY: structures as the kernel has them: for each word effective, permitted, inheritable.
    unsafe {
        if libc::geteuid() == 0 {
            return;
        }
        let mut sets = [0u32; 6];
        libc::syscall(libc::SYS_capget, HEAD.as_ptr(), sets.as_mut_ptr());
        for word in 0..2 {
            sets[3 * word + 2] = sets[3 * word + 1];
        }
        libc::syscall(libc::SYS_capset, HEAD.as_ptr(), sets.as_ptr());
        for cap in 0..64 {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, cap, 0, 0);
        }
    }
}
