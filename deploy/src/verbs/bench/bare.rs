//! The bare loops that an actor and a learner are compared with: the same environments, network, backward pass and
//! optimiser, and nothing around them.

use burn::{
    optim::{AdamConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Int, Tensor, TensorData},
};
use springbok_actor::{
    inference::Inference,
    vector::{StepSink, VectorEnvironment},
};
use springbok_common::{
    arrays::{Actions, ElementsRef},
    policy::{ActionTensor, ActorCritic, Distribution, DistributionKind, Sequence},
    spec::CoreSpec,
    step::StepOutcome,
    unroll::EpisodeSummary,
};
use springbok_learner::trainer::batch::Batch;

use super::{rollout::buffer, subject::Subject};
use crate::exit::Failure;

/// Environments and inference, in turns.
pub(super) struct BareActor {
    vector: Box<dyn VectorEnvironment>,
    inference: Inference,
    /// T.
    length: usize,
    actions: Actions,
    bounded: Actions,
    log_probs: Vec<f32>,
    rewards: Vec<f32>,
    outcomes: Vec<StepOutcome>,
    episodes: Vec<EpisodeSummary>,
}

impl BareActor {
    /// # Errors
    /// The environments cannot be made.
    pub(super) fn new(subject: &Subject) -> Result<Self, Failure> {
        let rollout = subject.agreement.rollout;
        let columns = rollout.environments;
        Ok(Self {
            vector: subject.vector()?,
            inference: subject.inference()?,
            length: rollout.unroll_length,
            actions: buffer(&subject.agreement.environment.action, columns),
            bounded: Actions::default(),
            log_probs: vec![0.0; columns],
            rewards: vec![0.0; columns],
            outcomes: vec![StepOutcome::Continued; columns],
            episodes: Vec::new(),
        })
    }

    /// T steps of all environments; gives their number.
    pub(super) fn unroll(&mut self) -> Result<f64, Failure> {
        for _ in 0..self.length {
            self.step()?;
        }
        Ok((self.length * self.log_probs.len()) as f64)
    }

    fn step(&mut self) -> Result<(), Failure> {
        self.inference
            .act(
                self.vector.observations(),
                self.vector.action_masks(),
                self.actions.as_mut(),
                &mut self.log_probs,
            )
            .map_err(Failure::internal)?;
        let bounded = self
            .inference
            .bound(self.actions.as_ref(), &mut self.bounded);
        self.episodes.clear();
        let mut sink = StepSink {
            rewards: &mut self.rewards,
            outcomes: &mut self.outcomes,
            on_truncated: &mut |_, row| {
                std::hint::black_box(row);
            },
            episodes: &mut self.episodes,
        };
        self.vector
            .step(bounded, &mut sink)
            .map_err(Failure::internal)?;
        self.inference.forget_where(&self.outcomes);
        Ok(())
    }
}

/// The network and its optimiser, with one minibatch that lies on the device from the beginning.
pub(super) struct BareLearner {
    model: ActorCritic,
    optimiser: ModuleOptimizer,
    kind: DistributionKind,
    observations: Tensor<2>,
    actions: ActionTensor,
    behaviour: Tensor<1>,
    /// T and the number of columns of a network with memory.
    sequence: Option<[usize; 2]>,
    /// Optimiser steps of an update.
    steps: usize,
    rows: usize,
}

impl BareLearner {
    /// For as many rows and optimiser steps as an update on `batch` takes.
    pub(super) fn new(subject: &Subject, batch: &Batch) -> Self {
        let (config, network) = (&subject.config, &subject.agreement.network);
        let minibatches = config.algorithm.minibatches.max(1);
        let device = subject.device.clone();
        let columns = batch.columns.div_ceil(minibatches);
        let sequence = (network.core != CoreSpec::None).then_some([batch.t, columns]);
        let rows: Vec<usize> = match sequence {
            None => (0..batch.steps().div_ceil(minibatches)).collect(),
            Some(_) => (0..batch.t)
                .flat_map(|t| (0..columns).map(move |column| t * batch.columns + column))
                .collect(),
        };
        let observations = picked(
            batch.observations.as_ref(),
            network.observation.len(),
            &rows,
        );
        let shape = [rows.len(), network.observation.len()];
        let observations = Tensor::from_data(TensorData::new(observations, shape), &device);
        let behaviour: Vec<f32> = rows
            .iter()
            .map(|&row| batch.behaviour_log_probs[row])
            .collect();
        let behaviour = Tensor::from_data(TensorData::new(behaviour, [rows.len()]), &device);
        Self {
            model: ActorCritic::new(network, config.run.seed, &device.clone().autodiff()),
            optimiser: AdamConfig::new().init(),
            kind: DistributionKind::of(network),
            actions: actions(batch, network.action.len(), &rows, &device),
            observations,
            behaviour,
            sequence,
            steps: config.algorithm.epochs.max(1) * minibatches,
            rows: rows.len(),
        }
    }

    /// Rows that the network runs forward and backward over in one update.
    pub(super) fn rows_of_update(&self) -> usize {
        self.rows * self.steps
    }

    /// As many optimiser steps as an update takes.
    pub(super) fn update(&mut self) {
        let mut last = None;
        for _ in 0..self.steps {
            last = Some(self.step());
        }
        // A device that works ahead has done it all once a number is read.
        std::hint::black_box(last.map(Tensor::into_data));
    }

    /// PPO's loss of the minibatch, its gradient, one step of Adam.
    fn step(&mut self) -> Tensor<1> {
        let observations = self.observations.clone().autodiff();
        let outputs = match self.sequence {
            None => self.model.outputs(observations),
            Some([length, _]) => self.model.unroll(Sequence {
                observations,
                length,
                state: None,
                keep: None,
                burn_in: 0,
            }),
        };
        let distribution = Distribution::new(&self.kind, outputs.parameters, None);
        let current = distribution.log_prob(match &self.actions {
            ActionTensor::Indices(indices) => ActionTensor::Indices(indices.clone().autodiff()),
            ActionTensor::Values(values) => ActionTensor::Values(values.clone().autodiff()),
        });
        let ratio = (current - self.behaviour.clone().autodiff()).exp();
        let clipped = ratio.clone().clamp(0.8, 1.2);
        let surrogate = ratio.min_pair(clipped).mean();
        let value = (outputs.values - 1.0).square().mean();
        let loss = value * 0.5 - surrogate - distribution.entropy().mean() * 0.01;
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        self.model = self.optimiser.step(1e-5, self.model.clone(), gradients);
        loss.without_autodiff()
    }
}

/// Observations [N, O] of some rows, as floats.
fn picked(observations: ElementsRef<'_>, len: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter()
        .flat_map(|&row| observations.slice(row * len..(row + 1) * len).to_f32())
        .collect()
}

/// Actions [N, A] of some rows.
fn actions(batch: &Batch, len: usize, rows: &[usize], device: &Device) -> ActionTensor {
    let shape = [rows.len(), len];
    let own = |row: usize| row * len..(row + 1) * len;
    match &batch.actions {
        Actions::Indices(indices) => {
            let picked = rows.iter().flat_map(|&row| &indices[own(row)]);
            let picked: Vec<i32> = picked.map(|&index| index as i32).collect();
            let data = TensorData::new(picked, shape);
            ActionTensor::Indices(Tensor::<2, Int>::from_data(data, device))
        }
        Actions::Values(values) => {
            let picked = rows.iter().flat_map(|&row| &values[own(row)]);
            let data = TensorData::new(picked.copied().collect::<Vec<f32>>(), shape);
            ActionTensor::Values(Tensor::from_data(data, device))
        }
    }
}
