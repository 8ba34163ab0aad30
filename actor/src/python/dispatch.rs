//! Where the id of an environment decides whether it is made here or in a server.

use springbok_common::spec::EnvironmentSpec;

use super::{PythonSettings, PythonVector, is_python, spec};
use crate::{
    environment::{EnvironmentError, Registry},
    vector::{SyncVector, VectorEnvironment},
};

impl Registry {
    /// Makes `environments` (K) copies of the environment `id`, registered or in Python, each with a seed derived from
    /// `seed`. Starting Python takes up to its deadline: never call this where tasks are waiting.
    ///
    /// # Errors
    /// [`EnvironmentError`] if the environment cannot be made.
    pub fn make_vector(
        &self,
        id: &str,
        options: &toml::Table,
        python: &PythonSettings,
        environments: usize,
        seed: u64,
    ) -> Result<Box<dyn VectorEnvironment>, EnvironmentError> {
        if is_python(id) {
            let vector = PythonVector::new(id, options, python, environments, seed)?;
            return Ok(Box::new(vector));
        }
        let vector = SyncVector::new(self, id, options, environments, seed)?;
        Ok(Box::new(vector))
    }

    /// What the environment `id`, registered or in Python, shows and takes.
    ///
    /// # Errors
    /// [`EnvironmentError`] if the environment cannot be made.
    pub fn spec(
        &self,
        id: &str,
        options: &toml::Table,
        python: &PythonSettings,
    ) -> Result<EnvironmentSpec, EnvironmentError> {
        if is_python(id) {
            return spec(id, options, python);
        }
        Ok(self.make(id, options)?.spec().clone())
    }
}
