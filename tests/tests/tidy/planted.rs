//! Each rule finds what it is for: planted violations, and their lawful counterparts.

use crate::rules::{
    FILE_LINES_MAX, RULES, forbids_unsafe, may_name_protobuf, pure_module, source_violations,
};

/// For each rule: a file, a line that breaks the rule there, and one that does not.
const PLANTED: [(&str, &str, &str, &str); 15] = [
    (
        "channels are bounded",
        "learner/src/queue.rs",
        "let (send, receive) = crossbeam_channel::unbounded();",
        "let (send, receive) = crossbeam_channel::bounded(4); // never unbounded",
    ),
    (
        "channels are bounded",
        "actor/src/client.rs",
        "let (send, receive) = mpsc::unbounded_channel::<u8>();",
        "let (send, receive) = mpsc::channel::<u8>(1);",
    ),
    (
        "channels are bounded",
        "deploy/src/supervisor.rs",
        "let (send, receive) = std::sync::mpsc::channel();",
        "let (send, receive) = std::sync::mpsc::sync_channel(1);",
    ),
    (
        "nothing is left to do",
        "common/src/ids.rs",
        concat!("// TO", "DO: check the length"),
        "// Everything is done.",
    ),
    (
        "nothing is left to do",
        "common/src/ids.rs",
        concat!("fn parse() { to", "do!() }"),
        "let todo = list();",
    ),
    (
        "no test is ignored",
        "tests/tests/learns.rs",
        "#[ignore = \"slow\"]",
        "#[test]",
    ),
    (
        "wgpu is named only in learner/src/device.rs",
        "learner/src/trainer/update.rs",
        "use burn::backend::Wgpu;",
        "let text = \"built without wgpu\";",
    ),
    (
        "pure modules know no socket, no clock and no log",
        "learner/src/algorithm/vtrace.rs",
        "tracing::debug!(\"targets\");",
        "let targets = values;",
    ),
    (
        "pure modules know no socket, no clock and no log",
        "learner/src/admission.rs",
        "let now = std::time::Instant::now();",
        "fn admit(now: std::time::Instant) {}",
    ),
    (
        "pure modules know no socket, no clock and no log",
        "learner/src/roster.rs",
        "let now = Instant::now();\n#[cfg(test)]\nmod tests {\n}",
        "#[cfg(test)]\nmod tests {\n    let now = Instant::now();\n}",
    ),
    (
        "pure modules know no socket, no clock and no log",
        "actor/src/session.rs",
        "use tokio::sync::watch;",
        "use std::collections::VecDeque;",
    ),
    (
        "protobuf types stay at the edges",
        "learner/src/trainer/mod.rs",
        "use springbok_proto::v1;",
        "use springbok_common::unroll::Unroll;",
    ),
    (
        "protobuf types stay at the edges",
        "actor/src/rollout.rs",
        "fn send(unroll: springbok_common::wire::v1::Unroll) {}",
        "fn send(unroll: springbok_common::unroll::Unroll) {}",
    ),
    (
        "services and sessions carry no tensors",
        "learner/src/service/mod.rs",
        "use burn::tensor::Tensor;",
        "use bytes::Bytes;",
    ),
    (
        "services and sessions carry no tensors",
        "actor/src/session.rs",
        "fn load(device: burn::tensor::Device) {}",
        "fn load(parameters: &[u8]) {}",
    ),
];

#[test]
fn each_rule_finds_its_planted_violation_and_only_that() {
    for (rule, path, bad, good) in PLANTED {
        let found = source_violations(path, &format!("//! A file.\n{bad}\n"));
        assert_eq!(found.len(), 1, "{rule}: {bad}: {found:?}");
        assert!(
            found[0].starts_with(&format!("{path}:2: {rule}: ")),
            "{found:?}"
        );
        assert!(source_violations(path, good).is_empty(), "{rule}: {good}");
    }
    for rule in &RULES {
        assert!(
            PLANTED.iter().any(|(name, ..)| *name == rule.name),
            "nothing is planted for: {}",
            rule.name
        );
    }
}

#[test]
fn rules_cover_the_right_files() {
    for path in [
        "common/src/wire/mod.rs",
        "common/src/wire.rs",
        "learner/src/service/join.rs",
    ] {
        assert!(may_name_protobuf(path), "{path}");
    }
    for path in [
        "actor/src/client_pool.rs",
        "common/src/wired.rs",
        "actor/src/session.rs",
    ] {
        assert!(!may_name_protobuf(path), "{path}");
    }
    for path in [
        "learner/src/algorithm/mod.rs",
        "learner/src/ledger/mod.rs",
        "learner/src/roster.rs",
        "deploy/src/lab/plan.rs",
        "deploy/src/lab/report/plot/xy.rs",
    ] {
        assert!(pure_module(path), "{path}");
    }
    assert!(!pure_module("deploy/src/lab/schedule.rs"));
    assert!(!pure_module("learner/src/trainer/mod.rs"));
}

#[test]
fn long_files_are_found() {
    let longest = "\n".repeat(FILE_LINES_MAX);
    assert!(source_violations("actor/src/vector.rs", &longest).is_empty());
    let found = source_violations("actor/src/vector.rs", &format!("{longest}\n"));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_library_that_allows_unsafe_code_is_found() {
    assert!(forbids_unsafe("//! Text.\n#![forbid(unsafe_code)]\n"));
    assert!(!forbids_unsafe("//! Text.\n#![deny(unsafe_code)]\n"));
    assert!(!forbids_unsafe("//! Text.\n// #![forbid(unsafe_code)]\n"));
}
