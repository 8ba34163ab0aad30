//! Exact identities that the whole update must satisfy, and what it does when numbers fail.

use rand::RngExt;
use springbok_common::{
    arrays::{Actions, Elements},
    config::AlgorithmConfig,
    spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
};

use super::*;
use crate::algorithm::{
    schedule::Linear,
    surrogate::{SurrogateConfig, SurrogateKind},
};

pub(super) const T: usize = 8;
pub(super) const COLUMNS: usize = 6;

fn network(shared_torso: bool) -> NetworkSpec {
    let environment = EnvironmentSpec::new(
        "E",
        ObservationSpec::floats([3], [-1.0, 1.0]),
        ActionSpec::Discrete(4),
    );
    NetworkSpec::mlp(&environment, vec![16], Activation::Tanh, shared_torso)
}

pub(super) fn settings(kind: SurrogateKind) -> UpdateConfig {
    UpdateConfig {
        surrogate: SurrogateConfig::new(kind, 0.2),
        policy_learning_rate: Linear::constant(3e-3),
        value_learning_rate: Linear::constant(1e-2),
        ..UpdateConfig::from(&AlgorithmConfig::default())
    }
}

pub(super) fn updater(settings: UpdateConfig, seed: u64) -> Updater {
    Updater::with_settings(settings, &network(false), seed, Device::flex())
}

/// Random experience with ends of both kinds. The behaviour policy is `updater`'s, shifted by up to `drift` per step.
pub(super) fn batch(updater: &Updater, seed: u64, drift: f32) -> Batch {
    let mut rng = Pcg64::seed_from_u64(seed);
    let steps = T * COLUMNS;
    let outcomes: Vec<StepOutcome> = (0..steps)
        .map(|step| match step % 11 {
            3 => StepOutcome::Truncated,
            7 => StepOutcome::Terminated,
            _ => StepOutcome::Continued,
        })
        .collect();
    let final_rows: Vec<usize> = (0..steps)
        .filter(|&row| outcomes[row] == StepOutcome::Truncated)
        .collect();
    let rows = steps + COLUMNS + final_rows.len();
    let mut batch = Batch {
        t: T,
        columns: COLUMNS,
        observations: Elements::F32((0..rows * 3).map(|_| rng.random_range(-1.0..1.0)).collect()),
        actions: Actions::Indices((0..steps).map(|_| rng.random_range(0..4)).collect()),
        rewards: (0..steps).map(|_| rng.random_range(-1.0..1.0)).collect(),
        behaviour_log_probs: vec![0.0; steps],
        outcomes,
        final_rows,
        lags: vec![u64::from(drift > 0.0); COLUMNS],
        ..Batch::default()
    };
    batch.behaviour_log_probs = updater.evaluate(&updater.stage(&batch)).log_probs;
    for log_prob in &mut batch.behaviour_log_probs {
        *log_prob += drift * rng.random_range(-1.0..1.0_f32);
    }
    batch
}

pub(super) fn parameters(updater: &Updater) -> Vec<f32> {
    let (words, _) = updater.parameters.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

pub(super) fn largest_difference(left: &Updater, right: &Updater) -> f32 {
    parameters(left)
        .iter()
        .zip(parameters(right))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

pub(super) fn material<'a>(updater: &Updater, batch: &'a Batch) -> Material<'a> {
    Material {
        rewards: batch.rewards.clone(),
        learnable: batch.learnable(0),
        staged: updater.stage(batch),
        batch,
    }
}

#[test]
fn without_lag_vtrace_trains_as_gae_does() {
    for kind in [
        SurrogateKind::Behaviour,
        SurrogateKind::Decoupled,
        SurrogateKind::Proximal,
    ] {
        for seed in 0..3 {
            let mut with_vtrace = updater(settings(kind), seed);
            let with_critic = UpdateConfig {
                critic: CriticKind::Gae,
                ..settings(kind)
            };
            let mut with_gae = updater(with_critic, seed);
            for round in 0..3 {
                let batch = batch(&with_vtrace, 100 * seed + round, 0.0);
                with_vtrace.update(&batch, 1.0).unwrap();
                with_gae.update(&batch, 1.0).unwrap();
                let difference = largest_difference(&with_vtrace, &with_gae);
                assert!(difference < 1e-6, "{kind:?} {seed} {round}: {difference}");
            }
        }
    }
}

#[test]
fn one_pass_of_decoupled_ppo_is_impala_at_any_lag() {
    for drift in [0.0, 0.1, 1.0] {
        let single_pass = |kind| UpdateConfig {
            epochs: 1,
            minibatches: 1,
            // A large epsilon makes Adam's first step proportional to the gradient, so that parameters compare
            // gradients and not only their signs.
            adam_epsilon: 1.0,
            policy_learning_rate: Linear::constant(1.0),
            ..settings(kind)
        };
        let mut decoupled = updater(single_pass(SurrogateKind::Decoupled), 4);
        let mut impala = updater(single_pass(SurrogateKind::WeightedPolicyGradient), 4);
        let batch = batch(&decoupled, 9, drift);
        let before = parameters(&decoupled);
        let left = decoupled.update(&batch, 1.0).unwrap();
        let right = impala.update(&batch, 1.0).unwrap();
        assert!((left.gradient_norm - right.gradient_norm).abs() < 1e-6);
        assert!(largest_difference(&decoupled, &impala) < 1e-6);
        assert_ne!(before, parameters(&decoupled));
    }
}

#[test]
fn the_first_minibatch_sees_the_policy_of_arrival() {
    for kind in [SurrogateKind::Decoupled, SurrogateKind::Proximal] {
        let mut updater = updater(settings(kind), 5);
        let batch = batch(&updater, 1, 0.8);
        let plan = vec![vec![(0..batch.steps()).collect()]];
        let material = material(&updater, &batch);
        let arrival = updater.arrival(&material);
        let computed = updater.compute(&material, &arrival, &plan, 1.0);
        let computed = computed.unwrap();
        let metrics = updater.conclude(&material, &arrival, computed);
        let metrics = metrics.unwrap();
        assert_eq!(metrics.clip_fraction, 0.0);
        assert!(metrics.approx_kl.abs() < 1e-12, "{}", metrics.approx_kl);
        assert!((metrics.ess_behaviour - metrics.ess_prox).abs() < 1e-6);
        assert!(metrics.ess_prox < 0.95, "stale data are seen as such");
        assert!(metrics.max_abs_log_ratio_lag0.is_nan());
    }
}

#[test]
fn without_lag_actor_and_learner_agree() {
    let mut updater = updater(settings(SurrogateKind::Behaviour), 6);
    let batch = batch(&updater, 2, 0.0);
    let metrics = updater.update(&batch, 1.0).unwrap();
    assert!(metrics.max_abs_log_ratio_lag0 < 1e-4);
    assert!((metrics.ess_prox - 1.0).abs() < 1e-6);
    assert_eq!(metrics.rho_saturation, 0.0);
    assert!(metrics.approx_kl > 0.0 && metrics.gradient_norm > 0.0);
    assert!((metrics.entropy - 4.0_f64.ln()).abs() < 0.1);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut updater = updater(settings(SurrogateKind::Dual), seed);
        for round in 0..2 {
            let batch = batch(&updater, round, 0.2);
            updater.update(&batch, 0.5).unwrap();
        }
        updater.parameters()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_failed_update_leaves_no_trace() {
    let mut tried = updater(settings(SurrogateKind::Behaviour), 7);
    let mut untouched = updater(settings(SurrogateKind::Behaviour), 7);
    let good = batch(&tried, 3, 0.1);
    tried.update(&good, 1.0).unwrap();
    untouched.update(&good, 1.0).unwrap();

    let mut bad = good.clone();
    bad.rewards[5] = f32::INFINITY;
    let fault = tried.update(&bad, 1.0).unwrap_err();
    assert!(matches!(fault, UpdateFault::NonFinite { .. }), "{fault}");
    assert_eq!(tried.parameters(), untouched.parameters());

    // Optimisers and shuffling are as before too.
    tried.update(&good, 1.0).unwrap();
    untouched.update(&good, 1.0).unwrap();
    assert_eq!(tried.parameters(), untouched.parameters());
    assert_eq!(
        tried.update(&Batch::default(), 1.0),
        Err(UpdateFault::EmptyBatch)
    );
}

#[test]
fn a_stopped_update_leaves_no_trace() {
    let stop = CancellationToken::new();
    let mut stopped = updater(settings(SurrogateKind::Behaviour), 7).stopped_by(stop.clone());
    let good = batch(&stopped, 3, 0.1);
    stopped.update(&good, 1.0).unwrap();
    let before = stopped.parameters();
    stop.cancel();
    assert_eq!(stopped.update(&good, 1.0), Err(UpdateFault::Stopped));
    assert_eq!(stopped.parameters(), before);
    assert_eq!(export_flat(&stopped.learnt.model), before);
}

#[test]
fn each_part_of_the_network_has_its_own_step_size() {
    for (policy, value) in [(0.0, 1e-2), (1e-2, 0.0)] {
        let rates = UpdateConfig {
            policy_learning_rate: Linear::constant(policy),
            value_learning_rate: Linear::constant(value),
            ..settings(SurrogateKind::Behaviour)
        };
        let mut updater = updater(rates, 8);
        let before = parameters(&updater);
        let batch = batch(&updater, 4, 0.0);
        updater.update(&batch, 1.0).unwrap();
        let after = parameters(&updater);
        // Order: policy torso, value torso, policy head, value head.
        let (torso, policy_head) = (4 * 16, 17 * 4);
        let is_policy =
            |index: usize| index < torso || (2 * torso..2 * torso + policy_head).contains(&index);
        for moved_policy in [true, false] {
            let moved = (0..before.len())
                .any(|index| is_policy(index) == moved_policy && before[index] != after[index]);
            assert_eq!(moved, if moved_policy { policy } else { value } > 0.0);
        }
    }
}

#[test]
fn masked_steps_move_the_value_and_not_the_policy() {
    let mut settings = settings(SurrogateKind::Behaviour);
    settings.entropy_coefficient = Linear::constant(0.0);
    let mut weighed = updater(settings, 1);
    let mut batch = batch(&weighed, 7, 0.1);
    let before = weighed.evaluate(&weighed.stage(&batch));
    batch.weigh(|_| 0.0);
    weighed.update(&batch, 1.0).unwrap();
    let after = weighed.evaluate(&weighed.stage(&batch));
    assert_eq!(before.log_probs, after.log_probs);
    assert_ne!(before.values, after.values);
}
