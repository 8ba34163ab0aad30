//! With the gate, in the calm, nothing grows older than the limit: nothing has to be refused or dropped for its age.
//!
//! The gate takes an actor to have the version before the newest, because acknowledgements do not overtake parameters.
//! Parameters larger than the window of a stream are overtaken: where they take longer than an update, the fence has to
//! drop what was made with still older ones.

use springbok_common::reject::RejectReason;
use springbok_learner::ledger::Ledger;

use super::holds;
use crate::{plan::Plan, truth::Violation, work::Task};

/// HTTP/2 lets so many bytes of parameters be on their way.
const WINDOW_BYTES: usize = 2 << 20;

pub(crate) fn is_promised(plan: &Plan, task: &Task) -> bool {
    plan.paced && task.payload_bytes() < WINDOW_BYTES
}

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
