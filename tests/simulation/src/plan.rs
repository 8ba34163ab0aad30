//! What one seed stands for: sizes, speeds, and which fault happens when.

use std::time::Duration;

use rand::RngExt;

use crate::chance::{Who, chance};

/// Something that the world does to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing gets through in either direction.
    Partition(u32),
    /// Nothing gets from the actor to the learner.
    Mute(u32),
    /// Nothing gets from the learner to the actor: acknowledgements and parameters are lost.
    Deaf(u32),
    /// What is under way is lost, and no more.
    Blink(u32),
    /// Messages wait.
    Hold(u32),
    /// Each message takes so long, in ms. (Constant: the network's own chance is shared by all links, and tokio wakes
    /// the readers of a publication in an order that no seed decides, so draws for each message would not repeat.)
    Slow(u32, u64),
    /// The link is as it should be.
    Mend(u32),
    /// The process ends; its connections end with it, or (silent) nobody is told.
    ActorDies { actor: u32, silent: bool },
    /// Another life of it begins.
    ActorStarts(u32),
    /// The learner's process ends.
    LearnerDies { silent: bool },
    /// It is started again.
    LearnerStarts,
}

/// One seed's plan.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) actors: u32,
    pub(crate) outbox_unrolls: usize,
    pub(crate) queue_unrolls: usize,
    pub(crate) batch_unrolls: usize,
    pub(crate) lag_versions_max: Option<u64>,
    /// Whether the gate keeps to the limit, and not only the fence.
    pub(crate) paced: bool,
    pub(crate) train_ms: u64,
    /// Time that a message takes, for each actor.
    pub(crate) latency_ms: Vec<u64>,
    /// Longest time for an unroll, for each actor.
    pub(crate) unroll_ms: Vec<u64>,
    pub(crate) updates_per_checkpoint: u64,
    /// Parts per thousand of the snapshots that are damaged on the way.
    pub(crate) damaged_per_mille: u32,
    /// When the faults end.
    pub(crate) calm_from: Duration,
    /// What happens until then, in order.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = chance(seed, Who::Plan);
        let actors = draw.random_range(1..=4);
        let lag_versions_max = draw.random_bool(0.7).then(|| draw.random_range(1..=4));
        let calm_from = Duration::from_millis(draw.random_range(8_000..=20_000));
        let mut faults = Vec::new();
        for actor in 0..actors {
            link_faults(seed, actor, calm_from, &mut faults);
            actor_crashes(seed, actor, calm_from, &mut faults);
        }
        learner_crashes(seed, calm_from, &mut faults);
        faults.sort();
        let paced = lag_versions_max.is_some() && draw.random_bool(0.4);
        Self {
            seed,
            actors,
            // The gate can only count on what an actor begins after it was let: one at a time.
            outbox_unrolls: if paced { 1 } else { draw.random_range(1..=3) },
            queue_unrolls: draw.random_range(1..=6),
            batch_unrolls: draw.random_range(1..=3),
            lag_versions_max,
            paced,
            train_ms: draw.random_range(5..=150),
            latency_ms: (0..actors).map(|_| draw.random_range(1..=40)).collect(),
            unroll_ms: (0..actors).map(|_| draw.random_range(30..=400)).collect(),
            updates_per_checkpoint: draw.random_range(2..=12),
            damaged_per_mille: if draw.random_bool(0.5) { 50 } else { 0 },
            calm_from,
            faults,
        }
    }
}

fn link_faults(seed: u64, actor: u32, until: Duration, faults: &mut Vec<(Duration, Fault)>) {
    let mut draw = chance(seed, Who::Link(actor));
    let mut at_ms = 0;
    loop {
        at_ms += draw.random_range(300..=5_000);
        // Long ones outlast the signs of life of a connection.
        let longest_ms = if draw.random_bool(0.2) { 18_000 } else { 3_000 };
        let length_ms = draw.random_range(100..=longest_ms);
        let at = Duration::from_millis(at_ms);
        if at >= until {
            return;
        }
        let fault = match draw.random_range(0..6) {
            0 => Fault::Partition(actor),
            1 => Fault::Mute(actor),
            2 => Fault::Deaf(actor),
            3 => Fault::Hold(actor),
            4 => Fault::Slow(actor, draw.random_range(20..=500)),
            _ => Fault::Blink(actor),
        };
        at_ms += length_ms;
        faults.push((at, fault));
        faults.push((Duration::from_millis(at_ms).min(until), Fault::Mend(actor)));
    }
}

fn actor_crashes(seed: u64, actor: u32, until: Duration, faults: &mut Vec<(Duration, Fault)>) {
    let mut draw = chance(seed, Who::ActorCrashes(actor));
    let mut at_ms = 0;
    loop {
        at_ms += draw.random_range(2_000..=15_000);
        let silent = draw.random_bool(0.3);
        let at = Duration::from_millis(at_ms);
        if at >= until {
            return;
        }
        faults.push((at, Fault::ActorDies { actor, silent }));
        at_ms += draw.random_range(50..=4_000);
        faults.push((
            Duration::from_millis(at_ms).min(until),
            Fault::ActorStarts(actor),
        ));
    }
}

fn learner_crashes(seed: u64, until: Duration, faults: &mut Vec<(Duration, Fault)>) {
    let mut draw = chance(seed, Who::LearnerCrashes);
    let mut at_ms = 0;
    loop {
        at_ms += draw.random_range(2_000..=12_000);
        let silent = draw.random_bool(0.3);
        let at = Duration::from_millis(at_ms);
        if at >= until {
            return;
        }
        faults.push((at, Fault::LearnerDies { silent }));
        at_ms += draw.random_range(50..=4_000);
        faults.push((
            Duration::from_millis(at_ms).min(until),
            Fault::LearnerStarts,
        ));
    }
}
