//! Recording so that rare schedules happen: tasks are preempted at random instructions, the token
//! goes to the task with the highest of random priorities, and tasks are held up for a while, also
//! when nobody else can run. What comes of it is recorded like anything else.

use super::places::Places;
use super::*;

/// Shortest and longest time that a task runs before it is preempted: powers of two of
/// microseconds. Short ones find what goes wrong within a few instructions, long ones what needs
/// another task to come far.
const RUN_MICROS: (u64, u64) = (4, 14);
/// The same in instructions: what threads do right after a call is where they meet.
const STEPS: (u64, u64) = (0, 9);
/// The same for being held up.
const HOLD_MICROS: (u64, u64) = (5, 14);
const LONG_HOLD_MICROS: (u64, u64) = (8, 14);
/// How much time single steps and holding up may take: so much at once, then one part in so many of the
/// run time. A program that is driven by a clock would get nowhere otherwise.
const ALLOWANCE: (Duration, u32) = (Duration::from_millis(1500), 4);
/// The same for the stops themselves, which cost a hash of all that is writable: with much memory a program would
/// do little else.
const STOPS_ALLOWANCE: (Duration, u32) = (Duration::from_millis(1000), 4);
/// So much longer than a stop took is the run before the next one at least, where that is used up.
const DEAR: u32 = 8;
/// How often priorities are drawn anew: powers of two of microseconds.
const REROLL_MICROS: (u64, u64) = (9, 16);

/// The dice, and what they said.
pub(super) struct Chaos {
    state: u64,
    priorities: HashMap<u32, u32>,
    reroll: Instant,
    /// Until when, since when, and who.
    held: Vec<(Instant, Instant, u32)>,
    places: Places,
    begin: Instant,
    /// By single steps and holding up.
    spent: Duration,
    /// By stops at no sync point.
    stops: Duration,
    /// The task that gave the token up last, where others wait.
    gave_way: Option<u32>,
}

impl Chaos {
    pub(super) fn new(seed: u64) -> Chaos {
        Chaos {
            state: seed,
            priorities: HashMap::new(),
            reroll: Instant::now(),
            held: Vec::new(),
            places: Places::default(),
            begin: Instant::now(),
            spent: Duration::ZERO,
            stops: Duration::ZERO,
            gave_way: None,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// A time whose order of magnitude is random.
    fn time(&mut self, (low, high): (u64, u64)) -> Duration {
        let power = low + self.next() % (high - low);
        Duration::from_micros((1 << power) + self.next() % (1 << power))
    }

    /// How long a task may run.
    pub(super) fn run(&mut self) -> Duration {
        self.time(RUN_MICROS)
    }

    /// After how many instructions it is stopped; 0: it runs freely.
    pub(super) fn steps(&mut self) -> u32 {
        if !self.once_in(2) || self.is_exhausted() || self.stops_are_dear() {
            return 0;
        }
        self.time(STEPS).as_micros() as u32
    }

    /// A single step, or holding up, took so long.
    pub(super) fn spend(&mut self, time: Duration) {
        self.spent += time;
    }

    fn is_exhausted(&self) -> bool {
        let (at_once, part) = ALLOWANCE;
        self.spent > at_once + self.begin.elapsed() / part
    }

    /// Whether stops have taken more of the time than they may.
    fn stops_are_dear(&self) -> bool {
        let (at_once, part) = STOPS_ALLOWANCE;
        self.stops > at_once + self.begin.elapsed() / part
    }

    /// A stop at no sync point took so long. For so many times that none is to follow.
    pub(super) fn stopped(&mut self, cost: Duration) -> u32 {
        self.stops += cost;
        match self.stops_are_dear() {
            true => DEAR,
            false => 1,
        }
    }

    /// A place in its program at which it is stopped, if it comes there.
    pub(super) fn place(&mut self, tid: Tid) -> Option<u64> {
        let choice = self.next();
        if self.stops_are_dear() {
            return None;
        }
        // Hardly ever freely: a short program would be over.
        (!self.once_in(8)).then(|| self.places.address(tid, choice))?
    }

    fn priority(&mut self, id: u32) -> u32 {
        let now = Instant::now();
        if now >= self.reroll {
            self.priorities.clear();
            self.reroll = now + self.time(REROLL_MICROS);
        }
        if let Some(known) = self.priorities.get(&id) {
            return *known;
        }
        let new = self.next() as u32;
        self.priorities.insert(id, new);
        new
    }

    /// Which of those that wait gets the token. Hardly ever the one that has just given it up, whatever its priority: it
    /// may wait for one of the others in a loop.
    pub(super) fn choose(&mut self, waiting: &VecDeque<u32>) -> usize {
        let gave_way = self.gave_way.take();
        let gave_way = gave_way.filter(|_| waiting.len() > 1 && !self.once_in(8));
        let keys: Vec<u32> = waiting.iter().map(|id| self.priority(*id)).collect();
        let mut others = (0..keys.len()).filter(|i| Some(waiting[*i]) != gave_way);
        let first = others.next().unwrap_or(0);
        others.fold(first, |best, i| if keys[i] > keys[best] { i } else { best })
    }

    /// The task gives the token up although it could go on.
    pub(super) fn gives_way(&mut self, id: u32) {
        self.gave_way = Some(id);
    }

    /// Whether a task gives the token up to one of these.
    pub(super) fn yields(&mut self, id: u32, waiting: &VecDeque<u32>) -> bool {
        let own = self.priority(id);
        let over = waiting.iter().any(|other| self.priority(*other) > own);
        if over {
            !self.once_in(4)
        } else {
            self.once_in(8)
        }
    }

    /// For how long a task is held up; more often where it was preempted.
    fn hold(&mut self, preempted: bool) -> Option<Duration> {
        if self.is_exhausted() {
            return None;
        }
        match preempted {
            // Until others come by.
            true => (!self.once_in(3)).then(|| self.time(LONG_HOLD_MICROS)),
            false => self.once_in(12).then(|| self.time(HOLD_MICROS)),
        }
    }

    /// Whether to stop at an instruction by which threads may meet.
    pub(super) fn stops_at_shared(&mut self) -> bool {
        self.once_in(8)
    }

    /// Whether tasks are held up.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Recorder {
    /// The task, which has the token and is about to go on, may be held up. True: it is.
    pub(super) fn held_up(&mut self, id: u32) -> bool {
        let preempted = std::mem::take(&mut self.task_mut(id).run.preempted);
        if self.tasks.len() < 2 {
            return false;
        }
        let Some(chaos) = &mut self.chaos else {
            return false;
        };
        let Some(time) = chaos.hold(preempted) else {
            return false;
        };
        let now = Instant::now();
        chaos.held.push((now + time, now, id));
        self.task_mut(id).state = State::Ready(Ready::Resume);
        self.release(id, Left::AfterEvent);
        self.tick_for(time);
        true
    }

    /// Those whose time is over go on.
    pub(super) fn release_held(&mut self) {
        let Some(chaos) = &mut self.chaos else {
            return;
        };
        let now = Instant::now();
        let (over, held): (Vec<_>, Vec<_>) =
            chaos.held.drain(..).partition(|(at, _, _)| *at <= now);
        chaos.held = held;
        let times = over.iter().map(|(_, since, _)| now - *since);
        chaos.spent += times.sum::<Duration>();
        for (_, _, id) in over {
            if self.tasks.get(&id).map(|task| task.state) == Some(State::Ready(Ready::Resume)) {
                self.want_token(id, Ready::Resume);
            }
        }
    }
}
