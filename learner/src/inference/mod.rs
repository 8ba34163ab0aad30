//! Acting for the actors (`actor.inference = "central"`): the shape of SEED RL (Espeholt et al. 2020, arXiv 1910.06591).
//! Actors send observations; a thread here puts those of several actors into one batch, acts with the newest parameters,
//! and keeps each environment's generator and memory.

pub mod batcher;
mod meter;
mod policy;
mod seat;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use burn::tensor::Device;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use springbok_common::{
    acting::{ActedParts, Observed},
    spec::NetworkSpec,
    version::PolicyVersion,
};
use tokio::sync::oneshot;

use self::{
    batcher::{BatchRules, Batcher, Next},
    policy::BatchPolicy,
};
pub use self::{
    meter::{InferenceMeter, InferenceSummary},
    seat::Seat,
};
use crate::{
    device::{self, DeviceFailed},
    error::LearnerError,
    publisher::Publications,
};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActFault {
    /// What the policy says about an action is not finite.
    #[error("the output of version {version} of the policy is not finite")]
    NonFinite {
        /// The version.
        version: PolicyVersion,
    },
    /// The network gave something else than numbers.
    #[error("the network's output cannot be read: {0}")]
    Output(String),
    /// The thread has ended.
    #[error("the learner does not act any more")]
    Gone,
    /// More lines ask than there may be.
    #[error("too many actors ask at one time")]
    Full,
}

/// A request to act.
struct Ask {
    observed: Observed,
    seat: Seat,
    arrived: Instant,
    answer: oneshot::Sender<Answer>,
}

type Answer = (Seat, Result<ActedParts, ActFault>);

/// Where lines to actors ask. The thread behind it ends with the last copy.
#[derive(Debug, Clone)]
pub struct Desk {
    asks: Sender<Ask>,
    lines: Arc<AtomicUsize>,
}

/// The line to one actor: it has at most one request under way.
#[derive(Debug)]
pub struct Line {
    desk: Desk,
    seat: Option<Seat>,
}

/// A desk that is open.
#[derive(Debug)]
pub struct Opened {
    /// Where lines ask.
    pub desk: Desk,
    /// What is counted.
    pub meter: InferenceMeter,
    /// When the thread behind it ends.
    pub end: End,
}

/// The end of the thread behind a desk.
#[derive(Debug)]
pub struct End(oneshot::Receiver<Result<(), DeviceFailed>>);

impl End {
    /// Why the thread ended while there was still somebody who could ask; waits forever if it does not.
    pub async fn failed(self) -> LearnerError {
        match self.0.await {
            // Nobody can ask any more, so the run is over in any case.
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(failed)) => failed.into(),
            Err(_) => LearnerError::InferenceDied,
        }
    }
}

impl Desk {
    /// Starts the thread, which acts on `device`, called `device_name`, with what is published, for at most `lines_max`
    /// lines.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        network: &NetworkSpec,
        (device, device_name): (Device, String),
        rules: BatchRules,
        lines_max: usize,
        publications: Publications,
    ) -> io::Result<Opened> {
        // Each line has one request under way, so this is never full.
        let (asks, incoming) = bounded(lines_max);
        let lines = Arc::new(AtomicUsize::new(0));
        let desk = Self {
            asks,
            lines: Arc::clone(&lines),
        };
        let meter = InferenceMeter::default();
        let clerk = Clerk {
            policy: BatchPolicy::new(network, device.clone()),
            batcher: Batcher::new(rules),
            incoming,
            lines,
            publications,
            meter: meter.clone(),
        };
        let (ended, end) = oneshot::channel();
        thread::Builder::new()
            .name("inference".to_owned())
            .spawn(move || {
                let end = device::guard(&device, &device_name, || clerk.work());
                // Nobody waits for it once the run is over.
                let _ = ended.send(end);
            })?;
        Ok(Opened {
            desk,
            meter,
            end: End(end),
        })
    }

    /// Opens a line for the environments of `seat`.
    #[must_use]
    pub fn line(&self, seat: Seat) -> Line {
        self.lines.fetch_add(1, Ordering::Relaxed);
        Line {
            desk: self.clone(),
            seat: Some(seat),
        }
    }
}

impl Line {
    /// What the policy does in the environments that `observed` shows, which arrived at `arrived`.
    ///
    /// # Errors
    /// An [`ActFault`]; the line is of no use after it.
    pub async fn ask(
        &mut self,
        observed: Observed,
        arrived: Instant,
    ) -> Result<ActedParts, ActFault> {
        let seat = self.seat.take().ok_or(ActFault::Gone)?;
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            observed,
            seat,
            arrived,
            answer,
        };
        self.desk.asks.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => ActFault::Full,
            TrySendError::Disconnected(_) => ActFault::Gone,
        })?;
        let (seat, acted) = answered.await.map_err(|_| ActFault::Gone)?;
        self.seat = Some(seat);
        acted
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.desk.lines.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who sits behind the desk.
struct Clerk {
    policy: BatchPolicy,
    batcher: Batcher<Ask>,
    incoming: Receiver<Ask>,
    lines: Arc<AtomicUsize>,
    publications: Publications,
    meter: InferenceMeter,
}

impl Clerk {
    /// Until nobody can ask any more.
    fn work(mut self) {
        loop {
            while let Ok(ask) = self.incoming.try_recv() {
                self.take_in(ask);
            }
            let lines = self.lines.load(Ordering::Relaxed);
            let ask = match self.batcher.next(Instant::now(), lines) {
                Next::Act(asks) => {
                    self.act(asks);
                    continue;
                }
                Next::Wait(due) => match self.incoming.recv_deadline(due) {
                    Ok(ask) => ask,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                Next::Rest => match self.incoming.recv() {
                    Ok(ask) => ask,
                    Err(_) => return,
                },
            };
            self.take_in(ask);
        }
    }

    fn take_in(&mut self, ask: Ask) {
        let (rows, arrived) = (ask.seat.generators.len(), ask.arrived);
        self.batcher.arrive(ask, rows, arrived);
    }

    fn act(&mut self, mut asks: Vec<Ask>) {
        self.take_up_newest();
        let begun = Instant::now();
        let acted = self.policy.act(&mut asks);
        let rows = asks.iter().map(|ask| ask.seat.generators.len()).sum();
        let waits = asks
            .iter()
            .map(|ask| begun.saturating_duration_since(ask.arrived));
        self.meter.acted(rows, waits, begun.elapsed());
        for (ask, acted) in asks.into_iter().zip(acted) {
            // Whoever asked may be gone.
            let _ = ask.answer.send((ask.seat, acted));
        }
    }

    /// The newest parameters, if there are others than those that are loaded.
    fn take_up_newest(&mut self) {
        if !self.publications.has_changed().unwrap_or(false) {
            return;
        }
        let shelf = self.publications.borrow_and_update().clone();
        let Some(shelf) = shelf else { return };
        if let Err(error) = self.policy.load(shelf.newest()) {
            // Made by this very process for this very network.
            tracing::error!(%error, "the newest parameters cannot be acted with");
        }
    }
}
