//! Unrolls and their acknowledgements.

mod frames;

use bytes::Bytes;
use springbok_proto::v1;

pub use self::frames::FrameCompressor;

use super::tensor::{
    action_bytes, action_values, element_bytes, element_values, f32_bytes, f32_values,
};
use crate::{
    arrays::{ElementType, Elements},
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
        zstd_observations: Bytes::new(),
    }
}

/// `[T]`: each version less the one before it; of the first, less `begin`.
fn deltas(begin: PolicyVersion, versions: &[PolicyVersion]) -> Vec<u64> {
    let before = std::iter::once(&begin).chain(versions);
    let pairs = versions.iter().zip(before);
    pairs
        .map(|(version, before)| version.0.saturating_sub(before.0))
        .collect()
}

/// `[T]`: the versions that go up from `begin` by `deltas`; `None` beyond the largest version that there can be.
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
pub fn decode_unroll(
    mut message: v1::Unroll,
    agreement: &Agreement,
) -> Result<Unroll, RejectReason> {
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
    let lens = [rows * width, columns * width, finals * width];
    let [observations, bootstrap_observations, final_observations] =
        observations(&mut message, environment.observation.element, lens)
            .ok_or(RejectReason::WrongShape)?;
    let numbers = rows * environment.action.len();
    let timing = message.timing.unwrap_or_default();
    let parts = UnrollParts {
        header,
        step_versions: step_versions(header.version, &message.step_version_deltas)
            .ok_or(RejectReason::WrongStepVersions)?,
        observations,
        bootstrap_observations,
        actions: action_values(&message.actions, &environment.action, numbers)
            .ok_or(RejectReason::WrongShape)?,
        action_masks: message.action_masks.into(),
        rewards: floats(&message.rewards, rows)?,
        behaviour_log_probs: floats(&message.behaviour_log_probs, rows)?,
        final_observations,
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

/// Observations, those after the last step and those before a reset, of `lens` elements, however they travelled.
fn observations(
    message: &mut v1::Unroll,
    element: ElementType,
    lens: [usize; 3],
) -> Option<[Elements; 3]> {
    if !message.zstd_observations.is_empty() {
        return (element == ElementType::U8).then(|| frames::unpack(message, lens))?;
    }
    let [rows, bootstrap, last] = lens;
    Some([
        element_values(&message.observations, element, rows)?,
        element_values(&message.bootstrap_observations, element, bootstrap)?,
        element_values(&message.final_observations, element, last)?,
    ])
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
mod tests;
