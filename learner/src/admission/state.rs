//! The books in a checkpoint, and how a learner that is restored goes on from them.

use serde::{Deserialize, Serialize};

use super::Admission;
use crate::{ledger::Ledger, steered::Steered};

/// What a learner that is restored goes on from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BooksState {
    ledger: Ledger,
    steered: Steered,
}

impl BooksState {
    /// Unrolls that waited for the trainer.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.ledger.counts().queued
    }
}

impl Admission {
    /// What a learner that is restored goes on from.
    #[must_use]
    pub fn state(&self) -> BooksState {
        BooksState {
            ledger: self.ledger.clone(),
            steered: self.steered.clone(),
        }
    }

    /// Goes on from `state`. What was queued is gone: see [`Ledger::resumed`]. The roster is empty: actors number their
    /// unrolls anew for each life of the learner.
    pub fn restore(&mut self, state: BooksState, made_again: bool) {
        self.ledger = state.ledger.resumed(made_again);
        self.steered = state.steered;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use springbok_common::{
        ids::UnrollSequence,
        unroll::UnrollHeader,
        version::{LearnerEpoch, PolicyVersion},
    };

    use super::super::{Fence, Screened, tests::door};
    use super::*;

    #[test]
    fn a_restored_learner_counts_on_and_takes_the_new_numbers_of_its_actors() {
        let (mut first, actor, header) = door(None);
        for sequence in 1..=6 {
            first
                .settle(actor, UnrollSequence(sequence), Ok(()))
                .unwrap();
        }
        first.ledger.train(4);
        let state = first.state();
        assert_eq!(state.queued(), 2);
        for made_again in [false, true] {
            let fence = Fence {
                epoch: LearnerEpoch(2),
                ..first.fence
            };
            let mut second = Admission::new(fence, 8);
            second.restore(state.clone(), made_again);
            second.ledger.check().unwrap();
            let counts = second.ledger.counts();
            let (produced, discarded) = if made_again { (4, 0) } else { (6, 2) };
            assert_eq!(
                (counts.produced, counts.discarded, counts.queued),
                (produced, discarded, 0)
            );
            // The actor survived, and numbers from 1 what it makes for this life: none of that is a duplicate.
            second.roster.join(actor, None, Instant::now()).unwrap();
            let first = UnrollHeader {
                epoch: LearnerEpoch(2),
                sequence: UnrollSequence::FIRST,
                ..header
            };
            assert_eq!(
                second.screen(actor, &first, PolicyVersion(5)),
                Ok(Screened::Content)
            );
            second.settle(actor, first.sequence, Ok(())).unwrap();
            let counts = second.ledger.counts();
            assert_eq!((counts.lost, counts.duplicates), (0, 0));
            assert_eq!(counts.admitted, produced + 1);
            second.ledger.check().unwrap();
        }
    }
}
