//! What other programs say: Python environments, other learners and earlier runs.

use std::time::{Instant, UNIX_EPOCH};

use springbok::untrusted;
use springbok_actor::python;
use springbok_common::{
    ids::RunId,
    policy::{payload_bytes, write_safetensors},
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
};
use springbok_learner::{
    PolicyDescription,
    monitor::{
        self,
        actors::ActorStatus,
        feed::Live,
        status::{Accounts, Phase, RunIdentity, Status},
    },
};

use super::{Example, scratch};

/// Separates the files of one input.
const NEXT_FILE: &str = "\n--- next file ---\n";

fn example(name: &'static str, text: &str) -> Example {
    (name, text.as_bytes().to_vec())
}

/// The parts of `text` that are N files; those that are missing are empty.
fn files<const N: usize>(text: &str) -> [&str; N] {
    let mut parts = text.split(NEXT_FILE);
    [(); N].map(|()| parts.next().unwrap_or_default())
}

pub(super) fn hosts() -> Vec<Example> {
    vec![
        example("name", "localhost:9090"),
        example("four", "127.0.0.1:9090"),
        example("six", "[::1]:9090"),
    ]
}

/// Only names of this machine pass, whatever surrounds them.
pub(super) fn host(bytes: &[u8]) -> bool {
    let passes = monitor::is_for_this_machine(Some(bytes));
    if passes {
        let text = std::str::from_utf8(bytes).expect("what passes is text");
        let lower = text.to_ascii_lowercase();
        assert!(
            lower.starts_with("localhost") || lower.contains("127.") || lower.contains(":"),
            "{text:?} is no name of this machine"
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || ".:[]".contains(c);
        assert!(
            text.chars().all(plain),
            "{text:?} has characters that no host has"
        );
    }
    passes
}

fn environment() -> EnvironmentSpec {
    let observation = ObservationSpec::bytes([2, 3], 255);
    EnvironmentSpec::new("gym:Example-v0", observation, ActionSpec::Discrete(3)).with_steps_max(50)
}

pub(super) fn answers() -> Vec<Example> {
    let framed = |json: &str| {
        let length = u32::try_from(json.len()).expect("a short message");
        [&length.to_le_bytes()[..], json.as_bytes()].concat()
    };
    let spec = serde_json::to_string(&environment()).expect("JSON");
    let torque = r#"{"box":{"low":[-1.0,null],"high":[1.0,null]}}"#;
    let floats = r#"{"shape":[3],"element":"float32","bounds":[null,null],"parts":[{"name":"a","shape":[3]}]}"#;
    let continuous = format!(
        r#"{{"id":"gym:T","observation":{floats},"action":{torque},"action_mask":false,"episode_steps_max":null}}"#
    );
    let made = |spec: &str| {
        format!(
            r#"{{"ok":{{"spec":{spec},"autoreset":"next_step","back_end":"SyncVectorEnv","versions":{{"numpy":"2.4"}},"frame_bytes":1200}}}}"#
        )
    };
    vec![
        ("discrete", framed(&made(&spec))),
        ("continuous", framed(&made(&continuous))),
    ]
}

/// An environment that passes has sizes of which the actor can make buffers.
pub(super) fn answer(bytes: &[u8]) -> bool {
    // As it is, and with a length that fits.
    let json = bytes.get(4..).unwrap_or_default();
    let length = u32::try_from(json.len()).expect("short inputs");
    let framed = [&length.to_le_bytes()[..], json].concat();
    let _ = python::answered("gym:Example-v0", bytes, 16);
    let Ok(spec) = python::answered("gym:Example-v0", &framed, 16) else {
        return false;
    };
    assert!(!spec.observation.is_empty() && !spec.action.is_empty());
    assert!(spec.observation.row_bytes().checked_mul(16).is_some());
    assert!(spec.mask_len().checked_mul(16).is_some());
    true
}

/// A network of that environment.
fn network() -> NetworkSpec {
    NetworkSpec::mlp(&environment(), vec![4], Activation::Tanh, false)
}

pub(super) fn saved_policies() -> Vec<Example> {
    let description = PolicyDescription {
        run_id: RunId::from_bytes(&[7; 16]).expect("16 bytes"),
        policy_version: 12,
        seed: 1,
        network: network(),
        environment: environment(),
        environment_options: "size = 5\n".to_owned(),
    };
    vec![("whole", serde_json::to_vec(&description).expect("JSON"))]
}

/// `policy.json` beside good parameters: another network than theirs is a fault, and no more.
pub(super) fn policy(bytes: &[u8]) -> bool {
    let network = network();
    let flat = vec![0; payload_bytes(&network)];
    let content = write_safetensors(&flat, &network).expect("parameters that fit");
    scratch::file("policy.safetensors", &content);
    scratch::file("policy.json", bytes);
    untrusted::has_policy(&scratch::directory())
}

pub(super) fn run_directories() -> Vec<Example> {
    let row = |step: u32| {
        format!(
            "{{\"global_step\":{step}.0,\"charts/wall_s\":0.5,\"charts/episodic_return\":{step},\"lag/versions_mean\":2.5}}\n"
        )
    };
    let metrics: String = (1..5).map(row).collect();
    let config = "[run]\nseed = 3\n[environment]\noptions = { a = { b = 1 } }\n";
    let summary = "{\"trained_steps\":1024,\"wall_s\":3.5,\"lag\":{\"mean\":2.0},\"lag_causes\":{\"queue\":1.0}}";
    vec![example(
        "whole",
        &[metrics.as_str(), config, summary].join(NEXT_FILE),
    )]
}

/// What a report reads of a run.
pub(super) fn run_files(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let [metrics, config, summary] = files(&text);
    let (points, keys, is_summary) = untrusted::run_files(metrics, config, summary);
    assert!(points <= 241, "{points} points are kept of a curve");
    points > 0 && keys > 0 && is_summary
}

pub(super) fn row_files() -> Vec<Example> {
    let row = |seed: u32| {
        format!(
            "{{\"cell\":\"a-{seed}\",\"settings\":{{\"lag\":\"fixed:4\"}},\"seed\":{seed},\"status\":\"done\",\"measured\":{{\"env_steps\":100}}}}\n"
        )
    };
    vec![
        example("rows", &(row(1) + &row(2))),
        example("axis", "lag.inject=0,fixed:8,uniform:0..16"),
        example(
            "point",
            "long: actor.unroll_length=64 learner.batch_unrolls=8",
        ),
    ]
}

/// Rows are read again as they were written; every row has as many columns as the heading.
pub(super) fn rows(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let is_axis = untrusted::axis(&text);
    let Ok((written, csv)) = untrusted::rows(&text) else {
        return is_axis;
    };
    let (again, csv_again) = untrusted::rows(&written).expect("what was written");
    assert_eq!((&again, &csv_again), (&written, &csv));
    true
}

pub(super) fn status_answers() -> Vec<Example> {
    let run = RunIdentity {
        run_id: RunId::from_bytes(&[7; 16]).expect("16 bytes"),
        environment: "CartPole-v1".to_owned(),
        device: "cpu".to_owned(),
        seed: 1,
        total_steps: 10_000,
        version: "0.1.0".to_owned(),
    };
    let actor = ActorStatus {
        actor: 0,
        version: 9,
        lag_versions: 2,
        unrolls: 40,
        unrolls_per_s: 12.5,
        last_seen_s: 0.25,
    };
    let now = (Instant::now(), UNIX_EPOCH);
    let (phase, live, accounts) = (Phase::Serving, Live::default(), Accounts::default());
    let mut status = Status::new(run, phase, now, &live, accounts, vec![actor]);
    status.metrics.insert("global_step".to_owned(), 512.0);
    status.last_update_s = Some(1.5);
    let body = serde_json::to_string(&status).expect("JSON");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    vec![example("serving", &(head + body.as_str()))]
}

/// A status is shown, whatever its numbers are.
pub(super) fn status(bytes: &[u8]) -> bool {
    untrusted::status(bytes).is_some()
}
