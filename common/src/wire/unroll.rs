//! Unrolls and their acknowledgements.

use springbok_proto::v1;

use super::tensor::{f32_bytes, f32_values, u32_bytes, u32_values};
use crate::{
    ids::{RunId, UnrollSequence},
    reject::{RejectReason, Verdict},
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
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
        observations: f32_bytes(&parts.observations),
        bootstrap_observations: f32_bytes(&parts.bootstrap_observations),
        actions: u32_bytes(&parts.actions),
        rewards: f32_bytes(&parts.rewards),
        behaviour_log_probs: f32_bytes(&parts.behaviour_log_probs),
        outcomes: parts
            .outcomes
            .iter()
            .map(|&outcome| outcome as u8)
            .collect(),
        final_rows: parts.final_rows.clone(),
        final_observations: f32_bytes(&parts.final_observations),
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
        }),
    }
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
    let rows = agreement.rollout.steps();
    let width = agreement.environment.observation.len();
    let finals = message.final_rows.len();
    if finals > rows || message.episodes.len() > rows || message.outcomes.len() != rows {
        return Err(RejectReason::WrongShape);
    }
    let floats = |bytes: &[u8], len: usize| f32_values(bytes, len).ok_or(RejectReason::WrongShape);
    let timing = message.timing.unwrap_or_default();
    let parts = UnrollParts {
        header,
        observations: floats(&message.observations, rows * width)?,
        bootstrap_observations: floats(
            &message.bootstrap_observations,
            agreement.rollout.environments * width,
        )?,
        actions: u32_values(&message.actions, rows).ok_or(RejectReason::WrongShape)?,
        rewards: floats(&message.rewards, rows)?,
        behaviour_log_probs: floats(&message.behaviour_log_probs, rows)?,
        final_observations: floats(&message.final_observations, finals * width)?,
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
        },
    };
    Unroll::new(parts, agreement)
}

/// Upper bound of the bytes that one encoded unroll takes, all its steps truncated.
#[must_use]
pub fn unroll_message_bytes(agreement: &Agreement) -> usize {
    let rows = agreement.rollout.steps();
    let width = agreement.environment.observation.len();
    // Per row: observation and final observation, action, reward, log-probability, outcome, row number, episode.
    let row_bytes = 8 * width + 12 + 1 + 5 + 18;
    rows * row_bytes + agreement.rollout.environments * width * 4 + 256
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
    use crate::spec::{
        ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec, RolloutShape,
    };

    fn agreement() -> Agreement {
        Agreement {
            environment: EnvironmentSpec {
                id: "Test".into(),
                observation: ObservationSpec {
                    shape: vec![2],
                    bounds: [-1.0, 1.0],
                },
                action: ActionSpec::Discrete(3),
                episode_steps_max: Some(5),
            },
            network: NetworkSpec {
                observation_len: 2,
                logits: 3,
                hidden_sizes: vec![4],
                activation: Activation::Relu,
                shared_torso: false,
            },
            rollout: RolloutShape {
                unroll_length: 3,
                environments: 2,
            },
        }
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
            observations: (0..12).map(|i| i as f32 / 12.0).collect(),
            bootstrap_observations: vec![0.1, 0.2, 0.3, 0.4],
            actions: vec![0, 1, 2, 0, 1, 2],
            rewards: vec![1.0; 6],
            behaviour_log_probs: vec![-1.1; 6],
            outcomes,
            final_rows: vec![3],
            final_observations: vec![0.7, 0.8],
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
            },
        }
    }

    #[test]
    fn an_unroll_survives_the_wire() {
        let unroll = Unroll::new(parts(), &agreement()).unwrap();
        let message = encode_unroll(&unroll);
        assert_eq!(decode_unroll(message, &agreement()), Ok(unroll));
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
                m.actions = u32_bytes(&[0, 1, 2, 0, 1, 3]);
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
        all.final_observations = vec![0.5; 12];
        all.episodes = vec![all.episodes[0]; 6];
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
