//! `Acrobot-v1`, equal to Gymnasium's bit for bit.

use std::f64::consts::PI;

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{BODY, FRAME, GOAL, LIMB, PAPER};
use crate::environment::{
    Environment, EnvironmentError, Frame, Step, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "Acrobot-v1";
const GRAVITY: f64 = 9.8;
const STEP_SECONDS: f64 = 0.2;
/// Of the first and the second joint.
const SPEED_MAX: [f64; 2] = [4.0 * PI, 9.0 * PI];
const EPISODE_STEPS_MAX: u32 = 500;

/// Two links of which only the joint between them is driven, by a torque of -1 (action 0), 0 (1) or 1 (2). Each step
/// costs 1 until the tip is one link above the pivot, which terminates the episode.
///
/// Observation, `[6]`: cosine and sine of the first angle, the same of the second, and both angular velocities. From
/// R. S. Sutton, 1996, with the equations of motion of the textbook by R. S. Sutton and A. G. Barto, 1998, as in
/// Gymnasium's `AcrobotEnv`. The first observation of an episode is computed in 64 bits and rounded; numpy takes sine
/// and cosine of it in 32 bits, so that one observation may differ from Gymnasium's in the last bit.
pub struct Acrobot {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    /// First angle from hanging down, second angle from straight, and their velocities.
    pub(super) state: [f64; 4],
}

impl Acrobot {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new(ID, options, &[]).map(|_| Self::new())
    }

    pub(super) fn new() -> Self {
        let fastest = SPEED_MAX[1] as f32;
        let observation = ObservationSpec::floats([6], [-fastest, fastest]);
        Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(3))
                .with_steps_max(EPISODE_STEPS_MAX),
            rng: NumpyRng::from_seed(0),
            state: [0.0; 4],
        }
    }

    fn observe(&self, observation: &mut [f32]) {
        let [first, second, first_speed, second_speed] = self.state;
        let shown = [
            first.cos(),
            first.sin(),
            second.cos(),
            second.sin(),
            first_speed,
            second_speed,
        ];
        super::round(&shown, observation);
    }
}

/// Time derivative of the state. Masses, lengths and moments of inertia are 1 and centres of mass lie at 0.5: the
/// factors below are their products, all exact, in Gymnasium's order of operations.
fn derivative([first, second, first_speed, second_speed]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin, cos) = (second.sin(), second.cos());
    let d1 = 0.25 + (1.25 + cos) + 1.0 + 1.0;
    let d2 = (0.25 + 0.5 * cos) + 1.0;
    let phi2 = 0.5 * GRAVITY * (first + second - PI / 2.0).cos();
    let phi1 = -0.5 * (second_speed * second_speed) * sin - second_speed * first_speed * sin
        + 1.5 * GRAVITY * (first - PI / 2.0).cos()
        + phi2;
    let second_acceleration =
        (torque + d2 / d1 * phi1 - 0.5 * (first_speed * first_speed) * sin - phi2)
            / (0.25 + 1.0 - d2 * d2 / d1);
    let first_acceleration = -(d2 * second_acceleration + phi1) / d1;
    [
        first_speed,
        second_speed,
        first_acceleration,
        second_acceleration,
    ]
}

/// The state one step later: one step of the classical Runge-Kutta method, angles wrapped, speeds limited.
fn advance(state: [f64; 4], torque: f64) -> [f64; 4] {
    let ahead = |seconds: f64, slope: [f64; 4]| -> [f64; 4] {
        std::array::from_fn(|index| state[index] + seconds * slope[index])
    };
    let k1 = derivative(state, torque);
    let k2 = derivative(ahead(STEP_SECONDS / 2.0, k1), torque);
    let k3 = derivative(ahead(STEP_SECONDS / 2.0, k2), torque);
    let k4 = derivative(ahead(STEP_SECONDS, k3), torque);
    let sum =
        std::array::from_fn(|index| k1[index] + 2.0 * k2[index] + 2.0 * k3[index] + k4[index]);
    let [first, second, first_speed, second_speed] = ahead(STEP_SECONDS / 6.0, sum);
    [
        wrapped(first),
        wrapped(second),
        first_speed.clamp(-SPEED_MAX[0], SPEED_MAX[0]),
        second_speed.clamp(-SPEED_MAX[1], SPEED_MAX[1]),
    ]
}

/// `angle` within -pi to pi, by whole turns one at a time, as Gymnasium rounds. A step turns less than 3 times.
fn wrapped(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

impl Environment for Acrobot {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        for value in &mut self.state {
            *value = f64::from(self.rng.uniform(-0.1, 0.1) as f32);
        }
        self.observe(observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        let torque = f64::from(action.index()) - 1.0;
        self.state = advance(self.state, torque);
        self.observe(observation.f32());
        let [first, second, ..] = self.state;
        let up = -first.cos() - (second + first).cos() > 1.0;
        Step::new(if up { 0.0 } else { -1.0 }, up)
    }

    fn render(&self, frame: &mut Frame) -> bool {
        let [width, height] = FRAME;
        let link = height as f32 / 4.4;
        let [first, second, ..] = self.state.map(|value| value as f32);
        let pivot = [0.5 * width as f32, 0.5 * height as f32];
        let hang = |[x, y]: [f32; 2], angle: f32| [x + link * angle.sin(), y + link * angle.cos()];
        let joint = hang(pivot, first);
        let tip = hang(joint, first + second);
        let goal = pivot[1] - link;
        frame.fill(width, height, PAPER);
        frame.line([0.0, goal], [width as f32, goal], 1.0, GOAL);
        frame.line(pivot, joint, 6.0, BODY);
        frame.line(joint, tip, 4.0, LIMB);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::classic::recorded::{self, Recorded};

    impl Recorded for Acrobot {
        const FIXTURE: &'static str = "Acrobot-v1.json";

        fn fresh() -> Self {
            Self::new()
        }

        fn state(&mut self) -> &mut [f64] {
            &mut self.state
        }
    }

    #[test]
    fn recorded_episodes_replay_bit_for_bit() {
        recorded::replay_all::<Acrobot>();
    }

    #[test]
    fn resets_from_a_seed_equal_gymnasium() {
        recorded::reset_all::<Acrobot>();
    }
}
