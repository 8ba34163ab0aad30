//! `springbok train`: a learner and its actors on this machine.

use std::sync::Arc;

use springbok_actor::environment::Registry;
use springbok_common::config::{Config, UnixListen};
use tokio::sync::mpsc;

use super::{config, resume, runtime};
use crate::{
    cli::{Layers, Reports, Resume},
    exit::Failure,
    page,
    progress::Progress,
    report::{self, Restarts},
    screen::{self, STOPS_WAITING_MAX, Screen},
    shutdown::{self, Interrupts},
    supervisor::{self, Plan, Stops},
};

/// How a run is watched and stopped.
pub(super) struct Way {
    /// How it reports.
    pub(super) reports: Reports,
    /// Whether it is shown on the whole screen.
    pub(super) ui: bool,
    /// Whether the end of stdin is an interrupt.
    pub(super) supervised: bool,
}

/// Trains until the run is done or interrupted, and prints what came of it.
pub(super) fn run(
    layers: &Layers,
    way: Way,
    resume: Option<&Resume>,
    registry: &Registry,
) -> Result<(), Failure> {
    if way.ui {
        screen::check()?;
    }
    let (config, _) = config::playable(layers, registry)?;
    check_security(&config)?;
    let directory = resume::directory(&config, resume)?;
    let directory = Arc::new(directory);
    let runtime = runtime()?;
    // Taken over before the screen is: a signal must not end this process while the terminal is not as it was.
    let signals = {
        let _inside = runtime.enter();
        Interrupts::listen()?
    };
    let (progress, keys) = if way.ui {
        let (stops, keys) = mpsc::channel(STOPS_WAITING_MAX);
        let token = page::token(config.security.token_file.as_deref())?;
        (Progress::on(Screen::open(stops, token)?), Some(keys))
    } else {
        let lines = Progress::new(way.reports.progress, config.run.total_steps);
        (lines, None)
    };
    let progress = Arc::new(progress);
    progress.note(&resume::headline(&directory, resume));
    let run = runtime.block_on(supervisor::run(
        Arc::clone(&directory),
        Plan {
            // The screen is fed by the learner's page. Whoever asked for one keeps the address.
            http: (way.ui && config.telemetry.http.is_none()).then_some("127.0.0.1:0"),
            actors: config.actor.count,
            scheme: if config.security.has_tls() {
                "https"
            } else {
                "http"
            },
            private_socket: config.learner.listen_unix == UnixListen::Auto,
            learner_restarts_max: config.checkpoint.restarts_max,
            resume: resume.is_some(),
        },
        Arc::clone(&progress),
        Stops {
            signals,
            token: way.supervised.then(shutdown::end_of_stdin),
            keys,
        },
    ));
    // Whatever comes next, a summary or a fault, belongs on the ordinary screen.
    progress.close();
    let run = run?;
    report::print(
        &run.summary,
        &directory.path,
        Restarts::Counted(run.restarts),
        way.reports.json,
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
