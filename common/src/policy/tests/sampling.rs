//! Draws on the host: their frequencies, their log-probabilities and what the environment gets.

use burn::tensor::{Bool, Int};
use proptest::prelude::*;

use super::*;
use crate::arrays::{ActionsMut, ActionsRef};

fn heads(heads: &[usize]) -> DistributionKind {
    DistributionKind::Categorical {
        heads: heads.to_vec(),
    }
}

fn normal(low: &[f32], high: &[f32], squash: bool) -> DistributionKind {
    DistributionKind::Gaussian {
        low: low.to_vec(),
        high: high.to_vec(),
        squash,
    }
}

/// One draw of discrete actions.
fn draw(
    kind: &DistributionKind,
    logits: &[f32],
    mask: &[u8],
    rng: &mut Pcg64,
) -> Option<(Vec<u32>, f32)> {
    let mut indices = vec![0; kind.action_len()];
    let mut actions = ActionsMut::Indices(&mut indices);
    let log_prob = kind.sample(logits, mask, rng, &mut actions, &mut Vec::new())?;
    Some((indices, log_prob))
}

/// One draw of continuous actions.
fn draw_values(
    kind: &DistributionKind,
    parameters: &[f32],
    rng: &mut Pcg64,
) -> Option<(Vec<f32>, f32)> {
    let mut values = vec![0.0; kind.action_len()];
    let mut actions = ActionsMut::Values(&mut values);
    let log_prob = kind.sample(parameters, &[], rng, &mut actions, &mut Vec::new())?;
    Some((values, log_prob))
}

#[test]
fn frequencies_match_the_probabilities_and_spare_what_is_masked() {
    let (kind, logits) = (heads(&[4, 2]), [0.0_f32, 1.0, -2.0, 2.5, 0.3, -0.3]);
    let mask = [1, 1, 1, 0, 1, 1];
    let total: f64 = logits[..3]
        .iter()
        .map(|&logit| f64::from(logit).exp())
        .sum();
    let mut generator = Pcg64::seed_from_u64(1);
    let (draws, mut counts) = (200_000, [0_u32; 4]);
    for _ in 0..draws {
        let (actions, _) = draw(&kind, &logits, &mask, &mut generator).unwrap();
        counts[actions[0] as usize] += 1;
    }
    assert_eq!(counts[3], 0);
    for (logit, count) in logits[..3].iter().zip(counts) {
        let probability = f64::from(*logit).exp() / total;
        let deviation = (probability * (1.0 - probability) / f64::from(draws)).sqrt();
        let frequency = f64::from(count) / f64::from(draws);
        assert!((frequency - probability).abs() < 5.0 * deviation);
    }
}

#[test]
fn normal_draws_have_the_mean_and_the_deviation() {
    let kind = normal(&[-1.0; 2], &[1.0; 2], false);
    let parameters = [0.5, -3.0, 0.7_f32.ln(), 2.0_f32.ln()];
    let mut generator = Pcg64::seed_from_u64(2);
    let draws = 100_000;
    let (mut sums, mut squares) = ([0.0; 2], [0.0; 2]);
    for _ in 0..draws {
        let (values, _) = draw_values(&kind, &parameters, &mut generator).unwrap();
        for dimension in 0..2 {
            let value = f64::from(values[dimension]) - f64::from(parameters[dimension]);
            sums[dimension] += value;
            squares[dimension] += value * value;
        }
    }
    for (dimension, std) in [0.7_f64, 2.0].into_iter().enumerate() {
        let count = f64::from(draws);
        assert!((sums[dimension] / count).abs() < 5.0 * std / count.sqrt());
        let ratio = squares[dimension] / count / (std * std);
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / count).sqrt(), "{ratio}");
    }
}

#[test]
fn log_probs_equal_the_learners() {
    let mut generator = Pcg64::seed_from_u64(5);
    let (rows, kind) = (200, heads(&[3, 4]));
    let logits: Vec<f32> = (0..rows * 7)
        .map(|_| generator.random_range(-6.0..6.0))
        .collect();
    let mask: Vec<u8> = (0..rows * 7)
        .map(|index| u8::from(index % 3 != 1))
        .collect();
    let (mut indices, mut own) = (Vec::new(), Vec::new());
    for (logits, mask) in logits.chunks_exact(7).zip(mask.chunks_exact(7)) {
        let (drawn, log_prob) = draw(&kind, logits, mask, &mut generator).unwrap();
        indices.extend(drawn.iter().map(|&index| index as i32));
        own.push(log_prob);
    }
    let flags: Vec<bool> = mask.iter().map(|&flag| flag != 0).collect();
    let flags = Tensor::<2, Bool>::from_data(TensorData::new(flags, [rows, 7]), &device());
    let indices = Tensor::<2, Int>::from_data(TensorData::new(indices, [rows, 2]), &device());
    let learner = Distribution::new(&kind, matrix(&logits, 7), Some(flags));
    assert_close(
        "discrete",
        &own,
        &host(learner.log_prob(ActionTensor::Indices(indices))),
        1e-5,
    );

    for squash in [false, true] {
        let kind = normal(&[-1.0; 3], &[2.0; 3], squash);
        let parameters: Vec<f32> = (0..rows * 6)
            .map(|_| generator.random_range(-2.0..2.0))
            .collect();
        let (mut values, mut own) = (Vec::new(), Vec::new());
        for parameters in parameters.chunks_exact(6) {
            let (drawn, log_prob) = draw_values(&kind, parameters, &mut generator).unwrap();
            values.extend(drawn);
            own.push(log_prob);
        }
        let learner = Distribution::new(&kind, matrix(&parameters, 6), None);
        let learners = learner.log_prob(ActionTensor::Values(matrix(&values, 3)));
        assert_close("continuous", &own, &host(learners), 1e-5);
    }
}

#[test]
fn extreme_parameters_neither_overflow_nor_pick_the_impossible() {
    let (kind, mut generator) = (heads(&[3]), Pcg64::seed_from_u64(3));
    for _ in 0..100 {
        let certain = draw(&kind, &[-1e30, 3e38, -3e38], &[], &mut generator);
        assert_eq!(certain, Some((vec![1], 0.0)));
    }
    assert_eq!(
        draw(&kind, &[f32::NAN, 0.0, 0.0], &[], &mut generator),
        None
    );
    assert_eq!(
        draw(&kind, &[f32::INFINITY, 0.0, 0.0], &[], &mut generator),
        None
    );
    assert_eq!(draw(&kind, &[0.0; 3], &[0; 3], &mut generator), None);
    let kind = normal(&[0.0], &[1.0], true);
    assert_eq!(draw_values(&kind, &[f32::NAN, 0.0], &mut generator), None);
    assert_eq!(draw_values(&kind, &[0.0, 1e6], &mut generator), None);
    let (far, log_prob) = draw_values(&kind, &[80.0, -5.0], &mut generator).unwrap();
    assert!(far[0] > 79.0 && log_prob > 100.0);
}

#[test]
fn the_mode_is_the_most_probable_allowed_action() {
    let kind = heads(&[3, 2]);
    let mut indices = [9, 9];
    let logits = [1.0, 5.0, 1.0, 0.0, 0.0];
    let mode = kind.mode(
        &logits,
        &[1, 0, 1, 1, 1],
        &mut ActionsMut::Indices(&mut indices),
    );
    assert_eq!((mode, indices), (Some(()), [0, 0]));
    kind.mode(&logits, &[], &mut ActionsMut::Indices(&mut indices))
        .unwrap();
    assert_eq!(indices, [1, 0]);
    let broken = [f32::NAN, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(
        kind.mode(&broken, &[], &mut ActionsMut::Indices(&mut indices)),
        None
    );
    let mut values = [0.0; 2];
    let kind = normal(&[-1.0; 2], &[1.0; 2], false);
    kind.mode(
        &[0.3, 4.0, -1.0, -1.0],
        &[],
        &mut ActionsMut::Values(&mut values),
    )
    .unwrap();
    assert_eq!(values, [0.3, 4.0]);
}

#[test]
fn environments_get_actions_within_their_bounds() {
    let given = |kind: &DistributionKind, drawn: &[f32]| {
        let mut values = vec![9.0; drawn.len()];
        kind.to_environment_action(
            ActionsRef::Values(drawn),
            &mut ActionsMut::Values(&mut values),
        );
        values
    };
    let clipped = normal(
        &[-1.0, f32::NEG_INFINITY, 0.0],
        &[1.0, 5.0, f32::INFINITY],
        false,
    );
    assert_eq!(given(&clipped, &[-3.0, -1e6, 1e6]), [-1.0, -1e6, 1e6]);
    assert_eq!(given(&clipped, &[0.25, 7.0, -1.0]), [0.25, 5.0, 0.0]);
    let squashed = normal(&[-2.0, 0.0, 10.0], &[2.0, 1.0, 20.0], true);
    let expected = [0.0, 0.5 + 0.5 * 1.0_f32.tanh(), 20.0];
    assert_close(
        "squashed",
        &given(&squashed, &[0.0, 1.0, 50.0]),
        &expected,
        1e-6,
    );

    let mut indices = [0; 2];
    let drawn = ActionsRef::Indices(&[4, 1]);
    heads(&[5, 2]).to_environment_action(drawn, &mut ActionsMut::Indices(&mut indices));
    assert_eq!(indices, [4, 1]);
}

proptest! {
    #[test]
    fn probabilities_are_those_of_a_softmax(
        logits in proptest::collection::vec(-40.0_f32..40.0, 1..9),
        seed in 0_u64..1000,
    ) {
        let mut generator = Pcg64::seed_from_u64(seed);
        let uniform: f64 = generator.clone().random();
        let (actions, log_prob) = draw(&heads(&[logits.len()]), &logits, &[], &mut generator).unwrap();
        let action = actions[0] as usize;
        let exp = |logit: &f32| f64::from(*logit).exp();
        let total: f64 = logits.iter().map(exp).sum();
        let below: f64 = logits[..action].iter().map(exp).sum();
        let probability = exp(&logits[action]) / total;
        prop_assert!((f64::from(log_prob) - probability.ln()).abs() < 1e-5);
        prop_assert!(below / total <= uniform + 1e-9);
        prop_assert!(uniform <= below / total + probability + 1e-9);
    }
}
