//! Acting at a distance: what an actor shows the learner before a step of its environments, and what it is answered.

use crate::{
    arrays::{Actions, Elements},
    reject::RejectReason,
    spec::{ActionSpec, EnvironmentSpec},
    step::StepOutcome,
    unroll::{Agreement, Served, all_finite, log_prob_range},
    version::PolicyVersion,
};

/// K environments before a step, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedParts {
    /// [K, O], of the type that the specification declares.
    pub observations: Elements,
    /// [K, M]: which choices are allowed, 1 or 0; empty where the environment has no masks.
    pub action_masks: Vec<u8>,
    /// `[K]`: how the step before ended; empty if there was none, so that nothing is remembered.
    pub outcomes: Vec<StepOutcome>,
    /// Whether the states [K, S] in which the step is taken are wanted.
    pub wants_states: bool,
}

/// K environments before a step: arrays agree with the joined specification, numbers are finite, and each choice can be
/// made.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed(ObservedParts);

impl Observed {
    /// Checks `parts` against `agreement`.
    ///
    /// # Errors
    /// The first [`RejectReason`] that applies.
    pub fn new(parts: ObservedParts, agreement: &Agreement) -> Result<Self, RejectReason> {
        let (environment, columns) = (&agreement.environment, agreement.rollout.environments);
        let agree = parts.observations.element() == environment.observation.element
            && parts.observations.len() == columns * environment.observation.len()
            && parts.action_masks.len() == columns * environment.mask_len()
            && [0, columns].contains(&parts.outcomes.len());
        if !agree {
            return Err(RejectReason::WrongShape);
        }
        if !parts.observations.as_ref().as_f32().is_none_or(all_finite) {
            return Err(RejectReason::NonFiniteObservation);
        }
        if !leaves_a_choice(&parts.action_masks, environment) {
            return Err(RejectReason::ActionOutOfRange);
        }
        Ok(Self(parts))
    }

    /// The checked content.
    #[must_use]
    pub fn parts(&self) -> &ObservedParts {
        &self.0
    }

    /// Gives the content back, so that its buffers can be reused.
    #[must_use]
    pub fn into_parts(self) -> ObservedParts {
        self.0
    }
}

/// Whether masks [K, M] are flags, and allow at least one action of each head.
fn leaves_a_choice(masks: &[u8], environment: &EnvironmentSpec) -> bool {
    let len = environment.mask_len();
    if len == 0 {
        return true;
    }
    masks.iter().all(|&flag| flag <= 1)
        && masks.chunks_exact(len).all(|row| {
            let mut rest = row;
            environment.action.heads().iter().all(|&choices| {
                let (own, after) = rest.split_at_checked(choices as usize).unwrap_or_default();
                rest = after;
                own.contains(&1)
            })
        })
}

/// What the learner chose for K environments, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct ActedParts {
    /// The version that chose, and when that was.
    pub served: Served,
    /// [K, A]; of a continuous action, the draw before it was squashed or clipped to the bounds.
    pub actions: Actions,
    /// `[K]`: log mu(action | observation), as sampled.
    pub log_probs: Vec<f32>,
    /// [K, S]: the recurrent state in which the step is taken; empty unless it was wanted.
    pub states: Vec<f32>,
}

/// What the learner chose for K environments: arrays agree with the joined specification, and an unroll can be made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Acted(ActedParts);

impl Acted {
    /// Checks `parts` against `agreement`.
    ///
    /// # Errors
    /// The first [`RejectReason`] that applies: an unroll with these numbers would be refused for it.
    pub fn new(parts: ActedParts, agreement: &Agreement) -> Result<Self, RejectReason> {
        let (environment, columns) = (&agreement.environment, agreement.rollout.environments);
        let states = columns * agreement.network.state_len();
        let agree = parts.actions.len() == columns * environment.action.len()
            && parts.log_probs.len() == columns
            && [0, states].contains(&parts.states.len());
        if !agree {
            return Err(RejectReason::WrongShape);
        }
        if !exist(&parts.actions, &environment.action) {
            return Err(RejectReason::ActionOutOfRange);
        }
        let plausible = log_prob_range(&environment.action);
        if !parts.log_probs.iter().all(|one| plausible.contains(one)) {
            return Err(RejectReason::LogProbOutOfRange);
        }
        if !all_finite(&parts.states) {
            return Err(RejectReason::NonFiniteObservation);
        }
        Ok(Self(parts))
    }

    /// The version that chose.
    #[must_use]
    pub fn version(&self) -> PolicyVersion {
        self.0.served.newest
    }

    /// The checked content.
    #[must_use]
    pub fn parts(&self) -> &ActedParts {
        &self.0
    }
}

/// Whether the environment takes these actions.
fn exist(actions: &Actions, spec: &ActionSpec) -> bool {
    match (actions, spec) {
        (Actions::Values(values), ActionSpec::Box { .. }) => all_finite(values),
        (Actions::Indices(_), ActionSpec::Box { .. }) | (Actions::Values(_), _) => false,
        (Actions::Indices(indices), _) => {
            let heads = spec.heads();
            indices
                .chunks_exact(heads.len().max(1))
                .all(|row| row.iter().zip(heads).all(|(index, n)| index < n))
        }
    }
}
