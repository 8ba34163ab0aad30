//! The guarded port, against real peers that should and should not get in, and the limits that HTTP/2 and TLS keep.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use springbok_common::{config::Config, ids::ActorId, injection::LagInjection, reject::Verdict};
use springbok_proto::v1::{actor_message::Kind, training_client::TrainingClient};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    Code,
    codegen::{Service as _, http},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    harness::{Harness, join_request, start, start_guarded, unpaced},
    *,
};

/// Long enough for a busy machine; nothing is measured.
const WAIT_MAX: Duration = Duration::from_secs(30);

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::default();
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = wish.self_signed(&key).unwrap().pem();
        Self {
            certificate,
            issuer: Issuer::new(wish, key),
        }
    }

    /// A certificate for this machine that is valid until `hours` from now, and its key.
    fn sign(&self, hours: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let wish = wish(hours);
        (
            wish.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

fn wish(hours: i64) -> CertificateParams {
    let mut wish = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    wish.not_before = OffsetDateTime::now_utc() - time::Duration::hours(48);
    wish.not_after = OffsetDateTime::now_utc() + time::Duration::hours(hours);
    wish
}

fn token(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A learner with TLS, mutual or not, and tokens.
struct Guarded {
    harness: Harness,
    authority: Authority,
    directory: TempDir,
}

impl Guarded {
    async fn start(mutual: bool, tokens: &[char]) -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let mut sets = vec!["security.token_refresh_ms=10".to_owned()];
        let mut name = |key: &str, file: &str, content: &str| {
            let path = directory.path().join(file);
            write(&path, content);
            sets.push(format!("security.{key}={}", path.display()));
        };
        let (certificate, key) = authority.sign(48);
        name("certificate_file", "certificate", &certificate);
        name("key_file", "key", &key);
        if mutual {
            name("client_ca_file", "ca", &authority.certificate);
        }
        if !tokens.is_empty() {
            name("token_file", "tokens", &lines(tokens));
        }
        let config = Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config;
        let security = Security::load(&config, None).unwrap();
        let limits = LimitsConfig::default();
        let harness = start_guarded(4, limits, LagInjection::None, unpaced(), security).await;
        Self {
            harness,
            authority,
            directory,
        }
    }

    fn trusting(&self, authority: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name("localhost")
    }

    fn channel(&self, tls: Option<ClientTlsConfig>) -> Channel {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.harness.address);
        let mut endpoint = Endpoint::from_shared(url).unwrap();
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        endpoint.connect_lazy()
    }

    /// What comes of joining with `tls`, showing `token`.
    async fn join(&self, tls: Option<ClientTlsConfig>, token: Option<&str>) -> Result<(), Code> {
        let mut request = Request::new(join_request(ActorId::random(), None));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = TrainingClient::new(self.channel(tls));
        let joined = timeout(WAIT_MAX, client.join(request)).await.unwrap();
        joined.map(drop).map_err(|status| status.code())
    }

    fn joined(&self) -> u64 {
        self.harness.books.lock().roster.counts().joined
    }
}

fn lines(tokens: &[char]) -> String {
    let lines: Vec<String> = tokens.iter().map(|digit| token(*digit)).collect();
    lines.join("\n")
}

fn write(path: &std::path::Path, content: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
        .unwrap();
    file.write_all(content.as_bytes()).unwrap();
}

#[tokio::test]
async fn who_has_no_valid_token_is_unauthenticated() {
    let guarded = Guarded::start(false, &['a', 'b']).await;
    let tls = || Some(guarded.trusting(&guarded.authority.certificate));
    for shown in [None, Some(token('c')), Some(token('a')[1..].to_owned())] {
        let refused = guarded.join(tls(), shown.as_deref()).await;
        assert_eq!(refused, Err(Code::Unauthenticated), "{shown:?}");
    }
    assert_eq!(guarded.joined(), 0);
    for good in ['a', 'b'] {
        assert_eq!(guarded.join(tls(), Some(&token(good))).await, Ok(()));
    }
    assert_eq!(guarded.joined(), 2);
    // A probe has no token.
    let mut health = HealthClient::new(guarded.channel(tls()));
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn a_handshake_needs_a_certificate_of_the_right_authority_that_has_not_expired() {
    let guarded = Guarded::start(true, &[]).await;
    let (own, other) = (&guarded.authority, Authority::new());
    let with = |authority: &Authority, (certificate, key): (String, String)| {
        let identity = Identity::from_pem(certificate, key);
        Some(guarded.trusting(&authority.certificate).identity(identity))
    };
    let key = KeyPair::generate().unwrap();
    let self_signed = wish(1).self_signed(&key).unwrap().pem();
    for (what, tls) in [
        ("plaintext", None),
        ("no certificate", Some(guarded.trusting(&own.certificate))),
        ("expired", with(own, own.sign(-24))),
        ("another authority's", with(own, other.sign(1))),
        ("self-signed", with(own, (self_signed, key.serialize_pem()))),
        ("trusting another authority", with(&other, own.sign(1))),
    ] {
        let refused = guarded.join(tls, None).await;
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    assert_eq!(guarded.joined(), 0, "not one message was read");
    assert_eq!(guarded.join(with(own, own.sign(1)), None).await, Ok(()));
}

/// What the server answers to `bytes`, until it hangs up.
async fn answer(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a way to hang up.
    let _ = timeout(WAIT_MAX, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn an_old_version_of_tls_and_garbage_are_hung_up_on() {
    let guarded = Guarded::start(false, &['a']).await;
    // A ClientHello of TLS 1.1: version 3.2, 32 random bytes, one cipher suite, no compression.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let length = hello.len() as u8;
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let refused = answer(guarded.harness.address, &record).await;
    // An alert, fatal.
    assert_eq!(refused.first(), Some(&21), "{refused:?}");
    assert_eq!(refused.get(5), Some(&2), "{refused:?}");
    let garbage = answer(guarded.harness.address, &[0xff; 600]).await;
    assert_ne!(
        garbage.first(),
        Some(&22),
        "no handshake goes on: {garbage:?}"
    );
    assert_eq!(guarded.joined(), 0);
}

#[tokio::test]
async fn a_token_is_rotated_and_the_old_one_s_stream_ends() {
    let guarded = Guarded::start(false, &['a']).await;
    let tls = || Some(guarded.trusting(&guarded.authority.certificate));
    let mut client =
        TrainingClient::with_interceptor(guarded.channel(tls()), |mut request: Request<()>| {
            let value = format!("Bearer {}", token('a')).parse().unwrap();
            request.metadata_mut().insert("authorization", value);
            Ok(request)
        });
    let actor = ActorId::random();
    client.join(join_request(actor, None)).await.unwrap();
    let (up, outbound) = tokio::sync::mpsc::channel(4);
    let up = super::harness::Up(up);
    up.send(Kind::Hello(guarded.harness.hello(actor))).await;
    let stream = client.stream_trajectories(ReceiverStream::new(outbound));
    let mut peer = super::harness::Peer {
        up,
        down: stream.await.unwrap().into_inner(),
    };
    assert_eq!(
        peer.verdict(guarded.harness.unroll(1)).await,
        Verdict::Admitted
    );

    let file = guarded.directory.path().join("tokens");
    write(&file, "not a token");
    write(&file, &lines(&['b', 'a']));
    let accepted = async {
        while guarded.join(tls(), Some(&token('b'))).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, accepted).await.unwrap();
    assert_eq!(
        peer.verdict(guarded.harness.unroll(2)).await,
        Verdict::Admitted
    );
    write(&file, &lines(&['b']));
    assert_eq!(
        timeout(WAIT_MAX, peer.end()).await.unwrap(),
        Code::Unauthenticated
    );
    assert_eq!(
        guarded.join(tls(), Some(&token('a'))).await,
        Err(Code::Unauthenticated)
    );
    assert_eq!(guarded.harness.counts().lost, 0);
}

#[tokio::test]
async fn silent_peers_are_hung_up_on() {
    let limits = LimitsConfig {
        first_byte_s_max: 1,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    // Its greeting comes at once, whoever is there; that this returns at all is the end of the connection.
    answer(harness.address, b"").await;
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
async fn headers_may_not_be_larger_than_the_limit() {
    let harness = start(1, LimitsConfig::default()).await;
    let limit = LimitsConfig::default().header_bytes_max;
    for (bytes, good) in [(limit / 2, true), (limit + 1, false)] {
        let mut request = Request::new(join_request(ActorId::random(), None));
        let value = "h".repeat(bytes).parse().unwrap();
        request.metadata_mut().insert("x-long", value);
        assert_eq!(
            harness.client().join(request).await.is_ok(),
            good,
            "{bytes}"
        );
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
