//! The promise: a grid is checked before it is run, one failed run does not stop the others, and what was interrupted
//! goes on where it stopped.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use springbok_tests::{Ended, Program, wait_until_gone};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const GRID_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(30);

fn start(out: &Path, arguments: &[&str]) -> Program {
    let mut command = Command::new(BINARY);
    let tiny = [
        "--env", "Catch", "--device", "cpu", "--json", "--actors", "1",
    ];
    command
        .arg("lab")
        .args(tiny)
        .arg("--out")
        .arg(out)
        .args(arguments);
    Program::start(command)
}

fn run(out: &Path, arguments: &[&str]) -> Ended {
    start(out, arguments).wait(GRID_MAX)
}

/// `results.jsonl`.
fn rows(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("results.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a run directory holds, to see whether it was made again.
fn run_id(out: &Path, cell: &str) -> String {
    let summary = fs::read_to_string(out.join("runs").join(cell).join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    summary["run_id"].to_string()
}

#[test]
fn a_failed_run_is_a_row_and_only_that_one_is_made_again() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let broken = format!("broken:learner.listen={address}");
    let grid = [
        "--variant",
        &broken,
        "--variant",
        "sound:",
        "--sweep",
        "lag=0,2",
        "--total-steps",
        "3000",
    ];

    let ended = run(out, &grid);
    assert_eq!(ended.code(), 70, "{ended:?}");
    let told = ended.json();
    assert_eq!(
        (&told["done"], &told["failed"]),
        (&2.into(), &2.into()),
        "{told}"
    );
    let found = rows(out);
    let states: Vec<(&str, &str)> = found
        .iter()
        .map(|row| {
            (
                row["cell"].as_str().unwrap(),
                row["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [
            ("broken_lag-0_seed-1", "failed"),
            ("broken_lag-2_seed-1", "failed"),
            ("sound_lag-0_seed-1", "done"),
            ("sound_lag-2_seed-1", "done"),
        ]
    );
    assert!(
        found[0]["error"].as_str().unwrap().contains(&address),
        "{}",
        found[0]
    );
    assert_eq!(found[3]["settings"]["lag.inject"], "2");
    assert!(
        found[3]["measured"]["lag"]["mean"].as_f64().unwrap() > 0.5,
        "{}",
        found[3]
    );
    assert_eq!(
        fs::read_to_string(out.join("results.csv"))
            .unwrap()
            .lines()
            .count(),
        5
    );
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("2 failed") && report.contains(&address));
    assert!(out.join("plots").join("frontier.svg").is_file());

    // The same command again, now that the address is free.
    drop(taken);
    let before = run_id(out, "sound_lag-2_seed-1");
    let ended = run(out, &grid);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let told = ended.json();
    assert_eq!(
        (&told["done"], &told["done_earlier"]),
        (&4.into(), &2.into()),
        "{told}"
    );
    assert_eq!(
        run_id(out, "sound_lag-2_seed-1"),
        before,
        "a finished run was made again"
    );
    assert!(rows(out).iter().all(|row| row["status"] == "done"));

    // Other settings would mix two experiments.
    let mut other = grid;
    other[7] = "4000";
    let ended = run(out, &other);
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert!(
        ended.stderr.contains("run.total_steps was 3000, now 4000"),
        "{ended:?}"
    );
}

#[test]
fn faults_of_any_run_are_found_before_the_first() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("grid");
    let ended = run(
        &out,
        &[
            "--sweep",
            "algorithm.gamma=0.9,2.0",
            "--variant",
            "a:algorithm.gama=1",
        ],
    );
    assert_eq!(ended.code(), 64, "{ended:?}");
    for part in ["algorithm.gama", "`algorithm.gamma` is 2"] {
        assert!(ended.stderr.contains(part), "{part:?}: {ended:?}");
    }
    assert!(!out.exists());
}

/// A grid whose second run would go on for hours, once that is on its way; and the processes of that run.
fn endless(out: &Path) -> (Program, Vec<u32>) {
    let variants = [
        "--variant",
        "short:run.total_steps=2000",
        "--variant",
        "endless:run.total_steps=1000000000",
    ];
    let mut lab = start(out, &variants);
    lab.wait_for("[1/2] short", GRID_MAX);
    let log = out
        .join("runs")
        .join("endless_seed-1")
        .join("logs")
        .join("launcher.log");
    let deadline = Instant::now() + GRID_MAX;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let pids: Vec<u32> = text
            .lines()
            .filter_map(|line| line.split_once(" pid ")?.1.parse().ok())
            .collect();
        if pids.len() == 2 {
            return (lab, pids);
        }
        assert!(Instant::now() < deadline, "a learner and an actor: {text}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupted_grid_ends_cleanly_and_goes_on_later() {
    let out = tempfile::tempdir().unwrap();
    let (lab, pids) = endless(out.path());
    lab.signal(Signal::INT);
    let ended = lab.wait(STOP_MAX);
    assert_eq!(ended.code(), 0, "{ended:?}");
    wait_until_gone(&pids, STOP_MAX);
    let told = ended.json();
    assert_eq!(
        (&told["interrupted"], &told["done"]),
        (&true.into(), &1.into()),
        "{told}"
    );
    assert_eq!(rows(out.path()).len(), 1);
    assert!(out.path().join("report.html").is_file());

    let before = run_id(out.path(), "short_seed-1");
    let mut lab = start(out.path(), &["--variant", "short:run.total_steps=2000"]);
    lab.wait_for("0 of 1 runs are to be made", GRID_MAX);
    assert_eq!(lab.wait(GRID_MAX).code(), 0);
    assert_eq!(run_id(out.path(), "short_seed-1"), before);
}

#[test]
fn a_killed_laboratory_leaves_no_process() {
    let out = tempfile::tempdir().unwrap();
    let (lab, pids) = endless(out.path());
    lab.signal(Signal::KILL);
    wait_until_gone(&pids, STOP_MAX);
    assert!(lab.wait(STOP_MAX).status.code().is_none());
}
