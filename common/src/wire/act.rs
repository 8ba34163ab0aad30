//! Acting at a distance: observations up, actions down.

use bytes::Bytes;
use springbok_proto::v1;

use super::tensor::{
    action_bytes, action_values, element_bytes, element_values, f32_bytes, f32_values,
};
use crate::{
    acting::{Acted, ActedParts, Observed, ObservedParts},
    reject::RejectReason,
    step::StepOutcome,
    unroll::{Agreement, Served},
    version::PolicyVersion,
};

/// `observed` for the wire.
#[must_use]
pub fn encode_observed(observed: &ObservedParts) -> v1::Observed {
    v1::Observed {
        observations: element_bytes(&observed.observations),
        action_masks: observed.action_masks.clone().into(),
        outcomes: observed
            .outcomes
            .iter()
            .map(|&outcome| outcome as u8)
            .collect(),
        wants_core_states: observed.wants_states,
    }
}

/// Reads and checks what an actor shows.
///
/// # Errors
/// The first [`RejectReason`] that applies.
pub fn decode_observed(
    message: v1::Observed,
    agreement: &Agreement,
) -> Result<Observed, RejectReason> {
    let (environment, columns) = (&agreement.environment, agreement.rollout.environments);
    let elements = columns * environment.observation.len();
    if message.action_masks.len() != columns * environment.mask_len() {
        return Err(RejectReason::WrongShape);
    }
    if ![0, columns].contains(&message.outcomes.len()) {
        return Err(RejectReason::WrongShape);
    }
    let observations = &message.observations;
    let parts = ObservedParts {
        observations: element_values(observations, environment.observation.element, elements)
            .ok_or(RejectReason::WrongShape)?,
        action_masks: message.action_masks.into(),
        outcomes: message
            .outcomes
            .iter()
            .map(|&byte| StepOutcome::from_byte(byte))
            .collect::<Option<_>>()
            .ok_or(RejectReason::UnknownOutcome)?,
        wants_states: message.wants_core_states,
    };
    Observed::new(parts, agreement)
}

/// `acted` for the wire.
#[must_use]
pub fn encode_acted(acted: &Acted) -> v1::ActReply {
    let parts = acted.parts();
    v1::ActReply {
        policy_version: parts.served.newest.0,
        issued_us: parts.served.issued_us,
        actions: action_bytes(&parts.actions),
        behaviour_log_probs: f32_bytes(&parts.log_probs),
        core_states: f32_bytes(&parts.states),
    }
}

/// Reads and checks what the learner chose.
///
/// # Errors
/// The first [`RejectReason`] that applies.
pub fn decode_acted(message: v1::ActReply, agreement: &Agreement) -> Result<Acted, RejectReason> {
    let (environment, columns) = (&agreement.environment, agreement.rollout.environments);
    let states = columns * agreement.network.state_len();
    let floats = |bytes: &Bytes, len: usize| f32_values(bytes, len).ok_or(RejectReason::WrongShape);
    let parts = ActedParts {
        served: Served {
            newest: PolicyVersion(message.policy_version),
            issued_us: message.issued_us,
        },
        actions: action_values(
            &message.actions,
            &environment.action,
            columns * environment.action.len(),
        )
        .ok_or(RejectReason::WrongShape)?,
        log_probs: floats(&message.behaviour_log_probs, columns)?,
        states: if message.core_states.is_empty() {
            Vec::new()
        } else {
            floats(&message.core_states, states)?
        },
    };
    Acted::new(parts, agreement)
}

/// Upper bound of the bytes that one encoded request to act takes, and of its answer.
#[must_use]
pub fn act_message_bytes(agreement: &Agreement) -> usize {
    let (environment, columns) = (&agreement.environment, agreement.rollout.environments);
    let shown = environment.observation.row_bytes() + environment.mask_len() + 1;
    let chosen = 4 * (environment.action.len() + 1 + agreement.network.state_len());
    columns * shown.max(chosen) + 64
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

    /// Bytes, masked multi-discrete actions and a memory; or numbers and continuous actions.
    fn agreement(continuous: bool) -> Agreement {
        let environment = if continuous {
            let action = ActionSpec::Box {
                low: vec![-1.0, 0.0],
                high: vec![1.0, f32::INFINITY],
            };
            EnvironmentSpec::new("Torque", ObservationSpec::floats([3], [-1.0, 1.0]), action)
        } else {
            let heads = ActionSpec::MultiDiscrete(vec![3, 2]);
            EnvironmentSpec::new("Rich", ObservationSpec::bytes([3], 255), heads).with_action_mask()
        };
        let mut network = NetworkSpec::mlp(&environment, vec![4], Activation::Relu, true);
        network.core = CoreSpec::Gru { size: 2 };
        Agreement {
            environment,
            network,
            rollout: RolloutShape {
                unroll_length: 5,
                environments: 2,
            },
        }
    }

    fn observed(continuous: bool) -> ObservedParts {
        let (observations, action_masks) = if continuous {
            (Elements::F32(vec![0.5; 6]), Vec::new())
        } else {
            (
                Elements::U8((0..6).collect()),
                vec![1, 0, 1, 0, 1, 0, 0, 1, 1, 1],
            )
        };
        ObservedParts {
            observations,
            action_masks,
            outcomes: vec![StepOutcome::Continued, StepOutcome::Truncated],
            wants_states: true,
        }
    }

    fn acted(continuous: bool) -> ActedParts {
        ActedParts {
            served: Served {
                newest: PolicyVersion(u64::MAX),
                issued_us: u64::MAX,
            },
            actions: if continuous {
                Actions::Values(vec![-3.5, 0.0, 2.0, 7.5])
            } else {
                Actions::Indices(vec![2, 1, 0, 1])
            },
            log_probs: vec![-0.5, -1.5],
            states: vec![0.25; 4],
        }
    }

    #[test]
    fn what_is_shown_and_chosen_survives_the_wire_within_its_bound() {
        for continuous in [false, true] {
            let agreement = agreement(continuous);
            for outcomes in [observed(continuous).outcomes, Vec::new()] {
                let parts = ObservedParts {
                    outcomes,
                    ..observed(continuous)
                };
                let message = encode_observed(&parts);
                let bound = act_message_bytes(&agreement);
                assert!(springbok_proto::encoded_len(&message) <= bound);
                let read = decode_observed(message, &agreement).unwrap();
                assert_eq!(read.parts(), &parts);
            }
            for states in [acted(continuous).states, Vec::new()] {
                let parts = ActedParts {
                    states,
                    ..acted(continuous)
                };
                let acted = Acted::new(parts, &agreement).unwrap();
                let message = encode_acted(&acted);
                assert!(springbok_proto::encoded_len(&message) <= act_message_bytes(&agreement));
                assert_eq!(decode_acted(message, &agreement), Ok(acted));
            }
        }
    }

    #[test]
    fn each_fault_of_what_is_shown_has_its_reason() {
        type Spoil = fn(&mut v1::Observed);
        let cases: [(RejectReason, Spoil); 8] = [
            (RejectReason::WrongShape, |m| m.observations = Bytes::new()),
            (RejectReason::WrongShape, |m| {
                m.observations = vec![0; 7].into()
            }),
            (RejectReason::WrongShape, |m| {
                m.action_masks = vec![1; 9].into()
            }),
            (RejectReason::WrongShape, |m| m.outcomes = vec![0].into()),
            (RejectReason::UnknownOutcome, |m| {
                m.outcomes = vec![0, 5].into()
            }),
            (RejectReason::ActionOutOfRange, |m| {
                m.action_masks = vec![2; 10].into()
            }),
            // Nothing is left of the second head of the second environment.
            (RejectReason::ActionOutOfRange, |m| {
                m.action_masks = vec![1, 1, 1, 1, 1, 1, 1, 1, 0, 0].into();
            }),
            (RejectReason::ActionOutOfRange, |m| {
                m.action_masks = vec![0, 0, 0, 1, 1, 1, 1, 1, 1, 1].into();
            }),
        ];
        let agreement_ = agreement(false);
        for (reason, spoil) in cases {
            let mut message = encode_observed(&observed(false));
            spoil(&mut message);
            assert_eq!(decode_observed(message, &agreement_), Err(reason));
        }
        let mut message = encode_observed(&observed(true));
        message.observations = f32_bytes(&[0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0]);
        let refused = decode_observed(message, &agreement(true));
        assert_eq!(refused, Err(RejectReason::NonFiniteObservation));
    }

    #[test]
    fn each_fault_of_what_is_chosen_has_its_reason() {
        type Spoil = fn(&mut v1::ActReply);
        let cases: [(bool, RejectReason, Spoil); 7] = [
            (false, RejectReason::WrongShape, |m| {
                m.actions = vec![0; 12].into()
            }),
            (false, RejectReason::WrongShape, |m| {
                m.core_states = vec![0; 4].into()
            }),
            (false, RejectReason::WrongShape, |m| {
                m.behaviour_log_probs = Bytes::new()
            }),
            (false, RejectReason::ActionOutOfRange, |m| {
                m.actions = action_bytes(&Actions::Indices(vec![0, 1, 3, 0]));
            }),
            (true, RejectReason::ActionOutOfRange, |m| {
                m.actions = f32_bytes(&[0.0, f32::INFINITY, 0.0, 0.0]);
            }),
            (false, RejectReason::LogProbOutOfRange, |m| {
                m.behaviour_log_probs = f32_bytes(&[-0.5, f32::NAN]);
            }),
            (false, RejectReason::NonFiniteObservation, |m| {
                m.core_states = f32_bytes(&[0.0, 0.0, f32::NAN, 0.0]);
            }),
        ];
        for (continuous, reason, spoil) in cases {
            let agreement = agreement(continuous);
            let good = Acted::new(acted(continuous), &agreement).unwrap();
            let mut message = encode_acted(&good);
            spoil(&mut message);
            assert_eq!(decode_acted(message, &agreement), Err(reason));
        }
    }
}
