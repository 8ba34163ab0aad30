//! The hand-off itself, for items of any kind: a queue with a fixed number of places between asynchronous senders and the
//! trainer's thread.
//!
//! What it waits with comes from `super::sync`. `tests/schedules` puts other primitives there and this very file beside
//! them, and tries the orders in which threads may run.

use std::{sync::Arc, time::Duration};

use super::sync::{
    OwnedSemaphorePermit, Receiver, RecvTimeoutError, Semaphore, Sender, TrySendError, bounded,
};

#[derive(Debug)]
struct Queued<T> {
    item: T,
    /// The place that was waited for; nobody waits for one in a queue that evicts.
    _permit: Option<OwnedSemaphorePermit>,
}

/// The end of the streams.
#[derive(Debug)]
pub struct QueueSender<T> {
    permits: Arc<Semaphore>,
    sender: Sender<Queued<T>>,
    /// Where an evicting queue takes the oldest unroll from.
    oldest: Option<Receiver<Queued<T>>>,
}

/// The end of the trainer.
#[derive(Debug)]
pub struct QueueReceiver<T> {
    receiver: Receiver<Queued<T>>,
    capacity_unrolls: usize,
    evicts: bool,
}

/// An unroll that the trainer looks at and has not taken: it still has its place.
#[derive(Debug)]
pub struct Held<T>(Queued<T>);

impl<T> Held<T> {
    /// The unroll.
    pub fn item(&self) -> &T {
        &self.0.item
    }

    /// Takes it, which frees its place.
    pub fn take(self) -> T {
        self.0.item
    }
}

/// The queue takes no more; the unroll comes back.
#[derive(Debug)]
pub struct QueueClosed<T> {
    /// The unroll.
    pub back: Box<T>,
    /// What had been evicted for it.
    pub evicted: Vec<T>,
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
pub fn queue<T>(capacity_unrolls: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    make(capacity_unrolls, false)
}

/// A queue of at most `capacity_unrolls` that drops the oldest one when it is full: by place, not by age, so that which
/// unrolls are trained on does not depend on what is in them.
#[must_use]
pub fn evicting_queue<T>(capacity_unrolls: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    make(capacity_unrolls, true)
}

fn make<T>(capacity_unrolls: usize, evicts: bool) -> (QueueSender<T>, QueueReceiver<T>) {
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
            evicts,
        },
    )
}

// Not derived: a copy of an end is no copy of what passes through it.
impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        Self {
            permits: Arc::clone(&self.permits),
            sender: self.sender.clone(),
            oldest: self.oldest.clone(),
        }
    }
}

impl<T> Clone for QueueReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            receiver: self.receiver.clone(),
            capacity_unrolls: self.capacity_unrolls,
            evicts: self.evicts,
        }
    }
}

impl<T> QueueSender<T> {
    /// Waits for a place and puts `item` there; places are given in the order of asking. A queue that evicts makes nobody
    /// wait, and gives what was evicted.
    ///
    /// # Errors
    /// [`QueueClosed`] with the unroll, once the queue is closed.
    pub async fn push(&self, item: T) -> Result<Vec<T>, QueueClosed<T>> {
        if let Some(oldest) = &self.oldest {
            return self.displace(oldest, item);
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(QueueClosed {
                back: Box::new(item),
                evicted: Vec::new(),
            });
        };
        let queued = Queued {
            item,
            _permit: Some(permit),
        };
        // The channel has as many places as there are permits, so this never fails for lack of room.
        match self.sender.try_send(queued) {
            Ok(()) => Ok(Vec::new()),
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => Err(QueueClosed {
                back: Box::new(back.item),
                evicted: Vec::new(),
            }),
        }
    }

    /// Puts `item` in the place of the oldest one if there is no other. There is nothing to wait for: if a place was free and
    /// is not any more, then another sender has come further.
    fn displace(&self, oldest: &Receiver<Queued<T>>, item: T) -> Result<Vec<T>, QueueClosed<T>> {
        let mut evicted = Vec::new();
        let mut queued = Queued {
            item,
            _permit: None,
        };
        while !self.permits.is_closed() {
            match self.sender.try_send(queued) {
                Ok(()) => return Ok(evicted),
                Err(TrySendError::Full(back)) => queued = back,
                Err(TrySendError::Disconnected(back)) => {
                    queued = back;
                    break;
                }
            }
            // None if the trainer was quicker.
            if let Ok(displaced) = oldest.try_recv() {
                evicted.push(displaced.item);
            }
        }
        let back = Box::new(queued.item);
        Err(QueueClosed { back, evicted })
    }

    /// Refuses everything from now on, also those that already wait for a place.
    pub fn close(&self) {
        self.permits.close();
    }
}

impl<T> QueueReceiver<T> {
    /// Takes the oldest unroll and frees its place; waits at most `patience`.
    ///
    /// # Errors
    /// [`NothingToTake`].
    pub fn take(&self, patience: Duration) -> Result<T, NothingToTake> {
        match self.receiver.recv_timeout(patience) {
            Ok(queued) => Ok(queued.item),
            Err(RecvTimeoutError::Timeout) => Err(NothingToTake::Timeout),
            Err(RecvTimeoutError::Disconnected) => Err(NothingToTake::Closed),
        }
    }

    /// The oldest unroll, which keeps its place, if there is one. None of a queue that evicts: that may still drop it.
    #[must_use]
    pub fn hold(&self) -> Option<Held<T>> {
        if self.evicts {
            return None;
        }
        self.receiver.try_recv().ok().map(Held)
    }

    /// Drops all that waits and says how many unrolls that were.
    #[must_use]
    pub fn clear(&self) -> u64 {
        self.receiver.try_iter().map(|_| 1).sum()
    }

    /// Share of the places that are taken, 0 to 1, but for those of unrolls that are held.
    #[must_use]
    pub fn fill(&self) -> f64 {
        self.share(self.receiver.len())
    }

    /// The same of so many unrolls.
    #[must_use]
    pub fn share(&self, unrolls: usize) -> f64 {
        unrolls as f64 / self.capacity_unrolls.max(1) as f64
    }
}
