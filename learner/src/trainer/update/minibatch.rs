//! One optimiser step: its rows on the device, the losses, the gradients.

use burn::{
    optim::GradientsParams,
    tensor::{Bool, Int, Tensor, kind::Autodiff},
};
use springbok_common::policy::{self, ActionTensor, ActorCritic, Distribution, Sequence, Unrolled};

use super::{
    Material, Rates, Updater,
    arrival::Arrival,
    forward::of_actions,
    pick::{Choice, Indices, Pick},
};
use crate::algorithm::{
    adam::Adam,
    gradient::{clip_norm, flatten},
    surrogate::{BehaviourLogProb, CurrentLogProb, ProximalLogProb, kl_penalty, policy_loss},
    value_loss::value_loss,
};

/// The rows of one optimiser step. On the device, all but the input are constants `[N]`.
pub(super) struct Minibatch {
    /// The N rows t * B + b that are learnt from.
    pub(super) rows: Vec<usize>,
    pub(super) input: Input,
    pub(super) actions: ActionTensor,
    pub(super) mask: Option<Tensor<2, Bool>>,
    pub(super) behaviour: BehaviourLogProb,
    pub(super) proximal: ProximalLogProb,
    /// Parameters of the proximal distributions [N, P], if a divergence from them is penalised.
    pub(super) proximal_parameters: Option<Tensor<2>>,
    pub(super) advantages: Tensor<1>,
    pub(super) arrival_values: Tensor<1>,
    pub(super) targets: Tensor<1>,
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
    pub(super) fn of<const D: usize, K: Autodiff>(self, tensor: Tensor<D, K>) -> Tensor<D, K> {
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
    /// The minibatch of a pick, on the device.
    pub(super) fn gather(
        &self,
        material: &Material<'_>,
        arrival: &Arrival,
        pick: &Pick,
        tracking: Tracking,
    ) -> Minibatch {
        let (staged, indices) = (&material.staged, &pick.indices);
        let rows = pick.choice.rows.len();
        let number = |index: usize| {
            let own = pick.numbers.clone().narrow(0, index * rows, rows);
            tracking.of(own)
        };
        let index = || indices.rows.clone();
        let of_parameters = |all: &Tensor<2>| tracking.of(all.clone().select(0, index()));
        Minibatch {
            rows: pick.choice.rows.clone(),
            input: self.input(material, &pick.choice, indices, tracking),
            actions: match staged.picked_actions(index()) {
                ActionTensor::Indices(actions) => ActionTensor::Indices(tracking.of(actions)),
                ActionTensor::Values(actions) => ActionTensor::Values(tracking.of(actions)),
            },
            mask: staged.picked_mask(index()).map(|mask| tracking.of(mask)),
            behaviour: BehaviourLogProb(number(0)),
            proximal: ProximalLogProb(number(1)),
            proximal_parameters: arrival.parameters().map(of_parameters),
            advantages: number(2),
            arrival_values: number(3),
            targets: number(4),
        }
    }

    /// What the network is run over: rows that stand for themselves, or whole columns from their stored states.
    pub(super) fn input(
        &self,
        material: &Material<'_>,
        choice: &Choice,
        indices: &Indices,
        tracking: Tracking,
    ) -> Input {
        let staged = &material.staged;
        let (Some(memory), Some(chosen), Some(sequence)) =
            (&staged.memory, &choice.sequence, &indices.sequence)
        else {
            return Input::Rows(tracking.of(staged.picked_observations(indices.rows.clone())));
        };
        let (length, columns) = (staged.extent.t, chosen.columns.len());
        let steps = || sequence.steps.clone();
        let state = memory.states.clone().select(0, sequence.columns.clone());
        let keep = memory.keep.clone().select(0, steps());
        let own = Sequence {
            observations: tracking.of(staged.picked_observations(steps())),
            length,
            state: Some(tracking.of(state)),
            keep: Some(tracking.of(keep.reshape([length, columns]))),
            burn_in: self.config.burn_in,
        };
        let selection = sequence.selection.clone().map(|rows| tracking.of(rows));
        Input::Columns(Box::new(own), selection)
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

    /// One optimiser step. Returns [policy loss, value loss, entropy, gradient norm] and log pi of the taken actions before
    /// the step.
    pub(super) fn step(&mut self, minibatch: Minibatch, rates: &Rates) -> (Tensor<1>, Tensor<1>) {
        let slope = self.slope(minibatch, rates);
        let learnt = &mut self.learnt;
        let norm = descend(
            &mut learnt.model,
            &mut learnt.optimiser,
            slope.gradients,
            rates,
            self.config.gradient_norm_max,
        );
        (Tensor::cat(vec![slope.losses, norm], 0), slope.log_probs)
    }

    /// Losses and gradient by `model` of a minibatch, or of a part with this `share` of its rows: policy loss with its
    /// penalty + value coefficient * value loss - entropy coefficient * entropy; with a trust region, of the critic alone.
    pub(super) fn slope_of(
        &self,
        model: &ActorCritic,
        minibatch: Minibatch,
        share: f64,
        rates: &Rates,
    ) -> Slope {
        let outputs = minibatch.input.clone().run(model);
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
        // With PopArt, errors count in units of the targets' deviation.
        let unit = self.learnt.statistics.value_unit();
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
        let losses = [policy, value, entropy].map(Tensor::without_autodiff);
        let slope = Slope {
            gradients: gradients(model, loss),
            losses: Tensor::cat(losses.into(), 0),
            log_probs: terms.log_probs.without_autodiff(),
        };
        slope.scaled(share)
    }
}

/// Where a minibatch goes, and what is known of it there.
pub(super) struct Slope {
    /// Of the loss by all parameters `[P]`.
    pub(super) gradients: Tensor<1>,
    /// [policy loss, value loss, entropy].
    pub(super) losses: Tensor<1>,
    /// log pi of the taken actions `[N]`.
    pub(super) log_probs: Tensor<1>,
}

impl Slope {
    /// Its share in a sum.
    fn scaled(self, share: f64) -> Self {
        if share >= 1.0 {
            return self;
        }
        Self {
            gradients: self.gradients.mul_scalar(share),
            losses: self.losses.mul_scalar(share),
            log_probs: self.log_probs,
        }
    }

    /// That of one part, and then that of the next.
    pub(super) fn plus(self, next: Self) -> Self {
        Self {
            gradients: self.gradients + next.gradients,
            losses: self.losses + next.losses,
            log_probs: Tensor::cat(vec![self.log_probs, next.log_probs], 0),
        }
    }
}

/// The gradient of `loss` `[1]` by all parameters of `model` `[P]`.
pub(super) fn gradients(model: &ActorCritic, loss: Tensor<1>) -> Tensor<1> {
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let gradients = flatten(model, &gradients, |_| true);
    gradients.unwrap_or_else(|| policy::flatten(model).zeros_like())
}

/// Moves all parameters of `model` one step against `gradients` `[P]`, whose L2 norm is cut to `norm_max`; the norm before,
/// `[1]`, is the answer.
pub(super) fn descend(
    model: &mut ActorCritic,
    optimiser: &mut Adam,
    gradients: Tensor<1>,
    rates: &Rates,
    norm_max: f64,
) -> Tensor<1> {
    let (gradients, norm) = clip_norm(gradients, norm_max);
    let parameters = optimiser.step(policy::flatten(model), gradients, &rates.each);
    *model = policy::unflatten(model.clone(), &parameters);
    norm
}
