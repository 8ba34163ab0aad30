//! `springbok eval`: plays a run's policy, by its most probable actions and by sampling.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use springbok_actor::{
    environment::Registry,
    inference::{Inference, mix_seed},
    python::PythonSettings,
    vector::StepSink,
};
use springbok_common::{
    arrays::Actions,
    config::Config,
    policy::read_safetensors,
    spec::{ActionSpec, EnvironmentSpec, NetworkSpec},
    step::StepOutcome,
};

use crate::{exit::Failure, output};

/// Episodes played side by side.
const ENVIRONMENTS_MAX: u32 = 32;

/// What `policy.json` says, as far as playing needs it. The spaces are not read back: they come from the environment,
/// and JSON has no infinity for bounds that are none.
#[derive(Deserialize)]
struct SavedPolicy {
    network: NetworkSpec,
    environment: SavedEnvironment,
    /// A TOML table.
    environment_options: String,
}

/// What was played.
#[derive(Deserialize)]
struct SavedEnvironment {
    id: String,
}

/// Returns of some episodes.
#[derive(Debug, Serialize)]
struct Returns {
    mean: f64,
    min: f64,
    max: f64,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    environment: String,
    episodes: u32,
    seed: u64,
    greedy: Returns,
    sampled: Returns,
}

/// How actions are chosen.
#[derive(Clone, Copy)]
enum Play {
    /// The most probable one.
    Greedy,
    /// As while training.
    Sampled,
}

/// Plays `episodes` episodes each way and prints their returns.
pub(super) fn run(
    run_directory: &Path,
    episodes: u32,
    seed: u64,
    json: bool,
    registry: &Registry,
) -> Result<(), Failure> {
    let stage = Stage::load(run_directory, registry)?;
    let report = Report {
        environment: stage.environment_id.clone(),
        episodes,
        seed,
        greedy: returns(&stage.play(episodes, seed, Play::Greedy)?),
        sampled: returns(&stage.play(episodes, seed, Play::Sampled)?),
    };
    if json {
        output::json(&report);
        return Ok(());
    }
    output::line(&format!(
        "{}, {episodes} episodes each way, seed {seed}",
        report.environment
    ));
    for (way, returns) in [("greedy", &report.greedy), ("sampled", &report.sampled)] {
        output::line(&format!(
            "{way:8} mean return {:.2}, lowest {:.2}, highest {:.2}",
            returns.mean, returns.min, returns.max
        ));
    }
    Ok(())
}

/// How the run's Python environments were run; this machine's environment variables win, as it may be another one.
fn python_settings(run_directory: &Path) -> PythonSettings {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("SPRINGBOK__ENVIRONMENT__PYTHON__"));
    Config::load(Some(&run_directory.join("config.toml")), variables, &[])
        .map(|loaded| PythonSettings::from(&loaded.config.environment.python))
        .unwrap_or_default()
}

/// A policy and what it plays.
struct Stage<'a> {
    environment_id: String,
    environment_options: toml::Table,
    network: NetworkSpec,
    parameters: Vec<u8>,
    registry: &'a Registry,
    python: PythonSettings,
}

impl<'a> Stage<'a> {
    /// Reads a run directory.
    ///
    /// # Errors
    /// Exit 74 with the file that is missing or damaged.
    fn load(run_directory: &Path, registry: &'a Registry) -> Result<Self, Failure> {
        let damaged = |file: &str, cause: &dyn std::fmt::Display| {
            let path = run_directory.join(file);
            Failure::files(format!("{} cannot be used: {cause}", path.display()))
        };
        let read = |file: &str| {
            fs::read(run_directory.join(file)).map_err(|error| {
                let path = run_directory.join(file);
                Failure::files(format!("cannot read {}: {error}", path.display()))
            })
        };
        let saved: SavedPolicy = serde_json::from_slice(&read("policy.json")?)
            .map_err(|error| damaged("policy.json", &error))?;
        let parameters = read_safetensors(&read("policy.safetensors")?, &saved.network)
            .map_err(|error| damaged("policy.safetensors", &error))?;
        let environment_options = saved
            .environment_options
            .parse()
            .map_err(|error: toml::de::Error| damaged("policy.json", &error))?;
        Ok(Self {
            environment_id: saved.environment.id,
            environment_options,
            network: saved.network,
            parameters: parameters.to_vec(),
            registry,
            python: python_settings(run_directory),
        })
    }

    /// The returns of `episodes` episodes. Of each environment only the first episode counts: taking whichever
    /// end first would favour short ones.
    fn play(&self, episodes: u32, seed: u64, way: Play) -> Result<Vec<f64>, Failure> {
        let mut all = Vec::new();
        let mut left = episodes;
        let mut round = 0;
        while left > 0 {
            let environments = left.min(ENVIRONMENTS_MAX);
            all.extend(self.round(environments as usize, mix_seed(seed, round), way)?);
            left -= environments;
            round += 1;
        }
        Ok(all)
    }

    fn round(&self, environments: usize, seed: u64, way: Play) -> Result<Vec<f64>, Failure> {
        let mut vector = self
            .registry
            .make_vector(
                &self.environment_id,
                &self.environment_options,
                &self.python,
                environments,
                seed,
            )
            .map_err(Failure::usage)?;
        self.check_fit(vector.spec())?;
        let mut inference = Inference::new(&self.network, environments, seed);
        inference
            .load(&self.parameters)
            .map_err(|error| Failure::files(format!("the policy cannot be loaded: {error}")))?;

        let numbers = environments * vector.spec().action.len();
        let mut drawn = match vector.spec().action {
            ActionSpec::Box { .. } => Actions::Values(vec![0.0; numbers]),
            ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => {
                Actions::Indices(vec![0; numbers])
            }
        };
        let mut bounded = Actions::default();
        let mut log_probs = vec![0.0; environments];
        let mut rewards = vec![0.0; environments];
        let mut outcomes = vec![StepOutcome::Continued; environments];
        let mut returns: Vec<Option<f64>> = vec![None; environments];
        let mut ended = Vec::new();
        while returns.iter().any(Option::is_none) {
            let (shown, masks) = (vector.observations(), vector.action_masks());
            let chosen = match way {
                Play::Greedy => inference.act_greedily(shown, masks, drawn.as_mut()),
                Play::Sampled => inference.act(shown, masks, drawn.as_mut(), &mut log_probs),
            };
            chosen.map_err(|error| Failure::files(format!("the policy is unusable: {error}")))?;
            ended.clear();
            vector
                .step(
                    inference.bound(drawn.as_ref(), &mut bounded),
                    &mut StepSink {
                        rewards: &mut rewards,
                        outcomes: &mut outcomes,
                        on_truncated: &mut |_, _| {},
                        episodes: &mut ended,
                    },
                )
                .map_err(Failure::internal)?;
            inference.forget_where(&outcomes);
            // Episodes come in the order of the environments that ended one.
            let ends = (0..environments).filter(|&k| outcomes[k].is_end());
            for (k, episode) in ends.zip(&ended) {
                returns[k].get_or_insert(episode.episode_return);
            }
        }
        Ok(returns.into_iter().flatten().collect())
    }

    fn check_fit(&self, environment: &EnvironmentSpec) -> Result<(), Failure> {
        let fits = environment.observation == self.network.observation
            && environment.action == self.network.action;
        if fits {
            Ok(())
        } else {
            Err(Failure::files(format!(
                "the policy sees {} and chooses {}, but {} shows {} and has {}",
                self.network.observation,
                self.network.action,
                environment.id,
                environment.observation,
                environment.action
            )))
        }
    }
}

fn returns(all: &[f64]) -> Returns {
    Returns {
        mean: all.iter().sum::<f64>() / all.len() as f64,
        min: all.iter().copied().fold(f64::INFINITY, f64::min),
        max: all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}
