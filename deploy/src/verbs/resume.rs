//! Going on with a run: where it stopped, and whether the settings are still those of that run.

use springbok_common::config::Config;
use springbok_learner::checkpoint::{self, Checkpoint};

use crate::{
    cli::Resume,
    exit::Failure,
    run_directory::{Plan, RunDirectory},
};

/// The directory of a new run with `config`, or that of the run to `resume`, in which `config` takes the place of its
/// configuration.
///
/// # Errors
/// Exit 64 if `config` would learn something else than the run did, with every such key; exit 74 if there is no checkpoint
/// that can be used, or the file system refuses.
pub(super) fn directory(config: &Config, resume: Option<&Resume>) -> Result<RunDirectory, Failure> {
    let config_toml = config.to_toml();
    let Some(resume) = resume else {
        return RunDirectory::create(&Plan {
            out: &config.run.out,
            name: config.run.name.as_deref(),
            environment_id: &config.environment.id,
            seed: config.run.seed,
            config_toml: &config_toml,
        });
    };
    let found = checkpoint::look(&resume.directory);
    let (_, checkpoint) = found.map_err(|error| Failure::caused(error.exit_code(), &error))?;
    if !resume.anyway {
        compare(config, &checkpoint)?;
    }
    RunDirectory::reopen(&resume.directory, &config_toml)
}

/// What is said of a run that goes on.
pub(super) fn headline(directory: &RunDirectory, resume: Option<&Resume>) -> String {
    let verb = if resume.is_some() { ", resumed" } else { "" };
    format!("run directory: {}{verb}", directory.path.display())
}

fn compare(config: &Config, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let differences = config.differences(&checkpoint.config);
    let differences = differences.map_err(|error| {
        Failure::files(format!(
            "the checkpoint's configuration cannot be read: {error}; start a new run"
        ))
    })?;
    if differences.is_empty() {
        return Ok(());
    }
    let list: String = differences
        .iter()
        .map(|one| format!("\n  - {one}"))
        .collect();
    Err(Failure::usage(format!(
        "with these settings the run would learn something else than it did; leave them as they were, start a new run, or \
         add --resume-anyway:{list}"
    )))
}
