//! The environments that can be asked for by name.

use super::{
    Environment, EnvironmentError,
    catch::Catch,
    classic::{Acrobot, CartPole, MountainCar, Pendulum},
    grid_world::GridWorld,
    listed,
    repeat_previous::RepeatPrevious,
    spec_fault,
    synthetic::Synthetic,
    t_maze::TMaze,
};

type Constructor =
    Box<dyn Fn(&toml::Table) -> Result<Box<dyn Environment>, EnvironmentError> + Send + Sync>;

struct Entry {
    name: String,
    summary: String,
    construct: Constructor,
}

/// Names of environments, what each is, and how it is made.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    /// A registry without environments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry of the environments that come with the actor.
    #[must_use]
    pub fn built_in() -> Self {
        let mut registry = Self::new();
        registry.register(
            "CartPole-v1",
            "balance a pole on a cart, as in Gymnasium; solved at a return of 475 of 500",
            CartPole::from_options,
        );
        registry.register(
            "Acrobot-v1",
            "swing a double pendulum above its pivot, as in Gymnasium; good at a return of -100",
            Acrobot::from_options,
        );
        registry.register(
            "MountainCar-v0",
            "rock a weak car out of a valley, as in Gymnasium; solved at a return of -110",
            MountainCar::from_options,
        );
        registry.register(
            "Pendulum-v1",
            "swing a pendulum up with a continuous torque, as in Gymnasium; good at a return of -200",
            Pendulum::from_options,
        );
        registry.register(
            "Catch",
            "catch a falling ball with a paddle on a board of 10 x 5, as in bsuite; the best return is 1",
            Catch::from_options,
        );
        registry.register(
            "RepeatPrevious",
            "name the symbol shown k steps before, as in POPGym, which takes memory; the best return is 1",
            RepeatPrevious::from_options,
        );
        registry.register(
            "TMaze",
            "remember a cue to the end of a corridor, which takes memory; the best return is 1",
            TMaze::from_options,
        );
        registry.register(
            "GridWorld",
            "walk around walls, which are masked actions, to a goal; returns just below 1 are best",
            GridWorld::from_options,
        );
        registry.register(
            "Synthetic",
            "nothing to learn: any spaces, size, slowness and faults, to measure and to test",
            Synthetic::from_options,
        );
        registry
    }

    /// Adds an environment, made from its options by `construct`. A name that is already there is replaced.
    pub fn register<E, F>(
        &mut self,
        name: impl Into<String>,
        summary: impl Into<String>,
        construct: F,
    ) -> &mut Self
    where
        E: Environment + 'static,
        F: Fn(&toml::Table) -> Result<E, EnvironmentError> + Send + Sync + 'static,
    {
        let entry = Entry {
            name: name.into(),
            summary: summary.into(),
            construct: Box::new(move |options| Ok(Box::new(construct(options)?))),
        };
        match self.entries.iter_mut().find(|old| old.name == entry.name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// Makes the environment `id` from `options`.
    ///
    /// # Errors
    /// [`EnvironmentError::Unknown`] with all names there are; what the constructor says about the options;
    /// [`EnvironmentError::InvalidSpec`] if nothing could be trained on it.
    pub fn make(
        &self,
        id: &str,
        options: &toml::Table,
    ) -> Result<Box<dyn Environment>, EnvironmentError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == id) else {
            let names: Vec<&str> = self.list().into_iter().map(|(name, _)| name).collect();
            return Err(EnvironmentError::Unknown {
                name: id.to_owned(),
                known: listed(&names),
            });
        };
        let environment = (entry.construct)(options)?;
        match spec_fault(environment.spec()) {
            None => Ok(environment),
            Some(fault) => Err(EnvironmentError::InvalidSpec {
                environment: id.to_owned(),
                fault,
            }),
        }
    }

    /// Name and summary of each environment, in the order of registration.
    #[must_use]
    pub fn list(&self) -> Vec<(&str, &str)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.summary.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{environment::conformance, vector::SyncVector};

    fn message(result: Result<Box<dyn Environment>, EnvironmentError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn built_ins_conform() {
        let registry = Registry::built_in();
        for (name, _) in registry.list() {
            let mut environment = registry.make(name, &toml::Table::new()).unwrap();
            assert_eq!(environment.spec().id, name);
            let report = conformance::check(environment.as_mut(), 0..10, 1000).unwrap();
            assert!(report.episodes >= 10 && report.frame.is_some(), "{report}");
            let mut vector = SyncVector::new(&registry, name, &toml::Table::new(), 3, 1).unwrap();
            conformance::check_vector(&mut vector, 1000).unwrap();
        }
    }

    #[test]
    fn faults_are_told_in_one_sentence() {
        let registry = Registry::built_in();
        assert_eq!(
            message(registry.make("CartPole", &toml::Table::new())),
            "there is no environment `CartPole`; there is CartPole-v1, Acrobot-v1, MountainCar-v0, \
             Pendulum-v1, Catch, RepeatPrevious, TMaze, GridWorld and Synthetic"
        );
        let options: toml::Table = "rows = 3".parse().unwrap();
        assert_eq!(
            message(registry.make("Catch", &options)),
            "environment `Catch` has no option `rows`; it has none"
        );
    }

    #[test]
    fn users_add_and_replace() {
        let mut registry = Registry::built_in();
        let built_in = registry.list().len();
        registry
            .register("Mine", "mine", Synthetic::from_options)
            .register("Catch", "other", |options: &toml::Table| {
                Registry::built_in().make("Catch", options)
            });
        assert_eq!(registry.list().len(), built_in + 1);
        assert!(registry.list().contains(&("Catch", "other")));
        let made = registry.make("Catch", &toml::Table::new()).unwrap();
        assert_eq!(made.spec().id, "Catch");
    }
}
