//! The promise: it stops when asked to, in time, with its books closed, and leaves no process behind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rustix::process::Signal;
use springbok_tests::{Train, assert_ledger_closes, train, wait_until_gone};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
/// The grace period of the program, and as much again for a busy machine.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// A run that would go on for hours, once it is well on its way.
fn endless(arguments: &[&str]) -> (Train, Vec<u32>) {
    let mut all = vec!["--total-steps", "1000000000"];
    all.extend(arguments);
    let mut run = train(BINARY, &all);
    run.program.wait_for("steps/s", Duration::from_secs(120));
    let pids = run.pids("");
    assert_eq!(pids.len(), 3, "a learner and two actors");
    (run, pids)
}

fn drains_after(signal: Signal) {
    let (run, pids) = endless(&[]);
    run.program.signal(signal);
    let trained = run.wait(SHUTDOWN_MAX);
    trained.assert_done();
    assert_ledger_closes(&trained.summary());
    wait_until_gone(&pids, Duration::from_secs(5));
}

#[test]
fn ctrl_c_drains() {
    drains_after(Signal::INT);
}

#[test]
fn a_scheduler_s_terminate_drains_too() {
    drains_after(Signal::TERM);
}

#[test]
fn a_second_ctrl_c_ends_everything_at_once() {
    // The update in progress outlasts the wait for the second signal.
    let (mut run, pids) = endless(&["--set", "learner.update_delay_ms=3000"]);
    run.program.signal(Signal::INT);
    run.program.wait_for("interrupted", Duration::from_secs(10));
    run.program.signal(Signal::INT);
    let trained = run.wait(Duration::from_secs(5));
    assert_eq!(trained.ended.code(), 130, "{:?}", trained.ended);
    wait_until_gone(&pids, Duration::from_secs(5));
}

#[test]
fn a_killed_launcher_leaves_no_child() {
    let (run, pids) = endless(&[]);
    run.program.signal(Signal::KILL);
    wait_until_gone(&pids, SHUTDOWN_MAX);
    let trained = run.wait(Duration::from_secs(5));
    assert!(trained.ended.status.code().is_none());
}
