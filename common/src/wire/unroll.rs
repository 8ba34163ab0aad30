//! Unrolls and their acknowledgements.

use bytes::Bytes;
use springbok_proto::v1;

use super::tensor::{
    action_bytes, action_values, element_bytes, element_values, f32_bytes, f32_values,
};
use crate::{
    ids::{RunId, UnrollSequence},
    reject::{RejectReason, Verdict},
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Served, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    version::{LearnerEpoch, PolicyVersion},
};

/// `unroll` for the wire.
#[must_use]
pub fn encode_unroll(unroll: &Unroll) -> v1::Unroll {
    let parts = unroll.parts();
    let header = parts.header;
    v1::Unroll {
        run_id: header.run_id.to_bytes().to_vec().into(),
        learner_epoch: header.epoch.0,
        sequence: header.sequence.0,
        policy_version: header.version.0,
        step_version_deltas: deltas(header.version, &parts.step_versions),
        observations: element_bytes(&parts.observations),
        bootstrap_observations: element_bytes(&parts.bootstrap_observations),
        actions: action_bytes(&parts.actions),
        action_masks: parts.action_masks.clone().into(),
        core_states: f32_bytes(&parts.core_states),
        rewards: f32_bytes(&parts.rewards),
        behaviour_log_probs: f32_bytes(&parts.behaviour_log_probs),
        outcomes: parts
            .outcomes
            .iter()
            .map(|&outcome| outcome as u8)
            .collect(),
        final_rows: parts.final_rows.clone(),
        final_observations: element_bytes(&parts.final_observations),
        episodes: parts
            .episodes
            .iter()
            .map(|episode| v1::Episode {
                episode_return: episode.episode_return,
                length: episode.length,
            })
            .collect(),
        timing: Some(v1::Timing {
            rollout_us: parts.timing.rollout_us,
            outbox_us: parts.timing.outbox_us,
            environment_us: parts.timing.environment_us,
            inference_us: parts.timing.inference_us,
            blocked_us: parts.timing.blocked_us,
            held_us: parts.timing.held_us,
            newest_version: parts.timing.served.newest.0,
            issued_us: parts.timing.served.issued_us,
        }),
        // Its sender knows.
        traceparent: String::new(),
    }
}

/// [T]: each version less the one before it; of the first, less `begin`.
fn deltas(begin: PolicyVersion, versions: &[PolicyVersion]) -> Vec<u64> {
    let before = std::iter::once(&begin).chain(versions);
    let pairs = versions.iter().zip(before);
    pairs
        .map(|(version, before)| version.0.saturating_sub(before.0))
        .collect()
}

/// [T]: the versions that go up from `begin` by `deltas`; `None` beyond the largest version that there can be.
fn step_versions(begin: PolicyVersion, deltas: &[u64]) -> Option<Vec<PolicyVersion>> {
    let mut version = begin.0;
    let versions = deltas.iter().map(|delta| {
        version = version.checked_add(*delta)?;
        Some(PolicyVersion(version))
    });
    versions.collect()
}

/// Where a message says it belongs; `None` if its run id is not 16 bytes or its sequence number is 0.
#[must_use]
pub fn decode_header(message: &v1::Unroll) -> Option<UnrollHeader> {
    let run_id = RunId::from_bytes(&message.run_id)?;
    (message.sequence > 0).then_some(UnrollHeader {
        run_id,
        epoch: LearnerEpoch(message.learner_epoch),
        sequence: UnrollSequence(message.sequence),
        version: PolicyVersion(message.policy_version),
    })
}

/// Reads and checks a message from an actor.
///
/// # Errors
/// The first [`RejectReason`] that applies to its content; whether its header fits is for the caller to say.
pub fn decode_unroll(message: v1::Unroll, agreement: &Agreement) -> Result<Unroll, RejectReason> {
    let header = decode_header(&message).ok_or(RejectReason::WrongRun)?;
    let environment = &agreement.environment;
    let (rows, columns) = (agreement.rollout.steps(), agreement.rollout.environments);
    let width = environment.observation.len();
    let finals = message.final_rows.len();
    if finals > rows || message.episodes.len() > rows || message.outcomes.len() != rows {
        return Err(RejectReason::WrongShape);
    }
    if message.step_version_deltas.len() > agreement.rollout.unroll_length {
        return Err(RejectReason::WrongShape);
    }
    let masks = rows * environment.mask_len();
    if message.action_masks.len() != masks {
        return Err(RejectReason::WrongShape);
    }
    let floats = |bytes: &[u8], len: usize| f32_values(bytes, len).ok_or(RejectReason::WrongShape);
    let elements = |bytes: &Bytes, len: usize| {
        element_values(bytes, environment.observation.element, len).ok_or(RejectReason::WrongShape)
    };
    let numbers = rows * environment.action.len();
    let timing = message.timing.unwrap_or_default();
    let parts = UnrollParts {
        header,
        step_versions: step_versions(header.version, &message.step_version_deltas)
            .ok_or(RejectReason::WrongStepVersions)?,
        observations: elements(&message.observations, rows * width)?,
        bootstrap_observations: elements(&message.bootstrap_observations, columns * width)?,
        actions: action_values(&message.actions, &environment.action, numbers)
            .ok_or(RejectReason::WrongShape)?,
        action_masks: message.action_masks.into(),
        rewards: floats(&message.rewards, rows)?,
        behaviour_log_probs: floats(&message.behaviour_log_probs, rows)?,
        final_observations: elements(&message.final_observations, finals * width)?,
        core_states: floats(
            &message.core_states,
            columns * agreement.network.state_len(),
        )?,
        outcomes: message
            .outcomes
            .iter()
            .map(|&byte| StepOutcome::from_byte(byte))
            .collect::<Option<_>>()
            .ok_or(RejectReason::UnknownOutcome)?,
        final_rows: message.final_rows,
        episodes: message
            .episodes
            .iter()
            .map(|episode| EpisodeSummary {
                episode_return: episode.episode_return,
                length: episode.length,
            })
            .collect(),
        timing: UnrollTiming {
            rollout_us: timing.rollout_us,
            outbox_us: timing.outbox_us,
            environment_us: timing.environment_us,
            inference_us: timing.inference_us,
            blocked_us: timing.blocked_us,
            held_us: timing.held_us,
            served: Served {
                newest: PolicyVersion(timing.newest_version),
                issued_us: timing.issued_us,
            },
        },
    };
    Unroll::new(parts, agreement)
}

/// `message` as the bytes that it is on the wire.
#[must_use]
pub fn message_bytes(message: &v1::Unroll) -> Bytes {
    springbok_proto::encode(message)
}

/// Reads and checks the bytes of such a message, as [`decode_unroll`] does.
///
/// # Errors
/// As there; bytes that are no message have the wrong shape.
pub fn unroll_of_bytes(bytes: Bytes, agreement: &Agreement) -> Result<Unroll, RejectReason> {
    let message = springbok_proto::decode(bytes).map_err(|_| RejectReason::WrongShape)?;
    decode_unroll(message, agreement)
}

/// Upper bound of the bytes that one encoded unroll takes, all its steps truncated.
#[must_use]
pub fn unroll_message_bytes(agreement: &Agreement) -> usize {
    let environment = &agreement.environment;
    let (rows, columns) = (agreement.rollout.steps(), agreement.rollout.environments);
    let observation = environment.observation.row_bytes();
    // Per row: observation and final observation, action and mask, reward, log-probability, outcome, row number, episode.
    let action = 4 * environment.action.len() + environment.mask_len();
    let row_bytes = 2 * observation + action + 8 + 1 + 5 + 18;
    rows * row_bytes
        + columns * (observation + 4 * agreement.network.state_len())
        + 10 * agreement.rollout.unroll_length
        + 330
}

/// The answer to the unroll with that number.
#[must_use]
pub fn acknowledgement(sequence: UnrollSequence, verdict: Verdict) -> v1::Acknowledgement {
    let (kind, reject_reason, detail) = match verdict {
        Verdict::Admitted => (v1::Verdict::Admitted, "", ""),
        Verdict::Duplicate => (v1::Verdict::Duplicate, "", ""),
        Verdict::Rejected(reason) => (v1::Verdict::Rejected, reason.label(), reason.sentence()),
    };
    v1::Acknowledgement {
        acknowledged_through: sequence.0,
        verdict: kind.into(),
        reject_reason: reject_reason.to_owned(),
        detail: detail.to_owned(),
    }
}

/// What the learner answered; `None` if the message is outside the protocol.
#[must_use]
pub fn parse_acknowledgement(message: &v1::Acknowledgement) -> Option<(UnrollSequence, Verdict)> {
    let verdict = match message.verdict() {
        v1::Verdict::Admitted => Verdict::Admitted,
        v1::Verdict::Duplicate => Verdict::Duplicate,
        v1::Verdict::Rejected => Verdict::Rejected(
            RejectReason::ALL
                .into_iter()
                .find(|reason| reason.label() == message.reject_reason)?,
        ),
        v1::Verdict::Unspecified => return None,
    };
    Some((UnrollSequence(message.acknowledged_through), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arrays::{Actions, Elements},
        spec::{
            ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec,
            RolloutShape,
        },
    };

    fn agreement() -> Agreement {
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
        agreement.network =
            NetworkSpec::mlp(&agreement.environment, vec![4], Activation::Relu, true);
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

    fn parts() -> UnrollParts {
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
}
