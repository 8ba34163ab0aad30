//! A discrete-event simulation of the whole pipeline, in simulated seconds: actors with outboxes, the queue, batches,
//! updates, snapshots on their way, and the real [`Gate`]. Models and controllers are held against it.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use crate::gate::{Gate, GateLimits};

/// What is simulated.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Seconds that each actor needs for an unroll.
    pub(crate) unroll_s: Vec<f64>,
    pub(crate) outbox: usize,
    pub(crate) queue: usize,
    pub(crate) batch: usize,
    pub(crate) update_s: f64,
    /// From the publication to the loading.
    pub(crate) snapshot_s: f64,
    /// Of an unroll and of an acknowledgement.
    pub(crate) message_s: f64,
    /// Every duration varies evenly by this share.
    pub(crate) jitter: f64,
    pub(crate) lag_versions_max: Option<u64>,
    /// A full queue drops its oldest unroll.
    pub(crate) evicts: bool,
    pub(crate) budget: Option<usize>,
    pub(crate) publish_interval: u64,
    /// Actors load newer parameters within an unroll.
    pub(crate) refreshes: bool,
}

/// An unroll that is complete.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Made {
    /// The version that it was begun with.
    stamp: u64,
    /// Versions by which its steps are newer than that, mean.
    newer: f64,
}

impl Plan {
    pub(crate) fn new(actors: usize, unroll_s: f64, update_s: f64) -> Self {
        Self {
            unroll_s: vec![unroll_s; actors],
            outbox: 1,
            queue: 2,
            batch: 2,
            update_s,
            snapshot_s: 0.01 * update_s.min(unroll_s),
            message_s: 0.002 * unroll_s,
            jitter: 0.1,
            lag_versions_max: None,
            evicts: false,
            budget: None,
            publish_interval: 1,
            refreshes: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// An actor's unroll is complete.
    Finished(usize),
    Arrived(usize, Made),
    Acknowledged(usize),
    Updated,
    Loaded(u64),
}

/// An event and when it happens; the order of scheduling decides between events of one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At(f64, u64, Event);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0).then(other.1.cmp(&self.1))
    }
}

#[derive(Debug, Default)]
struct Actor {
    alive: bool,
    /// It has parameters.
    ready: bool,
    making: bool,
    /// Begun and not acknowledged.
    begun: usize,
    loaded: u64,
    /// The version that the unroll in the making was begun with.
    stamp: u64,
    /// Until when the two integrals below have been added up.
    steps_until_s: f64,
    /// Versions by which the steps made so far are newer than `stamp`, times seconds.
    newer_s: f64,
    /// Arrived, not yet in the queue: the learner reads one message of an actor at a time.
    door: VecDeque<Made>,
    made_s: f64,
    blocked_since: f64,
    blocked_s: f64,
}

/// One update.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// Of the first steps.
    pub(crate) lags: Vec<u64>,
    /// Versions by which the steps are newer than the first ones, mean.
    pub(crate) newer: f64,
}

impl Update {
    pub(crate) fn lag(&self) -> f64 {
        self.lags.iter().sum::<u64>() as f64 / self.lags.len().max(1) as f64 - self.newer
    }
}

pub(crate) struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) gate: Gate<usize>,
    pub(crate) now_s: f64,
    pub(crate) version: u64,
    pub(crate) published: u64,
    busy_s: f64,
    update_began_s: f64,
    /// Versions behind the newest at each loading, summed over the seconds of making, and those seconds.
    stale_s: (f64, f64),
    origin: Instant,
    events: BinaryHeap<At>,
    scheduled: u64,
    actors: Vec<Actor>,
    /// Actors whose unroll waits for a place, in the order of asking.
    asking: VecDeque<usize>,
    queue: VecDeque<Made>,
    collected: Vec<Made>,
    updating: bool,
    last: Option<Update>,
    random: u64,
}

impl Simulation {
    pub(crate) fn new(plan: Plan) -> Self {
        let gate = Gate::new(GateLimits {
            batch_unrolls: plan.batch,
            outbox_unrolls: plan.outbox,
            versions_per_batch: 1,
            served_behind: 0,
            budget_unrolls: plan.budget,
            lag_versions_max: plan.lag_versions_max,
        });
        let actors = plan.unroll_s.len();
        let mut simulation = Self {
            plan,
            gate,
            now_s: 0.0,
            version: 0,
            published: 0,
            busy_s: 0.0,
            update_began_s: 0.0,
            stale_s: (0.0, 0.0),
            origin: Instant::now(),
            events: BinaryHeap::new(),
            scheduled: 0,
            actors: (0..actors).map(|_| Actor::default()).collect(),
            asking: VecDeque::new(),
            queue: VecDeque::new(),
            collected: Vec::new(),
            updating: false,
            last: None,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        (0..actors).for_each(|actor| simulation.join(actor));
        simulation
    }

    /// Actor `actor` of the plan comes, or comes again.
    pub(crate) fn join(&mut self, actor: usize) {
        self.actors[actor] = Actor {
            alive: true,
            blocked_since: self.now_s,
            ..Actor::default()
        };
        self.gate.open(actor, self.plan.outbox, self.instant());
        self.grant();
    }

    /// Actor `actor` dies with what it was making.
    pub(crate) fn leave(&mut self, actor: usize) {
        self.gate.close(actor);
        (self.actors[actor].alive, self.actors[actor].ready) = (false, false);
        self.actors[actor].door.clear();
        self.asking.retain(|asking| *asking != actor);
        self.grant();
    }

    pub(crate) fn alive(&self) -> usize {
        self.actors.iter().filter(|actor| actor.alive).count()
    }

    /// Runs until the next update is done; `None` if nothing happens any more: a deadlock.
    pub(crate) fn next_update(&mut self) -> Option<Update> {
        while self.last.is_none() {
            let At(at, _, event) = self.events.pop()?;
            self.now_s = at;
            match event {
                Event::Finished(actor) => self.finished(actor),
                Event::Arrived(actor, made) => {
                    if self.actors[actor].alive {
                        self.actors[actor].door.push_back(made);
                        if self.actors[actor].door.len() == 1 {
                            self.asking.push_back(actor);
                        }
                        self.move_on();
                    }
                }
                Event::Acknowledged(actor) => {
                    if self.actors[actor].alive {
                        self.actors[actor].begun -= 1;
                        self.begin(actor);
                    }
                }
                Event::Updated => self.updated(),
                Event::Loaded(version) => {
                    self.steps_go_on();
                    for actor in &mut self.actors {
                        actor.loaded = actor.loaded.max(version);
                    }
                }
            }
        }
        self.last.take()
    }

    /// Share of the actors' time in which they waited.
    pub(crate) fn blocked_share(&self) -> f64 {
        let made: f64 = self.actors.iter().map(|actor| actor.made_s).sum();
        let blocked: f64 = self.actors.iter().map(|actor| actor.blocked_s).sum();
        blocked / (made + blocked)
    }

    /// Versions that an actor had not loaded when it began, or in flight made a step, mean.
    pub(crate) fn publish_versions(&self) -> f64 {
        self.stale_s.0 / self.stale_s.1.max(f64::MIN_POSITIVE)
    }

    /// Adds up what the steps made until now were made with.
    fn steps_go_on(&mut self) {
        for actor in self.actors.iter_mut().filter(|actor| actor.making) {
            let passed = self.now_s - std::mem::replace(&mut actor.steps_until_s, self.now_s);
            if self.plan.refreshes {
                actor.newer_s += (actor.loaded - actor.stamp) as f64 * passed;
                self.stale_s.0 += (self.version - actor.loaded) as f64 * passed;
                self.stale_s.1 += passed;
            }
        }
    }

    fn schedule(&mut self, after_s: f64, event: Event) {
        // A linear congruential generator is random enough for jitter.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        let factor = 1.0 + self.plan.jitter * (2.0 * uniform - 1.0);
        self.scheduled += 1;
        let at = At(self.now_s + after_s * factor, self.scheduled, event);
        self.events.push(at);
    }

    fn begin(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        if !actor.ready || actor.making || actor.begun >= self.plan.outbox {
            return;
        }
        actor.making = true;
        actor.begun += 1;
        actor.blocked_s += self.now_s - actor.blocked_since;
        actor.blocked_since = self.now_s;
        (actor.stamp, actor.newer_s) = (actor.loaded, 0.0);
        actor.steps_until_s = self.now_s;
        if !self.plan.refreshes {
            // One weight for each unroll.
            self.stale_s.0 += (self.version - actor.stamp) as f64;
            self.stale_s.1 += 1.0;
        }
        self.schedule(self.plan.unroll_s[index], Event::Finished(index));
    }

    fn finished(&mut self, index: usize) {
        self.steps_go_on();
        let actor = &mut self.actors[index];
        if !actor.alive {
            return;
        }
        actor.making = false;
        let made_s = self.now_s - actor.blocked_since;
        actor.made_s += made_s;
        actor.blocked_since = self.now_s;
        let made = Made {
            stamp: actor.stamp,
            newer: actor.newer_s / made_s.max(f64::MIN_POSITIVE),
        };
        self.schedule(self.plan.message_s, Event::Arrived(index, made));
        self.begin(index);
    }

    /// Moves whatever can move: into the queue, into the batch, into an update.
    fn move_on(&mut self) {
        loop {
            if self.plan.evicts
                && self.queue.len() == self.plan.queue
                && !self.asking.is_empty()
                && let Some(dropped) = self.queue.pop_front()
            {
                self.gate.settle(dropped.stamp);
            }
            if self.queue.len() < self.plan.queue
                && let Some(actor) = self.asking.pop_front()
                && let Some(made) = self.actors[actor].door.pop_front()
            {
                self.queue.push_back(made);
                self.gate.arrive(actor, made.stamp, true);
                self.gate.ask(actor, self.instant());
                self.grant();
                if !self.actors[actor].door.is_empty() {
                    self.asking.push_back(actor);
                }
            } else if !self.updating
                && let Some(made) = self.queue.pop_front()
            {
                self.collected.push(made);
                if self.collected.len() == self.plan.batch {
                    self.updating = true;
                    self.schedule(self.plan.update_s, Event::Updated);
                    self.update_began_s = self.now_s;
                }
            } else {
                return;
            }
        }
    }

    fn updated(&mut self) {
        self.busy_s += self.now_s - self.update_began_s;
        self.steps_go_on();
        let batch = std::mem::take(&mut self.collected);
        batch.iter().for_each(|made| self.gate.settle(made.stamp));
        let newer = batch.iter().map(|made| made.newer).sum::<f64>();
        self.last = Some(Update {
            lags: batch.iter().map(|made| self.version - made.stamp).collect(),
            newer: newer / batch.len() as f64,
        });
        self.updating = false;
        self.version += 1;
        if self.version >= self.published + self.plan.publish_interval {
            self.published = self.version;
            self.schedule(self.plan.snapshot_s, Event::Loaded(self.version));
        }
        self.gate.advance(self.version, self.published);
        self.grant();
        self.move_on();
    }

    pub(crate) fn grant(&mut self) {
        self.gate.grant(self.instant());
        for actor in 0..self.actors.len() {
            if self.actors[actor].alive && !self.actors[actor].ready && self.gate.is_admitted(actor)
            {
                self.actors[actor].ready = true;
                self.actors[actor].loaded = self.published;
                self.begin(actor);
            }
            while self.gate.take_granted(actor) {
                self.schedule(self.plan.message_s, Event::Acknowledged(actor));
            }
        }
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_secs_f64(self.now_s)
    }
}

/// What a plan settles to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    pub(crate) lag: f64,
    pub(crate) lag_max: u64,
    /// Updates per second.
    pub(crate) rate: f64,
    pub(crate) learner_busy: f64,
    pub(crate) actors_blocked: f64,
    pub(crate) publish_versions: f64,
}

/// Runs `plan` for some updates, measures for some more.
pub(crate) fn steady(plan: Plan) -> Steady {
    let mut simulation = Simulation::new(plan);
    let mut next = |count: usize| -> Vec<Update> {
        (0..count)
            .map(|_| {
                simulation
                    .next_update()
                    .expect("the pipeline must not come to rest")
            })
            .collect()
    };
    next(300);
    let updates = next(2000);
    let largest = updates.iter().flat_map(|update| &update.lags).max();
    Steady {
        lag: updates.iter().map(Update::lag).sum::<f64>() / updates.len() as f64,
        lag_max: largest.copied().unwrap_or(0),
        rate: 2300.0 / simulation.now_s,
        learner_busy: simulation.busy_s / simulation.now_s,
        actors_blocked: simulation.blocked_share(),
        publish_versions: simulation.publish_versions(),
    }
}
