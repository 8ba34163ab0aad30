//! The promise: whatever the network does, training goes on once it stops; every unroll is accounted for, none is
//! trained on twice.
//!
//! `SPRINGBOK_CAMPAIGN=1` makes each fault last a minute.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    thread,
    time::{Duration, Instant},
};

use springbok_tests::{
    farm::{Learner, actor, campaign, learner, number, unrolls_made},
    proxy::{Proxy, Toxic},
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(60);
/// So long a dead connection may stay unnoticed: 10 s without a sign of life, 5 s for an answer, and room for a machine
/// that is busy.
const DEAD_MAX: Duration = Duration::from_secs(15 + 10);
const DRAIN_MAX: Duration = Duration::from_secs(12);

/// A learner slow enough that actors wait for it, and not the processor for them.
fn slow_learner(arguments: &[&str]) -> Learner {
    let slow = ["--set", "learner.update_delay_ms=40"];
    learner(BINARY, "127.0.0.1:0", &[&slow, arguments].concat())
}

/// Two actors behind a proxy live through `fault`; afterwards they stream again, and the books of learner and actors
/// agree.
fn survives(fault: impl Fn(&Proxy, &mut Learner, Duration)) {
    let mut learner = slow_learner(&[]);
    let proxy = Proxy::to(learner.address);
    let actors: Vec<_> = (0..2).map(|i| actor(BINARY, &proxy.url(), i)).collect();
    learner.wait_for_actors(2, WAIT_MAX);
    let seconds = if campaign() { 60 } else { 2 };
    fault(&proxy, &mut learner, Duration::from_secs(seconds));
    proxy.apply(Toxic::None);
    learner.wait_for_actors(2, WAIT_MAX);
    learner.wait_for_training(40.0, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    // Each process counts for itself: nothing was counted twice, and nothing vanished.
    let ledger = &summary["ledger"];
    assert_eq!(
        ledger["produced"].as_u64(),
        Some(unrolls_made(actors)),
        "{summary}"
    );
    assert_eq!(ledger["lost"].as_u64(), Some(0), "{summary}");
    let steps = ledger["trained"].as_u64().map(|unrolls| unrolls * 32 * 16);
    assert_eq!(summary["trained_steps"].as_u64(), steps, "{summary}");
}

/// `toxic` for a while, during which unrolls go on arriving.
fn goes_on_under(toxic: Toxic) {
    survives(|proxy, learner, time| {
        let begun = Instant::now();
        proxy.apply(toxic);
        learner.wait_for_training(6.0, WAIT_MAX);
        while begun.elapsed() < time {
            learner.wait_for_training(1.0, WAIT_MAX);
        }
    });
}

#[test]
fn latency_slows_and_breaks_nothing() {
    goes_on_under(Toxic::Latency(Duration::from_millis(50)));
}

#[test]
fn packets_of_one_byte_break_nothing() {
    goes_on_under(Toxic::OneByteWrites);
}

#[test]
fn a_narrow_line_breaks_nothing() {
    goes_on_under(Toxic::BytesPerSecond(64 * 1024));
}

#[test]
fn resets_again_and_again_lose_nothing() {
    survives(|proxy, learner, time| {
        let begun = Instant::now();
        let mut resets = 0;
        while begun.elapsed() < time || resets < 3 {
            proxy.reset();
            resets += 1;
            learner.wait_for_training(2.0, WAIT_MAX);
        }
    });
}

#[test]
fn a_learner_out_of_reach_is_looked_for_until_it_answers() {
    survives(|proxy, _, time| {
        proxy.apply(Toxic::Refuse);
        proxy.reset();
        thread::sleep(time);
    });
}

#[test]
fn a_silence_shorter_than_the_keepalive_is_waited_out_on_the_same_connections() {
    survives(|proxy, learner, _| {
        let connections = proxy.accepted().len();
        proxy.apply(Toxic::Silent);
        thread::sleep(Duration::from_secs(3));
        proxy.apply(Toxic::None);
        learner.wait_for_training(10.0, WAIT_MAX);
        assert_eq!(proxy.accepted().len(), connections);
    });
}

#[test]
fn a_silent_or_half_open_connection_frees_its_place_and_the_actor_comes_back() {
    // Acknowledgements and parameters no longer arrive, or nothing does. Each from the beginning: a place is taken again
    // before there is a stream again, so that nobody could say when the next silence cuts two streams.
    let toxics = [Toxic::SilentDown, Toxic::Silent];
    let count = if campaign() { toxics.len() } else { 1 };
    for toxic in toxics.into_iter().take(count) {
        survives(|proxy, learner, time| {
            proxy.apply(toxic);
            learner.program.wait_for("stream ended", DEAD_MAX);
            learner.program.wait_for("stream ended", DEAD_MAX);
            thread::sleep(time);
            proxy.apply(Toxic::None);
            learner.wait_for_actors(2, WAIT_MAX);
        });
    }
}

#[test]
fn one_stalled_actor_of_eight_holds_nobody_up_and_loses_its_place() {
    let mut learner = slow_learner(&[]);
    let direct = format!("http://{}", learner.address);
    let proxy = Proxy::to(learner.address);
    let stalled = actor(BINARY, &proxy.url(), 7);
    let others: Vec<_> = (0..7).map(|i| actor(BINARY, &direct, i)).collect();
    learner.wait_for_actors(8, WAIT_MAX);
    proxy.apply(Toxic::Silent);
    // While it still has its place, which is at least for the ten seconds until somebody looks, the others go on.
    let row = learner.wait_for_training(12.0, WAIT_MAX);
    assert_eq!(number(&row, "actors/present") as usize, 8, "{row}");
    learner.wait_for(
        "the stalled one has lost its place",
        Duration::from_secs(45),
        |row| number(row, "actors/present") as usize == 7,
    );
    proxy.apply(Toxic::None);
    learner.wait_for_actors(8, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    let made = unrolls_made(others) + unrolls_made(vec![stalled]);
    assert_eq!(
        summary["ledger"]["produced"].as_u64(),
        Some(made),
        "{summary}"
    );
    assert_eq!(summary["actors"]["joined"].as_u64(), Some(8), "{summary}");
    assert_eq!(summary["actors"]["lost"].as_u64(), Some(0), "{summary}");
}
