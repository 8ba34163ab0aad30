//! The gate: whether another unroll may be begun. An acknowledgement frees a place in its actor's outbox, so that the
//! actor begins the next unroll; withholding it makes the actor wait. The gate counts the unrolls that are in flight
//! (begun, queued or being trained) and lets acknowledgements go, in the order of asking, only while two limits hold:
//!
//! * a budget of unrolls in flight;
//! * a limit on the lag with which anything in flight could be trained. With version V, n unrolls in flight after the
//!   grant and batches of B, the last of them is trained at version V + ceil(n / B) - 1, whichever of them that is. So no
//!   lag exceeds L as long as `V + ceil(n / B) - 1 <= s + L`, with s the oldest stamp in flight. The stamp of an unroll
//!   that has not arrived is taken to be the version that was published before the last, whose successor may still be on
//!   its way to the actor. (Where a batch makes R versions, ceil(n / B) is R times as much, and so is what is on its way;
//!   what is served late on purpose is older by that.)
//!
//! The first unrolls of a new actor, an outbox full, are asked for too: it is sent no parameters before all are granted.
//! Neither limit can deadlock. The budget never forbids a batch less one, which may wait for its last, and an outbox full,
//! with which a new actor can bring it; the limit on the lag never forbids a batch, and goes with outboxes of one unroll.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// What the gate keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Unrolls in one batch.
    pub batch_unrolls: usize,
    /// Unrolls that an actor is granted before it begins any.
    pub outbox_unrolls: usize,
    /// Versions that each batch makes.
    pub versions_per_batch: u64,
    /// Versions by which actors may be served older parameters on purpose.
    pub served_behind: u64,
    /// Unrolls that may be in flight; `None` for any number.
    pub budget_unrolls: Option<usize>,
    /// Versions by which anything in flight may be behind when it is trained; `None` for any.
    pub lag_versions_max: Option<u64>,
}

impl GateLimits {
    /// Whether there is anything to keep to.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.budget_unrolls.is_none() && self.lag_versions_max.is_none()
    }
}

/// Acknowledgements of one actor that were held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paused {
    /// How many.
    pub acknowledgements: u64,
    /// For how long, all together.
    pub time: Duration,
}

/// One stream of an actor.
#[derive(Debug, Default)]
struct Stream {
    /// For each unroll that may be begun and has not arrived: the oldest version it can have been made with.
    making: VecDeque<u64>,
    /// First unrolls that are asked for and not granted.
    first: usize,
    /// Acknowledgements that may go.
    granted: usize,
}

/// The state machine. `A` names an actor. Time is an argument.
#[derive(Debug)]
pub struct Gate<A> {
    limits: GateLimits,
    /// The learner's version.
    version: u64,
    /// The versions published last, oldest first: of those that are `versions_per_batch` older than the newest, the newest.
    published: VecDeque<u64>,
    streams: BTreeMap<A, Stream>,
    /// Arrived and not yet trained or dropped: how many of each version.
    waiting: BTreeMap<u64, usize>,
    /// Acknowledgements that are held back, and since when, in the order of asking.
    held: VecDeque<(A, Instant)>,
    paused: BTreeMap<A, Paused>,
}

impl<A: Ord + Copy> Gate<A> {
    /// A gate with nothing in flight.
    #[must_use]
    pub fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            version: 0,
            published: VecDeque::new(),
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: VecDeque::new(),
            paused: BTreeMap::new(),
        }
    }

    /// What the gate keeps to.
    #[must_use]
    pub fn limits(&self) -> GateLimits {
        self.limits
    }

    /// Changes the budget; a batch less one and an outbox full are always allowed.
    pub fn set_budget(&mut self, unrolls: Option<usize>) {
        self.limits.budget_unrolls = unrolls;
    }

    /// A stream of `actor` begins; it asks for its first `outbox_unrolls`.
    pub fn open(&mut self, actor: A, outbox_unrolls: usize, now: Instant) {
        self.close(actor);
        let stream = Stream {
            first: outbox_unrolls,
            ..Stream::default()
        };
        self.streams.insert(actor, stream);
        self.held
            .extend(std::iter::repeat_n((actor, now), outbox_unrolls));
    }

    /// Whether `actor` has a stream whose first unrolls are all granted.
    #[must_use]
    pub fn is_admitted(&self, actor: A) -> bool {
        self.streams
            .get(&actor)
            .is_some_and(|stream| stream.first == 0)
    }

    /// The stream of `actor` ended: what it was making will not come.
    pub fn close(&mut self, actor: A) {
        self.streams.remove(&actor);
        self.held.retain(|(held, _)| *held != actor);
    }

    /// A message with an unroll of `actor` was read; if it `waits` for training, it was made with version `stamp`.
    pub fn arrive(&mut self, actor: A, stamp: u64, waits: bool) {
        if let Some(stream) = self.streams.get_mut(&actor) {
            // An actor that comes back has parameters and sends again what it made, without having been asked.
            if stream.making.pop_front().is_none() && stream.first > 0 {
                stream.first -= 1;
                if let Some(index) = self.held.iter().position(|(held, _)| *held == actor) {
                    self.held.remove(index);
                }
            }
        }
        if waits {
            *self.waiting.entry(stamp).or_default() += 1;
        }
    }

    /// An unroll made with version `stamp` was trained on or dropped.
    pub fn settle(&mut self, stamp: u64) {
        if let Some(count) = self.waiting.get_mut(&stamp) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&stamp);
            }
        }
    }

    /// The learner is at `version`, and the actors are sent `published`.
    pub fn advance(&mut self, version: u64, published: u64) {
        self.version = version;
        if self.published.back() != Some(&published) {
            self.published.push_back(published);
        }
        let certain = published.saturating_sub(self.limits.versions_per_batch);
        while self.published.get(1).is_some_and(|next| *next <= certain) {
            self.published.pop_front();
        }
    }

    /// An acknowledgement for `actor` is ready to go.
    pub fn ask(&mut self, actor: A, now: Instant) {
        self.held.push_back((actor, now));
    }

    /// Lets go what may go, in the order of asking; says whether anything may.
    pub fn grant(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((actor, since)) = self.held.front().copied()
            && self.admits_another()
        {
            self.held.pop_front();
            any = true;
            let stamp = self.oldest_stamp_now();
            if let Some(stream) = self.streams.get_mut(&actor) {
                stream.making.push_back(stamp);
                if stream.first > 0 {
                    stream.first -= 1;
                    continue;
                }
                stream.granted += 1;
            }
            let waited = now.saturating_duration_since(since);
            if !waited.is_zero() {
                let paused = self.paused.entry(actor).or_default();
                paused.acknowledgements += 1;
                paused.time += waited;
            }
        }
        any
    }

    /// Takes one acknowledgement of `actor` that may go; `false` if there is none.
    pub fn take_granted(&mut self, actor: A) -> bool {
        let stream = self.streams.get_mut(&actor);
        stream.is_some_and(|stream| {
            let any = stream.granted > 0;
            stream.granted -= usize::from(any);
            any
        })
    }

    /// Unrolls begun, queued or being trained.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let making: usize = self
            .streams
            .values()
            .map(|stream| stream.making.len())
            .sum();
        making + self.waiting.values().sum::<usize>()
    }

    /// Acknowledgements that are held back now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was held back of each actor.
    #[must_use]
    pub fn paused(&self) -> &BTreeMap<A, Paused> {
        &self.paused
    }

    /// The oldest version that an unroll which is begun now can be made with.
    fn oldest_stamp_now(&self) -> u64 {
        let certain = self.published.front().copied().unwrap_or_default();
        certain.saturating_sub(self.limits.served_behind)
    }

    fn admits_another(&self) -> bool {
        let batch = self.limits.batch_unrolls.max(1);
        let in_flight = self.in_flight() + 1;
        if in_flight <= batch {
            return true;
        }
        let always = batch - 1 + self.limits.outbox_unrolls;
        let in_budget = self
            .limits
            .budget_unrolls
            .is_none_or(|budget| in_flight <= budget.max(always));
        in_budget
            && self.limits.lag_versions_max.is_none_or(|limit| {
                let made = in_flight.div_ceil(batch) as u64 * self.limits.versions_per_batch;
                let last_trained_at = self.version + made - 1;
                last_trained_at <= self.oldest_stamp().saturating_add(limit)
            })
    }

    /// The oldest version with which something in flight, or begun now, can have been made.
    fn oldest_stamp(&self) -> u64 {
        let making = self
            .streams
            .values()
            .filter_map(|stream| stream.making.front());
        let waiting = self.waiting.keys();
        let oldest = making.chain(waiting).copied().min();
        oldest.map_or(self.oldest_stamp_now(), |oldest| {
            oldest.min(self.oldest_stamp_now())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Plan, steady};

    fn gate(batch: usize, budget: Option<usize>, limit: Option<u64>) -> Gate<u32> {
        Gate::new(GateLimits {
            batch_unrolls: batch,
            outbox_unrolls: 1,
            versions_per_batch: 1,
            served_behind: 0,
            budget_unrolls: budget,
            lag_versions_max: limit,
        })
    }

    #[test]
    fn a_new_actor_is_let_in_with_all_its_outbox_however_small_the_budget() {
        let now = Instant::now();
        for (batch, outbox) in [(1, 2), (2, 2), (3, 2), (2, 5)] {
            let mut gate = gate(batch, Some(1), None);
            gate.limits.outbox_unrolls = outbox;
            // A batch waits for its last unroll, and whoever made the others is gone.
            (1..batch).for_each(|_| gate.arrive(9, 6, true));
            gate.open(0, outbox, now);
            assert!(gate.grant(now) && gate.is_admitted(0), "{batch} {outbox}");
            gate.open(1, outbox, now);
            assert!(!gate.grant(now), "the budget holds for what is beyond");
        }
    }

    #[test]
    fn a_budget_holds_acknowledgements_back_and_lets_them_go_in_order() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let mut gate = gate(1, Some(2), None);
        (0..3).for_each(|actor| gate.open(actor, 1, now));
        assert!(gate.grant(now));
        // Actors 0 and 1 get parameters, actor 2 has to wait. Actor 1 asks for more.
        assert!(gate.is_admitted(1) && !gate.is_admitted(2));
        gate.arrive(1, 0, true);
        gate.ask(1, now);
        assert!(!gate.grant(now));
        assert_eq!((gate.in_flight(), gate.held()), (2, 2));
        gate.settle(0);
        assert!(gate.grant(later) && gate.is_admitted(2) && !gate.take_granted(1));
        // The stream of actor 2 breaks: what it made will not come.
        gate.close(2);
        assert!(gate.grant(later) && gate.take_granted(1) && !gate.take_granted(1));
        assert_eq!(gate.paused()[&1].time, Duration::from_secs(2));
    }

    #[test]
    fn an_actor_that_comes_back_with_what_it_made_is_not_counted_twice() {
        let now = Instant::now();
        let mut gate = gate(1, Some(1), None);
        gate.open(0, 1, now);
        gate.grant(now);
        gate.open(1, 1, now);
        gate.open(1, 1, now);
        assert_eq!((gate.in_flight(), gate.held()), (1, 1));
        // It has parameters of before and sends its unroll at once.
        gate.arrive(1, 0, true);
        gate.ask(1, now);
        assert_eq!((gate.in_flight(), gate.held()), (2, 1));
        gate.settle(0);
        gate.close(0);
        assert!(gate.grant(now) && gate.take_granted(1));
        assert_eq!(gate.in_flight(), 1);
    }

    #[test]
    fn a_batch_may_always_come_together() {
        let now = Instant::now();
        let mut gate = gate(2, Some(0), Some(0));
        gate.advance(50, 50);
        gate.open(7, 1, now);
        gate.grant(now);
        // Made with parameters that never arrived: far beyond the limit, and still trained.
        gate.arrive(7, 3, true);
        gate.ask(7, now);
        assert!(gate.grant(now) && gate.take_granted(7));
    }

    #[test]
    fn a_slow_actor_makes_the_others_wait_before_its_unroll_grows_too_old() {
        let now = Instant::now();
        let mut gate = gate(1, None, Some(3));
        gate.open(0, 1, now);
        gate.open(1, 1, now);
        gate.grant(now);
        // Actor 0 is slow. Actor 1 makes one version after the other.
        let mut version = 0;
        loop {
            gate.arrive(1, version, true);
            gate.ask(1, now);
            gate.settle(version);
            version += 1;
            gate.advance(version, version);
            if !gate.grant(now) {
                break;
            }
            assert!(gate.take_granted(1));
        }
        // Its unroll of version 0 can still be trained at version 2, or at 3 after one that is already in flight.
        assert_eq!(version, 3);
        gate.arrive(0, 0, true);
        gate.settle(0);
        gate.advance(4, 4);
        assert!(gate.grant(now));
    }

    #[test]
    fn what_was_published_long_ago_may_still_be_what_an_actor_has() {
        let now = Instant::now();
        let mut gate = gate(1, None, Some(8));
        gate.advance(4, 4);
        gate.advance(8, 8);
        // Begun with version 4, while 8 is on its way: the last of five is trained at 12.
        let begun = |gate: &mut Gate<u32>| {
            (0..9).for_each(|actor| gate.open(actor, 1, now));
            gate.grant(now);
            gate.in_flight()
        };
        assert_eq!(begun(&mut gate), 5);
        // In a life of the learner that begins at 8 there is nothing older.
        let mut next_life = Gate::new(gate.limits());
        next_life.advance(8, 8);
        assert_eq!(begun(&mut next_life), 9);
    }

    #[test]
    fn no_lag_exceeds_the_limit_in_any_pipeline() {
        for (limit, batch, outbox, slow, publish_interval) in [
            (1, 1, 1, 1.0, 1),
            (2, 2, 1, 9.0, 1),
            (3, 2, 2, 30.0, 1),
            (4, 4, 3, 3.0, 1),
            // The least for this interval, and more: see the checks of the configuration.
            (7, 2, 1, 9.0, 4),
            (9, 1, 1, 1.0, 4),
        ] {
            let mut plan = Plan::new(6, 1.0, 0.3);
            plan.unroll_s[5] = slow;
            plan.publish_interval = publish_interval;
            (plan.batch, plan.queue, plan.outbox) = (batch, 2 * batch, outbox);
            plan.lag_versions_max = Some(limit);
            let paced = steady(plan.clone());
            assert!(paced.lag_max <= limit, "{plan:?}: {paced:?}");
            plan.lag_versions_max = None;
            assert!(steady(plan).lag_max > limit);
        }
    }
}
