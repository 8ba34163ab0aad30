//! What one seed stands for: sizes, speeds, and which fault happens when.

use std::{num::NonZeroU32, time::Duration};

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
    /// It is asked to end; once it has, it is started again.
    LearnerDrains,
    /// A step in changing the token, each some seconds after the one before.
    Token(Rotation),
}

/// A step in changing the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rotation {
    /// The learner takes the next one too.
    Accept,
    /// Actors show the next one from their next connection on.
    Show,
    /// The learner does not take the old one any more.
    Revoke,
}

/// An environment of the actor at `place` does not return from a step for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hang {
    pub(crate) place: u32,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

/// After so long the learner has seen that its tokens have changed, and has cut off whoever shows an old one.
const TOKENS_NOTICED: Duration = Duration::from_millis(1_500);

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
    /// A full queue drops its oldest unroll.
    pub(crate) evicts: bool,
    /// In lock-step, the unrolls that each actor makes of each version.
    pub(crate) lock_step: Option<NonZeroU32>,
    /// Widths of the hidden layers: they decide how many chunks the parameters have.
    pub(crate) hidden_sizes: Vec<usize>,
    pub(crate) train_ms: u64,
    /// Time that a message takes, for each actor.
    pub(crate) latency_ms: Vec<u64>,
    /// Longest time for an unroll, for each actor.
    pub(crate) unroll_ms: Vec<u64>,
    pub(crate) updates_per_checkpoint: u64,
    /// Parts per thousand of the snapshots that are damaged on the way.
    pub(crate) damaged_per_mille: u32,
    /// Whether actors have to show a token, which changes.
    pub(crate) guarded: bool,
    pub(crate) hangs: Vec<Hang>,
    /// When the faults end.
    pub(crate) calm_from: Duration,
    /// What happens until then, in order.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// How a full pipeline is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// What is too old is dropped.
    Fenced,
    /// Nothing is begun that would grow too old.
    Paced,
    Evicting,
    LockStep,
}

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = chance(seed, Who::Plan);
        let actors = draw.random_range(1..=4);
        let style = match draw.random_range(0..10) {
            0..=3 => Style::Fenced,
            4..=5 => Style::Paced,
            6..=7 => Style::Evicting,
            _ => Style::LockStep,
        };
        let lag_versions_max = match style {
            Style::Fenced if draw.random_bool(0.3) => None,
            Style::Fenced | Style::Paced => Some(draw.random_range(1..=4)),
            Style::Evicting | Style::LockStep => None,
        };
        let lock_step =
            NonZeroU32::new(draw.random_range(1..=2)).filter(|_| style == Style::LockStep);
        // Large parameters take their time, also here: seldom, and then slowly.
        let chunks = if draw.random_bool(0.05) {
            draw.random_range(2..=3)
        } else {
            1
        };
        let calm_from = Duration::from_millis(draw.random_range(8_000..=20_000));
        let guarded = draw.random_bool(0.2);
        Self {
            seed,
            actors,
            // The gate can only count on what an actor begins after it was let: one at a time.
            outbox_unrolls: if style == Style::Paced {
                1
            } else {
                draw.random_range(1..=3)
            },
            queue_unrolls: draw.random_range(1..=6),
            batch_unrolls: match lock_step {
                Some(share) => (share.get() * actors) as usize,
                None => draw.random_range(1..=3),
            },
            lag_versions_max,
            paced: style == Style::Paced,
            evicts: style == Style::Evicting,
            lock_step,
            hidden_sizes: match chunks {
                1 => vec![4],
                2 => vec![390, 390],
                _ => vec![520, 520],
            },
            train_ms: draw.random_range(5..=150) * if chunks > 1 { 5 } else { 1 },
            latency_ms: (0..actors).map(|_| draw.random_range(1..=40)).collect(),
            unroll_ms: (0..actors).map(|_| draw.random_range(30..=400)).collect(),
            updates_per_checkpoint: draw.random_range(2..=12),
            damaged_per_mille: if draw.random_bool(0.5) { 50 } else { 0 },
            guarded,
            hangs: (0..actors)
                .flat_map(|place| hangs(seed, place, calm_from))
                .collect(),
            calm_from,
            faults: faults(seed, actors, guarded, calm_from),
        }
    }

    /// When the hang ends in which an environment of the actor at `place` is at `now`.
    pub(crate) fn hangs_until(&self, place: u32, now: Duration) -> Option<Duration> {
        let of_place = self.hangs.iter().filter(|hang| hang.place == place);
        let mut open = of_place.filter(|hang| (hang.from..hang.until).contains(&now));
        open.next().map(|hang| hang.until)
    }
}

/// All faults, in order.
fn faults(seed: u64, actors: u32, guarded: bool, until: Duration) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    for actor in 0..actors {
        link_faults(seed, actor, until, &mut faults);
        actor_crashes(seed, actor, until, &mut faults);
    }
    learner_ends(seed, until, &mut faults);
    if guarded {
        rotations(seed, until, &mut faults);
    }
    faults.sort();
    faults
}

fn hangs(seed: u64, place: u32, until: Duration) -> Vec<Hang> {
    let mut draw = chance(seed, Who::Hangs(place));
    let mut hangs = Vec::new();
    let mut at_ms = 0;
    loop {
        at_ms += draw.random_range(3_000..=20_000);
        let from = Duration::from_millis(at_ms);
        if from >= until {
            return hangs;
        }
        at_ms += draw.random_range(500..=12_000);
        let until = Duration::from_millis(at_ms).min(until);
        hangs.push(Hang { place, from, until });
    }
}

fn rotations(seed: u64, until: Duration, faults: &mut Vec<(Duration, Fault)>) {
    let mut draw = chance(seed, Who::Tokens);
    let mut at_ms = 0;
    loop {
        for step in [Rotation::Accept, Rotation::Show, Rotation::Revoke] {
            // The learner reads its file about once in a second.
            at_ms += draw.random_range(1_500..=4_000);
            let at = Duration::from_millis(at_ms);
            if at + TOKENS_NOTICED >= until {
                return;
            }
            faults.push((at, Fault::Token(step)));
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

fn learner_ends(seed: u64, until: Duration, faults: &mut Vec<(Duration, Fault)>) {
    let mut draw = chance(seed, Who::LearnerEnds);
    let mut at_ms = 0;
    loop {
        at_ms += draw.random_range(2_000..=12_000);
        let drains = draw.random_bool(0.3);
        let silent = draw.random_bool(0.3);
        let down_ms = draw.random_range(50..=4_000);
        let at = Duration::from_millis(at_ms);
        if at >= until {
            return;
        }
        if drains {
            faults.push((at, Fault::LearnerDrains));
            continue;
        }
        faults.push((at, Fault::LearnerDies { silent }));
        at_ms += down_ms;
        let again = Duration::from_millis(at_ms).min(until);
        faults.push((again, Fault::LearnerStarts));
    }
}
