//! A client of the service for tests.

use bytes::Bytes;
use springbok_common::{
    config::{InferencePlace, ObservationEncoding, Refresh},
    policy::{layout_fingerprint, payload_bytes},
    reject::Verdict,
    spec::PROTOCOL_REVISION,
    version::PolicyVersion,
    wire::{encode_unroll, join_terms, parse_acknowledgement},
};
use springbok_proto::v1::{
    self, StreamHello, actor_message::Kind, learner_message, training_client::TrainingClient,
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Code, transport::Channel};

use super::*;
use crate::{
    admission::{Admission, Fence},
    gate::GateLimits,
    ledger::LedgerCounts,
    publisher::Publisher,
    queue::{QueueReceiver, queue},
    testing,
};

/// A service without a trainer: the tests take from the queue.
pub(super) struct Harness {
    pub(super) serving: Serving,
    pub(super) books: Books,
    pub(super) queue: QueueReceiver,
    pub(super) publisher: Publisher,
    pub(super) agreement: Agreement,
    pub(super) run_id: RunId,
    pub(super) channel: Channel,
    pub(super) address: std::net::SocketAddr,
    pub(super) traffic: NetworkBytes,
}

pub(super) const PAYLOAD: Bytes = Bytes::from_static(&[1; 4 * 47]);

pub(super) async fn start(queue_unrolls: usize, limits: LimitsConfig) -> Harness {
    start_injecting(queue_unrolls, limits, LagInjection::None).await
}

pub(super) async fn start_injecting(
    queue_unrolls: usize,
    limits: LimitsConfig,
    injection: LagInjection,
) -> Harness {
    start_paced(queue_unrolls, limits, injection, unpaced()).await
}

/// Holds nothing back.
pub(super) fn unpaced() -> Pacing {
    Pacing::new(GateLimits {
        batch_unrolls: 1,
        outbox_unrolls: 1,
        versions_per_batch: 1,
        served_behind: 0,
        budget_unrolls: None,
        lag_versions_max: None,
    })
}

pub(super) async fn start_paced(
    queue_unrolls: usize,
    limits: LimitsConfig,
    injection: LagInjection,
    pacing: Pacing,
) -> Harness {
    let harness = start_guarded(
        queue_unrolls,
        limits,
        injection,
        pacing,
        Security::default(),
    )
    .await;
    // Connected before the test begins, as a real actor is.
    let channel = Channel::from_shared(format!("http://{}", harness.address)).unwrap();
    Harness {
        channel: channel.connect().await.unwrap(),
        ..harness
    }
}

/// A guarded service; the channel in it is not connected.
pub(super) async fn start_guarded(
    queue_unrolls: usize,
    limits: LimitsConfig,
    injection: LagInjection,
    pacing: Pacing,
    security: Security,
) -> Harness {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = (queue_unrolls, pacing);
    start_at((listener, address), inbox, limits, injection, security).await
}

/// The same on any listener, at its address.
pub(super) async fn start_at<L: Listen>(
    (listener, address): (L, std::net::SocketAddr),
    inbox: (usize, Pacing),
    limits: LimitsConfig,
    injection: LagInjection,
    security: Security,
) -> Harness {
    let listeners = (listener, None::<TcpListener>);
    start_all((listeners, address), inbox, limits, injection, security).await
}

/// The same on two listeners, at the address of the first.
pub(super) async fn start_all<L: Listen, U: Listen>(
    (listeners, address): ((L, Option<U>), std::net::SocketAddr),
    (queue_unrolls, pacing): (usize, Pacing),
    limits: LimitsConfig,
    injection: LagInjection,
    security: Security,
) -> Harness {
    let agreement = testing::agreement();
    assert_eq!(payload_bytes(&agreement.network), PAYLOAD.len());
    // The run of the unrolls that `testing` makes.
    let run_id = RunId::from_bytes(&[7; 16]).unwrap();
    let fence = Fence {
        run_id,
        epoch: LearnerEpoch::FIRST,
        lag_versions_max: Some(2),
    };
    let books = Books::new(Admission::new(fence, limits.actors_max));
    let (queue_in, queue_out) = queue(queue_unrolls);
    let layout = layout_fingerprint(&agreement.network);
    let (publisher, publications) =
        Publisher::new(fence.epoch, layout, injection.versions_max() as usize);
    publisher.publish(PolicyVersion(0), PAYLOAD);
    let terms = JoinTerms {
        run_id,
        epoch: fence.epoch,
        actor_index: 0,
        environment_id: agreement.environment.id.clone(),
        environment_options: String::new(),
        network: agreement.network.clone(),
        rollout: agreement.rollout,
        seed: 1,
        fingerprint: agreement.fingerprint(),
        outbox_unrolls: 1,
        message_bytes_max: limits.message_bytes_max,
        unrolls_per_snapshot: None,
        life_versions: None,
        refresh: Refresh::Unroll,
        inference: InferencePlace::Local,
        observations: ObservationEncoding::Raw,
    };
    let desk = testing::desk(&agreement, publications.clone());
    let traffic = NetworkBytes::default();
    let edge = Edge::new(
        books.clone(),
        Inbox {
            queue: queue_in,
            pacing,
            desk: Some(desk),
            traffic: traffic.clone(),
        },
        publications,
        agreement.clone(),
        terms,
        limits,
        injection,
    );
    let serving = serve_all(listeners, edge, security).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    Harness {
        serving,
        books,
        queue: queue_out,
        publisher,
        agreement,
        run_id,
        channel: channel.connect_lazy(),
        address,
        traffic,
    }
}

impl Harness {
    pub(super) fn client(&self) -> TrainingClient<Channel> {
        TrainingClient::new(self.channel.clone())
    }

    pub(super) async fn join(&self, index: Option<u32>) -> ActorId {
        let actor = ActorId::random();
        let reply = self
            .client()
            .join(join_request(actor, index))
            .await
            .unwrap();
        let terms = join_terms(reply.into_inner()).unwrap();
        assert_eq!(terms.fingerprint, self.agreement.fingerprint());
        actor
    }

    pub(super) fn parameters_request(&self, actor: ActorId) -> v1::ParametersRequest {
        v1::ParametersRequest {
            actor_id: actor.to_bytes().to_vec().into(),
            run_id: self.run_id.to_bytes().to_vec().into(),
            learner_epoch: 1,
        }
    }

    pub(super) fn hello(&self, actor: ActorId) -> StreamHello {
        StreamHello {
            actor_id: actor.to_bytes().to_vec().into(),
            run_id: self.run_id.to_bytes().to_vec().into(),
            learner_epoch: 1,
            spec_fingerprint: self.agreement.fingerprint().0,
        }
    }

    pub(super) async fn stream(&self, first: Kind) -> Peer {
        let (up, outbound) = mpsc::channel(4);
        let up = Up(up);
        up.send(first).await;
        let mut client = self.client();
        let peer = client.stream_trajectories(ReceiverStream::new(outbound));
        Peer {
            up,
            down: peer.await.unwrap().into_inner(),
        }
    }

    pub(super) async fn actor(&self) -> Peer {
        let actor = self.join(None).await;
        self.stream(Kind::Hello(self.hello(actor))).await
    }

    pub(super) fn unroll(&self, sequence: u64) -> v1::Unroll {
        encode_unroll(&testing::unroll(&self.agreement, sequence))
    }

    pub(super) fn counts(&self) -> LedgerCounts {
        let books = self.books.lock();
        books.ledger.check().unwrap();
        books.ledger.counts().clone()
    }
}

pub(super) fn join_request(actor: ActorId, actor_index: Option<u32>) -> JoinRequest {
    JoinRequest {
        protocol_revision: PROTOCOL_REVISION,
        actor_id: actor.to_bytes().to_vec().into(),
        actor_index,
        environment_id: String::new(),
    }
}

pub(super) struct Up(pub(super) mpsc::Sender<ActorMessage>);

impl Up {
    pub(super) async fn send(&self, kind: Kind) {
        let message = ActorMessage { kind: Some(kind) };
        self.0.send(message).await.unwrap();
    }
}

pub(super) struct Peer {
    pub(super) up: Up,
    pub(super) down: Streaming<LearnerMessage>,
}

impl Peer {
    pub(super) async fn verdict(&mut self, unroll: v1::Unroll) -> Verdict {
        let sequence = unroll.sequence;
        self.up.send(Kind::Unroll(unroll)).await;
        let message = self.down.message().await.unwrap().unwrap();
        let Some(learner_message::Kind::Acknowledgement(message)) = message.kind else {
            panic!("an acknowledgement was expected");
        };
        let (acknowledged, verdict) = parse_acknowledgement(&message).unwrap();
        assert_eq!(acknowledged.0, sequence);
        verdict
    }

    /// The status with which the learner ends the stream.
    pub(super) async fn end(&mut self) -> Code {
        loop {
            match self.down.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }
}
