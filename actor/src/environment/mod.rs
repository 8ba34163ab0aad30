//! Environments: what they must do, how they are named and made, and the built-in ones.
//!
//! An environment knows its rules and nothing else. Time limits, automatic resets and episode statistics live in
//! [`crate::vector::SyncVector`], once for all environments. [`conformance::check`] tests any environment against
//! the contract of [`Environment`].

use springbok_common::{spec::EnvironmentSpec, step::StepOutcome};

pub mod cartpole;
pub mod catch;
pub mod conformance;
pub mod numpy_rng;
pub mod options;
pub mod registry;
pub mod synthetic;

pub use registry::Registry;

/// What one step gave besides the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Raw reward of the step.
    pub reward: f32,
    /// Whether the episode ended at this step.
    pub outcome: StepOutcome,
}

/// One environment with discrete actions and an observation of 32-bit floats. Object safe: it writes into a row
/// that the caller lends, of exactly `spec().observation.len()` elements.
///
/// The contract:
/// - `spec` is the same at every call.
/// - `reset` and `step` write every element of the row and read none: what the row held before is undefined.
/// - Observations and rewards are finite, and observations lie within `spec().observation.bounds`.
/// - After `reset(Some(seed))` everything that follows, later resets without a seed included, is determined by the
///   seed and the actions.
/// - The time limit `spec().episode_steps_max` is declared here and enforced by the caller. A step that both ends
///   the episode and reaches the limit is terminated.
/// - The caller resets before the first step and after each end, and passes actions that `spec().action` allows.
pub trait Environment: Send {
    /// What the environment shows and takes.
    fn spec(&self) -> &EnvironmentSpec;

    /// Begins an episode and writes its first observation, `[O]`. A seed restarts the environment's random stream;
    /// `None` continues it. An environment that was never seeded may begin anywhere.
    fn reset(&mut self, seed: Option<u64>, observation: &mut [f32]);

    /// Takes `action` and writes the observation that follows, `[O]`: at an end, that of the state reached.
    fn step(&mut self, action: u32, observation: &mut [f32]) -> Step;
}

impl<E: Environment + ?Sized> Environment for Box<E> {
    fn spec(&self) -> &EnvironmentSpec {
        (**self).spec()
    }

    fn reset(&mut self, seed: Option<u64>, observation: &mut [f32]) {
        (**self).reset(seed, observation);
    }

    fn step(&mut self, action: u32, observation: &mut [f32]) -> Step {
        (**self).step(action, observation)
    }
}

/// Why an environment could not be made. Each message is one sentence for the person who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// No environment is registered under this name.
    #[error("there is no environment `{name}`; there is {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are, as a sentence lists them.
        known: String,
    },
    /// The environment has no option of this name.
    #[error("environment `{environment}` has no option `{option}`; it has {known}")]
    UnknownOption {
        /// The environment.
        environment: String,
        /// The option given.
        option: String,
        /// The options there are, as a sentence lists them.
        known: String,
    },
    /// The value of an option is of the wrong kind or out of range.
    #[error("option `{option}` of environment `{environment}` is {value}, but must be {limit}")]
    InvalidOption {
        /// The environment.
        environment: String,
        /// The option given.
        option: String,
        /// The value given, as TOML.
        value: String,
        /// What is allowed.
        limit: String,
    },
    /// The environment declares a specification that nothing can be trained on.
    #[error("environment `{environment}` has an unusable specification: {fault}")]
    InvalidSpec {
        /// The environment.
        environment: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// No environment at all was asked for.
    #[error("0 copies of environment `{environment}` cannot be stepped; there must be at least 1")]
    NoEnvironments {
        /// The environment.
        environment: String,
    },
    /// The environment's own constructor failed.
    #[error("environment `{environment}` could not be made: {reason}")]
    Construction {
        /// The environment.
        environment: String,
        /// What its constructor says.
        reason: String,
    },
}

/// What is wrong with a specification in itself, if anything.
pub(crate) fn spec_fault(spec: &EnvironmentSpec) -> Option<&'static str> {
    let [low, high] = spec.observation.bounds;
    if spec.id.is_empty() {
        Some("its id is empty")
    } else if spec.observation.is_empty() {
        Some("its observation has no elements")
    } else if low.is_nan() || high.is_nan() || low > high {
        Some("the lower bound of its observation is not below the upper one")
    } else if spec.action.logits() == 0 {
        Some("it has no actions")
    } else if spec.episode_steps_max == Some(0) {
        Some("its episodes may have no steps")
    } else {
        None
    }
}

/// `names` as a sentence lists them: "a", "a and b", "a, b and c".
pub(crate) fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
