//! The trainer's loop with a scripted updater: no network, no device.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use springbok_common::{
    config::{Config, OverLimit},
    ids::{ActorId, RunId, UnrollSequence},
    version::{LearnerEpoch, PolicyVersion},
};
use tokio_util::sync::CancellationToken;

use super::{
    PolicyUpdater,
    batch::Batch,
    run_loop::{self, Checkpoints, TrainerLinks, TrainerReport},
    steering::gate_limits,
    update::{UpdateFault, UpdateMetrics},
};
use crate::{
    EventSink,
    admission::{Admission, Fence},
    books::Books,
    checkpoint::{self, Life, Saver},
    error::LearnerError,
    ledger::LedgerCounts,
    metrics::MetricsWriter,
    pacing::Pacing,
    publisher::{Publications, Publisher},
    queue::{Arrived, queue},
    steered::SteeredActor,
    summary::LearnerEvent,
    testing,
};

/// Fails at the updates whose numbers it is given, as given, and otherwise counts up its parameters.
struct Scripted {
    /// Whether it computes elsewhere, so that there is time for the next batch.
    elsewhere: bool,
    /// How often a batch was staged.
    staged: Arc<AtomicUsize>,
    faults: Vec<(u32, UpdateFault)>,
    calls: u32,
    parameters: u8,
    /// The weights of the first step of each batch; 1 if all are.
    weights: Arc<Mutex<Vec<f32>>>,
}

impl PolicyUpdater for Scripted {
    type Staged = Batch;

    fn stage(&self, batch: &Batch) -> Batch {
        self.staged.fetch_add(1, Ordering::Relaxed);
        batch.clone()
    }

    fn update(
        &mut self,
        batch: &Batch,
        staged: Batch,
        remaining: f64,
        meanwhile: &mut dyn FnMut(&Self),
    ) -> Result<UpdateMetrics, UpdateFault> {
        let alike = |left: &Batch, right: &Batch| {
            left.extent() == right.extent()
                && left.observations == right.observations
                && left.actors == right.actors
        };
        assert!(alike(&staged, batch));
        if self.elsewhere {
            meanwhile(self);
        }
        assert_eq!(batch.steps(), 16);
        assert!((0.0..=1.0).contains(&remaining));
        self.calls += 1;
        let weight = batch.weights.first().copied().unwrap_or(1.0);
        self.weights.lock().unwrap().push(weight);
        if let Some((_, fault)) = self.faults.iter().find(|(call, _)| *call == self.calls) {
            return Err(*fault);
        }
        self.parameters += 1;
        Ok(UpdateMetrics {
            measuring: Duration::ZERO,
            trust_region: None,
            auxiliary: None,
            policy_loss: 0.1,
            value_loss: 0.2,
            entropy: 0.5,
            gradient_norm: 1.0,
            epochs: 4,
            approx_kl: 0.0,
            kl: f64::NAN,
            kl_coefficient: f64::NAN,
            clip_fraction: 0.25,
            ess_prox: 0.5,
            ess_behaviour: 1.0,
            ratio_counts: std::array::from_fn(|bucket| u64::from(bucket == 12) * 16),
            explained_variance: f64::NAN,
            rho_saturation: 0.0,
            max_abs_log_ratio_lag0: 0.0,
            mean_abs_log_ratio_lag0: 0.0,
            advantage_mean: 0.0,
            advantage_std: 1.0,
            learning_rate: 1e-3,
            optimiser_steps: 16,
            per_lag: vec![],
        })
    }

    fn parameters(&self) -> Bytes {
        vec![self.parameters; 4].into()
    }
}

struct Outcome {
    staged: usize,
    /// Version and parameters of the newest checkpoint.
    checkpoint: Option<(PolicyVersion, Vec<u8>)>,
    weights: Vec<f32>,
    steered: Vec<SteeredActor>,
    result: Result<TrainerReport, LearnerError>,
    counts: LedgerCounts,
    publications: Publications,
    events: Vec<LearnerEvent>,
    metrics: String,
}

/// Runs the trainer on `unrolls` queued unrolls of version 0, and stops it when they are used up.
async fn train(config: Config, fails_at: Vec<u32>, unrolls: u64) -> Outcome {
    let broken = UpdateFault::NonFinite { what: "the loss" };
    let faults = fails_at.into_iter().map(|call| (call, broken)).collect();
    train_with(config, faults, unrolls).await
}

/// The same with any faults. Whether the next batch is put together during an update makes no difference.
async fn train_with(config: Config, faults: Vec<(u32, UpdateFault)>, unrolls: u64) -> Outcome {
    let here = train_somewhere(config.clone(), faults.clone(), unrolls, false).await;
    let elsewhere = train_somewhere(config, faults, unrolls, true).await;
    assert_eq!(elsewhere.counts, here.counts);
    assert_eq!(elsewhere.weights, here.weights);
    let lag = |outcome: &Outcome| {
        let report = outcome.result.as_ref().ok();
        report.map(|report| report.tally.lag.summary().mean)
    };
    assert_eq!(lag(&elsewhere), lag(&here));
    elsewhere
}

async fn train_somewhere(
    config: Config,
    faults: Vec<(u32, UpdateFault)>,
    unrolls: u64,
    elsewhere: bool,
) -> Outcome {
    let agreement = testing::agreement();
    let fence = Fence {
        run_id: RunId::random(),
        epoch: LearnerEpoch::FIRST,
        lag_versions_max: match config.lag.over_limit {
            OverLimit::DropStale => config.lag.max_versions,
            _ => None,
        },
    };
    let books = Books::new(Admission::new(fence, 4));
    let actor = ActorId::random();
    books
        .lock()
        .roster
        .join(actor, None, Instant::now())
        .unwrap();
    let (queue_in, queue_out) = queue(unrolls as usize);
    for sequence in 1..=unrolls {
        let settled = books.lock().settle(actor, UnrollSequence(sequence), Ok(()));
        settled.unwrap();
        let arrived = Arrived {
            actor: ActorId::random(),
            unroll: testing::unroll(&agreement, sequence),
            arrival: Instant::now(),
            issued: Instant::now(),
            traced: Default::default(),
        };
        queue_in.push(arrived).await.unwrap();
    }
    drop(queue_in);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.jsonl");
    let (publisher, publications) = Publisher::new(fence.epoch, 7, 0);
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink: EventSink = Arc::new({
        let events = Arc::clone(&events);
        move |event| events.lock().unwrap().push(event)
    });
    let links = TrainerLinks {
        queue: queue_out,
        books: books.clone(),
        pacing: Pacing::new(gate_limits(&config)),
        meters: Default::default(),
        publisher,
        stop: CancellationToken::new(),
        on_event: sink,
        metrics: MetricsWriter::create(&path).unwrap(),
        checkpoints: config
            .checkpoint
            .interval_updates
            .and_then(|_| Saver::start(directory.path(), &config, 0).unwrap())
            .map(|saver| Checkpoints {
                saver,
                life: Life {
                    run_id: fence.run_id,
                    epoch: fence.epoch,
                },
                config: config.to_toml(),
            }),
        resume: None,
    };
    let weights = Arc::new(Mutex::new(Vec::new()));
    let staged = Arc::new(AtomicUsize::new(0));
    let updater = Scripted {
        elsewhere,
        staged: Arc::clone(&staged),
        faults,
        calls: 0,
        parameters: 0,
        weights: Arc::clone(&weights),
    };
    let left = links.queue.clone();
    let result = run_loop::run(updater, &config, links);
    let mut books = books.lock();
    // As the learner does.
    books.ledger.discard(left.clear());
    books.ledger.check().unwrap();
    let newest = checkpoint::look(directory.path()).ok();
    Outcome {
        staged: staged.load(Ordering::Relaxed),
        checkpoint: newest.map(|(_, newest)| {
            let parameters = newest.updater.parameters.0.to_vec();
            (newest.trainer.version, parameters)
        }),
        weights: weights.lock().unwrap().clone(),
        steered: books.steered.actors(),
        result,
        counts: books.ledger.counts().clone(),
        publications,
        events: events.lock().unwrap().clone(),
        metrics: std::fs::read_to_string(&path).unwrap(),
    }
}

fn config() -> Config {
    let mut config = Config::default();
    let rollout = testing::agreement().rollout;
    config.actor.unroll_length = rollout.unroll_length;
    config.actor.environments_per_actor = rollout.environments;
    config.telemetry.progress_interval_ms = 0;
    config
}

#[tokio::test]
async fn each_batch_makes_a_version_and_a_line() {
    let outcome = train(config(), vec![], 7).await;
    let report = outcome.result.unwrap();
    assert_eq!(
        (report.version, report.tally.trained_steps),
        (PolicyVersion(3), 48)
    );
    // Each batch is staged once, the second and third of them while another is trained on.
    assert_eq!(outcome.staged, 3);
    // The seventh unroll makes no batch.
    assert_eq!((outcome.counts.trained, outcome.counts.discarded), (6, 1));
    let shelf = outcome.publications.borrow().clone().unwrap();
    let newest = shelf.newest();
    assert_eq!(
        (newest.version(), newest.payload()),
        (PolicyVersion(3), &report.parameters)
    );
    // All are of version 0: trained at versions 0, 1 and 2.
    let lag = report.tally.lag.summary();
    let causes = report.tally.lag.causes();
    assert_eq!((lag.mean, lag.max), (1.0, 2.0));
    let total = causes.publish + causes.unroll + causes.outbox + causes.queue + causes.batch;
    assert_eq!((total, causes.queue), (1.0, 1.0));
    assert_eq!(report.tally.time_shares().actors_blocked, 0.5);
    let lines: Vec<serde_json::Value> = outcome
        .metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["global_step"], 48.0);
    assert_eq!(lines[2]["lag/versions_p95"], 2.0);
    // Optimiser steps 0 to 15 of an update follow 7.5 others on average.
    assert_eq!(lines[2]["lag/forward"], 7.5);
    assert_eq!(report.steering.lag_forward(), 7.5);
    assert_eq!(lines[2]["ledger/imbalance"], 0.0);
    assert!(lines[2].get("losses/explained_variance").is_none());
    assert!(matches!(
        outcome.events.last(),
        Some(LearnerEvent::Progress(_))
    ));
}

#[tokio::test]
async fn a_rolled_back_update_is_counted_and_publishes_nothing() {
    let outcome = train(config(), vec![2], 6).await;
    let report = outcome.result.unwrap();
    assert_eq!(
        (report.version, report.tally.updates_rolled_back),
        (PolicyVersion(2), 1)
    );
    assert_eq!((outcome.counts.trained, outcome.counts.evicted), (4, 2));
    assert_eq!(report.parameters[..], [2; 4]);
}

#[tokio::test]
async fn a_stopped_update_is_no_fault_and_its_unrolls_are_discarded() {
    let outcome = train_with(config(), vec![(3, UpdateFault::Stopped)], 6).await;
    let report = outcome.result.unwrap();
    assert_eq!(
        (report.version, report.tally.updates_rolled_back),
        (PolicyVersion(2), 0)
    );
    assert_eq!((outcome.counts.trained, outcome.counts.discarded), (4, 2));
}

#[tokio::test]
async fn three_in_a_row_end_the_run_with_70_and_the_last_good_parameters() {
    let outcome = train(config(), vec![2, 3, 4], 12).await;
    let error = outcome.result.unwrap_err();
    assert!(matches!(error, LearnerError::NonFinite { updates: 3, .. }));
    assert_eq!(error.exit_code(), 70);
    let shelf = outcome.publications.borrow().clone().unwrap();
    let newest = shelf.newest();
    assert_eq!(newest.version(), PolicyVersion(1));
    assert_eq!((outcome.counts.evicted, outcome.counts.discarded), (6, 4));
}

#[tokio::test]
async fn no_checkpoint_holds_what_a_bad_update_made() {
    let mut config = config();
    config.checkpoint.interval_updates = Some(1);
    let outcome = train(config.clone(), vec![3, 5, 6, 7], 20).await;
    assert_eq!(outcome.result.unwrap_err().exit_code(), 70);
    // Updates 1, 2 and 4 were good; the third version may still have been skipped while the second was written.
    let (version, parameters) = outcome.checkpoint.unwrap();
    assert!((1..=3).contains(&version.0), "{version}");
    assert_eq!(parameters, vec![version.0 as u8; 4]);

    // The end of a run has one of its own, with all that was learnt.
    config.checkpoint.interval_updates = Some(1000);
    let outcome = train(config, vec![2], 8).await;
    let report = outcome.result.unwrap();
    assert_eq!(report.checkpoints.written, 1);
    assert_eq!(outcome.checkpoint.unwrap(), (PolicyVersion(3), vec![3; 4]));
}

#[tokio::test]
async fn unrolls_that_grew_too_old_in_the_queue_expire() {
    let mut config = config();
    config.lag.max_versions = Some(1);
    let outcome = train(config, vec![], 8).await;
    assert_eq!((outcome.counts.trained, outcome.counts.expired), (4, 4));
    assert_eq!(outcome.steered[0].dropped_unrolls, 4);
    assert_eq!(outcome.result.unwrap().tally.lag.summary().max, 1.0);
}

#[tokio::test]
async fn a_reused_batch_counts_once_and_its_lag_grows() {
    let mut config = config();
    config.learner.reuse = 3;
    let outcome = train(config.clone(), vec![], 4).await;
    let report = outcome.result.unwrap();
    // Two batches, each trained three times at once: at versions 0 to 5.
    assert_eq!(
        (report.version, report.tally.trained_steps),
        (PolicyVersion(6), 32)
    );
    assert_eq!(report.tally.reused_steps, 64);
    assert_eq!((outcome.counts.trained, outcome.counts.queued), (4, 0));
    let lag = report.tally.lag.summary();
    assert_eq!((lag.mean, lag.max), (2.5, 5.0));
    let last = outcome.metrics.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["charts/reused_steps"], 64.0);
    assert_eq!(last["lag/versions_max"], 5.0);

    // The second update fails: that batch is not tried again, and the ledger had settled it.
    let outcome = train(config.clone(), vec![2], 4).await;
    let report = outcome.result.unwrap();
    assert_eq!(
        (report.tally.updates, report.tally.updates_rolled_back),
        (4, 1)
    );
    assert_eq!((outcome.counts.trained, outcome.counts.evicted), (4, 0));
    assert_eq!(report.tally.reused_steps, 32);

    // Beyond the limit a batch is trained no more, though no unroll of it counts as expired.
    config.lag.max_versions = Some(1);
    let outcome = train(config, vec![], 2).await;
    assert_eq!(outcome.result.unwrap().tally.updates, 2);
    assert_eq!((outcome.counts.trained, outcome.counts.expired), (2, 0));
}

#[tokio::test]
async fn what_is_over_the_limit_is_masked_or_weighted_and_counted() {
    for (policy, weights) in [
        (OverLimit::Mask, [1.0, 1.0, 0.0, 0.0]),
        (OverLimit::DownWeight, [1.0, 1.0, 0.5, 1.0 / 3.0]),
    ] {
        let mut config = config();
        config.lag.max_versions = Some(1);
        config.lag.over_limit = policy;
        let outcome = train(config, vec![], 8).await;
        assert_eq!((outcome.counts.trained, outcome.counts.expired), (8, 0));
        assert_eq!(outcome.weights, weights);
        // Two batches of two unrolls of eight steps.
        let of = &outcome.steered[0];
        let masked = policy == OverLimit::Mask;
        assert_eq!(of.over_limit_steps, 32);
        assert_eq!(of.masked_steps, if masked { 32 } else { 0 });
        assert_eq!(of.down_weighted_steps, if masked { 0 } else { 32 });
        let last = outcome.metrics.lines().last().unwrap();
        assert!(last.contains("\"lag/over_limit\":1.0"));
    }
}

#[tokio::test]
async fn a_governor_publishes_rarely_where_nothing_is_held_back() {
    let mut config = config();
    config.lag.target_lag = Some(200.0);
    let outcome = train(config, vec![], 80).await;
    let report = outcome.result.unwrap();
    assert_eq!(report.version, PolicyVersion(40));
    // The lag of what is queued is far below the set-point: after ten updates the interval grows.
    let newest = outcome.publications.borrow().clone().unwrap();
    let newest = newest.newest().version();
    assert!(newest >= PolicyVersion(9) && newest < PolicyVersion(40));
    let last = outcome.metrics.lines().last().unwrap();
    let row: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(row["governor/publish_interval"].as_f64().unwrap() > 100.0);
    assert_eq!(row["governor/lag_target"], 200.0);
}

#[tokio::test]
async fn every_third_version_is_published_if_so_configured_and_the_prediction_knows() {
    let mut config = config();
    config.learner.publish_interval_updates = 3;
    let outcome = train(config, vec![], 16).await;
    let report = outcome.result.unwrap();
    assert_eq!(report.version, PolicyVersion(8));
    // 0, 3 and 6.
    let newest = outcome.publications.borrow().clone().unwrap();
    assert_eq!(newest.newest().version(), PolicyVersion(6));
    assert_eq!(newest.number(), 3);
    let row: serde_json::Value =
        serde_json::from_str(outcome.metrics.lines().last().unwrap()).unwrap();
    assert_eq!(row["snapshots/published"], 3.0);
    assert_eq!(report.steering.published(), PolicyVersion(6));
}

#[tokio::test]
async fn the_run_ends_at_its_steps_or_its_return() {
    let mut steps = config();
    steps.run.total_steps = 20;
    let report = train(steps, vec![], 8).await.result.unwrap();
    assert_eq!(report.tally.trained_steps, 32);
    let mut returns = config();
    returns.run.stop_return = Some(1.0);
    let outcome = train(returns, vec![], 40).await;
    // Each unroll has one episode; 20 are evidence.
    let report = outcome.result.unwrap();
    let threshold = report.tally.threshold.unwrap();
    assert_eq!((report.tally.episodes, threshold.mean_return), (20, 1.0));
    assert_eq!(threshold.env_steps, 40 * 8);
    assert_eq!(outcome.counts.discarded, 20);
}

#[tokio::test]
async fn the_delay_slows_each_update() {
    let mut config = config();
    config.learner.update_delay_ms = 60;
    let begun = Instant::now();
    let report = train(config, vec![], 4).await.result.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(120));
    assert!(report.tally.busy >= Duration::from_millis(120));
}
