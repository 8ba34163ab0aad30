//! The downward stream of parameters: the newest snapshot, then each newer one; a slow actor skips versions.

use std::sync::Arc;

use springbok_common::wire::snapshot_chunks;
use springbok_proto::v1::{ParametersRequest, SnapshotChunk};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Edge;

/// Chunks that wait for the connection. They are slices of one shared buffer.
const CHUNKS_AHEAD: usize = 2;

pub(super) fn open(
    edge: Arc<Edge>,
    request: &ParametersRequest,
) -> Result<ReceiverStream<Result<SnapshotChunk, Status>>, Status> {
    edge.identify(&request.actor_id, &request.run_id, request.learner_epoch)?;
    let task = edge.parameter_tasks.begin()?;
    let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let _task = task;
        tokio::select! {
            () = edge.closing.cancelled() => {}
            () = chunks.closed() => {}
            () = follow(&edge, &chunks) => {}
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn follow(edge: &Edge, chunks: &mpsc::Sender<Result<SnapshotChunk, Status>>) {
    let mut publications = edge.publications.clone();
    // What was published before this stream began is news to it.
    publications.mark_changed();
    while publications.changed().await.is_ok() {
        let newest = publications.borrow_and_update().clone();
        for chunk in newest.iter().flat_map(snapshot_chunks) {
            if chunks.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
    }
}
