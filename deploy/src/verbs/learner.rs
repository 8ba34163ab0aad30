//! `springbok learner`: the learner alone, for actors on any machine; or a launcher's child.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use springbok_actor::environment::Registry;
use springbok_common::{
    config::{Config, UnixListen},
    spec::EnvironmentSpec,
};
use springbok_learner::{EventSink, LearnerOptions, LocalListener, Security, Summary};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{config, resume, runtime};
use crate::{
    cli::{Layers, Reports, Resume},
    exit::{Exit, Failure},
    output,
    progress::Progress,
    report::{self, Restarts},
    shutdown, telemetry,
};

/// A launcher's learner: events go to stdout, one JSON object a line, and the end of stdin asks for a drain.
pub(super) fn run_supervised(
    layers: &Layers,
    run_directory: PathBuf,
    resume: bool,
    registry: &Registry,
) -> Result<(), Failure> {
    let (config, environment) = config::playable(layers, registry)?;
    let runtime = runtime()?;
    let _telemetry = telemetry::start(&config, "learner", &runtime)?;
    let security = config::learner_security(&config)?;
    let shutdown = shutdown::token_of_stdin();
    runtime.block_on(async {
        let (listener, local) = bind(&config).await?;
        let on_event: EventSink = Arc::new(|event| {
            // Numbers, strings and lists always have a JSON form.
            if let Ok(text) = serde_json::to_string(&event) {
                output::line(&text);
            }
        });
        learn(
            config,
            environment,
            Place {
                run_directory,
                listener,
                local,
                security,
                resume,
            },
            on_event,
            shutdown,
        )
        .await
    })?;
    Ok(())
}

/// A learner that a person started: the same progress and summary as `train`; an interrupt asks for a drain.
pub(super) fn run(
    layers: &Layers,
    reports: Reports,
    resume: Option<&Resume>,
    registry: &Registry,
) -> Result<(), Failure> {
    let (config, environment) = config::playable(layers, registry)?;
    let runtime = runtime()?;
    let _telemetry = telemetry::start(&config, "learner", &runtime)?;
    let security = config::learner_security(&config)?;
    runtime.block_on(shutdown::until_interrupted(async move |shutdown| {
        let (listener, local) = bind(&config).await?;
        let directory = resume::directory(&config, resume)?;
        let progress = Progress::new(reports.progress, config.run.total_steps);
        progress.note(&resume::headline(&directory, resume));
        let on_event: EventSink = Arc::new(move |event| progress.event(&event));
        let place = Place {
            run_directory: directory.path.clone(),
            listener,
            local,
            security,
            resume: resume.is_some(),
        };
        let summary = learn(config, environment, place, on_event, shutdown).await?;
        report::print(&summary, &directory.path, Restarts::NotOurs, reports.json);
        Ok(())
    }))
}

/// Where a learner works.
struct Place {
    run_directory: PathBuf,
    listener: TcpListener,
    local: Option<LocalListener>,
    security: Security,
    /// Whether it goes on with what is in the directory.
    resume: bool,
}

async fn learn(
    config: Config,
    environment: EnvironmentSpec,
    place: Place,
    on_event: EventSink,
    shutdown: CancellationToken,
) -> Result<Summary, Failure> {
    let options = LearnerOptions {
        config,
        environment,
        run_directory: place.run_directory,
        listener: place.listener,
        local: place.local,
        security: place.security,
        resume: place.resume,
    };
    // It holds everything that a learner begins with.
    Box::pin(springbok_learner::run(options, on_event, shutdown))
        .await
        .map_err(|error| Failure::caused(error.exit_code(), &error))
}

/// Takes the address, and the Unix socket if a path is configured, before anything else is begun.
async fn bind(config: &Config) -> Result<(TcpListener, Option<LocalListener>), Failure> {
    let listener = bind_address(config.learner.listen).await?;
    let UnixListen::At(path) = &config.learner.listen_unix else {
        return Ok((listener, None));
    };
    let local = LocalListener::bind(path).await.map_err(|error| {
        let path = path.display();
        Failure::usage(format!(
            "cannot listen on the Unix socket {path}: {error}; choose another path for `learner.listen_unix`, or \"none\""
        ))
    })?;
    Ok((listener, Some(local)))
}

async fn bind_address(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let (exit, way_out) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                Exit::Usage,
                "; choose another port with --listen, or port 0 for any free one",
            ),
            io::ErrorKind::AddrNotAvailable => (
                Exit::Usage,
                "; choose an address of this machine with --listen",
            ),
            io::ErrorKind::PermissionDenied => {
                (Exit::Usage, "; choose a port above 1023 with --listen")
            }
            _ => (Exit::Internal, ""),
        };
        Failure::new(
            exit,
            format!("cannot listen on {address}: {error}{way_out}"),
        )
    })
}
