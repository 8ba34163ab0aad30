//! The guarded port, against real peers that should and should not get in.

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
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    harness::{Harness, join_request, start_guarded, unpaced},
    *,
};
use crate::testing::Heard;

/// Long enough for a busy machine; nothing is measured.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
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
    pub(super) fn sign(&self, hours: i64) -> (String, String) {
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
        let mut sets = vec!["security.refresh_ms=10".to_owned()];
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

impl Guarded {
    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// The stream of an actor that shows `digit`'s token, on a connection of its own.
    async fn peer(&self, tls: ClientTlsConfig, digit: char) -> super::harness::Peer {
        let authorised = move |mut request: Request<()>| {
            let value = format!("Bearer {}", token(digit)).parse().unwrap();
            request.metadata_mut().insert("authorization", value);
            Ok(request)
        };
        let channel = self.channel(Some(tls));
        let mut client = TrainingClient::with_interceptor(channel, authorised);
        let actor = ActorId::random();
        client.join(join_request(actor, None)).await.unwrap();
        let (up, outbound) = tokio::sync::mpsc::channel(4);
        let up = super::harness::Up(up);
        up.send(Kind::Hello(self.harness.hello(actor))).await;
        let stream = client.stream_trajectories(ReceiverStream::new(outbound));
        super::harness::Peer {
            up,
            down: stream.await.unwrap().into_inner(),
        }
    }
}

fn lines(tokens: &[char]) -> String {
    let lines: Vec<String> = tokens.iter().map(|digit| token(*digit)).collect();
    lines.join("\n")
}

pub(super) fn write(path: &std::path::Path, content: &str) {
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
    let mut peer = guarded.peer(tls().unwrap(), 'a').await;
    assert_eq!(
        peer.verdict(guarded.harness.unroll(1)).await,
        Verdict::Admitted
    );

    let file = guarded.file("tokens");
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
async fn a_new_certificate_is_for_new_connections_and_one_that_cannot_be_used_for_none() {
    let heard = Heard::default();
    let _listening = heard.listen();
    let guarded = Guarded::start(false, &['a']).await;
    let tls = |authority: &Authority| guarded.trusting(&authority.certificate);
    let join = async |authority| guarded.join(Some(tls(authority)), Some(&token('a'))).await;
    let (old, new) = (&guarded.authority, Authority::new());
    let mut peer = guarded.peer(tls(old), 'a').await;
    assert_eq!(
        peer.verdict(guarded.harness.unroll(1)).await,
        Verdict::Admitted
    );
    assert!(join(&new).await.is_err());

    // The certificate is there, and its key is not yet.
    let (certificate, key) = new.sign(48);
    let stays = "the certificate stays as it was";
    write(&guarded.file("certificate"), &certificate);
    timeout(WAIT_MAX, heard.wait_for(stays)).await.unwrap();
    assert_eq!(join(old).await, Ok(()), "the old one is still shown");

    write(&guarded.file("key"), &key);
    let changed = heard.wait_for("the certificate has changed");
    timeout(WAIT_MAX, changed).await.unwrap();
    assert_eq!(join(&new).await, Ok(()));
    assert!(join(old).await.is_err(), "the old one is shown no more");
    assert_eq!(
        peer.verdict(guarded.harness.unroll(2)).await,
        Verdict::Admitted,
        "who was there noticed nothing"
    );
    assert_eq!(heard.count(stays), 1);

    // An expired one comes later, and is looked at many times while tokens are.
    let (certificate, key) = new.sign(-24);
    write(&guarded.file("key"), &key);
    write(&guarded.file("certificate"), &certificate);
    let complaint = async {
        while heard.count("is only valid from") == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, complaint).await.unwrap();
    for digit in ['b', 'c'] {
        write(&guarded.file("tokens"), &lines(&[digit, 'a']));
        let before = heard.count("the tokens have changed");
        let looked = async {
            while heard.count("the tokens have changed") == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT_MAX, looked).await.unwrap();
    }
    assert_eq!(join(&new).await, Ok(()));
    assert_eq!(heard.count("is only valid from"), 1, "said once");
    // All servers end, and the old connection with them.
    drop(peer);
    timeout(WAIT_MAX, guarded.harness.serving.drain())
        .await
        .unwrap();
}
