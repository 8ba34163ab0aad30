//! The promise: one trace follows an unroll from its first step to the update that trained on it, through both processes.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "otlp")]
mod collector;

use std::time::Duration;

use springbok_tests::train;

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(300);

#[cfg(feature = "otlp")]
#[test]
fn one_trace_follows_an_unroll_from_its_environment_to_its_update() {
    let collector = collector::Collector::start();
    let run = train(
        BINARY,
        &[
            "--total-steps",
            "20000",
            "--otlp",
            &collector.url,
            "--set",
            "telemetry.trace_every_unrolls=5",
        ],
    );
    run.wait(WAIT_MAX).assert_done();
    // Both kinds of processes have sent their last spans before they ended.
    let spans = collector.spans();
    let names = [
        "unroll",
        "rollout",
        "send",
        "experience",
        "admit",
        "queue",
        "batch",
        "update",
        "publish",
    ];
    let trained = spans.iter().filter(|span| span.name == "publish");
    let traces: Vec<_> = trained
        .map(|publish| {
            let of_trace: Vec<_> = spans
                .iter()
                .filter(|span| span.trace_id == publish.trace_id)
                .collect();
            names.map(|name| {
                let found: Vec<_> = of_trace.iter().filter(|span| span.name == name).collect();
                assert_eq!(found.len(), 1, "{name} in {of_trace:?}");
                *found[0]
            })
        })
        .collect();
    assert!(
        traces.len() >= 2,
        "the first unroll of each actor is followed: {spans:?}"
    );
    for [
        unroll,
        rollout,
        send,
        experience,
        admit,
        queue,
        batch,
        update,
        publish,
    ] in traces
    {
        assert_eq!(unroll.parent_span_id, b"");
        for (child, parent) in [
            (rollout, unroll),
            (send, unroll),
            (experience, send),
            (admit, experience),
            (queue, experience),
            (batch, experience),
            (update, experience),
            (publish, update),
        ] {
            assert_eq!(child.parent_span_id, parent.span_id, "{}", child.name);
        }
        for (before, after) in [
            (rollout, send),
            (admit, queue),
            (queue, batch),
            (batch, update),
        ] {
            let (ends, begins) = (before.end_time_unix_nano, after.start_time_unix_nano);
            // One stage begins a moment before the other is closed.
            assert!(
                ends.abs_diff(begins) < 1_000_000_000,
                "{} {}",
                before.name,
                after.name
            );
            assert!(before.start_time_unix_nano <= begins);
        }
        assert_eq!(
            (&*send.service, &*update.service),
            ("springbok-actor", "springbok-learner")
        );
    }
    // Of five unrolls of an actor's life one is followed.
    let numbers = spans.iter().filter(|span| span.name == "unroll");
    let numbers: Vec<i64> = numbers
        .filter_map(|span| span.integer("sequence"))
        .collect();
    assert!(numbers.iter().all(|number| number % 5 == 1), "{numbers:?}");
}

#[cfg(feature = "otlp")]
#[test]
fn a_collector_that_is_not_there_costs_a_warning() {
    let run = train(
        BINARY,
        &["--total-steps", "5000", "--otlp", "http://127.0.0.1:1"],
    );
    let trained = run.wait(WAIT_MAX);
    trained.assert_done();
    let log = std::fs::read_to_string(trained.run_directory().join("logs/learner.log")).unwrap();
    assert!(
        log.contains("traces do not reach http://127.0.0.1:1"),
        "{log}"
    );
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_without_the_export_says_so() {
    let run = train(BINARY, &["--otlp", "http://127.0.0.1:4317"]);
    let ended = run.wait(WAIT_MAX).ended;
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert!(ended.stderr.contains("`--features otlp`"), "{ended:?}");
}
