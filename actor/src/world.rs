//! What an actor takes from the world outside: connections, chance, and whoever makes its unrolls. A simulation lends
//! its own.

use std::{fmt, pin::Pin, sync::Arc};

use springbok_common::{backoff::Backoff, ids::ActorId, unroll::Agreement, wire::JoinTerms};
use tonic::transport::{self, Channel, Endpoint};

use crate::{
    client::prepare_apart,
    options::{ActorError, ActorOptions},
    worker::{Supplies, Worker},
};

/// What comes of an attempt, later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Connects to the learner.
pub type Dial = Arc<dyn Fn(Endpoint) -> Later<Result<Channel, transport::Error>> + Send + Sync>;

/// Makes ready to make unrolls on these terms, with what is supplied last; says what for.
pub type Prepare = Arc<
    dyn Fn(ActorOptions, JoinTerms, Supplies) -> Later<Result<(Agreement, Worker), ActorError>>
        + Send
        + Sync,
>;

/// The world outside an actor.
#[derive(Clone)]
pub struct World {
    /// How the learner is reached.
    pub dial: Dial,
    /// Who the actor is.
    pub actor_id: ActorId,
    /// How long it waits between attempts.
    pub backoff: Backoff,
    /// Who makes its unrolls.
    pub prepare: Prepare,
}

impl Default for World {
    /// The real one: sockets, random numbers of the operating system, a thread.
    fn default() -> Self {
        Self {
            dial: Arc::new(|endpoint| Box::pin(async move { endpoint.connect().await })),
            actor_id: ActorId::random(),
            backoff: Backoff::default(),
            prepare: Arc::new(|options, terms, supplies| {
                Box::pin(prepare_apart(options, terms, supplies))
            }),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("World")
            .field("actor_id", &self.actor_id)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
