//! The policy at work, against the learner's side of it.

use rand::RngExt;
use springbok_common::{
    arrays::{ActionsMut, Elements},
    policy::{ActionTensor, Distribution, Sequence, export_flat},
    spec::{
        ActionSpec, Activation, CoreSpec, EncoderSpec, EnvironmentSpec, GaussianSpec, ImageLayout,
        ObservationSpec, StdKind,
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
        let tensor =
            |data, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(data, shape), &device);
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
                ActionTensor::Indices(Tensor::from_data(TensorData::new(indices, shape), &device))
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
