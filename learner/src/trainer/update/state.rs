//! All that the next update depends on, taken out for a checkpoint and put back.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::{AdamConfig, ModuleOptimizer},
    tensor::{Bytes, DType, Tensor, TensorData},
};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use springbok_common::policy::{ActorCritic, import_flat};

use super::{
    Updater,
    objective::Memory,
    phasic::{Phase, PhaseState},
    statistics::Statistics,
};
use crate::checkpoint::Blob;

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
    /// The names by which the optimisers know the parameters, in layout order.
    parameter_ids: Vec<u64>,
    pub(super) policy_optimiser: Blob,
    pub(super) value_optimiser: Blob,
    pub(super) statistics: Statistics,
    pub(super) updates: u64,
    pub(super) beta: f64,
    /// The target network's parameters.
    pub(super) target: Option<Blob>,
    pub(super) phase: Option<PhaseState>,
    pub(super) shuffling: Pcg64,
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
    ///
    /// # Errors
    /// [`StateFault`] if an optimiser cannot be encoded.
    pub fn state(&self) -> Result<UpdaterState, StateFault> {
        let learnt = &self.learnt;
        let mut ids = Ids(Vec::new());
        learnt.model.visit(&mut ids);
        Ok(UpdaterState {
            parameters: self.parameters.clone().into(),
            learnt: Some(LearntState {
                parameter_ids: ids.0,
                policy_optimiser: encoded(&learnt.policy_optimiser)?,
                value_optimiser: encoded(&learnt.value_optimiser)?,
                statistics: learnt.statistics.clone(),
                updates: learnt.memory.updates,
                beta: learnt.memory.beta,
                target: learnt.memory.target.as_ref().map(flat),
                phase: learnt.memory.phase.as_ref().map(Phase::state).transpose()?,
                shuffling: self.rng.clone(),
            }),
        })
    }

    /// Goes on from `state`, which an updater of the same configuration gave.
    ///
    /// # Errors
    /// [`StateFault`] if it is of another network or objective; nothing has changed then.
    pub fn restore(&mut self, state: UpdaterState) -> Result<(), StateFault> {
        let Some(learnt) = state.learnt else {
            return Err(StateFault::new("optimisers", "there is none"));
        };
        let flat = &state.parameters.0;
        let model = named_import(self.learnt.model.clone(), flat, &learnt.parameter_ids)?;
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
            (Some(_), Some(phase)) => Some(Phase::of_state(phase, self.adam())?),
            _ => return Err(StateFault::new("phases", "only one side has them")),
        };
        if !self.learnt.statistics.are_alike(&learnt.statistics) {
            return Err(StateFault::new("statistics", "others are switched on"));
        }
        let adam = self.adam();
        let policy_optimiser = decoded(adam.init(), &learnt.policy_optimiser)?;
        let value_optimiser = decoded(adam.init(), &learnt.value_optimiser)?;
        self.value_parameters = model.value_parameter_ids();
        self.parameters = state.parameters.0;
        self.rng = learnt.shuffling;
        self.learnt.model = model;
        self.learnt.policy_optimiser = policy_optimiser;
        self.learnt.value_optimiser = value_optimiser;
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

    fn adam(&self) -> AdamConfig {
        AdamConfig::new().with_epsilon(self.config.adam_epsilon as f32)
    }
}

fn flat(network: &ActorCritic) -> Blob {
    springbok_common::policy::export_flat(network).into()
}

/// An optimiser's moments by the ids of the parameters.
pub(super) fn encoded(optimiser: &ModuleOptimizer) -> Result<Blob, StateFault> {
    let bytes = optimiser.into_bytes();
    let bytes = bytes.map_err(|error| StateFault::new("optimiser", format!("{error:?}")))?;
    Ok(bytes.to_vec().into())
}

/// `fresh` with the moments of `blob`.
pub(super) fn decoded(fresh: ModuleOptimizer, blob: &Blob) -> Result<ModuleOptimizer, StateFault> {
    let fault = |cause: String| StateFault::new("optimiser", cause);
    let wrap = |error| fault(format!("{error:?}"));
    let bytes = || Bytes::from_bytes_vec(blob.0.to_vec());
    let saved = burn::optim::OptimizerRecord::from_bytes(bytes()).map_err(wrap)?;
    let expected = saved.len();
    let restored = fresh.load_record(saved);
    // What it cannot read it leaves out and begins anew, which would not show otherwise.
    let got = restored.to_record().len();
    if got == expected {
        Ok(restored)
    } else {
        Err(fault(format!("{got} of its {expected} tensors were read")))
    }
}

struct Ids(Vec<u64>);

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.push(parameter.id.val());
    }
}

/// `network` with the parameters `flat` under the names `ids`.
fn named_import(network: ActorCritic, flat: &[u8], ids: &[u64]) -> Result<ActorCritic, StateFault> {
    let mut own = Ids(Vec::new());
    network.visit(&mut own);
    let (got, expected) = (flat.len(), 4 * network.num_params());
    if own.0.len() != ids.len() || got != expected {
        return Err(StateFault::new(
            "network",
            format!(
                "it has {expected} bytes in {} parameters, and the checkpoint {got} in {}",
                own.0.len(),
                ids.len()
            ),
        ));
    }
    Ok(network.map(&mut Named {
        rest: flat,
        ids: ids.iter(),
    }))
}

struct Named<'a> {
    rest: &'a [u8],
    ids: std::slice::Iter<'a, u64>,
}

impl ModuleMapper for Named<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (device, shape) = (parameter.lazy_device(), parameter.lazy_shape());
        let (own, rest) = self.rest.split_at(4 * shape.num_elements());
        self.rest = rest;
        // There are as many as parameters.
        let id = self
            .ids
            .next()
            .map_or(parameter.id, |id| ParamId::from(*id));
        let data = if cfg!(target_endian = "little") {
            TensorData::from_bytes_vec(own.to_vec(), shape, DType::F32)
        } else {
            let (words, _) = own.as_chunks::<4>();
            let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            TensorData::new(numbers, shape)
        };
        parameter.transform_for_load(Tensor::from_data(data, &device), id)
    }
}
