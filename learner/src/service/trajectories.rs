//! The upward stream of unrolls. One message is read, admitted, queued and acknowledged before the next is read, so
//! HTTP/2 flow control carries the pressure of a full queue to the actor, and an idle actor holds no place in it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use prost::Message as _;
use springbok_common::{
    ids::{ActorId, UnrollSequence},
    reject::{RejectReason, Verdict},
    wire::{acknowledgement, decode_header, decode_unroll},
};
use springbok_proto::v1::{
    Acknowledgement, ActorMessage, Draining, LearnerMessage, Unroll, actor_message, learner_message,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    Edge, come_back,
    doorkeeper::{Pass, revoked},
};
use crate::{
    admission::{Admission, Screened, SequenceFault},
    pacing::PacedStream,
    publisher::newest_version,
    quarantine::Sentence,
    queue::Arrived,
    time::now,
    traced::Traced,
};

type Replies = mpsc::Sender<Result<LearnerMessage, Status>>;

/// An actor that is asked to leave answers at once, whatever its environments do: one from which not a byte has come for
/// this share of the time to drain hangs.
const SILENT_SHARE: u32 = 2;

/// Replies that wait for the connection: one acknowledgement, Draining, and the status.
const REPLIES_AHEAD: usize = 4;

pub(super) fn open(
    edge: Arc<Edge>,
    pass: Pass,
    inbound: Streaming<ActorMessage>,
) -> Result<ReceiverStream<Result<LearnerMessage, Status>>, Status> {
    let task = edge.trajectory_tasks.begin()?;
    let (replies, stream) = mpsc::channel(REPLIES_AHEAD);
    tokio::spawn(async move {
        let _task = task;
        let ended = converse(&edge, &pass, inbound, &replies).await;
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
    pass: &Pass,
    mut inbound: Streaming<ActorMessage>,
    replies: &Replies,
) -> Result<(), Status> {
    let actor = identify(edge, &mut inbound).await?;
    let ticket = edge.books.lock().roster.open_stream(actor);
    let ticket = ticket.ok_or_else(|| Status::failed_precondition("join first"))?;
    // Ends with the token that was shown, too.
    let superseded = pass.revoked.child_token();
    edge.supersede(actor, superseded.clone());
    let conversation = Conversation {
        edge,
        actor,
        pass,
        paced: edge.pacing.open(actor, edge.terms.outbox_unrolls),
        replies,
        superseded: &superseded,
    };
    let ended = conversation.run(inbound).await;
    edge.books.lock().roster.close_stream(actor, ticket);
    // Marks the entry in the table of streams as over.
    superseded.cancel();
    match ended {
        Err(_) if pass.revoked.is_cancelled() => Err(revoked()),
        ended => ended,
    }
}

/// The first message says who speaks.
async fn identify(edge: &Edge, inbound: &mut Streaming<ActorMessage>) -> Result<ActorId, Status> {
    let patience = Duration::from_secs(edge.limits.first_message_s_max);
    let first = tokio::select! {
        biased;
        () = edge.closing.cancelled() => return Err(Status::unavailable("the learner is draining")),
        first = timeout(patience, inbound.message()) => first,
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no StreamHello in time"))??;
    let Some(actor_message::Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
        return Err(Status::invalid_argument(
            "the first message is not a StreamHello",
        ));
    };
    edge.greet(&hello)
}

struct Conversation<'a> {
    edge: &'a Edge,
    actor: ActorId,
    pass: &'a Pass,
    paced: PacedStream,
    replies: &'a Replies,
    superseded: &'a CancellationToken,
}

impl Conversation<'_> {
    async fn run(&self, mut inbound: Streaming<ActorMessage>) -> Result<(), Status> {
        let idle = Duration::from_secs(self.edge.limits.idle_s_max);
        let hung = Duration::from_secs(self.edge.limits.drain_s_max) / SILENT_SHARE;
        let mut asked_to_leave = false;
        // Acknowledgements that wait for leave to go. What comes after as many as an actor may be owed is its Goodbye.
        let mut owed: VecDeque<Acknowledgement> = VecDeque::new();
        let owed_max = self.edge.terms.outbox_unrolls;
        loop {
            let patient = !owed.is_empty();
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
                () = self.pass.fell_silent(hung), if asked_to_leave => {
                    return Err(Status::deadline_exceeded("the actor hangs: it did not answer Draining"));
                }
                () = self.paced.granted(), if !owed.is_empty() => {
                    if let Some(acknowledgement) = owed.pop_front() {
                        self.reply(learner_message::Kind::Acknowledgement(acknowledgement)).await?;
                    }
                    continue;
                }
                // Only the wait for the peer is limited, not the wait for a place in the queue below, nor that of an
                // actor which is owed an acknowledgement.
                message = async {
                    let message = inbound.message();
                    if patient { Ok(message.await) } else { timeout(idle, message).await }
                }, if owed.len() <= owed_max => message,
            };
            let message =
                message.map_err(|_| Status::deadline_exceeded("no message in time"))??;
            let Some(message) = message else {
                tracing::warn!(actor = %self.actor, "stream ended without a Goodbye: actor lost");
                return Ok(());
            };
            match message.kind {
                Some(actor_message::Kind::Unroll(unroll)) => {
                    let (acknowledgement, sentence) = self.unroll(unroll).await?;
                    if let Some(sentence) = sentence {
                        self.reply(learner_message::Kind::Acknowledgement(acknowledgement))
                            .await?;
                        return Err(sentence);
                    }
                    if self.paced.is_paced() {
                        self.paced.ask();
                        owed.push_back(acknowledgement);
                    } else {
                        self.reply(learner_message::Kind::Acknowledgement(acknowledgement))
                            .await?;
                    }
                }
                Some(actor_message::Kind::Goodbye(goodbye)) => {
                    return self.goodbye(UnrollSequence(goodbye.final_sequence));
                }
                Some(actor_message::Kind::Hello(_)) | None => {
                    return Err(Status::invalid_argument("an Unroll or Goodbye is expected"));
                }
            }
        }
    }

    /// Admits and queues one unroll; gives its acknowledgement, and the end of the stream if it was one poisoned unroll
    /// too many.
    async fn unroll(&self, message: Unroll) -> Result<(Acknowledgement, Option<Status>), Status> {
        let arrival = now();
        let bytes = message.encoded_len();
        let header = decode_header(&message).ok_or_else(|| {
            Status::invalid_argument("the unroll's run_id is not 16 bytes or its sequence is 0")
        })?;
        let mut traced = Traced::admit(&message.traceparent, self.actor, header.sequence);
        let newest = newest_version(&self.edge.publications);
        let lengths: Vec<u32> = message.episodes.iter().map(|one| one.length).collect();
        let screened = {
            let mut books = self.edge.books.lock();
            books.traffic.received(bytes);
            let screened = books.screen(self.actor, &header, newest);
            let stale = Verdict::Rejected(RejectReason::TooStale);
            if screened == Ok(Screened::Settled(stale)) {
                // It was made, and would have been trained on at once.
                books.steered.generated(lengths.iter().copied());
            }
            screened
        };
        let verdict = match screened.map_err(refuse)? {
            Screened::Settled(verdict) => {
                self.paced.arrive(header.version, false);
                verdict
            }
            Screened::Content => {
                // Outside the lock: this reads every number.
                let content = decode_unroll(message, &self.edge.agreement).and_then(|unroll| {
                    let reward_abs_max = self.edge.limits.reward_abs_max;
                    Admission::check_steps(&unroll, newest)?;
                    reward_abs_max.map_or(Ok(()), |max| unroll.check_rewards(max))?;
                    Ok(unroll)
                });
                let checked = content.as_ref().map(|_| ()).map_err(|reason| *reason);
                let settled = {
                    let mut books = self.edge.books.lock();
                    let settled = books.settle(self.actor, header.sequence, checked);
                    if settled == Ok(Verdict::Admitted) {
                        books.steered.generated(lengths);
                    }
                    settled
                };
                let verdict = settled.map_err(refuse)?;
                // Before the trainer can have it.
                self.paced
                    .arrive(header.version, verdict == Verdict::Admitted);
                if let (Verdict::Admitted, Ok(unroll)) = (verdict, content) {
                    let served = unroll.parts().timing.served;
                    traced.queue();
                    self.enqueue(Arrived {
                        unroll,
                        actor: self.actor,
                        arrival,
                        issued: self.edge.issued(served.issued_us, arrival),
                        traced,
                    })
                    .await;
                }
                verdict
            }
        };
        let mut sentence = None;
        if let Verdict::Rejected(reason) = verdict {
            let sequence = header.sequence.0;
            tracing::warn!(actor = %self.actor, sequence, reason = reason.label(), "unroll rejected: {reason}");
            sentence = self.judge(reason);
        }
        Ok((acknowledgement(header.sequence, verdict), sentence))
    }

    /// Counts a refused unroll; gives the end of the stream if it was one poisoned unroll too many.
    fn judge(&self, reason: RejectReason) -> Option<Status> {
        let (place, sentence) = {
            let mut books = self.edge.books.lock();
            let sentence = books.judge(self.actor, self.pass.address, reason, now());
            (books.roster.index(self.actor), sentence)
        };
        let Sentence::Quarantined(wait) = sentence else {
            return None;
        };
        let seconds = wait.as_secs_f64();
        tracing::warn!(actor = %self.actor, place, seconds, "actor quarantined: its unrolls are poisoned");
        let text = format!(
            "place {place} is in quarantine for {seconds} s: several of its unrolls were poisoned, the last because \
             {reason}"
        );
        Some(come_back(Status::failed_precondition(text), wait))
    }

    /// Waits for a place in the queue, for as long as the trainer needs.
    async fn enqueue(&self, arrived: Arrived) {
        // While draining nothing is queued any more; closing the queue also ends the waits for a place.
        let version = arrived.unroll.header().version;
        let pushed = if self.edge.draining.is_cancelled() {
            Err(Vec::new())
        } else {
            let pushed = self.edge.queue.push(arrived).await;
            pushed.map_err(|closed| closed.evicted)
        };
        let discarded = pushed.is_err();
        let evicted = pushed.unwrap_or_else(|evicted| evicted);
        {
            let mut books = self.edge.books.lock();
            books.ledger.discard(u64::from(discarded));
            books.ledger.evict(evicted.len() as u64);
            for one in &evicted {
                let index = books.roster.index(one.actor);
                books.steered.actor(index).evicted_unrolls += 1;
            }
        }
        let dropped = evicted.iter().map(|one| one.unroll.header().version);
        self.edge
            .pacing
            .settle(dropped.chain(discarded.then_some(version)));
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
            biased;
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
