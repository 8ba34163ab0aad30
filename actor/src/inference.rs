//! The policy at work: one batched forward on the CPU, then actions sampled on the host.

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use springbok_common::{
    arrays::{Actions, ActionsMut, ActionsRef, ElementsRef},
    policy::{ActorCritic, ParametersError, import_flat, sampling},
    spec::NetworkSpec,
    step::StepOutcome,
};

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
    weights: Vec<f64>,
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
            weights: vec![0.0; network.distribution_len()],
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
            let action = row_of(&mut actions, environment, &self.network);
            *log_prob = sampling::sample(&self.network, row, mask, generator, action, &mut self.weights)
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
            let action = row_of(&mut actions, environment, &self.network);
            sampling::mode(&self.network, row, mask, action)
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
        if let Actions::Values(bounded) = bounded {
            let len = self.network.action.len();
            let rows = values.chunks_exact(len).zip(bounded.chunks_exact_mut(len));
            for (drawn, bounded) in rows {
                sampling::to_environment_action(&self.network, drawn, bounded);
            }
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

/// A seed for the `index`-th consumer of `seed`: both go through the finaliser of SplitMix64, so that neighbouring
/// seeds and indices give unrelated generators.
#[must_use]
pub fn mix_seed(seed: u64, index: u64) -> u64 {
    finalise(finalise(seed).wrapping_add(finalise(!index)))
}

fn finalise(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use springbok_common::{
        policy::{categorical, export_flat},
        spec::Activation,
    };

    use super::*;

    fn network(logits: usize) -> NetworkSpec {
        NetworkSpec {
            observation_len: 4,
            logits,
            hidden_sizes: vec![16, 16],
            activation: Activation::Tanh,
            shared_torso: false,
        }
    }

    #[test]
    fn frequencies_match_the_probabilities() {
        let logits = [0.0_f32, 1.0, -2.0, 2.5];
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let mut generator = Pcg64::seed_from_u64(1);
        let mut weights = [0.0; 4];
        let mut counts = [0_u32; 4];
        let draws = 200_000;
        for _ in 0..draws {
            let (action, log_prob) = sample(&logits, generator.random(), &mut weights).unwrap();
            counts[action as usize] += 1;
            let exact = f64::from(logits[action as usize]) - total.ln();
            assert!((f64::from(log_prob) - exact).abs() < 1e-6);
        }
        for (logit, count) in logits.iter().zip(counts) {
            let probability = f64::from(*logit).exp() / total;
            let deviation = (probability * (1.0 - probability) / f64::from(draws)).sqrt();
            let frequency = f64::from(count) / f64::from(draws);
            assert!((frequency - probability).abs() < 5.0 * deviation);
        }
    }

    #[test]
    fn extreme_logits_neither_overflow_nor_pick_the_impossible() {
        let mut weights = [0.0; 3];
        let almost_one = 1.0 - f64::EPSILON / 2.0;
        for uniform in [0.0, 0.5, almost_one] {
            let certain = sample(&[-1e30, 3e38, -3e38], uniform, &mut weights);
            assert_eq!(certain, Some((1, 0.0)));
        }
        assert_eq!(sample(&[f32::NAN, 0.0, 0.0], 0.5, &mut weights), None);
        assert_eq!(sample(&[f32::INFINITY, 0.0, 0.0], 0.5, &mut weights), None);
    }

    #[test]
    fn log_probs_equal_the_learners_log_softmax() {
        let (network, environments) = (network(5), 32);
        let device = Device::flex();
        let policy = ActorCritic::new(&network, 11, &device);
        let mut inference = Inference::new(&network, environments, 3);
        inference.load(&export_flat(&policy)).unwrap();

        let mut generator = Pcg64::seed_from_u64(5);
        let observations: Vec<f32> = (0..environments * network.observation_len)
            .map(|_| generator.random_range(-3.0..3.0))
            .collect();
        let mut actions = vec![0; environments];
        let mut log_probs = vec![0.0; environments];
        inference
            .act(&observations, &mut actions, &mut log_probs)
            .unwrap();

        let input = TensorData::new(observations, [environments, network.observation_len]);
        let (logits, _) = policy.forward(Tensor::<2>::from_data(input, &device));
        let all = categorical::log_probs(logits, None).into_data();
        let all = all.as_slice::<f32>().unwrap();
        for (row, (action, log_prob)) in actions.iter().zip(&log_probs).enumerate() {
            let learners = all[row * network.logits + *action as usize];
            assert!((learners - log_prob).abs() < 1e-5);
        }
    }

    #[test]
    fn greedy_actions_are_the_ones_that_sampling_likes_best() {
        let network = network(4);
        let mut inference = Inference::new(&network, 1, 3);
        let observation = [0.5_f32, -1.0, 2.0, 0.1];
        let (mut greedy, mut sampled, mut log_prob) = ([0], [0], [0.0]);
        inference.act_greedily(&observation, &mut greedy).unwrap();
        let mut best = (0, f32::NEG_INFINITY);
        for _ in 0..500 {
            inference
                .act(&observation, &mut sampled, &mut log_prob)
                .unwrap();
            if log_prob[0] > best.1 {
                best = (sampled[0], log_prob[0]);
            }
        }
        assert_eq!(greedy[0], best.0);
    }

    #[test]
    fn equal_seeds_give_equal_actions_whatever_the_number_of_environments() {
        let network = network(3);
        let observation = [0.1_f32, -0.2, 0.3, 0.4];
        let play = |environments: usize, seed: u64| {
            let mut inference = Inference::new(&network, environments, seed);
            let observations = observation.repeat(environments);
            let (mut actions, mut log_probs) = (vec![0; environments], vec![0.0; environments]);
            let mut history = Vec::new();
            for _ in 0..64 {
                inference
                    .act(&observations, &mut actions, &mut log_probs)
                    .unwrap();
                history.push(actions[0]);
            }
            history
        };
        assert_eq!(play(1, 9), play(8, 9));
        assert_ne!(play(1, 9), play(1, 10));
    }

    proptest! {
        #[test]
        fn probabilities_are_those_of_a_softmax(
            logits in proptest::collection::vec(-40.0_f32..40.0, 1..9),
            uniform in 0.0_f64..1.0,
        ) {
            let mut weights = vec![0.0; logits.len()];
            let (action, log_prob) = sample(&logits, uniform, &mut weights).unwrap();
            let exp = |logit: &f32| f64::from(*logit).exp();
            let total: f64 = logits.iter().map(exp).sum();
            let below: f64 = logits[..action as usize].iter().map(exp).sum();
            let probability = exp(&logits[action as usize]) / total;
            prop_assert!((f64::from(log_prob) - probability.ln()).abs() < 1e-5);
            prop_assert!(below / total <= uniform + 1e-9);
            prop_assert!(uniform <= below / total + probability + 1e-9);
        }
    }
}
