//! One update: a batch of experience in, one policy version out.

mod outcome;
mod settings;

use std::borrow::Cow;

use burn::{
    module::{Module, ParamId},
    optim::{AdamConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Int, Tensor, TensorData},
};
use bytes::Bytes;
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;
use springbok_common::{
    config::{AdvantageNormalisation, Config, RecomputeTargets},
    policy::{
        ActorCritic, ParametersError, categorical, export_flat, import_flat, write_safetensors,
    },
    spec::NetworkSpec,
    unroll::Agreement,
};

pub use outcome::{UpdateFault, UpdateMetrics};
pub use settings::UpdateConfig;

use super::batch::Batch;
use crate::algorithm::{
    gradient::{clip_global_norm, split_off},
    health::{Samples, health},
    normalise::{Moments, moments, normalise},
    returns::Transitions,
    surrogate::{BehaviourLogProb, CurrentLogProb, ProximalLogProb, policy_loss},
    value_loss::value_loss,
    vtrace::vtrace,
};

/// Keeps the shuffling of minibatches apart from the initial parameters, which come from the same seed.
const SHUFFLE_SEED: u64 = 0x5348_5546_464c_4521;

/// The learner's network, its optimisers and the code that moves them.
pub struct Updater {
    config: UpdateConfig,
    network: NetworkSpec,
    device: Device,
    learnt: Learnt,
    value_parameters: Vec<ParamId>,
    rng: Pcg64,
    parameters: Bytes,
}

/// All that an update changes; a clone shares the tensors, so that keeping one costs nothing.
#[derive(Clone)]
struct Learnt {
    model: ActorCritic,
    policy_optimiser: ModuleOptimizer,
    value_optimiser: ModuleOptimizer,
}

/// Epochs of minibatches of flat step indices t * B + b, in the order of use.
type Plan = Vec<Vec<Vec<usize>>>;

/// The learner's opinion of a batch: log pi of the taken actions [T, B] and V of all observation rows.
struct Evaluation {
    log_probs: Vec<f32>,
    values: Vec<f32>,
}

/// What the losses aim at; all [T, B].
#[derive(Clone)]
struct Targets {
    values: Vec<f32>,
    /// Normalised if that is done over the whole batch.
    advantages: Vec<f32>,
    raw: Moments,
}

/// Step sizes and weights of this update.
#[derive(Clone, Copy)]
struct Rates {
    policy: f64,
    value: f64,
    entropy: f64,
}

/// What the optimiser steps left on the device.
struct Trace {
    /// Policy loss, value loss, entropy and gradient norm of each step, `[4]` each.
    losses: Vec<Tensor<1>>,
    /// log pi of the minibatches of the last epoch.
    log_probs: Vec<Tensor<1>>,
}

impl Updater {
    /// An updater whose network and shuffling come from the configured seed.
    #[must_use]
    pub fn new(config: &Config, agreement: &Agreement, device: Device) -> Self {
        let settings = UpdateConfig::from(&config.algorithm);
        Self::with_settings(settings, &agreement.network, config.run.seed, device)
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
        let adam = AdamConfig::new().with_epsilon(config.adam_epsilon as f32);
        Self {
            value_parameters: model.value_parameter_ids(),
            parameters: export_flat(&model),
            learnt: Learnt {
                model,
                policy_optimiser: adam.init(),
                value_optimiser: adam.init(),
            },
            rng: Pcg64::seed_from_u64(seed ^ SHUFFLE_SEED),
            network: network.clone(),
            device,
            config,
        }
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

    /// Replaces the parameters; the optimisers keep their moments.
    ///
    /// # Errors
    /// [`ParametersError::Length`] if `flat` is for another network.
    pub fn load_parameters(&mut self, flat: &[u8]) -> Result<(), ParametersError> {
        self.learnt.model = import_flat(self.learnt.model.clone(), flat)?;
        self.parameters = Bytes::copy_from_slice(flat);
        Ok(())
    }

    /// Trains on `batch`: epochs of shuffled minibatches towards V-trace targets. `progress_remaining`, in [0, 1], is
    /// the share of the run that is still to come.
    ///
    /// # Errors
    /// [`UpdateFault`] if nothing was changed.
    pub fn update(
        &mut self,
        batch: &Batch,
        progress_remaining: f64,
    ) -> Result<UpdateMetrics, UpdateFault> {
        if batch.steps() == 0 {
            return Err(UpdateFault::EmptyBatch);
        }
        let plan = self.plan(batch.steps());
        let arrival = self.evaluate(batch);
        let targets = self.targets(batch, &arrival);
        self.train(batch, &arrival, &targets, &plan, progress_remaining)
    }

    /// Shuffles the steps anew for each epoch and cuts them into minibatches of nearly equal size.
    fn plan(&mut self, steps: usize) -> Plan {
        let mut indices: Vec<usize> = (0..steps).collect();
        let size = steps.div_ceil(self.config.minibatches.max(1)).max(1);
        (0..self.config.epochs.max(1))
            .map(|_| {
                indices.shuffle(&mut self.rng);
                indices.chunks(size).map(<[usize]>::to_vec).collect()
            })
            .collect()
    }

    /// One forward pass without gradients over all observation rows, and one read-back.
    fn evaluate(&self, batch: &Batch) -> Evaluation {
        let (steps, rows) = (batch.steps(), batch.observation_rows());
        let shape = [rows, self.network.observation_len];
        let observations = Tensor::<2>::from_data(
            TensorData::new(batch.observations.clone(), shape),
            &self.device,
        );
        let actions = Tensor::<1, Int>::from_data(
            TensorData::new(batch.actions.clone(), [steps]),
            &self.device,
        );
        let (logits, values) = self.learnt.model.valid().forward(observations);
        let all = categorical::log_probs(logits.narrow(0, 0, steps), None);
        let taken = categorical::of_actions(all, actions);
        let mut log_probs = read(Tensor::cat(vec![taken, values], 0));
        let values = log_probs.split_off(steps.min(log_probs.len()));
        Evaluation { log_probs, values }
    }

    /// V-trace (Espeholt et al. 2018, eq. 1) on the host, with pi the policy that made `evaluation`.
    fn targets(&self, batch: &Batch, evaluation: &Evaluation) -> Targets {
        let scale = self.config.reward_scale as f32;
        let rewards: Vec<f32> = batch.rewards.iter().map(|reward| reward * scale).collect();
        let log_rhos: Vec<f32> = evaluation
            .log_probs
            .iter()
            .zip(&batch.behaviour_log_probs)
            .map(|(learner, behaviour)| learner - behaviour)
            .collect();
        let transitions = Transitions {
            rewards: &rewards,
            values: &evaluation.values[..batch.steps()],
            next_values: &batch.next_values(&evaluation.values),
            outcomes: &batch.outcomes,
            columns: batch.columns,
        };
        let result = vtrace(&transitions, &log_rhos, &self.config.vtrace);
        self.aim(result.targets, result.advantages)
    }

    /// Targets and raw advantages, normalised where that is done over the whole batch.
    fn aim(&self, values: Vec<f32>, mut advantages: Vec<f32>) -> Targets {
        let raw = match self.config.advantage_normalisation {
            AdvantageNormalisation::Batch => normalise(&mut advantages, None),
            AdvantageNormalisation::Minibatch | AdvantageNormalisation::None => {
                moments(&advantages, None)
            }
        };
        Targets {
            values,
            advantages,
            raw,
        }
    }

    /// Runs the plan and keeps its result only if all numbers are finite.
    fn train(
        &mut self,
        batch: &Batch,
        arrival: &Evaluation,
        targets: &Targets,
        plan: &Plan,
        progress_remaining: f64,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let rates = Rates {
            policy: self.config.policy_learning_rate.at(progress_remaining),
            value: self.config.value_learning_rate.at(progress_remaining),
            entropy: self.config.entropy_coefficient.at(progress_remaining),
        };
        let before = self.learnt.clone();
        let trace = self.optimise(batch, arrival, targets, plan, rates);
        let parameters = export_flat(&self.learnt.model);
        let metrics = self.metrics(batch, arrival, targets, plan, trace, rates);
        let result = metrics.and_then(|metrics| {
            let (words, _) = parameters.as_chunks::<4>();
            let finite = words
                .iter()
                .all(|word| f32::from_le_bytes(*word).is_finite());
            finite.then_some(metrics).ok_or(UpdateFault::NonFinite {
                what: "a parameter",
            })
        });
        match result {
            Ok(_) => self.parameters = parameters,
            Err(_) => self.learnt = before,
        }
        result
    }

    /// The optimiser steps. Nothing is read back from the device unless targets are recomputed.
    fn optimise(
        &mut self,
        batch: &Batch,
        arrival: &Evaluation,
        targets: &Targets,
        plan: &Plan,
        rates: Rates,
    ) -> Trace {
        let mut trace = Trace {
            losses: Vec::new(),
            log_probs: Vec::new(),
        };
        let mut targets = Cow::Borrowed(targets);
        for (epoch, minibatches) in plan.iter().enumerate() {
            if epoch > 0 && self.config.recompute_targets == RecomputeTargets::Epoch {
                targets = Cow::Owned(self.targets(batch, &self.evaluate(batch)));
            }
            trace.log_probs.clear();
            for indices in minibatches {
                let minibatch = self.gather(batch, arrival, &targets, indices);
                let (losses, log_probs) = self.step(minibatch, rates);
                trace.losses.push(losses);
                trace.log_probs.push(log_probs);
            }
        }
        trace
    }

    /// Copies the steps `indices` to the device.
    fn gather(
        &self,
        batch: &Batch,
        arrival: &Evaluation,
        targets: &Targets,
        indices: &[usize],
    ) -> Minibatch {
        let width = self.network.observation_len;
        let mut observations = Vec::with_capacity(indices.len() * width);
        for &step in indices {
            observations.extend_from_slice(&batch.observations[step * width..(step + 1) * width]);
        }
        let pick = |source: &[f32]| indices.iter().map(|&step| source[step]).collect::<Vec<_>>();
        let mut advantages = pick(&targets.advantages);
        if self.config.advantage_normalisation == AdvantageNormalisation::Minibatch {
            normalise(&mut advantages, None);
        }
        let device = self.device.clone().autodiff();
        // One upload for all that is one number per step.
        let columns = [
            pick(&batch.behaviour_log_probs),
            pick(&arrival.log_probs),
            advantages,
            pick(&arrival.values),
            pick(&targets.values),
        ];
        let shape = [columns.len(), indices.len()];
        let packed = Tensor::<2>::from_data(TensorData::new(columns.concat(), shape), &device);
        let column = |row: usize| packed.clone().narrow(0, row, 1).reshape([indices.len()]);
        let actions: Vec<i32> = indices.iter().map(|&step| batch.actions[step]).collect();
        Minibatch {
            observations: Tensor::from_data(
                TensorData::new(observations, [indices.len(), width]),
                &device,
            ),
            actions: Tensor::from_data(TensorData::new(actions, [indices.len()]), &device),
            behaviour: BehaviourLogProb(column(0)),
            proximal: ProximalLogProb(column(1)),
            advantages: column(2),
            arrival_values: column(3),
            targets: column(4),
        }
    }

    /// One optimiser step: policy loss + value coefficient * value loss - entropy coefficient * entropy.
    ///
    /// Returns [policy loss, value loss, entropy, gradient norm] and log pi of the taken actions before the step.
    fn step(&mut self, minibatch: Minibatch, rates: Rates) -> (Tensor<1>, Tensor<1>) {
        let learnt = &mut self.learnt;
        let (logits, values) = learnt.model.forward(minibatch.observations);
        let all = categorical::log_probs(logits, None);
        let current = categorical::of_actions(all.clone(), minibatch.actions);
        let entropy = categorical::entropy(all).mean();
        let policy = policy_loss(
            &self.config.surrogate,
            CurrentLogProb(current.clone()),
            minibatch.proximal,
            minibatch.behaviour,
            minibatch.advantages,
            None,
        );
        let value = value_loss(
            self.config.value_loss,
            values,
            minibatch.arrival_values,
            minibatch.targets,
            None,
        );
        let loss = policy.clone() + value.clone().mul_scalar(self.config.value_coefficient)
            - entropy.clone().mul_scalar(rates.entropy);
        let mut gradients = GradientsParams::from_grads(loss.backward(), &learnt.model);
        let norm = clip_global_norm(&learnt.model, &mut gradients, self.config.gradient_norm_max)
            .unwrap_or_else(|| Tensor::zeros([1], &self.device));
        let of_value = split_off(&learnt.model, &mut gradients, &self.value_parameters);
        let model = learnt
            .policy_optimiser
            .step(rates.policy, learnt.model.clone(), gradients);
        learnt.model = learnt.value_optimiser.step(rates.value, model, of_value);
        let losses = [policy, value, entropy].map(Tensor::without_autodiff);
        (
            Tensor::cat(losses.into_iter().chain([norm]).collect(), 0),
            current.without_autodiff(),
        )
    }

    /// Reads the trace back, once, and says what the update did.
    fn metrics(
        &self,
        batch: &Batch,
        arrival: &Evaluation,
        targets: &Targets,
        plan: &Plan,
        trace: Trace,
        rates: Rates,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let count = trace.losses.len();
        let mut losses = read(Tensor::cat(
            trace.losses.into_iter().chain(trace.log_probs).collect(),
            0,
        ));
        let log_probs = losses.split_off(4 * count);
        let [policy_loss, value_loss, entropy, gradient_norm] = outcome::mean_losses(&losses)?;
        let mut current = arrival.log_probs.clone();
        let last_epoch = plan.last().into_iter().flatten().flatten();
        for (&step, log_prob) in last_epoch.zip(log_probs) {
            current[step] = log_prob;
        }
        let samples = Samples {
            behaviour: &batch.behaviour_log_probs,
            proximal: &arrival.log_probs,
            current: &current,
            advantages: &targets.advantages,
            values: &arrival.values[..batch.steps()],
            targets: &targets.values,
            lags: &batch.lags,
            mask: None,
        };
        let surrogate = self.config.surrogate;
        let health = health(&samples, surrogate.clip_epsilon, self.config.vtrace.rho_bar)
            .ok_or(UpdateFault::EmptyBatch)?;
        Ok(UpdateMetrics {
            policy_loss,
            value_loss,
            entropy,
            gradient_norm,
            clip_fraction: outcome::clip_fraction(surrogate.kind, &health),
            approx_kl: health.kl.k3,
            ess_prox: health.ess_prox_over_behaviour,
            ess_behaviour: health.ess_behaviour,
            explained_variance: health.explained_variance.unwrap_or(f64::NAN),
            rho_saturation: health.rho_truncated_fraction,
            max_abs_log_ratio_lag0: health.max_abs_log_ratio_lag0.unwrap_or(f64::NAN),
            advantage_mean: targets.raw.mean,
            advantage_std: targets.raw.std,
            learning_rate: rates.policy,
            per_lag: health.per_lag,
        })
    }
}

/// The steps of one optimiser step on the device; all but the observations are constants `[N]`.
struct Minibatch {
    observations: Tensor<2>,
    actions: Tensor<1, Int>,
    behaviour: BehaviourLogProb,
    proximal: ProximalLogProb,
    advantages: Tensor<1>,
    arrival_values: Tensor<1>,
    targets: Tensor<1>,
}

/// The values of a tensor on the host; NaN where they cannot be had, so that the update is undone.
fn read(tensor: Tensor<1>) -> Vec<f32> {
    let length = tensor.shape().num_elements();
    tensor
        .into_data()
        .try_into_vec()
        .unwrap_or_else(|_| vec![f32::NAN; length])
}

#[cfg(test)]
#[path = "golden_step.rs"]
mod golden_step;

#[cfg(test)]
mod acceptance;
