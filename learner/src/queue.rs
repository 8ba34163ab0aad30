//! The bounded hand-off from the asynchronous streams to the trainer's thread. A place in the queue is a permit: it
//! is waited for with the unroll in hand, travels with it, and is given back when the trainer takes it. So an idle
//! actor holds no place, and at most `capacity` unrolls wait. An evicting queue never makes anyone wait: a full one
//! drops its oldest unroll.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use springbok_common::{ids::ActorId, unroll::Unroll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::traced::Traced;

/// An admitted unroll and when it arrived.
#[derive(Debug)]
pub struct Arrived {
    /// The unroll.
    pub unroll: Unroll,
    /// Who made it.
    pub actor: ActorId,
    /// When its message had been read.
    pub arrival: Instant,
    /// When the parameters that made it were sent to the actor.
    pub issued: Instant,
    /// Its spans, if it is followed.
    pub traced: Traced,
}

#[derive(Debug)]
struct Queued {
    arrived: Arrived,
    _permit: OwnedSemaphorePermit,
}

/// The end of the streams.
#[derive(Debug, Clone)]
pub struct QueueSender {
    permits: Arc<Semaphore>,
    sender: Sender<Queued>,
    /// Where an evicting queue takes the oldest unroll from.
    oldest: Option<Receiver<Queued>>,
}

/// The end of the trainer.
#[derive(Debug, Clone)]
pub struct QueueReceiver {
    receiver: Receiver<Queued>,
    capacity_unrolls: usize,
}

/// The queue takes no more; the unroll comes back.
#[derive(Debug)]
pub struct QueueClosed {
    /// The unroll.
    pub back: Box<Arrived>,
    /// What had been evicted for it.
    pub evicted: Vec<Arrived>,
}

/// Why there is nothing to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NothingToTake {
    /// Not yet.
    Timeout,
    /// Never again.
    Closed,
}

/// A queue of at most `capacity_unrolls`.
#[must_use]
pub fn queue(capacity_unrolls: usize) -> (QueueSender, QueueReceiver) {
    make(capacity_unrolls, false)
}

/// A queue of at most `capacity_unrolls` that drops the oldest one when it is full: by place, not by age, so that which
/// unrolls are trained on does not depend on what is in them.
#[must_use]
pub fn evicting_queue(capacity_unrolls: usize) -> (QueueSender, QueueReceiver) {
    make(capacity_unrolls, true)
}

fn make(capacity_unrolls: usize, evicts: bool) -> (QueueSender, QueueReceiver) {
    let (sender, receiver) = bounded(capacity_unrolls);
    let permits = Arc::new(Semaphore::new(capacity_unrolls));
    (
        QueueSender {
            permits,
            sender,
            oldest: evicts.then(|| receiver.clone()),
        },
        QueueReceiver {
            receiver,
            capacity_unrolls,
        },
    )
}

impl QueueSender {
    /// Waits for a place and puts `arrived` there. Places are given in the order of asking. Gives what was evicted
    /// instead of waiting.
    ///
    /// # Errors
    /// [`QueueClosed`] with the unroll, once the queue is closed.
    pub async fn push(&self, arrived: Arrived) -> Result<Vec<Arrived>, QueueClosed> {
        let mut evicted = Vec::new();
        while let Some(oldest) = &self.oldest
            && self.permits.available_permits() == 0
            && !self.permits.is_closed()
        {
            match oldest.try_recv() {
                Ok(queued) => evicted.push(queued.arrived),
                // Another has a place and is about to fill it, or the trainer was quicker: one is free soon.
                Err(_) => break,
            }
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            let back = Box::new(arrived);
            return Err(QueueClosed { back, evicted });
        };
        let queued = Queued {
            arrived,
            _permit: permit,
        };
        // The channel has as many places as there are permits, so this never fails for lack of room.
        match self.sender.try_send(queued) {
            Ok(()) => Ok(evicted),
            Err(refused) => Err(QueueClosed {
                back: Box::new(refused.into_inner().arrived),
                evicted,
            }),
        }
    }

    /// Refuses everything from now on, also those that already wait for a place.
    pub fn close(&self) {
        self.permits.close();
    }
}

impl QueueReceiver {
    /// Takes the oldest unroll and frees its place; waits at most `patience`.
    ///
    /// # Errors
    /// [`NothingToTake`].
    pub fn take(&self, patience: Duration) -> Result<Arrived, NothingToTake> {
        match self.receiver.recv_timeout(patience) {
            Ok(queued) => Ok(queued.arrived),
            Err(RecvTimeoutError::Timeout) => Err(NothingToTake::Timeout),
            Err(RecvTimeoutError::Disconnected) => Err(NothingToTake::Closed),
        }
    }

    /// Drops all that waits and says how many unrolls that were.
    #[must_use]
    pub fn clear(&self) -> u64 {
        self.receiver.try_iter().map(|_| 1).sum()
    }

    /// Share of the places that are taken, 0 to 1.
    #[must_use]
    pub fn fill(&self) -> f64 {
        self.receiver.len() as f64 / self.capacity_unrolls.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{agreement, unroll};

    fn arrived(sequence: u64) -> Arrived {
        Arrived {
            actor: ActorId::random(),
            unroll: unroll(&agreement(), sequence),
            arrival: Instant::now(),
            issued: Instant::now(),
            traced: Traced::default(),
        }
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_sender_wait_until_one_is_taken() {
        let (sender, receiver) = queue(2);
        sender.push(arrived(1)).await.unwrap();
        sender.push(arrived(2)).await.unwrap();
        assert_eq!(receiver.fill(), 1.0);
        let waiting = tokio::time::timeout(Duration::from_millis(20), sender.push(arrived(3)));
        assert!(waiting.await.is_err());
        let first = receiver.take(Duration::ZERO).unwrap();
        assert_eq!(first.unroll.header().sequence.0, 1);
        sender.push(arrived(4)).await.unwrap();
        assert_eq!(receiver.clear(), 2);
        assert_eq!(
            receiver.take(Duration::ZERO).unwrap_err(),
            NothingToTake::Timeout
        );
    }

    #[tokio::test]
    async fn a_full_evicting_queue_drops_its_oldest_and_makes_no_one_wait() {
        let (sender, receiver) = evicting_queue(2);
        let mut evicted = Vec::new();
        for sequence in 1..=5 {
            evicted.extend(sender.push(arrived(sequence)).await.unwrap());
        }
        let numbers = |of: &[Arrived]| -> Vec<u64> {
            of.iter()
                .map(|one| one.unroll.header().sequence.0)
                .collect()
        };
        assert_eq!(numbers(&evicted), [1, 2, 3]);
        let taken = [(); 2].map(|()| receiver.take(Duration::ZERO).unwrap());
        assert_eq!(numbers(&taken), [4, 5]);
        sender.close();
        assert!(sender.push(arrived(6)).await.is_err());
    }

    #[tokio::test]
    async fn closing_gives_back_what_waits_and_keeps_what_is_queued() {
        let (sender, receiver) = queue(1);
        sender.push(arrived(1)).await.unwrap();
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.push(arrived(2)).await }
        });
        tokio::task::yield_now().await;
        sender.close();
        let QueueClosed { back, .. } = waiting.await.unwrap().unwrap_err();
        assert_eq!(back.unroll.header().sequence.0, 2);
        drop(sender);
        assert!(receiver.take(Duration::ZERO).is_ok());
        assert_eq!(
            receiver.take(Duration::ZERO).unwrap_err(),
            NothingToTake::Closed
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_senders_lose_nothing_and_never_exceed_the_capacity() {
        let (sender, receiver) = queue(3);
        for _ in 0..8 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for sequence in 1..=50 {
                    sender.push(arrived(sequence)).await.unwrap();
                }
            });
        }
        drop(sender);
        let taken = std::thread::spawn(move || {
            let mut taken = 0;
            while receiver.take(Duration::from_secs(5)).is_ok() {
                assert!(receiver.fill() <= 1.0);
                taken += 1;
            }
            taken
        });
        let taken = tokio::task::spawn_blocking(move || taken.join().unwrap());
        assert_eq!(taken.await.unwrap(), 8 * 50);
    }
}
