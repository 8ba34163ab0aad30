//! What a run amounts to: `summary.json`, and the events on the way there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use springbok_common::{ids::RunId, reject::RejectReason};

use crate::{
    checkpoint::{CheckpointSummary, Resumed},
    inference::InferenceSummary,
    lag::{LagSummary, buckets::BucketSummary, causes::ByCause, predict::LagPrediction},
    ledger::LedgerCounts,
    network::NetworkSummary,
    quarantine::QuarantineSummary,
    roster::ActorCounts,
    steered::BiasSummary,
    traffic::TrafficCounts,
    trainer::steering::SteeringSummary,
    verdict::TimeShares,
    watchdog::AlarmCounts,
};

/// When `run.stop_return` was first reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Mean return of the last 100 episodes at that moment.
    #[serde(rename = "return")]
    pub mean_return: f64,
    /// Environment steps made by then.
    pub env_steps: u64,
    /// Seconds since the learner was ready.
    pub wall_s: f64,
}

/// The result of a run: the content of `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The training run.
    pub run_id: RunId,
    /// Registered name of the environment.
    pub environment: String,
    /// Where the learner computed.
    pub device: String,
    /// Seed of the run.
    pub seed: u64,
    /// The life of the learner that ended the run: 1, and 1 more for each time that it was resumed.
    #[serde(default)]
    pub epoch: u32,
    /// How this life went on from a checkpoint; none in the first. Counts are those of all lives, but `actors` and
    /// `checkpoints` are about this one.
    #[serde(default)]
    pub resumed: Option<Resumed>,
    /// What became of checkpoints in this life.
    #[serde(default)]
    pub checkpoints: CheckpointSummary,
    /// Environment steps made by the actors, as far as the learner knows.
    pub env_steps: u64,
    /// Environment steps trained on, each once.
    pub trained_steps: u64,
    /// Environment steps trained on again out of the reservoir, each training counted.
    pub reused_steps: u64,
    /// Updates: the last policy version.
    pub updates: u64,
    /// Updates that were rolled back.
    pub updates_rolled_back: u64,
    /// Seconds from the learner being ready to the trainer's end.
    pub wall_s: f64,
    /// `env_steps` / `wall_s`.
    pub env_steps_per_s: f64,
    /// `trained_steps` / `wall_s`.
    pub trained_steps_per_s: f64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Mean return of the last 100 episodes; none without an episode.
    pub return_mean_100: Option<f64>,
    /// Best such mean, over at least 20 episodes.
    pub return_best_100: Option<f64>,
    /// When `run.stop_return` was reached.
    pub threshold: Option<Threshold>,
    /// Policy lag, weighted by trained steps.
    pub lag: LagSummary,
    /// Mean lag by cause.
    pub lag_causes: ByCause<f64>,
    /// Mean seconds by cause; the sum is `lag.seconds`.
    pub lag_cause_seconds: ByCause<f64>,
    /// Health of the trained steps by policy lag.
    #[serde(default)]
    pub lag_buckets: Vec<BucketSummary>,
    /// Optimiser steps already made on a batch before each of its own, mean: the lag within an update.
    #[serde(default)]
    pub lag_forward: f64,
    /// The lag that the configuration must have, and whether it has; none before the first update.
    #[serde(default)]
    pub lag_predicted: Option<LagPrediction>,
    /// How the lag was steered, and what was done to each actor's experience.
    #[serde(default)]
    pub steering: SteeringSummary,
    /// Whether what is trained on has episodes like those that are made.
    #[serde(default)]
    pub bias_audit: BiasSummary,
    /// How often the watchdog raised each alarm.
    #[serde(default)]
    pub alarms: AlarmCounts,
    /// Effective sample size of the proximal over behaviour ratios as a share of the steps, mean over updates.
    pub ess: Option<f64>,
    /// Share of steps whose ratio was outside the clip range, mean over updates.
    pub clip_fraction: Option<f64>,
    /// Every account of the trajectory ledger.
    pub ledger: LedgerCounts,
    /// By how many unrolls the ledger does not balance: must be 0.
    #[serde(default)]
    pub ledger_imbalance: u64,
    /// Rejected unrolls by reason; reasons that did not occur are absent.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Lives of actors.
    pub actors: ActorCounts,
    /// What poisoned unrolls led to.
    #[serde(default)]
    pub quarantine: QuarantineSummary,
    /// What went over the wire.
    #[serde(default)]
    pub traffic: TrafficCounts,
    /// Bytes over the learner's connections, in this life of it.
    #[serde(default)]
    pub network: NetworkSummary,
    /// How actions were chosen, in this life of the learner, if it chose them.
    #[serde(default)]
    pub inference: Option<InferenceSummary>,
    /// Where the time went.
    pub time: TimeShares,
    /// One line: the slower side, the knob to turn, and the evidence.
    pub bottleneck: String,
}

/// Live numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Environment steps made by the actors.
    pub env_steps: u64,
    /// Environment steps trained on.
    pub trained_steps: u64,
    /// Updates.
    pub updates: u64,
    /// Environment steps trained on per second, since the last report.
    pub steps_per_s: f64,
    /// Mean return of the last 100 episodes.
    pub return_mean_100: Option<f64>,
    /// Policy lag in versions so far, mean.
    pub lag_mean: f64,
    /// Policy lag in versions so far, 95th percentile.
    pub lag_p95: f64,
    /// Effective sample size of the last update, as a share of its steps.
    pub ess: f64,
    /// Clip fraction of the last update.
    pub clip_fraction: f64,
    /// Share of the queue's places that are taken.
    pub queue_fill: f64,
    /// Actors that have a place.
    pub actors: u64,
    /// Seconds since the learner was ready.
    pub wall_s: f64,
}

/// What the learner tells its caller while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LearnerEvent {
    /// Actors may connect.
    Listening {
        /// Socket address.
        address: String,
        /// Path of the Unix socket for actors of this machine; none if there is none.
        #[serde(default)]
        unix: Option<String>,
        /// The training run.
        run_id: RunId,
        /// Where the learner computes.
        device: String,
        /// Why there.
        device_reason: String,
        /// Where the run can be watched; none if it cannot.
        #[serde(default)]
        http: Option<String>,
    },
    /// Live numbers, every `telemetry.progress_interval_ms`.
    Progress(Progress),
    /// The run is over and its files are written.
    Finished {
        /// The content of `summary.json`.
        summary: Box<Summary>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_tagged_lines() {
        let line = serde_json::to_string(&LearnerEvent::Progress(Progress::default())).unwrap();
        assert!(line.starts_with("{\"event\":\"progress\",\"env_steps\":0,"));
        let event: LearnerEvent = serde_json::from_str(&line).unwrap();
        assert_eq!(event, LearnerEvent::Progress(Progress::default()));
    }
}
