//! The exposition against the table, and the requests against their bounds.

use std::{collections::BTreeMap, io};

use springbok_common::{credentials::Token, ids::RunId, reject::RejectReason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    actors::ActorStatus,
    exposition::{families, family, render},
    *,
};
use crate::{
    admission::{Admission, Fence},
    lag::buckets::{BUCKETS, BucketSummary},
    ledger::LedgerCounts,
    metrics::{Kind, METRICS, Metric, Row},
    publisher::Publisher,
    security::ValidTokens,
};

const EVERY_METRIC: [Metric; 3] = [Metric::GlobalStep, Metric::LagMean, Metric::EpisodicReturn];

fn live() -> Live {
    let (mut feed, latest) = Feed::new();
    let mut row = Row::default();
    for metric in EVERY_METRIC {
        row.set(metric, 2.5);
    }
    let bucket = |steps| BucketSummary {
        steps,
        ess: Some(0.5),
        ..BucketSummary::default()
    };
    row.set_buckets(&(0..BUCKETS as u64).map(bucket).collect::<Vec<_>>());
    feed.show(&row);
    latest.borrow().as_ref().clone()
}

fn identity() -> RunIdentity {
    RunIdentity {
        run_id: RunId::random(),
        environment: "Quote\"d\\Env".into(),
        device: "cpu".into(),
        seed: 1,
        total_steps: 1000,
        version: "0".into(),
    }
}

fn status(live: &Live, actors: usize) -> Status {
    let accounts = Accounts {
        ledger: LedgerCounts::default(),
        rejected: BTreeMap::from([(RejectReason::TooStale, 3)]),
        present: actors as u64 + 7,
        ..Accounts::default()
    };
    let actors = (0..actors as u32).map(|actor| ActorStatus {
        actor,
        version: 123_456,
        lag_versions: 1,
        unrolls: 1_234_567,
        unrolls_per_s: 12.345_678_901_234,
        last_seen_s: 0.123_456_789_012,
    });
    let now = (Instant::now(), SystemTime::now());
    Status::new(
        identity(),
        Phase::Serving,
        now,
        live,
        accounts,
        actors.collect(),
    )
}

/// The samples and the types of an exposition; any line that the format does not allow is a failure.
fn parsed(text: &str) -> (Vec<(String, f64)>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (Vec::new(), BTreeMap::new());
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(words.ends_with('.'), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "help and type stand together");
            let before = types.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} twice");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&helped), "{line} is not of {helped}");
            samples.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    (samples, types)
}

#[test]
fn the_exposition_is_the_table() {
    let live = live();
    let text = render(&live, &status(&live, 2));
    let (samples, types) = parsed(&text);
    let mut series: Vec<_> = samples.iter().map(|(series, _)| series).collect();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), samples.len(), "a series occurs twice");

    for (name, kind) in families() {
        let valid = name
            .bytes()
            .all(|c| c == b'_' || c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(valid && name.starts_with("springbok_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        if let Some(shown) = types.get(&name) {
            assert_eq!(shown, kind);
        }
    }
    let names: Vec<_> = METRICS.iter().map(family).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), METRICS.len(), "two metrics share a name");
    let known = families();
    assert!(
        types
            .keys()
            .all(|name| known.iter().any(|(known, _)| known == name))
    );

    let value = |wanted: &str| {
        samples
            .iter()
            .find(|(series, _)| series == wanted)
            .unwrap()
            .1
    };
    assert_eq!(value("springbok_global_step_total"), 2.5);
    assert_eq!(value("springbok_lag_bucket_ess{lag_versions=\"5-8\"}"), 0.5);
    assert_eq!(
        value("springbok_rejected_unrolls_total{reason=\"too_stale\"}"),
        3.0
    );
    assert_eq!(value("springbok_actors_unlisted"), 7.0);
    assert_eq!(
        value("springbok_policy_lag_versions_bucket{le=\"8\"}"),
        15.0
    );
    assert_eq!(
        value("springbok_policy_lag_versions_bucket{le=\"+Inf\"}"),
        36.0
    );
    assert_eq!(value("springbok_policy_lag_versions_count"), 36.0);
    assert!(text.contains("environment=\"Quote\\\"d\\\\Env\""));
}

#[test]
fn names_say_their_unit_once() {
    for (name, expected) in [
        ("global_step", "springbok_global_step_total"),
        ("charts/SPS", "springbok_steps_per_second"),
        ("charts/wall_s", "springbok_wall_seconds"),
        ("time/update_s", "springbok_time_update_seconds"),
        ("lag/queue", "springbok_lag_queue_versions"),
        ("lag/seconds_queue", "springbok_lag_seconds_queue"),
        ("losses/entropy", "springbok_losses_entropy_nats"),
        ("ledger/lost", "springbok_ledger_lost_unrolls_total"),
        ("ledger/queued", "springbok_ledger_queued_unrolls"),
    ] {
        let doc = METRICS.iter().find(|doc| doc.name == name).unwrap();
        assert_eq!(family(doc).0, expected);
    }
    let doc = METRICS[Metric::EpisodicReturn as usize];
    assert_eq!(doc.kind, Kind::Gauge, "a return falls too");
}

#[test]
fn a_thousand_actors_fit_a_megabyte() {
    let live = live();
    let status = status(&live, actors::ACTORS_LISTED_MAX);
    let text = render(&live, &status);
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    // Twice a second to each follower.
    let event = serde_json::to_vec(&status).unwrap();
    assert!(event.len() < 250_000, "{} bytes", event.len());
}

/// A learner that has not trained yet, shown on a port of its own to this machine.
async fn shown() -> (SocketAddr, Monitor, Feed, Publisher) {
    shown_to(None).await
}

/// The same as if other machines could ask, if there are `tokens`.
async fn shown_to(tokens: Option<ValidTokens>) -> (SocketAddr, Monitor, Feed, Publisher) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let run = identity();
    let fence = Fence {
        run_id: run.run_id,
        epoch: springbok_common::version::LearnerEpoch::FIRST,
        lag_versions_max: None,
    };
    let (feed, latest) = Feed::new();
    let (publisher, publications) = Publisher::new(fence.epoch, 0, 0);
    let watched = Watched {
        run,
        config_toml: "[run]\nseed = 1\n".into(),
        latest,
        books: Books::new(Admission::new(fence, 1)),
        publications,
        stop: CancellationToken::new(),
    };
    let from = if tokens.is_some() {
        SocketAddr::from(([192, 0, 2, 1], 9090))
    } else {
        address
    };
    let access = Access::to(Some(from), tokens, watched.stop.clone());
    (address, serve(listener, watched, access), feed, publisher)
}

/// Sends `request` as it stands; gives all that comes back until the connection ends.
async fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that has seen enough may close before all is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:9090\r\n\r\n")
}

#[tokio::test]
async fn requests_are_answered_or_refused() {
    let (address, _monitor, _feed, _publisher) = shown().await;
    for (request, begins, contains) in [
        (get("/"), "HTTP/1.1 200", "<!DOCTYPE html>"),
        (get("/metrics"), "HTTP/1.1 200", "springbok_serving 0"),
        (get("/health"), "HTTP/1.1 503", "starting"),
        (get("/status"), "HTTP/1.1 200", "\"phase\":\"starting\""),
        (
            get("/history"),
            "HTTP/1.1 200",
            "\"names\":[\"charts/wall_s\"",
        ),
        (get("/config"), "HTTP/1.1 200", "seed = 1"),
        (get("/../etc/passwd"), "HTTP/1.1 404", "/metrics"),
        (get("/").replace("GET", "POST"), "HTTP/1.1 405", "GET, HEAD"),
        (
            get("/").replace("localhost:9090", "evil.example"),
            "HTTP/1.1 421",
            "localhost",
        ),
        (
            get("/").replace("localhost:9090", "[::1]:9090"),
            "HTTP/1.1 200",
            "<!DOCTYPE html>",
        ),
        (get(&"x".repeat(100_000)), "HTTP/1.1 4", ""),
        ("\u{0}nonsense\r\n\r\n".into(), "HTTP/1.1 400", ""),
    ] {
        let answer = ask(address, &request).await.unwrap();
        let line: String = request.chars().take(40).collect();
        assert!(
            answer.starts_with(begins) && answer.contains(contains),
            "{line}: {answer:.300}"
        );
    }
}

#[tokio::test]
async fn from_other_machines_nothing_is_told_without_a_token() {
    let text = "0123456789abcdef".repeat(4);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let tokens = ValidTokens {
        tokens: vec![Token::parse(&text).unwrap()],
        file: Some(file.path().to_owned()),
        refresh: Duration::from_millis(10),
    };
    let (address, _monitor, _feed, _publisher) = shown_to(Some(tokens)).await;
    let with = |path: &str, header: &str| {
        let request = get(path).replace("Host: localhost:9090", "Host: learner.example:9090");
        request.replace("\r\n\r\n", &format!("{header}\r\n\r\n"))
    };
    let right = format!("\r\nAuthorization: Bearer {text}");
    let wrong = right.replace("f0", "e0");
    for path in [
        "/status", "/metrics", "/history", "/config", "/events", "/nothing",
    ] {
        for header in [
            "",
            &wrong,
            &right.replace("Bearer", "Basic"),
            &format!("{right}0"),
        ] {
            let answer = ask(address, &with(path, header)).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 401"),
                "{path} {header}: {answer:.300}"
            );
            assert!(answer.contains("www-authenticate: Bearer"), "{answer:.300}");
        }
        let in_query = format!("{path}?token={text}");
        let answer = ask(address, &with(&in_query, "")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer:.300}");
    }
    for (path, header, begins) in [
        ("/status", &*right, "HTTP/1.1 200"),
        ("/metrics", &right, "HTTP/1.1 200"),
        ("/nothing", &right, "HTTP/1.1 404"),
        // A browser must get the page before it can show anything, and a container's health check has no token.
        ("/", "", "HTTP/1.1 200"),
        ("/health", "", "HTTP/1.1 503"),
    ] {
        let answer = ask(address, &with(path, header)).await.unwrap();
        assert!(answer.starts_with(begins), "{path}: {answer:.300}");
    }

    // A follower goes when its token does.
    let mut follower = TcpStream::connect(address).await.unwrap();
    follower
        .write_all(with("/events", &right).as_bytes())
        .await
        .unwrap();
    let mut first = [0; 15];
    follower.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    std::fs::write(file.path(), text.replace('0', "9")).unwrap();
    let mut rest = Vec::new();
    follower.read_to_end(&mut rest).await.unwrap_or_default();
    let answer = ask(address, &with("/status", &right)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer:.300}");
}

#[tokio::test]
async fn followers_see_the_run_go_on_and_are_few() {
    let (address, _monitor, mut feed, publisher) = shown().await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(get("/events").as_bytes()).await.unwrap();
        // The answer has begun: the place is taken.
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        followers.push(stream);
    }
    let ninth = ask(address, &get("/events")).await.unwrap();
    assert!(ninth.starts_with("HTTP/1.1 503"), "{ninth}");

    publisher.publish(springbok_common::version::PolicyVersion(0), Bytes::new());
    let mut row = Row::default();
    row.set(Metric::GlobalStep, 4242.0);
    feed.show(&row);
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    while !(seen.contains("\"global_step\":4242") && seen.contains("\"phase\":\"serving\"")) {
        let read = followers[0].read(&mut buffer).await.unwrap();
        assert!(read > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.contains("\ndata: {\"run\":"), "{seen}");
}

#[tokio::test]
async fn what_is_not_asked_for_in_time_is_closed() {
    let (address, monitor, _feed, _publisher) = shown().await;
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let whole = ask(address, &get("/health")).await.unwrap();
    assert!(
        whole.contains("starting"),
        "one that dawdles holds nobody up"
    );
    drop(monitor);
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).await.unwrap_or_default();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is free again"
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_exit_64() {
    let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("telemetry.http"), "{error}");
}
