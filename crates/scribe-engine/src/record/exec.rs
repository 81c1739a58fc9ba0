//! exec: a new address space gets the agent, and the log gets all that is needed to build the same
//! address space again.

use super::calls::Kind;
use super::*;
use crate::faulting::ARCH_SET_CPUID;
use crate::machine::{InjectedCall, batch_results};
use crate::pin::LONG_TEXT;
use scribe_abi::shared::{SHARED_BASE, SHARED_LEN};
use scribe_abi::{
    AGENT_CODE_LEN, AGENT_END, BOOT_LEN, BOOT_PATH_LEN, BatchCall, ENTRY_BOOT, PAGE, STUBS,
};
use scribe_log::{ExecMap, map_kind};
use scribe_syscalls::{Call, Row};
use scribe_tracee::inject::call_regs;
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
        // As they are at the end of the call, which sets its result only then.
        let mut app = self.machine.stopped(tid)?.regs()?;
        app.rax = 0;
        // __USER32_CS
        if app.cs == 0x23 {
            return Err(RecordError::Foreign(tid));
        }
        let space = AddressSpace::open(tid)?;
        let before = maps::read(tid);
        space.note_vdso(&before);
        // What must trap, traps; what has no meaning at replay is not there.
        let mut calls = traps().to_vec();
        calls.push((libc::SYS_brk, [0; 6]).into());
        for map in before.iter().filter(|map| map.name.starts_with("[vvar")) {
            calls.push((libc::SYS_munmap, [map.start, map.size(), 0, 0, 0, 0]).into());
        }
        let (mapped, results) = install_agent(
            &mut self.machine,
            tid,
            &space.mem,
            &app,
            &before,
            &self.agent_image,
            self.shared.as_deref(),
            &calls,
        )?;
        space.agent.set(mapped);
        self.machine.cpuid_faults = results[0] >= 0;
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
        self.settle_into_new_program(id, space, app, before)
    }

    fn settle_into_new_program(
        &mut self,
        id: u32,
        space: AddressSpace,
        mut app: Regs,
        mappings: Vec<maps::Mapping>,
    ) -> Result<()> {
        app.orig_rax = u64::MAX;
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let old_lane = task.lane;
        task.app = app;
        space.pinned.replace(*task.space.pinned.borrow());
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
        self.write_exec(id, old_lane, lane, &mappings)?;
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
        let text = |map: &&maps::Mapping| map.prot & libc::PROT_EXEC as u32 != 0;
        for map in mappings.iter().filter(text) {
            self.patch_known(id, map.start, map.end, &mappings)?;
        }
        if !self.machine.cpuid_faults {
            let space = self.task(id).space.clone();
            let long = |map: &maps::Mapping| text(&map) && map.size() > LONG_TEXT;
            match space.sites.borrow().answers_cpuid() && !mappings.iter().any(long) {
                true => space.unpin([tid]),
                false => space.pin([tid]),
            }
        }
        self.want_token(id, Ready::Resume);
        Ok(())
    }

    /// Writes the event: mappings, what they hold beside the files' content, registers. `mappings` are those
    /// that exec made.
    fn write_exec(
        &mut self,
        id: u32,
        lane: u32,
        new_lane: u32,
        mappings: &[maps::Mapping],
    ) -> Result<()> {
        let task = self.task(id);
        let (tid, tgid, app, space) = (task.tid, task.tgid, task.app, task.space.clone());
        let pages = pagemap::Pagemap::open(tid);
        let mut described = Vec::new();
        let mut zeroes = Vec::new();
        let mut contents: Vec<(u64, Vec<u8>)> = Vec::new();
        // Of the mappings of a file the last that was opened, and its number.
        let mut last: Option<(u64, u64, Rc<std::fs::File>, u32)> = None;
        for mut map in mappings.iter().cloned() {
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
            let known = last.as_ref();
            let known = known.filter(|last| (last.0, last.1) == (map.dev, map.ino));
            let (opened, file) = match known {
                Some((_, _, file, number)) => (Some(file.clone()), *number),
                None if map.ino == 0 => (None, 0),
                None => match open_mapped(tid, &map).map(Rc::new) {
                    Some(file) => {
                        let number = self.file_id(&file, &map.name);
                        last = Some((map.dev, map.ino, file.clone(), number));
                        (Some(file), number)
                    }
                    None => (None, 0),
                },
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

/// Calls that make trap what must trap: CPUID first, whose result says whether it does.
pub(crate) fn traps() -> [InjectedCall; 2] {
    let (set, segv) = (libc::PR_SET_TSC as u64, libc::PR_TSC_SIGSEGV as u64);
    [
        (libc::SYS_arch_prctl, [ARCH_SET_CPUID, 0, 0, 0, 0, 0]).into(),
        (libc::SYS_prctl, [set, segv, 0, 0, 0, 0]).into(),
    ]
}

/// Calls that map the memory which agents share with the engine: the second tells whether that worked.
/// `path` is where the file's path stands, `first` how many calls come before in the batch.
pub(crate) fn shared_calls(path: u64, first: usize) -> [InjectedCall; 3] {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE,
    );
    let open = [libc::AT_FDCWD as u64, path, libc::O_RDWR as u64, 0, 0, 0];
    let map = [SHARED_BASE, SHARED_LEN, prot as u64, flags as u64, 0, 0];
    [
        (libc::SYS_openat, open).into(),
        InjectedCall::of(libc::SYS_mmap, map, first),
        InjectedCall::of(libc::SYS_close, [0; 6], first),
    ]
}

/// The path by which a traced process opens a file that the engine has open, with its NUL.
pub(crate) fn path_of(file: &std::fs::File) -> String {
    format!("/proc/{}/fd/{}\0", std::process::id(), file.as_raw_fd())
}

/// Maps the agent into an address space without one, and makes more calls there, all in one stop. The task may be
/// stopped anywhere; the caller sets its registers afterwards. The result says whether the memory that is shared with the engine is
/// there, too (if not, all calls of the process come by trap), and what the calls gave.
///
/// The first calls are made from the vDSO's pages, which then become Scribe's own vDSO, whose functions are plain
/// system calls.
#[allow(clippy::too_many_arguments)]
pub(crate) fn install_agent(
    machine: &mut Machine,
    tid: Tid,
    mem: &Mem,
    app: &Regs,
    before: &[maps::Mapping],
    image: &std::fs::File,
    shared: Option<&Shared>,
    more: &[InjectedCall],
) -> Result<(bool, Vec<i64>)> {
    let vdso = before.iter().find(|map| map.name == "[vdso]");
    let entry = vdso.map_or(app.rip & !(PAGE - 1), |map| map.start);
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_EXEC,
        libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE | libc::MAP_ANONYMOUS,
    );
    let stubs = [
        STUBS,
        AGENT_END - STUBS,
        prot as u64,
        flags as u64,
        u64::MAX,
        0,
    ];
    let shared_path = shared.map(|shared| path_of(&shared.file));
    // Behind the code: how many calls, the calls, the path of the shared memory.
    let count = more.len() + if shared.is_some() { 4 } else { 1 };
    let calls_at = BOOT_LEN as usize + 8;
    let path_at = calls_at + count * size_of::<BatchCall>();
    let mut calls: Vec<InjectedCall> = vec![(libc::SYS_mmap, stubs).into()];
    if shared.is_some() {
        calls.extend(shared_calls(entry + path_at as u64, 1));
    }
    let first = calls.len();
    calls.extend_from_slice(more);
    let agent = scribe_agent::image();
    let mut boot = agent[ENTRY_BOOT as usize..][..BOOT_LEN as usize].to_vec();
    let path = path_of(image);
    boot[(BOOT_LEN - BOOT_PATH_LEN) as usize..][..path.len()].copy_from_slice(path.as_bytes());
    boot.extend_from_slice(&(count as u64).to_le_bytes());
    boot.extend(InjectedCall::encode(&calls, &[]));
    boot.extend_from_slice(shared_path.unwrap_or_default().as_bytes());
    let saved = mem.read_vec(entry, boot.len())?;
    mem.write(entry, &boot)?;
    let after = machine.run_agent(tid, &call_regs(app, entry, 0, &[0; 6]))?;
    let results = if (entry..entry + BOOT_LEN).contains(&after.rip) {
        // Where it was about the image, that could not be opened.
        let opening = after.rdi as i64 == i64::from(libc::AT_FDCWD);
        map_copy(
            machine,
            tid,
            mem,
            app,
            entry,
            (!opening).then_some(after.rax),
        )?;
        machine.batch(tid, mem, app, &calls)?
    } else {
        batch_results(mem, calls.len())?
    };
    mem.write(entry, &saved)?;
    if let Some(map) = vdso {
        // One that is too small for ours traps call by call instead of being replaced.
        if let Some(image) = scribe_kernel::vdso::image(map.size() as usize) {
            mem.write(map.start, &image)?;
        }
    }
    let mapped = shared.is_some() && results[2] as u64 == SHARED_BASE;
    Ok((mapped, results[first..].to_vec()))
}

/// The agent's image could not be mapped (no way to it, as in a chroot without /proc): a copy of it is. Calls are made at `entry`;
/// `failed` is the result of a mapping that is not where it should be.
fn map_copy(
    machine: &mut Machine,
    tid: Tid,
    mem: &Mem,
    app: &Regs,
    entry: u64,
    failed: Option<u64>,
) -> Result<()> {
    // syscall; int3
    mem.write(entry, &[0x0f, 0x05, 0xcc])?;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE | libc::MAP_ANONYMOUS;
    let prot = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let args = [AGENT_BASE, AGENT_CODE_LEN, prot, flags as u64, u64::MAX, 0];
    let code = match failed {
        Some(ret) => ret as i64,
        None => machine.inject_at(tid, app, entry, libc::SYS_mmap, args)?,
    };
    if code != AGENT_BASE as i64 {
        return Err(RecordError::Trace(scribe_tracee::Error::Os {
            what: "mapping the agent into the program: its address range is taken",
            source: std::io::Error::from_raw_os_error(-code.max(-4095) as i32),
        }));
    }
    Ok(mem.write(AGENT_BASE, &scribe_agent::image())?)
}
