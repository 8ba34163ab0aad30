//! A set of parameters on its way from the learner to the actors.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::version::{LearnerEpoch, PolicyVersion};

/// Parameters of one version: little-endian f32 in layout order. Its length and checksum have been verified.
#[derive(Debug, Clone)]
pub struct ParameterSnapshot {
    epoch: LearnerEpoch,
    version: PolicyVersion,
    layout: u64,
    checksum: u64,
    payload: Bytes,
}

/// Why a received snapshot is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// Its length is not that of the layout.
    #[error("the snapshot of version {version} has {got} bytes, but the network has {expected}")]
    Length {
        /// Version claimed.
        version: PolicyVersion,
        /// Bytes received.
        got: usize,
        /// Bytes the layout needs.
        expected: usize,
    },
    /// It was made for another network.
    #[error(
        "the snapshot of version {version} has layout {got:016x}, but this network has {expected:016x}"
    )]
    Layout {
        /// Version claimed.
        version: PolicyVersion,
        /// Layout received.
        got: u64,
        /// Layout of the network here.
        expected: u64,
    },
    /// It was damaged on the way.
    #[error("the snapshot of version {version} is damaged: its checksum does not match")]
    Checksum {
        /// Version claimed.
        version: PolicyVersion,
    },
}

impl ParameterSnapshot {
    /// Seals parameters that this process made itself.
    #[must_use]
    pub fn seal(epoch: LearnerEpoch, version: PolicyVersion, layout: u64, payload: Bytes) -> Self {
        let checksum = xxh3_64(&payload);
        Self {
            epoch,
            version,
            layout,
            checksum,
            payload,
        }
    }

    /// Accepts parameters from elsewhere if they fit the network here and arrived whole.
    ///
    /// # Errors
    /// A [`SnapshotFault`] that says what does not fit.
    pub fn verify(
        received: Self,
        layout: u64,
        payload_bytes: usize,
    ) -> Result<Self, SnapshotFault> {
        let version = received.version;
        if received.layout != layout {
            return Err(SnapshotFault::Layout {
                version,
                got: received.layout,
                expected: layout,
            });
        }
        if received.payload.len() != payload_bytes {
            return Err(SnapshotFault::Length {
                version,
                got: received.payload.len(),
                expected: payload_bytes,
            });
        }
        if xxh3_64(&received.payload) != received.checksum {
            return Err(SnapshotFault::Checksum { version });
        }
        Ok(received)
    }

    /// As it came from the wire, before [`Self::verify`].
    pub(crate) fn unverified(
        epoch: LearnerEpoch,
        version: PolicyVersion,
        layout: u64,
        checksum: u64,
        payload: Bytes,
    ) -> Self {
        Self {
            epoch,
            version,
            layout,
            checksum,
            payload,
        }
    }

    /// The learner's life that made it.
    #[must_use]
    pub fn epoch(&self) -> LearnerEpoch {
        self.epoch
    }

    /// The version of these parameters.
    #[must_use]
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// Fingerprint of names, shapes and order of the parameters.
    #[must_use]
    pub fn layout(&self) -> u64 {
        self.layout
    }

    /// XXH3-64 over the payload.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Little-endian f32 values in layout order.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}
