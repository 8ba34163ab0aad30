//! Python environments in the one form that rollouts know. The environments are in `tests/fixtures/python`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod python_common;

use python_common::{Seen, options, settings, settings_with_packages, step, try_step, vector};
use springbok_actor::{
    python::{self, PythonVector},
    vector::VectorEnvironment as _,
};
use springbok_common::{
    arrays::{ActionsRef, ElementType, ElementsRef},
    spec::ActionSpec,
    step::StepOutcome::{Continued, LifeLost, Terminated, Truncated, Void},
};

/// What every way to reset in the step of the end looks like.
fn ends_in_the_same_step(mut vector: PythonVector) {
    assert_eq!(
        vector.observations(),
        ElementsRef::F32(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    );
    step(&mut vector, &[0; 4]);
    assert_eq!(
        step(&mut vector, &[0, 1, 2, 3]),
        Seen {
            rewards: vec![2.0; 4],
            // Both flags at once mean terminated.
            outcomes: vec![Continued, Terminated, Truncated, Terminated],
            finals: vec![(2, vec![1.0, 2.0])],
            episodes: vec![(3.0, 2); 3],
            observations: vec![1.0, 2.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0],
        }
    );
    assert_eq!(
        step(&mut vector, &[2, 0, 2, 0]),
        Seen {
            rewards: vec![3.0, 1.0, 1.0, 1.0],
            outcomes: vec![Truncated, Continued, Truncated, Continued],
            finals: vec![(0, vec![1.0, 3.0]), (2, vec![2.0, 1.0])],
            episodes: vec![(6.0, 3), (1.0, 1)],
            observations: vec![2.0, 0.0, 2.0, 1.0, 3.0, 0.0, 2.0, 1.0],
        }
    );
}

#[test]
fn single_environments_are_reset_in_the_step_that_ends_them() {
    ends_in_the_same_step(vector("py:scripted:scripted", "", &[0; 4]));
}

#[test]
fn vectors_that_reset_in_the_same_step_or_are_told_to_look_alike() {
    if settings_with_packages().is_none() {
        return;
    }
    for mode in ["samestep", "disabled"] {
        ends_in_the_same_step(vector(&format!("py:scripted_vectors:{mode}"), "", &[0; 4]));
    }
}

#[test]
fn the_row_in_which_a_vector_resets_is_void() {
    if settings_with_packages().is_none() {
        return;
    }
    let mut vector = vector("py:scripted_vectors:nextstep", "", &[0; 4]);
    step(&mut vector, &[0; 4]);
    let ends = step(&mut vector, &[0, 1, 2, 3]);
    assert_eq!(
        ends.outcomes,
        [Continued, Terminated, Truncated, Terminated]
    );
    assert_eq!(ends.finals, [(2, vec![1.0, 2.0])]);
    assert_eq!(ends.episodes, [(3.0, 2); 3]);
    // The state at the end stays for one more row, in which the action counts for nothing.
    assert_eq!(ends.observations, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    assert_eq!(
        step(&mut vector, &[2, 2, 2, 2]),
        Seen {
            rewards: vec![3.0, 0.0, 0.0, 0.0],
            outcomes: vec![Truncated, Void, Void, Void],
            finals: vec![(0, vec![1.0, 3.0])],
            episodes: vec![(6.0, 3)],
            observations: vec![1.0, 3.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0],
        }
    );
    let after = step(&mut vector, &[0, 1, 0, 0]);
    assert_eq!(after.outcomes, [Void, Terminated, Continued, Continued]);
    assert_eq!(after.rewards, [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(after.episodes, [(1.0, 1)]);
}

#[test]
fn a_time_limit_truncates_unless_the_step_terminates() {
    let mut vector = vector("py:scripted:scripted", "time_limit = 2", &[0; 2]);
    assert_eq!(vector.spec().episode_steps_max, Some(2));
    step(&mut vector, &[0, 0]);
    let seen = step(&mut vector, &[0, 1]);
    assert_eq!(seen.outcomes, [Truncated, Terminated]);
    assert_eq!(seen.finals, [(0, vec![1.0, 2.0])]);
}

#[test]
fn a_lost_life_does_not_end_the_episode() {
    let mut cut = vector("py:scripted:Lives", "life_loss = true", &[0]);
    let mut whole = vector("py:scripted:Lives", "", &[0]);
    let outcomes = [0, 1, 0, 1, 1].map(|action| {
        assert_ne!(step(&mut whole, &[action]).outcomes, [LifeLost]);
        let seen = step(&mut cut, &[action]);
        assert_eq!(seen.episodes.len(), usize::from(seen.outcomes[0].is_end()));
        seen.outcomes[0]
    });
    assert_eq!(
        outcomes,
        [Continued, LifeLost, Continued, Terminated, LifeLost]
    );
}

#[test]
fn nested_observations_become_one_row_with_a_layout() {
    let mut vector = vector("py:scripted:Echo", "", &[0, 0]);
    let observation = &vector.spec().observation;
    assert_eq!(observation.element, ElementType::F32);
    assert_eq!(
        observation.to_string(),
        "Box(-1..1, [12], float32) = a[2, 1] + b[3] + c.x[2] + c.y[5]"
    );
    assert_eq!(vector.spec().action, ActionSpec::MultiDiscrete(vec![2, 3]));
    let seen = step(&mut vector, &[0, 1, 1, 2]);
    assert_eq!(
        seen.observations,
        [
            [0.5, -0.25, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0],
            [0.5, -0.25, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        ]
        .concat()
    );
}

#[test]
fn masks_follow_the_state() {
    let mut vector = vector("py:scripted:Echo", "", &[0, 0]);
    assert!(vector.spec().action_mask);
    let (even, odd) = ([1, 0, 1, 1, 0], [1, 1, 1, 1, 1]);
    assert_eq!(vector.action_masks(), [even, even].concat());
    step(&mut vector, &[0; 4]);
    assert_eq!(vector.action_masks(), [odd, odd].concat());
}

#[test]
fn continuous_actions_arrive_as_they_are_and_unbounded_spaces_stay_so() {
    let mut vector = vector("py:scripted:Torque", "", &[7, 9]);
    let spec = vector.spec();
    assert_eq!(spec.observation.bounds, [-10.0, f32::INFINITY]);
    let bounds = |bound| vec![bound; 2];
    let (low, high) = (bounds(-2.0), bounds(2.0));
    assert_eq!(spec.action, ActionSpec::Box { low, high });
    let actions = ActionsRef::Values(&[0.1, -2.0, 1.5, 0.0]);
    let seen = try_step(&mut vector, actions).unwrap();
    assert_eq!(seen.observations, [0.1, -2.0, 7.0, 1.5, 0.0, 9.0]);
}

#[test]
fn actions_begin_where_the_space_says_and_bytes_stay_bytes() {
    let mut vector = vector("py:scripted:Offset", "", &[0; 3]);
    step(&mut vector, &[0, 1, 2]);
    assert_eq!(vector.observations(), ElementsRef::U8(&[99, 100, 101]));
}

#[test]
fn seeds_are_derived_and_repeatable() {
    let begin = |seed| {
        let table = options("");
        let vector = PythonVector::new("py:scripted:Torque", &table, &settings(), 3, seed);
        vector.unwrap().observations().to_f32()
    };
    assert_eq!(begin(1), begin(1));
    assert_ne!(begin(1), begin(2));
    let once = begin(1);
    assert!(once[2] != once[5] && once[5] != once[8], "{once:?}");
}

#[test]
fn a_specification_can_be_had_without_a_vector() {
    let spec = |id: &str, text: &str| python::spec(id, &options(text), &settings());
    let echo = spec("py:scripted:Echo", "").unwrap();
    assert_eq!(echo.id, "py:scripted:Echo");
    assert_eq!(echo.mask_len(), 5);

    let fault = |id: &str, text: &str| spec(id, text).unwrap_err().to_string();
    let listed = fault("py:scripted:scripted", "speed = 2");
    assert_eq!(
        listed,
        "environment `py:scripted:scripted` has no option `speed`; it has time_limit, life_loss, autoreset and \
         time_limit_of_its_own"
    );
    assert_eq!(
        fault("py:scripted:scripted", "life_loss = 1"),
        "option `life_loss` of environment `py:scripted:scripted` is 1, but must be true or false"
    );
    assert!(fault("py:scripted:speaks", "").contains("must be built from Discrete"));
    assert!(fault("py:scripted:absent", "").contains("the module `scripted` has no `absent`"));
}
