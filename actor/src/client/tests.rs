//! A whole actor against a scripted learner, over real sockets.

use std::{
    net::SocketAddr,
    sync::{Mutex, atomic::AtomicUsize},
};

use springbok_common::{
    config::{InferencePlace, ObservationEncoding, Refresh},
    ids::{RunId, UnrollSequence},
    policy::{ActorCritic, export_flat, layout_fingerprint},
    reject::{RejectReason, Verdict},
    snapshot::ParameterSnapshot,
    spec::{Activation, NetworkSpec, RolloutShape, SpecFingerprint},
    unroll::{Served, Unroll},
    version::{LearnerEpoch, PolicyVersion},
    wire::{acknowledgement, decode_unroll, join_reply, snapshot_chunks},
};
use springbok_proto::v1::training_server::{Training, TrainingServer};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Streaming};

use super::*;
use crate::{environment::Registry, python::PythonSettings};

const SERVED: Served = Served {
    newest: PolicyVersion(9),
    issued_us: 1234,
};

type Replies<T> = ReceiverStream<Result<T, Status>>;

/// What the learner answers to the unrolls of one stream before it ends that stream.
#[derive(Clone, Copy)]
enum Answer {
    Acknowledge(Verdict),
    /// End the stream without an answer.
    Break,
    /// Acknowledge, then drain.
    Drain,
}

/// What the learner saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Hello,
    Unroll { sequence: u64, version: u64 },
    Goodbye { final_sequence: u64 },
    End,
}

/// A learner that plays one script for each trajectory stream.
struct Scripted {
    terms: JoinTerms,
    agreement: Agreement,
    scripts: Vec<Vec<Answer>>,
    streams: AtomicUsize,
    parameter_streams: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    actor_ids: Mutex<Vec<Vec<u8>>>,
}

fn scripted(scripts: Vec<Vec<Answer>>) -> Scripted {
    let environment = Registry::built_in()
        .make("Catch", &toml::Table::new())
        .unwrap()
        .spec()
        .clone();
    let network = NetworkSpec::mlp(&environment, vec![8], Activation::Relu, false);
    let agreement = Agreement {
        environment,
        network,
        rollout: RolloutShape {
            unroll_length: 5,
            environments: 2,
        },
    };
    let terms = JoinTerms {
        run_id: RunId::random(),
        epoch: LearnerEpoch(4),
        actor_index: 3,
        environment_id: "Catch".into(),
        environment_options: String::new(),
        network: agreement.network.clone(),
        rollout: agreement.rollout,
        seed: 1,
        fingerprint: agreement.fingerprint(),
        outbox_unrolls: 1,
        message_bytes_max: 4 << 20,
        unrolls_per_snapshot: None,
        life_versions: None,
        refresh: Refresh::Unroll,
        inference: InferencePlace::Local,
        observations: ObservationEncoding::Raw,
    };
    Scripted {
        terms,
        agreement,
        scripts,
        streams: AtomicUsize::new(0),
        parameter_streams: AtomicUsize::new(0),
        seen: Mutex::default(),
        actor_ids: Mutex::default(),
    }
}

impl Scripted {
    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn snapshot(&self, version: u64) -> ParameterSnapshot {
        let network = &self.agreement.network;
        let policy = ActorCritic::new(network, version, &burn::tensor::Device::flex());
        ParameterSnapshot::seal(
            self.terms.epoch,
            PolicyVersion(version),
            layout_fingerprint(network),
            export_flat(&policy),
        )
    }

    async fn play(
        &self,
        mut messages: Streaming<v1::ActorMessage>,
        replies: &mpsc::Sender<Result<v1::LearnerMessage, Status>>,
    ) {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.scripts[stream].iter();
        loop {
            let message = messages.message().await.unwrap_or_default();
            match message.and_then(|message| message.kind) {
                None => return self.note(Seen::End),
                Some(actor_message::Kind::Hello(_)) => self.note(Seen::Hello),
                Some(actor_message::Kind::Goodbye(goodbye)) => self.note(Seen::Goodbye {
                    final_sequence: goodbye.final_sequence,
                }),
                Some(actor_message::Kind::Unroll(unroll)) => {
                    let unroll: Unroll = decode_unroll(unroll, &self.agreement).unwrap();
                    let header = unroll.header();
                    self.note(Seen::Unroll {
                        sequence: header.sequence.0,
                        version: header.version.0,
                    });
                    let sequence = header.sequence;
                    match answers.next() {
                        Some(Answer::Acknowledge(verdict)) => {
                            acknowledge(replies, sequence, *verdict).await;
                        }
                        Some(Answer::Drain) => {
                            acknowledge(replies, sequence, Verdict::Admitted).await;
                            let draining = learner_message::Kind::Draining(v1::Draining {});
                            reply(replies, draining).await;
                        }
                        Some(Answer::Break) => return,
                        // The actor may have begun one more before it read the word of draining.
                        None => {}
                    }
                }
            }
        }
    }
}

async fn acknowledge(
    replies: &mpsc::Sender<Result<v1::LearnerMessage, Status>>,
    sequence: UnrollSequence,
    verdict: Verdict,
) {
    let message = acknowledgement(sequence, verdict);
    reply(replies, learner_message::Kind::Acknowledgement(message)).await;
}

async fn reply(
    replies: &mpsc::Sender<Result<v1::LearnerMessage, Status>>,
    kind: learner_message::Kind,
) {
    let message = v1::LearnerMessage { kind: Some(kind) };
    let _ = replies.send(Ok(message)).await;
}

/// The service: it shares the learner with the test.
struct Service(Arc<Scripted>);

#[tonic::async_trait]
impl Training for Service {
    type ActStream = Replies<v1::ActReply>;
    type StreamTrajectoriesStream = Replies<v1::LearnerMessage>;
    type StreamParametersStream = Replies<v1::SnapshotChunk>;

    async fn act(
        &self,
        _: Request<Streaming<v1::ActRequest>>,
    ) -> Result<Response<Self::ActStream>, Status> {
        Err(Status::failed_precondition("its actors act for themselves"))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let actor_id = request.into_inner().actor_id.to_vec();
        self.0.actor_ids.lock().unwrap().push(actor_id);
        Ok(Response::new(join_reply(&self.0.terms)))
    }

    async fn stream_trajectories(
        &self,
        request: Request<Streaming<v1::ActorMessage>>,
    ) -> Result<Response<Self::StreamTrajectoriesStream>, Status> {
        let (replies, stream) = mpsc::channel(4);
        let learner = Arc::clone(&self.0);
        tokio::spawn(async move { learner.play(request.into_inner(), &replies).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stream_parameters(
        &self,
        _request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::StreamParametersStream>, Status> {
        let (chunks, stream) = mpsc::channel(4);
        let mut sent = snapshot_chunks(&self.0.snapshot(7), SERVED);
        // Every other stream begins with a damaged snapshot, and nothing follows it.
        if self
            .0
            .parameter_streams
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(2)
        {
            sent[0].checksum ^= 1;
        }
        tokio::spawn(async move {
            for chunk in sent {
                let _ = chunks.send(Ok(chunk)).await;
            }
            chunks.closed().await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn listen(learner: &Arc<Scripted>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TrainingServer::new(Service(Arc::clone(learner)));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn options(address: impl std::fmt::Display) -> ActorOptions {
    ActorOptions {
        learner: format!("http://{address}"),
        index: None,
        environment_id: None,
        registry: Arc::new(Registry::built_in()),
        python: PythonSettings::default(),
        learner_wait_max: Duration::from_secs(20),
        step_max: Duration::from_secs(20),
        window_bytes: 2 << 20,
        security: crate::Security::default(),
    }
}

#[test]
fn frames_are_compressed_for_another_machine_only_unless_it_is_said() {
    let compresses = |url: &str, encoding| {
        let options = ActorOptions {
            learner: url.to_owned(),
            ..options("unused")
        };
        let seeker = Seeker::new(&options, &World::default()).unwrap();
        seeker.compresses(encoding)
    };
    let here = [
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
        "unix:/a",
    ];
    let there = ["http://10.0.0.1:1", "http://learner:1"];
    for (urls, automatic) in [(&here[..], false), (&there[..], true)] {
        for url in urls {
            assert_eq!(
                compresses(url, ObservationEncoding::Auto),
                automatic,
                "{url}"
            );
            assert!(compresses(url, ObservationEncoding::Zstd));
            assert!(!compresses(url, ObservationEncoding::Raw));
        }
    }
}

#[tokio::test]
async fn an_actor_streams_survives_a_lost_stream_and_leaves_when_told() {
    let admitted = Answer::Acknowledge(Verdict::Admitted);
    let stale = Answer::Acknowledge(Verdict::Rejected(RejectReason::TooStale));
    let learner = Arc::new(scripted(vec![
        vec![admitted, stale, Answer::Break],
        vec![admitted, Answer::Drain],
    ]));
    let address = listen(&learner).await;
    let report = run(options(address), CancellationToken::new())
        .await
        .unwrap();

    let seen = std::mem::take(&mut *learner.seen.lock().unwrap());
    let unroll = |sequence| Seen::Unroll {
        sequence,
        version: 7,
    };
    let first = [Seen::Hello, unroll(1), unroll(2), unroll(3)];
    let second = [Seen::Hello, unroll(3), unroll(4)];
    assert_eq!(seen[..4], first);
    assert_eq!(seen[4..7], second, "the unsettled unroll comes again");
    let produced = report.unrolls;
    assert!((4..=5).contains(&produced));
    let goodbye = Seen::Goodbye {
        final_sequence: produced,
    };
    assert_eq!(seen[seen.len() - 2..], [goodbye, Seen::End]);
    assert_eq!(report.steps, produced * 10);
    assert_eq!((report.rejected, report.reconnects), (1, 1));
    assert_eq!((report.dropped, report.snapshots_refused), (0, 2));
    let actor_ids = learner.actor_ids.lock().unwrap();
    assert_eq!(actor_ids.len(), 2);
    assert_eq!(actor_ids[0], actor_ids[1], "a rejoining actor is the same");
}

#[tokio::test]
async fn an_actor_says_goodbye_when_it_is_asked_to_stop() {
    let learner = Arc::new(scripted(vec![vec![
        Answer::Acknowledge(Verdict::Admitted);
        1_000_000
    ]]));
    let address = listen(&learner).await;
    let shutdown = CancellationToken::new();
    let actor = tokio::spawn(run(options(address), shutdown.clone()));
    while learner.seen.lock().unwrap().len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    let report = actor.await.unwrap().unwrap();
    let seen = learner.seen.lock().unwrap();
    let goodbye = Seen::Goodbye {
        final_sequence: report.unrolls,
    };
    assert_eq!(seen[seen.len() - 2..], [goodbye, Seen::End]);
}

#[tokio::test]
async fn a_learner_that_means_something_else_is_left() {
    let mut learner = scripted(vec![]);
    learner.terms.fingerprint = SpecFingerprint(1);
    let address = listen(&Arc::new(learner)).await;
    let error = run(options(address), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("fingerprint"), "{error}");

    let mut wrong = options(address);
    wrong.environment_id = Some("CartPole-v1".into());
    let error = run(wrong, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
}

#[tokio::test]
async fn an_actor_without_a_learner_gives_up_and_says_so() {
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut alone = options(closed);
    alone.learner_wait_max = Duration::from_millis(400);
    let error = run(alone.clone(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains(&alone.learner), "{error}");

    alone.learner_wait_max = Duration::ZERO;
    let shutdown = CancellationToken::new();
    let actor = tokio::spawn(run(alone, shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    assert_eq!(actor.await.unwrap().unwrap(), ActorReport::default());

    let error = run(options("no url at all"), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 64);
}

/// A token file; it is gone with it.
struct TokenFile(std::path::PathBuf);

impl TokenFile {
    fn new(name: &str, token: &str) -> Self {
        let name = format!("springbok-actor-{}-{name}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(token);
        file
    }

    fn write(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&self.0, token).unwrap();
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_first_call_that_meets_a_change_of_tokens_is_made_again() {
    let [old, new] = ["a".repeat(64), "b".repeat(64)];
    for changes in [true, false] {
        let file = Arc::new(TokenFile::new(&format!("{changes}"), &old));
        let learner = Arc::new(scripted(vec![vec![Answer::Drain]]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, valid) = (Arc::clone(&file), format!("Bearer {new}"));
        let service = Service(Arc::clone(&learner));
        // The old token is valid no more by the time at which the call that shows it arrives.
        let service = TrainingServer::with_interceptor(service, move |request: Request<()>| {
            let shown = request.metadata().get("authorization").unwrap();
            if shown.to_str().is_ok_and(|shown| shown == valid) {
                return Ok(request);
            }
            if changes {
                shared.write(&valid["Bearer ".len()..]);
            }
            Err(Status::unauthenticated("the token is not valid"))
        });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let config = springbok_common::config::SecurityConfig {
            token_file: Some(file.0.clone()),
            ..Default::default()
        };
        let mut options = options(address);
        options.security = crate::Security::load(&config, None).unwrap();
        let ended = run(options, CancellationToken::new()).await;
        match changes {
            true => assert!(ended.unwrap().unrolls > 0),
            false => assert_eq!(ended.unwrap_err().exit_code(), 64),
        }
    }
}
