//! What actors act with: the seed of their numbers, or a learner that acts for them.

use std::time::Duration;

use burn::tensor::Device;
use springbok_common::{
    config::{Config, InferencePlace, streams_of_a_kind_max},
    unroll::Agreement,
    version::LearnerEpoch,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    error::LearnerError,
    inference::{Desk, End, Opened, batcher::BatchRules},
    publisher::Publications,
};

/// Where actors have their actions chosen and what is counted of it, if they do not choose themselves. The policy acts on
/// the device that the trainer computes on.
pub(super) fn desk(
    config: &Config,
    agreement: &Agreement,
    device: (Device, String),
    publications: Publications,
) -> Result<Option<Opened>, LearnerError> {
    if config.actor.inference == InferencePlace::Local {
        return Ok(None);
    }
    let rules = BatchRules {
        rows_max: config.learner.inference_batch_rows_max,
        deadline: Duration::from_micros(config.learner.inference_deadline_us),
    };
    let lines_max = streams_of_a_kind_max(config.limits.actors_max);
    let network = &agreement.network;
    let opened = Desk::start(network, device, rules, lines_max, publications);
    Ok(Some(opened.map_err(LearnerError::Start)?))
}

/// Why nobody acts for the actors any more; waits forever where they act for themselves.
pub(super) async fn failed(end: Option<End>) -> LearnerError {
    match end {
        Some(end) => end.failed().await,
        None => std::future::pending().await,
    }
}

/// The seed of the actors in one life of the learner: another one in each, so that a resumed run does not play the
/// episodes of the first again. In lock-step it is the run's own: there the version seeds what begins anew.
pub(super) fn actors_seed(config: &Config, epoch: LearnerEpoch) -> u64 {
    let seed = config.run.seed;
    if config.run.deterministic || epoch == LearnerEpoch::FIRST {
        return seed;
    }
    let mut words = seed.to_le_bytes().to_vec();
    words.extend_from_slice(&epoch.0.to_le_bytes());
    xxh3_64(&words)
}
