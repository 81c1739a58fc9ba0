//! Forced stops at replay: the task runs, from its last sync point on, in translated code, until its
//! state is the recorded one.

use super::*;
use crate::point::{EFLAGS_OF_STOPS, LAST_X87, Point, extended};
use scribe_abi::PAGE;
use scribe_log::Forced;
use scribe_tracee::patch::Kind;
use scribe_tracee::translate::{self, MOST_TESTS, Nature, Next, Test, Translation};
use scribe_tracee::{Mem, maps};

/// `int $0x80`.
const INT_80: [u8; 2] = [0xcd, 0x80];

/// CF, PF, AF, ZF, SF, OF.
const STATUS: u64 = 0x8d5;

/// A task that is to be stopped at a point.
pub(super) struct Search {
    point: Point,
    /// What tells it from other states at the same address.
    signs: Vec<Sign>,
    /// The recorded x87 instruction; see [`LAST_X87`].
    last_x87: Vec<u8>,
    /// The recorded flags.
    flags: u64,
    /// Mappings with code, which do not change on the way.
    maps: Rc<Vec<maps::Mapping>>,
    /// How often the comparison let it through for nothing.
    misses: usize,
}

/// One of them, and how many wrong states it would have kept out.
#[derive(Clone, Copy)]
struct Sign {
    test: Test,
    score: u32,
}

/// The process as a translation sees it.
struct View<'a> {
    mem: &'a Mem,
    maps: &'a [maps::Mapping],
}

impl translate::Process for View<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.mem.read_some(addr, buf)
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> scribe_tracee::Result<()> {
        self.mem.write(addr, bytes)
    }

    fn nature(&self, addr: u64) -> Nature {
        let map = self
            .maps
            .iter()
            .find(|map| (map.start..map.end).contains(&addr));
        match map {
            Some(map) if map.writable() || map.shared => Nature::Volatile,
            Some(map) if map.ino != 0 => Nature::Stable,
            _ => Nature::Passing,
        }
    }
}

impl Replayer {
    /// The next record of the task, which stands at a sync point, is a forced stop.
    pub(super) fn seek(&mut self, id: u32, forced: &Forced) -> Result<()> {
        let point = Point {
            rip: forced.rip,
            regs: forced.regs,
            xstate: forced.xstate,
            mem: forced.mem,
        };
        let task = self.task(id);
        let tid = task.tid;
        let space = task.space.clone();
        let mut app = task.app;
        app.rip = space.sites.borrow().resume(app.rip);
        app.orig_rax = u64::MAX;
        self.machine.stopped(tid)?.set_regs(&app)?;
        let lane = task.lane;
        if point.has_regs(&task.app) && self.is_at(id, &point)? {
            self.consume(lane);
            self.ready.push_back(lane);
            return Ok(());
        }
        let maps = self.prepare_translation(id)?;
        let view = View {
            mem: &space.mem,
            maps: &maps,
        };
        let mut translation = space.translation.borrow_mut();
        let translation = translation.as_mut().expect("it was prepared");
        app.rip = translation.watch(&view, point.rip, app.rip)?;
        let signs = signs(forced);
        let task = self.task_mut(id);
        task.search = Some(Search {
            point,
            signs,
            last_x87: last_x87(forced),
            flags: flags(forced),
            maps: Rc::new(maps),
            misses: 0,
        });
        task.state = State::Running;
        task.temporary = None;
        self.lend_to_agent(id);
        self.machine.stopped(tid)?.set_regs(&app)?;
        self.go_application(id)
    }

    fn is_at(&self, id: u32, point: &Point) -> Result<bool> {
        let task = self.task(id);
        let stopped = self.machine.stopped(task.tid)?;
        let (image, _) = extended(stopped, &self.xstate)?;
        Ok(point.has_extended(&image) && point.has_memory(stopped, &task.space.mem))
    }

    /// Sees to it that there is memory for translated code.
    fn prepare_translation(&mut self, id: u32) -> Result<Vec<maps::Mapping>> {
        let task = self.task(id);
        let (tid, space) = (task.tid, task.space.clone());
        let maps = maps::read(tid);
        if space.translation.borrow().is_none() {
            let free = |base: &&u64| {
                let end = **base + translate::LEN;
                maps.iter().all(|map| map.end <= **base || map.start >= end)
            };
            let base = *translate::BASES.iter().find(free).ok_or_else(|| {
                ReplayError::Log("its program leaves no room below 2 GiB for a replay".into())
            })?;
            let prot = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let flags = (flags | libc::MAP_FIXED) as u64;
            let len = translate::LEN.next_multiple_of(PAGE);
            let args = [base, len, prot, flags, u64::MAX, 0];
            self.inject_expecting(id, libc::SYS_mmap, args, base as i64)?;
            *space.translation.borrow_mut() = Some(Translation::new(base));
            // Also tasks that wait for their turn in their agents: they go on from there without the engine.
            let tasks = self.tasks.values();
            for task in tasks.filter(|task| Rc::ptr_eq(&task.space, &space)) {
                if let Some(area) = &task.area {
                    area.may_shape
                        .store(0, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        let code = |map: &maps::Mapping| map.prot & libc::PROT_EXEC as u32 != 0;
        Ok(maps.into_iter().filter(code).collect())
    }

    /// A stop while a point is looked for. False: it has nothing to do with that.
    pub(super) fn on_search_stop(&mut self, id: u32, signal: i32) -> Result<bool> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        let Some(mut search) = task.search.take() else {
            return Ok(false);
        };
        let tid = task.tid;
        let space = task.space.clone();
        let stopped = self.machine.stopped(tid)?;
        let mut regs = stopped.regs()?;
        regs.orig_rax = u64::MAX;
        let mut translation = space.translation.borrow_mut();
        let Some(translation) = translation.as_mut().filter(|t| t.contains(regs.rip)) else {
            task.search = Some(search);
            return Ok(false);
        };
        let maps = search.maps.clone();
        let view = View {
            mem: &space.mem,
            maps: &maps,
        };
        if signal != libc::SIGTRAP {
            if translation.in_check(regs.rip) {
                // The memory that it compares is not there yet.
                let there = |sign: &Sign| !matches!(sign.test, Test::Memory(..));
                search.signs.retain(there);
                translation.set_tests(&view, Vec::new())?;
                (regs.rip, regs.rcx) = translation.leave_check(&view)?;
                task.search = Some(search);
                stopped.set_regs(&regs)?;
                self.go_application(id)?;
                return Ok(true);
            }
            // A fault: that is a sync point. The report shows where.
            if let Some(ip) = translation.original(regs.rip) {
                regs.rip = ip;
                stopped.set_regs(&regs)?;
            }
            task.search = Some(search);
            return Ok(false);
        }
        match translation.trapped(&view, regs.rip)? {
            Some(Next::Go { rip, rcx, rax }) => {
                regs.rip = rip;
                regs.rcx = rcx.unwrap_or(regs.rcx);
                regs.rax = rax.unwrap_or(regs.rax);
            }
            Some(Next::At(ip)) => {
                let mut code = [0; 15];
                let got = space.mem.read_some(ip, &mut code);
                match Trapped::decode(&code[..got]) {
                    Some((Trapped::Cpuid, length)) if task.instructions.1 => {
                        // No event. Where it traps, the answer is in the table.
                        match self.machine.cpuid_faults {
                            true => self.cpuid.fill(&mut regs),
                            false => crate::cpu::execute(&mut regs),
                        }
                        regs.rip = translation.go_on(&view, ip + length)?;
                    }
                    _ if code[..got].starts_with(&INT_80) => {
                        // A foreign call: no event either.
                        regs.rax = -i64::from(libc::ENOSYS) as u64;
                        regs.rip = translation.go_on(&view, ip + INT_80.len() as u64)?;
                    }
                    _ => match space.sites.borrow().around(ip) {
                        // Its agent answers; no event either.
                        Some(site) if site.kind == Kind::Cpuid => {
                            regs.rip = translation.go_on(&view, site.entry())?;
                        }
                        // Whatever it is, it is a sync point.
                        _ => regs.rip = ip,
                    },
                }
            }
            Some(Next::Hit) => {
                let point = search.point;
                let mut app = regs;
                app.rip = point.rip;
                app.eflags &= !EFLAGS_OF_STOPS;
                if translation.spoils_flags() {
                    // The next instructions overwrite them; what the recording had can only show in
                    // the frame of a signal.
                    app.eflags = app.eflags & !STATUS | search.flags & STATUS;
                }
                let (image, mut whole) = extended(stopped, &self.xstate)?;
                if point.has_regs(&app)
                    && point.has_extended(&image)
                    && point.has_memory(stopped, &space.mem)
                {
                    translation.unwatch(&view)?;
                    if let Some(last) = whole.get_mut(LAST_X87)
                        && search.last_x87.len() == last.len()
                        && *last != search.last_x87[..]
                    {
                        last.copy_from_slice(&search.last_x87);
                        crate::regs::put_xstate(stopped, whole)?;
                    }
                    task.app = app;
                    task.state = State::Idle;
                    let lane = task.lane;
                    self.stats.forced += 1;
                    self.stats.misses += search.misses as u64;
                    self.consume(lane);
                    self.ready.push_back(lane);
                    return Ok(true);
                }
                if let Some(dir) = &self.options.dump
                    && point.has_regs(&app)
                {
                    let hashes = (point.regs, point.mem);
                    crate::state::dump(dir, stopped, &space.mem, &app, hashes);
                }
                search.misses += 1;
                if let Some(tests) = search.better_tests(&app, &image, &space.mem) {
                    translation.set_tests(&view, tests)?;
                }
                regs.rip = translation.resume();
            }
            None => {
                task.search = Some(search);
                return Ok(false);
            }
        }
        task.search = Some(search);
        stopped.set_regs(&regs)?;
        self.go_application(id)?;
        Ok(true)
    }

    /// Where a task goes on that was stopped, not at an event, outside of translated code (in its
    /// agent): in translated code again if it looks for a point.
    pub(super) fn still_translated(&self, id: u32, rip: u64) -> Result<u64> {
        let task = self.task(id);
        let Some(search) = &task.search else {
            return Ok(rip);
        };
        let view = View {
            mem: &task.space.mem,
            maps: &search.maps,
        };
        match task.space.translation.borrow_mut().as_mut() {
            Some(translation) => Ok(translation.go_on(&view, rip)?),
            None => Ok(rip),
        }
    }

    /// The task reached a sync point without having passed the recorded point.
    pub(super) fn missed(&mut self, id: u32) -> Result<()> {
        let task = self.tasks.get_mut(&id).expect("the task exists");
        if task.search.take().is_some() {
            return Err(self.diverged(id, Reason::Missed));
        }
        Ok(())
    }

    /// Code in this range of the task's memory changed, or what is mapped there.
    pub(super) fn code_changed(&self, id: u32, start: u64, end: u64) {
        let space = &self.task(id).space;
        let mut translation = space.translation.borrow_mut();
        let Some(known) = translation.as_mut() else {
            return;
        };
        let (from, to) = known.range();
        if start < to && end > from {
            // The program has its own memory there now.
            *translation = None;
        } else if known.uses(start, end) {
            known.expire();
        }
    }
}

/// By what the recorded state can be told from others.
fn signs(forced: &Forced) -> Vec<Sign> {
    let mut signs = Vec::new();
    for section in forced.sections.iter() {
        match section {
            Section::Regs(regs) => {
                let regs = crate::regs::general(&crate::regs::from_words(&regs.values()));
                let test = |(i, value): (usize, &u64)| Test::Register(i as u8, *value as u32);
                signs.extend(regs.iter().enumerate().map(test));
            }
            Section::Xstate(image) => {
                let xmm = image.get(160..416).unwrap_or_default().chunks_exact(16);
                for (i, value) in xmm.enumerate() {
                    signs.push(Test::Vector(i as u8, first_word(value)));
                }
            }
            Section::Out { addr, bytes } => {
                for (i, word) in bytes.chunks_exact(4).enumerate() {
                    signs.push(Test::Memory(addr + 4 * i as u64, first_word(word)));
                }
            }
            _ => {}
        }
    }
    let sign = |test| Sign { test, score: 0 };
    signs.into_iter().map(sign).collect()
}

fn last_x87(forced: &Forced) -> Vec<u8> {
    let image = forced.sections.iter().find_map(|section| match section {
        Section::Xstate(image) => image.get(LAST_X87).map(<[u8]>::to_vec),
        _ => None,
    });
    image.unwrap_or_default()
}

fn flags(forced: &Forced) -> u64 {
    let regs = forced.sections.regs();
    regs.map_or(0, |regs| crate::regs::from_words(&regs).eflags)
}

fn first_word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

impl Search {
    /// Tests that this state, which is not the one looked for, does not pass; `None`: there are none.
    /// The sign that keeps it out comes first, then those that would have kept out most so far.
    fn better_tests(&mut self, regs: &Regs, image: &[u8], mem: &Mem) -> Option<Vec<Test>> {
        let regs = crate::regs::general(regs);
        let mut best: Option<(usize, u32)> = None;
        // Words stand side by side mostly.
        let mut line = (u64::MAX, [0; 64]);
        let mut word_at = |addr: u64| {
            let start = addr & !63;
            if line.0 != start {
                line.0 = match mem.read(start, &mut line.1) {
                    Ok(()) => start,
                    Err(_) => u64::MAX,
                };
            }
            let at = (addr - start) as usize;
            let word = line.1.get(at..at + 4).filter(|_| line.0 == start);
            word.map(first_word)
        };
        for (i, sign) in self.signs.iter_mut().enumerate() {
            let fails = match sign.test {
                Test::Register(i, value) => regs[i as usize] as u32 != value,
                Test::Vector(i, value) => image
                    .get(160 + 16 * i as usize..)
                    .is_some_and(|rest| rest.len() >= 4 && first_word(rest) != value),
                Test::Memory(addr, value) => word_at(addr).is_some_and(|word| word != value),
            };
            if fails {
                sign.score += 1;
                if best.is_none_or(|(_, score)| sign.score > score) {
                    best = Some((i, sign.score));
                }
            }
        }
        let (best, _) = best?;
        let mut order: Vec<&Sign> = self.signs.iter().collect();
        order.sort_by_key(|sign| std::cmp::Reverse(sign.score));
        let first = self.signs[best].test;
        let rest = order
            .iter()
            .filter(|sign| sign.score > 0 && sign.test != first);
        let tests = std::iter::once(first).chain(rest.map(|sign| sign.test));
        Some(tests.take(MOST_TESTS).collect())
    }
}
