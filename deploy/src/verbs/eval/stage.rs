//! A run directory as something to play: the policy, and the environments that it plays in.

use std::{fs, path::Path, sync::Arc};

use serde::Deserialize;
use springbok_actor::{
    environment::Registry,
    inference::{Inference, mix_seed},
    python::PythonSettings,
    vector::VectorEnvironment,
};
use springbok_common::{
    config::Config,
    policy::read_safetensors,
    spec::{EnvironmentSpec, NetworkSpec},
    unroll::EpisodeSummary,
};

use super::player::{Player, Way};
use crate::exit::Failure;

/// Episodes played side by side.
const ENVIRONMENTS_MAX: u32 = 32;
/// Takes the place of the actor's index in the seeds: beyond every index there can be (they have 32 bits), so that the
/// seeds of an evaluation are not those of any actor of a run with the same seed.
const EVALUATION: u64 = 1 << 32;
const SEED_ENVIRONMENTS: u64 = 0;
const SEED_ACTIONS: u64 = 1;

/// What `policy.json` says, as far as playing needs it. The spaces are not read back: they come from the environment.
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

/// A policy and what it plays.
pub(super) struct Stage {
    environment_id: String,
    environment_options: toml::Table,
    network: NetworkSpec,
    parameters: Vec<u8>,
    registry: Arc<Registry>,
    python: PythonSettings,
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

impl Stage {
    /// Reads a run directory.
    ///
    /// # Errors
    /// Exit 74 with the file that is missing or damaged.
    pub(super) fn load(run_directory: &Path, registry: &Arc<Registry>) -> Result<Self, Failure> {
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
            registry: Arc::clone(registry),
            python: python_settings(run_directory),
        })
    }

    /// What is played.
    pub(super) fn environment_id(&self) -> &str {
        &self.environment_id
    }

    /// `episodes` episodes. Of each environment only the first one counts: taking whichever end first would favour
    /// short ones.
    ///
    /// # Errors
    /// Exit 64 if the environment cannot be made, 70 if it fails, 74 if the policy does not fit it.
    pub(super) fn play(
        &self,
        episodes: u32,
        seed: u64,
        way: Way,
    ) -> Result<Vec<EpisodeSummary>, Failure> {
        let mut all = Vec::new();
        let mut left = episodes;
        let mut round = 0;
        while left > 0 {
            let environments = left.min(ENVIRONMENTS_MAX) as usize;
            let mut player = self.player(environments, round_seed(seed, round), way, false)?;
            let mut first: Vec<Option<EpisodeSummary>> = vec![None; environments];
            while first.iter().any(Option::is_none) {
                for (environment, episode) in player.step()? {
                    first[environment].get_or_insert(episode);
                }
            }
            all.extend(first.into_iter().flatten());
            left -= left.min(ENVIRONMENTS_MAX);
            round += 1;
        }
        Ok(all)
    }

    /// A player in one environment that can be drawn: the first environment of the evaluation with this seed.
    ///
    /// # Errors
    /// As for [`Self::play`].
    pub(super) fn player_to_show(&self, seed: u64, way: Way) -> Result<Player, Failure> {
        self.player(1, round_seed(seed, 0), way, true)
    }

    fn player(
        &self,
        environments: usize,
        seed: u64,
        way: Way,
        shown: bool,
    ) -> Result<Player, Failure> {
        let vector = self.vector(environments, mix_seed(seed, SEED_ENVIRONMENTS), shown)?;
        self.check_fit(vector.spec())?;
        let mut inference =
            Inference::new(&self.network, environments, mix_seed(seed, SEED_ACTIONS));
        inference
            .load(&self.parameters)
            .map_err(|error| Failure::files(format!("the policy cannot be loaded: {error}")))?;
        Ok(Player::new(vector, inference, way))
    }

    fn vector(
        &self,
        environments: usize,
        seed: u64,
        shown: bool,
    ) -> Result<Box<dyn VectorEnvironment>, Failure> {
        let (id, options) = (&self.environment_id, &self.environment_options);
        let python = PythonSettings {
            render: shown,
            ..self.python.clone()
        };
        self.registry
            .make_vector(id, options, &python, environments, seed)
            .map_err(Failure::usage)
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

/// Seed of one round of an evaluation, as [`mix_seed`] gives one to each actor of a training run.
fn round_seed(seed: u64, round: u64) -> u64 {
    mix_seed(mix_seed(seed, EVALUATION), round)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{Mutex, PoisonError},
    };

    use springbok_actor::{
        environment::{Environment, EnvironmentError, Step, catch::Catch},
        vector::SyncVector,
    };
    use springbok_common::{
        arrays::{ActionsRef, ElementsMut},
        spec::Activation,
    };

    use super::*;

    type Seeds = Arc<Mutex<BTreeSet<u64>>>;

    /// Catch that writes down what it is seeded with.
    struct Listening {
        inner: Catch,
        seeds: Seeds,
    }

    impl Environment for Listening {
        fn spec(&self) -> &EnvironmentSpec {
            self.inner.spec()
        }

        fn reset(&mut self, seed: Option<u64>, observation: ElementsMut<'_>) {
            self.seeds
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(seed);
            self.inner.reset(seed, observation);
        }

        fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
            self.inner.step(action, observation)
        }
    }

    fn listening(seeds: &Seeds) -> Registry {
        let mut registry = Registry::new();
        let seeds = Arc::clone(seeds);
        registry.register("Catch", "", move |options| {
            Ok::<_, EnvironmentError>(Listening {
                inner: Catch::from_options(options)?,
                seeds: Arc::clone(&seeds),
            })
        });
        registry
    }

    #[test]
    fn an_evaluation_plays_what_no_actor_of_the_run_was_seeded_with() {
        let (trained_on, played) = (Seeds::default(), Seeds::default());
        let registry = listening(&trained_on);
        for seed in 0..3 {
            for actor in 0..64 {
                // As an actor does when it joins.
                let own = mix_seed(mix_seed(seed, actor), SEED_ENVIRONMENTS);
                SyncVector::new(&registry, "Catch", &toml::Table::new(), 16, own).unwrap();
            }
        }
        let registry = Arc::new(listening(&played));
        let spec = registry.make("Catch", &toml::Table::new()).unwrap();
        let network = NetworkSpec::mlp(spec.spec(), vec![4], Activation::Relu, true);
        let stage = Stage {
            environment_id: "Catch".into(),
            environment_options: toml::Table::new(),
            parameters: vec![0; springbok_common::policy::payload_bytes(&network)],
            network,
            registry,
            python: PythonSettings::default(),
        };
        for seed in 0..3 {
            assert_eq!(stage.play(40, seed, Way::Sampled).unwrap().len(), 40);
        }
        let (trained_on, played) = (trained_on.lock().unwrap(), played.lock().unwrap());
        assert_eq!((trained_on.len(), played.len()), (3 * 64 * 16, 3 * 40));
        assert!(trained_on.is_disjoint(&played));
    }
}
