//! Every metric, once: name, unit and meaning. Names follow the field's habit. One line of `metrics.jsonl` per update
//! holds those that have a value.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::{
    error::LearnerError,
    lag::buckets::{BUCKETS, BucketSummary},
    output,
};

/// What there is to know about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDoc {
    /// Name, as in `metrics.jsonl`.
    pub name: &'static str,
    /// Unit; "1" for a pure number.
    pub unit: &'static str,
    /// Meaning.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($variant:ident = $name:literal, $unit:literal, $meaning:literal;)+) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $meaning] $variant,)+
        }

        /// The metrics that are not about one bucket of lag, in the order of [`Metric`].
        const PLAIN_METRICS: &[MetricDoc] = &[
            $(MetricDoc { name: $name, unit: $unit, meaning: $meaning },)+
        ];
    };
}

metrics! {
    GlobalStep = "global_step", "steps", "Environment steps trained on, each once.";
    EnvSteps = "charts/env_steps", "steps", "Environment steps made by the actors, as far as the learner knows.";
    Updates = "charts/updates", "updates", "Updates so far: the policy version.";
    ReusedSteps = "charts/reused_steps", "steps", "Environment steps trained on again out of the reservoir, each training counted.";
    WallSeconds = "charts/wall_s", "s", "Time since the learner was ready.";
    StepsPerSecond = "charts/SPS", "steps/s", "Environment steps trained on per second since the learner was ready.";
    EpisodicReturn = "charts/episodic_return", "1", "Mean undiscounted return of the last 100 episodes.";
    ReturnOfUpdate = "charts/return_of_update", "1", "Mean undiscounted return of the episodes that ended in the experience of this update.";
    EpisodicLength = "charts/episodic_length", "steps", "Mean length of the last 100 episodes.";
    Episodes = "charts/episodes", "episodes", "Episodes that ended.";
    LearningRate = "charts/learning_rate", "1", "Step size of Adam for the policy.";
    PolicyLoss = "losses/policy_loss", "1", "Surrogate loss of the policy, mean over the update.";
    ValueLoss = "losses/value_loss", "1", "Loss of the value function, mean over the update.";
    Entropy = "losses/entropy", "nat", "Entropy of the policy, mean over the update.";
    ApproxKl = "losses/approx_kl", "nat", "Estimate of the divergence of the updated policy from the proximal one.";
    Kl = "losses/kl", "nat", "Divergence between the updated policy and the proximal one that the objective penalises or bounds, exactly.";
    KlCoefficient = "losses/kl_coefficient", "1", "Weight of the penalty on that divergence.";
    StepFraction = "losses/step_fraction", "1", "Share of the full step within the trust region that was accepted; 0 if none was.";
    CgResidual = "losses/cg_residual", "1", "Relative residual of the equation for the direction of that step.";
    AuxiliaryValueLoss = "losses/auxiliary_value_loss", "1", "Loss of the second value head, mean over an auxiliary phase.";
    AuxiliaryCloneKl = "losses/auxiliary_clone_kl", "nat", "Divergence from the policy before an auxiliary phase, mean over it.";
    AuxiliaryCriticLoss = "losses/auxiliary_critic_loss", "1", "Loss of the value function, mean over an auxiliary phase.";
    Epochs = "losses/epochs", "passes", "Passes over the batch that were made.";
    ClipFraction = "losses/clipfrac", "1", "Share of steps whose ratio is outside the clip range.";
    ExplainedVariance = "losses/explained_variance", "1", "Share of the targets' variance that the values explain.";
    GradientNorm = "losses/gradient_norm", "1", "Norm of the gradient before clipping, mean over the update.";
    AdvantageMean = "losses/advantage_mean", "1", "Mean of the raw advantages.";
    AdvantageStd = "losses/advantage_std", "1", "Standard deviation of the raw advantages.";
    LagMean = "lag/versions_mean", "versions", "Policy lag of the steps of this update, mean.";
    LagP95 = "lag/versions_p95", "versions", "Policy lag of the steps of this update, 95th percentile.";
    LagMax = "lag/versions_max", "versions", "Policy lag of the steps of this update, largest.";
    LagSeconds = "lag/seconds", "s", "Time from the publication of the policy that acted to the training, mean of this update.";
    LagEnvSteps = "lag/env_steps", "steps", "Environment steps of all actors from an unroll's first action to its training, mean of this update.";
    LagPredicted = "lag/predicted", "versions", "Mean lag that buffers and rates so far must make.";
    LagOverLimit = "lag/over_limit", "1", "Share of this update's steps that are older than lag.max_versions.";
    LagForward = "lag/forward", "optimiser steps", "Optimiser steps already made on this batch before each of its own, mean.";
    LagInjected = "lag/injected", "versions", "Lag because the actor was served older parameters on purpose.";
    LagPublish = "lag/publish", "versions", "Lag because newer parameters were on their way or not loaded when the actor began.";
    LagUnroll = "lag/unroll", "versions", "Lag because versions were published while the unroll was made.";
    LagOutbox = "lag/outbox", "versions", "Lag because it waited in the actor's outbox.";
    LagTransport = "lag/transport", "versions", "Lag because it was on its way.";
    LagQueue = "lag/queue", "versions", "Lag because it waited in the learner's queue.";
    LagBatch = "lag/batch", "versions", "Lag because it had left the queue and was not trained yet.";
    LagSecondsInjected = "lag/seconds_injected", "s", "Age of the policy because the actor was served older parameters on purpose.";
    LagSecondsPublish = "lag/seconds_publish", "s", "Age of the policy because newer parameters were on their way or not loaded when the actor began.";
    LagSecondsUnroll = "lag/seconds_unroll", "s", "Age of the policy because versions were published while the unroll was made.";
    LagSecondsOutbox = "lag/seconds_outbox", "s", "Age of the policy because it waited in the actor's outbox.";
    LagSecondsTransport = "lag/seconds_transport", "s", "Age of the policy because it was on its way.";
    LagSecondsQueue = "lag/seconds_queue", "s", "Age of the policy because it waited in the learner's queue.";
    LagSecondsBatch = "lag/seconds_batch", "s", "Age of the policy because it had left the queue and was not trained yet.";
    Ess = "health/ess", "1", "Effective sample size of the proximal over behaviour ratios, as a share of the steps.";
    EssBehaviour = "health/ess_behaviour", "1", "Effective sample size of the updated policy over behaviour ratios, as a share of the steps.";
    RhoSaturation = "health/rho_saturation", "1", "Share of steps whose V-trace ratio is cut at rho_bar.";
    LogRatioLagZero = "health/max_abs_log_ratio_lag0", "nat", "Largest disagreement between actor and learner on steps without lag.";
    LogRatioLagZeroMean = "health/mean_abs_log_ratio_lag0", "nat", "Mean disagreement between actor and learner on steps without lag.";
    QueueFill = "queue/fill", "1", "Share of the queue's places that are taken.";
    Actors = "actors/present", "actors", "Actors that have a place.";
    ActorsQuarantined = "actors/quarantined", "actors", "Places that are kept out because of poisoned unrolls.";
    QuarantineStrikes = "quarantine/strikes", "unrolls", "Poisoned unrolls so far: refused for their content.";
    Quarantines = "quarantine/quarantines", "quarantines", "Times so far that an actor was kept out because of them.";
    GovernorBudget = "governor/budget", "unrolls", "Unrolls that the governor allows in flight: begun, queued or being trained.";
    GovernorInterval = "governor/publish_interval", "versions", "Every how many versions one is published.";
    GovernorTarget = "governor/lag_target", "versions", "Set-point of the mean lag.";
    PacingInFlight = "pacing/in_flight", "unrolls", "Unrolls begun, queued or being trained, where that is limited.";
    PacingHeld = "pacing/held", "acknowledgements", "Acknowledgements held back when the update ended, where that is limited.";
    CheckpointsWritten = "checkpoint/written", "checkpoints", "Written and verified in this life of the learner.";
    CheckpointsFailed = "checkpoint/failed", "checkpoints", "Could not be written in this life of the learner.";
    CheckpointsSkipped = "checkpoint/skipped", "checkpoints", "Were due while the one before was still being written.";
    CheckpointBytes = "checkpoint/bytes", "bytes", "Length of the last one.";
    CheckpointSeconds = "checkpoint/write_s", "s", "Time from handing the last one over until it was verified.";
    CheckpointStall = "checkpoint/stall_s", "s", "Time that the trainer stood still for one, mean.";
    WatchdogLagGrows = "watchdog/lag_grows", "alarms", "Times that the lag grew without end.";
    WatchdogWeightsStuck = "watchdog/weights_stuck", "alarms", "Times that an actor went on with old parameters.";
    WatchdogEssLow = "watchdog/ess_low", "alarms", "Times that the effective sample size fell below lag.ess_floor.";
    WatchdogStalled = "watchdog/stalled", "alarms", "Times that nothing was trained for telemetry.stall_s.";
    WatchdogLogProbs = "watchdog/log_probs_disagree", "alarms", "Times that actor and learner disagreed about log-probabilities of one version.";
    LearnerBusy = "time/learner_busy", "1", "Share of the time so far in which the trainer computed.";
    LearnerWaiting = "time/learner_waiting", "1", "Share of the time so far in which the trainer waited for unrolls.";
    ActorsBlocked = "time/actors_blocked", "1", "Share of the actors' time in which they waited for the learner.";
    UpdateSeconds = "time/update_s", "s", "Duration of this update.";
    LedgerProduced = "ledger/produced", "unrolls", "Known to have been produced by actors.";
    LedgerAdmitted = "ledger/admitted", "unrolls", "Passed every check.";
    LedgerRejected = "ledger/rejected", "unrolls", "Refused for a reason.";
    LedgerLost = "ledger/lost", "unrolls", "Produced, but never arrived.";
    LedgerTrained = "ledger/trained", "unrolls", "Trained on, once.";
    LedgerExpired = "ledger/expired", "unrolls", "Grew older than lag.max_versions while waiting.";
    LedgerEvicted = "ledger/evicted", "unrolls", "Dropped with an update that was rolled back, or because the queue was full.";
    LedgerDiscarded = "ledger/discarded", "unrolls", "Dropped because the learner stopped.";
    LedgerQueued = "ledger/queued", "unrolls", "Waiting for the trainer.";
    LedgerDuplicates = "ledger/duplicates", "unrolls", "Arrived again after they were settled.";
    LedgerImbalance = "ledger/imbalance", "unrolls", "By how many unrolls the accounts do not balance: must be 0.";
}

/// What is known about each bucket of lag, in the order of its metrics.
const BUCKET_METRICS: usize = 6;

macro_rules! bucket_metrics {
    ($($bucket:literal),+) => {
        [$([
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/steps"),
                unit: "steps",
                meaning: concat!("Steps of this update with a policy lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/ess"),
                unit: "1",
                meaning: concat!("Effective sample size of pi / mu at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/clip_fraction"),
                unit: "1",
                meaning: concat!("Share of pi / mu outside the clip range at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/k3"),
                unit: "nat",
                meaning: concat!("Estimate k3 of KL(mu || pi) at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/rho_saturation"),
                unit: "1",
                meaning: concat!("Share of V-trace ratios cut at rho_bar at a lag of ", $bucket, " versions."),
            },
            MetricDoc {
                name: concat!("lag_bucket/", $bucket, "/abs_advantage"),
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
pub struct Row([Option<f64>; METRICS.len()]);

impl Default for Row {
    fn default() -> Self {
        Self([None; METRICS.len()])
    }
}

impl Row {
    /// Sets one metric; a value that is not finite is left out, since JSON has no such numbers.
    pub fn set(&mut self, metric: Metric, value: f64) {
        self.0[metric as usize] = value.is_finite().then_some(value);
    }

    /// Sets the metrics of each bucket in which there were steps.
    pub fn set_buckets(&mut self, buckets: &[BucketSummary]) {
        let places = self.0[PLAIN_METRICS.len()..].as_chunks_mut::<BUCKET_METRICS>();
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

    /// The value of one metric.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0[metric as usize]
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (doc, value) in METRICS.iter().zip(self.0) {
            if let Some(value) = value {
                map.serialize_entry(doc.name, &value)?;
            }
        }
        map.end()
    }
}

/// Lines reach the file at least this often, so that it can be followed while the run goes on.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Writes `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    /// `None` writes nothing.
    file: Option<BufWriter<File>>,
    flushed: Instant,
}

impl MetricsWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn create(path: &Path) -> Result<Self, LearnerError> {
        Self::open(path, File::create(path))
    }

    /// Goes on with the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`LearnerError::Output`] if that is impossible.
    pub fn append(path: &Path) -> Result<Self, LearnerError> {
        Self::open(
            path,
            OpenOptions::new().create(true).append(true).open(path),
        )
    }

    fn open(path: &Path, file: io::Result<File>) -> Result<Self, LearnerError> {
        let file = file.map_err(|source| output::failed(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(BufWriter::with_capacity(64 * 1024, file)),
            flushed: Instant::now(),
        })
    }

    /// A writer that writes nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            flushed: Instant::now(),
        }
    }

    /// Whether it writes nothing.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.file.is_none()
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn write(&mut self, row: &Row) -> Result<(), LearnerError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        serde_json::to_writer(&mut *file, row)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|source| output::failed(&self.path, source))?;
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.flushed = Instant::now();
            self.flush()?;
        }
        Ok(())
    }

    /// Hands every line to the operating system.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn flush(&mut self) -> Result<(), LearnerError> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        flushed.map_err(|source| output::failed(&self.path, source))
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

    #[test]
    fn a_line_is_one_object_without_what_has_no_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        let mut row = Row::default();
        row.set(Metric::GlobalStep, 64.0);
        row.set(Metric::Ess, f64::NAN);
        let mut buckets = vec![BucketSummary::default(); BUCKETS];
        buckets[5] = BucketSummary {
            steps: 3,
            k3: Some(0.5),
            ..BucketSummary::default()
        };
        row.set_buckets(&buckets);
        writer.write(&row).unwrap();
        writer.flush().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"global_step\":64.0,\"lag_bucket/5-8/steps\":3.0,\"lag_bucket/5-8/k3\":0.5}\n"
        );
    }
}
