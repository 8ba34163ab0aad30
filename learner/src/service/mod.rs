//! The gRPC edge of the learner: it turns messages into events for the pure state machines and knows nothing else.

mod act;
pub mod bare;
mod certificates;
mod doorkeeper;
mod incoming;
mod join;
mod local;
mod parameters;
mod places;
mod trajectories;

#[cfg(test)]
mod act_tests;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod paced_tests;
#[cfg(test)]
pub(crate) mod poison_tests;
#[cfg(test)]
mod security_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use springbok_common::{
    config::{LimitsConfig, message_bytes_read_max, streams_of_a_kind_max},
    ids::{ActorId, RunId},
    injection::LagInjection,
    unroll::Agreement,
    version::LearnerEpoch,
    wire::{JoinTerms, RETRY_PUSHBACK},
};
use springbok_proto::v1::{
    ActReply, ActRequest, ActorMessage, JoinReply, JoinRequest, LearnerMessage, ParametersRequest,
    SnapshotChunk, StreamHello,
    training_server::{Training, TrainingServer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataValue,
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

pub(crate) use self::doorkeeper::{TokenTable, keep_table};
use self::{
    certificates::Servers,
    doorkeeper::{Doorkeeper, Pass},
    places::{Patience, Places},
};
pub use self::{
    incoming::{Listen, Peer},
    local::LocalListener,
};
use crate::{
    books::Books, inference::Desk, network::NetworkBytes, pacing::Pacing, publisher::Publications,
    queue::QueueSender, security::Security, time::now,
};

/// Time for connections to close after their streams have ended.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// HTTP/2 frames of unrolls. The default of 16 KiB costs several times as many wake-ups.
pub const FRAME_BYTES: u32 = 64 * 1024;

/// A connection without traffic is asked for a sign of life this often, and has as long as that to give one.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Where unrolls go, and what holds their acknowledgements back.
#[derive(Debug)]
pub struct Inbox {
    /// To the trainer.
    pub queue: QueueSender,
    /// The gate.
    pub pacing: Pacing,
    /// Where actors have their actions chosen, if the learner does that.
    pub desk: Option<Desk>,
    /// Counts what goes over the connections.
    pub traffic: NetworkBytes,
}

/// What every call needs.
#[derive(Debug)]
pub struct Edge {
    books: Books,
    queue: QueueSender,
    pacing: Pacing,
    desk: Option<Desk>,
    traffic: NetworkBytes,
    publications: Publications,
    agreement: Agreement,
    terms: JoinTerms,
    limits: LimitsConfig,
    /// How far behind the newest version the actors are served.
    injection: LagInjection,
    /// The zero of the learner's clock, as the wire has it.
    clock: Instant,
    /// No new work; open streams are asked to end.
    draining: CancellationToken,
    /// Open streams end now.
    closing: CancellationToken,
    trajectory_tasks: Tasks,
    parameter_tasks: Tasks,
    act_tasks: Tasks,
    /// How often each place has had a stream of actions opened.
    openings: Mutex<HashMap<u32, u64>>,
    /// Ends the current trajectory stream of an actor.
    streams: Mutex<HashMap<ActorId, CancellationToken>>,
}

impl Edge {
    /// An edge that admits unrolls of `agreement` into `inbox`, on `terms`; the terms' actor index is filled in for
    /// each actor.
    #[must_use]
    pub fn new(
        books: Books,
        inbox: Inbox,
        publications: Publications,
        agreement: Agreement,
        terms: JoinTerms,
        limits: LimitsConfig,
        injection: LagInjection,
    ) -> Arc<Self> {
        let streams_max = streams_of_a_kind_max(limits.actors_max);
        Arc::new(Self {
            books,
            queue: inbox.queue,
            pacing: inbox.pacing,
            desk: inbox.desk,
            traffic: inbox.traffic,
            publications,
            agreement,
            terms,
            limits,
            injection,
            clock: now(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            trajectory_tasks: Tasks::new(streams_max),
            parameter_tasks: Tasks::new(streams_max),
            act_tasks: Tasks::new(streams_max),
            openings: Mutex::new(HashMap::new()),
            streams: Mutex::new(HashMap::new()),
        })
    }

    /// Now, in microseconds on the learner's clock.
    fn now_us(&self) -> u64 {
        u64::try_from(now().saturating_duration_since(self.clock).as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment that an actor repeats from [`Self::now_us`]; never after `arrival`, whatever it says.
    fn issued(&self, issued_us: u64, arrival: Instant) -> Instant {
        let issued = self.clock.checked_add(Duration::from_micros(issued_us));
        issued.map_or(arrival, |issued| issued.min(arrival))
    }

    /// Makes `token` the way to end the stream of `actor`, and ends the stream before it.
    fn supersede(&self, actor: ActorId, token: CancellationToken) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Only streams that are open are worth keeping.
        streams.retain(|_, open| !open.is_cancelled());
        if let Some(earlier) = streams.insert(actor, token) {
            earlier.cancel();
        }
    }

    /// Which stream of actions this is for the actors at `place`: 0 for the first.
    fn count_opening(&self, place: u32) -> u64 {
        let mut openings = self.openings.lock().unwrap_or_else(PoisonError::into_inner);
        let next = openings.entry(place).or_default();
        let opening = *next;
        *next += 1;
        opening
    }

    fn end_stream(&self, actor: ActorId) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.remove(&actor) {
            open.cancel();
        }
    }

    /// Checks the ids that every stream begins with.
    fn identify(
        &self,
        actor_id: &[u8],
        run_id: &[u8],
        learner_epoch: u32,
    ) -> Result<ActorId, Status> {
        let actor = ActorId::from_bytes(actor_id)
            .ok_or_else(|| Status::invalid_argument("actor_id is not 16 bytes"))?;
        let run = RunId::from_bytes(run_id)
            .ok_or_else(|| Status::invalid_argument("run_id is not 16 bytes"))?;
        if run != self.terms.run_id || LearnerEpoch(learner_epoch) != self.terms.epoch {
            return Err(Status::failed_precondition(
                "this learner trains another run or is another life of it: join again",
            ));
        }
        Ok(actor)
    }

    /// Who says hello, with the same specification as the learner's.
    fn greet(&self, hello: &StreamHello) -> Result<ActorId, Status> {
        let actor = self.identify(&hello.actor_id, &hello.run_id, hello.learner_epoch)?;
        let (theirs, ours) = (hello.spec_fingerprint, self.terms.fingerprint);
        if theirs == ours.0 {
            return Ok(actor);
        }
        Err(Status::failed_precondition(format!(
            "the actor's specification {theirs:016x} differs from the learner's {ours}"
        )))
    }
}

/// Bounds the streams of one kind, and tells when all have ended.
#[derive(Debug)]
struct Tasks {
    places: Arc<Semaphore>,
    max: u32,
}

impl Tasks {
    fn new(max: usize) -> Self {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        Self {
            places: Arc::new(Semaphore::new(max as usize)),
            max,
        }
    }

    fn begin(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many streams are open"))
    }

    async fn all_ended(&self) {
        // The semaphore is never closed, so the result says nothing.
        let _ = self.places.acquire_many(self.max).await;
    }
}

/// `status` with the time after which trying again may help, where clients of gRPC look for it.
fn come_back(mut status: Status, wait: Duration) -> Status {
    let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let metadata = status.metadata_mut();
    metadata.insert(RETRY_PUSHBACK, MetadataValue::from(milliseconds));
    status
}

/// Answers calls.
#[derive(Debug, Clone)]
struct TrainingService(Arc<Edge>);

#[tonic::async_trait]
impl Training for TrainingService {
    type StreamTrajectoriesStream = ReceiverStream<Result<LearnerMessage, Status>>;
    type ActStream = ReceiverStream<Result<ActReply, Status>>;
    type StreamParametersStream = ReceiverStream<Result<SnapshotChunk, Status>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let pass = Pass::of(&request)?;
        join::join(&self.0, request.get_ref(), &pass).map(Response::new)
    }

    async fn stream_trajectories(
        &self,
        request: Request<Streaming<ActorMessage>>,
    ) -> Result<Response<Self::StreamTrajectoriesStream>, Status> {
        let pass = Pass::of(&request)?;
        trajectories::open(Arc::clone(&self.0), pass, request.into_inner()).map(Response::new)
    }

    async fn stream_parameters(
        &self,
        request: Request<ParametersRequest>,
    ) -> Result<Response<Self::StreamParametersStream>, Status> {
        let pass = Pass::of(&request)?;
        parameters::open(Arc::clone(&self.0), pass, request.get_ref()).map(Response::new)
    }

    async fn act(
        &self,
        request: Request<Streaming<ActRequest>>,
    ) -> Result<Response<Self::ActStream>, Status> {
        let pass = Pass::of(&request)?;
        act::open(Arc::clone(&self.0), pass, request.into_inner()).map(Response::new)
    }
}

/// A service that answers calls.
pub struct Serving {
    edge: Arc<Edge>,
    health: HealthReporter,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    stop: CancellationToken,
}

/// Answers anybody's calls on `listener`; see [`serve_guarded`].
pub async fn serve<L: Listen>(listener: L, edge: Arc<Edge>) -> Serving {
    serve_guarded(listener, edge, Security::default()).await
}

/// Answers the calls of those whom `security` lets in. The health service says NOT_SERVING until [`Serving::ready`],
/// and says so to everybody: a probe has no token.
pub async fn serve_guarded<L: Listen>(listener: L, edge: Arc<Edge>, security: Security) -> Serving {
    serve_all((listener, None::<LocalListener>), edge, security).await
}

/// The same on two listeners. No TLS is spoken on the local one; whatever else `security` and the limits ask for holds on
/// both, and they share their places.
pub async fn serve_all<L: Listen, U: Listen>(
    (listener, local): (L, Option<U>),
    edge: Arc<Edge>,
    security: Security,
) -> Serving {
    let (health, health_service) = tonic_health::server::health_reporter();
    let stop = CancellationToken::new();
    let has_tls = security.tls.is_some();
    let tls = security
        .tls
        .map(|tls| certificates::keep(tls, stop.clone()));
    let tokens = security
        .tokens
        .map(|valid| doorkeeper::keep_table(valid, stop.clone()));
    let doorkeeper = Doorkeeper::new(tokens, edge.limits.streams_max);
    let written_max = edge.limits.message_bytes_max;
    let training = TrainingServer::new(TrainingService(Arc::clone(&edge)))
        .max_decoding_message_size(message_bytes_read_max(written_max, &edge.agreement))
        .max_encoding_message_size(written_max);
    let places = Places::new(&edge.limits);
    let patience = |has_tls| Patience::new(&edge.limits, has_tls);
    let traffic = || edge.traffic.clone();
    let accepted = incoming::accept(
        listener,
        places.clone(),
        patience(has_tls),
        traffic(),
        stop.clone(),
    );
    let beside = local
        .map(|local| incoming::accept(local, places, patience(false), traffic(), stop.clone()));
    let servers = Servers {
        server: bounded_server(&edge.limits),
        routes: Routes::new(health_service)
            .add_service(InterceptedService::new(training, doorkeeper)),
        stop: stop.clone(),
    };
    let task = tokio::spawn(async move {
        let local = async {
            match beside {
                Some(accepted) => servers.clone().serve(accepted, None).await,
                None => Ok(()),
            }
        };
        let ((), ()) = tokio::try_join!(servers.clone().serve(accepted, tls), local)?;
        Ok(())
    });
    let serving = Serving {
        edge,
        health,
        task,
        stop,
    };
    serving.set_health(ServingStatus::NotServing).await;
    serving
}

/// A server with every limit that HTTP/2 knows.
fn bounded_server(limits: &LimitsConfig) -> Server {
    let bounded = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Server::builder()
        .max_concurrent_streams(bounded(limits.streams_per_connection_max))
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(bounded(limits.window_bytes))
        .initial_connection_window_size(bounded(limits.window_bytes))
        // h2 refuses the limit itself, too.
        .http2_max_header_list_size(bounded(limits.header_bytes_max.saturating_add(1)))
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
}

impl Serving {
    async fn set_health(&self, status: ServingStatus) {
        let name = <TrainingServer<TrainingService> as tonic::server::NamedService>::NAME;
        for service in ["", name] {
            self.health.set_service_status(service, status).await;
        }
    }

    /// The first parameters are published: actors may come.
    pub async fn ready(&self) {
        tracing::info!("serving parameters");
        self.set_health(ServingStatus::Serving).await;
    }

    /// Waits for the service to end, which it only does by itself when it fails.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn failed(&mut self) -> Result<(), tonic::transport::Error> {
        (&mut self.task).await.unwrap_or(Ok(()))
    }

    /// Asks every actor to leave, waits for their Goodbyes at most `limits.drain_s_max`, and closes. Afterwards
    /// nothing is admitted any more.
    pub async fn drain(mut self) {
        self.set_health(ServingStatus::NotServing).await;
        self.edge.draining.cancel();
        self.edge.queue.close();
        let grace = Duration::from_secs(self.edge.limits.drain_s_max);
        if timeout(grace, self.edge.trajectory_tasks.all_ended())
            .await
            .is_err()
        {
            tracing::warn!(?grace, "some actors did not say Goodbye in time");
        }
        self.edge.closing.cancel();
        let ended = async {
            self.edge.trajectory_tasks.all_ended().await;
            self.edge.parameter_tasks.all_ended().await;
            self.edge.act_tasks.all_ended().await;
        };
        if timeout(CLOSE_MAX, ended).await.is_err() {
            tracing::warn!("some streams did not end in time");
        }
        self.stop.cancel();
        // A peer that never finished its handshake would keep the server open for ever.
        if timeout(CLOSE_MAX, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
