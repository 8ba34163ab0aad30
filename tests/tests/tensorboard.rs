//! The promise: TensorBoard reads what a run wrote for it, and a resumed run goes on in the same curves.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, process::Command, time::Duration};

use serde_json::Value;
use springbok_tests::{Program, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Names an interpreter with tensorboard.
const INTERPRETER: &str = "SPRINGBOK_TEST_PYTHON";

/// The interpreter, if there is one with the package. CI has it.
fn interpreter() -> Option<OsString> {
    let found = std::env::var_os(INTERPRETER).filter(|interpreter| {
        let probe = Command::new(interpreter)
            .args(["-c", "import tensorboard.backend"])
            .output();
        probe.is_ok_and(|output| output.status.success())
    });
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "{INTERPRETER} must name an interpreter with tensorboard"
    );
    found
}

/// What TensorBoard's own code finds in the folder of a run.
fn read(interpreter: &OsString, run: &Path) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tensorboard/read.py");
    let output = Command::new(interpreter)
        .arg(program)
        .arg(run.join("tensorboard"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The points [step, time, value] of a curve.
fn points<'a>(found: &'a Value, tag: &str) -> Vec<&'a [Value]> {
    let points = found["scalars"][tag].as_array();
    let points = points.unwrap_or_else(|| panic!("there is no curve {tag}"));
    points
        .iter()
        .map(|point| point.as_array().unwrap().as_slice())
        .collect()
}

#[test]
fn tensorboard_reads_curves_distributions_and_hyperparameters() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let run = train(
        BINARY,
        &["--total-steps", "20000", "--tensorboard", "--seed", "7"],
    );
    let trained = run.wait(WAIT_MAX);
    trained.assert_done();
    let directory = trained.run_directory();
    let summary = trained.summary();
    let found = read(&interpreter, &directory);

    // The last row of metrics.jsonl is the last point of every curve, by the same names.
    let rows = fs::read_to_string(directory.join("metrics.jsonl")).unwrap();
    let last: BTreeMap<String, f64> = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert!(last.len() > 80);
    for (name, value) in &last {
        let points = points(&found, name);
        let end = points[points.len() - 1];
        assert_eq!(end[0], summary["trained_steps"], "{name}");
        let shown = end[2].as_f64().unwrap();
        let tolerance = 1e-6 * value.abs().max(1e-30);
        assert!(
            (shown - value).abs() <= tolerance,
            "{name}: {shown} {value}"
        );
    }
    // No step is missing in the distributions, however few points there are.
    for tag in [
        "distributions/lag_versions",
        "distributions/importance_ratio",
    ] {
        assert_eq!(
            found["histograms"][tag].as_f64(),
            summary["trained_steps"].as_f64(),
            "{tag}"
        );
    }
    assert_eq!(found["hparams"]["run.seed"], 7.0);
    assert_eq!(found["hparams"]["environment.id"], "CartPole-v1");
    assert_eq!(found["hparams"]["run.deterministic"], false);
    for indifferent in ["security.token_file", "run.out", "telemetry.tensorboard"] {
        assert!(found["hparams"].get(indifferent).is_none(), "{indifferent}");
    }
    let columns = found["columns"].as_array().unwrap();
    assert!(columns.contains(&Value::from("algorithm.gamma")));
    for result in found["results"].as_array().unwrap() {
        assert!(last.contains_key(result.as_str().unwrap()), "{result}");
    }
    assert_eq!(found["status"], 1, "the session succeeded");
    let text = found["text"].as_str().unwrap();
    assert!(
        text.starts_with("| key | value |\n| --- | --- |\n"),
        "{text}"
    );
    assert!(text.contains("\n| run.seed | 7 |\n"), "{text}");
    assert_eq!(
        found["description"],
        "Policy lag of the steps of this update, mean. In versions."
    );

    // A longer goal goes on where this ended, in a file of its own; the points of both are in one order.
    let mut again = Command::new(BINARY);
    again
        .args(["train", "--json", "--total-steps", "30000", "--resume"])
        .arg(&directory)
        .current_dir(out.path());
    let ended = Program::start(again).wait(WAIT_MAX);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(
        fs::read_dir(directory.join("tensorboard")).unwrap().count(),
        2
    );
    let found = read(&interpreter, &directory);
    let points = points(&found, "charts/updates");
    let steps: Vec<u64> = points
        .iter()
        .map(|point| point[0].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(steps.contains(&summary["trained_steps"].as_u64().unwrap()));
    assert_eq!(
        Value::from(steps[steps.len() - 1]),
        ended.json()["trained_steps"]
    );
}
