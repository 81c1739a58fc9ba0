//! Running a program's code from a translated copy, so that one place in it can be watched at little
//! cost: each time the task comes there, its registers (and some memory) are compared in the process,
//! and only where they are those looked for it traps.
//!
//! The copy is the program's own instructions, trace by trace as they are reached. What would show
//! the difference is replaced: branches lead to translated code, calls push the program's return
//! addresses, operands relative to the instruction's address become absolute. Registers, flags, stack
//! and memory are the program's at each of its instructions. Calls and instructions that trap are left
//! to the engine.
//!
//! Nothing here touches a process: what is to be written is given to a closure, and the engine tells
//! of traps.
//!
//! ```text
//! base + 0          traces of code that does not change (files)
//!      + SOFT       traces of other code; given up as a whole whenever it may have changed
//!      + CHECKS     the comparison at the place that is watched
//!      + KEYS       lookup of indirect jumps: negative address in the program, by its low 16 bits
//!      + VALUES     and the address of its translation
//! ```

mod check;
mod emit;
mod trace;

pub use check::{MOST as MOST_TESTS, Test};

use check::{CHECK_LEN, GATE, OPEN_GATE, check, gate};
use emit::SLOTS;
use scribe_abi::PAGE;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use trace::{Link, Place, translate};

const SOFT: u32 = 16 << 20;
const CHECKS: u32 = 24 << 20;
const KEYS: u32 = CHECKS + 4096;
const ENTRIES: u32 = 1 << 16;
const VALUES: u32 = KEYS + ENTRIES * 8;
/// Bytes of memory that a translation takes.
pub const LEN: u64 = (VALUES + ENTRIES * 4) as u64;
/// Where it may lie: below 2 GiB, outside Scribe's other memory.
pub const BASES: [u64; 4] = [0x7100_0000, 0x5100_0000, 0x3100_0000, 0x1100_0000];
/// Most traces that are made at once, beginning with the one that is needed.
const AHEAD: usize = 48;
/// How many traces of code that has changed are led to the new one each time.
const REMEMBERED: usize = 4;
/// Most bytes of code that a trace is made of.
const WINDOW: usize = 1024;

/// Addresses of the lookup's tables.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    keys: u32,
    values: u32,
}

/// How far code may be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It stays what it is as long as it is mapped.
    Stable,
    /// It may be another the next time a place is looked for.
    Passing,
    /// It may change at any time.
    Volatile,
}

/// Why translated code trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It goes on where nothing is translated yet.
    Link {
        /// Address in the program.
        target: u64,
        /// Address of the distance that is to lead there.
        at: u32,
    },
    /// An indirect jump to where nothing is translated yet; the address is in a slot.
    Lookup,
    /// An instruction that is not translated: the task stands as if at `ip`.
    Special {
        /// Address in the program.
        ip: u64,
    },
    /// The program changed its code.
    Stale {
        /// Where the trace begins, in the program and in translated code.
        ip: u64,
        /// The latter.
        head: u32,
    },
    /// The comparison found what is looked for; the task stands as if at the place.
    Hit,
}

/// What a translation needs from the process.
pub trait Process {
    /// Reads as much as is there.
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;
    /// Writes, also where the program could not.
    fn write(&self, addr: u64, bytes: &[u8]) -> crate::Result<()>;
    /// The nature of the code at an address.
    fn nature(&self, addr: u64) -> Nature;
}

/// What is to happen after a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The task goes on with these changes: `rip`, and rcx and rax if they are given.
    Go {
        /// Address in translated code.
        rip: u64,
        /// The program's rcx.
        rcx: Option<u64>,
        /// The program's rax.
        rax: Option<u64>,
    },
    /// It stands in front of an instruction that the engine has to see to.
    At(u64),
    /// The comparison found its place; to go on: [`Translation::resume`].
    Hit,
}

/// The translated code of one address space.
#[derive(Clone)]
pub struct Translation {
    base: u32,
    blocks: HashMap<u64, u32>,
    /// Where instructions of the program stand: to be turned into a jump where one becomes the place.
    instructions: HashMap<u64, Vec<u32>>,
    /// The same the other way round.
    placed: BTreeMap<u32, u64>,
    exits: HashMap<u32, Exit>,
    /// Lookups that are filled in.
    filled: HashMap<u16, u32>,
    next: u32,
    next_soft: u32,
    /// Pages that stable traces are made of.
    pages: BTreeSet<u64>,
    watched: Option<Watched>,
    /// Traces that begin with a jump which can be changed; whether nobody needs the flags there.
    gates: HashMap<u64, bool>,
    /// Heads of traces whose code has changed, by address in the program.
    stale: HashMap<u64, Vec<u32>>,
    /// Where traces lead to the watched place's own.
    detours: Vec<Detour>,
    /// The trace that began there before.
    before: Option<u32>,
    /// Changes whenever traces are thrown away.
    generation: u64,
    /// Code changed that stable traces are made of.
    expired: bool,
}

/// The place that is watched.
#[derive(Clone)]
struct Watched {
    place: u64,
    tests: Vec<Test>,
}

/// A jump over part of a trace.
#[derive(Clone)]
struct Detour {
    at: u32,
    /// What stood there.
    bytes: [u8; 5],
    /// Instructions of the program that it covers.
    covered: Vec<(u32, u64)>,
}

impl Translation {
    /// For memory of [`LEN`] bytes of zeroes at one of [`BASES`], readable and executable.
    pub fn new(base: u64) -> Translation {
        let base = base as u32;
        Translation {
            base,
            blocks: HashMap::new(),
            instructions: HashMap::new(),
            placed: BTreeMap::new(),
            exits: HashMap::new(),
            filled: HashMap::new(),
            next: base,
            next_soft: base + SOFT,
            pages: BTreeSet::new(),
            watched: None,
            gates: HashMap::new(),
            stale: HashMap::new(),
            detours: Vec::new(),
            before: None,
            generation: 0,
            expired: false,
        }
    }

    /// The memory that it takes.
    pub fn range(&self) -> (u64, u64) {
        (self.base.into(), u64::from(self.base) + LEN)
    }

    /// Whether an address is in translated code.
    pub fn contains(&self, addr: u64) -> bool {
        let (start, end) = self.range();
        (start..end).contains(&addr)
    }

    /// Whether a trace is made of code in this range.
    pub fn uses(&self, start: u64, end: u64) -> bool {
        self.pages.range(start & !(PAGE - 1)..end).next().is_some()
    }

    /// Such code has changed: all is made anew when the next place is watched.
    pub fn expire(&mut self) {
        self.expired = true;
    }

    /// Begins to watch `place`, for a task that stands at `from`; gives the address where it has to
    /// go on.
    pub fn watch(&mut self, process: &impl Process, place: u64, from: u64) -> crate::Result<u64> {
        match std::mem::take(&mut self.expired) {
            true => self.drop_all(process)?,
            false => self.drop_soft(process)?,
        }
        self.watched = Some(Watched {
            place,
            tests: Vec::new(),
        });
        self.gate(process)?;
        self.block(process, from)
    }

    /// Ends that.
    pub fn unwatch(&mut self, process: &impl Process) -> crate::Result<()> {
        let Some(watched) = self.watched.take() else {
            return Ok(());
        };
        let place = watched.place;
        if let Some(&head) = self.blocks.get(&place) {
            // The gate leads to what follows it.
            process.write(head.into(), &OPEN_GATE)?;
        }
        self.gates.remove(&place);
        // The other traces are what they were: in a loop a detour at each place that ever was
        // watched would add up.
        for detour in std::mem::take(&mut self.detours).into_iter().rev() {
            process.write(detour.at.into(), &detour.bytes)?;
            for (at, ip) in detour.covered {
                self.placed.insert(at, ip);
                self.instructions.entry(ip).or_default().push(at);
            }
        }
        match self.before.take() {
            Some(before) => self.blocks.insert(place, before),
            None => self.blocks.remove(&place),
        };
        Ok(())
    }

    /// The tests that stand at the place; all must hold for a [`Exit::Hit`].
    pub fn tests(&self) -> &[Test] {
        self.watched.as_ref().map_or(&[], |watched| &watched.tests)
    }

    /// Changes them. The task must not stand in the comparison but at a hit.
    pub fn set_tests(&mut self, process: &impl Process, tests: Vec<Test>) -> crate::Result<()> {
        if let Some(watched) = &mut self.watched {
            watched.tests = tests;
        }
        self.write_check(process)
    }

    /// Whether the comparison changes the status flags: nobody needs them at the place.
    pub fn spoils_flags(&self) -> bool {
        let place = self.watched.as_ref().map(|watched| watched.place);
        place.is_some_and(|place| self.gates.get(&place) == Some(&true))
    }

    /// Where a task goes on that was stopped by a hit.
    pub fn resume(&self) -> u64 {
        let place = self.watched.as_ref().map_or(0, |watched| watched.place);
        let head = self.blocks.get(&place).copied().unwrap_or(0);
        u64::from(head + GATE)
    }

    /// A trap in translated code with `rip` behind it. `None`: no trap of ours.
    pub fn trapped(&mut self, process: &impl Process, rip: u64) -> crate::Result<Option<Next>> {
        let at = rip.wrapping_sub(1) as u32;
        let Some(exit) = self.exits.get(&at).copied() else {
            return Ok(None);
        };
        let next = match exit {
            Exit::Special { ip } => Next::At(ip),
            Exit::Hit => Next::Hit,
            Exit::Link { target, at } => {
                let generation = self.generation;
                let to = self.block(process, target)?;
                // Unless all was thrown away meanwhile, with the jump.
                let kept = self.generation == generation;
                if kept && (!self.is_soft(to) || self.is_soft(at.into())) {
                    let distance = (to as u32).wrapping_sub(at + 4);
                    process.write(at.into(), &distance.to_le_bytes())?;
                }
                Next::Go {
                    rip: to,
                    rcx: None,
                    rax: None,
                }
            }
            Exit::Lookup => {
                let target = slot(process, 2)?;
                let (rcx, rax) = (slot(process, 0)?, slot(process, 1)?);
                let to = self.block(process, target)?;
                self.fill(process, target, to as u32)?;
                Next::Go {
                    rip: to,
                    rcx: Some(rcx),
                    rax: Some(rax),
                }
            }
            Exit::Stale { ip, head } => {
                let (rcx, rax) = (slot(process, 0)?, slot(process, 1)?);
                Next::Go {
                    rip: self.renew(process, ip, head)?,
                    rcx: Some(rcx),
                    rax: Some(rax),
                }
            }
        };
        Ok(Some(next))
    }

    /// Where a task that stands in front of a special instruction goes on behind it.
    pub fn go_on(&mut self, process: &impl Process, ip: u64) -> crate::Result<u64> {
        self.block(process, ip)
    }

    /// The address in the program of translated code, for reports.
    pub fn original(&self, addr: u64) -> Option<u64> {
        let last = self.placed.range(..=addr as u32).next_back();
        last.map(|(_, ip)| *ip)
    }

    /// If a task was stopped in the comparison, by a test that touched memory which is not there.
    pub fn in_check(&self, rip: u64) -> bool {
        let start = u64::from(self.base + CHECKS);
        (start..start + CHECK_LEN as u64).contains(&rip)
    }

    /// Where that task goes on, and its rcx, after the tests were changed.
    pub fn leave_check(&self, process: &impl Process) -> crate::Result<(u64, u64)> {
        Ok((self.resume() - u64::from(GATE), slot(process, 0)?))
    }

    /// The trace that takes the place of one whose code has changed.
    fn renew(&mut self, process: &impl Process, ip: u64, head: u32) -> crate::Result<u64> {
        if self.gates.contains_key(&ip) {
            self.drop_soft(process)?;
            self.gate(process)?;
            return self.block(process, ip);
        }
        if self.blocks.get(&ip) == Some(&head) {
            self.blocks.remove(&ip);
        }
        let generation = self.generation;
        let to = self.block(process, ip)?;
        if self.generation == generation {
            // Those that came before lead there at once: a chain would grow with each change.
            let old = self.stale.entry(ip).or_default();
            if !old.contains(&head) && old.len() < REMEMBERED {
                old.push(head);
            }
            let mut heads = old.clone();
            heads.extend((!heads.contains(&head)).then_some(head));
            for head in heads {
                let mut jump = vec![0xe9];
                jump.extend_from_slice(&(to as u32).wrapping_sub(head + 5).to_le_bytes());
                process.write(head.into(), &jump)?;
            }
            if self.filled.contains_key(&(ip as u16)) {
                self.fill(process, ip, to as u32)?;
            }
        }
        Ok(to)
    }

    fn is_soft(&self, addr: u64) -> bool {
        let start = u64::from(self.base + SOFT);
        (start..u64::from(self.base + CHECKS)).contains(&addr)
    }

    /// Makes the trace that begins at the watched place, with its gate, and leads all there.
    fn gate(&mut self, process: &impl Process) -> crate::Result<()> {
        let Some(place) = self.watched.as_ref().map(|watched| watched.place) else {
            return Ok(());
        };
        let known = self.blocks.get(&place).copied();
        if !self.gates.contains_key(&place) {
            let old = self.instructions.remove(&place).unwrap_or_default();
            self.blocks.remove(&place);
            let (before, generation) = (known, self.generation);
            self.block(process, place)?;
            let Some(&head) = self.blocks.get(&place) else {
                return Ok(());
            };
            if generation != self.generation {
                return self.write_check(process);
            }
            let known = known.filter(|at| !old.contains(at));
            for at in old.into_iter().chain(known) {
                if self.is_soft(head.into()) && !self.is_soft(at.into()) {
                    continue;
                }
                // What the jump covers, nobody reaches any more; a jump there would spoil this one.
                let covered: Vec<(u32, u64)> = self
                    .placed
                    .range(at..at + 5)
                    .map(|(at, ip)| (*at, *ip))
                    .collect();
                for (at, ip) in &covered {
                    self.placed.remove(at);
                    if let Some(all) = self.instructions.get_mut(ip) {
                        all.retain(|other| other != at);
                    }
                }
                let mut bytes = [0; 5];
                process.read(at.into(), &mut bytes);
                self.detours.push(Detour { at, bytes, covered });
                let mut jump = vec![0xe9];
                jump.extend_from_slice(&head.wrapping_sub(at + 5).to_le_bytes());
                process.write(at.into(), &jump)?;
            }
            self.before = before;
            // Lookups find the new one when they come up again.
            self.forget(process, |at| Some(at) == known)?;
        }
        self.write_check(process)
    }

    fn write_check(&mut self, process: &impl Process) -> crate::Result<()> {
        let Some(watched) = &self.watched else {
            return Ok(());
        };
        let Some(&head) = self.blocks.get(&watched.place) else {
            return Ok(());
        };
        let at = self.base + CHECKS;
        let free = self.spoils_flags();
        let (bytes, hit) = check(at, head + GATE, &watched.tests, free);
        let gate = gate(head, at, &watched.tests, free);
        self.exits.retain(|_, exit| *exit != Exit::Hit);
        self.exits.insert(hit, Exit::Hit);
        process.write(at.into(), &bytes)?;
        process.write(head.into(), &gate)
    }

    /// The translation of an address, made if need be with what it leads to.
    fn block(&mut self, process: &impl Process, start: u64) -> crate::Result<u64> {
        if let Some(known) = self.blocks.get(&start) {
            return Ok((*known).into());
        }
        let room = LONG_TRACE * (AHEAD as u32 + 2);
        if self.next + room > self.base + SOFT || self.next_soft + room > self.base + CHECKS {
            self.drop_all(process)?;
            if self.watched.as_ref().is_some_and(|w| w.place != start) {
                self.gate(process)?;
            }
            if let Some(known) = self.blocks.get(&start) {
                return Ok((*known).into());
            }
        }
        let firsts = [self.next, self.next_soft];
        let mut code = [Vec::new(), Vec::new()];
        let mut wanted = vec![start];
        let mut links: Vec<Link> = Vec::new();
        let mut made = 0;
        while let Some(start) = wanted.pop() {
            if self.blocks.contains_key(&start) || made == AHEAD {
                continue;
            }
            made += 1;
            let mut window = [0; WINDOW];
            let got = process.read(start, &mut window);
            let nature = process.nature(start);
            let soft = usize::from(nature != Nature::Stable);
            let base = firsts[soft] + code[soft].len() as u32;
            let watched = self.watched.as_ref().map(|watched| watched.place);
            let trace = translate(
                start,
                &window[..got],
                &Place {
                    base,
                    table: self.table(),
                    nature,
                    ends_at: &|ip| Some(ip) == watched || self.blocks.contains_key(&ip),
                    gate: Some(start) == watched,
                },
            );
            code[soft].extend_from_slice(&trace.bytes);
            self.blocks.insert(start, base);
            if Some(start) == watched {
                self.gates.insert(start, trace.free_flags);
            }
            for (ip, at) in trace.instructions {
                self.instructions.entry(ip).or_default().push(at);
                self.placed.insert(at, ip);
            }
            self.exits.extend(trace.exits);
            if nature == Nature::Stable {
                let first = start & !(PAGE - 1);
                self.pages.extend((first..trace.end).step_by(PAGE as usize));
            }
            for link in trace.links {
                wanted.insert(0, link.target);
                links.push(link);
            }
        }
        // All is known that will be: the jumps are filled in, or lead to a trap.
        for link in links {
            let soft = usize::from(self.is_soft(link.at.into()));
            let known = self.blocks.get(&link.target).copied();
            let to = match known.filter(|to| soft == 1 || !self.is_soft((*to).into())) {
                Some(to) => to,
                None => {
                    let stub = firsts[soft] + code[soft].len() as u32;
                    code[soft].push(0xcc);
                    let Link { target, at } = link;
                    self.exits.insert(stub, Exit::Link { target, at });
                    stub
                }
            };
            let distance = to.wrapping_sub(link.at + 4);
            let at = (link.at - firsts[soft]) as usize;
            code[soft][at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for (first, bytes) in firsts.into_iter().zip(&code) {
            if !bytes.is_empty() {
                process.write(first.into(), bytes)?;
            }
        }
        self.next += code[0].len() as u32;
        self.next_soft += code[1].len() as u32;
        Ok(self.blocks[&start].into())
    }

    fn table(&self) -> Table {
        Table {
            keys: self.base + KEYS,
            values: self.base + VALUES,
        }
    }

    fn fill(&mut self, process: &impl Process, target: u64, to: u32) -> crate::Result<()> {
        let table = self.table();
        let index = target as u16;
        let value = table.values + u32::from(index) * 4;
        let key = table.keys + u32::from(index) * 8;
        process.write(value.into(), &to.to_le_bytes())?;
        process.write(key.into(), &target.wrapping_neg().to_le_bytes())?;
        self.filled.insert(index, to);
        Ok(())
    }

    /// Takes lookups back.
    fn forget(&mut self, process: &impl Process, which: impl Fn(u32) -> bool) -> crate::Result<()> {
        let keys = self.table().keys;
        let gone: Vec<u16> = self
            .filled
            .iter()
            .filter(|(_, to)| which(**to))
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            self.filled.remove(&index);
            process.write((keys + u32::from(index) * 8).into(), &[0; 8])?;
        }
        Ok(())
    }

    /// Gives up the traces of code that may have changed.
    fn drop_soft(&mut self, process: &impl Process) -> crate::Result<()> {
        let start = self.base + SOFT;
        if self.next_soft == start {
            return Ok(());
        }
        let soft = start..self.base + CHECKS;
        self.generation += 1;
        self.stale.clear();
        let blocks = &self.blocks;
        self.gates
            .retain(|place, _| blocks.get(place).is_some_and(|at| !soft.contains(at)));
        self.blocks.retain(|_, at| !soft.contains(at));
        self.exits.retain(|at, _| !soft.contains(at));
        self.instructions.retain(|_, all| {
            all.retain(|at| !soft.contains(at));
            !all.is_empty()
        });
        self.placed.retain(|at, _| !soft.contains(at));
        self.detours.retain(|detour| !soft.contains(&detour.at));
        self.before = self.before.filter(|at| !soft.contains(at));
        self.next_soft = start;
        self.forget(process, |to| soft.contains(&to))
    }

    /// Gives up all.
    fn drop_all(&mut self, process: &impl Process) -> crate::Result<()> {
        self.drop_soft(process)?;
        self.forget(process, |_| true)?;
        self.generation += 1;
        self.stale.clear();
        self.gates.clear();
        self.detours.clear();
        self.before = None;
        self.blocks.clear();
        self.exits.clear();
        self.instructions.clear();
        self.placed.clear();
        self.pages.clear();
        self.next = self.base;
        Ok(())
    }
}

/// More than the code of any trace: 96 instructions of at most some 45 bytes.
const LONG_TRACE: u32 = 6 << 10;

fn slot(process: &impl Process, index: usize) -> crate::Result<u64> {
    let mut bytes = [0; 8];
    match process.read(SLOTS[index].into(), &mut bytes) {
        8 => Ok(u64::from_le_bytes(bytes)),
        _ => Err(crate::Error::Gone),
    }
}
