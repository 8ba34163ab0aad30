//! How many bytes went over the learner's connections, both ways.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// Bytes so far: `network` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSummary {
    /// Bytes that the learner received from its actors, encryption and framing included.
    pub received_bytes: u64,
    /// Bytes that it sent to them.
    pub sent_bytes: u64,
}

/// Counts bytes; its copies share them.
#[derive(Debug, Clone, Default)]
pub struct NetworkBytes(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
}

impl NetworkBytes {
    /// So many bytes came.
    pub fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes went.
    pub fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes so far.
    #[must_use]
    pub fn summary(&self) -> NetworkSummary {
        NetworkSummary {
            received_bytes: self.0.received.load(Ordering::Relaxed),
            sent_bytes: self.0.sent.load(Ordering::Relaxed),
        }
    }
}
