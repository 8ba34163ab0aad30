//! The policy at work: one batched forward on the CPU, then actions sampled on the host.

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use springbok_common::{
    arrays::{Actions, ActionsMut, ActionsRef, ElementsRef},
    policy::{ActorCritic, DistributionKind, ParametersError, import_flat},
    spec::NetworkSpec,
    step::StepOutcome,
};

pub use springbok_common::seed::mix_seed;

/// Why no action can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// What the policy says about the actions of one environment is not finite.
    #[error("the policy's output for environment {environment} is not finite")]
    NonFinite {
        /// Which of the K environments.
        environment: usize,
    },
    /// The network gave something else than `[K, P]` numbers.
    #[error("the network's output cannot be read: {0}")]
    Output(String),
}

/// A policy with K generators and K memories, one for each environment, so that what one environment is dealt does not
/// depend on how many others there are.
pub struct Inference {
    device: Device,
    policy: ActorCritic,
    network: NetworkSpec,
    generators: Vec<Pcg64>,
    /// [K, S]: what the policy remembers of each environment.
    states: Vec<f32>,
    distribution: DistributionKind,
    scratch: Vec<f64>,
}

impl Inference {
    /// A policy of the given shape for `environments` environments; [`Self::load`] gives it its parameters.
    #[must_use]
    pub fn new(network: &NetworkSpec, environments: usize, seed: u64) -> Self {
        let device = Device::flex();
        let generators = (0..environments as u64)
            .map(|environment| Pcg64::seed_from_u64(mix_seed(seed, environment)));
        Self {
            policy: ActorCritic::new(network, 0, &device),
            device,
            generators: generators.collect(),
            states: vec![0.0; environments * network.state_len()],
            distribution: DistributionKind::of(network),
            scratch: Vec::new(),
            network: network.clone(),
        }
    }

    /// Replaces the parameters: little-endian f32 in layout order.
    ///
    /// # Errors
    /// `parameters` does not fit the network; the old parameters stay.
    pub fn load(&mut self, parameters: &[u8]) -> Result<(), ParametersError> {
        self.policy = import_flat(self.policy.clone(), parameters)?;
        Ok(())
    }

    /// [K, S]: what the policy remembers of each environment.
    #[must_use]
    pub fn core_states(&self) -> &[f32] {
        &self.states
    }

    /// Forgets everything.
    pub fn forget_all(&mut self) {
        self.states.fill(0.0);
    }

    /// Forgets the environments whose next row belongs to another episode, `outcomes` `[K]`.
    pub fn forget_where(&mut self, outcomes: &[StepOutcome]) {
        let len = self.network.state_len();
        if len == 0 {
            return;
        }
        for (state, outcome) in self.states.chunks_exact_mut(len).zip(outcomes) {
            if outcome.resets_memory() {
                state.fill(0.0);
            }
        }
    }

    /// Samples one action for each environment from the policy at `observations` `[K, O]`, among the choices that
    /// `masks` `[K, M]` allow (all if it is empty); writes `actions` `[K, A]` and `log_probs` `[K]`, the log-probabilities
    /// under the very distribution that was sampled from.
    ///
    /// # Errors
    /// The distribution's parameters are not finite.
    pub fn act(
        &mut self,
        observations: ElementsRef<'_>,
        masks: &[u8],
        mut actions: ActionsMut<'_>,
        log_probs: &mut [f32],
    ) -> Result<(), InferenceError> {
        let output = self.forward(observations)?;
        let parameters = numbers(&output)?.chunks_exact(self.network.distribution_len());
        let rows = parameters.zip(&mut self.generators).zip(log_probs);
        for (environment, ((row, generator), log_prob)) in rows.enumerate() {
            let mask = mask_of(masks, environment, &self.network);
            let mut action = row_of(&mut actions, environment, &self.network);
            *log_prob = self
                .distribution
                .sample(row, mask, generator, &mut action, &mut self.scratch)
                .ok_or(InferenceError::NonFinite { environment })?;
        }
        Ok(())
    }

    /// Writes the most probable action, `actions` `[K, A]`, for each of `observations` `[K, O]`; of equals, the first.
    ///
    /// # Errors
    /// The distribution's parameters are not finite.
    pub fn act_greedily(
        &mut self,
        observations: ElementsRef<'_>,
        masks: &[u8],
        mut actions: ActionsMut<'_>,
    ) -> Result<(), InferenceError> {
        let output = self.forward(observations)?;
        let rows = numbers(&output)?.chunks_exact(self.network.distribution_len());
        for (environment, row) in rows.enumerate() {
            let mask = mask_of(masks, environment, &self.network);
            let mut action = row_of(&mut actions, environment, &self.network);
            self.distribution
                .mode(row, mask, &mut action)
                .ok_or(InferenceError::NonFinite { environment })?;
        }
        Ok(())
    }

    /// The drawn actions `[K, A]` as the environment takes them: squashed or clipped to its bounds, in `bounded` if that
    /// changes anything.
    pub fn bound<'a>(&self, drawn: ActionsRef<'a>, bounded: &'a mut Actions) -> ActionsRef<'a> {
        let ActionsRef::Values(values) = drawn else {
            return drawn;
        };
        bounded.clear();
        bounded.extend(drawn);
        let len = self.network.action.len();
        for first in (0..values.len()).step_by(len) {
            let own = first..first + len;
            let mut row = bounded.as_mut();
            self.distribution
                .to_environment_action(drawn.slice(own.clone()), &mut row.slice(own));
        }
        bounded.as_ref()
    }

    /// The distributions' parameters `[K, P]` for `observations` `[K, O]`; moves the memories on.
    fn forward(&mut self, observations: ElementsRef<'_>) -> Result<TensorData, InferenceError> {
        let environments = self.generators.len();
        let shape = [environments, self.network.observation.len()];
        let input = TensorData::new(observations.to_f32(), shape);
        let input = Tensor::<2>::from_data(input, &self.device);
        let state_len = self.network.state_len();
        let state = (state_len > 0).then(|| {
            let state = TensorData::new(self.states.clone(), [environments, state_len]);
            Tensor::<2>::from_data(state, &self.device)
        });
        let (parameters, state) = self.policy.act(input, state);
        if let Some(state) = state {
            let state = state.into_data();
            self.states.copy_from_slice(numbers(&state)?);
        }
        Ok(parameters.into_data())
    }
}

/// The mask of one environment; empty if there are none.
fn mask_of<'a>(masks: &'a [u8], environment: usize, network: &NetworkSpec) -> &'a [u8] {
    let len = network.action.choices();
    masks
        .get(environment * len..(environment + 1) * len)
        .unwrap_or(&[])
}

/// The action of one environment.
fn row_of<'a>(
    actions: &'a mut ActionsMut<'_>,
    environment: usize,
    network: &NetworkSpec,
) -> ActionsMut<'a> {
    let len = network.action.len();
    actions.slice(environment * len..(environment + 1) * len)
}

fn numbers(output: &TensorData) -> Result<&[f32], InferenceError> {
    output
        .as_slice::<f32>()
        .map_err(|error| InferenceError::Output(format!("{error:?}")))
}

#[cfg(test)]
mod tests;
