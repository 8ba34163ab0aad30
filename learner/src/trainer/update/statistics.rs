//! Running statistics that an update keeps beside the parameters: of observations, rewards and values.

use serde::{Deserialize, Serialize};
use springbok_common::spec::NetworkSpec;

use super::{Arrival, Material, UpdateConfig, Updater};
use crate::{
    algorithm::{
        popart::PopArt,
        running::{ReturnDeviation, RunningMoments},
    },
    trainer::batch::Batch,
};

/// How fast PopArt's statistics follow the targets: the share of one update (Hessel et al. 2018, arXiv 1809.04474).
const POPART_STEP_SIZE: f64 = 3e-4;

/// What of it is switched on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Statistics {
    observations: Option<RunningMoments>,
    rewards: Option<ReturnDeviation>,
    values: Option<PopArt>,
}

impl Statistics {
    pub(super) fn new(config: &UpdateConfig, network: &NetworkSpec) -> Self {
        let observations = network.normalise_observations;
        Self {
            observations: observations.then(|| RunningMoments::new(network.observation.len())),
            rewards: config
                .normalise_rewards
                .then(|| ReturnDeviation::new(config.vtrace.gamma)),
            values: network.popart.then(|| PopArt::new(POPART_STEP_SIZE)),
        }
    }

    /// Rewards [T, B] as they are learnt from: cut, scaled, divided by the deviation of the discounted return.
    pub(super) fn rewards(&mut self, config: &UpdateConfig, batch: &Batch) -> Vec<f32> {
        let clip = config.reward_clip.map_or(f32::INFINITY, |clip| clip as f32);
        let scale = config.reward_scale as f32;
        let mut rewards: Vec<f32> = batch
            .rewards
            .iter()
            .map(|reward| scale * reward.clamp(-clip, clip))
            .collect();
        if let Some(deviation) = &mut self.rewards {
            // What was seen before says nothing new, and does not follow what its actors sent last.
            let factor = if batch.reused {
                deviation.factor()
            } else {
                deviation.update(&rewards, &batch.outcomes, batch.columns, &batch.actors)
            } as f32;
            rewards.iter_mut().for_each(|reward| *reward *= factor);
        }
        rewards
    }

    /// Whether the same is switched on in `other`, about observations of the same length.
    pub(super) fn are_alike(&self, other: &Self) -> bool {
        let len = |own: &Self| {
            own.observations
                .as_ref()
                .map(|moments| moments.mean().len())
        };
        len(self) == len(other)
            && self.rewards.is_some() == other.rewards.is_some()
            && self.values.is_some() == other.values.is_some()
    }

    /// All environments begin anew: their returns so far count for nothing.
    pub(super) fn begin_lives(&mut self) {
        if let Some(deviation) = &mut self.rewards {
            deviation.begin_lives();
        }
    }

    /// What a difference of values is multiplied by in the loss, if anything.
    pub(super) fn value_unit(&self) -> Option<f64> {
        self.values.as_ref().map(|values| 1.0 / values.sigma())
    }
}

impl Updater {
    /// Lets PopArt follow the targets; all values stay what they are.
    pub(super) fn follow_values(&mut self, material: &Material<'_>, arrival: &Arrival) {
        let learnt = &mut self.learnt;
        let Some(values) = &mut learnt.statistics.values else {
            return;
        };
        let targets = &arrival.on_host().targets;
        let rows = targets.values.iter().zip(&material.learnable);
        let learnable = rows.filter(|(_, learnable)| **learnable);
        values.update(learnable.map(|(target, _)| f64::from(*target)));
        let (mean, deviation) = (values.mean() as f32, values.sigma() as f32);
        learnt.model = learnt.model.clone().with_value_statistics(mean, deviation);
    }

    /// Lets the normalisation follow the observations; the next version is the first that sees by it.
    pub(super) fn follow_observations(&mut self, material: &Material<'_>) {
        let learnt = &mut self.learnt;
        let Some(observations) = &mut learnt.statistics.observations else {
            return;
        };
        if material.batch.reused {
            return;
        }
        let rows = material.batch.steps() * self.network.observation.len();
        let seen = material.batch.observations.slice(0..rows).to_f32();
        observations.update(&seen, &material.batch.learnable(0));
        learnt.model = learnt
            .model
            .clone()
            .with_observation_statistics(&observations.mean(), &observations.inverse_deviation());
    }
}
