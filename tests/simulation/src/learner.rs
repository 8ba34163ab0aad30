//! The learner: the real service, books, queue, gate and publisher; a task takes the place of the trainer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
};

use springbok_common::{
    config::{InferencePlace, LimitsConfig, ObservationEncoding, Refresh},
    injection::LagInjection,
    policy::layout_fingerprint,
    unroll::Agreement,
    version::LearnerEpoch,
    wire::JoinTerms,
};
use springbok_learner::{
    Security,
    admission::{Admission, Fence},
    books::Books,
    gate::GateLimits,
    network::NetworkBytes,
    pacing::Pacing,
    publisher::Publisher,
    queue::{QueueReceiver, evicting_queue, queue},
    service::{Edge, Inbox, Serving, serve_guarded},
};
use tokio_util::sync::CancellationToken;

use crate::{
    counted::Held,
    invariants,
    network::{Ear, PORT},
    plan::Plan,
    planted::Planted,
    trainer::{End, Links, Trainer},
    truth::{Ending, Running, Shared},
};

/// One life of the learner, until it ends or its host dies.
pub(crate) async fn host(shared: Shared) -> turmoil::Result {
    let listener =
        turmoil::net::TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let plan = &shared.plan;
    let mut limits = LimitsConfig::default();
    if plan.lock_step.is_some() {
        limits.actors_max = plan.actors as usize;
    }
    let (sender, receiver) = if plan.evicts {
        evicting_queue(plan.queue_unrolls)
    } else {
        queue(plan.queue_unrolls)
    };
    let (fence, running) = begin(&shared, limits.actors_max, receiver)?;
    let Running {
        life,
        version,
        books,
        queue,
        held,
        stop,
        ..
    } = running;
    let agreement = shared.task.agreement.clone();
    let layout = layout_fingerprint(&agreement.network);
    let (publisher, publications) = Publisher::new(fence.epoch, layout, 0);
    let pacing = Pacing::new(if shared.has(Planted::GateOpen) {
        no_limits()
    } else {
        gate_limits(plan)
    });
    let terms = JoinTerms {
        seed: plan.seed,
        outbox_unrolls: plan.outbox_unrolls,
        unrolls_per_snapshot: plan.lock_step,
        ..terms(fence, &agreement, &limits)
    };
    let edge = Edge::new(
        books.clone(),
        Inbox {
            queue: sender,
            pacing: pacing.clone(),
            desk: None,
            traffic: NetworkBytes::default(),
        },
        publications,
        agreement,
        terms,
        limits,
        LagInjection::None,
    );
    let security = match &shared.lock().keys {
        Some(keys) => keys.of_learner()?,
        None => Security::default(),
    };
    let serving = serve_guarded(Ear(listener), edge, security).await;
    let links = Links {
        books: books.clone(),
        queue: queue.clone(),
        pacing,
        publisher,
        held,
    };
    let mut trainer = Trainer::new(&shared, life, version, links);
    trainer.publish();
    serving.ready().await;
    until_over(&shared, serving, trainer, stop).await;
    conclude(&shared, &books, &queue);
    // Until the process is gone.
    std::future::pending().await
}

/// Another life begins, where the newest checkpoint says.
fn begin(
    shared: &Shared,
    actors_max: usize,
    queue: QueueReceiver,
) -> turmoil::Result<(Fence, Running)> {
    let mut truth = shared.lock();
    truth.learner_lives += 1;
    let (life, restored) = (truth.learner_lives, truth.disk.newest());
    let fence = fence(shared, life).ok_or("a run has an id")?;
    let mut admission = Admission::new(fence, actors_max);
    let version = restored.as_ref().map_or(0, |restored| restored.version);
    truth.trained = restored.map_or_else(BTreeSet::new, |restored| {
        let made_again = shared.plan.lock_step.is_some();
        admission.restore(restored.books, made_again);
        restored.trained
    });
    truth.event(&format!(
        "the learner begins life {life} at version {version}"
    ));
    let verdict = invariants::durable::kept(version, truth.safe_version);
    truth.judge(verdict);
    let running = Running {
        life,
        version,
        began_with: admission.ledger.counts().clone(),
        books: Books::new(admission),
        queue,
        trained_unrolls: 0,
        in_hand: 0,
        held: Held::default(),
        stop: CancellationToken::new(),
    };
    truth.running = Some(running.clone());
    Ok((fence, running))
}

/// What every unroll of this life must match.
fn fence(shared: &Shared, life: u32) -> Option<Fence> {
    let epoch = if shared.has(Planted::EpochKept) {
        1
    } else {
        life
    };
    let extra = u64::from(shared.has(Planted::LagOffByOne));
    let limit = shared.plan.lag_versions_max;
    Some(Fence {
        run_id: shared.run_id()?,
        epoch: LearnerEpoch(epoch),
        lag_versions_max: limit.map(|max| max + extra),
    })
}

/// Trains until it is asked to end, or has to; then drains, as the real one does.
async fn until_over(
    shared: &Shared,
    serving: Serving,
    mut trainer: Trainer,
    stop: CancellationToken,
) {
    let mut training = pin!(trainer.train(&stop));
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = &mut training => Some(ended),
    };
    stop.cancel();
    shared.lock().end_begins();
    let end_of_training = async {
        match ended {
            Some(ended) => ended,
            None => training.await,
        }
    };
    let ((), ended) = tokio::join!(serving.drain(), end_of_training);
    let mut truth = shared.lock();
    truth.event(match ended {
        End::Stopped => "the learner has drained",
        End::Alone => "an actor is gone, so the lock-step has ended",
    });
    truth.drains += u32::from(ended == End::Stopped);
}

/// Nobody will train on what is still queued.
fn conclude(shared: &Shared, books: &Books, queue: &QueueReceiver) {
    let left = queue.clear();
    let mut truth = shared.lock();
    let counts = {
        let mut books = books.lock();
        if !shared.has(Planted::DrainDropsQueue) {
            books.ledger.discard(left);
        }
        books.ledger.counts().clone()
    };
    truth.judge(invariants::drain::accounted(&counts));
    if let Some(running) = &truth.running {
        let verdict = invariants::accounts::agree(running, truth.loaded.keys());
        truth.judge(verdict);
    }
    let now = turmoil::sim_elapsed().unwrap_or(truth.now);
    if let Some(Ending::Begun(at)) = truth.ending {
        truth.judge(invariants::drain::in_time(now.saturating_sub(at)));
    }
    truth.running = None;
    truth.ending = Some(Ending::Over);
}

/// What an actor is told when it joins, as far as every simulation says the same.
pub(crate) fn terms(fence: Fence, agreement: &Agreement, limits: &LimitsConfig) -> JoinTerms {
    JoinTerms {
        run_id: fence.run_id,
        epoch: fence.epoch,
        actor_index: 0,
        environment_id: agreement.environment.id.clone(),
        environment_options: String::new(),
        network: agreement.network.clone(),
        rollout: agreement.rollout,
        seed: 1,
        fingerprint: agreement.fingerprint(),
        outbox_unrolls: 1,
        message_bytes_max: limits.message_bytes_max,
        unrolls_per_snapshot: None,
        life_versions: None,
        refresh: Refresh::Unroll,
        inference: InferencePlace::Local,
        observations: ObservationEncoding::Raw,
    }
}

/// A gate that keeps to nothing.
pub(crate) fn no_limits() -> GateLimits {
    GateLimits {
        batch_unrolls: 1,
        outbox_unrolls: 1,
        versions_per_batch: 1,
        served_behind: 0,
        budget_unrolls: None,
        lag_versions_max: None,
    }
}

/// What the gate keeps to.
fn gate_limits(plan: &Plan) -> GateLimits {
    GateLimits {
        batch_unrolls: plan.batch_unrolls,
        outbox_unrolls: plan.outbox_unrolls,
        lag_versions_max: plan.lag_versions_max.filter(|_| plan.paced),
        ..no_limits()
    }
}
