//! K environments stepped together. Time limits, automatic resets and episode statistics are here and nowhere else.

use springbok_common::{spec::EnvironmentSpec, step::StepOutcome, unroll::EpisodeSummary};

use crate::environment::{Environment, EnvironmentError, Registry};

/// K copies of one environment over one contiguous buffer of observations. A step allocates nothing.
pub struct SyncVector {
    spec: EnvironmentSpec,
    observation_len: usize,
    environments: Vec<Box<dyn Environment>>,
    /// `[K, O]`: what each environment shows now.
    observations: Vec<f32>,
    /// `[K]`: the running episode of each environment.
    running: Vec<EpisodeSummary>,
}

const BEGUN: EpisodeSummary = EpisodeSummary {
    episode_return: 0.0,
    length: 0,
};

impl SyncVector {
    /// Makes `environments` copies (K) of the environment `id` with `options`, and begins an episode in each.
    ///
    /// Each is seeded once, with a seed of its own derived from `seed`; its later episodes continue its stream.
    ///
    /// # Errors
    /// [`EnvironmentError`] if the environment cannot be made, K is 0, or two copies specify different things.
    pub fn new(
        registry: &Registry,
        id: &str,
        options: &toml::Table,
        environments: usize,
        seed: u64,
    ) -> Result<Self, EnvironmentError> {
        let made: Vec<Box<dyn Environment>> = (0..environments)
            .map(|_| registry.make(id, options))
            .collect::<Result<_, _>>()?;
        let seeds: Vec<u64> = (0..environments as u64)
            .map(|index| environment_seed(seed, index))
            .collect();
        Self::begin(id, made, &seeds)
    }

    fn begin(
        id: &str,
        mut environments: Vec<Box<dyn Environment>>,
        seeds: &[u64],
    ) -> Result<Self, EnvironmentError> {
        let Some(spec) = environments.first().map(|first| first.spec().clone()) else {
            return Err(EnvironmentError::NoEnvironments {
                environment: id.to_owned(),
            });
        };
        if environments.iter().any(|other| *other.spec() != spec) {
            return Err(EnvironmentError::InvalidSpec {
                environment: id.to_owned(),
                fault: "two copies made from the same options differ",
            });
        }
        let observation_len = spec.observation.len();
        let mut observations = vec![0.0; environments.len() * observation_len];
        let rows = observations.chunks_exact_mut(observation_len);
        for ((environment, &seed), row) in environments.iter_mut().zip(seeds).zip(rows) {
            environment.reset(Some(seed), row);
        }
        Ok(Self {
            spec,
            observation_len,
            running: vec![BEGUN; environments.len()],
            environments,
            observations,
        })
    }

    /// What each environment shows and takes.
    #[must_use]
    pub fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    /// Number of environments: K.
    #[must_use]
    pub fn environments(&self) -> usize {
        self.environments.len()
    }

    /// `[K, O]`: what each environment shows now; after an end, the first observation of the next episode.
    #[must_use]
    pub fn observations(&self) -> &[f32] {
        &self.observations
    }

    /// Takes one action in each environment, `actions` `[K]`, and writes `rewards` `[K]` and `outcomes` `[K]`.
    ///
    /// A step that reaches the time limit is truncated, unless it is terminated. Each end adds its episode to
    /// `episodes` (raw return, steps), in the order of environments, and begins the next one. `on_truncated` gets
    /// the index and the observation, `[O]`, of each truncated environment before its reset, in ascending order.
    ///
    /// All slices must have K elements; what exceeds the shortest is not stepped.
    pub fn step(
        &mut self,
        actions: &[u32],
        rewards: &mut [f32],
        outcomes: &mut [StepOutcome],
        on_truncated: &mut dyn FnMut(usize, &[f32]),
        episodes: &mut Vec<EpisodeSummary>,
    ) {
        let given = [actions.len(), rewards.len(), outcomes.len()];
        debug_assert_eq!(given, [self.environments.len(); 3], "slices must be [K]");
        let limit = self.spec.episode_steps_max.unwrap_or(u32::MAX);
        let columns = self
            .environments
            .iter_mut()
            .zip(self.observations.chunks_exact_mut(self.observation_len))
            .zip(&mut self.running);
        let given = actions.iter().zip(rewards).zip(outcomes);
        for (index, (((environment, row), running), ((&action, reward), outcome))) in
            columns.zip(given).enumerate()
        {
            let step = environment.step(action, row);
            running.episode_return += f64::from(step.reward);
            running.length += 1;
            *reward = step.reward;
            *outcome = limited(step.outcome, running.length >= limit);
            if *outcome == StepOutcome::Truncated {
                on_truncated(index, row);
            }
            if outcome.is_end() {
                episodes.push(std::mem::replace(running, BEGUN));
                environment.reset(None, row);
            }
        }
    }
}

/// The outcome of a step, given whether it reached the time limit; terminated wins.
fn limited(outcome: StepOutcome, limit_reached: bool) -> StepOutcome {
    match outcome {
        StepOutcome::Continued if limit_reached => StepOutcome::Truncated,
        other => other,
    }
}

/// Seed of environment `index` in a vector of seed `seed`: distinct for each index, and unrelated to those of the
/// vectors of neighbouring seeds, as `seed + index` would not be.
fn environment_seed(seed: u64, index: u64) -> u64 {
    scramble(scramble(seed) ^ index)
}

/// The finaliser of SplitMix64 (G. L. Steele et al., 2014): one to one, so distinct inputs stay distinct.
fn scramble(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use springbok_common::spec::{ActionSpec, ObservationSpec};

    use super::*;
    use crate::environment::Step;

    /// Shows [episodes begun, steps taken]; the reward is the step's number. Action 1 terminates, action 2
    /// truncates, action 0 goes on.
    struct Counter {
        spec: EnvironmentSpec,
        episodes: u32,
        steps: u32,
    }

    impl Counter {
        fn boxed(limit: Option<u32>) -> Box<dyn Environment> {
            Box::new(Self {
                spec: EnvironmentSpec {
                    id: "Counter".into(),
                    observation: ObservationSpec {
                        shape: vec![2],
                        bounds: [0.0, f32::MAX],
                    },
                    action: ActionSpec::Discrete(3),
                    episode_steps_max: limit,
                },
                episodes: 0,
                steps: 0,
            })
        }

        fn observe(&self, observation: &mut [f32]) {
            observation.copy_from_slice(&[self.episodes as f32, self.steps as f32]);
        }
    }

    impl Environment for Counter {
        fn spec(&self) -> &EnvironmentSpec {
            &self.spec
        }

        fn reset(&mut self, _seed: Option<u64>, observation: &mut [f32]) {
            self.episodes += 1;
            self.steps = 0;
            self.observe(observation);
        }

        fn step(&mut self, action: u32, observation: &mut [f32]) -> Step {
            self.steps += 1;
            self.observe(observation);
            Step {
                reward: self.steps as f32,
                outcome: StepOutcome::from_flags(action == 1, action == 2),
            }
        }
    }

    /// What one step of a vector gave.
    #[derive(Debug, PartialEq)]
    struct Seen {
        rewards: Vec<f32>,
        outcomes: Vec<StepOutcome>,
        finals: Vec<(usize, Vec<f32>)>,
        episodes: Vec<EpisodeSummary>,
        observations: Vec<f32>,
    }

    fn step(vector: &mut SyncVector, actions: &[u32]) -> Seen {
        let mut rewards = vec![f32::NAN; actions.len()];
        let mut outcomes = vec![StepOutcome::Continued; actions.len()];
        let (mut finals, mut episodes) = (Vec::new(), Vec::new());
        let mut on_truncated = |index, row: &[f32]| finals.push((index, row.to_vec()));
        vector.step(
            actions,
            &mut rewards,
            &mut outcomes,
            &mut on_truncated,
            &mut episodes,
        );
        Seen {
            rewards,
            outcomes,
            finals,
            episodes,
            observations: vector.observations().to_vec(),
        }
    }

    fn counters(k: usize, limit: Option<u32>) -> SyncVector {
        let environments = (0..k).map(|_| Counter::boxed(limit)).collect();
        SyncVector::begin("Counter", environments, &vec![0; k]).unwrap()
    }

    #[test]
    fn ends_are_told_apart_and_episodes_counted() {
        use StepOutcome::{Continued, Terminated, Truncated};
        let mut vector = counters(3, Some(3));
        assert_eq!(vector.observations(), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        step(&mut vector, &[0, 0, 0]);

        let seen = step(&mut vector, &[0, 1, 2]);
        assert_eq!(seen.rewards, [2.0; 3]);
        assert_eq!(seen.outcomes, [Continued, Terminated, Truncated]);
        assert_eq!(seen.finals, [(2, vec![1.0, 2.0])]);
        let two_steps = EpisodeSummary {
            episode_return: 3.0,
            length: 2,
        };
        assert_eq!(seen.episodes, [two_steps; 2]);
        assert_eq!(seen.observations, [1.0, 2.0, 2.0, 0.0, 2.0, 0.0]);

        // Environment 0 alone reaches the limit of 3; the statistics of the others began anew.
        let seen = step(&mut vector, &[0, 0, 0]);
        assert_eq!(seen.outcomes, [Truncated, Continued, Continued]);
        assert_eq!(seen.finals, [(0, vec![1.0, 3.0])]);
        let three_steps = EpisodeSummary {
            episode_return: 6.0,
            length: 3,
        };
        assert_eq!(seen.episodes, [three_steps]);
        assert_eq!(seen.observations, [2.0, 0.0, 2.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn terminated_wins_over_the_time_limit() {
        let mut vector = counters(1, Some(2));
        step(&mut vector, &[0]);
        let seen = step(&mut vector, &[1]);
        assert_eq!(seen.outcomes, [StepOutcome::Terminated]);
        assert!(seen.finals.is_empty());
        assert_eq!(seen.episodes.len(), 1);
    }

    #[test]
    fn without_a_limit_episodes_go_on() {
        let mut vector = counters(1, None);
        for _ in 0..2000 {
            assert_eq!(step(&mut vector, &[0]).outcomes, [StepOutcome::Continued]);
        }
    }

    #[test]
    fn impossible_vectors_are_refused() {
        let make = |id, k| {
            SyncVector::new(&Registry::built_in(), id, &toml::Table::new(), k, 0).map(|_| ())
        };
        assert_eq!(make("Catch", 2), Ok(()));
        assert_eq!(
            make("Catch", 0).unwrap_err().to_string(),
            "0 copies of environment `Catch` cannot be stepped; there must be at least 1"
        );
        assert!(matches!(
            make("Nothing", 2),
            Err(EnvironmentError::Unknown { .. })
        ));
        let mixed = vec![Counter::boxed(None), Counter::boxed(Some(3))];
        assert!(SyncVector::begin("Counter", mixed, &[0, 1]).is_err());
    }

    #[test]
    fn environments_begin_differently_and_repeatably() {
        let begin = |seed| {
            let registry = Registry::built_in();
            SyncVector::new(&registry, "CartPole-v1", &toml::Table::new(), 64, seed).unwrap()
        };
        let (one, again, other) = (begin(1), begin(1), begin(2));
        assert_eq!(one.observations(), again.observations());
        let starts: HashSet<Vec<u32>> = one
            .observations()
            .chunks(4)
            .chain(other.observations().chunks(4))
            .map(|row| row.iter().map(|value| value.to_bits()).collect())
            .collect();
        assert_eq!(starts.len(), 128);
    }

    fn built_in(id: &str, seeds: &[u64]) -> SyncVector {
        let registry = Registry::built_in();
        let options = toml::Table::new();
        let environments = seeds
            .iter()
            .map(|_| registry.make(id, &options).unwrap())
            .collect();
        SyncVector::begin(id, environments, seeds).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Permuting the environments permutes what they give: no column knows of another.
        #[test]
        fn columns_permute(
            order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
            actions in prop::collection::vec(prop::collection::vec(0..2_u32, 5), 1..60),
            id in prop::sample::select(vec!["CartPole-v1", "Catch", "Synthetic"]),
        ) {
            let permuted_seeds: Vec<u64> = order.iter().map(|&k| k as u64).collect();
            let mut plain = built_in(id, &[0, 1, 2, 3, 4]);
            let mut permuted = built_in(id, &permuted_seeds);
            let o = plain.spec().observation.len();
            for actions in actions {
                let permuted_actions: Vec<u32> = order.iter().map(|&k| actions[k]).collect();
                let left = step(&mut plain, &actions);
                let right = step(&mut permuted, &permuted_actions);
                for (to, &from) in order.iter().enumerate() {
                    prop_assert_eq!(left.rewards[from], right.rewards[to]);
                    prop_assert_eq!(left.outcomes[from], right.outcomes[to]);
                    let left_row = &left.observations[from * o..(from + 1) * o];
                    prop_assert_eq!(left_row, &right.observations[to * o..(to + 1) * o]);
                }
                prop_assert_eq!(left.episodes.len(), right.episodes.len());
            }
        }
    }
}
