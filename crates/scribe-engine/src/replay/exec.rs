//! Address spaces at replay: an empty one, made by executing the agent's image, in which each
//! recorded mapping is put at its place.

use super::*;
use crate::agent::BRK;
use crate::cpu::HIDES_STATE_SIZE;
use crate::machine::InjectedCall;
use crate::pin::LONG_TEXT;
use crate::record::exec::{path_of, shared_calls, traps};
use crate::record::memory::MAP_BACKED;
use scribe_abi::{AGENT_CODE_LEN, AGENT_DATA, AGENT_STRINGS, PAGE};
use scribe_log::{Exec, ExecMap, map_kind};
use scribe_tracee::{Mem, maps};
use std::ffi::CString;
use std::os::fd::AsRawFd;

impl Replayer {
    /// Reads the head of the log and makes the first process.
    pub fn start(log: LogReader, mut options: ReplayOptions) -> Result<Replayer> {
        crate::limits::raise();
        let failed = |error: scribe_log::LogError| ReplayError::Log(error.to_string());
        let mut meta = log.lane(scribe_log::META);
        let mut cpuid = Cpuid::default();
        let mut roots = Vec::new();
        let mut hides = false;
        match meta.next().map_err(failed)? {
            Some(Record::Start(start)) => {
                for section in &start.sections {
                    match section {
                        Section::Cpuid(table) => {
                            let leaves = table
                                .iter()
                                .map(|e| [e.leaf, e.subleaf, e.eax, e.ebx, e.ecx, e.edx]);
                            cpuid = Cpuid::from_leaves(leaves.collect());
                        }
                        Section::Flags(flags) => hides = flags & HIDES_STATE_SIZE != 0,
                        Section::Root {
                            task,
                            tid,
                            pid,
                            lane,
                        } => roots.push((task, tid, pid, lane)),
                        _ => {}
                    }
                }
            }
            _ => return Err(ReplayError::Log("it has no beginning".into())),
        }
        if hides {
            cpuid.hide_state_size();
        }
        if roots.is_empty() {
            return Err(ReplayError::Log("it does not name its first task".into()));
        }
        if let Some(missing) = cpuid.missing_here() {
            return Err(ReplayError::Cpu(missing));
        }
        let xstate =
            scribe_kernel::xstate::XstateLayout::from_cpuid(|leaf, sub| cpuid.answer(leaf, sub));
        let agent_image = crate::record::agent_file().map_err(|error| ReplayError::Setup {
            what: "creating the agent's image".into(),
            error,
        })?;
        // Behind the agent's image: the namespace's first process hands it on.
        let live = match options.live.take() {
            Some(how) => Some(live::Live::prepare(log.again(), how)?),
            None => None,
        };
        if let Some(live) = &live {
            options.to = Some(live.bookmark);
        }
        let sud = !options.no_sud && crate::record::sud_available();
        let shared = if options.no_agent || !sud {
            None
        } else {
            Shared::new(0, 0).ok()
        };
        if let Some(shared) = &shared {
            shared.set_cpuid(&cpuid.shown());
        }
        let files = ReplayFiles::new(&log, shared.clone());
        let mut replayer = Replayer {
            machine: Machine::new(sud),
            log,
            options,
            tasks: HashMap::new(),
            by_tid: HashMap::new(),
            gone: HashSet::new(),
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            early: Vec::new(),
            cpuid,
            xstate,
            agent_image,
            shared,
            files,
            backing: HashMap::new(),
            root: 0,
            outcome: None,
            held: BTreeMap::new(),
            shown: 0,
            stats: ReplayStats::default(),
            cut: false,
            bookmarks: Default::default(),
            live,
            exes: HashMap::new(),
        };
        for (task, tid, pid, lane) in roots {
            if !replayer.lanes.contains_key(&lane) {
                replayer.add_lane(lane, task);
            }
            replayer.first_task(task, tid, pid, lane)?;
        }
        Ok(replayer)
    }

    fn first_task(&mut self, id: u32, recorded_tid: i32, pid: i32, lane: u32) -> Result<()> {
        let tid = match &self.live {
            Some(live) => {
                let tid = live.namespace.process(pid, self.agent_image.as_raw_fd())?;
                let seized = scribe_tracee::seize(tid);
                live.namespace.open()?;
                self.machine.add(seized?);
                tid
            }
            None => self.first_process()?,
        };
        self.begin_process(id, tid, (recorded_tid, pid, lane))
    }

    /// A process of the replay, which is about to execute the agent's image.
    fn first_process(&mut self) -> Result<Tid> {
        let setup = |error| ReplayError::Setup {
            what: "starting the replay".into(),
            error,
        };
        let path = CString::new(format!("/proc/self/fd/{}", self.agent_image.as_raw_fd()))
            .expect("no NUL in it");
        let argv = [path.as_ptr(), std::ptr::null()];
        let mut fds = [0; 2];
        // SAFETY: between fork and exec the child makes async-signal-safe calls only.
        let tid = unsafe {
            if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
                return Err(setup(std::io::Error::last_os_error()));
            }
            let tid = libc::fork();
            if tid < 0 {
                return Err(setup(std::io::Error::last_os_error()));
            }
            if tid == 0 {
                libc::close(fds[1]);
                let mut byte = 0u8;
                libc::read(fds[0], (&raw mut byte).cast(), 1);
                // A replay must not dump core where the recording did not.
                let none = libc::rlimit {
                    rlim_cur: 0,
                    rlim_max: 0,
                };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                libc::execve(argv[0], argv.as_ptr(), argv[1..].as_ptr());
                libc::_exit(127);
            }
            libc::close(fds[0]);
            tid
        };
        let seized = scribe_tracee::seize(tid);
        // SAFETY: our own descriptor.
        unsafe { libc::close(fds[1]) };
        self.machine.add(seized?);
        Ok(tid)
    }

    /// Waits until it has done that.
    fn begin_process(
        &mut self,
        id: u32,
        tid: Tid,
        (recorded_tid, pid, lane): (i32, i32, u32),
    ) -> Result<()> {
        let setup = |error| ReplayError::Setup {
            what: "starting the replay".into(),
            error,
        };
        loop {
            let event = self.machine.wait_for(tid)?;
            match event.stop {
                Stop::Event(Event::Exec) => break,
                Stop::Exited(_) | Stop::Killed(..) => {
                    return Err(setup(std::io::Error::other(
                        "the agent's image cannot be executed",
                    )));
                }
                _ => self.machine.go(tid, Go::Agent, 0)?,
            }
        }
        if self.root == 0 {
            self.root = tid;
        }
        let task = Task {
            id,
            tid,
            tgid: tid,
            pid,
            recorded_tid,
            lane,
            state: State::Execing,
            // SAFETY: plain integers.
            app: unsafe { std::mem::zeroed() },
            mask: 0,
            alt: AltStack::initial(),
            sighand: Rc::default(),
            space: Rc::new(AddressSpace::open(tid)?),
            fault: FaultInfo::default(),
            instructions: (true, true),
            temporary: None,
            stepping: false,
            search: None,
            area: None,
            history: VecDeque::new(),
        };
        self.tasks.insert(id, Box::new(task));
        self.by_tid.insert(tid, id);
        self.build(id)
    }

    /// The task's exec call succeeds: a new address space first, what is in it when the kernel
    /// reports it.
    pub(super) fn begin_exec(&mut self, id: u32, sync: Sync) -> Result<()> {
        let expected = [libc::SYS_execve as u32, libc::SYS_execveat as u32];
        match sync {
            Sync::Call(call) if expected.contains(&call.nr) => {}
            _ => return Err(self.diverged(id, Reason::OtherRecord(sync.into()))),
        }
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.state = State::Execing;
        // Not the recorded ids: namespaces have the same for several.
        let (tid, tgid) = (task.tid, task.tgid);
        let path = format!(
            "/proc/{}/fd/{}\0",
            std::process::id(),
            self.agent_image.as_raw_fd()
        );
        let mem = &task.space.mem;
        mem.write(AGENT_STRINGS, path.as_bytes())?;
        let mut vectors = AGENT_STRINGS.to_le_bytes().to_vec();
        vectors.extend_from_slice(&[0; 16]);
        mem.write(AGENT_DATA, &vectors)?;
        let args = [AGENT_STRINGS, AGENT_DATA, AGENT_DATA + 8, 0, 0, 0];
        let regs = call_regs(
            &task.app,
            AGENT_BASE + ENTRY_SYSCALL,
            libc::SYS_execve as u64,
            &args,
        );
        // The other threads end with the exec; the log has no word about them.
        let others = self.ids_of(|task| task.tgid == tgid && task.id != id);
        for other in others {
            if let Some(task) = self.tasks.remove(&other) {
                self.gone.insert(other);
                self.by_tid.remove(&task.tid);
            }
        }
        self.machine.stopped(tid)?.set_regs(&regs)?;
        self.machine.go(tid, Go::Agent, 0)?;
        Ok(())
    }

    pub(super) fn on_exec(&mut self, tid: Tid) -> Result<()> {
        let former = self.machine.stopped(tid)?.event_message()? as Tid;
        let Some(&id) = self.by_tid.get(&former) else {
            return Ok(self.machine.go(tid, Go::Agent, 0)?);
        };
        if former != tid {
            self.by_tid.remove(&former);
            self.by_tid.insert(tid, id);
            self.machine.rename(former, tid);
            self.task_mut(id).tid = tid;
        }
        self.build(id)
    }

    /// Builds the address space of the exec record at the head of the task's lane.
    fn build(&mut self, id: u32) -> Result<()> {
        let lane = self.task(id).lane;
        while self.fetch(lane)? {
            let state = self.lanes.get_mut(&lane).expect("the lane exists");
            let head = state.head.clone().expect("fetched");
            let (record, _) =
                Record::decode(&head).map_err(|error| ReplayError::Log(error.to_string()))?;
            match record {
                Record::Data { addr, bytes } => {
                    state.data.push((addr, bytes.to_vec()));
                    state.take();
                }
                Record::Exec(exec) => {
                    self.consume(lane);
                    return self.fill(id, &exec);
                }
                Record::Snapshot(found) => {
                    self.consume(lane);
                    self.fill(id, &found)?;
                    self.task(id).space.unknown_code.set(true);
                    return self.continue_from(id, &found);
                }
                _ => break,
            }
        }
        Err(ReplayError::Log(
            "it does not hold the program's beginning".into(),
        ))
    }

    fn fill(&mut self, id: u32, exec: &Exec) -> Result<()> {
        let tid = self.task(id).tid;
        let stopped = self.machine.stopped(tid)?;
        let base = stopped.regs()?;
        crate::regs::begin_xstate(stopped)?;
        let space = AddressSpace::open(tid)?;
        let mut calls = traps().to_vec();
        for map in maps::read(tid) {
            if !scribe_abi::is_ours(map.start, map.end) && map.start < 1 << 47 {
                calls.push((libc::SYS_munmap, [map.start, map.size(), 0, 0, 0, 0]).into());
            }
        }
        let space = Rc::new(space);
        let task = self.tasks.get_mut(&id).expect("the task exists");
        space.pinned.replace(*task.space.pinned.borrow());
        (task.space, task.app) = (space.clone(), base);
        let maps: Vec<ExecMap> = exec
            .sections
            .iter()
            .filter_map(|section| match section {
                Section::ExecMap(map) if map.flags & MAP_BACKED == 0 => Some(map),
                _ => None,
            })
            .collect();
        let mut rest = &maps[..];
        while !rest.is_empty() || !calls.is_empty() {
            rest = self.map_some(id, std::mem::take(&mut calls), rest)?;
        }
        self.machine.take_strays(tid);
        self.write_contents(id, &space.mem, exec)?;
        let stopped = self.machine.stopped(tid)?;
        if self.machine.sud {
            stopped.arm_sud(AGENT_BASE, AGENT_CODE_LEN)?;
        }
        let lane = exec.sections.lane().unwrap_or(self.task(id).lane);
        let regs = exec
            .sections
            .regs()
            .ok_or_else(|| ReplayError::Log("an exec event does not hold the registers".into()))?;
        for section in &exec.sections {
            if let Section::Brk(brk) = section {
                space.mem.write(BRK, &brk.to_le_bytes())?;
            }
        }
        if !self.machine.cpuid_faults {
            let long = |map: &&ExecMap| {
                map.prot & libc::PROT_EXEC as u32 != 0 && map.end - map.start > LONG_TEXT
            };
            space.unknown_code.set(maps.iter().any(|map| long(&map)));
            // Until it is seen that its loader's CPUIDs are patched.
            space.pin([tid]);
        }
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let old_lane = task.lane;
        task.app = crate::regs::from_words(&regs);
        task.alt.exec_reset();
        let mut sighand = task.sighand.borrow().clone();
        sighand.exec_reset();
        task.sighand = Rc::new(RefCell::new(sighand));
        task.fault = FaultInfo::default();
        task.instructions = (true, true);
        task.recorded_tid = exec.tid;
        task.lane = lane;
        task.state = State::Idle;
        if lane != old_lane && !self.lanes.contains_key(&lane) {
            self.add_lane(lane, id);
        }
        self.agent_for(id)?;
        self.ready.push_back(old_lane);
        self.ready.push_back(lane);
        Ok(())
    }

    /// Makes the first of these mappings, as many as there is room for the names of their files; the
    /// others are left. `calls` come before, the first of which makes CPUID fault; the memory that agents share with
    /// the engine comes last. Files are opened by the task itself, through the replayer's descriptors.
    fn map_some<'m>(
        &mut self,
        id: u32,
        mut calls: Vec<InjectedCall>,
        maps: &'m [ExecMap<'m>],
    ) -> Result<&'m [ExecMap<'m>]> {
        /// Paths lie in the last page of the agent's data, the shared memory's behind those of files.
        const PATH: usize = 32;
        let task = self.task(id);
        let (tid, base, space) = (task.tid, task.app, task.space.clone());
        let mut wanted: Vec<u32> = Vec::new();
        let mut count = 0;
        for map in maps {
            if map.file != 0 && !wanted.contains(&map.file) {
                if wanted.len() == PAGE as usize / PATH - 1 {
                    break;
                }
                wanted.push(map.file);
            }
            count += 1;
        }
        let (maps, rest) = maps.split_at(count);
        let (traps, first_open) = (!calls.is_empty(), calls.len());
        let mut paths = vec![0; (wanted.len() + 1) * PATH];
        for (i, file) in wanted.iter().enumerate() {
            let path = path_of(&*self.files.get(*file)?);
            paths[i * PATH..][..path.len()].copy_from_slice(path.as_bytes());
            let at = AGENT_STRINGS + (i * PATH) as u64;
            calls.push((libc::SYS_openat, [libc::AT_FDCWD as u64, at, 0, 0, 0, 0]).into());
        }
        for map in maps {
            let mut flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
            let (mut of, mut offset) = (None, 0);
            match wanted.iter().position(|file| *file == map.file) {
                Some(at) => (of, offset) = (Some(first_open + at), map.offset),
                None => flags |= libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            }
            if map.kind == map_kind::STACK {
                flags |= libc::MAP_GROWSDOWN | libc::MAP_STACK;
            }
            let len = map.end.saturating_sub(map.start);
            let (prot, flags, none) = (map.prot.into(), flags as u64, u64::MAX);
            let args = [map.start, len, prot, flags, none, offset];
            let nr = libc::SYS_mmap;
            calls.push(InjectedCall { nr, args, of });
        }
        for (i, _) in wanted.iter().enumerate() {
            calls.push(InjectedCall::of(libc::SYS_close, [0; 6], first_open + i));
        }
        let mapped = calls.len();
        if let Some(shared) = self.shared.as_ref().filter(|_| rest.is_empty()) {
            let path = path_of(&shared.file);
            paths[wanted.len() * PATH..][..path.len()].copy_from_slice(path.as_bytes());
            let at = AGENT_STRINGS + (wanted.len() * PATH) as u64;
            calls.extend(shared_calls(at, calls.len()));
        }
        space.mem.write(AGENT_STRINGS, &paths)?;
        let results = self.machine.batch(tid, &space.mem, &base, &calls)?;
        paths.fill(0);
        space.mem.write(AGENT_STRINGS, &paths)?;
        if traps {
            self.machine.cpuid_faults = results[0] >= 0;
        }
        for (call, got) in calls[..mapped].iter().zip(&results) {
            if call.nr == libc::SYS_mmap && *got as u64 != call.args[0] {
                let error = std::io::Error::from_raw_os_error(-got.max(&-4095) as i32);
                let what = format!("mapping the recorded address {:#x}", call.args[0]);
                return Err(ReplayError::Setup { what, error });
            }
        }
        if let Some(at) = results.get(mapped + 1) {
            space
                .agent
                .set(*at as u64 == scribe_abi::shared::SHARED_BASE);
        }
        Ok(rest)
    }

    fn write_contents(&mut self, id: u32, mem: &Mem, exec: &Exec) -> Result<()> {
        for (addr, bytes) in self.take_data(id) {
            mem.write(addr, &bytes)?;
        }
        for section in &exec.sections {
            match section {
                Section::ExecMap(map) if map.kind == map_kind::VDSO && map.offset != 0 => {
                    let len = map.end.saturating_sub(map.start).min(1 << 20) as usize;
                    match scribe_kernel::vdso::image(len) {
                        Some(image) if xxhash_rust::xxh3::xxh3_64(&image) == map.offset => {
                            mem.write(map.start, &image)?;
                        }
                        _ => {
                            return Err(ReplayError::Log(
                                "it was recorded at level 0 by another version of Scribe, whose \
                                 vDSO this one does not have"
                                    .into(),
                            ));
                        }
                    }
                }
                Section::Zero { addr, len } => mem.write(addr, &vec![0; len.min(PAGE) as usize])?,
                Section::Out { addr, bytes } => mem.write(addr, bytes)?,
                _ => {}
            }
        }
        Ok(())
    }
}
