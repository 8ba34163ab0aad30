//! A set of parameters on its way from the learner to the actors.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::SnapshotEncoding,
    policy::{FlatLayout, Misfit},
    version::{LearnerEpoch, PolicyVersion},
};

/// Parameters of one version, in layout order. Their length and checksum have been verified.
#[derive(Debug, Clone)]
pub struct ParameterSnapshot {
    epoch: LearnerEpoch,
    version: PolicyVersion,
    layout: u64,
    encoding: SnapshotEncoding,
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
    /// Seals parameters that this process made itself: little-endian f32 in layout order.
    #[must_use]
    pub fn seal(epoch: LearnerEpoch, version: PolicyVersion, layout: u64, payload: Bytes) -> Self {
        Self::seal_in(SnapshotEncoding::F32, epoch, version, layout, payload)
    }

    /// Seals parameters that are in `encoding` already.
    #[must_use]
    pub fn seal_in(
        encoding: SnapshotEncoding,
        epoch: LearnerEpoch,
        version: PolicyVersion,
        layout: u64,
        payload: Bytes,
    ) -> Self {
        let checksum = xxh3_64(&payload);
        Self {
            epoch,
            version,
            layout,
            encoding,
            checksum,
            payload,
        }
    }

    /// Accepts parameters from elsewhere if they fit the network here and arrived whole; they are f32 then.
    ///
    /// # Errors
    /// A [`SnapshotFault`] that says what does not fit.
    pub fn verify(received: Self, layout: u64, flat: &FlatLayout) -> Result<Self, SnapshotFault> {
        let version = received.version;
        if received.layout != layout {
            return Err(SnapshotFault::Layout {
                version,
                got: received.layout,
                expected: layout,
            });
        }
        if xxh3_64(&received.payload) != received.checksum {
            return Err(SnapshotFault::Checksum { version });
        }
        let unpacked = flat.unpack(received.encoding, &received.payload);
        let payload = unpacked.map_err(|Misfit { got, expected }| SnapshotFault::Length {
            version,
            got,
            expected,
        })?;
        Ok(Self {
            encoding: SnapshotEncoding::F32,
            payload,
            ..received
        })
    }

    /// As it came from the wire, before [`Self::verify`].
    pub(crate) fn unverified(
        epoch: LearnerEpoch,
        version: PolicyVersion,
        layout: u64,
        encoding: SnapshotEncoding,
        checksum: u64,
        payload: Bytes,
    ) -> Self {
        Self {
            epoch,
            version,
            layout,
            encoding,
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

    /// What the payload is in.
    #[must_use]
    pub fn encoding(&self) -> SnapshotEncoding {
        self.encoding
    }

    /// XXH3-64 over the payload as it travels.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The numbers in layout order, little-endian, in their [encoding](Self::encoding); f32 once they were received.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}
