//! The upward stream of unrolls. One message is read, admitted, queued and acknowledged before the next is read, so
//! HTTP/2 flow control carries the pressure of a full queue to the actor, and an idle actor holds no place in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use springbok_common::{
    ids::{ActorId, UnrollSequence},
    reject::Verdict,
    wire::{acknowledgement, decode_header, decode_unroll},
};
use springbok_proto::v1::{
    ActorMessage, Draining, LearnerMessage, StreamHello, Unroll, actor_message, learner_message,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::Edge;
use crate::{
    admission::{Screened, SequenceFault},
    publisher::newest_version,
    queue::Arrived,
};

type Replies = mpsc::Sender<Result<LearnerMessage, Status>>;

/// Replies that wait for the connection: one acknowledgement, Draining, and the status.
const REPLIES_AHEAD: usize = 4;

pub(super) fn open(
    edge: Arc<Edge>,
    inbound: Streaming<ActorMessage>,
) -> Result<ReceiverStream<Result<LearnerMessage, Status>>, Status> {
    let task = edge.trajectory_tasks.begin()?;
    let (replies, stream) = mpsc::channel(REPLIES_AHEAD);
    tokio::spawn(async move {
        let _task = task;
        let ended = converse(&edge, inbound, &replies).await;
        if let Err(status) = ended {
            tracing::warn!(code = ?status.code(), reason = status.message(), "trajectory stream ended");
            // If the actor reads nothing any more, it learns of the end from the connection.
            let _ = replies.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// The whole life of a stream.
async fn converse(
    edge: &Edge,
    mut inbound: Streaming<ActorMessage>,
    replies: &Replies,
) -> Result<(), Status> {
    let actor = identify(edge, &mut inbound).await?;
    let ticket = edge.books.lock().roster.open_stream(actor);
    let ticket = ticket.ok_or_else(|| Status::failed_precondition("join first"))?;
    let superseded = CancellationToken::new();
    edge.supersede(actor, superseded.clone());
    let conversation = Conversation {
        edge,
        actor,
        replies,
        superseded: &superseded,
    };
    let ended = conversation.run(inbound).await;
    edge.books.lock().roster.close_stream(actor, ticket);
    // Marks the entry in the table of streams as over.
    superseded.cancel();
    ended
}

/// The first message says who speaks.
async fn identify(edge: &Edge, inbound: &mut Streaming<ActorMessage>) -> Result<ActorId, Status> {
    let patience = Duration::from_secs(edge.limits.first_message_s_max);
    let first = tokio::select! {
        () = edge.closing.cancelled() => return Err(Status::unavailable("the learner is draining")),
        first = timeout(patience, inbound.message()) => first,
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no StreamHello in time"))??;
    let Some(actor_message::Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
        return Err(Status::invalid_argument(
            "the first message is not a StreamHello",
        ));
    };
    let StreamHello {
        actor_id,
        run_id,
        learner_epoch,
        spec_fingerprint,
    } = hello;
    let actor = edge.identify(&actor_id, &run_id, learner_epoch)?;
    if spec_fingerprint != edge.terms.fingerprint.0 {
        return Err(Status::failed_precondition(format!(
            "the actor's specification {spec_fingerprint:016x} differs from the learner's {}",
            edge.terms.fingerprint
        )));
    }
    Ok(actor)
}

struct Conversation<'a> {
    edge: &'a Edge,
    actor: ActorId,
    replies: &'a Replies,
    superseded: &'a CancellationToken,
}

impl Conversation<'_> {
    async fn run(&self, mut inbound: Streaming<ActorMessage>) -> Result<(), Status> {
        let idle = Duration::from_secs(self.edge.limits.idle_s_max);
        let mut asked_to_leave = false;
        loop {
            let message = tokio::select! {
                biased;
                () = self.superseded.cancelled() => {
                    return Err(Status::aborted("a newer stream or actor took this one's place"));
                }
                () = self.edge.closing.cancelled() => {
                    return Err(Status::unavailable("the learner has stopped"));
                }
                () = self.edge.draining.cancelled(), if !asked_to_leave => {
                    asked_to_leave = true;
                    self.reply(learner_message::Kind::Draining(Draining {})).await?;
                    continue;
                }
                // Only the wait for the peer is limited, not the wait for a place in the queue below.
                message = timeout(idle, inbound.message()) => message,
            };
            let message =
                message.map_err(|_| Status::deadline_exceeded("no message in time"))??;
            let Some(message) = message else {
                tracing::warn!(actor = %self.actor, "stream ended without a Goodbye: actor lost");
                return Ok(());
            };
            match message.kind {
                Some(actor_message::Kind::Unroll(unroll)) => self.unroll(unroll).await?,
                Some(actor_message::Kind::Goodbye(goodbye)) => {
                    return self.goodbye(UnrollSequence(goodbye.final_sequence));
                }
                Some(actor_message::Kind::Hello(_)) | None => {
                    return Err(Status::invalid_argument("an Unroll or Goodbye is expected"));
                }
            }
        }
    }

    /// Admits, queues and acknowledges one unroll.
    async fn unroll(&self, message: Unroll) -> Result<(), Status> {
        let arrival = Instant::now();
        let header = decode_header(&message).ok_or_else(|| {
            Status::invalid_argument("the unroll's run_id is not 16 bytes or its sequence is 0")
        })?;
        let newest = newest_version(&self.edge.publications);
        let screened = self.edge.books.lock().screen(self.actor, &header, newest);
        let verdict = match screened.map_err(refuse)? {
            Screened::Settled(verdict) => verdict,
            Screened::Content => {
                // Outside the lock: this reads every number.
                let content = decode_unroll(message, &self.edge.agreement);
                let checked = content.as_ref().map(|_| ()).map_err(|reason| *reason);
                let settled = self
                    .edge
                    .books
                    .lock()
                    .settle(self.actor, header.sequence, checked);
                let verdict = settled.map_err(refuse)?;
                if let (Verdict::Admitted, Ok(unroll)) = (verdict, content) {
                    let served = unroll.parts().timing.served;
                    self.enqueue(Arrived {
                        unroll,
                        actor: self.actor,
                        arrival,
                        issued: self.edge.issued(served.issued_us, arrival),
                    })
                    .await;
                }
                verdict
            }
        };
        if let Verdict::Rejected(reason) = verdict {
            let sequence = header.sequence.0;
            tracing::warn!(actor = %self.actor, sequence, reason = reason.label(), "unroll rejected: {reason}");
        }
        let acknowledgement = acknowledgement(header.sequence, verdict);
        self.reply(learner_message::Kind::Acknowledgement(acknowledgement))
            .await
    }

    /// Waits for a place in the queue, for as long as the trainer needs.
    async fn enqueue(&self, arrived: Arrived) {
        // While draining nothing is queued any more; closing the queue also ends the waits for a place.
        let queued =
            !self.edge.draining.is_cancelled() && self.edge.queue.push(arrived).await.is_ok();
        if !queued {
            self.edge.books.lock().ledger.discard(1);
        }
    }

    fn goodbye(&self, last: UnrollSequence) -> Result<(), Status> {
        let left = self.edge.books.lock().goodbye(self.actor, last);
        left.map_err(refuse)?;
        tracing::info!(actor = %self.actor, final_sequence = last.0, "actor left");
        Ok(())
    }

    async fn reply(&self, kind: learner_message::Kind) -> Result<(), Status> {
        let idle = Duration::from_secs(self.edge.limits.idle_s_max);
        let message = LearnerMessage { kind: Some(kind) };
        let sent = tokio::select! {
            () = self.edge.closing.cancelled() => {
                return Err(Status::unavailable("the learner has stopped"));
            }
            sent = timeout(idle, self.replies.send(Ok(message))) => sent,
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the actor is gone")),
            Err(_) => Err(Status::deadline_exceeded(
                "the actor does not read its acknowledgements",
            )),
        }
    }
}

/// An actor whose own numbers make no sense cannot be served on this stream.
fn refuse(fault: SequenceFault) -> Status {
    Status::invalid_argument(fault.to_string())
}
