//! `Pendulum-v1`, equal to Gymnasium's bit for bit.

use std::f64::consts::PI;

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{BODY, FRAME, GOAL, LIMB, PAPER};
use crate::environment::{
    Environment, EnvironmentError, Frame, Step, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "Pendulum-v1";
const SPEED_MAX: f64 = 8.0;
const TORQUE_MAX: f32 = 2.0;
const STEP_SECONDS: f64 = 0.05;
const EPISODE_STEPS_MAX: u32 = 200;

/// A pendulum to swing up and hold up by a torque from -2 to 2. A step costs the squared angle from upright, a tenth
/// of the squared speed and a thousandth of the squared torque; only the time limit ends an episode.
///
/// Observation, `[3]`: cosine and sine of the angle, angular velocity (-8 to 8). As in Gymnasium's `PendulumEnv`.
pub struct Pendulum {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    /// Angle from upright, which is not wrapped, and angular velocity.
    pub(super) state: [f64; 2],
    /// For the picture.
    torque: f32,
}

impl Pendulum {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new(ID, options, &[]).map(|_| Self::new())
    }

    pub(super) fn new() -> Self {
        let speed_max = SPEED_MAX as f32;
        let action = ActionSpec::Box {
            low: vec![-TORQUE_MAX],
            high: vec![TORQUE_MAX],
        };
        let observation = ObservationSpec::floats([3], [-speed_max, speed_max]);
        Self {
            spec: EnvironmentSpec::new(ID, observation, action).with_steps_max(EPISODE_STEPS_MAX),
            rng: NumpyRng::from_seed(0),
            state: [0.0; 2],
            torque: 0.0,
        }
    }

    fn observe(&self, observation: &mut [f32]) {
        let [angle, speed] = self.state;
        for (element, value) in observation
            .iter_mut()
            .zip([angle.cos(), angle.sin(), speed])
        {
            *element = value as f32;
        }
    }
}

/// `angle` within -pi to pi.
fn normalised(angle: f64) -> f64 {
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

/// What a step from `state` costs. Terms of the torque alone are computed in 32 bits, as numpy does.
fn cost([angle, speed]: [f64; 2], torque: f32) -> f64 {
    let angle = normalised(angle);
    angle * angle + 0.1 * (speed * speed) + f64::from(0.001 * (torque * torque))
}

/// The state one step later, in Gymnasium's order of operations.
fn advance([angle, speed]: [f64; 2], torque: f32) -> [f64; 2] {
    let speed = speed + (15.0 * angle.sin() + f64::from(3.0 * torque)) * STEP_SECONDS;
    let speed = speed.clamp(-SPEED_MAX, SPEED_MAX);
    [angle + speed * STEP_SECONDS, speed]
}

impl Environment for Pendulum {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.state = [self.rng.uniform(-PI, PI), self.rng.uniform(-1.0, 1.0)];
        self.torque = 0.0;
        self.observe(observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        let torque = action.values().first().copied().unwrap_or(0.0);
        self.torque = torque.clamp(-TORQUE_MAX, TORQUE_MAX);
        let reward = -cost(self.state, self.torque);
        self.state = advance(self.state, self.torque);
        self.observe(observation.f32());
        Step::new(reward as f32, false)
    }

    fn render(&self, frame: &mut Frame) -> bool {
        let [width, height] = FRAME;
        let pivot = [0.5 * width as f32, 0.5 * height as f32];
        let (angle, arm) = (self.state[0] as f32, 0.42 * height as f32);
        let tip = [pivot[0] - arm * angle.sin(), pivot[1] - arm * angle.cos()];
        let pull = 0.25 * width as f32 * self.torque / TORQUE_MAX;
        frame.fill(width, height, PAPER);
        frame.line(pivot, tip, 8.0, LIMB);
        frame.line(pivot, pivot, 5.0, BODY);
        let base = height as f32 - 4.0;
        frame.line([pivot[0], base], [pivot[0] - pull, base], 3.0, GOAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::classic::recorded::{self, Recorded};

    impl Recorded for Pendulum {
        const FIXTURE: &'static str = "Pendulum-v1.json";

        fn fresh() -> Self {
            Self::new()
        }

        fn state(&mut self) -> &mut [f64] {
            &mut self.state
        }
    }

    #[test]
    fn recorded_episodes_replay_bit_for_bit() {
        recorded::replay_all::<Pendulum>();
    }

    #[test]
    fn resets_from_a_seed_equal_gymnasium() {
        recorded::reset_all::<Pendulum>();
    }
}
