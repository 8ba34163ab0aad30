//! How requests to act were served.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// What came of the requests to act: `inference` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InferenceSummary {
    /// Passes through the network.
    pub batches: u64,
    /// Environments acted for, in all of them.
    pub rows: u64,
    /// Environments in one pass, mean.
    pub batch_rows: f64,
    /// Environments acted for in a second, from the first pass on.
    pub rows_per_s: f64,
    /// Seconds that a request waited before its pass, mean.
    pub wait_s: f64,
    /// Share of the time from the first pass on in which it computed.
    pub busy: f64,
}

#[derive(Debug, Default)]
struct Counts {
    begun: Option<Instant>,
    batches: u64,
    requests: u64,
    rows: u64,
    waited: Duration,
    computed: Duration,
}

/// Counts; its copies share them.
#[derive(Debug, Clone, Default)]
pub struct InferenceMeter(Arc<Mutex<Counts>>);

impl InferenceMeter {
    /// A pass over `rows` environments took `computed`; its requests had waited for so long before it.
    pub(super) fn acted(
        &self,
        rows: usize,
        waits: impl Iterator<Item = Duration>,
        computed: Duration,
    ) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.begun.get_or_insert_with(Instant::now);
        counts.batches += 1;
        counts.rows += rows as u64;
        counts.computed += computed;
        for wait in waits {
            counts.requests += 1;
            counts.waited += wait;
        }
    }

    /// What has come of them so far; `None` before the first.
    #[must_use]
    pub fn summary(&self) -> Option<InferenceSummary> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = counts.begun?.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        Some(InferenceSummary {
            batches: counts.batches,
            rows: counts.rows,
            batch_rows: counts.rows as f64 / counts.batches.max(1) as f64,
            rows_per_s: counts.rows as f64 / since,
            wait_s: counts.waited.as_secs_f64() / counts.requests.max(1) as f64,
            busy: (counts.computed.as_secs_f64() / since).min(1.0),
        })
    }
}
