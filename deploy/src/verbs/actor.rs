//! `springbok actor`: an actor alone, which joins a learner anywhere; or a launcher's child.

use std::{sync::Arc, time::Duration};

use springbok_actor::{ActorOptions, environment::Registry, python::PythonSettings};
use tokio_util::sync::CancellationToken;

use super::{config, runtime};
use crate::{cli::Layers, exit::Failure, shutdown, telemetry};

/// Acts until the learner has enough, or an interrupt (or the end of a supervised process's stdin) comes.
pub(super) fn run(
    layers: &Layers,
    learner: String,
    supervised: bool,
    index: Option<u32>,
    registry: Arc<Registry>,
) -> Result<(), Failure> {
    let config = config::load(layers)?.config;
    let runtime = runtime()?;
    let _telemetry = telemetry::start(&config, "actor", &runtime)?;
    // The learner says what is played; an environment is only insisted on if this command line names one.
    let environment_id = layers
        .sets
        .iter()
        .any(|set| set.starts_with("environment.id="))
        .then(|| config.environment.id.clone());
    let security = config::actor_security(&config)?;
    let options = ActorOptions {
        security,
        learner,
        index,
        environment_id,
        registry,
        // This machine's own: the learner's interpreter need not exist here.
        python: PythonSettings::from(&config.environment.python),
        learner_wait_max: Duration::from_secs(config.actor.learner_wait_s_max),
        step_max: Duration::from_secs(config.actor.step_deadline_s_max),
        window_bytes: config.actor.window_bytes,
    };
    if supervised {
        runtime.block_on(act(options, shutdown::token_of_stdin()))
    } else {
        runtime.block_on(shutdown::until_interrupted(async move |shutdown| {
            act(options, shutdown).await
        }))
    }
}

async fn act(options: ActorOptions, shutdown: CancellationToken) -> Result<(), Failure> {
    springbok_actor::run(options, shutdown)
        .await
        .map(|report| {
            tracing::info!(
                unrolls = report.unrolls,
                rejected = report.rejected,
                dropped = report.dropped,
                reconnects = report.reconnects,
                "actor done"
            );
        })
        .map_err(|error| Failure::caused(error.exit_code(), &error))
}
