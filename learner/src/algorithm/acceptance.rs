//! Tests that tell a correct learner from a subtly wrong one, run on the production code: identities that must hold
//! exactly, invariants of sampled data, and tabular problems whose answers are known.

mod exact;
mod statistical;
mod tabular;
mod truncation;

use springbok_common::step::StepOutcome;

use super::testing::Scenario;
use super::vtrace::{Vtrace, VtraceConfig, vtrace};

/// Steps of an environment with finitely many states, time-major; the critic is a table with one entry per state.
#[derive(Debug, Clone, Default)]
struct Walk {
    /// x_t.
    states: Vec<usize>,
    /// The state that step t reached, before any reset.
    reached: Vec<usize>,
    rewards: Vec<f32>,
    outcomes: Vec<StepOutcome>,
    log_rhos: Vec<f32>,
    columns: usize,
}

impl Walk {
    /// Appends one step of one column; rows must be appended in order, each from column 0 on.
    fn push(
        &mut self,
        state: usize,
        reached: usize,
        reward: f32,
        outcome: StepOutcome,
        log_rho: f32,
    ) {
        self.states.push(state);
        self.reached.push(reached);
        self.rewards.push(reward);
        self.outcomes.push(outcome);
        self.log_rhos.push(log_rho);
    }

    /// The same steps as the learner sees them: states replaced by the values of `critic`.
    fn evaluated(&self, critic: &[f32]) -> Scenario<f32> {
        Scenario {
            rewards: self.rewards.clone(),
            values: self.states.iter().map(|s| critic[*s]).collect(),
            next_values: self.reached.iter().map(|s| critic[*s]).collect(),
            outcomes: self.outcomes.clone(),
            log_rhos: self.log_rhos.clone(),
            columns: self.columns,
        }
    }

    /// The production V-trace on these steps.
    fn vtrace(&self, critic: &[f32], config: &VtraceConfig) -> Vtrace<f32> {
        let scenario = self.evaluated(critic);
        vtrace(&scenario.transitions(), &scenario.log_rhos, config)
    }
}

/// Moves each table entry by `step_size` towards the mean target of its state.
fn fit(critic: &mut [f32], states: &[usize], targets: &[f32], step_size: f64) {
    let mut sums = vec![(0.0_f64, 0_u32); critic.len()];
    for (state, target) in states.iter().zip(targets) {
        sums[*state].0 += f64::from(*target);
        sums[*state].1 += 1;
    }
    for (value, (sum, visits)) in critic.iter_mut().zip(sums) {
        if visits > 0 {
            let old = f64::from(*value);
            *value = (old + step_size * (sum / f64::from(visits) - old)) as f32;
        }
    }
}
