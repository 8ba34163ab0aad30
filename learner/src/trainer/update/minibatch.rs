//! One optimiser step: its rows on the device, the losses, the gradients.

use burn::{
    optim::GradientsParams,
    tensor::{Bool, Device, Int, Tensor, TensorData},
};
use springbok_common::{
    arrays::{Actions, Elements},
    config::AdvantageNormalisation,
    policy::{self, ActionTensor, ActorCritic, Distribution, Sequence, Unrolled},
    spec::CoreSpec,
};

use super::{
    Evaluation, Material, Rates, Targets, Updater,
    forward::{of_actions, upload, upload_actions, upload_indices, upload_mask},
};
use crate::{
    algorithm::{
        adam::Adam,
        gradient::{clip_norm, flatten},
        normalise::normalise,
        surrogate::{BehaviourLogProb, CurrentLogProb, ProximalLogProb, kl_penalty, policy_loss},
        value_loss::value_loss,
    },
    trainer::batch::Batch,
};

/// The rows of one optimiser step. On the device, all but the input are constants `[N]`.
pub(super) struct Minibatch {
    /// The N rows t * B + b that are learnt from.
    pub(super) rows: Vec<usize>,
    pub(super) input: Input,
    actions: ActionTensor,
    pub(super) mask: Option<Tensor<2, Bool>>,
    behaviour: BehaviourLogProb,
    proximal: ProximalLogProb,
    /// Parameters of the proximal distributions [N, P], if a divergence from them is penalised.
    proximal_parameters: Option<Tensor<2>>,
    advantages: Tensor<1>,
    arrival_values: Tensor<1>,
    targets: Tensor<1>,
}

/// Whether gradients will be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    /// The tensors go into a graph of gradients.
    Gradients,
    /// They are for a network that tracks none.
    None,
}

impl Tracking {
    fn device(self, device: &Device) -> Device {
        match self {
            Self::Gradients => device.clone().autodiff(),
            Self::None => device.clone(),
        }
    }

    fn of<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gradients => tensor.autodiff(),
            Self::None => tensor,
        }
    }
}

/// What the policy's loss is made of.
pub(super) struct PolicyTerms {
    pub(super) distribution: Distribution,
    /// log pi of the taken actions `[N]`.
    pub(super) log_probs: Tensor<1>,
    /// Minus the surrogate, `[1]`.
    pub(super) loss: Tensor<1>,
    /// Mean entropy `[1]`.
    pub(super) entropy: Tensor<1>,
}

/// What the network is run over.
#[derive(Clone)]
pub(super) enum Input {
    /// Rows [N, O] that stand for themselves.
    Rows(Tensor<2>),
    /// Whole columns, and which of their rows are learnt from if not all are.
    Columns(Box<Sequence>, Option<Tensor<1, Int>>),
}

impl Input {
    /// What `model` says about the N rows that are learnt from.
    pub(super) fn run(self, model: &ActorCritic) -> Unrolled {
        match self {
            Self::Rows(observations) => model.outputs(observations),
            Self::Columns(sequence, selection) => {
                let unrolled = model.unroll(*sequence);
                match selection {
                    Some(rows) => unrolled.select(&rows),
                    None => unrolled,
                }
            }
        }
    }

    /// Parameters of the distributions [N, P] by `model` alone: without memory no value is computed.
    pub(super) fn policy(&self, model: &ActorCritic) -> Tensor<2> {
        match self {
            Self::Rows(observations) => model.act(observations.clone(), None).0,
            Self::Columns(..) => self.clone().run(model).parameters,
        }
    }
}

impl Updater {
    /// Copies the rows or columns `units` to the device; `None` if there is nothing to learn from them.
    pub(super) fn gather(
        &self,
        material: &Material<'_>,
        arrival: &Evaluation,
        targets: &Targets,
        units: &[usize],
        tracking: Tracking,
    ) -> Option<Minibatch> {
        let batch = material.batch;
        let device = tracking.device(&self.device);
        let (rows, input) = self.gather_input(material, units, tracking);
        if rows.is_empty() {
            return None;
        }
        let pick = |source: &[f32]| rows.iter().map(|&row| source[row]).collect::<Vec<_>>();
        let mut advantages = pick(&targets.advantages);
        if self.config.advantage_normalisation == AdvantageNormalisation::Minibatch {
            normalise(&mut advantages, None);
        }
        // The surrogate is proportional to its advantage, so this weighs the gradient of each step.
        if !batch.weights.is_empty() {
            for (advantage, weight) in advantages.iter_mut().zip(pick(&batch.weights)) {
                *advantage *= weight;
            }
        }
        // One upload for all that is one number per step.
        let columns = [
            pick(&batch.behaviour_log_probs),
            pick(arrival.anchor()),
            advantages,
            pick(arrival.predictions(batch.steps())),
            pick(&targets.values),
        ];
        let shape = [columns.len(), rows.len()];
        let packed = Tensor::<2>::from_data(TensorData::new(columns.concat(), shape), &device);
        let column = |index: usize| packed.clone().narrow(0, index, 1).reshape([rows.len()]);
        let actions = pick_actions(batch, &rows);
        let select = |parameters: &Tensor<2>| {
            let chosen = upload_indices(&rows, &self.device);
            tracking.of(parameters.clone().select(0, chosen))
        };
        Some(Minibatch {
            input,
            actions: upload_actions(actions.as_ref(), rows.len(), &device),
            mask: upload_mask(&pick_masks(batch, &rows), rows.len(), &device),
            behaviour: BehaviourLogProb(column(0)),
            proximal: ProximalLogProb(column(1)),
            proximal_parameters: arrival.parameters.as_ref().map(select),
            advantages: column(2),
            arrival_values: column(3),
            targets: column(4),
            rows,
        })
    }

    /// Which rows are learnt from, and what the network is run over for them.
    pub(super) fn gather_input(
        &self,
        material: &Material<'_>,
        units: &[usize],
        tracking: Tracking,
    ) -> (Vec<usize>, Input) {
        if self.network.core != CoreSpec::None {
            return self.gather_columns(material, units, tracking);
        }
        let observations = pick_observations(material.batch, units);
        let device = tracking.device(&self.device);
        let observations = upload(observations.as_ref(), units.len(), &device);
        (units.to_vec(), Input::Rows(observations))
    }

    /// Whole columns from their stored states, time-major; and which rows are learnt from.
    fn gather_columns(
        &self,
        material: &Material<'_>,
        columns: &[usize],
        tracking: Tracking,
    ) -> (Vec<usize>, Input) {
        let batch = material.batch;
        let device = tracking.device(&self.device);
        let row_of = |t: usize, column: usize| t * batch.columns + column;
        let all: Vec<usize> = (0..batch.t)
            .flat_map(|t| columns.iter().map(move |&column| row_of(t, column)))
            .collect();
        let learnt: Vec<usize> = (0..all.len())
            .filter(|&index| material.learnable[all[index]])
            .collect();
        let keep = batch.keep_memory();
        let keep: Vec<f32> = all.iter().map(|&row| keep[row]).collect();
        let len = self.network.state_len();
        let states: Vec<f32> = columns
            .iter()
            .flat_map(|&column| &batch.core_states[column * len..(column + 1) * len])
            .copied()
            .collect();
        let observations = pick_observations(batch, &all);
        let sequence = Sequence {
            observations: upload(observations.as_ref(), all.len(), &device),
            length: batch.t,
            state: Some(tracking.of(self.upload_states(&states, columns.len()))),
            keep: Some(Tensor::from_data(
                TensorData::new(keep, [batch.t, columns.len()]),
                &device,
            )),
            burn_in: self.config.burn_in,
        };
        let selection = (learnt.len() < all.len()).then(|| upload_indices(&learnt, &device));
        let rows = learnt.iter().map(|&index| all[index]).collect();
        (rows, Input::Columns(Box::new(sequence), selection))
    }

    /// The surrogate and the entropy of a minibatch, for distributions with these `parameters` [N, P].
    pub(super) fn policy_terms(&self, minibatch: &Minibatch, parameters: Tensor<2>) -> PolicyTerms {
        let distribution = Distribution::new(&self.actions, parameters, minibatch.mask.clone());
        let log_probs = distribution.log_prob(minibatch.actions.clone());
        let entropy = distribution.entropy().mean();
        let loss = policy_loss(
            &self.config.surrogate,
            CurrentLogProb(log_probs.clone()),
            minibatch.proximal.clone(),
            minibatch.behaviour.clone(),
            minibatch.advantages.clone(),
            None,
        );
        PolicyTerms {
            distribution,
            log_probs,
            loss,
            entropy,
        }
    }

    /// One optimiser step: policy loss with its penalty + value coefficient * value loss - entropy coefficient * entropy;
    /// with a trust region, of the critic alone.
    ///
    /// Returns [policy loss, value loss, entropy, gradient norm] and log pi of the taken actions before the step.
    pub(super) fn step(&mut self, minibatch: Minibatch, rates: &Rates) -> (Tensor<1>, Tensor<1>) {
        let outputs = minibatch.input.clone().run(&self.learnt.model);
        let values = match outputs.action_values {
            Some(values) => of_actions(values, minibatch.actions.clone()),
            None => outputs.values,
        };
        let terms = self.policy_terms(&minibatch, outputs.parameters);
        let (mut policy, entropy) = (terms.loss, terms.entropy);
        if let (Some(beta), Some(penalty), Some(proximal)) = (
            rates.penalty,
            self.config.penalty,
            minibatch.proximal_parameters,
        ) {
            let proximal = Distribution::new(&self.actions, proximal, minibatch.mask);
            let divergence = kl_penalty(penalty.direction, &terms.distribution, &proximal, None);
            policy = policy + divergence.mul_scalar(beta);
        }
        let learnt = &mut self.learnt;
        // With PopArt, errors count in units of the targets' deviation.
        let unit = learnt.statistics.value_unit();
        let in_units = |values: Tensor<1>| match unit {
            Some(unit) => values.mul_scalar(unit),
            None => values,
        };
        let value = value_loss(
            self.config.value_loss,
            in_units(values),
            in_units(minibatch.arrival_values),
            in_units(minibatch.targets),
            None,
        );
        let critic = value.clone().mul_scalar(self.config.value_coefficient);
        let loss = match self.config.trust_region {
            Some(_) => critic,
            None => policy.clone() + critic - entropy.clone().mul_scalar(rates.entropy),
        };
        let norm = descend(
            &mut learnt.model,
            &mut learnt.optimiser,
            loss,
            rates,
            self.config.gradient_norm_max,
        );
        let losses = [policy, value, entropy].map(Tensor::without_autodiff);
        (
            Tensor::cat(losses.into_iter().chain([norm]).collect(), 0),
            terms.log_probs.without_autodiff(),
        )
    }
}

/// Moves all parameters of `model` one step against the gradient of `loss` `[1]`, whose L2 norm is cut to `norm_max`; the
/// norm before, `[1]`, is the answer.
pub(super) fn descend(
    model: &mut ActorCritic,
    optimiser: &mut Adam,
    loss: Tensor<1>,
    rates: &Rates,
    norm_max: f64,
) -> Tensor<1> {
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let parameters = policy::flatten(model);
    let gradients = flatten(model, &gradients, |_| true);
    let gradients = gradients.unwrap_or_else(|| parameters.zeros_like());
    let (gradients, norm) = clip_norm(gradients, norm_max);
    let parameters = optimiser.step(parameters, gradients, &rates.each);
    *model = policy::unflatten(model.clone(), &parameters);
    norm
}

/// Observations [N, O] of some rows.
fn pick_observations(batch: &Batch, rows: &[usize]) -> Elements {
    let len = batch.observations.len() / batch.observation_rows().max(1);
    let mut picked = Elements::with_capacity(batch.observations.element(), rows.len() * len);
    for &row in rows {
        picked.extend(batch.observations.slice(row * len..(row + 1) * len));
    }
    picked
}

/// Actions [N, A] of some rows.
fn pick_actions(batch: &Batch, rows: &[usize]) -> Actions {
    let len = batch.actions.len() / batch.steps().max(1);
    let mut picked = Actions::default();
    for &row in rows {
        picked.extend(batch.actions.slice(row * len..(row + 1) * len));
    }
    picked
}

/// Masks [N, M] of some rows; empty if there are none.
pub(super) fn pick_masks(batch: &Batch, rows: &[usize]) -> Vec<u8> {
    let len = batch.action_masks.len() / batch.steps().max(1);
    rows.iter()
        .flat_map(|&row| &batch.action_masks[row * len..(row + 1) * len])
        .copied()
        .collect()
}
