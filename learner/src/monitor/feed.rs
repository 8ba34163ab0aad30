//! The trainer's end: it hands over its latest row and never waits for whoever looks at it.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::sync::watch;

use crate::{
    lag::buckets::{BUCKET_BOUNDS, BUCKETS},
    metrics::{Metric, Row},
};

/// Policy lag of all steps trained so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LagHistogram {
    /// Steps by bucket, in the order of [`BUCKET_BOUNDS`].
    pub steps: [u64; BUCKETS],
    /// Lag in versions times steps, summed.
    pub versions: f64,
}

impl LagHistogram {
    /// Adds one update.
    pub(crate) fn add(&mut self, row: &Row) {
        let steps = row.bucket_steps();
        for (sum, steps) in self.steps.iter_mut().zip(steps) {
            *sum += steps;
        }
        let mean = row.get(Metric::LagMean).unwrap_or(0.0);
        self.versions += mean * steps.iter().sum::<u64>() as f64;
    }

    /// Steps in all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// Largest lag, in versions, and steps with at most that lag, of each bucket; the last one has no bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let mut below = 0;
        BUCKET_BOUNDS
            .iter()
            .zip(self.steps)
            .map(move |((_, largest), steps)| {
                below += steps;
                ((*largest != u64::MAX).then_some(*largest), below)
            })
    }
}

/// What the trainer was last seen to do.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The row of its last update.
    pub row: Row,
    /// The lag so far.
    pub lag: LagHistogram,
    /// When; none before the first update.
    pub updated: Option<(Instant, SystemTime)>,
}

/// Shows rows to whoever holds the other end. Only the latest is kept, so a slow reader costs the trainer nothing.
#[derive(Debug)]
pub struct Feed {
    lag: LagHistogram,
    latest: watch::Sender<Arc<Live>>,
}

impl Feed {
    /// A feed, and where its latest is read.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Arc<Live>>) {
        let (latest, receiver) = watch::channel(Arc::default());
        let lag = LagHistogram::default();
        (Self { lag, latest }, receiver)
    }

    /// Shows the row of one update.
    pub fn show(&mut self, row: &Row) {
        self.lag.add(row);
        self.latest.send_replace(Arc::new(Live {
            row: row.clone(),
            lag: self.lag,
            updated: Some((Instant::now(), SystemTime::now())),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::buckets::BucketSummary;

    #[test]
    fn the_histogram_adds_up_over_updates_and_the_latest_row_wins() {
        let (mut feed, latest) = Feed::new();
        assert!(latest.borrow().updated.is_none());
        for (step, lag, steps) in [(1.0, 2.0, 10), (2.0, 4.0, 30)] {
            let mut row = Row::default();
            row.set(Metric::GlobalStep, step);
            row.set(Metric::LagMean, lag);
            let mut buckets = vec![BucketSummary::default(); BUCKETS];
            buckets[lag as usize].steps = steps;
            row.set_buckets(&buckets);
            feed.show(&row);
        }
        let live = latest.borrow().clone();
        assert_eq!(live.row.get(Metric::GlobalStep), Some(2.0));
        assert_eq!(live.lag.count(), 40);
        assert!((live.lag.versions - 140.0).abs() < 1e-9);
        let cumulative: Vec<_> = live.lag.cumulative().collect();
        assert_eq!(cumulative[2], (Some(2), 10));
        assert_eq!(cumulative[3], (Some(3), 10));
        assert_eq!(cumulative[BUCKETS - 1], (None, 40));
    }
}
