//! `springbok train`: a learner and its actors on this machine.

use std::sync::Arc;

use springbok_actor::environment::Registry;
use springbok_common::config::Config;

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
    check_security(&config)?;
    let directory = resume::directory(&config, resume)?;
    let directory = Arc::new(directory);
    let progress = Arc::new(Progress::new(reports.progress, config.run.total_steps));
    progress.note(&resume::headline(&directory, resume));
    let run = runtime()?.block_on(supervisor::run(
        Arc::clone(&directory),
        Plan {
            actors: config.actor.count,
            scheme: if config.security.has_tls() {
                "https"
            } else {
                "http"
            },
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

/// Learner and actors would find out too, but only when a run directory and processes are there.
fn check_security(config: &Config) -> Result<(), Failure> {
    let security = &config.security;
    config::learner_security(config)?;
    config::actor_security(config)?;
    if security.has_tls() && security.ca_file.is_none() {
        return Err(Failure::usage(
            "`security.certificate_file` is set, but the actors of `train` need to know who signed it; set `security.ca_file` \
             too",
        ));
    }
    if security.client_ca_file.is_some() && security.actor_certificate_file.is_none() {
        return Err(Failure::usage(
            "`security.client_ca_file` asks actors for a certificate, but those of `train` have none; set \
             `security.actor_certificate_file` and `security.actor_key_file` too",
        ));
    }
    Ok(())
}
