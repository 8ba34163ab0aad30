//! A real client against a service that holds acknowledgements back.

use springbok_common::{
    ids::UnrollSequence,
    injection::LagInjection,
    reject::Verdict,
    version::PolicyVersion,
    wire::{encode_unroll, parse_acknowledgement},
};
use springbok_proto::v1::{Goodbye, ParametersRequest, actor_message::Kind, learner_message};
use tonic::Code;

use super::{
    harness::{Harness, Peer, start_paced},
    *,
};
use crate::{gate::GateLimits, testing};

const SOON: Duration = Duration::from_millis(30);

async fn paced(budget: usize, idle_s_max: u64) -> Harness {
    let limits = LimitsConfig {
        idle_s_max,
        ..LimitsConfig::default()
    };
    let pacing = Pacing::new(GateLimits {
        batch_unrolls: 1,
        outbox_unrolls: 1,
        versions_per_batch: 1,
        served_behind: 0,
        budget_unrolls: Some(budget),
        lag_versions_max: None,
    });
    start_paced(4, limits, LagInjection::None, pacing).await
}

impl Harness {
    fn train_one(&self) {
        let taken = self.queue.take(Duration::from_secs(5)).unwrap();
        self.books.lock().ledger.train(1);
        let version = taken.unroll.header().version;
        self.serving.edge.pacing.settle([version]);
    }
}

async fn acknowledged(peer: &mut Peer) -> UnrollSequence {
    let message = peer.down.message().await.unwrap().unwrap();
    let Some(learner_message::Kind::Acknowledgement(message)) = message.kind else {
        panic!("an acknowledgement was expected");
    };
    let (through, verdict) = parse_acknowledgement(&message).unwrap();
    assert_eq!(verdict, Verdict::Admitted);
    through
}

#[tokio::test]
async fn an_acknowledgement_waits_for_the_training_and_a_goodbye_does_not() {
    let harness = paced(1, 30).await;
    let mut peer = harness.actor().await;
    peer.up.send(Kind::Unroll(harness.unroll(1))).await;
    assert!(timeout(SOON, acknowledged(&mut peer)).await.is_err());
    // It is in the queue all the same, and trained on.
    harness.train_one();
    assert_eq!(acknowledged(&mut peer).await, UnrollSequence(1));
    peer.up.send(Kind::Unroll(harness.unroll(2))).await;
    let goodbye = Kind::Goodbye(Goodbye { final_sequence: 2 });
    peer.up.send(goodbye).await;
    assert_eq!(peer.end().await, Code::Ok);
    assert_eq!(harness.counts().lost, 0);
    assert_eq!(harness.books.lock().roster.counts().left, 1);
}

#[tokio::test]
async fn waiting_for_an_acknowledgement_is_no_silence() {
    let harness = paced(1, 1).await;
    let mut peer = harness.actor().await;
    peer.up.send(Kind::Unroll(harness.unroll(1))).await;
    let patience = Duration::from_millis(1500);
    assert!(timeout(patience, acknowledged(&mut peer)).await.is_err());
    harness.train_one();
    assert_eq!(acknowledged(&mut peer).await, UnrollSequence(1));
}

#[tokio::test]
async fn an_actor_beyond_the_budget_gets_parameters_when_there_is_room() {
    let harness = paced(1, 30).await;
    let _first = harness.actor().await;
    let second = harness.join(None).await;
    let _stream = harness.stream(Kind::Hello(harness.hello(second))).await;
    let request = ParametersRequest {
        actor_id: second.to_bytes().to_vec().into(),
        run_id: harness.run_id.to_bytes().to_vec().into(),
        learner_epoch: 1,
    };
    let parameters = harness.client().stream_parameters(request).await;
    let mut parameters = parameters.unwrap().into_inner();
    assert!(timeout(SOON, parameters.message()).await.is_err());
    drop(_first);
    assert!(parameters.message().await.unwrap().is_some());
}

#[tokio::test]
async fn refused_unrolls_leave_the_gate_too() {
    let harness = paced(1, 30).await;
    harness
        .publisher
        .publish(PolicyVersion(5), super::harness::PAYLOAD);
    let mut peer = harness.actor().await;
    for sequence in 1..4 {
        // Of version 0: too stale for the harness.
        let stale = encode_unroll(&testing::unroll(&harness.agreement, sequence));
        let verdict = timeout(Duration::from_secs(5), peer.verdict(stale)).await;
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))));
    }
    let books = harness.books.lock();
    assert_eq!(books.steered.actors()[0].dropped_unrolls, 3);
    assert_eq!(books.steered.bias().episodes_generated, 3);
}
