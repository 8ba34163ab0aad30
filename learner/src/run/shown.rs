//! A run is shown while it goes on: in files, and over HTTP.

use std::{path::Path, sync::Arc};

use springbok_common::config::Config;
use tokio::{net::TcpListener, sync::watch};

use super::{Learner, METRICS};
use crate::{
    error::LearnerError,
    metrics::{MetricsWriter, tensorboard::EventLog},
    monitor::{self, Access, Monitor, Watched, feed::Live, status::RunIdentity},
    publisher::Publications,
    security::ValidTokens,
    trainer::TrainerState,
};

/// The files that the rows of the updates go to. A resumed run goes on with them.
///
/// # Errors
/// [`LearnerError::Output`] if one cannot be made.
pub(super) fn metrics(
    run_directory: &Path,
    config: &Config,
    resume: Option<&TrainerState>,
) -> Result<MetricsWriter, LearnerError> {
    let path = run_directory.join(METRICS);
    let writer = match (config.telemetry.metrics, resume) {
        (false, _) => MetricsWriter::silent(),
        (true, None) => MetricsWriter::create(&path)?,
        (true, Some(_)) => MetricsWriter::append(&path)?,
    };
    let events = if config.telemetry.tensorboard {
        let step = resume.map(|state| state.tally.trained_steps);
        Some(EventLog::create(run_directory, config, step)?)
    } else {
        None
    };
    Ok(writer.with_events(events))
}

impl Learner {
    /// Shows the run to whoever looks at `http`, and has one of `tokens` if that is on another machine.
    pub(super) fn show(
        &self,
        http: TcpListener,
        latest: watch::Receiver<Arc<Live>>,
        publications: Publications,
        tokens: Option<ValidTokens>,
    ) -> Monitor {
        let run = RunIdentity {
            run_id: self.life.run_id,
            environment: self.agreement.environment.id.clone(),
            device: self.device.clone(),
            seed: self.config.run.seed,
            total_steps: self.config.run.total_steps,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let watched = Watched {
            run,
            config_toml: self.config.to_toml(),
            latest,
            books: self.books.clone(),
            publications,
            stop: self.stop.clone(),
        };
        let access = Access::to(http.local_addr().ok(), tokens, self.stop.clone());
        monitor::serve(http, watched, access)
    }
}

/// Where a browser finds what `http` serves.
pub(super) fn http_url(http: Option<&TcpListener>) -> Option<String> {
    let address = http?.local_addr().ok()?;
    Some(format!("http://{address}"))
}
