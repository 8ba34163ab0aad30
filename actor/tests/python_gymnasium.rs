//! Environments of Gymnasium and ALE, where an interpreter that has them is named.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod python_common;

use python_common::{options, settings_with_packages, step, try_step};
use springbok_actor::{
    environment::{Environment, Registry, conformance::check_vector},
    python::{self, PythonSettings, PythonVector},
    vector::VectorEnvironment as _,
};
use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    step::StepOutcome,
};

fn make(settings: &PythonSettings, id: &str, text: &str, seeds: &[u32]) -> PythonVector {
    PythonVector::with_seeds(id, &options(text), settings, seeds.to_vec()).unwrap()
}

/// Rust's CartPole, which is meant to be Gymnasium's.
struct Twin {
    environment: Box<dyn Environment>,
    row: [f32; 4],
    steps: u32,
}

impl Twin {
    fn begin(seed: u32) -> Self {
        let registry = Registry::built_in();
        let mut environment = registry.make("CartPole-v1", &options("")).unwrap();
        let mut row = [0.0; 4];
        environment.reset(Some(seed.into()), ElementsMut::F32(&mut row));
        Self {
            environment,
            row,
            steps: 0,
        }
    }

    fn step(&mut self, action: u32) -> (f32, StepOutcome) {
        let row = ElementsMut::F32(&mut self.row);
        let step = self.environment.step(ActionsRef::Indices(&[action]), row);
        self.steps += 1;
        let outcome = match step.outcome {
            StepOutcome::Continued if self.steps == 500 => StepOutcome::Truncated,
            outcome => outcome,
        };
        if outcome.is_end() {
            self.steps = 0;
            self.environment
                .reset(None, ElementsMut::F32(&mut self.row));
        }
        (step.reward, outcome)
    }
}

#[test]
fn cart_pole_is_the_same_in_both_languages() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    let seeds = [0, 7, 2_147_483_647];
    let mut vector = make(&settings, "gym:CartPole-v1", "vector = \"sync\"", &seeds);
    let mut twins = seeds.map(Twin::begin);
    let mut ends = 0;
    for time in 0..400_u32 {
        let rows: Vec<f32> = twins.iter().flat_map(|twin| twin.row).collect();
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&vector.observations().to_f32()), bits(&rows), "{time}");
        // Balanced for a while by leaning against the fall, then left to it.
        let actions = twins
            .each_ref()
            .map(|twin| u32::from((twin.row[2] > 0.0) ^ (time % 90 > 60)));
        let seen = step(&mut vector, &actions);
        for (index, twin) in twins.iter_mut().enumerate() {
            let (reward, outcome) = twin.step(actions[index]);
            assert_eq!(
                (seen.rewards[index], seen.outcomes[index]),
                (reward, outcome)
            );
            ends += u32::from(outcome.is_end());
        }
    }
    assert!(ends > 6, "{ends}");
}

#[test]
fn every_way_to_make_a_vector_keeps_the_contract() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    for (id, text, back_end) in [
        ("gym:CartPole-v1", "", "CartPoleVectorEnv"),
        ("gym:CartPole-v1", "vector = \"async\"", "AsyncVectorEnv"),
        (
            "gym:Pendulum-v1",
            "time_limit = 20\ng = 9.81",
            "single environments in turn",
        ),
        ("gym:MinAtar/Breakout-v1", "", "single environments in turn"),
        (
            "gym:FrozenLake-v1",
            "is_slippery = false",
            "single environments in turn",
        ),
        ("gym:Taxi-v4", "", "single environments in turn"),
        ("gym:Blackjack-v1", "", "single environments in turn"),
    ] {
        let mut vector = make(&settings, id, text, &[1, 2, 3]);
        assert_eq!(vector.back_end(), back_end);
        check_vector(&mut vector, 200).unwrap_or_else(|fault| panic!("{id} {text}: {fault}"));
    }
}

#[test]
fn masks_of_a_library_are_found() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    let vector = make(&settings, "gym:Taxi-v4", "", &[1]);
    assert!(vector.spec().action_mask);
    assert_eq!(vector.action_masks().len(), 6);
}

#[test]
fn unknown_ids_and_options_are_told_by_name() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    let fault = |id: &str, text: &str| {
        let error = python::spec(id, &options(text), &settings).unwrap_err();
        error.to_string()
    };
    assert!(fault("gym:CartPoles-v1", "").contains("Gymnasium knows no such environment"));
    assert!(fault("gym:Pendulum-v1", "gravity = 1").contains("has no option `gravity`"));
    assert!(
        fault("gym:Pendulum-v1", "vector = \"library\"").contains("must be \"sync\" or \"async\"")
    );
    assert!(
        fault("gym:ALE/Pong-v5", "frameskip = 1").contains("it has vector, sticky, frame_skip")
    );
    let module = fault("gym:springbok_does_not_exist:Some-v0", "");
    assert!(
        module.contains("-m pip install springbok_does_not_exist"),
        "{module}"
    );
}

const BREAKOUT: &str =
    "sticky = 0.0\nfire_reset = true\nlife_loss = true\nframes_max = 4000\nthreads = 1";

#[test]
fn both_atari_back_ends_show_the_same_game() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    let [library, wrappers] = ["library", "sync"].map(|vector| {
        let text = format!("{BREAKOUT}\nvector = \"{vector}\"");
        python::spec("gym:ALE/Breakout-v5", &options(&text), &settings).unwrap()
    });
    assert_eq!(library, wrappers);
    assert_eq!(
        library.observation.to_string(),
        "Box(0..255, [4, 84, 84], uint8)"
    );
    assert_eq!(library.episode_steps_max, Some(1000));
}

#[test]
fn lives_of_a_game_are_seen_and_its_rewards_are_raw() {
    let Some(settings) = settings_with_packages() else {
        return;
    };
    for back_end in ["library", "sync"] {
        let text = format!("{BREAKOUT}\nvector = \"{back_end}\"");
        let mut vector = make(&settings, "gym:ALE/Breakout-v5", &text, &[1, 2]);
        let mut lives = [0_u32; 2];
        let mut ended = false;
        for time in 0..1500_u32 {
            // Fire, and wander to and fro.
            let action = [1, 2, 2, 3, 3, 0][time as usize % 6];
            let seen = step(&mut vector, &[action; 2]);
            for (lost, outcome) in lives.iter_mut().zip(&seen.outcomes) {
                *lost += u32::from(*outcome == StepOutcome::LifeLost);
            }
            if seen.outcomes[0].is_end() {
                // Five lives, of which the last ends the game.
                assert_eq!((seen.outcomes[0], lives[0]), (StepOutcome::Terminated, 4));
                ended = true;
                break;
            }
        }
        assert!(ended, "{back_end}: no game over");
    }
}

#[test]
fn pictures_come_only_when_asked_for() {
    let Some(mut settings) = settings_with_packages() else {
        return;
    };
    let mut frame = springbok_actor::environment::Frame::default();
    let mut blind = make(&settings, "gym:ALE/Pong-v5", "", &[1]);
    assert_eq!(blind.render(0, &mut frame), Ok(false));
    settings.render = true;
    let mut seeing = make(&settings, "gym:ALE/Pong-v5", "", &[1, 2]);
    try_step(&mut seeing, ActionsRef::Indices(&[0, 0])).unwrap();
    assert_eq!(seeing.render(1, &mut frame), Ok(true));
    assert_eq!((frame.width, frame.height), (160, 210));
    assert!(frame.rgb.iter().any(|&byte| byte != frame.rgb[0]));
}
