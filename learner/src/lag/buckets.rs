//! What experience of each age is worth: the health of the trained steps in fixed buckets of policy lag, so that runs
//! of any lag can be compared and the table stays small.

use serde::{Deserialize, Serialize};

use crate::algorithm::health::{LagRow, WeightSums};

/// Number of buckets.
pub const BUCKETS: usize = 9;

/// Name and largest lag, in versions, of each bucket.
pub const BUCKET_BOUNDS: [(&str, u64); BUCKETS] = [
    ("0", 0),
    ("1", 1),
    ("2", 2),
    ("3", 3),
    ("4", 4),
    ("5-8", 8),
    ("9-16", 16),
    ("17-32", 32),
    ("33+", u64::MAX),
];

/// Index of the bucket that `lag` versions fall into.
#[must_use]
pub fn bucket_of(lag: u64) -> usize {
    BUCKET_BOUNDS.partition_point(|(_, largest)| *largest < lag)
}

/// The health of one bucket, an element of `lag_buckets` in `summary.json`. What has no value without a step is absent
/// then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketSummary {
    /// Lags in versions, such as "5-8".
    pub bucket: String,
    /// Steps trained with such a lag.
    pub steps: u64,
    /// Effective sample size of pi / mu, as a share of the steps, over the whole run.
    pub ess: Option<f64>,
    /// Share of steps whose pi / mu is outside the clip range.
    pub clip_fraction: Option<f64>,
    /// KL(mu || pi), estimator k3, in nats.
    pub k3: Option<f64>,
    /// Share of steps whose pi_prox / mu is above rho_bar, where V-trace cuts it.
    pub rho_saturation: Option<f64>,
    /// Mean absolute advantage, in the units of the loss.
    pub abs_advantage: Option<f64>,
}

/// Sums over the steps of one bucket.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct BucketSums {
    weights: WeightSums,
    clipped: f64,
    k3: f64,
    saturated: f64,
    abs_advantage: f64,
}

impl BucketSums {
    fn add(&mut self, row: &LagRow) {
        let steps = row.count as f64;
        self.weights.merge(&row.weights);
        self.clipped += row.clip_fraction * steps;
        self.k3 += row.k3 * steps;
        self.saturated += row.rho_saturation * steps;
        self.abs_advantage += row.abs_advantage * steps;
    }

    fn summary(&self, bucket: &str) -> BucketSummary {
        let steps = self.weights.count;
        let mean = |sum: f64| finite(sum / steps as f64);
        BucketSummary {
            bucket: bucket.to_owned(),
            steps,
            ess: finite(self.weights.effective_sample_size()),
            clip_fraction: mean(self.clipped),
            k3: mean(self.k3),
            rho_saturation: mean(self.saturated),
            abs_advantage: mean(self.abs_advantage),
        }
    }
}

/// Adds up the health of trained steps by bucket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BucketTable([BucketSums; BUCKETS]);

impl BucketTable {
    /// Adds the rows of one update.
    pub fn add(&mut self, rows: &[LagRow]) {
        for row in rows {
            if let Some(bucket) = self.0.get_mut(bucket_of(row.lag)) {
                bucket.add(row);
            }
        }
    }

    /// The buckets in ascending order, empty ones too.
    #[must_use]
    pub fn summary(&self) -> Vec<BucketSummary> {
        let named = self.0.iter().zip(BUCKET_BOUNDS);
        named.map(|(sums, (name, _))| sums.summary(name)).collect()
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::health::effective_sample_size;

    fn row(lag: u64, log_ratios: &[f64], share: f64) -> LagRow {
        LagRow {
            lag,
            count: log_ratios.len(),
            ess: effective_sample_size(log_ratios),
            clip_fraction: share,
            k3: share / 2.0,
            rho_saturation: share / 4.0,
            abs_advantage: share * 8.0,
            weights: WeightSums::of(log_ratios),
        }
    }

    #[test]
    fn every_lag_has_the_bucket_that_its_name_says() {
        let names =
            [0, 1, 4, 5, 8, 9, 16, 17, 32, 33, u64::MAX].map(|lag| BUCKET_BOUNDS[bucket_of(lag)].0);
        let expected = [
            "0", "1", "4", "5-8", "5-8", "9-16", "9-16", "17-32", "17-32", "33+", "33+",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_bucket_pools_its_steps_over_lags_and_updates() {
        let mut table = BucketTable::default();
        table.add(&[row(5, &[0.0, 1.0], 0.5), row(2, &[0.3], 1.0)]);
        table.add(&[row(8, &[2.0, -1.0, 0.5, 0.5], 0.25)]);
        let summary = table.summary();
        let pooled = &summary[5];
        assert_eq!((pooled.bucket.as_str(), pooled.steps), ("5-8", 6));
        // Pooled weights, not a mean of two effective sample sizes.
        let ess = effective_sample_size(&[0.0, 1.0, 2.0, -1.0, 0.5, 0.5]);
        assert!((pooled.ess.unwrap() - ess).abs() < 1e-12);
        // (2 * 0.5 + 4 * 0.25) / 6 = 1/3
        let third = |value: Option<f64>, factor: f64| {
            assert!((value.unwrap() - factor / 3.0).abs() < 1e-12);
        };
        third(pooled.clip_fraction, 1.0);
        third(pooled.k3, 0.5);
        third(pooled.rho_saturation, 0.25);
        third(pooled.abs_advantage, 8.0);
        assert_eq!((summary[2].steps, summary[2].clip_fraction), (1, Some(1.0)));
        assert_eq!((summary[0].steps, summary[0].ess), (0, None));
    }
}
