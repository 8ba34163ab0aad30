//! `springbok train`: a learner and its actors on this machine.

use std::sync::Arc;

use springbok_actor::environment::Registry;

use super::{config, runtime};
use crate::{
    cli::{Layers, Reports},
    exit::Failure,
    progress::Progress,
    report::{self, Restarts},
    run_directory::{Plan, RunDirectory},
    shutdown, supervisor,
};

/// Trains until the run is done or interrupted, and prints what came of it.
pub(super) fn run(
    layers: &Layers,
    reports: Reports,
    supervised: bool,
    registry: &Registry,
) -> Result<(), Failure> {
    let (config, _) = config::playable(layers, registry)?;
    let directory = RunDirectory::create(&Plan {
        out: &config.run.out,
        name: config.run.name.as_deref(),
        environment_id: &config.environment.id,
        seed: config.run.seed,
        config_toml: &config.to_toml(),
    })?;
    let directory = Arc::new(directory);
    let progress = Arc::new(Progress::new(reports.progress, config.run.total_steps));
    progress.note(&format!("run directory: {}", directory.path.display()));
    let run = runtime()?.block_on(supervisor::run(
        Arc::clone(&directory),
        config.actor.count,
        progress,
        supervised.then(shutdown::end_of_stdin),
    ))?;
    report::print(
        &run.summary,
        &directory.path,
        Restarts::Counted(run.restarts),
        reports.json,
    );
    Ok(())
}
