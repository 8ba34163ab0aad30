//! Snapshots as chunks, and back.

use bytes::{Bytes, BytesMut};
use springbok_proto::v1;

use super::{WireError, bad_field};
use crate::{
    config::SnapshotEncoding,
    policy::FlatLayout,
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
                encoding: match snapshot.encoding() {
                    SnapshotEncoding::F32 => v1::SnapshotEncoding::F32,
                    SnapshotEncoding::Bf16 => v1::SnapshotEncoding::Bf16,
                }
                .into(),
            }
        })
        .collect()
}

fn encoding_of(chunk: &v1::SnapshotChunk) -> Result<SnapshotEncoding, WireError> {
    match v1::SnapshotEncoding::try_from(chunk.encoding) {
        Ok(v1::SnapshotEncoding::F32) => Ok(SnapshotEncoding::F32),
        Ok(v1::SnapshotEncoding::Bf16) => Ok(SnapshotEncoding::Bf16),
        Err(_) => Err(bad_field(
            "encoding",
            format!(
                "{}, but only 0 (f32) and 1 (bf16) are known",
                chunk.encoding
            ),
        )),
    }
}

/// Puts the chunks of one stream together and verifies each snapshot that becomes complete.
#[derive(Debug)]
pub struct SnapshotAssembler {
    layout: u64,
    flat: FlatLayout,
    version: u64,
    encoding: SnapshotEncoding,
    received: BytesMut,
}

impl SnapshotAssembler {
    /// For a network with this layout fingerprint, whose parameters lie so.
    #[must_use]
    pub fn new(layout: u64, flat: FlatLayout) -> Self {
        Self {
            layout,
            flat,
            version: 0,
            encoding: SnapshotEncoding::F32,
            received: BytesMut::new(),
        }
    }

    /// Takes the next chunk; `Some` when it completes a snapshot, which then has been verified, and how it was served.
    ///
    /// # Errors
    /// A chunk out of order, in an unknown encoding or larger than the network, or a snapshot that does not fit or is
    /// damaged. The partial snapshot is dropped; the next one may follow.
    pub fn push(
        &mut self,
        chunk: v1::SnapshotChunk,
    ) -> Result<Option<(ParameterSnapshot, Served)>, WireError> {
        let pushed = self.try_push(chunk);
        if pushed.is_err() {
            self.received.clear();
        }
        pushed
    }

    fn try_push(
        &mut self,
        chunk: v1::SnapshotChunk,
    ) -> Result<Option<(ParameterSnapshot, Served)>, WireError> {
        let encoding = encoding_of(&chunk)?;
        let served = Served {
            newest: PolicyVersion(chunk.newest_version),
            issued_us: chunk.issued_us,
        };
        if chunk.offset == 0 {
            self.received.clear();
            self.version = chunk.policy_version;
            self.encoding = encoding;
        }
        let expected = self.received.len() as u64;
        let same = chunk.policy_version == self.version && encoding == self.encoding;
        if chunk.offset != expected || !same {
            return Err(WireError::ChunkOrder {
                version: chunk.policy_version,
                offset: chunk.offset,
                expected,
            });
        }
        // Checked before anything is kept: a peer cannot make this process hold more than one network.
        let bytes = self.flat.bytes(encoding);
        if chunk.total_bytes != bytes as u64 || self.received.len() + chunk.payload.len() > bytes {
            let problem = format!("{}, but the network has {bytes} bytes", chunk.total_bytes);
            return Err(bad_field("total_bytes", problem));
        }
        let payload = if chunk.payload.len() == bytes {
            chunk.payload
        } else {
            self.received.extend_from_slice(&chunk.payload);
            if self.received.len() < bytes {
                return Ok(None);
            }
            Bytes::from(std::mem::take(&mut self.received))
        };
        let received = ParameterSnapshot::unverified(
            LearnerEpoch(chunk.learner_epoch),
            PolicyVersion(chunk.policy_version),
            chunk.layout,
            encoding,
            chunk.checksum,
            payload,
        );
        let verified = ParameterSnapshot::verify(received, self.layout, &self.flat)?;
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
            let mut assembler = SnapshotAssembler::new(LAYOUT, FlatLayout::weights(bytes / 4));
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
        let mut assembler = SnapshotAssembler::new(LAYOUT, FlatLayout::weights(bytes / 4));

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

    #[test]
    fn rounded_snapshots_travel_in_half_the_bytes_and_are_widened() {
        let numbers = SNAPSHOT_CHUNK_BYTES_MAX + 3;
        let flat = FlatLayout::weights(numbers);
        let exact: Bytes = (0..numbers)
            .flat_map(|i| (i as f32 * 0.1).to_le_bytes())
            .collect();
        let packed = flat.pack(SnapshotEncoding::Bf16, &exact).unwrap();
        let snapshot = ParameterSnapshot::seal_in(
            SnapshotEncoding::Bf16,
            LearnerEpoch(1),
            PolicyVersion(5),
            LAYOUT,
            packed.clone(),
        );
        let chunks = snapshot_chunks(&snapshot, SERVED);
        assert_eq!(chunks.len(), 3);
        let sent: usize = chunks.iter().map(|chunk| chunk.payload.len()).sum();
        assert_eq!(sent, 2 * numbers);
        let mut assembler = SnapshotAssembler::new(LAYOUT, flat.clone());
        let (whole, _) = assemble(&mut assembler, chunks.clone()).unwrap().unwrap();
        assert_eq!(whole.encoding(), SnapshotEncoding::F32);
        let widened = flat.unpack(SnapshotEncoding::Bf16, &packed).unwrap();
        assert_eq!(whole.payload(), &widened);

        // An encoding that changes on the way, or is unknown, or does not go with the length.
        let mut changed = chunks.clone();
        changed[1].encoding = 0;
        assert!(matches!(
            assemble(&mut assembler, changed),
            Err(WireError::ChunkOrder { .. })
        ));
        for other in [0, 2, -1] {
            let mut unknown = chunks.clone();
            unknown[0].encoding = other;
            assert!(matches!(
                assemble(&mut assembler, unknown),
                Err(WireError::Field { .. })
            ));
        }
        assert!(assemble(&mut assembler, chunks).unwrap().is_some());
    }
}
