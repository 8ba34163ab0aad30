//! Steps per second of each built-in environment on one processor, through the interface that actors use: 64
//! environments at a time, actions drawn beforehand.
//!
//! ```console
//! cargo run --release -p springbok-actor --example environment_speed
//! ```

use std::{
    error::Error,
    io::Write,
    time::{Duration, Instant},
};

use springbok_actor::{
    environment::{Registry, conformance::RandomActions},
    vector::{StepSink, SyncVector, VectorEnvironment},
};
use springbok_common::{arrays::Actions, step::StepOutcome};

const ENVIRONMENTS: usize = 64;
/// Batches of actions, which are used again and again.
const BATCHES: usize = 64;
const REPEATS: usize = 5;
const TIME: Duration = Duration::from_millis(400);

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::built_in();
    let image = "observation_shape = [4, 84, 84]\nelement = \"uint8\"";
    let kinds = registry.list().into_iter().map(|(id, _)| (id, ""));
    let mut out = std::io::stdout().lock();
    writeln!(out, "million steps per second, worst and best of {REPEATS}")?;
    for (id, options) in kinds.chain([("Synthetic", image)]) {
        let vector = SyncVector::new(&registry, id, &options.parse()?, ENVIRONMENTS, 0)?;
        let [worst, best] = measure(vector)?;
        let note = if options.is_empty() {
            ""
        } else {
            "  (4 x 84 x 84 bytes)"
        };
        writeln!(out, "{id:15} {worst:8.3} {best:8.3}{note}")?;
    }
    Ok(())
}

fn measure(mut vector: SyncVector) -> Result<[f64; 2], Box<dyn Error>> {
    let batches = batches(&vector);
    let mut rewards = vec![0.0; ENVIRONMENTS];
    let mut outcomes = vec![StepOutcome::Continued; ENVIRONMENTS];
    let mut episodes = Vec::new();
    let mut range = [f64::INFINITY, 0.0_f64];
    for _ in 0..REPEATS {
        let (begun, mut steps) = (Instant::now(), 0);
        while begun.elapsed() < TIME {
            for actions in &batches {
                episodes.clear();
                let mut sink = StepSink {
                    rewards: &mut rewards,
                    outcomes: &mut outcomes,
                    on_truncated: &mut |_, row| {
                        std::hint::black_box(row);
                    },
                    episodes: &mut episodes,
                };
                vector.step(actions.as_ref(), &mut sink)?;
                steps += ENVIRONMENTS;
            }
        }
        let rate = steps as f64 / begun.elapsed().as_secs_f64() / 1e6;
        range = [range[0].min(rate), range[1].max(rate)];
    }
    Ok(range)
}

/// Actions regardless of masks: a masked action costs as much as another.
fn batches(vector: &SyncVector) -> Vec<Actions> {
    let mut random = RandomActions::new(vector.spec(), 0);
    let mut batch = || {
        let mut actions = random.buffer();
        for _ in 0..ENVIRONMENTS {
            random.draw(&[], &mut actions);
        }
        actions
    };
    (0..BATCHES).map(|_| batch()).collect()
}
