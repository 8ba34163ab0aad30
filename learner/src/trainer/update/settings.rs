//! The constants of an update, out of the configuration.

use springbok_common::config::{
    AdvantageNormalisation, AlgorithmConfig, Critic, Objective, PgTarget, RecomputeTargets,
    Schedule, ValueLoss,
};

use super::objective;
use crate::algorithm::{
    penalty::PenaltyConfig,
    phasic::PhasicConfig,
    schedule::Linear,
    surrogate::SurrogateConfig,
    trust_region::TrustRegionConfig,
    value_loss::ValueLossKind,
    vtrace::{self, VtraceConfig},
};

/// Where targets and advantages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CriticKind {
    /// V-trace.
    Vtrace,
    /// Generalised advantage estimation, with gamma and lambda of V-trace's constants.
    Gae,
    /// Returns of so many steps, with gamma of V-trace's constants.
    NStep(usize),
    /// Retrace for the values of actions, with gamma and lambda of V-trace's constants. The network must have a critic of
    /// actions.
    Retrace,
}

/// All that an update depends on besides the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateConfig {
    /// Discount, trace and caps of the targets.
    pub vtrace: VtraceConfig,
    /// Where targets and advantages come from.
    pub critic: CriticKind,
    /// The policy's loss.
    pub surrogate: SurrogateConfig,
    /// Updates between two refreshes of the target network, which then stands for the proximal policy in loss and
    /// targets; `None` for no target network.
    pub target_refresh_updates: Option<u64>,
    /// A penalty on the divergence from the proximal policy that is added to the policy's loss.
    pub penalty: Option<PenaltyConfig>,
    /// The policy takes one step within a trust region; the passes then train the critic alone. The network has separate
    /// torsos.
    pub trust_region: Option<TrustRegionConfig>,
    /// Auxiliary phases. The network has separate torsos and a second value head.
    pub phasic: Option<PhasicConfig>,
    /// No further pass is begun once k3 of (pi_prox || pi) is above 1.5 times this, in nats.
    pub kl_stop: Option<f64>,
    /// The critic's loss.
    pub value_loss: ValueLossKind,
    /// Weight of the critic's loss.
    pub value_coefficient: f64,
    /// Weight of the entropy over the run.
    pub entropy_coefficient: Linear,
    /// Step size for the policy, and for the torso if it is shared, over the run.
    pub policy_learning_rate: Linear,
    /// Step size for the parameters that only the value depends on, over the run.
    pub value_learning_rate: Linear,
    /// Added to Adam's denominator.
    pub adam_epsilon: f64,
    /// L2 norm to which longer gradients are shortened, all parameters together.
    pub gradient_norm_max: f64,
    /// Passes over the batch.
    pub epochs: usize,
    /// Optimiser steps in each pass.
    pub minibatches: usize,
    /// Over what the raw advantages are normalised.
    pub advantage_normalisation: AdvantageNormalisation,
    /// How often targets and advantages are computed.
    pub recompute_targets: RecomputeTargets,
    /// Largest absolute reward; larger ones are cut.
    pub reward_clip: Option<f64>,
    /// Factor on rewards, after they were cut.
    pub reward_scale: f64,
    /// Whether rewards are divided by the running deviation of the discounted return.
    pub normalise_rewards: bool,
    /// Rows at the start of each unroll that only warm up the memory.
    pub burn_in: usize,
}

impl From<&AlgorithmConfig> for UpdateConfig {
    fn from(algorithm: &AlgorithmConfig) -> Self {
        let over_run = |schedule: Schedule, start: f64| match schedule {
            Schedule::Constant => Linear::constant(start),
            Schedule::Linear => Linear::to_zero(start),
        };
        let rates = algorithm.learning_rate_schedule;
        Self {
            vtrace: VtraceConfig {
                gamma: algorithm.gamma,
                lambda: algorithm.lambda,
                rho_bar: algorithm.rho_bar,
                c_bar: algorithm.c_bar,
                rho_pg_bar: algorithm.weight_bar,
                pg_target: match algorithm.pg_target {
                    PgTarget::LambdaMix => vtrace::PgTarget::LambdaMix,
                    PgTarget::Vs => vtrace::PgTarget::Vs,
                },
            },
            critic: match algorithm.critic {
                Critic::Vtrace => CriticKind::Vtrace,
                Critic::Gae => CriticKind::Gae,
                Critic::NStep => CriticKind::NStep(algorithm.n_step),
                Critic::Retrace => CriticKind::Retrace,
            },
            surrogate: objective::surrogate(algorithm),
            target_refresh_updates: objective::target_refresh_updates(algorithm),
            penalty: objective::penalty(algorithm),
            trust_region: objective::trust_region(algorithm),
            phasic: objective::phasic(algorithm),
            kl_stop: algorithm.kl_stop,
            value_loss: match algorithm.value_loss {
                ValueLoss::Mse => ValueLossKind::Mse,
                ValueLoss::Clipped => ValueLossKind::Clipped {
                    clip: algorithm.value_clip,
                },
                ValueLoss::Huber => ValueLossKind::Huber {
                    delta: algorithm.huber_delta,
                },
            },
            value_coefficient: algorithm.value_coefficient,
            entropy_coefficient: over_run(
                algorithm.entropy_schedule,
                algorithm.entropy_coefficient,
            ),
            policy_learning_rate: over_run(rates, algorithm.policy_learning_rate),
            value_learning_rate: over_run(rates, algorithm.value_learning_rate),
            adam_epsilon: algorithm.adam_epsilon,
            gradient_norm_max: algorithm.gradient_norm_max,
            epochs: match algorithm.objective {
                Objective::TrustRegion => algorithm.trust_region_critic_epochs,
                _ => algorithm.epochs,
            },
            minibatches: algorithm.minibatches,
            advantage_normalisation: algorithm.advantage_normalisation,
            recompute_targets: algorithm.recompute_targets,
            reward_clip: algorithm.reward_clip,
            reward_scale: algorithm.reward_scale,
            normalise_rewards: algorithm.normalise_rewards,
            burn_in: algorithm.burn_in,
        }
    }
}
