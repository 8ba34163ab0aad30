//! A real client against the service: good and bad input, drain, limits.

use bytes::Bytes;
use prost::Message as _;
use springbok_common::{
    policy::{FlatLayout, layout_fingerprint},
    reject::Verdict,
    version::PolicyVersion,
    wire::SnapshotAssembler,
};
use springbok_proto::v1::{self, Goodbye, StreamHello, actor_message::Kind, learner_message};
use tokio::sync::mpsc;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    harness::{PAYLOAD, join_request, start, start_injecting},
    *,
};

#[tokio::test]
async fn messages_that_are_no_unroll_end_the_stream_and_harm_nobody_else() {
    let harness = start(4, LimitsConfig::default()).await;
    let mut other = harness.actor().await;
    let malformed = [
        v1::Unroll::default(),
        v1::Unroll {
            sequence: 0,
            ..harness.unroll(1)
        },
        v1::Unroll {
            sequence: u64::MAX,
            ..harness.unroll(1)
        },
    ];
    for unroll in malformed {
        let mut peer = harness.actor().await;
        peer.up.send(Kind::Unroll(unroll)).await;
        assert_eq!(peer.end().await, Code::InvalidArgument);
    }
    let actor = harness.join(None).await;
    let wrong_hellos = [
        (
            Code::InvalidArgument,
            StreamHello {
                actor_id: Bytes::new(),
                ..harness.hello(actor)
            },
        ),
        (
            Code::FailedPrecondition,
            StreamHello {
                learner_epoch: 2,
                ..harness.hello(actor)
            },
        ),
        (
            Code::FailedPrecondition,
            StreamHello {
                spec_fingerprint: 0,
                ..harness.hello(actor)
            },
        ),
        (Code::FailedPrecondition, harness.hello(ActorId::random())),
    ];
    for (code, hello) in wrong_hellos {
        let mut peer = harness.stream(Kind::Hello(hello)).await;
        assert_eq!(peer.end().await, code);
    }
    let mut peer = harness.stream(Kind::Unroll(harness.unroll(1))).await;
    assert_eq!(peer.end().await, Code::InvalidArgument);
    assert_eq!(other.verdict(harness.unroll(1)).await, Verdict::Admitted);
    assert_eq!(
        (
            harness.counts().produced,
            harness.books.lock().roster.counts().lost
        ),
        (1, 3)
    );
}

#[tokio::test]
async fn join_refuses_what_does_not_fit() {
    let limits = LimitsConfig {
        actors_max: 1,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    let good = join_request(ActorId::random(), None);
    let cases = [
        (
            Code::FailedPrecondition,
            JoinRequest {
                protocol_revision: 0,
                ..good.clone()
            },
        ),
        (
            Code::InvalidArgument,
            JoinRequest {
                actor_id: Bytes::from_static(&[1]),
                ..good.clone()
            },
        ),
        (
            Code::FailedPrecondition,
            JoinRequest {
                environment_id: "Other".into(),
                ..good.clone()
            },
        ),
    ];
    for (code, request) in cases {
        assert_eq!(
            harness.client().join(request).await.unwrap_err().code(),
            code
        );
    }
    let mut client = harness.client();
    let reply = client.join(JoinRequest {
        environment_id: "Test-v0".into(),
        ..good
    });
    assert_eq!(reply.await.unwrap().into_inner().actor_index, 0);
    let full = harness
        .client()
        .join(join_request(ActorId::random(), None))
        .await;
    assert_eq!(full.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_full_queue_holds_back_the_acknowledgement() {
    let harness = start(1, LimitsConfig::default()).await;
    let mut peer = harness.actor().await;
    assert_eq!(peer.verdict(harness.unroll(1)).await, Verdict::Admitted);
    let second = harness.unroll(2);
    let waiting = timeout(Duration::from_millis(100), peer.verdict(second)).await;
    assert!(waiting.is_err());
    assert_eq!(harness.counts().queued, 2);
    harness.queue.take(Duration::ZERO).unwrap();
    let message = peer.down.message().await.unwrap().unwrap();
    assert!(matches!(
        message.kind,
        Some(learner_message::Kind::Acknowledgement(_))
    ));
}

#[tokio::test]
async fn silence_is_limited_but_waiting_for_the_queue_is_not() {
    let limits = LimitsConfig {
        first_message_s_max: 1,
        idle_s_max: 1,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    let (_up, nothing) = mpsc::channel::<ActorMessage>(1);
    let silent = harness
        .client()
        .stream_trajectories(ReceiverStream::new(nothing))
        .await;
    let silent_end = silent.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(silent_end.code(), Code::DeadlineExceeded);
    let mut peer = harness.actor().await;
    assert_eq!(peer.verdict(harness.unroll(1)).await, Verdict::Admitted);
    let second = harness.unroll(2);
    let blocked = timeout(Duration::from_millis(1500), peer.verdict(second)).await;
    assert!(blocked.is_err());
    harness.queue.take(Duration::ZERO).unwrap();
    assert!(peer.down.message().await.unwrap().is_some());
    assert_eq!(peer.end().await, Code::DeadlineExceeded);
    assert_eq!(harness.books.lock().roster.counts().lost, 1);
}

#[tokio::test]
async fn parameters_arrive_whole_and_the_newest_wins() {
    let harness = start(1, LimitsConfig::default()).await;
    let actor = harness.join(None).await;
    let request = harness.parameters_request(actor);
    let stranger = v1::ParametersRequest {
        learner_epoch: 4,
        ..request.clone()
    };
    let refused = harness
        .client()
        .stream_parameters(stranger)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let stream = harness.client().stream_parameters(request).await;
    let mut stream = stream.unwrap().into_inner();
    let layout = layout_fingerprint(&harness.agreement.network);
    let mut assembler = SnapshotAssembler::new(layout, FlatLayout::of(&harness.agreement.network));
    for version in [0, 5] {
        harness.publisher.publish(PolicyVersion(version), PAYLOAD);
        let snapshot = loop {
            let chunk = stream.message().await.unwrap().unwrap();
            match assembler.push(chunk).unwrap() {
                Some((snapshot, served)) if snapshot.version().0 == version => {
                    assert_eq!(served.newest, snapshot.version());
                    break snapshot;
                }
                _ => {}
            }
        };
        assert_eq!(snapshot.payload(), &PAYLOAD);
    }
}

#[tokio::test]
async fn what_goes_over_the_wire_is_counted_and_so_is_what_was_skipped() {
    let harness = start(4, LimitsConfig::default()).await;
    let traffic = || harness.books.lock().traffic;
    let unroll = harness.unroll(1);
    let bytes = unroll.encoded_len() as u64;
    let mut peer = harness.actor().await;
    peer.verdict(unroll.clone()).await;
    peer.verdict(unroll).await;
    // Settled or not, it has travelled.
    assert_eq!(traffic().unroll_bytes, 2 * bytes);

    let request = harness.parameters_request(harness.join(None).await);
    let stream = harness.client().stream_parameters(request).await;
    let mut stream = stream.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    // Nobody else runs meanwhile: the stream finds the third when it looks again.
    (1..=3).for_each(|version| harness.publisher.publish(PolicyVersion(version), PAYLOAD));
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!((first.policy_version, second.policy_version), (0, 3));
    while traffic().snapshots_sent < 2 {
        tokio::task::yield_now().await;
    }
    let sent = (first.encoded_len() + second.encoded_len()) as u64;
    assert_eq!(traffic().snapshot_bytes, sent);
    assert_eq!(traffic().snapshots_conflated, 2);
}

#[tokio::test]
async fn injected_lag_serves_exactly_the_version_so_far_behind_and_says_which_is_the_newest() {
    let injection = LagInjection::PerActor(vec![0, 2]);
    let harness = start_injecting(1, LimitsConfig::default(), injection).await;
    harness.join(Some(0)).await;
    let actor = harness.join(Some(1)).await;
    let request = harness.parameters_request(actor);
    let stream = harness.client().stream_parameters(request).await;
    let mut stream = stream.unwrap().into_inner();
    let mut issued_us = 0;
    for newest in 0..5_u64 {
        if newest > 0 {
            harness.publisher.publish(PolicyVersion(newest), PAYLOAD);
        }
        let chunk = stream.message().await.unwrap().unwrap();
        assert_eq!(chunk.newest_version, newest);
        assert_eq!(chunk.policy_version, newest.saturating_sub(2));
        assert!(chunk.issued_us >= issued_us, "the clock runs backwards");
        issued_us = chunk.issued_us;
    }
}

#[tokio::test]
async fn a_drain_asks_everyone_to_leave_and_settles_what_arrives_meanwhile() {
    let limits = LimitsConfig {
        drain_s_max: 4,
        ..LimitsConfig::default()
    };
    let harness = start(1, limits).await;
    let mut health = HealthClient::new(harness.channel.clone());
    let mut status = async || {
        let reply = health.check(HealthCheckRequest::default()).await;
        reply.unwrap().into_inner().status()
    };
    assert_eq!(status().await.as_str_name(), "NOT_SERVING");
    harness.serving.ready().await;
    assert_eq!(status().await.as_str_name(), "SERVING");

    let mut polite = harness.actor().await;
    let mut silent = harness.actor().await;
    assert_eq!(polite.verdict(harness.unroll(1)).await, Verdict::Admitted);
    // The queue is full: this one waits for a place when the drain begins.
    polite.up.send(Kind::Unroll(harness.unroll(2))).await;
    while harness.counts().queued < 2 {
        tokio::task::yield_now().await;
    }
    let (mut client, books, queue) = (
        harness.client(),
        harness.books.clone(),
        harness.queue.clone(),
    );
    let late = harness.unroll(3);
    let drained = tokio::spawn(harness.serving.drain());
    loop {
        let message = polite.down.message().await.unwrap().unwrap();
        if matches!(message.kind, Some(learner_message::Kind::Draining(_))) {
            break;
        }
    }
    let refused = client.join(join_request(ActorId::random(), None)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    assert_eq!(polite.verdict(late).await, Verdict::Admitted);
    polite
        .up
        .send(Kind::Goodbye(Goodbye { final_sequence: 5 }))
        .await;
    assert_eq!(polite.end().await, Code::Ok);
    // Left behind at the end of the drain, or before it, as one that hangs.
    let left_behind = [Code::Unavailable, Code::DeadlineExceeded];
    assert!(left_behind.contains(&silent.end().await));
    timeout(Duration::from_secs(10), drained)
        .await
        .unwrap()
        .unwrap();

    let mut books = books.lock();
    books.ledger.discard(queue.clear());
    books.ledger.check().unwrap();
    let counts = books.ledger.counts();
    assert_eq!((counts.produced, counts.admitted, counts.lost), (5, 3, 2));
    assert_eq!((counts.discarded, counts.queued), (3, 0));
    assert_eq!(
        (books.roster.counts().left, books.roster.counts().lost),
        (1, 1)
    );
}

#[tokio::test]
async fn a_new_life_at_the_same_index_ends_the_old_stream() {
    let harness = start(1, LimitsConfig::default()).await;
    let old = harness.join(Some(3)).await;
    let mut peer = harness.stream(Kind::Hello(harness.hello(old))).await;
    assert_eq!(peer.verdict(harness.unroll(1)).await, Verdict::Admitted);
    harness.join(Some(3)).await;
    assert_eq!(peer.end().await, Code::Aborted);
    let counts = harness.books.lock().roster.counts();
    assert_eq!((counts.joined, counts.lost, counts.replaced), (2, 1, 1));
}
