//! Batches that are trained on more than once: the circular buffer of IMPACT (Luo et al. 2019, arXiv 1912.00167).
//!
//! Each batch is trained on when it arrives and `reuse` - 1 times more. For each of these its age, the number of batches
//! that arrived after it, is drawn uniformly from 0 to `batches_max` - 1. So nothing is lost or starved, the learner
//! makes `reuse` updates for each batch on average, and the order depends on the seed alone, never on the time.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// Keeps the ages that are drawn apart from other numbers of the same seed.
const AGE_SEED: u64 = 0x5245_5345_5256_4f49;

/// Batches of type `B` that wait to be trained on again.
#[derive(Debug)]
pub struct Reservoir<B> {
    batches_max: usize,
    reuse: usize,
    rng: Pcg64,
    /// Batches that have arrived so far.
    arrived: u64,
    /// From the oldest to the youngest, at most `batches_max`.
    kept: VecDeque<Kept<B>>,
}

/// A batch with the moments at which it is to be trained on again.
#[derive(Debug)]
pub struct Kept<B> {
    /// The batch.
    pub batch: B,
    /// Its place among all that arrived, from 1.
    number: u64,
    /// Counts of arrivals, the next one last.
    due: Vec<u64>,
}

impl<B> Reservoir<B> {
    /// A reservoir of the last `batches_max` batches, each for `reuse` trainings in all; both count as 1 if they are 0.
    #[must_use]
    pub fn new(batches_max: usize, reuse: usize, seed: u64) -> Self {
        Self {
            batches_max: batches_max.max(1),
            reuse: reuse.max(1),
            rng: Pcg64::seed_from_u64(seed ^ AGE_SEED),
            arrived: 0,
            kept: VecDeque::new(),
        }
    }

    /// Takes in a batch that has just been trained on for the first time; call [`Self::take_due`] until it gives nothing
    /// before the next one.
    pub fn keep(&mut self, batch: B) {
        self.arrived += 1;
        let mut draw = || self.arrived + self.rng.random_range(0..self.batches_max as u64);
        let mut due: Vec<u64> = (1..self.reuse).map(|_| draw()).collect();
        due.sort_unstable_by(|left, right| right.cmp(left));
        self.put(Kept {
            batch,
            number: self.arrived,
            due,
        });
    }

    /// The oldest batch that is to be trained on now.
    pub fn take_due(&mut self) -> Option<Kept<B>> {
        let is_due = |kept: &Kept<B>| kept.due.last().is_some_and(|due| *due <= self.arrived);
        let position = self.kept.iter().position(is_due)?;
        let mut kept = self.kept.remove(position)?;
        kept.due.pop();
        Some(kept)
    }

    /// Puts back what [`Self::take_due`] gave, if it has been trained on; otherwise it is dropped for good.
    pub fn give_back(&mut self, kept: Kept<B>) {
        self.put(kept);
    }

    /// Batches that are kept: at most `batches_max`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps the batch unless its last training is over.
    fn put(&mut self, kept: Kept<B>) {
        if !kept.due.is_empty() {
            let place = self
                .kept
                .partition_point(|other| other.number < kept.number);
            self.kept.insert(place, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// For each batch the arrivals at which it was trained on again, and the most batches that were ever kept.
    fn trainings(reservoir: &mut Reservoir<u64>, batches: u64) -> (BTreeMap<u64, Vec<u64>>, usize) {
        let (mut seen, mut most) = (BTreeMap::<u64, Vec<u64>>::new(), 0);
        for batch in 1..=batches {
            reservoir.keep(batch);
            while let Some(kept) = reservoir.take_due() {
                seen.entry(kept.batch).or_default().push(batch);
                reservoir.give_back(kept);
            }
            most = most.max(reservoir.len());
        }
        (seen, most)
    }

    proptest! {
        #[test]
        fn each_batch_is_trained_so_often_and_none_is_too_old(
            batches_max in 1_usize..9, reuse in 1_usize..5, seed in any::<u64>(),
        ) {
            let mut reservoir = Reservoir::new(batches_max, reuse, seed);
            let (seen, most) = trainings(&mut reservoir, 50);
            prop_assert!(most < batches_max.max(2));
            // Those that are too young may still wait for a training.
            for batch in 1..=50 - batches_max as u64 {
                let again = seen.get(&batch).cloned().unwrap_or_default();
                prop_assert_eq!(again.len(), reuse - 1);
                prop_assert!(again.iter().all(|at| (batch..batch + batches_max as u64).contains(at)));
            }
            let mut same = Reservoir::new(batches_max, reuse, seed);
            prop_assert_eq!(trainings(&mut same, 50).0, seen);
        }
    }

    #[test]
    fn all_ages_are_drawn_equally_often() {
        let mut reservoir = Reservoir::new(4, 2, 1);
        let (seen, _) = trainings(&mut reservoir, 4000);
        let mut ages = [0_u32; 4];
        for (batch, again) in seen {
            for at in again {
                ages[(at - batch) as usize] += 1;
            }
        }
        // 4 standard deviations of a binomial count are 110.
        assert!(
            ages.iter().all(|count| count.abs_diff(1000) < 110),
            "{ages:?}"
        );
    }

    #[test]
    fn what_is_not_given_back_is_gone() {
        let mut reservoir = Reservoir::new(1, 4, 1);
        reservoir.keep('a');
        assert_eq!(reservoir.take_due().map(|kept| kept.batch), Some('a'));
        assert!(reservoir.is_empty() && reservoir.take_due().is_none());
    }
}
