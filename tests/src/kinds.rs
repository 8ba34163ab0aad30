//! Environments whose values are known: acceptance tests D1 to D3 of truncation.

use springbok_actor::environment::{Environment, EnvironmentError, Step};
use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

/// Steps of an episode.
pub const STEPS: usize = 5;
/// Numbers in an observation: one for each kind, then one for each step.
pub const WIDTH: usize = 2 + STEPS;

/// Episodes of two kinds take turns; each step of kind 0 is worth 0, of kind 1 it is worth 1, whatever the action. With
/// the option `end = "terminated"` they end after five steps, otherwise a time limit cuts them off there.
pub struct Kinds {
    spec: EnvironmentSpec,
    terminates: bool,
    kind: usize,
    step: usize,
}

impl Kinds {
    /// The environment.
    ///
    /// # Errors
    /// None.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let terminates = options.get("end").and_then(toml::Value::as_str) == Some("terminated");
        let spec = EnvironmentSpec::new(
            "Kinds",
            ObservationSpec::floats([WIDTH], [0.0, 1.0]),
            ActionSpec::Discrete(2),
        );
        Ok(Self {
            spec: if terminates {
                spec
            } else {
                spec.with_steps_max(STEPS as u32)
            },
            terminates,
            kind: 0,
            step: 0,
        })
    }
}

/// What is shown in step `step` of an episode of `kind`; after the last step the state is like the last.
#[must_use]
pub fn observation(kind: usize, step: usize) -> [f32; WIDTH] {
    let mut shown = [0.0; WIDTH];
    shown[kind] = 1.0;
    shown[2 + step.min(STEPS - 1)] = 1.0;
    shown
}

impl Environment for Kinds {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut row: ElementsMut<'_>) {
        self.kind = seed.map_or(1 - self.kind, |seed| (seed % 2) as usize);
        self.step = 0;
        row.f32().copy_from_slice(&observation(self.kind, 0));
    }

    fn step(&mut self, _action: ActionsRef<'_>, mut row: ElementsMut<'_>) -> Step {
        self.step += 1;
        row.f32()
            .copy_from_slice(&observation(self.kind, self.step));
        Step::new(self.kind as f32, self.terminates && self.step == STEPS)
    }
}

/// A variable that makes the rewards of one process's [`OneState`] a million times too large.
pub const POISON_VARIABLE: &str = "SPRINGBOK_TEST_POISON";

/// One state, which is worth reward 1 for ever; a time limit cuts episodes off every ten steps.
pub struct OneState {
    spec: EnvironmentSpec,
    reward: f32,
}

impl OneState {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// None.
    pub fn from_options(_options: &toml::Table) -> Result<Self, EnvironmentError> {
        let spec = EnvironmentSpec::new(
            "OneState",
            ObservationSpec::floats([1], [0.0, 1.0]),
            ActionSpec::Discrete(2),
        );
        Ok(Self {
            spec: spec.with_steps_max(10),
            reward: if std::env::var_os(POISON_VARIABLE).is_some() {
                1e6
            } else {
                1.0
            },
        })
    }
}

impl Environment for OneState {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, _seed: Option<u64>, mut row: ElementsMut<'_>) {
        row.f32().fill(1.0);
    }

    fn step(&mut self, _action: ActionsRef<'_>, mut row: ElementsMut<'_>) -> Step {
        row.f32().fill(1.0);
        Step::new(self.reward, false)
    }
}
