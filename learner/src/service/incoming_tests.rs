//! Connections that say nothing, or the wrong thing, are closed in time; a listener that fails is not asked in vain.

use std::sync::atomic::{AtomicUsize, Ordering};

use springbok_common::config::LimitsConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

fn limits() -> LimitsConfig {
    LimitsConfig {
        first_byte_s_max: 3,
        first_message_s_max: 7,
        idle_s_max: 20,
        ..LimitsConfig::default()
    }
}

fn peer() -> Peer {
    SocketAddr::from(([127, 0, 0, 1], 9)).into()
}

/// A connection, its other end, and what it did.
fn connection() -> (Connection<DuplexStream>, DuplexStream, Arc<Conduct>) {
    let (stream, other) = duplex(64);
    let place = Places::new(&limits()).take(peer().ip()).unwrap();
    let conduct = Arc::clone(&place.conduct);
    let patience = Patience::new(&limits(), false);
    (
        Connection::new(stream, peer(), place, patience, NetworkBytes::default()),
        other,
        conduct,
    )
}

/// Seconds after which reading fails.
async fn seconds_until_closed(connection: &mut Connection<DuplexStream>) -> u64 {
    let began = Instant::now();
    let mut buffer = [0; 8];
    while connection
        .read(&mut buffer)
        .await
        .is_ok_and(|bytes| bytes > 0)
    {}
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_after_first_byte_s_max() {
    let (mut connection, _other, _) = connection();
    assert_eq!(seconds_until_closed(&mut connection).await, 3);
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_is_closed_after_first_message_s_max() {
    let (mut connection, mut other, _) = connection();
    other.write_all(b"PRI * HT").await.unwrap();
    assert_eq!(seconds_until_closed(&mut connection).await, 7);
}

#[tokio::test(start_paused = true)]
async fn talking_without_a_call_is_no_way_to_stay() {
    let (mut connection, mut other, _) = connection();
    let talk = async {
        while other.write_all(b"ping").await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        seconds = seconds_until_closed(&mut connection) => assert_eq!(seconds, 7),
        () = talk => panic!("still open"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_a_call_stays_and_idles_afterwards_for_idle_s_max() {
    let (mut connection, mut other, conduct) = connection();
    other.write_all(b"x").await.unwrap();
    let call = conduct.begin_call();
    let began = Instant::now();
    let hang_up = async {
        sleep(Duration::from_secs(100)).await;
        drop(call);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = seconds_until_closed(&mut connection) => {}
        () = hang_up => {}
    }
    // Looked at every 20 s while the call went on, the last time at 100 s.
    assert_eq!(began.elapsed().as_secs(), 120);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_connection_ends_at_once() {
    let (mut connection, _other, conduct) = connection();
    conduct.evicted().cancel();
    assert_eq!(seconds_until_closed(&mut connection).await, 0);
}

/// A machine without file descriptors.
struct Exhausted(Arc<AtomicUsize>);

impl Listen for Exhausted {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, Peer)> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::other("too many open files"))
    }
}

#[tokio::test(start_paused = true)]
async fn without_file_descriptors_the_learner_asks_about_once_a_second() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let listener = Exhausted(Arc::clone(&attempts));
    let patience = Patience::new(&limits(), false);
    let (places, traffic) = (Places::new(&limits()), NetworkBytes::default());
    let _incoming = accept(listener, places, patience, traffic, stop.clone());
    sleep(Duration::from_secs(60)).await;
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((59..70).contains(&attempts), "{attempts}");
    stop.cancel();
}
