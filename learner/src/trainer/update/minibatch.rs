//! One optimiser step: its rows on the device, the losses, the gradients.

use burn::{
    optim::GradientsParams,
    tensor::{Bool, Int, Tensor, TensorData},
};
use springbok_common::{
    arrays::{Actions, Elements},
    config::AdvantageNormalisation,
    policy::{ActionTensor, ActorCritic, Distribution, Sequence, Unrolled},
    spec::CoreSpec,
};

use super::{
    Evaluation, Material, Rates, Targets, Updater,
    forward::{of_actions, upload, upload_actions, upload_indices, upload_mask},
};
use crate::{
    algorithm::{
        gradient::{clip_global_norm, split_off},
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
    input: Input,
    actions: ActionTensor,
    mask: Option<Tensor<2, Bool>>,
    behaviour: BehaviourLogProb,
    proximal: ProximalLogProb,
    /// Parameters of the proximal distributions [N, P], if a divergence from them is penalised.
    proximal_parameters: Option<Tensor<2>>,
    advantages: Tensor<1>,
    arrival_values: Tensor<1>,
    targets: Tensor<1>,
}

/// What the network is run over.
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
}

impl Updater {
    /// Copies the rows or columns `units` to the device; `None` if there is nothing to learn from them.
    pub(super) fn gather(
        &self,
        material: &Material<'_>,
        arrival: &Evaluation,
        targets: &Targets,
        units: &[usize],
    ) -> Option<Minibatch> {
        let batch = material.batch;
        let device = self.device.clone().autodiff();
        let (rows, input) = if self.network.core == CoreSpec::None {
            let observations = pick_observations(batch, units);
            let observations = upload(observations.as_ref(), units.len(), &device);
            (units.to_vec(), Input::Rows(observations))
        } else {
            self.gather_columns(material, units)
        };
        if rows.is_empty() {
            return None;
        }
        let pick = |source: &[f32]| rows.iter().map(|&row| source[row]).collect::<Vec<_>>();
        let mut advantages = pick(&targets.advantages);
        if self.config.advantage_normalisation == AdvantageNormalisation::Minibatch {
            normalise(&mut advantages, None);
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
            parameters.clone().select(0, chosen).autodiff()
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

    /// Whole columns from their stored states, time-major; and which rows are learnt from.
    fn gather_columns(&self, material: &Material<'_>, columns: &[usize]) -> (Vec<usize>, Input) {
        let batch = material.batch;
        let device = self.device.clone().autodiff();
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
            state: Some(self.upload_states(&states, columns.len()).autodiff()),
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

    /// One optimiser step: policy loss with its penalty + value coefficient * value loss - entropy coefficient * entropy.
    ///
    /// Returns [policy loss, value loss, entropy, gradient norm] and log pi of the taken actions before the step.
    pub(super) fn step(&mut self, minibatch: Minibatch, rates: Rates) -> (Tensor<1>, Tensor<1>) {
        let learnt = &mut self.learnt;
        let outputs = minibatch.input.run(&learnt.model);
        let values = match outputs.action_values {
            Some(values) => of_actions(values, minibatch.actions.clone()),
            None => outputs.values,
        };
        let proximal_distribution = minibatch
            .proximal_parameters
            .map(|parameters| Distribution::new(&self.actions, parameters, minibatch.mask.clone()));
        let distribution = Distribution::new(&self.actions, outputs.parameters, minibatch.mask);
        let current = distribution.log_prob(minibatch.actions);
        let entropy = distribution.entropy().mean();
        let mut policy = policy_loss(
            &self.config.surrogate,
            CurrentLogProb(current.clone()),
            minibatch.proximal,
            minibatch.behaviour,
            minibatch.advantages,
            None,
        );
        if let (Some(beta), Some(penalty), Some(proximal)) =
            (rates.penalty, self.config.penalty, proximal_distribution)
        {
            let divergence = kl_penalty(penalty.direction, &distribution, &proximal, None);
            policy = policy + divergence.mul_scalar(beta);
        }
        // With PopArt, errors count in units of the targets' deviation.
        let unit = learnt.statistics.value_unit();
        let value = value_loss(
            self.config.value_loss,
            values.mul_scalar(unit),
            minibatch.arrival_values.mul_scalar(unit),
            minibatch.targets.mul_scalar(unit),
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
fn pick_masks(batch: &Batch, rows: &[usize]) -> Vec<u8> {
    let len = batch.action_masks.len() / batch.steps().max(1);
    rows.iter()
        .flat_map(|&row| &batch.action_masks[row * len..(row + 1) * len])
        .copied()
        .collect()
}
