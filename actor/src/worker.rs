//! The rollout thread: it waits for permission, loads the parameters that came last, makes one unroll, hands it over. If
//! it is told to refresh at each step, parameters that come in between are loaded too.
//! Whoever makes unrolls has a [`Bench`]; a simulation puts a task there instead of the thread.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use springbok_common::{
    config::Refresh,
    ids::{RunId, UnrollSequence},
    snapshot::ParameterSnapshot,
    unroll::{Served, Unroll, UnrollParts},
};
use tokio::sync::{mpsc, watch};

use crate::{
    acting::Line,
    lives::Lives,
    pulse::Pulse,
    rollout::{Between, Order, Rollout, RolloutError},
};

/// The verified parameters that arrived last.
#[derive(Debug, Clone)]
pub struct Published {
    /// The run they belong to.
    pub run_id: RunId,
    /// The parameters.
    pub snapshot: ParameterSnapshot,
    /// How the learner served them.
    pub served: Served,
    /// When they had arrived.
    pub received: Instant,
}

/// What unrolls are made with, as it comes from the learner: parameters, or a line over which it chooses the actions.
#[derive(Debug, Clone)]
pub struct Supplies {
    /// The verified parameters that arrived last.
    pub parameters: watch::Receiver<Option<Published>>,
    /// The line that was opened last.
    pub lines: watch::Receiver<Option<Line>>,
}

/// Permission to make one unroll.
#[derive(Debug)]
pub struct Permission {
    /// The number it gets.
    pub sequence: UnrollSequence,
    /// How long it had to wait for a place in the outbox.
    pub blocked: Duration,
    /// Buffers of an earlier unroll.
    pub reuse: Option<UnrollParts>,
}

/// An unroll and when its last step ended.
#[derive(Debug)]
pub struct Finished {
    /// The unroll.
    pub unroll: Unroll,
    /// The end of its last step.
    pub at: Instant,
    /// When the parameters that made it had arrived.
    pub received: Instant,
}

/// The handle to whoever makes unrolls; dropping it abandons the unroll in the making.
#[derive(Debug)]
pub struct Worker {
    permissions: Option<mpsc::Sender<Permission>>,
    results: mpsc::Receiver<Result<Finished, RolloutError>>,
    stop: Arc<AtomicBool>,
    /// Of the thread, if there is one.
    pulse: Option<Pulse>,
}

/// The other end of a [`Worker`].
#[derive(Debug)]
pub struct Bench {
    /// Each asks for one unroll; the end of them is the end of the work.
    pub permissions: mpsc::Receiver<Permission>,
    /// Where the unrolls go, or why there are no more.
    pub results: mpsc::Sender<Result<Finished, RolloutError>>,
    /// Whether the unroll in the making is to be given up.
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// A handle and its bench.
    #[must_use]
    pub fn new() -> (Self, Bench) {
        // One unroll is in the making at a time, so neither channel ever holds more than one.
        let (permit, permissions) = mpsc::channel(1);
        let (finished, results) = mpsc::channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Self {
            permissions: Some(permit),
            results,
            stop: Arc::clone(&stop),
            pulse: None,
        };
        let bench = Bench {
            permissions,
            results: finished,
            stop,
        };
        (worker, bench)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn spawn(
        rollout: Rollout,
        lives: Option<Lives>,
        refresh: Refresh,
        mut supplies: Supplies,
    ) -> io::Result<Self> {
        let (mut worker, bench) = Self::new();
        worker.pulse = Some(rollout.pulse());
        thread::Builder::new()
            .name("rollout".into())
            .spawn(move || work(rollout, lives, bench, refresh, &mut supplies))?;
        Ok(worker)
    }

    /// Lets the thread make one unroll. Whether it is still alive shows in [`Self::result`].
    pub fn begin(&self, permission: Permission) {
        if let Some(permissions) = &self.permissions {
            // Failing means that the thread ended: `result` says so.
            let _ = permissions.try_send(permission);
        }
    }

    /// The next unroll; `None` once the thread has ended.
    pub async fn result(&mut self) -> Option<Result<Finished, RolloutError>> {
        self.results.recv().await
    }

    /// Waits until a step of the environments has been going on for longer than `limit`; for ever where there is none.
    pub fn hung(&self, limit: Option<Duration>) -> impl Future<Output = Duration> + use<> {
        let watched = self.pulse.clone().zip(limit);
        async move {
            let Some((pulse, limit)) = watched else {
                return std::future::pending().await;
            };
            pulse.stopped(limit).await;
            limit
        }
    }

    /// Makes the thread give up the unroll in the making and end.
    pub fn abandon(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permissions = None;
    }

    /// Waits until an abandoned thread has ended, `grace` at most: an environment may hang in a step.
    pub async fn ended(mut self, grace: Duration) {
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
    mut lives: Option<Lives>,
    bench: Bench,
    refresh: Refresh,
    supplies: &mut Supplies,
) {
    let Bench {
        mut permissions,
        results,
        stop,
    } = bench;
    while let Some(permission) = permissions.blocking_recv() {
        let lives = lives.as_mut();
        let mut news = News {
            parameters: &mut supplies.parameters,
            refresh,
            stop: &stop,
            loaded: None,
        };
        // What is supplied decides: a learner sends parameters, or opens a line.
        let line = supplies.lines.borrow().clone();
        let result = match line {
            Some(line) => make_over(line, &mut rollout, permission, &mut news),
            None => make(&mut rollout, lives, permission, &mut news),
        };
        // A lost line is followed by another.
        let failed = matches!(&result, Err(error) if !matches!(error, RolloutError::LineLost));
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
    lives: Option<&mut Lives>,
    permission: Permission,
    news: &mut News<'_>,
) -> Result<Option<Finished>, RolloutError> {
    // Cloned out of the lock: the snapshot is shared bytes.
    let published = news.parameters.borrow_and_update().clone();
    let published = published.ok_or(RolloutError::NoParameters)?;
    if let Some(lives) = lives {
        lives.enter(rollout, &published)?;
    }
    rollout.load(&published.snapshot)?;
    news.loaded = Some(published.clone());
    let order = Order {
        run_id: published.run_id,
        sequence: permission.sequence,
        blocked: permission.blocked,
        served: published.served,
    };
    let unroll = rollout.fill(order, permission.reuse, news)?;
    Ok(unroll.map(|unroll| Finished {
        unroll,
        at: Instant::now(),
        received: published.received,
    }))
}

/// One unroll whose actions are chosen over `line`; `None` if it was abandoned.
fn make_over(
    line: Line,
    rollout: &mut Rollout,
    permission: Permission,
    news: &mut News<'_>,
) -> Result<Option<Finished>, RolloutError> {
    let order = Order {
        run_id: line.life.run_id,
        sequence: permission.sequence,
        blocked: permission.blocked,
        // Known when the first step is made.
        served: Served::default(),
    };
    rollout.connect(line);
    let unroll = rollout.fill(order, permission.reuse, news)?;
    let at = Instant::now();
    let received = rollout.begun_with().unwrap_or(at);
    Ok(unroll.map(|unroll| Finished {
        unroll,
        at,
        received,
    }))
}

/// What the unroll in the making may hear of.
struct News<'a> {
    parameters: &'a mut watch::Receiver<Option<Published>>,
    refresh: Refresh,
    stop: &'a AtomicBool,
    /// The parameters that the next step is made with.
    loaded: Option<Published>,
}

impl Between for News<'_> {
    fn stops(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Nothing is locked or allocated unless something has arrived. What another life of the learner sends is not of this
    /// unroll, and an older version would turn its versions back.
    fn newer(&mut self) -> Option<ParameterSnapshot> {
        if self.refresh == Refresh::Unroll || !self.parameters.has_changed().unwrap_or(false) {
            return None;
        }
        let arrived = self.parameters.borrow_and_update().clone()?;
        let place = |published: &Published| (published.run_id, published.snapshot.epoch());
        let version = |published: &Published| published.snapshot.version();
        self.loaded.as_ref().filter(|loaded| {
            place(loaded) == place(&arrived) && version(loaded) < version(&arrived)
        })?;
        Some(self.loaded.insert(arrived).snapshot.clone())
    }
}

#[cfg(test)]
mod tests;
