//! Each objective and critic from its key to the parameters that an update leaves.

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use springbok_common::{
    arrays::{Actions, Elements},
    config::Critic,
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
    step::StepOutcome,
};

use super::*;
use crate::{
    algorithm::schedule::Linear,
    trainer::{
        batch::Batch,
        update::{
            UpdateFault,
            acceptance::{COLUMNS, T, batch, largest_difference, material, updater},
        },
    },
};

/// A configuration's update with small steps.
fn configured(algorithm: &AlgorithmConfig) -> UpdateConfig {
    UpdateConfig {
        policy_learning_rate: Linear::constant(3e-3),
        value_learning_rate: Linear::constant(1e-2),
        ..UpdateConfig::from(algorithm)
    }
}

fn objective(objective: Objective) -> AlgorithmConfig {
    let single = matches!(objective, Objective::A2c | Objective::WeightedPg);
    AlgorithmConfig {
        objective,
        epochs: if single { 1 } else { 4 },
        ..AlgorithmConfig::default()
    }
}

/// One step over the whole batch, large enough in Adam's epsilon for the parameters to compare gradients.
fn one_step(algorithm: AlgorithmConfig) -> UpdateConfig {
    UpdateConfig {
        epochs: 1,
        minibatches: 1,
        adam_epsilon: 1.0,
        policy_learning_rate: Linear::constant(1.0),
        ..configured(&algorithm)
    }
}

#[test]
fn the_first_step_of_every_corrected_objective_is_impalas() {
    for drift in [0.0, 0.1, 1.0] {
        let mut impala = updater(one_step(objective(Objective::WeightedPg)), 4);
        let batch = batch(&impala, 9, drift);
        let norm = impala.update(&batch, 1.0).unwrap().gradient_norm;
        let decoupled = AlgorithmConfig {
            ratio: Ratio::Decoupled,
            ..AlgorithmConfig::default()
        };
        for algorithm in [
            decoupled,
            objective(Objective::KlPenalty),
            objective(Objective::Mdpo),
        ] {
            let mut other = updater(one_step(algorithm.clone()), 4);
            let metrics = other.update(&batch, 1.0).unwrap();
            let difference = largest_difference(&impala, &other);
            assert!(
                difference < 1e-6 && (metrics.gradient_norm - norm).abs() < 1e-6,
                "{:?} {drift}: {difference}",
                algorithm.objective
            );
        }
        // Without the correction it is another gradient as soon as there is lag.
        let unweighted = AlgorithmConfig {
            staleness_weight: false,
            ..objective(Objective::KlPenalty)
        };
        let mut other = updater(one_step(unweighted), 4);
        other.update(&batch, 1.0).unwrap();
        assert_eq!(largest_difference(&impala, &other) > 1e-5, drift > 0.0);
    }
}

#[test]
fn a2c_knows_nothing_of_the_behaviour_policy() {
    for critic in [Critic::Gae, Critic::NStep] {
        let a2c = AlgorithmConfig {
            critic,
            ..objective(Objective::A2c)
        };
        let run = |drift| {
            let mut updater = updater(configured(&a2c), 3);
            let batch = batch(&updater, 5, drift);
            updater.update(&batch, 1.0).unwrap();
            updater
        };
        assert_eq!(run(0.0).parameters(), run(1.0).parameters());
    }
}

#[test]
fn without_lag_all_critics_agree_where_they_should() {
    let run = |critic, lambda, n_step| {
        let algorithm = AlgorithmConfig {
            critic,
            lambda,
            n_step,
            ..objective(Objective::A2c)
        };
        let mut updater = updater(configured(&algorithm), 3);
        let batch = batch(&updater, 5, 0.0);
        updater.update(&batch, 1.0).unwrap();
        updater
    };
    // Returns of all steps are lambda = 1, those of one step lambda = 0.
    for (lambda, n_step) in [(1.0, T), (0.0, 1)] {
        let n_step = run(Critic::NStep, lambda, n_step);
        assert!(largest_difference(&run(Critic::Gae, lambda, 5), &n_step) < 1e-6);
        assert!(largest_difference(&run(Critic::Vtrace, lambda, 5), &n_step) < 1e-6);
    }
    let [long, short] = [T, 1].map(|n| run(Critic::NStep, 0.95, n));
    assert!(largest_difference(&long, &short) > 1e-5);
}

fn target_network(refresh: u64) -> AlgorithmConfig {
    AlgorithmConfig {
        ratio: Ratio::TargetNetwork,
        target_refresh_updates: refresh,
        target_ratio_bar: None,
        ..AlgorithmConfig::default()
    }
}

#[test]
fn a_target_network_that_is_always_fresh_is_decoupled_ppo() {
    let decoupled = AlgorithmConfig {
        ratio: Ratio::Decoupled,
        ..AlgorithmConfig::default()
    };
    let mut with_target = updater(configured(&target_network(1)), 2);
    let mut slow = updater(configured(&target_network(3)), 2);
    let mut decoupled = updater(configured(&decoupled), 2);
    for round in 0..3 {
        let batch = batch(&decoupled, round, 0.3);
        let left = with_target.update(&batch, 1.0).unwrap();
        let right = decoupled.update(&batch, 1.0).unwrap();
        assert!(largest_difference(&with_target, &decoupled) < 1e-5);
        assert!((left.clip_fraction - right.clip_fraction).abs() < 1e-6);
        slow.update(&batch, 1.0).unwrap();
        // The first batch meets the same target in both.
        assert_eq!(largest_difference(&slow, &decoupled) > 1e-5, round > 0);
    }
}

#[test]
fn the_target_network_moves_when_it_is_due_and_never_with_a_failed_update() {
    let mut updater = updater(configured(&target_network(3)), 2);
    let good = batch(&updater, 1, 0.3);
    let mut bad = good.clone();
    bad.rewards[5] = f32::INFINITY;
    let own = |updater: &Updater| updater.evaluate(&updater.stage(&good)).log_probs;
    let of_target = |updater: &Updater| {
        updater
            .evaluate(&updater.stage(&good))
            .target_log_probs
            .unwrap()
    };
    let initial = own(&updater);
    for update in 1..=6 {
        let before = of_target(&updater);
        assert!(matches!(
            updater.update(&bad, 1.0),
            Err(UpdateFault::NonFinite { .. })
        ));
        assert_eq!(of_target(&updater), before);
        updater.update(&good, 1.0).unwrap();
        let expected = match update {
            3 | 6 => own(&updater),
            1 | 2 => initial.clone(),
            _ => before,
        };
        assert_eq!(of_target(&updater), expected, "after update {update}");
    }
    let restored = updater.parameters();
    updater.update(&good, 1.0).unwrap();
    updater.load_parameters(&restored).unwrap();
    assert_eq!(of_target(&updater), own(&updater));
}

#[test]
fn targets_are_corrected_towards_the_target_network() {
    let mut updater = updater(configured(&target_network(9)), 2);
    let batch = batch(&updater, 1, 0.3);
    updater.update(&batch, 1.0).unwrap();
    let material = material(&updater, &batch);
    let mut arrival = updater.evaluate(&updater.stage(&batch));
    let targets = updater.targets(&material, &arrival);
    // The same with the target's policy as if it were the learner's, and with the learner's own.
    let own = arrival.log_probs.clone();
    arrival.log_probs = arrival.target_log_probs.take().unwrap();
    assert_eq!(updater.targets(&material, &arrival).values, targets.values);
    arrival.log_probs = own;
    assert_ne!(updater.targets(&material, &arrival).values, targets.values);
}

/// Experience with other kinds of actions.
fn batch_of(updater: &Updater, actions: &ActionSpec) -> Batch {
    let mut rng = Pcg64::seed_from_u64(3);
    let steps = T * COLUMNS;
    let rows = (steps + COLUMNS) * 3;
    let masked = matches!(actions, ActionSpec::MultiDiscrete(_));
    let mut batch = Batch {
        t: T,
        columns: COLUMNS,
        observations: Elements::F32((0..rows).map(|_| rng.random_range(-1.0..1.0)).collect()),
        actions: match actions {
            ActionSpec::Box { low, .. } => {
                let draws = 0..steps * low.len();
                Actions::Values(draws.map(|_| rng.random_range(-1.0..1.0)).collect())
            }
            discrete => {
                let heads = discrete.heads().len();
                Actions::Indices((0..steps * heads).map(|_| rng.random_range(0..2)).collect())
            }
        },
        // The last action of the first head is never allowed.
        action_masks: if masked {
            [1, 1, 0, 1, 1].repeat(steps)
        } else {
            Vec::new()
        },
        rewards: (0..steps).map(|_| rng.random_range(-1.0..1.0)).collect(),
        outcomes: vec![StepOutcome::Continued; steps],
        behaviour_log_probs: vec![0.0; steps],
        lags: vec![0; COLUMNS],
        ..Batch::default()
    };
    batch.behaviour_log_probs = updater.evaluate(&updater.stage(&batch)).log_probs;
    batch
}

#[test]
fn a_heavier_penalty_keeps_every_kind_of_policy_nearer_to_the_proximal_one() {
    for action in [
        ActionSpec::Discrete(4),
        ActionSpec::MultiDiscrete(vec![3, 2]),
        ActionSpec::Box {
            low: vec![-1.0; 2],
            high: vec![1.0; 2],
        },
    ] {
        let observation = ObservationSpec::floats([3], [-1.0, 1.0]);
        let environment = EnvironmentSpec::new("E", observation, action.clone());
        let network = NetworkSpec::mlp(&environment, vec![16], Activation::Tanh, false);
        let divergence = |kind, kl_direction, kl_coefficient| {
            let algorithm = AlgorithmConfig {
                kl_coefficient,
                kl_direction,
                ..objective(kind)
            };
            let settings = UpdateConfig {
                policy_learning_rate: Linear::constant(1e-2),
                ..configured(&algorithm)
            };
            let mut updater = Updater::with_settings(settings, &network, 1, Device::flex());
            let batch = batch_of(&updater, &action);
            let metrics = updater.update(&batch, 1.0).unwrap();
            assert_eq!(metrics.kl_coefficient, kl_coefficient);
            metrics.kl
        };
        for (kind, direction) in [
            (Objective::KlPenalty, KlDirection::Forward),
            (Objective::KlPenalty, KlDirection::Reverse),
            (Objective::Mdpo, KlDirection::Forward),
        ] {
            let [light, heavy] = [1e-3, 100.0].map(|beta| divergence(kind, direction, beta));
            assert!(light > 0.0 && heavy >= 0.0, "{action:?} {direction:?}");
            assert!(
                heavy < light / 3.0,
                "{action:?} {direction:?}: {heavy} {light}"
            );
        }
        let directions = [KlDirection::Forward, KlDirection::Reverse];
        let [forward, reverse] = directions.map(|d| divergence(Objective::KlPenalty, d, 1e-3));
        assert!(
            (forward - reverse).abs() > 1e-7,
            "they are different numbers"
        );
    }
}

#[test]
fn the_divergence_is_the_exact_one_of_the_whole_batch() {
    let mut updater = updater(configured(&objective(Objective::KlPenalty)), 2);
    let batch = batch(&updater, 1, 0.3);
    let logits = |updater: &Updater| {
        let parameters = updater
            .pass(&updater.learnt.model.valid(), &updater.stage(&batch))
            .parameters;
        let flat: Vec<f32> = parameters.into_data().try_into_vec().unwrap();
        flat
    };
    let before = logits(&updater);
    let metrics = updater.update(&batch, 1.0).unwrap();
    let after = logits(&updater);
    let shares = |row: &[f32]| {
        let exponentials: Vec<f64> = row.iter().map(|logit| f64::from(*logit).exp()).collect();
        let total: f64 = exponentials.iter().sum();
        exponentials.into_iter().map(move |share| share / total)
    };
    let rows = before.chunks(4).zip(after.chunks(4));
    let divergences = rows.map(|(old, new)| {
        let pairs = shares(old).zip(shares(new));
        pairs.map(|(p, q)| p * (p / q).ln()).sum::<f64>()
    });
    let mean = divergences.sum::<f64>() / batch.steps() as f64;
    assert!((metrics.kl - mean).abs() < 1e-6, "{} {mean}", metrics.kl);
}

#[test]
fn the_weight_of_the_penalty_follows_the_divergence_and_is_undone_with_it() {
    let weights = |kl_target, kl_adaptation| {
        let algorithm = AlgorithmConfig {
            kl_target,
            kl_adaptation,
            ..objective(Objective::KlPenalty)
        };
        let mut updater = updater(configured(&algorithm), 2);
        let good = batch(&updater, 1, 0.3);
        let mut bad = good.clone();
        bad.rewards[5] = f32::INFINITY;
        [(); 3].map(|()| {
            updater.update(&bad, 1.0).unwrap_err();
            updater.update(&good, 1.0).unwrap().kl_coefficient
        })
    };
    assert_eq!(weights(1e-9, KlAdaptation::Paper), [1.0, 2.0, 4.0]);
    assert_eq!(weights(1e3, KlAdaptation::Paper), [1.0, 0.5, 0.25]);
    assert_eq!(weights(1e-9, KlAdaptation::Rllib), [1.0, 1.5, 2.25]);
    assert_eq!(weights(0.01, KlAdaptation::Fixed), [1.0; 3]);
}

#[test]
fn the_weight_of_mirror_descent_follows_its_schedule() {
    let weights = |mdpo_schedule| {
        let algorithm = AlgorithmConfig {
            mdpo_schedule,
            kl_coefficient: 2.0,
            ..objective(Objective::Mdpo)
        };
        let mut updater = updater(configured(&algorithm), 2);
        let batch = batch(&updater, 1, 0.3);
        [1.0, 0.5, 0.25].map(|remaining| updater.update(&batch, remaining).unwrap().kl_coefficient)
    };
    assert_eq!(weights(MdpoSchedule::PaperLinear), [2.0, 4.0, 8.0]);
    assert_eq!(weights(MdpoSchedule::InverseStep), [2.0, 1.0, 2.0 / 3.0]);
}

#[test]
fn passes_end_when_the_policy_has_moved_too_far() {
    let run = |kl_stop, epochs| {
        let algorithm = AlgorithmConfig {
            kl_stop,
            epochs,
            ..AlgorithmConfig::default()
        };
        let mut updater = updater(configured(&algorithm), 2);
        let batch = batch(&updater, 1, 0.3);
        let metrics = updater.update(&batch, 1.0).unwrap();
        (metrics.epochs, updater.parameters())
    };
    assert_eq!(run(Some(1e-12), 4), run(None, 1));
    assert_eq!(run(Some(1e3), 4), run(None, 4));
    assert_eq!(run(None, 4).0, 4);
    // A limit that the first passes keep and a later one does not.
    let (epochs, _) = run(Some(2e-4), 40);
    assert!((2..40).contains(&epochs), "{epochs}");
}

#[test]
fn a_batch_that_was_seen_before_moves_no_running_statistics() {
    let environment = EnvironmentSpec::new(
        "E",
        ObservationSpec::floats([3], [-1.0, 1.0]),
        ActionSpec::Discrete(4),
    );
    let mut network = NetworkSpec::mlp(&environment, vec![16], Activation::Tanh, false);
    network.normalise_observations = true;
    let settings = UpdateConfig {
        normalise_rewards: true,
        ..configured(&AlgorithmConfig::default())
    };
    let mut updater = Updater::with_settings(settings, &network, 1, Device::flex());
    let mut batch = batch_of(&updater, &environment.action);
    batch.actors = vec![springbok_common::ids::ActorId::random()];
    updater.update(&batch, 1.0).unwrap();
    let rewards = |updater: &mut Updater, batch: &Batch| {
        let config = updater.config;
        updater.learnt.statistics.rewards(&config, batch)
    };
    batch.reused = true;
    let first = rewards(&mut updater, &batch);
    assert_eq!(rewards(&mut updater, &batch), first);
    assert_ne!(first, batch.rewards);
    // Observation statistics come first among the parameters.
    let statistics = |updater: &Updater| updater.parameters()[..2 * 3 * 4].to_vec();
    let before = statistics(&updater);
    updater.update(&batch, 1.0).unwrap();
    assert_eq!(statistics(&updater), before);
    for value in batch.rewards.iter_mut() {
        *value += 1.0;
    }
    if let Elements::F32(observations) = &mut batch.observations {
        observations.iter_mut().for_each(|number| *number += 1.0);
    }
    batch.reused = false;
    assert_ne!(rewards(&mut updater, &batch), rewards(&mut updater, &batch));
    updater.update(&batch, 1.0).unwrap();
    assert_ne!(statistics(&updater), before);
}
