//! The promise: observations that travel compressed change nothing but the bytes on the network.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, time::Duration};

use springbok_tests::{assert_ledger_closes, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const RUN_MAX: Duration = Duration::from_secs(180);

/// The policy that a run in lock-step ends with, and the bytes that its learner received.
fn trained(encoding: &str) -> (Vec<u8>, u64) {
    let encoding = format!("actor.observation_encoding={encoding}");
    let run = train(
        BINARY,
        &[
            "--deterministic",
            "--env",
            "GridWorld",
            "--total-steps",
            "6000",
            "--set",
            &encoding,
        ],
    );
    let run = run.wait(RUN_MAX);
    run.assert_done();
    let summary = run.summary();
    assert_ledger_closes(&summary);
    assert_eq!(summary["ledger"]["rejected"].as_u64(), Some(0));
    let policy = fs::read(run.run_directory().join("policy.safetensors")).unwrap();
    let received = summary["network"]["received_bytes"].as_u64().unwrap();
    (policy, received)
}

#[test]
fn frames_that_travel_compressed_train_the_same_policy_with_fewer_bytes() {
    let (plain, raw_bytes) = trained("raw");
    let (compressed, bytes) = trained("zstd");
    assert!(plain == compressed, "the policies differ");
    assert!(2 * bytes < raw_bytes, "{bytes} of {raw_bytes}");
}
