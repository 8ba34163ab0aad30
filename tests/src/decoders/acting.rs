//! Messages of central inference.

use prost::Message;
use springbok_common::{
    acting::{Acted, ActedParts, ObservedParts},
    arrays::{Actions, Elements},
    step::StepOutcome,
    unroll::{Agreement, Served},
    version::PolicyVersion,
    wire,
};
use springbok_proto::v1;

use super::{Example, samples::agreements, wire::message};

const NAMES: [&str; 3] = ["plain", "rich", "torque"];

fn shown() -> [ObservedParts; 3] {
    let plain = ObservedParts {
        observations: Elements::F32(vec![0.1, 0.2, 0.3, 0.4]),
        action_masks: Vec::new(),
        outcomes: vec![StepOutcome::Continued, StepOutcome::LifeLost],
        wants_states: true,
    };
    let rich = ObservedParts {
        observations: Elements::U8(vec![9; 4]),
        action_masks: [1, 0, 1, 0, 1].repeat(2),
        ..plain.clone()
    };
    let torque = ObservedParts {
        outcomes: Vec::new(),
        wants_states: false,
        ..plain.clone()
    };
    [plain, rich, torque]
}

pub(super) fn observations() -> Vec<Example> {
    let shown = shown().map(|parts| wire::encode_observed(&parts).encode_to_vec());
    NAMES.into_iter().zip(shown).collect()
}

/// What the learner acts upon has the shape that it relies on, and survives the wire.
pub(super) fn observed(bytes: &[u8]) -> bool {
    let Some(message) = message::<v1::Observed>(bytes) else {
        return false;
    };
    let mut taken = false;
    for agreement in agreements() {
        let Ok(observed) = wire::decode_observed(message.clone(), &agreement) else {
            continue;
        };
        let (parts, environment) = (observed.parts(), &agreement.environment);
        assert_eq!(parts.observations.len(), 2 * environment.observation.len());
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        assert!(parts.observations.as_ref().as_f32().is_none_or(finite));
        assert_eq!(parts.action_masks.len(), 2 * environment.mask_len());
        assert!(matches!(parts.outcomes.len(), 0 | 2));
        assert!(bytes_bound(&agreement, &wire::encode_observed(parts)));
        let again = wire::decode_observed(wire::encode_observed(parts), &agreement);
        assert_eq!(again.as_ref(), Ok(&observed));
        taken = true;
    }
    taken
}

fn bytes_bound(agreement: &Agreement, message: &impl Message) -> bool {
    message.encoded_len() <= wire::act_message_bytes(agreement)
}

pub(super) fn replies() -> Vec<Example> {
    let served = Served {
        newest: PolicyVersion(11),
        issued_us: 7_000_000,
    };
    let reply = |actions, log_prob: f32, states| ActedParts {
        served,
        actions,
        log_probs: vec![log_prob; 2],
        states,
    };
    let chosen = [
        reply(Actions::Indices(vec![0, 2]), -1.1, Vec::new()),
        reply(Actions::Indices(vec![2, 1, 0, 1]), -1.1, vec![0.5; 6]),
        reply(Actions::Values(vec![2.5; 4]), 3.0, Vec::new()),
    ];
    let chosen = chosen.into_iter().zip(agreements());
    let encoded = chosen.map(|(parts, agreement)| {
        let acted = Acted::new(parts, &agreement).expect("a good answer");
        wire::encode_acted(&acted).encode_to_vec()
    });
    NAMES.into_iter().zip(encoded).collect()
}

/// What an actor takes for its environments is of their action space, and survives the wire.
pub(super) fn acted(bytes: &[u8]) -> bool {
    let Some(message) = message::<v1::ActReply>(bytes) else {
        return false;
    };
    let mut taken = false;
    for agreement in agreements() {
        let Ok(acted) = wire::decode_acted(message.clone(), &agreement) else {
            continue;
        };
        let (parts, action) = (acted.parts(), &agreement.environment.action);
        assert_eq!(parts.actions.len(), 2 * action.len());
        let heads = action.heads();
        for (at, &index) in parts.actions.as_ref().indices().iter().enumerate() {
            assert!(index < heads[at % heads.len()]);
        }
        assert!(parts.log_probs.iter().all(|value| value.is_finite()));
        assert!(bytes_bound(&agreement, &wire::encode_acted(&acted)));
        let again = wire::decode_acted(wire::encode_acted(&acted), &agreement);
        assert_eq!(again.as_ref(), Ok(&acted));
        taken = true;
    }
    taken
}
