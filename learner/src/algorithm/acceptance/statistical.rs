//! B: what must hold for any sampled data, on simulated categorical policies that drift from version to version.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::algorithm::health::{Health, Samples, effective_sample_size, health, kl_estimates};

const STEPS: usize = 20_000;
const ACTIONS: usize = 4;

/// Log-probabilities of all actions, one row per step.
type Policy = Vec<[f64; ACTIONS]>;

/// Random logits around 0, normalised.
fn random_policy(random: &mut Pcg64, spread: f64) -> Policy {
    let mut row = || {
        let logits: [f64; ACTIONS] = std::array::from_fn(|_| random.random_range(-spread..spread));
        log_softmax(logits)
    };
    (0..STEPS).map(|_| row()).collect()
}

fn log_softmax(logits: [f64; ACTIONS]) -> [f64; ACTIONS] {
    let total = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
    logits.map(|z| z - total)
}

/// The policy some versions later: each version moves each logit a little.
fn drift(policy: &Policy, versions: u32, random: &mut Pcg64) -> Policy {
    let reach = 0.2 * f64::from(versions).sqrt();
    let mut row = |logits: &[f64; ACTIONS]| {
        log_softmax(logits.map(|z| z + reach * random.random_range(-1.0..=1.0)))
    };
    policy.iter().map(&mut row).collect()
}

fn sample(policy: &Policy, random: &mut Pcg64) -> Vec<usize> {
    let mut draw = |row: &[f64; ACTIONS]| {
        let mut left: f64 = random.random();
        let found = row.iter().position(|log_p| {
            left -= log_p.exp();
            left < 0.0
        });
        found.unwrap_or(ACTIONS - 1)
    };
    policy.iter().map(&mut draw).collect()
}

fn taken(policy: &Policy, actions: &[usize]) -> Vec<f32> {
    let pairs = policy.iter().zip(actions);
    pairs.map(|(row, action)| row[*action] as f32).collect()
}

/// The metrics for data sampled by `behaviour` when the learner holds `learner`, with `log_mu` as shipped.
fn metrics(log_mu: &[f32], learner: &[f32]) -> Health {
    let zeros = vec![0.0_f32; log_mu.len()];
    let samples = Samples {
        behaviour: log_mu,
        proximal: learner,
        current: learner,
        advantages: &zeros,
        values: &zeros,
        targets: &zeros,
        lags: &[0],
        mask: None,
    };
    health(&samples, 0.2, Some(1.0)).expect("valid steps")
}

/// How many standard errors the mean ratio is from 1.
fn distance_from_one(found: &Health) -> f64 {
    (found.prox_ratio_mean - 1.0).abs() / found.prox_ratio_mean_error.max(1e-9)
}

#[test]
fn b1_the_mean_ratio_is_one_at_every_lag() {
    let mut random = Pcg64::seed_from_u64(11);
    let mu = random_policy(&mut random, 1.5);
    let actions = sample(&mu, &mut random);
    let log_mu = taken(&mu, &actions);
    let mut previous = f64::INFINITY;
    for lag in [0, 1, 2, 8, 32] {
        let pi = drift(&mu, lag, &mut random);
        let found = metrics(&log_mu, &taken(&pi, &actions));
        assert!(distance_from_one(&found) < 4.0, "lag {lag}: {found:?}");
        assert!(found.ess_behaviour < previous, "staler data is worth less");
        previous = found.ess_behaviour;
    }
}

/// The faults that B1 is there to catch must be far outside its bounds, or it would catch nothing.
#[test]
fn b1_notices_wrong_behaviour_log_probabilities() {
    let mut random = Pcg64::seed_from_u64(12);
    let mu = random_policy(&mut random, 1.5);
    let actions = sample(&mu, &mut random);
    let log_mu = taken(&mu, &actions);
    let log_pi = taken(&drift(&mu, 8, &mut random), &actions);

    let inverted = metrics(&log_pi, &log_mu);
    let mut shifted_actions = actions.clone();
    shifted_actions.rotate_right(1);
    let shifted = metrics(&taken(&mu, &shifted_actions), &log_pi);
    let recomputed = metrics(&taken(&drift(&mu, 8, &mut random), &actions), &log_pi);
    let cooled: Policy = mu
        .iter()
        .map(|row| log_softmax(row.map(|z| z * 2.0)))
        .collect();
    let tempered = metrics(&taken(&cooled, &actions), &log_pi);
    for (fault, found) in [
        ("inverted ratio", inverted),
        ("action of another row", shifted),
        ("log mu recomputed with other parameters", recomputed),
        ("log mu stored after a change of temperature", tempered),
    ] {
        let distance = distance_from_one(&found);
        assert!(distance > 6.0, "{fault}: only {distance} standard errors");
    }
}

#[test]
fn b2_the_divergence_estimates_of_sampled_data_are_not_negative() {
    let mut random = Pcg64::seed_from_u64(13);
    let mu = random_policy(&mut random, 1.5);
    let actions = sample(&mu, &mut random);
    let log_mu = taken(&mu, &actions);
    for lag in [0, 1, 8, 32] {
        let log_pi = taken(&drift(&mu, lag, &mut random), &actions);
        let found = metrics(&log_mu, &log_pi);
        let differences = log_mu.iter().zip(&log_pi).map(|(m, p)| f64::from(m - p));
        let squares = differences.map(|k| (k - found.kl_behaviour.k1).powi(2));
        let error = squares.sum::<f64>().sqrt() / STEPS as f64;
        assert!(
            found.kl_behaviour.k1 >= -3.0 * error,
            "lag {lag}: {found:?}"
        );
        assert!(found.kl_behaviour.k3 >= 0.0, "lag {lag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b2_bounds_hold_for_any_ratios(log_ratios in prop::collection::vec(-30.0..30.0_f64, 1..200)) {
        let found = kl_estimates(&log_ratios);
        prop_assert!(found.k2 >= 0.0 && found.k3 >= 0.0);
        let ess = effective_sample_size(&log_ratios);
        let least = 1.0 / log_ratios.len() as f64;
        prop_assert!(ess >= least * (1.0 - 1e-12) && ess <= 1.0 + 1e-12, "{}", ess);
    }
}
