//! The entry for programs: registers environments and runs the command line.

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use springbok_actor::environment::{Environment, EnvironmentError, Registry};
use springbok_common::policy::{Encoder, register_encoder};

use crate::{
    cli,
    exit::{Exit, Failure},
    output, verbs,
};

/// The whole command line, for any set of environments and networks.
pub struct Launcher {
    registry: Registry,
}

impl Default for Launcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Launcher {
    /// The command line with the built-in environments.
    #[must_use]
    pub fn new() -> Self {
        Self {
            registry: Registry::built_in(),
        }
    }

    /// Adds an environment: its id, a line that says what it is, and a function that makes one from the table
    /// `environment.options` of the configuration.
    #[must_use]
    pub fn environment<E, F>(mut self, id: &str, summary: &str, make: F) -> Self
    where
        E: Environment + 'static,
        F: Fn(&toml::Table) -> Result<E, EnvironmentError> + Send + Sync + 'static,
    {
        self.registry.register(id, summary, make);
        self
    }

    /// Adds an encoder, the part of a network that turns observations into features: `policy.encoder=NAME` of the
    /// configuration takes it. It is there for this whole process, so that whoever reads a policy finds it.
    #[must_use]
    pub fn encoder(self, name: &str, encoder: impl Encoder + 'static) -> Self {
        register_encoder(name, Arc::new(encoder));
        self
    }

    /// Does what the command line of this process asks. Exit codes: 0 done or drained; 64 usage or configuration;
    /// 69 peer unavailable; 70 internal; 74 files; 130 second interrupt.
    #[must_use = "the exit code is what the process should end with"]
    pub fn main(self) -> ExitCode {
        self.main_from(std::env::args_os())
    }

    fn main_from(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let command = match cli::parse(arguments) {
            Ok(command) => command,
            Err(error) => {
                // Help and version arrive here too: clap prints them on stdout and its faults on stderr.
                let _ = error.print();
                return if error.use_stderr() {
                    Exit::Usage.into()
                } else {
                    Exit::Done.into()
                };
            }
        };
        match verbs::run(command, Arc::new(self.registry)) {
            Ok(()) => Exit::Done.into(),
            Err(Failure { exit, text }) => {
                output::notice(&format!("springbok: {text}"));
                exit.into()
            }
        }
    }
}
