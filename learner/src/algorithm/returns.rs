//! What one unroll says about values, and the two estimators that need no correction: GAE and n-step returns.

use springbok_common::step::StepOutcome;

use super::real::Real;

/// Steps of `T` rows and `B` environment columns, time-major: entry `t * B + b` is step `t` of column `b`.
#[derive(Debug, Clone, Copy)]
pub struct Transitions<'a, F> {
    /// r_t `[T, B]`: the reward that action a_t caused.
    pub rewards: &'a [F],
    /// V(x_t) `[T, B]`: value of the state in which a_t was chosen.
    pub values: &'a [F],
    /// V'_t `[T, B]`: value of the state that step `t` reached, before any reset. V(x_{t+1}) inside an episode,
    /// V(final observation) where truncated, V(x_T) in the last row. Never read where terminated or a life was lost.
    pub next_values: &'a [F],
    /// How each step ended `[T, B]`.
    pub outcomes: &'a [StepOutcome],
    /// B, at least 1.
    pub columns: usize,
}

impl<F: Real> Transitions<'_, F> {
    /// T, the number of rows.
    ///
    /// # Panics
    /// When the slices differ in length or are no whole number of rows: a mistake in the calling code.
    #[must_use]
    pub fn rows(&self) -> usize {
        let steps = self.rewards.len();
        assert_eq!(self.values.len(), steps, "values are [T, B]");
        assert_eq!(self.next_values.len(), steps, "next values are [T, B]");
        assert_eq!(self.outcomes.len(), steps, "outcomes are [T, B]");
        assert!(
            self.columns > 0 && steps.is_multiple_of(self.columns),
            "a whole number of rows"
        );
        steps / self.columns
    }

    /// r_t + disc_t * `next`, where disc_t is `gamma`, or 0 where step `i` has no future.
    ///
    /// A choice, not a product with 0: what stands in `next` after a terminal step may be anything, even NaN.
    pub(crate) fn backup(&self, i: usize, gamma: F, next: F) -> F {
        if self.outcomes[i].has_future() {
            self.rewards[i] + gamma * next
        } else {
            self.rewards[i]
        }
    }

    /// The part of `later` (a quantity of row t+1, same column) that may flow back into step `i`: all of it inside
    /// an episode, nothing across an end of any kind.
    pub(crate) fn carry(&self, i: usize, later: F) -> F {
        if self.outcomes[i].continues() {
            later
        } else {
            F::ZERO
        }
    }
}

/// What [`gae`] returns, both `[T, B]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gae<F> {
    /// A_t.
    pub advantages: Vec<F>,
    /// A_t + V(x_t), the critic's target.
    pub returns: Vec<F>,
}

/// Generalised advantage estimation (Schulman et al. 2016, "High-dimensional continuous control using generalized
/// advantage estimation", eq. 16):
///
/// `delta_t = r_t + disc_t V'_t - V(x_t)`, `A_t = delta_t + disc_t cont_t lambda A_{t+1}`, `A_T = 0`,
///
/// with disc_t = 0 after a terminal step and cont_t = 0 after either end. On-policy: it corrects nothing.
///
/// # Panics
/// When the shapes disagree, see [`Transitions::rows`].
#[must_use]
pub fn gae<F: Real>(transitions: &Transitions<'_, F>, gamma: f64, lambda: f64) -> Gae<F> {
    let steps = transitions.rows() * transitions.columns;
    let (gamma, lambda) = (F::from_f64(gamma), F::from_f64(lambda));
    let mut advantages = vec![F::ZERO; steps];
    let mut returns = vec![F::ZERO; steps];
    for i in (0..steps).rev() {
        let value = transitions.values[i];
        let delta = transitions.backup(i, gamma, transitions.next_values[i]) - value;
        let later = advantages
            .get(i + transitions.columns)
            .copied()
            .unwrap_or(F::ZERO);
        advantages[i] = delta + gamma * lambda * transitions.carry(i, later);
        returns[i] = advantages[i] + value;
    }
    Gae {
        advantages,
        returns,
    }
}

/// What [`n_step`] returns, both `[T, B]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NStep<F> {
    /// G_t, the critic's target.
    pub targets: Vec<F>,
    /// G_t - V(x_t).
    pub advantages: Vec<F>,
}

/// Uncorrected n-step returns (Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", alg. S3):
///
/// `G_t = r_t + gamma r_{t+1} + ... + gamma^m V'_{t+m-1}`,
///
/// where the window of m <= n steps stops at the first end of an episode and at the end of the unroll, and the last
/// term is missing after a terminal step. `n` counts as 1 when it is 0.
///
/// # Panics
/// When the shapes disagree, see [`Transitions::rows`].
#[must_use]
pub fn n_step<F: Real>(transitions: &Transitions<'_, F>, gamma: f64, n: usize) -> NStep<F> {
    let columns = transitions.columns;
    let rows = transitions.rows();
    let gamma = F::from_f64(gamma);
    let mut targets = vec![F::ZERO; rows * columns];
    let mut advantages = vec![F::ZERO; rows * columns];
    for t in 0..rows {
        for b in 0..columns {
            let window = last_row_of_window(transitions, t, b, n.max(1));
            let mut target = transitions.next_values[window * columns + b];
            // Horner's scheme from the window's last row back to t.
            for k in (t..=window).rev() {
                target = transitions.backup(k * columns + b, gamma, target);
            }
            let i = t * columns + b;
            targets[i] = target;
            advantages[i] = target - transitions.values[i];
        }
    }
    NStep {
        targets,
        advantages,
    }
}

/// The last row that counts in the n-step window that starts at row `t` of column `b`.
fn last_row_of_window<F: Real>(
    transitions: &Transitions<'_, F>,
    t: usize,
    b: usize,
    n: usize,
) -> usize {
    let columns = transitions.columns;
    let rows = transitions.outcomes.len() / columns;
    let limit = t.saturating_add(n).min(rows) - 1;
    (t..limit)
        .find(|k| !transitions.outcomes[k * columns + b].continues())
        .unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::testing::{Scenario, widen};
    use crate::golden;

    fn check<F: Real>(case: &serde_json::Value, tol: f64) {
        let name = golden::name(case);
        let scenario: Scenario<F> = Scenario::from_golden(case);
        let (config, expected) = (&case["config"], &case["expected"]);
        let gamma = golden::number(&config["gamma"]);
        let pairs = match config["kind"].as_str() {
            Some("gae") => {
                let got = gae(
                    &scenario.transitions(),
                    gamma,
                    golden::number(&config["lam"]),
                );
                [("adv", got.advantages), ("returns", got.returns)]
            }
            Some("nstep") => {
                let got = n_step(
                    &scenario.transitions(),
                    gamma,
                    golden::integer(&config["n"]),
                );
                [("target", got.targets), ("adv", got.advantages)]
            }
            other => panic!("{name}: unknown kind {other:?}"),
        };
        for (field, got) in pairs {
            let wanted = golden::numbers(&expected[field]);
            golden::assert_close(&format!("{name} {field}"), &widen(&got), &wanted, tol);
        }
    }

    #[test]
    fn golden_returns_f64() {
        golden::each_case("returns", |_| true, |_, case| check::<f64>(case, 1e-9));
    }

    #[test]
    fn golden_returns_f32() {
        golden::each_case("returns", |_| true, |_, case| check::<f32>(case, 1e-5));
    }

    #[test]
    fn nothing_after_a_terminal_step_is_read() {
        let outcomes = [StepOutcome::Continued, StepOutcome::Terminated];
        let transitions = Transitions {
            rewards: &[1.0_f32, 1.0],
            values: &[0.0, 0.0],
            next_values: &[0.0, f32::NAN],
            outcomes: &outcomes,
            columns: 1,
        };
        assert_eq!(gae(&transitions, 0.5, 1.0).returns, [1.5, 1.0]);
        assert_eq!(n_step(&transitions, 0.5, 7).targets, [1.5, 1.0]);
    }

    #[test]
    fn no_rows_give_no_targets() {
        let empty: Transitions<'_, f32> = Transitions {
            rewards: &[],
            values: &[],
            next_values: &[],
            outcomes: &[],
            columns: 3,
        };
        assert!(gae(&empty, 0.9, 0.9).advantages.is_empty());
        assert!(n_step(&empty, 0.9, 5).targets.is_empty());
    }
}
