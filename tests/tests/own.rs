//! The promise: an environment and a network of one's own get the whole command line, and learn.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, process::Command, time::Duration};

use springbok_tests::{Ended, Program, assert_ledger_closes, train};

const BINARY: &str = env!("CARGO_BIN_EXE_corridor-under-test");
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Nine steps of -0.02, and the pay.
const BEST_RETURN: f64 = 0.82;

fn run(arguments: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    Program::start(command).wait(WAIT_MAX)
}

#[test]
fn an_environment_and_an_encoder_of_ones_own_learn_to_the_optimum() {
    let arguments = [
        "--env",
        "Corridor-v0",
        "--set",
        "policy.encoder=fourier",
        "--total-steps",
        "200000",
        "--stop-return",
        "0.8",
    ];
    let trained = train(BINARY, &arguments).wait(WAIT_MAX);
    trained.assert_done();
    let summary = trained.ended.json();
    assert!(
        summary["threshold"]["return"].as_f64().is_some(),
        "{summary}"
    );
    assert_ledger_closes(&summary);

    let directory = trained.run_directory();
    let tensors = fs::read(directory.join("policy.safetensors")).unwrap();
    let tensors = String::from_utf8_lossy(&tensors);
    assert!(tensors.contains("policy_torso.frequencies"), "{tensors}");

    let directory = directory.to_str().unwrap().to_owned();
    let ended = run(&["eval", &directory, "--greedy", "--json"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = ended.json();
    assert_eq!(report["episodes"], 100);
    let worst = report["greedy"]["min"].as_f64().unwrap();
    assert!((worst - BEST_RETURN).abs() < 1e-6, "{report}");

    // It draws nothing, which a sentence says; no file is left.
    let file = trained.run_directory().join("corridor.gif");
    let ended = run(&["eval", &directory, "--record", file.to_str().unwrap()]);
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert!(
        ended.stderr.contains("Corridor-v0 draws no pictures"),
        "{ended:?}"
    );
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{ended:?}");
    assert!(!file.exists());
}

#[test]
fn they_are_listed_and_checked_like_those_that_come_along() {
    let ended = run(&["envs", "check", "Corridor-v0", "--json"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.json()["id"], "Corridor-v0");
    let ended = run(&["envs", "--json"]);
    assert_eq!(ended.json().as_array().unwrap().len(), 10, "{ended:?}");
    let ended = run(&["config", "check", "--set", "policy.encoder=fourrier"]);
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert!(ended.stderr.contains("fourier"), "{ended:?}");
}
