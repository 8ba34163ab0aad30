//! The promise: actors and learners come and go, hang and die at any time, and the rest goes on.
//!
//! `SPRINGBOK_CAMPAIGN=1` repeats what the ordinary tests do once.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use springbok_tests::{
    Program, assert_ledger_closes,
    farm::{actor, campaign, learner, number, unrolls_made},
    newest_checkpoint,
    proxy::Proxy,
    send,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(60);
/// 10 s without a sign of life, 5 s for an answer, and room for a machine that is busy.
const DEAD_MAX: Duration = Duration::from_secs(15 + 10);
const REJOIN_MAX: Duration = Duration::from_secs(15);
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A learner slow enough that actors wait for it, and not the processor for them.
const SLOW: [&str; 2] = ["--set", "learner.update_delay_ms=40"];

fn times(campaign_times: usize) -> usize {
    if campaign() { campaign_times } else { 1 }
}

fn actors(url: &str, count: usize) -> Vec<Program> {
    (0..count).map(|i| actor(BINARY, url, i)).collect()
}

/// The most moments within any one second.
fn most_in_a_second(moments: &[Instant]) -> usize {
    let within = |begin: &Instant| {
        let second = *begin..*begin + Duration::from_secs(1);
        moments.iter().filter(|at| second.contains(*at)).count()
    };
    moments.iter().map(within).max().unwrap_or(0)
}

#[test]
fn all_actors_find_a_learner_that_was_killed_and_started_again_without_storming_it() {
    let mut learner_now = learner(BINARY, "127.0.0.1:0", &SLOW);
    let address = learner_now.address.to_string();
    let proxy = Proxy::to(learner_now.address);
    let actors = actors(&proxy.url(), 8);
    learner_now.wait_for_actors(8, WAIT_MAX);
    for _ in 0..times(20) {
        let before = proxy.accepted().len();
        // Killed without a word.
        drop(learner_now);
        learner_now = learner(BINARY, &address, &SLOW);
        learner_now.wait_for_actors(8, REJOIN_MAX);
        let burst = most_in_a_second(&proxy.accepted()[before..]);
        assert!(
            (1..=16).contains(&burst),
            "{burst} connections in one second"
        );
    }
    let summary = learner_now.drain(DRAIN_MAX);
    assert_eq!(summary["actors"]["joined"].as_u64(), Some(8), "{summary}");
    // What was made for the learner that died is not sent to the new one, which does not miss it either.
    let ledger = ["rejected", "lost"].map(|name| summary["ledger"][name].as_u64());
    assert_eq!(ledger, [Some(0); 2], "{summary}");
    assert!(unrolls_made(actors) > summary["ledger"]["produced"].as_u64().unwrap());
}

#[test]
fn all_actors_find_a_learner_that_was_killed_and_resumed_within_an_interval_of_where_it_was() {
    const INTERVAL: u64 = 5;
    let interval = format!("checkpoint.interval_updates={INTERVAL}");
    let arguments = [SLOW[0], SLOW[1], "--set", &interval];
    let mut learner = learner(BINARY, "127.0.0.1:0", &arguments);
    let proxy = Proxy::to(learner.address);
    let actors = actors(&proxy.url(), 8);
    learner.wait_for_actors(8, WAIT_MAX);
    let updates = |row: &Value| number(row, "charts/updates") as u64;
    let lives = times(20) as u64;
    for _ in 0..lives {
        let before = proxy.accepted().len();
        let begun = updates(&learner.row());
        let trained = learner.wait_for("a checkpoint", WAIT_MAX, |row| {
            updates(row) >= begun + 2 * INTERVAL
        });
        learner = learner.killed_and_resumed(BINARY);
        let from = newest_checkpoint(&learner.run_directory()).unwrap();
        // One may have been under way when it was killed.
        assert!(from + 2 * INTERVAL > updates(&trained), "{from}: {trained}");
        // The rows of the life before are still there.
        let resumed = updates(&learner.row());
        learner.wait_for("all actors are back", REJOIN_MAX, |row| {
            updates(row) > resumed && number(row, "actors/present") as usize == 8
        });
        let burst = most_in_a_second(&proxy.accepted()[before..]);
        assert!((1..=16).contains(&burst), "{burst} in one second");
    }
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["epoch"].as_u64(), Some(1 + lives), "{summary}");
    let ledger = ["rejected", "lost"].map(|name| summary["ledger"][name].as_u64());
    assert_eq!(ledger, [Some(0); 2], "{summary}");
    assert!(unrolls_made(actors) > summary["ledger"]["produced"].as_u64().unwrap());
}

#[test]
fn actors_killed_one_after_another_cost_no_more_than_their_own_unrolls() {
    let mut learner = learner(BINARY, "127.0.0.1:0", &SLOW);
    let url = format!("http://{}", learner.address);
    let mut actors = actors(&url, 4);
    learner.wait_for_actors(4, WAIT_MAX);
    let kills = 4 * times(15);
    for kill in 0..kills {
        let place = kill % 4;
        // A new life in the place of the killed one, as a launcher starts it.
        actors[place] = actor(BINARY, &url, place);
        learner.wait_for_training(10.0, WAIT_MAX);
    }
    learner.wait_for_actors(4, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    let lives = &summary["actors"];
    let expected = [4 + kills, kills, kills, 4].map(|count| Some(count as u64));
    let counts = ["joined", "lost", "replaced", "left"].map(|name| lives[name].as_u64());
    assert_eq!(counts, expected, "{summary}");
    let produced = summary["ledger"]["produced"].as_u64().unwrap();
    assert!(
        produced > unrolls_made(actors),
        "the dead had made some too"
    );
}

#[test]
fn a_hung_actor_loses_its_place_holds_nobody_up_and_comes_back() {
    let mut learner = learner(BINARY, "127.0.0.1:0", &SLOW);
    let actors = actors(&format!("http://{}", learner.address), 3);
    learner.wait_for_actors(3, WAIT_MAX);
    for _ in 0..times(3) {
        send(actors[0].pid(), Signal::STOP);
        learner.wait_for_training(40.0, WAIT_MAX);
        learner.wait_for("the place is free", DEAD_MAX, |row| {
            number(row, "actors/present") as usize == 2
        });
        send(actors[0].pid(), Signal::CONT);
        learner.wait_for_actors(3, WAIT_MAX);
    }
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["actors"]["joined"].as_u64(), Some(3), "{summary}");
    assert_eq!(
        summary["ledger"]["produced"].as_u64(),
        Some(unrolls_made(actors)),
        "{summary}"
    );
}

#[test]
fn behind_a_trainer_that_stands_still_memory_is_bounded() {
    let stopped = ["--set", "learner.update_delay_ms=3000"];
    let mut learner = learner(BINARY, "127.0.0.1:0", &stopped);
    let actors = actors(&format!("http://{}", learner.address), 8);
    learner.wait_for_actors(8, WAIT_MAX);
    let before = learner.memory_kib();
    let updates = if campaign() { 20.0 } else { 2.0 };
    learner.wait_for_training(2.0 * updates, Duration::from_secs(120));
    let grown = learner.memory_kib().saturating_sub(before);
    // By arithmetic: two unrolls of 17 KiB queued, one in hand and one on its way for each actor, and a window of HTTP/2
    // of 64 KiB for each stream: below 2 MiB. The rest is for the allocator.
    assert!(grown < 8 * 1024, "grown by {grown} KiB");
    for row in learner.rows() {
        // In the queue, in the batch, and one of each actor in hand, which waits for a place.
        assert!(number(&row, "ledger/queued") <= 2.0 + 2.0 + 8.0, "{row}");
        assert!(number(&row, "queue/fill") <= 1.0, "{row}");
    }
    let summary = learner.drain(DRAIN_MAX);
    let produced = summary["ledger"]["produced"].as_u64();
    assert_eq!(produced, Some(unrolls_made(actors)), "{summary}");
}

/// A connection that says nothing, and one that begins HTTP/2 and then says nothing.
fn idlers(address: std::net::SocketAddr) -> [TcpStream; 2] {
    let [silent, mut half_open] = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    half_open
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    [silent, half_open]
}

#[test]
fn a_crowd_is_drained_in_time_beside_connections_that_say_nothing() {
    for _ in 0..times(50) {
        let mut learner = learner(BINARY, "127.0.0.1:0", &SLOW);
        let actors = actors(&format!("http://{}", learner.address), 16);
        learner.wait_for_actors(16, WAIT_MAX);
        let idlers = idlers(learner.address);
        let summary = learner.drain(DRAIN_MAX);
        drop(idlers);
        assert_eq!(summary["actors"]["left"].as_u64(), Some(16), "{summary}");
        assert_eq!(
            summary["ledger"]["produced"].as_u64(),
            Some(unrolls_made(actors)),
            "{summary}"
        );
    }
}

#[test]
fn a_second_signal_ends_a_draining_learner_at_once() {
    for _ in 0..times(50) {
        let mut learner = learner(BINARY, "127.0.0.1:0", &SLOW);
        let actor = actor(BINARY, &format!("http://{}", learner.address), 0);
        learner.wait_for_actors(1, WAIT_MAX);
        // It would wait for this one's Goodbye for 4 s.
        send(actor.pid(), Signal::STOP);
        learner.program.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(300));
        learner.program.signal(Signal::TERM);
        let ended = learner.program.wait(Duration::from_secs(5));
        assert_eq!(ended.code(), 130, "{ended:?}");
    }
}

#[test]
fn a_learner_drains_in_time_although_an_actor_hangs() {
    let patience = [SLOW[0], SLOW[1], "--set", "limits.drain_s_max=4"];
    let mut learner = learner(BINARY, "127.0.0.1:0", &patience);
    let actors = actors(&format!("http://{}", learner.address), 2);
    learner.wait_for_actors(2, WAIT_MAX);
    send(actors[0].pid(), Signal::STOP);
    let summary = learner.drain(DRAIN_MAX);
    let lives = ["left", "lost"].map(|name| summary["actors"][name].as_u64());
    assert_eq!(lives, [Some(1), Some(1)], "{summary}");
    assert_ledger_closes(&summary);
}
