//! What the trainer measures and does about policy lag, besides the lag itself.

use super::{tally::Mean, update::UpdateMetrics};
use crate::{
    lag::{
        buckets::{BucketSummary, BucketTable},
        odometer::Odometer,
    },
    metrics::{Metric, Row},
};

/// The state of a run.
#[derive(Debug, Default)]
pub struct Steering {
    /// Environment steps made by all actors, over time.
    pub odometer: Odometer,
    buckets: BucketTable,
    forward: Mean,
}

impl Steering {
    /// Counts one update and adds what it tells to its `row`.
    pub fn updated(&mut self, update: &UpdateMetrics, row: &mut Row) {
        let mut buckets = BucketTable::default();
        buckets.add(&update.per_lag);
        row.set_buckets(&buckets.summary());
        self.buckets.add(&update.per_lag);
        // The i-th optimiser step on a batch follows i - 1 others, which is (n - 1) / 2 on average.
        let forward = update.optimiser_steps.saturating_sub(1) as f64 / 2.0;
        self.forward.add(forward);
        row.set(Metric::LagForward, forward);
    }

    /// The health of the trained steps by lag.
    #[must_use]
    pub fn lag_buckets(&self) -> Vec<BucketSummary> {
        self.buckets.summary()
    }

    /// Optimiser steps made on a batch before each of its own, mean over the updates.
    #[must_use]
    pub fn lag_forward(&self) -> f64 {
        self.forward.get().unwrap_or(0.0)
    }
}
