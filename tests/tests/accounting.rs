//! The promise: every unroll is accounted for, and the run directory tells the whole story.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, process::Command, time::Duration};

use serde_json::Value;
use springbok_tests::{Program, Trained, assert_ledger_closes, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");

/// A learner that is too slow for its actors, so that every buffer is full.
fn overrun(arguments: &[&str]) -> Trained {
    let mut all = vec![
        "--actors",
        "3",
        "--total-steps",
        "40000",
        "--set",
        "learner.update_delay_ms=40",
    ];
    all.extend(arguments);
    let trained = train(BINARY, &all).wait(Duration::from_secs(240));
    trained.assert_done();
    trained
}

#[test]
fn the_ledger_closes_behind_a_slow_learner() {
    let trained = overrun(&[]);
    let summary = trained.summary();
    assert_ledger_closes(&summary);
    assert_eq!(trained.ended.json(), summary);
    assert!(
        summary["trained_steps"].as_u64().unwrap() >= 40_000,
        "{summary}"
    );
    // Three actors, one unroll each, and two queued, at two unrolls an update: data is old by arithmetic.
    assert!(summary["lag"]["mean"].as_f64().unwrap() > 0.5, "{summary}");
}

#[test]
fn what_is_too_old_is_counted_and_not_trained() {
    let trained = overrun(&["--lag-max", "1"]);
    let summary = trained.summary();
    assert_ledger_closes(&summary);
    assert!(summary["lag"]["max"].as_f64().unwrap() <= 1.0, "{summary}");
    let ledger = &summary["ledger"];
    let refused = ledger["rejected"].as_u64().unwrap() + ledger["expired"].as_u64().unwrap();
    assert!(refused > 0, "{summary}");
}

#[test]
fn the_run_directory_is_complete() {
    let trained = overrun(&[]);
    let run = trained.run_directory();
    for file in [
        "config.toml",
        "summary.json",
        "metrics.jsonl",
        "policy.safetensors",
        "policy.json",
        "logs/launcher.log",
        "logs/learner.log",
        "logs/actor-0.log",
        "logs/actor-2.log",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() > 0);
    for line in metrics.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert!(object.is_object(), "{line}");
    }

    let mut check = Command::new(BINARY);
    check
        .args(["config", "check", "--config"])
        .arg(run.join("config.toml"));
    let ended = Program::start(check).wait(Duration::from_secs(60));
    assert_eq!(ended.code(), 0, "{ended:?}");
}
