//! Which policy made a step, and how old that policy was when the step was trained.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One start of the learner process within a run: 1 for the first, one more at each restart.
///
/// Policy versions of different epochs cannot be compared; [`PolicyVersion::lag_behind`] is only ever asked of
/// versions that the admission check has found to be of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LearnerEpoch(pub u32);

impl LearnerEpoch {
    /// The epoch of a learner that starts a run afresh.
    pub const FIRST: Self = Self(1);
}

/// Number of optimiser updates (whole batches, not minibatches) behind a set of parameters; 0 is the initial policy.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct PolicyVersion(pub u64);

impl PolicyVersion {
    /// The version after one more update.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many updates `behaviour` is behind `self`, the learner's version; `None` if `behaviour` is from the
    /// future, which no honest actor of this epoch can send.
    #[must_use]
    pub fn lag_behind(self, behaviour: Self) -> Option<PolicyLag> {
        self.0.checked_sub(behaviour.0).map(PolicyLag)
    }
}

/// Updates between the policy that made a step and the policy that trains on it.
///
/// Made only by [`PolicyVersion::lag_behind`], so it is never negative and never spans two epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct PolicyLag(u64);

impl PolicyLag {
    /// The lag in versions.
    #[must_use]
    pub fn versions(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LearnerEpoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for PolicyLag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_updates_and_refuses_the_future() {
        let learner = PolicyVersion(7);
        assert_eq!(
            learner
                .lag_behind(PolicyVersion(4))
                .map(PolicyLag::versions),
            Some(3)
        );
        assert_eq!(
            learner.lag_behind(learner).map(PolicyLag::versions),
            Some(0)
        );
        assert_eq!(learner.lag_behind(learner.next()), None);
    }
}
