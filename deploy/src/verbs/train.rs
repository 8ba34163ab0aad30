//! `springbok train`: a learner and its actors on this machine.

use std::sync::Arc;

use springbok_actor::environment::Registry;

use super::{config, resume, runtime};
use crate::{
    cli::{Layers, Reports, Resume},
    exit::Failure,
    progress::Progress,
    report::{self, Restarts},
    shutdown,
    supervisor::{self, Plan},
};

/// Trains until the run is done or interrupted, and prints what came of it.
pub(super) fn run(
    layers: &Layers,
    reports: Reports,
    resume: Option<&Resume>,
    supervised: bool,
    registry: &Registry,
) -> Result<(), Failure> {
    let (config, _) = config::playable(layers, registry)?;
    let directory = resume::directory(&config, resume)?;
    let directory = Arc::new(directory);
    let progress = Arc::new(Progress::new(reports.progress, config.run.total_steps));
    progress.note(&resume::headline(&directory, resume));
    let run = runtime()?.block_on(supervisor::run(
        Arc::clone(&directory),
        Plan {
            actors: config.actor.count,
            learner_restarts_max: config.checkpoint.restarts_max,
            resume: resume.is_some(),
        },
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
