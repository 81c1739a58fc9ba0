//! What the recorder has to know of descriptors: whether reading them may block, whether they are
//! the recording's own terminal output, whether their content must be edited. Asked of the kernel
//! at first use and kept until a call may have changed the descriptor.

use super::calls::PendingCall;
use super::*;
use crate::agent::FilesSlot;
use scribe_abi::fast::class;
use scribe_log::flags::{STDERR, STDOUT};
use scribe_syscalls::Effect;

/// What is known of one descriptor.
#[derive(Clone, Debug)]
pub struct FdInfo {
    /// Device and inode of a regular file.
    pub file: Option<(u64, u64)>,
    /// Not a regular file, directory or block device.
    pub may_block: bool,
    /// O_DIRECT: reads may write more of the buffer than they say.
    pub direct: bool,
    /// A file of the installed system: what is read from it stands there.
    pub system: Option<Rc<std::fs::File>>,
    /// [`STDOUT`], [`STDERR`], or neither.
    pub shown: u8,
    /// `/proc/PID/mem`: the task whose memory it is.
    pub memory_of: Option<Tid>,
    /// A file of /proc whose text shows what Scribe does.
    pub edit: Option<Edit>,
    /// The name, until it has been written to the log.
    pub new_name: Option<String>,
}

/// How a file of /proc is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// maps, smaps, numa_maps: without our own mappings.
    Maps,
    /// status: the tracer's id is not ours.
    Status,
    /// A signalfd: what we sent in a tracee's name.
    Signals,
}

/// The descriptors of a process that were used.
#[derive(Default)]
pub struct FdCache {
    known: HashMap<i32, FdInfo>,
    /// What agents know of them, and forget when they change one. What has no class is not known.
    pub classes: Option<FilesSlot>,
}

impl FdCache {
    /// Forgets one descriptor.
    pub fn forget(&mut self, fd: i32) {
        self.known.remove(&fd);
        if let Some(classes) = &self.classes {
            classes.set(fd, 0);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.known.clear();
        if let Some(classes) = &self.classes {
            classes.clear();
        }
    }

    /// What a fork finds.
    pub fn forked(&self, shared: Option<&Rc<Shared>>) -> FdCache {
        let classes = shared.and_then(Shared::files);
        if let (Some(from), Some(to)) = (&self.classes, &classes) {
            from.copy_to(to);
        }
        FdCache {
            known: self.known.clone(),
            classes,
        }
    }

    fn get(&self, fd: i32) -> Option<&FdInfo> {
        // What has no class, or one from an agent, may have become another file since.
        let stale = |class: u8| class == 0 || class & class::BY_AGENT != 0;
        if self
            .classes
            .as_ref()
            .is_some_and(|classes| stale(classes.get(fd)))
        {
            return None;
        }
        self.known.get(&fd)
    }
}

impl Recorder {
    /// What is known of a descriptor of the task; `None` if it is not open.
    pub(super) fn fd_info(&self, id: u32, fd: i32) -> Option<FdInfo> {
        let task = self.task(id);
        if let Some(known) = task.files.borrow().get(fd) {
            return Some(known.clone());
        }
        let info = self.ask(task.tid, fd)?;
        if let (Some(shared), Some((dev, _)), None) = (&self.shared, info.file, &info.edit)
            && on_disk(task.tid, fd)
        {
            shared.plain_device(dev);
        }
        let mut files = task.files.borrow_mut();
        files.known.insert(fd, info.clone());
        if let Some(classes) = &files.classes {
            classes.set(fd, self.class_of(&info));
        }
        Some(info)
    }

    fn ask(&self, tid: Tid, fd: i32) -> Option<FdInfo> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let link = format!("/proc/{tid}/fd/{fd}");
        let meta = std::fs::metadata(&link);
        let name = std::fs::read_link(&link).ok()?;
        let name = name.to_string_lossy().into_owned();
        let file = meta.as_ref().ok().map(|meta| (meta.dev(), meta.ino()));
        let (may_block, rdev) = match &meta {
            Ok(meta) => {
                let kind = meta.file_type();
                let plain = kind.is_file() || kind.is_dir() || kind.is_block_device();
                // eventfd, epoll and their like are anonymous inodes, which look like files.
                (!plain || name.starts_with("anon_inode:"), meta.rdev())
            }
            Err(_) => (true, 0),
        };
        let edit = match name
            .strip_prefix("/proc/")
            .map(|rest| rest.rsplit('/').next())
        {
            Some(Some("maps" | "smaps" | "numa_maps")) => Some(Edit::Maps),
            Some(Some("status")) => Some(Edit::Status),
            _ if name == "anon_inode:[signalfd]" => Some(Edit::Signals),
            _ => None,
        };
        let shown = self.shown_on(tid, fd, rdev, file);
        let flags = memory::status_flags(tid, fd);
        let direct = !may_block && flags & libc::O_DIRECT != 0;
        let regular = meta.as_ref().is_ok_and(|meta| meta.is_file());
        let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let device = meta.as_ref().ok().map(|meta| meta.dev());
        let system = meta
            .ok()
            .filter(|meta| meta.is_file() && !writable && self.is_system(&name, meta))
            .and_then(|_| std::fs::File::open(&link).ok())
            .map(Rc::new);
        let memory_of = name.strip_suffix("/mem").and_then(|path| {
            let mut parts = path.strip_prefix("/proc/")?.rsplit('/');
            let shown: Tid = parts.next()?.parse().ok()?;
            if std::fs::metadata("/proc").is_ok_and(|ours| Some(ours.dev()) == device) {
                return Some(shown);
            }
            // Mounted in another pid namespace: that of the reader, most probably.
            let target = self.task_seen(*self.by_tid.get(&tid)?, shown)?;
            Some(self.task(target).tid)
        });
        Some(FdInfo {
            file: file.filter(|_| regular),
            may_block,
            memory_of,
            system,
            direct,
            shown,
            edit,
            new_name: Some(name),
        })
    }

    /// What an agent may do with such a descriptor.
    fn class_of(&self, info: &FdInfo) -> u8 {
        let mut class = class::KNOWN;
        if info.may_block {
            class |= class::MAY_BLOCK;
        }
        if info.edit.is_some() || info.direct || info.system.is_some() {
            class |= class::SLOW_READ;
        }
        let mapped = info
            .file
            .is_some_and(|key| self.shared_files.contains_key(&key));
        if info.shown != 0 || info.memory_of.is_some() || mapped {
            class |= class::SLOW_WRITE;
        }
        class
    }

    /// Forgets all descriptors of all tasks.
    pub(super) fn forget_descriptors(&self) {
        for task in self.tasks.values() {
            task.files.borrow_mut().clear();
        }
    }

    /// Which of the recording's outputs a descriptor leads to.
    fn shown_on(&self, tid: Tid, fd: i32, rdev: u64, file: Option<(u64, u64)>) -> u8 {
        let same = |ours: i32| {
            let Some(known) = self.options.stdio[ours as usize - 1] else {
                return false;
            };
            // A terminal may have been opened anew.
            // /dev/tty is device 5:0 and means the controlling terminal, which is this one.
            if known.terminal != 0 && (known.terminal == rdev || rdev == libc::makedev(5, 0)) {
                return true;
            }
            if known.file.is_some() && known.file == file {
                return true;
            }
            // SAFETY: kcmp has no pointer arguments. KCMP_FILE is 0 (include/uapi/linux/kcmp.h).
            unsafe { libc::syscall(libc::SYS_kcmp, std::process::id(), tid, 0, ours, fd) == 0 }
        };
        match (same(1), same(2)) {
            (true, true) if fd == 2 => STDERR,
            (true, _) => STDOUT,
            (false, true) => STDERR,
            _ => 0,
        }
    }

    /// Whether the call wrote to the recording's standard output or error.
    pub(super) fn terminal_flags(&self, id: u32, pending: &PendingCall, ret: i64) -> u8 {
        if ret <= 0 {
            0
        } else {
            self.shown_fd(id, pending)
        }
    }

    /// Which of the recording's outputs the call writes to: [`STDOUT`], [`STDERR`], or 0.
    pub(super) fn shown_fd(&self, id: u32, pending: &PendingCall) -> u8 {
        let fd = match pending.row.effect {
            Effect::Writes(arg) | Effect::WritesAt(arg) => pending.call.args[arg as usize] as i32,
            _ => return 0,
        };
        self.fd_info(id, fd).map_or(0, |info| info.shown)
    }

    /// Whether the call would put data on the recording's terminal that nobody sees pass: it is
    /// answered with EINVAL, as by files that do not support it, and the program copies by hand.
    pub(super) fn moves_to_terminal(
        &self,
        id: u32,
        row: &scribe_syscalls::Row,
        call: &scribe_syscalls::Call,
    ) -> bool {
        match row.effect {
            Effect::Moves { to, .. } => {
                let fd = call.args[to as usize] as i32;
                self.fd_info(id, fd).is_some_and(|info| info.shown != 0)
            }
            _ => false,
        }
    }

    /// Names of descriptors that this call uses for the first time.
    pub(super) fn describe_fds(&self, id: u32, pending: &PendingCall) -> Vec<(i32, Vec<u8>)> {
        if self.options.level == 0 {
            return Vec::new();
        }
        let mut names = Vec::new();
        for (arg, value) in pending.row.args.iter().zip(pending.call.args) {
            if matches!(arg.ty, scribe_syscalls::Ty::Fd) {
                let fd = value as i32;
                if self.fd_info(id, fd).is_some()
                    && let Some(info) = self.task(id).files.borrow_mut().known.get_mut(&fd)
                    && let Some(name) = info.new_name.take()
                {
                    names.push((fd, name.into_bytes()));
                }
            }
        }
        names
    }

    /// Where the output of a read stands, if that is in a file of the system: file and offset.
    /// Compared here, so that a file that changes is not trusted.
    pub(super) fn in_system_file(
        &mut self,
        id: u32,
        pending: &PendingCall,
        outputs: &[(u64, u64, u64)],
    ) -> Option<(u32, u64)> {
        use std::os::unix::fs::FileExt;
        let [(addr, _, len)] = outputs else {
            return None;
        };
        if *len < FILE_OUT_MIN || *len as i64 != pending.ret {
            return None;
        }
        let (arg, positioned) = match pending.row.effect {
            Effect::Reads(arg) => (arg, false),
            Effect::ReadsAt(arg) => (arg, true),
            _ => return None,
        };
        let fd = pending.call.args[arg as usize] as i32;
        let info = self.fd_info(id, fd)?;
        let file = info.system?;
        let tid = self.task(id).tid;
        let offset = if positioned {
            pending.call.args[3]
        } else {
            memory::position(tid, fd).checked_sub(*len)?
        };
        let space = self.task(id).space.clone();
        let mut same = true;
        let mut bytes = Vec::new();
        crate::state::for_pieces(&space.mem, *addr, *len, |at, piece| {
            bytes.resize(piece.len(), 0);
            same &= file.read_exact_at(&mut bytes, offset + (at - addr)).is_ok() && bytes == piece;
        });
        if !same {
            return None;
        }
        let name = std::fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?;
        let file = self.file_id(&file, &name.to_string_lossy());
        (file != 0).then_some((file, offset))
    }

    /// Whether the call read by O_DIRECT.
    pub(super) fn reads_directly(&self, id: u32, pending: &PendingCall) -> bool {
        match pending.row.effect {
            Effect::Reads(arg) | Effect::ReadsAt(arg) if pending.ret > 0 => {
                let fd = pending.call.args[arg as usize] as i32;
                self.fd_info(id, fd).is_some_and(|info| info.direct)
            }
            _ => false,
        }
    }

    /// Whether what the call reads is to be edited.
    pub(super) fn edits(&self, id: u32, pending: &PendingCall) -> Option<Edit> {
        match pending.row.effect {
            Effect::Reads(arg) | Effect::ReadsAt(arg) => {
                let fd = pending.call.args[arg as usize] as i32;
                self.fd_info(id, fd)?.edit
            }
            _ => None,
        }
    }

    /// Takes our traces out of text that the program read from /proc and that lies at `range` (home,
    /// place, length), and makes range and result as long as what is left of it.
    pub(super) fn filter_output(
        &mut self,
        id: u32,
        pending: &mut PendingCall,
        range: &mut (u64, u64, u64),
        edit: Edit,
    ) -> Result<()> {
        let space = self.task(id).space.clone();
        let (home, place, len) = *range;
        let text = space.mem.read_vec(place, len as usize)?;
        let mut edited = match edit {
            Edit::Signals => ptrace::honest_signalfd(&text),
            Edit::Maps => self.foreign_maps(id, pending, &text),
            Edit::Status => edit_text(&text, edit, |ids| self.tracer_id(ids)),
        };
        if edited == text {
            return Ok(());
        }
        // None may be left where the call cannot be made again; an empty result would be the file's end.
        let kept = match edited.is_empty() {
            true => text.len(),
            false => edited.len().min(text.len()),
        };
        // Where the kernel has put it in place already, the rest is an output, too.
        let shown = if home == place { text.len() } else { kept };
        edited.resize(shown, 0);
        space.mem.write(place, &edited)?;
        (pending.ret, range.2) = (kept as i64, shown as u64);
        Ok(())
    }

    /// Whether a call read nothing but lines about our own mappings: it is to read on, as an empty
    /// result would be the end of the file.
    pub(super) fn reads_own_maps(&self, id: u32, pending: &PendingCall) -> bool {
        let simple = matches!(pending.row.name, "read" | "pread64");
        if !simple || pending.ret <= 0 || self.edits(id, pending) != Some(Edit::Maps) {
            return false;
        }
        let mem = &self.task(id).space.mem;
        let Some(at) = pending.placed.first() else {
            return false;
        };
        mem.read_vec(*at, pending.ret as usize)
            .is_ok_and(|text| self.foreign_maps(id, pending, &text).is_empty())
    }

    /// What of a piece of `maps` or its kin is not about our own mappings. A piece may begin and end
    /// within a line, so its neighbourhood is looked at, too.
    fn foreign_maps(&self, id: u32, pending: &PendingCall, text: &[u8]) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let (arg, at) = match pending.row.effect {
            Effect::Reads(arg) => (arg, None),
            Effect::ReadsAt(arg) => (arg, Some(pending.agent_args[3])),
            _ => return text.to_vec(),
        };
        let (tid, fd) = (self.task(id).tid, pending.call.args[arg as usize] as i32);
        let len = text.len() as u64;
        let at = at.unwrap_or_else(|| memory::position(tid, fd).saturating_sub(len));
        let from = at.saturating_sub(MAPS_ENTRY);
        let mut around = Vec::new();
        if let Ok(file) = std::fs::File::open(format!("/proc/{tid}/fd/{fd}")) {
            let mut piece = [0; 4096];
            while (around.len() as u64) < at - from + len + MAPS_ENTRY {
                match file.read_at(&mut piece, from + around.len() as u64) {
                    Ok(n) if n > 0 => around.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
        }
        let inside = (at - from) as usize..(at - from) as usize + text.len();
        if around.get(inside.clone()) != Some(text) {
            return edit_text(text, Edit::Maps, |_| 0);
        }
        foreign_lines(&around, from > 0, inside)
    }

    /// Forgets what the call may have changed about descriptors.
    pub(super) fn after_call(&mut self, id: u32, pending: &PendingCall) -> Result<()> {
        let args = &pending.call.args;
        let ret = pending.ret;
        if ret == 0 && unshares_files(&pending.call) {
            let own = self.task(id).files.borrow().forked(self.shared.as_ref());
            self.task_mut(id).files = Rc::new(RefCell::new(own));
            self.agent_for(id)?;
        }
        let files = self.task(id).files.clone();
        match pending.row.effect {
            Effect::OpensFd | Effect::OpensPath { .. } | Effect::Accepts(_) if ret >= 0 => {
                files.borrow_mut().forget(ret as i32);
            }
            Effect::Dup { to, .. } => {
                let fd = to.map_or(ret as i32, |arg| args[arg as usize] as i32);
                files.borrow_mut().forget(fd);
                if ret >= 0 {
                    files.borrow_mut().forget(ret as i32);
                }
            }
            Effect::ClosesFd(arg) => files.borrow_mut().forget(args[arg as usize] as i32),
            Effect::SetsFile(arg) if pending.row.sets_status_flags() => {
                files.borrow_mut().forget(args[arg as usize] as i32);
            }
            Effect::OpensFds2 { .. }
            | Effect::OpensFdAt { .. }
            | Effect::ClosesRange
            | Effect::RecvFds(_) => files.borrow_mut().clear(),
            Effect::Ipc => self.note_ipc(pending),
            _ => {}
        }
        self.after_memory(id, pending)
    }
}

/// Whether the call gives its task a table of descriptors of its own.
fn unshares_files(call: &scribe_syscalls::Call) -> bool {
    match i64::from(call.nr) {
        libc::SYS_unshare => call.args[0] & libc::CLONE_FILES as u64 != 0,
        libc::SYS_close_range => call.args[2] & u64::from(libc::CLOSE_RANGE_UNSHARE) != 0,
        _ => false,
    }
}

/// Whether the file of a descriptor is on a file system for data: not in /proc or the like, whose
/// files may be anything.
fn on_disk(tid: Tid, fd: i32) -> bool {
    // statfs(2), linux/magic.h: ext4, xfs, btrfs, tmpfs, overlayfs, f2fs, ZFS, bcachefs.
    const DATA: [i64; 8] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x794c_7630,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
    ];
    let Ok(path) = std::ffi::CString::new(format!("/proc/{tid}/fd/{fd}")) else {
        return false;
    };
    // SAFETY: a valid path, and a structure for the answer.
    unsafe {
        let mut fs: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &mut fs) == 0 && DATA.contains(&fs.f_type)
    }
}

/// Shorter pieces of files are cheaper as they are than as a reference.
const FILE_OUT_MIN: u64 = 256;

/// No entry of maps, smaps or numa_maps is longer: a path and the lines about it.
const MAPS_ENTRY: u64 = 8192;

/// Whether a line of maps, smaps or numa_maps begins an entry that is about a mapping of ours;
/// `None`: it belongs to the entry before it.
fn begins_ours(line: &[u8]) -> Option<bool> {
    let head = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let (start, end) = head.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    Some(scribe_abi::is_ours(start, end))
}

/// What lies `inside` a range of the text and is not about our mappings. `cut`: the text may begin
/// within a line.
fn foreign_lines(text: &[u8], cut: bool, inside: std::ops::Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut at, mut ours) = (0, false);
    for (i, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if i > 0 || !cut {
            ours = begins_ours(line).unwrap_or(ours);
        }
        let piece = inside.start.max(at)..inside.end.min(at + line.len());
        if !ours && !piece.is_empty() {
            out.extend_from_slice(&text[piece]);
        }
        at += line.len();
    }
    out
}

/// The text without our traces.
fn edit_text(text: &[u8], edit: Edit, tracer: impl Fn(&[Tid]) -> Tid) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let ids_in = |name: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        lines.find_map(|line| line.strip_prefix(name).map(ids::numbers))
    };
    let mut ours = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match edit {
            Edit::Maps => {
                // A line that begins a mapping starts with "start-end "; the others belong to it.
                ours = begins_ours(line).unwrap_or(ours);
                if !ours {
                    out.extend_from_slice(line);
                }
            }
            Edit::Status => {
                if line.starts_with(b"TracerPid:") {
                    let shown = ids_in(b"NSpid:").or_else(|| ids_in(b"Pid:"));
                    let tracer = tracer(&shown.unwrap_or_default());
                    out.extend_from_slice(format!("TracerPid:\t{tracer}\n").as_bytes());
                } else {
                    out.extend_from_slice(line);
                }
            }
            Edit::Signals => out.extend_from_slice(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_mappings_vanish_from_maps() {
        let text = b"00400000-00401000 r-xp 0 00:00 0 a\n70000000-70001000 r-xp 0 00:00 0\n\
            Size: 4 kB\n7f00000000-7f00001000 rw-p 0 00:00 0\nSize: 4 kB\n";
        let edited = edit_text(text, Edit::Maps, |_| 0);
        assert_eq!(
            String::from_utf8(edited).unwrap(),
            "00400000-00401000 r-xp 0 00:00 0 a\n7f00000000-7f00001000 rw-p 0 00:00 0\nSize: 4 kB\n"
        );
    }

    #[test]
    fn own_mappings_vanish_from_pieces_of_maps() {
        let text = b"00400000-00401000 r-xp 0 00:00 0 a\n70000000-70001000 r-xp 0 00:00 0\n\
            Size: 4 kB\n7f00000000-7f00001000 rw-p 0 00:00 0\nSize: 4 kB\n";
        let whole = edit_text(text, Edit::Maps, |_| 0);
        for size in 1..text.len() {
            let mut all = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let end = text.len().min(at + size);
                all.extend(foreign_lines(text, false, at..end));
                at = end;
            }
            assert_eq!(all, whole);
        }
    }

    #[test]
    fn the_tracer_vanishes_from_status() {
        let text = b"Pid:\t3\nTracerPid:\t77\nUid:\t0\n";
        let edited = edit_text(text, Edit::Status, |_| 0);
        assert_eq!(edited, b"Pid:\t3\nTracerPid:\t0\nUid:\t0\n");
    }
}
