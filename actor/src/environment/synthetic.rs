//! `Synthetic`: nothing to learn, everything to measure.

use std::time::{Duration, Instant};

use springbok_common::{
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
};

use super::{Environment, EnvironmentError, Step, numpy_rng::NumpyRng, options::Options};

const OPTIONS: [&str; 4] = ["observation_len", "step_us", "episode_length", "reward"];
const OBSERVATION_LEN_MAX: u32 = 1 << 20;
const STEP_US_MAX: u32 = 10_000_000;
const EPISODE_LENGTH_MAX: u32 = 1_000_000_000;
const REWARD_MAX: f32 = 1e6;

/// An environment of any size and slowness, for throughput and fault tests. Its episodes terminate after
/// `episode_length` steps, each worth `reward`, whatever its two actions are.
///
/// Observation, `[observation_len]`: the share of the episode that has passed, then noise in [0, 1) that depends on
/// the episode, the step and the element.
pub struct Synthetic {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    step_time: Duration,
    episode_length: u32,
    reward: f32,
    steps: u32,
    /// Decides the noise of this episode.
    episode: u32,
}

impl Synthetic {
    /// The environment from its options, all of them optional:
    /// - `observation_len`: elements in an observation, 1 to 1048576 (4);
    /// - `step_us`: microseconds that a step keeps the processor busy, 0 to 10000000 (0);
    /// - `episode_length`: steps, 1 to 1000000000 (100);
    /// - `reward`: of each step, -1000000 to 1000000 (1).
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`], [`EnvironmentError::InvalidOption`].
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let options = Options::new("Synthetic", options, &OPTIONS)?;
        let observation_len = options.integer("observation_len", 4, 1..=OBSERVATION_LEN_MAX)?;
        let step_us = options.integer("step_us", 0, 0..=STEP_US_MAX)?;
        let episode_length = options.integer("episode_length", 100, 1..=EPISODE_LENGTH_MAX)?;
        let reward = options.float("reward", 1.0, -REWARD_MAX..=REWARD_MAX)?;
        Ok(Self {
            spec: EnvironmentSpec {
                id: "Synthetic".into(),
                observation: ObservationSpec {
                    shape: vec![observation_len as usize],
                    bounds: [0.0, 1.0],
                },
                action: ActionSpec::Discrete(2),
                episode_steps_max: None,
            },
            rng: NumpyRng::from_seed(0),
            step_time: Duration::from_micros(u64::from(step_us)),
            episode_length,
            reward,
            steps: 0,
            episode: 0,
        })
    }

    fn observe(&self, observation: &mut [f32]) {
        let mut noise = self.episode ^ self.steps.wrapping_mul(0x9e37_79b9);
        for element in observation.iter_mut() {
            // A linear congruence: its high 24 bits are even enough, and cost one multiplication.
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *element = (noise >> 8) as f32 / (1 << 24) as f32;
        }
        if let Some(first) = observation.first_mut() {
            *first = self.steps as f32 / self.episode_length as f32;
        }
    }
}

/// Keeps the processor busy: sleeping would free it for others, and a simulator does not.
fn busy_wait(duration: Duration) {
    if duration.is_zero() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

impl Environment for Synthetic {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, observation: &mut [f32]) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.steps = 0;
        self.episode = self.rng.below(u32::MAX);
        self.observe(observation);
    }

    fn step(&mut self, _action: u32, observation: &mut [f32]) -> Step {
        busy_wait(self.step_time);
        self.steps = (self.steps + 1).min(self.episode_length);
        self.observe(observation);
        Step {
            reward: self.reward,
            outcome: StepOutcome::from_flags(self.steps == self.episode_length, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::conformance;

    fn made(options: &str) -> Result<Synthetic, EnvironmentError> {
        Synthetic::from_options(&options.parse().unwrap())
    }

    #[test]
    fn options_do_what_they_say() {
        let mut synthetic =
            made("observation_len = 7\nepisode_length = 3\nreward = -2\nstep_us = 300").unwrap();
        assert_eq!(synthetic.spec().observation.len(), 7);
        let mut observation = [f32::NAN; 7];
        synthetic.reset(Some(1), &mut observation);
        let start = Instant::now();
        for t in 1..=3 {
            let step = synthetic.step(0, &mut observation);
            assert_eq!(step.reward, -2.0);
            assert_eq!(step.outcome.is_end(), t == 3);
        }
        assert!(start.elapsed() >= Duration::from_micros(900));
        assert_eq!(observation[0], 1.0);
        conformance::check(&mut made("episode_length = 1").unwrap(), 0..3, 50).unwrap();
        conformance::check(&mut made("observation_len = 1000").unwrap(), 0..3, 300).unwrap();
    }

    #[test]
    fn noise_differs_between_seeds_and_steps() {
        let mut synthetic = made("").unwrap();
        let mut rows = [[f32::NAN; 4]; 3];
        synthetic.reset(Some(1), &mut rows[0]);
        synthetic.step(0, &mut rows[1]);
        synthetic.reset(Some(2), &mut rows[2]);
        assert_ne!(rows[0][1..], rows[1][1..]);
        assert_ne!(rows[0][1..], rows[2][1..]);
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_limit() {
        let message = |options| made(options).err().unwrap().to_string();
        assert_eq!(
            message("observation_len = 0"),
            "option `observation_len` of environment `Synthetic` is 0, but must be an integer from 1 to 1048576"
        );
        assert!(message("step_us = 10000001").ends_with("from 0 to 10000000"));
        assert!(message("episode_length = 0").ends_with("from 1 to 1000000000"));
        assert!(message("reward = inf").ends_with("a number from -1000000 to 1000000"));
        assert_eq!(
            message("rewards = 1"),
            "environment `Synthetic` has no option `rewards`; it has observation_len, step_us, episode_length and \
             reward"
        );
    }
}
