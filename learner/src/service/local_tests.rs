//! The Unix socket: who may open it, what is in its way, and that every limit holds on it.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    time::Duration,
};

use springbok_common::{
    config::{Config, LimitsConfig},
    ids::ActorId,
    injection::LagInjection,
    reject::Verdict,
};
use springbok_proto::v1::{actor_message::Kind, training_client::TrainingClient};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, UnixStream},
    time::timeout,
};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

use super::*;
use crate::{
    Security,
    service::{
        harness::{Harness, join_request, start_all, unpaced},
        security_tests::{Authority, write},
    },
};

/// Long enough for a busy machine; nothing is measured.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A service on TCP and on a socket in a directory that vanishes with it.
struct Both {
    harness: Harness,
    directory: TempDir,
}

impl Both {
    async fn start(limits: LimitsConfig, security: Security) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalListener::bind(&directory.path().join("s")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let at = ((listener, Some(local.unwrap())), address);
        let inbox = (4, unpaced());
        let harness = start_all(at, inbox, limits, LagInjection::None, security).await;
        Self { harness, directory }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("s")
    }

    /// A connection of its own over the socket, or over TCP.
    fn channel(&self, unix: bool) -> Channel {
        let url = match unix {
            true => format!("unix:{}", self.path().display()),
            false => format!("http://{}", self.harness.address),
        };
        Endpoint::from_shared(url).unwrap().connect_lazy()
    }

    async fn join(&self, channel: &Channel, token: Option<&str>) -> Result<(), Code> {
        let mut request = Request::new(join_request(ActorId::random(), None));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = TrainingClient::new(channel.clone());
        let joined = timeout(WAIT_MAX, client.join(request)).await.unwrap();
        joined.map(drop).map_err(|status| status.code())
    }
}

#[tokio::test]
async fn only_its_user_can_open_it_and_it_takes_its_file_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = LocalListener::bind(&path).await.unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());

    let listener = LocalListener::bind(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(listener);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
}

#[tokio::test]
async fn a_socket_of_the_dead_is_replaced_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    // std leaves the file, as a killed process does.
    drop(StdListener::bind(&path).unwrap());
    let living = LocalListener::bind(&path).await.unwrap();
    let second = LocalListener::bind(&path).await.unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    UnixStream::connect(&path)
        .await
        .expect("the first is still there");
    drop(living);

    fs::write(&path, "precious").unwrap();
    let refused = LocalListener::bind(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn an_actor_streams_over_it_as_over_an_address() {
    let mut both = Both::start(LimitsConfig::default(), Security::default()).await;
    both.harness.channel = both.channel(true);
    let actor = both.harness.join(None).await;
    let hello = Kind::Hello(both.harness.hello(actor));
    let mut peer = both.harness.stream(hello).await;
    let verdict = peer.verdict(both.harness.unroll(1)).await;
    assert_eq!(verdict, Verdict::Admitted);
    both.harness.serving.drain().await;
    assert!(!both.directory.path().join("s").exists());
}

#[tokio::test]
async fn all_of_its_peers_are_one_and_leave_the_places_of_others_alone() {
    let limits = LimitsConfig {
        connections_per_peer_max: 2,
        first_byte_s_max: 1,
        ..LimitsConfig::default()
    };
    let both = Both::start(limits, Security::default()).await;
    // Who says nothing is hung up on.
    let mut silent = UnixStream::connect(both.path()).await.unwrap();
    let mut said = Vec::new();
    let read = timeout(WAIT_MAX, silent.read_to_end(&mut said)).await;
    let _ = read.expect("the learner hangs up");

    let known = [both.channel(true), both.channel(true)];
    for channel in &known {
        assert_eq!(both.join(channel, None).await, Ok(()));
    }
    let third = both.join(&both.channel(true), None).await;
    assert!(third.is_err(), "{third:?}");
    assert_eq!(both.join(&both.channel(false), None).await, Ok(()));
}

#[tokio::test]
async fn it_speaks_no_tls_and_asks_for_tokens_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new().sign(48);
    let token = "a".repeat(64);
    let mut sets = Vec::new();
    for (name, content) in [
        ("certificate_file", &certificate),
        ("key_file", &key),
        ("token_file", &token),
    ] {
        let path = directory.path().join(name);
        write(&path, content);
        sets.push(format!("security.{name}={}", path.display()));
    }
    let config = Config::load(None, std::iter::empty(), &sets).unwrap();
    let security = Security::load(&config.config, None).unwrap();
    let both = Both::start(LimitsConfig::default(), security).await;

    assert!(both.join(&both.channel(false), Some(&token)).await.is_err());
    let local = both.channel(true);
    let refused = both.join(&local, None).await;
    assert_eq!(refused, Err(Code::Unauthenticated));
    assert_eq!(both.join(&local, Some(&token)).await, Ok(()));
    assert_eq!(both.harness.books.lock().roster.counts().joined, 1);
}
