//! What really happened, as only a simulation can know it: every unroll that was ever made, every life, every event in
//! order. The judges in [`crate::invariants`] compare the parts' own accounts with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use springbok_common::{
    ids::{ActorId, RunId},
    unroll::UnrollHeader,
};
use springbok_learner::{books::Books, ledger::LedgerCounts, queue::QueueReceiver};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::{Who, chance},
    counted::Held,
    disk::Disk,
    keys::Keys,
    plan::Plan,
    planted::Planted,
    work::Task,
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one: the name of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
}

/// An unroll that was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) header: UnrollHeader,
    /// The learner's life whose parameters made it.
    pub(crate) life: u32,
    /// The actor, and its place.
    pub(crate) actor: ActorId,
    pub(crate) place: u32,
    pub(crate) at: Duration,
}

/// The learner as it runs now.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) life: u32,
    pub(crate) books: Books,
    pub(crate) queue: QueueReceiver,
    pub(crate) version: u64,
    /// The accounts with which this life began, and what it trained on since then.
    pub(crate) began_with: LedgerCounts,
    pub(crate) trained_unrolls: u64,
    /// Unrolls that the trainer has taken and not settled.
    pub(crate) in_hand: u64,
    /// Snapshots that it holds.
    pub(crate) held: Held,
    /// Cancelled to ask it to end.
    pub(crate) stop: CancellationToken,
}

/// How far the end of the learner's process is, if it comes in an orderly way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was asked to, at this moment, or saw that it has to.
    Begun(Duration),
    /// The process has nothing more to do.
    Over,
}

/// What an actor's life loaded last: life of the learner and version.
pub(crate) type Loaded = (u32, u64);

/// Everything.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) now: Duration,
    pub(crate) log: Vec<String>,
    pub(crate) violation: Option<Violation>,
    /// By id.
    pub(crate) made: Vec<Made>,
    pub(crate) running: Option<Running>,
    pub(crate) ending: Option<Ending>,
    pub(crate) learner_lives: u32,
    pub(crate) drains: u32,
    pub(crate) actor_lives: Vec<u32>,
    /// Trained on, in the history that counts: a restore takes back what its checkpoint does not have.
    pub(crate) trained: BTreeSet<u64>,
    pub(crate) loaded: BTreeMap<ActorId, Loaded>,
    pub(crate) disk: Disk,
    /// The newest version of which the learner said that it is safe.
    pub(crate) safe_version: u64,
    /// Set when the faults are over.
    pub(crate) calm_since: Option<Duration>,
    /// Places of which an unroll of the calm is settled, and the updates of the calm.
    pub(crate) back: BTreeSet<u32>,
    pub(crate) calm_updates: u64,
    /// The tokens, if they are asked for.
    pub(crate) keys: Option<Keys>,
    /// Attempts of strangers that were refused.
    pub(crate) strangers_refused: u64,
}

/// What all tasks of a simulation share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    pub(crate) planted: Option<Planted>,
    pub(crate) task: Arc<Task>,
    truth: Arc<Mutex<Truth>>,
}

impl Shared {
    pub(crate) fn new(plan: Plan, planted: Option<Planted>) -> io::Result<Self> {
        let keys = plan.guarded.then(|| Keys::new(plan.seed)).transpose()?;
        let truth = Truth {
            now: Duration::ZERO,
            log: Vec::new(),
            violation: None,
            made: Vec::new(),
            running: None,
            ending: None,
            drains: 0,
            learner_lives: 0,
            actor_lives: vec![0; plan.actors as usize],
            trained: BTreeSet::new(),
            loaded: BTreeMap::new(),
            disk: Disk::new(chance(plan.seed, Who::Disk)),
            safe_version: 0,
            calm_since: None,
            back: BTreeSet::new(),
            calm_updates: 0,
            keys,
            strangers_refused: 0,
        };
        Ok(Self {
            task: Arc::new(Task::new(plan.hidden_sizes.clone())),
            plan: Arc::new(plan),
            planted,
            truth: Arc::new(Mutex::new(truth)),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event down.
    pub(crate) fn event(&self, what: &str) {
        self.lock().event(what);
    }

    /// Whether this defect is planted.
    pub(crate) fn has(&self, defect: Planted) -> bool {
        self.planted == Some(defect)
    }

    /// Snapshots that are damaged on the way now, in parts per thousand.
    pub(crate) fn damaged_per_mille(&self) -> u32 {
        let calm = self.lock().calm_since.is_some();
        if calm { 0 } else { self.plan.damaged_per_mille }
    }

    /// The run of this seed.
    pub(crate) fn run_id(&self) -> Option<RunId> {
        RunId::from_bytes(&(u128::from(self.plan.seed) + 1).to_be_bytes())
    }
}

impl Truth {
    /// Writes an event down, with the moment at which it happened.
    pub(crate) fn event(&mut self, what: &str) {
        let now = turmoil::sim_elapsed().unwrap_or(self.now);
        self.log.push(format!("{:>10.3} {what}", now.as_secs_f64()));
    }

    /// The learner is about to end, if that has not begun already.
    pub(crate) fn end_begins(&mut self) {
        let now = turmoil::sim_elapsed().unwrap_or(self.now);
        self.ending.get_or_insert(Ending::Begun(now));
    }

    /// Sees which actors are back: the learner has settled an unroll that was made in the calm.
    pub(crate) fn see_who_is_back(&mut self) {
        let (Some(calm), Some(running)) = (self.calm_since, &self.running) else {
            return;
        };
        let books = running.books.lock();
        let of_the_calm = self.made.iter().rev().take_while(|made| made.at >= calm);
        for made in of_the_calm.filter(|made| made.life == running.life) {
            let mark = books.roster.mark(made.actor);
            if mark.is_some_and(|mark| mark >= made.header.sequence) {
                self.back.insert(made.place);
            }
        }
    }

    /// Keeps the first violation.
    pub(crate) fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict
            && self.violation.is_none()
        {
            self.event(&format!(
                "VIOLATION of {}: {}",
                violation.invariant, violation.seen
            ));
            self.violation = Some(violation);
        }
    }
}
