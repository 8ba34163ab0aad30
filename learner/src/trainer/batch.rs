//! The staging area on the host: the unrolls of one batch, put side by side.

use springbok_common::{spec::RolloutShape, step::StepOutcome, unroll::Unroll, version::PolicyLag};

/// Several unrolls as one time-major batch of T rows and B columns. Its buffers are reused from batch to batch.
///
/// Entry `t * B + b` is step t of column b; the columns of the first unroll come first.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// T.
    pub t: usize,
    /// B: environments of all unrolls together.
    pub columns: usize,
    /// Rows of O values: T * B steps, then B bootstrap states, then one row per entry of `final_rows`.
    pub observations: Vec<f32>,
    /// [T, B].
    pub actions: Vec<i32>,
    /// [T, B], raw.
    pub rewards: Vec<f32>,
    /// [T, B]: log mu of the taken actions, as the actors sampled them.
    pub behaviour_log_probs: Vec<f32>,
    /// [T, B].
    pub outcomes: Vec<StepOutcome>,
    /// Entry `t * B + b` of each truncated step, in the order of the final observations.
    pub final_rows: Vec<usize>,
    /// `[B]`: age in versions of the policy that made each column.
    pub lags: Vec<u64>,
}

impl Batch {
    /// Forgets the content and keeps the buffers.
    pub fn clear(&mut self) {
        self.t = 0;
        self.columns = 0;
        self.observations.clear();
        self.actions.clear();
        self.rewards.clear();
        self.behaviour_log_probs.clear();
        self.outcomes.clear();
        self.final_rows.clear();
        self.lags.clear();
    }

    /// Steps in it: T * B.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.actions.len()
    }

    /// Rows of observations: steps, bootstrap states and final states.
    #[must_use]
    pub fn observation_rows(&self) -> usize {
        self.steps() + self.columns + self.final_rows.len()
    }

    /// Replaces the content by `unrolls`, each with its lag. All have the extent `shape`, which [`Unroll::new`] checks.
    pub fn assemble(&mut self, unrolls: &[(&Unroll, PolicyLag)], shape: RolloutShape) {
        self.clear();
        let width = shape.environments;
        self.t = shape.unroll_length;
        self.columns = width * unrolls.len();
        let parts = || unrolls.iter().map(|(unroll, _)| unroll.parts());
        for row in 0..shape.unroll_length {
            let own = row * width..(row + 1) * width;
            for part in parts() {
                let observation_len = part.bootstrap_observations.len() / width.max(1);
                let values = own.start * observation_len..own.end * observation_len;
                self.observations
                    .extend_from_slice(&part.observations[values]);
                // Discrete actions number far fewer than 2^31.
                self.actions.extend(
                    part.actions[own.clone()]
                        .iter()
                        .map(|&action| action as i32),
                );
                self.rewards.extend_from_slice(&part.rewards[own.clone()]);
                self.behaviour_log_probs
                    .extend_from_slice(&part.behaviour_log_probs[own.clone()]);
                self.outcomes.extend_from_slice(&part.outcomes[own.clone()]);
            }
        }
        for part in parts() {
            self.observations
                .extend_from_slice(&part.bootstrap_observations);
        }
        for (index, part) in parts().enumerate() {
            self.observations
                .extend_from_slice(&part.final_observations);
            self.final_rows.extend(part.final_rows.iter().map(|&row| {
                let (t, k) = (row as usize / width, row as usize % width);
                t * self.columns + index * width + k
            }));
        }
        for (_, lag) in unrolls {
            self.lags.extend(std::iter::repeat_n(lag.versions(), width));
        }
    }

    /// V'_t [T, B] out of the values of all observation rows: the value of the state that each step reached, before
    /// any reset. After a terminal step it is the value of the next row, which nothing may read.
    #[must_use]
    pub fn next_values(&self, values: &[f32]) -> Vec<f32> {
        let (steps, columns) = (self.steps(), self.columns);
        // Row t + 1 of the steps, and after the last row the bootstrap states, which follow the steps.
        let mut next = values[columns..columns + steps].to_vec();
        let finals = &values[steps + columns..];
        for (&row, &value) in self.final_rows.iter().zip(finals) {
            next[row] = value;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::{
        ids::{RunId, UnrollSequence},
        spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
        unroll::{Agreement, UnrollHeader, UnrollParts, UnrollTiming},
        version::{LearnerEpoch, PolicyVersion},
    };

    use super::*;

    const SHAPE: RolloutShape = RolloutShape {
        unroll_length: 3,
        environments: 2,
    };

    /// An unroll whose values tell where they came from: `base` + row.
    fn unroll(base: f32, outcomes: [StepOutcome; 6]) -> Unroll {
        let agreement = Agreement {
            environment: EnvironmentSpec {
                id: "Test".into(),
                observation: ObservationSpec {
                    shape: vec![1],
                    bounds: [-1e3, 1e3],
                },
                action: ActionSpec::Discrete(100),
                episode_steps_max: None,
            },
            network: NetworkSpec {
                observation_len: 1,
                logits: 100,
                hidden_sizes: vec![],
                activation: Activation::Relu,
                shared_torso: true,
            },
            rollout: SHAPE,
        };
        let rows: Vec<f32> = (0..6).map(|row| base + row as f32).collect();
        let final_rows: Vec<u32> = (0..6)
            .filter(|&row| outcomes[row as usize] == StepOutcome::Truncated)
            .collect();
        let parts = UnrollParts {
            header: UnrollHeader {
                run_id: RunId::random(),
                epoch: LearnerEpoch::FIRST,
                sequence: UnrollSequence::FIRST,
                version: PolicyVersion(0),
            },
            observations: rows.clone(),
            bootstrap_observations: vec![base + 6.0, base + 7.0],
            actions: rows.iter().map(|&row| row as u32).collect(),
            rewards: rows.clone(),
            behaviour_log_probs: rows.iter().map(|row| -row / 10.0).collect(),
            outcomes: outcomes.to_vec(),
            final_observations: final_rows
                .iter()
                .map(|&row| base + 50.0 + row as f32)
                .collect(),
            final_rows,
            episodes: vec![],
            timing: UnrollTiming::default(),
        };
        Unroll::new(parts, &agreement).unwrap()
    }

    #[test]
    fn unrolls_stand_side_by_side_and_finals_keep_their_steps() {
        use StepOutcome::{Continued as C, Terminated as E, Truncated as U};
        let first = unroll(0.0, [C, U, C, C, C, C]);
        let second = unroll(10.0, [C, C, E, C, C, U]);
        let version = PolicyVersion(5);
        let lag = |behind: u64| version.lag_behind(PolicyVersion(5 - behind)).unwrap();
        let mut batch = Batch::default();
        // Twice: a reused batch forgets what was in it.
        for _ in 0..2 {
            batch.assemble(&[(&first, lag(0)), (&second, lag(3))], SHAPE);
        }
        let steps = [0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15];
        assert_eq!(batch.actions, steps);
        assert_eq!(batch.rewards, steps.map(|step| step as f32));
        assert_eq!(batch.outcomes, [C, U, C, C, C, C, E, C, C, C, C, U]);
        assert_eq!(batch.observations[12..], [6.0, 7.0, 16.0, 17.0, 51.0, 65.0]);
        assert_eq!(batch.final_rows, [1, 11]);
        assert_eq!(batch.lags, [0, 0, 3, 3]);
        assert_eq!(batch.observation_rows(), 18);

        let next = batch.next_values(&batch.observations.clone());
        assert_eq!(
            next,
            [
                2.0, 51.0, 12.0, 13.0, 4.0, 5.0, 14.0, 15.0, 6.0, 7.0, 16.0, 65.0
            ]
        );
    }
}
