//! The snapshot of processes that stand still: all that a replay needs in order to begin there.

use super::super::memory::{MAP_BACKED, MAP_READ_ONLY};
use super::*;
use crate::record::exec::open_mapped;
use scribe_abi::{PAGE, is_ours};
use scribe_log::{ExecMap, MapInfo, map_kind};
use scribe_tracee::maps::Mapping;
use scribe_tracee::pagemap::{Page, Pagemap};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Most memory in one record (the format's limit for a Blob).
const PIECE: u64 = 256 << 10;

/// What processes that share a mapping have in common; `None`: it is not shared, or nobody can write
/// to it.
pub(super) fn shared_object(map: &Mapping) -> Option<(u64, u64)> {
    let system = map.name.starts_with("/usr/") || map.name.starts_with("/lib");
    let device = map.name.starts_with("/dev/") && !map.name.starts_with("/dev/shm/");
    let nameless = map.name.starts_with("/dev/zero");
    if !map.shared || map.ino == 0 || device && !nameless || system && !map.writable() {
        return None;
    }
    // As mmap and shmat note them.
    let key = match map.name.starts_with("/SYSV") {
        true => (u64::MAX, map.ino),
        false => (map.dev, map.ino),
    };
    Some(key)
}

/// A mapping of a snapshot: kind, file, and what is shared.
struct Described {
    map: Mapping,
    kind: u32,
    file: u32,
    shared: Option<MapInfo>,
}

impl Recorder {
    /// Writes the snapshot of a process, whose tasks these are, the leader first.
    pub(in crate::record) fn write_snapshot(&mut self, members: &[u32]) -> Result<()> {
        let Some(&leader) = members.first() else {
            return Ok(());
        };
        let memory = self.next_lane;
        self.next_lane += 1;
        let task = self.task(leader);
        let (tid, lane, space) = (task.tid, task.lane, task.space.clone());
        let mut described = Vec::new();
        for map in maps::read(tid) {
            if is_ours(map.start, map.end) || map.start >= 1 << 47 {
                continue;
            }
            described.push(self.describe(leader, map, memory)?);
        }
        self.log.close(memory);
        let actions = task_actions(&self.task(leader).sighand.borrow());
        for (i, &member) in members.iter().enumerate() {
            let task = self.task(member);
            let (own, pid) = (task.ids.own(), self.ids_of(task.tgid).own());
            let stopped = self.machine.stopped(task.tid)?;
            let xstate = stopped.xstate()?;
            let comm = std::fs::read(format!("/proc/{}/comm", task.tid)).unwrap_or_default();
            let mut regs = task.app;
            if matches!(task.state, State::Ready(Ready::Dispatch | Ready::Relaunch)) {
                // It comes to its call again.
                regs.rip -= 2;
            }
            let words = crate::regs::words(&regs);
            let (tsc, cpuid) = task.instructions;
            self.log.append(lane, |buf| {
                let mut event = scribe_log::begin_snapshot(buf, member, own, pid);
                if i == 0 {
                    for described in &described {
                        let (map, file) = (&described.map, described.file);
                        let flags = match (&described.shared, map.shared) {
                            (Some(shared), _) => shared.flags,
                            (None, true) => libc::MAP_SHARED as u32,
                            (None, false) => libc::MAP_PRIVATE as u32,
                        };
                        event.exec_map(&ExecMap {
                            start: map.start,
                            end: map.end,
                            prot: map.prot,
                            flags,
                            file,
                            kind: described.kind,
                            offset: map.offset,
                            name: if file == 0 { map.name.as_bytes() } else { b"" },
                        });
                        if let Some(shared) = &described.shared {
                            event.map(shared);
                        }
                    }
                    event.brk(space.brk.get());
                    event.memory(memory);
                    event.actions(&actions);
                    event.lane(lane);
                }
                event.regs(&words);
                event.xstate(&xstate);
                event.mask(task.mask);
                event.alt_stack(&task.alt.to_bytes());
                if task.fault != Default::default() {
                    event.fault(&[task.fault.trapno, task.fault.err, task.fault.cr2]);
                }
                event.instructions(u32::from(!tsc) | u32::from(!cpuid) << 1);
                event.comm(comm.trim_ascii_end());
                event.finish();
            });
        }
        self.stats.events += members.len() as u64;
        self.log.maybe_flush();
        Ok(())
    }

    /// Says what a mapping is, and writes what it holds.
    fn describe(&mut self, id: u32, map: Mapping, memory: u32) -> Result<Described> {
        let tid = self.task(id).tid;
        let kind = match map.name.as_str() {
            "[stack]" => map_kind::STACK,
            "[vdso]" => map_kind::VDSO,
            "[heap]" => map_kind::HEAP,
            _ => map_kind::NORMAL,
        };
        let mut described = Described {
            map,
            kind,
            file: 0,
            shared: None,
        };
        let map = &described.map;
        if let Some(key) = shared_object(map) {
            described.shared = Some(self.shared_mapping(id, map, key, memory)?);
            described.file = described.shared.map_or(0, |shared| shared.file);
            return Ok(described);
        }
        let opened = match map.ino {
            0 => None,
            _ => open_mapped(tid, map),
        };
        if let Some(file) = &opened {
            described.file = self.file_id(file, &map.name);
        }
        let all = map.ino != 0 && described.file == 0 || kind == map_kind::VDSO;
        let opened = opened.filter(|_| described.file != 0);
        self.put_private(id, map, opened.as_ref(), all, memory)?;
        Ok(described)
    }

    /// A mapping whose memory other processes may share, with its content.
    fn shared_mapping(
        &mut self,
        id: u32,
        map: &Mapping,
        key: (u64, u64),
        memory: u32,
    ) -> Result<MapInfo> {
        let tid = self.task(id).tid;
        let number = self.shared_files.get(&key).map_or(0, |known| known.1);
        let by_address = format!("/proc/{tid}/map_files/{:x}-{:x}", map.start, map.end);
        let file = open_mapped(tid, map).or_else(|| std::fs::File::open(by_address).ok());
        let size = file.as_ref().and_then(|file| file.metadata().ok());
        let size = size.map(|meta| meta.size());
        // The length of what has no name to open it by is not known: at least what is mapped of it.
        let len = size.unwrap_or(0).max(map.offset + map.size());
        let len = match size {
            Some(size) if file.is_some() => size,
            _ => len,
        };
        match &file {
            Some(file) => self.put_file(file, map, memory),
            None => self.put_private(id, map, None, true, memory)?,
        }
        let read_only = !map.writable() && !self.may_become_writable(tid, map);
        let flags = libc::MAP_SHARED as u32 | MAP_BACKED;
        Ok(MapInfo {
            file: number,
            offset: map.offset,
            len,
            prot: map.prot,
            flags: flags | if read_only { MAP_READ_ONLY } else { 0 },
        })
    }

    /// Whether mprotect could make a shared mapping writable (`mw` in /proc/PID/smaps).
    fn may_become_writable(&self, tid: Tid, map: &Mapping) -> bool {
        let smaps = std::fs::read_to_string(format!("/proc/{tid}/smaps")).unwrap_or_default();
        let head = format!("{:x}-{:x} ", map.start, map.end);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&head));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
        flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "mw"))
    }

    /// What a file holds where it is mapped; holes are left out.
    fn put_file(&self, file: &std::fs::File, map: &Mapping, memory: u32) {
        let mut buf = vec![0; PIECE as usize];
        let mut done = 0;
        while done < map.size() {
            let data = super::super::memory::next_data(file, map.offset + done) & !(PAGE - 1);
            done = done.max(data.saturating_sub(map.offset));
            let want = PIECE.min(map.size().saturating_sub(done)) as usize;
            match file.read_at(&mut buf[..want], map.offset + done) {
                Ok(0) | Err(_) => return,
                Ok(got) => {
                    self.put_memory(memory, map.start + done, &buf[..got]);
                    done += got as u64;
                }
            }
        }
    }

    /// The pages of a mapping that are the process's own; `all`: every page.
    fn put_private(
        &self,
        id: u32,
        map: &Mapping,
        file: Option<&std::fs::File>,
        all: bool,
        memory: u32,
    ) -> Result<()> {
        let task = self.task(id);
        let mem = &task.space.mem;
        let mut run = map.start..map.start;
        let mut buf = vec![0; PIECE as usize];
        let mut put = |run: &std::ops::Range<u64>| {
            let len = (run.end - run.start) as usize;
            let got = mem.read_some(run.start, &mut buf[..len]);
            // Where a file is behind it, zeros count.
            match file {
                Some(_) => self.put_all(memory, run.start, &buf[..got]),
                None => self.put_memory(memory, run.start, &buf[..got]),
            }
        };
        let mut add = |addr: u64| {
            if addr != run.end || run.end - run.start >= PIECE {
                if !run.is_empty() {
                    put(&run);
                }
                run.start = addr;
            }
            run.end = addr + PAGE;
        };
        if all {
            (map.start..map.end)
                .step_by(PAGE as usize)
                .for_each(&mut add);
        } else {
            Pagemap::open(task.tid).for_each(map.start, map.end, |addr, page| {
                if page == Page::Private {
                    add(addr);
                }
            });
        }
        if !run.is_empty() {
            put(&run);
        }
        Ok(())
    }

    /// Memory that is zero where nothing is written of it.
    fn put_memory(&self, memory: u32, addr: u64, bytes: &[u8]) {
        let zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
        let mut from = 0;
        for (i, page) in bytes.chunks(PAGE as usize).enumerate() {
            let at = i * PAGE as usize;
            if zero(page) {
                self.put_all(memory, addr + from as u64, &bytes[from..at]);
                from = at + page.len();
            }
        }
        self.put_all(memory, addr + from as u64, &bytes[from..]);
    }

    fn put_all(&self, memory: u32, addr: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.log.append(memory, |buf| {
            Record::Blob {
                file: 0,
                offset: addr,
                bytes: bytes.into(),
            }
            .encode(buf);
        });
        self.log.maybe_flush();
    }
}

/// The actions of a process that are not the default, as the log has them.
fn task_actions(actions: &Dispositions) -> Vec<u8> {
    let mut bytes = Vec::new();
    for signal in 1..=64u32 {
        if let Some(known) = actions.get(signal)
            && *known != Disposition::default()
        {
            bytes.extend_from_slice(&signal.to_le_bytes());
            bytes.extend_from_slice(&known.to_bytes());
        }
    }
    bytes
}
