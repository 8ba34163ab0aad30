//! The unit of experience: T steps of K environments, made under one policy version, or under one for each step where
//! parameters may change in flight.

use std::{ops::Range, slice};

use serde::{Deserialize, Serialize};

use crate::{
    arrays::{Actions, Elements},
    ids::{RunId, UnrollSequence},
    reject::RejectReason,
    spec::{ActionSpec, EnvironmentSpec, NetworkSpec, RolloutShape, SpecFingerprint},
    step::StepOutcome,
    version::{LearnerEpoch, PolicyVersion},
};

/// What both sides agreed on when the actor joined; every unroll is checked against it.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// What the environment shows and takes.
    pub environment: EnvironmentSpec,
    /// The network that plays it.
    pub network: NetworkSpec,
    /// T and K.
    pub rollout: RolloutShape,
}

impl Agreement {
    /// The number that both sides compare.
    #[must_use]
    pub fn fingerprint(&self) -> SpecFingerprint {
        SpecFingerprint::of(&self.environment, &self.network, self.rollout)
    }
}

/// Where an unroll belongs: run, life of the learner, place in the actor's life, and the policy that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnrollHeader {
    /// The training run.
    pub run_id: RunId,
    /// The life of the learner that published the policy.
    pub epoch: LearnerEpoch,
    /// Number of the unroll within the actor's life.
    pub sequence: UnrollSequence,
    /// The version actually loaded while the actions of the first step were sampled: the oldest one in it.
    pub version: PolicyVersion,
}

/// An episode that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpisodeSummary {
    /// Undiscounted sum of raw rewards.
    pub episode_return: f64,
    /// Steps.
    pub length: u32,
}

/// Durations on the actor's clock, in microseconds, and what belongs to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnrollTiming {
    /// From the first action to the last step.
    pub rollout_us: u64,
    /// From the last step to the sending.
    pub outbox_us: u64,
    /// Share of `rollout_us` spent in environments.
    pub environment_us: u64,
    /// Share of `rollout_us` spent in inference.
    pub inference_us: u64,
    /// Waiting for a place in the outbox before the unroll was begun.
    pub blocked_us: u64,
    /// From the arrival of the snapshot that made the unroll to the unroll's sending.
    pub held_us: u64,
    /// How the learner served that snapshot.
    pub served: Served,
}

/// What the learner says when it sends a snapshot, and an unroll made with it repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// The newest version of that moment; later than the snapshot's where policy lag is injected.
    pub newest: PolicyVersion,
    /// That moment, in microseconds on the learner's clock.
    pub issued_us: u64,
}

/// The content of an unroll before it is checked. Arrays are time-major: row t * K + k is step t of environment k.
#[derive(Debug, Clone, PartialEq)]
pub struct UnrollParts {
    /// Where it belongs.
    pub header: UnrollHeader,
    /// `[T]`: the version that was loaded in each step, from that of the header upwards; empty where it is always that one.
    pub step_versions: Vec<PolicyVersion>,
    /// [T, K, O], of the type that the specification declares.
    pub observations: Elements,
    /// [K, O]: the state after the last step (after a reset, if that step ended an episode).
    pub bootstrap_observations: Elements,
    /// [T, K, A]; of a continuous action, the draw before it was squashed or clipped to the bounds.
    pub actions: Actions,
    /// [T, K, M]: which choices were allowed, 1 or 0; empty where the environment has no masks.
    pub action_masks: Vec<u8>,
    /// [T, K], raw, caused by the action of the same row.
    pub rewards: Vec<f32>,
    /// [T, K]: log mu(action | observation), as sampled.
    pub behaviour_log_probs: Vec<f32>,
    /// [T, K].
    pub outcomes: Vec<StepOutcome>,
    /// Row of each truncated step, ascending.
    pub final_rows: Vec<u32>,
    /// [len(final_rows), O]: what a truncated step reached before the reset.
    pub final_observations: Elements,
    /// [K, S]: the recurrent state in which the first step was taken; empty without memory.
    pub core_states: Vec<f32>,
    /// Episodes that ended here.
    pub episodes: Vec<EpisodeSummary>,
    /// Where the actor's time went.
    pub timing: UnrollTiming,
}

/// Exactly T steps of K environments whose arrays agree with each other and with the joined specification, and
/// whose numbers are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Unroll(UnrollParts);

/// Lowest log-probability that an honest policy can report for one discrete choice; below, its ratio overflows.
pub const LOG_PROB_MIN: f32 = -50.0;
/// Rounding may lift the log-probability of a certain action slightly above 0.
pub const LOG_PROB_MAX: f32 = 1e-5;
/// Largest log-density, in absolute value, that an honest policy can report for one dimension of an action.
pub const LOG_DENSITY_ABS_MAX: f32 = 100.0;

impl Unroll {
    /// Checks `parts` against `agreement`: lengths first, then ranges, then a scan for non-finite numbers.
    ///
    /// # Errors
    /// The first [`RejectReason`] that applies.
    pub fn new(parts: UnrollParts, agreement: &Agreement) -> Result<Self, RejectReason> {
        check_lengths(&parts, agreement)?;
        check_step_versions(&parts)?;
        check_final_rows(&parts)?;
        check_void_rows(&parts, agreement.rollout.environments)?;
        check_actions(&parts, agreement)?;
        let plausible = log_prob_range(&agreement.environment.action);
        if !parts
            .behaviour_log_probs
            .iter()
            .all(|log_prob| plausible.contains(log_prob))
        {
            return Err(RejectReason::LogProbOutOfRange);
        }
        let observations = [
            &parts.observations,
            &parts.bootstrap_observations,
            &parts.final_observations,
        ];
        let finite = |elements: &&Elements| elements.as_ref().as_f32().is_none_or(all_finite);
        if !observations.iter().all(finite) || !all_finite(&parts.core_states) {
            return Err(RejectReason::NonFiniteObservation);
        }
        let returns_finite = parts
            .episodes
            .iter()
            .all(|episode| episode.episode_return.is_finite());
        if !all_finite(&parts.rewards) || !returns_finite {
            return Err(RejectReason::NonFiniteReward);
        }
        Ok(Self(parts))
    }

    /// Whether no reward is above `abs_max` in absolute value.
    ///
    /// # Errors
    /// [`RejectReason::RewardOutOfRange`].
    pub fn check_rewards(&self, abs_max: f64) -> Result<(), RejectReason> {
        let mut rewards = self.0.rewards.iter();
        rewards
            .all(|reward| f64::from(reward.abs()) <= abs_max)
            .then_some(())
            .ok_or(RejectReason::RewardOutOfRange)
    }

    /// The checked content.
    #[must_use]
    pub fn parts(&self) -> &UnrollParts {
        &self.0
    }

    /// Gives the content back, so that its buffers can be reused.
    #[must_use]
    pub fn into_parts(self) -> UnrollParts {
        self.0
    }

    /// Where it belongs.
    #[must_use]
    pub fn header(&self) -> UnrollHeader {
        self.0.header
    }

    /// The newest version that made a step of it.
    #[must_use]
    pub fn newest_version(&self) -> PolicyVersion {
        let last = self.0.step_versions.last().copied();
        last.unwrap_or(self.0.header.version)
    }

    /// The stretches of its rows [T, K] that one version each made, in order.
    pub fn stretches(&self) -> impl Iterator<Item = (PolicyVersion, Range<usize>)> {
        let versions = match self.0.step_versions.as_slice() {
            [] => slice::from_ref(&self.0.header.version),
            versions => versions,
        };
        let width = self.steps() / versions.len();
        let mut end = 0;
        versions.chunk_by(PartialEq::eq).map(move |stretch| {
            let begin = end;
            end += stretch.len() * width;
            (stretch[0], begin..end)
        })
    }

    /// Environment steps in it: T * K.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.0.rewards.len()
    }
}

fn check_lengths(parts: &UnrollParts, agreement: &Agreement) -> Result<(), RejectReason> {
    let (rows, columns) = (agreement.rollout.steps(), agreement.rollout.environments);
    let environment = &agreement.environment;
    let width = environment.observation.len();
    let of_type = |elements: &Elements, len: usize| {
        elements.element() == environment.observation.element && elements.len() == len
    };
    let unroll_length = agreement.rollout.unroll_length;
    let agree = [0, unroll_length].contains(&parts.step_versions.len())
        && of_type(&parts.observations, rows * width)
        && of_type(&parts.bootstrap_observations, columns * width)
        && of_type(&parts.final_observations, parts.final_rows.len() * width)
        && parts.actions.len() == rows * environment.action.len()
        && parts.action_masks.len() == rows * environment.mask_len()
        && parts.rewards.len() == rows
        && parts.behaviour_log_probs.len() == rows
        && parts.outcomes.len() == rows
        && parts.core_states.len() == columns * agreement.network.state_len()
        && parts.episodes.len() <= rows;
    agree.then_some(()).ok_or(RejectReason::WrongShape)
}

/// Versions never go back, and begin with that of the header.
fn check_step_versions(parts: &UnrollParts) -> Result<(), RejectReason> {
    let versions = &parts.step_versions;
    let first = versions.first().copied();
    let begins = first.is_none_or(|first| first == parts.header.version);
    (begins && versions.is_sorted())
        .then_some(())
        .ok_or(RejectReason::WrongStepVersions)
}

/// Discrete actions exist and were allowed; continuous ones are finite.
fn check_actions(parts: &UnrollParts, agreement: &Agreement) -> Result<(), RejectReason> {
    let spec = &agreement.environment.action;
    let heads = spec.heads();
    let fits = match (&parts.actions, spec) {
        (Actions::Values(values), ActionSpec::Box { .. }) => all_finite(values),
        (Actions::Indices(_), ActionSpec::Box { .. }) | (Actions::Values(_), _) => false,
        (Actions::Indices(indices), _) => indices
            .chunks_exact(heads.len().max(1))
            .all(|row| row.iter().zip(heads).all(|(index, n)| index < n)),
    };
    if !fits {
        return Err(RejectReason::ActionOutOfRange);
    }
    let mask_len = agreement.environment.mask_len();
    if mask_len == 0 {
        return Ok(());
    }
    let rows = parts
        .actions
        .as_ref()
        .indices()
        .chunks_exact(heads.len().max(1));
    let masks = parts.action_masks.chunks_exact(mask_len);
    let mut steps = rows.zip(masks).zip(&parts.outcomes);
    let allowed = steps.all(|((row, mask), outcome)| {
        let mut first = 0;
        !outcome.is_step()
            || row.iter().zip(heads).all(|(&index, &n)| {
                let chosen = mask[first + index as usize];
                first += n as usize;
                chosen == 1
            })
    });
    let flags = parts.action_masks.iter().all(|&flag| flag <= 1);
    (allowed && flags)
        .then_some(())
        .ok_or(RejectReason::ActionOutOfRange)
}

/// Log-probabilities of a discrete action lie in a range for each head, log-densities in one for each dimension.
pub(crate) fn log_prob_range(action: &ActionSpec) -> std::ops::RangeInclusive<f32> {
    let numbers = action.len() as f32;
    match action {
        ActionSpec::Box { .. } => -LOG_DENSITY_ABS_MAX * numbers..=LOG_DENSITY_ABS_MAX * numbers,
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => {
            LOG_PROB_MIN * numbers..=LOG_PROB_MAX * numbers
        }
    }
}

/// A void row directly follows an end, or begins the unroll (the end was the last row of the one before).
fn check_void_rows(parts: &UnrollParts, columns: usize) -> Result<(), RejectReason> {
    let misplaced = |row: usize| row >= columns && !parts.outcomes[row - columns].is_end();
    let mut void = (0..parts.outcomes.len()).filter(|&row| !parts.outcomes[row].is_step());
    if void.any(misplaced) {
        return Err(RejectReason::UnknownOutcome);
    }
    Ok(())
}

/// The final rows are exactly the truncated rows, ascending.
fn check_final_rows(parts: &UnrollParts) -> Result<(), RejectReason> {
    let truncated = parts
        .outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| **outcome == StepOutcome::Truncated)
        .map(|(row, _)| row);
    if truncated.eq(parts.final_rows.iter().map(|&row| row as usize)) {
        Ok(())
    } else {
        Err(RejectReason::WrongFinalObservations)
    }
}

pub(crate) fn all_finite(array: &[f32]) -> bool {
    // Multiplying by zero turns NaN and infinities into NaN and everything else into zero: one pass without branches.
    array.iter().fold(0.0_f32, |sum, value| sum + value * 0.0) == 0.0
}
