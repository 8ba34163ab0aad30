//! Environments written in Python, run without linking Python: each vector of them is a process of its own.
//!
//! The actor starts an interpreter with one end of a socket pair as its stdin and sends it the server's source text, so
//! there are no files to install or to leave behind. The server answers what the environment shows and takes; then the
//! actor passes it a file that exists only in memory. Each step is one round trip: actions are written to the file, one
//! byte goes each way, and observations, rewards and outcomes are read from the file straight into the actor's buffers.
//! Nothing is mapped here, so a server that misbehaves can spoil numbers, which are checked, and nothing else. An
//! environment that raises, hangs or crashes takes its process along; [`crate::vector::VectorEnvironment::restart`]
//! starts another.

mod check;
mod complaint;
mod dispatch;
mod server;
mod shared;
mod stderr;
mod vector;

use std::{path::PathBuf, time::Duration};

use springbok_common::{config::PythonConfig, spec::EnvironmentSpec};

use self::server::{Request, Server};
use crate::environment::{EnvironmentError, spec_fault};

pub use vector::{BareRate, PythonVector};

/// How the servers of Python environments are run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonSettings {
    /// The interpreter; "auto" is that of the active virtual environment, or else `python3`.
    pub interpreter: String,
    /// Longest time that a step of all environments of a vector may take.
    pub step_deadline_max: Duration,
    /// Longest time that making and resetting the environments may take.
    pub start_deadline_max: Duration,
    /// Times that a vector may start its server again.
    pub restarts_max: u32,
    /// A folder whose Python modules are found before all others.
    pub modules: Option<PathBuf>,
    /// Whether [`crate::vector::VectorEnvironment::render`] draws; most environments are slower to make then.
    pub render: bool,
}

impl Default for PythonSettings {
    fn default() -> Self {
        Self::from(&PythonConfig::default())
    }
}

impl From<&PythonConfig> for PythonSettings {
    fn from(config: &PythonConfig) -> Self {
        Self {
            interpreter: config.interpreter.clone(),
            step_deadline_max: Duration::from_secs(config.step_deadline_s_max),
            start_deadline_max: Duration::from_secs(config.start_deadline_s_max),
            restarts_max: u32::try_from(config.restarts_max).unwrap_or(u32::MAX),
            modules: None,
            render: false,
        }
    }
}

impl PythonSettings {
    /// The interpreter to start: a path, or a name to look for on PATH.
    fn program(&self) -> PathBuf {
        if self.interpreter != "auto" {
            return PathBuf::from(&self.interpreter);
        }
        let active = std::env::var_os("VIRTUAL_ENV")
            .map(|root| PathBuf::from(root).join("bin/python"))
            .filter(|python| python.exists());
        active.unwrap_or_else(|| PathBuf::from("python3"))
    }
}

/// Whether `id` names a Python environment: `gym:ID`, `gym:module:ID` or `py:package.module:factory`.
#[must_use]
pub fn is_python(id: &str) -> bool {
    id.starts_with("gym:") || id.starts_with("py:")
}

/// What the environment `id` shows and takes, from a server that is asked and sent away.
///
/// # Errors
/// [`EnvironmentError`] if the environment cannot be made, or nothing could be trained on it.
pub fn spec(
    id: &str,
    options: &toml::Table,
    settings: &PythonSettings,
) -> Result<EnvironmentSpec, EnvironmentError> {
    let request = Request::new(id, options, vec![0], settings);
    let (_server, answer) =
        Server::start(settings, &request).map_err(|complaint| complaint.of_construction(id))?;
    usable(id, answer.spec)
}

/// What the environment shows and takes of which a server says `answer`, for `environments` (K) of them: the way of a
/// server's first message, for tests that say nonsense.
///
/// # Errors
/// [`EnvironmentError`] if it is no answer, or nothing could be trained on such an environment.
#[doc(hidden)]
pub fn answered(
    id: &str,
    answer: &[u8],
    environments: usize,
) -> Result<EnvironmentSpec, EnvironmentError> {
    let answer = server::answer(answer);
    let answer = answer.map_err(|complaint| complaint.of_construction(id))?;
    let layout = shared::Layout::new(&answer.spec, environments, answer.frame_bytes);
    layout.map_err(|error| complaint::Complaint::new(error.to_string()).of_construction(id))?;
    usable(id, answer.spec)
}

/// `spec` if something could be trained on it.
fn usable(id: &str, spec: EnvironmentSpec) -> Result<EnvironmentSpec, EnvironmentError> {
    match spec_fault(&spec) {
        None => Ok(spec),
        Some(fault) => Err(EnvironmentError::InvalidSpec {
            environment: id.to_owned(),
            fault,
        }),
    }
}
