//! What goes over the wire, counted in messages; the frames of HTTP/2 and the records of TLS come on top.

use serde::{Deserialize, Serialize};

/// Counts of one life of the learner: `traffic` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficCounts {
    /// Bytes of unrolls that were received, whatever became of them.
    pub unroll_bytes: u64,
    /// Bytes of snapshots that were sent.
    pub snapshot_bytes: u64,
    /// Versions that were published.
    pub snapshots_published: u64,
    /// Snapshots that were sent, to all actors together.
    pub snapshots_sent: u64,
    /// Publications that an actor was not sent because a newer one came before it was ready for it, of all actors together.
    pub snapshots_conflated: u64,
}

impl TrafficCounts {
    /// An unroll of `bytes` was received.
    pub fn received(&mut self, bytes: usize) {
        self.unroll_bytes += bytes as u64;
    }

    /// A snapshot of `bytes` was sent, and `conflated` publications before it were not.
    pub fn sent(&mut self, bytes: usize, conflated: u64) {
        self.snapshot_bytes += bytes as u64;
        self.snapshots_sent += 1;
        self.snapshots_conflated += conflated;
    }

    /// A version was published.
    pub fn published(&mut self) {
        self.snapshots_published += 1;
    }
}
