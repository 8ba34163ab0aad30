//! What the trainer counts over a run.

use std::{collections::VecDeque, mem, time::Duration};

use serde::{Deserialize, Serialize};
use springbok_common::unroll::{EpisodeSummary, UnrollTiming};

use crate::{lag::LagMeter, summary::Threshold, verdict::TimeShares};

/// Episodes in the window of returns.
const WINDOW_EPISODES: usize = 100;

/// Episodes without which a mean return is no evidence.
const EVIDENCE_EPISODES: usize = 20;

/// Counts over a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Environment steps trained on, each once.
    pub trained_steps: u64,
    /// Environment steps trained on again, each training counted.
    pub reused_steps: u64,
    /// Updates.
    pub updates: u64,
    /// Updates that were rolled back.
    pub updates_rolled_back: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// When `run.stop_return` was reached.
    pub threshold: Option<Threshold>,
    /// Policy lag of the trained steps.
    pub lag: LagMeter,
    /// Time that the trainer computed.
    pub busy: Duration,
    /// Of that, time spent on measuring and on metrics.
    pub measuring: Duration,
    /// Time that the trainer waited for unrolls, after the first.
    pub waiting: Duration,
    window: VecDeque<EpisodeSummary>,
    /// Returns since they were last taken.
    recent: Mean,
    best: Option<f64>,
    unrolls: u64,
    rollout_us: u128,
    blocked_us: u128,
    environment_us: u128,
    inference_us: u128,
    outbox_us: u128,
    queue_fill: Mean,
    ess: Mean,
    clip_fraction: Mean,
}

/// Mean of the finite numbers among those given.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.sum += value;
            self.count += 1;
        }
    }

    pub(super) fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Tally {
    /// Counts what an unroll says about episodes and the actor's time.
    pub fn unroll(&mut self, episodes: &[EpisodeSummary], timing: &UnrollTiming) {
        self.unrolls += 1;
        self.rollout_us += u128::from(timing.rollout_us);
        self.blocked_us += u128::from(timing.blocked_us);
        self.environment_us += u128::from(timing.environment_us);
        self.inference_us += u128::from(timing.inference_us);
        self.outbox_us += u128::from(timing.outbox_us);
        for episode in episodes {
            self.episodes += 1;
            self.recent.add(episode.episode_return);
            if self.window.len() == WINDOW_EPISODES {
                self.window.pop_front();
            }
            self.window.push_back(*episode);
            let best = self.best.unwrap_or(f64::NEG_INFINITY);
            self.best = self
                .evident_return()
                .map(|mean| mean.max(best))
                .or(self.best);
        }
    }

    /// Counts the share of the queue's places that were taken when an update ended.
    pub fn queue(&mut self, fill: f64) {
        self.queue_fill.add(fill);
    }

    /// Counts the health of one update.
    pub fn health(&mut self, ess: f64, clip_fraction: f64) {
        self.ess.add(ess);
        self.clip_fraction.add(clip_fraction);
    }

    /// Mean return of the last 100 episodes; none without an episode.
    #[must_use]
    pub fn return_mean(&self) -> Option<f64> {
        self.window_mean(|episode| episode.episode_return)
    }

    /// Mean length of the last 100 episodes; none without an episode.
    #[must_use]
    pub fn length_mean(&self) -> Option<f64> {
        self.window_mean(|episode| f64::from(episode.length))
    }

    /// Mean return of the episodes that were counted since the last call; none without an episode.
    pub fn take_recent_return(&mut self) -> Option<f64> {
        mem::take(&mut self.recent).get()
    }

    /// [`Self::return_mean`], if it rests on at least 20 episodes.
    #[must_use]
    pub fn evident_return(&self) -> Option<f64> {
        self.return_mean()
            .filter(|_| self.window.len() >= EVIDENCE_EPISODES)
    }

    /// The best [`Self::evident_return`] so far.
    #[must_use]
    pub fn return_best(&self) -> Option<f64> {
        self.best
    }

    /// Effective sample size, mean over the updates.
    #[must_use]
    pub fn ess_mean(&self) -> Option<f64> {
        self.ess.get()
    }

    /// Clip fraction, mean over the updates.
    #[must_use]
    pub fn clip_fraction_mean(&self) -> Option<f64> {
        self.clip_fraction.get()
    }

    /// Seconds of an unroll from its first action to its last step, mean.
    #[must_use]
    pub fn unroll_s(&self) -> f64 {
        self.rollout_us as f64 / 1e6 / self.unrolls.max(1) as f64
    }

    /// Where the time went.
    #[must_use]
    pub fn time_shares(&self) -> TimeShares {
        let share = |part: f64, rest: f64| {
            if part > 0.0 {
                part / (part + rest)
            } else {
                0.0
            }
        };
        let (busy, waiting) = (self.busy.as_secs_f64(), self.waiting.as_secs_f64());
        let actors_us = (self.rollout_us + self.blocked_us).max(1) as f64;
        let of_actors = |part: u128| (part as f64 / actors_us).min(1.0);
        TimeShares {
            learner_busy: share(busy, waiting),
            learner_waiting: share(waiting, busy),
            learner_measuring: self.measuring.as_secs_f64()
                / (busy + waiting).max(f64::MIN_POSITIVE),
            actors_blocked: of_actors(self.blocked_us),
            actors_environment: of_actors(self.environment_us),
            actors_inference: of_actors(self.inference_us),
            actors_sending: of_actors(self.outbox_us),
            queue_fill: self.queue_fill.get().unwrap_or(0.0),
        }
    }

    fn window_mean(&self, value: impl Fn(&EpisodeSummary) -> f64) -> Option<f64> {
        let sum: f64 = self.window.iter().map(value).sum();
        (!self.window.is_empty()).then(|| sum / self.window.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(episode_return: f64) -> EpisodeSummary {
        EpisodeSummary {
            episode_return,
            length: 10,
        }
    }

    #[test]
    fn the_mean_is_over_the_last_100_and_evidence_needs_20() {
        let mut tally = Tally::default();
        let timing = UnrollTiming::default();
        assert_eq!(tally.return_mean(), None);
        tally.unroll(&vec![episode(500.0); 19], &timing);
        assert_eq!(
            (tally.return_mean(), tally.evident_return()),
            (Some(500.0), None)
        );
        tally.unroll(&[episode(500.0)], &timing);
        assert_eq!(tally.evident_return(), Some(500.0));
        assert_eq!(tally.take_recent_return(), Some(500.0));
        assert_eq!(tally.take_recent_return(), None);
        tally.unroll(&vec![episode(1.0); 100], &timing);
        assert_eq!(tally.return_mean(), Some(1.0));
        assert_eq!(tally.return_best(), Some(500.0));
        assert_eq!((tally.episodes, tally.length_mean()), (120, Some(10.0)));
    }

    #[test]
    fn shares_are_of_each_sides_own_time() {
        let mut tally = Tally {
            busy: Duration::from_secs(3),
            measuring: Duration::from_secs(2),
            waiting: Duration::from_secs(1),
            ..Tally::default()
        };
        let timing = UnrollTiming {
            rollout_us: 4,
            blocked_us: 12,
            environment_us: 2,
            inference_us: 1,
            outbox_us: 4,
            ..UnrollTiming::default()
        };
        tally.unroll(&[], &timing);
        tally.queue(0.5);
        tally.queue(1.0);
        let expected = TimeShares {
            learner_busy: 0.75,
            learner_waiting: 0.25,
            learner_measuring: 0.5,
            actors_blocked: 0.75,
            actors_environment: 0.125,
            actors_inference: 0.0625,
            actors_sending: 0.25,
            queue_fill: 0.75,
        };
        assert_eq!(tally.time_shares(), expected);
    }
}
