//! The promise: a run on a GPU trains, and nobody is served before the device is warm; where there is no GPU, a run that
//! asks for one does not begin, and one sentence says why.
//!
//! `SPRINGBOK_TEST_GPU=any` trains on the best adapter, `SPRINGBOK_TEST_GPU=mesa` on Mesa's driver that imitates one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::Path, process::Command, time::Duration};

use springbok_tests::{Ended, Program};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
/// Mesa takes a second for each of some hundred kernels.
const WAIT_MAX: Duration = Duration::from_secs(240);
#[cfg(feature = "gpu")]
const VARIABLE: &str = "SPRINGBOK_TEST_GPU";

/// Runs `springbok train --device gpu` in `out` as small as it can be.
fn train(out: &Path, variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(BINARY);
    command
        .args(["train", "--json", "--device", "gpu", "--name", "run"])
        .args(["--actors", "1", "--envs-per-actor", "4"])
        .args(["--total-steps", "48", "--set", "actor.unroll_length=4"])
        .args(["--set", "learner.batch_unrolls=1"])
        .args(["--set", "policy.hidden_sizes=[4]"])
        .args(["--set", "policy.shared_torso=true"])
        .args(["--set", "algorithm.epochs=1"])
        .args(["--set", "algorithm.minibatches=1"])
        .arg("--out")
        .arg(out)
        .envs(variables.iter().copied());
    Program::start(command).wait(WAIT_MAX)
}

#[test]
#[cfg(target_os = "linux")]
fn without_the_gpu_that_was_asked_for_one_sentence_says_so() {
    let out = tempfile::tempdir().unwrap();
    // A driver's description that is not there.
    let none = out.path().join("none.json");
    let none = none.to_str().unwrap();
    let ended = train(
        out.path(),
        &[("VK_DRIVER_FILES", none), ("VK_ICD_FILENAMES", none)],
    );
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert_eq!(ended.stdout, "");
    let sentence = if cfg!(feature = "gpu") {
        "no GPU adapter was found"
    } else {
        "built without GPU support"
    };
    let complaints = ended.stderr.lines().filter(|line| line.contains(sentence));
    assert_eq!(complaints.count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("use --device cpu"),
        "{}",
        ended.stderr
    );
}

/// The whole path: choose the adapter, warm up, serve, train, write a checkpoint.
#[test]
#[cfg(feature = "gpu")]
fn a_run_on_a_gpu_trains_and_says_what_it_holds() {
    use serde_json::Value;
    use springbok_tests::{assert_ledger_closes, assert_newest_is_last};

    let Some(wanted) = std::env::var_os(VARIABLE) else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let ended = train(out.path(), &[]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let run = out.path().join("run");
    assert_newest_is_last(&run);
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_ledger_closes(&summary);
    assert!(summary["updates"].as_u64().unwrap() >= 3, "{summary}");
    let metrics = read("metrics.jsonl");
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(
        last["device/memory_bytes"].as_f64().unwrap() > 0.0,
        "{last}"
    );
    let log = read("logs/learner.log");
    let place = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no {text} in {log}"))
    };
    let device = summary["device"].as_str().unwrap();
    assert!(wanted != "mesa" || device.contains("llvmpipe"), "{device}");
    assert!(
        place("the device is warm") < place("serving parameters"),
        "{log}"
    );
}
