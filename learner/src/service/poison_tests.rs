//! Poisoned unrolls: each kind, at the first, a middle and the last element or step, gets its exact reason, changes nothing,
//! and three of them put their actor into quarantine.

use bytes::Bytes;
use springbok_common::{
    reject::{RejectReason, Verdict},
    step::StepOutcome,
    version::PolicyVersion,
    wire::RETRY_PUSHBACK,
};
use springbok_proto::v1::{self, Episode, actor_message::Kind};
use tonic::Code;

use super::{
    harness::{PAYLOAD, join_request, start},
    *,
};
use crate::quarantine::{Quarantine, QuarantineLimits};

/// First, middle and last of so many.
fn at(position: usize, len: usize) -> usize {
    [0, len / 2, len - 1][position]
}

/// Puts a number where a tensor has its first, middle or last one.
fn put(tensor: &mut Bytes, position: usize, value: [u8; 4]) {
    let mut bytes = tensor.to_vec();
    let index = 4 * at(position, bytes.len() / 4);
    bytes[index..index + 4].copy_from_slice(&value);
    *tensor = bytes.into();
}

fn put_float(tensor: &mut Bytes, position: usize, value: f32) {
    put(tensor, position, value.to_le_bytes());
}

/// Nothing, a number too few, or a byte too many.
fn resize(tensor: &mut Bytes, position: usize) {
    let len = tensor.len();
    let mut bytes = tensor.to_vec();
    bytes.resize([0, len.saturating_sub(4), len + 1][position], 0);
    if bytes.len() == len {
        bytes.push(0);
    }
    *tensor = bytes.into();
}

fn put_outcome(unroll: &mut v1::Unroll, row: usize, outcome: u8) {
    let mut bytes = unroll.outcomes.to_vec();
    bytes[row] = outcome;
    unroll.outcomes = bytes.into();
}

/// Damages a good unroll of 4 steps of 2 environments, whose row 5 is truncated, at one of three positions.
pub(crate) type Damage = fn(&mut v1::Unroll, usize);

/// The actor's fault, or only its timing.
pub(crate) const CASES: &[(RejectReason, Damage)] = &[
    (RejectReason::WrongRun, |unroll, position| {
        let mut bytes = unroll.run_id.to_vec();
        bytes[at(position, 16)] ^= 1;
        unroll.run_id = bytes.into();
    }),
    (RejectReason::WrongEpoch, |unroll, position| {
        unroll.learner_epoch = [0, 2, u32::MAX][position];
    }),
    (RejectReason::FutureVersion, |unroll, position| {
        unroll.policy_version = [6, 1000, u64::MAX][position];
    }),
    (RejectReason::TooStale, |unroll, position| {
        unroll.policy_version = [2, 1, 0][position];
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.observations, position);
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.bootstrap_observations, position);
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.final_observations, position);
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.actions, position)
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.rewards, position)
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.behaviour_log_probs, position);
    }),
    (RejectReason::WrongShape, |unroll, position| {
        resize(&mut unroll.outcomes, position)
    }),
    (RejectReason::WrongShape, |unroll, position| {
        unroll.action_masks = vec![1; [1, 8, 16][position]].into();
    }),
    (RejectReason::WrongShape, |unroll, position| {
        unroll.core_states = vec![0; [1, 4, 64][position]].into();
    }),
    (RejectReason::WrongShape, |unroll, position| {
        unroll.episodes = vec![Episode::default(); [9, 100, 10_000][position]];
    }),
    (RejectReason::WrongShape, |unroll, position| {
        unroll.step_version_deltas = vec![0; [1, 3, 5][position]];
    }),
    (RejectReason::WrongStepVersions, |unroll, position| {
        unroll.step_version_deltas =
            [vec![1, 0, 0, 0], vec![0, u64::MAX, 0, 0], vec![9; 4]][position].clone();
    }),
    // The step claims a version that was never published, nor is in a short run.
    (RejectReason::FutureVersion, |unroll, position| {
        unroll.step_version_deltas =
            [vec![0, 6, 0, 0], vec![0, 0, 0, 7], vec![0, 0, 1 << 60, 0]][position].clone();
    }),
    (RejectReason::UnknownOutcome, |unroll, position| {
        put_outcome(unroll, at(position, 8), [5, 9, 255][position]);
    }),
    // A void row that follows none that ended.
    (RejectReason::UnknownOutcome, |unroll, position| {
        put_outcome(unroll, [2, 4, 6][position], StepOutcome::Void as u8);
    }),
    (RejectReason::WrongFinalObservations, |unroll, position| {
        unroll.final_rows = vec![[0, 4, u32::MAX][position]];
    }),
    (RejectReason::WrongFinalObservations, |unroll, position| {
        put_outcome(unroll, at(position, 8), StepOutcome::Truncated as u8);
    }),
    (RejectReason::ActionOutOfRange, |unroll, position| {
        put(
            &mut unroll.actions,
            position,
            [2_u32, 7, u32::MAX][position].to_le_bytes(),
        );
    }),
    (RejectReason::LogProbOutOfRange, |unroll, position| {
        put_float(
            &mut unroll.behaviour_log_probs,
            position,
            [0.1, 1e30, f32::INFINITY][position],
        );
    }),
    (RejectReason::LogProbOutOfRange, |unroll, position| {
        let values = [-50.1, -1e30, f32::NEG_INFINITY];
        put_float(&mut unroll.behaviour_log_probs, position, values[position]);
    }),
    (RejectReason::LogProbOutOfRange, |unroll, position| {
        put_float(&mut unroll.behaviour_log_probs, position, f32::NAN);
    }),
    (RejectReason::NonFiniteObservation, |unroll, position| {
        put_float(&mut unroll.observations, position, f32::NAN);
    }),
    (RejectReason::NonFiniteObservation, |unroll, position| {
        put_float(&mut unroll.bootstrap_observations, position, f32::INFINITY);
    }),
    (RejectReason::NonFiniteObservation, |unroll, position| {
        put_float(&mut unroll.final_observations, position, f32::NEG_INFINITY);
    }),
    (RejectReason::NonFiniteReward, |unroll, position| {
        put_float(&mut unroll.rewards, position, f32::NAN);
    }),
    (RejectReason::NonFiniteReward, |unroll, position| {
        put_float(&mut unroll.rewards, position, f32::INFINITY);
    }),
    (RejectReason::NonFiniteReward, |unroll, position| {
        unroll.episodes = vec![Episode::default(); 3];
        unroll.episodes[position].episode_return = f64::NAN;
    }),
    (RejectReason::RewardOutOfRange, |unroll, position| {
        put_float(
            &mut unroll.rewards,
            position,
            [REWARD_ABS_MAX * 1.01, -1e9, f32::MAX][position],
        );
    }),
];

/// As `limits.reward_abs_max`.
pub(crate) const REWARD_ABS_MAX: f32 = 10.0;

fn limits() -> LimitsConfig {
    LimitsConfig {
        reward_abs_max: Some(f64::from(REWARD_ABS_MAX)),
        ..LimitsConfig::default()
    }
}

#[tokio::test]
async fn every_kind_of_poison_at_every_position_gets_its_reason_and_harms_nobody_else() {
    let harness = start(256, limits()).await;
    harness.publisher.publish(PolicyVersion(5), PAYLOAD);
    let good = |sequence| v1::Unroll {
        policy_version: 5,
        ..harness.unroll(sequence)
    };
    let mut other = harness.actor().await;
    let mut poisoned = 0;
    for (index, (reason, damage)) in (1..).zip(CASES) {
        let actor = harness.join(Some(index)).await;
        let mut peer = harness.stream(Kind::Hello(harness.hello(actor))).await;
        for position in 0..3 {
            let mut unroll = good(position as u64 + 1);
            damage(&mut unroll, position);
            let verdict = peer.verdict(unroll).await;
            assert_eq!(
                verdict,
                Verdict::Rejected(*reason),
                "case {index} at {position}"
            );
        }
        if reason.is_poison() {
            poisoned += 3;
            assert_eq!(peer.end().await, Code::FailedPrecondition, "case {index}");
        } else {
            // To come at the wrong time is no fault; the gap of two is two lost.
            assert_eq!(peer.verdict(good(6)).await, Verdict::Admitted);
        }
        assert_eq!(other.verdict(good(index.into())).await, Verdict::Admitted);
    }
    let cases = CASES.len() as u64;
    let counts = harness.counts();
    assert_eq!((counts.rejected, counts.lost), (3 * cases, 2 * 5));
    assert_eq!(counts.admitted, cases + 5);
    // Only the good ones can reach the trainer.
    assert_eq!(harness.queue.clear(), cases + 5);
    let books = harness.books.lock();
    assert_eq!(
        books.ledger.rejected_by_reason().len(),
        RejectReason::ALL.len()
    );
    let quarantine = books.quarantine.summary();
    assert_eq!(
        (quarantine.strikes, quarantine.quarantines),
        (poisoned, poisoned / 3)
    );
    // The place of the honest one is not among them.
    assert!(
        quarantine
            .actors
            .iter()
            .all(|one| one.actor != 0 && one.strikes == 3)
    );
}

#[tokio::test]
async fn an_actor_in_quarantine_is_told_when_to_come_back_and_then_serves_again() {
    let harness = start(8, limits()).await;
    let poison = |sequence| {
        let mut unroll = harness.unroll(sequence);
        put_float(&mut unroll.rewards, 1, f32::NAN);
        unroll
    };
    let actor = harness.join(Some(3)).await;
    let mut peer = harness.stream(Kind::Hello(harness.hello(actor))).await;
    for sequence in 1..=3 {
        peer.verdict(poison(sequence)).await;
    }
    assert_eq!(peer.end().await, Code::FailedPrecondition);
    // It has no stream without joining, and neither it nor a new life of it may join.
    let mut stream = harness.stream(Kind::Hello(harness.hello(actor))).await;
    assert_eq!(stream.end().await, Code::FailedPrecondition);
    for again in [actor, ActorId::random()] {
        let refused = harness.client().join(join_request(again, Some(3))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("place 3"), "{refused}");
        let wait = refused.metadata().get(RETRY_PUSHBACK).unwrap();
        let wait: u64 = wait.to_str().unwrap().parse().unwrap();
        assert!((1..=10_000).contains(&wait), "{wait} ms");
    }
    // An honest one behind the same address has a place, and one that may be the offender only one strike.
    assert_eq!(harness.join(Some(2)).await.to_bytes().len(), 16);
    let mut newcomer = harness.actor().await;
    newcomer.verdict(poison(1)).await;
    assert_eq!(newcomer.end().await, Code::FailedPrecondition);
    // Its time is over.
    harness.books.lock().quarantine = Quarantine::new(QuarantineLimits::default());
    let reply = harness.client().join(join_request(actor, Some(3))).await;
    assert!(reply.is_ok(), "{reply:?}");
    let mut peer = harness.stream(Kind::Hello(harness.hello(actor))).await;
    assert_eq!(peer.verdict(harness.unroll(3)).await, Verdict::Duplicate);
    assert_eq!(peer.verdict(harness.unroll(4)).await, Verdict::Admitted);
    assert_eq!(harness.counts().produced, 5);
}
