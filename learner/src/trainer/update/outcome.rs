//! What an update reports.

use std::time::Duration;

use burn::tensor::Tensor;
use springbok_common::policy::{ActorCritic, flatten};

use super::{
    Arrival, AuxiliaryMetrics, TrustRegionMetrics,
    staged::{Cut, Reading},
};
use crate::algorithm::{
    health::{self, Health, LagRow, Samples},
    surrogate::{SurrogateConfig, SurrogateKind},
};

/// What one update did. Losses, entropy and norm are means over its optimiser steps; ratios are those of the last
/// epoch, each just before its own optimiser step.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateMetrics {
    /// The policy's loss, without entropy.
    pub policy_loss: f64,
    /// The critic's loss, before its coefficient.
    pub value_loss: f64,
    /// Entropy of the policy in nats.
    pub entropy: f64,
    /// L2 norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Passes over the batch that were made.
    pub epochs: usize,
    /// KL(pi_prox || pi), estimator k3, in nats.
    pub approx_kl: f64,
    /// The divergence that is penalised or bounded, exactly, after all steps of the policy, in nats; NaN without either.
    pub kl: f64,
    /// Weight of the penalty on it in this update; NaN without a penalty.
    pub kl_coefficient: f64,
    /// The step within a trust region, if there is one.
    pub trust_region: Option<TrustRegionMetrics>,
    /// The auxiliary phase, if one followed this update.
    pub auxiliary: Option<AuxiliaryMetrics>,
    /// Share of steps whose ratio (the one that the configured loss clips) is outside the clip range.
    pub clip_fraction: f64,
    /// Effective sample size of pi_prox / mu, in (0, 1]: how stale the batch was.
    pub ess_prox: f64,
    /// Effective sample size of pi / mu, in (0, 1].
    pub ess_behaviour: f64,
    /// Steps by pi / mu, in buckets with the upper bounds [`ratio_edges`](health::ratio_edges).
    pub ratio_counts: [u64; health::RATIO_BUCKETS],
    /// Share of the targets' variance that the critic explained on arrival; NaN if all targets are equal.
    pub explained_variance: f64,
    /// Share of steps whose ratio V-trace cut at `rho_bar`.
    pub rho_saturation: f64,
    /// Largest |log pi_prox - log mu| of steps with lag 0, where actor and learner should agree; NaN without such steps.
    pub max_abs_log_ratio_lag0: f64,
    /// Their mean.
    pub mean_abs_log_ratio_lag0: f64,
    /// Mean of the raw advantages.
    pub advantage_mean: f64,
    /// Standard deviation of the raw advantages.
    pub advantage_std: f64,
    /// Step size of Adam for the policy; NaN where a trust region bounds its step.
    pub learning_rate: f64,
    /// Optimiser steps made.
    pub optimiser_steps: u64,
    /// One row per policy lag that occurs in the batch.
    pub per_lag: Vec<LagRow>,
    /// How long it took to compute what is only measured.
    pub measuring: Duration,
}

/// Why an update changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateFault {
    /// Something became NaN or infinite; parameters and optimisers are as before the update.
    #[error("{what} became NaN or infinite; the update was undone")]
    NonFinite {
        /// What is not finite.
        what: &'static str,
    },
    /// The run is to end; parameters and optimisers are as before the update.
    #[error("the run was stopped in the middle of an update, which was undone")]
    Stopped,
    /// There was no step to train on.
    #[error("the batch has no steps")]
    EmptyBatch,
}

/// Numbers that each optimiser step leaves: policy loss, value loss, entropy and gradient norm.
pub(super) const LOSSES: usize = 4;

/// What the optimiser steps left on the device.
#[derive(Default)]
pub(super) struct Trace {
    /// [`LOSSES`] numbers of each step.
    pub(super) losses: Vec<Tensor<1>>,
    /// log pi of the minibatches of the last epoch.
    pub(super) log_probs: Vec<Tensor<1>>,
    /// The rows t * B + b that these belong to.
    pub(super) rows: Vec<usize>,
    /// Epochs that were begun.
    pub(super) epochs: usize,
}

/// What an update left, on its way to the host.
pub(super) struct ReadingBack {
    numbers: Reading,
    /// How many numbers of each kind come, in their order.
    losses: usize,
    parameters: usize,
    divergence: usize,
    rows: Vec<usize>,
    epochs: usize,
}

/// What an update left, on the host.
pub(super) struct ReadBack {
    /// [`LOSSES`] numbers of each optimiser step.
    pub(super) losses: Vec<f32>,
    /// log pi of the minibatches of the last epoch, each just before its own step.
    pub(super) log_probs: Vec<f32>,
    /// The rows t * B + b that these belong to.
    pub(super) rows: Vec<usize>,
    /// All parameters `[P]` in layout order.
    pub(super) parameters: Vec<f32>,
    /// The penalised divergence after all steps, in nats, if there is one.
    pub(super) divergence: Option<f64>,
    /// Epochs that were begun.
    pub(super) epochs: usize,
}

impl Trace {
    /// Begins the one read-back at the end of an update: with the parameters of `model`, the `divergence` `[1]` and what the
    /// host does not know yet of `arrival`.
    pub(super) fn read_back(
        self,
        model: &ActorCritic,
        divergence: Option<Tensor<1>>,
        arrival: &Arrival,
    ) -> ReadingBack {
        let parameters = flatten(model);
        let (losses, divergences) = (LOSSES * self.losses.len(), divergence.iter().count());
        let [count] = parameters.dims();
        let parts = self.losses.into_iter().chain(self.log_probs);
        let parts = parts.chain([parameters]).chain(divergence);
        let parts = parts.chain(arrival.awaited()).collect();
        ReadingBack {
            numbers: Reading::begin(Tensor::cat(parts, 0)),
            losses,
            parameters: count,
            divergence: divergences,
            rows: self.rows,
            epochs: self.epochs,
        }
    }
}

impl ReadingBack {
    /// Waits until the device has done all of the update; `arrival` is then known to the host.
    pub(super) fn finish(self, arrival: &Arrival) -> ReadBack {
        let mut cut = Cut::of(self.numbers.finish());
        let result = ReadBack {
            losses: cut.numbers(self.losses),
            log_probs: cut.numbers(self.rows.len()),
            parameters: cut.numbers(self.parameters),
            divergence: cut.numbers(self.divergence).pop().map(f64::from),
            rows: self.rows,
            epochs: self.epochs,
        };
        arrival.arrived(&mut cut);
        result
    }
}

/// The clip fraction of the ratio that the loss clips; `anchor` [T, B] is log pi of the policy that it takes for the
/// proximal one.
pub(super) fn clip_fraction(
    surrogate: &SurrogateConfig,
    health: &Health,
    samples: &Samples<'_, f32>,
    anchor: &[f32],
) -> f64 {
    match surrogate.kind {
        SurrogateKind::Behaviour | SurrogateKind::Dual => health.clip_fraction_behaviour,
        SurrogateKind::Appo => {
            let cap = surrogate.ratio_bar.map_or(f64::INFINITY, f64::ln);
            let counts = |row: &usize| samples.mask.is_none_or(|mask| mask[*row]);
            let log_ratio = |row: usize| {
                let behaviour = f64::from(samples.behaviour[row]);
                let toward = behaviour - f64::from(anchor[row]);
                toward.min(cap) + f64::from(samples.current[row]) - behaviour
            };
            let rows = (0..anchor.len()).filter(counts);
            let log_ratios: Vec<f64> = rows.map(log_ratio).collect();
            health::clip_fraction(&log_ratios, surrogate.clip_epsilon)
        }
        SurrogateKind::PolicyGradient
        | SurrogateKind::WeightedPolicyGradient
        | SurrogateKind::Proximal
        | SurrogateKind::Decoupled
        | SurrogateKind::Unclipped => health.clip_fraction,
    }
}

/// Means of the four losses over all optimiser steps.
pub(super) fn mean_losses(losses: &[f32]) -> Result<[f64; LOSSES], UpdateFault> {
    let names = [
        "the policy loss",
        "the value loss",
        "the entropy",
        "the gradient norm",
    ];
    let mut means = [0.0; LOSSES];
    let (steps, _) = losses.as_chunks::<LOSSES>();
    for (index, what) in names.into_iter().enumerate() {
        let sum: f64 = steps.iter().map(|step| f64::from(step[index])).sum();
        means[index] = sum / steps.len().max(1) as f64;
        if !means[index].is_finite() {
            return Err(UpdateFault::NonFinite { what });
        }
    }
    Ok(means)
}
