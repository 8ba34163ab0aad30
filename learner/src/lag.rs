//! The lag meter: how many versions behind the learner each trained step was, and why.
//!
//! A cause is the number of versions that were published during one stage of an unroll's life. The stages follow each
//! other without a gap, so the causes of an unroll add up to its lag exactly.

pub mod buckets;
pub mod odometer;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use springbok_common::{
    unroll::UnrollTiming,
    version::{PolicyLag, PolicyVersion},
};

/// Publications that are remembered; an unroll older than that has the rest of its lag under `publish`.
const TIMELINE_VERSIONS: usize = 4096;

/// Lags above this share one histogram bin, so that memory stays bounded.
const HISTOGRAM_LAG_MAX: u64 = 1 << 16;

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
}

/// The moments between the stages of an unroll's life, on the learner's clock.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// Before its first action.
    pub opened: Instant,
    /// After its last step.
    pub closed: Instant,
    /// Its message had been read.
    pub arrived: Instant,
    /// The trainer took it from the queue.
    pub taken: Instant,
}

impl Moments {
    /// Places the actor's durations before the arrival; the way through the network counts as outbox time.
    #[must_use]
    pub fn new(timing: &UnrollTiming, arrived: Instant, taken: Instant) -> Self {
        // A duration that reaches back beyond the clock's start is not believed.
        let back =
            |from: Instant, us: u64| from.checked_sub(Duration::from_micros(us)).unwrap_or(from);
        let closed = back(arrived, timing.outbox_us);
        let opened = back(closed, timing.rollout_us);
        Self {
            opened,
            closed,
            arrived,
            taken,
        }
    }
}

/// Where the lag of an unroll comes from, in versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LagCauses {
    /// The actor had not loaded the newest version when it began.
    pub publish: u64,
    /// Published while the unroll was made.
    pub unroll: u64,
    /// Published while it waited in the outbox or was on its way.
    pub outbox: u64,
    /// Published while it waited in the learner's queue.
    pub queue: u64,
    /// Published between leaving the queue and being trained.
    pub batch: u64,
}

impl LagCauses {
    /// Splits the lag of an unroll that was made with `behaviour` and is trained by the learner at `trained`.
    #[must_use]
    pub fn split(
        timeline: &Timeline,
        behaviour: PolicyVersion,
        trained: PolicyVersion,
        moments: &Moments,
    ) -> Self {
        // Never before the stage's predecessor and never after the training, so that every term is at least 0 and
        // they add up: the actor's durations are only as exact as its clock and the network.
        let mut before = behaviour.0;
        let mut stage = |end: PolicyVersion| {
            let reached = end.0.clamp(before, trained.0.max(before));
            reached - std::mem::replace(&mut before, reached)
        };
        Self {
            publish: stage(timeline.version_at(moments.opened)),
            unroll: stage(timeline.version_at(moments.closed)),
            outbox: stage(timeline.version_at(moments.arrived)),
            queue: stage(timeline.version_at(moments.taken)),
            batch: stage(trained),
        }
    }

    /// The lag: all causes together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.publish + self.unroll + self.outbox + self.queue + self.batch
    }
}

/// Distribution of the lag, weighted by trained steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LagSummary {
    /// Versions, mean.
    pub mean: f64,
    /// Versions, median.
    pub p50: f64,
    /// Versions, 95th percentile.
    pub p95: f64,
    /// Versions, 99th percentile.
    pub p99: f64,
    /// Versions, largest.
    pub max: f64,
    /// Mean seconds from an unroll's first action to its training.
    pub seconds: f64,
    /// Mean environment steps that all actors made from an unroll's first action to its training.
    #[serde(default)]
    pub env_steps: f64,
}

/// Mean lag by cause, in versions, weighted by trained steps; the sum is [`LagSummary::mean`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseSummary {
    /// The actor had not loaded the newest version when it began.
    pub publish: f64,
    /// Published while the unroll was made.
    pub unroll: f64,
    /// Published while it waited in the outbox or was on its way.
    pub outbox: f64,
    /// Published while it waited in the learner's queue.
    pub queue: f64,
    /// Published between leaving the queue and being trained.
    pub batch: f64,
}

/// Adds up the lag of trained steps.
#[derive(Debug, Default)]
pub struct LagMeter {
    /// Steps by lag.
    histogram: BTreeMap<u64, u64>,
    steps: u64,
    /// Versions times steps, over all lags and by cause.
    weighted: u128,
    causes: [u128; 5],
    age_seconds: f64,
    age_env_steps: f64,
}

/// How long ago an unroll was begun when it was trained.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Age {
    /// In time.
    pub time: Duration,
    /// In environment steps that all actors made since.
    pub env_steps: f64,
}

impl LagMeter {
    /// `steps` were trained with `lag`, `age` after their unroll was begun.
    pub fn record(&mut self, steps: u64, lag: PolicyLag, causes: &LagCauses, age: Age) {
        let weight = u128::from(steps);
        let bin = lag.versions().min(HISTOGRAM_LAG_MAX);
        *self.histogram.entry(bin).or_default() += steps;
        self.steps += steps;
        self.weighted += u128::from(lag.versions()) * weight;
        let by_cause = [
            causes.publish,
            causes.unroll,
            causes.outbox,
            causes.queue,
            causes.batch,
        ];
        for (sum, cause) in self.causes.iter_mut().zip(by_cause) {
            *sum += u128::from(cause) * weight;
        }
        self.age_seconds += age.time.as_secs_f64() * steps as f64;
        self.age_env_steps += age.env_steps * steps as f64;
    }

    /// The distribution so far; all zero before the first step.
    #[must_use]
    pub fn summary(&self) -> LagSummary {
        let steps = self.steps.max(1) as f64;
        let largest = self.histogram.keys().next_back();
        LagSummary {
            mean: self.weighted as f64 / steps,
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: largest.map_or(0.0, |lag| *lag as f64),
            seconds: self.age_seconds / steps,
            env_steps: self.age_env_steps / steps,
        }
    }

    /// Mean lag by cause so far.
    #[must_use]
    pub fn causes(&self) -> CauseSummary {
        let steps = self.steps.max(1) as f64;
        let [publish, unroll, outbox, queue, batch] = self.causes.map(|sum| sum as f64 / steps);
        CauseSummary {
            publish,
            unroll,
            outbox,
            queue,
            batch,
        }
    }

    /// The smallest lag that at least the share `q` of all steps does not exceed.
    fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.steps as f64).ceil() as u64;
        let mut seen = 0;
        for (lag, steps) in &self.histogram {
            seen += steps;
            if seen >= rank {
                return *lag as f64;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lag(versions: u64) -> PolicyLag {
        PolicyVersion(versions)
            .lag_behind(PolicyVersion(0))
            .unwrap()
    }

    #[test]
    fn each_cause_gets_the_versions_of_its_stage() {
        let start = Instant::now() + Duration::from_secs(100);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut timeline = Timeline::default();
        (0..20).for_each(|version| timeline.publish(PolicyVersion(version), second(version)));
        // Version v is the newest in second v. Loaded 2; began at 3, ended at 5, arrived at 6, taken at 9, trained at 10.
        let timing = UnrollTiming {
            rollout_us: 2_000_000,
            outbox_us: 1_000_000,
            ..UnrollTiming::default()
        };
        let moments = Moments::new(&timing, second(6), second(9));
        let causes = LagCauses::split(&timeline, PolicyVersion(2), PolicyVersion(10), &moments);
        let expected = LagCauses {
            publish: 1,
            unroll: 2,
            outbox: 1,
            queue: 3,
            batch: 1,
        };
        assert_eq!(causes, expected);
    }

    proptest! {
        #[test]
        fn causes_add_up_to_the_lag_whatever_the_actor_reports(
            published in prop::collection::vec(1_u64..50, 1..6000),
            behaviour in 0_u64..6000,
            times in prop::array::uniform4(0_u64..200_000),
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
            let timing = UnrollTiming { rollout_us: times[0] * 1000, outbox_us: times[1] * 1000, ..UnrollTiming::default() };
            let arrived = start + Duration::from_millis(times[2]);
            let moments = Moments::new(&timing, arrived, arrived + Duration::from_millis(times[3]));
            let causes = LagCauses::split(&timeline, behaviour, trained, &moments);
            prop_assert_eq!(causes.total(), trained.lag_behind(behaviour).unwrap().versions());
        }
    }

    #[test]
    fn the_summary_weights_by_steps() {
        let mut meter = LagMeter::default();
        assert_eq!(meter.summary(), LagSummary::default());
        let causes = |queue| LagCauses {
            queue,
            ..LagCauses::default()
        };
        let age = |seconds, env_steps| Age {
            time: Duration::from_secs(seconds),
            env_steps,
        };
        meter.record(90, lag(0), &causes(0), age(1, 100.0));
        meter.record(10, lag(5), &causes(5), age(11, 1100.0));
        let summary = meter.summary();
        assert_eq!((summary.mean, summary.p50), (0.5, 0.0));
        assert_eq!((summary.p95, summary.max, summary.seconds), (5.0, 5.0, 2.0));
        assert_eq!(summary.env_steps, 200.0);
        assert_eq!(meter.causes().queue, 0.5);
    }
}
