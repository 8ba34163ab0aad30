//! A whole learner in this process, with a client that plays an actor.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use springbok_common::{
    config::{Config, DeviceChoice},
    ids::{ActorId, UnrollSequence},
    policy::read_safetensors,
    reject::RejectReason,
    spec::PROTOCOL_REVISION,
    unroll::{Unroll, UnrollHeader},
    version::PolicyVersion,
    wire::{encode_unroll, join_terms},
};
use springbok_proto::v1::{
    ActorMessage, Goodbye, JoinRequest, StreamHello, actor_message::Kind, learner_message,
    training_client::TrainingClient,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    EventSink, LearnerError, LearnerEvent, LearnerOptions, PolicyDescription, Summary, run,
    service::poison_tests::{CASES, Damage, REWARD_ABS_MAX},
    testing,
};

async fn options(run_directory: &std::path::Path) -> LearnerOptions {
    let agreement = testing::agreement();
    let mut config = Config::default();
    config.actor.unroll_length = agreement.rollout.unroll_length;
    config.actor.environments_per_actor = agreement.rollout.environments;
    config.policy.hidden_sizes = Some(vec![4]);
    config.environment.id = agreement.environment.id.clone();
    config.learner.device = DeviceChoice::Cpu;
    config.limits.drain_s_max = 3;
    config.run.total_steps = 64;
    LearnerOptions {
        security: crate::Security::default(),
        config,
        environment: agreement.environment,
        run_directory: run_directory.to_owned(),
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        local: None,
        resume: false,
    }
}

/// Sends unrolls of version 0 until it is asked to leave; gives how many.
async fn act(address: String) -> u64 {
    let mut client = TrainingClient::connect(address).await.unwrap();
    let actor_id = ActorId::random().to_bytes().to_vec();
    let reply = client.join(JoinRequest {
        protocol_revision: PROTOCOL_REVISION,
        actor_id: actor_id.clone().into(),
        actor_index: None,
        environment_id: String::new(),
    });
    let terms = join_terms(reply.await.unwrap().into_inner()).unwrap();
    let (up, outbound) = mpsc::channel(1);
    let send = async |kind| up.send(ActorMessage { kind: Some(kind) }).await.unwrap();
    let hello = StreamHello {
        actor_id: actor_id.into(),
        run_id: terms.run_id.to_bytes().to_vec().into(),
        learner_epoch: terms.epoch.0,
        spec_fingerprint: terms.fingerprint.0,
    };
    send(Kind::Hello(hello)).await;
    let stream = client.stream_trajectories(ReceiverStream::new(outbound));
    let mut down = stream.await.unwrap().into_inner();
    let agreement = testing::agreement();
    let mut sequence = 0;
    loop {
        sequence += 1;
        let mut parts = testing::unroll(&agreement, sequence).into_parts();
        parts.header = UnrollHeader {
            run_id: terms.run_id,
            epoch: terms.epoch,
            sequence: UnrollSequence(sequence),
            version: PolicyVersion(0),
        };
        let unroll = Unroll::new(parts, &agreement).unwrap();
        send(Kind::Unroll(encode_unroll(&unroll))).await;
        let message = down.message().await.unwrap().unwrap();
        if matches!(message.kind, Some(learner_message::Kind::Draining(_))) {
            let goodbye = Goodbye {
                final_sequence: sequence,
            };
            send(Kind::Goodbye(goodbye)).await;
            while down.message().await.unwrap().is_some() {}
            return sequence;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_at_its_steps_with_all_its_files_and_balanced_books() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path()).await;
    let address = format!("http://{}", options.listener.local_addr().unwrap());
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink: EventSink = Arc::new({
        let events = Arc::clone(&events);
        move |event| events.lock().unwrap().push(event)
    });
    let actor = tokio::spawn(act(address));
    let running = run(options, sink, CancellationToken::new());
    let running = tokio::time::timeout(Duration::from_secs(60), running);
    let summary = running.await.unwrap().unwrap();
    let sent = actor.await.unwrap();

    assert_eq!((summary.trained_steps, summary.updates), (64, 4));
    assert_eq!(summary.ledger.trained, 8);
    assert_eq!((summary.ledger.produced, summary.ledger.queued), (sent, 0));
    assert_eq!((summary.actors.joined, summary.actors.left), (1, 1));
    summary.ledger.check().unwrap();
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let written: Summary = serde_json::from_slice(&read("summary.json")).unwrap();
    assert_eq!(written, summary);
    let policy: PolicyDescription = serde_json::from_slice(&read("policy.json")).unwrap();
    assert_eq!(policy.policy_version, 4);
    assert!(read_safetensors(&read("policy.safetensors"), &policy.network).is_ok());
    assert_eq!(
        String::from_utf8(read("metrics.jsonl"))
            .unwrap()
            .lines()
            .count(),
        4
    );
    let events = events.lock().unwrap();
    assert!(matches!(
        events.first(),
        Some(LearnerEvent::Listening { .. })
    ));
    assert!(matches!(events.last(), Some(LearnerEvent::Finished { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_without_any_actor_still_writes_the_results() {
    let directory = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let running = run(options(directory.path()).await, Arc::new(|_| {}), shutdown);
    let summary = tokio::time::timeout(Duration::from_secs(30), running).await;
    let summary = summary.unwrap().unwrap();
    assert_eq!((summary.updates, summary.return_mean_100), (0, None));
    assert!(directory.path().join("policy.safetensors").exists());
}

#[tokio::test]
async fn results_that_cannot_be_written_are_exit_74_with_the_path() {
    let missing = std::path::Path::new("/nonexistent/run");
    let running = run(
        options(missing).await,
        Arc::new(|_| {}),
        CancellationToken::new(),
    );
    let error = running.await.unwrap_err();
    assert!(matches!(&error, LearnerError::Output { path, .. } if path.starts_with(missing)));
    assert_eq!(error.exit_code(), 74);
}

/// One actor's stream, driven by hand.
struct Stream {
    up: mpsc::Sender<ActorMessage>,
    down: tonic::Streaming<springbok_proto::v1::LearnerMessage>,
    header: UnrollHeader,
}

impl Stream {
    async fn open(address: &str, index: u32) -> Self {
        let mut client = TrainingClient::connect(address.to_owned()).await.unwrap();
        let actor_id: bytes::Bytes = ActorId::random().to_bytes().to_vec().into();
        let reply = client.join(JoinRequest {
            protocol_revision: PROTOCOL_REVISION,
            actor_id: actor_id.clone(),
            actor_index: Some(index),
            environment_id: String::new(),
        });
        let terms = join_terms(reply.await.unwrap().into_inner()).unwrap();
        let (up, outbound) = mpsc::channel(2);
        let hello = StreamHello {
            actor_id,
            run_id: terms.run_id.to_bytes().to_vec().into(),
            learner_epoch: terms.epoch.0,
            spec_fingerprint: terms.fingerprint.0,
        };
        let kind = Some(Kind::Hello(hello));
        up.send(ActorMessage { kind }).await.unwrap();
        let stream = client.stream_trajectories(ReceiverStream::new(outbound));
        Self {
            up,
            down: stream.await.unwrap().into_inner(),
            header: UnrollHeader {
                run_id: terms.run_id,
                epoch: terms.epoch,
                sequence: UnrollSequence::FIRST,
                version: PolicyVersion(0),
            },
        }
    }

    /// Sends one unroll and waits for whatever comes next.
    async fn send(&mut self, sequence: u64, damage: impl Fn(&mut springbok_proto::v1::Unroll)) {
        let agreement = testing::agreement();
        let mut parts = testing::unroll(&agreement, sequence).into_parts();
        parts.header = UnrollHeader {
            sequence: UnrollSequence(sequence),
            ..self.header
        };
        let mut unroll = encode_unroll(&Unroll::new(parts, &agreement).unwrap());
        damage(&mut unroll);
        let kind = Some(Kind::Unroll(unroll));
        self.up.send(ActorMessage { kind }).await.unwrap();
        self.down.message().await.unwrap().unwrap();
    }
}

/// All but what is too old, since this run has too few versions for that.
fn poisons() -> impl Iterator<Item = &'static (RejectReason, Damage)> {
    let cases = CASES.iter();
    cases.filter(|(reason, _)| *reason != RejectReason::TooStale)
}

/// The policy that a run comes to in which an honest actor sends one unroll after each `poisons_between` poisoned ones.
async fn policy_of(poisons_between: usize) -> (Vec<u8>, Summary) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path()).await;
    options.config.limits.reward_abs_max = Some(f64::from(REWARD_ABS_MAX));
    let address = format!("http://{}", options.listener.local_addr().unwrap());
    let running = tokio::spawn(run(options, Arc::new(|_| {}), CancellationToken::new()));
    let mut honest = Stream::open(&address, 0).await;
    let mut cases = poisons().zip(1..);
    for sequence in 1..=8 {
        for ((_, damage), place) in cases.by_ref().take(poisons_between) {
            let mut broken = Stream::open(&address, place).await;
            for position in 0..3 {
                let sent = broken.send(position as u64 + 1, |unroll| damage(unroll, position));
                sent.await;
            }
        }
        honest.send(sequence, |_| {}).await;
    }
    drop(honest);
    let summary = tokio::time::timeout(Duration::from_secs(60), running).await;
    let summary = summary.unwrap().unwrap().unwrap();
    let policy = std::fs::read(directory.path().join("policy.safetensors")).unwrap();
    (policy, summary)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_changes_no_parameter() {
    let (clean, of_clean) = policy_of(0).await;
    let (poisoned, of_poisoned) = policy_of(4).await;
    assert_eq!((of_clean.updates, of_poisoned.updates), (4, 4));
    assert_eq!(of_clean.ledger.rejected, 0);
    let cases = poisons().count() as u64;
    assert_eq!(of_poisoned.ledger.rejected, 3 * cases);
    assert!(clean == poisoned, "the parameters differ");
}
