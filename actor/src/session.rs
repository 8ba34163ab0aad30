//! The life of an actor towards its learner, as a pure state machine: events and the time go in, actions come out.
//!
//! It decides when an unroll may be begun, what is sent and sent again, what is settled, and when to say goodbye. It
//! knows no socket, no clock and no tensor; an unroll is an opaque payload.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use springbok_common::{
    ids::{RunId, UnrollSequence},
    reject::Verdict,
    version::LearnerEpoch,
};

/// How long a leaving actor waits for the learner to take its last unrolls and its goodbye.
pub const GOODBYE_GRACE: Duration = Duration::from_secs(3);

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No stream to the learner, for the first time or after one was lost.
    Joining,
    /// Unrolls go up, acknowledgements come down.
    Streaming,
    /// The goodbye is said; nothing more is sent.
    Draining,
    /// Over.
    Done,
}

/// One life of a learner: what an unroll must have been made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnerLife {
    /// The training run.
    pub run_id: RunId,
    /// The learner's start within the run.
    pub epoch: LearnerEpoch,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event<P> {
    /// A stream to this life of the learner is open.
    Joined {
        /// Whom the actor joined.
        life: LearnerLife,
        /// Unrolls that may be sent and not acknowledged.
        outbox_unrolls: usize,
        /// In lock-step, the unrolls that are made each time parameters arrive.
        unrolls_per_snapshot: Option<NonZeroU32>,
    },
    /// Verified parameters of this life of the learner have arrived, or a line over which it chooses actions is open.
    Parameters(LearnerLife),
    /// The unroll that [`Action::Begin`] asked for is complete.
    Finished {
        /// Its number, as asked for.
        sequence: UnrollSequence,
        /// The life of the learner whose parameters made it.
        life: LearnerLife,
        /// The unroll.
        payload: P,
    },
    /// The unroll that [`Action::Begin`] asked for will not come: what made it is lost.
    Abandoned,
    /// The learner settled every unroll up to `through`; `verdict` is about that one.
    Acknowledged {
        /// Number of the last settled unroll.
        through: UnrollSequence,
        /// What became of it.
        verdict: Verdict,
    },
    /// The stream ended or broke.
    Disconnected,
    /// Leave: the learner drains, or this process was asked to stop.
    Stop,
    /// Time has passed.
    Tick,
}

/// What to do now, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<P> {
    /// Make the next unroll. There is never more than one in the making.
    Begin {
        /// The number it gets.
        sequence: UnrollSequence,
        /// How long it had to wait for a place in the outbox.
        blocked: Duration,
    },
    /// Send this unroll.
    Send(P),
    /// Say goodbye; nothing follows.
    Goodbye {
        /// Number of the last unroll that was produced for this life of the learner; `None` if none was.
        final_sequence: Option<UnrollSequence>,
    },
}

/// What a session has seen, in unrolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Completed, whatever became of them.
    pub produced: u64,
    /// Refused by the learner.
    pub rejected: u64,
    /// Thrown away here, because the learner they were made for is gone.
    pub dropped: u64,
    /// Streams opened after the first.
    pub reconnects: u64,
}

/// The state machine. `P` is an unroll as it goes over the wire; cloning it must be cheap.
#[derive(Debug)]
pub struct Session<P> {
    phase: Phase,
    life: Option<LearnerLife>,
    capacity: usize,
    /// Whether parameters of `life` are at hand.
    ready: bool,
    /// In lock-step, what the arrival of parameters allows.
    unrolls_per_snapshot: Option<NonZeroU32>,
    /// Of these, the unrolls not yet begun.
    allowance: u32,
    /// Complete and not acknowledged, ascending.
    outbox: VecDeque<(UnrollSequence, P)>,
    /// The number of the unroll in the making, and for which life of the learner it was begun.
    in_making: Option<(UnrollSequence, Option<LearnerLife>)>,
    /// The last number for this life of the learner: each is told of its own unrolls only, so that none counts those of
    /// another as lost.
    last_produced: Option<UnrollSequence>,
    /// Since when the next unroll has been waiting for a place in the outbox.
    blocked_since: Option<Duration>,
    goodbye_deadline: Option<Duration>,
    joined: bool,
    tally: Tally,
}

impl<P: Clone> Default for Session<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Clone> Session<P> {
    /// An actor that has not joined yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Joining,
            life: None,
            capacity: 0,
            ready: false,
            unrolls_per_snapshot: None,
            allowance: 0,
            outbox: VecDeque::new(),
            in_making: None,
            last_produced: None,
            blocked_since: None,
            goodbye_deadline: None,
            joined: false,
            tally: Tally::default(),
        }
    }

    /// Takes one event that happened at `now` (any steady clock) and says what to do.
    pub fn handle(&mut self, now: Duration, event: Event<P>) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        match event {
            Event::Joined {
                life,
                outbox_unrolls,
                unrolls_per_snapshot,
            } => {
                self.unrolls_per_snapshot = unrolls_per_snapshot;
                self.join(life, outbox_unrolls, &mut actions);
            }
            Event::Parameters(life) => self.receive_parameters(life),
            Event::Finished {
                sequence,
                life,
                payload,
            } => self.finish(sequence, life, payload, &mut actions),
            Event::Abandoned => self.in_making = None,
            Event::Acknowledged { through, verdict } => self.settle(through, verdict),
            Event::Disconnected => self.disconnect(),
            Event::Stop => self.stop(now, &mut actions),
            Event::Tick => {}
        }
        if self
            .goodbye_deadline
            .is_some_and(|deadline| now >= deadline)
        {
            self.phase = Phase::Done;
        }
        self.begin_if_allowed(now, &mut actions);
        actions
    }

    /// Where the actor is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Unrolls that are complete and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.outbox.len()
    }

    /// When a draining session gives up waiting; `None` before.
    #[must_use]
    pub fn goodbye_deadline(&self) -> Option<Duration> {
        self.goodbye_deadline
    }

    /// What happened so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn join(&mut self, life: LearnerLife, outbox_unrolls: usize, actions: &mut Vec<Action<P>>) {
        if self.phase != Phase::Joining {
            return;
        }
        self.phase = Phase::Streaming;
        self.tally.reconnects += u64::from(self.joined);
        self.joined = true;
        if self.life != Some(life) {
            // A new life of the learner could not place unrolls made for the last one: their lag is undefined.
            self.tally.dropped += self.outbox.len() as u64;
            self.outbox.clear();
            self.ready = false;
            self.blocked_since = None;
            self.last_produced = None;
            self.life = Some(life);
        }
        self.capacity = outbox_unrolls;
        let unsettled = self.outbox.iter();
        actions.extend(unsettled.map(|(_, payload)| Action::Send(payload.clone())));
    }

    fn receive_parameters(&mut self, life: LearnerLife) {
        if self.life == Some(life) {
            self.ready = true;
            self.allowance = self.unrolls_per_snapshot.map_or(0, NonZeroU32::get);
        }
    }

    fn finish(
        &mut self,
        sequence: UnrollSequence,
        life: LearnerLife,
        payload: P,
        actions: &mut Vec<Action<P>>,
    ) {
        let Some((_, begun_for)) = self.in_making.filter(|(number, _)| *number == sequence) else {
            return;
        };
        self.in_making = None;
        if matches!(self.phase, Phase::Draining | Phase::Done) {
            // It came after the goodbye, which did not count it.
            return;
        }
        self.tally.produced += 1;
        if self.life != Some(life) || self.life != begun_for {
            self.tally.dropped += 1;
            return;
        }
        self.last_produced = Some(sequence);
        if self.phase == Phase::Streaming {
            actions.push(Action::Send(payload.clone()));
        }
        self.outbox.push_back((sequence, payload));
    }

    fn settle(&mut self, through: UnrollSequence, verdict: Verdict) {
        let settled = self
            .outbox
            .partition_point(|(sequence, _)| *sequence <= through);
        if settled > 0 && matches!(verdict, Verdict::Rejected(_)) {
            self.tally.rejected += 1;
        }
        self.outbox.drain(..settled);
    }

    fn disconnect(&mut self) {
        match self.phase {
            Phase::Streaming => self.phase = Phase::Joining,
            Phase::Draining => self.phase = Phase::Done,
            Phase::Joining | Phase::Done => {}
        }
    }

    fn stop(&mut self, now: Duration, actions: &mut Vec<Action<P>>) {
        match self.phase {
            Phase::Joining => self.phase = Phase::Done,
            Phase::Streaming => {
                self.phase = Phase::Draining;
                self.goodbye_deadline = Some(now + GOODBYE_GRACE);
                actions.push(Action::Goodbye {
                    final_sequence: self.last_produced,
                });
            }
            Phase::Draining | Phase::Done => {}
        }
    }

    /// Asks for the next unroll once there is a place for it: a full outbox makes the environments wait, so that
    /// no stale data is made.
    fn begin_if_allowed(&mut self, now: Duration, actions: &mut Vec<Action<P>>) {
        if self.in_making.is_some() || matches!(self.phase, Phase::Draining | Phase::Done) {
            return;
        }
        if self.outbox.len() >= self.capacity {
            if self.joined {
                self.blocked_since.get_or_insert(now);
            }
            return;
        }
        if !self.ready || self.phase != Phase::Streaming {
            return;
        }
        if self.unrolls_per_snapshot.is_some() {
            let Some(left) = self.allowance.checked_sub(1) else {
                return;
            };
            self.allowance = left;
        }
        let sequence = self
            .last_produced
            .map_or(UnrollSequence::FIRST, UnrollSequence::next);
        self.in_making = Some((sequence, self.life));
        let blocked = self.blocked_since.take();
        actions.push(Action::Begin {
            sequence,
            blocked: blocked.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        });
    }
}

#[cfg(test)]
mod tests;
