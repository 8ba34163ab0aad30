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
    use rand::RngExt;
    use springbok_common::{
        arrays::{ActionsMut, Elements},
        policy::{ActionTensor, Distribution, Sequence, export_flat},
        spec::{
            ActionSpec, Activation, CoreSpec, EncoderSpec, EnvironmentSpec, GaussianSpec,
            ImageLayout, ObservationSpec, StdKind,
        },
    };

    use super::*;

    const K: usize = 6;
    const STEPS: usize = 5;

    fn network(action: ActionSpec, observation: ObservationSpec) -> NetworkSpec {
        let environment = EnvironmentSpec::new("E", observation, action);
        NetworkSpec::mlp(&environment, vec![16, 16], Activation::Tanh, false)
    }

    fn vector(action: ActionSpec) -> NetworkSpec {
        network(action, ObservationSpec::floats([4], [-3.0, 3.0]))
    }

    fn actions(network: &NetworkSpec, environments: usize) -> Actions {
        let len = environments * network.action.len();
        match network.action {
            ActionSpec::Box { .. } => Actions::Values(vec![0.0; len]),
            _ => Actions::Indices(vec![0; len]),
        }
    }

    /// Every encoder, core and head at least once.
    fn networks() -> Vec<NetworkSpec> {
        let bounded = || ActionSpec::Box {
            low: vec![-2.0, 0.0],
            high: vec![2.0, 1.0],
        };
        let board = || ObservationSpec::bytes([6, 6, 2], 1);
        let screen = || ObservationSpec::bytes([2, 36, 36], 255);
        let hidden_sizes = vec![8];
        let mut all = vec![
            vector(ActionSpec::Discrete(3)),
            vector(ActionSpec::MultiDiscrete(vec![3, 2])),
            vector(bounded()),
        ];
        for encoder in [
            EncoderSpec::MinatarConv {
                layout: ImageLayout::ChannelsLast,
                hidden_sizes: hidden_sizes.clone(),
            },
            EncoderSpec::ImpalaResnet {
                layout: ImageLayout::ChannelsLast,
                hidden_sizes: hidden_sizes.clone(),
            },
        ] {
            let mut image = network(ActionSpec::Discrete(3), board());
            image.encoder = encoder;
            all.push(image);
        }
        let mut image = network(ActionSpec::Discrete(3), screen());
        image.encoder = EncoderSpec::NatureConv {
            layout: ImageLayout::ChannelsFirst,
            hidden_sizes,
        };
        all.push(image);
        for (core, shared_torso) in [
            (CoreSpec::Lstm { size: 8 }, true),
            (CoreSpec::Gru { size: 8 }, false),
        ] {
            for action in [ActionSpec::Discrete(3), bounded()] {
                let mut recurrent = vector(action);
                (recurrent.core, recurrent.shared_torso) = (core, shared_torso);
                recurrent.normalise_observations = true;
                all.push(recurrent);
            }
        }
        for (std, squash) in [
            (StdKind::StateDependent, false),
            (StdKind::StateIndependent, true),
        ] {
            let mut gaussian = vector(bounded());
            gaussian.gaussian = GaussianSpec {
                std,
                log_std_initial: -0.5,
                squash,
            };
            gaussian.popart = true;
            all.push(gaussian);
        }
        all
    }

    /// Observations of K environments.
    fn observations(network: &NetworkSpec, generator: &mut Pcg64) -> Elements {
        let len = K * network.observation.len();
        let [low, high] = network.observation.bounds;
        match network.observation.element {
            springbok_common::arrays::ElementType::F32 => Elements::F32(
                (0..len)
                    .map(|_| generator.random_range(low..high))
                    .collect(),
            ),
            springbok_common::arrays::ElementType::U8 => Elements::U8(
                (0..len)
                    .map(|_| generator.random_range(0.0..=high) as u8)
                    .collect(),
            ),
        }
    }

    /// Acceptance test A3: without lag, what the actor says of its actions is what the learner's network says of
    /// them, for every encoder, core and head. The learner sees the whole sequence at once, as in training.
    #[test]
    fn actor_and_learner_agree_on_every_network() {
        let mut generator = Pcg64::seed_from_u64(5);
        for network in networks() {
            let device = Device::flex();
            // Not the initial parameters: their policy head is almost zero, which hides mistakes.
            let fresh = ActorCritic::new(&network, 11, &device);
            let words: Vec<u8> = export_flat(&fresh)
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|word| {
                    let shift = generator.random_range(-0.2..0.2_f32);
                    (f32::from_le_bytes(*word) + shift).to_le_bytes()
                })
                .collect();
            let policy = import_flat(fresh, &words).unwrap();
            let mut inference = Inference::new(&network, K, 3);
            inference.load(&words).unwrap();

            let (mut seen, mut taken, mut said) = (
                Elements::with_capacity(network.observation.element, 0),
                actions(&network, 0),
                vec![],
            );
            let mut keep = Vec::new();
            for t in 0..STEPS {
                // Environment 1 begins a new episode at step 2.
                let ended = t == 2;
                keep.extend((0..K).map(|k| if ended && k == 1 { 0.0 } else { 1.0 }));
                if ended {
                    let mut outcomes = [StepOutcome::Continued; K];
                    outcomes[1] = StepOutcome::Terminated;
                    inference.forget_where(&outcomes);
                }
                let shown = observations(&network, &mut generator);
                let mut chosen = actions(&network, K);
                let mut log_probs = vec![0.0; K];
                inference
                    .act(shown.as_ref(), &[], chosen.as_mut(), &mut log_probs)
                    .unwrap();
                seen.extend(shown.as_ref());
                taken.extend(chosen.as_ref());
                said.extend(log_probs);
            }

            let rows = STEPS * K;
            let tensor = |data, shape: [usize; 2]| {
                Tensor::<2>::from_data(TensorData::new(data, shape), &device)
            };
            let unrolled = policy.unroll(Sequence {
                observations: tensor(seen.as_ref().to_f32(), [rows, network.observation.len()]),
                length: STEPS,
                state: None,
                keep: Some(tensor(keep, [STEPS, K])),
                burn_in: 0,
            });
            let shape = [rows, network.action.len()];
            let taken = match &taken {
                Actions::Values(values) => ActionTensor::Values(tensor(values.clone(), shape)),
                Actions::Indices(indices) => {
                    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
                    ActionTensor::Indices(Tensor::from_data(
                        TensorData::new(indices, shape),
                        &device,
                    ))
                }
            };
            let kind = DistributionKind::of(&network);
            let learners = Distribution::new(&kind, unrolled.parameters, None)
                .log_prob(taken)
                .into_data();
            let learners = learners.as_slice::<f32>().unwrap();
            for (here, there) in said.iter().zip(learners) {
                assert!(
                    (here - there).abs() < 1e-4,
                    "{network:?}: {here} and {there}"
                );
            }
        }
    }

    #[test]
    fn forbidden_actions_are_never_taken() {
        let network = vector(ActionSpec::Discrete(4));
        let mut inference = Inference::new(&network, 2, 3);
        let observations = ElementsRef::F32(&[0.5; 8]);
        let masks = [0, 1, 0, 1, 1, 0, 0, 0];
        let mut log_probs = [0.0; 2];
        for _ in 0..100 {
            let mut chosen = [9; 2];
            let actions = ActionsMut::Indices(&mut chosen);
            inference
                .act(observations, &masks, actions, &mut log_probs)
                .unwrap();
            assert!([1, 3].contains(&chosen[0]) && chosen[1] == 0);
            assert!(log_probs[1].abs() < 1e-6);
            inference
                .act_greedily(observations, &masks, ActionsMut::Indices(&mut chosen))
                .unwrap();
            assert!([1, 3].contains(&chosen[0]) && chosen[1] == 0);
        }
    }

    #[test]
    fn continuous_actions_reach_the_environment_within_its_bounds() {
        let mut network = vector(ActionSpec::Box {
            low: vec![-1.0, 0.0],
            high: vec![1.0, f32::INFINITY],
        });
        network.gaussian.log_std_initial = 2.0;
        let mut inference = Inference::new(&network, 64, 3);
        let observations = Elements::F32(vec![0.5; 64 * 4]);
        let (mut drawn, mut bounded) = (actions(&network, 64), Actions::default());
        let mut log_probs = [0.0; 64];
        inference
            .act(observations.as_ref(), &[], drawn.as_mut(), &mut log_probs)
            .unwrap();
        let (drawn, bounded) = (
            drawn.as_ref(),
            inference.bound(drawn.as_ref(), &mut bounded),
        );
        let clipped = |row: &[f32]| [row[0].clamp(-1.0, 1.0), row[1].max(0.0)];
        for (drawn, bounded) in drawn.values().chunks(2).zip(bounded.values().chunks(2)) {
            assert_eq!(clipped(drawn), bounded);
        }
        assert_ne!(drawn, bounded, "a deviation of 7 goes out of bounds");
    }

    #[test]
    fn greedy_actions_are_the_ones_that_sampling_likes_best() {
        let network = vector(ActionSpec::Discrete(4));
        let mut inference = Inference::new(&network, 1, 3);
        let observation = ElementsRef::F32(&[0.5, -1.0, 2.0, 0.1]);
        let (mut greedy, mut sampled, mut log_prob) = ([0], [0], [0.0]);
        inference
            .act_greedily(observation, &[], ActionsMut::Indices(&mut greedy))
            .unwrap();
        let mut best = (0, f32::NEG_INFINITY);
        for _ in 0..500 {
            inference
                .act(
                    observation,
                    &[],
                    ActionsMut::Indices(&mut sampled),
                    &mut log_prob,
                )
                .unwrap();
            if log_prob[0] > best.1 {
                best = (sampled[0], log_prob[0]);
            }
        }
        assert_eq!(greedy[0], best.0);
    }

    #[test]
    fn equal_seeds_give_equal_actions_whatever_the_number_of_environments() {
        let network = vector(ActionSpec::Discrete(3));
        let observation = [0.1_f32, -0.2, 0.3, 0.4];
        let play = |environments: usize, seed: u64| {
            let mut inference = Inference::new(&network, environments, seed);
            let observations = Elements::F32(observation.repeat(environments));
            let (mut chosen, mut log_probs) = (vec![0; environments], vec![0.0; environments]);
            let mut history = Vec::new();
            for _ in 0..64 {
                let actions = ActionsMut::Indices(&mut chosen);
                inference
                    .act(observations.as_ref(), &[], actions, &mut log_probs)
                    .unwrap();
                history.push(chosen[0]);
            }
            history
        };
        assert_eq!(play(1, 9), play(8, 9));
        assert_ne!(play(1, 9), play(1, 10));
    }
}
