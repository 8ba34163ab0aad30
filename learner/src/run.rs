//! One learner from start to end: service and trainer side by side, then the drain, then the results.

mod acting;
mod shown;
mod start;

use std::{
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use springbok_common::{
    config::{Config, OverLimit},
    ids::RunId,
    policy::{FlatLayout, layout_fingerprint, write_safetensors},
    spec::{EnvironmentSpec, NetworkSpec},
    unroll::Agreement,
    wire::JoinTerms,
};
use tokio::{net::TcpListener, sync::oneshot, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use self::start::Start;
use crate::{
    EventSink,
    admission::{Admission, Fence},
    books::Books,
    checkpoint::{Life, Resumed, Saver},
    device::{self, Chosen},
    error::LearnerError,
    inference::InferenceMeter,
    monitor::{self, Feed},
    network::NetworkBytes,
    output::write_whole,
    pacing::Pacing,
    publisher::{Publications, Publisher},
    queue::{QueueReceiver, evicting_queue, queue},
    race,
    security::Security,
    service::{self, Edge, Inbox, LocalListener, Serving},
    summary::{LearnerEvent, Summary},
    trainer::{
        self,
        run_loop::{self, Checkpoints, Meters, TrainerLinks, TrainerReport},
        steering::{gate_limits, queue_unrolls},
        update::{Updater, UpdaterState},
    },
};

/// Name of the metrics in the run directory.
const METRICS: &str = "metrics.jsonl";

/// Time that the trainer has to finish the update it is in. One takes seconds at the worst.
const TRAINER_STOP_S_MAX: u64 = 60;

/// What a learner starts with.
pub struct LearnerOptions {
    /// The resolved configuration.
    pub config: Config,
    /// What is played.
    pub environment: EnvironmentSpec,
    /// Where results are written; it exists.
    pub run_directory: PathBuf,
    /// Where actors connect.
    pub listener: TcpListener,
    /// Where those of this machine may connect besides.
    pub local: Option<LocalListener>,
    /// Whether to go on from the newest checkpoint in that directory.
    pub resume: bool,
    /// Who may.
    pub security: Security,
}

/// What `policy.safetensors` is for: the content of `policy.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDescription {
    /// The training run.
    pub run_id: RunId,
    /// Updates behind the parameters.
    pub policy_version: u64,
    /// Seed of the run.
    pub seed: u64,
    /// The network.
    pub network: NetworkSpec,
    /// What it plays.
    pub environment: EnvironmentSpec,
    /// Options of the environment, a TOML table.
    pub environment_options: String,
}

type TrainerResult = Result<TrainerReport, LearnerError>;

/// The parts of a running learner.
struct Learner {
    life: Life,
    resumed: Option<Resumed>,
    config: Config,
    agreement: Agreement,
    device: String,
    books: Books,
    queue: QueueReceiver,
    pacing: Pacing,
    meters: Meters,
    stop: CancellationToken,
}

/// Runs a learner until its work is done or `shutdown` is cancelled, and writes `summary.json`, `policy.safetensors` and
/// `policy.json`.
///
/// # Errors
/// [`LearnerError`]; its exit code is the process's.
pub async fn run(
    options: LearnerOptions,
    on_event: EventSink,
    shutdown: CancellationToken,
) -> Result<Summary, LearnerError> {
    let LearnerOptions {
        config,
        environment,
        run_directory,
        listener,
        local,
        resume,
        security,
    } = options;
    let http = match config.telemetry.http {
        Some(address) => Some(Box::pin(monitor::bind(address)).await?),
        None => None,
    };
    let agreement = Agreement {
        network: config.network(&environment),
        rollout: config.rollout(),
        environment,
    };
    let (settings, played, stop) = (config.clone(), agreement.clone(), shutdown.clone());
    // Asking the drivers for adapters takes a moment, and a race longer.
    let chosen = spawn_blocking(move || race::select(&settings, &played, &stop)).await;
    let Chosen {
        device,
        name: device_name,
        reason: device_reason,
        ..
    } = chosen.map_err(|_| LearnerError::TrainerDied)??;

    let directory = run_directory.clone();
    let start = spawn_blocking(move || Start::of(&directory, resume)).await;
    let start = start.map_err(|_| LearnerError::TrainerDied)??;
    let life = start.life;
    let fence = Fence {
        run_id: life.run_id,
        epoch: life.epoch,
        lag_versions_max: match config.lag.over_limit {
            OverLimit::DropStale => config.lag.max_versions,
            _ => None,
        },
    };
    let (queue_in, queue_out) = if config.lag.over_limit == OverLimit::DropOldest {
        evicting_queue(queue_unrolls(&config))
    } else {
        queue(config.learner.queue_unrolls)
    };
    let layout = layout_fingerprint(&agreement.network);
    let (publisher, publications) = Publisher::new(
        fence.epoch,
        layout,
        // At most 1024.
        config.lag.inject.versions_max() as usize,
    );
    let publisher = publisher.in_encoding(
        config.learner.snapshot_encoding,
        FlatLayout::of(&agreement.network),
    );
    let mut admission = Admission::new(fence, actors_max(&config));
    let (mut updater_state, mut resume) = (None, None);
    if let Some(checkpoint) = start.checkpoint {
        let checkpoint = *checkpoint;
        let mut trainer = checkpoint.trainer;
        // In lock-step what was queued is made again.
        admission.restore(mem::take(&mut trainer.books), config.run.deterministic);
        (updater_state, resume) = (Some(checkpoint.updater), Some(trainer));
    }
    let named = (device.clone(), device_name.clone());
    let (desk, inference, end_of_acting) =
        match acting::desk(&config, &agreement, named, publications.clone())? {
            Some(opened) => (Some(opened.desk), Some(opened.meter), Some(opened.end)),
            None => (None, None, None),
        };
    let version = resume.as_ref().map_or(0, |resume| resume.version.0);
    let learner = Learner {
        life,
        resumed: start.resumed,
        books: Books::new(admission),
        queue: queue_out,
        pacing: Pacing::new(gate_limits(&config)),
        meters: Meters {
            traffic: NetworkBytes::default(),
            inference,
        },
        stop: CancellationToken::new(),
        device: device_name,
        config,
        agreement,
    };
    let (feed, latest) = Feed::new();
    let links = TrainerLinks {
        queue: learner.queue.clone(),
        books: learner.books.clone(),
        pacing: learner.pacing.clone(),
        meters: learner.meters.clone(),
        publisher,
        stop: learner.stop.clone(),
        on_event: Arc::clone(&on_event),
        metrics: shown::metrics(&run_directory, &learner.config, resume.as_ref())?
            .with_feed(http.is_some().then_some(feed)),
        checkpoints: Saver::start(&run_directory, &learner.config, version)?.map(|saver| {
            Checkpoints {
                saver,
                life,
                config: learner.config.to_toml(),
            }
        }),
        resume,
    };
    let address = listener.local_addr().map_err(LearnerError::Start)?;
    let inbox = Inbox {
        queue: queue_in,
        pacing: learner.pacing.clone(),
        desk,
        traffic: learner.meters.traffic.clone(),
    };
    let edge = learner.edge(inbox, publications.clone());
    let tokens = security.tokens.clone();
    // Its router is large, and would be moved with every future around it.
    let unix = local.as_ref().map(LocalListener::path);
    let unix = unix.map(|path| path.to_string_lossy().into_owned());
    let serving = Box::pin(service::serve_all((listener, local), edge, security)).await;
    let http_url = shown::http_url(http.as_ref());
    // Requests are answered for as long as it is held.
    let _monitor = http.map(|http| learner.show(http, latest, publications.clone(), tokens));
    on_event(LearnerEvent::Listening {
        address: address.to_string(),
        unix,
        run_id: life.run_id,
        device: learner.device.clone(),
        device_reason,
        http: http_url,
    });
    let trainer = learner.start_trainer(device, links, updater_state)?;
    // In a box: the future of a whole run is large, and whoever awaits it would carry all of it.
    let stopped = async {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = acting::failed(end_of_acting) => Err(failed),
        }
    };
    let report = Box::pin(learner.until_done(serving, publications, trainer, stopped)).await?;
    let summary = learner.results(&report, &run_directory)?;
    on_event(LearnerEvent::Finished {
        summary: Box::new(summary.clone()),
    });
    Ok(summary)
}

impl Learner {
    fn edge(&self, inbox: Inbox, publications: Publications) -> Arc<Edge> {
        let config = &self.config;
        let terms = JoinTerms {
            run_id: self.life.run_id,
            epoch: self.life.epoch,
            actor_index: 0,
            environment_id: config.environment.id.clone(),
            environment_options: config.environment.options.to_string(),
            network: self.agreement.network.clone(),
            rollout: self.agreement.rollout,
            seed: acting::actors_seed(config, self.life.epoch),
            fingerprint: self.agreement.fingerprint(),
            outbox_unrolls: config.actor.outbox_unrolls,
            message_bytes_max: config.limits.message_bytes_max,
            unrolls_per_snapshot: config.unrolls_per_snapshot(),
            life_versions: config.life_versions(),
            refresh: config.actor.refresh,
            inference: config.actor.inference,
            observations: config.actor.observation_encoding,
        };
        Edge::new(
            self.books.clone(),
            inbox,
            publications,
            self.agreement.clone(),
            terms,
            config.limits.clone(),
            config.lag.inject.clone(),
        )
    }

    /// The trainer computes on a thread of its own; the result arrives when it ends, and none if it panics on the
    /// processor.
    fn start_trainer(
        &self,
        device: Device,
        links: TrainerLinks,
        state: Option<UpdaterState>,
    ) -> Result<oneshot::Receiver<TrainerResult>, LearnerError> {
        let (result, receiver) = oneshot::channel();
        let (config, agreement) = (self.config.clone(), self.agreement.clone());
        let (name, stop) = (self.device.clone(), self.stop.clone());
        let train = move |device: Device| {
            let mut updater = Updater::new(&config, &agreement, device).stopped_by(stop);
            if let Some(state) = state {
                updater.restore(state)?;
            }
            updater.warm_up(&agreement, config.learner.batch_unrolls);
            run_loop::run(updater, &config, links)
        };
        thread::Builder::new()
            .name("trainer".to_owned())
            .stack_size(trainer::STACK_BYTES)
            .spawn(move || {
                let report = device::guard(&device, &name, || train(device.clone()));
                // Nobody waits for the result only if the learner has failed already.
                let _ = result.send(report.unwrap_or_else(|failed| Err(failed.into())));
            })
            .map_err(LearnerError::Start)?;
        Ok(receiver)
    }

    /// Waits for the trainer's end, a failure or `stopped`; then drains.
    async fn until_done(
        &self,
        mut serving: Serving,
        publications: Publications,
        mut trainer: oneshot::Receiver<TrainerResult>,
        stopped: impl Future<Output = Result<(), LearnerError>>,
    ) -> TrainerResult {
        let mut stopped = std::pin::pin!(stopped);
        let (mut ended, mut outcome) = (None, None);
        tokio::select! {
            () = ready(publications.clone()) => serving.ready().await,
            result = &mut trainer => ended = Some(result),
            stop = &mut stopped => outcome = Some(stop),
        }
        if ended.is_none() && outcome.is_none() {
            tokio::select! {
                result = &mut trainer => ended = Some(result),
                stop = &mut stopped => outcome = Some(stop),
                failed = serving.failed() => outcome = Some(failed.map_err(LearnerError::from)),
            }
        }
        self.stop.cancel();
        let grace = Duration::from_secs(TRAINER_STOP_S_MAX);
        let end_of_trainer = async {
            match ended {
                Some(result) => Ok(result),
                None => timeout(grace, trainer).await,
            }
        };
        let ((), result) = tokio::join!(serving.drain(), end_of_trainer);
        outcome.unwrap_or(Ok(()))?;
        let stuck = |_| LearnerError::TrainerStuck {
            seconds: TRAINER_STOP_S_MAX,
        };
        let report = result
            .map_err(stuck)?
            .map_err(|_| LearnerError::TrainerDied)??;
        // Streams and trainer have ended, so what is still queued now is what nobody will train on.
        let left = self.queue.clear();
        let mut books = self.books.lock();
        books.ledger.discard(left);
        books.ledger.check()?;
        Ok(report)
    }

    /// Sums up and writes everything that a run leaves behind.
    fn results(
        &self,
        report: &TrainerReport,
        run_directory: &Path,
    ) -> Result<Summary, LearnerError> {
        let summary = self.summary(report);
        let description = PolicyDescription {
            run_id: self.life.run_id,
            policy_version: report.version.0,
            seed: self.config.run.seed,
            network: self.agreement.network.clone(),
            environment: self.agreement.environment.clone(),
            environment_options: self.config.environment.options.to_string(),
        };
        let policy = write_safetensors(&report.parameters, &self.agreement.network)?;
        write_whole(&run_directory.join("policy.safetensors"), &policy)?;
        write_json(&run_directory.join("policy.json"), &description)?;
        write_json(&run_directory.join("summary.json"), &summary)?;
        Ok(summary)
    }

    fn summary(&self, report: &TrainerReport) -> Summary {
        let mut books = self.books.lock();
        let steering = report.steering.summary(&mut books, &self.pacing);
        let tally = &report.tally;
        let counts = books.ledger.counts();
        let env_steps = counts.produced * self.agreement.rollout.steps() as u64;
        let wall_s = report.wall.as_secs_f64();
        let per_second = |steps: u64| steps as f64 / wall_s.max(f64::MIN_POSITIVE);
        let time = tally.time_shares();
        Summary {
            run_id: self.life.run_id,
            epoch: self.life.epoch.0,
            resumed: self.resumed.clone(),
            checkpoints: report.checkpoints,
            environment: self.agreement.environment.id.clone(),
            device: self.device.clone(),
            seed: self.config.run.seed,
            env_steps,
            trained_steps: tally.trained_steps,
            reused_steps: tally.reused_steps,
            updates: tally.updates,
            updates_rolled_back: tally.updates_rolled_back,
            wall_s,
            env_steps_per_s: per_second(env_steps),
            trained_steps_per_s: per_second(tally.trained_steps),
            episodes: tally.episodes,
            return_mean_100: tally.return_mean(),
            return_best_100: tally.return_best(),
            threshold: tally.threshold,
            lag: tally.lag.summary(),
            lag_causes: tally.lag.causes(),
            lag_cause_seconds: tally.lag.cause_seconds(),
            lag_buckets: report.steering.lag_buckets(),
            lag_forward: report.steering.lag_forward(),
            lag_predicted: report.prediction.clone(),
            steering,
            bias_audit: books.steered.bias(),
            alarms: report.steering.alarms(),
            ess: tally.ess_mean(),
            clip_fraction: tally.clip_fraction_mean(),
            ledger: counts.clone(),
            ledger_imbalance: counts.imbalance(),
            rejected: books.ledger.rejected_by_reason().clone(),
            actors: books.roster.counts(),
            quarantine: books.quarantine.summary(),
            traffic: books.traffic,
            network: self.meters.traffic.summary(),
            inference: self
                .meters
                .inference
                .as_ref()
                .and_then(InferenceMeter::summary),
            time,
            bottleneck: time.verdict(),
        }
    }
}

/// In lock-step there are exactly the configured actors: one more would bring what no batch has room for.
fn actors_max(config: &Config) -> usize {
    if config.run.deterministic {
        config.actor.count
    } else {
        config.limits.actors_max
    }
}

/// Waits for the first snapshot.
async fn ready(mut publications: Publications) {
    if publications.wait_for(Option::is_some).await.is_err() {
        // The trainer is gone; whoever waits for its result hears of it.
        std::future::pending::<()>().await;
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LearnerError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| crate::output::failed(path, error.into()))?;
    text.push(b'\n');
    write_whole(path, &text)
}
