//! The ptrace requests, on typed tasks.

use crate::{Error, Regs, Result, wait::WaitEvent};

/// A thread id, as the tracer's pid namespace has it.
pub type Tid = libc::pid_t;

// Not in libc yet; include/uapi/linux/ptrace.h.
const PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4210;
const NT_X86_XSTATE: usize = 0x202;
/// Largest XSAVE area the engine is prepared for (AMX needs some 11 KiB).
pub const XSTATE_MAX: usize = 16384;

/// A task that is in a ptrace stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    tid: Tid,
}

/// Restartable sequences that a task has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rseq {
    /// Of its `struct rseq`; 0: none.
    pub address: u64,
    /// Of that, in bytes.
    pub size: u32,
    /// What stands before abort handlers.
    pub signature: u32,
}

/// A task that runs, or that we have told to.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    tid: Tid,
}

fn request(
    what: &'static str,
    request: libc::c_uint,
    tid: Tid,
    addr: usize,
    data: usize,
) -> Result<libc::c_long> {
    // SAFETY: each caller passes pointers valid for what its request reads or writes.
    let ret = unsafe { libc::ptrace(request as _, tid, addr, data) };
    if ret == -1 {
        Err(Error::last(what))
    } else {
        Ok(ret)
    }
}

/// Options for every task: see all that creates, replaces or ends tasks, and take the program
/// down with the engine (a task under Syscall User Dispatch cannot go on without it).
pub fn seize_options() -> usize {
    (libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACEEXIT
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_EXITKILL) as usize
}

/// Becomes the tracer of `tid` without stopping it.
pub fn seize(tid: Tid) -> Result<Running> {
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, 0, seize_options())?;
    Ok(Running { tid })
}

/// The same for a process that is not the engine's child: it is not to be killed with the engine yet
/// ([`Stopped::claim`]).
pub fn seize_sparing(tid: Tid) -> Result<Running> {
    let options = seize_options() & !(libc::PTRACE_O_EXITKILL as usize);
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, 0, options)?;
    Ok(Running { tid })
}

/// For a child of the engine, between fork and exec: stops itself so that it can be seized.
/// Async-signal-safe.
pub fn traceme_stop() {
    // SAFETY: plain system calls without pointers.
    unsafe {
        libc::raise(libc::SIGSTOP);
    }
}

/// Sends a signal to one task; that it is gone already is fine.
pub fn kill(tgid: Tid, tid: Tid, signal: i32) {
    // SAFETY: a system call without pointers.
    unsafe {
        libc::syscall(libc::SYS_tgkill, tgid, tid, signal);
    }
}

impl Running {
    /// A task that the kernel attached to us by itself (child of a traced task).
    pub fn attached(tid: Tid) -> Running {
        Running { tid }
    }

    /// Its id.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Asks for a stop (an event stop with SIGTRAP); a call in progress is broken off.
    pub fn interrupt(&self) -> Result<()> {
        request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, self.tid, 0, 0)?;
        Ok(())
    }

    /// Turns into a stopped task by a stop that [`crate::wait`] reported for it.
    pub fn stopped(self, event: &WaitEvent) -> std::result::Result<Stopped, Running> {
        if event.tid == self.tid && event.is_stop() {
            Ok(Stopped { tid: self.tid })
        } else {
            Err(self)
        }
    }
}

impl Stopped {
    /// Its id.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// The same task under the id that exec gave it (exec from a thread takes the leader's id).
    pub fn renamed(self, tid: Tid) -> Stopped {
        Stopped { tid }
    }

    /// Lets it run; `signal` 0 delivers none.
    pub fn cont(self, signal: i32) -> Result<Running> {
        request(
            "PTRACE_CONT",
            libc::PTRACE_CONT,
            self.tid,
            0,
            signal as usize,
        )?;
        Ok(Running { tid: self.tid })
    }

    /// Lets it run to the next entry to or exit from a call.
    pub fn cont_to_syscall(self, signal: i32) -> Result<Running> {
        request(
            "PTRACE_SYSCALL",
            libc::PTRACE_SYSCALL,
            self.tid,
            0,
            signal as usize,
        )?;
        Ok(Running { tid: self.tid })
    }

    /// Lets it run to the next call, which is not executed (where dispatch by SUD is missing).
    pub fn cont_emulating(self, signal: i32) -> Result<Running> {
        request(
            "PTRACE_SYSEMU",
            libc::PTRACE_SYSEMU,
            self.tid,
            0,
            signal as usize,
        )?;
        Ok(Running { tid: self.tid })
    }

    /// Runs one instruction.
    pub fn step(self, signal: i32) -> Result<Running> {
        request(
            "PTRACE_SINGLESTEP",
            libc::PTRACE_SINGLESTEP,
            self.tid,
            0,
            signal as usize,
        )?;
        Ok(Running { tid: self.tid })
    }

    /// Runs one instruction, unless it is a call, which is not executed.
    pub fn step_emulating(self, signal: i32) -> Result<Running> {
        let nr = libc::PTRACE_SYSEMU_SINGLESTEP as _;
        request("PTRACE_SYSEMU_SINGLESTEP", nr, self.tid, 0, signal as usize)?;
        Ok(Running { tid: self.tid })
    }

    /// Leaves it in its group stop, but lets SIGCONT end that.
    pub fn listen(self) -> Result<Running> {
        request("PTRACE_LISTEN", libc::PTRACE_LISTEN, self.tid, 0, 0)?;
        Ok(Running { tid: self.tid })
    }

    /// It is not to be killed when its tracer ends.
    pub fn spare(&self) -> Result<()> {
        self.set_options(seize_options() & !(libc::PTRACE_O_EXITKILL as usize))
    }

    /// It is killed when its tracer ends, and reports nothing but its end.
    pub fn only_kill(&self) -> Result<()> {
        self.set_options(libc::PTRACE_O_EXITKILL as usize)
    }

    /// It ends without a stop on its way out.
    pub fn end_unseen(&self) -> Result<()> {
        self.set_options(seize_options() & !(libc::PTRACE_O_TRACEEXIT as usize))
    }

    /// It stops when the child of its vfork has memory of its own.
    pub fn see_vfork_done(&self) -> Result<()> {
        self.set_options(seize_options() | libc::PTRACE_O_TRACEVFORKDONE as usize)
    }

    fn set_options(&self, options: usize) -> Result<()> {
        request(
            "PTRACE_SETOPTIONS",
            libc::PTRACE_SETOPTIONS,
            self.tid,
            0,
            options,
        )?;
        Ok(())
    }

    /// It cannot go on without its tracer from here on.
    pub fn claim(&self) -> Result<()> {
        let options = seize_options();
        request(
            "PTRACE_SETOPTIONS",
            libc::PTRACE_SETOPTIONS,
            self.tid,
            0,
            options,
        )?;
        Ok(())
    }

    /// The registered restartable sequences (rseq(2)): address, size, signature; all 0 where there are
    /// none. Since Linux 5.13; include/uapi/linux/ptrace.h, ptrace_rseq_configuration.
    pub fn rseq(&self) -> Result<Rseq> {
        const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
        // u64 pointer, u32 size, signature, flags, padding.
        let mut config = [0u64; 3];
        request(
            "PTRACE_GET_RSEQ_CONFIGURATION",
            PTRACE_GET_RSEQ_CONFIGURATION,
            self.tid,
            size_of_val(&config),
            config.as_mut_ptr() as usize,
        )?;
        Ok(Rseq {
            address: config[0],
            size: config[1] as u32,
            signature: (config[1] >> 32) as u32,
        })
    }

    /// Whether the program itself uses Syscall User Dispatch.
    pub fn uses_sud(&self) -> Result<bool> {
        const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
        let mut config = [0u64; 4];
        request(
            "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
            PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
            self.tid,
            size_of_val(&config),
            config.as_mut_ptr() as usize,
        )?;
        Ok(config[0] != 0)
    }

    /// Ends tracing.
    pub fn detach(self, signal: i32) -> Result<()> {
        request(
            "PTRACE_DETACH",
            libc::PTRACE_DETACH,
            self.tid,
            0,
            signal as usize,
        )?;
        Ok(())
    }

    /// General registers.
    pub fn regs(&self) -> Result<Regs> {
        let mut regs = std::mem::MaybeUninit::<Regs>::zeroed();
        request(
            "PTRACE_GETREGS",
            libc::PTRACE_GETREGS,
            self.tid,
            0,
            regs.as_mut_ptr() as usize,
        )?;
        // SAFETY: all bit patterns are valid, and the kernel has filled it.
        Ok(unsafe { regs.assume_init() })
    }

    /// Sets the general registers.
    pub fn set_regs(&self, regs: &Regs) -> Result<()> {
        let at = &raw const *regs as usize;
        request("PTRACE_SETREGS", libc::PTRACE_SETREGS, self.tid, 0, at)?;
        Ok(())
    }

    /// The extended state (x87, SSE, AVX, ...) in the standard XSAVE format.
    pub fn xstate(&self) -> Result<Vec<u8>> {
        let mut buf = vec![0u8; XSTATE_MAX];
        let mut iov = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let at = &raw mut iov as usize;
        request(
            "PTRACE_GETREGSET",
            libc::PTRACE_GETREGSET,
            self.tid,
            NT_X86_XSTATE,
            at,
        )?;
        buf.truncate(iov.iov_len);
        Ok(buf)
    }

    /// Sets the extended state.
    pub fn set_xstate(&self, image: &[u8]) -> Result<()> {
        let iov = libc::iovec {
            iov_base: image.as_ptr() as *mut _,
            iov_len: image.len(),
        };
        let at = &raw const iov as usize;
        request(
            "PTRACE_SETREGSET",
            libc::PTRACE_SETREGSET,
            self.tid,
            NT_X86_XSTATE,
            at,
        )?;
        Ok(())
    }

    /// The siginfo of a signal-delivery stop.
    pub fn siginfo(&self) -> Result<[u8; 128]> {
        let mut info = [0u8; 128];
        let at = info.as_mut_ptr() as usize;
        request(
            "PTRACE_GETSIGINFO",
            libc::PTRACE_GETSIGINFO,
            self.tid,
            0,
            at,
        )?;
        Ok(info)
    }

    /// Blocked signals, bit `n - 1` for signal `n`.
    pub fn sigmask(&self) -> Result<u64> {
        let mut mask = 0u64;
        let at = &raw mut mask as usize;
        request(
            "PTRACE_GETSIGMASK",
            libc::PTRACE_GETSIGMASK as _,
            self.tid,
            8,
            at,
        )?;
        Ok(mask)
    }

    /// Sets the blocked signals.
    pub fn set_sigmask(&self, mask: u64) -> Result<()> {
        let at = &raw const mask as usize;
        request(
            "PTRACE_SETSIGMASK",
            libc::PTRACE_SETSIGMASK as _,
            self.tid,
            8,
            at,
        )?;
        Ok(())
    }

    /// Signals that the kernel holds for the task, without taking them: at most 32 of its own, or
    /// (`shared`) of its process.
    pub fn pending(&self, shared: bool) -> Result<Vec<[u8; 128]>> {
        const MOST: usize = 32;
        let mut infos = vec![[0u8; 128]; MOST];
        // struct ptrace_peeksiginfo_args: u64 offset, u32 flags, i32 count.
        let args = [0, u64::from(shared) | (MOST as u64) << 32];
        let (args, at) = (args.as_ptr() as usize, infos.as_mut_ptr() as usize);
        let got = request(
            "PTRACE_PEEKSIGINFO",
            libc::PTRACE_PEEKSIGINFO as _,
            self.tid,
            args,
            at,
        )?;
        infos.truncate(usize::try_from(got).unwrap_or(0));
        Ok(infos)
    }

    /// The message of a ptrace event: new task's id, exit status, former id.
    pub fn event_message(&self) -> Result<u64> {
        let mut message = 0u64;
        let at = &raw mut message as usize;
        request(
            "PTRACE_GETEVENTMSG",
            libc::PTRACE_GETEVENTMSG,
            self.tid,
            0,
            at,
        )?;
        Ok(message)
    }

    /// Arms Syscall User Dispatch: every call from outside `[start, start + len)` becomes SIGSYS.
    /// Kernel 6.4 and later; include/uapi/linux/ptrace.h, ptrace_sud_config.
    pub fn arm_sud(&self, start: u64, len: u64) -> Result<()> {
        self.sud_config([1, 0, start, len])
    }

    /// Arms Syscall User Dispatch so that the next call ends the process with SIGSEGV: the selector is
    /// not readable (kernel/entry/syscall_user_dispatch.c).
    pub fn break_sud(&self) -> Result<()> {
        self.sud_config([1, 8, 0, 0])
    }

    /// Ends Syscall User Dispatch.
    pub fn disarm_sud(&self) -> Result<()> {
        self.sud_config([0, 0, 0, 0])
    }

    /// mode, selector, offset, len
    fn sud_config(&self, config: [u64; 4]) -> Result<()> {
        let at = config.as_ptr() as usize;
        let size = size_of_val(&config);
        let nr = PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG;
        request(
            "PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG",
            nr,
            self.tid,
            size,
            at,
        )?;
        Ok(())
    }
}
