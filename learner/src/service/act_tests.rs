//! Acting over real sockets: who is answered, and who is not.

use springbok_common::{
    acting::ObservedParts,
    arrays::Elements,
    step::StepOutcome,
    version::PolicyVersion,
    wire::{decode_acted, encode_observed},
};
use springbok_proto::v1::{self, act_request::Kind, actor_message};
use tonic::Code;

use super::{
    harness::{Harness, PAYLOAD, start},
    *,
};

fn observed(outcomes: Vec<StepOutcome>) -> Kind {
    Kind::Observed(encode_observed(&ObservedParts {
        observations: Elements::F32(vec![0.5; 6]),
        action_masks: Vec::new(),
        outcomes,
        wants_states: true,
    }))
}

/// Asks with these messages, one after the other; gives the answers, and how it ended.
async fn ask(harness: &Harness, messages: Vec<Kind>) -> (Vec<v1::ActReply>, Code) {
    let messages = messages.into_iter();
    let requests: Vec<_> = messages
        .map(|kind| ActRequest { kind: Some(kind) })
        .collect();
    let mut answers = Vec::new();
    let stream = harness.client().act(tokio_stream::iter(requests)).await;
    let mut stream = match stream {
        Ok(stream) => stream.into_inner(),
        Err(status) => return (answers, status.code()),
    };
    loop {
        match stream.message().await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => return (answers, Code::Ok),
            Err(status) => return (answers, status.code()),
        }
    }
}

#[tokio::test]
async fn an_actor_that_joined_is_answered_each_time_with_the_newest_version() {
    let harness = start(1, LimitsConfig::default()).await;
    harness.publisher.publish(PolicyVersion(4), PAYLOAD);
    let actor = harness.join(None).await;
    let hello = harness.hello(actor);
    let _trajectories = harness
        .stream(actor_message::Kind::Hello(hello.clone()))
        .await;
    let steps = vec![
        Kind::Hello(hello),
        observed(Vec::new()),
        observed(vec![StepOutcome::Continued, StepOutcome::Truncated]),
    ];
    let (answers, end) = ask(&harness, steps).await;
    assert_eq!((answers.len(), end), (2, Code::Ok));
    for answer in answers {
        let acted = decode_acted(answer, &harness.agreement).unwrap();
        assert_eq!(acted.version(), PolicyVersion(4));
        assert_eq!(acted.parts().log_probs.len(), 2);
    }
    assert!(harness.traffic.summary().received_bytes > 0);
    assert!(harness.traffic.summary().sent_bytes > 0);
}

#[tokio::test]
async fn strangers_other_lives_and_nonsense_are_refused_and_poison_is_counted() {
    let harness = start(1, LimitsConfig::default()).await;
    let actor = harness.join(None).await;
    let hello = harness.hello(actor);
    let trajectories = actor_message::Kind::Hello(hello.clone());
    let _trajectories = harness.stream(trajectories).await;
    let good = Kind::Hello(hello.clone());
    let stranger = harness.hello(ActorId::random());
    let mut other_life = hello.clone();
    other_life.learner_epoch += 1;
    let mut other_specification = hello;
    other_specification.spec_fingerprint ^= 1;
    let mut poison = v1::Observed::default();
    for (first, second, expected) in [
        (observed(Vec::new()), None, Code::InvalidArgument),
        (Kind::Hello(stranger), None, Code::FailedPrecondition),
        (Kind::Hello(other_life), None, Code::FailedPrecondition),
        (
            Kind::Hello(other_specification),
            None,
            Code::FailedPrecondition,
        ),
        (good.clone(), Some(good.clone()), Code::InvalidArgument),
        (
            good.clone(),
            Some(Kind::Observed(poison.clone())),
            Code::InvalidArgument,
        ),
    ] {
        let messages = [Some(first), second].into_iter().flatten().collect();
        let (answers, end) = ask(&harness, messages).await;
        assert_eq!((answers.len(), end), (0, expected));
    }
    poison.observations = springbok_common::wire::encode_observed(&ObservedParts {
        observations: Elements::F32(vec![f32::INFINITY; 6]),
        action_masks: Vec::new(),
        outcomes: Vec::new(),
        wants_states: false,
    })
    .observations;
    for expected in [Code::InvalidArgument, Code::FailedPrecondition] {
        let messages = vec![good.clone(), Kind::Observed(poison.clone())];
        assert_eq!(ask(&harness, messages).await.1, expected);
    }
    let quarantine = harness.books.lock().quarantine.summary();
    assert_eq!((quarantine.strikes, quarantine.quarantines), (3, 1));
}
