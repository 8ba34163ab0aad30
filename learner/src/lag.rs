//! The lag meter: how many versions behind the learner each trained step was, and why.

pub mod buckets;
pub mod causes;
pub mod odometer;
pub mod predict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use springbok_common::version::PolicyLag;

use self::causes::{ByCause, LagCauses};

/// Lags above this share one histogram bin, so that memory stays bounded.
const HISTOGRAM_LAG_MAX: u64 = 1 << 16;

/// Distribution of the lag, weighted by trained steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LagSummary {
    /// Versions, mean.
    pub mean: f64,
    /// Versions, median.
    pub p50: f64,
    /// Versions, 95th percentile.
    pub p95: f64,
    /// Versions, 99th percentile.
    pub p99: f64,
    /// Versions, largest.
    pub max: f64,
    /// Mean seconds from the publication of the policy that acted to the training on what it did.
    pub seconds: f64,
    /// Mean environment steps that all actors made from an unroll's first action to its training.
    #[serde(default)]
    pub env_steps: f64,
}

/// Adds up the lag of trained steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LagMeter {
    /// Steps by lag.
    histogram: BTreeMap<u64, u64>,
    steps: u64,
    /// Versions times steps, over all lags and by cause.
    weighted: u128,
    causes: [u128; 7],
    cause_seconds: [f64; 7],
    age_env_steps: f64,
}

impl LagMeter {
    /// `steps` were trained with `lag`, which `causes` splits; all actors made `age_env_steps` since their unroll was begun.
    pub fn record(&mut self, steps: u64, lag: PolicyLag, causes: &LagCauses, age_env_steps: f64) {
        let weight = u128::from(steps);
        let bin = lag.versions().min(HISTOGRAM_LAG_MAX);
        *self.histogram.entry(bin).or_default() += steps;
        self.steps += steps;
        self.weighted += u128::from(lag.versions()) * weight;
        for (sum, cause) in self.causes.iter_mut().zip(causes.versions.into_array()) {
            *sum += u128::from(cause) * weight;
        }
        for (sum, cause) in self
            .cause_seconds
            .iter_mut()
            .zip(causes.seconds.into_array())
        {
            *sum += cause * steps as f64;
        }
        self.age_env_steps += age_env_steps * steps as f64;
    }

    /// The distribution so far; all zero before the first step.
    #[must_use]
    pub fn summary(&self) -> LagSummary {
        let steps = self.steps.max(1) as f64;
        let largest = self.histogram.keys().next_back();
        LagSummary {
            mean: self.weighted as f64 / steps,
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: largest.map_or(0.0, |lag| *lag as f64),
            seconds: self.cause_seconds.iter().sum::<f64>() / steps,
            env_steps: self.age_env_steps / steps,
        }
    }

    /// Mean versions by cause so far; the sum is the mean lag.
    #[must_use]
    pub fn causes(&self) -> ByCause<f64> {
        let steps = self.steps.max(1) as f64;
        ByCause::from_stages(|stage| self.causes[stage] as f64 / steps)
    }

    /// Mean seconds by cause so far; the sum is the mean age of the policy that acted.
    #[must_use]
    pub fn cause_seconds(&self) -> ByCause<f64> {
        let steps = self.steps.max(1) as f64;
        ByCause::from_stages(|stage| self.cause_seconds[stage] / steps)
    }

    /// The smallest lag that at least the share `q` of all steps does not exceed.
    fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.steps as f64).ceil() as u64;
        let mut seen = 0;
        for (lag, steps) in &self.histogram {
            seen += steps;
            if seen >= rank {
                return *lag as f64;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::version::PolicyVersion;

    use super::*;

    fn lag(versions: u64) -> PolicyLag {
        PolicyVersion(versions)
            .lag_behind(PolicyVersion(0))
            .unwrap()
    }

    #[test]
    fn the_summary_weights_by_steps() {
        let mut meter = LagMeter::default();
        assert_eq!(meter.summary(), LagSummary::default());
        let causes = |queue, seconds| LagCauses {
            versions: ByCause {
                queue,
                ..ByCause::default()
            },
            seconds: ByCause {
                unroll: seconds,
                ..ByCause::default()
            },
        };
        meter.record(90, lag(0), &causes(0, 1.0), 100.0);
        meter.record(10, lag(5), &causes(5, 11.0), 1100.0);
        let summary = meter.summary();
        assert_eq!((summary.mean, summary.p50), (0.5, 0.0));
        assert_eq!((summary.p95, summary.max, summary.seconds), (5.0, 5.0, 2.0));
        assert_eq!(summary.env_steps, 200.0);
        assert_eq!(meter.causes().queue, 0.5);
        assert_eq!(meter.cause_seconds().unroll, 2.0);
    }
}
