//! Scripted experience for tests of whole updates, for any action and any memory.

use rand::RngExt;
use springbok_common::{
    arrays::{Actions, Elements},
    config::Config,
    spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
};

use super::*;

/// Steps of each column: T.
pub(super) const T: usize = 8;
/// B.
pub(super) const COLUMNS: usize = 6;
/// Elements of an observation.
const WIDTH: usize = 3;

/// The configuration with `sets`, which has no fault.
pub(super) fn config(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let loaded = Config::load(None, std::iter::empty(), &sets).unwrap();
    loaded.config
}

/// The updater of a run with `sets` in an environment with this action.
pub(super) fn updater(action: ActionSpec, sets: &[&str]) -> Updater {
    let config = config(sets);
    let observation = ObservationSpec::floats([WIDTH], [-1.0, 1.0]);
    let environment = EnvironmentSpec::new("E", observation, action);
    config.check_against(&environment).unwrap();
    let mut network = config.network(&environment);
    // Small, and without corners, so that differences of its outputs are derivatives.
    network.encoder = springbok_common::spec::EncoderSpec::Mlp {
        hidden_sizes: vec![16],
    };
    network.activation = Activation::Tanh;
    let settings = UpdateConfig::from(&config.algorithm);
    Updater::with_settings(settings, &network, config.run.seed, Device::flex())
}

/// Random experience with ends of both kinds; the behaviour policy is `updater`'s, shifted by up to `drift` a step. The
/// reward depends on the action, so that there is something to learn.
pub(super) fn batch(updater: &Updater, seed: u64, drift: f32) -> Batch {
    let mut rng = Pcg64::seed_from_u64(seed);
    let steps = T * COLUMNS;
    let outcomes: Vec<StepOutcome> = (0..steps)
        .map(|step| match step % 11 {
            3 => StepOutcome::Truncated,
            7 => StepOutcome::Terminated,
            _ => StepOutcome::Continued,
        })
        .collect();
    let final_rows: Vec<usize> = (0..steps)
        .filter(|&row| outcomes[row] == StepOutcome::Truncated)
        .collect();
    let rows = steps + COLUMNS + final_rows.len();
    let observations = Elements::F32(
        (0..rows * WIDTH)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect(),
    );
    let (actions, rewards) = match &updater.network.action {
        ActionSpec::Box { low, .. } => {
            let draws: Vec<f32> = (0..steps * low.len())
                .map(|_| rng.random_range(-1.5..1.5))
                .collect();
            let rewards = draws.chunks(low.len()).map(|draw| -draw[0].abs()).collect();
            (Actions::Values(draws), rewards)
        }
        discrete => {
            let heads = discrete.heads().to_vec();
            let drawn: Vec<u32> = (0..steps)
                .flat_map(|_| heads.clone())
                .map(|choices| rng.random_range(0..choices))
                .collect();
            let first = drawn.chunks(heads.len()).map(|action| action[0]);
            let rewards = first.map(|action| if action == 1 { 1.0 } else { 0.0 });
            let rewards = rewards.collect();
            (Actions::Indices(drawn), rewards)
        }
    };
    let states = COLUMNS * updater.network.state_len();
    let mut batch = Batch {
        t: T,
        columns: COLUMNS,
        observations,
        actions,
        rewards,
        behaviour_log_probs: vec![0.0; steps],
        outcomes,
        final_rows,
        core_states: (0..states).map(|_| rng.random_range(-0.5..0.5)).collect(),
        lags: vec![u64::from(drift > 0.0); COLUMNS],
        ..Batch::default()
    };
    batch.behaviour_log_probs = updater.evaluate(&updater.stage(&batch)).log_probs;
    for log_prob in &mut batch.behaviour_log_probs {
        *log_prob += drift * rng.random_range(-1.0..1.0_f32);
    }
    batch
}

/// What an update works on.
pub(super) fn material<'a>(updater: &Updater, batch: &'a Batch) -> Material<'a> {
    Material {
        rewards: batch.rewards.clone(),
        learnable: batch.learnable(0),
        staged: updater.stage(batch),
        batch,
    }
}

/// All parameters.
pub(super) fn parameters(updater: &Updater) -> Vec<f32> {
    let (words, _) = updater.parameters.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
