//! What the losses aim at: the critic's targets and the advantages, on the host.

use springbok_common::config::AdvantageNormalisation;

use super::{CriticKind, Material, Updater, forward::Evaluation};
use crate::algorithm::{
    normalise::{Moments, moments, normalise},
    retrace::retrace,
    returns::{Transitions, gae, n_step},
    vtrace::vtrace,
};

/// What the losses aim at; all [T, B].
#[derive(Clone)]
pub(super) struct Targets {
    /// Of what the critic predicts: the states' values, or those of the taken actions.
    pub(super) values: Vec<f32>,
    /// Normalised if that is done over the whole batch.
    pub(super) advantages: Vec<f32>,
    pub(super) raw: Moments,
}

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
}
