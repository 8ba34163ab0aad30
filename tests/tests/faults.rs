//! The promise: an actor may die at any moment, and training goes on.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rustix::process::Signal;
use springbok_tests::{
    Program, Trained, assert_ledger_closes,
    farm::{actor, actor_command, learner, unrolls_made},
    kinds::POISON_VARIABLE,
    send, train,
};

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

/// A run of `Synthetic` with one environment in each actor, which misbehaves as told after 2000 steps of each of its lives.
fn misbehaving(how: &str, total_steps: &str) -> Trained {
    let options = [
        "--env",
        "Synthetic",
        "--actors",
        "2",
        "--envs-per-actor",
        "1",
    ];
    let more = ["--total-steps", total_steps, "--set", how];
    let slow = ["--set", "learner.update_delay_ms=20"];
    let deadline = ["--set", "actor.step_deadline_s_max=1"];
    train(BINARY, &[&options[..], &more, &slow, &deadline].concat()).wait(WAIT_MAX)
}

#[test]
fn an_actor_whose_environment_hangs_is_started_again() {
    let how = "environment.options={stall_after=2000, stall_ms=86400000}";
    let trained = misbehaving(how, "6000");
    trained.assert_done();
    assert!(trained.ended.stderr.contains("has not returned within 1 s"));
    let summary = trained.summary();
    assert!(
        summary["actors"]["replaced"].as_u64() >= Some(1),
        "{summary}"
    );
    assert_ledger_closes(&summary);
}

#[test]
fn an_environment_that_always_crashes_ends_the_run_with_a_sentence() {
    let how = "environment.options={crash_after=50, crash=\"abort\"}";
    let trained = misbehaving(how, "1000000");
    assert_eq!(trained.ended.code(), 70, "{:?}", trained.ended);
    assert!(trained.ended.stderr.contains("died 5 times within 30 s"));
}

#[test]
fn an_actor_whose_unrolls_are_poisoned_is_kept_out_and_the_others_train_on() {
    let strict = ["--env", "OneState", "--set", "limits.reward_abs_max=10"];
    let slow = ["--set", "learner.update_delay_ms=20"];
    let mut learner = learner(BINARY, "127.0.0.1:0", &[&strict[..], &slow].concat());
    let url = format!("http://{}", learner.address);
    let honest = actor(BINARY, &url, 0);
    learner.wait_for_actors(1, WAIT_MAX);
    let mut command = actor_command(BINARY, &url, 1);
    command.env(POISON_VARIABLE, "1");
    let mut poisoned = Program::start(command);
    learner.program.wait_for("actor quarantined", WAIT_MAX);
    poisoned.wait_for("the learner keeps this actor out", WAIT_MAX);
    learner.wait_for_training(10.0, WAIT_MAX);
    let summary = learner.drain(Duration::from_secs(12));
    let quarantine = &summary["quarantine"];
    assert_eq!(quarantine["strikes"].as_u64(), Some(3), "{summary}");
    assert_eq!(quarantine["quarantines"].as_u64(), Some(1), "{summary}");
    let rejected = &summary["rejected"]["reward_out_of_range"];
    assert_eq!(rejected.as_u64(), Some(3), "{summary}");
    let ledger = &summary["ledger"];
    assert_eq!(ledger["rejected"].as_u64(), Some(3), "{summary}");
    assert_eq!(ledger["lost"].as_u64(), Some(0), "{summary}");
    let produced = unrolls_made(vec![honest]) + 3;
    assert_eq!(ledger["produced"].as_u64(), Some(produced), "{summary}");
    // None of those rewards got into what was trained.
    let returns = &summary["return_mean_100"];
    assert_eq!(returns.as_f64(), Some(10.0), "{summary}");
}
