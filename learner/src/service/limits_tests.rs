//! Each limit that the service keeps: the last that is allowed, and the first that is not.
//!
//! Times are those of a clock that stands still until nothing else is left to do, over connections without sockets.

use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use prost::Message as _;
use springbok_common::{config::Config, ids::ActorId, injection::LagInjection, reject::Verdict};
use springbok_proto::v1::{Goodbye, Unroll, actor_message::Kind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::mpsc,
    time::sleep,
};
use tonic::{
    Code,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};

use super::{
    harness::{Harness, join_request, start, start_at, unpaced},
    security_tests::{Authority, write},
    *,
};

/// Long enough for a busy machine; nothing is measured.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 9);
/// A client's first bytes in HTTP/2: the preface and empty settings (RFC 9113, sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The first bytes of a record of TLS, which announce more.
const HALF_HELLO: &[u8] = &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];

/// What listens to connections that are made in memory.
struct Wire(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

impl Listen for Wire {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, Peer)> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok((stream, SocketAddr::from(PEER).into())),
            None => std::future::pending().await,
        }
    }
}

/// Makes connections to a [`Wire`].
#[derive(Clone)]
struct Dialler(mpsc::Sender<DuplexStream>);

impl Dialler {
    fn dial(&self) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        self.0.try_send(far).unwrap();
        near
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_static("http://in.memory");
        endpoint.connect_with_connector(self.clone()).await.unwrap()
    }

    /// Sends `bytes`, and waits until the learner hangs up; gives how many seconds that took.
    async fn seconds_until_closed(&self, bytes: &[u8]) -> u64 {
        let began = tokio::time::Instant::now();
        let mut stream = self.dial();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        began.elapsed().as_secs()
    }
}

impl Service<http::Uri> for Dialler {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        ready(Ok(TokioIo::new(self.dial())))
    }
}

/// A service in memory, with a channel to it.
async fn in_memory(limits: LimitsConfig, security: Security) -> (Harness, Dialler) {
    let (dialler, connections) = mpsc::channel(16);
    let dialler = Dialler(dialler);
    let wire = Wire(tokio::sync::Mutex::new(connections));
    let has_tls = security.tls.is_some();
    let (at, inbox) = ((wire, PEER.into()), (4, unpaced()));
    let mut harness = start_at(at, inbox, limits, LagInjection::None, security).await;
    if !has_tls {
        harness.channel = dialler.channel().await;
    }
    (harness, dialler)
}

/// A certificate that is not looked at again.
fn with_tls(limits: &LimitsConfig) -> Security {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new().sign(48);
    let mut sets = vec![
        "security.refresh_ms=3600000".to_owned(),
        format!("limits.tls_handshake_s_max={}", limits.tls_handshake_s_max),
    ];
    for (name, content) in [("certificate_file", certificate), ("key_file", key)] {
        let path = directory.path().join(name);
        write(&path, &content);
        sets.push(format!("security.{name}={}", path.display()));
    }
    let config = Config::load(None, std::iter::empty(), &sets);
    Security::load(&config.unwrap().config, None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hesitates_is_hung_up_on_at_its_limit_and_not_before() {
    let limits = LimitsConfig {
        first_byte_s_max: 2,
        tls_handshake_s_max: 4,
        first_message_s_max: 7,
        ..LimitsConfig::default()
    };
    for (what, bytes, tls, seconds) in [
        ("nothing is said", &b""[..], false, 2),
        ("no call is made", PREFACE, false, 7),
        ("nothing is said to TLS", b"", true, 2),
        ("half a handshake", HALF_HELLO, true, 4),
    ] {
        let security = if tls {
            with_tls(&limits)
        } else {
            Security::default()
        };
        let (_harness, dialler) = in_memory(limits.clone(), security).await;
        let closed = dialler.seconds_until_closed(bytes).await;
        assert_eq!(closed, seconds, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_wait_with_its_hello_and_between_its_messages_as_long_as_the_limits_say() {
    let limits = LimitsConfig {
        first_message_s_max: 3,
        idle_s_max: 8,
        ..LimitsConfig::default()
    };
    let (harness, _dialler) = in_memory(limits, Security::default()).await;
    for (hello, seconds, fine) in [
        (true, 2, true),
        (true, 4, false),
        (false, 7, true),
        (false, 9, false),
    ] {
        let actor = harness.join(None).await;
        let (up, outbound) = mpsc::channel(4);
        let up = super::harness::Up(up);
        if !hello {
            up.send(Kind::Hello(harness.hello(actor))).await;
        }
        let mut client = harness.client();
        let peer = client.stream_trajectories(ReceiverStream::new(outbound));
        let mut peer = super::harness::Peer {
            up,
            down: peer.await.unwrap().into_inner(),
        };
        sleep(Duration::from_secs(seconds)).await;
        if !fine {
            assert_eq!(peer.end().await, Code::DeadlineExceeded, "{seconds}");
            continue;
        }
        if hello {
            peer.up.send(Kind::Hello(harness.hello(actor))).await;
        }
        let verdict = peer.verdict(harness.unroll(1)).await;
        assert_eq!(verdict, Verdict::Admitted, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_goodbye_until_its_limit_and_half_as_long_for_an_actor_that_hangs() {
    let limits = LimitsConfig {
        drain_s_max: 6,
        ..LimitsConfig::default()
    };
    for (hangs, said_after, seconds, left) in [
        (false, Some(5), 5, 1),
        (false, Some(7), 6, 0),
        (false, None, 6, 0),
        (true, Some(2), 2, 1),
        (true, Some(4), 3, 0),
        (true, None, 3, 0),
    ] {
        let what = format!("hangs: {hangs}, Goodbye after {said_after:?}");
        let (mut harness, dialler) = in_memory(limits.clone(), Security::default()).await;
        if !hangs {
            // It answers in HTTP/2, at least.
            let endpoint = Endpoint::from_static("http://in.memory")
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_while_idle(true);
            harness.channel = endpoint.connect_with_connector(dialler).await.unwrap();
        }
        let peer = harness.actor().await;
        let (books, serving) = (harness.books.clone(), harness.serving);
        let goodbye = async {
            if let Some(after) = said_after {
                sleep(Duration::from_secs(after)).await;
                let message = ActorMessage {
                    kind: Some(Kind::Goodbye(Goodbye { final_sequence: 0 })),
                };
                // Nobody may be there any more.
                let _ = peer.up.0.send(message).await;
            }
            peer
        };
        let began = tokio::time::Instant::now();
        let drain = async {
            serving.drain().await;
            began.elapsed().as_secs()
        };
        let (drained, _peer) = tokio::join!(drain, goodbye);
        assert_eq!(drained, seconds, "{what}");
        assert_eq!(books.lock().roster.counts().left, left, "{what}");
    }
}

#[tokio::test]
async fn one_actor_more_than_there_are_places_is_told_so_and_gets_the_next_that_is_free() {
    let limits = LimitsConfig {
        actors_max: 3,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    let mut peers = Vec::new();
    for place in 0..3 {
        let actor = harness.join(None).await;
        assert_eq!(harness.books.lock().roster.place(actor), Some(place));
        peers.push(harness.stream(Kind::Hello(harness.hello(actor))).await);
    }
    let join = async || {
        let mut client = harness.client();
        let request = join_request(ActorId::random(), None);
        let joined = client.join(request).await;
        joined.map(|reply| reply.into_inner().actor_index)
    };
    let refused = join().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("limits.actors_max"), "{refused}");
    let goodbye = Kind::Goodbye(Goodbye { final_sequence: 0 });
    peers[1].up.send(goodbye).await;
    assert_eq!(peers[1].end().await, Code::Ok);
    assert_eq!(join().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_connection_more_than_there_are_places_is_closed_at_once() {
    let limits = LimitsConfig {
        connections_max: 2,
        ..LimitsConfig::default()
    };
    let (harness, dialler) = in_memory(limits, Security::default()).await;
    harness.join(None).await;
    let join = async |channel: Channel| {
        let mut client = springbok_proto::v1::training_client::TrainingClient::new(channel);
        client.join(join_request(ActorId::random(), None)).await
    };
    let second = dialler.channel().await;
    assert!(join(second.clone()).await.is_ok(), "the limit is allowed");
    assert_eq!(dialler.seconds_until_closed(PREFACE).await, 0);
    // A place that is given back is free.
    drop(second);
    sleep(Duration::from_secs(1)).await;
    assert!(join(dialler.channel().await).await.is_ok());
}

/// An unroll whose message has exactly so many bytes.
fn unroll_of(harness: &Harness, bytes: usize) -> Unroll {
    let mut unroll = harness.unroll(1);
    let length = |unroll: &Unroll| {
        let kind = Some(Kind::Unroll(unroll.clone()));
        ActorMessage { kind }.encoded_len()
    };
    let wanted = bytes - length(&unroll);
    let had = unroll.observations.len();
    unroll.observations = vec![0; had + wanted].into();
    // Lengths are themselves written with a varying number of bytes.
    let over = length(&unroll) - bytes;
    unroll.observations = vec![0; had + wanted - over].into();
    assert_eq!(length(&unroll), bytes);
    unroll
}

#[tokio::test]
async fn an_unroll_may_be_as_large_as_the_limit_and_not_larger() {
    let limits = LimitsConfig::default();
    let harness = start(1, limits.clone()).await;
    let limit = message_bytes_read_max(limits.message_bytes_max, &harness.agreement);
    for bytes in [limit - 1, limit] {
        let mut peer = harness.actor().await;
        // It was read, and what is in it is another matter.
        let verdict = peer.verdict(unroll_of(&harness, bytes)).await;
        assert!(
            matches!(verdict, Verdict::Rejected(_)),
            "{bytes}: {verdict:?}"
        );
    }
    let mut peer = harness.actor().await;
    let unroll = unroll_of(&harness, limit + 1);
    peer.up.send(Kind::Unroll(unroll)).await;
    assert_eq!(peer.end().await, Code::OutOfRange);
}

/// Bytes of the headers of a call of tonic's client to Join, as HTTP/2 counts them: names, values, and 32 for each
/// (RFC 9113, section 6.5.2).
fn header_bytes(address: SocketAddr, value: usize) -> usize {
    let authority = address.to_string();
    let agent = "tonic/0.14.9";
    [
        (":method", "POST".len()),
        (":scheme", "http".len()),
        (":path", "/springbok.v1.Training/Join".len()),
        (":authority", authority.len()),
        ("te", "trailers".len()),
        ("content-type", "application/grpc".len()),
        ("user-agent", agent.len()),
        ("x-long", value),
    ]
    .iter()
    .map(|(name, value)| name.len() + value + 32)
    .sum()
}

#[tokio::test]
async fn headers_may_be_as_large_as_the_limit_and_not_larger() {
    let harness = start(1, LimitsConfig::default()).await;
    let limit = LimitsConfig::default().header_bytes_max;
    let value = limit - header_bytes(harness.address, 0);
    for (more, good) in [(-1, true), (0, true), (1, false)] {
        let mut request = Request::new(join_request(ActorId::random(), None));
        let text = "h".repeat(value.saturating_add_signed(more));
        let metadata = request.metadata_mut();
        metadata.insert("x-long", text.parse().unwrap());
        let joined = harness.client().join(request).await;
        assert_eq!(joined.is_ok(), good, "{more}: {joined:?}");
    }
}

/// The status of a call whose body is `body`.
async fn status_of(harness: &Harness, body: &str) -> Code {
    let path = "/springbok.v1.Training/Join";
    let request = http::Request::post(format!("http://{}{path}", harness.address))
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(body.to_owned()))
        .unwrap();
    let mut channel = harness.channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let response = channel.call(request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap().code()
}

/// Memory that the process has asked for, in KiB.
fn data_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmData"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn five_bytes_that_announce_two_gibibytes_are_out_of_range_and_reserve_nothing() {
    let harness = start(1, LimitsConfig::default()).await;
    // A connection has its buffers after its first call.
    assert_eq!(
        status_of(&harness, "\0\0\0\0\u{1}\u{8}").await,
        Code::Internal
    );
    let before = data_kib();
    for _ in 0..8 {
        let announcement = "\0\u{7f}\u{7f}\u{7f}\u{7f}";
        assert_eq!(status_of(&harness, announcement).await, Code::OutOfRange);
    }
    assert!(
        data_kib() < before + 1024,
        "{before} KiB, then {}",
        data_kib()
    );
}

#[tokio::test]
async fn a_message_may_be_as_large_as_the_limit_and_not_larger() {
    let harness = start(1, LimitsConfig::default()).await;
    let limit = message_bytes_read_max(
        LimitsConfig::default().message_bytes_max,
        &harness.agreement,
    );
    for (bytes, code) in [
        (limit - 1, Code::FailedPrecondition),
        (limit, Code::FailedPrecondition),
        (limit + 1, Code::OutOfRange),
    ] {
        // Only a text: one byte says which field, three say how long it is.
        let request = JoinRequest {
            environment_id: "E".repeat(bytes - 4),
            ..JoinRequest::default()
        };
        let refused = harness.client().join(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{bytes}");
    }
}

#[tokio::test]
async fn a_call_beyond_those_of_a_connection_waits_for_one_to_end() {
    let limits = LimitsConfig {
        streams_per_connection_max: 3,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    let mut actors = Vec::new();
    for _ in 0..3 {
        actors.push(harness.join(None).await);
    }
    let mut peers = Vec::new();
    for actor in &actors[..2] {
        peers.push(harness.stream(Kind::Hello(harness.hello(*actor))).await);
    }
    let join = async || {
        let mut client = harness.client();
        client.join(join_request(ActorId::random(), None)).await
    };
    assert!(join().await.is_ok(), "one less than the limit is open");
    peers.push(harness.stream(Kind::Hello(harness.hello(actors[2]))).await);
    let joined = Box::pin(join());
    let mut joined = tokio::task::unconstrained(joined);
    // Each unroll is a round trip on the same connection, in which the call would have been answered.
    for sequence in 1..3 {
        let unroll = harness.unroll(sequence);
        tokio::select! {
            biased;
            _ = &mut joined => panic!("a call too many was answered"),
            verdict = peers[0].verdict(unroll) => assert_eq!(verdict, Verdict::Admitted),
        }
        harness.queue.take(Duration::ZERO).unwrap();
    }
    drop(peers.pop());
    assert!(timeout(WAIT_MAX, joined).await.unwrap().is_ok());
}
