//! A semaphore and a channel with the interface that the hand-off uses.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use shuttle::{
    future::batch_semaphore::{AcquireError, BatchSemaphore, Fairness},
    sync::{Condvar, Mutex},
};

/// As tokio's: fair, and closed for good.
#[derive(Debug)]
pub(crate) struct Semaphore(BatchSemaphore);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self(BatchSemaphore::new(permits, Fairness::StrictlyFair))
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Whoever looks may be overtaken before it acts.
        shuttle::thread::yield_now();
        self.0.is_closed()
    }

    pub(crate) fn close(&self) {
        self.0.close();
    }

    pub(crate) async fn acquire_owned(
        self: Arc<Self>,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.0.acquire(1).await?;
        Ok(OwnedSemaphorePermit(self))
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct OwnedSemaphorePermit(Arc<Semaphore>);

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        self.0.0.release(1);
    }
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
}

#[derive(Debug)]
struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Channel<T> {
    fn with<R>(&self, act: impl FnOnce(&mut State<T>) -> R) -> R {
        act(&mut self
            .state
            .lock()
            .expect("no thread panics while it holds this"))
    }
}

/// As crossbeam's.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        items: VecDeque::new(),
        capacity,
        senders: 1,
        receivers: 1,
    };
    let channel = Arc::new(Channel {
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Channel<T>>);

/// The item comes back.
#[derive(Debug)]
pub(crate) enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

impl<T> TrySendError<T> {
    #[allow(dead_code, reason = "as crossbeam's")]
    pub(crate) fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Disconnected(item) => item,
        }
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let sent = self.0.with(|state| {
            if state.receivers == 0 {
                Err(TrySendError::Disconnected(item))
            } else if state.items.len() >= state.capacity {
                Err(TrySendError::Full(item))
            } else {
                state.items.push_back(item);
                Ok(())
            }
        });
        self.0.changed.notify_one();
        sent
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.with(|state| state.senders += 1);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.with(|state| state.senders -= 1);
        self.0.changed.notify_all();
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

impl<T> Receiver<T> {
    /// Time does not pass here: no patience looks once, and any other is without end, so that whoever is not woken is
    /// found out.
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        let mut state = self
            .0
            .state
            .lock()
            .expect("no thread panics while it holds this");
        loop {
            match state.items.pop_front() {
                Some(item) => return Ok(item),
                None if state.senders == 0 => return Err(RecvTimeoutError::Disconnected),
                None if patience.is_zero() => return Err(RecvTimeoutError::Timeout),
                None => {}
            }
            state = self
                .0
                .changed
                .wait(state)
                .expect("no thread panics while it holds this");
        }
    }

    pub(crate) fn try_recv(&self) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(Duration::ZERO)
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.with(|state| state.items.len())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.with(|state| state.receivers += 1);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.with(|state| state.receivers -= 1);
    }
}
