//! Laws of the session, by example and over random histories.

use proptest::prelude::*;
use springbok_common::reject::RejectReason;

use super::*;

fn life(epoch: u32) -> LearnerLife {
    LearnerLife {
        run_id: RunId::from_bytes(&[7; 16]).unwrap(),
        epoch: LearnerEpoch(epoch),
    }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn joined(epoch: u32, outbox_unrolls: usize) -> Event<u64> {
    Event::Joined {
        life: life(epoch),
        outbox_unrolls,
        unrolls_per_snapshot: None,
    }
}

fn finished(sequence: u64, epoch: u32) -> Event<u64> {
    Event::Finished {
        sequence: UnrollSequence(sequence),
        life: life(epoch),
        payload: sequence,
    }
}

fn admitted(through: u64) -> Event<u64> {
    Event::Acknowledged {
        through: UnrollSequence(through),
        verdict: Verdict::Admitted,
    }
}

fn begin(sequence: u64, blocked_ms: u64) -> Action<u64> {
    Action::Begin {
        sequence: UnrollSequence(sequence),
        blocked: at(blocked_ms),
    }
}

#[test]
fn a_full_outbox_blocks_before_the_unroll_and_the_wait_is_measured() {
    let mut session = Session::new();
    assert_eq!(session.handle(at(0), joined(1, 1)), []);
    assert_eq!(
        session.handle(at(5), Event::Parameters(life(1))),
        [begin(1, 0)]
    );
    assert_eq!(session.handle(at(10), finished(1, 1)), [Action::Send(1)]);
    assert_eq!(session.handle(at(17), admitted(1)), [begin(2, 7)]);
}

#[test]
fn an_unroll_that_is_lost_in_the_making_is_begun_again_with_its_number() {
    let mut session = Session::new();
    session.handle(at(0), joined(1, 2));
    session.handle(at(0), Event::Parameters(life(1)));
    assert_eq!(
        session.handle(at(1), finished(1, 1)),
        [Action::Send(1), begin(2, 0)]
    );
    // Not before there is somebody to make it with.
    session.handle(at(2), Event::Disconnected);
    assert_eq!(session.handle(at(3), Event::Abandoned), []);
    let again = session.handle(at(4), joined(1, 2));
    assert_eq!(again, [Action::Send(1), begin(2, 0)]);
    // Another life of the learner: its numbers begin anew, when it can act.
    session.handle(at(5), Event::Disconnected);
    assert_eq!(session.handle(at(6), joined(2, 2)), []);
    assert_eq!(session.handle(at(7), Event::Parameters(life(2))), []);
    assert_eq!(session.handle(at(8), Event::Abandoned), [begin(1, 0)]);
    assert_eq!(session.tally().produced, 1);
}

#[test]
fn in_lock_step_each_snapshot_allows_its_unrolls_and_no_more() {
    let mut session = Session::new();
    let per_snapshot = NonZeroU32::new(2);
    let join = Event::Joined {
        life: life(1),
        outbox_unrolls: 9,
        unrolls_per_snapshot: per_snapshot,
    };
    session.handle(at(0), join);
    for round in 0..2 {
        let first = 2 * round + 1;
        assert_eq!(
            session.handle(at(1), Event::Parameters(life(1))),
            [begin(first, 0)]
        );
        let second = session.handle(at(2), finished(first, 1));
        assert_eq!(second, [Action::Send(first), begin(first + 1, 0)]);
        let last = session.handle(at(3), finished(first + 1, 1));
        assert_eq!(last, [Action::Send(first + 1)]);
        assert_eq!(session.handle(at(4), admitted(first + 1)), []);
    }
}

#[test]
fn the_same_learner_gets_the_outbox_again_and_a_new_one_does_not() {
    let mut session = Session::new();
    session.handle(at(0), joined(1, 2));
    session.handle(at(0), Event::Parameters(life(1)));
    assert_eq!(
        session.handle(at(1), finished(1, 1)),
        [Action::Send(1), begin(2, 0)]
    );
    session.handle(at(2), Event::Disconnected);
    assert_eq!(session.handle(at(3), finished(2, 1)), []);
    assert_eq!(
        session.handle(at(4), joined(1, 2)),
        [Action::Send(1), Action::Send(2)]
    );
    session.handle(at(5), Event::Disconnected);
    assert_eq!(session.handle(at(6), joined(2, 2)), []);
    assert_eq!(session.unacknowledged(), 0);
    assert_eq!(session.handle(at(7), Event::Parameters(life(1))), []);
    let actions = session.handle(at(8), Event::Parameters(life(2)));
    assert!(matches!(actions[..], [Action::Begin { sequence, .. }] if sequence.0 == 1));
    let tally = session.tally();
    assert_eq!((tally.dropped, tally.reconnects), (2, 2));
}

#[test]
fn an_unroll_for_a_gone_learner_is_dropped_and_counted() {
    let mut session = Session::new();
    session.handle(at(0), joined(1, 1));
    session.handle(at(0), Event::Parameters(life(1)));
    session.handle(at(1), Event::Disconnected);
    session.handle(at(2), joined(2, 1));
    session.handle(at(3), Event::Parameters(life(2)));
    // The number was never the new one's; nor is it if the parameters of the new one came just in time to make it.
    assert_eq!(session.handle(at(4), finished(1, 1)), [begin(1, 0)]);
    assert_eq!((session.tally().produced, session.tally().dropped), (1, 1));
    session.handle(at(5), Event::Disconnected);
    session.handle(at(6), joined(3, 1));
    session.handle(at(7), Event::Parameters(life(3)));
    assert_eq!(session.handle(at(8), finished(1, 3)), [begin(1, 0)]);
    assert_eq!((session.tally().produced, session.tally().dropped), (2, 2));
}

#[test]
fn goodbye_names_the_last_unroll_and_nothing_follows() {
    let mut session = Session::new();
    session.handle(at(0), joined(1, 2));
    session.handle(at(0), Event::Parameters(life(1)));
    session.handle(at(1), finished(1, 1));
    let goodbye = Action::Goodbye {
        final_sequence: Some(UnrollSequence(1)),
    };
    assert_eq!(session.handle(at(2), Event::Stop), [goodbye]);
    assert_eq!(session.handle(at(3), finished(2, 1)), []);
    assert_eq!(session.handle(at(3), Event::Stop), []);
    assert_eq!(session.handle(at(2001), admitted(1)), []);
    assert_eq!(session.phase(), Phase::Draining);
    assert_eq!(session.handle(at(3002), Event::Tick), []);
    assert_eq!(session.phase(), Phase::Done);
}

#[test]
fn rejections_are_counted_once() {
    let mut session = Session::new();
    session.handle(at(0), joined(1, 1));
    session.handle(at(0), Event::Parameters(life(1)));
    session.handle(at(1), finished(1, 1));
    let rejected = Event::Acknowledged {
        through: UnrollSequence(1),
        verdict: Verdict::Rejected(RejectReason::TooStale),
    };
    session.handle(at(2), rejected.clone());
    session.handle(at(3), rejected);
    assert_eq!(session.tally().rejected, 1);
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Join,
    Restart,
    Parameters,
    Finish,
    Acknowledge,
    Lose,
    Stop,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Join),
        1 => Just(Happening::Restart),
        3 => Just(Happening::Parameters),
        6 => Just(Happening::Finish),
        5 => Just(Happening::Acknowledge),
        2 => Just(Happening::Lose),
        1 => Just(Happening::Stop),
    ]
}

/// The world around a session: one learner at a time, one worker, and a wire that keeps order.
struct World {
    session: Session<u64>,
    capacity: usize,
    epoch: u32,
    connected: bool,
    worker: Option<(u64, u32)>,
    last_begun: u64,
    last_finished: u64,
    /// Complete and not settled, for the present learner.
    unsettled: Vec<u64>,
    /// Sent on the present stream and not acknowledged.
    on_wire: Vec<u64>,
    goodbyes: usize,
}

impl World {
    fn step(&mut self, now: u64, happening: Happening) {
        let mut resend = None;
        let event = match happening {
            Happening::Join if !self.connected => {
                self.connected = true;
                resend = Some(self.unsettled.clone());
                joined(self.epoch, self.capacity)
            }
            Happening::Restart if !self.connected => {
                self.connected = true;
                self.epoch += 1;
                self.unsettled.clear();
                // Each learner is counted for from 1.
                (self.last_begun, self.last_finished) = (0, 0);
                resend = Some(Vec::new());
                joined(self.epoch, self.capacity)
            }
            Happening::Parameters if self.connected => Event::Parameters(life(self.epoch)),
            Happening::Finish => match self.worker.take() {
                Some((sequence, epoch)) => {
                    let alive = self.goodbyes == 0 && self.session.phase() != Phase::Done;
                    if alive && epoch == self.epoch {
                        self.last_finished = sequence;
                        self.unsettled.push(sequence);
                    }
                    finished(sequence, epoch)
                }
                None => Event::Tick,
            },
            Happening::Acknowledge if self.connected && !self.on_wire.is_empty() => {
                let sequence = self.on_wire.remove(0);
                self.unsettled.retain(|&other| other > sequence);
                admitted(sequence)
            }
            Happening::Lose => {
                self.connected = false;
                self.on_wire.clear();
                Event::Disconnected
            }
            Happening::Stop => Event::Stop,
            _ => Event::Tick,
        };
        let alive = matches!(self.session.phase(), Phase::Joining | Phase::Streaming);
        let actions = self.session.handle(at(now), event);
        self.apply(&actions);
        if let (Some(resend), true) = (resend, alive) {
            assert_eq!(self.on_wire, resend, "the outbox goes up again in order");
        }
    }

    fn apply(&mut self, actions: &[Action<u64>]) {
        for action in actions {
            assert_eq!(self.goodbyes, 0, "nothing follows a goodbye");
            match action {
                Action::Begin { sequence, .. } => {
                    assert!(self.worker.is_none(), "one unroll in the making");
                    assert!(
                        self.unsettled.len() < self.capacity,
                        "no unroll without a place"
                    );
                    assert_eq!(sequence.0, self.last_begun + 1, "numbers without gaps");
                    self.last_begun = sequence.0;
                    self.worker = Some((sequence.0, self.epoch));
                }
                Action::Send(sequence) => {
                    assert!(self.connected);
                    assert!(self.on_wire.iter().all(|sent| sent < sequence));
                    self.on_wire.push(*sequence);
                }
                Action::Goodbye { final_sequence } => {
                    let last = final_sequence.map_or(0, |sequence| sequence.0);
                    assert_eq!(last, self.last_finished);
                    self.goodbyes += 1;
                }
            }
        }
        assert!(self.on_wire.len() <= self.capacity);
        assert!(self.session.unacknowledged() <= self.capacity);
    }
}

proptest! {
    #[test]
    fn laws_hold_whatever_happens(
        capacity in 1_usize..5,
        happenings in proptest::collection::vec(happening(), 0..200),
    ) {
        let mut world = World {
            session: Session::new(),
            capacity,
            epoch: 1,
            connected: false,
            worker: None,
            last_begun: 0,
            last_finished: 0,
            unsettled: Vec::new(),
            on_wire: Vec::new(),
            goodbyes: 0,
        };
        for (now, happening) in happenings.into_iter().enumerate() {
            world.step(now as u64, happening);
        }
    }
}
