//! The snapshot of processes that stand still: all that a replay needs in order to begin there.

use super::super::memory::{MAP_BACKED, MAP_READ_ONLY};
use super::copy::{Copy, Own};
use super::pages::{Held, Sink, Stream};
use super::*;
use crate::record::exec::open_mapped;
use scribe_abi::is_ours;
use scribe_log::{ExecMap, MapInfo, map_kind};
use scribe_tracee::maps::Mapping;
use scribe_tracee::pagemap::Pagemap;
use std::os::unix::fs::MetadataExt;

/// Memory that cannot be read from a copy is kept up to this size, so that the program stands still no longer than
/// copying takes; what is more is written at once.
const HELD: usize = 256 << 20;

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

/// What is known of a process's memory while its snapshot is made.
struct Memory {
    /// The stream that it goes into.
    stream: u32,
    copy: Option<Copy>,
    /// Of the process itself.
    pages: Pagemap,
    /// What has to be read while it stands still.
    held: Held,
    /// What is read from the copy.
    own: Vec<Own>,
}

impl Recorder {
    /// Writes the snapshot of a process, whose tasks these are, the leader first.
    pub(in crate::record) fn write_snapshot(&mut self, members: &[u32]) -> Result<()> {
        let Some(&leader) = members.first() else {
            return Ok(());
        };
        let stream = self.new_stream();
        let task = self.task(leader);
        let (tid, app, process) = (task.tid, task.app, task.tgid);
        let (lane, space) = (task.lane, task.space.clone());
        let ids = (process, tid);
        let mut memory = Memory {
            stream,
            copy: self.copies.make(&mut self.machine, ids, &space.mem, &app)?,
            pages: Pagemap::open(tid),
            held: Held::default(),
            own: Vec::new(),
        };
        self.take_strays(leader)?;
        let mut described = Vec::new();
        for map in maps::read(tid) {
            if is_ours(map.start, map.end) || map.start >= 1 << 47 {
                continue;
            }
            described.push(self.describe(leader, map, &mut memory)?);
        }
        self.put_memory(memory);
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
                    event.memory(stream);
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
    fn describe(&mut self, id: u32, map: Mapping, memory: &mut Memory) -> Result<Described> {
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
        let of_file = described.file != 0;
        self.put_private(id, map, of_file, all, memory);
        Ok(described)
    }

    /// Reads a mapping that is the process's own, or leaves that to its copy.
    fn put_private(&self, id: u32, map: &Mapping, of_file: bool, all: bool, memory: &mut Memory) {
        let mem = &self.task(id).space.mem;
        let range = map.start..map.end;
        match &memory.copy {
            _ if all => memory.held.put_whole(mem, map),
            Some(copy) if same_pages(&memory.pages, &copy.pages, &range) => {
                memory.own.push(Own { range, of_file });
            }
            _ => {
                memory.held.put_own(mem, &memory.pages, range, of_file);
            }
        }
        self.make_room(memory);
    }

    /// Writes what is held if it is much.
    fn make_room(&self, memory: &mut Memory) {
        if memory.held.size() > HELD || memory.copy.is_none() {
            memory.held.put_into(&mut Stream {
                log: self.log.writer(),
                number: memory.stream,
            });
        }
    }

    /// Writes the memory: now, or from the copy while the program goes on.
    fn put_memory(&mut self, memory: Memory) {
        let (log, number) = (self.log.writer(), memory.stream);
        match memory.copy {
            Some(copy) => self
                .copies
                .write(log, number, memory.held, copy, memory.own),
            None => Stream { log, number }.end(),
        }
    }

    /// A mapping whose memory other processes may share, with its content.
    fn shared_mapping(
        &mut self,
        id: u32,
        map: &Mapping,
        key: (u64, u64),
        memory: &mut Memory,
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
            Some(file) => memory.held.put_file(file, map),
            None => memory.held.put_whole(&self.task(id).space.mem, map),
        }
        self.make_room(memory);
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
}

/// Whether a copy has what the process has in a private mapping: a program can forbid that (MADV_DONTFORK,
/// MADV_WIPEONFORK).
fn same_pages(own: &Pagemap, copied: &Pagemap, range: &std::ops::Range<u64>) -> bool {
    let first = own.first_own(range.start, range.end);
    first.is_none_or(|page| copied.first_own(page, page + scribe_abi::PAGE).is_some())
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
