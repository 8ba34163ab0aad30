//! `springbok envs`: what can be played, and whether it keeps its promises.

use serde::Serialize;
use springbok_actor::{
    environment::{Registry, conformance},
    python::{PythonSettings, is_python},
};

use super::config;
use crate::{cli::Layers, exit::Failure, output};

/// Environments of a Python vector that is checked.
const VECTOR_ENVIRONMENTS: usize = 4;

/// How thoroughly an environment is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thoroughness {
    /// Seeds to begin from.
    pub(crate) seeds: u32,
    /// Steps from each of them.
    pub(crate) steps: u32,
}

/// One environment, for people or as JSON. Bounds without limit are left out, for JSON has no infinity.
#[derive(Serialize)]
struct Row {
    id: String,
    summary: String,
    observation: String,
    observation_shape: Vec<usize>,
    element: &'static str,
    action: String,
    action_mask: bool,
    episode_steps_max: Option<u32>,
}

/// Lists every registered environment with its spaces.
pub(super) fn run(json: bool, registry: &Registry) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (id, summary) in registry.list() {
        let environment = registry
            .make(id, &toml::Table::new())
            .map_err(Failure::internal)?;
        let spec = environment.spec();
        rows.push(Row {
            id: id.to_owned(),
            summary: summary.to_owned(),
            observation: spec.observation.to_string(),
            observation_shape: spec.observation.shape.clone(),
            element: spec.observation.element.as_str(),
            action: spec.action.to_string(),
            action_mask: spec.action_mask,
            episode_steps_max: spec.episode_steps_max,
        });
    }
    if json {
        output::json(&rows);
        return Ok(());
    }
    for row in rows {
        let limit = row
            .episode_steps_max
            .map_or_else(String::new, |limit| format!(", at most {limit} steps"));
        output::line(&format!(
            "{}\n    {}\n    observation {}, action {}{}{limit}",
            row.id,
            row.summary,
            row.observation,
            row.action,
            if row.action_mask { " with masks" } else { "" }
        ));
    }
    Ok(())
}

/// Plays the configured environment at random, checks all that the contract asks, and says what was seen.
///
/// # Errors
/// Exit 64 if it cannot be made; exit 70 with the first promise that it breaks.
pub(super) fn check(
    layers: &Layers,
    thoroughness: Thoroughness,
    json: bool,
    registry: &Registry,
) -> Result<(), Failure> {
    let environment = config::load(layers)?.config.environment;
    let Thoroughness { seeds, steps } = thoroughness;
    let broken = |fault: &dyn std::fmt::Display| {
        Failure::internal(format!("{} breaks its contract: {fault}", environment.id))
    };
    let report = if is_python(&environment.id) {
        let python = PythonSettings::from(&environment.python);
        let (id, options) = (&environment.id, &environment.options);
        let mut vector = registry
            .make_vector(id, options, &python, VECTOR_ENVIRONMENTS, 1)
            .map_err(Failure::usage)?;
        let steps = seeds.saturating_mul(steps) / VECTOR_ENVIRONMENTS as u32;
        conformance::check_vector(vector.as_mut(), steps.max(1)).map_err(|fault| broken(&fault))?
    } else {
        let mut made = registry
            .make(&environment.id, &environment.options)
            .map_err(Failure::usage)?;
        conformance::check(made.as_mut(), 0..u64::from(seeds), steps)
            .map_err(|fault| broken(&fault))?
    };
    if json {
        output::json(&report);
    } else {
        output::line(&report.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use springbok_actor::environment::{Environment, Step, catch::Catch};
    use springbok_common::{
        arrays::{ActionsRef, ElementsMut},
        spec::EnvironmentSpec,
    };

    use super::*;

    /// Catch without a reward at the fifth step.
    struct Faulty(Catch, u32);

    impl Environment for Faulty {
        fn spec(&self) -> &EnvironmentSpec {
            self.0.spec()
        }

        fn reset(&mut self, seed: Option<u64>, observation: ElementsMut<'_>) {
            self.1 = 0;
            self.0.reset(seed, observation);
        }

        fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
            self.1 += 1;
            let step = self.0.step(action, observation);
            let reward = if self.1 == 5 { f32::NAN } else { step.reward };
            Step { reward, ..step }
        }
    }

    #[test]
    fn a_broken_promise_of_ones_own_environment_is_exit_70_and_says_where() {
        let mut registry = Registry::new();
        registry.register("Mine-v0", "", |options| {
            Catch::from_options(options).map(|catch| Faulty(catch, 0))
        });
        let layers = Layers {
            file: None,
            sets: vec!["environment.id=Mine-v0".into()],
        };
        let thoroughness = |steps| Thoroughness { seeds: 2, steps };
        assert!(check(&layers, thoroughness(4), true, &registry).is_ok());
        let failure = check(&layers, thoroughness(20), true, &registry).unwrap_err();
        assert_eq!(failure.exit.code(), 70);
        assert_eq!(
            failure.text,
            "Mine-v0 breaks its contract: seed 0, step 5: the reward is not finite (NaN)"
        );
    }
}
