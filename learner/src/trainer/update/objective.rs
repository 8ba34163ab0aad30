//! What is particular to each objective of the policy: its loss, its penalty, and what it remembers between updates.

use burn::{module::Module, tensor::Tensor};
use springbok_common::{
    config::{
        AlgorithmConfig, ClipRange, KlAdaptation, KlDirection, MdpoSchedule, Objective, Ratio,
    },
    policy::{ActorCritic, Distribution},
};

use super::{
    Arrival, Material, Trace, UpdateConfig, Updater,
    phasic::Phase,
    staged::{read, upload_numbers},
};
use crate::algorithm::{
    health::kl_estimates,
    penalty::{Adaptation, PenaltyConfig, Weighting},
    phasic::PhasicConfig,
    surrogate::{self, SurrogateConfig, SurrogateKind},
    trust_region::TrustRegionConfig,
};

/// Multiple of `kl_stop` beyond which no further pass is begun; OpenAI's Spinning Up uses the same.
const KL_STOP_FACTOR: f64 = 1.5;

/// The policy's loss of a configuration.
pub(super) fn surrogate(algorithm: &AlgorithmConfig) -> SurrogateConfig {
    let kind = match algorithm.objective {
        Objective::Clip | Objective::Ppg => match algorithm.ratio {
            Ratio::Behaviour => SurrogateKind::Behaviour,
            Ratio::Decoupled => SurrogateKind::Decoupled,
            Ratio::Proximal => SurrogateKind::Proximal,
            Ratio::Dual => SurrogateKind::Dual,
            Ratio::TargetNetwork => SurrogateKind::Appo,
        },
        Objective::KlPenalty | Objective::Mdpo | Objective::TrustRegion => SurrogateKind::Unclipped,
        Objective::WeightedPg => SurrogateKind::WeightedPolicyGradient,
        Objective::A2c => SurrogateKind::PolicyGradient,
    };
    SurrogateConfig {
        weight_bar: algorithm.weight_bar,
        ratio_bar: algorithm.target_ratio_bar,
        weighted: algorithm.staleness_weight,
        clip_range: match algorithm.clip_range {
            ClipRange::Symmetric => surrogate::ClipRange::Symmetric,
            ClipRange::Reciprocal => surrogate::ClipRange::Reciprocal,
        },
        dual_clip: algorithm.dual_clip,
        ratio_clamp: algorithm.ratio_clamp.map(|bound| [bound.recip(), bound]),
        ..SurrogateConfig::new(kind, algorithm.clip_epsilon)
    }
}

/// How often the target network of a configuration is refreshed, if it has one.
pub(super) fn target_refresh_updates(algorithm: &AlgorithmConfig) -> Option<u64> {
    let clips = matches!(algorithm.objective, Objective::Clip | Objective::Ppg);
    let has_target = clips && algorithm.ratio == Ratio::TargetNetwork;
    has_target.then_some(algorithm.target_refresh_updates)
}

/// The penalty on the divergence of a configuration.
pub(super) fn penalty(algorithm: &AlgorithmConfig) -> Option<PenaltyConfig> {
    let adaptive = |adaptation| Weighting::Adaptive {
        target: algorithm.kl_target,
        adaptation,
    };
    let (direction, weighting) = match algorithm.objective {
        Objective::KlPenalty => (
            match algorithm.kl_direction {
                KlDirection::Forward => surrogate::KlDirection::Forward,
                KlDirection::Reverse => surrogate::KlDirection::Reverse,
            },
            match algorithm.kl_adaptation {
                KlAdaptation::Paper => adaptive(Adaptation::PAPER),
                KlAdaptation::Rllib => adaptive(Adaptation::RLLIB),
                KlAdaptation::Fixed => Weighting::Fixed,
            },
        ),
        Objective::Mdpo => (
            surrogate::KlDirection::Reverse,
            match algorithm.mdpo_schedule {
                MdpoSchedule::PaperLinear => Weighting::PaperLinear,
                MdpoSchedule::InverseStep => Weighting::InverseStep,
            },
        ),
        Objective::Clip
        | Objective::WeightedPg
        | Objective::A2c
        | Objective::TrustRegion
        | Objective::Ppg => return None,
    };
    Some(PenaltyConfig {
        direction,
        coefficient: algorithm.kl_coefficient,
        weighting,
    })
}

/// The constants of a step within a trust region, if a configuration has one.
pub(super) fn trust_region(algorithm: &AlgorithmConfig) -> Option<TrustRegionConfig> {
    let bounded = algorithm.objective == Objective::TrustRegion;
    bounded.then_some(TrustRegionConfig {
        kl_max: algorithm.trust_region_kl_max,
        damping: algorithm.trust_region_damping,
        cg_iterations: algorithm.trust_region_cg_iterations,
        fisher_stride: algorithm.trust_region_fisher_stride,
    })
}

/// The constants of the phases, if a configuration has them.
pub(super) fn phasic(algorithm: &AlgorithmConfig) -> Option<PhasicConfig> {
    let has_phases = algorithm.objective == Objective::Ppg;
    has_phases.then_some(PhasicConfig {
        policy_updates: algorithm.ppg_policy_updates,
        auxiliary_epochs: algorithm.ppg_auxiliary_epochs,
        beta_clone: algorithm.ppg_beta_clone,
    })
}

/// What an objective remembers from one update to the next; it is undone with an update that fails.
#[derive(Clone)]
pub(super) struct Memory {
    /// Updates so far.
    pub(super) updates: u64,
    /// Weight of the penalty, as adapted.
    pub(super) beta: f64,
    /// The target network.
    pub(super) target: Option<ActorCritic>,
    /// Batches for the next auxiliary phase.
    pub(super) phase: Option<Phase>,
}

impl Memory {
    pub(super) fn new(config: &UpdateConfig, model: &ActorCritic) -> Self {
        Self {
            updates: 0,
            beta: config
                .penalty
                .map_or(f64::NAN, |penalty| penalty.coefficient),
            target: config.target_refresh_updates.map(|_| model.valid()),
            phase: Phase::new(config),
        }
    }

    /// The model is another one from now on.
    pub(super) fn restart(&mut self, model: &ActorCritic) {
        self.target = self.target.as_ref().map(|_| model.valid());
    }
}

impl Updater {
    /// The weight of the penalty in this update.
    pub(super) fn beta(&self, progress_remaining: f64) -> Option<f64> {
        let memory = &self.learnt.memory;
        let penalty = self.config.penalty?;
        Some(penalty.beta(memory.beta, memory.updates, progress_remaining))
    }

    /// The exact mean divergence `[1]` of the policy as it is now from that of `arrival`, in nats; `None` without a penalty.
    pub(super) fn divergence(
        &self,
        material: &Material<'_>,
        arrival: &Arrival,
    ) -> Option<Tensor<1>> {
        let (penalty, proximal) = (self.config.penalty?, arrival.parameters()?);
        let staged = &material.staged;
        let parameters = self.pass(&self.learnt.model.valid(), staged).parameters;
        let distribution =
            |parameters: Tensor<2>| Distribution::new(&self.actions, parameters, staged.mask());
        let counts: Vec<f32> = material
            .learnable
            .iter()
            .map(|&learnable| f32::from(u8::from(learnable)))
            .collect();
        Some(surrogate::kl_penalty(
            penalty.direction,
            &distribution(parameters),
            &distribution(proximal.clone()),
            Some(upload_numbers(counts, &self.device)),
        ))
    }

    /// Adapts the weight of the penalty to the `divergence` after all optimiser steps, in nats.
    pub(super) fn adapt(&mut self, divergence: Option<f64>) {
        let memory = &mut self.learnt.memory;
        if let (Some(penalty), Some(divergence)) = (self.config.penalty, divergence) {
            memory.beta = penalty.adapt(memory.beta, divergence);
        }
    }

    /// After the optimiser steps: counts the update and refreshes the target network when it is time.
    pub(super) fn remember(&mut self) {
        let memory = &mut self.learnt.memory;
        memory.updates += 1;
        let period = self.config.target_refresh_updates;
        if period.is_some_and(|period| memory.updates.is_multiple_of(period.max(1))) {
            memory.target = Some(self.learnt.model.valid());
        }
    }

    /// Whether the pass that `trace` ends with has left the proximal policy too far behind for another one: k3 of its
    /// minibatches, each just before its own step.
    pub(super) fn has_gone_too_far(&self, trace: &Trace, arrival: &Arrival) -> bool {
        let Some(limit) = self.config.kl_stop.filter(|_| !trace.rows.is_empty()) else {
            return false;
        };
        let proximal = &arrival.on_host().evaluation.log_probs;
        let current = read(Tensor::cat(trace.log_probs.clone(), 0));
        let log_ratios: Vec<f64> = current
            .iter()
            .zip(&trace.rows)
            .map(|(log_prob, &row)| f64::from(log_prob - proximal[row]))
            .collect();
        kl_estimates(&log_ratios).k3 > KL_STOP_FACTOR * limit
    }
}

#[cfg(test)]
mod tests;
