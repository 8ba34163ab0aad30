//! Snapshots as chunks, and back.

use bytes::{Bytes, BytesMut};
use springbok_proto::v1;

use super::{WireError, bad_field};
use crate::{
    snapshot::ParameterSnapshot,
    unroll::Served,
    version::{LearnerEpoch, PolicyVersion},
};

/// Largest payload of one chunk.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;

/// `snapshot`, served as `served` says, as messages that share its one encoding.
#[must_use]
pub fn snapshot_chunks(snapshot: &ParameterSnapshot, served: Served) -> Vec<v1::SnapshotChunk> {
    let payload = snapshot.payload();
    let starts = (0..payload.len().max(1)).step_by(SNAPSHOT_CHUNK_BYTES_MAX);
    starts
        .map(|start| {
            let end = payload.len().min(start + SNAPSHOT_CHUNK_BYTES_MAX);
            v1::SnapshotChunk {
                learner_epoch: snapshot.epoch().0,
                policy_version: snapshot.version().0,
                layout: snapshot.layout(),
                checksum: snapshot.checksum(),
                total_bytes: payload.len() as u64,
                offset: start as u64,
                payload: payload.slice(start..end),
                newest_version: served.newest.0,
                issued_us: served.issued_us,
            }
        })
        .collect()
}

/// Puts the chunks of one stream together and verifies each snapshot that becomes complete.
#[derive(Debug)]
pub struct SnapshotAssembler {
    layout: u64,
    payload_bytes: usize,
    version: u64,
    received: BytesMut,
}

impl SnapshotAssembler {
    /// For a network with this layout fingerprint and this many bytes of parameters.
    #[must_use]
    pub fn new(layout: u64, payload_bytes: usize) -> Self {
        Self {
            layout,
            payload_bytes,
            version: 0,
            received: BytesMut::new(),
        }
    }

    /// Takes the next chunk; `Some` when it completes a snapshot, which then has been verified, and how it was served.
    ///
    /// # Errors
    /// A chunk out of order or larger than the network, or a snapshot that does not fit or is damaged. The partial
    /// snapshot is dropped; the next one may follow.
    pub fn push(
        &mut self,
        chunk: v1::SnapshotChunk,
    ) -> Result<Option<(ParameterSnapshot, Served)>, WireError> {
        let served = Served {
            newest: PolicyVersion(chunk.newest_version),
            issued_us: chunk.issued_us,
        };
        if chunk.offset == 0 {
            self.received.clear();
            self.version = chunk.policy_version;
        }
        let expected = self.received.len() as u64;
        if chunk.offset != expected || chunk.policy_version != self.version {
            self.received.clear();
            return Err(WireError::ChunkOrder {
                version: chunk.policy_version,
                offset: chunk.offset,
                expected,
            });
        }
        // Checked before anything is kept: a peer cannot make this process hold more than one network.
        if chunk.total_bytes != self.payload_bytes as u64
            || self.received.len() + chunk.payload.len() > self.payload_bytes
        {
            self.received.clear();
            let problem = format!(
                "{}, but the network has {} bytes",
                chunk.total_bytes, self.payload_bytes
            );
            return Err(bad_field("total_bytes", problem));
        }
        let payload = if chunk.payload.len() == self.payload_bytes {
            chunk.payload
        } else {
            self.received.extend_from_slice(&chunk.payload);
            if self.received.len() < self.payload_bytes {
                return Ok(None);
            }
            Bytes::from(std::mem::take(&mut self.received))
        };
        let received = ParameterSnapshot::unverified(
            LearnerEpoch(chunk.learner_epoch),
            PolicyVersion(chunk.policy_version),
            chunk.layout,
            chunk.checksum,
            payload,
        );
        let verified = ParameterSnapshot::verify(received, self.layout, self.payload_bytes)?;
        Ok(Some((verified, served)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: u64 = 99;

    const SERVED: Served = Served {
        newest: PolicyVersion(7),
        issued_us: 12_345,
    };

    fn sealed(bytes: usize) -> ParameterSnapshot {
        let payload: Bytes = (0..bytes).map(|i| (i % 251) as u8).collect();
        ParameterSnapshot::seal(LearnerEpoch(1), PolicyVersion(5), LAYOUT, payload)
    }

    fn assemble(
        assembler: &mut SnapshotAssembler,
        chunks: Vec<v1::SnapshotChunk>,
    ) -> Result<Option<(ParameterSnapshot, Served)>, WireError> {
        let mut last = None;
        for chunk in chunks {
            last = assembler.push(chunk)?;
        }
        Ok(last)
    }

    #[test]
    fn chunks_come_together_again() {
        for bytes in [
            4,
            SNAPSHOT_CHUNK_BYTES_MAX,
            2 * SNAPSHOT_CHUNK_BYTES_MAX + 8,
        ] {
            let snapshot = sealed(bytes);
            let chunks = snapshot_chunks(&snapshot, SERVED);
            assert_eq!(chunks.len(), bytes.div_ceil(SNAPSHOT_CHUNK_BYTES_MAX));
            let mut assembler = SnapshotAssembler::new(LAYOUT, bytes);
            let (whole, served) = assemble(&mut assembler, chunks).unwrap().unwrap();
            assert_eq!(served, SERVED);
            assert_eq!(whole.payload(), snapshot.payload());
            assert_eq!(whole.version(), PolicyVersion(5));
        }
    }

    #[test]
    fn damaged_missing_and_foreign_chunks_are_refused_and_the_next_snapshot_still_arrives() {
        let bytes = SNAPSHOT_CHUNK_BYTES_MAX + 8;
        let chunks = snapshot_chunks(&sealed(bytes), SERVED);
        let mut assembler = SnapshotAssembler::new(LAYOUT, bytes);

        let mut damaged = chunks.clone();
        damaged[1].payload = vec![0; 8].into();
        assert!(matches!(
            assemble(&mut assembler, damaged),
            Err(WireError::Snapshot(_))
        ));
        let gap = vec![chunks[1].clone()];
        assert!(matches!(
            assemble(&mut assembler, gap),
            Err(WireError::ChunkOrder { .. })
        ));
        let mut larger = chunks.clone();
        larger[0].total_bytes += 1;
        assert!(matches!(
            assemble(&mut assembler, larger),
            Err(WireError::Field { .. })
        ));
        assert!(assemble(&mut assembler, chunks).unwrap().is_some());
    }
}
