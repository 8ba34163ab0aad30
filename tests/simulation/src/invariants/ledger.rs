//! The identities of the ledger hold at every moment.

use springbok_learner::ledger::Ledger;

use super::holds;
use crate::truth::Violation;

pub(crate) fn balances(ledger: &Ledger) -> Result<(), Violation> {
    holds(ledger.check().is_ok(), "ledger", || {
        format!("{:?}", ledger.counts())
    })
}
