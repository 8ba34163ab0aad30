//! A conformance kit: checks any environment against the contract of [`Environment`], and any vector of them against
//! that of [`VectorEnvironment`].
//!
//! ```
//! use springbok_actor::environment::{Registry, conformance};
//!
//! let mut environment = Registry::built_in().make("Catch", &toml::Table::new())?;
//! let report = conformance::check(environment.as_mut(), 0..10, 1000).unwrap();
//! assert_eq!(report.returns, Some([-1.0, 1.0]));
//! # Ok::<(), springbok_actor::environment::EnvironmentError>(())
//! ```
//!
//! [`Environment`]: super::Environment
//! [`VectorEnvironment`]: crate::vector::VectorEnvironment

mod random;
mod report;
mod single;
mod vector;

#[cfg(test)]
mod tests;

use springbok_common::{arrays::ElementsRef, spec::EnvironmentSpec, step::StepOutcome};

pub use self::{random::RandomActions, report::Report, single::check, vector::check_vector};
use super::Frame;

/// Where and how an environment broke the contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("seed {seed}, step {step}: {breach}")]
pub struct ConformanceFault {
    /// Seed of the run that showed it.
    pub seed: u64,
    /// Steps taken since that seed was set; 0 is the first reset.
    pub step: u32,
    /// What was broken.
    pub breach: Breach,
}

/// Where and how a vector of environments broke the contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("step {step}, environment {environment}: {breach}")]
pub struct VectorFault {
    /// Steps taken since the check began; 0 is before the first.
    pub step: u32,
    /// Index of the environment; 0 if all are concerned.
    pub environment: usize,
    /// What was broken.
    pub breach: Breach,
}

/// One broken clause of a contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Breach {
    /// The specification is unusable in itself.
    #[error("the specification is unusable: {0}")]
    Spec(&'static str),
    /// The specification, or the number of environments, is not what it was.
    #[error("the specification changed")]
    SpecChanged,
    /// An array is not as long, or not of the type, that the specification says.
    #[error("there are {found} elements in {array}, but the specification says {expected}")]
    Layout {
        /// Which array.
        array: &'static str,
        /// Its length and element type.
        found: String,
        /// Those that it should have.
        expected: String,
    },
    /// An element of the observation is not finite. Rows of floats are lent filled with NaN, so an element that was
    /// not written, or was computed from what the row held before, shows up here.
    #[error("observation element {element} was not written or is not finite ({value})")]
    NotFinite {
        /// Flat index of the element.
        element: usize,
        /// Its value.
        value: f32,
    },
    /// A byte of the observation was not written, or depends on what the row held before.
    #[error(
        "observation element {element} was not written: it depends on what the row held before"
    )]
    NotWritten {
        /// Flat index of the element.
        element: usize,
    },
    /// An element of the observation lies outside the declared bounds.
    #[error("observation element {element} is {value}, outside of {low} to {high}")]
    OutOfBounds {
        /// Flat index of the element.
        element: usize,
        /// Its value.
        value: f32,
        /// Declared lower bound.
        low: f32,
        /// Declared upper bound.
        high: f32,
    },
    /// The reward is not finite; in a vector, it may not have been written.
    #[error("the reward is not finite ({0})")]
    Reward(f32),
    /// A step is void that may not be. In a vector, it may be that no outcome was written.
    #[error("the step is void, but it does not follow the end of an episode in a vector")]
    Void,
    /// An element of the mask is neither 0 nor 1; it may not have been written.
    #[error("mask element {element} was not written or is neither 0 nor 1 ({value})")]
    Mask {
        /// Index over the choices of all heads.
        element: usize,
        /// Its value.
        value: u8,
    },
    /// The mask allows no action of a head.
    #[error("the mask allows no action of head {head}")]
    NothingAllowed {
        /// Index of the head.
        head: usize,
    },
    /// The same seed and the same actions gave something else the second time: a random source that the seed does
    /// not reach, or something that a reset leaves behind.
    #[error("the same seed and the same actions gave something else the second time")]
    NotDeterministic,
    /// A picture is empty, or has not as many bytes as its size demands.
    #[error("a picture of {width} x {height} pixels has {bytes} bytes, but needs {}, and more than 0", 3 * width * height)]
    Frame {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes it has.
        bytes: usize,
    },
    /// Two pictures of one state differ, or only one of them could be drawn.
    #[error("two pictures of the same state differ")]
    FramesDiffer,
    /// A final observation is missing, superfluous, or out of order.
    #[error(
        "it gave {given} final observations for a step that is {outcome:?}; only a truncated one has one, in order"
    )]
    FinalObservations {
        /// Final observations that the vector gave for it.
        given: usize,
        /// How the step ended.
        outcome: StepOutcome,
    },
    /// An episode went beyond the declared time limit.
    #[error("an episode goes on after {length} steps, but may have {limit}")]
    TimeLimit {
        /// Steps it has.
        length: u32,
        /// Declared limit.
        limit: u32,
    },
    /// There are not as many summaries of episodes as ends.
    #[error("{ended} episodes ended, but {summaries} were summarised")]
    Summaries {
        /// Ends in the outcomes of a step.
        ended: usize,
        /// Summaries given.
        summaries: usize,
    },
    /// The summary of an episode does not agree with its steps.
    #[error(
        "an episode is summarised as {summarised_length} steps with a return of {summarised_return}, but had \
         {length} with {episode_return}"
    )]
    Summary {
        /// Steps that the summary says.
        summarised_length: u32,
        /// Return that the summary says.
        summarised_return: f64,
        /// Steps seen.
        length: u32,
        /// Sum of the rewards seen.
        episode_return: f64,
    },
    /// A call failed that may fail only when an environment dies.
    #[error("{0}")]
    Failed(String),
}

/// Checks one observation, `[O]`.
fn check_observation(spec: &EnvironmentSpec, observation: ElementsRef<'_>) -> Result<(), Breach> {
    let [low, high] = spec.observation.bounds;
    let check = |element, value: f32| {
        if !value.is_finite() {
            Err(Breach::NotFinite { element, value })
        } else if value < low || value > high {
            Err(Breach::OutOfBounds {
                element,
                value,
                low,
                high,
            })
        } else {
            Ok(())
        }
    };
    match observation {
        ElementsRef::F32(row) => row
            .iter()
            .enumerate()
            .try_for_each(|(element, &value)| check(element, value)),
        ElementsRef::U8(row) => row
            .iter()
            .enumerate()
            .try_for_each(|(element, &value)| check(element, f32::from(value))),
    }
}

/// Checks the mask of one state, `[spec.mask_len()]`.
fn check_mask(spec: &EnvironmentSpec, mask: &[u8]) -> Result<(), Breach> {
    if let Some(element) = mask.iter().position(|&allowed| allowed > 1) {
        let value = mask[element];
        return Err(Breach::Mask { element, value });
    }
    let mut rest = mask;
    for (head, &actions) in spec.action.heads().iter().enumerate() {
        if rest.is_empty() {
            break;
        }
        let (own, others) = rest.split_at((actions as usize).min(rest.len()));
        if !own.contains(&1) {
            return Err(Breach::NothingAllowed { head });
        }
        rest = others;
    }
    Ok(())
}

/// Checks a picture; gives its size.
fn check_frame(frame: &Frame) -> Result<[usize; 2], Breach> {
    let &Frame { width, height, .. } = frame;
    let bytes = frame.rgb.len();
    if bytes == 0 || bytes != 3 * width * height {
        return Err(Breach::Frame {
            width,
            height,
            bytes,
        });
    }
    Ok([width, height])
}
