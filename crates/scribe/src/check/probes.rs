//! Trying the facilities out, each in a child of its own, so that nothing stays behind.

use super::{Finding, Need};
use scribe_tracee::{Stopped, Tid, wait};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Name and release of the kernel, and of the machine.
pub fn kernel() -> String {
    // SAFETY: the structure is plain data, and the kernel fills it.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&mut name);
        name
    };
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field
            .iter()
            .map(|c| *c as u8)
            .take_while(|c| *c != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    format!(
        "{} {} {}",
        text(&name.sysname),
        text(&name.release),
        text(&name.machine)
    )
}

/// Everything.
pub fn all() -> Vec<Finding> {
    let traced = with_tracee(|_, _| Ok(()));
    let can_trace = traced.is_ok();
    let dispatch = with_tracee(|task, _| describe(task.arm_sud(0x1000, 0x1000)));
    let emulation = with_tracee(|task, tid| {
        let running = describe(task.cont_emulating(0).map(|_| ()));
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(tid, libc::SIGKILL) };
        running
    });
    // One of the two is enough.
    let trap = if dispatch.is_ok() {
        Need::Optional
    } else {
        Need::Record
    };
    vec![
        Finding {
            name: "ptrace",
            need: Need::Record,
            result: traced,
            purpose: "tracing the recorded program",
            instead: "",
            change: if can_trace { String::new() } else { why_no_ptrace() },
        },
        Finding {
            name: "Syscall User Dispatch",
            need: Need::Optional,
            result: dispatch,
            purpose: "stopping at system calls",
            instead: "PTRACE_SYSEMU, which is slower",
            change: "a kernel of version 6.4 or later".into(),
        },
        Finding {
            name: "PTRACE_SYSEMU",
            need: trap,
            result: emulation,
            purpose: "stopping at system calls where Syscall User Dispatch is missing",
            instead: "",
            change: "another kernel, or virtual machine".into(),
        },
        Finding {
            name: "/proc/PID/mem",
            need: Need::Record,
            result: with_tracee(|_, tid| process_memory(tid)),
            purpose: "reading and writing the program's memory",
            instead: "",
            change: "mount /proc, and allow writing to /proc/PID/mem (proc_mem.force_override=ptrace)"
                .into(),
        },
        Finding {
            name: "executable memory files",
            need: Need::Replay,
            result: in_child(run_from_memory),
            purpose: "starting a replay",
            instead: "",
            change: "sysctl vm.memfd_noexec=0".into(),
        },
        Finding {
            name: "kcmp",
            need: Need::Optional,
            result: kcmp(),
            purpose: "knowing the recording's own output when it is a file or a pipe",
            instead: "a replay shows only what went to a terminal",
            change: "a kernel with CONFIG_KCMP; in a container, a seccomp profile that allows kcmp".into(),
        },
        Finding {
            name: "CPUID faulting",
            need: Need::Optional,
            // SAFETY: no pointers.
            result: in_child(|| check(unsafe { libc::syscall(libc::SYS_arch_prctl, 0x1012, 0) })),
            purpose: "recording what CPUID says",
            instead: "the program asks the CPU itself: replay on the same kind of CPU",
            change: "an Intel CPU from Ivy Bridge on, or AMD Zen 4; in a virtual machine, a host that \
                     passes it on"
                .into(),
        },
        Finding {
            name: "TSC trapping",
            need: Need::Record,
            result: in_child(|| {
                let fault = libc::PR_TSC_SIGSEGV;
                // SAFETY: no pointers.
                check(unsafe { libc::prctl(libc::PR_SET_TSC, fault, 0, 0, 0) }.into())
            }),
            purpose: "recording the time-stamp counter",
            instead: "",
            change: "a kernel that allows prctl(PR_SET_TSC)".into(),
        },
        Finding {
            name: "user namespaces",
            need: Need::Optional,
            // SAFETY: no pointers.
            result: in_child(|| check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())),
            purpose: "record --new-net as an ordinary user",
            instead: "record --new-net works for root only",
            change: "sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0; AppArmor: \
                     kernel.apparmor_restrict_unprivileged_userns=0"
                .into(),
        },
        Finding {
            name: "userfaultfd WP_ASYNC",
            need: Need::Optional,
            result: userfault(),
            purpose: "finding changed memory (not used by this version)",
            instead: "all memory is hashed",
            change: "a kernel of version 6.7 or later".into(),
        },
        Finding {
            name: "PAGEMAP_SCAN",
            need: Need::Optional,
            result: pagemap_scan(),
            purpose: "finding changed memory (not used by this version)",
            instead: "all memory is hashed",
            change: "a kernel of version 6.7 or later".into(),
        },
        Finding {
            name: "reflink",
            need: Need::Optional,
            result: reflink(),
            purpose: "copying files without taking space (not used by this version)",
            instead: "their content is copied into the log",
            change: "a file system such as btrfs or xfs".into(),
        },
    ]
}

type Probe = Result<(), String>;

fn os() -> String {
    io::Error::last_os_error().to_string()
}

fn check(ret: libc::c_long) -> Probe {
    if ret < 0 { Err(os()) } else { Ok(()) }
}

fn describe(result: scribe_tracee::Result<()>) -> Probe {
    result.map_err(|error| error.to_string())
}

/// Runs a probe in a child, which tells by its exit status what the error was.
fn in_child(probe: impl FnOnce() -> Probe) -> Probe {
    // SAFETY: we have one thread; the child ends without running anything of ours behind the probe.
    unsafe {
        let pid = libc::fork();
        if pid < 0 {
            return Err(format!("fork: {}", os()));
        }
        if pid == 0 {
            *libc::__errno_location() = 0;
            let status = match probe() {
                Ok(()) => 0,
                Err(_) => (*libc::__errno_location()).clamp(1, 254),
            };
            libc::_exit(status);
        }
        let mut status = 0;
        libc::waitpid(pid, &mut status, 0);
        if libc::WIFEXITED(status) {
            match libc::WEXITSTATUS(status) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno).to_string()),
            }
        } else {
            Err(format!("killed by signal {}", libc::WTERMSIG(status)))
        }
    }
}

/// Traces a child, which is stopped, and ends it afterwards.
fn with_tracee(probe: impl FnOnce(Stopped, Tid) -> Probe) -> Probe {
    // SAFETY: as in `in_child`; the child only stops itself.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            scribe_tracee::traceme_stop();
            libc::_exit(0);
        }
        pid
    };
    if pid < 0 {
        return Err(format!("fork: {}", os()));
    }
    let result = stopped(pid).and_then(|task| probe(task, pid));
    // SAFETY: a signal to our own child, and its end. On its way out it stops once more.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let mut status = 0;
        while libc::waitpid(pid, &mut status, libc::__WALL) == pid && libc::WIFSTOPPED(status) {
            libc::ptrace(libc::PTRACE_CONT, pid, 0, 0);
        }
    }
    result
}

/// The child in a stop that ptrace has reported.
fn stopped(pid: Tid) -> Result<Stopped, String> {
    let mut status = 0;
    // SAFETY: our own child. It has stopped before it is traced, so that no stop is missed.
    unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
    let running = scribe_tracee::seize(pid).map_err(|error| error.to_string())?;
    let event = loop {
        // A signal may end the wait.
        if let Some(event) = wait::wait(pid, true).map_err(|error| error.to_string())? {
            break event;
        }
    };
    running
        .stopped(&event)
        .map_err(|_| "the child did not stop".into())
}

fn why_no_ptrace() -> String {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "3" => {
            return "kernel.yama.ptrace_scope is 3, which only a restart ends: set it to 1 at boot"
                .into();
        }
        "2" => return "sysctl kernel.yama.ptrace_scope=1, or run Scribe as root".into(),
        _ => {}
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let traced = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    if traced.is_some_and(|pid| pid.trim() != "0") {
        return "Scribe itself is traced, by strace or a debugger: run it outside".into();
    }
    let filtered = status
        .lines()
        .any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
    if filtered {
        "a seccomp filter forbids it: docker run --cap-add SYS_PTRACE, or a profile that allows ptrace"
            .into()
    } else {
        "allow ptrace in this container or security module".into()
    }
}

fn process_memory(pid: Tid) -> Probe {
    static PLACE: u8 = 7;
    let at = &raw const PLACE as u64;
    let failed = |error: io::Error| error.to_string();
    let path = format!("/proc/{pid}/mem");
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let mut byte = [0];
    memory.read_exact_at(&mut byte, at).map_err(failed)?;
    // The static lies in memory that the program itself cannot write, as code does.
    memory.write_all_at(&byte, at).map_err(failed)
}

/// A program of two instructions: exit(0).
fn tiny_program() -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let word16 = |elf: &mut Vec<u8>, v: u16| elf.extend_from_slice(&v.to_le_bytes());
    let word32 = |elf: &mut Vec<u8>, v: u32| elf.extend_from_slice(&v.to_le_bytes());
    let word64 = |elf: &mut Vec<u8>, v: u64| elf.extend_from_slice(&v.to_le_bytes());
    let base = 0x40_0000u64;
    word16(&mut elf, 2); // an executable
    word16(&mut elf, 62); // for x86-64
    word32(&mut elf, 1);
    word64(&mut elf, base + 120); // entry
    word64(&mut elf, 64); // program headers
    word64(&mut elf, 0);
    word32(&mut elf, 0);
    for v in [64, 56, 1, 0, 0, 0] {
        word16(&mut elf, v);
    }
    word32(&mut elf, 1); // PT_LOAD
    word32(&mut elf, 5); // readable, executable
    for v in [0, base, base, 129, 129, 4096] {
        word64(&mut elf, v);
    }
    // mov $60,%eax; xor %edi,%edi; syscall
    elf.extend_from_slice(&[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);
    elf
}

fn run_from_memory() -> Probe {
    // SAFETY: strings end with NUL, arrays with a null pointer, and live until the call.
    unsafe {
        let name = c"scribe-check".as_ptr();
        let mut fd = libc::memfd_create(name, libc::MFD_CLOEXEC | 0x10 /* MFD_EXEC */);
        if fd < 0 {
            fd = libc::memfd_create(name, libc::MFD_CLOEXEC);
        }
        if fd < 0 {
            return Err(os());
        }
        let mut file = File::from_raw_fd(fd);
        file.write_all(&tiny_program()).map_err(|e| e.to_string())?;
        // By name, as the replayer does it: through a descriptor that is open for reading only.
        let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let read_only = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        drop(file);
        let path = std::ffi::CString::new(format!("/proc/self/fd/{read_only}")).unwrap_or_default();
        let argv = [path.as_ptr(), std::ptr::null()];
        libc::execve(path.as_ptr(), argv.as_ptr(), argv[1..].as_ptr());
        Err(os())
    }
}

fn kcmp() -> Probe {
    let own = std::process::id();
    // SAFETY: no pointers. KCMP_FILE is 0.
    let same = unsafe { libc::syscall(libc::SYS_kcmp, own, own, 0, 0, 0) };
    // A closed standard input says nothing about the call.
    if same == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EBADF) {
        return Err(os());
    }
    Ok(())
}

fn userfault() -> Probe {
    const UFFD_USER_MODE_ONLY: i32 = 1;
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const WP_ASYNC: u64 = 1 << 15;
    // SAFETY: the descriptor is owned by the File; the ioctl gets the structure that it wants.
    unsafe {
        let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
        let fd = libc::syscall(libc::SYS_userfaultfd, flags) as i32;
        if fd < 0 {
            return Err(os());
        }
        let file = File::from_raw_fd(fd);
        let mut api = [0xaau64, WP_ASYNC, 0];
        check(libc::ioctl(file.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()).into())
    }
}

fn pagemap_scan() -> Probe {
    const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
    let pagemap = File::open("/proc/self/pagemap").map_err(|e| e.to_string())?;
    // struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, four masks.
    let mut arg = [0u64; 12];
    let mut regions = [0u64; 3];
    let at = &raw const regions as u64 & !0xfff;
    arg[0] = 96;
    arg[2] = at;
    arg[3] = at + 4096;
    arg[5] = regions.as_mut_ptr() as u64;
    arg[6] = 1;
    arg[10] = 1 << 3; // PAGE_IS_PRESENT
    arg[11] = 1 << 3;
    // SAFETY: the structure is the one that the kernel wants, and has room for one region.
    check(unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, arg.as_mut_ptr()) }.into())
}

fn reflink() -> Probe {
    let open = || {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600);
        options.open(".").map_err(|e| e.to_string())
    };
    let (mut from, to) = (open()?, open()?);
    from.write_all(&[1; 4096]).map_err(|e| e.to_string())?;
    // SAFETY: FICLONE takes a descriptor.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }.into())
}
