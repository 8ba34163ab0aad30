//! One seed, from its first tick to its last.

use std::{io, time::Duration};

use turmoil::Sim;

use crate::{
    actor,
    counted::count,
    invariants, learner,
    plan::{Fault, Plan},
    planted::Planted,
    stranger,
    truth::{Ending, Shared, Violation},
};

/// What happens within one is simulated exactly; messages arrive at its beginning.
const TICK: Duration = Duration::from_millis(10);

/// Segments that a connection holds.
const SEGMENTS: usize = 4096;

/// How much longer the calm is watched after everything recovered.
const WATCHED: Duration = Duration::from_secs(3);

/// After so long a learner that has ended is started again.
const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What one seed led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Everything that happened, in order.
    pub log: Vec<String>,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// Unrolls that were trained on in the history that counts.
    pub trained_unrolls: usize,
    /// Lives of the learner.
    pub learner_lives: u32,
    /// How often a learner ended because it was asked to.
    pub drains: u32,
    /// Attempts of strangers to join that were refused.
    pub strangers_refused: u64,
    /// How long after the last fault everything had recovered.
    pub recovered_after: Duration,
}

/// Runs `seed`, with a defect if one is `planted`.
///
/// # Errors
/// The simulation itself failed.
pub fn simulate(seed: u64, planted: Option<Planted>) -> turmoil::Result<Outcome> {
    let shared = Shared::new(Plan::new(seed), planted)?;
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3600))
        .min_message_latency(TICK)
        .max_message_latency(TICK)
        .tcp_capacity(SEGMENTS)
        .build();
    let lent = shared.clone();
    sim.host("learner", move || learner::host(lent.clone()));
    for place in 0..shared.plan.actors {
        let lent = shared.clone();
        sim.host(name(place), move || actor::host(lent.clone(), place));
    }
    if shared.plan.guarded {
        let lent = shared.clone();
        sim.host("stranger", move || stranger::host(lent.clone()));
    }
    for place in 0..shared.plan.actors {
        mend(&mut sim, &shared, place);
    }
    let mut faults = shared.plan.faults.iter().copied().peekable();
    let mut recovered: Option<(Duration, u64)> = None;
    let mut start_at = None;
    loop {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= sim.elapsed()) {
            shared.event(&format!("{fault:?}"));
            if matches!(fault, Fault::LearnerDies { .. }) {
                start_at = None;
            }
            strike(&mut sim, &shared, fault)?;
        }
        if is_calm_due(&shared, sim.elapsed()) && start_at.is_none() {
            end_faults(&mut sim, &shared);
        }
        sim.step()?;
        supervise(&mut sim, &shared, &mut start_at);
        watch(&shared, sim.elapsed());
        if shared.lock().violation.is_some() || is_over(&shared, &mut recovered) {
            break;
        }
    }
    let truth = shared.lock();
    let calm = truth.calm_since.unwrap_or_default();
    Ok(Outcome {
        log: truth.log.clone(),
        violation: truth.violation.clone(),
        trained_unrolls: truth.trained.len(),
        learner_lives: truth.learner_lives,
        drains: truth.drains,
        strangers_refused: truth.strangers_refused,
        recovered_after: recovered.map_or(Duration::ZERO, |(at, _)| at.saturating_sub(calm)),
    })
}

fn name(place: u32) -> String {
    format!("actor-{place}")
}

/// Starts the learner again some time after it has ended by itself.
fn supervise(sim: &mut Sim<'_>, shared: &Shared, start_at: &mut Option<Duration>) {
    let now = sim.elapsed();
    let ended = {
        let mut truth = shared.lock();
        let ended = truth.ending == Some(Ending::Over);
        if ended {
            truth.ending = None;
        }
        ended
    };
    if ended {
        sim.crash("learner");
        *start_at = Some(now + STARTED_AGAIN_AFTER);
    }
    if start_at.is_some_and(|at| at <= now) {
        *start_at = None;
        sim.bounce("learner");
    }
}

/// Whether the faults are over: a drain that goes on still belongs to them.
fn is_calm_due(shared: &Shared, now: Duration) -> bool {
    let truth = shared.lock();
    now >= shared.plan.calm_from && truth.calm_since.is_none() && truth.ending.is_none()
}

/// Looks at everything after each tick.
fn watch(shared: &Shared, now: Duration) {
    let mut truth = shared.lock();
    truth.now = now;
    truth.see_who_is_back();
    let Some(running) = &truth.running else {
        return;
    };
    let balanced = invariants::ledger::balances(&running.books.lock().ledger);
    let verdict = balanced
        .and_then(|()| invariants::capacity::queue(running))
        .and_then(|()| invariants::capacity::accounted(running, &shared.plan))
        .and_then(|()| invariants::memory::bounded(count(&running.held), shared.plan.actors))
        .and_then(|()| invariants::accounts::agree(running, truth.loaded.keys()));
    truth.judge(verdict);
}

/// Whether the calm has been watched for long enough.
fn is_over(shared: &Shared, recovered: &mut Option<(Duration, u64)>) -> bool {
    let mut truth = shared.lock();
    let (now, actors) = (truth.now, shared.plan.actors);
    let Some(calm) = truth.calm_since else {
        return false;
    };
    let wasted = truth.running.as_ref().map_or(0, |running| {
        invariants::fresh::wasted(&running.books.lock().ledger)
    });
    if let Some((at, before)) = *recovered {
        if invariants::fresh::is_promised(&shared.plan, &shared.task) {
            truth.judge(invariants::fresh::none_wasted(before, wasted));
        }
        return now >= at + WATCHED;
    }
    if invariants::liveness::recovered(&truth, actors) {
        truth.event("everything has recovered");
        *recovered = Some((now, wasted));
    } else if now >= calm + invariants::liveness::RECOVERY_MAX {
        let verdict = invariants::liveness::in_time(&truth, actors);
        truth.judge(verdict);
    }
    false
}

fn end_faults(sim: &mut Sim<'_>, shared: &Shared) {
    for place in 0..shared.plan.actors {
        mend(sim, shared, place);
    }
    let mut truth = shared.lock();
    truth.event("the faults are over");
    truth.calm_since = Some(sim.elapsed());
}

fn mend(sim: &mut Sim<'_>, shared: &Shared, place: u32) {
    let latency = Duration::from_millis(shared.plan.latency_ms[place as usize]);
    sim.set_link_latency(name(place), "learner", latency);
    sim.release(name(place), "learner");
    sim.repair(name(place), "learner");
}

fn strike(sim: &mut Sim<'_>, shared: &Shared, fault: Fault) -> io::Result<()> {
    match fault {
        Fault::Partition(place) => sim.partition(name(place), "learner"),
        Fault::Mute(place) => sim.partition_oneway(name(place), "learner"),
        Fault::Deaf(place) => sim.partition_oneway("learner", name(place)),
        Fault::Hold(place) => sim.hold(name(place), "learner"),
        Fault::Slow(place, ms) => {
            sim.set_link_latency(name(place), "learner", Duration::from_millis(ms));
        }
        Fault::Blink(place) => {
            sim.partition(name(place), "learner");
            sim.repair(name(place), "learner");
        }
        Fault::Mend(place) => mend(sim, shared, place),
        Fault::ActorDies { actor, silent } => {
            if silent {
                sim.partition(name(actor), "learner");
            }
            sim.crash(name(actor));
            if silent {
                sim.repair(name(actor), "learner");
            }
        }
        Fault::ActorStarts(place) => sim.bounce(name(place)),
        Fault::LearnerDies { silent } => {
            let actors = 0..shared.plan.actors;
            if silent {
                actors
                    .clone()
                    .for_each(|place| sim.partition(name(place), "learner"));
            }
            {
                let mut truth = shared.lock();
                truth.running = None;
                truth.ending = None;
                truth.disk.lose_power();
            }
            sim.crash("learner");
            if silent {
                actors.for_each(|place| sim.repair(name(place), "learner"));
            }
        }
        Fault::LearnerStarts => sim.bounce("learner"),
        Fault::LearnerDrains => {
            let mut truth = shared.lock();
            if let Some(running) = &truth.running {
                running.stop.cancel();
                truth.end_begins();
            }
        }
        Fault::Token(step) => {
            let (now, kept) = (sim.elapsed(), shared.has(Planted::RevokedKept));
            if let Some(keys) = &mut shared.lock().keys {
                keys.rotate(step, now, kept)?;
            }
        }
    }
    Ok(())
}
