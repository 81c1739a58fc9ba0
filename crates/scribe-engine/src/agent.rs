//! The agent as recorder and replayer know it: the memory shared with it, and the patched places of
//! an address space.

use scribe_abi::shared::{
    self, Classes, Config, FILES_SLOTS, LANE_SLOTS, LaneArea, PAGE_OF_LANE, SHARED_LEN, TASK_SLOTS,
    TaskArea, turn,
};
use scribe_abi::sleep::Waking;
use scribe_abi::{
    AGENT_BASE, AGENT_CODE_LEN, AGENT_END, CALL_AFTER, CALL_BAIL, CALL_BEGIN, CALL_INSN, ENTRY_ASK,
    ENTRY_CPUID_PASSED, ENTRY_FAULT, ENTRY_PASSED, PAGE, PROCESS, STUB_COUNT, STUBS,
};
use scribe_kernel::signal::{Disposition, Dispositions};
use scribe_tracee::patch::{Extent, Kind as SiteKind, Site};
use scribe_tracee::{Mem, Regs, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Deref;
use std::os::fd::FromRawFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// The memory shared with all traced processes.
pub struct Shared {
    /// What they map.
    pub file: File,
    base: NonNull<u8>,
    free: RefCell<[Vec<u32>; 3]>,
}

/// Kinds of slots.
#[derive(Clone, Copy)]
enum Kind {
    Files,
    Task,
    Lane,
}

impl Shared {
    /// Creates it. `level` and `keep`: see [`Config`].
    pub fn new(level: u32, keep: u32) -> std::io::Result<Rc<Shared>> {
        // SAFETY: a valid name; the descriptor is owned by the File.
        let file = unsafe {
            let fd = libc::memfd_create(c"scribe-shared".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        file.set_len(SHARED_LEN)?;
        // SAFETY: a new mapping of a file of that length.
        let base = unsafe {
            use std::os::fd::AsRawFd;
            let at = libc::mmap(
                std::ptr::null_mut(),
                SHARED_LEN as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error());
            }
            NonNull::new(at.cast::<u8>()).ok_or_else(std::io::Error::last_os_error)?
        };
        // SAFETY: the mapping is page-aligned and large enough (checked in scribe-abi); nobody else
        // knows of it yet.
        unsafe {
            let config = base.cast::<Config>().as_ptr();
            (&raw mut (*config).level).write(level);
            (&raw mut (*config).keep).write(keep);
            // All zero is a valid value of it.
            scribe_syscalls::fill_fast_table(&mut (*config).table);
        }
        let list = |count: u64| (0..count as u32).rev().collect();
        Ok(Rc::new(Shared {
            file,
            base,
            free: RefCell::new([list(FILES_SLOTS), list(TASK_SLOTS), list(LANE_SLOTS)]),
        }))
    }

    fn config(&self) -> &Config {
        // SAFETY: initialised at creation; what changes is atomic.
        unsafe { &*self.base.cast::<Config>().as_ptr() }
    }

    /// What agents answer to CPUID.
    pub fn set_cpuid(&self, leaves: &[[u32; 6]]) {
        // SAFETY: before any agent runs; the fields belong to the mapping.
        unsafe {
            let config = self.base.cast::<Config>().as_ptr();
            // A leaf that is not there as a whole is the engine's.
            let mut count = leaves.len().min(shared::CPUID_LEAVES);
            while count > 0 && count < leaves.len() && leaves[count - 1][0] == leaves[count][0] {
                count -= 1;
            }
            let table = (&raw mut (*config).cpuid).cast::<[u32; 6]>();
            for (i, leaf) in leaves[..count].iter().enumerate() {
                let mut leaf = *leaf;
                if crate::cpu::max_subleaf(leaf[0]) == 0 {
                    leaf[1] = shared::ANY_SUBLEAF;
                }
                table.add(i).write(leaf);
            }
            (&raw mut (*config).cpuid_count).write(count as u32);
        }
    }

    /// What agents answer to RDTSC.
    pub fn set_tsc(&self, tsc: shared::Tsc) {
        // SAFETY: before any agent runs; the field belongs to the mapping.
        unsafe { (&raw mut (*self.base.cast::<Config>().as_ptr()).tsc).write(tsc) };
    }

    /// Regular files on this device are just files.
    pub fn plain_device(&self, dev: u64) {
        let devices = &self.config().devices;
        if devices.iter().any(|known| known.load(Relaxed) == dev) {
            return;
        }
        if let Some(free) = devices.iter().find(|known| known.load(Relaxed) == 0) {
            free.store(dev, Relaxed);
        }
    }

    /// One of the recording's outputs.
    pub fn output(&self, which: usize, (dev, ino): (u64, u64)) {
        let [d, i] = &self.config().outputs[which];
        d.store(dev, Relaxed);
        i.store(ino, Relaxed);
    }

    /// A file is in the log from now on, with this number. `identity`: see [`shared::KnownFile`].
    pub fn file_known(&self, identity: [u64; 5], id: u32) {
        let first = shared::place_of_file(identity[1]);
        let places = &self.config().files[first..first + shared::KNOWN_FILES_NEAR];
        if let Some(free) = places.iter().find(|file| file.id.load(Relaxed) == 0) {
            for (to, word) in free.identity.iter().zip(identity) {
                to.store(word, Relaxed);
            }
            free.id.store(id, Release);
        }
    }

    /// Another log begins, which knows no files. No task runs.
    pub fn forget_files(&self) {
        let files = &self.config().files;
        files.iter().for_each(|file| file.id.store(0, Release));
    }

    /// A replay has this file of the log open.
    pub fn file_opened(&self, id: u32, file: &File) {
        use std::os::fd::AsRawFd;
        let config = self.config();
        if let Some(opened) = config.opened.get(id as usize) {
            config.engine.store(std::process::id(), Relaxed);
            opened.store(file.as_raw_fd() as u32 + 1, Release);
        }
    }

    /// rseq(2) is the engine's from now on.
    pub fn let_sequences_through(&self) {
        self.config().sequences.store(1, Relaxed);
    }

    /// A file is mapped and shared from now on.
    pub fn mapped(&self, (dev, ino): (u64, u64)) {
        let config = self.config();
        let count = config.mapped_count.load(Relaxed);
        if let Some([d, i]) = config.mapped.get(count as usize) {
            d.store(dev, Relaxed);
            i.store(ino, Relaxed);
        }
        config.mapped_count.store(count + 1, Release);
    }

    fn take(self: &Rc<Shared>, kind: Kind) -> Option<Slot> {
        let index = self.free.borrow_mut()[kind as usize].pop()?;
        Some(Slot {
            shared: self.clone(),
            kind,
            index,
        })
    }

    /// A task area for the task.
    pub fn task(self: &Rc<Shared>, task: u32) -> Option<TaskSlot> {
        let slot = TaskSlot(self.take(Kind::Task)?);
        // SAFETY: the slot is this owner's; all zero is a valid value of these integers.
        unsafe { slot.0.place::<TaskArea>().write(std::mem::zeroed()) };
        slot.task.store(task, Relaxed);
        Some(slot)
    }

    /// A table of classes, nothing known.
    pub fn files(self: &Rc<Shared>) -> Option<FilesSlot> {
        let slot = FilesSlot(self.take(Kind::Files)?);
        slot.clear();
        Some(slot)
    }

    /// A lane area whose free token `task` had last; memory of our own if there is no room.
    pub fn lane(shared: Option<&Rc<Shared>>, task: u32) -> LaneMemory {
        let fresh = LaneArea::new(task);
        match shared.and_then(|shared| shared.take(Kind::Lane)) {
            Some(slot) => {
                // SAFETY: the slot is this owner's.
                unsafe { slot.place::<LaneArea>().write(fresh) };
                LaneMemory::Shared(slot)
            }
            None => LaneMemory::Own(Box::new(fresh)),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no slot leads any more: each holds a reference.
        unsafe { libc::munmap(self.base.as_ptr().cast(), SHARED_LEN as usize) };
    }
}

/// A piece of the shared memory that has an owner.
pub struct Slot {
    shared: Rc<Shared>,
    kind: Kind,
    index: u32,
}

impl Slot {
    /// Its address in traced processes.
    pub fn address(&self) -> u64 {
        match self.kind {
            Kind::Files => shared::files_address(self.index),
            Kind::Task => shared::task_address(self.index),
            Kind::Lane => shared::lane_address(self.index),
        }
    }

    fn place<T>(&self) -> *mut T {
        let offset = self.address() - shared::SHARED_BASE;
        // SAFETY: slots lie within the mapping.
        unsafe { self.shared.base.as_ptr().add(offset as usize).cast() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.free.borrow_mut()[self.kind as usize].push(self.index);
    }
}

/// The area of a task.
pub struct TaskSlot(pub Slot);

impl Deref for TaskSlot {
    type Target = TaskArea;

    fn deref(&self) -> &TaskArea {
        // SAFETY: initialised at its creation; the plain fields are written by the agent only while
        // its task runs, and read here only while it is stopped.
        unsafe { &*self.0.place::<TaskArea>() }
    }
}

impl TaskSlot {
    /// Replay: lets the task go on, if it waits for its turn in its agent.
    pub fn give_turn(&self) -> bool {
        self.answer_turn(turn::GO)
    }

    /// Replay: lets the task pass its call on, if it waits for its turn in its agent.
    pub fn send_away(&self) -> bool {
        self.answer_turn(turn::LEAVE)
    }

    /// Replay: whether the task waits for its turn in its agent.
    pub fn waits_for_turn(&self) -> bool {
        self.turn.load(SeqCst) == turn::WAITS
    }

    fn answer_turn(&self, answer: u32) -> bool {
        let word = &self.turn;
        let waited = word.compare_exchange(turn::WAITS, answer, SeqCst, SeqCst);
        if waited.is_ok() {
            wake(word);
        }
        waited.is_ok()
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        // Nobody is to take it for the task's any more.
        self.task.store(0, Relaxed);
        self.turn.store(turn::NONE, Relaxed);
    }
}

/// A table of classes of descriptors.
pub struct FilesSlot(pub Slot);

impl FilesSlot {
    fn classes(&self) -> &Classes {
        // SAFETY: atomic integers, of which any value is valid.
        unsafe { &*self.0.place::<Classes>() }
    }

    /// The class of a descriptor; 0 where none is known.
    pub fn get(&self, fd: i32) -> u8 {
        self.classes()
            .get(fd as usize)
            .map_or(0, |class| class.load(Relaxed))
    }

    /// Sets the class.
    pub fn set(&self, fd: i32, to: u8) {
        if let Some(class) = self.classes().get(fd as usize) {
            class.store(to, Relaxed);
        }
    }

    /// Forgets all.
    pub fn clear(&self) {
        for class in self.classes().iter().filter(|c| c.load(Relaxed) != 0) {
            class.store(0, Relaxed);
        }
    }

    /// What a fork finds.
    pub fn copy_to(&self, other: &FilesSlot) {
        for (from, to) in self.classes().iter().zip(other.classes()) {
            let class = from.load(Relaxed);
            if class != 0 {
                to.store(class, Relaxed);
            }
        }
    }
}

/// The area of a lane, with its ring; or, for more lanes than there is room for, without one.
pub enum LaneMemory {
    /// Traced processes see it.
    Shared(Slot),
    /// They do not.
    Own(Box<LaneArea>),
}

impl Deref for LaneMemory {
    type Target = LaneArea;

    fn deref(&self) -> &LaneArea {
        match self {
            // SAFETY: initialised at its creation; all fields are atomic.
            LaneMemory::Shared(slot) => unsafe { &*slot.place::<LaneArea>() },
            LaneMemory::Own(area) => area,
        }
    }
}

impl LaneMemory {
    /// Its address in traced processes; 0: it has none.
    pub fn address(&self) -> u64 {
        match self {
            LaneMemory::Shared(slot) => slot.address(),
            LaneMemory::Own(_) => 0,
        }
    }

    /// Wakes an agent that sleeps for the token, which is free.
    pub fn wake_one(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        while let Some(slot) = self.take_woken() {
            let next = self.task_area(slot);
            if let Some(next) = next.filter(|next| next.turn.load(Acquire) == turn::GO) {
                wake(&next.turn);
                break;
            }
        }
        if self.waiters.load(Relaxed) != 0 {
            wake(self.token.word());
        }
    }

    /// Replay: a task is in the lane, with this area.
    pub fn tell_peer(&self, task: u32, area: &TaskSlot) {
        let place = &self.peers[task as usize % shared::PEERS];
        place.store(area.0.index as u16 + 1, Relaxed);
    }

    /// Lets all agents go on that wait for the token because their futex was woken.
    pub fn rouse(&self) {
        // As many as there can be: the memory is the traced program's too.
        for _ in 0..shared::WOKEN {
            let Some(slot) = self.take_woken() else {
                break;
            };
            if let Some(next) = self.task_area(slot) {
                wake(&next.turn);
            }
        }
    }

    /// Wakes those that wait for a futex in their agents; the result is their number. The engine has the token.
    pub fn wake_futex(&self, space: u64, waking: Waking) -> u32 {
        let area = |slot| self.task_area(slot);
        self.wake_sleepers(space, waking, area, |slot, area| {
            if !self.put_woken(slot) {
                wake(&area.turn);
            }
        })
    }

    /// The same for all of them, whatever they wait for: they go on at once, and find out.
    pub fn wake_all(&self) {
        let count = (self.sleeping.load(Relaxed) as usize).min(shared::SLEEPERS);
        for slot in &self.sleepers[..count] {
            let Some(area) = self.task_area(slot.load(Relaxed)) else {
                continue;
            };
            let woken = area
                .turn
                .compare_exchange(turn::WAITS, turn::GO, SeqCst, SeqCst);
            if woken.is_ok() {
                wake(&area.turn);
            }
        }
        self.sleeping.store(0, Relaxed);
    }

    /// The area in a slot.
    fn task_area(&self, slot: u16) -> Option<&TaskArea> {
        let LaneMemory::Shared(own) = self else {
            return None;
        };
        (u64::from(slot) < TASK_SLOTS).then(|| {
            let offset = shared::task_address(slot.into()) - shared::SHARED_BASE;
            // SAFETY: slots lie within the mapping; only what is atomic is used of an area that another
            // task may be using, and any value of it is valid.
            unsafe { &*own.shared.base.as_ptr().add(offset as usize).cast() }
        })
    }

    /// Whether it has a ring.
    pub fn has_ring(&self) -> bool {
        matches!(self, LaneMemory::Shared(_))
    }

    /// The ring's bytes that are filled and not taken. Bad numbers (the memory is the traced
    /// program's too) give less.
    pub fn filled(&self) -> (u32, &[u8]) {
        let LaneMemory::Shared(slot) = self else {
            return (0, &[]);
        };
        let head = self.head.load(Acquire).min(shared::RING_LEN as u32);
        let tail = self.tail.load(Relaxed).min(head);
        // SAFETY: within the ring. Whoever holds the lane's token writes behind `head` only.
        let bytes = unsafe {
            let ring = slot.place::<u8>().add(PAGE_OF_LANE);
            std::slice::from_raw_parts(ring.add(tail as usize), (head - tail) as usize)
        };
        (tail, bytes)
    }

    /// The ring's bytes between `from` and `tail`, which were taken.
    pub fn taken(&self, from: u32, tail: u32) -> &[u8] {
        let LaneMemory::Shared(slot) = self else {
            return &[];
        };
        let tail = tail.min(shared::RING_LEN as u32);
        let from = from.min(tail);
        // SAFETY: within the ring; what was taken is not written to before the ring begins anew.
        unsafe {
            let ring = slot.place::<u8>().add(PAGE_OF_LANE);
            std::slice::from_raw_parts(ring.add(from as usize), (tail - from) as usize)
        }
    }

    /// Begins the ring anew. Nobody of the lane may run.
    pub fn reset(&self) {
        self.tail.store(0, Relaxed);
        self.head.store(0, Release);
    }

    /// Appends to the ring, if there is room. Nobody of the lane may run.
    pub fn put(&self, bytes: &[u8]) -> bool {
        let LaneMemory::Shared(slot) = self else {
            return false;
        };
        let head = self.head.load(Relaxed);
        if u64::from(head) + bytes.len() as u64 > shared::RING_LEN {
            return false;
        }
        // SAFETY: within the ring, behind what is filled.
        unsafe {
            let ring = slot.place::<u8>().add(PAGE_OF_LANE + head as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), ring, bytes.len());
        }
        self.head.store(head + bytes.len() as u32, Release);
        true
    }
}

/// Wakes one that sleeps on a word of the shared memory.
fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE looks at the address only.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}

/// Where a task stands that stopped in Scribe's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It passes its call on.
    Passed,
    /// It passes a CPUID on.
    Cpuid,
    /// It asks for something.
    Asked,
    /// Before its call: it has to be sent to the bail-out if that must not be made.
    BeforeCall,
    /// Right behind its call.
    BehindCall,
    /// Anywhere else in the agent or in a stub.
    Inside,
}

impl Place {
    /// The place of these registers; `None`: application code.
    pub fn of(regs: &Regs) -> Option<Place> {
        let offset = regs.rip.wrapping_sub(AGENT_BASE);
        if (CALL_BEGIN..=CALL_INSN).contains(&offset) {
            Some(Place::BeforeCall)
        } else if offset == ENTRY_PASSED + 1 {
            Some(Place::Passed)
        } else if offset == ENTRY_CPUID_PASSED + 1 {
            Some(Place::Cpuid)
        } else if offset == ENTRY_ASK + 1 {
            Some(Place::Asked)
        } else if offset == CALL_AFTER {
            Some(Place::BehindCall)
        } else if offset < AGENT_CODE_LEN || (STUBS..AGENT_END).contains(&regs.rip) {
            Some(Place::Inside)
        } else {
            None
        }
    }
}

/// Keeps a task that stopped at this place from making its call, or from making it again.
/// Whether the registers changed.
pub fn give_up_call(place: Place, regs: &mut Regs) -> bool {
    match place {
        Place::BeforeCall => {
            regs.rip = AGENT_BASE + CALL_BAIL;
            regs.orig_rax = u64::MAX;
            true
        }
        Place::BehindCall if (-516..=-512).contains(&(regs.rax as i64)) => {
            // Without this the kernel would restart the call behind our back.
            regs.orig_rax = u64::MAX;
            true
        }
        _ => false,
    }
}

/// Where, in a traced process, stands to where a patched CPUID returns.
const SAVED_RET: u64 = PROCESS + 16;

/// Where the number of its texts stands, and behind it their bounds: see [`shared::Process`].
pub const TEXT_BOUNDS: u64 = PROCESS + 32;

/// Where, in a replayed process, stands the end of its heap.
pub const BRK: u64 = PROCESS + 24;

const _: () = assert!(std::mem::offset_of!(shared::Process, brk) == 24);

const _: () = assert!(std::mem::offset_of!(shared::Process, saved_ret) == 16);
const _: () = assert!(std::mem::offset_of!(shared::Process, text_count) == 32);

/// Answers a patched CPUID that came to the engine, and lets the task go on behind it.
pub fn answer_cpuid(cpuid: &crate::cpu::Cpuid, mem: &Mem, regs: &mut Regs) -> Result<()> {
    cpuid.fill(regs);
    regs.rip = behind_instruction(mem)?;
    regs.orig_rax = u64::MAX;
    Ok(())
}

/// Where a patched CPUID, RDTSC or RDTSCP that came to the engine goes on.
pub fn behind_instruction(mem: &Mem) -> Result<u64> {
    Ok(mem.read_u64(SAVED_RET)? & !scribe_abi::MARKS)
}

/// Tells the agents of all tasks that share these dispositions which of them are the default.
pub fn tell_actions<'a>(
    of: &Rc<RefCell<Dispositions>>,
    tasks: impl Iterator<Item = (&'a Rc<RefCell<Dispositions>>, Option<&'a TaskSlot>)>,
) {
    let defaults = of.borrow().defaults().0;
    let sharing = tasks.filter(|(theirs, _)| Rc::ptr_eq(theirs, of));
    for area in sharing.filter_map(|(_, area)| area) {
        area.default_actions.store(defaults, Relaxed);
    }
}

/// Tells a task's agent what it has to know of the task's dispositions.
pub fn lend_actions(area: &TaskSlot, sighand: &Rc<RefCell<Dispositions>>, alone: bool) {
    let own = alone && Rc::strong_count(sighand) == 1;
    let known = sighand.borrow();
    area.default_actions.store(known.defaults().0, Relaxed);
    area.unset_actions.store(known.unset().0, Relaxed);
    area.once_actions.store(known.once().0, Relaxed);
    area.own_actions.store(own.into(), Relaxed);
    area.noting.store(0, Relaxed);
    area.noted.store(0, Relaxed);
}

/// Takes over what a task's agent has made of its dispositions.
pub fn take_actions(area: &TaskSlot, sighand: &RefCell<Dispositions>) {
    let noted = area.noted.swap(0, Acquire) as usize;
    for note in area.notes.iter().take(noted) {
        let [signal, words @ ..] = note;
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        let action = Disposition::from_bytes(&bytes);
        // One that it cannot have is not there.
        let _ = sighand
            .borrow_mut()
            .sigaction(signal.load(Relaxed) as u32, Some(action));
    }
}

/// Sends a task whose agent touched memory that is not there to where it passes its call on, for
/// this reason.
pub fn pass_on(regs: &mut Regs, area: &TaskSlot, why: u32) {
    regs.rip = AGENT_BASE + ENTRY_FAULT;
    regs.rcx = area.0.address();
    regs.rax = why.into();
    regs.orig_rax = u64::MAX;
}

/// Tells an address space which lane its tasks are in; 0: there is no agent. One that has ended,
/// because its tasks are on their way out or in an exec, needs no telling.
pub fn set_lane(mem: &Mem, address: u64) -> Result<()> {
    match mem.write(PROCESS + 8, &address.to_le_bytes()) {
        Err(scribe_tracee::Error::Gone) => Ok(()),
        other => other,
    }
}

/// The patched places of an address space.
#[derive(Clone, Default)]
pub struct Sites {
    by_start: Rc<BTreeMap<u64, (Site, Vec<u8>)>>,
    /// Also those whose bytes were put back since: a task may still be in the agent on behalf of one.
    by_stub: Rc<Vec<Site>>,
    /// How often calls from a place that is not patched came up; `u32::MAX`: it cannot be.
    pub tried: HashMap<u64, u32>,
    /// Mappings known to be program text, with what is known of their file.
    pub text: Vec<crate::record::Text>,
    /// Places that cannot be patched: file and offset.
    pub unfit: HashMap<u64, Rc<str>>,
    /// Places that are to be patched at the next call: what came up there is no event, so nothing
    /// of it could say when that was.
    pub learnt: Vec<(u64, crate::record::KnownPlace)>,
    /// Nothing is to be patched any more.
    pub off: bool,
    /// The program came without a dynamic loader. Text that it maps itself it may read instead of
    /// running it (valgrind translates what it finds there), so only what it runs is patched.
    pub no_loader: bool,
}

impl Sites {
    /// Whether CPUIDs are among what is patched.
    pub fn answers_cpuid(&self) -> bool {
        let mut sites = self.by_start.values();
        sites.any(|(site, _)| site.kind == scribe_tracee::patch::Kind::Cpuid)
    }

    fn next_stub(&self) -> Option<u16> {
        let next = self.by_stub.len() as u64;
        (next < STUB_COUNT).then_some(next as u16)
    }

    /// Puts all bytes back, as if nothing had been patched; what was, in the order of its stubs, to be patched
    /// again. No task may be in a stub, or in the agent on behalf of one.
    pub fn take_out(&mut self, mem: &Mem) -> Vec<Site> {
        let places = std::mem::take(&mut self.by_start);
        for (site, original) in places.values() {
            // What was unmapped meanwhile needs no restoring.
            let _ = mem.write(site.start(), original);
        }
        let mut sites: Vec<Site> = places.values().map(|(site, _)| *site).collect();
        sites.sort_by_key(|site| site.stub);
        self.by_stub = Rc::default();
        sites
    }

    /// Whether nothing was ever patched.
    pub fn is_empty(&self) -> bool {
        self.by_stub.is_empty()
    }

    /// Patches places, which get the next stubs in their order. The result
    /// are those whose bytes were what they were taken for: instructions of their kind, and with these
    /// hashes.
    pub fn patch(
        &mut self,
        mem: &Mem,
        wanted: &[Site],
        hashes: Option<&[u32]>,
    ) -> Result<Vec<Site>> {
        let first = self.by_stub.len() as u64;
        let mut stubs = Vec::new();
        // A page is read and written once, all are read at once: each access costs more than the copying.
        let inside = wanted
            .iter()
            .flat_map(|site| [site.start(), site.end() - 1]);
        let addrs: BTreeSet<u64> = inside.map(|at| at & !(PAGE - 1)).collect();
        let addrs: Vec<u64> = addrs.into_iter().collect();
        let bytes = mem.read_pieces(&addrs, PAGE as usize)?;
        let bytes = bytes.chunks_exact(PAGE as usize).map(<[u8]>::to_vec);
        let mut pages: BTreeMap<u64, Vec<u8>> = addrs.into_iter().zip(bytes).collect();
        let mut changed = BTreeSet::new();
        let mut done = Vec::new();
        for (i, site) in wanted.iter().enumerate() {
            let Some(stub) = self.next_stub() else {
                break;
            };
            let site = Site { stub, ..*site };
            let mut window = Vec::new();
            let from = site.start() & !(PAGE - 1);
            while from + (window.len() as u64) < site.end() {
                let at = from + window.len() as u64;
                window.extend_from_slice(&pages[&at]);
            }
            let original =
                &window[(site.start() - from) as usize..][..(site.end() - site.start()) as usize];
            let expected = hashes.and_then(|hashes| hashes.get(i));
            if expected.is_some_and(|hash| *hash != site_hash(original)) {
                continue;
            }
            let Some([(_, stub), (at, jump)]) = site.code(original) else {
                continue;
            };
            stubs.extend_from_slice(&stub);
            Rc::make_mut(&mut self.by_stub).push(site);
            Rc::make_mut(&mut self.by_start).insert(site.start(), (site, original.to_vec()));
            for (i, byte) in jump.iter().enumerate() {
                let addr = at + i as u64;
                let start = addr & !(PAGE - 1);
                if let Some(page) = pages.get_mut(&start) {
                    page[(addr % PAGE) as usize] = *byte;
                    changed.insert(start);
                }
            }
            done.push(site);
        }
        if done.is_empty() {
            return Ok(done);
        }
        mem.write(STUBS + first * scribe_abi::STUB_SIZE, &stubs)?;
        for (at, page) in pages.iter().filter(|(at, _)| changed.contains(at)) {
            mem.write(*at, page)?;
        }
        Ok(done)
    }

    /// The place whose stub the agent was to return to. It may be patched no more: tasks that wait
    /// in their agents come back here all the same.
    pub fn by_tail(&self, tail: u64) -> Option<Site> {
        let stub = tail.checked_sub(STUBS)? / scribe_abi::STUB_SIZE;
        let site = self.by_stub.get(stub as usize)?;
        (site.tail() == tail).then_some(*site)
    }

    /// The place around an address.
    pub fn around(&self, addr: u64) -> Option<Site> {
        let (_, (site, _)) = self.by_start.range(..=addr).next_back()?;
        (addr < site.end()).then_some(*site)
    }

    /// Where a task that stands at `rip` has to go on.
    pub fn resume(&self, rip: u64) -> u64 {
        self.around(rip)
            .and_then(|site| site.resume(rip))
            .unwrap_or(rip)
    }

    /// Puts the program's bytes back in a range, and forgets the places there. Their stubs stay
    /// used: a task may stand in one.
    pub fn restore(&mut self, mem: &Mem, start: u64, end: u64) -> Vec<Site> {
        let inside = |site: &Site| site.start() < end && site.end() > start;
        let all = self.by_start.range(..end);
        let hit: Vec<u64> = all
            .filter(|(_, (site, _))| inside(site))
            .map(|(at, _)| *at)
            .collect();
        let mut gone = Vec::new();
        for at in hit {
            if let Some((site, original)) = Rc::make_mut(&mut self.by_start).remove(&at) {
                // What was unmapped meanwhile needs no restoring.
                let _ = mem.write(site.start(), &original);
                gone.push(site);
            }
        }
        self.text
            .retain(|text| text.end <= start || text.start >= end);
        self.tried.retain(|at, _| !(start..end).contains(at));
        self.learnt.retain(|(at, _)| !(start..end).contains(at));
        gone
    }
}

/// Hash of the bytes that are replaced at a place.
pub fn site_hash(original: &[u8]) -> u32 {
    xxhash_rust::xxh3::xxh3_64(original) as u32
}

/// Encodes patched places for the log: 12 bytes each. Addresses have 47 bits; the kind stands above
/// them.
pub fn encode_sites(sites: &[Site]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sites.len() * 12);
    for site in sites {
        let address = site.syscall | (site.kind as u64) << 56;
        bytes.extend_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(&site.stub.to_le_bytes());
        bytes.extend_from_slice(&[site.extent.before, site.extent.after]);
    }
    bytes
}

/// Decodes what [`encode_sites`] made; entries that make no sense are `None`.
pub fn decode_sites(bytes: &[u8]) -> impl Iterator<Item = Option<Site>> + '_ {
    bytes.chunks_exact(12).map(|entry| {
        let address = u64::from_le_bytes(entry[..8].try_into().expect("eight bytes"));
        let site = Site {
            syscall: address & ((1 << 56) - 1),
            stub: u16::from_le_bytes([entry[8], entry[9]]),
            extent: Extent {
                before: entry[10],
                after: entry[11],
            },
            kind: SiteKind::new((address >> 56) as u8)?,
        };
        site.is_sound().then_some(site)
    })
}
