//! The promise: whatever kills a run, it goes on from its last checkpoint; in lock-step it ends as if nothing had happened.
//!
//! `SPRINGBOK_CAMPAIGN=1` kills 25 times at each place instead of once.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use springbok_learner::checkpoint::failpoint::{FAILPOINTS, Failpoint, VARIABLE};
use springbok_tests::{
    Ended, Program, Train, Trained, assert_ledger_closes, send, train, train_with,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(120);

/// 16 updates of 256 steps, all of them in lock-step; a checkpoint at every third.
const LOCK_STEP: [&str; 16] = [
    "--deterministic",
    "--total-steps",
    "4096",
    "--envs-per-actor",
    "8",
    "--set",
    "actor.unroll_length=16",
    "--set",
    "checkpoint.interval_updates=3",
    "--set",
    "algorithm.normalise_rewards=true",
    "--set",
    "policy.normalise_observations=true",
    "--set",
    "lag.inject=uniform:0..2",
    "--no-progress",
];
const INTERVAL: u64 = 3;
const UPDATES: u64 = 16;

fn resume(directory: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command
        .args(["train", "--json", "--resume"])
        .arg(directory)
        .args(arguments);
    Program::start(command).wait(WAIT_MAX)
}

fn lock_step(arguments: &[&str]) -> Trained {
    let run = train(BINARY, &[&LOCK_STEP, arguments].concat()).wait(WAIT_MAX);
    run.assert_done();
    run
}

fn policy(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("policy.safetensors")).expect("a policy")
}

fn summary(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("summary.json")).expect("a summary");
    serde_json::from_str(&text).expect("summary.json is JSON")
}

/// What a summary says that does not depend on time or on which life it was. How many unrolls of the last version still
/// arrive before the learner closes is a matter of time: of the ledger, only what was trained on is compared.
fn course(summary: &Value) -> Vec<Value> {
    let keys = [
        "trained_steps",
        "updates",
        "episodes",
        "return_mean_100",
        "return_best_100",
        "ess",
        "clip_fraction",
        "lag_buckets",
        "lag_forward",
        "rejected",
    ];
    let trained = summary["ledger"]["trained"].clone();
    let values = keys.map(|key| summary[key].clone()).into_iter();
    values.chain([trained]).collect()
}

/// The updates of all rows of `metrics.jsonl`.
fn rows(directory: &Path) -> Vec<u64> {
    let text = fs::read_to_string(directory.join("metrics.jsonl")).expect("metrics");
    let row = |line: &str| -> Value { serde_json::from_str(line).expect("a row") };
    let updates = |line| row(line)["charts/updates"].as_f64().expect("updates") as u64;
    text.lines().map(updates).collect()
}

fn checkpoints(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.join("checkpoints"))
        .into_iter()
        .flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "ckpt"));
    files.sort();
    files
}

fn wait_for_checkpoints(run: &Train, count: usize) {
    let deadline = Instant::now() + WAIT_MAX;
    while checkpoints(&run.run_directory()).len() < count {
        assert!(
            Instant::now() < deadline,
            "no checkpoint within {WAIT_MAX:?}"
        );
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_run_that_dies_at_any_place_ends_as_if_nothing_had_happened() {
    let whole = lock_step(&[]);
    let expected = policy(&whole.run_directory());
    let kills = if std::env::var_os("SPRINGBOK_CAMPAIGN").is_some() {
        25
    } else {
        1
    };
    for place in FAILPOINTS {
        for kill in 0..kills {
            // Not the first checkpoint: there would be nothing to go on from.
            let (times, least) = if place == Failpoint::MidUpdate {
                let update = 5 + kill % (UPDATES - 5);
                (update, (update - 1) / INTERVAL - 1)
            } else {
                let number = 2 + kill % 3;
                (number, number - 1)
            };
            let at = format!("{}:{times}", place.name());
            let arguments = [&LOCK_STEP[..], &["--set", "checkpoint.restarts_max=0"]].concat();
            let run = train_with(BINARY, &arguments, &[(VARIABLE, &at)]).wait(WAIT_MAX);
            assert_eq!(run.ended.code(), 70, "{at}: {:?}", run.ended);
            let directory = run.run_directory();
            let ended = resume(&directory, &["--no-progress"]);
            assert_eq!(ended.code(), 0, "{at}: {ended:?}");
            let summary = summary(&directory);
            let resumed = &summary["resumed"];
            let from = resumed["from_update"].as_u64().unwrap();
            assert!(
                from >= least * INTERVAL && from.is_multiple_of(INTERVAL),
                "{at}: {resumed}"
            );
            assert_eq!(
                (&summary["epoch"], &resumed["epoch"]),
                (&2.into(), &2.into())
            );
            assert!(policy(&directory) == expected, "{at}");
            assert_eq!(course(&summary), course(&whole.summary()), "{at}");
            assert_eq!(rows(&directory), (1..=UPDATES).collect::<Vec<_>>(), "{at}");
        }
    }
}

#[test]
fn a_learner_that_is_killed_is_replaced_and_its_actors_stay() {
    let slow = ["--set", "learner.update_delay_ms=40"];
    let whole = lock_step(&[]);
    let run = train(BINARY, &[&LOCK_STEP[..], &slow].concat());
    wait_for_checkpoints(&run, 1);
    send(run.pids("learner")[0], Signal::KILL);
    let deadline = Instant::now() + WAIT_MAX;
    while run.pids("learner").len() < 2 {
        assert!(
            Instant::now() < deadline,
            "no second learner within {WAIT_MAX:?}"
        );
        thread::park_timeout(Duration::from_millis(5));
    }
    let actors = run.pids("actor");
    let trained = run.wait(WAIT_MAX);
    trained.assert_done();
    let summary = trained.summary();
    assert_eq!(actors.len(), 2);
    assert_eq!(
        (&summary["epoch"], &summary["actors"]["joined"]),
        (&2.into(), &2.into())
    );
    assert_ledger_closes(&summary);
    assert_eq!(
        summary["ledger"]["trained"],
        whole.summary()["ledger"]["trained"]
    );
    assert!(policy(&trained.run_directory()) == policy(&whole.run_directory()));
}

/// A run that is not in lock-step and was interrupted after `updates` or more; it would go on for hours.
fn interrupted(arguments: &[&str]) -> Trained {
    let endless = [
        "--total-steps",
        "1000000000",
        "--set",
        "checkpoint.interval_updates=5",
        "--set",
        "algorithm.learning_rate_schedule=constant",
        "--set",
        "checkpoint.keep_best=false",
    ];
    let run = train(BINARY, &[&endless, arguments].concat());
    wait_for_checkpoints(&run, 2);
    run.program.signal(Signal::INT);
    let trained = run.wait(WAIT_MAX);
    trained.assert_done();
    trained
}

#[test]
fn an_interrupted_run_goes_on_where_it_drained_with_the_settings_that_it_had() {
    let first = interrupted(&["--seed", "7"]);
    let (directory, before) = (first.run_directory(), first.summary());
    let updates = before["updates"].as_u64().unwrap();
    assert_eq!(before["checkpoints"]["last_version"], updates);
    let config = fs::read_to_string(directory.join("config.toml")).unwrap();

    let refused = resume(
        &directory,
        &[
            "--set",
            "algorithm.gamma=0.9",
            "--seed",
            "8",
            "--actors",
            "1",
        ],
    );
    assert_eq!(refused.code(), 64, "{refused:?}");
    for difference in [
        "`run.seed`: then 7, now 8",
        "`algorithm.gamma`: then 0.99, now 0.9",
    ] {
        assert!(refused.stderr.contains(difference), "{refused:?}");
    }
    assert!(!refused.stderr.contains("actor.count"), "{refused:?}");
    assert_eq!(
        fs::read_to_string(directory.join("config.toml")).unwrap(),
        config
    );

    let more = before["trained_steps"].as_u64().unwrap() + 20_000;
    let ended = resume(&directory, &["--total-steps", &more.to_string()]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let after = summary(&directory);
    assert_eq!(after["resumed"]["from_update"], updates);
    assert_eq!(after["resumed"]["updates_lost"], 0);
    assert_eq!(after["run_id"], before["run_id"]);
    assert!(after["wall_s"].as_f64() > before["wall_s"].as_f64());
    assert!(after["trained_steps"].as_u64().unwrap() >= more);
    assert!(after["lag"]["max"].as_f64().unwrap() < 100.0, "{after}");
    assert_ledger_closes(&after);
    let last = after["updates"].as_u64().unwrap();
    assert_eq!(rows(&directory), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_without_a_good_one_nothing_begins_anew() {
    let run = lock_step(&[]);
    let directory = run.run_directory();
    let damage = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let [.., older, newest] = &checkpoints(&directory)[..] else {
        panic!("fewer than two checkpoints");
    };
    damage(newest);
    let ended = resume(&directory, &[]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(newest.with_extension("corrupt").exists());
    let name = older.file_name().unwrap().to_string_lossy().into_owned();
    let from = summary(&directory)["resumed"]["from_update"]
        .as_u64()
        .unwrap();
    assert_eq!(name, format!("checkpoint-{from:012}.ckpt"));

    checkpoints(&directory).iter().for_each(|path| damage(path));
    let ended = resume(&directory, &[]);
    assert_eq!(ended.code(), 74, "{ended:?}");
    assert!(ended.stderr.contains("nothing to resume from"), "{ended:?}");
    let nowhere = tempfile::tempdir().unwrap();
    fs::copy(
        directory.join("config.toml"),
        nowhere.path().join("config.toml"),
    )
    .unwrap();
    assert_eq!(resume(nowhere.path(), &[]).code(), 74);
}

#[test]
fn updates_that_are_not_finite_end_the_run_once_and_leave_the_checkpoint() {
    let first = interrupted(&[]);
    let directory = first.run_directory();
    let newest = checkpoints(&directory).pop().unwrap();
    let content = fs::read(&newest).unwrap();
    let explosive = [
        "--resume-anyway",
        "--set",
        "algorithm.policy_learning_rate=1e38",
    ];
    let ended = resume(&directory, &explosive);
    assert_eq!(ended.code(), 70, "{ended:?}");
    assert!(
        ended.stderr.contains("updates in a row were rolled back"),
        "{ended:?}"
    );
    assert_eq!(checkpoints(&directory).pop().unwrap(), newest);
    assert!(fs::read(&newest).unwrap() == content);
    // It was not started again, which would only have done the same.
    let log = fs::read_to_string(directory.join("logs").join("launcher.log")).unwrap();
    assert_eq!(log.matches("started learner").count(), 1, "{log}");
    // And the last good state still goes on with the settings that it had.
    let ended = resume(
        &directory,
        &[
            "--set",
            "algorithm.policy_learning_rate=0.0025",
            "--total-steps",
            "1",
        ],
    );
    assert_eq!(ended.code(), 0, "{ended:?}");
}
