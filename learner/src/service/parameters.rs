//! The downward stream of parameters: the newest snapshot, then each newer one, or one that lies as far behind as the
//! configured injection of policy lag says; a slow actor skips versions.

use std::sync::Arc;

use prost::Message;
use springbok_common::{ids::ActorId, unroll::Served, wire::snapshot_chunks};
use springbok_proto::v1::{ParametersRequest, SnapshotChunk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Edge,
    doorkeeper::{Pass, revoked},
};

/// Chunks that wait for the connection. They are slices of one shared buffer.
const CHUNKS_AHEAD: usize = 2;

pub(super) fn open(
    edge: Arc<Edge>,
    pass: Pass,
    request: &ParametersRequest,
) -> Result<ReceiverStream<Result<SnapshotChunk, Status>>, Status> {
    let actor = edge.identify(&request.actor_id, &request.run_id, request.learner_epoch)?;
    let place = edge.books.lock().roster.place(actor);
    let place = place.ok_or_else(|| Status::failed_precondition("join first"))?;
    let task = edge.parameter_tasks.begin()?;
    let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let _task = task;
        tokio::select! {
            biased;
            () = edge.closing.cancelled() => {}
            () = chunks.closed() => {}
            () = pass.revoked.cancelled() => {
                // If there is no room for it, the end of the stream has to say it.
                let _ = chunks.try_send(Err(revoked()));
            }
            () = follow(&edge, actor, place, &chunks) => {}
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn follow(
    edge: &Edge,
    actor: ActorId,
    place: u32,
    chunks: &mpsc::Sender<Result<SnapshotChunk, Status>>,
) {
    // Before it has parameters an actor begins nothing.
    edge.pacing.admitted(actor).await;
    let mut publications = edge.publications.clone();
    // What was published before this stream began is news to it.
    publications.mark_changed();
    let mut served = 0;
    // Publications that this stream knows of; none before the first.
    let mut known = None;
    while publications.changed().await.is_ok() {
        // Chosen when the connection has taken all of the last one, so that a slow reader holds one snapshot and not two,
        // and gets what is the newest by then.
        let Ok(room) = chunks.reserve_many(CHUNKS_AHEAD).await else {
            return;
        };
        drop(room);
        let Some(shelf) = publications.borrow_and_update().clone() else {
            continue;
        };
        // In lock-step each version is served once, and again to an actor of a restored learner.
        let number = match edge.terms.unrolls_per_snapshot {
            Some(_) => shelf.newest().version().0,
            None => served,
        };
        let versions = edge.injection.versions(edge.terms.seed, place, number);
        served += 1;
        let stamp = Served {
            newest: shelf.newest().version(),
            issued_us: edge.now_us(),
        };
        let parts = snapshot_chunks(shelf.behind(versions), stamp);
        let missed = shelf.number() - known.unwrap_or(shelf.number() - 1) - 1;
        known = Some(shelf.number());
        // A slow actor holds on to what it is sent, not to the whole shelf.
        drop(shelf);
        let bytes = parts.iter().map(Message::encoded_len).sum();
        for chunk in parts {
            if chunks.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        edge.books.lock().traffic.sent(bytes, missed);
    }
}
