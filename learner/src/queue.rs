//! The bounded hand-off from the asynchronous streams to the trainer's thread. A place in the queue is a permit: it
//! is waited for with the unroll in hand, travels with it, and is given back when the trainer takes it. So an idle
//! actor holds no place, and at most `capacity` unrolls wait. An evicting queue never makes anyone wait: a full one
//! drops its oldest unroll.

mod hand_off;

use std::time::Instant;

use springbok_common::{ids::ActorId, unroll::Unroll};

pub use self::hand_off::{NothingToTake, evicting_queue, queue};

/// What the hand-off waits with.
mod sync {
    pub(super) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
    pub(super) use tokio::sync::{OwnedSemaphorePermit, Semaphore};
}

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

/// The end of the streams.
pub type QueueSender = hand_off::QueueSender<Arrived>;
/// The end of the trainer.
pub type QueueReceiver = hand_off::QueueReceiver<Arrived>;
/// An unroll that the trainer looks at and has not taken.
pub type Held = hand_off::Held<Arrived>;
/// The queue takes no more; the unroll comes back.
pub type QueueClosed = hand_off::QueueClosed<Arrived>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    async fn what_is_only_looked_at_keeps_its_place() {
        let (sender, receiver) = queue(2);
        sender.push(arrived(1)).await.unwrap();
        sender.push(arrived(2)).await.unwrap();
        let held = receiver.hold().unwrap();
        assert_eq!(held.item().unroll.header().sequence.0, 1);
        assert_eq!(receiver.fill() + receiver.share(1), 1.0);
        let waiting = tokio::time::timeout(Duration::from_millis(20), sender.push(arrived(3)));
        assert!(waiting.await.is_err());
        assert_eq!(held.take().unroll.header().sequence.0, 1);
        sender.push(arrived(4)).await.unwrap();
        assert_eq!(receiver.clear(), 2);
        // One that may still be dropped cannot be looked at.
        let (sender, receiver) = evicting_queue(1);
        sender.push(arrived(1)).await.unwrap();
        assert!(receiver.hold().is_none());
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
