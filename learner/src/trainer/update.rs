//! One update: a batch of experience in, one policy version out.

mod arrival;
mod forward;
mod minibatch;
mod objective;
mod outcome;
mod parts;
mod phasic;
mod pick;
mod settings;
mod staged;
mod state;
mod statistics;
mod targets;
mod trust_region;
mod warm_up;

use std::time::Instant;

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use bytes::Bytes;
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;
use springbok_common::{
    config::{Config, RecomputeTargets},
    policy::{
        ActorCritic, DistributionKind, ParametersError, encode_flat, export_flat, import_flat,
        write_safetensors,
    },
    spec::{CoreSpec, NetworkSpec},
    unroll::Agreement,
};
use tokio_util::sync::CancellationToken;

pub use outcome::{UpdateFault, UpdateMetrics};
pub use phasic::AuxiliaryMetrics;
pub use settings::{CriticKind, UpdateConfig};
pub use staged::Staged;
pub use state::{StateFault, UpdaterState};
pub use trust_region::TrustRegionMetrics;

use self::{
    arrival::{Arrival, OnHost},
    minibatch::Tracking,
    objective::Memory,
    outcome::{ReadBack, ReadingBack, Trace},
    statistics::Statistics,
    targets::Targets,
};
use super::batch::Batch;
use crate::{
    algorithm::{
        adam::Adam,
        gradient::places,
        health::{Samples, health},
    },
    device,
};

/// Keeps the shuffling of minibatches apart from the initial parameters, which come from the same seed.
const SHUFFLE_SEED: u64 = 0x5348_5546_464c_4521;

/// The learner's network, its optimisers and the code that moves them.
pub struct Updater {
    config: UpdateConfig,
    network: NetworkSpec,
    actions: DistributionKind,
    device: Device,
    /// In how many parts a minibatch is computed.
    parts: usize,
    /// Whether the targets are made where the tensors are: the host is faster if it has the numbers anyway.
    aims_on_device: bool,
    learnt: Learnt,
    /// `[P]`: 1 where only the value depends on the parameter, 0 elsewhere.
    value_share: Tensor<1>,
    rng: Pcg64,
    parameters: Bytes,
    /// Cancelled to give up an update between two of its optimiser steps.
    stop: CancellationToken,
}

/// All that an update changes; a clone shares the tensors, so that keeping one costs little.
#[derive(Clone)]
struct Learnt {
    model: ActorCritic,
    optimiser: Adam,
    statistics: Statistics,
    memory: Memory,
}

/// Epochs of minibatches in the order of use: of rows t * B + b, or of columns b if the network has a memory.
type Plan = Vec<Vec<Vec<usize>>>;

/// What an update works on besides the model.
struct Material<'a> {
    batch: &'a Batch,
    staged: Staged,
    /// [T, B]: as they are learnt from.
    rewards: Vec<f32>,
    /// [T, B]: which rows there is something to learn from.
    learnable: Vec<bool>,
}

/// Step sizes and weights of this update.
struct Rates {
    policy: f64,
    /// `[P]`: the step size of each parameter.
    each: Tensor<1>,
    entropy: f64,
    /// Weight of the penalty on the divergence, if there is one.
    penalty: Option<f64>,
}

/// What was asked of the device for an update.
struct Computed {
    result: ReadingBack,
    rates: Rates,
    region: Option<TrustRegionMetrics>,
    auxiliary: Option<AuxiliaryMetrics>,
}

impl Updater {
    /// An updater whose network and shuffling come from the configured seed.
    #[must_use]
    pub fn new(config: &Config, agreement: &Agreement, device: Device) -> Self {
        let settings = UpdateConfig::from(&config.algorithm);
        let parts = parts::parts(config, &agreement.network, &device);
        Self {
            parts,
            ..Self::with_settings(settings, &agreement.network, config.run.seed, device)
        }
    }

    /// The same without a whole configuration.
    #[must_use]
    pub fn with_settings(
        config: UpdateConfig,
        network: &NetworkSpec,
        seed: u64,
        device: Device,
    ) -> Self {
        let model = ActorCritic::new(network, seed, &device.clone().autodiff());
        Self {
            value_share: value_share(&model, &device),
            parameters: export_flat(&model),
            learnt: Learnt {
                memory: Memory::new(&config, &model),
                model,
                optimiser: Adam::new(config.adam_epsilon),
                statistics: Statistics::new(&config, network),
            },
            rng: Pcg64::seed_from_u64(seed ^ SHUFFLE_SEED),
            actions: DistributionKind::of(network),
            network: network.clone(),
            aims_on_device: !device::is_processor(&device),
            device,
            parts: 1,
            config,
            stop: CancellationToken::new(),
        }
    }

    /// Lets `stop` end an update early: it is then undone. An update of a large network can take longer than whoever
    /// interrupts a run will wait.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The parameters after the last update: little-endian f32 in layout order.
    #[must_use]
    pub fn parameters(&self) -> Bytes {
        self.parameters.clone()
    }

    /// The parameters as the content of a safetensors file.
    ///
    /// # Errors
    /// [`ParametersError`] if they cannot be written.
    pub fn safetensors(&self) -> Result<Vec<u8>, ParametersError> {
        write_safetensors(&self.parameters, &self.network)
    }

    /// Bytes that the tensor library holds on the device; `None` on the processor.
    #[must_use]
    pub fn device_memory_bytes(&self) -> Option<u64> {
        device::memory_bytes(&self.device)
    }

    /// Replaces the parameters; the optimisers keep their moments.
    ///
    /// # Errors
    /// [`ParametersError::Length`] if `flat` is for another network.
    pub fn load_parameters(&mut self, flat: &[u8]) -> Result<(), ParametersError> {
        self.learnt.model = import_flat(self.learnt.model.clone(), flat)?;
        self.learnt.memory.restart(&self.learnt.model);
        self.parameters = Bytes::copy_from_slice(flat);
        Ok(())
    }

    /// Trains on `batch`: epochs of shuffled minibatches towards the critic's targets. `progress_remaining`, in [0, 1], is
    /// the share of the run that is still to come.
    ///
    /// # Errors
    /// [`UpdateFault`] if nothing was changed.
    pub fn update(
        &mut self,
        batch: &Batch,
        progress_remaining: f64,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let staged = self.stage(batch);
        self.update_staged(batch, staged, progress_remaining, &mut |_| ())
    }

    /// The same with `staged`, the arrays of `batch` on the device. If that is not the processor, `meanwhile` is called
    /// once while it computes: the host would only wait.
    ///
    /// # Errors
    /// [`UpdateFault`] if nothing was changed.
    pub fn update_staged(
        &mut self,
        batch: &Batch,
        staged: Staged,
        progress_remaining: f64,
        meanwhile: &mut dyn FnMut(&Self),
    ) -> Result<UpdateMetrics, UpdateFault> {
        let learnable = batch.learnable(self.config.burn_in);
        if !learnable.contains(&true) {
            return Err(UpdateFault::EmptyBatch);
        }
        let before = (self.learnt.clone(), self.rng.clone());
        let material = Material {
            rewards: self.learnt.statistics.rewards(&self.config, batch),
            learnable,
            batch,
            staged,
        };
        let plan = self.plan(&material);
        let arrival = self.arrival(&material);
        self.follow_values(&material, &arrival);
        let computed = self.compute(&material, &arrival, &plan, progress_remaining);
        let result = computed.and_then(|computed| {
            if !device::is_processor(&self.device) {
                meanwhile(self);
            }
            self.conclude(&material, &arrival, computed)
        });
        device::insist(&self.device);
        if result.is_err() {
            (self.learnt, self.rng) = before;
        }
        result
    }

    /// Shuffles the steps (with a memory: the columns) anew for each epoch and cuts them into minibatches of nearly
    /// equal size.
    fn plan(&mut self, material: &Material<'_>) -> Plan {
        self.passes(material, self.config.epochs.max(1))
    }

    /// The same for so many epochs.
    fn passes(&mut self, material: &Material<'_>, epochs: usize) -> Plan {
        let mut units: Vec<usize> = if self.network.core == CoreSpec::None {
            let rows = 0..material.learnable.len();
            rows.filter(|&row| material.learnable[row]).collect()
        } else {
            (0..material.batch.columns).collect()
        };
        let size = units.len().div_ceil(self.config.minibatches.max(1)).max(1);
        (0..epochs)
            .map(|_| {
                units.shuffle(&mut self.rng);
                units.chunks(size).map(<[usize]>::to_vec).collect()
            })
            .collect()
    }

    /// Step sizes and weights of the update that comes next.
    fn rates(&self, progress_remaining: f64) -> Rates {
        let policy = self.config.policy_learning_rate.at(progress_remaining);
        let value = self.config.value_learning_rate.at(progress_remaining);
        let policy_share = self.value_share.clone().neg().add_scalar(1.0);
        Rates {
            policy,
            // One factor is exactly 0 everywhere, so that the sum is exactly the other.
            each: policy_share.mul_scalar(policy) + self.value_share.clone().mul_scalar(value),
            entropy: self.config.entropy_coefficient.at(progress_remaining),
            penalty: self.beta(progress_remaining),
        }
    }

    /// Tells the device all that it has to do for the plan, and asks for what comes of it.
    fn compute(
        &mut self,
        material: &Material<'_>,
        arrival: &Arrival,
        plan: &Plan,
        progress_remaining: f64,
    ) -> Result<Computed, UpdateFault> {
        let rates = self.rates(progress_remaining);
        let region = self.improve(material, arrival, plan, &rates);
        let trace = self.optimise(material, arrival, plan, &rates);
        let auxiliary = self.auxiliary_phase(material, arrival, &rates);
        if self.stop.is_cancelled() {
            return Err(UpdateFault::Stopped);
        }
        let divergence = self.divergence(material, arrival);
        self.remember();
        // Only now, so that the whole batch was seen as the actors with this version saw it.
        self.follow_observations(material);
        Ok(Computed {
            result: trace.read_back(&self.learnt.model, divergence, arrival),
            rates,
            region,
            auxiliary: auxiliary?,
        })
    }

    /// Waits for what was computed, which counts only if all numbers are finite.
    fn conclude(
        &mut self,
        material: &Material<'_>,
        arrival: &Arrival,
        computed: Computed,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let result = computed.result.finish(arrival);
        let region = computed.region;
        let metrics = self.metrics(material, arrival.on_host(), &result, &computed.rates)?;
        let metrics = UpdateMetrics {
            kl: result
                .divergence
                .or(region.map(|region| region.kl))
                .unwrap_or(f64::NAN),
            trust_region: region,
            auxiliary: computed.auxiliary,
            ..metrics
        };
        if !result.parameters.iter().all(|own| own.is_finite()) {
            return Err(UpdateFault::NonFinite {
                what: "a parameter",
            });
        }
        self.adapt(result.divergence);
        self.parameters = encode_flat(&result.parameters);
        Ok(metrics)
    }

    /// The optimiser steps. Nothing is read back from the device unless passes may be left out.
    fn optimise(
        &mut self,
        material: &Material<'_>,
        arrival: &Arrival,
        plan: &Plan,
        rates: &Rates,
    ) -> Trace {
        let mut trace = Trace::default();
        let mut numbers = arrival.numbers();
        for (epoch, minibatches) in plan.iter().enumerate() {
            if epoch > 0 && self.has_gone_too_far(&trace, arrival) {
                break;
            }
            trace.epochs += 1;
            if epoch > 0 && self.config.recompute_targets == RecomputeTargets::Epoch {
                numbers = self.numbers_anew(material, arrival);
            }
            trace.log_probs.clear();
            trace.rows.clear();
            for pick in self.pick(material, &numbers, minibatches) {
                if self.stop.is_cancelled() {
                    return trace;
                }
                let minibatch = self.gather(material, arrival, &pick, Tracking::Gradients);
                trace.rows.extend_from_slice(&minibatch.rows);
                let (losses, log_probs) = self.step(minibatch, rates);
                trace.losses.push(losses);
                trace.log_probs.push(log_probs);
            }
        }
        trace
    }

    /// What the update did.
    fn metrics(
        &self,
        material: &Material<'_>,
        arrival: &OnHost,
        result: &ReadBack,
        rates: &Rates,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let batch = material.batch;
        let OnHost {
            evaluation,
            targets,
        } = arrival;
        let losses = &result.losses;
        let [policy_loss, value_loss, entropy, gradient_norm] = outcome::mean_losses(losses)?;
        let mut current = evaluation.log_probs.clone();
        for (&row, &log_prob) in result.rows.iter().zip(&result.log_probs) {
            current[row] = log_prob;
        }
        let samples = Samples {
            behaviour: &batch.behaviour_log_probs,
            proximal: &evaluation.log_probs,
            current: &current,
            advantages: &targets.advantages,
            values: evaluation.predictions(batch.steps()),
            targets: &targets.values,
            lags: &batch.lags,
            mask: Some(&material.learnable),
        };
        let surrogate = self.config.surrogate;
        let measured = Instant::now();
        let health = health(&samples, surrogate.clip_epsilon, self.config.vtrace.rho_bar)
            .ok_or(UpdateFault::EmptyBatch)?;
        Ok(UpdateMetrics {
            policy_loss,
            value_loss,
            entropy,
            gradient_norm,
            clip_fraction: outcome::clip_fraction(
                &surrogate,
                &health,
                &samples,
                evaluation.anchor(),
            ),
            epochs: result.epochs,
            approx_kl: health.kl.k3,
            kl: f64::NAN,
            trust_region: None,
            auxiliary: None,
            kl_coefficient: rates.penalty.unwrap_or(f64::NAN),
            ess_prox: health.ess_prox_over_behaviour,
            ess_behaviour: health.ess_behaviour,
            ratio_counts: health.ratio_counts,
            explained_variance: health.explained_variance.unwrap_or(f64::NAN),
            rho_saturation: health.rho_truncated_fraction,
            max_abs_log_ratio_lag0: health.max_abs_log_ratio_lag0.unwrap_or(f64::NAN),
            mean_abs_log_ratio_lag0: health.mean_abs_log_ratio_lag0.unwrap_or(f64::NAN),
            advantage_mean: targets.raw.mean,
            advantage_std: targets.raw.std,
            learning_rate: match self.config.trust_region {
                Some(_) => f64::NAN,
                None => rates.policy,
            },
            optimiser_steps: (losses.len() / outcome::LOSSES) as u64,
            per_lag: health.per_lag,
            measuring: measured.elapsed(),
        })
    }
}

/// `[P]`: 1 where only the value of `model` depends on the parameter, 0 elsewhere.
fn value_share(model: &ActorCritic, device: &Device) -> Tensor<1> {
    let mut share = vec![0.0_f32; model.num_params()];
    for place in places(model, &model.value_parameter_ids()) {
        share[place].fill(1.0);
    }
    let shape = [share.len()];
    Tensor::from_data(TensorData::new(share, shape), device)
}

#[cfg(test)]
#[path = "golden_step.rs"]
mod golden_step;

#[cfg(test)]
mod acceptance;

#[cfg(test)]
mod episodes;

#[cfg(test)]
mod garnet;

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;

#[cfg(test)]
mod retrace_updates;

#[cfg(test)]
mod scripted;

#[cfg(test)]
mod state_tests;
