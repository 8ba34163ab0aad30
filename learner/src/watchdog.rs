//! The watchdog: what silently spoils a run. Facts go in, alarms come out; each is raised once, until what it is about
//! has been well again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Updates in one window of lag.
const WINDOW_UPDATES: u64 = 50;

/// Windows over which the mean lag must have grown each time.
const WINDOWS_GROWING: usize = 5;

/// Updates over which the effective sample size is averaged: one bad batch is no alarm.
const ESS_UPDATES: u64 = 20;

/// Disagreement of actor and learner, in nats, about one version's log-probabilities that rounding does not explain: both
/// compute them in f32, if perhaps on different devices.
const LOG_PROB_DISAGREEMENT_MAX: f64 = 1e-3;

/// What is watched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchdogLimits {
    /// Effective sample size below which a batch is mostly wasted.
    pub ess_floor: f64,
    /// Time within which something must have happened.
    pub stall: Duration,
    /// Unrolls that may still be under way with an old version when a newer one is published.
    pub late_unrolls: u64,
    /// Versions by which actors may be served older parameters on purpose.
    pub served_behind: u64,
}

/// What an actor was last seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActorSeen<A> {
    /// Who.
    pub actor: A,
    /// The version of its last unroll.
    pub version: u64,
    /// Its unrolls so far.
    pub unrolls: u64,
}

/// Something is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alarm<A> {
    /// The mean lag grows and grows, beyond what is predicted.
    LagGrows {
        /// Mean of the first growing window, in versions.
        from: f64,
        /// Mean of the last one.
        to: f64,
        /// What is predicted.
        predicted: f64,
    },
    /// An actor goes on with old parameters although newer ones are published.
    WeightsStuck {
        /// Who.
        actor: A,
        /// The version that it uses.
        version: u64,
        /// The version published last.
        newest: u64,
    },
    /// The importance ratios leave too little of the batches standing.
    EssLow {
        /// Effective sample size, mean of the last updates.
        ess: f64,
        /// Its floor.
        floor: f64,
    },
    /// Actor and learner have different log-probabilities for the same parameters, observations and actions.
    LogProbsDisagree {
        /// The largest difference of an update, in nats.
        max: f64,
        /// What rounding explains.
        limit: f64,
    },
    /// No update for too long.
    Stalled {
        /// For how long.
        time: Duration,
    },
}

/// How often each alarm was raised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlarmCounts {
    /// The lag grew without end.
    pub lag_grows: u64,
    /// An actor went on with old parameters.
    pub weights_stuck: u64,
    /// The effective sample size fell below its floor.
    pub ess_low: u64,
    /// Nothing was trained for too long.
    pub stalled: u64,
    /// Actor and learner disagreed about log-probabilities.
    pub log_probs_disagree: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    version: u64,
    /// Since when a newer version is published, and the actor's unrolls then.
    outdated: Option<(Instant, u64)>,
    alarmed: bool,
}

/// The state machine. `A` names an actor; time is an argument.
#[derive(Debug)]
pub struct Watchdog<A> {
    limits: WatchdogLimits,
    counts: AlarmCounts,
    /// Lag and updates of the window that is being filled.
    window: (f64, u64),
    /// Means of the windows before, as far as each grew.
    growing: Vec<f64>,
    lag_alarmed: bool,
    ess: (f64, u64),
    ess_alarmed: bool,
    log_probs_alarmed: bool,
    progress_at: Instant,
    stall_alarmed: bool,
    stamps: BTreeMap<A, Stamp>,
}

impl<A: Ord + Copy> Watchdog<A> {
    /// A watchdog that has seen nothing.
    #[must_use]
    pub fn new(limits: WatchdogLimits, now: Instant) -> Self {
        Self {
            limits,
            counts: AlarmCounts::default(),
            window: (0.0, 0),
            growing: Vec::new(),
            lag_alarmed: false,
            ess: (0.0, 0),
            ess_alarmed: false,
            log_probs_alarmed: false,
            progress_at: now,
            stall_alarmed: false,
            stamps: BTreeMap::new(),
        }
    }

    /// Goes on from alarms that were raised before.
    pub fn restore(&mut self, counts: AlarmCounts) {
        self.counts = counts;
    }

    /// How often each alarm was raised.
    #[must_use]
    pub fn counts(&self) -> AlarmCounts {
        self.counts
    }

    /// An update ended at `now`, on experience with a mean lag of `lag` versions, where `predicted` are to be expected.
    pub fn updated(&mut self, now: Instant, lag: f64, predicted: f64, ess: f64) -> Vec<Alarm<A>> {
        self.progress_at = now;
        self.stall_alarmed = false;
        let mut alarms = Vec::new();
        self.window.0 += lag;
        self.window.1 += 1;
        if self.window.1 == WINDOW_UPDATES {
            let mean = self.window.0 / WINDOW_UPDATES as f64;
            self.window = (0.0, 0);
            alarms.extend(self.lag_window(mean, predicted));
        }
        if ess.is_finite() {
            self.ess.0 += ess;
            self.ess.1 += 1;
        }
        if self.ess.1 == ESS_UPDATES {
            let mean = self.ess.0 / ESS_UPDATES as f64;
            self.ess = (0.0, 0);
            let low = mean < self.limits.ess_floor;
            if low && !self.ess_alarmed {
                self.counts.ess_low += 1;
                alarms.push(Alarm::EssLow {
                    ess: mean,
                    floor: self.limits.ess_floor,
                });
            }
            self.ess_alarmed = low;
        }
        alarms
    }

    /// An update ended in which actor and learner disagreed by `max` nats at most about a log-probability of the same
    /// version; NaN if no step had no lag.
    pub fn compared(&mut self, max: f64) -> Option<Alarm<A>> {
        if max.is_nan() {
            return None;
        }
        let disagree = max > LOG_PROB_DISAGREEMENT_MAX;
        let news = disagree && !self.log_probs_alarmed;
        self.log_probs_alarmed = disagree;
        self.counts.log_probs_disagree += u64::from(news);
        news.then_some(Alarm::LogProbsDisagree {
            max,
            limit: LOG_PROB_DISAGREEMENT_MAX,
        })
    }

    fn lag_window(&mut self, mean: f64, predicted: f64) -> Option<Alarm<A>> {
        if self.growing.last().is_some_and(|last| mean <= *last) {
            self.growing.clear();
            self.lag_alarmed = false;
        }
        self.growing.push(mean);
        if self.growing.len() > WINDOWS_GROWING + 1 {
            self.growing.remove(0);
        }
        let from = *self.growing.first()?;
        let grows = self.growing.len() > WINDOWS_GROWING && mean > from + 1.0;
        let alarm = grows && mean > 1.2 * predicted + 1.0 && !self.lag_alarmed;
        self.lag_alarmed |= alarm;
        self.counts.lag_grows += u64::from(alarm);
        alarm.then_some(Alarm::LagGrows {
            from,
            to: mean,
            predicted,
        })
    }

    /// Looks at the clock and at all actors that are present; `newest` is the version published last. `waits` says that
    /// there is something to wait for: before the first actor has come there is not.
    pub fn tick(&mut self, now: Instant, newest: u64, actors: &[ActorSeen<A>]) -> Vec<Alarm<A>> {
        let mut alarms = Vec::new();
        if actors.is_empty() && newest == 0 {
            self.progress_at = now;
        }
        let idle = now.saturating_duration_since(self.progress_at);
        if idle >= self.limits.stall && !self.stall_alarmed {
            self.stall_alarmed = true;
            self.counts.stalled += 1;
            alarms.push(Alarm::Stalled { time: idle });
        }
        self.stamps
            .retain(|known, _| actors.iter().any(|seen| seen.actor == *known));
        for seen in actors {
            alarms.extend(self.watch(now, newest, seen));
        }
        alarms
    }

    fn watch(&mut self, now: Instant, newest: u64, seen: &ActorSeen<A>) -> Option<Alarm<A>> {
        let fresh = Stamp {
            version: seen.version,
            outdated: None,
            alarmed: false,
        };
        let stamp = self.stamps.entry(seen.actor).or_insert(fresh);
        if stamp.version != seen.version {
            *stamp = fresh;
        }
        if newest <= seen.version.saturating_add(self.limits.served_behind) {
            return None;
        }
        let (since, unrolls) = *stamp.outdated.get_or_insert((now, seen.unrolls));
        let stuck = seen.unrolls > unrolls + self.limits.late_unrolls
            && now.saturating_duration_since(since) >= self.limits.stall;
        if !stuck || stamp.alarmed {
            return None;
        }
        stamp.alarmed = true;
        self.counts.weights_stuck += 1;
        Some(Alarm::WeightsStuck {
            actor: seen.actor,
            version: seen.version,
            newest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(now: Instant) -> Watchdog<u32> {
        let limits = WatchdogLimits {
            ess_floor: 0.5,
            stall: Duration::from_secs(30),
            late_unrolls: 2,
            served_behind: 0,
        };
        Watchdog::new(limits, now)
    }

    /// Alarms of whole windows with these lags and this effective sample size.
    fn windows(dog: &mut Watchdog<u32>, now: Instant, lags: &[f64], ess: f64) -> Vec<Alarm<u32>> {
        let updates = lags.iter().flat_map(|lag| (0..50).map(move |_| *lag));
        updates
            .flat_map(|lag| dog.updated(now, lag, 3.0, ess))
            .collect()
    }

    #[test]
    fn endless_growth_is_told_once_and_a_plateau_or_what_is_predicted_never() {
        let now = Instant::now();
        let mut dog = watchdog(now);
        assert_eq!(
            windows(&mut dog, now, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0], 1.0),
            []
        );
        assert_eq!(
            windows(&mut dog, now, &[3.0, 9.0, 9.0, 9.0, 8.0, 9.5, 9.0], 1.0),
            []
        );
        let growth = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let alarms = windows(&mut dog, now, &growth, 1.0);
        let grows = Alarm::LagGrows {
            from: 2.0,
            to: 7.0,
            predicted: 3.0,
        };
        assert_eq!(alarms, [grows]);
        windows(&mut dog, now, &growth, 1.0);
        assert_eq!(dog.counts().lag_grows, 2);
    }

    #[test]
    fn a_low_sample_size_must_last_and_is_told_again_after_it_was_well() {
        let now = Instant::now();
        let mut dog = watchdog(now);
        let mut told = |ess: &[f64]| -> usize {
            let updates = ess.iter().flat_map(|ess| (0..20).map(move |_| *ess));
            updates
                .map(|ess| dog.updated(now, 0.0, 0.0, ess).len())
                .sum()
        };
        assert_eq!(told(&[0.9, 0.4, 0.3, 0.2]), 1);
        assert_eq!(told(&[0.6, 0.4]), 1);
        assert!((0..19).all(|_| dog.updated(now, 0.0, 0.0, 0.1).is_empty()));
    }

    #[test]
    fn a_disagreement_about_log_probabilities_is_told_once_until_it_was_well() {
        let mut dog = watchdog(Instant::now());
        let maxima = [1e-5, 9e-4, 0.02, 0.5, f64::NAN, 0.3, 1e-6, 0.01];
        let told = maxima.map(|max| dog.compared(max).is_some());
        let expected = [false, false, true, false, false, false, false, true];
        assert_eq!(told, expected);
        assert_eq!(dog.counts().log_probs_disagree, 2);
    }

    #[test]
    fn an_actor_that_never_loads_newer_parameters_is_named_once() {
        let now = Instant::now();
        let mut dog = watchdog(now);
        let mut told = Vec::new();
        for second in 0..60_u64 {
            let seen = |actor, version| ActorSeen {
                actor,
                version,
                unrolls: second,
            };
            // Actor 2 loads each version, actor 1 stays at 3.
            let actors = [seen(1, 3), seen(2, second)];
            told.extend(dog.tick(now + Duration::from_secs(second), second, &actors));
            dog.updated(now + Duration::from_secs(second), 0.0, 0.0, 1.0);
        }
        // Version 4 came in second 4.
        let stuck = Alarm::WeightsStuck {
            actor: 1,
            version: 3,
            newest: 34,
        };
        assert_eq!(told, [stuck]);
        // One that makes next to no unrolls cannot have loaded any; and where nothing is published, an old version is
        // the newest.
        let mut slow = watchdog(now);
        for second in 0..60 {
            let seen = ActorSeen {
                actor: 1,
                version: 3,
                unrolls: second / 20,
            };
            slow.tick(now + Duration::from_secs(second), second, &[seen]);
        }
        assert_eq!(slow.counts().weights_stuck, 0);
        let mut idle = watchdog(now);
        for second in 0..60 {
            let seen = ActorSeen {
                actor: 1,
                version: 0,
                unrolls: second,
            };
            idle.tick(now + Duration::from_secs(second), 0, &[seen]);
        }
        assert_eq!(idle.counts().weights_stuck, 0);
    }

    #[test]
    fn a_stall_is_told_once_and_not_before_anyone_has_come() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut dog = watchdog(now);
        assert_eq!(dog.tick(later(100), 0, &[]), []);
        let seen = [ActorSeen {
            actor: 1,
            version: 0,
            unrolls: 0,
        }];
        assert_eq!(dog.tick(later(129), 0, &seen), []);
        let stalled = Alarm::Stalled {
            time: Duration::from_secs(31),
        };
        assert_eq!(dog.tick(later(131), 0, &seen), [stalled]);
        assert_eq!(dog.tick(later(140), 0, &seen), []);
        dog.updated(later(150), 0.0, 0.0, 1.0);
        assert_eq!(dog.tick(later(181), 0, &seen).len(), 1);
        assert_eq!(dog.counts().stalled, 2);
    }
}
