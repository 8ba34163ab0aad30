//! The promise: on one machine actors reach their learner over a Unix socket of their own, nobody has to ask for it, and
//! nothing of it stays behind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::PathBuf, time::Duration};

use rustix::process::Signal;
use springbok_tests::{
    Trained,
    farm::{actor, learner, unrolls_made},
    newest_checkpoint, send, train,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(60);
const RUN_MAX: Duration = Duration::from_secs(180);
const DRAIN_MAX: Duration = Duration::from_secs(12);

/// A short run, and where its actors connected to.
fn short_run(arguments: &[&str]) -> (Trained, String) {
    let all = [&["--total-steps", "20000"], arguments].concat();
    let trained = train(BINARY, &all).wait(RUN_MAX);
    trained.assert_done();
    let log = trained.run_directory().join("logs").join("launcher.log");
    let log = fs::read_to_string(log).unwrap();
    let url = log
        .lines()
        .find_map(|line| line.split_once("actors connect to "));
    let url = url.expect("the launcher says where").1.to_owned();
    for index in 0..2 {
        let log = format!("actor-{index}.log");
        let log = trained.run_directory().join("logs").join(log);
        let joined = format!("learner={url}");
        assert!(fs::read_to_string(log).unwrap().contains(&joined));
    }
    (trained, url)
}

#[test]
fn a_run_uses_a_socket_of_its_own_and_takes_it_along() {
    let (trained, url) = short_run(&[]);
    assert_eq!(trained.summary()["actors"]["lost"].as_u64(), Some(0));
    let path = PathBuf::from(url.strip_prefix("unix:").expect("a socket"));
    assert!(!path.parent().unwrap().exists(), "{url}");
}

#[test]
fn a_run_can_be_told_to_use_tcp_only() {
    let (_, url) = short_run(&["--set", "learner.listen_unix=none"]);
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
}

#[test]
fn a_learner_that_is_killed_is_found_again_at_the_same_socket() {
    let mut run = train(
        BINARY,
        &[
            "--total-steps",
            "1000000000",
            "--set",
            "checkpoint.interval_s=1",
        ],
    );
    run.program.wait_for("steps/s", WAIT_MAX);
    while newest_checkpoint(&run.run_directory()).is_none() {
        run.program.wait_for("steps/s", WAIT_MAX);
    }
    let actors = run.pids("actor-");
    send(run.pids("learner")[0], Signal::KILL);
    run.program
        .wait_for("resuming from its last checkpoint", WAIT_MAX);
    run.program.wait_for(" 2 actors", WAIT_MAX);
    run.program.wait_for(" 2 actors", WAIT_MAX);
    assert_eq!(run.pids("actor-"), actors, "they waited for it");
    run.program.signal(Signal::INT);
    run.wait(WAIT_MAX).assert_done();
}

#[test]
fn actors_meet_a_learner_at_a_path_and_come_back_after_its_death() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("learner");
    let socket = format!("learner.listen_unix={}", path.display());
    let slow = ["--set", "learner.update_delay_ms=40"];
    let often = ["--set", "checkpoint.interval_s=1", "--set", &socket];
    let mut learner = learner(BINARY, "127.0.0.1:0", &[&slow[..], &often].concat());
    let url = format!("unix:{}", path.display());
    let actors: Vec<_> = (0..2).map(|i| actor(BINARY, &url, i)).collect();
    learner.wait_for_actors(2, WAIT_MAX);
    learner.wait_for("a checkpoint", WAIT_MAX, |row| {
        row["checkpoint/written"].as_f64() >= Some(1.0)
    });
    let mut learner = learner.killed_and_resumed(BINARY);
    learner.wait_for_actors(2, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["epoch"].as_u64(), Some(2), "{summary}");
    assert!(unrolls_made(actors) > 0);
    assert!(!path.exists(), "the socket went with its learner");
}
