//! The edge to the learner: drives the session with what the streams, the rollout thread and the clock say.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use springbok_common::{
    config::InferencePlace,
    seed,
    unroll::{Agreement, UnrollParts},
    wire::{FrameCompressor, JoinTerms, encode_unroll, parse_acknowledgement},
};
use springbok_proto::v1::{self, actor_message, learner_message};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    acting::Line,
    connect::{Cells, Joined, Link, Lost, Received, Seeker},
    inference::Inference,
    lives::Lives,
    options::{ActorError, ActorOptions, ActorReport},
    python::is_python,
    rollout::{Rollout, RolloutError, micros},
    session::{Action, Event, LearnerLife, Phase, Session},
    traced::Traced,
    vector::VectorEnvironment,
    worker::{Finished, Permission, Published, Supplies, Worker},
    world::World,
};

/// A stream that lived this long was a good one: the next loss is a new outage.
const LINK_GOOD_AFTER: Duration = Duration::from_secs(10);
/// How long to wait for the rollout thread at the end.
const WORKER_GRACE: Duration = Duration::from_millis(500);

/// Runs one actor until its learner drains, `shutdown` is cancelled or something ends it: join, roll out, stream.
///
/// # Errors
/// No learner within `options.learner_wait_max`, a learner that trains something else, or a failing environment.
pub async fn run(
    options: ActorOptions,
    shutdown: CancellationToken,
) -> Result<ActorReport, ActorError> {
    run_in(World::default(), options, shutdown).await
}

/// Runs one actor in `world`, as [`run`] does in the real one.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    world: World,
    options: ActorOptions,
    shutdown: CancellationToken,
) -> Result<ActorReport, ActorError> {
    let mut seeker = Seeker::new(&options, &world)?;
    let Some(mut joined) = seeker.join(&shutdown).await? else {
        return Ok(ActorReport::default());
    };
    let (cell, newest) = watch::channel(None);
    let (line_cell, lines) = watch::channel(None);
    let supplies = Supplies {
        parameters: newest.clone(),
        lines: lines.clone(),
    };
    let order = (options.clone(), joined.terms.clone(), supplies);
    let (agreement, worker) = (world.prepare)(order.0, order.1, order.2).await?;
    let mut actor = Actor {
        url: options.learner.clone(),
        agreement,
        session: Session::new(),
        started: Instant::now(),
        worker,
        step_max: (!is_python(&joined.terms.environment_id)).then_some(options.step_max),
        spare: None,
        frames: None,
        traced: Traced::default(),
        cells: Cells {
            parameters: Arc::new(cell),
            refused: Arc::default(),
            lines: Arc::new(line_cell),
        },
        newest,
        lines,
    };
    loop {
        actor.check(&joined.terms)?;
        let compressed = seeker.compresses(joined.terms.observations);
        // Without memory to compress in, observations travel as they are, which every learner reads.
        actor.frames = compressed.then(FrameCompressor::new).and_then(Result::ok);
        match actor.converse(&joined, &mut seeker, &shutdown).await? {
            Ended::Done => break,
            Ended::Lost(lost) => {
                tracing::warn!(learner = %options.learner, cause = %lost.cause, "lost the learner; joining again");
                seeker.lost(lost);
            }
        }
        match seeker.join(&shutdown).await? {
            Some(again) => joined = again,
            None => break,
        }
    }
    let report = actor.report();
    actor.worker.ended(WORKER_GRACE).await;
    Ok(report)
}

/// How a stream ended.
enum Ended {
    /// The session is over.
    Done,
    /// The learner is gone, perhaps for a while.
    Lost(Lost),
}

/// An unroll as it goes over the wire; its arrays are shared bytes.
#[derive(Clone)]
struct Parcel {
    message: v1::Unroll,
    finished: std::time::Instant,
    /// When the parameters that made it had arrived.
    received: std::time::Instant,
    traced: Traced,
}

struct Actor {
    url: String,
    agreement: Agreement,
    session: Session<Parcel>,
    started: Instant,
    worker: Worker,
    /// How long one step of the environments may take; `None` if they see to that themselves.
    step_max: Option<Duration>,
    /// Buffers of the last unroll, for the next.
    spare: Option<UnrollParts>,
    /// Compresses observations, if the learner wants that.
    frames: Option<FrameCompressor>,
    /// The unroll in the making.
    traced: Traced,
    cells: Cells,
    newest: watch::Receiver<Option<Published>>,
    lines: watch::Receiver<Option<Line>>,
}

impl Actor {
    /// Whether a learner that was joined again still trains what was built for it.
    fn check(&self, terms: &JoinTerms) -> Result<(), ActorError> {
        check_fingerprint(&self.url, &self.agreement, terms)
    }

    /// Drives the session over one stream until that ends.
    async fn converse(
        &mut self,
        joined: &Joined,
        seeker: &mut Seeker,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ActorError> {
        let mut link = match Link::open(joined, &self.agreement, self.cells.clone()).await {
            Ok(link) => link,
            Err(cause) => return Ok(Ended::Lost(cause.into())),
        };
        let opened = Instant::now();
        let mut event = Event::Joined {
            life: life(&joined.terms),
            outbox_unrolls: joined.terms.outbox_unrolls,
            unrolls_per_snapshot: joined.terms.unrolls_per_snapshot,
        };
        let mut lost = Lost::default();
        loop {
            let actions = self.session.handle(self.started.elapsed(), event);
            for action in actions {
                self.perform(action, &mut link);
            }
            match self.session.phase() {
                Phase::Streaming | Phase::Draining => {}
                Phase::Done => return Ok(Ended::Done),
                Phase::Joining => {
                    if opened.elapsed() >= LINK_GOOD_AFTER {
                        seeker.settled();
                    }
                    return Ok(Ended::Lost(lost));
                }
            }
            event = self.next_event(&mut link, shutdown, &mut lost).await?;
            if matches!(event, Event::Acknowledged { .. }) {
                seeker.settled();
            }
        }
    }

    /// Waits for whatever comes first. For [`Event::Disconnected`], says why in `lost`.
    async fn next_event(
        &mut self,
        link: &mut Link,
        shutdown: &CancellationToken,
        lost: &mut Lost,
    ) -> Result<Event<Parcel>, ActorError> {
        let streaming = self.session.phase() == Phase::Streaming;
        let deadline = self.session.goodbye_deadline().unwrap_or_default();
        let deadline = self.started + deadline;
        let hung = self.worker.hung(self.step_max);
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if streaming => Ok(Event::Stop),
            () = tokio::time::sleep_until(deadline), if !streaming => Ok(Event::Tick),
            received = link.receive() => Ok(match received {
                Received::Message(message) => learner_event(message, lost),
                // While draining, only the trajectory stream and the deadline count.
                Received::BesideEnded(_) if !streaming => Event::Tick,
                Received::BesideEnded(end) => {
                    *lost = end.into();
                    Event::Disconnected
                }
            }),
            result = self.worker.result(), if streaming => match result {
                Some(Ok(finished)) => Ok(self.hand_over(finished)),
                Some(Err(RolloutError::LineLost)) => Ok(Event::Abandoned),
                Some(Err(error)) => Err(error.into()),
                None => Err(ActorError::RolloutThread("ended unexpectedly".into())),
            },
            limit = hung, if streaming => Err(ActorError::Hung {
                id: self.agreement.environment.id.clone(),
                seconds: limit.as_secs(),
            }),
            Ok(()) = self.newest.changed(), if streaming => {
                let published = self.newest.borrow_and_update();
                Ok(published.as_ref().map_or(Event::Tick, |published| {
                    Event::Parameters(LearnerLife {
                        run_id: published.run_id,
                        epoch: published.snapshot.epoch(),
                    })
                }))
            },
            Ok(()) = self.lines.changed(), if streaming => {
                let line = self.lines.borrow_and_update();
                Ok(line.as_ref().map_or(Event::Tick, |line| Event::Parameters(line.life)))
            },
        }
    }

    /// Encodes a finished unroll once and keeps its buffers for the next.
    fn hand_over(&mut self, finished: Finished) -> Event<Parcel> {
        let header = finished.unroll.header();
        let mut message = encode_unroll(&finished.unroll);
        if let Some(frames) = &mut self.frames {
            frames.pack(&mut message, &self.agreement);
        }
        let traced = std::mem::take(&mut self.traced);
        traced.made(&header, &finished.unroll.parts().timing);
        self.spare = Some(finished.unroll.into_parts());
        Event::Finished {
            sequence: header.sequence,
            life: LearnerLife {
                run_id: header.run_id,
                epoch: header.epoch,
            },
            payload: Parcel {
                message,
                finished: finished.at,
                received: finished.received,
                traced,
            },
        }
    }

    fn perform(&mut self, action: Action<Parcel>, link: &mut Link) {
        match action {
            Action::Begin { sequence, blocked } => {
                self.traced = Traced::begin(sequence);
                self.worker.begin(Permission {
                    sequence,
                    blocked,
                    reuse: self.spare.take(),
                });
            }
            Action::Send(parcel) => {
                let mut message = parcel.message;
                message.traceparent = parcel.traced.sent();
                if let Some(timing) = &mut message.timing {
                    let now = Instant::now().into_std();
                    timing.outbox_us = micros(now.saturating_duration_since(parcel.finished));
                    timing.held_us = micros(now.saturating_duration_since(parcel.received));
                }
                link.send(actor_message::Kind::Unroll(message));
            }
            Action::Goodbye { final_sequence } => {
                self.worker.abandon();
                let final_sequence = final_sequence.map_or(0, |sequence| sequence.0);
                link.send(actor_message::Kind::Goodbye(v1::Goodbye { final_sequence }));
                link.close();
            }
        }
    }

    fn report(&self) -> ActorReport {
        let tally = self.session.tally();
        ActorReport {
            unrolls: tally.produced,
            steps: tally.produced * self.agreement.rollout.steps() as u64,
            rejected: tally.rejected,
            dropped: tally.dropped,
            reconnects: tally.reconnects,
            snapshots_refused: self.cells.refused.load(Ordering::Relaxed),
        }
    }
}

fn life(terms: &JoinTerms) -> LearnerLife {
    LearnerLife {
        run_id: terms.run_id,
        epoch: terms.epoch,
    }
}

/// What a message from the learner means; what is outside the protocol breaks the stream.
fn learner_event(
    message: Result<Option<v1::LearnerMessage>, Status>,
    lost: &mut Lost,
) -> Event<Parcel> {
    let cause = match message {
        Ok(Some(message)) => match message.kind {
            Some(learner_message::Kind::Draining(_)) => {
                tracing::info!("the learner is draining");
                return Event::Stop;
            }
            Some(learner_message::Kind::Acknowledgement(acknowledgement)) => {
                if !acknowledgement.reject_reason.is_empty() {
                    tracing::debug!(
                        sequence = acknowledgement.acknowledged_through,
                        reason = acknowledgement.reject_reason,
                        "the learner refused an unroll"
                    );
                }
                match parse_acknowledgement(&acknowledgement) {
                    Some((through, verdict)) => return Event::Acknowledged { through, verdict },
                    None => "it sent an acknowledgement outside the protocol".to_owned(),
                }
            }
            None => "it sent a message outside the protocol".to_owned(),
        },
        Ok(None) => "it closed the stream".to_owned(),
        Err(status) => {
            *lost = Lost::status(&status);
            return Event::Disconnected;
        }
    };
    *lost = cause.into();
    Event::Disconnected
}

/// Builds environments and policy as the learner says, compares fingerprints, and starts the rollout thread.
fn prepare(
    options: &ActorOptions,
    terms: &JoinTerms,
    supplies: Supplies,
) -> Result<(Agreement, Worker), ActorError> {
    let environments = build_environments(options, terms, actor_seed(terms))?;
    let agreement = Agreement {
        environment: environments.spec().clone(),
        network: terms.network.clone(),
        rollout: terms.rollout,
    };
    check_fingerprint(&options.learner, &agreement, terms)?;
    check_network(&agreement)?;
    let rollout = match terms.inference {
        InferencePlace::Local => {
            let inference = inference(terms, actor_seed(terms));
            Rollout::new(agreement.clone(), environments, inference)
        }
        InferencePlace::Central => Rollout::central(agreement.clone(), environments),
    };
    let worker = Worker::spawn(rollout, lives(options, terms)?, terms.refresh, supplies)
        .map_err(|error| ActorError::RolloutThread(format!("cannot be started: {error}")))?;
    Ok((agreement, worker))
}

/// [`prepare`] on a thread of its own: starting Python, or an environment with much to load, takes its time.
pub(crate) async fn prepare_apart(
    options: ActorOptions,
    terms: JoinTerms,
    supplies: Supplies,
) -> Result<(Agreement, Worker), ActorError> {
    tokio::task::spawn_blocking(move || prepare(&options, &terms, supplies))
        .await
        .map_err(|error| ActorError::RolloutThread(format!("cannot be prepared: {error}")))?
}

/// Decorrelates the actors of one run.
fn actor_seed(terms: &JoinTerms) -> u64 {
    seed::actor_seed(terms.seed, terms.actor_index)
}

/// Whether this program can build the learner's network, and it fits the environment.
fn check_network(agreement: &Agreement) -> Result<(), ActorError> {
    let (network, environment) = (&agreement.network, &agreement.environment);
    let fits =
        network.observation == environment.observation && network.action == environment.action;
    match network.fault() {
        None if fits => Ok(()),
        None => Err(ActorError::Network(format!(
            "it sees {} and chooses {}, but {} shows {} and has {}",
            network.observation,
            network.action,
            environment.id,
            environment.observation,
            environment.action
        ))),
        Some(fault) => Err(ActorError::Network(fault)),
    }
}

fn build_environments(
    options: &ActorOptions,
    terms: &JoinTerms,
    seed: u64,
) -> Result<Box<dyn VectorEnvironment>, ActorError> {
    let id = &terms.environment_id;
    if options
        .environment_id
        .as_ref()
        .is_some_and(|wanted| wanted != id)
    {
        return Err(ActorError::Refused {
            url: options.learner.clone(),
            cause: format!("it trains {id}"),
        });
    }
    let table = environment_options(terms)?;
    let seed = seed::environments_seed(seed);
    let environments = terms.rollout.environments;
    options
        .registry
        .make_vector(id, &table, &options.python, environments, seed)
        .map_err(ActorError::from)
}

fn environment_options(terms: &JoinTerms) -> Result<toml::Table, ActorError> {
    terms
        .environment_options
        .parse()
        .map_err(|error: toml::de::Error| ActorError::EnvironmentOptions {
            id: terms.environment_id.clone(),
            cause: error.to_string(),
        })
}

/// The policy of an actor, or of one of its lives, with this seed.
fn inference(terms: &JoinTerms, seed: u64) -> Inference {
    let seed = seed::actions_seed(seed);
    Inference::new(&terms.network, terms.rollout.environments, seed)
}

/// How this actor begins anew, if the learner wants that.
fn lives(options: &ActorOptions, terms: &JoinTerms) -> Result<Option<Lives>, ActorError> {
    let Some(versions) = terms.life_versions else {
        return Ok(None);
    };
    let (options, terms, table) = (options.clone(), terms.clone(), environment_options(terms)?);
    let seed = actor_seed(&terms);
    let begin = move |seed| {
        let environments = options.registry.make_vector(
            &terms.environment_id,
            &table,
            &options.python,
            terms.rollout.environments,
            seed::environments_seed(seed),
        )?;
        Ok((environments, inference(&terms, seed)))
    };
    Ok(Some(Lives::new(versions, seed, Box::new(begin))))
}

fn check_fingerprint(
    url: &str,
    agreement: &Agreement,
    terms: &JoinTerms,
) -> Result<(), ActorError> {
    let here = agreement.fingerprint();
    if here == terms.fingerprint {
        return Ok(());
    }
    Err(ActorError::Fingerprint {
        url: url.to_owned(),
        id: terms.environment_id.clone(),
        here,
        there: terms.fingerprint,
    })
}

#[cfg(test)]
mod tests;
