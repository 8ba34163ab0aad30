//! Replays what Gymnasium did, from `tests/fixtures`.

use serde_json::Value;
use springbok_common::{
    arrays::{Actions, ElementsMut},
    spec::ActionSpec,
    step::StepOutcome,
};

use crate::environment::Environment;

/// Whether sine and cosine are those that the fixtures were recorded with.
const EXACT: bool = cfg!(all(target_os = "linux", target_env = "gnu"));
const TOLERANCE: f64 = 1e-12;

/// An environment with a recording.
pub(super) trait Recorded: Environment {
    /// File of the recording.
    const FIXTURE: &'static str;

    fn fresh() -> Self;

    fn state(&mut self) -> &mut [f64];
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/../tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().unwrap();
    array.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn bits64(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Of numbers that were recorded as 32 bits, or are rounded to them.
fn bits32(values: &[f64]) -> Vec<u32> {
    let rounded = values.iter().map(|&value| value as f32);
    rounded.map(f32::to_bits).collect()
}

fn actions(spec: &ActionSpec, recorded: &Value) -> Actions {
    let recorded = numbers(recorded);
    match spec {
        ActionSpec::Box { .. } => {
            Actions::Values(recorded.into_iter().map(|value| value as f32).collect())
        }
        _ => Actions::Indices(recorded.into_iter().map(|value| value as u32).collect()),
    }
}

/// Replays all recorded episodes, both freely and with each step from the recorded state.
pub(super) fn replay_all<E: Recorded>() {
    let fixture = fixture(E::FIXTURE);
    let episodes = fixture["episodes"].as_array().unwrap();
    assert_eq!(episodes.len(), 3);
    for episode in episodes {
        replay::<E>(episode, false);
        if EXACT {
            replay::<E>(episode, true);
        }
    }
    // The time limit is not the environment's to apply, but its declaration must be right.
    let limit = u64::from(E::fresh().spec().episode_steps_max.unwrap());
    assert_eq!(fixture["max_episode_steps"].as_u64(), Some(limit));
}

fn replay<E: Recorded>(episode: &Value, free_running: bool) {
    let note = episode["note"].as_str().unwrap();
    let mut environment = E::fresh();
    let actions = actions(&environment.spec().action, &episode["actions"]);
    let mut observation = vec![f32::NAN; environment.spec().observation.len()];
    let rewards = numbers(&episode["reward"]);
    let terminated = episode["terminated"].as_bool().unwrap();
    environment
        .state()
        .copy_from_slice(&numbers(&episode["state0"]));
    for (t, &reward) in rewards.iter().enumerate() {
        let at = format!("{note}, step {t}");
        observation.fill(f32::NAN);
        let step = environment.step(actions.slice(t..t + 1), ElementsMut::F32(&mut observation));

        let state_tp1 = numbers(&episode["state"][t]);
        assert_numbers(environment.state(), &state_tp1, &at);
        if EXACT {
            let shown: Vec<u32> = observation.iter().map(|value| value.to_bits()).collect();
            assert_eq!(shown, bits32(&numbers(&episode["obs"][t])), "{at}");
            assert_eq!(step.reward.to_bits(), (reward as f32).to_bits(), "{at}");
        } else {
            assert!((f64::from(step.reward) - reward).abs() < 1e-5, "{at}");
        }
        let ends = terminated && t + 1 == rewards.len();
        assert_eq!(step.outcome, StepOutcome::from_flags(ends, false), "{at}");
        if !free_running {
            environment.state().copy_from_slice(&state_tp1);
        }
    }
}

fn assert_numbers(computed: &[f64], recorded: &[f64], at: &str) {
    if EXACT {
        assert_eq!(bits64(computed), bits64(recorded), "{at}");
        return;
    }
    assert_eq!(computed.len(), recorded.len(), "{at}");
    for (left, right) in computed.iter().zip(recorded) {
        assert!((left - right).abs() < TOLERANCE, "{at}: {left} {right}");
    }
}

/// Compares the states of two resets after each recorded seed, which use no sine: they are equal everywhere.
pub(super) fn reset_all<E: Recorded>() {
    let fixture = fixture(E::FIXTURE);
    let resets = fixture["resets"].as_object().unwrap();
    assert_eq!(resets.len(), 6);
    for (seed, states) in resets {
        let mut environment = E::fresh();
        let mut row = vec![f32::NAN; environment.spec().observation.len()];
        environment.reset(Some(seed.parse().unwrap()), ElementsMut::F32(&mut row));
        let first = numbers(&states[0]);
        assert_eq!(bits64(environment.state()), bits64(&first), "seed {seed}");
        environment.reset(None, ElementsMut::F32(&mut row));
        let second = numbers(&states[1]);
        assert_eq!(bits64(environment.state()), bits64(&second), "seed {seed}");
        assert!(row.iter().all(|value| value.is_finite()));
    }
}
