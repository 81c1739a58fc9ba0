//! What each process does for itself, by injected calls: directories, limits, timers, users; descriptors are
//! a module of their own.

use super::Live;
use super::namespace::CHANNEL;
use crate::replay::*;
use scribe_abi::AGENT_STRINGS;
use scribe_kernel::signal::Disposition;
use scribe_objects::model;
use scribe_tracee::inject::bytes_of;
use std::os::fd::OwnedFd;

/// A call to be injected.
pub(super) type Injected = (i64, [u64; 6]);

pub(super) fn call(nr: i64, args: &[u64]) -> Injected {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    (nr, all)
}

/// Where data for calls lies.
pub(super) const DATA: u64 = AGENT_STRINGS;

impl Replayer {
    /// The task that makes a process's calls.
    pub(super) fn leader(&self, process: &model::Process) -> u32 {
        process.tasks.first().map_or(0, |task| task.task)
    }

    pub(super) fn do_call(&mut self, id: u32, nr: i64, args: &[u64]) -> Result<i64> {
        let task = self.task(id);
        let (tid, app) = (task.tid, task.app);
        let (nr, args) = call(nr, args);
        Ok(self.machine.inject(tid, &app, nr, args)?)
    }

    /// The same, with data that the call reads or writes at [`DATA`].
    pub(super) fn do_call_with(
        &mut self,
        id: u32,
        data: &[u8],
        nr: i64,
        args: &[u64],
    ) -> Result<i64> {
        self.task(id).space.mem.write(DATA, data)?;
        self.do_call(id, nr, args)
    }

    pub(super) fn do_calls(&mut self, id: u32, calls: &[Injected]) -> Result<Vec<i64>> {
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
        self.attach_segments(live, process)?;
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

    fn timers(&mut self, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        for (which, interval, left) in &process.itimers {
            let micros = |time: u64| [time / 1_000_000, time % 1_000_000];
            let data = bytes_of(&[micros(*interval), micros(*left)].concat());
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
            let data = bytes_of(&[nanos(timer.interval), nanos(timer.left)].concat());
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
