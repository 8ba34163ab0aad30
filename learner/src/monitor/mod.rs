//! The learner shows itself over HTTP: a page for people, `/metrics` for Prometheus, `/health` for whoever restarts it.
//!
//! None of it is on the training path. The trainer hands over its latest row and goes on; twice a second a task reads that
//! and the books, and makes what every client is then sent.

mod access;
pub mod actors;
pub mod exposition;
pub mod feed;
pub mod history;
mod http;
pub mod status;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use springbok_common::telemetry;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

#[doc(hidden)]
pub use self::access::is_for_this_machine;
pub use self::{access::Access, feed::Feed};
use self::{
    actors::ActorWatch,
    feed::Live,
    history::History,
    status::{Accounts, Phase, RunIdentity, Status},
};
use crate::{books::Books, error::LearnerError, publisher::Publications};

/// Time between two looks at the run.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What is looked at.
pub struct Watched {
    /// Which run.
    pub run: RunIdentity,
    /// The effective configuration, as TOML.
    pub config_toml: String,
    /// The trainer's latest.
    pub latest: watch::Receiver<Arc<Live>>,
    /// Roster and ledger.
    pub books: Books,
    /// Something, once actors may come.
    pub publications: Publications,
    /// Cancelled when the learner drains.
    pub stop: CancellationToken,
}

/// What one look saw.
pub(crate) struct Look {
    live: Arc<Live>,
    status: Status,
    /// The status as JSON, on one line.
    json: Bytes,
}

/// Everything that the requests are answered from.
pub(crate) struct Shown {
    looks: watch::Receiver<Arc<Look>>,
    history: Arc<Mutex<History>>,
    config_toml: Bytes,
    access: Access,
}

/// A monitor at work; it ends when this is dropped.
pub struct Monitor {
    _stop: DropGuard,
}

/// Takes `address`.
///
/// # Errors
/// [`LearnerError::Http`] with the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, LearnerError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| LearnerError::Http { address, source })
}

/// Answers requests on `listener` of those who have `access`, until the monitor is dropped.
#[must_use]
pub fn serve(listener: TcpListener, watched: Watched, access: Access) -> Monitor {
    let stop = CancellationToken::new();
    let mut watcher = Watcher {
        watched,
        actors: ActorWatch::default(),
        history: Arc::default(),
    };
    let (sender, looks) = watch::channel(Arc::new(watcher.look()));
    let shown = Arc::new(Shown {
        looks,
        history: Arc::clone(&watcher.history),
        config_toml: Bytes::from(watcher.watched.config_toml.clone()),
        access,
    });
    let (watching, serving) = (stop.clone(), stop.clone());
    tokio::spawn(async move {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = async {
            loop {
                ticks.tick().await;
                sender.send_replace(Arc::new(watcher.look()));
            }
        };
        watching.run_until_cancelled(watch).await
    });
    tokio::spawn(async move {
        serving
            .run_until_cancelled(http::accept(listener, shown, serving.clone()))
            .await
    });
    Monitor {
        _stop: stop.drop_guard(),
    }
}

/// Looks at a run again and again.
struct Watcher {
    watched: Watched,
    actors: ActorWatch,
    history: Arc<Mutex<History>>,
}

impl Watcher {
    fn look(&mut self) -> Look {
        let live = Arc::clone(&self.watched.latest.borrow());
        let (accounts, seen) = self.read_books();
        let now = (Instant::now(), SystemTime::now());
        let updates = live.row.get(crate::metrics::Metric::Updates).unwrap_or(0.0);
        let actors = self.actors.look(now.0, updates as u64, &seen);
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(&live.row);
        let run = self.watched.run.clone();
        let mut status = Status::new(run, self.phase(), now, &live, accounts, actors);
        status.log = telemetry::log_tail();
        // Numbers, strings and lists always have a JSON form.
        let json = serde_json::to_vec(&status).unwrap_or_default();
        Look {
            live,
            status,
            json: json.into(),
        }
    }

    /// A copy, so that the lock is held only for that long.
    fn read_books(
        &self,
    ) -> (
        Accounts,
        Vec<(
            u32,
            crate::watchdog::ActorSeen<springbok_common::ids::ActorId>,
        )>,
    ) {
        let books = self.watched.books.lock();
        let accounts = Accounts {
            ledger: books.ledger.counts().clone(),
            rejected: books.ledger.rejected_by_reason().clone(),
            counts: books.roster.counts(),
            present: books.roster.present() as u64,
        };
        let seen = books.roster.seen().into_iter();
        let seen = seen.map(|seen| (books.roster.index(seen.actor), seen));
        (accounts, seen.collect())
    }

    fn phase(&self) -> Phase {
        if self.watched.stop.is_cancelled() {
            Phase::Draining
        } else if self.watched.publications.borrow().is_some() {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }
}
