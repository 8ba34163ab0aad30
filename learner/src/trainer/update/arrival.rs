//! What is known of a batch before the first optimiser step, where it was computed: on the processor by the host's loops, on
//! any other device by the device, so that nothing waits for an answer in the middle of an update.

use std::{borrow::Cow, cell::OnceCell};

use burn::tensor::Tensor;

use super::{
    Material, Targets, Updater,
    forward::{Evaluation, EvaluationTensors},
    staged::{Cut, read, upload_numbers},
    targets::TargetTensors,
};
use crate::algorithm::normalise::Moments;

/// What is known of a batch before the first optimiser step.
pub(super) enum Arrival {
    /// The host made the targets.
    Host(Box<OnHost>),
    /// The device did.
    Device(Box<OnDevice>),
}

/// The learner's opinion and what the losses aim at, on the host.
pub(super) struct OnHost {
    pub(super) evaluation: Evaluation,
    pub(super) targets: Targets,
}

/// The same on a device.
pub(super) struct OnDevice {
    evaluation: EvaluationTensors,
    targets: TargetTensors,
    /// log mu `[T * B]`.
    behaviour: Tensor<1>,
    /// As they are learnt from `[T * B]`.
    rewards: Tensor<1>,
    /// Weight of each step's policy gradient `[T * B]`, unless all are 1.
    weights: Option<Tensor<1>>,
    /// What was read back.
    host: OnceCell<OnHost>,
}

/// How many numbers each row brings to the losses.
pub(super) const NUMBERS: usize = 5;

/// What each row brings to the losses: log mu, log pi_prox, the advantage, what the critic predicted, its target.
pub(super) enum Numbers<'a> {
    Host(&'a Evaluation, Cow<'a, Targets>),
    Device(Box<DeviceNumbers>),
}

/// The same on a device.
pub(super) struct DeviceNumbers {
    /// [NUMBERS, T * B].
    pub(super) all: Tensor<2>,
    /// Weight of each step's policy gradient `[T * B]`, unless all are 1.
    pub(super) weights: Option<Tensor<1>>,
}

impl Arrival {
    /// What each row brings to the losses.
    pub(super) fn numbers(&self) -> Numbers<'_> {
        match self {
            Self::Host(own) => Numbers::Host(&own.evaluation, Cow::Borrowed(&own.targets)),
            Self::Device(own) => own.numbers(&own.targets),
        }
    }

    /// Parameters of the distributions [T * B, P], on the device, if a divergence from them is penalised.
    pub(super) fn parameters(&self) -> Option<&Tensor<2>> {
        match self {
            Self::Host(own) => own.evaluation.parameters.as_ref(),
            Self::Device(own) => own.evaluation.parameters.as_ref(),
        }
    }

    /// All of it on the host. The first call waits for the device, unless the end of the update brought it along.
    pub(super) fn on_host(&self) -> &OnHost {
        match self {
            Self::Host(own) => own,
            Self::Device(own) => own.host.get_or_init(|| {
                let numbers = read(Tensor::cat(own.lists().collect(), 0));
                own.on_host(&mut Cut::of(numbers))
            }),
        }
    }

    /// What the host does not have yet, for the read-back at the end of the update.
    pub(super) fn awaited(&self) -> Vec<Tensor<1>> {
        match self {
            Self::Device(own) if own.host.get().is_none() => own.lists().collect(),
            Self::Device(_) | Self::Host(_) => Vec::new(),
        }
    }

    /// Takes what it awaited out of what was read back.
    pub(super) fn arrived(&self, cut: &mut Cut) {
        if let Self::Device(own) = self {
            own.host.get_or_init(|| own.on_host(cut));
        }
    }
}

impl OnDevice {
    /// All lists that the host wants to know.
    fn lists(&self) -> impl Iterator<Item = Tensor<1>> {
        let Targets {
            values,
            advantages,
            raw,
        } = self.targets.clone();
        self.evaluation.lists().chain([values, advantages, raw])
    }

    fn on_host(&self, cut: &mut Cut) -> OnHost {
        OnHost {
            evaluation: self.evaluation.on_host(cut),
            targets: Targets {
                values: cut.list(&self.targets.values),
                advantages: cut.list(&self.targets.advantages),
                raw: match cut.list(&self.targets.raw)[..] {
                    [mean, std] => Moments {
                        mean: f64::from(mean),
                        std: f64::from(std),
                    },
                    _ => Moments::default(),
                },
            },
        }
    }

    /// What each row brings to the losses, with these targets and advantages.
    fn numbers<'a>(&self, targets: &TargetTensors) -> Numbers<'a> {
        let [steps] = self.behaviour.dims();
        let lists = vec![
            self.behaviour.clone(),
            self.evaluation.anchor().clone(),
            targets.advantages.clone(),
            self.evaluation.predictions(steps),
            targets.values.clone(),
        ];
        Numbers::Device(Box::new(DeviceNumbers {
            all: Tensor::cat(lists, 0).reshape([NUMBERS, steps]),
            weights: self.weights.clone(),
        }))
    }
}

impl Updater {
    /// The network's opinion of a batch, and what the losses aim at.
    pub(super) fn arrival(&self, material: &Material<'_>) -> Arrival {
        let Some(course) = &material.staged.course else {
            let evaluation = self.evaluate(&material.staged);
            let targets = self.targets(material, &evaluation);
            return Arrival::Host(Box::new(OnHost {
                evaluation,
                targets,
            }));
        };
        let (rewards, behaviour, weights) = self.upload_rows(material);
        let evaluation = self.evaluation_tensors(&material.staged);
        let targets = self.target_tensors(material, course, [&rewards, &behaviour], &evaluation);
        Arrival::Device(Box::new(OnDevice {
            evaluation,
            targets,
            behaviour,
            rewards,
            weights,
            host: OnceCell::new(),
        }))
    }

    /// What each row brings to the losses, with targets and advantages as the network sees them now.
    pub(super) fn numbers_anew<'a>(
        &self,
        material: &Material<'_>,
        arrival: &'a Arrival,
    ) -> Numbers<'a> {
        let staged = &material.staged;
        match (arrival, &staged.course) {
            (Arrival::Device(own), Some(course)) => {
                let known = [&own.rewards, &own.behaviour];
                let targets =
                    self.target_tensors(material, course, known, &self.evaluation_tensors(staged));
                own.numbers(&targets)
            }
            _ => {
                let targets = self.targets(material, &self.evaluate(staged));
                Numbers::Host(&arrival.on_host().evaluation, Cow::Owned(targets))
            }
        }
    }

    /// Rewards, log mu and, if there are any, the weights of the policy gradients, `[T * B]` each, in one upload.
    fn upload_rows(&self, material: &Material<'_>) -> (Tensor<1>, Tensor<1>, Option<Tensor<1>>) {
        let batch = material.batch;
        let lists = [
            &material.rewards,
            &batch.behaviour_log_probs,
            &batch.weights,
        ];
        let numbers = upload_numbers(lists.map(Vec::as_slice).concat(), &self.device);
        let list = |index: usize| {
            let steps = batch.steps();
            numbers.clone().narrow(0, index * steps, steps)
        };
        let weighted = !batch.weights.is_empty();
        (list(0), list(1), weighted.then(|| list(2)))
    }
}

#[cfg(test)]
mod tests;
