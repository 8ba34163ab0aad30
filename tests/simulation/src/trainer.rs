//! The task that takes the place of the trainer's thread: what it takes, drops, counts and publishes, and when, is as
//! there; it computes nothing.

use std::time::Duration;

use rand::RngExt;
use springbok_common::version::PolicyVersion;
use springbok_learner::{
    admission::BooksState,
    books::Books,
    pacing::Pacing,
    publisher::Publisher,
    queue::{Arrived, QueueReceiver},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    chance::{Who, chance},
    counted::{Held, lend},
    disk::Checkpoint,
    invariants,
    planted::Planted,
    truth::Shared,
    work,
};

/// How often the trainer looks into the queue.
const POLL: Duration = Duration::from_millis(5);

/// What a trainer is connected to.
pub(crate) struct Links {
    pub(crate) books: Books,
    pub(crate) queue: QueueReceiver,
    pub(crate) pacing: Pacing,
    pub(crate) publisher: Publisher,
    /// Counts the snapshots.
    pub(crate) held: Held,
}

/// Why there is no more training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to end.
    Stopped,
    /// In lock-step, an actor is gone.
    Alone,
}

/// The trainer.
pub(crate) struct Trainer {
    shared: Shared,
    life: u32,
    version: u64,
    links: Links,
    draw: rand_pcg::Pcg64,
    /// For a defect only: what was trained on last, and the duplicates counted so far; places that leaked; snapshots that are
    /// kept.
    last: Option<Arrived>,
    duplicates: u64,
    leaked: usize,
    kept: Vec<bytes::Bytes>,
}

impl Trainer {
    pub(crate) fn new(shared: &Shared, life: u32, version: u64, links: Links) -> Self {
        Self {
            shared: shared.clone(),
            life,
            version,
            links,
            draw: chance(shared.plan.seed, Who::Trainer(life)),
            last: None,
            duplicates: 0,
            leaked: 0,
            kept: Vec::new(),
        }
    }

    /// Trains until `stop`, or until it cannot go on.
    pub(crate) async fn train(&mut self, stop: &CancellationToken) -> End {
        let end = loop {
            let batch = match self.collect(stop).await {
                Ok(batch) => batch,
                Err(end) => break end,
            };
            let longest = self.shared.plan.train_ms;
            sleep(Duration::from_millis(
                self.draw.random_range(longest / 2..=longest),
            ))
            .await;
            self.update(batch);
        };
        if end == End::Stopped {
            self.save_last();
        }
        end
    }

    /// A batch of unrolls that are young enough.
    async fn collect(&mut self, stop: &CancellationToken) -> Result<Vec<Arrived>, End> {
        let mut batch: Vec<Arrived> = Vec::new();
        while batch.len() < self.shared.plan.batch_unrolls {
            let end = if stop.is_cancelled() {
                Some(End::Stopped)
            } else {
                self.is_alone().then_some(End::Alone)
            };
            if let Some(end) = end {
                let mut books = self.links.books.lock();
                books.ledger.discard(batch.len() as u64);
                drop(books);
                self.hold(0);
                return Err(end);
            }
            self.plant_between(batch.len());
            let taken = if self.is_leaked_dry() {
                None
            } else {
                self.links.queue.take(Duration::ZERO).ok()
            };
            let Some(arrived) = taken else {
                sleep(POLL).await;
                continue;
            };
            self.plant_leak();
            let stamp = arrived.unroll.header().version;
            let lag = PolicyVersion(self.version).lag_behind(stamp);
            let mut books = self.links.books.lock();
            if lag.is_none_or(|lag| books.fence().is_too_stale(lag)) {
                books.ledger.expire(1);
                drop(books);
                self.links.pacing.settle([stamp]);
            } else {
                drop(books);
                batch.push(arrived);
            }
            self.hold(batch.len());
        }
        Ok(batch)
    }

    /// A lock-step that an actor has left would wait for it for ever.
    fn is_alone(&self) -> bool {
        let counts = self.links.books.lock().roster.counts();
        self.shared.plan.lock_step.is_some() && counts.left + counts.lost > 0
    }

    /// Tells the judges how many unrolls are in its hands.
    fn hold(&self, unrolls: usize) {
        if let Some(running) = &mut self.shared.lock().running {
            running.in_hand = unrolls as u64;
        }
    }

    /// One update: everything is judged before it is counted.
    fn update(&mut self, batch: Vec<Arrived>) {
        self.judge_lock_step(&batch);
        for arrived in &batch {
            self.trained(arrived);
        }
        if !(self.shared.has(Planted::LedgerMiss) && self.draw.random_bool(0.1)) {
            self.links.books.lock().ledger.train(batch.len() as u64);
        }
        self.hold(0);
        self.version += 1;
        // As the trainer does: the books of the moment before anyone has the version.
        let due = self
            .version
            .is_multiple_of(self.shared.plan.updates_per_checkpoint);
        let books = due.then(|| self.links.books.lock().state());
        self.publish();
        let versions = batch.iter().map(|arrived| arrived.unroll.header().version);
        self.links.pacing.settle(versions);
        if let Some(books) = books {
            self.save(books);
        }
        self.last = batch.into_iter().last();
    }

    fn judge_lock_step(&self, batch: &[Arrived]) {
        let Some(share) = self.shared.plan.lock_step else {
            return;
        };
        let mut truth = self.shared.lock();
        let unrolls: Vec<_> = batch
            .iter()
            .filter_map(|arrived| {
                let made = truth.made.get(work::id_of(&arrived.unroll)? as usize)?;
                Some((made.place, made.header.version.0))
            })
            .collect();
        let actors = self.shared.plan.actors;
        let verdict = invariants::lockstep::exact(&unrolls, self.version, share.get(), actors);
        truth.judge(verdict);
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

    /// Makes the version that it has reached the newest.
    pub(crate) fn publish(&mut self) {
        let payload = lend(self.payload(), &self.links.held);
        if self.shared.has(Planted::SnapshotsKept) {
            self.kept.push(payload.clone());
        }
        let version = PolicyVersion(self.version);
        self.links.publisher.publish(version, payload);
        self.links.pacing.advance(version, version);
        let mut truth = self.shared.lock();
        truth.event(&format!("version {} is published", self.version));
        truth.calm_updates += u64::from(truth.calm_since.is_some());
        if let Some(running) = &mut truth.running {
            running.version = self.version;
        }
    }

    fn payload(&mut self) -> bytes::Bytes {
        let (task, life, version) = (&self.shared.task, self.life, self.version);
        if self.shared.has(Planted::TornSnapshot) && self.draw.random_bool(0.1) {
            return task.torn_parameters(life, version);
        }
        let shuffled = if self.shared.has(Planted::ChunkOrderIgnored) {
            task.shuffled_parameters(life, version)
        } else {
            None
        };
        shuffled.unwrap_or_else(|| task.parameters(life, version))
    }

    /// Writes a checkpoint; it is safe some time later, when the disk says so.
    fn save(&mut self, books: BooksState) {
        let (shared, version) = (self.shared.clone(), self.version);
        let mut truth = shared.lock();
        if shared.plan.lock_step.is_some() {
            truth.judge(invariants::lockstep::still(books.queued()));
        }
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
            sync(&shared);
        });
    }

    /// The last checkpoint, and the end of all writing. In lock-step there is none but at the usual versions.
    fn save_last(&mut self) {
        if self.shared.plan.lock_step.is_none() {
            let books = self.links.books.lock().state();
            self.save(books);
        }
        sync(&self.shared);
    }

    /// Defects that show between two unrolls.
    fn plant_between(&mut self, in_hand: usize) {
        if self.shared.has(Planted::DedupeOff) {
            let duplicates = self.links.books.lock().ledger.counts().duplicates;
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
            let mut books = self.links.books.lock();
            // Only if nobody waits for a place: those would come later.
            if books.ledger.counts().queued > 0
                && books.ledger.counts().queued == self.links.queue.clear()
            {
                books.ledger = books.ledger.resumed(true);
            }
        }
        if self.shared.has(Planted::EvictedUncounted)
            && self.shared.plan.evicts
            && self.links.queue.fill() >= 1.0
        {
            let _ = self.links.queue.take(Duration::ZERO);
        }
        let again = self.shared.has(Planted::ServedAgain) && self.shared.plan.lock_step.is_some();
        if again && self.draw.random_bool(0.01) {
            self.publish();
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
        let waiting = self.links.queue.fill() * self.shared.plan.queue_unrolls as f64;
        self.leaked > 0 && waiting.round() as usize <= self.leaked
    }
}

/// What was written is on the disk for good.
fn sync(shared: &Shared) {
    let mut truth = shared.lock();
    truth.disk.sync();
    truth.safe_version = truth.disk.newest().map_or(0, |newest| newest.version);
    let safe = truth.safe_version;
    truth.event(&format!("checkpoint {safe} is safe"));
}
