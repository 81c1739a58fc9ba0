//! Calls that shape the address space, repeated at the recorded addresses.

use super::*;
use crate::agent::BRK;
use crate::machine::InjectedCall;
use crate::record::memory::MAP_READ_ONLY;
use scribe_abi::fast::MAP_DROPPED;
use scribe_abi::{AGENT_STRINGS, OURS, PAGE, is_ours};
use scribe_log::{MapInfo, Syscall};
use scribe_syscalls::Special;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// See [`MAP_DROPPED`].
const DROPPED: i32 = MAP_DROPPED as i32;

impl Replayer {
    pub(super) fn brk(&mut self, id: u32, new: u64) -> Result<()> {
        let space = self.task(id).space.clone();
        let old = space.mem.read_u64(BRK)?;
        space.mem.write(BRK, &new.to_le_bytes())?;
        let (from, to) = (old.next_multiple_of(PAGE), new.next_multiple_of(PAGE));
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
        if to > from {
            let args = [from, to - from, prot, flags, u64::MAX, 0];
            self.inject_expecting(id, libc::SYS_mmap, args, from as i64)?;
        } else if to < from {
            self.inject_expecting(id, libc::SYS_munmap, [to, from - to, 0, 0, 0, 0], 0)?;
        }
        Ok(())
    }

    /// mprotect and madvise that failed, some way into their range.
    pub(super) fn repeat_failed(&mut self, id: u32, call: Call, ret: i64) -> Result<()> {
        let mut args = call.args;
        if i64::from(call.nr) == libc::SYS_madvise && args[2] as i32 == libc::MADV_FREE {
            if ret == -i64::from(libc::EINVAL) {
                return Ok(());
            }
            args[2] = libc::MADV_DONTNEED as u64;
        }
        if !is_ours(args[0], args[0].saturating_add(args[1]).min(1 << 47)) {
            self.inject(id, call.nr.into(), args)?;
        }
        Ok(())
    }

    /// munmap, mprotect, madvise: the same, but never on memory of ours.
    pub(super) fn around_ours(&mut self, id: u32, call: Call, ret: i64) -> Result<()> {
        let mut args = call.args;
        if i64::from(call.nr) == libc::SYS_madvise && args[2] as i32 == libc::MADV_FREE {
            args[2] = libc::MADV_DONTNEED as u64;
        }
        let end = args[0].saturating_add(args[1]).min(1 << 47);
        if args[1] == 0 || !is_ours(args[0], end) {
            return self.inject_expecting(id, call.nr.into(), args, ret);
        }
        let mut at = args[0];
        for (hole, hole_end) in OURS.into_iter().chain([(end, end)]) {
            let part_end = hole.min(end);
            if at < part_end {
                let mut part = args;
                (part[0], part[1]) = (at, part_end - at);
                self.inject(id, call.nr.into(), part)?;
            }
            at = at.max(hole_end);
        }
        Ok(())
    }

    pub(super) fn mmap(
        &mut self,
        id: u32,
        call: Call,
        special: Special,
        event: &Syscall,
        data: &[(u64, Vec<u8>)],
        backed: bool,
    ) -> Result<()> {
        let at = event.ret as u64;
        let map = event.sections.map();
        let [_, len, prot, flags, ..] = call.args;
        let keep = (flags as i32 & !DROPPED | libc::MAP_FIXED) as u64;
        match map {
            Some(map) if backed => {
                let len = if special == Special::Shmat {
                    map.len
                } else {
                    len
                };
                self.map_backed(id, at, len, &map, data)
            }
            Some(map) if map.file != 0 => {
                let file = self.files.get(map.file)?;
                let private = (flags as i32 & !DROPPED & !libc::MAP_TYPE
                    | libc::MAP_PRIVATE
                    | libc::MAP_FIXED) as u64;
                self.map_file(
                    id,
                    file.as_raw_fd(),
                    libc::O_RDONLY,
                    [at, len, prot, private, map.offset],
                )
            }
            _ => {
                let file = libc::MAP_ANONYMOUS as u64;
                let args = [at, len, prot, keep | file, u64::MAX, 0];
                self.inject_expecting(id, libc::SYS_mmap, args, event.ret)?;
                let space = self.task(id).space.clone();
                for (addr, bytes) in data {
                    space.mem.write(*addr, bytes)?;
                }
                Ok(())
            }
        }
    }

    /// Memory that replayed processes share, in place of the recorded file.
    pub(super) fn map_backed(
        &mut self,
        id: u32,
        at: u64,
        len: u64,
        map: &MapInfo,
        data: &[(u64, Vec<u8>)],
    ) -> Result<()> {
        let failed = |error| ReplayError::Setup {
            what: "memory for a shared mapping".into(),
            error,
        };
        let file = match self.backing.get(&map.file) {
            Some(file) => file.try_clone().map_err(failed)?,
            None => {
                let file = files::memory_file().map_err(failed)?;
                self.backing
                    .insert(map.file, file.try_clone().map_err(failed)?);
                file
            }
        };
        // The size is the file's: an access behind it is SIGBUS, as it was.
        let size = file.metadata().map_err(failed)?.len();
        if size != map.len {
            file.set_len(map.len).map_err(failed)?;
        }
        for (addr, bytes) in data {
            let offset = addr.wrapping_sub(at).wrapping_add(map.offset);
            let room = map.len.saturating_sub(offset).min(bytes.len() as u64) as usize;
            file.write_all_at(&bytes[..room], offset).map_err(failed)?;
        }
        let kind = map.flags as i32 & libc::MAP_TYPE;
        let kind = if kind == libc::MAP_PRIVATE {
            kind
        } else {
            libc::MAP_SHARED
        };
        let flags = (kind | libc::MAP_FIXED) as u64;
        let args = [at, len, map.prot.into(), flags, map.offset];
        let read_only = kind == libc::MAP_SHARED && map.flags & MAP_READ_ONLY != 0;
        let open = if read_only {
            libc::O_RDONLY
        } else {
            libc::O_RDWR
        };
        self.map_file(id, file.as_raw_fd(), open, args)
    }

    /// A mapped file was changed by a call, or more of it is mapped (`grow`).
    pub(super) fn change_backing(
        &mut self,
        map: &MapInfo,
        data: &[(u64, Vec<u8>)],
        grow: bool,
    ) -> Result<()> {
        let failed = |error| ReplayError::Setup {
            what: "memory for a shared mapping".into(),
            error,
        };
        let Some(file) = self.backing.get(&map.file) else {
            return Ok(());
        };
        if !grow || file.metadata().map_err(failed)?.len() < map.len {
            file.set_len(map.len).map_err(failed)?;
        }
        for (offset, bytes) in data {
            file.write_all_at(bytes, *offset).map_err(failed)?;
        }
        Ok(())
    }

    /// Maps a file that the replayer has open. `args`: address, length, protection, flags, offset.
    fn map_file(&mut self, id: u32, fd: i32, open: i32, args: [u64; 5]) -> Result<()> {
        let [at, len, prot, flags, offset] = args;
        self.code_may_change(id, libc::SYS_mmap, &[at, len, 0, 0, 0, 0]);
        let task = self.task(id);
        let (tid, app, space) = (task.tid, task.app, task.space.clone());
        let path = format!("/proc/{}/fd/{fd}\0", std::process::id());
        space.mem.write(AGENT_STRINGS, path.as_bytes())?;
        let calls = [
            InjectedCall::from((
                libc::SYS_openat,
                [libc::AT_FDCWD as u64, AGENT_STRINGS, open as u64, 0, 0, 0],
            )),
            InjectedCall::of(libc::SYS_mmap, [at, len, prot, flags, 0, offset], 0),
            InjectedCall::of(libc::SYS_close, [0; 6], 0),
        ];
        let results = self.machine.batch(tid, &space.mem, &app, &calls)?;
        space.mem.write(AGENT_STRINGS, &vec![0; path.len()])?;
        self.machine.take_strays(tid);
        let (nr, expected, got) = match results[0] < 0 {
            true => (libc::SYS_openat, 3, results[0]),
            false => (libc::SYS_mmap, at as i64, results[1]),
        };
        if got != expected {
            return Err(self.diverged(id, Reason::Repeated { nr, expected, got }));
        }
        Ok(())
    }
}
