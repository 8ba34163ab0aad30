//! Within 30 s of the last fault every actor streams again, so that what it makes is settled, and updates advance.

use std::time::Duration;

use super::holds;
use crate::truth::{Truth, Violation};

/// Within this time everything has recovered.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Updates that say that training goes on.
const UPDATES: u64 = 5;

pub(crate) fn recovered(truth: &Truth, actors: u32) -> bool {
    truth.back.len() == actors as usize && truth.calm_updates >= UPDATES
}

pub(crate) fn in_time(truth: &Truth, actors: u32) -> Result<(), Violation> {
    holds(recovered(truth, actors), "liveness", || {
        format!(
            "{RECOVERY_MAX:?} after the last fault only actors {:?} of {actors} are back, after {} updates",
            truth.back, truth.calm_updates
        )
    })
}
