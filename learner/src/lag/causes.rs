//! Why a trained step lags: which stage of its unroll's life the versions were published in, and how long each took.
//!
//! The stages follow each other without a gap, from the publication of the policy that acted to the training on what it
//! did. So the versions of the stages add up to the lag exactly, and their seconds to the age of the policy.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use springbok_common::{unroll::UnrollTiming, version::PolicyVersion};

/// Publications that are remembered; an unroll older than that has the rest of its lag under `publish`.
const TIMELINE_VERSIONS: usize = 4096;

/// When each of the last versions was published.
#[derive(Debug, Default)]
pub struct Timeline {
    published: VecDeque<(PolicyVersion, Instant)>,
}

impl Timeline {
    /// `version` was published at `at`; both only ever grow.
    pub fn publish(&mut self, version: PolicyVersion, at: Instant) {
        if self.published.len() == TIMELINE_VERSIONS {
            self.published.pop_front();
        }
        self.published.push_back((version, at));
    }

    /// The newest version at the moment `at`; the oldest remembered one for moments before it.
    #[must_use]
    pub fn version_at(&self, at: Instant) -> PolicyVersion {
        let after = self
            .published
            .partition_point(|(_, published)| *published <= at);
        self.published
            .get(after.saturating_sub(1))
            .map_or(PolicyVersion::default(), |(version, _)| *version)
    }

    /// When `version`, or the oldest remembered one after it, was published.
    fn published_at(&self, version: PolicyVersion) -> Option<Instant> {
        let at = self
            .published
            .partition_point(|(published, _)| *published < version);
        self.published.get(at).map(|(_, at)| *at)
    }
}

/// The moments between the stages of an unroll's life, on the learner's clock.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// The learner sent the parameters that made it.
    pub issued: Instant,
    /// Before its first action.
    pub opened: Instant,
    /// After its last step.
    pub closed: Instant,
    /// The actor handed it to the connection.
    pub sent: Instant,
    /// Its message had been read.
    pub arrived: Instant,
    /// The trainer took it from the queue.
    pub taken: Instant,
}

impl Moments {
    /// Places the actor's durations before the arrival. What the actor's own time leaves of that between the sending of
    /// the parameters and the arrival of the unroll is the way there and back; each way is taken for half of it, as the
    /// network time protocol does. The learner's clock alone is read, so that clocks need not agree.
    #[must_use]
    pub fn new(timing: &UnrollTiming, issued: Instant, arrived: Instant, taken: Instant) -> Self {
        // A duration that reaches back beyond the clock's start is not believed.
        let back = |from: Instant, span: Duration| from.checked_sub(span).unwrap_or(from);
        let micros = Duration::from_micros;
        let round = arrived.saturating_duration_since(issued);
        let way = round.saturating_sub(micros(timing.held_us)) / 2;
        // Without a report of the actor there is no way to be told apart.
        let sent = if timing.held_us == 0 {
            arrived
        } else {
            back(arrived, way)
        };
        let closed = back(sent, micros(timing.outbox_us));
        let opened = back(closed, micros(timing.rollout_us));
        Self {
            issued,
            opened,
            closed,
            sent,
            arrived,
            taken,
        }
    }

    /// The moments of those steps that come after the share `done` of the unroll, whose steps take equally long.
    #[must_use]
    pub fn after(self, done: f64) -> Self {
        let making = self.closed.saturating_duration_since(self.opened);
        let opened = self.opened + making.mul_f64(done.clamp(0.0, 1.0));
        Self { opened, ..self }
    }
}

/// Something for each cause of lag, in the order of an unroll's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByCause<T> {
    /// The actor was served older parameters on purpose.
    #[serde(default)]
    pub injected: T,
    /// Newer parameters were on their way, or had not been loaded, when the actor began.
    pub publish: T,
    /// While the unroll was made.
    pub unroll: T,
    /// While it waited in the actor's outbox.
    pub outbox: T,
    /// While it was on its way.
    #[serde(default)]
    pub transport: T,
    /// While it waited in the learner's queue.
    pub queue: T,
    /// Between leaving the queue and being trained.
    pub batch: T,
}

impl<T> ByCause<T> {
    /// One for each cause, in order.
    pub fn from_stages(mut stage: impl FnMut(usize) -> T) -> Self {
        Self {
            injected: stage(0),
            publish: stage(1),
            unroll: stage(2),
            outbox: stage(3),
            transport: stage(4),
            queue: stage(5),
            batch: stage(6),
        }
    }

    /// All of them, in order.
    pub fn into_array(self) -> [T; 7] {
        [
            self.injected,
            self.publish,
            self.unroll,
            self.outbox,
            self.transport,
            self.queue,
            self.batch,
        ]
    }
}

/// The lag of an unroll by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LagCauses {
    /// Versions; the sum is the lag.
    pub versions: ByCause<u64>,
    /// Seconds; the sum is the age of the policy that made the unroll.
    pub seconds: ByCause<f64>,
}

impl LagCauses {
    /// Splits the lag of an unroll that was made with `behaviour`, when `served` was the newest, and is trained by the
    /// learner at version `trained` and the moment `now`.
    #[must_use]
    pub fn split(
        timeline: &Timeline,
        [behaviour, served, trained]: [PolicyVersion; 3],
        moments: &Moments,
        now: Instant,
    ) -> Self {
        // Never before the stage's predecessor and never after the training, so that every term is at least 0 and
        // they add up: the actor's durations are only as exact as its clock and the network.
        let ends = [moments.opened, moments.closed, moments.sent];
        let ends = [ends.as_slice(), &[moments.arrived, moments.taken]].concat();
        let mut versions = vec![served];
        versions.extend(ends.iter().map(|end| timeline.version_at(*end)));
        versions.push(trained);
        let mut before = behaviour.0;
        let versions = ByCause::from_stages(|stage| {
            let reached = versions[stage].0.clamp(before, trained.0.max(before));
            reached - std::mem::replace(&mut before, reached)
        });
        // Published now, as far as anybody remembers, if nobody does.
        let origin = timeline.published_at(behaviour).unwrap_or(now).min(now);
        let injected = if served > behaviour {
            moments.issued
        } else {
            origin
        };
        let mut times = vec![injected];
        times.extend(ends);
        times.push(now);
        let mut before = origin;
        let seconds = ByCause::from_stages(|stage| {
            let reached = times[stage].clamp(before, now);
            let since = std::mem::replace(&mut before, reached);
            reached.duration_since(since).as_secs_f64()
        });
        Self { versions, seconds }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use springbok_common::unroll::Served;

    use super::*;

    fn timing(rollout_s: u64, outbox_s: u64, held_s: u64) -> UnrollTiming {
        UnrollTiming {
            rollout_us: rollout_s * 1_000_000,
            outbox_us: outbox_s * 1_000_000,
            held_us: held_s * 1_000_000,
            ..UnrollTiming::default()
        }
    }

    #[test]
    fn each_cause_gets_the_versions_and_the_time_of_its_stage() {
        let start = Instant::now() + Duration::from_secs(100);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut timeline = Timeline::default();
        (0..30).for_each(|version| timeline.publish(PolicyVersion(version), second(version)));
        // Version v is the newest in second v. Served 2 instead of 5 in second 5; 1 s on the way, held for 6 s of which
        // 2 passed before the first action, 3 in the unroll, 1 in the outbox; 1 s on the way; taken at 17, trained at 18.
        let moments = Moments::new(&timing(3, 1, 6), second(5), second(13), second(17));
        let versions = [2, 5, 18].map(PolicyVersion);
        let causes = LagCauses::split(&timeline, versions, &moments, second(18));
        assert_eq!(causes.versions.into_array(), [3, 3, 3, 1, 1, 4, 1]);
        let seconds = [3.0, 3.0, 3.0, 1.0, 1.0, 4.0, 1.0];
        assert_eq!(causes.seconds.into_array(), seconds);
    }

    #[test]
    fn without_injection_the_policy_ages_from_its_publication() {
        let start = Instant::now() + Duration::from_secs(100);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut timeline = Timeline::default();
        timeline.publish(PolicyVersion(0), start);
        // An actor that joined late: sent in second 4, begun at once.
        let moments = Moments::new(&timing(2, 0, 2), second(4), second(6), second(6));
        let versions = [0; 3].map(PolicyVersion);
        let causes = LagCauses::split(&timeline, versions, &moments, second(7));
        let seconds = [0.0, 4.0, 2.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(causes.seconds.into_array(), seconds);
    }

    #[test]
    fn steps_of_parameters_that_came_in_flight_begin_later_and_lag_less() {
        let start = Instant::now() + Duration::from_secs(100);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut timeline = Timeline::default();
        (0..30).for_each(|version| timeline.publish(PolicyVersion(version), second(version)));
        // Begun in second 4 and made in 8 s; after half of them the actor loaded version 7, which is 1 s old by then.
        let moments = Moments::new(&timing(8, 0, 8), second(4), second(12), second(13));
        let versions = [7, 7, 14].map(PolicyVersion);
        let late = LagCauses::split(&timeline, versions, &moments.after(0.5), second(14));
        assert_eq!(late.versions.into_array(), [0, 1, 4, 0, 0, 1, 1]);
        let early = LagCauses::split(&timeline, versions, &moments.after(0.0), second(14));
        assert_eq!(early.versions.into_array(), [0, 0, 5, 0, 0, 1, 1]);
    }

    proptest! {
        #[test]
        fn causes_add_up_to_the_lag_whatever_the_actor_reports(
            published in prop::collection::vec(1_u64..50, 1..6000),
            behaviour in 0_u64..6000,
            served in 0_u64..7000,
            times in prop::array::uniform5(0_u64..200_000),
        ) {
            let start = Instant::now();
            let mut timeline = Timeline::default();
            let mut at = start;
            for (version, gap_ms) in published.iter().enumerate() {
                at += Duration::from_millis(*gap_ms);
                timeline.publish(PolicyVersion(version as u64), at);
            }
            let trained = PolicyVersion(published.len() as u64 - 1);
            let behaviour = PolicyVersion(behaviour.min(trained.0));
            let timing = UnrollTiming {
                rollout_us: times[0] * 1000,
                outbox_us: times[1] * 1000,
                held_us: times[4] * 1000,
                served: Served::default(),
                ..UnrollTiming::default()
            };
            let arrived = start + Duration::from_millis(times[2]);
            let taken = arrived + Duration::from_millis(times[3]);
            let moments = Moments::new(&timing, start, arrived, taken);
            let versions = [behaviour, PolicyVersion(served), trained];
            let now = taken.max(at);
            let causes = LagCauses::split(&timeline, versions, &moments, now);
            let total: u64 = causes.versions.into_array().iter().sum();
            prop_assert_eq!(total, trained.lag_behind(behaviour).unwrap().versions());
            let seconds: f64 = causes.seconds.into_array().iter().sum();
            let age = now.duration_since(timeline.published_at(behaviour).unwrap());
            prop_assert!((seconds - age.as_secs_f64()).abs() < 1e-6);
        }
    }
}
