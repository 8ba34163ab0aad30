//! The lag that a configuration must have, by arithmetic, to be compared with the lag that was measured.
//!
//! A step's lag is the number of updates between the loading of its parameters and its training, so it is what lies in
//! front of an unroll when it is begun, in batches. With N actors, rho = what the actors could produce over what the
//! learner could train, and rho = busy / (1 - blocked) when the pipeline runs steadily:
//!
//! * learner-bound (rho >= 1): the pipeline fills every buffer, and an unroll is begun when another leaves the queue.
//!   The lag is (queue + N outbox) / batch; over the unrolls of a batch the rounding averages out (Hermite's identity).
//! * actor-bound (rho < 1): nothing waits. While an unroll is made the N actors finish N unrolls, that is N / batch
//!   updates, and with probability rho another update was under way when it was begun: N / batch + rho. It is never
//!   more than full buffers make.
//!
//! A full queue that drops its oldest unroll holds nobody back. When it is learner-bound, an unroll is made during
//! N / (batch rho) updates, and one that is not dropped waits for (2 q + rho - 1) / (2 rho) more, with q = queue / batch.
//!
//! Where actors load newer parameters in flight, the versions that are made during an unroll, N / batch or the updates in
//! its time, whichever is less, count half on average: its first step lags as before, its last one not by them.
//!
//! Parameters on their way add up to one version, publishing only every p-th version adds (p - 1) / 2, and a lag that is
//! injected is added as it is. Where each batch is trained on R times it makes R versions, so the buffers count R times,
//! and the trainings after the first add (R - 1) / 2 times the batches of the reservoir. The two regimes are those of the model of Applied Compute ("Staleness in fully
//! asynchronous RL", 2026), for fixed-length unrolls; the buffers of that system drop, those here hold back.

use serde::{Deserialize, Serialize};

/// What the buffers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pipeline {
    /// Actors at work, mean.
    pub actors: f64,
    /// Unrolls that each may have begun and not seen acknowledged.
    pub outbox_unrolls: f64,
    /// Places in the queue.
    pub queue_unrolls: f64,
    /// Unrolls in one update.
    pub batch_unrolls: f64,
    /// Whether a full queue drops its oldest unroll instead of making actors wait.
    pub evicts: bool,
    /// Every how many versions one is published, mean.
    pub publish_interval: f64,
    /// Unrolls that may be in flight altogether, if that is limited.
    pub budget_unrolls: Option<f64>,
    /// Lag that is added on purpose, in versions.
    pub injected_versions: f64,
    /// Updates on each batch; each makes a version.
    pub trainings: f64,
    /// Batches that those to be trained on again are drawn from.
    pub reservoir_batches: f64,
    /// Whether learner and actors wait for each other, so that nothing lags by itself.
    pub lock_step: bool,
    /// Whether each step is made with the newest parameters, and not only the first of an unroll.
    pub refreshes: bool,
    /// Lag beyond which experience is not trained on, if it is limited.
    pub limit_versions: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Share of the learner's time in which it computed.
    pub learner_busy: f64,
    /// Share of the actors' time in which they waited for the learner.
    pub actors_blocked: f64,
    /// Mean seconds of an unroll, without waiting.
    pub unroll_s: f64,
    /// Mean seconds of an update.
    pub update_s: f64,
    /// Mean lag because an actor had not loaded the newest version, in versions.
    pub publish_versions: f64,
    /// Mean lag, in versions.
    pub lag_versions: f64,
}

/// Which side is the slower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// The learner: every buffer is full.
    LearnerBound,
    /// The actors: every buffer is empty.
    ActorBound,
}

/// Predicted and measured lag side by side: `lag_predicted` in `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagPrediction {
    /// Predicted mean lag, in versions.
    pub versions: f64,
    /// Which side is the slower one.
    pub regime: Regime,
    /// What the actors could produce over what the learner could train; more than 1 if the learner is slower.
    pub rho: f64,
    /// Whether the measured lag is within 1 version or 20 % of it, whichever is more.
    pub agrees: bool,
    /// What probably makes the difference, if they do not agree.
    pub cause: Option<String>,
}

/// Predicts the lag of `pipeline` and compares it with what was measured.
#[must_use]
pub fn predict(pipeline: &Pipeline, measured: &Measured) -> LagPrediction {
    let batch = pipeline.batch_unrolls.max(1.0);
    let rho = if pipeline.evicts {
        // Nobody waits for the learner, so the shares say nothing.
        pipeline.actors * measured.update_s / (batch * measured.unroll_s).max(f64::MIN_POSITIVE)
    } else {
        measured.learner_busy / (1.0 - measured.actors_blocked).max(1e-3)
    };
    let begun = pipeline.actors * pipeline.outbox_unrolls;
    let mut full = (pipeline.queue_unrolls + begun) / batch;
    if let Some(budget) = pipeline.budget_unrolls {
        // A budget counts the batch in training too, which lies behind an unroll that is begun after it.
        full = full.min((budget / batch - 1.0).max(0.0));
    }
    let idle = pipeline.actors / batch + rho;
    let (regime, buffered) = if rho >= 1.0 {
        let capacity = pipeline.queue_unrolls / batch;
        let evicting = pipeline.actors / (batch * rho) + (2.0 * capacity + rho - 1.0) / (2.0 * rho);
        (
            Regime::LearnerBound,
            if pipeline.evicts { evicting } else { full },
        )
    } else {
        (Regime::ActorBound, idle.min(full))
    };
    let in_flight = if pipeline.refreshes {
        let batch_s = (measured.update_s * pipeline.trainings).max(f64::MIN_POSITIVE);
        (pipeline.actors / batch).min(measured.unroll_s / batch_s)
    } else {
        0.0
    };
    let buffered = (buffered - in_flight / 2.0).max(0.0);
    // The i-th training of a batch comes at least i - 1 versions after its first.
    let again = (pipeline.trainings - 1.0).max(0.0) / 2.0 * pipeline.reservoir_batches;
    let buffered = if pipeline.lock_step { 0.0 } else { buffered };
    let rarely = (pipeline.publish_interval - 1.0).max(0.0) / 2.0;
    let on_its_way = (measured.publish_versions - rarely).clamp(0.0, pipeline.trainings);
    let mut versions =
        buffered * pipeline.trainings + again + on_its_way + rarely + pipeline.injected_versions;
    if let Some(limit) = pipeline.limit_versions {
        versions = versions.min(limit);
    }
    let difference = measured.lag_versions - versions;
    let agrees = difference.abs() <= (0.2 * versions).max(1.0);
    let late = measured.publish_versions - rarely - on_its_way;
    LagPrediction {
        versions,
        regime,
        rho,
        agrees,
        cause: (!agrees).then(|| cause(difference, late).to_owned()),
    }
}

/// What probably makes `difference` versions, of which `late` are because parameters arrived late.
fn cause(difference: f64, late: f64) -> &'static str {
    if late >= 0.5 * difference.abs() && late > 0.5 {
        "parameters reach the actors late: look at the network, the size of the policy and the logs of the actors"
    } else if difference > 0.0 {
        "unrolls wait somewhere that is not counted: actors of very unequal speed, or actors that came and went"
    } else {
        "buffers were not full or not empty all the time: rates that change during the run, or a run too short to settle"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Plan, steady};

    fn pipeline(plan: &Plan) -> Pipeline {
        Pipeline {
            actors: plan.unroll_s.len() as f64,
            outbox_unrolls: plan.outbox as f64,
            queue_unrolls: plan.queue as f64,
            batch_unrolls: plan.batch as f64,
            evicts: plan.evicts,
            publish_interval: plan.publish_interval as f64,
            budget_unrolls: plan.budget.map(|budget| budget as f64),
            injected_versions: 0.0,
            trainings: 1.0,
            reservoir_batches: 1.0,
            lock_step: false,
            refreshes: plan.refreshes,
            limit_versions: None,
        }
    }

    fn predicted(plan: &Plan) -> (LagPrediction, f64) {
        let steady = steady(plan.clone());
        let measured = Measured {
            learner_busy: steady.learner_busy,
            unroll_s: plan.unroll_s[0],
            update_s: plan.update_s,
            actors_blocked: steady.actors_blocked,
            publish_versions: steady.publish_versions,
            lag_versions: steady.lag,
        };
        (predict(&pipeline(plan), &measured), steady.lag)
    }

    #[test]
    fn the_model_agrees_with_the_simulated_pipeline_from_one_end_to_the_other() {
        // Actors, outbox, queue, batch, seconds of an update for an unroll of 1 s, and the regime.
        let (learner, actors) = (Regime::LearnerBound, Regime::ActorBound);
        let cases = [
            (2, 1, 2, 2, 10.0, learner),
            (2, 1, 2, 2, 0.5, actors),
            (1, 4, 8, 2, 3.0, learner),
            (8, 1, 2, 2, 1.0, learner),
            (8, 2, 16, 4, 2.0, learner),
            (8, 2, 16, 4, 0.4, actors),
            (64, 1, 32, 8, 1.0, learner),
            (64, 1, 32, 8, 0.12, actors),
            (4, 1, 1, 1, 0.1, actors),
            (4, 1, 16, 1, 0.2, actors),
            (4, 1, 16, 1, 0.4, learner),
            (1, 1, 2, 2, 0.01, actors),
        ];
        for (count, outbox, queue, batch, update_s, regime) in cases {
            let mut plan = Plan::new(count, 1.0, update_s);
            (plan.outbox, plan.queue, plan.batch) = (outbox, queue, batch);
            let (found, lag) = predicted(&plan);
            assert_eq!(found.regime, regime, "{plan:?}");
            // Far closer than what a run is warned of.
            let near = (found.versions - lag).abs() <= (0.1 * lag).max(0.3);
            assert!(near && found.agrees, "{plan:?}: {found:?}, simulated {lag}");
        }
    }

    #[test]
    fn rare_publications_and_budgets_are_in_the_arithmetic() {
        let mut rare = Plan::new(4, 1.0, 2.0);
        rare.publish_interval = 9;
        let (found, lag) = predicted(&rare);
        assert!(
            lag > 6.0 && (found.versions - lag).abs() < 1.0,
            "{found:?} {lag}"
        );
        let mut tight = Plan::new(8, 0.2, 1.0);
        tight.budget = Some(6);
        let (found, lag) = predicted(&tight);
        assert!(
            lag < 3.5 && (found.versions - lag).abs() < 1.0,
            "{found:?} {lag}"
        );
    }

    #[test]
    fn parameters_in_flight_take_half_of_what_an_unroll_lasts_off_the_lag() {
        // Actors, queue, batch, seconds of an update for an unroll of 1 s.
        for (count, queue, batch, update_s) in [
            (2, 2, 2, 10.0),
            (8, 16, 4, 0.4),
            (8, 16, 4, 2.0),
            (64, 32, 8, 0.12),
            (4, 16, 1, 0.2),
            (1, 2, 2, 0.01),
        ] {
            let mut plan = Plan::new(count, 1.0, update_s);
            (plan.queue, plan.batch) = (queue, batch);
            let (_, before) = predicted(&plan);
            plan.refreshes = true;
            let (found, lag) = predicted(&plan);
            assert!(lag < before, "{plan:?}: {lag}, without {before}");
            let near = (found.versions - lag).abs() <= (0.1 * lag).max(0.35);
            assert!(near && found.agrees, "{plan:?}: {found:?}, simulated {lag}");
        }
    }

    #[test]
    fn a_queue_that_drops_has_its_own_arithmetic() {
        for (queue, batch, update_s) in [(2, 2, 1.0), (8, 2, 1.0), (16, 4, 4.0), (8, 2, 0.1)] {
            let mut plan = Plan::new(8, 1.0, update_s);
            (plan.queue, plan.batch, plan.evicts) = (queue, batch, true);
            let (found, lag) = predicted(&plan);
            let near = (found.versions - lag).abs() <= (0.2 * lag).max(0.6);
            assert!(near, "{plan:?}: {found:?}, simulated {lag}");
        }
    }

    #[test]
    fn a_mismatch_names_what_is_likely() {
        let pipeline = pipeline(&Plan::new(2, 1.0, 2.0));
        let measured = |publish_versions, lag_versions| Measured {
            learner_busy: 1.0,
            unroll_s: 1.0,
            update_s: 2.0,
            actors_blocked: 0.5,
            publish_versions,
            lag_versions,
        };
        let late = predict(&pipeline, &measured(9.0, 11.0));
        assert!(
            late.cause
                .unwrap()
                .starts_with("parameters reach the actors late")
        );
        let buffer = predict(&pipeline, &measured(0.5, 11.0));
        assert!(buffer.cause.unwrap().starts_with("unrolls wait somewhere"));
        let fine = predict(&pipeline, &measured(0.56, 2.56));
        assert_eq!((fine.agrees, fine.cause), (true, None));
        let mut injected = pipeline;
        injected.injected_versions = 4.0;
        assert!(predict(&injected, &measured(0.56, 6.56)).agrees);
        injected.limit_versions = Some(2.0);
        assert_eq!(predict(&injected, &measured(0.5, 1.5)).versions, 2.0);
    }
}
