//! The phases of PPG: batches are kept until an auxiliary phase trains on all of them.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use springbok_common::{arrays::Actions, policy::Distribution};

use super::{
    Arrival, Material, Rates, StateFault, Targets, UpdateConfig, UpdateFault, Updater,
    minibatch::{Tracking, descend, gradients},
    staged::{read, upload_numbers},
    state::AdamState,
};
use crate::{
    algorithm::{
        adam::Adam,
        phasic::{AuxiliaryLoss, PhasicConfig, auxiliary_loss},
    },
    trainer::batch::Batch,
};

/// What an auxiliary phase did: means over its optimiser steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuxiliaryMetrics {
    /// Loss of the second value head.
    pub auxiliary_value_loss: f64,
    /// Divergence from the policy before the phase, in nats.
    pub clone_kl: f64,
    /// Loss of the value network.
    pub value_loss: f64,
}

/// What is remembered between auxiliary phases; a clone shares the batches.
#[derive(Clone)]
pub(super) struct Phase {
    stored: Vec<Arc<Stored>>,
    /// Of auxiliary phases alone.
    optimiser: Adam,
}

/// A batch without what only the policy's loss needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    batch: Batch,
    learnable: Vec<bool>,
    /// [T, B]: as they were when the batch arrived.
    targets: Vec<f32>,
}

impl Phase {
    pub(super) fn new(config: &UpdateConfig) -> Option<Self> {
        config.phasic.map(|_| Self {
            stored: Vec::new(),
            optimiser: Adam::new(config.adam_epsilon),
        })
    }
}

/// A [`Phase`] for a checkpoint; its batches are shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PhaseState {
    #[serde(with = "shared")]
    stored: Vec<Arc<Stored>>,
    optimiser: AdamState,
}

/// Shared batches are written as if each were there once.
mod shared {
    use super::{Arc, Deserialize, Serialize, Stored};

    pub(super) fn serialize<S: serde::Serializer>(
        stored: &[Arc<Stored>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let all: Vec<&Stored> = stored.iter().map(AsRef::as_ref).collect();
        all.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Arc<Stored>>, D::Error> {
        let all = Vec::<Stored>::deserialize(deserializer)?;
        Ok(all.into_iter().map(Arc::new).collect())
    }
}

impl Phase {
    pub(super) fn state(&self) -> PhaseState {
        PhaseState {
            stored: self.stored.clone(),
            optimiser: AdamState::of(&self.optimiser),
        }
    }

    /// `parameters` is how many the optimiser moves.
    pub(super) fn of_state(
        state: PhaseState,
        epsilon: f64,
        parameters: usize,
        device: &Device,
    ) -> Result<Self, StateFault> {
        Ok(Self {
            stored: state.stored,
            optimiser: state.optimiser.resume(epsilon, parameters, device)?,
        })
    }
}

impl Stored {
    fn of(material: &Material<'_>, targets: &Targets) -> Self {
        let batch = material.batch.clone();
        Self {
            batch: Batch {
                actions: Actions::default(),
                behaviour_log_probs: Vec::new(),
                actors: Vec::new(),
                ..batch
            },
            learnable: material.learnable.clone(),
            targets: targets.values.clone(),
        }
    }

    fn material(&self, updater: &Updater) -> Material<'_> {
        Material {
            rewards: Vec::new(),
            learnable: self.learnable.clone(),
            staged: updater.stage(&self.batch),
            batch: &self.batch,
        }
    }
}

impl Updater {
    /// Keeps a batch, and after enough of them trains on all. `None` without phases or while one is not over.
    ///
    /// # Errors
    /// [`UpdateFault::NonFinite`].
    pub(super) fn auxiliary_phase(
        &mut self,
        material: &Material<'_>,
        arrival: &Arrival,
        rates: &Rates,
    ) -> Result<Option<AuxiliaryMetrics>, UpdateFault> {
        let (Some(config), Some(phase)) = (self.config.phasic, &mut self.learnt.memory.phase)
        else {
            return Ok(None);
        };
        let targets = &arrival.on_host().targets;
        phase.stored.push(Arc::new(Stored::of(material, targets)));
        if phase.stored.len() < config.policy_updates {
            return Ok(None);
        }
        let stored = std::mem::take(&mut phase.stored);
        let trace = self.train_again(config, &stored, rates);
        means(trace).map(Some)
    }

    /// The optimiser steps of an auxiliary phase: in each pass the minibatches of all batches, none of which mixes two, in
    /// random order. Their losses, `[3]` each.
    fn train_again(
        &mut self,
        config: PhasicConfig,
        stored: &[Arc<Stored>],
        rates: &Rates,
    ) -> Vec<Tensor<1>> {
        let model = self.learnt.model.valid();
        let materials = stored.iter().map(|stored| stored.material(self));
        let materials: Vec<Material<'_>> = materials.collect();
        let old: Vec<Tensor<2>> = materials
            .iter()
            .map(|material| self.pass(&model, &material.staged).parameters)
            .collect();
        let mut trace = Vec::new();
        for _ in 0..config.auxiliary_epochs {
            let mut order = Vec::new();
            for (index, material) in materials.iter().enumerate() {
                let plan = self.passes(material, 1).into_iter().flatten();
                order.extend(plan.map(|units| (index, units)));
            }
            order.shuffle(&mut self.rng);
            for (index, units) in order {
                if self.stop.is_cancelled() {
                    return trace;
                }
                let targets = &stored[index].targets;
                let old = &old[index];
                let step =
                    self.auxiliary_step(config, &materials[index], targets, old, &units, rates);
                trace.extend(step);
            }
        }
        trace
    }

    /// One optimiser step of an auxiliary phase; `None` if there is nothing to learn from `units`.
    fn auxiliary_step(
        &mut self,
        config: PhasicConfig,
        material: &Material<'_>,
        targets: &[f32],
        old: &Tensor<2>,
        units: &[usize],
        rates: &Rates,
    ) -> Option<Tensor<1>> {
        let choice = self.choose(material, units);
        if choice.rows.is_empty() {
            return None;
        }
        let indices = self.upload_choice(&choice);
        let input = self.input(material, &choice, &indices, Tracking::Gradients);
        let unit = self.learnt.statistics.value_unit().unwrap_or(1.0);
        let targets = choice.rows.iter().map(|&row| targets[row]).collect();
        let targets = upload_numbers(targets, &self.device)
            .autodiff()
            .mul_scalar(unit);
        let mask = material.staged.picked_mask(indices.rows.clone());
        let mask = mask.map(|mask| mask.autodiff());
        let old = old.clone().select(0, indices.rows);
        let distribution = |parameters| Distribution::new(&self.actions, parameters, mask.clone());
        let outputs = input.run(&self.learnt.model);
        let AuxiliaryLoss {
            total,
            auxiliary,
            clone,
            value,
        } = auxiliary_loss(
            config.beta_clone,
            outputs.auxiliary_values?.mul_scalar(unit),
            outputs.values.mul_scalar(unit),
            targets,
            &distribution(old.autodiff()),
            &distribution(outputs.parameters),
        );
        let learnt = &mut self.learnt;
        let phase = learnt.memory.phase.as_mut()?;
        let norm_max = self.config.gradient_norm_max;
        let gradients = gradients(&learnt.model, total);
        let _ = descend(
            &mut learnt.model,
            &mut phase.optimiser,
            gradients,
            rates,
            norm_max,
        );
        let losses = [auxiliary, clone, value].map(Tensor::without_autodiff);
        Some(Tensor::cat(losses.into(), 0))
    }
}

/// Means over all steps.
fn means(trace: Vec<Tensor<1>>) -> Result<AuxiliaryMetrics, UpdateFault> {
    let steps = trace.len().max(1) as f64;
    let losses = if trace.is_empty() {
        Vec::new()
    } else {
        read(Tensor::cat(trace, 0))
    };
    let mut sums = [0.0; 3];
    for step in losses.chunks_exact(sums.len()) {
        for (sum, loss) in sums.iter_mut().zip(step) {
            *sum += f64::from(*loss) / steps;
        }
    }
    if sums.iter().any(|sum| !sum.is_finite()) {
        return Err(UpdateFault::NonFinite {
            what: "a loss of the auxiliary phase",
        });
    }
    let [auxiliary_value_loss, clone_kl, value_loss] = sums;
    Ok(AuxiliaryMetrics {
        auxiliary_value_loss,
        clone_kl,
        value_loss,
    })
}

#[cfg(test)]
mod tests;
