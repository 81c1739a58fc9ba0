//! Which places of the program's text are patched, and when.

use super::cache::{self, Place, Places};
use super::calls::Kind;
use super::*;
use crate::agent::{TEXT_BOUNDS, encode_sites};
use crate::pin::LONG_TEXT;
use scribe_abi::PAGE;
use scribe_abi::shared::TEXTS;
use scribe_log::patch;
use scribe_tracee::maps;
use scribe_tracee::patch::{FarBranches, Kind as SiteKind, Site, WINDOW, extent};
use std::cell::{Cell, OnceCell};
use std::os::unix::fs::{FileExt, MetadataExt};

/// From this call on a place is worth patching: what is called once is cheaper by trap.
const WORTH: u32 = 2;
/// So much of a file is looked at for what it says of its functions.
const LONG_FILE: u64 = 256 << 20;

/// A mapping that holds program text of a file, private and not writable.
#[derive(Clone)]
pub struct Text {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    info: Rc<TextInfo>,
}

/// What is known of the text of a file.
pub(super) struct TextInfo {
    /// Found when they are needed.
    branches: OnceCell<FarBranches>,
    /// Places that came up in any process, by offset; `None`: they cannot be patched.
    places: RefCell<Places>,
    /// The state of the file in which its CPUIDs were looked for ([`cache::state`]), or 0.
    searched: u64,
    /// There are new ones.
    changed: Cell<bool>,
}

/// Texts of files, by device, inode, modification time and the mapped part.
#[derive(Default)]
pub(super) struct Texts {
    known: HashMap<TextKey, Rc<TextInfo>>,
}

/// Device, inode and modification time of a file; offset and length of the mapping.
pub(super) type TextKey = (u64, u64, i64, u64, u64);

impl Texts {
    /// Keeps what is new for the next recording.
    pub(super) fn save(&self) {
        for (key, info) in &self.known {
            if key.1 != 0 && info.changed.get() {
                cache::save(key, &info.places.borrow(), info.searched);
            }
        }
    }
}

impl Recorder {
    /// An instruction at `at` came by trap: its place is remembered, and patched if that is safe
    /// and worthwhile.
    pub(super) fn patch_place(&mut self, id: u32, at: u64) -> Result<()> {
        match self.worth_patching(id, at) {
            Some(place) => self.patch(id, &[(at, place)], 0),
            None => Ok(()),
        }
    }

    /// The same for an instruction that is no event: it is patched at the task's next call.
    pub(super) fn learn_place(&mut self, id: u32, at: u64) {
        if let Some(place) = self.worth_patching(id, at) {
            let space = &self.task(id).space;
            space.sites.borrow_mut().learnt.push((at, place));
        }
    }

    /// The task has come to a call: patches what it learnt on the way.
    pub(super) fn patch_learnt(&mut self, id: u32) -> Result<()> {
        let space = &self.task(id).space;
        let learnt = std::mem::take(&mut space.sites.borrow_mut().learnt);
        match learnt.is_empty() {
            true => Ok(()),
            false => self.patch(id, &learnt, 0),
        }
    }

    fn worth_patching(&mut self, id: u32, at: u64) -> Option<Place> {
        if self.shared.is_none() || self.ptrace.in_use() {
            return None;
        }
        let space = self.task(id).space.clone();
        if !space.agent.get() || space.sites.borrow().off {
            return None;
        }
        let tried = {
            let mut sites = space.sites.borrow_mut();
            let tried = sites.tried.entry(at).or_default();
            *tried = tried.saturating_add(1);
            *tried
        };
        if tried == u32::MAX {
            if let Some(name) = space.sites.borrow().unfit.get(&at) {
                *self.stats.unpatched.entry(name.to_string()).or_default() += 1;
            }
            return None;
        }
        let place = self.place_at(id, at);
        if tried < WORTH {
            return None;
        }
        // Whatever comes of it, it is not tried again.
        space.sites.borrow_mut().tried.insert(at, u32::MAX);
        if place.is_none() {
            self.note_unfit(id, at);
        }
        place
    }

    /// How a place can be patched.
    fn place_at(&mut self, id: u32, at: u64) -> Option<Place> {
        let text = self.text_at(id, at, None)?;
        let offset = (at - text.start) as u32;
        if let Some(known) = text.info.places.borrow().get(&offset) {
            return *known;
        }
        let space = self.task(id).space.clone();
        let first = text.start.max(at.saturating_sub(WINDOW as u64));
        let last = text.end.min(at + WINDOW as u64);
        let mut window = vec![0; (last - first) as usize];
        let got = space.mem.read_some(first, &mut window);
        window.truncate(got);
        let base = (first - text.start) as usize;
        let inside = (at - first) as usize;
        SiteKind::of(window.get(inside..)?)?;
        let tid = self.task(id).tid;
        let branches = text
            .info
            .branches
            .get_or_init(|| find_branches(tid, &space, &text));
        let place = place_in(&window, inside, base, branches);
        text.info.places.borrow_mut().insert(offset, place);
        text.info.changed.set(true);
        place
    }

    /// Patches the places of a new mapping that came up in other processes before.
    /// `maps`: what is known of mappings there.
    pub(super) fn patch_known(
        &mut self,
        id: u32,
        start: u64,
        end: u64,
        maps: &[maps::Mapping],
    ) -> Result<()> {
        let space = self.task(id).space.clone();
        if self.shared.is_none()
            || self.ptrace.in_use()
            || !space.agent.get()
            || space.sites.borrow().off
        {
            return Ok(());
        }
        let Some(text) = self.text_at(id, start, Some(maps)) else {
            return Ok(());
        };
        let places = text.info.places.borrow();
        let places: Vec<_> = places
            .iter()
            .filter_map(|(offset, place)| {
                let at = text.start + u64::from(*offset);
                (at + 2 <= end).then_some((at, (*place)?))
            })
            .collect();
        self.patch(id, &places, patch::HERE)
    }

    /// The program mapped a file.
    pub(super) fn patch_mapped(&mut self, id: u32, kind: &Kind, at: u64) -> Result<()> {
        match *kind {
            Kind::Mapped {
                fd: Some(fd),
                offset,
                len,
                prot,
                flags,
            } if prot & libc::PROT_EXEC as u32 != 0
                && flags as i32 & libc::MAP_TYPE == libc::MAP_PRIVATE
                && !self.task(id).space.sites.borrow().no_loader =>
            {
                let end = at.saturating_add(len.next_multiple_of(PAGE));
                let link = format!("/proc/{}/fd/{fd}", self.task(id).tid);
                let (Ok(meta), Ok(name)) = (std::fs::metadata(&link), std::fs::read_link(&link))
                else {
                    return Ok(());
                };
                let map = maps::Mapping {
                    start: at,
                    end,
                    prot,
                    shared: false,
                    offset,
                    dev: meta.dev(),
                    ino: meta.ino(),
                    name: name.to_string_lossy().into_owned(),
                };
                self.patch_known(id, at, end, &[map])
            }
            _ => Ok(()),
        }
    }

    fn patch(&mut self, id: u32, places: &[(u64, Place)], flags: u8) -> Result<()> {
        let space = self.task(id).space.clone();
        let mut sites = space.sites.borrow_mut();
        let mut wanted: Vec<Site> = Vec::new();
        let mut hashes = Vec::new();
        for (at, (extent, kind, hash)) in places {
            let site = Site {
                syscall: *at,
                extent: *extent,
                stub: 0,
                kind: *kind,
            };
            // Places overlap where two stand close together; and nobody may stand inside.
            // Where CPUID does not trap, one that is not patched answers for the CPU that it runs on.
            let needed = *kind == SiteKind::Cpuid && !self.machine.cpuid_faults;
            let some = self.options.patch_some.filter(|_| !needed);
            let chosen = some.is_none_or(|seed| {
                let place = [seed, site.syscall & 0xfff].map(u64::to_le_bytes).concat();
                xxhash_rust::xxh3::xxh3_64(&place) & 1 == 0
            });
            let inside =
                |rip: u64| rip > site.start() && rip < site.end() && site.resume(rip).is_none();
            let overlaps = (site.start()..site.end()).any(|addr| sites.around(addr).is_some())
                || wanted.last().is_some_and(|last| last.end() > site.start());
            let occupied = self
                .tasks
                .values()
                .any(|task| Rc::ptr_eq(&task.space, &space) && inside(task.app.rip));
            if chosen && !overlaps && !occupied {
                wanted.push(site);
                hashes.push(*hash);
            }
        }
        let done = sites.patch(&space.mem, &wanted, Some(&hashes))?;
        drop(sites);
        if !done.is_empty() {
            self.stats.patched += done.len() as u64;
            let lane = self.task(id).lane;
            let sites = encode_sites(&done).into();
            self.write(lane, &Record::Patch { flags, sites });
        }
        Ok(())
    }

    /// A place stays on the trap: for the statistics.
    fn note_unfit(&mut self, id: u32, at: u64) {
        let task = self.task(id);
        let maps = maps::read(task.tid);
        let map = maps.iter().find(|map| (map.start..map.end).contains(&at));
        let name: Rc<str> = match map {
            Some(map) if !map.name.is_empty() => {
                format!("{}+{:#x}", map.name, at - map.start + map.offset).into()
            }
            _ => format!("anonymous memory at {at:#x}").into(),
        };
        let mut sites = task.space.sites.borrow_mut();
        sites.unfit.insert(at, name.clone());
        drop(sites);
        *self.stats.unpatched.entry(name.to_string()).or_default() += 1;
    }

    /// Adds what a task's agent counted to the statistics.
    pub(super) fn note_counters(&mut self, area: &TaskSlot) {
        for (sum, counter) in self.stats.passed.iter_mut().zip(&area.counters) {
            *sum += counter.load(Relaxed);
        }
    }

    /// The text mapping around an address, if it is one whose places may be patched. `maps`: where to look for it, instead of
    /// asking the kernel.
    fn text_at(&mut self, id: u32, at: u64, maps: Option<&[maps::Mapping]>) -> Option<Text> {
        let task = self.task(id);
        let (tid, space) = (task.tid, task.space.clone());
        let known = |space: &AddressSpace| {
            let sites = space.sites.borrow();
            sites
                .text
                .iter()
                .find(|t| t.start <= at && at + 2 <= t.end)
                .cloned()
        };
        if let Some(text) = known(&space) {
            return Some(text);
        }
        let read = if maps.is_none() {
            maps::read(tid)
        } else {
            Vec::new()
        };
        for map in maps.unwrap_or(&read) {
            let exec = map.prot & libc::PROT_EXEC as u32 != 0;
            let file = map.ino != 0 || map.name == "[vdso]";
            let ours = scribe_abi::is_ours(map.start, map.end);
            if !exec || map.writable() || map.shared || !file || ours || map.start >= 1 << 47 {
                continue;
            }
            if !(map.start <= at && at + 2 <= map.end) {
                continue;
            }
            let info = self.text_info(tid, map)?;
            let text = Text {
                start: map.start,
                end: map.end,
                info,
            };
            let mut sites = space.sites.borrow_mut();
            sites.text.push(text.clone());
            let mut texts: Vec<[u64; 2]> = sites.text.iter().map(|t| [t.start, t.end]).collect();
            if texts.len() > TEXTS {
                let start = texts.iter().map(|text| text[0]).min().unwrap_or(0);
                let end = texts.iter().map(|text| text[1]).max().unwrap_or(u64::MAX);
                texts = vec![[start, end]];
            }
            let mut words = vec![texts.len() as u64];
            words.extend(texts.iter().flatten());
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            space.mem.write(TEXT_BOUNDS, &bytes).ok()?;
            return Some(text);
        }
        None
    }

    fn text_info(&mut self, tid: Tid, map: &maps::Mapping) -> Option<Rc<TextInfo>> {
        // It would have to be in memory to be searched for branches.
        if map.size() > LONG_TEXT {
            return None;
        }
        let file = std::fs::File::open(format!("/proc/{tid}/root{}", map.name)).ok();
        let meta = file.as_ref().and_then(|file| file.metadata().ok());
        let meta = meta.filter(|meta| meta.ino() == map.ino && map.ino != 0);
        let state = meta.as_ref().map_or(0, cache::state);
        let key = meta.map(|m| (m.dev(), m.ino(), m.mtime(), map.offset, map.size()));
        // Of a vDSO there is only one: ours.
        let key = key.unwrap_or((0, 0, 0, 0, map.size()));
        if let Some(known) = self.texts.known.get(&key) {
            return Some(known.clone());
        }
        let mut known = match key.1 {
            0 => Default::default(),
            _ => cache::load(&key),
        };
        if known.searched != 0 && known.searched != state {
            // It has been written since, at the same length and in the same second.
            known = Default::default();
        }
        if self.options.level == 0 {
            // The smallest logs hold no more places than came up in them, and those that must be patched.
            let needed = |place: &Option<Place>| matches!(place, Some((_, SiteKind::Cpuid, _)));
            known.places.retain(|_, place| needed(place));
        }
        let mut info = TextInfo {
            branches: OnceCell::new(),
            places: known.places.into(),
            searched: known.searched,
            changed: Cell::new(false),
        };
        if !self.machine.cpuid_faults
            && info.searched != state
            && let Some(file) = file.filter(|_| key.1 != 0)
        {
            find_cpuids(&file, map, &info);
            info.searched = state;
            info.changed.set(true);
        }
        let info = Rc::new(info);
        if key.1 != 0 || map.name == "[vdso]" {
            self.texts.known.insert(key, info.clone());
        }
        Some(info)
    }

    /// Puts the program's own bytes back in a range of the task's memory. The task stands at a sync
    /// point, behind its last event.
    pub(super) fn unpatch(&mut self, id: u32, start: u64, end: u64) -> Result<()> {
        self.unpatch_at(id, start, end, patch::REMOVE | patch::HERE)
    }

    /// The same before a call that changes the range.
    pub(super) fn unpatch_before_call(&mut self, id: u32, start: u64, end: u64) -> Result<()> {
        self.unpatch_at(id, start, end, patch::REMOVE)
    }

    /// The program has set the trap flag: it would find the agent's instructions among its own. From here on
    /// nothing of it is patched. The task has just entered its handler.
    pub(super) fn steps_by_itself(&mut self, id: u32) -> Result<()> {
        let space = self.task(id).space.clone();
        if std::mem::replace(&mut space.sites.borrow_mut().off, true) {
            return Ok(());
        }
        self.unpatch(id, 0, u64::MAX)?;
        if !self.machine.cpuid_faults {
            let tasks = self.tasks.values();
            let own = tasks.filter(|task| Rc::ptr_eq(&task.space, &space));
            space.pin(own.map(|task| task.tid));
        }
        Ok(())
    }

    fn unpatch_at(&mut self, id: u32, start: u64, end: u64, flags: u8) -> Result<()> {
        let space = self.task(id).space.clone();
        let gone = space.sites.borrow_mut().restore(&space.mem, start, end);
        if !gone.is_empty() {
            let lane = self.task(id).lane;
            let sites = encode_sites(&gone).into();
            self.write(lane, &Record::Patch { flags, sites });
        }
        Ok(())
    }
}

/// Where CPUID does not trap, no place of one ever comes up, and what it answers depends on the CPU that it runs on (APIC
/// ids, which the C library keeps): they are looked for in the file, and become places of the text. Others that look like one
/// become places that cannot be patched, so that the cache has them and they are not looked at again.
fn find_cpuids(file: &std::fs::File, map: &maps::Mapping, info: &TextInfo) {
    let mut text = vec![0; map.size() as usize];
    let got = file.read_at(&mut text, map.offset).unwrap_or(0);
    text.truncate(got);
    let mut places = info.places.borrow_mut();
    let code = SiteKind::Cpuid.code();
    let mut new: Vec<usize> = memchr::memmem::find_iter(&text, code).collect();
    new.retain(|at| !places.contains_key(&(*at as u32)));
    if new.is_empty() {
        return;
    }
    let len = file.metadata().map_or(0, |meta| meta.len());
    let mut whole = vec![0; len.min(LONG_FILE) as usize];
    let got = file.read_at(&mut whole, 0).unwrap_or(0);
    whole.truncate(got);
    let end = map.offset + map.size();
    let known = scribe_tracee::functions::instructions(&whole, SiteKind::Cpuid, map.offset, end);
    let branches = info.branches.get_or_init(|| FarBranches::find(&text));
    for at in new {
        let real = known.binary_search(&(map.offset + at as u64)).is_ok();
        let place = real.then(|| place_in(&text, at, 0, branches)).flatten();
        places.insert(at as u32, place);
    }
}

/// How the place at `at` of `text` can be patched; `base`: where in the whole text that begins.
fn place_in(text: &[u8], at: usize, base: usize, branches: &FarBranches) -> Option<Place> {
    let kind = SiteKind::of(text.get(at..)?)?;
    let extent = extent(text, at, base, branches)?;
    let (before, after) = (usize::from(extent.before), usize::from(extent.after));
    let original = text.get(at - before..at + kind.length() + after)?;
    Some((extent, kind, crate::agent::site_hash(original)))
}

/// Where far branches of a text lead: read from its file, whose bytes nobody has patched, or, for a
/// vDSO, from memory.
fn find_branches(tid: Tid, space: &AddressSpace, text: &Text) -> FarBranches {
    let mut bytes = vec![0; (text.end - text.start) as usize];
    let map = maps::read(tid)
        .into_iter()
        .find(|map| map.start == text.start);
    let file = map.filter(|map| map.ino != 0).and_then(|map| {
        let file = std::fs::File::open(format!("/proc/{tid}/root{}", map.name)).ok()?;
        (file.metadata().ok()?.ino() == map.ino).then_some((file, map.offset))
    });
    let got = match file {
        Some((file, offset)) => file.read_at(&mut bytes, offset).unwrap_or(0),
        None => space.mem.read_some(text.start, &mut bytes),
    };
    bytes.truncate(got);
    FarBranches::find(&bytes)
}
