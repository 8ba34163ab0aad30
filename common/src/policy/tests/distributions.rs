//! Distributions on tensors against the golden vectors (`tests/golden/`, see the README there), with masks and with
//! several heads.

use std::path::PathBuf;

use burn::tensor::{Bool, Int};
use serde_json::Value;

use super::*;

/// The cases of `distributions.json`; `SPRINGBOK_GOLDEN_DIR` names another directory with the same schema.
fn golden_cases() -> Vec<Value> {
    let directory = match std::env::var_os("SPRINGBOK_GOLDEN_DIR") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"),
    };
    let text = std::fs::read_to_string(directory.join("distributions.json")).unwrap();
    let root: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(root["schema"], "distributions/1");
    root["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f32::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn table(value: &Value) -> Tensor<2> {
    let rows = value.as_array().unwrap().len();
    let values = numbers(value);
    let columns = values.len() / rows;
    matrix(&values, columns)
}

fn gaussian(dimensions: usize, squash: bool) -> DistributionKind {
    DistributionKind::Gaussian {
        low: vec![-1.0; dimensions],
        high: vec![1.0; dimensions],
        squash,
    }
}

/// Kind, parameters, reference parameters, mask and actions of a golden case.
type Case = (
    DistributionKind,
    Tensor<2>,
    Tensor<2>,
    Option<Tensor<2, Bool>>,
    ActionTensor,
);

fn read(case: &Value) -> Case {
    let input = &case["input"];
    if input["mean"].is_null() {
        let heads = vec![case["A"].as_u64().unwrap() as usize];
        let actions = table(&serde_json::json!([input["action"]])).transpose();
        return (
            DistributionKind::Categorical { heads },
            table(&input["logits"]),
            table(&input["logits_ref"]),
            Some(table(&input["action_mask"]).greater_scalar(0.5)),
            ActionTensor::Indices(actions.int()),
        );
    }
    let both = |mean: &str, log_std: &str| {
        Tensor::cat(vec![table(&input[mean]), table(&input[log_std])], 1)
    };
    (
        gaussian(case["D"].as_u64().unwrap() as usize, false),
        both("mean", "log_std"),
        both("mean_ref", "log_std_ref"),
        None,
        ActionTensor::Values(table(&input["action"])),
    )
}

/// The golden gradients of a categorical case, or those of both halves of a Gaussian one, next to each other.
fn gradient(expected: &Value, name: &str) -> Option<Vec<f32>> {
    let whole = &expected[format!("d{name}")];
    if !whole.is_null() {
        return Some(numbers(whole));
    }
    let halves = ["mean", "log_std"].map(|half| &expected[format!("d{name}_d{half}")]);
    if halves.iter().any(|half| half.is_null()) {
        return None;
    }
    let halves = halves.map(table);
    Some(host(Tensor::cat(halves.to_vec(), 1)))
}

#[test]
fn golden_distributions_and_their_gradients() {
    type Term = fn(&Distribution, &Distribution, ActionTensor) -> Tensor<1>;
    let terms: [(&str, Term); 4] = [
        ("log_prob", |own, _, actions| own.log_prob(actions)),
        ("entropy", |own, _, _| own.entropy()),
        ("kl_ref_from", |own, reference, _| reference.kl(own)),
        ("kl_to_ref", |own, reference, _| own.kl(reference)),
    ];
    let (mut categorical, mut normal) = (0, 0);
    for case in golden_cases() {
        let (kind, parameters, reference, mask, actions) = read(&case);
        let name = case["name"].as_str().unwrap();
        for (term, of) in terms {
            let tracked = parameters.clone().autodiff().require_grad();
            let own = Distribution::new(&kind, tracked.clone(), mask.clone());
            let reference = Distribution::new(&kind, reference.clone(), mask.clone());
            let got = of(&own, &reference, actions.clone());
            let name = format!("{name} {term}");
            let expected = numbers(&case["expected"][term]);
            assert_close(&name, &host(got.clone().inner()), &expected, 2e-5);
            if let Some(expected) = gradient(&case["expected"], term) {
                let gradients = got.sum().backward();
                let got = host(tracked.grad(&gradients).unwrap());
                assert_close(&name, &got, &expected, 2e-5);
                for (got, expected) in got.iter().zip(expected) {
                    assert!(
                        expected != 0.0 || *got == 0.0 || mask.is_none(),
                        "{name}: {got}"
                    );
                }
                match kind {
                    DistributionKind::Categorical { .. } => categorical += 1,
                    DistributionKind::Gaussian { .. } => normal += 1,
                }
            }
        }
    }
    assert!(
        categorical >= 16 && normal >= 2,
        "{categorical} and {normal} gradients compared"
    );
}

#[test]
fn heads_add_up_and_what_is_masked_has_no_share() {
    let kind = DistributionKind::Categorical { heads: vec![3, 2] };
    let logits = matrix(&[0.0, 50.0, 0.0, 1.0, 3.0], 5)
        .autodiff()
        .require_grad();
    let mask = Tensor::<2, Bool>::from_data([[true, false, true, true, true]], &device());
    let own = Distribution::new(&kind, logits.clone(), Some(mask.clone()));
    let actions = Tensor::<2, Int>::from_data([[2, 0]], &device());
    let log_prob = own.log_prob(ActionTensor::Indices(actions));
    let second = |logit: f32| (logit.exp() / (1.0_f32.exp() + 3.0_f32.exp())).ln();
    let expected = 0.5_f32.ln() + second(1.0);
    assert_close(
        "log_prob",
        &host(log_prob.clone().inner()),
        &[expected],
        1e-6,
    );
    let entropy = 2.0_f32.ln()
        - [1.0, 3.0]
            .map(|z| second(z).exp() * second(z))
            .iter()
            .sum::<f32>();
    assert_close("entropy", &host(own.entropy().inner()), &[entropy], 1e-6);
    let other = Distribution::new(&kind, matrix(&[1.0, -9.0, 2.0, 0.0, 0.0], 5), Some(mask));
    let kl = own.kl(&other);
    assert!(host(kl.clone().inner())[0] > 0.1);
    assert_eq!(host(own.kl(&own).inner()), [0.0]);

    let gradients = (log_prob + own.entropy() + kl).sum().backward();
    let gradient = host(logits.grad(&gradients).unwrap());
    assert_eq!(gradient[1], 0.0);
    assert!(
        [0, 2, 3, 4]
            .iter()
            .all(|&index: &usize| gradient[index] != 0.0),
        "{gradient:?}"
    );
}

#[test]
fn a_squashed_density_integrates_to_one_and_survives_large_draws() {
    let kind = gaussian(1, true);
    let points = 20_000;
    let width = 2.0 / points as f32;
    let draws: Vec<f32> = (0..points)
        .map(|index| ((index as f32 + 0.5) * width - 1.0).atanh())
        .collect();
    let parameters = matrix(&[0.4, -0.3], 2).expand([points, 2]);
    let density = Distribution::new(&kind, parameters, None)
        .log_prob(ActionTensor::Values(matrix(&draws, 1)))
        .exp();
    let total = host(density.sum())[0] * width;
    assert!((total - 1.0).abs() < 1e-3, "{total}");

    // log N(40; 0, e^2) - 2 (ln 2 - 40) at u = 40, where 1 - tanh(u)^2 is 0 in f32.
    let parameters = matrix(&[0.0, 2.0], 2).expand([2, 2]);
    let far = Distribution::new(&kind, parameters, None)
        .log_prob(ActionTensor::Values(matrix(&[40.0, -40.0], 1)));
    let exact = -0.5 * (40.0 * (-2.0_f64).exp()).powi(2)
        - 2.0
        - 0.5 * std::f64::consts::TAU.ln()
        - 2.0 * (2.0_f64.ln() - 40.0);
    assert_close("far", &host(far), &[exact as f32; 2], 1e-5);
}

/// The divergence from a distribution to a neighbour at distance h along a direction d is h^2 d'Fd / 2 in first order, in
/// either direction, with F its Fisher matrix.
#[test]
fn the_fisher_matrix_is_the_curvature_of_the_divergence() {
    let heads = DistributionKind::Categorical { heads: vec![3, 2] };
    let mask = Tensor::<2, Bool>::from_data(
        [
            [true, true, true, true, true],
            [true, false, true, true, true],
        ],
        &device(),
    );
    for (kind, mask, columns) in [
        (heads, Some(mask), 5),
        (gaussian(2, false), None, 4),
        (gaussian(2, true), None, 4),
    ] {
        let parameters = matrix(&random(2 * columns, 1), columns);
        let direction = matrix(&random(2 * columns, 2), columns);
        let of = |parameters| Distribution::new(&kind, parameters, mask.clone());
        let here = of(parameters.clone());
        let product = here.fisher_product(direction.clone());
        let half = (product.clone() * direction.clone())
            .sum_dim(1)
            .squeeze_dim::<1>(1)
            * 0.5;
        let size = 0.02;
        let there = of(parameters + direction * size);
        for divergence in [here.kl(&there), there.kl(&here)] {
            let curvature = host(divergence.div_scalar(size * size));
            assert_close(&format!("{kind:?}"), &curvature, &host(half.clone()), 0.05);
        }
        if mask.is_some() {
            assert_eq!(host(product)[columns + 1], 0.0, "not allowed");
        }
    }
}
