//! A learner that is asked to end does so in time, accounts for everything it ever acknowledged, and keeps what it has
//! trained.

use std::time::Duration;

use springbok_learner::ledger::LedgerCounts;

use super::holds;
use crate::truth::Violation;

/// The configured time for Goodbyes, and what closing takes at most.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

pub(crate) fn in_time(took: Duration) -> Result<(), Violation> {
    holds(took <= DRAIN_MAX, "drain", || {
        format!("it took {took:?}, longer than {DRAIN_MAX:?}")
    })
}

/// The books at the very end.
pub(crate) fn accounted(counts: &LedgerCounts) -> Result<(), Violation> {
    holds(
        counts.queued == 0 && counts.imbalance() == 0,
        "drain",
        || format!("it ended with {counts:?}"),
    )
}
