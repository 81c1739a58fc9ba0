//! What each process does for itself, by injected calls: descriptors, directories, limits, timers.

use super::namespace::CHANNEL;
use super::{Live, cannot, raw};
use crate::leave::{Leaving, Waiting, again};
use crate::replay::*;
use scribe_abi::AGENT_STRINGS;
use scribe_kernel::signal::Disposition;
use scribe_objects::model::{self, Kind};
use scribe_tracee::{Rseq, maps};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A call to be injected.
type Injected = (i64, [u64; 6]);

fn call(nr: i64, args: &[u64]) -> Injected {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    (nr, all)
}

/// Where data for calls lies.
const DATA: u64 = AGENT_STRINGS;

impl Replayer {
    /// The task that makes a process's calls.
    fn leader(&self, process: &model::Process) -> u32 {
        process.tasks.first().map_or(0, |task| task.task)
    }

    fn do_call(&mut self, id: u32, nr: i64, args: &[u64]) -> Result<i64> {
        let task = self.task(id);
        let (tid, app) = (task.tid, task.app);
        let (nr, args) = call(nr, args);
        Ok(self.machine.inject(tid, &app, nr, args)?)
    }

    /// The same, with data that the call reads or writes at [`DATA`].
    fn do_call_with(&mut self, id: u32, data: &[u8], nr: i64, args: &[u64]) -> Result<i64> {
        self.task(id).space.mem.write(DATA, data)?;
        self.do_call(id, nr, args)
    }

    fn do_calls(&mut self, id: u32, calls: &[Injected]) -> Result<Vec<i64>> {
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        Ok(self.machine.batch(tid, &space.mem, &app, calls)?)
    }

    /// Gives a process all that is its own.
    pub(super) fn rebuild(
        &mut self,
        live: &Live,
        process: &model::Process,
        made: &[Option<OwnedFd>],
        maps: &HashMap<(usize, bool), OwnedFd>,
    ) -> Result<()> {
        let id = self.leader(process);
        self.forget_signals(id)?;
        self.reap(id, process)?;
        for map in &process.shared {
            let writes = map.prot & libc::PROT_WRITE as u32 != 0;
            let Some(file) = maps.get(&(map.file, writes)) else {
                continue;
            };
            let fd = self.take(live, id, file)?;
            let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
            let args = [
                map.start,
                map.end - map.start,
                map.prot.into(),
                flags,
                fd as u64,
                map.offset,
            ];
            self.do_call(id, libc::SYS_mmap, &args)?;
            self.do_call(id, libc::SYS_close, &[fd as u64])?;
        }
        self.descriptors(live, process, made)?;
        self.limits(process)?;
        let mut path = process.cwd.clone().into_bytes();
        path.push(0);
        if self.do_call_with(id, &path, libc::SYS_chdir, &[DATA])? < 0 {
            (self.options.warn)(&format!(
                "{}: not there any more; it was a current directory",
                process.cwd
            ));
        }
        self.do_call(id, libc::SYS_umask, &[process.umask.into()])?;
        self.locks(live, process)?;
        self.timers(process)?;
        for task in &process.tasks {
            let mut name = task.comm.clone().into_bytes();
            name.push(0);
            self.task(task.task).space.mem.write(DATA, &name)?;
            /// sizeof(struct robust_list_head).
            const HEAD: u64 = 24;
            let mut calls = vec![call(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, DATA])];
            if task.clear_tid != 0 {
                calls.push(call(libc::SYS_set_tid_address, &[task.clear_tid]));
            }
            if task.robust_list != 0 {
                calls.push(call(libc::SYS_set_robust_list, &[task.robust_list, HEAD]));
            }
            self.do_calls(task.task, &calls)?;
        }
        // Unless the program has something else there.
        if !process.fds.iter().any(|fd| fd.fd == CHANNEL) {
            if let Ok(exe) = std::fs::File::open(&process.exe) {
                let fd = self.take(live, id, &exe.into())?;
                self.exes.insert(id, fd);
            }
            self.do_call(id, libc::SYS_close, &[CHANNEL as u64])?;
        }
        self.credentials(process)
    }

    /// Signals that came up during the replay (of children that ended, of timers that we set) are none of the
    /// program's: to ignore them drops them.
    fn forget_signals(&mut self, id: u32) -> Result<()> {
        let ignore = Disposition {
            handler: libc::SIG_IGN as u64,
            ..Disposition::default()
        };
        let both = [ignore.to_bytes(), Disposition::default().to_bytes()].concat();
        self.task(id).space.mem.write(DATA, &both)?;
        let mut calls = Vec::new();
        for signal in [
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGPIPE,
            libc::SIGHUP,
            libc::SIGWINCH,
        ] {
            for half in [0, 32] {
                calls.push(call(
                    libc::SYS_rt_sigaction,
                    &[signal as u64, DATA + half, 0, 8],
                ));
            }
        }
        self.do_calls(id, &calls)?;
        let tid = self.task(id).tid;
        self.machine.take_strays(tid);
        Ok(())
    }

    /// Children whose end was seen by the program go; the others stay for it.
    fn reap(&mut self, id: u32, process: &model::Process) -> Result<()> {
        for pid in scribe_objects::take::zombies(self.task(id).tgid) {
            if !process.ended.iter().any(|(ended, _)| *ended == pid) {
                let how = libc::WNOHANG | libc::__WALL;
                self.do_call(id, libc::SYS_wait4, &[pid as u64, 0, how as u64, 0])?;
            }
        }
        Ok(())
    }

    /// Takes a descriptor of ours into a process; its number there.
    fn take(&mut self, live: &Live, id: u32, fd: &OwnedFd) -> Result<i32> {
        send(&live.namespace.channel, raw(fd)).map_err(|error| ReplayError::Setup {
            what: "handing a descriptor to the program".into(),
            error,
        })?;
        // struct msghdr (56 bytes), struct iovec (16), a byte, room for one descriptor (24).
        let (part, byte, control) = (DATA + 56, DATA + 72, DATA + 80);
        let words = [0, 0, part, 1, control, 24, 0, byte, 1, 0];
        let mut data: Vec<u8> = words
            .iter()
            .flat_map(|word: &u64| word.to_le_bytes())
            .collect();
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

    fn descriptors(
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

    fn limits(&mut self, process: &model::Process) -> Result<()> {
        let tgid = self.task(self.leader(process)).tgid;
        for (resource, (soft, hard)) in process.limits.iter().enumerate() {
            let limit = libc::rlimit {
                rlim_cur: *soft,
                rlim_max: *hard,
            };
            // SAFETY: a valid structure. Where the right is missing to raise one, it stays.
            unsafe { libc::prlimit(tgid, resource as u32, &limit, std::ptr::null_mut()) };
        }
        Ok(())
    }

    fn locks(&mut self, live: &Live, process: &model::Process) -> Result<()> {
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
                let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let set = match lock.kind.as_str() {
                    "POSIX" => libc::F_SETLK,
                    _ => libc::F_OFD_SETLK,
                };
                self.do_call_with(id, &data, libc::SYS_fcntl, &[number, set as u64, DATA])?;
            }
        }
        Ok(())
    }

    fn timers(&mut self, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        let words = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        for (which, interval, left) in &process.itimers {
            let micros = |time: u64| [time / 1_000_000, time % 1_000_000];
            let data = words(&[micros(*interval), micros(*left)].concat());
            self.do_call_with(
                id,
                &data,
                libc::SYS_setitimer,
                &[u64::from(*which), DATA, 0],
            )?;
        }
        for timer in &process.timers {
            // struct sigevent: value, signal, how, thread.
            let mut data = timer.value.to_le_bytes().to_vec();
            for number in [timer.signal, timer.notify, timer.tid] {
                data.extend_from_slice(&number.to_le_bytes());
            }
            data.resize(64, 0);
            let room = DATA + 64;
            let mut found = -1;
            // Numbers go up.
            while found < timer.id {
                let args = [timer.clock as u64, DATA, room];
                if self.do_call_with(id, &data, libc::SYS_timer_create, &args)? < 0 {
                    break;
                }
                let mut number = [0; 4];
                self.task(id).space.mem.read(room, &mut number)?;
                found = i32::from_le_bytes(number);
                if found < timer.id {
                    self.do_call(id, libc::SYS_timer_delete, &[found as u64])?;
                }
            }
            if found != timer.id {
                (self.options.warn)(&format!(
                    "timer {} of process {} is lost",
                    timer.id, process.pid
                ));
                continue;
            }
            let nanos = |time: u64| [time / 1_000_000_000, time % 1_000_000_000];
            let data = words(&[nanos(timer.interval), nanos(timer.left)].concat());
            self.do_call_with(
                id,
                &data,
                libc::SYS_timer_settime,
                &[timer.id as u64, 0, DATA, 0],
            )?;
        }
        Ok(())
    }

    /// Users and groups; an ordinary user has no others than the replay.
    fn credentials(&mut self, process: &model::Process) -> Result<()> {
        // SAFETY: no arguments.
        let own = unsafe { libc::geteuid() };
        if own != 0 {
            // What it was allowed in the replay's user namespace (capset(2)): no rights at all.
            let mut data = 0x2008_0522u32.to_le_bytes().to_vec();
            data.resize(8 + 24, 0);
            for task in &process.tasks {
                self.do_call_with(task.task, &data, libc::SYS_capset, &[DATA, DATA + 8])?;
            }
        }
        let ([real, effective, saved, _], [group, egroup, sgroup, _]) =
            (&process.uids[..], &process.gids[..])
        else {
            return Ok(());
        };
        if own != 0 || [*real, *effective, *saved, *group] == [0; 4] {
            return Ok(());
        }
        let number = |id: &u32| u64::from(*id);
        let groups: Vec<u8> = process
            .groups
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        for task in &process.tasks {
            self.task(task.task).space.mem.write(DATA, &groups)?;
            let calls = [
                call(libc::SYS_setgroups, &[process.groups.len() as u64, DATA]),
                call(
                    libc::SYS_setresgid,
                    &[number(group), number(egroup), number(sgroup)],
                ),
                call(
                    libc::SYS_setresuid,
                    &[number(real), number(effective), number(saved)],
                ),
            ];
            self.do_calls(task.task, &calls)?;
        }
        Ok(())
    }

    /// Gives the kernel what the engine kept for the tasks of a process.
    pub(super) fn give_tasks_back(&mut self, process: &model::Process) -> Result<()> {
        for (i, described) in process.tasks.iter().enumerate() {
            let id = described.task;
            let task = self.task(id);
            let (tid, app, space) = (task.tid, task.app, task.space.clone());
            if let State::Arrived(Sync::Call(call)) = task.state {
                let (call, since) = ((call.nr, call.args), Duration::from_nanos(described.waited));
                // It is found waiting when it is let go.
                match self.machine.wait_in_place(tid, &app, &space, call, since)? {
                    Waiting::Continues => self.task_mut(id).recorded_tid = CONTINUES,
                    Waiting::Over(ret) => {
                        let task = self.task_mut(id);
                        task.app.rax = ret as u64;
                        task.state = State::Idle;
                    }
                    Waiting::Anew | Waiting::Untouched => {}
                }
            }
            let info = |bytes: &[u8]| -> [u8; 128] {
                let mut info = [0; 128];
                let len = bytes.len().min(128);
                info[..len].copy_from_slice(&bytes[..len]);
                info
            };
            let task = &self.tasks[&id];
            let actions = task.sighand.borrow();
            let (address, size, signature) = described.rseq;
            self.machine.give_back(Leaving {
                tid,
                app: task.app,
                space: &space,
                alt: task.alt,
                instructions: task.instructions,
                rseq: Rseq {
                    address,
                    size,
                    signature,
                },
                pending: described
                    .pending
                    .iter()
                    .map(|(signo, bytes)| (*signo, info(bytes)))
                    .collect(),
                actions: (i == 0).then_some(&*actions),
            })?;
        }
        Ok(())
    }

    /// The recording's vDSO, whose functions the program has looked up, comes into a mapping that the kernel
    /// knows as its own; the data that the kernel's functions use are not needed.
    fn name_vdso(&mut self, id: u32, start: u64) -> Result<()> {
        let task = self.task(id);
        let (tid, space) = (task.tid, task.space.clone());
        let there = maps::read(tid).into_iter().find(|map| map.start == start);
        let Some(there) = there else {
            return Ok(());
        };
        space.vdso.set((there.start, there.end));
        let image = space.mem.read_vec(start, there.size() as usize)?;
        self.do_call(
            id,
            libc::SYS_arch_prctl,
            &[crate::leave::ARCH_MAP_VDSO_64, 0],
        )?;
        let maps = maps::read(tid);
        let found = maps.iter().find(|map| map.name == "[vdso]");
        let Some(found) = found.filter(|map| map.start != start) else {
            return Ok(());
        };
        let fits = found.size() == there.size();
        for map in maps
            .iter()
            .filter(|map| map.name.starts_with("[vvar") || !fits && *map == found)
        {
            self.do_call(id, libc::SYS_munmap, &[map.start, map.size()])?;
        }
        if fits {
            let size = found.size();
            let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            self.do_call(id, libc::SYS_mremap, &[found.start, size, size, how, start])?;
            space.mem.write(start, &image)?;
        }
        Ok(())
    }

    /// Takes what is Scribe's out of a process, and tells the kernel what it is.
    pub(super) fn clear(&mut self, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        /// AT_SYSINFO_EHDR (getauxval(3)).
        const VDSO: u64 = 33;
        let mut pairs = process.auxv.chunks_exact(2);
        if let Some([_, start]) = pairs.find(|pair| pair[0] == VDSO) {
            self.name_vdso(id, *start)?;
        }
        space.vvar_gap.set(None);
        let own: Vec<Tid> = process
            .tasks
            .iter()
            .map(|task| self.task(task.task).tid)
            .collect();
        space.unpin(own);
        let mut exe = None;
        if process.mm.len() == 11 {
            /// More than AT_VECTOR_SIZE the kernel does not take (arch/x86/include/asm/elf.h).
            const MOST: usize = 46;
            let auxv = &process.auxv[..process.auxv.len().min(MOST)];
            let mut map: Vec<u8> = process
                .mm
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            map.extend_from_slice(&[0; 8]);
            map.extend_from_slice(&(size_of_val(auxv) as u32).to_le_bytes());
            map.extend_from_slice(&[0; 4]);
            map.extend(auxv.iter().flat_map(|word| word.to_le_bytes()));
            exe = Some((self.exes.remove(&id).unwrap_or(-1), map));
        }
        Ok(self.machine.clear_space(tid, &app, &space, exe)?)
    }

    /// Gives a task its own registers.
    pub(super) fn stand_ready(&mut self, described: &model::Task) -> Result<()> {
        let task = self.task(described.task);
        let mut regs = task.app;
        regs.orig_rax = u64::MAX;
        if let State::Arrived(Sync::Call(_)) = task.state {
            let broken = match task.recorded_tid {
                CONTINUES => crate::record::interrupt::ERESTART_RESTARTBLOCK,
                _ => 0,
            };
            regs = again(regs, broken);
        }
        let (tid, mask) = (task.tid, task.mask);
        self.machine.stand_ready(tid, &regs, mask)?;
        self.machine.stopped(tid)?.spare()?;
        Ok(())
    }

    /// Lets a task go.
    pub(super) fn set_free(&mut self, described: &model::Task) -> Result<()> {
        let tid = self.task(described.task).tid;
        Ok(self.machine.let_go(tid)?)
    }

    /// What a replay that turns live does besides answering: the process is where it was.
    pub(in crate::replay) fn repeat_for_live(
        &mut self,
        id: u32,
        nr: u32,
        args: &[u64; 6],
    ) -> Result<()> {
        let subreaper = libc::PR_SET_CHILD_SUBREAPER as u64;
        let wanted = match i64::from(nr) {
            libc::SYS_setsid | libc::SYS_setpgid => true,
            libc::SYS_prctl => args[0] == subreaper,
            _ => false,
        };
        if wanted {
            self.inject(id, nr.into(), *args)?;
        }
        Ok(())
    }
}

/// In place of a thread id that is not needed any more: the kernel goes on with the task's call.
const CONTINUES: i32 = -1;

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

/// Sends a descriptor (unix(7), SCM_RIGHTS).
fn send(channel: &OwnedFd, fd: i32) -> std::io::Result<()> {
    let mut byte = [0u8];
    let mut control = [0u64; 3];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all it points to outlives the call; the control message has room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let head = libc::CMSG_FIRSTHDR(&message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(head).cast(), fd);
        if libc::sendmsg(raw(channel), &message, libc::MSG_NOSIGNAL) < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
