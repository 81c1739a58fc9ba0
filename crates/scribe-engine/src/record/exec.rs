//! exec: a new address space gets the agent, and the log gets all that is needed to build the same
//! address space again.

use super::calls::Kind;
use super::*;
use scribe_abi::shared::{SHARED_BASE, SHARED_LEN};
use scribe_abi::{AGENT_CODE_LEN, AGENT_DATA, AGENT_END, PAGE, STUBS};
use scribe_log::{ExecMap, map_kind};
use scribe_syscalls::{Call, Row};
use scribe_tracee::{Mem, Stopped, maps, pagemap};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

impl Recorder {
    /// execve, execveat. The other threads go on until the kernel ends them.
    pub(super) fn start_exec(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        if self.is_32_bit(id, &call) {
            self.warn_once("32-bit programs are not supported and are refused with ENOEXEC".into());
            return self.answer(id, row, call, -i64::from(libc::ENOEXEC));
        }
        let pending = self.prepare(id, row, call, Kind::Exec);
        self.launch(id, pending)
    }

    /// Whether the file of an execve call is a 32-bit program. (Of execveat calls and scripts the
    /// event tells.)
    fn is_32_bit(&self, id: u32, call: &Call) -> bool {
        use scribe_syscalls::Memory;
        if i64::from(call.nr) != libc::SYS_execve {
            return false;
        }
        let task = self.task(id);
        let Some(path) = task.space.read_cstr(call.args[0], 4096) else {
            return false;
        };
        let path = String::from_utf8_lossy(&path).into_owned();
        let base = if path.starts_with('/') {
            "root"
        } else {
            "cwd/"
        };
        let mut head = [0; 5];
        std::fs::File::open(format!("/proc/{}/{base}{path}", task.tid))
            .and_then(|file| file.read_exact_at(&mut head, 0))
            .is_ok_and(|()| head == *b"\x7fELF\x01")
    }

    /// The kernel has loaded a new program into `tid`.
    pub(super) fn on_exec(&mut self, tid: Tid) -> Result<()> {
        let former = self.machine.stopped(tid).and_then(Stopped::event_message)? as Tid;
        let Some(&id) = self.by_tid.get(&former) else {
            return Ok(self.machine.go(tid, Go::Agent, 0)?);
        };
        self.pi_ended(id);
        let tgid = self.task(id).tgid;
        // All other threads of the process are gone.
        let gone: Vec<u32> = self
            .tasks
            .values()
            .filter(|task| task.tgid == tgid && task.id != id)
            .map(|task| task.id)
            .collect();
        for other in gone {
            self.ptrace_forget(other, 0)?;
            self.forget(other);
        }
        if former != tid {
            self.by_tid.remove(&former);
            self.by_tid.insert(tid, id);
            self.machine.rename(former, tid);
            let ids = self.read_ids(tid);
            let task = self.task_mut(id);
            (task.tid, task.ids) = (tid, ids);
        }
        self.exec_tracee(id, former);
        self.new_program(id)
    }

    /// Prepares the new address space of a task that stands in its exec event, writes the event,
    /// and lets the program begin.
    pub(super) fn new_program(&mut self, id: u32) -> Result<()> {
        let tid = self.task(id).tid;
        // To the end of the call: only there can all registers be set.
        self.machine.go_with(tid, to_syscall_exit)?;
        loop {
            let event = self.machine.wait_for(tid)?;
            match event.stop {
                Stop::Syscall => break,
                Stop::Event(Event::Exit) | Stop::Exited(_) | Stop::Killed(..) => {
                    self.machine.push_back(event);
                    return Err(scribe_tracee::Error::Gone.into());
                }
                Stop::Signal(signal) => {
                    let info = self.machine.stopped(tid)?.siginfo()?;
                    self.task_mut(id).stash.push(signal as u32, info);
                    self.machine.go_with(tid, to_syscall_exit)?;
                }
                _ => self.machine.go_with(tid, to_syscall_exit)?,
            }
        }
        let app = self.machine.stopped(tid)?.regs()?;
        // __USER32_CS
        if app.cs == 0x23 {
            return Err(RecordError::Foreign(tid));
        }
        let space = AddressSpace::open(tid)?;
        let before = maps::read(tid);
        install_agent(
            &mut self.machine,
            tid,
            &space.mem,
            &app,
            &before,
            &self.agent_image,
        )?;
        if let Some(shared) = &self.shared {
            let mapped = map_shared(&mut self.machine, tid, &space.mem, &app, shared)?;
            space.agent.set(mapped);
        }
        space.note_vdso(&before);
        // What must trap, traps; what has no meaning at replay is not there.
        let mut calls = vec![
            (libc::SYS_arch_prctl, [ARCH_SET_CPUID, 0, 0, 0, 0, 0]),
            (
                libc::SYS_prctl,
                [
                    libc::PR_SET_TSC as u64,
                    libc::PR_TSC_SIGSEGV as u64,
                    0,
                    0,
                    0,
                    0,
                ],
            ),
            (libc::SYS_brk, [0; 6]),
        ];
        for map in before.iter().filter(|map| map.name.starts_with("[vvar")) {
            calls.push((libc::SYS_munmap, [map.start, map.size(), 0, 0, 0, 0]));
        }
        let results = self.machine.batch(tid, &space.mem, &app, &calls)?;
        if results[0] < 0 {
            self.warn_once(
                "this CPU cannot make CPUID trap: the replay needs the same kind of CPU".into(),
            );
        }
        space.brk.set(results[2] as u64);
        let stopped = self.machine.stopped(tid)?;
        if self.machine.sud {
            stopped.arm_sud(AGENT_BASE, AGENT_CODE_LEN)?;
        }
        let files: std::collections::HashSet<u64> = before
            .iter()
            .map(|map| map.ino)
            .filter(|i| *i != 0)
            .collect();
        space.sites.borrow_mut().no_loader = files.len() == 1;
        let text = |map: &&maps::Mapping| map.prot & libc::PROT_EXEC as u32 != 0;
        let texts = before.iter().filter(text).map(|map| (map.start, map.end));
        self.settle_into_new_program(id, space, app, texts.collect())
    }

    fn settle_into_new_program(
        &mut self,
        id: u32,
        space: AddressSpace,
        mut app: Regs,
        texts: Vec<(u64, u64)>,
    ) -> Result<()> {
        app.orig_rax = u64::MAX;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let old_lane = task.lane;
        task.app = app;
        task.space = Rc::new(space);
        task.slot = None;
        task.call = None;
        task.clear_tid = 0;
        task.robust_list = 0;
        task.alt.exec_reset();
        task.fault = Default::default();
        task.rseq = Default::default();
        task.instructions = (true, true);
        // Shared with nobody from now on.
        let mut sighand = task.sighand.borrow().clone();
        sighand.exec_reset();
        task.sighand = Rc::new(RefCell::new(sighand));
        task.files = Rc::default();
        let area = task.area.take();
        let tid = task.tid;
        let stopped = self.machine.stopped(tid)?;
        stopped.set_sigmask(signals::kernel_mask(task.mask))?;
        crate::regs::begin_xstate(stopped)?;
        if let Some(area) = area {
            self.note_counters(&area);
        }
        self.take_strays(id)?;
        // Alone in its memory: a lane of its own, unless it has one already.
        let alone = self.lanes[&old_lane].members.len() == 1;
        let lane = if alone { old_lane } else { self.next_lane };
        self.write_exec(id, old_lane, lane)?;
        if !alone {
            self.next_lane += 1;
            self.release(id, Left::AfterEvent);
            let old = self.lanes.get_mut(&old_lane).expect("the lane exists");
            old.members.remove(&id);
            old.waiting.retain(|other| *other != id);
            self.new_lane(lane, id);
            self.task_mut(id).lane = lane;
            self.lane_changed(old_lane)?;
        }
        self.agent_for(id)?;
        for (start, end) in texts {
            self.patch_known(id, start, end)?;
        }
        self.want_token(id, Ready::Resume);
        Ok(())
    }

    /// Writes the event: mappings, what they hold beside the files' content, registers.
    fn write_exec(&mut self, id: u32, lane: u32, new_lane: u32) -> Result<()> {
        let task = self.task(id);
        let (tid, tgid, app, space) = (task.tid, task.tgid, task.app, task.space.clone());
        let pages = pagemap::Pagemap::open(tid);
        let mut described = Vec::new();
        let mut zeroes = Vec::new();
        let mut contents: Vec<(u64, Vec<u8>)> = Vec::new();
        for mut map in maps::read(tid) {
            if scribe_abi::is_ours(map.start, map.end) || map.start >= 1 << 47 {
                continue;
            }
            let kind = match map.name.as_str() {
                "[stack]" => map_kind::STACK,
                "[vdso]" => map_kind::VDSO,
                "[heap]" => map_kind::HEAP,
                name if name.starts_with("[vvar") => continue,
                _ => map_kind::NORMAL,
            };
            let opened = if map.ino != 0 {
                open_mapped(tid, &map)
            } else {
                None
            };
            let file = match &opened {
                Some(file) => self.file_id(file, &map.name),
                None => 0,
            };
            match kind {
                map_kind::STACK => {
                    let at = app.rsp & !0xf;
                    let len = (map.end - at) as usize;
                    contents.push((at, space.mem.read_vec(at, len)?));
                }
                map_kind::VDSO if self.options.level == 0 => {
                    // Ours, which the replayer can make again; it knows it by this hash.
                    let image = space.mem.read_vec(map.start, map.size() as usize)?;
                    map.offset = xxhash_rust::xxh3::xxh3_64(&image);
                }
                map_kind::VDSO => {
                    contents.push((
                        map.start,
                        space.mem.read_vec(map.start, map.size() as usize)?,
                    ));
                }
                _ if map.ino != 0 && file == 0 => {
                    let mut bytes = vec![0; map.size() as usize];
                    let got = space.mem.read_some(map.start, &mut bytes);
                    bytes.truncate(got);
                    contents.push((map.start, bytes));
                }
                _ => {
                    let mut dirty = Vec::new();
                    pages.for_each(map.start, map.end, |addr, state| {
                        if state == pagemap::Page::Private {
                            dirty.push(addr);
                        }
                    });
                    for addr in dirty {
                        let page = space.mem.read_vec(addr, PAGE as usize)?;
                        let mut was = vec![0; PAGE as usize];
                        if let Some(file) = &opened {
                            let _ = file.read_at(&mut was, map.offset + (addr - map.start));
                        }
                        describe_page(addr, &page, &was, &mut zeroes, &mut contents);
                    }
                }
            }
            described.push((map, kind, file));
        }
        let comm = std::fs::read(format!("/proc/{tid}/comm")).unwrap_or_default();
        let words = crate::regs::words(&app);
        self.stats.events += 1;
        self.log.append(lane, |buf| {
            for (addr, bytes) in contents.iter().filter(|(_, bytes)| bytes.len() > 64 << 10) {
                scribe_log::put_data(buf, *addr, bytes);
            }
            let mut event = scribe_log::begin_exec(buf, id, tid, tgid);
            for (map, kind, file) in &described {
                event.exec_map(&ExecMap {
                    start: map.start,
                    end: map.end,
                    prot: map.prot,
                    flags: if map.shared {
                        libc::MAP_SHARED
                    } else {
                        libc::MAP_PRIVATE
                    } as u32,
                    file: *file,
                    kind: *kind,
                    offset: map.offset,
                    name: if *file == 0 { map.name.as_bytes() } else { b"" },
                });
            }
            for (addr, len) in &zeroes {
                event.zero(*addr, *len);
            }
            for (addr, bytes) in contents.iter().filter(|(_, bytes)| bytes.len() <= 64 << 10) {
                event.out(*addr, bytes);
            }
            event.brk(space.brk.get());
            event.regs(&words);
            event.comm(comm.trim_ascii_end());
            event.lane(new_lane);
            event.finish();
        });
        Ok(())
    }
}

/// One changed page of a fresh mapping: usually the tail behind a file's data, cleared by the
/// kernel (fs/binfmt_elf.c, padzero).
fn describe_page(
    addr: u64,
    page: &[u8],
    was: &[u8],
    zeroes: &mut Vec<(u64, u64)>,
    contents: &mut Vec<(u64, Vec<u8>)>,
) {
    let Some(first) = page.iter().zip(was).position(|(a, b)| a != b) else {
        return;
    };
    let tail = page.len() - page.iter().rev().take_while(|byte| **byte == 0).count();
    if tail <= first {
        zeroes.push((addr + first as u64, (page.len() - first) as u64));
    } else {
        contents.push((addr, page.to_vec()));
    }
}

/// The file behind a mapping, if it can be opened and is still the same.
pub(super) fn open_mapped(tid: Tid, map: &maps::Mapping) -> Option<std::fs::File> {
    let by_address = format!("/proc/{tid}/map_files/{:x}-{:x}", map.start, map.end);
    let by_name = format!("/proc/{tid}/root{}", map.name);
    [by_name, by_address].iter().find_map(|path| {
        let file = std::fs::File::open(path).ok()?;
        (file.metadata().ok()?.ino() == map.ino).then_some(file)
    })
}

/// PTRACE_SYSCALL, to the exit of the call.
fn to_syscall_exit(stopped: Stopped) -> scribe_tracee::Result<scribe_tracee::Running> {
    stopped.cont_to_syscall(0)
}

/// include/uapi/asm/prctl.h (arch/x86).
pub(crate) const ARCH_SET_CPUID: u64 = 0x1012;

/// Maps the memory that agents share with the engine. False: that cannot be done, all calls of this
/// process come by trap.
pub(crate) fn map_shared(
    machine: &mut Machine,
    tid: Tid,
    mem: &Mem,
    base: &Regs,
    shared: &Shared,
) -> scribe_tracee::Result<bool> {
    let fd = machine.pass_fd(tid, mem, base, shared.file.as_raw_fd(), libc::O_RDWR)?;
    if fd < 0 {
        return Ok(false);
    }
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE,
    );
    let args = [
        SHARED_BASE,
        SHARED_LEN,
        prot as u64,
        flags as u64,
        fd as u64,
        0,
    ];
    let at = machine.inject(tid, base, libc::SYS_mmap, args)?;
    machine.inject(tid, base, libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
    Ok(at as u64 == SHARED_BASE)
}

/// Maps the agent into an address space. The first calls are made from the vDSO's pages, which
/// then become Scribe's own vDSO, whose functions are plain system calls.
pub(super) fn install_agent(
    machine: &mut Machine,
    tid: Tid,
    mem: &Mem,
    app: &Regs,
    before: &[maps::Mapping],
    image: &std::fs::File,
) -> Result<()> {
    let vdso = before.iter().find(|map| map.name == "[vdso]");
    let entry = vdso.map_or(app.rip & !0xf, |map| map.start);
    let saved = mem.read_vec(entry, 64)?;
    // syscall; int3; then the path of the agent's image.
    let mut boot = vec![0x0f, 0x05, 0xcc];
    boot.extend_from_slice(
        format!("/proc/{}/fd/{}\0", std::process::id(), image.as_raw_fd()).as_bytes(),
    );
    boot.resize(64, 0);
    mem.write(entry, &boot)?;
    let mut call = |nr: i64, args: [u64; 6]| machine.inject_at(tid, app, entry, nr, args);
    let (read, write, exec) = (
        libc::PROT_READ as u64,
        libc::PROT_WRITE as u64,
        libc::PROT_EXEC as u64,
    );
    let private = (libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE) as u64;
    let anonymous = private | libc::MAP_ANONYMOUS as u64;
    let open = [
        libc::AT_FDCWD as u64,
        entry + 3,
        (libc::O_RDONLY | libc::O_CLOEXEC) as u64,
        0,
        0,
        0,
    ];
    let fd = call(libc::SYS_openat, open)?;
    let code = if fd >= 0 {
        let args = [
            AGENT_BASE,
            AGENT_CODE_LEN,
            read | exec,
            private,
            fd as u64,
            0,
        ];
        let at = call(libc::SYS_mmap, args)?;
        call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0])?;
        at
    } else {
        // No way to the image (chroot without /proc): a copy.
        let args = [
            AGENT_BASE,
            AGENT_CODE_LEN,
            read | exec,
            anonymous,
            u64::MAX,
            0,
        ];
        let at = call(libc::SYS_mmap, args)?;
        if at == AGENT_BASE as i64 {
            mem.write(AGENT_BASE, &scribe_agent::image())?;
        }
        at
    };
    // The data of agent and process, and behind it the room for stubs.
    let args = [
        AGENT_DATA,
        STUBS - AGENT_DATA,
        read | write,
        anonymous,
        u64::MAX,
        0,
    ];
    let data = call(libc::SYS_mmap, args)?;
    let args = [
        STUBS,
        AGENT_END - STUBS,
        read | exec,
        anonymous,
        u64::MAX,
        0,
    ];
    call(libc::SYS_mmap, args)?;
    mem.write(entry, &saved)?;
    if code != AGENT_BASE as i64 || data != AGENT_DATA as i64 {
        return Err(RecordError::Trace(scribe_tracee::Error::Os {
            what: "mapping the agent into the program: its address range is taken",
            source: std::io::Error::from_raw_os_error(-code.min(data).max(-4095) as i32),
        }));
    }
    if let Some(map) = vdso {
        // One that is too small for ours traps call by call instead of being replaced.
        if let Some(image) = scribe_kernel::vdso::image(map.size() as usize) {
            mem.write(map.start, &image)?;
        }
    }
    Ok(())
}
