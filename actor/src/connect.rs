//! Finding the learner, joining it, and the two streams of one connection.

mod asker;
mod follower;

use std::{
    error::Error,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use springbok_common::{
    backoff::Backoff,
    config::{InferencePlace, ObservationEncoding},
    ids::ActorId,
    spec::PROTOCOL_REVISION,
    unroll::Agreement,
    wire::{JoinTerms, RETRY_PUSHBACK, join_terms},
};
use springbok_proto::v1::{self, actor_message, training_client::TrainingClient};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use self::{asker::Asker, follower::Follower};
use crate::{
    acting::Line,
    handshake,
    options::{ActorError, ActorOptions},
    security::{Credentials, Security, UNIX, endpoint, is_loopback},
    worker::Published,
    world::{Dial, World},
};

/// For connecting, joining and opening a stream, each.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is probed this often ...
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and is dead when a probe is not answered for so long.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks for the learner and joins it, again and again with the same actor id.
pub(crate) struct Seeker {
    url: String,
    endpoint: Endpoint,
    security: Security,
    /// Whether a learner has ever accepted this actor.
    was_joined: bool,
    dial: Dial,
    actor_id: ActorId,
    index: Option<u32>,
    environment_id: String,
    wait_max: Duration,
    backoff: Backoff,
    /// Since when there has been no working connection.
    outage_began: Option<Instant>,
    lost: Option<Lost>,
}

/// A learner that accepted this actor.
pub(crate) struct Joined {
    /// What it said.
    pub(crate) terms: JoinTerms,
    actor_id: ActorId,
    channel: Channel,
    credentials: Arc<Credentials>,
}

/// Why there is no connection, and when it is worth trying again.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// What happened.
    pub(crate) cause: String,
    /// How long the learner does not want to see this actor.
    pub(crate) come_back: Option<Duration>,
}

impl Lost {
    /// What the learner, or the connection, says.
    pub(crate) fn status(status: &Status) -> Self {
        let wait = status.metadata().get(RETRY_PUSHBACK);
        let wait = wait.and_then(|text| text.to_str().ok()?.parse().ok());
        Self {
            cause: causes(status),
            come_back: wait.map(Duration::from_millis),
        }
    }
}

impl From<String> for Lost {
    fn from(cause: String) -> Self {
        Self {
            cause,
            come_back: None,
        }
    }
}

enum Failure {
    /// Trying again may help.
    Passing(Lost),
    /// It will not.
    Lasting(ActorError),
}

impl Seeker {
    /// Prepares for the learner at `options.learner`; connects to nothing.
    ///
    /// # Errors
    /// The address is no http, https or unix URL, or does not go with the certificates and tokens.
    pub(crate) fn new(options: &ActorOptions, world: &World) -> Result<Self, ActorError> {
        let (url, security) = (options.learner.clone(), options.security.clone());
        let endpoint = endpoint(&url, options.window_bytes)?;
        let credentials = security.credentials()?;
        if let Err(cause) = security.guard(&url, endpoint.clone(), &credentials) {
            return Err(ActorError::Address { url, cause });
        }
        Ok(Self {
            url,
            endpoint,
            security,
            was_joined: false,
            dial: Arc::clone(&world.dial),
            actor_id: world.actor_id,
            index: options.index,
            environment_id: options.environment_id.clone().unwrap_or_default(),
            wait_max: options.learner_wait_max,
            backoff: world.backoff.clone(),
            outage_began: None,
            lost: None,
        })
    }

    /// Joins, trying for as long as the options allow; `None` if `shutdown` came first.
    ///
    /// # Errors
    /// Nobody answered in time, or the learner does not want this actor.
    pub(crate) async fn join(
        &mut self,
        shutdown: &CancellationToken,
    ) -> Result<Option<Joined>, ActorError> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(None),
            joined = self.seek() => joined.map(Some),
        }
    }

    /// Says that the connection is lost, so that the next attempt waits a little: a learner that comes back is not
    /// met by all its actors at once.
    pub(crate) fn lost(&mut self, lost: Lost) {
        self.lost = Some(lost);
    }

    /// Whether observations of bytes travel compressed.
    pub(crate) fn compresses(&self, encoding: ObservationEncoding) -> bool {
        match encoding {
            ObservationEncoding::Auto => {
                !self.url.starts_with(UNIX) && !is_loopback(&self.endpoint)
            }
            ObservationEncoding::Raw => false,
            ObservationEncoding::Zstd => true,
        }
    }

    /// Says that the connection works: the next loss is a new outage.
    pub(crate) fn settled(&mut self) {
        self.backoff.reset();
        self.outage_began = None;
    }

    async fn seek(&mut self) -> Result<Joined, ActorError> {
        let began = *self.outage_began.get_or_insert_with(Instant::now);
        loop {
            if let Some(Lost { cause, come_back }) = self.lost.take() {
                if let Some(wait) = come_back {
                    let seconds = wait.as_secs_f64();
                    tracing::warn!(learner = %self.url, seconds, %cause, "the learner keeps this actor out; waiting");
                }
                let pause = self.backoff.next() + come_back.unwrap_or_default();
                let waited = began.elapsed();
                let left = self.wait_max.saturating_sub(waited);
                if !self.wait_max.is_zero() && left.is_zero() {
                    return Err(ActorError::LearnerUnavailable {
                        url: self.url.clone(),
                        waited_s: waited.as_secs(),
                        cause,
                    });
                }
                let unlimited = self.wait_max.is_zero();
                sleep(if unlimited { pause } else { pause.min(left) }).await;
            }
            match self.attempt().await {
                Ok(joined) => return Ok(joined),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(lost)) => {
                    tracing::debug!(learner = %self.url, cause = %lost.cause, "cannot join");
                    self.lost = Some(lost);
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Joined, Failure> {
        let credentials = self.security.credentials();
        let credentials =
            credentials.map_err(|error| Failure::Passing(error.to_string().into()))?;
        let endpoint = self
            .security
            .guard(&self.url, self.endpoint.clone(), &credentials);
        let channel = within((self.dial)(
            endpoint.map_err(|cause| Failure::Passing(cause.into()))?,
        ))
        .await?
        .map_err(|error| self.no_connection(&error))?;
        let request = v1::JoinRequest {
            protocol_revision: PROTOCOL_REVISION,
            actor_id: actor_id_bytes(self.actor_id),
            actor_index: self.index,
            environment_id: self.environment_id.clone(),
        };
        let reply = within(TrainingClient::new(channel.clone()).join(credentials.call(request)))
            .await?
            .map_err(|status| self.join_failure(&status, &credentials))?;
        let terms = join_terms(reply.into_inner()).map_err(|cause| {
            Failure::Lasting(ActorError::Protocol {
                url: self.url.clone(),
                cause,
            })
        })?;
        tracing::info!(
            learner = %self.url,
            run_id = %terms.run_id,
            epoch = %terms.epoch,
            actor_index = terms.actor_index,
            environment = terms.environment_id,
            "joined"
        );
        // The place, once given, is kept: it seeds this actor.
        self.index = Some(terms.actor_index);
        self.was_joined = true;
        Ok(Joined {
            terms,
            credentials: Arc::new(credentials),
            actor_id: self.actor_id,
            channel,
        })
    }

    /// A connection that did not come about, or broke before the learner had answered.
    fn no_connection(&self, error: &(dyn Error + 'static)) -> Failure {
        let Some(cause) = handshake::fault(error) else {
            return Failure::Passing(causes(error).into());
        };
        // A certificate that has expired may have a successor soon.
        if self.was_joined {
            return Failure::Passing(cause.into());
        }
        Failure::Lasting(ActorError::Tls {
            url: self.url.clone(),
            cause,
        })
    }

    fn join_failure(&self, status: &Status, shown: &Credentials) -> Failure {
        // Only what happens here has a source; with TLS 1.3 the learner's word on this actor's certificate comes as the
        // answer to the first call.
        if let Some(source) = status.source() {
            return self.no_connection(source);
        }
        match status.code() {
            // A token that was revoked may have a successor in the file soon; or already, if the call was under way when
            // the tokens changed.
            Code::Unauthenticated if self.was_joined || !self.security.still_shows(shown) => {
                Failure::Passing(causes(status).into())
            }
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Failure::Lasting(ActorError::Refused {
                url: self.url.clone(),
                cause: status.message().to_owned(),
            }),
            _ => Failure::Passing(Lost::status(status)),
        }
    }
}

/// Where what arrives from the learner goes.
#[derive(Clone)]
pub(crate) struct Cells {
    /// Snapshots.
    pub(crate) parameters: Arc<watch::Sender<Option<Published>>>,
    /// How many were refused.
    pub(crate) refused: Arc<AtomicU64>,
    /// Lines over which the learner chooses actions.
    pub(crate) lines: Arc<watch::Sender<Option<Line>>>,
}

/// The trajectory stream of one connection, and beside it the stream of parameters or that of actions; dropping it ends
/// both.
pub(crate) struct Link {
    outgoing: Option<mpsc::Sender<v1::ActorMessage>>,
    incoming: Streaming<v1::LearnerMessage>,
    beside: JoinSet<String>,
}

impl Link {
    /// Says hello and opens both streams; what comes over the one beside the trajectories goes to `cells`.
    ///
    /// # Errors
    /// Why the learner's answer did not come.
    pub(crate) async fn open(
        joined: &Joined,
        agreement: &Agreement,
        cells: Cells,
    ) -> Result<Self, String> {
        let terms = &joined.terms;
        let mut client = bounded_client(joined);
        // Never full: it holds at most a hello, the unacknowledged unrolls and a goodbye.
        let (outgoing, messages) = mpsc::channel(terms.outbox_unrolls + 2);
        let mut link_outgoing = Some(outgoing);
        send(
            &mut link_outgoing,
            actor_message::Kind::Hello(hello(joined)),
        );
        let messages = joined.credentials.call(ReceiverStream::new(messages));
        let opening = client.stream_trajectories(messages);
        let incoming = timeout(HANDSHAKE_TIMEOUT, opening)
            .await
            .map_err(|_| "it did not open the trajectory stream in time".to_owned())?
            .map_err(|status| causes(&status))?
            .into_inner();

        let mut beside = JoinSet::new();
        match terms.inference {
            InferencePlace::Local => {
                let parameters = (cells.parameters, cells.refused);
                beside.spawn(Follower::new(joined, agreement, parameters).follow());
            }
            InferencePlace::Central => {
                let asker = Asker::open(joined, agreement, &cells.lines).await?;
                beside.spawn(asker.answer_all());
            }
        }
        Ok(Self {
            outgoing: link_outgoing,
            incoming,
            beside,
        })
    }

    /// Queues a message for the learner. A closed stream is noticed by [`Self::receive`].
    pub(crate) fn send(&mut self, kind: actor_message::Kind) {
        send(&mut self.outgoing, kind);
    }

    /// Ends the stream upwards, behind what was sent.
    pub(crate) fn close(&mut self) {
        self.outgoing = None;
    }

    /// Waits for the next message, or for the end of the stream beside. Safe to cancel.
    pub(crate) async fn receive(&mut self) -> Received {
        tokio::select! {
            biased;
            message = self.incoming.message() => Received::Message(message),
            Some(end) = self.beside.join_next() => Received::BesideEnded(match end {
                Ok(cause) => cause,
                Err(error) => format!("the stream beside the trajectories failed: {error}"),
            }),
        }
    }
}

/// What came over a link.
pub(crate) enum Received {
    /// A message from the learner; `None` when it ended the stream.
    Message(Result<Option<v1::LearnerMessage>, Status>),
    /// No more parameters, or actions, will come over this link, for this reason.
    BesideEnded(String),
}

/// What each stream begins with.
fn hello(joined: &Joined) -> v1::StreamHello {
    let terms = &joined.terms;
    v1::StreamHello {
        actor_id: actor_id_bytes(joined.actor_id),
        run_id: Bytes::copy_from_slice(&terms.run_id.to_bytes()),
        learner_epoch: terms.epoch.0,
        spec_fingerprint: terms.fingerprint.0,
    }
}

fn send(outgoing: &mut Option<mpsc::Sender<v1::ActorMessage>>, kind: actor_message::Kind) {
    let message = v1::ActorMessage { kind: Some(kind) };
    let accepted = outgoing
        .as_ref()
        .is_some_and(|sender| sender.try_send(message).is_ok());
    if !accepted {
        // What is unacknowledged is sent again on the next stream.
        *outgoing = None;
    }
}

/// A client with the agreed message limits in both directions.
fn bounded_client(joined: &Joined) -> TrainingClient<Channel> {
    let bytes = joined.terms.message_bytes_max;
    TrainingClient::new(joined.channel.clone())
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes)
}

async fn within<T>(attempt: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(HANDSHAKE_TIMEOUT, attempt).await.map_err(|_| {
        let seconds = HANDSHAKE_TIMEOUT.as_secs();
        Failure::Passing(format!("no answer within {seconds} s").into())
    })
}

fn actor_id_bytes(id: ActorId) -> Bytes {
    Bytes::copy_from_slice(&id.to_bytes())
}

/// An error and what caused it, in one line.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => format!("{} ({:?})", status.message(), status.code()),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
