//! The rollout thread: it waits for permission, loads the parameters that came last, makes one unroll, hands it over.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel as crossbeam;
use springbok_common::{
    ids::{RunId, UnrollSequence},
    snapshot::ParameterSnapshot,
    unroll::{Served, Unroll, UnrollParts},
};
use tokio::sync::{mpsc, watch};

use crate::rollout::{Order, Rollout, RolloutError};

/// The verified parameters that arrived last.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The run they belong to.
    pub(crate) run_id: RunId,
    /// The parameters.
    pub(crate) snapshot: ParameterSnapshot,
    /// How the learner served them.
    pub(crate) served: Served,
    /// When they had arrived.
    pub(crate) received: Instant,
}

/// Permission to make one unroll.
pub(crate) struct Permission {
    /// The number it gets.
    pub(crate) sequence: UnrollSequence,
    /// How long it had to wait for a place in the outbox.
    pub(crate) blocked: Duration,
    /// Buffers of an earlier unroll.
    pub(crate) reuse: Option<UnrollParts>,
}

/// An unroll and when its last step ended.
pub(crate) struct Finished {
    /// The unroll.
    pub(crate) unroll: Unroll,
    /// The end of its last step.
    pub(crate) at: Instant,
    /// When the parameters that made it had arrived.
    pub(crate) received: Instant,
}

/// The handle to the rollout thread; dropping it abandons the unroll in the making.
pub(crate) struct Worker {
    permissions: Option<crossbeam::Sender<Permission>>,
    results: mpsc::Receiver<Result<Finished, RolloutError>>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn spawn(
        rollout: Rollout,
        parameters: watch::Receiver<Option<Published>>,
    ) -> io::Result<Self> {
        // One unroll is in the making at a time, so neither channel ever holds more than one.
        let (permissions, orders) = crossbeam::bounded(1);
        let (finished, results) = mpsc::channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("rollout".into())
            .spawn(move || work(rollout, &orders, &parameters, &finished, &stopped))?;
        Ok(Self {
            permissions: Some(permissions),
            results,
            stop,
        })
    }

    /// Lets the thread make one unroll. Whether it is still alive shows in [`Self::result`].
    pub(crate) fn begin(&self, permission: Permission) {
        if let Some(permissions) = &self.permissions {
            // Failing means that the thread ended: `result` says so.
            let _ = permissions.try_send(permission);
        }
    }

    /// The next unroll; `None` once the thread has ended.
    pub(crate) async fn result(&mut self) -> Option<Result<Finished, RolloutError>> {
        self.results.recv().await
    }

    /// Makes the thread give up the unroll in the making and end.
    pub(crate) fn abandon(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permissions = None;
    }

    /// Waits until an abandoned thread has ended, `grace` at most: an environment may hang in a step.
    pub(crate) async fn ended(mut self, grace: Duration) {
        self.abandon();
        let end = async { while self.results.recv().await.is_some() {} };
        if tokio::time::timeout(grace, end).await.is_err() {
            tracing::warn!("the rollout thread still runs: an environment does not return");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn work(
    mut rollout: Rollout,
    permissions: &crossbeam::Receiver<Permission>,
    parameters: &watch::Receiver<Option<Published>>,
    results: &mpsc::Sender<Result<Finished, RolloutError>>,
    stop: &AtomicBool,
) {
    for permission in permissions {
        let result = make(&mut rollout, permission, parameters, stop);
        let failed = result.is_err();
        if let Some(result) = result.transpose()
            && results.blocking_send(result).is_err()
        {
            return;
        }
        if failed || stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// One unroll under the parameters that came last; `None` if it was abandoned.
fn make(
    rollout: &mut Rollout,
    permission: Permission,
    parameters: &watch::Receiver<Option<Published>>,
    stop: &AtomicBool,
) -> Result<Option<Finished>, RolloutError> {
    // Cloned out of the lock: the snapshot is shared bytes.
    let published = parameters.borrow().clone();
    let published = published.ok_or(RolloutError::NoParameters)?;
    rollout.load(&published.snapshot)?;
    let order = Order {
        run_id: published.run_id,
        sequence: permission.sequence,
        blocked: permission.blocked,
        served: published.served,
    };
    let unroll = rollout.fill(order, permission.reuse, &|| stop.load(Ordering::Relaxed))?;
    Ok(unroll.map(|unroll| Finished {
        unroll,
        at: Instant::now(),
        received: published.received,
    }))
}
