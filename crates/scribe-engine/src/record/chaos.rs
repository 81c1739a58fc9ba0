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
/// What a single step costs, about.
const STEP: Duration = Duration::from_micros(10);
/// How often priorities are drawn anew: powers of two of microseconds.
const REROLL_MICROS: (u64, u64) = (9, 16);

/// The dice, and what they said.
pub(super) struct Chaos {
    state: u64,
    priorities: HashMap<u32, u32>,
    reroll: Instant,
    held: Vec<(Instant, u32)>,
    places: Places,
    begin: Instant,
    spent: Duration,
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
        if !self.once_in(2) || self.is_exhausted() {
            return 0;
        }
        let steps = self.time(STEPS).as_micros() as u32;
        self.spent += STEP * steps;
        steps
    }

    fn is_exhausted(&self) -> bool {
        let (at_once, part) = ALLOWANCE;
        self.spent > at_once + self.begin.elapsed() / part
    }

    /// A place in its program at which it is stopped, if it comes there.
    pub(super) fn place(&mut self, tid: Tid) -> Option<u64> {
        let choice = self.next();
        self.once_in(2).then(|| self.places.address(tid, choice))?
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

    /// Which of those that wait gets the token.
    pub(super) fn choose(&mut self, waiting: &VecDeque<u32>) -> usize {
        let keys: Vec<u32> = waiting.iter().map(|id| self.priority(*id)).collect();
        (0..keys.len()).max_by_key(|i| keys[*i]).unwrap_or(0)
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
        let time = match preempted {
            // Until others come by.
            true => (!self.once_in(3)).then(|| self.time(LONG_HOLD_MICROS)),
            false => self.once_in(12).then(|| self.time(HOLD_MICROS)),
        };
        self.spent += time.unwrap_or_default();
        time
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
        chaos.held.push((Instant::now() + time, id));
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
        let (over, held): (Vec<_>, Vec<_>) = chaos.held.drain(..).partition(|(at, _)| *at <= now);
        chaos.held = held;
        for (_, id) in over {
            if self.tasks.get(&id).map(|task| task.state) == Some(State::Ready(Ready::Resume)) {
                self.want_token(id, Ready::Resume);
            }
        }
    }
}
