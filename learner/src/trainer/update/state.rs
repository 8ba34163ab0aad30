//! All that the next update depends on, taken out for a checkpoint and put back.

use burn::{module::Module, tensor::Device};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use springbok_common::policy::{export_flat, import_flat, to_bytes, to_tensor};

use super::{
    Updater,
    objective::Memory,
    phasic::{Phase, PhaseState},
    statistics::Statistics,
};
use crate::{algorithm::adam::Adam, checkpoint::Blob};

/// Why the state of an updater cannot be taken out or put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of the {part} does not fit: {cause}")]
pub struct StateFault {
    part: &'static str,
    cause: String,
}

impl StateFault {
    fn new(part: &'static str, cause: impl ToString) -> Self {
        Self {
            part,
            cause: cause.to_string(),
        }
    }
}

/// What an updater's next update depends on, besides configuration and batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UpdaterState {
    /// Little-endian f32 in layout order.
    pub parameters: Blob,
    pub(super) learnt: Option<LearntState>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LearntState {
    pub(super) optimiser: AdamState,
    pub(super) statistics: Statistics,
    pub(super) updates: u64,
    pub(super) beta: f64,
    /// The target network's parameters.
    pub(super) target: Option<Blob>,
    pub(super) phase: Option<PhaseState>,
    pub(super) shuffling: Pcg64,
}

/// An [`Adam`] for a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct AdamState {
    steps: u32,
    /// m and v as little-endian f32 in layout order; empty before the first step.
    moments: [Blob; 2],
}

impl AdamState {
    pub(super) fn of(adam: &Adam) -> Self {
        let bytes = |moments: &[_; 2]| moments.clone().map(|moment| to_bytes(moment).into());
        Self {
            steps: adam.steps(),
            moments: adam.moments().map(bytes).unwrap_or_default(),
        }
    }

    /// The optimiser of so many `parameters` as it was.
    ///
    /// # Errors
    /// [`StateFault`] if it is of another number of them.
    pub(super) fn resume(
        self,
        epsilon: f64,
        parameters: usize,
        device: &Device,
    ) -> Result<Adam, StateFault> {
        if self.steps == 0 {
            return Ok(Adam::new(epsilon));
        }
        let [first, second] = self.moments;
        let lengths = [first.0.len(), second.0.len()];
        if lengths != [size_of::<f32>() * parameters; 2] {
            let cause = format!("its moments have {lengths:?} bytes for {parameters} parameters");
            return Err(StateFault::new("optimiser", cause));
        }
        let moments = [first, second].map(|moment| to_tensor(&moment.0, device));
        Ok(Adam::resumed(epsilon, self.steps, Some(moments)))
    }
}

impl UpdaterState {
    /// A state that consists of parameters alone.
    #[must_use]
    pub fn of_parameters(parameters: bytes::Bytes) -> Self {
        Self {
            parameters: parameters.into(),
            learnt: None,
        }
    }
}

impl Updater {
    /// All that the next update depends on.
    #[must_use]
    pub fn state(&self) -> UpdaterState {
        let learnt = &self.learnt;
        UpdaterState {
            parameters: self.parameters.clone().into(),
            learnt: Some(LearntState {
                optimiser: AdamState::of(&learnt.optimiser),
                statistics: learnt.statistics.clone(),
                updates: learnt.memory.updates,
                beta: learnt.memory.beta,
                target: learnt
                    .memory
                    .target
                    .as_ref()
                    .map(|target| export_flat(target).into()),
                phase: learnt.memory.phase.as_ref().map(Phase::state),
                shuffling: self.rng.clone(),
            }),
        }
    }

    /// Goes on from `state`, which an updater of the same configuration gave.
    ///
    /// # Errors
    /// [`StateFault`] if it is of another network or objective; nothing has changed then.
    pub fn restore(&mut self, state: UpdaterState) -> Result<(), StateFault> {
        let Some(learnt) = state.learnt else {
            return Err(StateFault::new("optimiser", "there is none"));
        };
        let model = import_flat(self.learnt.model.clone(), &state.parameters.0)
            .map_err(|error| StateFault::new("network", error))?;
        let (epsilon, count) = (self.config.adam_epsilon, model.num_params());
        let target = match (&self.learnt.memory.target, learnt.target) {
            (None, None) => None,
            (Some(target), Some(flat)) => Some(
                import_flat(target.clone(), &flat.0)
                    .map_err(|error| StateFault::new("target network", error))?,
            ),
            _ => return Err(StateFault::new("target network", "only one side has one")),
        };
        let phase = match (&self.learnt.memory.phase, learnt.phase) {
            (None, None) => None,
            (Some(_), Some(phase)) => Some(Phase::of_state(phase, epsilon, count, &self.device)?),
            _ => return Err(StateFault::new("phases", "only one side has them")),
        };
        if !self.learnt.statistics.are_alike(&learnt.statistics) {
            return Err(StateFault::new("statistics", "others are switched on"));
        }
        let optimiser = learnt.optimiser.resume(epsilon, count, &self.device)?;
        self.parameters = state.parameters.0;
        self.rng = learnt.shuffling;
        self.learnt.model = model;
        self.learnt.optimiser = optimiser;
        self.learnt.statistics = learnt.statistics;
        self.learnt.memory = Memory {
            updates: learnt.updates,
            beta: learnt.beta,
            target,
            phase,
        };
        Ok(())
    }

    /// All environments begin anew, so that nothing is left over from their last episodes.
    pub fn begin_lives(&mut self) {
        self.learnt.statistics.begin_lives();
    }
}
