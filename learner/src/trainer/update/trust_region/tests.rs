//! The golden vectors on the code that searches, and whole updates with the objective "trust_region".

use burn::tensor::{Device, TensorData};
use serde_json::Value;
use springbok_common::{
    arrays::{Actions, Elements},
    config::{AdvantageNormalisation, AlgorithmConfig, Objective},
    policy::DistributionKind,
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
    step::StepOutcome,
};

use super::*;
use crate::{
    algorithm::normalise::moments,
    golden,
    trainer::{
        batch::Batch,
        update::{
            Targets, UpdateConfig, UpdateFault,
            arrival::OnHost,
            scripted::{self, COLUMNS, T, material, parameters, updater},
        },
    },
};

/// The names of the policy's parameters in the order of the flat buffer.
const POLICY: [&str; 4] = ["w1", "b1", "wp", "bp"];
/// Enough for small networks, whose golden solutions are exact.
const GOLDEN_ITERATIONS: usize = 30;

fn golden_policy(parameters: &Value) -> Vec<f64> {
    let names = POLICY.iter();
    names
        .flat_map(|name| golden::numbers(&parameters[name]))
        .collect()
}

fn golden_updater(case: &Value) -> Updater {
    let size = |key: &str| golden::integer(&case[key]);
    let environment = EnvironmentSpec::new(
        "Golden",
        ObservationSpec::floats([size("D")], [-1e6, 1e6]),
        ActionSpec::Discrete(size("A") as u32),
    );
    let network = NetworkSpec::mlp(&environment, vec![size("H")], Activation::Tanh, false);
    let config = &case["config"];
    assert_eq!(config["backtrack"], 0.5);
    assert_eq!(config["max_backtracks"], 10);
    let algorithm = AlgorithmConfig {
        objective: Objective::TrustRegion,
        trust_region_kl_max: golden::number(&config["max_kl"]),
        trust_region_damping: golden::number(&config["damping"]),
        trust_region_cg_iterations: GOLDEN_ITERATIONS,
        advantage_normalisation: AdvantageNormalisation::None,
        entropy_coefficient: 0.0,
        ..AlgorithmConfig::default()
    };
    let settings = UpdateConfig::from(&algorithm);
    let mut updater = Updater::with_settings(settings, &network, 0, Device::flex());
    // The value has a torso of its own here, whose parameters make no difference.
    let mut point = Point::of(&updater.learnt.model);
    let golden = golden_policy(&case["input"]["params"]);
    let places: Vec<usize> = point.places.iter().cloned().flatten().collect();
    assert_eq!(places.len(), golden.len());
    for (place, number) in places.into_iter().zip(golden) {
        point.flat[place] = number as f32;
    }
    let bytes: Vec<u8> = point.flat.iter().flat_map(|x| x.to_le_bytes()).collect();
    updater.load_parameters(&bytes).unwrap();
    updater
}

/// The rows of a case side by side, without lag.
fn golden_batch(case: &Value, updater: &Updater) -> Batch {
    let (rows, width) = (golden::integer(&case["N"]), golden::integer(&case["D"]));
    let mut observations = golden::numbers_f32(&case["input"]["obs"]);
    observations.extend(vec![0.0; rows * width]);
    let actions = golden::integers(&case["input"]["action"]);
    let mut batch = Batch {
        t: 1,
        columns: rows,
        observations: Elements::F32(observations),
        actions: Actions::Indices(actions.into_iter().map(|action| action as u32).collect()),
        rewards: vec![0.0; rows],
        behaviour_log_probs: vec![0.0; rows],
        outcomes: vec![StepOutcome::Continued; rows],
        lags: vec![0; rows],
        ..Batch::default()
    };
    batch.behaviour_log_probs = updater.evaluate(&updater.stage(&batch)).log_probs;
    batch
}

fn check_search(name: &str, case: &Value, parts: usize) {
    let updater = golden_updater(case);
    let batch = golden_batch(case, &updater);
    let advantages = golden::numbers_f32(&case["input"]["adv"]);
    let arrival = Arrival::Host(Box::new(OnHost {
        evaluation: updater.evaluate(&updater.stage(&batch)),
        targets: Targets {
            values: vec![0.0; advantages.len()],
            raw: moments(&advantages, None),
            advantages,
        },
    }));
    let rows: Vec<usize> = (0..batch.columns).collect();
    let plan = vec![
        rows.chunks(batch.columns.div_ceil(parts))
            .map(<[usize]>::to_vec)
            .collect(),
    ];
    let material = material(&updater, &batch);
    let search = updater
        .search(&material, &arrival, &plan, &updater.rates(1.0))
        .unwrap();
    let expected = &case["expected"];
    let close = |field: &str, got: &[f64], wanted: &[f64], tolerance: f64| {
        golden::assert_close(&format!("{name} {field}"), got, wanted, tolerance);
    };

    let vector = golden_policy(&case["input"]["vector"]);
    let mut product = search.damped_product(&vector).unwrap();
    for (product, element) in product.iter_mut().zip(&vector) {
        *product -= search.config.damping * element;
    }
    close(
        "fvp_undamped",
        &product,
        &golden_policy(&expected["fvp_undamped"]),
        5e-5,
    );

    let gradient = search.gradient().unwrap();
    let wanted = golden_policy(&expected["policy_gradient"]);
    close("policy_gradient", &gradient, &wanted, 1e-5);

    let solution = conjugate_gradient(
        |v| search.damped_product(v),
        &gradient,
        search.config.cg_iterations,
    )
    .unwrap();
    let wanted = golden_policy(&expected["cg_solution"]);
    close("cg_solution", &solution.x, &wanted, 1e-3);

    let image = search.damped_product(&solution.x).unwrap();
    let step = full_step(&solution.x, &image, search.config.kl_max).unwrap();
    close(
        "full_step",
        &step,
        &golden_policy(&expected["full_step"]),
        1e-3,
    );

    let (before, divergence) = search.surrogate(&search.updater.learnt.model.valid());
    let wanted = golden::number(&expected["surrogate_before"]);
    close("surrogate_before", &[before], &[wanted], 1e-5);
    assert!(divergence.abs() < 1e-7, "{name}: {divergence}");
    let trials = expected["line_search"].as_array().unwrap();
    for trial in trials {
        let scale = golden::number(&trial["scale"]);
        let model = updater.learnt.model.valid();
        let model = search.point.moved(model, &step, scale).unwrap();
        let (surrogate, kl) = search.surrogate(&model);
        let wanted = |field: &str| golden::number(&trial[field]);
        close("surrogate", &[surrogate], &[wanted("surrogate")], 1e-4);
        close("mean_kl", &[kl], &[wanted("mean_kl")], 1e-5);
    }
    let (model, metrics) = search.run().unwrap();
    let accepted = golden::integer(&expected["accepted_index"]);
    assert_eq!(metrics.step_fraction, 0.5_f64.powi(accepted as i32));
    assert!(model.is_some());
}

#[test]
fn golden_trust_region() {
    golden::each_case(
        "trust_region",
        |_| true,
        |name, case| {
            if case["input"].get("logits").is_none() {
                check_search(name, case, 1);
                check_search(name, case, 3);
                return;
            }
            let actions = golden::integer(&case["A"]);
            let matrix = |field: &str| {
                let numbers = golden::numbers_f32(&case["input"][field]);
                let shape = [numbers.len() / actions, actions];
                Tensor::<2>::from_data(TensorData::new(numbers, shape), &Device::flex())
            };
            let heads = vec![actions];
            let kind = DistributionKind::Categorical { heads };
            let product =
                Distribution::new(&kind, matrix("logits"), None).fisher_product(matrix("vector"));
            let got = read(product.flatten(0, 1));
            let wanted = golden::numbers(&case["expected"]["product"]);
            golden::assert_close_f32(name, &got, &wanted, 1e-5);
        },
    );
}

fn torques() -> ActionSpec {
    ActionSpec::Box {
        low: vec![-2.0, -1.0],
        high: vec![2.0, 1.0],
    }
}

/// Updaters with every kind of action, with and without memory, on the whole batch and on a sample of it.
fn updaters(sets: &[&str]) -> Vec<Updater> {
    let stride = "algorithm.trust_region_fisher_stride=3";
    let cases: [(ActionSpec, &[&str]); 5] = [
        (ActionSpec::Discrete(4), &[]),
        (ActionSpec::MultiDiscrete(vec![3, 2]), &[stride]),
        (torques(), &["policy.popart=true"]),
        (torques(), &["policy.std=state_dependent", stride]),
        (
            ActionSpec::Discrete(3),
            &[
                "policy.core=gru",
                "policy.core_size=5",
                "algorithm.burn_in=1",
                stride,
            ],
        ),
    ];
    let objective: &[&str] = &["algorithm.objective=trust_region"];
    cases
        .into_iter()
        .map(|(action, more)| updater(action, &[objective, sets, more].concat()))
        .collect()
}

/// Where a policy's parameters are, and where the others.
fn split(updater: &Updater) -> (Vec<f32>, Vec<f32>) {
    let all = parameters(updater);
    let places = Point::of(&updater.learnt.model).places;
    let is_policy = |index: &usize| places.iter().any(|place| place.contains(index));
    let (own, others): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(is_policy);
    let pick = |places: Vec<usize>| places.into_iter().map(|place| all[place]).collect();
    (pick(own), pick(others))
}

/// The divergence is computed here from whole passes before and after the update, not by the code that searched.
#[test]
fn an_accepted_step_stays_within_the_divergence_and_the_critic_learns() {
    for mut updater in updaters(&["algorithm.gamma=0.5"]) {
        let mut value_losses = Vec::new();
        let mut fractions = Vec::new();
        for round in 0..12 {
            let batch = scripted::batch(&updater, round % 2, 0.2);
            let policy = |updater: &Updater| {
                let pass = updater.pass(&updater.learnt.model.valid(), &updater.stage(&batch));
                let rows = updater.config.burn_in * COLUMNS;
                let parameters = pass.parameters.narrow(0, rows, T * COLUMNS - rows);
                Distribution::new(&updater.actions, parameters, None)
            };
            let before = policy(&updater);
            let metrics = updater.update(&batch, 1.0).unwrap();
            let kl = before.kl(&policy(&updater)).mean().into_scalar::<f32>();
            let limit = updater.config.trust_region.unwrap().kl_max;
            let step = metrics.trust_region.unwrap();
            let name = format!("{:?} {round} {step:?}", updater.actions);
            assert!(f64::from(kl) <= 1.01 * limit, "{name}: {kl}");
            assert!(
                (f64::from(kl) - step.kl).abs() < 1e-3 * limit,
                "{name}: {kl}"
            );
            assert_eq!(metrics.kl, step.kl);
            assert!(metrics.learning_rate.is_nan());
            assert!(step.cg_residual < 0.5, "{name}");
            fractions.push(step.step_fraction);
            value_losses.push(metrics.value_loss);
        }
        let accepted = fractions.iter().filter(|fraction| **fraction > 0.0);
        assert!(accepted.count() > 9, "{fractions:?}");
        let (first, last) = (value_losses[0], value_losses[value_losses.len() - 1]);
        assert!(last < 0.7 * first, "{:?} {value_losses:?}", updater.actions);
    }
}

/// A step too short to change a number in f32 gains nothing and is rejected at every length.
#[test]
fn a_rejected_search_leaves_the_policy_bit_equal() {
    for mut updater in updaters(&["algorithm.trust_region_kl_max=1e-30"]) {
        let batch = scripted::batch(&updater, 7, 0.2);
        let (policy, others) = split(&updater);
        let metrics = updater.update(&batch, 1.0).unwrap();
        let step = metrics.trust_region.unwrap();
        assert_eq!((step.step_fraction, step.kl), (0.0, 0.0));
        let (policy_after, others_after) = split(&updater);
        assert_eq!(policy, policy_after);
        assert_ne!(others, others_after);
    }
}

#[test]
fn the_rewarded_action_is_learnt() {
    let sets = ["algorithm.objective=trust_region", "algorithm.gamma=0"];
    let mut updater = updater(ActionSpec::Discrete(4), &sets);
    for round in 0..25 {
        let batch = scripted::batch(&updater, round, 0.1);
        updater.update(&batch, 1.0).unwrap();
    }
    let batch = scripted::batch(&updater, 99, 0.0);
    let pass = updater.pass(&updater.learnt.model.valid(), &updater.stage(&batch));
    let probabilities = burn::tensor::activation::softmax(pass.parameters, 1);
    let rewarded = probabilities.narrow(1, 1, 1).mean().into_scalar::<f32>();
    assert!(rewarded > 0.6, "{rewarded}");
}

#[test]
fn a_failed_or_stopped_search_leaves_no_trace() {
    for mut updater in updaters(&[]) {
        let good = scripted::batch(&updater, 1, 0.1);
        updater.update(&good, 1.0).unwrap();
        let before = updater.parameters();
        let mut bad = good.clone();
        bad.rewards[10] = f32::INFINITY;
        let fault = updater.update(&bad, 1.0).unwrap_err();
        assert!(matches!(fault, UpdateFault::NonFinite { .. }), "{fault}");
        assert_eq!(export_flat(&updater.learnt.model), before);

        let stop = updater.stop.clone();
        stop.cancel();
        let material = material(&updater, &good);
        let arrival = updater.arrival(&material);
        let plan = updater.plan(&material);
        let rates = updater.rates(1.0);
        let search = updater.search(&material, &arrival, &plan, &rates).unwrap();
        assert!(search.damped_product(&[1.0; 4]).is_none());
        assert!(search.run().is_none());
        assert_eq!(updater.update(&good, 1.0), Err(UpdateFault::Stopped));
        assert_eq!(export_flat(&updater.learnt.model), before);
    }
}
