//! A minibatch in parts, whose gradients are computed at the same time.
//!
//! The tensor library runs most operations on the processor, those of convolutions above all, on one core. The mean loss of
//! a minibatch is the mean of its parts' losses by their rows, and so is its gradient; only the rounding differs. Each part
//! has a copy of the network, on the same numbers: parts that share a parameter would be one graph of gradients, and wait
//! for each other.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use springbok_common::{
    config::Config,
    policy::{self, ActionTensor},
    spec::NetworkSpec,
};

use super::{
    Rates, Updater,
    minibatch::{Input, Minibatch, Slope},
};
use crate::{
    algorithm::surrogate::{BehaviourLogProb, ProximalLogProb},
    device,
};

/// In how many parts the minibatches of a configuration are computed on `device`. A graphics processor takes the whole.
pub(super) fn parts(config: &Config, network: &NetworkSpec, device: &Device) -> usize {
    if device::is_processor(device) {
        config.gradient_parts(network, rayon::current_num_threads())
    } else {
        1
    }
}

impl Minibatch {
    /// At most `parts` of nearly equal size; whole columns stay together.
    pub(super) fn cut(self, parts: usize) -> Vec<Self> {
        let rows = self.rows.len();
        let parts = parts.min(rows);
        match &self.input {
            Input::Rows(observations) if parts > 1 => (0..parts)
                .map(|part| {
                    let [first, end] = [part, part + 1].map(|part| part * rows / parts);
                    self.part(observations, first, end - first)
                })
                .collect(),
            Input::Rows(_) | Input::Columns(..) => vec![self],
        }
    }

    /// The `count` rows from `first` on.
    fn part(&self, observations: &Tensor<2>, first: usize, count: usize) -> Self {
        let numbers = |tensor: &Tensor<1>| tensor.clone().narrow(0, first, count);
        Self {
            rows: self.rows[first..first + count].to_vec(),
            input: Input::Rows(observations.clone().narrow(0, first, count)),
            actions: match &self.actions {
                ActionTensor::Indices(actions) => {
                    ActionTensor::Indices(actions.clone().narrow(0, first, count))
                }
                ActionTensor::Values(actions) => {
                    ActionTensor::Values(actions.clone().narrow(0, first, count))
                }
            },
            mask: self
                .mask
                .as_ref()
                .map(|mask| mask.clone().narrow(0, first, count)),
            behaviour: BehaviourLogProb(numbers(&self.behaviour.0)),
            proximal: ProximalLogProb(numbers(&self.proximal.0)),
            proximal_parameters: self
                .proximal_parameters
                .as_ref()
                .map(|parameters| parameters.clone().narrow(0, first, count)),
            advantages: numbers(&self.advantages),
            arrival_values: numbers(&self.arrival_values),
            targets: numbers(&self.targets),
        }
    }
}

impl Updater {
    /// Losses and gradient of a minibatch, in as many parts as configured. The same parts give the same sum, whichever is
    /// ready first.
    pub(super) fn slope(&self, minibatch: Minibatch, rates: &Rates) -> Slope {
        let model = &self.learnt.model;
        let rows = minibatch.rows.len() as f64;
        let mut parts = minibatch.cut(self.parts);
        if parts.len() == 1 {
            let whole = parts.remove(0);
            return self.slope_of(model, whole, 1.0, rates);
        }
        let parameters = policy::flatten(model);
        let slope = |part: Minibatch| {
            let model = policy::unflatten(model.clone(), &parameters);
            let share = part.rows.len() as f64 / rows;
            self.slope_of(&model, part, share, rates)
        };
        let first = parts.remove(0);
        let (first, others) = rayon::join(
            || slope(first),
            || parts.into_par_iter().map(slope).collect::<Vec<_>>(),
        );
        others.into_iter().fold(first, Slope::plus)
    }
}

#[cfg(test)]
mod tests;
