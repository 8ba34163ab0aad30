//! A run is shown over HTTP while it goes on.

use std::sync::Arc;

use tokio::{net::TcpListener, sync::watch};

use super::Learner;
use crate::{
    monitor::{self, Monitor, Watched, feed::Live, status::RunIdentity},
    publisher::Publications,
};

impl Learner {
    /// Shows the run to whoever looks at `http`.
    pub(super) fn show(
        &self,
        http: TcpListener,
        latest: watch::Receiver<Arc<Live>>,
        publications: Publications,
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
        monitor::serve(http, watched)
    }
}

/// Where a browser finds what `http` serves.
pub(super) fn http_url(http: Option<&TcpListener>) -> Option<String> {
    let address = http?.local_addr().ok()?;
    Some(format!("http://{address}"))
}
