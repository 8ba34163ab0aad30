//! Every metric, once: name, unit and meaning. Names follow the field's habit. One line of `metrics.jsonl` per update
//! holds those that have a value.

pub mod tensorboard;
mod writer;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

pub use self::writer::MetricsWriter;
use crate::{
    algorithm::health::RATIO_BUCKETS,
    lag::buckets::{BUCKETS, BucketSummary},
};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up only, within one life of the learner.
    Counter,
    /// Up and down.
    Gauge,
}

/// What there is to know about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDoc {
    /// Name, as in `metrics.jsonl`.
    pub name: &'static str,
    /// Whether it only ever grows.
    pub kind: Kind,
    /// Unit; "1" for a pure number.
    pub unit: &'static str,
    /// Meaning.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($variant:ident = $name:literal, $kind:ident, $unit:literal, $meaning:literal;)+) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $meaning] $variant,)+
        }

        /// The metrics that are not about one bucket of lag, in the order of [`Metric`].
        const PLAIN_METRICS: &[MetricDoc] = &[
            $(MetricDoc { name: $name, kind: Kind::$kind, unit: $unit, meaning: $meaning },)+
        ];
    };
}

metrics! {
    GlobalStep = "global_step", Counter, "steps", "Environment steps trained on, each once.";
    EnvSteps = "charts/env_steps", Counter, "steps", "Environment steps made by the actors, as far as the learner knows.";
    Updates = "charts/updates", Counter, "updates", "Updates so far: the policy version.";
    ReusedSteps = "charts/reused_steps", Counter, "steps", "Environment steps trained on again out of the reservoir, each training counted.";
    RolledBack = "charts/updates_rolled_back", Counter, "updates", "Updates that were rolled back because a number was not finite.";
    WallSeconds = "charts/wall_s", Gauge, "s", "Time since the learner was ready.";
    StepsPerSecond = "charts/SPS", Gauge, "steps/s", "Environment steps trained on per second since the learner was ready.";
    EpisodicReturn = "charts/episodic_return", Gauge, "1", "Mean undiscounted return of the last 100 episodes.";
    ReturnOfUpdate = "charts/return_of_update", Gauge, "1", "Mean undiscounted return of the episodes that ended in the experience of this update.";
    EpisodicLength = "charts/episodic_length", Gauge, "steps", "Mean length of the last 100 episodes.";
    Episodes = "charts/episodes", Counter, "episodes", "Episodes that ended.";
    LearningRate = "charts/learning_rate", Gauge, "1", "Step size of Adam for the policy.";
    PolicyLoss = "losses/policy_loss", Gauge, "1", "Surrogate loss of the policy, mean over the update.";
    ValueLoss = "losses/value_loss", Gauge, "1", "Loss of the value function, mean over the update.";
    Entropy = "losses/entropy", Gauge, "nat", "Entropy of the policy, mean over the update.";
    ApproxKl = "losses/approx_kl", Gauge, "nat", "Estimate of the divergence of the updated policy from the proximal one.";
    Kl = "losses/kl", Gauge, "nat", "Divergence between the updated policy and the proximal one that the objective penalises or bounds, exactly.";
    KlCoefficient = "losses/kl_coefficient", Gauge, "1", "Weight of the penalty on that divergence.";
    StepFraction = "losses/step_fraction", Gauge, "1", "Share of the full step within the trust region that was accepted; 0 if none was.";
    CgResidual = "losses/cg_residual", Gauge, "1", "Relative residual of the equation for the direction of that step.";
    AuxiliaryValueLoss = "losses/auxiliary_value_loss", Gauge, "1", "Loss of the second value head, mean over an auxiliary phase.";
    AuxiliaryCloneKl = "losses/auxiliary_clone_kl", Gauge, "nat", "Divergence from the policy before an auxiliary phase, mean over it.";
    AuxiliaryCriticLoss = "losses/auxiliary_critic_loss", Gauge, "1", "Loss of the value function, mean over an auxiliary phase.";
    Epochs = "losses/epochs", Gauge, "passes", "Passes over the batch that were made.";
    ClipFraction = "losses/clipfrac", Gauge, "1", "Share of steps whose ratio is outside the clip range.";
    ExplainedVariance = "losses/explained_variance", Gauge, "1", "Share of the targets' variance that the values explain.";
    GradientNorm = "losses/gradient_norm", Gauge, "1", "Norm of the gradient before clipping, mean over the update.";
    AdvantageMean = "losses/advantage_mean", Gauge, "1", "Mean of the raw advantages.";
    AdvantageStd = "losses/advantage_std", Gauge, "1", "Standard deviation of the raw advantages.";
    LagMean = "lag/versions_mean", Gauge, "versions", "Policy lag of the steps of this update, mean.";
    LagP95 = "lag/versions_p95", Gauge, "versions", "Policy lag of the steps of this update, 95th percentile.";
    LagMax = "lag/versions_max", Gauge, "versions", "Policy lag of the steps of this update, largest.";
    LagSeconds = "lag/seconds", Gauge, "s", "Time from the publication of the policy that acted to the training, mean of this update.";
    LagEnvSteps = "lag/env_steps", Gauge, "steps", "Environment steps of all actors from an unroll's first action to its training, mean of this update.";
    LagPredicted = "lag/predicted", Gauge, "versions", "Mean lag that buffers and rates so far must make.";
    LagOverLimit = "lag/over_limit", Gauge, "1", "Share of this update's steps that are older than lag.max_versions.";
    LagForward = "lag/forward", Gauge, "optimiser steps", "Optimiser steps already made on this batch before each of its own, mean.";
    LagInjected = "lag/injected", Gauge, "versions", "Lag because the actor was served older parameters on purpose.";
    LagPublish = "lag/publish", Gauge, "versions", "Lag because newer parameters were on their way or not loaded when the actor began.";
    LagUnroll = "lag/unroll", Gauge, "versions", "Lag because versions were published while the unroll was made.";
    LagOutbox = "lag/outbox", Gauge, "versions", "Lag because it waited in the actor's outbox.";
    LagTransport = "lag/transport", Gauge, "versions", "Lag because it was on its way.";
    LagQueue = "lag/queue", Gauge, "versions", "Lag because it waited in the learner's queue.";
    LagBatch = "lag/batch", Gauge, "versions", "Lag because it had left the queue and was not trained yet.";
    LagSecondsInjected = "lag/seconds_injected", Gauge, "s", "Age of the policy because the actor was served older parameters on purpose.";
    LagSecondsPublish = "lag/seconds_publish", Gauge, "s", "Age of the policy because newer parameters were on their way or not loaded when the actor began.";
    LagSecondsUnroll = "lag/seconds_unroll", Gauge, "s", "Age of the policy because versions were published while the unroll was made.";
    LagSecondsOutbox = "lag/seconds_outbox", Gauge, "s", "Age of the policy because it waited in the actor's outbox.";
    LagSecondsTransport = "lag/seconds_transport", Gauge, "s", "Age of the policy because it was on its way.";
    LagSecondsQueue = "lag/seconds_queue", Gauge, "s", "Age of the policy because it waited in the learner's queue.";
    LagSecondsBatch = "lag/seconds_batch", Gauge, "s", "Age of the policy because it had left the queue and was not trained yet.";
    Ess = "health/ess", Gauge, "1", "Effective sample size of the proximal over behaviour ratios, as a share of the steps.";
    EssBehaviour = "health/ess_behaviour", Gauge, "1", "Effective sample size of the updated policy over behaviour ratios, as a share of the steps.";
    RhoSaturation = "health/rho_saturation", Gauge, "1", "Share of steps whose V-trace ratio is cut at rho_bar.";
    LogRatioLagZero = "health/max_abs_log_ratio_lag0", Gauge, "nat", "Largest disagreement between actor and learner on steps without lag.";
    LogRatioLagZeroMean = "health/mean_abs_log_ratio_lag0", Gauge, "nat", "Mean disagreement between actor and learner on steps without lag.";
    DeviceMemory = "device/memory_bytes", Gauge, "bytes", "Memory of the GPU that the tensor library holds; absent on the processor.";
    QueueFill = "queue/fill", Gauge, "1", "Share of the queue's places that are taken.";
    SnapshotsPublished = "snapshots/published", Counter, "snapshots", "Versions published in this life of the learner.";
    SnapshotsSent = "snapshots/sent", Counter, "snapshots", "Snapshots sent in this life of the learner, to all actors together.";
    SnapshotsConflated = "snapshots/conflated", Counter, "snapshots", "Publications that an actor was not sent because a newer one came first, of all actors together.";
    BytesUp = "network/bytes_up", Counter, "bytes", "Messages with unrolls received in this life of the learner, without what HTTP/2 and TLS add.";
    BytesDown = "network/bytes_down", Counter, "bytes", "Messages with parameters sent in this life of the learner, without what HTTP/2 and TLS add.";
    NetworkReceived = "network/received_bytes", Counter, "bytes", "Bytes that the learner received from its actors, framing and encryption included.";
    NetworkSent = "network/sent_bytes", Counter, "bytes", "Bytes that the learner sent to its actors, framing and encryption included.";
    Actors = "actors/present", Gauge, "actors", "Actors that have a place.";
    ActorsQuarantined = "actors/quarantined", Gauge, "actors", "Places that are kept out because of poisoned unrolls.";
    QuarantineStrikes = "quarantine/strikes", Counter, "unrolls", "Poisoned unrolls so far: refused for their content.";
    Quarantines = "quarantine/quarantines", Counter, "quarantines", "Times so far that an actor was kept out because of them.";
    GovernorBudget = "governor/budget", Gauge, "unrolls", "Unrolls that the governor allows in flight: begun, queued or being trained.";
    GovernorInterval = "governor/publish_interval", Gauge, "versions", "Every how many versions one is published.";
    GovernorTarget = "governor/lag_target", Gauge, "versions", "Set-point of the mean lag.";
    PacingInFlight = "pacing/in_flight", Gauge, "unrolls", "Unrolls begun, queued or being trained, where that is limited.";
    PacingHeld = "pacing/held", Gauge, "acknowledgements", "Acknowledgements held back when the update ended, where that is limited.";
    CheckpointsWritten = "checkpoint/written", Counter, "checkpoints", "Written and verified in this life of the learner.";
    CheckpointsFailed = "checkpoint/failed", Counter, "checkpoints", "Could not be written in this life of the learner.";
    CheckpointsSkipped = "checkpoint/skipped", Counter, "checkpoints", "Were due while the one before was still being written.";
    CheckpointBytes = "checkpoint/bytes", Gauge, "bytes", "Length of the last one.";
    CheckpointSeconds = "checkpoint/write_s", Gauge, "s", "Time from handing the last one over until it was verified.";
    CheckpointStall = "checkpoint/stall_s", Gauge, "s", "Time that the trainer stood still for one, mean.";
    WatchdogLagGrows = "watchdog/lag_grows", Counter, "alarms", "Times that the lag grew without end.";
    WatchdogWeightsStuck = "watchdog/weights_stuck", Counter, "alarms", "Times that an actor went on with old parameters.";
    WatchdogEssLow = "watchdog/ess_low", Counter, "alarms", "Times that the effective sample size fell below lag.ess_floor.";
    WatchdogStalled = "watchdog/stalled", Counter, "alarms", "Times that nothing was trained for telemetry.stall_s.";
    WatchdogLogProbs = "watchdog/log_probs_disagree", Counter, "alarms", "Times that actor and learner disagreed about log-probabilities of one version.";
    InferenceBatchRows = "inference/batch_rows", Gauge, "rows", "Environments in one pass of central inference, mean so far.";
    InferenceRowsPerSecond = "inference/rows_per_s", Gauge, "rows/s", "Environments that central inference acted for per second so far.";
    InferenceWait = "inference/wait_s", Gauge, "s", "Time that a request to act waited before its pass, mean so far.";
    InferenceBusy = "inference/busy", Gauge, "1", "Share of the time so far in which central inference computed.";
    LearnerBusy = "time/learner_busy", Gauge, "1", "Share of the time so far in which the trainer computed.";
    LearnerWaiting = "time/learner_waiting", Gauge, "1", "Share of the time so far in which the trainer waited for unrolls.";
    LearnerMeasuring = "time/learner_measuring", Gauge, "1", "Share of the time so far in which the trainer measured; a part of time/learner_busy.";
    ActorsBlocked = "time/actors_blocked", Gauge, "1", "Share of the actors' time in which they waited for the learner.";
    ActorsEnvironment = "time/actors_environment", Gauge, "1", "Share of the actors' time in which they stepped environments.";
    ActorsInference = "time/actors_inference", Gauge, "1", "Share of the actors' time in which they computed actions.";
    ActorsSending = "time/actors_sending", Gauge, "1", "From an unroll's last step to its sending, as a share of the actors' time.";
    UpdateSeconds = "time/update_s", Gauge, "s", "Duration of this update.";
    LedgerProduced = "ledger/produced", Counter, "unrolls", "Known to have been produced by actors.";
    LedgerAdmitted = "ledger/admitted", Counter, "unrolls", "Passed every check.";
    LedgerRejected = "ledger/rejected", Counter, "unrolls", "Refused for a reason.";
    LedgerLost = "ledger/lost", Counter, "unrolls", "Produced, but never arrived.";
    LedgerTrained = "ledger/trained", Counter, "unrolls", "Trained on, once.";
    LedgerExpired = "ledger/expired", Counter, "unrolls", "Grew older than lag.max_versions while waiting.";
    LedgerEvicted = "ledger/evicted", Counter, "unrolls", "Dropped with an update that was rolled back, or because the queue was full.";
    LedgerDiscarded = "ledger/discarded", Counter, "unrolls", "Dropped because the learner stopped.";
    LedgerQueued = "ledger/queued", Gauge, "unrolls", "Waiting for the trainer.";
    LedgerDuplicates = "ledger/duplicates", Counter, "unrolls", "Arrived again after they were settled.";
    LedgerImbalance = "ledger/imbalance", Gauge, "unrolls", "By how many unrolls the accounts do not balance: must be 0.";
}

/// What is known about each bucket of lag, in the order of its metrics.
const BUCKET_METRICS: usize = 6;

macro_rules! bucket_metrics {
    ($($bucket:literal),+) => {
        [$([
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/steps"),
                kind: Kind::Gauge,
                unit: "steps",
                meaning: concat!("Steps of this update with a policy lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/ess"),
                kind: Kind::Gauge,
                unit: "1",
                meaning: concat!("Effective sample size of pi / mu at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/clip_fraction"),
                kind: Kind::Gauge,
                unit: "1",
                meaning: concat!("Share of pi / mu outside the clip range at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/k3"),
                kind: Kind::Gauge,
                unit: "nat",
                meaning: concat!("Estimate k3 of KL(mu || pi) at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/rho_saturation"),
                kind: Kind::Gauge,
                unit: "1",
                meaning: concat!("Share of V-trace ratios cut at rho_bar at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/abs_advantage"),
                kind: Kind::Gauge,
                unit: "1",
                meaning: concat!("Mean absolute advantage, as the loss sees it, at a lag of ", $bucket, " versions."),
            },
        ]),+]
    };
}

/// The metrics of each bucket, in the order of [`BUCKET_BOUNDS`](crate::lag::buckets::BUCKET_BOUNDS).
const BUCKET_DOCS: [[MetricDoc; BUCKET_METRICS]; BUCKETS] =
    bucket_metrics!("0", "1", "2", "3", "4", "5-8", "9-16", "17-32", "33+");

const METRIC_COUNT: usize = PLAIN_METRICS.len() + BUCKETS * BUCKET_METRICS;

const ALL_METRICS: [MetricDoc; METRIC_COUNT] = {
    let mut all = [PLAIN_METRICS[0]; METRIC_COUNT];
    let mut index = 0;
    while index < METRIC_COUNT {
        all[index] = if index < PLAIN_METRICS.len() {
            PLAIN_METRICS[index]
        } else {
            let of_bucket = index - PLAIN_METRICS.len();
            BUCKET_DOCS[of_bucket / BUCKET_METRICS][of_bucket % BUCKET_METRICS]
        };
        index += 1;
    }
    all
};

/// The table of all metrics: those of [`Metric`] in its order, then those of each bucket of lag.
pub const METRICS: &[MetricDoc] = &ALL_METRICS;

/// The values of one update.
#[derive(Debug, Clone)]
pub struct Row {
    values: [Option<f64>; METRICS.len()],
    /// Steps by importance ratio pi / mu, in buckets with the upper bounds
    /// [`ratio_edges`](crate::algorithm::health::ratio_edges). It is no line of the table, and not in `metrics.jsonl`.
    pub ratios: [u64; RATIO_BUCKETS],
}

impl Default for Row {
    fn default() -> Self {
        Self {
            values: [None; METRICS.len()],
            ratios: [0; RATIO_BUCKETS],
        }
    }
}

impl Row {
    /// Sets one metric; a value that is not finite is left out, since JSON has no such numbers.
    pub fn set(&mut self, metric: Metric, value: f64) {
        self.values[metric as usize] = value.is_finite().then_some(value);
    }

    /// Sets the metrics of each bucket in which there were steps.
    pub fn set_buckets(&mut self, buckets: &[BucketSummary]) {
        let places = self.values[PLAIN_METRICS.len()..].as_chunks_mut::<BUCKET_METRICS>();
        for (place, bucket) in places.0.iter_mut().zip(buckets) {
            *place = [
                (bucket.steps > 0).then_some(bucket.steps as f64),
                bucket.ess,
                bucket.clip_fraction,
                bucket.k3,
                bucket.rho_saturation,
                bucket.abs_advantage,
            ];
        }
    }

    /// The metrics that have a value, in the order of [`METRICS`].
    pub fn values(&self) -> impl Iterator<Item = (&'static MetricDoc, f64)> {
        let known = METRICS.iter().zip(self.values);
        known.filter_map(|(doc, value)| Some((doc, value?)))
    }

    /// Steps of this update by bucket of lag.
    #[must_use]
    pub fn bucket_steps(&self) -> [u64; BUCKETS] {
        let places = self.values[PLAIN_METRICS.len()..]
            .as_chunks::<BUCKET_METRICS>()
            .0;
        let mut steps = [0; BUCKETS];
        for (steps, place) in steps.iter_mut().zip(places) {
            // A count that went in as a whole number.
            *steps = place[0].unwrap_or(0.0) as u64;
        }
        steps
    }

    /// The value of one metric.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values[metric as usize]
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (doc, value) in METRICS.iter().zip(self.values) {
            if let Some(value) = value {
                map.serialize_entry(doc.name, &value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::buckets::BUCKET_BOUNDS;

    #[test]
    fn names_are_distinct_and_described() {
        let mut names: Vec<_> = METRICS.iter().map(|doc| doc.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(
            METRICS
                .iter()
                .all(|doc| !doc.unit.is_empty() && doc.meaning.ends_with('.'))
        );
        assert_eq!(METRICS[Metric::LagP95 as usize].name, "lag/versions_p95");
        for ((bucket, _), docs) in BUCKET_BOUNDS.iter().zip(BUCKET_DOCS) {
            assert_eq!(docs[1].name, format!("lag_bucket/{bucket}/ess"));
        }
    }
}
