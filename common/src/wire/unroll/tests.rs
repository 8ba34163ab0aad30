use super::*;
use crate::{
    arrays::Actions,
    spec::{
        ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec,
        RolloutShape,
    },
};

pub(super) fn agreement() -> Agreement {
    let environment = EnvironmentSpec::new(
        "Test",
        ObservationSpec::floats([2], [-1.0, 1.0]),
        ActionSpec::Discrete(3),
    )
    .with_steps_max(5);
    Agreement {
        network: NetworkSpec::mlp(&environment, vec![4], Activation::Relu, false),
        environment,
        rollout: RolloutShape {
            unroll_length: 3,
            environments: 2,
        },
    }
}

/// Bytes, masked multi-discrete actions and a memory.
fn rich_agreement() -> Agreement {
    let mut agreement = agreement();
    agreement.environment = EnvironmentSpec::new(
        "Rich",
        ObservationSpec::bytes([2], 255),
        ActionSpec::MultiDiscrete(vec![3, 2]),
    )
    .with_action_mask();
    agreement.network = NetworkSpec::mlp(&agreement.environment, vec![4], Activation::Relu, true);
    agreement.network.core = CoreSpec::Gru { size: 3 };
    agreement
}

fn rich_parts() -> UnrollParts {
    let mut parts = parts();
    parts.observations = Elements::U8((0..12).collect());
    parts.bootstrap_observations = Elements::U8(vec![9; 4]);
    parts.final_observations = Elements::U8(vec![7, 8]);
    parts.actions = Actions::Indices([0, 1].repeat(6));
    parts.action_masks = [1, 0, 1, 0, 1].repeat(6);
    parts.core_states = vec![0.5; 6];
    parts
}

pub(super) fn parts() -> UnrollParts {
    let mut outcomes = vec![StepOutcome::Continued; 6];
    outcomes[3] = StepOutcome::Truncated;
    outcomes[4] = StepOutcome::Terminated;
    UnrollParts {
        header: UnrollHeader {
            run_id: RunId::random(),
            epoch: LearnerEpoch(1),
            sequence: UnrollSequence(4),
            version: PolicyVersion(9),
        },
        step_versions: Vec::new(),
        observations: Elements::F32((0..12).map(|i| i as f32 / 12.0).collect()),
        bootstrap_observations: Elements::F32(vec![0.1, 0.2, 0.3, 0.4]),
        actions: Actions::Indices(vec![0, 1, 2, 0, 1, 2]),
        action_masks: Vec::new(),
        core_states: Vec::new(),
        rewards: vec![1.0; 6],
        behaviour_log_probs: vec![-1.1; 6],
        outcomes,
        final_rows: vec![3],
        final_observations: Elements::F32(vec![0.7, 0.8]),
        episodes: vec![EpisodeSummary {
            episode_return: 12.5,
            length: 9,
        }],
        timing: UnrollTiming {
            rollout_us: 5,
            outbox_us: 4,
            environment_us: 3,
            inference_us: 2,
            blocked_us: 1,
            held_us: 6,
            served: Served {
                newest: PolicyVersion(11),
                issued_us: 7,
            },
        },
    }
}

#[test]
fn an_unroll_survives_the_wire() {
    let unroll = Unroll::new(parts(), &agreement()).unwrap();
    let message = encode_unroll(&unroll);
    assert_eq!(decode_unroll(message, &agreement()), Ok(unroll));
}

#[test]
fn the_version_of_each_step_survives_the_wire_and_a_wrong_one_is_refused() {
    let versions = |versions: &[u64]| {
        let mut parts = parts();
        parts.step_versions = versions.iter().copied().map(PolicyVersion).collect();
        Unroll::new(parts, &agreement())
    };
    for good in [[9, 9, 9], [9, 10, 10], [9, 12, u64::MAX]] {
        let unroll = versions(&good).unwrap();
        assert_eq!(unroll.newest_version(), PolicyVersion(good[2]));
        let message = encode_unroll(&unroll);
        assert_eq!(decode_unroll(message, &agreement()), Ok(unroll));
    }
    assert_eq!(versions(&[]).unwrap().newest_version(), PolicyVersion(9));
    let stretches = |made: &[u64]| -> Vec<_> {
        let unroll = versions(made).unwrap();
        let stretches = unroll.stretches().map(|(version, rows)| (version.0, rows));
        stretches.collect()
    };
    assert_eq!(stretches(&[9, 9, 11]), [(9, 0..4), (11, 4..6)]);
    assert_eq!(stretches(&[]), [(9, 0..6)]);
    let reason = |found: Result<Unroll, _>| found.unwrap_err();
    assert_eq!(reason(versions(&[9, 9])), RejectReason::WrongShape);
    for wrong in [[8, 9, 9], [10, 10, 10], [9, 11, 10]] {
        assert_eq!(reason(versions(&wrong)), RejectReason::WrongStepVersions);
    }
    let mut message = encode_unroll(&versions(&[9, 10, 10]).unwrap());
    for (deltas, expected) in [
        (vec![0, 1], RejectReason::WrongShape),
        (vec![0; 4], RejectReason::WrongShape),
        (vec![1, 0, 0], RejectReason::WrongStepVersions),
        (vec![0, 1, u64::MAX], RejectReason::WrongStepVersions),
    ] {
        message.step_version_deltas = deltas;
        let refused = decode_unroll(message.clone(), &agreement());
        assert_eq!(reason(refused), expected);
    }
}

#[test]
fn bytes_masks_memory_and_continuous_actions_survive_the_wire() {
    let agreement = rich_agreement();
    let unroll = Unroll::new(rich_parts(), &agreement).unwrap();
    let message = encode_unroll(&unroll);
    assert_eq!(message.observations.len(), 12, "bytes stay bytes");
    assert!(springbok_proto::encoded_len(&message) <= unroll_message_bytes(&agreement));
    assert_eq!(decode_unroll(message, &agreement), Ok(unroll));

    let mut agreement = agreement;
    agreement.environment.action = ActionSpec::Box {
        low: vec![-1.0, 0.0],
        high: vec![1.0, f32::INFINITY],
    };
    agreement.environment.action_mask = false;
    let mut parts = rich_parts();
    parts.actions = Actions::Values(vec![2.5; 12]);
    parts.action_masks = Vec::new();
    // A density may be above 1.
    parts.behaviour_log_probs = vec![3.0; 6];
    let unroll = Unroll::new(parts.clone(), &agreement).unwrap();
    assert_eq!(
        decode_unroll(encode_unroll(&unroll), &agreement),
        Ok(unroll)
    );
    parts.actions = Actions::Values([&[f32::NAN][..], &[0.0; 11]].concat());
    let refused = Unroll::new(parts, &agreement);
    assert_eq!(refused, Err(RejectReason::ActionOutOfRange));
}

#[test]
fn a_forbidden_action_and_a_misplaced_void_row_are_refused() {
    let agreement = rich_agreement();
    let mut parts = rich_parts();
    // Action 1 of the first head is never allowed.
    parts.actions = Actions::Indices([&[1, 1][..], &[0, 1].repeat(5)].concat());
    let refused = Unroll::new(parts.clone(), &agreement);
    assert_eq!(refused, Err(RejectReason::ActionOutOfRange));
    // Nothing was chosen in a void row; one may begin an unroll.
    parts.outcomes[0] = StepOutcome::Void;
    assert!(Unroll::new(parts.clone(), &agreement).is_ok());
    // Row 5 follows row 3, which was truncated; row 2 follows row 0, which did not end an episode.
    parts.outcomes[5] = StepOutcome::Void;
    assert!(Unroll::new(parts.clone(), &agreement).is_ok());
    parts.outcomes[2] = StepOutcome::Void;
    let refused = Unroll::new(parts, &agreement);
    assert_eq!(refused, Err(RejectReason::UnknownOutcome));
}

/// Each spoilt message must be refused for exactly its reason.
#[test]
fn each_fault_has_its_reason() {
    type Spoil = fn(&mut v1::Unroll);
    let with_first = |bytes: &bytes::Bytes, value: f32| -> bytes::Bytes {
        let mut copy = bytes.to_vec();
        copy[..4].copy_from_slice(&value.to_le_bytes());
        copy.into()
    };
    let unroll = Unroll::new(parts(), &agreement()).unwrap();
    let cases: Vec<(RejectReason, Spoil)> = vec![
        (RejectReason::WrongRun, |m| m.run_id = vec![1].into()),
        (RejectReason::WrongShape, |m| {
            m.observations = m.observations.slice(4..)
        }),
        (RejectReason::WrongShape, |m| {
            m.actions = m.actions.slice(1..)
        }),
        (RejectReason::WrongShape, |m| {
            m.rewards = bytes::Bytes::new()
        }),
        (RejectReason::UnknownOutcome, |m| {
            m.outcomes = vec![0, 0, 0, 2, 1, 7].into();
        }),
        (RejectReason::WrongFinalObservations, |m| {
            m.final_rows = vec![2]
        }),
        (RejectReason::ActionOutOfRange, |m| {
            m.actions = action_bytes(&Actions::Indices(vec![0, 1, 2, 0, 1, 3]));
        }),
    ];
    for (reason, spoil) in cases {
        let mut message = encode_unroll(&unroll);
        spoil(&mut message);
        assert_eq!(decode_unroll(message, &agreement()), Err(reason));
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut message = encode_unroll(&unroll);
        message.observations = with_first(&message.observations, bad);
        assert_eq!(
            decode_unroll(message, &agreement()),
            Err(RejectReason::NonFiniteObservation)
        );
        let mut message = encode_unroll(&unroll);
        message.rewards = with_first(&message.rewards, bad);
        assert_eq!(
            decode_unroll(message, &agreement()),
            Err(RejectReason::NonFiniteReward)
        );
    }
    for bad in [f32::NAN, 0.5, -51.0] {
        let mut message = encode_unroll(&unroll);
        message.behaviour_log_probs = with_first(&message.behaviour_log_probs, bad);
        assert_eq!(
            decode_unroll(message, &agreement()),
            Err(RejectReason::LogProbOutOfRange)
        );
    }
}

#[test]
fn the_bound_on_message_bytes_holds_when_everything_is_truncated() {
    use springbok_proto::encoded_len;
    let agreement = agreement();
    let mut all = parts();
    all.outcomes = vec![StepOutcome::Truncated; 6];
    all.final_rows = (0..6).collect();
    all.final_observations = Elements::F32(vec![0.5; 12]);
    all.episodes = vec![all.episodes[0]; 6];
    all.header.version = PolicyVersion(0);
    all.step_versions = vec![
        PolicyVersion(0),
        PolicyVersion(1 << 62),
        PolicyVersion(1 << 63),
    ];
    let message = encode_unroll(&Unroll::new(all, &agreement).unwrap());
    assert!(encoded_len(&message) <= unroll_message_bytes(&agreement));
}

#[test]
fn verdicts_survive_the_wire() {
    let verdicts = RejectReason::ALL.map(Verdict::Rejected);
    for verdict in [Verdict::Admitted, Verdict::Duplicate]
        .iter()
        .chain(&verdicts)
    {
        let message = acknowledgement(UnrollSequence(3), *verdict);
        assert_eq!(
            parse_acknowledgement(&message),
            Some((UnrollSequence(3), *verdict))
        );
    }
}
