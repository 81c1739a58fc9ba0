//! Calls that shape the address space.

use super::calls::{Kind, PendingCall};
use super::*;
use crate::state::for_pieces;
use scribe_abi::{OURS, PAGE, is_ours};
use scribe_log::MapInfo;
use scribe_objects::take::next_data;
use scribe_syscalls::{Call, Row};
use scribe_tracee::maps;
use std::os::unix::fs::MetadataExt;

const ENOMEM: i64 = -(libc::ENOMEM as i64);
/// Set in the flags of a logged mapping that is replayed from memory shared between the replayed
/// processes, with the content that stands in the `Data` records before it.
pub(crate) use scribe_abi::fast::MAP_BACKED;
/// With [`MAP_BACKED`], on a call that maps nothing: the file was changed, the `Data` records before
/// the event hold its bytes, with offsets in the file for addresses.
pub(crate) const MAP_CHANGED: u32 = 1 << 30;
/// With [`MAP_BACKED`]: the file was not open for writing, so that mprotect does not make a shared
/// mapping writable.
pub(crate) const MAP_READ_ONLY: u32 = 1 << 29;

impl Recorder {
    pub(super) fn mmap(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [addr, len, _, flags, ..] = call.args;
        let fixed = flags as i32 & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0;
        let end = addr.saturating_add(len);
        if fixed && is_ours(addr, end) {
            return self.answer(id, row, call, ENOMEM);
        }
        if fixed {
            self.unpatch_before_call(id, addr, end)?;
        }
        let kind = Kind::mapped(&call);
        let mut pending = self.prepare(id, row, call, kind);
        if !fixed && is_ours(addr, end) {
            pending.agent_args[0] = 0;
        }
        self.launch(id, pending)
    }

    pub(super) fn mremap(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [old, old_len, new_len, flags, new, _] = call.args;
        let fixed = flags as i32 & libc::MREMAP_FIXED != 0;
        if is_ours(old, old.saturating_add(old_len.max(new_len)))
            || (fixed && is_ours(new, new.saturating_add(new_len)))
        {
            return self.answer(id, row, call, ENOMEM);
        }
        self.unpatch_before_call(id, old, old.saturating_add(old_len))?;
        if fixed {
            self.unpatch_before_call(id, new, new.saturating_add(new_len))?;
        }
        self.run_here(id, row, call, Kind::Plain)
    }

    /// munmap, mprotect, madvise and others that name a range and are repeated at replay.
    pub(super) fn execute_call(&mut self, id: u32, row: &'static Row, call: Call) -> Result<()> {
        let [addr, len, advice, ..] = call.args;
        let end = addr.saturating_add(len).min(1 << 47);
        let mut pending = self.prepare(id, row, call, Kind::Plain);
        if row.effect != scribe_syscalls::Effect::Mm {
            return self.launch(id, pending);
        }
        self.unpatch_before_call(id, addr, end)?;
        if i64::from(call.nr) == libc::SYS_madvise && advice as i32 == libc::MADV_FREE {
            if !is_ours(addr, end) {
                // Files cannot be freed so; what follows would take their changes away.
                let task = self.task(id);
                let (tid, app) = (task.tid, task.app);
                let got = self
                    .machine
                    .inject(tid, &app, libc::SYS_madvise, call.args)?;
                self.take_strays(id)?;
                if got == -i64::from(libc::EINVAL) {
                    return self.answer(id, row, call, got);
                }
            }
            // Pages freed "some time" are not the same at replay; freed at once they are, and a
            // program cannot rely on more.
            pending.agent_args[2] = libc::MADV_DONTNEED as u64;
        }
        if len > 0 && is_ours(addr, end) && addr % PAGE == 0 {
            return self.around_ours(id, pending, addr, end);
        }
        self.launch(id, pending)
    }

    /// The range holds memory of ours: the call is made for the parts around it.
    fn around_ours(
        &mut self,
        id: u32,
        mut pending: PendingCall,
        addr: u64,
        end: u64,
    ) -> Result<()> {
        let mut at = addr;
        let mut ret = 0;
        for (hole, hole_end) in OURS.into_iter().chain([(end, end)]) {
            let part_end = hole.min(end);
            if at < part_end {
                let mut args = pending.agent_args;
                (args[0], args[1]) = (at, part_end - at);
                let task = self.task(id);
                let (tid, app) = (task.tid, task.app);
                let got = self
                    .machine
                    .inject(tid, &app, pending.call.nr.into(), args)?;
                self.take_strays(id)?;
                if got < 0 {
                    ret = got;
                }
            }
            at = at.max(hole_end);
        }
        pending.kind = Kind::Answer { ret, wrote: None };
        pending.ret = ret;
        self.write_finished(id, &mut pending)?;
        self.task_mut(id).app.rax = ret as u64;
        self.settle(id)
    }

    /// What a mapping event has to say about the mapped file.
    pub(super) fn map_of(
        &mut self,
        id: u32,
        pending: &PendingCall,
        ret: i64,
    ) -> Result<Option<MapInfo>> {
        if (-4095..0).contains(&ret) {
            return Ok(None);
        }
        if i64::from(pending.call.nr) == libc::SYS_mremap && !self.shared_files.is_empty() {
            return Ok(self.grown_mapping(id, &pending.call, ret as u64));
        }
        if matches!(pending.kind, Kind::Plain) && !self.shared_files.is_empty() {
            return self.changed_file(id, pending, ret);
        }
        match pending.kind {
            Kind::Mapped {
                fd,
                offset,
                len,
                prot,
                flags,
            } => self.map_info(id, ret as u64, fd, offset, len, prot, flags),
            Kind::Shmat => {
                let tid = self.task(id).tid;
                let Some(map) = maps::read(tid)
                    .into_iter()
                    .find(|map| map.start == ret as u64)
                else {
                    return Ok(None);
                };
                let key = (u64::MAX, map.ino);
                self.task(id).space.shared.set(true);
                let file = self.backing_of(id, key);
                self.put_content(id, map.start, map.size());
                Ok(Some(MapInfo {
                    file,
                    offset: 0,
                    len: map.size(),
                    prot: map.prot,
                    flags: libc::MAP_SHARED as u32 | libc::MAP_ANONYMOUS as u32 | MAP_BACKED,
                }))
            }
            Kind::Ring(info) => Ok(Some(info)),
            _ => Ok(None),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn map_info(
        &mut self,
        id: u32,
        at: u64,
        fd: Option<i32>,
        offset: u64,
        len: u64,
        prot: u32,
        flags: u32,
    ) -> Result<Option<MapInfo>> {
        let shared = flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE;
        let Some(fd) = fd else {
            if shared {
                self.task(id).space.shared.set(true);
            }
            return Ok(None);
        };
        let tid = self.task(id).tid;
        let link = format!("/proc/{tid}/fd/{fd}");
        let path = std::fs::read_link(&link)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let file = std::fs::File::open(&link);
        let writable = status_flags(tid, fd) & libc::O_ACCMODE != libc::O_RDONLY;
        let meta = file.as_ref().ok().and_then(|file| file.metadata().ok());
        let system = path.starts_with("/usr/") || path.starts_with("/lib");
        let regular = meta.as_ref().is_some_and(|meta| meta.is_file());
        if !shared && writable && regular {
            // Whoever has it open for writing may change it while it is mapped; pages of a private
            // mapping that were not written to follow.
            let meta = meta.expect("a regular file has metadata");
            let in_file = meta.size().saturating_sub(offset).next_multiple_of(PAGE);
            self.put_content_of_file(id, &link, at, offset, len.min(in_file), false)?;
            let file = self.backing_of(id, (meta.dev(), meta.ino()));
            let flags = flags | MAP_BACKED;
            return Ok(Some(MapInfo {
                file,
                offset,
                len: meta.size(),
                prot,
                flags,
            }));
        }
        if shared && regular && !(system && prot & libc::PROT_WRITE as u32 == 0) {
            let meta = meta.expect("a regular file has metadata");
            self.task(id).space.shared.set(true);
            let file = self.backing_of(id, (meta.dev(), meta.ino()));
            let in_file = meta.size().saturating_sub(offset).next_multiple_of(PAGE);
            self.put_content_of_file(id, &link, at, offset, len.min(in_file), false)?;
            return Ok(Some(MapInfo {
                // The inode names the memory that all who map it share.
                file,
                offset,
                len: meta.size(),
                prot,
                flags: flags | MAP_BACKED | if writable { 0 } else { MAP_READ_ONLY },
            }));
        }
        if shared && !regular {
            self.task(id).space.shared.set(true);
        }
        let file = match file {
            Ok(file) => self.file_id(&file, &path),
            Err(_) => 0,
        };
        if file == 0 && !path.starts_with("/dev/zero") {
            // A device, or a file that we may not read: its content as mapped.
            self.put_content(id, at, len);
        }
        Ok(Some(MapInfo {
            file,
            offset,
            len,
            prot,
            flags,
        }))
    }

    /// A call that changed a file which is mapped: what replay needs to change its memory, too.
    fn changed_file(
        &mut self,
        id: u32,
        pending: &PendingCall,
        ret: i64,
    ) -> Result<Option<MapInfo>> {
        use scribe_syscalls::Effect;
        let Some((arg, positioned)) = written_file(pending) else {
            return Ok(None);
        };
        let tid = self.task(id).tid;
        let fd = pending.call.args[arg as usize] as i32;
        let link = format!("/proc/{tid}/fd/{fd}");
        let Ok(meta) = std::fs::metadata(&link) else {
            return Ok(None);
        };
        let key = (meta.dev(), meta.ino());
        let mapped = self.shared_files.get(&key);
        if !meta.is_file() || mapped.is_none_or(|(lane, _)| !self.lanes.contains_key(lane)) {
            return Ok(None);
        }
        let backing = self.backing_of(id, key);
        // Where it was written: by an offset argument (the fourth), or before the present one.
        let (at, len) = if matches!(pending.row.effect, Effect::InodeWrites(_)) {
            match changed_range(pending, meta.size()) {
                Some(range) => range,
                None => return Ok(None),
            }
        } else if positioned {
            (pending.call.args[3], ret as u64)
        } else {
            (position(tid, fd).saturating_sub(ret as u64), ret as u64)
        };
        self.put_content_of_file(id, &link, at, at, len, true)?;
        Ok(Some(MapInfo {
            file: backing,
            offset: at,
            len: meta.size(),
            prot: 0,
            flags: MAP_BACKED | MAP_CHANGED,
        }))
    }

    /// mremap made a mapping longer: what came into view of a file that is mapped.
    fn grown_mapping(&mut self, id: u32, call: &Call, at: u64) -> Option<MapInfo> {
        let [_, old, new, ..] = call.args;
        let (old, new) = (old.next_multiple_of(PAGE), new.next_multiple_of(PAGE));
        if new <= old {
            return None;
        }
        let maps = maps::read(self.task(id).tid);
        let map = maps.iter().find(|map| map.start <= at && at < map.end)?;
        let key = (map.dev, map.ino);
        let (lane, file) = *self.shared_files.get(&key).filter(|_| map.ino != 0)?;
        let task = self.task(id);
        if lane != task.lane {
            return None;
        }
        let offset = map.offset + (at - map.start);
        let (space, log) = (task.space.clone(), &self.log);
        let mut seen = old;
        for_pieces(&space.mem, at + old, new - old, |start, piece| {
            put_nonzero(log, lane, start - at + offset, piece);
            seen = start - at + piece.len() as u64;
        });
        Some(MapInfo {
            file,
            offset: offset + old,
            // The file is at least that long.
            len: offset + seen,
            prot: 0,
            flags: MAP_BACKED | MAP_CHANGED,
        })
    }

    /// The number of the memory behind a file that tasks of this lane share. It is a new one when
    /// all who shared it before are gone: at replay those may still be at it.
    fn backing_of(&mut self, id: u32, key: (u64, u64)) -> u32 {
        let lane = self.task(id).lane;
        match self.shared_files.get(&key) {
            Some((known, number)) if *known == lane => return *number,
            // In use elsewhere, and not merged with (a private mapping): a copy of its own.
            Some((known, _)) if self.lanes.contains_key(known) => {
                self.next_backing += 1;
                return self.next_backing;
            }
            _ => {}
        }
        self.next_backing += 1;
        self.shared_files.insert(key, (lane, self.next_backing));
        // Whoever has it open must not write to it behind our back any more.
        if let Some(shared) = &self.shared {
            shared.mapped(key);
        }
        self.forget_descriptors();
        self.next_backing
    }

    /// The lane whose tasks map what this call maps or changes, if that is not the task's own.
    pub(super) fn other_lane(&self, id: u32, pending: &PendingCall) -> Option<u32> {
        if self.shared_files.is_empty() || (-4095..0).contains(&pending.ret) {
            return None;
        }
        let task = self.task(id);
        let key = match pending.kind {
            Kind::Shmat => {
                let start = pending.ret as u64;
                let map = maps::read(task.tid)
                    .into_iter()
                    .find(|map| map.start == start)?;
                (u64::MAX, map.ino)
            }
            Kind::Mapped {
                fd: Some(fd),
                flags,
                ..
            } if flags as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE => {
                let meta = std::fs::metadata(format!("/proc/{}/fd/{fd}", task.tid)).ok()?;
                (meta.dev(), meta.ino())
            }
            Kind::Plain => {
                let (arg, _) = written_file(pending)?;
                let fd = pending.call.args[arg as usize] as i32;
                let meta = std::fs::metadata(format!("/proc/{}/fd/{fd}", task.tid)).ok()?;
                (meta.dev(), meta.ino())
            }
            _ => return None,
        };
        let (lane, _) = *self.shared_files.get(&key)?;
        (lane != task.lane && self.lanes.contains_key(&lane)).then_some(lane)
    }

    /// The task, which holds its lane's token and whose call is over but not written, goes on in
    /// `into`, with all others of its lane.
    pub(super) fn merge_lanes(&mut self, id: u32, into: u32) -> Result<()> {
        let from = self.task(id).lane;
        self.write(
            from,
            &Record::Merge {
                from_lane: from,
                into_lane: into,
            },
        );
        let Some(old) = self.lanes.remove(&from) else {
            return Ok(());
        };
        self.log.close(from);
        Self::rouse(&old.area);
        // An agent may still look at the token there, which is taken.
        self.merged.push(old.area.clone());
        for member in &old.members {
            self.task_mut(*member).lane = into;
        }
        for (lane, _) in self
            .shared_files
            .values_mut()
            .filter(|(lane, _)| *lane == from)
        {
            *lane = into;
        }
        // A task that was alone may be in a call with the token in its hand.
        let holder = self.lanes[&into].area.token.holder();
        if let Some(holder) = holder
            && let Some(task) = self.tasks.get_mut(&holder)
            && task.state == State::InCall
            && let Some(call) = &mut task.call
            && call.may_block
            && !call.released
        {
            call.released = true;
            self.lanes[&into].area.token.release(holder, Left::InCall);
        }
        let lane = self.lanes.get_mut(&into).expect("the lane exists");
        lane.members.extend(&old.members);
        lane.waiting.extend(&old.waiting);
        self.lane_changed(into)?;
        self.want_token(id, Ready::FinishCall);
        Ok(())
    }

    /// Content of memory as `Data` records, zero pages left out.
    fn put_content(&mut self, id: u32, addr: u64, len: u64) {
        let task = self.task(id);
        let (space, lane) = (task.space.clone(), task.lane);
        let log = &self.log;
        for_pieces(&space.mem, addr, len, |at, piece| {
            put_nonzero(log, lane, at, piece)
        });
    }

    /// Content of a file as `Data` records at the addresses where it is mapped; where no `zeros` are
    /// needed, pages of zeros are left out, and holes are not even read.
    fn put_content_of_file(
        &mut self,
        id: u32,
        link: &str,
        at: u64,
        offset: u64,
        len: u64,
        zeros: bool,
    ) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let Ok(file) = std::fs::File::open(link) else {
            return Ok(());
        };
        let lane = self.task(id).lane;
        let mut buf = vec![0; 1 << 20];
        let put = if zeros { put_all } else { put_nonzero };
        let mut done = 0;
        while done < len {
            if !zeros {
                let data = next_data(&file, offset + done) & !(PAGE - 1);
                done = done.max(data.saturating_sub(offset));
                if done >= len {
                    break;
                }
            }
            let want = buf.len().min((len - done) as usize);
            match file.read_at(&mut buf[..want], offset + done) {
                Ok(0) | Err(_) => break,
                Ok(got) => {
                    put(&self.log, lane, at + done, &buf[..got]);
                    done += got as u64;
                }
            }
        }
        Ok(())
    }

    /// Effects of a finished call on what is known of the address space.
    pub(super) fn after_memory(&mut self, id: u32, pending: &PendingCall) -> Result<()> {
        if matches!(pending.kind, Kind::Brk) {
            self.task(id).space.brk.set(pending.ret as u64);
        }
        Ok(())
    }
}

/// File position of a descriptor of the task.
pub(super) fn position(tid: Tid, fd: i32) -> u64 {
    let info = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap_or_default();
    let pos = info.lines().find_map(|line| line.strip_prefix("pos:"));
    pos.and_then(|pos| pos.trim().parse().ok()).unwrap_or(0)
}

/// Status flags (`O_*`) of a descriptor of the task.
pub(super) fn status_flags(tid: Tid, fd: i32) -> i32 {
    let info = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(0)
}

/// Start and length of what a call on an inode made of the content of a file of `size` bytes, apart
/// from that size. `None`: neither was changed.
fn changed_range(pending: &PendingCall, size: u64) -> Option<(u64, u64)> {
    const MOVES: i32 = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
    const CLEARS: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
    // `FS_IOC_RESVSP` to `FS_IOC_ZERO_RANGE` (linux/falloc.h): fallocate(2) as it was before.
    const RESERVES: [u64; 5] = [
        0x4030_5828,
        0x4030_5829,
        0x4030_582a,
        0x4030_582b,
        0x4030_5839,
    ];
    let [_, mode, at, len, ..] = pending.call.args;
    match i64::from(pending.call.nr) {
        // What is cut off is gone, what is added is zero: the size says it all.
        libc::SYS_ftruncate => Some((0, 0)),
        libc::SYS_fallocate if mode as i32 & MOVES != 0 => Some((0, size)),
        libc::SYS_fallocate if mode as i32 & CLEARS != 0 => {
            Some((at, len.min(size.saturating_sub(at))))
        }
        libc::SYS_fallocate => Some((0, 0)),
        libc::SYS_ioctl if mode == libc::FICLONE || mode == libc::FICLONERANGE => Some((0, size)),
        libc::SYS_ioctl if RESERVES.contains(&mode) => Some((0, size)),
        _ => None,
    }
}

/// The argument with the descriptor that a call writes to, and whether it says where.
fn written_file(pending: &PendingCall) -> Option<(u8, bool)> {
    use scribe_syscalls::Effect;
    match pending.row.effect {
        Effect::Writes(arg) | Effect::Moves { to: arg, .. } => Some((arg, false)),
        Effect::WritesAt(arg) | Effect::InodeWrites(arg) => Some((arg, true)),
        _ => None,
    }
}

/// Writes all of `piece`.
fn put_all(log: &Journal, lane: u32, at: u64, piece: &[u8]) {
    log.append(lane, |buf| scribe_log::put_data(buf, at, piece));
    log.maybe_flush();
}

/// Writes the pages of `piece` that are not all zero.
fn put_nonzero(log: &Journal, lane: u32, at: u64, piece: &[u8]) {
    const RUN: usize = 256 << 10;
    for (i, run) in piece.chunks(RUN).enumerate() {
        let zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
        let pages = run.chunks(PAGE as usize);
        let skip = pages.clone().take_while(zero).count() * PAGE as usize;
        if skip >= run.len() {
            continue;
        }
        let tail = pages.rev().take_while(zero).count() * PAGE as usize;
        let end = run.len().next_multiple_of(PAGE as usize) - tail;
        let bytes = &run[skip..end.min(run.len())];
        let addr = at + (i * RUN + skip) as u64;
        log.append(lane, |buf| scribe_log::put_data(buf, addr, bytes));
        log.maybe_flush();
    }
}
