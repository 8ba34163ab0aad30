//! Groups of metrics that belong to one thing.

use std::time::Instant;

use super::{run_loop::Meters, update::UpdateMetrics};
use crate::{
    inference::InferenceMeter,
    lag::LagMeter,
    ledger::LedgerCounts,
    metrics::{Metric, Row},
    quarantine::Quarantine,
    traffic::TrafficCounts,
    verdict::TimeShares,
};

/// In the order of [`ByCause`](crate::lag::causes::ByCause).
const LAG_BY_CAUSE: [Metric; 7] = [
    Metric::LagInjected,
    Metric::LagPublish,
    Metric::LagUnroll,
    Metric::LagOutbox,
    Metric::LagTransport,
    Metric::LagQueue,
    Metric::LagBatch,
];
const LAG_SECONDS_BY_CAUSE: [Metric; 7] = [
    Metric::LagSecondsInjected,
    Metric::LagSecondsPublish,
    Metric::LagSecondsUnroll,
    Metric::LagSecondsOutbox,
    Metric::LagSecondsTransport,
    Metric::LagSecondsQueue,
    Metric::LagSecondsBatch,
];

impl Row {
    /// What an update reports.
    pub(super) fn set_update(&mut self, update: &UpdateMetrics) {
        self.set(Metric::LearningRate, update.learning_rate);
        self.set(Metric::PolicyLoss, update.policy_loss);
        self.set(Metric::ValueLoss, update.value_loss);
        self.set(Metric::Entropy, update.entropy);
        self.set(Metric::ApproxKl, update.approx_kl);
        self.set(Metric::Kl, update.kl);
        self.set(Metric::KlCoefficient, update.kl_coefficient);
        if let Some(step) = update.trust_region {
            self.set(Metric::StepFraction, step.step_fraction);
            self.set(Metric::CgResidual, step.cg_residual);
        }
        if let Some(phase) = update.auxiliary {
            self.set(Metric::AuxiliaryValueLoss, phase.auxiliary_value_loss);
            self.set(Metric::AuxiliaryCloneKl, phase.clone_kl);
            self.set(Metric::AuxiliaryCriticLoss, phase.value_loss);
        }
        self.set(Metric::Epochs, update.epochs as f64);
        self.set(Metric::ClipFraction, update.clip_fraction);
        self.set(Metric::ExplainedVariance, update.explained_variance);
        self.set(Metric::GradientNorm, update.gradient_norm);
        self.set(Metric::AdvantageMean, update.advantage_mean);
        self.set(Metric::AdvantageStd, update.advantage_std);
        self.set(Metric::Ess, update.ess_prox);
        self.set(Metric::EssBehaviour, update.ess_behaviour);
        self.ratios = update.ratio_counts;
        self.set(Metric::RhoSaturation, update.rho_saturation);
        self.set(Metric::LogRatioLagZero, update.max_abs_log_ratio_lag0);
        self.set(Metric::LogRatioLagZeroMean, update.mean_abs_log_ratio_lag0);
    }

    /// What went over the wire so far.
    pub(super) fn set_traffic(&mut self, traffic: &TrafficCounts) {
        self.set(
            Metric::SnapshotsPublished,
            traffic.snapshots_published as f64,
        );
        self.set(Metric::SnapshotsSent, traffic.snapshots_sent as f64);
        self.set(
            Metric::SnapshotsConflated,
            traffic.snapshots_conflated as f64,
        );
        self.set(Metric::BytesUp, traffic.unroll_bytes as f64);
        self.set(Metric::BytesDown, traffic.snapshot_bytes as f64);
    }

    /// Where the time went so far.
    pub(super) fn set_time(&mut self, shares: &TimeShares) {
        self.set(Metric::LearnerBusy, shares.learner_busy);
        self.set(Metric::LearnerWaiting, shares.learner_waiting);
        self.set(Metric::LearnerMeasuring, shares.learner_measuring);
        self.set(Metric::ActorsBlocked, shares.actors_blocked);
        self.set(Metric::ActorsEnvironment, shares.actors_environment);
        self.set(Metric::ActorsInference, shares.actors_inference);
        self.set(Metric::ActorsSending, shares.actors_sending);
    }

    /// The lag of the steps of one update.
    pub(super) fn set_lag(&mut self, window: &LagMeter) {
        let lag = window.summary();
        self.set(Metric::LagMean, lag.mean);
        self.set(Metric::LagP95, lag.p95);
        self.set(Metric::LagMax, lag.max);
        self.set(Metric::LagSeconds, lag.seconds);
        self.set(Metric::LagEnvSteps, lag.env_steps);
        let causes = window.causes().into_array();
        let seconds = window.cause_seconds().into_array();
        for (stage, (versions, seconds)) in causes.into_iter().zip(seconds).enumerate() {
            self.set(LAG_BY_CAUSE[stage], versions);
            self.set(LAG_SECONDS_BY_CAUSE[stage], seconds);
        }
    }

    /// The accounts of the ledger.
    pub(super) fn set_ledger(&mut self, counts: &LedgerCounts) {
        self.set(Metric::LedgerProduced, counts.produced as f64);
        self.set(Metric::LedgerAdmitted, counts.admitted as f64);
        self.set(Metric::LedgerRejected, counts.rejected as f64);
        self.set(Metric::LedgerLost, counts.lost as f64);
        self.set(Metric::LedgerTrained, counts.trained as f64);
        self.set(Metric::LedgerExpired, counts.expired as f64);
        self.set(Metric::LedgerEvicted, counts.evicted as f64);
        self.set(Metric::LedgerDiscarded, counts.discarded as f64);
        self.set(Metric::LedgerQueued, counts.queued as f64);
        self.set(Metric::LedgerDuplicates, counts.duplicates as f64);
        self.set(Metric::LedgerImbalance, counts.imbalance() as f64);
    }

    /// What went over the network, and how actions were chosen.
    pub(super) fn set_meters(&mut self, meters: &Meters) {
        let traffic = meters.traffic.summary();
        self.set(Metric::NetworkReceived, traffic.received_bytes as f64);
        self.set(Metric::NetworkSent, traffic.sent_bytes as f64);
        let inference = meters.inference.as_ref();
        if let Some(inference) = inference.and_then(InferenceMeter::summary) {
            self.set(Metric::InferenceBatchRows, inference.batch_rows);
            self.set(Metric::InferenceRowsPerSecond, inference.rows_per_s);
            self.set(Metric::InferenceWait, inference.wait_s);
            self.set(Metric::InferenceBusy, inference.busy);
        }
    }

    /// Sets what is known about poisoned unrolls at `now`.
    pub(super) fn set_quarantine(&mut self, quarantine: &Quarantine, now: Instant) {
        let summary = quarantine.summary();
        self.set(Metric::ActorsQuarantined, quarantine.kept_out(now) as f64);
        self.set(Metric::QuarantineStrikes, summary.strikes as f64);
        self.set(Metric::Quarantines, summary.quarantines as f64);
    }
}
