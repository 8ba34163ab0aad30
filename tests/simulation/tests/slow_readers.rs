//! Actors that read slowly, or not at all, cost the learner a bounded number of bytes and the others nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use springbok_simulation::{Readers, Reading, Seen, look_at};

/// Bytes that the slow ones read in a second.
const SLOW: [u64; 2] = [1_000_000, 830_000];

/// When those that read nothing any more for a while begin with that, in ms.
const STOP_MS: [u64; 4] = [3_000, 3_410, 3_830, 4_270];

/// For so long they read nothing: longer than a sign of life may take.
const STOPPED: Duration = Duration::from_secs(22);

const LASTS: Duration = Duration::from_secs(42);

/// A connection that gives no sign of life is over after so long.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(16);

/// Milliseconds of a tick.
const TICK_MS: u128 = 10;

/// HTTP/2 lets so many bytes of a stream be on their way; hyper's default for clients.
const WINDOW_BYTES: u64 = 2 << 20;

/// An actor that reads as fast as it comes, and others.
fn look(others: Vec<Reading>) -> Seen {
    let mut readings = vec![Reading::default()];
    readings.extend(others);
    look_at(Readers {
        readings,
        // Three chunks.
        hidden_sizes: vec![520, 520],
        publish_interval: Duration::from_millis(150),
        lasts: LASTS,
    })
    .unwrap()
}

#[test]
fn slow_readers_hold_one_snapshot_each_get_the_newest_and_slow_no_one_down() {
    let alone = look(Vec::new());
    let slow = SLOW.map(|rate| Reading {
        bytes_per_s: Some(rate),
        pause: None,
    });
    let stopped = STOP_MS.map(|at| Reading {
        bytes_per_s: Some(1_500_000),
        pause: Some((STOPPED, Duration::from_millis(at))),
    });
    let seen = look([&slow[..], &stopped].concat());

    // The newest one, and one more for each reader; that is within what `config check` prints.
    let snapshot = seen.snapshot_bytes;
    assert!(snapshot > 2 << 20, "{snapshot} bytes are three chunks");
    let held = seen.held.iter().copied().max().unwrap();
    let readers = seen.received.len();
    assert!(held <= 1 + readers, "{held} snapshots are held");
    assert!((held * snapshot) as u64 <= seen.bound_bytes);
    // Those that stopped are given up when they owe a sign of life for too long, and with them what they hold.
    let given_up = Duration::from_millis(STOP_MS[3]) + SIGN_OF_LIFE_MAX;
    let come_back = Duration::from_millis(STOP_MS[0]) + STOPPED;
    let tick = |at: Duration| (at.as_millis() / TICK_MS) as usize;
    let then = &seen.held[tick(given_up)..tick(come_back)];
    assert!(then.iter().all(|held| *held <= 2 + SLOW.len()), "{then:?}");

    // Nobody is slower for it.
    assert!(
        seen.unrolls[0] * 100 >= alone.unrolls[0] * 95,
        "{:?} {:?}",
        seen.unrolls,
        alone.unrolls
    );
    assert!(seen.received[0].len() * 100 >= alone.received[0].len() * 95);

    // What arrives was the newest one when the way to its reader became free for it.
    for (rate, received) in SLOW.iter().zip(&seen.received[1..]) {
        assert!(received.len() >= 3, "{received:?}");
        let on_the_way = WINDOW_BYTES + 2 * snapshot as u64;
        let longest = Duration::from_secs_f64(on_the_way as f64 / *rate as f64);
        for one in received {
            assert!(one.outdated_for <= longest, "{one:?}, {longest:?}");
        }
    }
    // After the pause the newest one arrives.
    for received in &seen.received[1 + SLOW.len()..] {
        let last = received.last().unwrap();
        assert!(
            last.at > come_back && last.outdated_for < Duration::from_secs(6),
            "{last:?}"
        );
    }
}
