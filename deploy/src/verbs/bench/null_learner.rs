//! A learner that takes what arrives and trains on nothing: the real service, books and queue, and a thread at the end of
//! the queue that counts.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use springbok_actor::{ActorOptions, Security, world::World};
use springbok_common::{
    snapshot::ParameterSnapshot, unroll::Agreement, version::LearnerEpoch, wire::JoinTerms,
};
use springbok_learner::{
    admission::{Admission, Fence},
    books::Books,
    network::NetworkBytes,
    pacing::Pacing,
    publisher::Publisher,
    queue::{NothingToTake, QueueReceiver, queue},
    service::{Edge, Inbox, LocalListener, Serving, serve_all},
    trainer::steering::gate_limits,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use super::subject::Subject;
use crate::{exit::Failure, verbs::runtime};

/// Longest wait of the counting thread before it looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);
/// The longest that nothing may arrive in a slice.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A learner without a trainer.
pub(super) struct NullLearner {
    runtime: Runtime,
    url: String,
    counter: Arc<Counter>,
    publisher: Publisher,
    serving: Option<Serving>,
    counting: Option<JoinHandle<()>>,
    /// Cancelled to make actors leave.
    leaving: CancellationToken,
    options: ActorOptions,
    /// Unrolls that wait somewhere while nothing is taken.
    buffered: u64,
    /// Where the socket is.
    _directory: Option<TempDir>,
}

/// What actors connect over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A port of this machine.
    Tcp,
    /// A socket in the file system.
    Unix,
}

impl NullLearner {
    /// Listens for actors of `subject`, each with `ahead` unrolls unacknowledged at most.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn start(subject: &Subject, ahead: usize, way: Way) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let config = &subject.config;
        let fence = Fence {
            run_id: subject.run_id,
            epoch: LearnerEpoch::FIRST,
            lag_versions_max: None,
        };
        let (sender, receiver) = queue(config.learner.queue_unrolls);
        let snapshot = subject.snapshot();
        let (publisher, publications) = Publisher::new(fence.epoch, snapshot.layout(), 0);
        publisher.publish(snapshot.version(), snapshot.payload().clone());
        let pacing = Pacing::new(gate_limits(config));
        let edge = Edge::new(
            Books::new(Admission::new(fence, config.limits.actors_max)),
            Inbox {
                queue: sender,
                pacing: pacing.clone(),
                desk: None,
                traffic: NetworkBytes::default(),
            },
            publications,
            subject.agreement.clone(),
            terms(subject, fence, ahead),
            config.limits.clone(),
            config.lag.inject.clone(),
        );
        let directory = match way {
            Way::Tcp => None,
            Way::Unix => Some(tempfile::tempdir().map_err(Failure::internal)?),
        };
        let socket = directory.as_ref().map(|own| own.path().join("learner"));
        let (url, serving) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.map_err(Failure::internal)?;
            let address = listener.local_addr().map_err(Failure::internal)?;
            let (local, url) = match &socket {
                None => (None, format!("http://{address}")),
                Some(path) => {
                    let local = LocalListener::bind(path).await;
                    let url = format!("unix:{}", path.display());
                    (Some(local.map_err(Failure::internal)?), url)
                }
            };
            let serving = serve_all(
                (listener, local),
                edge,
                springbok_learner::Security::default(),
            )
            .await;
            serving.ready().await;
            Ok::<_, Failure>((url, serving))
        })?;
        let counter = Arc::new(Counter::default());
        let counting = thread::Builder::new()
            .name("null-trainer".to_owned())
            .spawn({
                let counter = Arc::clone(&counter);
                move || take_all(&receiver, &pacing, &counter)
            })
            .map_err(Failure::internal)?;
        let options = ActorOptions {
            learner: url.clone(),
            index: None,
            environment_id: None,
            registry: Arc::clone(&subject.registry),
            python: subject.python(),
            learner_wait_max: Duration::from_secs(config.actor.learner_wait_s_max),
            step_max: Duration::from_secs(config.actor.step_deadline_s_max),
            window_bytes: config.actor.window_bytes,
            security: Security::default(),
        };
        Ok(Self {
            runtime,
            url,
            counter,
            publisher,
            serving: Some(serving),
            counting: Some(counting),
            leaving: CancellationToken::new(),
            options,
            buffered: (config.learner.queue_unrolls + ahead) as u64 + 1,
            _directory: directory,
        })
    }

    /// Lets an actor join that lives in `world`.
    pub(super) fn invite(&self, world: World) {
        let (options, leaving) = (self.options.clone(), self.leaving.clone());
        self.runtime.spawn(async move {
            if let Err(error) = springbok_actor::run_in(world, options, leaving).await {
                tracing::warn!(%error, "an actor gave up");
            }
        });
    }

    /// Publishes `snapshot`.
    pub(super) fn publish(&self, snapshot: &ParameterSnapshot) {
        self.publisher
            .publish(snapshot.version(), snapshot.payload().clone());
    }

    /// Takes unrolls for about `slice`; gives how many arrive each second. Between slices nothing is taken, and actors
    /// wait.
    ///
    /// # Errors
    /// None arrives for long.
    pub(super) fn rate(&self, slice: Duration) -> Result<f64, Failure> {
        self.counter.open(self.buffered, slice);
        let deadline = Instant::now() + slice + SILENCE_MAX;
        let rate = self.counter.rate(deadline);
        self.counter.close();
        rate.ok_or_else(|| {
            let (seconds, url) = (SILENCE_MAX.as_secs(), &self.url);
            Failure::internal(format!("no unrolls arrived at {url} within {seconds} s"))
        })
    }
}

impl Drop for NullLearner {
    fn drop(&mut self) {
        self.counter.end();
        self.leaving.cancel();
        if let Some(serving) = self.serving.take() {
            self.runtime.block_on(serving.drain());
        }
        if let Some(counting) = self.counting.take() {
            let _ = counting.join();
        }
    }
}

/// What an actor is told when it joins.
fn terms(subject: &Subject, fence: Fence, ahead: usize) -> JoinTerms {
    let (config, agreement): (_, &Agreement) = (&subject.config, &subject.agreement);
    JoinTerms {
        run_id: fence.run_id,
        epoch: fence.epoch,
        actor_index: 0,
        environment_id: config.environment.id.clone(),
        environment_options: config.environment.options.to_string(),
        network: agreement.network.clone(),
        rollout: agreement.rollout,
        seed: config.run.seed,
        fingerprint: agreement.fingerprint(),
        outbox_unrolls: ahead,
        message_bytes_max: config.limits.message_bytes_max,
        unrolls_per_snapshot: None,
        life_versions: None,
        refresh: config.actor.refresh,
        inference: config.actor.inference,
        observations: config.actor.observation_encoding,
    }
}

/// The end of the queue.
fn take_all(queue: &QueueReceiver, pacing: &Pacing, counter: &Counter) {
    while counter.is_open_or_wait() {
        match queue.take(POLL) {
            Ok(arrived) => {
                pacing.settle([arrived.unroll.header().version]);
                drop(arrived);
                counter.count();
            }
            Err(NothingToTake::Timeout) => {}
            Err(NothingToTake::Closed) => return,
        }
    }
}

/// Counts in slices.
#[derive(Debug, Default)]
struct Counter {
    state: Mutex<Counted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counted {
    is_open: bool,
    is_over: bool,
    /// To be taken before the slice begins: they had waited.
    skipped: u64,
    taken: u64,
    /// What the counted ones are to span.
    slice: Duration,
    /// Moments of the first and the last that counts.
    span: Option<(Instant, Instant)>,
}

impl Counted {
    /// How many arrived each second, if they span the slice. The first one ends nothing that was begun in it.
    fn rate(&self) -> Option<f64> {
        let (first, last) = self.span?;
        let span = last - first;
        (span >= self.slice && self.taken > 1).then(|| (self.taken - 1) as f64 / span.as_secs_f64())
    }
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, skipped: u64, slice: Duration) {
        *self.lock() = Counted {
            is_open: true,
            skipped,
            slice,
            ..Counted::default()
        };
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().is_open = false;
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Waits while it is closed; `false` once it is over.
    fn is_open_or_wait(&self) -> bool {
        let state = self.lock();
        let waited = self
            .changed
            .wait_while(state, |state| !state.is_open && !state.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).is_over
    }

    fn count(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.skipped > 0 {
            state.skipped -= 1;
            return;
        }
        let first = state.span.map_or(now, |(first, _)| first);
        state.taken += 1;
        state.span = Some((first, now));
        // Whoever waits is woken once: waking it for each would be work that no learner does.
        if state.rate().is_some() {
            self.changed.notify_all();
        }
    }

    /// Waits until the counted ones span the slice; gives their rate, or `None` after `deadline`.
    fn rate(&self, deadline: Instant) -> Option<f64> {
        let mut state = self.lock();
        loop {
            if let Some(rate) = state.rate() {
                return Some(rate);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
