//! The course of a run in a bounded number of points, for those who look late.

use serde::Serialize;

use crate::metrics::{METRICS, Metric, Row};

/// Points kept at most; when they are full, every second one goes and the next ones come half as often.
const POINTS_MAX: usize = 512;

/// What is kept of a row.
const KEPT: [Metric; 14] = [
    Metric::WallSeconds,
    Metric::GlobalStep,
    Metric::EpisodicReturn,
    Metric::Ess,
    Metric::ClipFraction,
    Metric::QueueFill,
    Metric::LagMean,
    Metric::LagInjected,
    Metric::LagPublish,
    Metric::LagUnroll,
    Metric::LagOutbox,
    Metric::LagTransport,
    Metric::LagQueue,
    Metric::LagBatch,
];

/// One row's kept metrics, in the order of [`History::names`].
type Point = [Option<f64>; KEPT.len()];

/// The course of a run.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    names: [&'static str; KEPT.len()],
    points: Vec<Point>,
    #[serde(skip)]
    rows_per_point: u64,
    /// Different rows that were seen.
    #[serde(skip)]
    rows: u64,
    #[serde(skip)]
    last_step: Option<f64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            names: KEPT.map(|metric| METRICS[metric as usize].name),
            points: Vec::new(),
            rows_per_point: 1,
            rows: 0,
            last_step: None,
        }
    }
}

impl History {
    /// Looks at the latest row, which may be the one of the last look.
    pub fn look(&mut self, row: &Row) {
        let step = row.get(Metric::GlobalStep);
        if step.is_none() || step == self.last_step {
            return;
        }
        self.last_step = step;
        let due = self.rows.is_multiple_of(self.rows_per_point);
        self.rows += 1;
        if !due {
            return;
        }
        self.points.push(KEPT.map(|metric| row.get(metric)));
        if self.points.len() == POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.rows_per_point *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_thinned_evenly_from_its_start() {
        let mut history = History::default();
        let mut row = Row::default();
        history.look(&row);
        assert!(history.points.is_empty(), "nothing was trained yet");
        for step in 0..5000 {
            row.set(Metric::GlobalStep, f64::from(step));
            history.look(&row);
            history.look(&row);
        }
        assert!(history.points.len() < POINTS_MAX && history.points.len() > POINTS_MAX / 2 - 2);
        let steps: Vec<f64> = history.points.iter().filter_map(|point| point[1]).collect();
        assert_eq!(steps[0], 0.0);
        assert!(
            steps.windows(2).all(|pair| pair[1] - pair[0] == 16.0),
            "{steps:?}"
        );
    }
}
