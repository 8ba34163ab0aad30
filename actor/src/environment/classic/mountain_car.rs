//! `MountainCar-v0`, equal to Gymnasium's bit for bit.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{BODY, FRAME, GOAL, GROUND, PAPER, round};
use crate::environment::{
    Environment, EnvironmentError, Frame, Step, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "MountainCar-v0";
const POSITION_MIN: f64 = -1.2;
const POSITION_MAX: f64 = 0.6;
const GOAL_POSITION: f64 = 0.5;
const SPEED_MAX: f64 = 0.07;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;
const EPISODE_STEPS_MAX: u32 = 200;

/// A car in a valley, too weak to climb out at once: it pushes left (action 0), not at all (1) or right (2), and each
/// step costs 1 until it is on top of the right hill, which terminates the episode.
///
/// Observation, `[2]`: position, velocity. The left end is an inelastic wall. From A. W. Moore, 1990, as in
/// Gymnasium's `MountainCarEnv`.
pub struct MountainCar {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    /// Position and velocity.
    pub(super) state: [f64; 2],
}

impl MountainCar {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new(ID, options, &[]).map(|_| Self::new())
    }

    pub(super) fn new() -> Self {
        let bounds = [POSITION_MIN as f32, POSITION_MAX as f32];
        let observation = ObservationSpec::floats([2], bounds);
        Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(3))
                .with_steps_max(EPISODE_STEPS_MAX),
            rng: NumpyRng::from_seed(0),
            state: [0.0; 2],
        }
    }
}

/// The state one step later, in Gymnasium's order of operations.
fn advance([position, velocity]: [f64; 2], action: u32) -> [f64; 2] {
    let push = (f64::from(action) - 1.0) * FORCE + (3.0 * position).cos() * -GRAVITY;
    let velocity = (velocity + push).clamp(-SPEED_MAX, SPEED_MAX);
    let position = (position + velocity).clamp(POSITION_MIN, POSITION_MAX);
    let stopped = position == POSITION_MIN && velocity < 0.0;
    [position, if stopped { 0.0 } else { velocity }]
}

/// Height of the track at `position`, for the picture alone.
fn track(position: f32) -> f32 {
    0.45 * (3.0 * position).sin() + 0.55
}

impl Environment for MountainCar {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.state = [self.rng.uniform(-0.6, -0.4), 0.0];
        round(&self.state, observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        self.state = advance(self.state, action.index());
        round(&self.state, observation.f32());
        let [position, velocity] = self.state;
        Step::new(-1.0, position >= GOAL_POSITION && velocity >= 0.0)
    }

    fn render(&self, frame: &mut Frame) -> bool {
        let [width, height] = FRAME;
        let scale = width as f32 / (POSITION_MAX - POSITION_MIN) as f32;
        let across = |position: f32| (position - POSITION_MIN as f32) * scale;
        let down = |position: f32| height as f32 - 10.0 - 0.8 * scale * track(position);
        frame.fill(width, height, PAPER);
        for x in 0..width {
            let position = x as f32 / scale + POSITION_MIN as f32;
            let top = down(position).max(0.0) as usize;
            frame.rectangle(x, top, 1, height - top.min(height), GROUND);
        }
        let goal = GOAL_POSITION as f32;
        let flag = [across(goal), down(goal)];
        frame.line(flag, [flag[0], flag[1] - 14.0], 3.0, GOAL);
        let car = self.state[0] as f32;
        let middle = [across(car), down(car) - 4.0];
        frame.line(middle, middle, 9.0, BODY);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::classic::recorded::{self, Recorded};

    impl Recorded for MountainCar {
        const FIXTURE: &'static str = "MountainCar-v0.json";

        fn fresh() -> Self {
            Self::new()
        }

        fn state(&mut self) -> &mut [f64] {
            &mut self.state
        }
    }

    #[test]
    fn recorded_episodes_replay_bit_for_bit() {
        recorded::replay_all::<MountainCar>();
    }

    #[test]
    fn resets_from_a_seed_equal_gymnasium() {
        recorded::reset_all::<MountainCar>();
    }
}
