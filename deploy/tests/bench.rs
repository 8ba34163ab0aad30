//! The promise: `springbok bench` measures every stage beside its ceiling, and what it says can be read by programs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_springbok");

fn bench(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("bench")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else")
}

/// Every row has rates, and ratios that are theirs.
fn rows(report: &Value) -> Vec<&Value> {
    let rows: Vec<_> = report["rows"].as_array().unwrap().iter().collect();
    for row in &rows {
        let number = |name: &str| {
            row[name]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}: {row}"))
        };
        let (rate, ceiling) = (number("rate"), number("ceiling"));
        assert!(rate > 0.0 && ceiling > 0.0, "{row}");
        let ratio = rate / ceiling;
        assert!((number("ratio") / ratio - 1.0).abs() < 1e-9, "{row}");
        for spread in ["a_a", "ratio_of_rounds"] {
            let [least, median, most] =
                ["least", "median", "most"].map(|name| row[spread][name].as_f64().unwrap());
            assert!(least <= median && median <= most, "{row}");
        }
        for name in ["case", "unit", "against"] {
            assert!(!row[name].as_str().unwrap().is_empty(), "{row}");
        }
    }
    rows
}

#[test]
fn a_quick_suite_has_every_stage_and_ratios_that_are_theirs() {
    let report = report(&["--quick", "--seconds", "0.002", "--rounds", "1"]);
    let rows = rows(&report);
    let mut stages: Vec<_> = rows
        .iter()
        .map(|row| row["stage"].as_str().unwrap())
        .collect();
    stages.dedup();
    let expected = [
        "environment",
        "rollout",
        "encode",
        "transport",
        "intake",
        "learner",
        "snapshot",
        "whole",
        "scaling",
    ];
    assert_eq!(stages, expected);
    assert!(report["machine"]["cores"].as_u64() > Some(0), "{report}");
    assert_eq!(report["settings"]["environment"], "CartPole-v1");
    let note = |case: &str, name: &str| {
        let row = rows.iter().find(|row| row["case"] == case);
        row.unwrap_or_else(|| panic!("no {case}: {report}"))["notes"][name].as_f64()
    };
    assert!(
        note("update", "share of these three") > Some(0.0),
        "{report}"
    );
    let crowd = "100 simulated actors";
    let memory = note(crowd, "MiB of the learner");
    let bound = note(crowd, "MiB of the learner at most, by its limits");
    assert!(memory > Some(0.0) && memory < bound, "{memory:?} {bound:?}");
    let latency = note(crowd, "milliseconds to an acknowledgement, p99");
    assert!(latency > Some(0.0), "{report}");
}

#[test]
fn recorded_unrolls_are_trained_on_under_the_same_configuration_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("unrolls");
    let path = file.to_str().unwrap();
    let recorded = bench(&["record", path, "--unrolls", "3"]);
    assert!(recorded.status.success(), "{recorded:?}");

    let tiny = ["learner", "--quick", "--seconds", "0.002", "--rounds", "1"];
    let report = report(&[&tiny[..], &["--recording", path]].concat());
    let cases: Vec<_> = rows(&report)
        .iter()
        .map(|row| row["case"].as_str().unwrap())
        .collect();
    assert!(cases.contains(&"update, recorded"), "{cases:?}");

    let other = [&tiny[..], &["--recording", path, "--env", "Catch"]].concat();
    refused(&other, "another environment, network or shape");
    let four = ["learner.queue_unrolls=4", "learner.batch_unrolls=4"];
    let more = ["--recording", path, "--set", four[0], "--set", four[1]];
    refused(
        &[&tiny[..], &more].concat(),
        "has 3 unrolls, but a batch takes 4",
    );
    std::fs::write(&file, b"SPRBKRECnothing").unwrap();
    refused(
        &[&tiny[..], &["--recording", path]].concat(),
        "15 bytes instead of 40",
    );
    assert!(Path::new(path).exists());
}

fn refused(arguments: &[&str], sentence: &str) {
    let output = bench(arguments);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn a_table_names_what_each_ceiling_is() {
    let tiny = ["encode", "--quick", "--seconds", "0.002", "--rounds", "1"];
    let output = bench(&tiny);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["CartPole-v1", "ratio", "memcpy of as many bytes", "MiB/s"] {
        assert!(said.contains(part), "{said}");
    }
}
