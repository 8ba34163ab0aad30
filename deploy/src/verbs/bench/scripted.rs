//! Actors without environments: the real client and session, and a task that hands out the same unroll again and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use springbok_actor::{
    worker::{Bench, Finished, Published, Worker},
    world::{Prepare, World},
};
use springbok_common::unroll::{Agreement, Unroll, UnrollHeader, UnrollParts};
use tokio::sync::watch;

/// When an actor hands over its next unroll, and who hears how long the last one took to be acknowledged.
#[derive(Clone)]
pub(super) struct Habits {
    /// Wait before the first unroll.
    pub(super) first: Duration,
    /// Between two unrolls.
    pub(super) pause: Duration,
    /// From handing an unroll over to leave for the next one. With one unroll ahead, that is its acknowledgement.
    pub(super) on_acknowledged: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Habits {
    /// As fast as possible.
    fn default() -> Self {
        Self {
            first: Duration::ZERO,
            pause: Duration::ZERO,
            on_acknowledged: Arc::new(|_| {}),
        }
    }
}

/// An actor of `agreement` that hands out `unroll`.
pub(super) fn world(agreement: &Agreement, unroll: &Unroll, habits: &Habits) -> World {
    let (agreement, unroll, habits) = (agreement.clone(), unroll.clone(), habits.clone());
    let prepare: Prepare = Arc::new(move |_, _, supplies| {
        let newest = supplies.parameters;
        let (agreement, parts) = (agreement.clone(), unroll.parts().clone());
        let habits = habits.clone();
        Box::pin(async move {
            let (worker, bench) = Worker::new();
            tokio::spawn(hand_out(bench, newest, agreement.clone(), parts, habits));
            Ok((agreement, worker))
        })
    });
    World {
        prepare,
        ..World::default()
    }
}

/// An actor that makes nothing and calls `on_parameters` with each version that arrives.
pub(super) fn listener(
    agreement: &Agreement,
    on_parameters: Arc<dyn Fn(u64) + Send + Sync>,
) -> World {
    let agreement = agreement.clone();
    let prepare: Prepare = Arc::new(move |_, _, supplies| {
        let mut newest = supplies.parameters;
        let (agreement, on_parameters) = (agreement.clone(), Arc::clone(&on_parameters));
        Box::pin(async move {
            let (worker, bench) = Worker::new();
            tokio::spawn(async move {
                // Held, so that the worker seems to be at work.
                let _bench = bench;
                while newest.changed().await.is_ok() {
                    let published: Option<Published> = newest.borrow_and_update().clone();
                    if let Some(published) = published {
                        on_parameters(published.snapshot.version().0);
                    }
                }
            });
            Ok((agreement, worker))
        })
    });
    World {
        prepare,
        ..World::default()
    }
}

async fn hand_out(
    mut bench: Bench,
    newest: watch::Receiver<Option<Published>>,
    agreement: Agreement,
    first: UnrollParts,
    habits: Habits,
) {
    let mut handed_over: Option<Instant> = None;
    while let Some(permission) = bench.permissions.recv().await {
        let wait = match handed_over {
            Some(at) => {
                (habits.on_acknowledged)(at.elapsed());
                habits.pause.saturating_sub(at.elapsed())
            }
            None => habits.first,
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let Some(published) = newest.borrow().clone() else {
            return;
        };
        let mut parts = permission.reuse.unwrap_or_else(|| first.clone());
        parts.header = UnrollHeader {
            run_id: published.run_id,
            epoch: published.snapshot.epoch(),
            sequence: permission.sequence,
            version: published.snapshot.version(),
        };
        parts.timing.served = published.served;
        let Ok(unroll) = Unroll::new(parts, &agreement) else {
            return;
        };
        let at = Instant::now();
        handed_over = Some(at);
        let finished = Finished {
            unroll,
            at,
            received: published.received,
        };
        if bench.results.send(Ok(finished)).await.is_err() {
            return;
        }
    }
}
