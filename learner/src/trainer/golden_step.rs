//! Whole optimiser steps of the production updater against the golden vectors.

use serde_json::Value;
use springbok_common::{
    arrays::{Actions, Elements},
    config::{AdvantageNormalisation, AlgorithmConfig, RecomputeTargets},
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
    step::StepOutcome,
};

use super::*;
use crate::{
    algorithm::{
        schedule::Linear,
        surrogate::{SurrogateConfig, SurrogateKind},
        testing::vtrace_constants,
        value_loss::ValueLossKind,
    },
    golden,
};

const TOLERANCE: f64 = 1e-5;
const PARAMETER_TOLERANCE: f64 = 1e-4;
/// The golden names of the parameters in the order of the flat buffer.
const PARAMETERS: [&str; 6] = ["w1", "b1", "wp", "bp", "wv", "bv"];

fn settings(config: &Value) -> UpdateConfig {
    let kind = match config["policy_loss"].as_str() {
        Some("ppo_decoupled") => SurrogateKind::Decoupled,
        Some("ppo_behaviour") => SurrogateKind::Behaviour,
        Some("ppo_proximal") => SurrogateKind::Proximal,
        Some("weighted_pg") => SurrogateKind::WeightedPolicyGradient,
        Some("a2c") => SurrogateKind::PolicyGradient,
        other => panic!("unknown policy loss {other:?}"),
    };
    assert_eq!(config["value_loss"], "mse");
    assert_eq!(config["adam_beta1"], 0.9);
    assert_eq!(config["adam_beta2"], 0.999);
    let learning_rate = Linear::constant(golden::number(&config["lr"]));
    UpdateConfig {
        vtrace: vtrace_constants(config),
        surrogate: SurrogateConfig {
            weight_bar: golden::optional(&config["weight_bar"]),
            ..SurrogateConfig::new(kind, golden::number(&config["clip_eps"]))
        },
        value_loss: ValueLossKind::Mse,
        value_coefficient: golden::number(&config["value_coef"]),
        entropy_coefficient: Linear::constant(golden::number(&config["entropy_coef"])),
        policy_learning_rate: learning_rate,
        value_learning_rate: learning_rate,
        adam_epsilon: golden::number(&config["adam_eps"]),
        gradient_norm_max: golden::number(&config["max_grad_norm"]),
        epochs: golden::integer(&config["epochs"]),
        minibatches: 1,
        advantage_normalisation: match config["adv_norm"].as_str() {
            Some("batch") => AdvantageNormalisation::Batch,
            Some("minibatch") => AdvantageNormalisation::Minibatch,
            _ => AdvantageNormalisation::None,
        },
        recompute_targets: match config["recompute_targets"].as_str() {
            Some("epoch") => RecomputeTargets::Epoch,
            _ => RecomputeTargets::Once,
        },
        ..UpdateConfig::from(&AlgorithmConfig::default())
    }
}

/// The staging area as [`Batch::assemble`] fills it.
pub(super) fn batch(case: &Value) -> Batch {
    let input = &case["input"];
    let width = golden::integer(&case["D"]);
    let outcomes: Vec<StepOutcome> = golden::flags(&input["terminated"])
        .into_iter()
        .zip(golden::flags(&input["truncated"]))
        .map(|(terminated, truncated)| StepOutcome::from_flags(terminated, truncated))
        .collect();
    let final_rows: Vec<usize> = (0..outcomes.len())
        .filter(|&row| outcomes[row] == StepOutcome::Truncated)
        .collect();
    let mut observations = golden::numbers_f32(&input["obs"]);
    observations.extend(golden::numbers_f32(&input["bootstrap_obs"]));
    let finals = golden::numbers_f32(&input["final_obs"]);
    for &row in &final_rows {
        observations.extend_from_slice(&finals[row * width..(row + 1) * width]);
    }
    let columns = golden::integer(&case["B"]);
    Batch {
        t: golden::integer(&case["T"]),
        columns,
        observations: Elements::F32(observations),
        actions: Actions::Indices(
            golden::integers(&input["action"])
                .into_iter()
                .map(|action| action as u32)
                .collect(),
        ),
        rewards: golden::numbers_f32(&input["reward"]),
        behaviour_log_probs: golden::numbers_f32(&input["log_mu"]),
        outcomes,
        final_rows,
        lags: vec![0; columns],
        ..Batch::default()
    }
}

pub(super) fn updater(case: &Value, device: &Device) -> Updater {
    let environment = EnvironmentSpec::new(
        "Golden",
        ObservationSpec::floats([golden::integer(&case["D"])], [-1e6, 1e6]),
        ActionSpec::Discrete(golden::integer(&case["A"]) as u32),
    );
    let hidden_sizes = vec![golden::integer(&case["H"])];
    let network = NetworkSpec::mlp(&environment, hidden_sizes, Activation::Tanh, true);
    let settings = settings(&case["config"]);
    let mut updater = Updater::with_settings(settings, &network, 0, device.clone());
    let flat: Vec<u8> = flat_parameters(&case["input"]["params"])
        .into_iter()
        .flat_map(|parameter| (parameter as f32).to_le_bytes())
        .collect();
    updater.load_parameters(&flat).unwrap();
    updater
}

fn flat_parameters(parameters: &Value) -> Vec<f64> {
    PARAMETERS
        .iter()
        .flat_map(|name| golden::numbers(&parameters[name]))
        .collect()
}

pub(super) fn plan(case: &Value) -> Plan {
    let list = |value: &Value| value.as_array().unwrap().clone();
    list(&case["input"]["minibatches"])
        .iter()
        .map(|epoch| {
            list(epoch)
                .iter()
                .map(|indices| {
                    let indices = golden::integers(indices);
                    indices.into_iter().map(|index| index as usize).collect()
                })
                .collect()
        })
        .collect()
}

pub(super) fn material<'a>(updater: &Updater, batch: &'a Batch) -> Material<'a> {
    Material {
        rewards: batch.rewards.clone(),
        learnable: batch.learnable(0),
        staged: updater.stage(batch),
        batch,
    }
}

pub(super) fn check_arrival(name: &str, case: &Value, device: &Device, aims_on_device: bool) {
    let batch = batch(case);
    let mut updater = updater(case, device);
    updater.config.advantage_normalisation = AdvantageNormalisation::None;
    updater.aims_on_device = aims_on_device;
    let arrival = updater.arrival(&material(&updater, &batch));
    let OnHost {
        evaluation,
        targets,
    } = arrival.on_host();
    let expected = &case["expected"]["at_arrival"];
    let got = [
        ("value", &evaluation.values[..batch.steps()]),
        ("log_prox", &evaluation.log_probs),
        ("vs", &targets.values),
        ("adv", &targets.advantages),
    ];
    for (field, got) in got {
        let wanted = golden::numbers(&expected[field]);
        golden::assert_close_f32(&format!("{name} {field}"), got, &wanted, TOLERANCE);
    }
}

/// Runs `plan`, each minibatch in `parts`, and compares losses, norms and, where they are given, the parameters after its last step.
pub(super) fn check_steps(
    name: &str,
    case: &Value,
    plan: &Plan,
    device: &Device,
    parts: usize,
    aims_on_device: bool,
) {
    let batch = batch(case);
    let mut updater = updater(case, device);
    updater.parts = parts;
    updater.aims_on_device = aims_on_device;
    let material = material(&updater, &batch);
    let arrival = updater.arrival(&material);
    let rates = updater.rates(1.0);
    let trace = updater.optimise(&material, &arrival, plan, &rates);
    let expected = case["expected"]["steps"].as_array().unwrap();
    let steps = trace.losses.len();
    for (index, (losses, expected)) in trace.losses.into_iter().zip(expected).enumerate() {
        let [policy, value, entropy, norm] = staged::read(losses).try_into().unwrap();
        let (policy, value, entropy) = (f64::from(policy), f64::from(value), f64::from(entropy));
        let policy = policy - rates.entropy * entropy;
        let fields = [
            ("policy_loss_incl_entropy", policy),
            ("value_loss", value),
            (
                "total_loss",
                policy + updater.config.value_coefficient * value,
            ),
            ("grad_norm", f64::from(norm)),
        ];
        for (field, got) in fields {
            let wanted = golden::numbers(&expected[field]);
            golden::assert_close(
                &format!("{name} step {index} {field}"),
                &[got],
                &wanted,
                TOLERANCE,
            );
        }
    }
    let wanted = flat_parameters(&expected[steps - 1]["params"]);
    let flat = export_flat(&updater.learnt.model);
    let (words, _) = flat.as_chunks::<4>();
    let got: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    golden::assert_close_f32(
        &format!("{name} parameters after step {steps}"),
        &got,
        &wanted,
        PARAMETER_TOLERANCE,
    );
}

#[test]
fn golden_learner_step() {
    golden::each_case(
        "learner_step",
        |_| true,
        |name, case| {
            let device = Device::flex();
            let plan = plan(case);
            for there in [false, true] {
                check_arrival(name, case, &device, there);
                check_steps(
                    name,
                    case,
                    &vec![vec![plan[0][0].clone()]],
                    &device,
                    1,
                    there,
                );
                for parts in [1, 2, 3] {
                    check_steps(name, case, &plan, &device, parts, there);
                }
            }
        },
    );
}
