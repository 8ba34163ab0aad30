//! The downward stream of parameters: what arrives whole goes to the rollout thread; what does not is asked for again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use springbok_common::{
    backoff::{Backoff, BackoffError},
    ids::{ActorId, RunId},
    policy::{FlatLayout, layout_fingerprint},
    snapshot::ParameterSnapshot,
    unroll::{Agreement, Served},
    version::LearnerEpoch,
    wire::SnapshotAssembler,
};
use springbok_proto::v1::{self, training_client::TrainingClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::{Streaming, transport::Channel};

use super::{Joined, actor_id_bytes, bounded_client, causes};
use crate::{security::Credentials, worker::Published};

/// A draining learner may end the parameters shortly before its word of draining is read: so long the end of that
/// stream alone is no loss.
const PARAMETERS_END_GRACE: Duration = Duration::from_secs(2);
/// A refused snapshot is asked for again no sooner than after the first, no later than after the second.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Puts the snapshots of one connection into the cell from which the rollout thread takes them.
pub(super) struct Follower {
    client: TrainingClient<Channel>,
    credentials: Arc<Credentials>,
    actor_id: ActorId,
    run_id: RunId,
    epoch: LearnerEpoch,
    assembler: SnapshotAssembler,
    cell: Arc<watch::Sender<Option<Published>>>,
    refused: Arc<AtomicU64>,
}

/// Why a stream of parameters is over.
enum End {
    /// A snapshot was refused. The learner sends the newest one on each new stream; on the old one it would send nothing
    /// before it has made another version, for which it may wait for this very actor.
    Refused,
    /// The learner, or the connection, ended it.
    Lost(String),
}

impl Follower {
    /// Snapshots go to `parameters.0`; those refused are counted in `parameters.1`.
    pub(super) fn new(
        joined: &Joined,
        agreement: &Agreement,
        parameters: (Arc<watch::Sender<Option<Published>>>, Arc<AtomicU64>),
    ) -> Self {
        Self {
            client: bounded_client(joined),
            credentials: Arc::clone(&joined.credentials),
            actor_id: joined.actor_id,
            run_id: joined.terms.run_id,
            epoch: joined.terms.epoch,
            assembler: SnapshotAssembler::new(
                layout_fingerprint(&agreement.network),
                FlatLayout::of(&agreement.network),
            ),
            cell: parameters.0,
            refused: parameters.1,
        }
    }

    /// Runs until the learner ends the parameters; says why.
    pub(super) async fn follow(mut self) -> String {
        let cause = match self.waits() {
            Ok(waits) => self.until_lost(waits).await,
            Err(error) => error.to_string(),
        };
        sleep(PARAMETERS_END_GRACE).await;
        cause
    }

    /// Random, so that not all actors ask again in one instant for what was damaged at its source; seeded by the actor, so
    /// that a simulation repeats itself.
    fn waits(&self) -> Result<Backoff, BackoffError> {
        let id = u128::from_be_bytes(self.actor_id.to_bytes());
        Ok(Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1)?.seeded(id as u64))
    }

    async fn until_lost(&mut self, mut waits: Backoff) -> String {
        loop {
            let request = v1::ParametersRequest {
                actor_id: actor_id_bytes(self.actor_id),
                run_id: Bytes::copy_from_slice(&self.run_id.to_bytes()),
                learner_epoch: self.epoch.0,
            };
            let opening = self.credentials.call(request);
            let end = match self.client.stream_parameters(opening).await {
                Ok(stream) => self.take_all(stream.into_inner(), &mut waits).await,
                Err(status) => End::Lost(causes(&status)),
            };
            match end {
                End::Refused => sleep(waits.next()).await,
                End::Lost(cause) => return cause,
            }
        }
    }

    async fn take_all(
        &mut self,
        mut chunks: Streaming<v1::SnapshotChunk>,
        waits: &mut Backoff,
    ) -> End {
        loop {
            match chunks.message().await {
                Ok(Some(chunk)) => match self.take(chunk) {
                    Taken::Part => {}
                    Taken::Whole => waits.reset(),
                    Taken::Refused => return End::Refused,
                },
                Ok(None) => return End::Lost("it ended the parameter stream".to_owned()),
                Err(status) => return End::Lost(causes(&status)),
            }
        }
    }

    fn take(&mut self, chunk: v1::SnapshotChunk) -> Taken {
        let version = chunk.policy_version;
        let cause = match self.assembler.push(chunk) {
            Ok(None) => return Taken::Part,
            Ok(Some((snapshot, served))) if snapshot.epoch() == self.epoch => {
                self.publish(snapshot, served);
                return Taken::Whole;
            }
            Ok(Some((snapshot, _))) => {
                format!("it is from epoch {}, not {}", snapshot.epoch(), self.epoch)
            }
            Err(error) => error.to_string(),
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(version, cause, "refused a parameter snapshot; asking again");
        Taken::Refused
    }

    /// What comes last wins: the learner knows which version is to be used, and may serve an older one on purpose.
    fn publish(&self, snapshot: ParameterSnapshot, served: Served) {
        self.cell.send_replace(Some(Published {
            run_id: self.run_id,
            snapshot,
            served,
            received: Instant::now().into_std(),
        }));
    }
}

/// What became of a chunk.
enum Taken {
    /// More of the snapshot has to come.
    Part,
    /// It was the last one of a snapshot.
    Whole,
    /// The snapshot is damaged, or another's.
    Refused,
}
