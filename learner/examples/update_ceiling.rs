//! How close an update comes to its ceiling: the learner's `Updater::update` against a bare loop of the same forward,
//! backward and optimiser steps without targets, shuffling, metrics, guard and export.
//!
//! `cargo run --release -p springbok-learner --example update_ceiling`
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use burn::{
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Int, Tensor, TensorData},
};
use springbok_common::{
    arrays::{Actions, Elements},
    config::Config,
    policy::{ActorCritic, categorical},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
    unroll::Agreement,
};
use springbok_learner::trainer::{batch::Batch, update::Updater};

const ROUNDS: usize = 60;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::default();
    let environment = EnvironmentSpec::new(
        "CartPole-v1",
        ObservationSpec::floats([4], [f32::NEG_INFINITY, f32::INFINITY]),
        ActionSpec::Discrete(2),
    )
    .with_steps_max(500);
    let agreement = Agreement {
        network: config.network(&environment),
        rollout: config.rollout(),
        environment,
    };
    let batch = batch(&config, &agreement);
    let mut updater = Updater::new(&config, &agreement, Device::flex());
    let mut bare = Bare::new(&config, &agreement);

    // Alternating, so that a change of the machine's speed meets both.
    let (mut whole, mut ceiling) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        updater.update(&batch, 1.0)?;
        whole.push(begin.elapsed());
        let begin = Instant::now();
        bare.update(&config, &batch);
        ceiling.push(begin.elapsed());
    }
    let (whole, ceiling) = (median(whole), median(ceiling));
    println!(
        "update {:.2} ms, bare loop {:.2} ms, ratio {:.2} ({} steps, {} epochs x {} minibatches, median of {ROUNDS})",
        whole.as_secs_f64() * 1e3,
        ceiling.as_secs_f64() * 1e3,
        whole.as_secs_f64() / ceiling.as_secs_f64(),
        batch.steps(),
        config.algorithm.epochs,
        config.algorithm.minibatches,
    );
    Ok(())
}

/// A batch of the default size whose numbers are plausible and need no environment.
fn batch(config: &Config, agreement: &Agreement) -> Batch {
    let columns = config.learner.batch_unrolls * config.actor.environments_per_actor;
    let steps = config.actor.unroll_length * columns;
    let width = agreement.environment.observation.len();
    let wave = |i: usize| (i as f32 * 0.37).sin() * 0.2;
    Batch {
        t: config.actor.unroll_length,
        columns,
        observations: Elements::F32((0..(steps + columns) * width).map(wave).collect()),
        actions: Actions::Indices((0..steps).map(|i| (i % 2) as u32).collect()),
        rewards: vec![1.0; steps],
        behaviour_log_probs: vec![-std::f32::consts::LN_2; steps],
        outcomes: vec![StepOutcome::Continued; steps],
        final_rows: Vec::new(),
        lags: vec![0; columns],
        ..Batch::default()
    }
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

/// The network and its optimiser, and nothing around them.
struct Bare {
    model: ActorCritic,
    optimiser: burn::optim::ModuleOptimizer,
    width: usize,
}

impl Bare {
    fn new(config: &Config, agreement: &Agreement) -> Self {
        let device = Device::flex().autodiff();
        Self {
            model: ActorCritic::new(&agreement.network, config.run.seed, &device),
            optimiser: AdamConfig::new().init(),
            width: agreement.environment.observation.len(),
        }
    }

    /// As many optimiser steps on as many rows as an update takes.
    fn update(&mut self, config: &Config, batch: &Batch) {
        let steps = config.algorithm.epochs * config.algorithm.minibatches;
        let rows = batch.steps().div_ceil(config.algorithm.minibatches);
        let device = Device::flex();
        let observations = batch.observations.slice(0..rows * self.width).to_f32();
        let observations =
            Tensor::<2>::from_data(TensorData::new(observations, [rows, self.width]), &device);
        let actions = TensorData::new(vec![1_i32; rows], [rows]);
        let actions = Tensor::<1, Int>::from_data(actions, &device);
        for _ in 0..steps {
            let (logits, values) = self.model.forward(observations.clone().autodiff());
            let all = categorical::log_probs(logits, None);
            let current = categorical::of_actions(all.clone(), actions.clone().autodiff());
            let entropy = categorical::entropy(all).mean();
            let ratio = (current + std::f32::consts::LN_2).exp();
            let clipped = ratio.clone().clamp(0.8, 1.2);
            let surrogate = ratio.min_pair(clipped).mean();
            let value = (values - 1.0).square().mean();
            let loss = value * 0.5 - surrogate - entropy * 0.01;
            let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
            self.model = self.optimiser.step(1e-4, self.model.clone(), gradients);
        }
    }
}
