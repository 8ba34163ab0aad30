//! A conformance kit: checks any environment against the contract of [`Environment`].
//!
//! ```
//! use springbok_actor::environment::{Registry, conformance};
//!
//! let mut environment = Registry::built_in().make("Catch", &toml::Table::new())?;
//! conformance::check(environment.as_mut(), 0..10, 1000).unwrap();
//! # Ok::<(), springbok_actor::environment::EnvironmentError>(())
//! ```

use std::hash::{DefaultHasher, Hash, Hasher};

use springbok_common::spec::{ActionSpec, EnvironmentSpec};

use super::{Environment, Step, numpy_rng::NumpyRng, spec_fault};

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

/// One broken clause of the contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Breach {
    /// The specification is unusable in itself.
    #[error("the specification is unusable: {0}")]
    Spec(&'static str),
    /// The specification is not what it was.
    #[error("the specification changed")]
    SpecChanged,
    /// An element of the observation is not finite. The row is lent filled with NaN, so an element that was not
    /// written, or was computed from what the row held before, shows up here.
    #[error("observation element {element} was not written or is not finite ({value})")]
    NotFinite {
        /// Flat index of the element.
        element: usize,
        /// Its value.
        value: f32,
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
    /// The reward is not finite.
    #[error("the reward is not finite ({0})")]
    Reward(f32),
    /// The same seed and the same actions gave something else the second time: a random source that the seed does
    /// not reach, or something that a reset leaves behind.
    #[error("the same seed and the same actions gave something else the second time")]
    NotDeterministic,
}

/// Plays `steps` steps from each seed, twice, with random actions and resets at each end and time limit, and checks
/// everything that the contract of [`Environment`] asks of an environment.
///
/// # Errors
/// The first [`ConformanceFault`].
pub fn check(
    environment: &mut dyn Environment,
    seeds: impl IntoIterator<Item = u64>,
    steps: u32,
) -> Result<(), ConformanceFault> {
    let spec = environment.spec().clone();
    let mut trace = Vec::with_capacity(steps as usize + 1);
    for seed in seeds {
        trace.clear();
        // The second run begins wherever the first stopped, so it also shows what a reset leaves behind.
        play(environment, &spec, seed, steps, &mut |_, fingerprint| {
            trace.push(fingerprint);
            true
        })?;
        play(environment, &spec, seed, steps, &mut |step, fingerprint| {
            trace.get(step as usize) == Some(&fingerprint)
        })?;
    }
    Ok(())
}

/// Plays one run. `same` sees a fingerprint of all that each step gave, and says whether it is as expected.
fn play(
    environment: &mut dyn Environment,
    spec: &EnvironmentSpec,
    seed: u64,
    steps: u32,
    same: &mut dyn FnMut(u32, u64) -> bool,
) -> Result<(), ConformanceFault> {
    let fault = |step, breach| ConformanceFault { seed, step, breach };
    if let Some(reason) = spec_fault(spec) {
        return Err(fault(0, Breach::Spec(reason)));
    }
    let ActionSpec::Discrete(actions) = spec.action;
    let mut rng = NumpyRng::from_seed(!seed);
    let mut row = vec![f32::NAN; spec.observation.len()];
    environment.reset(Some(seed), &mut row);
    check_observation(spec, &row).map_err(|breach| fault(0, breach))?;
    if !same(0, fingerprint(&row, None, &[])) {
        return Err(fault(0, Breach::NotDeterministic));
    }

    let mut length = 0;
    let mut begun = Vec::with_capacity(row.len());
    for step in 1..=steps {
        row.fill(f32::NAN);
        let taken = environment.step(rng.below(actions), &mut row);
        check_step(environment, spec, taken, &row).map_err(|breach| fault(step, breach))?;
        length += 1;
        begun.clear();
        if taken.outcome.is_end() || spec.episode_steps_max == Some(length) {
            length = 0;
            begun.resize(row.len(), f32::NAN);
            environment.reset(None, &mut begun);
            check_observation(spec, &begun).map_err(|breach| fault(step, breach))?;
        }
        if !same(step, fingerprint(&row, Some(taken), &begun)) {
            return Err(fault(step, Breach::NotDeterministic));
        }
    }
    Ok(())
}

fn check_step(
    environment: &dyn Environment,
    spec: &EnvironmentSpec,
    taken: Step,
    observation: &[f32],
) -> Result<(), Breach> {
    check_observation(spec, observation)?;
    if !taken.reward.is_finite() {
        return Err(Breach::Reward(taken.reward));
    }
    if environment.spec() != spec {
        return Err(Breach::SpecChanged);
    }
    Ok(())
}

fn check_observation(spec: &EnvironmentSpec, observation: &[f32]) -> Result<(), Breach> {
    let [low, high] = spec.observation.bounds;
    for (element, &value) in observation.iter().enumerate() {
        if !value.is_finite() {
            return Err(Breach::NotFinite { element, value });
        }
        if value < low || value > high {
            return Err(Breach::OutOfBounds {
                element,
                value,
                low,
                high,
            });
        }
    }
    Ok(())
}

/// 64 bits over what a step gave and, if an episode began after it, what that began with.
fn fingerprint(observation: &[f32], taken: Option<Step>, begun: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in observation.iter().chain(begun) {
        value.to_bits().hash(&mut hasher);
    }
    if let Some(Step { reward, outcome }) = taken {
        (reward.to_bits(), outcome as u8, begun.len()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::cartpole::CartPole;

    /// CartPole with one fault planted, which shows after 20 steps at the latest.
    struct Faulty {
        inner: CartPole,
        spec: EnvironmentSpec,
        fault: Fault,
        steps: u32,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Unwritten,
        ReadsTheRow,
        NotANumber,
        OutOfBounds,
        Reward,
        SpecChanges,
        IgnoresTheSeed,
        KeepsState,
        NoActions,
    }

    impl Environment for Faulty {
        fn spec(&self) -> &EnvironmentSpec {
            &self.spec
        }

        fn reset(&mut self, seed: Option<u64>, observation: &mut [f32]) {
            let seed = seed.filter(|_| self.fault != Fault::IgnoresTheSeed);
            self.inner.reset(seed, observation);
        }

        fn step(&mut self, action: u32, observation: &mut [f32]) -> Step {
            self.steps += 1;
            let before = observation[2];
            let mut step = self.inner.step(action, observation);
            let late = self.steps >= 20;
            match self.fault {
                Fault::Unwritten if late => observation[1] = f32::NAN,
                Fault::ReadsTheRow => observation[2] += before,
                Fault::NotANumber if late => observation[3] = f32::INFINITY,
                Fault::OutOfBounds if late => observation[0] = 101.0,
                Fault::Reward if late => step.reward = f32::NAN,
                Fault::SpecChanges if late => self.spec.action = ActionSpec::Discrete(3),
                Fault::KeepsState => step.reward += self.steps as f32,
                _ => {}
            }
            step
        }
    }

    fn checked(fault: Fault) -> Result<(), ConformanceFault> {
        let inner = CartPole::from_options(&toml::Table::new()).unwrap();
        let mut spec = inner.spec().clone();
        spec.observation.bounds = [-100.0, 100.0];
        if fault == Fault::NoActions {
            spec.action = ActionSpec::Discrete(0);
        }
        let mut faulty = Faulty {
            inner,
            spec,
            fault,
            steps: 0,
        };
        check(&mut faulty, 0..3, 100)
    }

    #[test]
    fn planted_faults_are_found() {
        assert_eq!(checked(Fault::None), Ok(()));
        let breach = |fault| checked(fault).unwrap_err().breach;
        assert!(matches!(
            breach(Fault::Unwritten),
            Breach::NotFinite { element: 1, .. }
        ));
        assert!(matches!(
            breach(Fault::ReadsTheRow),
            Breach::NotFinite { element: 2, .. }
        ));
        assert!(matches!(
            breach(Fault::NotANumber),
            Breach::NotFinite { element: 3, .. }
        ));
        assert!(matches!(
            breach(Fault::OutOfBounds),
            Breach::OutOfBounds { element: 0, .. }
        ));
        assert!(matches!(breach(Fault::Reward), Breach::Reward(_)));
        assert_eq!(breach(Fault::SpecChanges), Breach::SpecChanged);
        assert_eq!(breach(Fault::IgnoresTheSeed), Breach::NotDeterministic);
        assert_eq!(breach(Fault::KeepsState), Breach::NotDeterministic);
        assert_eq!(breach(Fault::NoActions), Breach::Spec("it has no actions"));
    }

    #[test]
    fn a_fault_says_where_it_is() {
        assert_eq!(
            checked(Fault::OutOfBounds).unwrap_err().to_string(),
            "seed 0, step 20: observation element 0 is 101, outside of -100 to 100"
        );
    }
}
