//! The promise: the saved policy is the trained one in other programs too. PyTorch, and numpy from the equations, compute
//! the same outputs from the two files of a run.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use springbok_common::{
    policy::{ActorCritic, Sequence, import_flat, read_safetensors},
    spec::NetworkSpec,
};
use springbok_tests::train;

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Steps of the episode that is compared: T.
const STEPS: usize = 12;
const TOLERANCE: f64 = 1e-4;
/// Outputs that differ by less across observations would show nothing.
const SPREAD_MIN: f64 = 20.0 * TOLERANCE;

/// Names an interpreter with numpy.
const NUMPY: &str = "SPRINGBOK_TEST_PYTHON";
/// Names an interpreter with torch and safetensors, which are large: it may be missing where numpy is not.
const TORCH: &str = "SPRINGBOK_TEST_TORCH_PYTHON";

/// Interpreters, each with the program that it runs. CI names at least that of numpy.
fn programs() -> Vec<(OsString, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pytorch");
    let programs = [(NUMPY, "policy_numpy.py"), (TORCH, "policy.py")];
    let found = programs.into_iter().filter_map(|(variable, program)| {
        let interpreter = std::env::var_os(variable)?;
        Some((interpreter, folder.join(program)))
    });
    let found: Vec<_> = found.collect();
    assert!(
        !found.is_empty() || std::env::var_os("CI").is_none(),
        "{NUMPY} must name an interpreter with numpy"
    );
    found
}

/// What `program` gives for `observations` `[T, O]`: `[T, outputs]`.
fn outputs(
    (interpreter, program): &(OsString, PathBuf),
    run: &Path,
    observations: &[Vec<f32>],
) -> Vec<Vec<f64>> {
    let mut child = Command::new(interpreter)
        .arg(program)
        .arg(run)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = serde_json::to_vec(observations).unwrap();
    child.stdin.take().unwrap().write_all(&asked).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        program.display(),
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Parameters `[T, P]` of the distributions over actions, from the network here.
fn expected(run: &Path, spec: &NetworkSpec, observations: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let file = fs::read(run.join("policy.safetensors")).unwrap();
    let device = Device::flex();
    let blank = ActorCritic::blank(spec, &device);
    let network = import_flat(blank, &read_safetensors(&file, spec).unwrap()).unwrap();
    let data = TensorData::new(observations.concat(), [STEPS, spec.observation.len()]);
    let unrolled = network.unroll(Sequence {
        observations: Tensor::from_data(data, &device),
        length: STEPS,
        state: None,
        keep: None,
        burn_in: 0,
    });
    let [_, outputs] = unrolled.parameters.dims();
    let data = unrolled.parameters.into_data();
    let rows = data.as_slice::<f32>().unwrap().chunks(outputs);
    rows.map(|row| row.iter().map(|&value| value.into()).collect())
        .collect()
}

/// Trains a little, and compares.
fn compare(arguments: &[&str]) {
    let programs = programs();
    if programs.is_empty() {
        return;
    }
    // A high rate moves the outputs away from the zero where they begin.
    let quick = [
        "--total-steps",
        "16000",
        "--set",
        "algorithm.policy_learning_rate=0.004",
    ];
    let trained = train(BINARY, &[arguments, &quick].concat()).wait(WAIT_MAX);
    trained.assert_done();
    let run = trained.run_directory();
    let saved: Value = serde_json::from_slice(&fs::read(run.join("policy.json")).unwrap()).unwrap();
    let spec: NetworkSpec = serde_json::from_value(saved["network"].clone()).unwrap();

    // Zeros and ones are valid in every space; their pattern differs from step to step.
    let element =
        |step: usize, index: usize| ((7 * step + 3 * index * index + step * index) % 5 / 3) as f32;
    let row = |step| {
        (0..spec.observation.len())
            .map(|index| element(step, index))
            .collect()
    };
    let observations: Vec<Vec<f32>> = (0..STEPS).map(row).collect();
    let here = expected(&run, &spec, &observations);
    let first = |row: &Vec<f64>| row[0];
    let most = here.iter().map(first).fold(f64::MIN, f64::max);
    let least = here.iter().map(first).fold(f64::MAX, f64::min);
    assert!(most - least > SPREAD_MIN, "{here:?}");

    for program in &programs {
        let there = outputs(program, &run, &observations);
        assert_eq!(there.len(), STEPS);
        // For a continuous action the standard deviations follow the means here.
        for (step, (here, there)) in here.iter().zip(&there).enumerate() {
            assert!(!there.is_empty());
            for (here, there) in here.iter().zip(there) {
                let away = (here - there).abs();
                assert!(
                    away < TOLERANCE,
                    "step {step}: {here} here, {there} in {program:?}"
                );
            }
        }
    }
}

#[test]
fn separate_networks() {
    compare(&["--env", "CartPole-v1"]);
    compare(&["--env", "Pendulum-v1"]);
}

#[test]
fn a_shared_network_with_normalised_observations() {
    compare(&[
        "--env",
        "CartPole-v1",
        "--set",
        "policy.shared_torso=true",
        "--set",
        "policy.activation=tanh",
        "--set",
        "policy.normalise_observations=true",
    ]);
}

/// Other heads lie in the same files and change nothing about the policy.
#[test]
fn critics_of_actions_and_second_value_heads() {
    compare(&["--env", "CartPole-v1", "--set", "algorithm.critic=retrace"]);
    compare(&[
        "--env",
        "Pendulum-v1",
        "--set",
        "algorithm.objective=ppg",
        "--set",
        "algorithm.ppg_policy_updates=4",
    ]);
}

#[test]
fn long_short_term_memory() {
    compare(&["--env", "TMaze", "--set", "policy.core=lstm"]);
}

#[test]
fn a_gated_recurrent_unit_on_a_convolution() {
    compare(&[
        "--env",
        "GridWorld",
        "--set",
        "policy.encoder=minatar_conv",
        "--set",
        "policy.core=gru",
    ]);
}
