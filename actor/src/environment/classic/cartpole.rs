//! `CartPole-v1`, equal to Gymnasium's bit for bit.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{BODY, FRAME, GROUND, LIMB, PAPER, round};
use crate::environment::{
    Environment, EnvironmentError, Frame, Step, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "CartPole-v1";
const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
/// Half of the pole's length.
const LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = POLE_MASS * LENGTH;
const FORCE: f64 = 10.0;
const STEP_SECONDS: f64 = 0.02;
const POSITION_MAX: f64 = 2.4;
const ANGLE_MAX: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const EPISODE_STEPS_MAX: u32 = 500;

/// A pole on a cart that is pushed left (action 0) or right (action 1); each step with the pole up is worth 1.
///
/// Observation, `[4]`: position, velocity, angle, angular velocity. Terminated beyond 2.4 units or 12 degrees. From
/// A. G. Barto, R. S. Sutton and C. W. Anderson, 1983, as in Gymnasium's `CartPoleEnv`.
pub struct CartPole {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    /// In 64 bits, as in Gymnasium; only the observation is rounded.
    pub(super) state: [f64; 4],
}

impl CartPole {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new(ID, options, &[]).map(|_| Self::new())
    }

    pub(super) fn new() -> Self {
        // Nothing bounds the velocities.
        let observation = ObservationSpec::floats([4], [f32::NEG_INFINITY, f32::INFINITY]);
        Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(2))
                .with_steps_max(EPISODE_STEPS_MAX),
            rng: NumpyRng::from_seed(0),
            state: [0.0; 4],
        }
    }
}

/// The state one step later, by Euler's method. The order of operations is Gymnasium's, without fused
/// multiplication, because equality bit for bit depends on it.
fn advance([x, x_dot, theta, theta_dot]: [f64; 4], action: u32) -> [f64; 4] {
    let force = if action == 1 { FORCE } else { -FORCE };
    let (sin, cos) = (theta.sin(), theta.cos());
    let push = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
    let theta_acceleration = (GRAVITY * sin - cos * push)
        / (LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
    let x_acceleration = push - POLE_MASS_LENGTH * theta_acceleration * cos / TOTAL_MASS;
    [
        x + STEP_SECONDS * x_dot,
        x_dot + STEP_SECONDS * x_acceleration,
        theta + STEP_SECONDS * theta_dot,
        theta_dot + STEP_SECONDS * theta_acceleration,
    ]
}

impl Environment for CartPole {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        for value in &mut self.state {
            *value = self.rng.uniform(-0.05, 0.05);
        }
        round(&self.state, observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        self.state = advance(self.state, action.index());
        round(&self.state, observation.f32());
        let [x, _, theta, _] = self.state;
        let fallen = x.abs() > POSITION_MAX || theta.abs() > ANGLE_MAX;
        Step::new(1.0, fallen)
    }

    fn render(&self, frame: &mut Frame) -> bool {
        let [width, height] = FRAME;
        let [x, _, theta, _] = self.state.map(|value| value as f32);
        let (floor, scale) = (0.8 * height as f32, width as f32 / 5.0);
        let cart = (x.clamp(-3.0, 3.0) + 2.5) * scale;
        let tip = [
            cart + scale * theta.sin(),
            floor - 4.0 - scale * theta.cos(),
        ];
        frame.fill(width, height, PAPER);
        frame.line([0.0, floor + 4.0], [width as f32, floor + 4.0], 1.0, GROUND);
        frame.line([cart - 8.0, floor], [cart + 8.0, floor], 8.0, BODY);
        frame.line([cart, floor - 4.0], tip, 3.0, LIMB);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::classic::recorded::{self, Recorded};

    impl Recorded for CartPole {
        const FIXTURE: &'static str = "CartPole-v1.json";

        fn fresh() -> Self {
            Self::new()
        }

        fn state(&mut self) -> &mut [f64] {
            &mut self.state
        }
    }

    #[test]
    fn recorded_episodes_replay_bit_for_bit() {
        recorded::replay_all::<CartPole>();
    }

    #[test]
    fn resets_from_a_seed_equal_gymnasium() {
        recorded::reset_all::<CartPole>();
    }
}
