//! The staging area on the host: the unrolls of one batch, put side by side.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use springbok_common::{
    arrays::{Actions, Elements},
    ids::ActorId,
    spec::RolloutShape,
    step::StepOutcome,
    unroll::{Unroll, UnrollParts},
    version::PolicyLag,
};

/// One unroll of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// The unroll.
    pub unroll: &'a Unroll,
    /// Age of the policy that made its first step, the oldest in it.
    pub lag: PolicyLag,
    /// Who made it.
    pub actor: ActorId,
}

/// Several unrolls as one time-major batch of T rows and B columns. Its buffers are reused from batch to batch.
///
/// Entry `t * B + b` is step t of column b; the columns of the first unroll come first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Batch {
    /// T.
    pub t: usize,
    /// B: environments of all unrolls together.
    pub columns: usize,
    /// Rows of O elements: T * B steps, then B bootstrap states, then one row per entry of `final_rows`.
    pub observations: Elements,
    /// [T, B, A].
    pub actions: Actions,
    /// [T, B, M]; empty without masks.
    pub action_masks: Vec<u8>,
    /// [T, B], raw.
    pub rewards: Vec<f32>,
    /// [T, B]: log mu of the taken actions, as the actors sampled them.
    pub behaviour_log_probs: Vec<f32>,
    /// [T, B].
    pub outcomes: Vec<StepOutcome>,
    /// Entry `t * B + b` of each truncated step, in the order of the final observations.
    pub final_rows: Vec<usize>,
    /// [B, S]: the recurrent state in which the first step of each column was taken; empty without memory.
    pub core_states: Vec<f32>,
    /// Age in versions of the policy that made each step: [T, B], or `[B]` where no column has more than one.
    pub lags: Vec<u64>,
    /// [T, B]: weight of each step's policy gradient; empty if all are 1.
    pub weights: Vec<f32>,
    /// Who made each unroll; all unrolls have equally many columns.
    pub actors: Vec<ActorId>,
    /// Whether it was trained on before: running statistics have seen it.
    pub reused: bool,
}

/// How large a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// T.
    pub t: usize,
    /// B: environments of all unrolls together.
    pub columns: usize,
    /// T * B, void rows included.
    pub steps: usize,
    /// Steps that were truncated, and have a final observation.
    pub finals: usize,
}

impl Extent {
    /// Rows of observations: steps, bootstrap states and final states.
    #[must_use]
    pub fn observation_rows(&self) -> usize {
        self.steps + self.columns + self.finals
    }
}

impl Batch {
    /// Forgets the content and keeps the buffers.
    pub fn clear(&mut self) {
        self.t = 0;
        self.columns = 0;
        self.observations.clear_as(self.observations.element());
        self.actions.clear();
        self.action_masks.clear();
        self.rewards.clear();
        self.behaviour_log_probs.clear();
        self.outcomes.clear();
        self.final_rows.clear();
        self.core_states.clear();
        self.lags.clear();
        self.weights.clear();
        self.actors.clear();
        self.reused = false;
    }

    /// Rows of it: T * B, void ones included.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.rewards.len()
    }

    /// How large it is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent {
            t: self.t,
            columns: self.columns,
            steps: self.steps(),
            finals: self.final_rows.len(),
        }
    }

    /// Replaces the content by `members`, which all have the extent `shape` ([`Unroll::new`] checks that).
    pub fn assemble(&mut self, members: &[Member<'_>], shape: RolloutShape) {
        self.clear();
        let width = shape.environments;
        self.t = shape.unroll_length;
        self.columns = width * members.len();
        let parts = || members.iter().map(|member| member.unroll.parts());
        if let Some(first) = parts().next() {
            let element = first.observations.element();
            self.observations.clear_as(element);
        }
        for row in 0..shape.unroll_length {
            for part in parts() {
                self.append_row(part, row * width..(row + 1) * width);
            }
        }
        for part in parts() {
            self.observations
                .extend(part.bootstrap_observations.as_ref());
        }
        for (index, part) in parts().enumerate() {
            self.observations.extend(part.final_observations.as_ref());
            self.final_rows.extend(part.final_rows.iter().map(|&row| {
                let (t, k) = (row as usize / width, row as usize % width);
                t * self.columns + index * width + k
            }));
            self.core_states.extend_from_slice(&part.core_states);
        }
        self.actors
            .extend(members.iter().map(|member| member.actor));
        self.date(members, shape);
    }

    /// Makes the same members as old as they are by now.
    pub fn date(&mut self, members: &[Member<'_>], shape: RolloutShape) {
        self.lags.clear();
        let width = shape.environments;
        let changes = |member: &Member<'_>| !member.unroll.parts().step_versions.is_empty();
        let changes = members.iter().any(changes);
        let rows = if changes { shape.unroll_length } else { 1 };
        for row in 0..rows {
            for member in members {
                let lag = lag_of_step(member, row);
                self.lags.extend(std::iter::repeat_n(lag, width));
            }
        }
    }

    /// Weighs the policy gradient of each step by `weight` of its lag in versions.
    pub fn weigh(&mut self, weight: impl Fn(u64) -> f32) {
        let weights: Vec<f32> = self.lags.iter().map(|lag| weight(*lag)).collect();
        self.weights.clear();
        if weights.iter().any(|weight| *weight < 1.0) {
            let rows = self.steps() / weights.len();
            self.weights.extend(weights.repeat(rows));
        }
    }

    /// Appends the steps `own`, one row of one unroll.
    fn append_row(&mut self, part: &UnrollParts, own: Range<usize>) {
        let steps = part.rewards.len().max(1);
        let scaled = |len: usize| {
            let each = len / steps;
            own.start * each..own.end * each
        };
        self.observations
            .extend(part.observations.slice(scaled(part.observations.len())));
        self.actions
            .extend(part.actions.slice(scaled(part.actions.len())));
        self.action_masks
            .extend_from_slice(&part.action_masks[scaled(part.action_masks.len())]);
        self.rewards.extend_from_slice(&part.rewards[own.clone()]);
        self.behaviour_log_probs
            .extend_from_slice(&part.behaviour_log_probs[own.clone()]);
        self.outcomes.extend_from_slice(&part.outcomes[own]);
    }

    /// The observation row [T, B] of the state that each step reached, before any reset. After a terminal step it is the
    /// next row, whose value nothing may read.
    #[must_use]
    pub fn reached_rows(&self) -> Vec<usize> {
        let (steps, columns) = (self.steps(), self.columns);
        // Row t + 1 of the steps, and after the last row the bootstrap states, which follow the steps.
        let mut reached: Vec<usize> = (columns..columns + steps).collect();
        for (index, &row) in self.final_rows.iter().enumerate() {
            reached[row] = steps + columns + index;
        }
        reached
    }

    /// V'_t [T, B] out of the values of all observation rows: those of [`Self::reached_rows`].
    #[must_use]
    pub fn next_values(&self, values: &[f32]) -> Vec<f32> {
        let reached = self.reached_rows().into_iter();
        reached.map(|row| values[row]).collect()
    }

    /// Which rows [T, B] there is something to learn from: all but void ones and the first `burn_in` of each column.
    #[must_use]
    pub fn learnable(&self, burn_in: usize) -> Vec<bool> {
        let first = burn_in * self.columns;
        let rows = self.outcomes.iter().enumerate();
        rows.map(|(row, outcome)| row >= first && outcome.is_step())
            .collect()
    }

    /// 1 where row t + 1 of a column remembers row t, 0 where memory starts afresh, [T + 1, B]: the first row of each
    /// column starts in its stored state, which its actor has reset already if it had to.
    #[must_use]
    pub fn keep_memory(&self) -> Vec<f32> {
        let follows = |outcome: &StepOutcome| if outcome.resets_memory() { 0.0 } else { 1.0 };
        std::iter::repeat_n(1.0, self.columns)
            .chain(self.outcomes.iter().map(follows))
            .collect()
    }
}

/// Age in versions of the policy that made step `t` of `member`.
fn lag_of_step(member: &Member<'_>, t: usize) -> u64 {
    let parts = member.unroll.parts();
    let made = parts.step_versions.get(t).copied();
    let newer = made.map_or(0, |made| made.0.saturating_sub(parts.header.version.0));
    // A version that was published is never ahead of the learner's.
    member.lag.versions().saturating_sub(newer)
}

#[cfg(test)]
mod tests {
    use springbok_common::{
        ids::{ActorId, RunId, UnrollSequence},
        spec::{ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec},
        unroll::{Agreement, UnrollHeader, UnrollParts, UnrollTiming},
        version::{LearnerEpoch, PolicyVersion},
    };

    use super::*;

    const SHAPE: RolloutShape = RolloutShape {
        unroll_length: 3,
        environments: 2,
    };

    fn agreement() -> Agreement {
        let environment = EnvironmentSpec::new(
            "Test",
            ObservationSpec::floats([1], [-1e3, 1e3]),
            ActionSpec::Discrete(100),
        );
        let mut network = NetworkSpec::mlp(&environment, vec![], Activation::Relu, true);
        network.core = CoreSpec::Gru { size: 1 };
        Agreement {
            environment,
            network,
            rollout: SHAPE,
        }
    }

    /// An unroll whose values tell where they came from: `base` + row.
    fn unroll(base: f32, outcomes: [StepOutcome; 6]) -> Unroll {
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
            step_versions: Vec::new(),
            observations: Elements::F32(rows.clone()),
            bootstrap_observations: Elements::F32(vec![base + 6.0, base + 7.0]),
            actions: Actions::Indices(rows.iter().map(|&row| row as u32).collect()),
            action_masks: vec![],
            core_states: vec![base + 8.0, base + 9.0],
            rewards: rows.clone(),
            behaviour_log_probs: rows.iter().map(|row| -row / 10.0).collect(),
            outcomes: outcomes.to_vec(),
            final_observations: Elements::F32(
                final_rows
                    .iter()
                    .map(|&row| base + 50.0 + row as f32)
                    .collect(),
            ),
            final_rows,
            episodes: vec![],
            timing: UnrollTiming::default(),
        };
        Unroll::new(parts, &agreement()).unwrap()
    }

    #[test]
    fn unrolls_stand_side_by_side_and_finals_keep_their_steps() {
        use StepOutcome::{Continued as C, Terminated as E, Truncated as U};
        let first = unroll(0.0, [C, U, C, C, C, C]);
        let second = unroll(10.0, [C, C, E, C, C, U]);
        let version = PolicyVersion(5);
        let lag = |behind: u64| version.lag_behind(PolicyVersion(5 - behind)).unwrap();
        let actors = [ActorId::random(), ActorId::random()];
        let mut batch = Batch::default();
        // Twice: a reused batch forgets what was in it.
        for _ in 0..2 {
            let member = |unroll, lag, actor| Member { unroll, lag, actor };
            let members = [
                member(&first, lag(0), actors[0]),
                member(&second, lag(3), actors[1]),
            ];
            batch.assemble(&members, SHAPE);
        }
        let steps = [0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15];
        assert_eq!(batch.actions, Actions::Indices(steps.to_vec()));
        assert_eq!(batch.rewards, steps.map(|step| step as f32));
        assert_eq!(batch.outcomes, [C, U, C, C, C, C, E, C, C, C, C, U]);
        let observations = batch.observations.as_ref().to_f32();
        assert_eq!(observations[12..], [6.0, 7.0, 16.0, 17.0, 51.0, 65.0]);
        assert_eq!(batch.core_states, [8.0, 9.0, 18.0, 19.0]);
        assert_eq!(batch.actors, actors);
        assert_eq!(batch.final_rows, [1, 11]);
        assert_eq!(batch.lags, [0, 0, 3, 3]);
        batch.weigh(|lag| if lag > 2 { 0.5 } else { 1.0 });
        assert_eq!(batch.weights, [1.0, 1.0, 0.5, 0.5].repeat(3));
        batch.weigh(|_| 1.0);
        assert!(batch.weights.is_empty());
        assert_eq!(batch.extent().observation_rows(), 18);

        let next = batch.next_values(&observations);
        assert_eq!(
            next,
            [
                2.0, 51.0, 12.0, 13.0, 4.0, 5.0, 14.0, 15.0, 6.0, 7.0, 16.0, 65.0
            ]
        );
    }

    #[test]
    fn steps_of_newer_versions_are_younger_and_weigh_for_themselves() {
        use StepOutcome::Continued as C;
        let (first, second) = (unroll(0.0, [C; 6]), unroll(10.0, [C; 6]));
        let mut parts = first.into_parts();
        parts.step_versions = [0, 2, 3].map(PolicyVersion).to_vec();
        let first = Unroll::new(parts, &agreement()).unwrap();
        let actor = ActorId::random();
        let lag = PolicyVersion(4).lag_behind(PolicyVersion(0)).unwrap();
        let members = [&first, &second].map(|unroll| Member { unroll, lag, actor });
        let mut batch = Batch::default();
        batch.assemble(&members, SHAPE);
        assert_eq!(batch.lags, [4, 4, 4, 4, 2, 2, 4, 4, 1, 1, 4, 4]);
        batch.weigh(|lag| if lag > 2 { 0.5 } else { 1.0 });
        let (half, full) = ([0.5; 4], [1.0, 1.0, 0.5, 0.5]);
        assert_eq!(batch.weights, [half, full, full].concat());
        // As many as there are columns again, without such an unroll.
        batch.assemble(&members[1..], SHAPE);
        assert_eq!(batch.lags, [4, 4]);
    }

    #[test]
    fn memory_starts_afresh_after_each_end_and_void_rows_teach_nothing() {
        use StepOutcome::{Continued as C, LifeLost as L, Terminated as E, Void as V};
        let unroll = unroll(0.0, [E, L, V, C, C, C]);
        let mut batch = Batch::default();
        let lag = PolicyVersion(0).lag_behind(PolicyVersion(0)).unwrap();
        let actor = ActorId::random();
        let unroll = &unroll;
        batch.assemble(&[Member { unroll, lag, actor }], SHAPE);
        let kept = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        assert_eq!(batch.keep_memory(), kept);
        assert_eq!(batch.learnable(0), [true, true, false, true, true, true]);
        assert_eq!(batch.learnable(1), [false, false, false, true, true, true]);
    }
}
