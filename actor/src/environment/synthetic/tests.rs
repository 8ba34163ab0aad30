use springbok_common::{
    arrays::{ElementType, Elements},
    spec::ActionSpec,
    step::StepOutcome::{Continued, LifeLost, Terminated, Truncated},
};

use super::*;
use crate::environment::conformance;

fn made(options: &str) -> Result<Synthetic, EnvironmentError> {
    Synthetic::from_options(&options.parse().unwrap())
}

fn row(environment: &Synthetic) -> Elements {
    let observation = &environment.spec().observation;
    Elements::zeros(observation.element, observation.len())
}

/// Outcomes of `steps` steps from a reset.
fn outcomes(environment: &mut Synthetic, steps: usize) -> Vec<StepOutcome> {
    let mut row = row(environment);
    environment.reset(Some(1), row.as_mut());
    let mut step = || environment.step(ActionsRef::Indices(&[0]), row.as_mut());
    (0..steps).map(|_| step().outcome).collect()
}

#[test]
fn steps_take_the_time_and_give_the_reward_that_was_asked_for() {
    for wait in ["busy", "sleep"] {
        let options = format!("reward = -2\nstep_us = 300\nwait = \"{wait}\"");
        let mut synthetic = made(&options).unwrap();
        let mut row = row(&synthetic);
        synthetic.reset(Some(1), row.as_mut());
        let start = Instant::now();
        for _ in 0..3 {
            let step = synthetic.step(ActionsRef::Indices(&[0]), row.as_mut());
            assert_eq!(step.reward, -2.0);
        }
        assert!(start.elapsed() >= Duration::from_micros(900));
    }
}

#[test]
fn episodes_end_the_way_that_was_asked_for() {
    let ends = |options: &str| outcomes(&mut made(options).unwrap(), 5);
    let lives = "episode_length = 5\nlife_steps = 2";
    let expected = [Continued, LifeLost, Continued, LifeLost];
    assert_eq!(ends(lives), [&expected[..], &[Terminated]].concat());
    let cut = format!("{lives}\nend = \"truncated\"");
    assert_eq!(ends(&cut)[4], Truncated);
    let limit = format!("{lives}\nend = \"time_limit\"");
    assert_eq!(ends(&limit)[4], Continued);
    assert_eq!(made(&limit).unwrap().spec().episode_steps_max, Some(5));
    assert_eq!(made(&cut).unwrap().spec().episode_steps_max, None);
}

#[test]
fn every_space_can_be_had_and_conforms() {
    let spec = |options: &str| {
        let mut synthetic = made(options).unwrap();
        conformance::check(&mut synthetic, 0..3, 50).unwrap();
        synthetic.spec().clone()
    };
    let image = spec("observation_shape = [2, 9, 7]\nelement = \"uint8\"\nactions = 6");
    assert_eq!(image.observation.shape, [2, 9, 7]);
    assert_eq!(image.observation.element, ElementType::U8);
    assert_eq!(image.action, ActionSpec::Discrete(6));
    let heads =
        spec("action_kind = \"multi_discrete\"\nactions = 3\naction_len = 4\naction_mask = true");
    assert_eq!(heads.action, ActionSpec::MultiDiscrete(vec![3; 4]));
    assert_eq!(heads.mask_len(), 12);
    let values =
        spec("observation_len = 7\naction_kind = \"box\"\naction_len = 3\nepisode_length = 1");
    assert_eq!((values.action.len(), values.observation.len()), (3, 7));
    // A head of one action has nothing to forbid.
    spec("actions = 1\naction_mask = true");
}

#[test]
fn noise_differs_between_seeds_and_steps() {
    for element in ["float32", "uint8"] {
        let options = format!("observation_len = 9\nelement = \"{element}\"");
        let mut synthetic = made(&options).unwrap();
        let mut rows = [row(&synthetic), row(&synthetic), row(&synthetic)];
        synthetic.reset(Some(1), rows[0].as_mut());
        synthetic.step(ActionsRef::Indices(&[0]), rows[1].as_mut());
        synthetic.reset(Some(2), rows[2].as_mut());
        let [first, later, other] = rows.each_ref().map(|row| row.slice(1..9).to_f32());
        for (left, right) in [(&first, &later), (&first, &other)] {
            let equal = left.iter().zip(right).filter(|(l, r)| l == r).count();
            assert!(equal < 4, "{left:?} {right:?}");
        }
    }
}

#[test]
fn masks_forbid_one_action_of_each_head_and_change() {
    let mut synthetic = made("actions = 5\naction_mask = true").unwrap();
    let mut row = row(&synthetic);
    synthetic.reset(Some(1), row.as_mut());
    let mut forbidden = [false; 5];
    for _ in 0..60 {
        let mut mask = [9; 5];
        synthetic.action_mask(&mut mask);
        assert_eq!(
            mask.iter().map(|&allowed| u32::from(allowed)).sum::<u32>(),
            4
        );
        forbidden[mask.iter().position(|&allowed| allowed == 0).unwrap()] = true;
        synthetic.step(ActionsRef::Indices(&[0]), row.as_mut());
    }
    assert_eq!(forbidden, [true; 5]);
}

#[test]
fn it_crashes_and_stalls_when_asked() {
    let mut synthetic = made("crash_after = 7\nepisode_length = 3").unwrap();
    outcomes(&mut synthetic, 3);
    outcomes(&mut synthetic, 3);
    let crashed = std::panic::catch_unwind(move || outcomes(&mut synthetic, 1));
    let message = crashed.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(*message, "crashed after 7 steps, as asked");

    let mut synthetic = made("stall_after = 2\nstall_ms = 30").unwrap();
    let start = Instant::now();
    outcomes(&mut synthetic, 2);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn values_out_of_range_are_refused_with_the_limit() {
    let message = |options| made(options).err().unwrap().to_string();
    assert_eq!(
        message("observation_len = 0"),
        "option `observation_len` of environment `Synthetic` is 0, but must be an integer from 1 to 1048576"
    );
    assert!(message("step_us = 10000001").ends_with("from 0 to 10000000"));
    assert!(message("episode_length = 0").ends_with("from 1 to 1000000000"));
    assert!(message("reward = inf").ends_with("a number from -1000000 to 1000000"));
    assert!(message("wait = \"idle\"").ends_with("one of \"busy\" and \"sleep\""));
    assert!(
        message("observation_len = 3\nobservation_shape = [3]")
            .ends_with("must be left out where `observation_shape` is given")
    );
    assert!(
        message("rewards = 1")
            .starts_with("environment `Synthetic` has no option `rewards`; it has")
    );
}
