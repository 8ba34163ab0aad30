//! Join: both sides agree on everything that must be equal.

use std::time::Duration;

use springbok_common::{
    ids::ActorId,
    spec::PROTOCOL_REVISION,
    wire::{JoinTerms, join_reply},
};
use springbok_proto::v1::{JoinReply, JoinRequest};
use tonic::Status;

use super::{Edge, come_back, doorkeeper::Pass};
use crate::{roster::JoinRefusal, time::now};

pub(super) fn join(edge: &Edge, request: &JoinRequest, pass: &Pass) -> Result<JoinReply, Status> {
    let address = pass.address;
    if edge.draining.is_cancelled() {
        return Err(Status::unavailable("the learner is draining"));
    }
    if request.protocol_revision != PROTOCOL_REVISION {
        return Err(Status::failed_precondition(format!(
            "the learner speaks protocol revision {PROTOCOL_REVISION}, the actor {}: use the same release",
            request.protocol_revision
        )));
    }
    let actor = ActorId::from_bytes(&request.actor_id)
        .ok_or_else(|| Status::invalid_argument("actor_id is not 16 bytes"))?;
    let wanted = &request.environment_id;
    if !wanted.is_empty() && *wanted != edge.terms.environment_id {
        return Err(Status::failed_precondition(format!(
            "the learner trains {}, not {wanted}",
            edge.terms.environment_id
        )));
    }
    let place = {
        let now = now();
        let patience = Duration::from_secs(edge.limits.idle_s_max);
        let mut books = edge.books.lock();
        books.roster.expire(now, patience);
        books.join(actor, request.actor_index, address, now)
    };
    let place = place.map_err(|refusal| match refusal {
        JoinRefusal::Full { .. } => Status::resource_exhausted(refusal.to_string()),
        JoinRefusal::Quarantined { seconds, .. } => {
            let wait = Duration::from_secs(seconds);
            come_back(Status::unavailable(refusal.to_string()), wait)
        }
    })?;
    if let Some(displaced) = place.displaced {
        tracing::info!(actor = %displaced, index = place.index, "a new actor took its place");
        edge.end_stream(displaced);
    }
    let label = pass.label.as_deref();
    tracing::info!(%actor, index = place.index, label, "actor joined");
    Ok(join_reply(&JoinTerms {
        actor_index: place.index,
        ..edge.terms.clone()
    }))
}
