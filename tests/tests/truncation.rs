//! The promise: a time limit is no end. What the critic learns through real actors and a real learner is what theory
//! says, for truncated and for terminated episodes, in Rust and in Python.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, time::Duration};

use burn::tensor::{Device, Tensor, TensorData};
use springbok_common::{
    policy::{ActorCritic, import_flat, read_safetensors},
    spec::NetworkSpec,
};
use springbok_tests::{
    kinds::{STEPS, observation},
    train_with,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const TRAINING_MAX: Duration = Duration::from_secs(300);
/// Names an interpreter that has numpy and Gymnasium.
const INTERPRETER: &str = "SPRINGBOK_TEST_PYTHON";

/// Trains with discount 0.9 and gives the critic.
fn critic(arguments: &[&str], variables: &[(&str, &str)]) -> impl Fn(&[f32]) -> f64 + use<> {
    let settings = [
        "--total-steps",
        "200000",
        "--set",
        "algorithm.gamma=0.9",
        "--no-progress",
    ];
    let all = [arguments, &settings].concat();
    let trained = train_with(BINARY, &all, variables).wait(TRAINING_MAX);
    trained.assert_done();
    let read = |file: &str| fs::read(trained.run_directory().join(file)).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&read("policy.json")).unwrap();
    let network: NetworkSpec = serde_json::from_value(saved["network"].clone()).unwrap();
    let flat = read_safetensors(&read("policy.safetensors"), &network).unwrap();
    let device = Device::flex();
    let model = import_flat(ActorCritic::blank(&network, &device), &flat).unwrap();
    move |shown| {
        let row = TensorData::new(shown.to_vec(), [1, shown.len()]);
        let row = Tensor::<2>::from_data(row, &device);
        f64::from(model.values_after(row, None).into_scalar::<f32>())
    }
}

fn assert_values(value: impl Fn(&[f32]) -> f64, expected: impl Fn(usize, usize) -> f64) {
    for kind in 0..2 {
        for step in 0..STEPS {
            let (got, expected) = (value(&observation(kind, step)), expected(kind, step));
            let off = (got - expected).abs();
            assert!(off < 0.2, "kind {kind} step {step}: {got}, not {expected}");
        }
    }
}

/// D1: reward 1 for ever, cut off every 10 steps, is worth 1 / (1 - 0.9). Taken for an end it would be 4 to 5.
#[test]
fn d1_a_time_limit_does_not_end_the_world() {
    let value = critic(&["--env", "OneState"], &[])(&[1.0]);
    assert!((value - 10.0).abs() < 0.2, "{value}");
}

/// D2: the next episode, which is of the other kind, must not leak in. With its value, that of kind 0 would be above 3.
#[test]
fn d2_the_next_episode_does_not_leak_in() {
    let value = critic(&["--env", "Kinds"], &[]);
    assert_values(value, |kind, _| 10.0 * kind as f64);
}

/// D3: where episodes do end, the value is that of the steps to go.
#[test]
fn d3_a_terminated_episode_is_worth_its_steps_to_go() {
    let options = "environment.options={end='terminated'}";
    let value = critic(&["--env", "Kinds", "--set", options], &[]);
    assert_values(value, |kind, step| {
        let to_go = (STEPS - step) as i32;
        kind as f64 * (1.0 - 0.9_f64.powi(to_go)) / 0.1
    });
}

/// D2 again, through Gymnasium's own time limit.
#[test]
fn gymnasiums_time_limit_does_not_end_the_world_either() {
    let Ok(interpreter) = std::env::var(INTERPRETER) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{INTERPRETER} must name an interpreter with numpy and gymnasium"
        );
        return;
    };
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python");
    let variables = [
        ("PYTHONPATH", modules.to_str().unwrap()),
        (
            "SPRINGBOK__ENVIRONMENT__PYTHON__INTERPRETER",
            interpreter.as_str(),
        ),
    ];
    let value = critic(&["--env", "gym:kinds:Kinds-v0"], &variables);
    assert_values(value, |kind, _| 10.0 * kind as f64);
}
