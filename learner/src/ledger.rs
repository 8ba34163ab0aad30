//! The trajectory ledger: every unroll that an actor produced is in exactly one account, always.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use springbok_common::reject::RejectReason;

/// The accounts, in unrolls.
///
/// produced = admitted + rejected + lost, and admitted = trained + expired + evicted + discarded + queued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Known to have been produced by actors: by arrival, by a gap in the numbers, or by a Goodbye.
    pub produced: u64,
    /// Passed every check.
    pub admitted: u64,
    /// Refused for a reason.
    pub rejected: u64,
    /// Produced, but never arrived.
    pub lost: u64,
    /// Trained on, once.
    pub trained: u64,
    /// Grew older than `lag.max_versions` while waiting.
    pub expired: u64,
    /// Dropped with an update that was rolled back, or because the queue was full.
    pub evicted: u64,
    /// Admitted, but dropped because the learner stopped.
    pub discarded: u64,
    /// Waiting for the trainer, or in the batch being trained.
    pub queued: u64,
    /// Arrived again after they were settled; in no other account.
    pub duplicates: u64,
}

/// The identity of the ledger is broken: a defect of the learner, never of an actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the trajectory ledger does not balance: {counts:?}")]
pub struct LedgerViolation {
    /// The accounts that do not balance.
    pub counts: LedgerCounts,
}

impl LedgerCounts {
    /// By how many unrolls the accounts do not balance, both identities together: must be 0.
    #[must_use]
    pub fn imbalance(&self) -> u64 {
        let off = |whole: u64, parts: &[u64]| {
            let parts: u128 = parts.iter().map(|part| u128::from(*part)).sum();
            u64::try_from(parts.abs_diff(u128::from(whole))).unwrap_or(u64::MAX)
        };
        let produced = off(self.produced, &[self.admitted, self.rejected, self.lost]);
        let settled = [self.trained, self.expired, self.evicted, self.discarded];
        let admitted = off(self.admitted, &[&settled[..], &[self.queued]].concat());
        produced.saturating_add(admitted)
    }

    /// Checks both identities.
    ///
    /// # Errors
    /// [`LedgerViolation`] with the accounts.
    pub fn check(&self) -> Result<(), LedgerViolation> {
        if self.imbalance() == 0 {
            Ok(())
        } else {
            Err(LedgerViolation {
                counts: self.clone(),
            })
        }
    }
}

/// Keeps the accounts: each event of an unroll's life is one method.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    counts: LedgerCounts,
    rejected_by_reason: BTreeMap<RejectReason, u64>,
}

impl Ledger {
    /// The accounts.
    #[must_use]
    pub fn counts(&self) -> &LedgerCounts {
        &self.counts
    }

    /// How many unrolls were rejected for each reason that occurred.
    #[must_use]
    pub fn rejected_by_reason(&self) -> &BTreeMap<RejectReason, u64> {
        &self.rejected_by_reason
    }

    /// Checks both identities.
    ///
    /// # Errors
    /// [`LedgerViolation`] with the accounts.
    pub fn check(&self) -> Result<(), LedgerViolation> {
        self.counts.check()
    }

    /// An unroll arrived, passed every check and now waits for the trainer.
    pub fn admit(&mut self) {
        self.counts.produced += 1;
        self.counts.admitted += 1;
        self.counts.queued += 1;
    }

    /// An unroll arrived and was refused.
    pub fn reject(&mut self, reason: RejectReason) {
        self.counts.produced += 1;
        self.counts.rejected += 1;
        *self.rejected_by_reason.entry(reason).or_default() += 1;
    }

    /// `unrolls` were produced and will never arrive.
    pub fn lose(&mut self, unrolls: u64) {
        self.counts.produced += unrolls;
        self.counts.lost += unrolls;
    }

    /// An unroll arrived that was settled before.
    pub fn duplicate(&mut self) {
        self.counts.duplicates += 1;
    }

    /// `unrolls` of the queued ones were trained on.
    pub fn train(&mut self, unrolls: u64) {
        self.unqueue(unrolls);
        self.counts.trained += unrolls;
    }

    /// `unrolls` of the queued ones grew too old.
    pub fn expire(&mut self, unrolls: u64) {
        self.unqueue(unrolls);
        self.counts.expired += unrolls;
    }

    /// `unrolls` of the queued ones were dropped with an update that was rolled back, or because the queue was full.
    pub fn evict(&mut self, unrolls: u64) {
        self.unqueue(unrolls);
        self.counts.evicted += unrolls;
    }

    /// `unrolls` of the queued ones were dropped because the learner stops.
    pub fn discard(&mut self, unrolls: u64) {
        self.unqueue(unrolls);
        self.counts.discarded += unrolls;
    }

    /// Taking out more than is there wraps, and so breaks the identity for good instead of being hidden.
    /// The account of a learner that goes on from this one without what was queued: in lock-step it is made again, so
    /// that it counts as never made (`made_again`), and otherwise it is discarded.
    #[must_use]
    pub fn resumed(&self, made_again: bool) -> Self {
        let mut resumed = self.clone();
        let queued = resumed.counts.queued;
        if made_again {
            resumed.counts.queued = 0;
            resumed.counts.admitted -= queued;
            resumed.counts.produced -= queued;
        } else {
            resumed.discard(queued);
        }
        resumed
    }

    fn unqueue(&mut self, unrolls: u64) {
        self.counts.queued = self.counts.queued.wrapping_sub(unrolls);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn random_lives_of_unrolls_balance(events in prop::collection::vec((0_u8..8, 1_u64..4), 0..300)) {
            let mut ledger = Ledger::default();
            for (event, count) in events {
                let out = count.min(ledger.counts().queued);
                match event {
                    0 | 1 => ledger.admit(),
                    2 => ledger.reject(RejectReason::TooStale),
                    3 => ledger.lose(count),
                    4 => ledger.train(out),
                    5 => ledger.expire(out),
                    6 => ledger.evict(out),
                    _ => ledger.discard(out),
                }
                ledger.check().unwrap();
            }
            let by_reason: u64 = ledger.rejected_by_reason().values().sum();
            prop_assert_eq!(by_reason, ledger.counts().rejected);
        }

        #[test]
        fn any_single_miscount_is_seen(account in 0_usize..9, wrong_by in 1_u64..5) {
            let mut ledger = Ledger::default();
            (0..9).for_each(|_| ledger.admit());
            ledger.reject(RejectReason::WrongRun);
            ledger.lose(2);
            ledger.train(3);
            ledger.check().unwrap();
            let mut counts = ledger.counts().clone();
            let accounts = [
                &mut counts.produced, &mut counts.admitted, &mut counts.rejected, &mut counts.lost,
                &mut counts.trained, &mut counts.expired, &mut counts.evicted, &mut counts.discarded,
                &mut counts.queued,
            ];
            *accounts.into_iter().nth(account).unwrap() += wrong_by;
            prop_assert!(counts.check().is_err());
        }
    }

    #[test]
    fn training_what_was_never_queued_is_a_violation() {
        let mut ledger = Ledger::default();
        ledger.admit();
        ledger.train(2);
        assert!(ledger.check().is_err());
    }
}
