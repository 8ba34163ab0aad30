//! The next batch, put together while a device computes.
//!
//! Its unrolls stay in their places of the queue until the trainer takes them in its turn, so that nothing else is begun,
//! and nothing grows older, because of it. If they are not what is then trained on, as when one has become too old, the
//! batch is put together anew.

use std::{collections::VecDeque, mem};

use springbok_common::{
    ids::{ActorId, UnrollSequence},
    spec::RolloutShape,
    version::PolicyLag,
};

use super::parts::Taken;
use crate::{
    queue::{Arrived, Held, QueueReceiver},
    trainer::batch::{Batch, Member},
};

/// What tells the unrolls of a life of the learner apart.
type Key = (ActorId, UnrollSequence);

/// Unrolls that are looked at, and the batch that they will be. `S` is a batch where it is trained on.
pub(super) struct Ahead<S> {
    held: VecDeque<Held>,
    batch: Batch,
    /// The members of `batch`, if it is whole and has not been used.
    whole: Option<(Vec<Key>, S)>,
}

impl<S> Default for Ahead<S> {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            batch: Batch::default(),
            whole: None,
        }
    }
}

impl<S> Ahead<S> {
    /// Unrolls that are looked at, each of which has a place in the queue.
    pub(super) fn unrolls(&self) -> usize {
        self.held.len()
    }

    /// The next unroll, as if it were taken from the queue now.
    pub(super) fn take(&mut self) -> Option<Arrived> {
        self.held.pop_front().map(Held::take)
    }

    /// Puts the next batch of `unrolls` together, if that many are queued, and stages it.
    pub(super) fn prepare(
        &mut self,
        queue: &QueueReceiver,
        unrolls: usize,
        shape: RolloutShape,
        stage: impl FnOnce(&Batch) -> S,
    ) {
        let missing = unrolls.saturating_sub(self.held.len());
        self.held
            .extend(std::iter::from_fn(|| queue.hold()).take(missing));
        if self.whole.is_some() || self.held.len() < unrolls {
            return;
        }
        let arrived = || self.held.iter().take(unrolls).map(Held::item);
        let members: Vec<Member<'_>> = arrived()
            .map(|arrived| Member {
                unroll: &arrived.unroll,
                // How old it is will be known when its turn comes.
                lag: PolicyLag::default(),
                actor: arrived.actor,
            })
            .collect();
        self.batch.assemble(&members, shape);
        let keys = arrived().map(|arrived| (arrived.actor, arrived.unroll.header().sequence));
        self.whole = Some((keys.collect(), stage(&self.batch)));
    }

    /// Exchanges `batch` for the one that was put together, if `taken` are its members, and gives what was staged; it is
    /// still to be dated. If they are not, it is of no use any more.
    pub(super) fn exchange(&mut self, taken: &[Taken], batch: &mut Batch) -> Option<S> {
        let (keys, staged) = self.whole.take()?;
        let wanted = taken.iter().map(Taken::key);
        if !wanted.eq(keys) {
            return None;
        }
        mem::swap(batch, &mut self.batch);
        Some(staged)
    }
}

impl Taken {
    pub(super) fn member(&self) -> Member<'_> {
        Member {
            unroll: &self.unroll,
            lag: self.lag,
            actor: self.actor,
        }
    }

    fn key(&self) -> Key {
        (self.actor, self.unroll.header().sequence)
    }
}
