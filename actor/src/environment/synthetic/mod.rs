//! `Synthetic`: nothing to learn, everything to measure and to break.

mod settings;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::EnvironmentSpec,
    step::StepOutcome,
};

use self::settings::{Crash, Settings, Wait};
use super::{Environment, EnvironmentError, Frame, Step, draw_board, numpy_rng::NumpyRng};

/// An environment of any spaces, size, slowness and unreliability, for throughput and fault tests. Its episodes have
/// `episode_length` steps, each worth `reward`, whatever the actions are.
///
/// Observation: the share of the episode that has passed, then noise that depends on the episode, the step and the
/// element; 0 to 1 as floats, 0 to 255 as bytes. With `action_mask`, each state forbids one action of each head of two
/// or more.
pub struct Synthetic {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    settings: Settings,
    steps: u32,
    /// Decides the noise of this episode.
    episode: u32,
    /// Steps since the environment was made, over all episodes.
    lifetime_steps: u32,
}

impl Synthetic {
    /// The environment from its options, all of them optional. What is shown and taken:
    /// - `observation_len`: elements in an observation, 1 to 1048576 (4);
    /// - `observation_shape`: instead, extents of its axes, such as `[4, 84, 84]`;
    /// - `element`: `"float32"` or `"uint8"` (`"float32"`);
    /// - `action_kind`: `"discrete"`, `"multi_discrete"` or `"box"` (`"discrete"`); a box reaches from -1 to 1;
    /// - `actions`: actions of each discrete head, 1 to 65536 (2);
    /// - `action_len`: heads of `"multi_discrete"`, or dimensions of `"box"`, 1 to 1024 (2);
    /// - `action_mask`: whether discrete actions have masks (`false`).
    ///
    /// How episodes go:
    /// - `episode_length`: steps, 1 to 1000000000 (100);
    /// - `end`: `"terminated"`, `"truncated"` (by the environment) or `"time_limit"` (declared and left to the caller)
    ///   (`"terminated"`);
    /// - `life_steps`: steps after which a life is lost, again and again within an episode; 0 is never (0);
    /// - `reward`: of each step, -1000000 to 1000000 (1).
    ///
    /// What goes slow or wrong:
    /// - `step_us`: microseconds that a step takes, 0 to 10000000 (0);
    /// - `wait`: how they pass, `"busy"` on the processor or `"sleep"` (`"busy"`);
    /// - `crash_after`: steps of one copy after which it crashes; 0 is never (0);
    /// - `crash`: what it does then, `"panic"` or `"abort"` the process (`"panic"`);
    /// - `stall_after`: steps of one copy after which it sleeps once; 0 is never (0);
    /// - `stall_ms`: milliseconds of that sleep, 0 to 86400000 (60000).
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`], [`EnvironmentError::InvalidOption`].
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let (spec, settings) = settings::read(options)?;
        Ok(Self {
            spec,
            settings,
            rng: NumpyRng::from_seed(0),
            steps: 0,
            episode: 0,
            lifetime_steps: 0,
        })
    }

    fn noise(&self) -> Noise {
        let seed = u64::from(self.episode) << 32 | u64::from(self.steps);
        // An odd factor is one to one, and no state of the generator but 0 is idle.
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn observe(&self, observation: ElementsMut<'_>) {
        let mut noise = self.noise();
        let passed = self.steps as f32 / self.settings.episode_length as f32;
        match observation {
            ElementsMut::F32(row) => {
                for pair in row.chunks_mut(2) {
                    let word = noise.next();
                    for (element, half) in
                        pair.iter_mut().zip([word >> 40, (word >> 8) & 0xff_ffff])
                    {
                        *element = half as f32 / (1 << 24) as f32;
                    }
                }
                if let Some(first) = row.first_mut() {
                    *first = passed;
                }
            }
            ElementsMut::U8(row) => {
                for chunk in row.chunks_mut(8) {
                    let word = noise.next().to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
                if let Some(first) = row.first_mut() {
                    *first = (passed * 255.0) as u8;
                }
            }
        }
    }

    fn misbehave(&self) {
        if self.settings.stall_after == self.lifetime_steps {
            std::thread::sleep(self.settings.stall);
        }
        if self.settings.crash_after == self.lifetime_steps {
            match self.settings.crash {
                Crash::Panic => panic!("crashed after {} steps, as asked", self.lifetime_steps),
                Crash::Abort => std::process::abort(),
            }
        }
    }

    fn outcome(&self) -> StepOutcome {
        let lives = self.settings.life_steps;
        if self.steps >= self.settings.episode_length {
            self.settings.end
        } else if lives > 0 && self.steps.is_multiple_of(lives) {
            StepOutcome::LifeLost
        } else {
            StepOutcome::Continued
        }
    }
}

/// Xorshift64* (S. Vigna, 2016): even enough, and much faster than the generator of the episodes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn pass(duration: Duration, wait: Wait) {
    if duration.is_zero() {
        return;
    }
    if wait == Wait::Sleep {
        std::thread::sleep(duration);
        return;
    }
    // A simulator keeps its processor; sleeping would lend it to others.
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

impl Environment for Synthetic {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.steps = 0;
        self.episode = self.rng.below(u32::MAX);
        self.observe(observation);
    }

    fn step(&mut self, _action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
        pass(self.settings.step_time, self.settings.wait);
        self.steps = (self.steps + 1).min(self.settings.episode_length);
        // 0 stands for never, so the count must not come round to it.
        self.lifetime_steps = self.lifetime_steps.saturating_add(1);
        self.misbehave();
        self.observe(observation);
        Step {
            reward: self.settings.reward,
            outcome: self.outcome(),
        }
    }

    fn action_mask(&self, mask: &mut [u8]) {
        mask.fill(1);
        let (mut noise, mut begin) = (self.noise(), 0);
        for &actions in self.spec.action.heads() {
            if actions > 1 {
                let forbidden = (noise.next() >> 32) as usize % actions as usize;
                mask[begin + forbidden] = 0;
            }
            begin += actions as usize;
        }
    }

    /// How much of the episode has passed, as a bar.
    fn render(&self, frame: &mut Frame) -> bool {
        let columns = 20;
        let share = self.steps as f32 / self.settings.episode_length as f32;
        let passed = (share * columns as f32) as usize;
        draw_board(frame, [columns, 2], 8, |column, _| {
            if column < passed {
                [30, 90, 160]
            } else {
                [255, 255, 255]
            }
        });
        true
    }
}
