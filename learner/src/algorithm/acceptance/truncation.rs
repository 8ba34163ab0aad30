//! D: episodes that are cut off are worth V(final observation), not 0 and not the next episode.

use springbok_common::step::StepOutcome;

use super::{Walk, fit};
use crate::algorithm::vtrace::VtraceConfig;

/// Rows per unroll: no multiple of any episode length here, so that ends fall on every row.
const ROWS: usize = 16;
const UPDATES: usize = 600;

fn config(lambda: f64) -> VtraceConfig {
    VtraceConfig {
        gamma: 0.9,
        lambda,
        ..VtraceConfig::default()
    }
}

/// One column that walks through `step(clock) -> (state, reached, reward, outcome)`.
fn unroll(clock: &mut usize, step: impl Fn(usize) -> (usize, usize, f32, StepOutcome)) -> Walk {
    let mut walk = Walk {
        columns: 1,
        ..Walk::default()
    };
    for _ in 0..ROWS {
        let (state, reached, reward, outcome) = step(*clock);
        walk.push(state, reached, reward, outcome, 0.0);
        *clock += 1;
    }
    walk
}

/// A table critic trained on unroll after unroll.
fn train(
    states: usize,
    lambda: f64,
    step: impl Fn(usize) -> (usize, usize, f32, StepOutcome),
) -> Vec<f32> {
    let mut critic = vec![0.0_f32; states];
    let mut clock = 0;
    for _ in 0..UPDATES {
        let walk = unroll(&mut clock, &step);
        let targets = walk.vtrace(&critic, &config(lambda)).targets;
        fit(&mut critic, &walk.states, &targets, 0.1);
    }
    critic
}

/// `outcome` at every `limit`-th step.
fn every(limit: usize, clock: usize, outcome: StepOutcome) -> StepOutcome {
    match (clock + 1) % limit {
        0 => outcome,
        _ => StepOutcome::Continued,
    }
}

#[test]
fn d1_a_time_limit_does_not_end_the_world() {
    let world = |end: StepOutcome| move |clock| (0, 0, 1.0, every(10, clock, end));
    for lambda in [0.0, 0.95, 1.0] {
        let value = train(1, lambda, world(StepOutcome::Truncated))[0];
        assert!((value - 10.0).abs() < 0.2, "lambda {lambda}: {value}");
        // The mistake that this test is there for: the cut taken for an end.
        let mistaken = train(1, lambda, world(StepOutcome::Terminated))[0];
        assert!(
            (3.5..6.0).contains(&mistaken),
            "lambda {lambda}: {mistaken}"
        );
    }
}

/// Two kinds of episodes by turns, 5 steps each: kind 0 pays nothing, kind 1 pays 1 per step.
fn two_kinds(clock: usize) -> (usize, usize, f32, StepOutcome) {
    let kind = (clock / 5) % 2;
    (
        kind,
        kind,
        kind as f32,
        every(5, clock, StepOutcome::Truncated),
    )
}

#[test]
fn d2_a_truncated_episode_does_not_see_the_next_one() {
    for lambda in [0.0, 0.95, 1.0] {
        let critic = train(2, lambda, two_kinds);
        assert!(critic[0].abs() < 0.2, "lambda {lambda}: {critic:?}");
        assert!(
            (critic[1] - 10.0).abs() < 0.2,
            "lambda {lambda}: {critic:?}"
        );
        let walk = unroll(&mut 0, two_kinds);
        let advantages = walk.vtrace(&critic, &config(lambda)).advantages;
        for (state, advantage) in walk.states.iter().zip(advantages) {
            assert!(
                *state == 1 || advantage.abs() < 0.1,
                "lambda {lambda}: {advantage}"
            );
        }
    }
}

#[test]
fn d3_a_terminated_episode_is_worth_what_is_left_of_it() {
    // State k - 1 has k steps to go, each of which pays 1.
    let countdown = |clock: usize| {
        let state = 4 - clock % 5;
        (
            state,
            state.saturating_sub(1),
            1.0,
            every(5, clock, StepOutcome::Terminated),
        )
    };
    for lambda in [0.0, 0.95, 1.0] {
        let critic = train(5, lambda, countdown);
        for (state, value) in critic.iter().enumerate() {
            let to_go = i32::try_from(state).expect("small") + 1;
            let expected = (1.0 - 0.9_f32.powi(to_go)) / 0.1;
            assert!(
                (value - expected).abs() < 0.01,
                "lambda {lambda}: {critic:?}"
            );
        }
    }
}
