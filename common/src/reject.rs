//! Why the learner does not train on an unroll: a closed set, each with a metric label and a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of an unroll that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is queued for training.
    Admitted,
    /// It was settled before and is not counted again.
    Duplicate,
    /// It was refused and changes nothing.
    Rejected(RejectReason),
}

/// The reasons to refuse an unroll, in the order in which they are checked: cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Made for another training run.
    WrongRun,
    /// Made for an earlier or later life of the learner.
    WrongEpoch,
    /// Its policy version has not been published yet.
    FutureVersion,
    /// Its policy is older than `lag.max_versions`.
    TooStale,
    /// A tensor has another length than the joined specification says.
    WrongShape,
    /// The versions of its steps do not go up from the version of the unroll.
    WrongStepVersions,
    /// A step outcome is none of continued, terminated and truncated.
    UnknownOutcome,
    /// The final observations do not belong to exactly the truncated steps.
    WrongFinalObservations,
    /// An action is not in the action space.
    ActionOutOfRange,
    /// A behaviour log-probability is NaN, infinite, positive or below -50.
    LogProbOutOfRange,
    /// An observation is NaN or infinite.
    NonFiniteObservation,
    /// A reward is NaN or infinite.
    NonFiniteReward,
    /// A reward is above `limits.reward_abs_max` in absolute value.
    RewardOutOfRange,
}

impl RejectReason {
    /// All reasons, in checking order.
    pub const ALL: [Self; 13] = [
        Self::WrongRun,
        Self::WrongEpoch,
        Self::FutureVersion,
        Self::TooStale,
        Self::WrongShape,
        Self::WrongStepVersions,
        Self::UnknownOutcome,
        Self::WrongFinalObservations,
        Self::ActionOutOfRange,
        Self::LogProbOutOfRange,
        Self::NonFiniteObservation,
        Self::NonFiniteReward,
        Self::RewardOutOfRange,
    ];

    /// Whether the content itself is bad. Then the actor that made it is broken, whereas an unroll from another run or
    /// with another version only came at the wrong time.
    #[must_use]
    pub fn is_poison(self) -> bool {
        match self {
            Self::WrongRun | Self::WrongEpoch | Self::FutureVersion | Self::TooStale => false,
            Self::WrongShape
            | Self::WrongStepVersions
            | Self::UnknownOutcome
            | Self::WrongFinalObservations
            | Self::ActionOutOfRange
            | Self::LogProbOutOfRange
            | Self::NonFiniteObservation
            | Self::NonFiniteReward
            | Self::RewardOutOfRange => true,
        }
    }

    /// Label in metrics, in `summary.json` and on the wire.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::WrongRun => "wrong_run",
            Self::WrongEpoch => "wrong_epoch",
            Self::FutureVersion => "future_version",
            Self::TooStale => "too_stale",
            Self::WrongShape => "wrong_shape",
            Self::WrongStepVersions => "wrong_step_versions",
            Self::UnknownOutcome => "unknown_outcome",
            Self::WrongFinalObservations => "wrong_final_observations",
            Self::ActionOutOfRange => "action_out_of_range",
            Self::NonFiniteObservation => "non_finite_observation",
            Self::NonFiniteReward => "non_finite_reward",
            Self::RewardOutOfRange => "reward_out_of_range",
            Self::LogProbOutOfRange => "log_prob_out_of_range",
        }
    }

    /// One sentence for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::WrongRun => "the unroll was made for another training run",
            Self::WrongEpoch => "the unroll was made for another life of the learner",
            Self::FutureVersion => "the unroll claims a policy version that was never published",
            Self::TooStale => "the policy that made the unroll is older than lag.max_versions",
            Self::WrongShape => "a tensor's length differs from the joined specification",
            Self::WrongStepVersions => {
                "the policy versions of the steps do not go up from the version of the unroll"
            }
            Self::UnknownOutcome => "a step outcome is neither continued, terminated nor truncated",
            Self::WrongFinalObservations => {
                "the final observations do not match the truncated steps one to one"
            }
            Self::ActionOutOfRange => "an action is outside the action space",
            Self::NonFiniteObservation => "an observation is not a finite number",
            Self::NonFiniteReward => "a reward is not a finite number",
            Self::RewardOutOfRange => "a reward's absolute value is above limits.reward_abs_max",
            Self::LogProbOutOfRange => "a behaviour log-probability is not within [-50, 0]",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_serialised_names_and_distinct() {
        let mut labels: Vec<_> = RejectReason::ALL.map(RejectReason::label).to_vec();
        for reason in RejectReason::ALL {
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("{:?}", reason.label())
            );
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), RejectReason::ALL.len());
    }
}
