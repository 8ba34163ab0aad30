//! `CartPole-v1`, equal to Gymnasium's bit for bit.

use springbok_common::{
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
};

use super::{Environment, EnvironmentError, Step, numpy_rng::NumpyRng, options::Options};

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
    state: [f64; 4],
}

impl CartPole {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new("CartPole-v1", options, &[]).map(|_| Self::new())
    }

    fn new() -> Self {
        Self {
            spec: EnvironmentSpec {
                id: "CartPole-v1".into(),
                observation: ObservationSpec {
                    shape: vec![4],
                    // Nothing bounds the velocities.
                    bounds: [f32::NEG_INFINITY, f32::INFINITY],
                },
                action: ActionSpec::Discrete(2),
                episode_steps_max: Some(EPISODE_STEPS_MAX),
            },
            rng: NumpyRng::from_seed(0),
            state: [0.0; 4],
        }
    }

    fn observe(&self, observation: &mut [f32]) {
        for (element, value) in observation.iter_mut().zip(self.state) {
            *element = value as f32;
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

    fn reset(&mut self, seed: Option<u64>, observation: &mut [f32]) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        for value in &mut self.state {
            *value = self.rng.uniform(-0.05, 0.05);
        }
        self.observe(observation);
    }

    fn step(&mut self, action: u32, observation: &mut [f32]) -> Step {
        self.state = advance(self.state, action);
        self.observe(observation);
        let [x, _, theta, _] = self.state;
        let fallen = x.abs() > POSITION_MAX || theta.abs() > ANGLE_MAX;
        Step {
            reward: 1.0,
            outcome: StepOutcome::from_flags(fallen, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn fixture() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/CartPole-v1.json"
        );
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn array<const N: usize>(value: &Value) -> [f64; N] {
        let numbers = value.as_array().unwrap();
        assert_eq!(numbers.len(), N);
        std::array::from_fn(|index| numbers[index].as_f64().unwrap())
    }

    /// Bit for bit where sine and cosine are those that the fixture was recorded with.
    fn assert_state(state: [f64; 4], recorded: [f64; 4], free_running: bool, at: &str) {
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert_eq!(state.map(f64::to_bits), recorded.map(f64::to_bits), "{at}");
        } else if !free_running {
            for (left, right) in state.into_iter().zip(recorded) {
                assert!((left - right).abs() < 1e-12, "{at}: {left} {right}");
            }
        }
    }

    fn replay(episode: &Value, free_running: bool) {
        let note = episode["note"].as_str().unwrap();
        let actions = episode["actions"].as_array().unwrap();
        let mut environment = CartPole::new();
        environment.state = array(&episode["state0"]);
        let mut observation = [f32::NAN; 4];
        for (t, action) in actions.iter().enumerate() {
            let action = u32::try_from(action.as_u64().unwrap()).unwrap();
            let step = environment.step(action, &mut observation);

            let at = format!("{note}, step {t}");
            let state_tp1 = array(&episode["state"][t]);
            assert_state(environment.state, state_tp1, free_running, &at);
            if cfg!(all(target_os = "linux", target_env = "gnu")) {
                let recorded = array(&episode["obs"][t]).map(|value| value as f32);
                assert_eq!(observation.map(f32::to_bits), recorded.map(f32::to_bits));
            }
            assert_eq!(
                f64::from(step.reward),
                episode["reward"][t].as_f64().unwrap()
            );
            let last = t + 1 == actions.len();
            let terminated = last && episode["terminated"].as_bool().unwrap();
            let recorded = StepOutcome::from_flags(terminated, false);
            assert_eq!(step.outcome, recorded, "{at}");
            if !free_running {
                environment.state = state_tp1;
            }
        }
        // The time limit is not the environment's to apply, but its declaration must be right.
        let limit = environment.spec().episode_steps_max.unwrap() as usize;
        let truncated = episode["truncated"].as_bool().unwrap();
        assert_eq!(truncated, actions.len() == limit, "{note}");
    }

    #[test]
    fn recorded_episodes_replay_bit_for_bit() {
        let fixture = fixture();
        let episodes = fixture["episodes"].as_array().unwrap();
        assert_eq!(episodes.len(), 3);
        for episode in episodes {
            replay(episode, false);
            replay(episode, true);
        }
    }

    #[test]
    fn resets_from_a_seed_equal_gymnasium() {
        let fixture = fixture();
        let resets = fixture["resets"].as_object().unwrap();
        assert_eq!(resets.len(), 6);
        for (seed, states) in resets {
            let mut environment = CartPole::new();
            let mut observation = [f32::NAN; 4];
            environment.reset(Some(seed.parse().unwrap()), &mut observation);
            let first: [f64; 4] = array(&states[0]);
            assert_eq!(environment.state.map(f64::to_bits), first.map(f64::to_bits));
            assert_eq!(observation, first.map(|value| value as f32));

            environment.reset(None, &mut observation);
            let second: [f64; 4] = array(&states[1]);
            assert_eq!(
                environment.state.map(f64::to_bits),
                second.map(f64::to_bits)
            );
        }
    }
}
