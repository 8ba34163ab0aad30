//! The learner: the real service, books, queue, gate and publisher; a task takes the place of the trainer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rand::RngExt;
use springbok_common::{
    config::LimitsConfig,
    injection::LagInjection,
    policy::layout_fingerprint,
    unroll::Agreement,
    version::{LearnerEpoch, PolicyVersion},
    wire::JoinTerms,
};
use springbok_learner::{
    admission::{Admission, BooksState, Fence},
    books::Books,
    gate::GateLimits,
    pacing::Pacing,
    publisher::Publisher,
    queue::{Arrived, QueueReceiver, queue},
    service::{Edge, Inbox, serve},
};
use tokio::time::sleep;

use crate::{
    chance::{Who, chance},
    disk::Checkpoint,
    invariants,
    network::{Ear, PORT},
    plan::Plan,
    planted::Planted,
    truth::{Running, Shared},
    work,
};

/// How often the trainer looks into the queue.
const POLL: Duration = Duration::from_millis(5);

struct Trainer {
    shared: Shared,
    life: u32,
    version: u64,
    books: Books,
    queue: QueueReceiver,
    pacing: Pacing,
    publisher: Publisher,
    draw: rand_pcg::Pcg64,
    /// For a defect only: what was trained on last, and the duplicates counted so far.
    last: Option<Arrived>,
    duplicates: u64,
    leaked: usize,
}

/// One life of the learner, until its host dies.
pub(crate) async fn host(shared: Shared) -> turmoil::Result {
    let (life, restored) = {
        let mut truth = shared.lock();
        truth.learner_lives += 1;
        (truth.learner_lives, truth.disk.newest())
    };
    let listener =
        turmoil::net::TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let run_id = shared.run_id().ok_or("a run has an id")?;
    let epoch = if shared.has(Planted::EpochKept) {
        1
    } else {
        life
    };
    let extra = u64::from(shared.has(Planted::LagOffByOne));
    let plan = &shared.plan;
    let fence = Fence {
        run_id,
        epoch: LearnerEpoch(epoch),
        lag_versions_max: plan.lag_versions_max.map(|max| max + extra),
    };
    let limits = LimitsConfig {
        // An actor whose parameters were damaged waits for others, which never come if it is the only one; it joins again
        // when its silence is too long.
        idle_s_max: 10,
        ..LimitsConfig::default()
    };
    let mut admission = Admission::new(fence, limits.actors_max);
    let version = restored.as_ref().map_or(0, |restored| restored.version);
    let trained = restored.map_or_else(BTreeSet::new, |restored| {
        admission.restore(restored.books, false);
        restored.trained
    });
    let began_with = admission.ledger.counts().clone();
    let books = Books::new(admission);
    let (sender, receiver) = queue(plan.queue_unrolls);
    let pacing = Pacing::new(gate_limits(plan));
    let agreement = shared.task.agreement.clone();
    let (publisher, publications) =
        Publisher::new(fence.epoch, layout_fingerprint(&agreement.network), 0);
    {
        let mut truth = shared.lock();
        truth.event(&format!(
            "the learner begins life {life} at version {version}"
        ));
        truth.trained = trained;
        let verdict = invariants::durable::kept(version, truth.safe_version);
        truth.judge(verdict);
        truth.running = Some(Running {
            life,
            books: books.clone(),
            queue: receiver.clone(),
            version,
            began_with,
            trained_unrolls: 0,
        });
    }
    let terms = JoinTerms {
        seed: plan.seed,
        outbox_unrolls: plan.outbox_unrolls,
        ..terms(fence, &agreement, &limits)
    };
    let inbox = Inbox {
        queue: sender,
        pacing: pacing.clone(),
    };
    let edge = Edge::new(
        books.clone(),
        inbox,
        publications,
        agreement,
        terms,
        limits,
        LagInjection::None,
    );
    let serving = serve(Ear(listener), edge).await;
    let draw = chance(plan.seed, Who::Trainer(life));
    let mut trainer = Trainer {
        shared: shared.clone(),
        life,
        version,
        books,
        queue: receiver,
        pacing,
        publisher,
        draw,
        last: None,
        duplicates: 0,
        leaked: 0,
    };
    trainer.publish();
    serving.ready().await;
    trainer.train().await;
    Ok(())
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

impl Trainer {
    async fn train(&mut self) {
        loop {
            let batch = self.collect().await;
            let longest = self.shared.plan.train_ms;
            sleep(Duration::from_millis(
                self.draw.random_range(longest / 2..=longest),
            ))
            .await;
            self.update(batch);
        }
    }

    /// A batch of unrolls that are young enough.
    async fn collect(&mut self) -> Vec<Arrived> {
        let mut batch: Vec<Arrived> = Vec::new();
        while batch.len() < self.shared.plan.batch_unrolls {
            self.plant_between(batch.len());
            let taken = if self.is_leaked_dry() {
                None
            } else {
                self.queue.take(Duration::ZERO).ok()
            };
            let Some(arrived) = taken else {
                sleep(POLL).await;
                continue;
            };
            self.plant_leak();
            let stamp = arrived.unroll.header().version;
            let lag = PolicyVersion(self.version).lag_behind(stamp);
            let mut books = self.books.lock();
            if lag.is_none_or(|lag| books.fence().is_too_stale(lag)) {
                books.ledger.expire(1);
                drop(books);
                self.pacing.settle([stamp]);
            } else {
                drop(books);
                batch.push(arrived);
            }
        }
        batch
    }

    /// One update: everything is judged before it is counted.
    fn update(&mut self, batch: Vec<Arrived>) {
        for arrived in &batch {
            self.trained(arrived);
        }
        if !(self.shared.has(Planted::LedgerMiss) && self.draw.random_bool(0.1)) {
            self.books.lock().ledger.train(batch.len() as u64);
        }
        self.version += 1;
        // As the trainer does: the books of the moment before anyone has the version.
        let due = self
            .version
            .is_multiple_of(self.shared.plan.updates_per_checkpoint);
        let books = due.then(|| self.books.lock().state());
        self.publish();
        self.pacing
            .settle(batch.iter().map(|arrived| arrived.unroll.header().version));
        if let Some(books) = books {
            self.save(books);
        }
        self.last = batch.into_iter().last();
    }

    fn trained(&self, arrived: &Arrived) {
        let mut truth = self.shared.lock();
        let Some(id) = work::id_of(&arrived.unroll) else {
            return;
        };
        let Some(made) = truth.made.get(id as usize).copied() else {
            return;
        };
        truth.event(&format!(
            "unroll {id} of version {} is trained on at {}",
            made.header.version.0, self.version
        ));
        let fresh = truth.trained.insert(id);
        truth.judge(invariants::once::only(id, fresh));
        truth.judge(invariants::lives::same(id, made.life, self.life));
        let limit = self.shared.plan.lag_versions_max;
        truth.judge(invariants::age::young(
            id,
            made.header.version.0,
            self.version,
            limit,
        ));
        if let Some(running) = &mut truth.running {
            running.trained_unrolls += 1;
        }
    }

    fn publish(&mut self) {
        let payload = if self.shared.has(Planted::TornSnapshot) && self.draw.random_bool(0.1) {
            self.shared.task.torn_parameters(self.life, self.version)
        } else {
            self.shared.task.parameters(self.life, self.version)
        };
        self.publisher.publish(PolicyVersion(self.version), payload);
        self.pacing
            .advance(PolicyVersion(self.version), PolicyVersion(self.version));
        let mut truth = self.shared.lock();
        truth.event(&format!("version {} is published", self.version));
        truth.calm_updates += u64::from(truth.calm_since.is_some());
        if let Some(running) = &mut truth.running {
            running.version = self.version;
        }
    }

    /// Writes a checkpoint; it is safe some time later, when the disk says so.
    fn save(&mut self, books: BooksState) {
        let (shared, version) = (self.shared.clone(), self.version);
        let mut truth = shared.lock();
        let trained = truth.trained.clone();
        truth.disk.write(Checkpoint {
            version,
            books,
            trained,
        });
        truth.event(&format!("checkpoint {version} is written"));
        if shared.has(Planted::NoFsync) {
            truth.safe_version = version;
        }
        drop(truth);
        let pause = Duration::from_millis(self.draw.random_range(1..400));
        tokio::spawn(async move {
            sleep(pause).await;
            let mut truth = shared.lock();
            truth.disk.sync();
            truth.safe_version = truth.disk.newest().map_or(0, |newest| newest.version);
            let safe = truth.safe_version;
            truth.event(&format!("checkpoint {safe} is safe"));
        });
    }

    /// Defects that show between two unrolls.
    fn plant_between(&mut self, in_hand: usize) {
        if self.shared.has(Planted::DedupeOff) {
            let duplicates = self.books.lock().ledger.counts().duplicates;
            if duplicates > self.duplicates
                && let Some(again) = self.last.take()
            {
                self.duplicates = duplicates;
                self.trained(&again);
            }
        }
        if self.shared.has(Planted::AcknowledgedUnseen)
            && in_hand == 0
            && self.draw.random_bool(0.05)
        {
            let mut books = self.books.lock();
            // Only if nobody waits for a place: those would come later.
            if books.ledger.counts().queued > 0
                && books.ledger.counts().queued == self.queue.clear()
            {
                books.ledger = books.ledger.resumed(true);
            }
        }
    }

    /// The defect that a place is not given back, now and then: as many unrolls as places have leaked stay in the queue.
    fn plant_leak(&mut self) {
        if self.shared.has(Planted::PermitLeak) && self.draw.random_bool(0.1) {
            self.leaked += 1;
        }
    }

    /// Whether the queue has nothing but leaked places.
    fn is_leaked_dry(&self) -> bool {
        let waiting = self.queue.fill() * self.shared.plan.queue_unrolls as f64;
        self.leaked > 0 && waiting.round() as usize <= self.leaked
    }
}
