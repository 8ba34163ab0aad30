//! A sign of life from the thread that steps environments. Code of an environment that does not return cannot be stopped
//! from within its process, but it can be noticed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Since when a step has been going on; its copies share it.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    made: Instant,
    /// Microseconds from `made` to the begin of the step, and 1; 0 between unrolls.
    begun: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            begun: Arc::default(),
        }
    }
}

impl Pulse {
    /// A step begins.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.begun.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// No step is going on.
    pub(crate) fn rest(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }

    /// For how long the step that is going on has been.
    fn busy(&self) -> Duration {
        match self.begun.load(Ordering::Relaxed).checked_sub(1) {
            None => Duration::ZERO,
            Some(begun) => {
                let begun = Duration::from_micros(begun);
                self.made.elapsed().saturating_sub(begun)
            }
        }
    }

    /// Waits until a step has been going on for longer than `limit`.
    pub(crate) async fn stopped(&self, limit: Duration) {
        while self.busy() <= limit {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn only_a_step_that_goes_on_counts() {
        let pulse = Pulse::default();
        let step = Duration::from_millis(20);
        thread::sleep(step);
        assert_eq!(pulse.busy(), Duration::ZERO);
        pulse.beat();
        thread::sleep(step);
        assert!(pulse.busy() >= step);
        pulse.rest();
        assert_eq!(pulse.busy(), Duration::ZERO);
    }
}
