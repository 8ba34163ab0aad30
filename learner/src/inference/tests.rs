//! Lines that come and go, and what they are told when nobody acts.

use std::time::Duration;

use springbok_common::{
    acting::ObservedParts, arrays::Elements, policy::payload_bytes, unroll::Agreement,
    version::LearnerEpoch,
};

use super::*;
use crate::{publisher::Publisher, testing};

fn observed(agreement: &Agreement) -> Observed {
    let parts = ObservedParts {
        observations: Elements::F32(vec![0.5; 6]),
        action_masks: Vec::new(),
        outcomes: Vec::new(),
        wants_states: false,
    };
    Observed::new(parts, agreement).unwrap()
}

/// A desk whose requests wait as long as this for others.
fn desk(deadline: Duration, payload: Vec<u8>) -> (Agreement, Opened, Publisher) {
    let agreement = testing::agreement();
    assert_eq!(payload.len(), payload_bytes(&agreement.network));
    let layout = springbok_common::policy::layout_fingerprint(&agreement.network);
    let (publisher, publications) = Publisher::new(LearnerEpoch::FIRST, layout, 0);
    publisher.publish(PolicyVersion(3), payload.into());
    let rules = BatchRules {
        rows_max: 64,
        deadline,
    };
    let device = (Device::flex(), "cpu".to_owned());
    let opened = Desk::start(&agreement.network, device, rules, 4, publications).unwrap();
    (agreement, opened, publisher)
}

#[tokio::test]
async fn a_line_that_is_closed_is_not_waited_for() {
    let (agreement, Opened { desk, meter, .. }, _publisher) =
        desk(Duration::from_secs(3600), vec![0; 4 * 47]);
    let seat = |place| Seat::new(&agreement, 1, place, 0);
    let mut stays = desk.line(seat(0));
    // One that never asks, and goes.
    drop(desk.line(seat(1)));
    let acted = stays
        .ask(observed(&agreement), Instant::now())
        .await
        .unwrap();
    assert_eq!(acted.served.newest, PolicyVersion(3));
    assert_eq!(acted.log_probs.len(), 2);
    assert_eq!(meter.summary().unwrap().batches, 1);
}

#[tokio::test]
async fn a_line_that_does_not_ask_is_waited_for_until_the_deadline_and_no_longer() {
    let (agreement, Opened { desk, meter, .. }, _publisher) =
        desk(Duration::from_millis(1), vec![0; 4 * 47]);
    let seat = |place| Seat::new(&agreement, 1, place, 0);
    let mut asks = desk.line(seat(0));
    let _silent = desk.line(seat(1));
    asks.ask(observed(&agreement), Instant::now())
        .await
        .unwrap();
    assert!(meter.summary().unwrap().wait_s >= 0.001);
}

#[tokio::test]
async fn a_policy_that_is_not_finite_gives_no_action_and_its_line_is_of_no_more_use() {
    let payload: Vec<u8> = (0..47).flat_map(|_| f32::NAN.to_le_bytes()).collect();
    let (agreement, Opened { desk, .. }, _publisher) = desk(Duration::ZERO, payload);
    let mut line = desk.line(Seat::new(&agreement, 1, 0, 0));
    let version = PolicyVersion(3);
    let refused = line.ask(observed(&agreement), Instant::now()).await;
    assert_eq!(refused, Err(ActFault::NonFinite { version }));
}

/// Otherwise actors would join again and again, and nobody would hear why.
#[tokio::test]
async fn whoever_runs_the_learner_hears_that_nobody_acts_any_more() {
    let (agreement, Opened { desk, end, .. }, _publisher) = desk(Duration::ZERO, vec![0; 4 * 47]);
    let mut line = desk.line(Seat::new(&agreement, 1, 0, 0));
    // More environments than the seat has: a mistake of this program, which no actor can make.
    let mut more = agreement.clone();
    more.rollout.environments += 1;
    let parts = ObservedParts {
        observations: Elements::F32(vec![0.5; 9]),
        action_masks: Vec::new(),
        outcomes: Vec::new(),
        wants_states: false,
    };
    let wrong = Observed::new(parts, &more).unwrap();
    assert_eq!(line.ask(wrong, Instant::now()).await, Err(ActFault::Gone));
    assert!(matches!(end.failed().await, LearnerError::InferenceDied));
}

#[test]
fn each_opening_of_a_seat_draws_other_numbers_and_only_its_first_those_of_the_actor() {
    use rand::Rng as _;
    let agreement = testing::agreement();
    let mut drawn: Vec<u64> = [(0, 0), (0, 1), (1, 0), (0, 2)]
        .into_iter()
        .flat_map(|(place, opening)| {
            let seat = Seat::new(&agreement, 1, place, opening);
            seat.generators.into_iter().map(|mut one| one.next_u64())
        })
        .collect();
    let all = drawn.len();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!((all, drawn.len()), (8, 8));
}
