//! A replay that begins in the middle: the state of processes as a snapshot has it, beyond what exec
//! makes of an address space.

use super::*;
use crate::record::memory::MAP_BACKED;
use scribe_abi::AGENT_CODE_LEN;
use scribe_kernel::signal::Disposition;
use scribe_log::{Exec, ExecMap, MapInfo};
use std::os::unix::fs::FileExt;

impl Replayer {
    /// The first task of a process has its address space: the rest of the snapshot, and its other tasks.
    pub(super) fn continue_from(&mut self, id: u32, found: &Exec) -> Result<()> {
        let shared = self.map_shared_memory(id, found)?;
        self.write_memory(id, found, &shared)?;
        let mut actions = Dispositions::default();
        for section in &found.sections {
            if let Section::Actions(bytes) = section {
                for entry in bytes.chunks_exact(36) {
                    let signal = u32::from_le_bytes(entry[..4].try_into().expect("four bytes"));
                    let action = Disposition::from_bytes(entry[4..].try_into().expect("32 bytes"));
                    let _ = actions.sigaction(signal, Some(action));
                }
            }
        }
        self.task_mut(id).sighand = Rc::new(RefCell::new(actions));
        self.take_state(id, found)?;
        let lane = self.task(id).lane;
        while self.fetch(lane)? {
            let head = self.lanes.get(&lane).and_then(|lane| lane.head.clone());
            let Some(head) = head else { break };
            let (record, _) =
                Record::decode(&head).map_err(|error| ReplayError::Log(error.to_string()))?;
            match record {
                Record::Snapshot(other) if other.pid == found.pid && other.tid != other.pid => {
                    self.consume(lane);
                    self.other_task(id, &other)?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Maps the memory that the process shares; what of it lies where.
    fn map_shared_memory(&mut self, id: u32, found: &Exec) -> Result<Vec<(u64, u64, MapInfo)>> {
        let mut shared = Vec::new();
        let mut last: Option<ExecMap> = None;
        for section in &found.sections {
            match section {
                Section::ExecMap(map) => last = Some(map),
                Section::Map(info) => {
                    let Some(map) = last.take().filter(|map| map.flags & MAP_BACKED != 0) else {
                        continue;
                    };
                    let len = map.end.saturating_sub(map.start);
                    self.map_backed(id, map.start, len, &info, &[])?;
                    shared.push((map.start, map.end, info));
                }
                _ => {}
            }
        }
        Ok(shared)
    }

    /// Writes what the memory held.
    fn write_memory(
        &mut self,
        id: u32,
        found: &Exec,
        shared: &[(u64, u64, MapInfo)],
    ) -> Result<()> {
        let stream = found.sections.iter().find_map(|section| match section {
            Section::Memory(stream) => Some(stream),
            _ => None,
        });
        let Some(stream) = stream else {
            return Ok(());
        };
        let space = self.task(id).space.clone();
        let mut reader = self.log.lane(stream);
        loop {
            let record = reader
                .next()
                .map_err(|error| ReplayError::Log(error.to_string()))?;
            let Some(record) = record else {
                return Err(ReplayError::Log(
                    "it does not hold all of the memory with which it begins: its recorder was ended \
                     before that was written"
                        .into(),
                ));
            };
            let Record::Blob { offset, bytes, .. } = record else {
                continue;
            };
            if bytes.is_empty() {
                return Ok(());
            }
            let at = shared
                .iter()
                .find(|(start, end, _)| (*start..*end).contains(&offset));
            let Some((start, _, map)) = at else {
                space.mem.write(offset, &bytes)?;
                continue;
            };
            if let Some(file) = self.backing.get(&map.file) {
                let at = (offset - start).wrapping_add(map.offset);
                let room = map.len.saturating_sub(at).min(bytes.len() as u64) as usize;
                let wrote = file.write_all_at(&bytes[..room], at);
                wrote.map_err(|error| ReplayError::Setup {
                    what: "memory for a shared mapping".into(),
                    error,
                })?;
            }
        }
    }

    /// What each task has of its own.
    fn take_state(&mut self, id: u32, found: &Exec) -> Result<()> {
        let lane = found.sections.lane();
        let task = self.tasks.get_mut(&id).expect("the task exists");
        task.lane = lane.unwrap_or(task.lane);
        for section in &found.sections {
            match section {
                Section::Mask(mask) => task.mask = mask,
                Section::AltStack(bytes) => task.alt = AltStack::from_bytes(bytes),
                Section::Fault([trapno, err, cr2]) => task.fault = FaultInfo { trapno, err, cr2 },
                Section::Instructions(not) => task.instructions = (not & 1 == 0, not & 2 == 0),
                Section::Xstate(image) => {
                    let stopped = self.machine.stopped(task.tid)?;
                    crate::regs::put_xstate(stopped, image.to_vec())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Another task of the process whose first one is `leader`.
    fn other_task(&mut self, leader: u32, found: &Exec) -> Result<()> {
        let registers = found
            .sections
            .regs()
            .ok_or_else(|| ReplayError::Log("a snapshot does not hold the registers".into()))?;
        if self.tasks.contains_key(&found.task) {
            return Err(ReplayError::Log("a snapshot has a task twice".into()));
        }
        let first = self.task(leader);
        let thread = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        let entry = AGENT_BASE + ENTRY_SYSCALL;
        let args = [thread as u64, 0, 0, 0, 0, 0];
        let regs = call_regs(&first.app, entry, libc::SYS_clone as u64, &args);
        let tid = self.clone_now(leader, first.tid, &regs)?;
        let first = self.task(leader);
        let task = Task {
            id: found.task,
            tid,
            tgid: first.tgid,
            pid: first.pid,
            recorded_tid: found.tid,
            lane: first.lane,
            state: State::Idle,
            app: crate::regs::from_words(&registers),
            mask: 0,
            alt: AltStack::default(),
            sighand: first.sighand.clone(),
            space: first.space.clone(),
            fault: FaultInfo::default(),
            instructions: (true, true),
            temporary: None,
            stepping: false,
            search: None,
            area: None,
            history: VecDeque::new(),
        };
        if self.machine.sud {
            let stopped = self.machine.stopped(tid)?;
            stopped.arm_sud(AGENT_BASE, AGENT_CODE_LEN)?;
        }
        self.by_tid.insert(tid, found.task);
        self.tasks.insert(found.task, Box::new(task));
        self.take_state(found.task, found)?;
        self.agent_for(found.task)
    }
}
