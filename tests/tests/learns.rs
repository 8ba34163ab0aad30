//! The promise: it learns, from the command line, with the settings that everybody starts with.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{process::Command, time::Duration};

use springbok_tests::{Program, assert_ledger_closes, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const TRAINING_MAX: Duration = Duration::from_secs(540);

#[test]
fn cartpole_is_solved_and_the_saved_policy_plays_it() {
    let run = train(BINARY, &["--stop-return", "475", "--seed", "1"]);
    let trained = run.wait(TRAINING_MAX);
    trained.assert_done();

    let summary = trained.ended.json();
    let threshold = &summary["threshold"];
    assert!(threshold["return"].as_f64().unwrap() >= 475.0, "{summary}");
    assert!(summary["return_best_100"].as_f64().unwrap() >= 475.0);
    assert!(threshold["env_steps"].as_u64().unwrap() < 1_000_000);
    assert_ledger_closes(&summary);

    let mut eval = Command::new(BINARY);
    eval.arg("eval")
        .arg(trained.run_directory())
        .args(["--episodes", "10", "--json"]);
    let ended = Program::start(eval).wait(Duration::from_secs(120));
    assert_eq!(ended.code(), 0, "{ended:?}");
    let returns = ended.json();
    assert!(
        returns["greedy"]["mean"].as_f64().unwrap() > 400.0,
        "{returns}"
    );
}

#[test]
fn catch_is_learned() {
    let run = train(
        BINARY,
        &["--env", "Catch", "--stop-return", "0.9", "--seed", "1"],
    );
    let trained = run.wait(TRAINING_MAX);
    trained.assert_done();
    let summary = trained.ended.json();
    assert!(
        summary["threshold"]["env_steps"].as_u64().is_some(),
        "{summary}"
    );
    assert!(
        summary["return_best_100"].as_f64().unwrap() >= 0.9,
        "{summary}"
    );
}

#[test]
fn catch_is_learned_by_actors_whose_weights_are_rounded() {
    let run = train(
        BINARY,
        &[
            "--env",
            "Catch",
            "--stop-return",
            "0.9",
            "--seed",
            "1",
            "--set",
            "learner.snapshot_encoding=bf16",
        ],
    );
    let trained = run.wait(TRAINING_MAX);
    trained.assert_done();
    let summary = trained.ended.json();
    let best = summary["return_best_100"].as_f64().unwrap();
    assert!(best >= 0.9, "{summary}");
    // They disagree about log-probabilities, as they must, and nobody is alarmed.
    let alarms = summary["alarms"]["log_probs_disagree"].as_u64();
    assert_eq!(alarms, Some(0), "{summary}");
    let traffic = |name: &str| summary["traffic"][name].as_u64().unwrap();
    assert_eq!(
        traffic("snapshots_published"),
        summary["updates"].as_u64().unwrap() + 1
    );
    assert!(traffic("snapshots_sent") > 0 && traffic("unroll_bytes") > 0);
}
