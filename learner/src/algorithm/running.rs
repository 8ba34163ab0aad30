//! Running statistics over all experience of a run: of observations, and of the discounted return.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use springbok_common::{ids::ActorId, step::StepOutcome};

/// Added to a variance before its root, as Gymnasium's wrappers do.
const EPSILON: f64 = 1e-8;

/// Count, mean and sum of squared deviations of vectors `[O]` (Chan et al. 1979), in 64 bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningMoments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl RunningMoments {
    /// Statistics of nothing yet.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; len],
            squares: vec![0.0; len],
        }
    }

    /// Takes in rows of a matrix [N, O]: those that `wanted` `[N]` names. Two passes over the batch, then a merge.
    pub fn update(&mut self, rows: &[f32], wanted: &[bool]) {
        let len = self.mean.len();
        let chosen = || {
            let rows = rows.chunks_exact(len.max(1)).zip(wanted);
            rows.filter(|(_, wanted)| **wanted).map(|(row, _)| row)
        };
        let count = chosen().count() as f64;
        if count == 0.0 {
            return;
        }
        let mut mean = vec![0.0; len];
        for row in chosen() {
            for (mean, &value) in mean.iter_mut().zip(row) {
                *mean += f64::from(value);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut squares = vec![0.0; len];
        for row in chosen() {
            for ((square, mean), &value) in squares.iter_mut().zip(&mean).zip(row) {
                *square += (f64::from(value) - mean).powi(2);
            }
        }
        self.merge(count, &mean, &squares);
    }

    fn merge(&mut self, count: f64, mean: &[f64], squares: &[f64]) {
        let total = self.count + count;
        let own = self.mean.iter_mut().zip(&mut self.squares);
        for ((own_mean, own_squares), (mean, squares)) in own.zip(mean.iter().zip(squares)) {
            let difference = mean - *own_mean;
            *own_mean += difference * count / total;
            *own_squares += squares + difference * difference * self.count * count / total;
        }
        self.count = total;
    }

    /// Means `[O]`.
    #[must_use]
    pub fn mean(&self) -> Vec<f32> {
        self.mean.iter().map(|&mean| mean as f32).collect()
    }

    /// 1 / sqrt(variance + 1e-8) `[O]`; 1 before anything was taken in.
    #[must_use]
    pub fn inverse_deviation(&self) -> Vec<f32> {
        let inverse = |&squares: &f64| {
            if self.count == 0.0 {
                1.0
            } else {
                (1.0 / (squares / self.count + EPSILON).sqrt()) as f32
            }
        };
        self.squares.iter().map(inverse).collect()
    }
}

/// Most actors whose running returns are kept; beyond, all begin anew, which costs one short transient.
const ACTORS_MAX: usize = 4096;

/// The running deviation of the discounted return of every environment, by which rewards are divided (Engstrom et al.
/// 2020, "Implementation matters in deep RL", arXiv 2005.12729, sec. 2; as Gymnasium's `NormalizeReward`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReturnDeviation {
    gamma: f64,
    moments: RunningMoments,
    /// Discounted return so far of each environment of each actor. Checkpoints do not have it: after a restart actors are
    /// others, or have begun anew.
    #[serde(skip)]
    running: HashMap<ActorId, Vec<f64>>,
}

impl ReturnDeviation {
    /// Statistics of nothing yet, with discount `gamma`.
    #[must_use]
    pub fn new(gamma: f64) -> Self {
        Self {
            gamma,
            moments: RunningMoments::new(1),
            running: HashMap::new(),
        }
    }

    /// Takes in the rewards [T, B] of unrolls of `actors`, each with as many of the B = `columns`, and gives the factor
    /// that brings the discounted return to deviation 1. Void rows count for nothing.
    pub fn update(
        &mut self,
        rewards: &[f32],
        outcomes: &[StepOutcome],
        columns: usize,
        actors: &[ActorId],
    ) -> f64 {
        if self.running.len() > ACTORS_MAX {
            self.running.clear();
        }
        let own = columns / actors.len().max(1);
        let mut returns = Vec::with_capacity(rewards.len());
        for (index, actor) in actors.iter().enumerate() {
            let running = self.running.entry(*actor).or_default();
            running.resize(own, 0.0);
            for row in (0..rewards.len()).step_by(columns.max(1)) {
                for (column, discounted) in running.iter_mut().enumerate() {
                    let entry = row + index * own + column;
                    if outcomes[entry].is_step() {
                        *discounted = self.gamma * *discounted + f64::from(rewards[entry]);
                        returns.push(*discounted as f32);
                    }
                    if outcomes[entry].resets_memory() {
                        *discounted = 0.0;
                    }
                }
            }
        }
        let all = vec![true; returns.len()];
        self.moments.update(&returns, &all);
        self.factor()
    }

    /// All environments begin anew.
    pub fn begin_lives(&mut self) {
        self.running.clear();
    }

    /// The factor that the last [`Self::update`] gave; 1 before the first.
    #[must_use]
    pub fn factor(&self) -> f64 {
        f64::from(self.moments.inverse_deviation()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_give_what_all_rows_together_give() {
        let rows: Vec<f32> = (0..40).map(|i| ((i * 37) % 23) as f32 + 1000.0).collect();
        let mut whole = RunningMoments::new(2);
        whole.update(&rows, &[true; 20]);
        let mut parts = RunningMoments::new(2);
        for part in rows.chunks(12) {
            parts.update(part, &vec![true; part.len() / 2]);
        }
        let column: Vec<f64> = rows.iter().step_by(2).map(|&x| f64::from(x)).collect();
        let mean = column.iter().sum::<f64>() / 20.0;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20.0;
        for moments in [&whole, &parts] {
            assert!((f64::from(moments.mean()[0]) - mean).abs() < 1e-4);
            let inverse = f64::from(moments.inverse_deviation()[0]);
            assert!((inverse * variance.sqrt() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn unwanted_rows_and_empty_batches_change_nothing() {
        let mut moments = RunningMoments::new(1);
        moments.update(&[5.0], &[false]);
        assert_eq!(
            (moments.mean(), moments.inverse_deviation()),
            (vec![0.0], vec![1.0])
        );
        moments.update(&[1.0, 1e9, 3.0], &[true, false, true]);
        assert_eq!(moments.mean(), [2.0]);
        assert!((moments.inverse_deviation()[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_running_return_goes_on_from_unroll_to_unroll_and_ends_with_the_episode() {
        use StepOutcome::{Continued as C, Terminated as E, Void as V};
        let actors = [ActorId::random(), ActorId::random()];
        let mut deviation = ReturnDeviation::new(0.5);
        // Two columns each; the second actor's second column ends and then resets in a void row.
        let rewards = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 99.0];
        deviation.update(&rewards, &[C, C, C, E, C, C, C, V], 4, &actors);
        assert_eq!(deviation.running[&actors[0]], [1.5, 3.0]);
        assert_eq!(deviation.running[&actors[1]], [4.5, 0.0]);
        let factor = deviation.update(&[1.0, 1.0], &[C, E], 2, &actors[..1]);
        assert_eq!(deviation.running[&actors[0]], [1.75, 0.0]);
        let returns = [1.0, 2.0, 3.0, 4.0, 1.5, 3.0, 4.5, 1.75, 2.5];
        let mean = returns.iter().sum::<f64>() / 9.0;
        let variance = returns
            .iter()
            .map(|x: &f64| (x - mean).powi(2))
            .sum::<f64>()
            / 9.0;
        assert!((factor * variance.sqrt() - 1.0).abs() < 1e-6);
    }
}
