//! With the gate, in the calm, nothing grows older than the limit: nothing has to be refused or dropped for its age.

use springbok_common::reject::RejectReason;
use springbok_learner::ledger::Ledger;

use super::holds;
use crate::truth::Violation;

/// Unrolls that were wasted for their age.
pub(crate) fn wasted(ledger: &Ledger) -> u64 {
    let stale = ledger.rejected_by_reason().get(&RejectReason::TooStale);
    ledger.counts().expired + stale.copied().unwrap_or(0)
}

pub(crate) fn none_wasted(before: u64, after: u64) -> Result<(), Violation> {
    holds(before == after, "fresh", || {
        format!(
            "{} unrolls grew too old in spite of the gate",
            after - before
        )
    })
}
