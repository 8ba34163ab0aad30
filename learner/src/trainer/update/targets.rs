//! What the losses aim at: the critic's targets and the advantages, on the host and on a device.

use burn::tensor::Tensor;
use springbok_common::config::AdvantageNormalisation;

use super::{
    CriticKind, Material, Updater,
    forward::{Evaluation, EvaluationTensors},
    staged::StagedCourse,
};
use crate::algorithm::{
    normalise::{Moments, moments, normalise},
    on_device::{self, DeviceTargets, DeviceTransitions, Valid},
    retrace::retrace,
    returns::{Transitions, gae, n_step},
    vtrace::vtrace,
};

/// What the losses aim at, in lists `A` [T, B].
#[derive(Clone)]
pub(super) struct Targets<A = Vec<f32>, M = Moments> {
    /// Of what the critic predicts: the states' values, or those of the taken actions.
    pub(super) values: A,
    /// Normalised if that is done over the whole batch.
    pub(super) advantages: A,
    /// Of the raw advantages.
    pub(super) raw: M,
}

/// The same where it was computed; the moments are [mean, deviation] `[2]`.
pub(super) type TargetTensors = Targets<Tensor<1>, Tensor<1>>;

impl Updater {
    /// Targets and advantages with the values of `evaluation`; where they are corrected for lag, pi is the policy that the
    /// loss takes for the proximal one.
    pub(super) fn targets(&self, material: &Material<'_>, evaluation: &Evaluation) -> Targets {
        let batch = material.batch;
        let transitions = Transitions {
            rewards: &material.rewards,
            values: &evaluation.values[..batch.steps()],
            next_values: &batch.next_values(&evaluation.values),
            outcomes: &batch.outcomes,
            columns: batch.columns,
        };
        let constants = &self.config.vtrace;
        let log_rhos = || -> Vec<f32> {
            let learner = evaluation.anchor().iter();
            let pairs = learner.zip(&batch.behaviour_log_probs);
            pairs
                .map(|(learner, behaviour)| learner - behaviour)
                .collect()
        };
        let (values, advantages) = match self.config.critic {
            CriticKind::Vtrace => {
                let result = vtrace(&transitions, &log_rhos(), constants);
                (result.targets, result.advantages)
            }
            CriticKind::Retrace => {
                let predictions = evaluation.predictions(batch.steps());
                let (gamma, lambda) = (constants.gamma, constants.lambda);
                let result = retrace(&transitions, predictions, &log_rhos(), gamma, lambda);
                (result.targets, result.advantages)
            }
            CriticKind::Gae => {
                let result = gae(&transitions, constants.gamma, constants.lambda);
                (result.returns, result.advantages)
            }
            CriticKind::NStep(n) => {
                let result = n_step(&transitions, constants.gamma, n);
                (result.targets, result.advantages)
            }
        };
        self.aim(material, values, advantages)
    }

    /// Targets and raw advantages, normalised where that is done over the whole batch.
    fn aim(&self, material: &Material<'_>, values: Vec<f32>, mut advantages: Vec<f32>) -> Targets {
        let learnable = Some(material.learnable.as_slice());
        let raw = match self.config.advantage_normalisation {
            AdvantageNormalisation::Batch => normalise(&mut advantages, learnable),
            AdvantageNormalisation::Minibatch | AdvantageNormalisation::None => {
                moments(&advantages, learnable)
            }
        };
        Targets {
            values,
            advantages,
            raw,
        }
    }

    /// The same on the device, of which nothing is asked back; `rewards` and `behaviour`, log mu, are `[T * B]`.
    pub(super) fn target_tensors(
        &self,
        material: &Material<'_>,
        course: &StagedCourse,
        [rewards, behaviour]: [&Tensor<1>; 2],
        evaluation: &EvaluationTensors,
    ) -> TargetTensors {
        let batch = material.batch;
        let (steps, shape) = (batch.steps(), [batch.t, batch.columns]);
        let of_steps = |list: Tensor<1>| list.reshape(shape);
        let transitions = DeviceTransitions {
            rewards: of_steps(rewards.clone()),
            values: of_steps(evaluation.values.clone().narrow(0, 0, steps)),
            next_values: of_steps(evaluation.values.clone().select(0, course.reached.clone())),
            is_final: course.is_final.clone(),
            is_cut: course.is_cut.clone(),
        };
        let constants = &self.config.vtrace;
        let (gamma, lambda) = (constants.gamma, constants.lambda);
        let log_rhos = || of_steps(evaluation.anchor().clone() - behaviour.clone());
        let DeviceTargets {
            targets,
            advantages,
        } = match self.config.critic {
            CriticKind::Vtrace => on_device::vtrace(&transitions, log_rhos(), constants),
            CriticKind::Retrace => {
                let predictions = of_steps(evaluation.predictions(steps));
                on_device::retrace(&transitions, predictions, log_rhos(), gamma, lambda)
            }
            CriticKind::Gae => on_device::gae(&transitions, gamma, lambda),
            CriticKind::NStep(n) => on_device::n_step(&transitions, gamma, n),
        };
        let advantages = advantages.reshape([steps]);
        let (normalised, raw) =
            on_device::normalise(advantages.clone(), Some(&material.valid(course)));
        Targets {
            values: targets.reshape([steps]),
            advantages: match self.config.advantage_normalisation {
                AdvantageNormalisation::Batch => normalised,
                AdvantageNormalisation::Minibatch | AdvantageNormalisation::None => advantages,
            },
            raw,
        }
    }
}

impl Material<'_> {
    /// The rows that there is something to learn from, which are some.
    fn valid(&self, course: &StagedCourse) -> Valid {
        let learnable = || self.learnable.iter();
        Valid {
            flags: course.learnable.clone(),
            count: learnable().filter(|own| **own).count().max(1),
            first: learnable().position(|own| *own).unwrap_or_default(),
        }
    }
}
