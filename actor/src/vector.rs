//! K environments stepped together. Time limits, automatic resets and episode statistics are here and nowhere else.

use springbok_common::{
    arrays::{ActionsRef, Elements, ElementsRef},
    spec::EnvironmentSpec,
    step::StepOutcome,
    unroll::EpisodeSummary,
};

use crate::environment::{Environment, EnvironmentError, Frame, Registry};

/// What a step of all K environments writes besides the observations.
pub struct StepSink<'a> {
    /// `[K]`, raw.
    pub rewards: &'a mut [f32],
    /// `[K]`.
    pub outcomes: &'a mut [StepOutcome],
    /// Gets the index and the observation, `[O]`, of each truncated environment before its reset, in ascending order.
    pub on_truncated: &'a mut dyn FnMut(usize, ElementsRef<'_>),
    /// Each end adds its episode (raw return, steps), in the order of environments.
    pub episodes: &'a mut Vec<EpisodeSummary>,
}

/// K environments that are stepped together. All of them reset themselves: after an end, the observation is the first
/// of the next episode, or the row after the end is void and the one after that begins the next episode.
pub trait VectorEnvironment: Send {
    /// What each environment shows and takes.
    fn spec(&self) -> &EnvironmentSpec;

    /// Number of environments: K.
    fn environments(&self) -> usize;

    /// `[K, O]`: what each environment shows now; after an end, the first observation of the next episode.
    fn observations(&self) -> ElementsRef<'_>;

    /// `[K, M]`: which choices each environment allows now, 1 or 0; empty if its specification declares no masks.
    fn action_masks(&self) -> &[u8];

    /// Takes one action in each environment, `actions` `[K, A]`, within the bounds of the specification.
    ///
    /// A step that reaches the time limit is truncated, unless it is terminated. The slices of `sink` have K elements.
    ///
    /// # Errors
    /// [`EnvironmentError::Failed`] if an environment died or broke its contract; what the step wrote is of no use, and
    /// nothing but [`Self::restart`] may follow.
    fn step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), EnvironmentError>;

    /// Begins all episodes anew after a failed step.
    ///
    /// # Errors
    /// [`EnvironmentError`] if that is impossible, or happened too often.
    fn restart(&mut self) -> Result<(), EnvironmentError>;

    /// Draws one environment as it is now; `false` if it cannot be watched.
    ///
    /// # Errors
    /// [`EnvironmentError::Failed`], as for a step.
    fn render(&mut self, environment: usize, frame: &mut Frame) -> Result<bool, EnvironmentError>;
}

/// K copies of one environment over one contiguous buffer of observations. A step allocates nothing.
pub struct SyncVector {
    spec: EnvironmentSpec,
    observation_len: usize,
    mask_len: usize,
    environments: Vec<Box<dyn Environment>>,
    /// `[K, O]`: what each environment shows now.
    observations: Elements,
    /// `[K, M]`: what each environment allows now.
    masks: Vec<u8>,
    /// `[K]`: the running episode of each environment.
    running: Vec<EpisodeSummary>,
}

pub(crate) const BEGUN: EpisodeSummary = EpisodeSummary {
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
        environments: Vec<Box<dyn Environment>>,
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
        let (observation_len, mask_len) = (spec.observation.len(), spec.mask_len());
        let count = environments.len();
        let mut vector = Self {
            observations: Elements::zeros(spec.observation.element, count * observation_len),
            masks: vec![0; count * mask_len],
            running: vec![BEGUN; count],
            observation_len,
            mask_len,
            environments,
            spec,
        };
        for (index, &seed) in seeds.iter().enumerate() {
            vector.reset(index, Some(seed));
        }
        Ok(vector)
    }

    /// Begins an episode in environment `index`.
    fn reset(&mut self, index: usize, seed: Option<u64>) {
        let own = index * self.observation_len..(index + 1) * self.observation_len;
        let row = self.observations.as_mut().slice(own);
        self.environments[index].reset(seed, row);
        self.running[index] = BEGUN;
        self.ask_mask(index);
    }

    fn ask_mask(&mut self, index: usize) {
        if self.mask_len > 0 {
            let own = index * self.mask_len..(index + 1) * self.mask_len;
            self.environments[index].action_mask(&mut self.masks[own]);
        }
    }
}

impl VectorEnvironment for SyncVector {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn environments(&self) -> usize {
        self.environments.len()
    }

    fn observations(&self) -> ElementsRef<'_> {
        self.observations.as_ref()
    }

    fn action_masks(&self) -> &[u8] {
        &self.masks
    }

    fn step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), EnvironmentError> {
        let count = self.environments.len();
        let action_len = self.spec.action.len();
        let given = [
            actions.len() / action_len,
            sink.rewards.len(),
            sink.outcomes.len(),
        ];
        debug_assert_eq!(given, [count; 3], "slices must be [K]");
        let limit = self.spec.episode_steps_max.unwrap_or(u32::MAX);
        for index in 0..count {
            let own = index * self.observation_len..(index + 1) * self.observation_len;
            let row = self.observations.as_mut().slice(own.clone());
            let action = actions.slice(index * action_len..(index + 1) * action_len);
            let step = self.environments[index].step(action, row);
            let running = &mut self.running[index];
            running.episode_return += f64::from(step.reward);
            running.length += 1;
            let outcome = limited(step.outcome, running.length >= limit);
            sink.rewards[index] = step.reward;
            sink.outcomes[index] = outcome;
            if outcome == StepOutcome::Truncated {
                (sink.on_truncated)(index, self.observations.slice(own));
            }
            if outcome.is_end() {
                sink.episodes.push(self.running[index]);
                self.reset(index, None);
            } else {
                self.ask_mask(index);
            }
        }
        Ok(())
    }

    /// An environment in this process cannot fail without taking the process along, so there is nothing to begin anew
    /// but the episodes.
    fn restart(&mut self) -> Result<(), EnvironmentError> {
        for index in 0..self.environments.len() {
            self.reset(index, None);
        }
        Ok(())
    }

    fn render(&mut self, environment: usize, frame: &mut Frame) -> Result<bool, EnvironmentError> {
        Ok(self
            .environments
            .get(environment)
            .is_some_and(|environment| environment.render(frame)))
    }
}

/// The outcome of a step, given whether it reached the time limit; an end of its own wins.
pub(crate) fn limited(outcome: StepOutcome, limit_reached: bool) -> StepOutcome {
    match outcome {
        StepOutcome::Continued if limit_reached => StepOutcome::Truncated,
        // The value is cut either way, and the episode must end here too.
        StepOutcome::LifeLost if limit_reached => StepOutcome::Terminated,
        other => other,
    }
}

/// Seed of environment `index` in a vector of seed `seed`: distinct for each index, and unrelated to those of the
/// vectors of neighbouring seeds, as `seed + index` would not be.
pub(crate) fn environment_seed(seed: u64, index: u64) -> u64 {
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
mod tests;
