//! Acting for an actor that sends observations: one request is read, acted upon and answered before the next is read.

use std::{sync::Arc, time::Duration};

use springbok_common::{
    acting::Acted,
    ids::ActorId,
    reject::RejectReason,
    unroll::Served,
    wire::{decode_observed, encode_acted},
};
use springbok_proto::v1::{ActReply, ActRequest, Observed, act_request};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Edge, come_back,
    doorkeeper::{Pass, revoked},
};
use crate::{
    inference::{ActFault, Desk, Line, Seat},
    quarantine::Sentence,
    time::now,
};

/// Answers that wait for the connection: one, and the status.
const REPLIES_AHEAD: usize = 2;

type Replies = mpsc::Sender<Result<ActReply, Status>>;

pub(super) fn open(
    edge: Arc<Edge>,
    pass: Pass,
    inbound: Streaming<ActRequest>,
) -> Result<ReceiverStream<Result<ActReply, Status>>, Status> {
    let desk = edge.desk.clone().ok_or_else(|| {
        Status::failed_precondition("the actors of this learner act for themselves")
    })?;
    let task = edge.act_tasks.begin()?;
    let (replies, stream) = mpsc::channel(REPLIES_AHEAD);
    tokio::spawn(async move {
        let _task = task;
        // While it drains the learner goes on acting: an actor that waits for an answer could not say goodbye.
        let ended = tokio::select! {
            biased;
            () = edge.closing.cancelled() => Err(Status::unavailable("the learner has stopped")),
            () = replies.closed() => Ok(()),
            () = pass.revoked.cancelled() => Err(revoked()),
            ended = converse(&edge, &pass, &desk, inbound, &replies) => ended,
        };
        if let Err(status) = ended {
            tracing::debug!(code = ?status.code(), reason = status.message(), "stream of actions ended");
            // If the actor reads nothing any more, it learns of the end from the connection.
            let _ = replies.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn converse(
    edge: &Edge,
    pass: &Pass,
    desk: &Desk,
    mut inbound: Streaming<ActRequest>,
    replies: &Replies,
) -> Result<(), Status> {
    let actor = identify(edge, &mut inbound).await?;
    let place = edge.books.lock().roster.place(actor);
    let place = place.ok_or_else(|| Status::failed_precondition("join first"))?;
    // As an actor begins nothing before it has parameters.
    edge.pacing.admitted(actor).await;
    let mut publications = edge.publications.clone();
    if publications.wait_for(Option::is_some).await.is_err() {
        return Err(Status::unavailable("the learner has stopped"));
    }
    let opening = edge.count_opening(place);
    let mut line = desk.line(Seat::new(&edge.agreement, edge.terms.seed, place, opening));
    // An actor whose outbox is full asks for nothing, for as long as the trainer needs.
    while let Some(request) = inbound.message().await? {
        let Some(act_request::Kind::Observed(observed)) = request.kind else {
            return Err(Status::invalid_argument("an Observed is expected"));
        };
        let reply = answer(edge, &mut line, observed).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Poison(reason)) => return Err(sentence(edge, pass, actor, reason)),
        };
        if replies.send(Ok(reply)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Why a request is not answered.
enum Refusal {
    /// Its content is bad.
    Poison(RejectReason),
    /// The learner cannot.
    Status(Status),
}

async fn answer(edge: &Edge, line: &mut Line, observed: Observed) -> Result<ActReply, Refusal> {
    let arrived = now();
    let observed = decode_observed(observed, &edge.agreement).map_err(Refusal::Poison)?;
    let mut parts = line.ask(observed, arrived).await.map_err(fault)?;
    parts.served = Served {
        issued_us: edge.now_us(),
        ..parts.served
    };
    let acted = Acted::new(parts, &edge.agreement).map_err(|reason| {
        Refusal::Status(Status::internal(format!(
            "what the policy does cannot be learnt from: {reason}"
        )))
    })?;
    Ok(encode_acted(&acted))
}

fn fault(fault: ActFault) -> Refusal {
    let text = fault.to_string();
    Refusal::Status(match fault {
        ActFault::NonFinite { .. } | ActFault::Output(_) => Status::internal(text),
        ActFault::Gone => Status::unavailable(text),
        ActFault::Full => Status::resource_exhausted(text),
    })
}

/// The first message says who speaks.
async fn identify(edge: &Edge, inbound: &mut Streaming<ActRequest>) -> Result<ActorId, Status> {
    let patience = Duration::from_secs(edge.limits.first_message_s_max);
    let first = timeout(patience, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no StreamHello in time"))??;
    match first.and_then(|request| request.kind) {
        Some(act_request::Kind::Hello(hello)) => edge.greet(&hello),
        _ => Err(Status::invalid_argument(
            "the first message is not a StreamHello",
        )),
    }
}

/// Counts a poisoned request as a poisoned unroll, and gives the end of the stream.
fn sentence(edge: &Edge, pass: &Pass, actor: ActorId, reason: RejectReason) -> Status {
    let sentence = edge.books.lock().judge(actor, pass.address, reason, now());
    tracing::warn!(%actor, reason = reason.label(), "request to act refused: {reason}");
    let text = format!("a request to act was refused: {reason}");
    match sentence {
        Sentence::Warned => Status::invalid_argument(text),
        Sentence::Quarantined(wait) => come_back(Status::failed_precondition(text), wait),
    }
}
