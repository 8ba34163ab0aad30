//! The gate as the streams and the trainer share it: streams ask for leave to acknowledge and wait for it, the trainer
//! says what it has settled. Without a limit every question is answered yes, and nothing is counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use springbok_common::{ids::ActorId, version::PolicyVersion};
use tokio::sync::watch;

use crate::{
    gate::{Gate, GateLimits, Paused},
    time::now,
};

/// A stream of an actor: a newer one of the same actor is another.
type StreamKey = (ActorId, u64);

#[derive(Debug)]
struct Inner {
    gate: Gate<StreamKey>,
    /// The newest stream of each actor that has one.
    current: BTreeMap<ActorId, u64>,
    opened: u64,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Told whenever something was granted.
    granted: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A holder that panicked cannot have left it half-written: each event is a few additions.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the gate and lets go what may go then.
    fn change<T>(&self, change: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        // One moment for both, so that what is granted at once has not waited.
        let now = now();
        let (result, any) = {
            let mut inner = self.lock();
            let result = change(&mut inner, now);
            (result, inner.gate.grant(now))
        };
        if any {
            self.granted.send_replace(());
        }
        result
    }
}

/// The shared gate.
#[derive(Debug, Clone)]
pub struct Pacing(Option<Arc<Shared>>);

impl Pacing {
    /// A gate that keeps to `limits`. It is not there at all if there are none.
    #[must_use]
    pub fn new(limits: GateLimits) -> Self {
        if limits.is_open() {
            return Self(None);
        }
        let inner = Inner {
            gate: Gate::new(limits),
            current: BTreeMap::new(),
            opened: 0,
        };
        let (granted, _) = watch::channel(());
        Self(Some(Arc::new(Shared {
            inner: Mutex::new(inner),
            granted,
        })))
    }

    /// A trajectory stream of `actor` begins, in which it may have begun `outbox_unrolls`; an earlier one is over.
    #[must_use]
    pub fn open(&self, actor: ActorId, outbox_unrolls: usize) -> PacedStream {
        let shared = self.0.clone();
        let ticket = shared.as_ref().map_or(0, |shared| {
            shared.change(|inner, now| {
                inner.opened += 1;
                let ticket = inner.opened;
                if let Some(earlier) = inner.current.insert(actor, ticket) {
                    inner.gate.close((actor, earlier));
                }
                inner.gate.open((actor, ticket), outbox_unrolls, now);
                ticket
            })
        });
        PacedStream {
            shared,
            key: (actor, ticket),
        }
    }

    /// Waits until `actor` may begin its first unrolls, that is until it may have parameters.
    pub async fn admitted(&self, actor: ActorId) {
        let Some(shared) = &self.0 else { return };
        let is_admitted = |inner: &mut Inner| {
            let ticket = inner.current.get(&actor);
            ticket.is_some_and(|ticket| inner.gate.is_admitted((actor, *ticket)))
        };
        wait(shared, is_admitted).await;
    }

    /// Unrolls made with these versions were trained on or dropped.
    pub fn settle(&self, versions: impl IntoIterator<Item = PolicyVersion>) {
        if let Some(shared) = &self.0 {
            shared.change(|inner, _| {
                for version in versions {
                    inner.gate.settle(version.0);
                }
            });
        }
    }

    /// The learner is at `version`, and `published` is what actors are sent.
    pub fn advance(&self, version: PolicyVersion, published: PolicyVersion) {
        if let Some(shared) = &self.0 {
            shared.change(|inner, _| inner.gate.advance(version.0, published.0));
        }
    }

    /// Changes how many unrolls may be in flight.
    pub fn set_budget(&self, unrolls: usize) {
        if let Some(shared) = &self.0 {
            shared.change(|inner, _| inner.gate.set_budget(Some(unrolls)));
        }
    }

    /// Unrolls in flight, and acknowledgements that are held back; none without a limit.
    #[must_use]
    pub fn load(&self) -> Option<(usize, usize)> {
        let inner = self.0.as_ref()?.lock();
        Some((inner.gate.in_flight(), inner.gate.held()))
    }

    /// What was held back of each actor.
    #[must_use]
    pub fn paused(&self) -> BTreeMap<ActorId, Paused> {
        let mut paused: BTreeMap<ActorId, Paused> = BTreeMap::new();
        if let Some(shared) = &self.0 {
            for ((actor, _), of_stream) in shared.lock().gate.paused() {
                let sum = paused.entry(*actor).or_default();
                sum.acknowledgements += of_stream.acknowledgements;
                sum.time += of_stream.time;
            }
        }
        paused
    }
}

/// One stream's side of the gate; dropping it says that the stream is over.
#[derive(Debug)]
pub struct PacedStream {
    shared: Option<Arc<Shared>>,
    key: StreamKey,
}

impl PacedStream {
    /// Whether acknowledgements have to be asked for.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.shared.is_some()
    }

    /// An unroll made with `version` was read; it `waits` for training or is settled already.
    pub fn arrive(&self, version: PolicyVersion, waits: bool) {
        if let Some(shared) = &self.shared {
            shared.change(|inner, _| inner.gate.arrive(self.key, version.0, waits));
        }
    }

    /// Asks for leave to send an acknowledgement.
    pub fn ask(&self) {
        if let Some(shared) = &self.shared {
            shared.change(|inner, now| {
                // A stream that is over by now has nothing to ask for.
                if inner.current.get(&self.key.0) == Some(&self.key.1) {
                    inner.gate.ask(self.key, now);
                }
            });
        }
    }

    /// Waits for leave to send one acknowledgement, and takes it. Nothing is lost if it is cancelled.
    pub async fn granted(&self) {
        if let Some(shared) = &self.shared {
            wait(shared, |inner| inner.gate.take_granted(self.key)).await;
        }
    }
}

impl Drop for PacedStream {
    fn drop(&mut self) {
        let (actor, ticket) = self.key;
        if let Some(shared) = &self.shared {
            shared.change(|inner, _| {
                if inner.current.get(&actor) == Some(&ticket) {
                    inner.current.remove(&actor);
                }
                inner.gate.close((actor, ticket));
            });
        }
    }
}

/// Waits until `ready` says yes.
async fn wait(shared: &Shared, mut ready: impl FnMut(&mut Inner) -> bool) {
    // Before the first look, so that no change between look and wait is missed.
    let mut changes = shared.granted.subscribe();
    while !ready(&mut shared.lock()) {
        if changes.changed().await.is_err() {
            // Not while `shared` is here.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn paced(budget: usize) -> Pacing {
        Pacing::new(GateLimits {
            batch_unrolls: 1,
            outbox_unrolls: 1,
            versions_per_batch: 1,
            served_behind: 0,
            budget_unrolls: Some(budget),
            lag_versions_max: None,
        })
    }

    #[tokio::test]
    async fn a_newer_stream_takes_the_place_of_an_older_one_and_outlives_it() {
        let (pacing, actor) = (paced(1), ActorId::random());
        let old = pacing.open(actor, 1);
        pacing.admitted(actor).await;
        let new = pacing.open(actor, 1);
        old.ask();
        drop(old);
        assert_eq!(pacing.load(), Some((1, 0)));
        drop(new);
        assert_eq!(pacing.load(), Some((0, 0)));
    }

    #[tokio::test]
    async fn what_is_settled_wakes_whoever_waits() {
        let (pacing, actors) = (paced(1), [ActorId::random(), ActorId::random()]);
        let first = pacing.open(actors[0], 1);
        pacing.admitted(actors[0]).await;
        let _second = pacing.open(actors[1], 1);
        let soon = Duration::from_millis(10);
        assert!(timeout(soon, pacing.admitted(actors[1])).await.is_err());
        first.arrive(PolicyVersion(0), true);
        first.ask();
        let waiting = tokio::spawn({
            let pacing = pacing.clone();
            async move { pacing.admitted(actors[1]).await }
        });
        tokio::task::yield_now().await;
        pacing.settle([PolicyVersion(0)]);
        waiting.await.unwrap();
        // The other actor asked first, so this one still waits.
        assert!(timeout(soon, first.granted()).await.is_err());
        assert_eq!(pacing.load(), Some((1, 1)));
        pacing.set_budget(2);
        first.granted().await;
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits_and_nothing_is_counted() {
        let limits = GateLimits {
            batch_unrolls: 1,
            outbox_unrolls: 1,
            versions_per_batch: 1,
            served_behind: 0,
            budget_unrolls: None,
            lag_versions_max: None,
        };
        let (pacing, actor) = (Pacing::new(limits), ActorId::random());
        pacing.admitted(actor).await;
        let stream = pacing.open(actor, 1);
        assert!(!stream.is_paced());
        stream.granted().await;
        assert_eq!(pacing.load(), None);
    }
}
