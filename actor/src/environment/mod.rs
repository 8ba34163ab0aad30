//! Environments: what they must do, how they are named and made, and the built-in ones.
//!
//! An environment knows its rules and nothing else. Time limits, automatic resets and episode statistics live in
//! [`crate::vector::SyncVector`], once for all environments. [`conformance::check`] tests any environment against
//! the contract of [`Environment`].

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec},
    step::StepOutcome,
};

pub mod catch;
pub mod classic;
pub mod conformance;
pub mod grid_world;
pub mod numpy_rng;
pub mod options;
pub mod registry;
pub mod repeat_previous;
pub mod synthetic;
pub mod t_maze;

pub use registry::Registry;

/// What one step gave besides the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Raw reward of the step.
    pub reward: f32,
    /// Whether the episode ended at this step.
    pub outcome: StepOutcome,
}

impl Step {
    /// A step of `reward` that ends the episode if `terminated`.
    #[must_use]
    pub fn new(reward: f32, terminated: bool) -> Self {
        Self {
            reward,
            outcome: StepOutcome::from_flags(terminated, false),
        }
    }
}

/// One environment. Object safe: it writes into a row that the caller lends, of exactly `spec().observation.len()`
/// elements of the type that the specification declares.
///
/// The contract:
/// - `spec` is the same at every call.
/// - `reset` and `step` write every element of the row and read none: what the row held before is undefined.
/// - Observations and rewards are finite, and observations lie within `spec().observation.bounds`.
/// - After `reset(Some(seed))` everything that follows, later resets without a seed included, is determined by the
///   seed and the actions.
/// - The time limit `spec().episode_steps_max` is declared here and enforced by the caller. A step that both ends
///   the episode and reaches the limit is terminated.
/// - The caller resets before the first step and after each end, and passes actions that `spec().action` allows: as
///   many numbers as `spec().action.len()`, and where masks are declared only actions that the last mask allowed.
/// - No step is [`StepOutcome::Void`].
pub trait Environment: Send {
    /// What the environment shows and takes.
    fn spec(&self) -> &EnvironmentSpec;

    /// Begins an episode and writes its first observation, `[O]`. A seed restarts the environment's random stream;
    /// `None` continues it. An environment that was never seeded may begin anywhere.
    fn reset(&mut self, seed: Option<u64>, observation: ElementsMut<'_>);

    /// Takes `action` and writes the observation that follows, `[O]`: at an end, that of the state reached.
    fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step;

    /// Writes which choices the current state allows, `[spec().action.choices()]`, 1 or 0; at least one of each head
    /// must be allowed. Called only if `spec().action_mask`, after each reset and step that did not end the episode.
    fn action_mask(&self, mask: &mut [u8]) {
        mask.fill(1);
    }

    /// Draws the current state; `false` if the environment cannot be watched.
    fn render(&self, _frame: &mut Frame) -> bool {
        false
    }
}

/// A picture of 24-bit colour.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel, row by row from the top: `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// Makes it a picture of this size, all of one colour; keeps the memory.
    pub fn fill(&mut self, width: usize, height: usize, colour: [u8; 3]) {
        (self.width, self.height) = (width, height);
        self.rgb.clear();
        self.rgb
            .extend(std::iter::repeat_n(colour, width * height).flatten());
    }

    /// Colours one pixel; those outside are ignored.
    pub fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            let start = 3 * (y * self.width + x);
            self.rgb[start..start + 3].copy_from_slice(&colour);
        }
    }

    /// Colours a rectangle; what lies outside is ignored.
    pub fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                self.set(column, row, colour);
            }
        }
    }

    /// Colours a line between two points, `thickness` pixels wide.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], thickness: f32, colour: [u8; 3]) {
        let along = [to[0] - from[0], to[1] - from[1]];
        let length_squared = along[0] * along[0] + along[1] * along[1];
        for y in 0..self.height {
            for x in 0..self.width {
                let point = [x as f32 - from[0], y as f32 - from[1]];
                let share = (point[0] * along[0] + point[1] * along[1])
                    / length_squared.max(f32::MIN_POSITIVE);
                let share = share.clamp(0.0, 1.0);
                let away = [point[0] - share * along[0], point[1] - share * along[1]];
                if away[0].hypot(away[1]) <= thickness / 2.0 {
                    self.set(x, y, colour);
                }
            }
        }
    }
}

/// Draws a board of square cells, `side` pixels wide, each with a thin frame; `colour` is asked for [column, row].
pub(crate) fn draw_board(
    frame: &mut Frame,
    [columns, rows]: [usize; 2],
    side: usize,
    colour: impl Fn(usize, usize) -> [u8; 3],
) {
    frame.fill(columns * side, rows * side, [225, 225, 225]);
    for row in 0..rows {
        for column in 0..columns {
            let inner = side.saturating_sub(1).max(1);
            let [x, y] = [column * side, row * side];
            frame.rectangle(x, y, inner, inner, colour(column, row));
        }
    }
}

impl<E: Environment + ?Sized> Environment for Box<E> {
    fn spec(&self) -> &EnvironmentSpec {
        (**self).spec()
    }

    fn reset(&mut self, seed: Option<u64>, observation: ElementsMut<'_>) {
        (**self).reset(seed, observation);
    }

    fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
        (**self).step(action, observation)
    }

    fn action_mask(&self, mask: &mut [u8]) {
        (**self).action_mask(mask);
    }

    fn render(&self, frame: &mut Frame) -> bool {
        (**self).render(frame)
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
    /// The environment died, hung or broke its contract while it was played.
    #[error("environment `{environment}` failed: {reason}")]
    Failed {
        /// The environment.
        environment: String,
        /// What happened, with the traceback if there is one.
        reason: String,
    },
}

/// Largest observation or action mask, in bytes: an environment of another process says how large its are.
const SPACE_BYTES_MAX: usize = 1 << 30;

/// What is wrong with a specification in itself, if anything.
pub(crate) fn spec_fault(spec: &EnvironmentSpec) -> Option<&'static str> {
    let [low, high] = spec.observation.bounds;
    if spec.id.is_empty() {
        Some("its id is empty")
    } else if spec.observation.is_empty() {
        Some("its observation has no elements")
    } else if spec.observation.row_bytes() > SPACE_BYTES_MAX
        || spec.action.choices() > SPACE_BYTES_MAX
    {
        Some("its observation or its action is larger than 1 GiB")
    } else if low.is_nan() || high.is_nan() || low > high {
        Some("the lower bound of its observation is not below the upper one")
    } else if spec.action.is_empty() || spec.action.heads().contains(&0) {
        Some("it has no actions")
    } else if spec.episode_steps_max == Some(0) {
        Some("its episodes may have no steps")
    } else {
        action_fault(spec)
    }
}

fn action_fault(spec: &EnvironmentSpec) -> Option<&'static str> {
    let ActionSpec::Box { low, high } = &spec.action else {
        return None;
    };
    if low.len() != high.len() {
        Some("the bounds of its action differ in length")
    } else if low
        .iter()
        .zip(high)
        .any(|(low, high)| low.is_nan() || high.is_nan() || low >= high)
    {
        Some("a lower bound of its action is not below the upper one")
    } else if spec.action_mask {
        Some("a continuous action cannot have a mask")
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
