//! Defects that are planted around the real parts, to see that the invariants find them.

/// One defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// An unroll that arrives again is trained on again.
    DedupeOff,
    /// The fence admits one version more than the limit.
    LagOffByOne,
    /// Unrolls are acknowledged that the learner never takes into its books.
    AcknowledgedUnseen,
    /// Places in the queue that were taken are now and then not given back.
    PermitLeak,
    /// A learner that is started again keeps the epoch of its earlier life.
    EpochKept,
    /// A checkpoint counts as written before the disk has it.
    NoFsync,
    /// Parameters arrive half old and half new, and nobody looks at the checksum.
    TornSnapshot,
    /// The ledger does not hear of an update.
    LedgerMiss,
    /// Chunks of a snapshot are put together in another order, and nobody looks at the checksum.
    ChunkOrderIgnored,
    /// The ledger does not hear of what a full queue drops.
    EvictedUncounted,
    /// What is still queued at the end of a drain is dropped without a word.
    DrainDropsQueue,
    /// In lock-step a version is served again to those who had it.
    ServedAgain,
    /// A token that was revoked stays in the learner's file.
    RevokedKept,
    /// The gate holds nothing back.
    GateOpen,
    /// Snapshots that were published are kept.
    SnapshotsKept,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DedupeOff,
        Self::LagOffByOne,
        Self::AcknowledgedUnseen,
        Self::PermitLeak,
        Self::EpochKept,
        Self::NoFsync,
        Self::TornSnapshot,
        Self::LedgerMiss,
        Self::ChunkOrderIgnored,
        Self::EvictedUncounted,
        Self::DrainDropsQueue,
        Self::ServedAgain,
        Self::RevokedKept,
        Self::GateOpen,
        Self::SnapshotsKept,
    ];
}

impl Planted {
    /// The invariants that may find it.
    #[must_use]
    pub fn found_by(self) -> &'static [&'static str] {
        match self {
            Self::DedupeOff => &["once"],
            Self::LagOffByOne => &["age"],
            Self::AcknowledgedUnseen | Self::LedgerMiss => &["accounts"],
            Self::PermitLeak => &["liveness"],
            Self::EpochKept => &["lives", "versions", "capacity"],
            Self::NoFsync => &["durable"],
            Self::TornSnapshot | Self::ChunkOrderIgnored => &["snapshots"],
            Self::EvictedUncounted => &["capacity"],
            Self::DrainDropsQueue => &["drain"],
            Self::ServedAgain => &["lockstep"],
            Self::RevokedKept => &["guarded"],
            Self::GateOpen => &["fresh"],
            Self::SnapshotsKept => &["memory"],
        }
    }
}
