//! The books in a checkpoint, and how a learner that is restored goes on from them.

use serde::{Deserialize, Serialize};
use springbok_common::ids::{ActorId, UnrollSequence};

use super::Admission;
use crate::{ledger::Ledger, steered::Steered};

/// What a learner that is restored goes on from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BooksState {
    ledger: Ledger,
    steered: Steered,
    marks: Vec<(ActorId, UnrollSequence)>,
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
            marks: self.roster.marks(),
        }
    }

    /// Goes on from `state`. What was queued is gone: see [`Ledger::resumed`].
    pub fn restore(&mut self, state: BooksState, made_again: bool) {
        self.ledger = state.ledger.resumed(made_again);
        self.steered = state.steered;
        self.roster.remember(state.marks);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use springbok_common::{
        unroll::UnrollHeader,
        version::{LearnerEpoch, PolicyVersion},
    };

    use super::super::{Fence, Screened, tests::door};
    use super::*;

    #[test]
    fn what_a_restored_learner_forgot_shows_as_lost_and_the_books_close() {
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
            // The actor survived, and made three more that the first learner took after the checkpoint.
            second.roster.join(actor, None, Instant::now()).unwrap();
            let tenth = UnrollHeader {
                epoch: LearnerEpoch(2),
                sequence: UnrollSequence(10),
                ..header
            };
            assert_eq!(
                second.screen(actor, &tenth, PolicyVersion(5)),
                Ok(Screened::Content)
            );
            second.settle(actor, tenth.sequence, Ok(())).unwrap();
            assert_eq!(
                (second.ledger.counts().lost, second.ledger.counts().admitted),
                (3, 5 + u64::from(!made_again) * 2)
            );
            second.ledger.check().unwrap();
        }
    }
}
