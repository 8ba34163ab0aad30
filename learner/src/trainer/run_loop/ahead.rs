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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{lag::causes::Moments, queue::queue, testing};

    /// Takes `count` unrolls as the trainer does.
    fn take(ahead: &mut Ahead<f32>, queue: &QueueReceiver, count: usize) -> Vec<Taken> {
        let next = || {
            let arrived = ahead.take();
            let arrived = arrived.or_else(|| queue.take(std::time::Duration::ZERO).ok());
            let Arrived {
                unroll,
                actor,
                arrival,
                issued,
                traced,
            } = arrived.unwrap();
            Taken {
                moments: Moments::new(&unroll.parts().timing, issued, arrival, Instant::now()),
                lag: PolicyLag::default(),
                unroll,
                actor,
                traced,
            }
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[tokio::test]
    async fn a_batch_is_used_only_for_the_very_unrolls_that_it_was_made_of() {
        let agreement = testing::agreement();
        let shape = agreement.rollout;
        let (sender, queue) = queue(8);
        let actor = ActorId::random();
        for sequence in 1..=7 {
            let now = Instant::now();
            let arrived = Arrived {
                unroll: testing::unroll(&agreement, sequence),
                actor,
                arrival: now,
                issued: now,
                traced: Default::default(),
            };
            sender.push(arrived).await.unwrap();
        }
        let mut ahead = Ahead::default();
        let mut staged = 0;
        let mut prepare = |ahead: &mut Ahead<f32>| {
            ahead.prepare(&queue, 2, shape, |batch| {
                staged += 1;
                assert_eq!(batch.columns, 2 * shape.environments);
                batch.rewards[0]
            });
            (ahead.unrolls(), staged)
        };
        let mut batch = Batch::default();
        // Looked at twice, put together once.
        assert_eq!(prepare(&mut ahead), (2, 1));
        assert_eq!(prepare(&mut ahead), (2, 1));
        let taken = take(&mut ahead, &queue, 2);
        let first = taken[0].unroll.parts().rewards[0];
        assert_eq!(ahead.exchange(&taken, &mut batch), Some(first));
        assert_eq!(batch.columns, 2 * shape.environments);
        assert_eq!(ahead.exchange(&taken, &mut batch), None, "used twice");
        // The third unroll turns out to be too old, so that the fourth and fifth make the batch.
        assert_eq!(prepare(&mut ahead), (2, 2));
        let taken = take(&mut ahead, &queue, 3);
        assert_eq!(ahead.exchange(&taken[1..], &mut batch), None);
        // Two are left.
        assert_eq!(prepare(&mut ahead), (2, 3));
        assert_eq!(queue.clear(), 0);
    }
}
