//! The promise: an actor may die at any moment, and training goes on.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rustix::process::Signal;
use springbok_tests::{assert_ledger_closes, send, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(120);

#[test]
fn a_killed_actor_is_replaced_and_the_run_finishes() {
    let mut run = train(
        BINARY,
        &[
            "--total-steps",
            "150000",
            "--set",
            "learner.update_delay_ms=60",
        ],
    );
    run.program.wait_for("steps/s", WAIT_MAX);
    let victim = run.pids("actor-0")[0];
    send(victim, Signal::KILL);
    run.program
        .wait_for("actor 0 ended unexpectedly", Duration::from_secs(30));
    run.program.wait_for("steps/s", WAIT_MAX);
    assert_eq!(run.pids("actor-0").len(), 2);
    assert_eq!(run.pids("actor-1").len(), 1);

    let trained = run.wait(Duration::from_secs(240));
    trained.assert_done();
    let summary = trained.summary();
    assert!(
        summary["trained_steps"].as_u64().unwrap() >= 150_000,
        "{summary}"
    );
    let actors = &summary["actors"];
    assert_eq!(actors["joined"].as_u64(), Some(3), "{summary}");
    assert_eq!(actors["lost"].as_u64(), Some(1), "{summary}");
    assert_eq!(actors["replaced"].as_u64(), Some(1), "{summary}");
    assert_ledger_closes(&summary);
}

#[test]
fn a_killed_learner_ends_the_run_with_a_sentence() {
    let mut run = train(BINARY, &["--total-steps", "100000000"]);
    run.program.wait_for("steps/s", WAIT_MAX);
    send(run.pids("learner")[0], Signal::KILL);
    let pids = run.pids("");
    let trained = run.wait(Duration::from_secs(30));
    assert_eq!(trained.ended.code(), 70, "{:?}", trained.ended);
    assert!(trained.ended.stderr.contains("the learner failed"));
    springbok_tests::wait_until_gone(&pids, Duration::from_secs(5));
}
