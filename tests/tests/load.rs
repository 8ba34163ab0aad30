//! The promise: who connects and does nothing, and who hangs, costs those who work next to nothing.
//!
//! `SPRINGBOK_CAMPAIGN=1` takes a crowd of 1,200, measures what it costs in turns, and prints that;
//! `SPRINGBOK_UNDER_TEST` names another binary for it, such as a release build.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use springbok_tests::{
    Program,
    farm::{Learner, actor, actor_with, campaign, learner, number},
    secrets::Keys,
    send,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(60);
const DRAIN_MAX: Duration = Duration::from_secs(12);
/// The first bytes of a record of TLS, which announce more.
const HALF_HELLO: &[u8] = &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
/// Pairs of turns of a campaign, and how long each turn lasts.
const PAIRS: usize = 7;
const TURN: Duration = Duration::from_secs(10);

fn binary() -> String {
    std::env::var("SPRINGBOK_UNDER_TEST").unwrap_or_else(|_| BINARY.to_owned())
}

/// Connections that say nothing, and others that begin a handshake.
fn crowd(address: SocketAddr, silent: usize, half: usize) -> Vec<TcpStream> {
    let open = |index| {
        let mut stream = TcpStream::connect(address).unwrap();
        if index >= silent {
            // The learner may have closed it already, to make room.
            let _ = stream.write_all(HALF_HELLO);
        }
        stream
    };
    (0..silent + half).map(open).collect()
}

#[test]
fn connections_that_say_nothing_are_all_closed_while_the_actors_train_on() {
    let keys = Keys::make(BINARY);
    let guard = ["--keys", keys.argument()];
    let short = [
        "--set",
        "limits.first_byte_s_max=1",
        "--set",
        "limits.tls_handshake_s_max=1",
        // Fewer than there are in the crowd, so that room has to be made, too.
        "--set",
        "limits.connections_per_peer_max=70",
        "--set",
        "learner.update_delay_ms=40",
    ];
    let mut learner = learner(BINARY, "127.0.0.1:0", &[&guard[..], &short].concat());
    let url = format!("https://{}", learner.address);
    let actors: Vec<Program> = (0..2)
        .map(|i| actor_with(BINARY, &url, i, &guard))
        .collect();
    learner.wait_for_actors(2, WAIT_MAX);
    for mut stream in crowd(learner.address, 60, 20) {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("still open after {WAIT_MAX:?}: {error}"),
        }
    }
    learner.wait_for_training(10.0, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    let lives = ["joined", "left", "lost"].map(|name| summary["actors"][name].as_u64());
    assert_eq!(lives, [Some(2), Some(2), Some(0)], "{summary}");
    drop(actors);
}

/// Unrolls trained on in a second, during one turn.
fn rate(learner: &mut Learner) -> f64 {
    let before = learner.wait_for_training(1.0, WAIT_MAX);
    thread::sleep(TURN);
    let after = learner.wait_for_training(1.0, WAIT_MAX);
    let gained = |name| number(&after, name) - number(&before, name);
    gained("ledger/trained") / gained("charts/wall_s")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rates without and with what `turn` brings about, in turns; prints them, and gives the median of their ratios.
fn cost(what: &str, learner: &mut Learner, mut turn: impl FnMut(&mut Learner) -> f64) -> f64 {
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        let (without, with) = (rate(learner), turn(learner));
        eprintln!("{what}: {without:.1} unrolls/s without, {with:.1} with");
        ratios.push(with / without);
    }
    let ratio = median(ratios);
    eprintln!("{what}: {:.1} % of the throughput without", 100.0 * ratio);
    ratio
}

/// A crowd that comes back as often as it is closed, looking each second.
struct Siege {
    over: Arc<AtomicBool>,
    reopened: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Siege {
    fn begin(address: SocketAddr) -> Self {
        const SILENT: usize = 1000;
        const HALF: usize = 200;
        let (over, reopened) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stop, count) = (Arc::clone(&over), Arc::clone(&reopened));
        let thread = thread::spawn(move || {
            let mut crowd = crowd(address, SILENT, HALF);
            while !stop.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_secs(1));
                for (index, stream) in crowd.iter_mut().enumerate() {
                    stream.set_nonblocking(true).unwrap();
                    let read = stream.read(&mut [0; 64]);
                    if read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                        continue;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    *stream = TcpStream::connect(address).unwrap();
                    if index >= SILENT {
                        let _ = stream.write_all(HALF_HELLO);
                    }
                }
            }
        });
        Self {
            over,
            reopened,
            thread: Some(thread),
        }
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        eprintln!(
            "{} connections were closed",
            self.reopened.load(Ordering::SeqCst)
        );
    }
}

#[test]
fn a_crowd_of_1200_that_does_nothing_costs_less_than_a_tenth() {
    if !campaign() {
        return;
    }
    let (binary, keys) = (binary(), Keys::make(BINARY));
    let guard = ["--keys", keys.argument()];
    let mut learner = learner(&binary, "127.0.0.1:0", &guard);
    let address = learner.address;
    // Without actors it does nothing else, however busy the machine is.
    let (siege, before) = (Siege::begin(address), learner.processor_s());
    thread::sleep(TURN);
    drop(siege);
    let taken = learner.processor_s() - before;
    eprintln!("1,200 idle: {taken:.2} s of processor time in {TURN:?} and more");
    assert!(taken < TURN.as_secs_f64() / 10.0, "{taken} s");
    let url = format!("https://{address}");
    let actors: Vec<Program> = (0..4)
        .map(|i| actor_with(&binary, &url, i, &guard))
        .collect();
    learner.wait_for_actors(4, WAIT_MAX);
    let ratio = cost("1,200 idle", &mut learner, |learner| {
        let siege = Siege::begin(address);
        let rate = rate(learner);
        drop(siege);
        rate
    });
    assert!(ratio >= 0.9, "{ratio}");
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["actors"]["lost"].as_u64(), Some(0), "{summary}");
    drop(actors);
}

#[test]
fn a_hung_actor_costs_the_others_less_than_a_twentieth() {
    if !campaign() {
        return;
    }
    let binary = binary();
    let mut learner = learner(&binary, "127.0.0.1:0", &[]);
    let url = format!("http://{}", learner.address);
    let actors: Vec<Program> = (0..3).map(|i| actor(&binary, &url, i)).collect();
    learner.wait_for_actors(3, WAIT_MAX);
    let ratio = cost("a hung actor", &mut learner, |learner| {
        let hung = actor(&binary, &url, 3);
        learner.wait_for_actors(4, WAIT_MAX);
        send(hung.pid(), Signal::STOP);
        let rate = rate(learner);
        drop(hung);
        learner.wait_for_actors(3, WAIT_MAX);
        rate
    });
    assert!(ratio >= 0.95, "{ratio}");
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["actors"]["left"].as_u64(), Some(3), "{summary}");
    drop(actors);
}
