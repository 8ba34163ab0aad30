//! What the trainer's loop is connected to, what it reads, and what remains of it.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use bytes::Bytes;
use springbok_common::{
    config::Config,
    ids::ActorId,
    spec::RolloutShape,
    unroll::Unroll,
    version::{PolicyLag, PolicyVersion},
};
use tokio_util::sync::CancellationToken;

use super::saving::{Checkpoints, TrainerState};
use crate::{
    EventSink,
    books::Books,
    checkpoint::CheckpointSummary,
    inference::InferenceMeter,
    lag::{causes::Moments, predict::LagPrediction},
    metrics::MetricsWriter,
    network::NetworkBytes,
    pacing::Pacing,
    publisher::Publisher,
    queue::QueueReceiver,
    traced::Traced,
    trainer::{steering::Steering, tally::Tally},
};

/// What goes on beside the trainer.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    /// Bytes over the connections.
    pub traffic: NetworkBytes,
    /// Acting for the actors, if the learner does that.
    pub inference: Option<InferenceMeter>,
}

/// What the trainer's thread is connected to.
pub struct TrainerLinks {
    /// Where unrolls come from.
    pub queue: QueueReceiver,
    /// Roster and ledger.
    pub books: Books,
    /// The gate that holds acknowledgements back.
    pub pacing: Pacing,
    /// What is reported besides.
    pub meters: Meters,
    /// Where parameters go.
    pub publisher: Publisher,
    /// Cancelled from outside to end the loop.
    pub stop: CancellationToken,
    /// Told about progress.
    pub on_event: EventSink,
    /// `metrics.jsonl`.
    pub metrics: MetricsWriter,
    /// Where checkpoints go, if there are any.
    pub checkpoints: Option<Checkpoints>,
    /// Where an earlier life of the learner had come.
    pub resume: Option<TrainerState>,
}

/// What remains of a trainer.
#[derive(Debug)]
pub struct TrainerReport {
    /// The counts.
    pub tally: Tally,
    /// What was measured and done about policy lag.
    pub steering: Steering,
    /// The predicted lag beside the measured one; none before the first update.
    pub prediction: Option<LagPrediction>,
    /// The last version.
    pub version: PolicyVersion,
    /// Its parameters, little-endian f32 in layout order.
    pub parameters: Bytes,
    /// From the first publication to the end, of all lives together.
    pub wall: Duration,
    /// What became of checkpoints.
    pub checkpoints: CheckpointSummary,
}

/// The settings that the loop reads.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) batch_unrolls: usize,
    pub(super) rollout: RolloutShape,
    pub(super) total_steps: u64,
    pub(super) stop_return: Option<f64>,
    pub(super) update_delay: Duration,
    pub(super) progress_interval: Duration,
    /// Whether each batch is waited for and put in order.
    pub(super) lock_step: bool,
    /// In lock-step, the versions between two at which all environments begin anew.
    pub(super) life_versions: Option<NonZeroU64>,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            batch_unrolls: config.learner.batch_unrolls,
            rollout: config.rollout(),
            total_steps: config.run.total_steps,
            stop_return: config.run.stop_return,
            update_delay: Duration::from_millis(config.learner.update_delay_ms),
            progress_interval: Duration::from_millis(config.telemetry.progress_interval_ms),
            lock_step: config.run.deterministic,
            life_versions: config.life_versions(),
        }
    }
}

/// Which training of a batch it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Training {
    First,
    Again,
}

/// An unroll that was taken from the queue.
pub(super) struct Taken {
    pub(super) unroll: Unroll,
    pub(super) actor: ActorId,
    pub(super) lag: PolicyLag,
    pub(super) moments: Moments,
    pub(super) traced: Traced,
}

/// What was last reported.
pub(super) struct Reported {
    pub(super) at: Instant,
    pub(super) trained_steps: u64,
    pub(super) ess: f64,
    pub(super) clip_fraction: f64,
}
