//! What the trainer measures and does about policy lag, besides the lag itself.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use springbok_common::{
    config::{Config, InferencePlace, OverLimit, Refresh, SnapshotEncoding},
    ids::ActorId,
    unroll::Unroll,
    version::PolicyVersion,
};

use super::{
    tally::{Mean, Tally},
    update::UpdateMetrics,
};
use crate::{
    admission::Admission,
    books::Books,
    cadence::Cadence,
    gate::GateLimits,
    governor::{Governor, GovernorSummary, Observation, Target},
    lag::{
        LagMeter,
        buckets::{BucketSummary, BucketTable},
        odometer::Odometer,
        predict::{LagPrediction, Measured, Pipeline, predict},
    },
    metrics::{Metric, Row},
    pacing::Pacing,
    steered::SteeredActor,
    watchdog::{Alarm, AlarmCounts, Watchdog, WatchdogLimits},
};

/// Time between two looks of the watchdog at the actors.
const TICK: Duration = Duration::from_millis(200);

/// Updates before a prediction that does not agree is worth a warning.
const SETTLED_UPDATES: u64 = 50;

/// How policy lag was steered: `steering` in `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SteeringSummary {
    /// `lag.over_limit`.
    pub over_limit: String,
    /// `lag.max_versions`.
    pub limit_versions: Option<u64>,
    /// What the governor did; none without a set-point.
    pub governor: Option<GovernorSummary>,
    /// Places of the roster whose experience was paused, dropped, masked or weighted down.
    pub actors: Vec<SteeredActor>,
}

/// What the gate keeps to under `config`.
#[must_use]
pub fn gate_limits(config: &Config) -> GateLimits {
    let paced = config.lag.over_limit == OverLimit::Pace;
    GateLimits {
        batch_unrolls: config.learner.batch_unrolls,
        budget_unrolls: governor(config).map(|mut governor| governor.decide().budget_unrolls),
        outbox_unrolls: config.actor.outbox_unrolls,
        versions_per_batch: config.learner.reuse as u64,
        served_behind: config.lag.inject.versions_max(),
        lag_versions_max: config.lag.max_versions.filter(|_| paced),
    }
}

/// Places in the queue under `config`: one that drops its oldest holds no more than the limit allows.
#[must_use]
pub fn queue_unrolls(config: &Config) -> usize {
    let configured = config.learner.queue_unrolls;
    match config.lag.max_versions {
        Some(limit) if config.lag.over_limit == OverLimit::DropOldest => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            configured.min(limit.saturating_mul(config.learner.batch_unrolls))
        }
        _ => configured,
    }
}

fn governor(config: &Config) -> Option<Governor> {
    let lag = config.lag.target_lag.map(Target::Lag);
    let target = lag.or(config.lag.target_ess.map(Target::Ess))?;
    let governor = Governor::new(target, config.learner.batch_unrolls);
    Some(governor.publishing_at_most_every(config.learner.publish_interval_updates))
}

/// What of it a checkpoint has; the rest is about this life of the learner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SteeringState {
    buckets: BucketTable,
    forward: Mean,
    actors: Mean,
    alarms: AlarmCounts,
    governor: Option<Governor>,
}

/// The state of a run.
#[derive(Debug)]
pub struct Steering {
    /// Environment steps made by all actors, over time.
    pub odometer: Odometer,
    buckets: BucketTable,
    forward: Mean,
    pipeline: Pipeline,
    actors: Mean,
    watchdog: Watchdog<ActorId>,
    ticked: Instant,
    /// Whether it was told that the ledger does not balance.
    unbalanced: bool,
    over_limit: OverLimit,
    limit: Option<u64>,
    /// Steps of this update, and those of them that are over the limit.
    steps: (u64, u64),
    governor: Option<Governor>,
    cadence: Cadence,
    /// Whether actors act on rounded parameters, so that they cannot agree with the learner about log-probabilities.
    rounds: bool,
}

impl Steering {
    /// Nothing has happened before `now`.
    #[must_use]
    pub fn new(config: &Config, now: Instant) -> Self {
        let limits = WatchdogLimits {
            ess_floor: config.lag.ess_floor,
            stall: Duration::from_secs(config.telemetry.stall_s),
            // Those in its outbox, the one in the making, and one more in case parameters were on their way.
            late_unrolls: config.actor.outbox_unrolls as u64 + 2,
            served_behind: config.lag.inject.versions_max(),
        };
        Self {
            odometer: Odometer::default(),
            buckets: BucketTable::default(),
            forward: Mean::default(),
            pipeline: Pipeline {
                actors: config.actor.count as f64,
                outbox_unrolls: config.actor.outbox_unrolls as f64,
                queue_unrolls: queue_unrolls(config) as f64,
                batch_unrolls: config.learner.batch_unrolls as f64,
                evicts: config.lag.over_limit == OverLimit::DropOldest,
                publish_interval: 1.0,
                budget_unrolls: None,
                injected_versions: 0.0,
                trainings: config.learner.reuse as f64,
                reservoir_batches: config.learner.reservoir_batches as f64,
                lock_step: config.run.deterministic,
                refreshes: config.actor.refresh == Refresh::Step
                    || config.actor.inference == InferencePlace::Central,
                limit_versions: match config.lag.over_limit {
                    OverLimit::DropStale | OverLimit::Pace => config.lag.max_versions,
                    OverLimit::DropOldest | OverLimit::Mask | OverLimit::DownWeight => None,
                }
                .map(|limit| limit as f64),
            },
            actors: Mean::default(),
            watchdog: Watchdog::new(limits, now),
            ticked: now,
            unbalanced: false,
            over_limit: config.lag.over_limit,
            limit: config.lag.max_versions,
            steps: (0, 0),
            governor: governor(config),
            cadence: Cadence::new(
                config.learner.publish_interval_updates,
                Duration::from_millis(config.learner.publish_interval_ms),
            ),
            rounds: config.learner.snapshot_encoding != SnapshotEncoding::F32,
        }
    }

    /// What a checkpoint has.
    #[must_use]
    pub fn state(&self) -> SteeringState {
        SteeringState {
            buckets: self.buckets.clone(),
            forward: self.forward,
            actors: self.actors,
            alarms: self.watchdog.counts(),
            governor: self.governor.clone(),
        }
    }

    /// Goes on from `state`. A governor of another set-point begins anew.
    pub fn restore(&mut self, state: SteeringState) {
        self.buckets = state.buckets;
        self.forward = state.forward;
        self.actors = state.actors;
        self.watchdog.restore(state.alarms);
        if let (Some(own), Some(saved)) = (&mut self.governor, state.governor)
            && own.target() == saved.target()
        {
            own.restore(saved);
        }
    }

    /// The weight, 0 to 1, of the policy gradient of a step with this lag.
    #[must_use]
    pub fn weight(&self, lag: u64) -> f64 {
        let Some(limit) = self.limit.filter(|limit| lag > *limit) else {
            return 1.0;
        };
        match self.over_limit {
            OverLimit::Mask => 0.0,
            OverLimit::DownWeight => limit as f64 / lag as f64,
            OverLimit::DropStale | OverLimit::Pace | OverLimit::DropOldest => 1.0,
        }
    }

    /// Whether something with this lag that was trained on may be trained on again.
    #[must_use]
    pub fn may_reuse(&self, lag: u64) -> bool {
        let keeps = matches!(self.over_limit, OverLimit::DropStale | OverLimit::Pace);
        !keeps || self.limit.is_none_or(|limit| lag <= limit)
    }

    /// Whether actors are to be sent `version`, which is the newest `now`; one that they were sent may be sent again.
    pub fn publishes(&mut self, version: PolicyVersion, now: Instant) -> bool {
        self.cadence.publishes(version, now)
    }

    /// The version that actors were sent last.
    #[must_use]
    pub fn published(&self) -> PolicyVersion {
        self.cadence.published()
    }

    /// Counts `unroll` of `actor`, which was trained on by the learner at version `trained`, for the `first` time or again.
    /// An episode weighs as much as the steps of its unroll do on average.
    pub fn trained(
        &mut self,
        books: &mut Admission,
        actor: ActorId,
        trained: PolicyVersion,
        unroll: &Unroll,
        first: bool,
    ) {
        let mut weight = 0.0;
        for (version, rows) in unroll.stretches() {
            let lag = trained.lag_behind(version).unwrap_or_default().versions();
            let steps = rows.len() as u64;
            weight += self.weight(lag) * steps as f64;
            self.count_steps(books, actor, lag, steps);
        }
        if first {
            let lengths = unroll.parts().episodes.iter().map(|one| one.length);
            books
                .steered
                .trained(lengths, weight / unroll.steps().max(1) as f64);
        }
    }

    /// Counts `steps` of `actor` that were trained on with this lag.
    fn count_steps(&mut self, books: &mut Admission, actor: ActorId, lag: u64, steps: u64) {
        self.steps.0 += steps;
        if self.limit.is_none_or(|limit| lag <= limit) {
            return;
        }
        self.steps.1 += steps;
        let weight = self.weight(lag);
        let index = books.roster.index(actor);
        let counts = books.steered.actor(index);
        counts.over_limit_steps += steps;
        if weight <= 0.0 {
            counts.masked_steps += steps;
        } else if weight < 1.0 {
            counts.down_weighted_steps += steps;
        }
    }

    /// Counts one update on experience with the lag `window`, with `actors` present, and adds what it tells to its
    /// `row`.
    pub fn updated(
        &mut self,
        update: &UpdateMetrics,
        window: &LagMeter,
        tally: &Tally,
        actors: usize,
        pacing: &Pacing,
        row: &mut Row,
    ) {
        let mut buckets = BucketTable::default();
        buckets.add(&update.per_lag);
        row.set_buckets(&buckets.summary());
        self.buckets.add(&update.per_lag);
        // The i-th optimiser step on a batch follows i - 1 others, which is (n - 1) / 2 on average.
        let forward = update.optimiser_steps.saturating_sub(1) as f64 / 2.0;
        self.forward.add(forward);
        row.set(Metric::LagForward, forward);
        self.actors.add(actors as f64);
        let predicted = self.predict(tally).versions;
        row.set(Metric::LagPredicted, predicted);
        let (steps, over) = std::mem::take(&mut self.steps);
        row.set(Metric::LagOverLimit, over as f64 / steps.max(1) as f64);
        let lag = window.summary().mean;
        self.govern(lag, update.ess_prox, pacing, row);
        let alarms = self
            .watchdog
            .updated(Instant::now(), lag, predicted, update.ess_prox);
        let disagreement = match self.rounds {
            true => None,
            false => self.watchdog.compared(update.max_abs_log_ratio_lag0),
        };
        let alarms = alarms.iter().chain(&disagreement);
        alarms.for_each(|alarm| warn(alarm, None));
        let counts = self.watchdog.counts();
        row.set(Metric::WatchdogLagGrows, counts.lag_grows as f64);
        row.set(Metric::WatchdogWeightsStuck, counts.weights_stuck as f64);
        row.set(Metric::WatchdogEssLow, counts.ess_low as f64);
        row.set(Metric::WatchdogStalled, counts.stalled as f64);
        row.set(Metric::WatchdogLogProbs, counts.log_probs_disagree as f64);
    }

    /// Asks the governor what to do until the next update, and does it.
    fn govern(&mut self, lag: f64, ess: f64, pacing: &Pacing, row: &mut Row) {
        let Some((in_flight, held)) = pacing.load() else {
            return;
        };
        row.set(Metric::PacingInFlight, in_flight as f64);
        row.set(Metric::PacingHeld, held as f64);
        if let Some(governor) = &mut self.governor {
            let decision = governor.observe(&Observation {
                lag,
                ess,
                in_flight,
                held: held > 0,
            });
            self.cadence.set_interval_updates(decision.publish_interval);
            pacing.set_budget(decision.budget_unrolls);
            row.set(Metric::GovernorBudget, decision.budget_unrolls as f64);
            row.set(Metric::GovernorInterval, decision.publish_interval as f64);
            row.set(Metric::GovernorTarget, decision.lag_target);
        }
    }

    /// Lets the watchdog look at the clock and the actors, now and then.
    pub fn tick(&mut self, now: Instant, books: &Books) {
        if now.saturating_duration_since(self.ticked) < TICK {
            return;
        }
        self.ticked = now;
        let (seen, imbalance) = {
            let books = books.lock();
            (books.roster.seen(), books.ledger.counts().imbalance())
        };
        if imbalance > 0 && !self.unbalanced {
            self.unbalanced = true;
            tracing::error!(
                unrolls = imbalance,
                "the trajectory ledger does not balance: a defect of the learner, which ends the run with an error"
            );
        }
        for alarm in self.watchdog.tick(now, self.published().0, &seen) {
            let index = match alarm {
                Alarm::WeightsStuck { actor, .. } => Some(books.lock().roster.index(actor)),
                _ => None,
            };
            warn(&alarm, index);
        }
    }

    /// The predicted lag beside the measured one, with a warning if they do not agree; none before the first update.
    #[must_use]
    pub fn conclude(&self, tally: &Tally) -> Option<LagPrediction> {
        if tally.updates == 0 {
            return None;
        }
        let prediction = self.predict(tally);
        if let Some(cause) = &prediction.cause
            && tally.updates >= SETTLED_UPDATES
        {
            let measured = tally.lag.summary().mean;
            let predicted = prediction.versions;
            tracing::warn!(
                measured,
                predicted,
                "the policy lag is not what buffers and rates make: {cause}"
            );
        }
        Some(prediction)
    }

    /// The health of the trained steps by lag.
    #[must_use]
    pub fn lag_buckets(&self) -> Vec<BucketSummary> {
        self.buckets.summary()
    }

    /// Optimiser steps made on a batch before each of its own, mean over the updates.
    #[must_use]
    pub fn lag_forward(&self) -> f64 {
        self.forward.get().unwrap_or(0.0)
    }

    /// How the lag was steered, with what was done to each actor.
    #[must_use]
    pub fn summary(&self, books: &mut Admission, pacing: &Pacing) -> SteeringSummary {
        for (actor, paused) in pacing.paused() {
            let index = books.roster.index(actor);
            let counts = books.steered.actor(index);
            counts.paused += paused.acknowledgements;
            counts.paused_s += paused.time.as_secs_f64();
        }
        SteeringSummary {
            over_limit: self.over_limit.to_string(),
            limit_versions: self.limit,
            governor: self.governor.as_ref().map(Governor::summary),
            actors: books.steered.actors(),
        }
    }

    /// How often each alarm was raised.
    #[must_use]
    pub fn alarms(&self) -> AlarmCounts {
        self.watchdog.counts()
    }

    fn predict(&self, tally: &Tally) -> LagPrediction {
        let shares = tally.time_shares();
        let governed = self.governor.as_ref().map(Governor::summary);
        let paced = self.limit.filter(|_| self.over_limit == OverLimit::Pace);
        let paced =
            paced.map(|limit| limit as f64 / self.pipeline.trainings * self.pipeline.batch_unrolls);
        let causes = tally.lag.causes();
        let pipeline = Pipeline {
            injected_versions: causes.injected,
            actors: self.actors.get().unwrap_or(self.pipeline.actors),
            publish_interval: self.cadence.mean_interval(),
            budget_unrolls: governed.map(|governed| governed.budget_unrolls).or(paced),
            ..self.pipeline
        };
        let measured = Measured {
            learner_busy: shares.learner_busy,
            actors_blocked: shares.actors_blocked,
            unroll_s: tally.unroll_s(),
            update_s: tally.busy.as_secs_f64() / tally.updates.max(1) as f64,
            publish_versions: causes.publish,
            lag_versions: tally.lag.summary().mean,
        };
        predict(&pipeline, &measured)
    }
}

/// Says what is wrong, and at which place of the roster if it is an actor's.
fn warn(alarm: &Alarm<ActorId>, index: Option<u32>) {
    match alarm {
        Alarm::LagGrows {
            from,
            to,
            predicted,
        } => tracing::warn!(
            from,
            to,
            predicted,
            "the policy lag grows without end: something queues up that nothing limits"
        ),
        Alarm::WeightsStuck {
            actor,
            version,
            newest,
        } => tracing::warn!(
            %actor,
            index,
            version,
            newest,
            "an actor goes on with old parameters: newer ones do not reach it, or it cannot load them"
        ),
        Alarm::EssLow { ess, floor } => tracing::warn!(
            ess,
            floor,
            "most of the experience is wasted: lower the policy lag (lag.max_versions, lag.target_ess) or the step size"
        ),
        Alarm::LogProbsDisagree { max, limit } => tracing::warn!(
            max,
            limit,
            "actor and learner disagree about log-probabilities of the same version: they do not compute the same network, \
             and every importance ratio is wrong"
        ),
        Alarm::Stalled { time } => tracing::warn!(
            seconds = time.as_secs(),
            "nothing was trained for a while: no unrolls arrive, or one update takes too long"
        ),
    }
}
