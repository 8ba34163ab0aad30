//! The losses, the distribution and the optimiser against the golden vectors; gradients come from burn's autodiff of
//! the production code.
#![allow(
    clippy::print_stdout,
    reason = "each golden test says how many cases it compared"
)]

use std::collections::BTreeMap;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde_json::Value;
use springbok_common::policy::categorical;

use super::*;
use crate::{
    algorithm::{
        adam::Adam,
        gradient::clip_norm,
        value_loss::{ValueLossKind, value_loss},
    },
    golden,
};

const TOLERANCE: f64 = 1e-5;

fn device() -> Device {
    Device::flex().autodiff()
}

fn vector(value: &Value) -> Tensor<1> {
    let numbers = golden::numbers_f32(value);
    let length = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [length]), &device())
}

/// All leading axes flattened into rows.
fn matrix(value: &Value) -> Tensor<2> {
    let columns = *golden::shape(value).last().unwrap();
    let numbers = golden::numbers_f32(value);
    let rows = numbers.len() / columns;
    Tensor::from_data(TensorData::new(numbers, [rows, columns]), &device())
}

fn allowed(value: &Value) -> Tensor<2, Bool> {
    let columns = *golden::shape(value).last().unwrap();
    let flags = golden::flags(value);
    let rows = flags.len() / columns;
    Tensor::from_data(TensorData::new(flags, [rows, columns]), &device())
}

fn actions(value: &Value) -> Tensor<1, Int> {
    let numbers: Vec<i32> = golden::integers(value)
        .into_iter()
        .map(|action| action as i32)
        .collect();
    let length = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [length]), &device())
}

fn mask(value: &Value) -> Tensor<1> {
    let flags: Vec<f32> = golden::flags(value)
        .into_iter()
        .map(|flag| f32::from(u8::from(flag)))
        .collect();
    let length = flags.len();
    Tensor::from_data(TensorData::new(flags, [length]), &device())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn close<const D: usize>(name: &str, got: Tensor<D>, expected: &Value) {
    golden::assert_close_f32(name, &host(got), &golden::numbers(expected), TOLERANCE);
}

/// Value and gradient with respect to the leaf of `loss`.
fn close_with_gradient<const D: usize, const E: usize>(
    name: &str,
    leaf: &Tensor<D>,
    loss: Tensor<E>,
    expected: [&Value; 2],
) {
    close(name, loss.clone().without_autodiff(), expected[0]);
    let gradients = loss.sum().backward();
    let gradient = leaf.grad(&gradients).expect("the loss depends on the leaf");
    close(&format!("gradient of {name}"), gradient, expected[1]);
}

/// The production settings that a golden kind stands for.
fn settings(kind: &str, config: &Value) -> SurrogateConfig {
    let surrogate = match kind {
        "a2c" => SurrogateKind::PolicyGradient,
        "weighted_pg" => SurrogateKind::WeightedPolicyGradient,
        "ppo_behaviour" | "sample_factory" => SurrogateKind::Behaviour,
        "ppo_proximal" => SurrogateKind::Proximal,
        "ppo_decoupled" => SurrogateKind::Decoupled,
        "appo" => SurrogateKind::Appo,
        "ppo_kl" | "mdpo" => SurrogateKind::Unclipped,
        other => panic!("unknown kind {other}"),
    };
    SurrogateConfig {
        kind: surrogate,
        clip_epsilon: config["clip_eps"].as_f64().unwrap_or(f64::NAN),
        clip_range: if kind == "sample_factory" {
            ClipRange::Reciprocal
        } else {
            ClipRange::Symmetric
        },
        weight_bar: config["weight_bar"].as_f64(),
        ratio_bar: config["weight_bar"].as_f64(),
        weighted: config["weighted"] == true,
        dual_clip: config["dual_clip"].as_f64(),
        ratio_clamp: config["ratio_clamp"]
            .as_array()
            .map(|bounds| [golden::number(&bounds[0]), golden::number(&bounds[1])]),
    }
}

/// Loss with its entropy and divergence terms for the differentiable `logits`.
fn total_loss(kind: &str, config: &Value, input: &Value, logits: Tensor<2>) -> Tensor<1> {
    let of_taken = |log_probs: &Tensor<2>| {
        categorical::of_actions(log_probs.clone(), actions(&input["action"]))
    };
    let current = categorical::log_probs(logits, Some(allowed(&input["action_mask"])));
    let proximal = categorical::log_probs(
        matrix(&input["logits_prox"]),
        Some(allowed(&input["action_mask"])),
    );
    let of_proximal = of_taken(&proximal);
    let valid = mask(&input["mask"]);
    let mut loss = policy_loss(
        &settings(kind, config),
        CurrentLogProb(of_taken(&current)),
        ProximalLogProb(of_proximal),
        BehaviourLogProb(vector(&input["log_mu"])),
        vector(&input["adv"]),
        Some(valid.clone()),
    );
    if let Some(beta) = config["beta"].as_f64() {
        let direction = match config["kl_direction"].as_str() {
            Some("forward") => KlDirection::Forward,
            Some("reverse") => KlDirection::Reverse,
            other => panic!("unknown direction {other:?}"),
        };
        let penalty = kl_penalty(
            direction,
            &Distribution::Categorical(vec![current.clone()]),
            &Distribution::Categorical(vec![proximal]),
            Some(valid.clone()),
        );
        loss = loss + penalty.mul_scalar(beta);
    }
    if let Some(coefficient) = config["entropy_coef"].as_f64() {
        let entropy = masked_mean(categorical::entropy(current), Some(valid));
        loss = loss - entropy.mul_scalar(coefficient);
    }
    loss
}

#[test]
fn golden_policy_loss() {
    let mut compared: BTreeMap<String, usize> = BTreeMap::new();
    golden::each_case(
        "policy_loss",
        |_| true,
        |name, case| {
            for expected in case["expected"].as_array().unwrap() {
                let kind = expected["kind"].as_str().unwrap();
                let logits = matrix(&case["input"]["logits"]).require_grad();
                let loss = total_loss(kind, &expected["config"], &case["input"], logits.clone());
                close_with_gradient(
                    &format!("{name} {kind} {}", expected["config"]),
                    &logits,
                    loss,
                    [&expected["loss"], &expected["dlogits"]],
                );
                *compared.entry(kind.to_owned()).or_default() += 1;
            }
        },
    );
    println!("golden policy_loss: compared {compared:?}");
    for kind in [
        "a2c",
        "weighted_pg",
        "ppo_behaviour",
        "ppo_proximal",
        "ppo_decoupled",
        "appo",
        "sample_factory",
        "ppo_kl",
        "mdpo",
    ] {
        assert!(compared.contains_key(kind), "no case of {kind}");
    }
}

#[test]
fn golden_value_loss() {
    golden::each_case(
        "value_loss",
        |_| true,
        |name, case| {
            let (config, input) = (&case["config"], &case["input"]);
            let kind = match config["kind"].as_str() {
                Some("mse") => ValueLossKind::Mse,
                Some("clipped") => ValueLossKind::Clipped {
                    clip: golden::number(&config["value_clip"]),
                },
                Some("huber") => ValueLossKind::Huber {
                    delta: golden::number(&config["huber_delta"]),
                },
                other => panic!("unknown kind {other:?}"),
            };
            let values = vector(&input["value"]).require_grad();
            let loss = value_loss(
                kind,
                values.clone(),
                vector(&input["old_value"]),
                vector(&input["target"]),
                Some(mask(&input["mask"])),
            );
            let expected = &case["expected"];
            close_with_gradient(
                name,
                &values,
                loss,
                [&expected["loss"], &expected["dvalue"]],
            );
        },
    );
}

#[test]
fn golden_categorical_distributions() {
    let is_categorical = |case: &Value| golden::name(case).starts_with("categorical");
    golden::each_case("distributions", is_categorical, |name, case| {
        let (input, expected) = (&case["input"], &case["expected"]);
        let mask = || Some(allowed(&input["action_mask"]));
        let other = || categorical::log_probs(matrix(&input["logits_ref"]), mask());
        type Quantity<'a> = &'a dyn Fn(Tensor<2>) -> Tensor<1>;
        let quantities: [(&str, Quantity<'_>); 4] = [
            ("log_prob", &|own| {
                categorical::of_actions(own, actions(&input["action"]))
            }),
            ("entropy", &categorical::entropy),
            ("kl_ref_from", &|own| categorical::kl(other(), own)),
            ("kl_to_ref", &|own| categorical::kl(own, other())),
        ];
        for (quantity, of) in quantities {
            let logits = matrix(&input["logits"]).require_grad();
            let got = of(categorical::log_probs(logits.clone(), mask()));
            close_with_gradient(
                &format!("{name} {quantity}"),
                &logits,
                got,
                [&expected[quantity], &expected[format!("d{quantity}")]],
            );
        }
    });
}

/// The parameters a and b of a case one after the other, outside of any graph.
fn joined(value: &Value) -> Tensor<1> {
    let parts = ["a", "b"].map(|part| matrix(&value[part]).flatten::<1>(0, 1));
    Tensor::cat(parts.into(), 0).without_autodiff()
}

fn close_joined(name: &str, got: Tensor<1>, expected: &Value) {
    let wanted: Vec<f64> = ["a", "b"]
        .into_iter()
        .flat_map(|part| golden::numbers(&expected[part]))
        .collect();
    golden::assert_close_f32(name, &host(got), &wanted, TOLERANCE);
}

#[test]
fn golden_adam_with_global_norm_clip() {
    let wanted = |case: &Value| golden::name(case) == "adam_with_global_norm_clip";
    golden::each_case("misc", wanted, |name, case| {
        let config = &case["config"];
        let constant = |key: &str| golden::number(&config[key]);
        assert_eq!(["beta1", "beta2"].map(constant), [0.9, 0.999]);
        let mut parameters = joined(&case["input"]["params"]);
        let rates = parameters.ones_like().mul_scalar(constant("lr"));
        let mut adam = Adam::new(constant("eps"));
        for (index, step) in case["expected"].as_array().unwrap().iter().enumerate() {
            let name = format!("{name} step {index}");
            let gradients = joined(&step["grad"]);
            let (gradients, norm) = clip_norm(gradients, constant("max_grad_norm"));
            close(&format!("{name} norm"), norm, &step["global_norm"]);
            close_joined(&name, gradients.clone(), &step["clipped"]);
            parameters = adam.step(parameters, gradients, &rates);
            close_joined(&name, parameters.clone(), &step["params"]);
        }
    });
}

#[test]
fn each_parameter_moves_at_its_own_rate_and_without_a_gradient_not_at_all() {
    let tensor =
        |numbers: [f32; 3]| Tensor::<1>::from_data(numbers, &Device::flex().without_autodiff());
    let rates = tensor([0.1, 0.2, 0.4]);
    let mut parameters = tensor([1.0, 1.0, 0.123_456_79]);
    let mut adam = Adam::new(1e-8);
    for _ in 0..3 {
        parameters = adam.step(parameters, tensor([5.0, -5.0, 0.0]), &rates);
    }
    // With the same gradient each time, each step is as long as the rate.
    let got = host(parameters);
    assert!(
        (got[0] - 0.7).abs() < 1e-5 && (got[1] - 1.6).abs() < 1e-5,
        "{got:?}"
    );
    assert_eq!(got[2], 0.123_456_79);
}

/// Loss and gradient with respect to log pi of one step.
fn dual(current: f32, proximal: f32, behaviour: f32, advantage: f32) -> [f32; 2] {
    let one = |number: f32| Tensor::<1>::from_data([number], &device());
    let leaf = one(current).require_grad();
    let loss = policy_loss(
        &SurrogateConfig::new(SurrogateKind::Dual, 0.2),
        CurrentLogProb(leaf.clone()),
        ProximalLogProb(one(proximal)),
        BehaviourLogProb(one(behaviour)),
        one(advantage),
        None,
    );
    let gradients = loss.backward();
    let gradient = leaf.grad(&gradients).map_or(0.0, |tensor| host(tensor)[0]);
    [host(loss.without_autodiff())[0], gradient]
}

#[test]
fn the_dual_gate_closes_when_either_ratio_is_past_its_bound() {
    // Both ratios are inside: the gradient is -w A u.
    let [_, open] = dual(-1.0, -1.1, -0.95, 2.0);
    let weight = (-0.15_f32).exp();
    assert!((open + weight * 2.0 * 0.1_f32.exp()).abs() < 1e-5);
    // u = e^0.3 or b = e^0.3 is above 1.2 while the advantage pushes up.
    assert_eq!(dual(-1.0, -1.3, -1.0, 2.0), [0.0, 0.0]);
    assert_eq!(dual(-1.0, -1.0, -1.3, 2.0), [0.0, 0.0]);
    // The other way is free, and closed below 0.8.
    assert!(dual(-1.0, -1.3, -1.0, -2.0)[1] > 0.0);
    assert_eq!(dual(-1.0, -0.7, -1.0, -2.0), [0.0, 0.0]);
}
