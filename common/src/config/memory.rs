//! How much a learner can be made to hold, computed from the configuration alone.

use std::fmt;

use super::{Config, Objective};
use crate::{
    policy::{FlatLayout, payload_bytes},
    unroll::Agreement,
    wire::{SNAPSHOT_CHUNK_BYTES_MAX, unroll_message_bytes},
};

/// What a connection costs besides its window: the records of TLS, the tables of HTTP/2, the buffers of the socket's
/// wrapper.
const CONNECTION_BYTES: u64 = 256 * 1024;
/// What HTTP/2 buffers of each stream before the peer has read it; hyper's default.
const SEND_BUFFER_BYTES: u64 = 400 * 1024;
/// Chunks of parameters on their way in one stream: two in the channel, one being encoded, its encoded form.
const CHUNKS: u64 = 4;
/// A buffer that grows may have twice the size that it needs.
const GROWTH: u64 = 2;
/// Copies of the parameters at the trainer: themselves, gradients, two moments, the target, the copy before the update,
/// each on the device and once more while they are read or written.
const PARAMETER_COPIES: u64 = 12;
/// Batches at the trainer besides the reservoir: the one being assembled and the one being trained.
const BATCHES: u64 = 2;
const FLOAT_BYTES: u64 = 4;

/// The worst case of a learner's memory, part by part. What the device needs to compute a minibatch comes on top: it
/// depends on the network, not on any peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBound {
    /// What for, and bytes.
    pub terms: Vec<(&'static str, u64)>,
}

impl MemoryBound {
    /// All parts together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.terms
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// All parts together, in MiB, rounded up.
    #[must_use]
    pub fn mib(&self) -> u64 {
        self.bytes().div_ceil(1 << 20)
    }

    /// The largest part.
    #[must_use]
    pub fn largest(&self) -> (&'static str, u64) {
        let largest = self.terms.iter().max_by_key(|(_, bytes)| *bytes);
        largest.copied().unwrap_or_default()
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {} MiB:", self.mib())?;
        for (index, (what, bytes)) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let mib = *bytes as f64 / f64::from(1 << 20);
            write!(formatter, "{comma} {mib:.1} {what}")?;
        }
        Ok(())
    }
}

impl Config {
    /// The largest message that the learner reads: no honest actor's unroll is larger.
    #[must_use]
    pub fn message_bytes_read_max(&self, agreement: &Agreement) -> usize {
        message_bytes_read_max(self.limits.message_bytes_max, agreement)
    }

    /// The worst case of the learner's memory.
    #[must_use]
    pub fn memory_bound(&self, agreement: &Agreement) -> MemoryBound {
        let limits = &self.limits;
        let unroll = unroll_message_bytes(agreement) as u64;
        let payload = payload_bytes(&agreement.network) as u64;
        let flat = FlatLayout::of(&agreement.network);
        let snapshot = flat.bytes(self.learner.snapshot_encoding) as u64;
        let chunk = snapshot.min(SNAPSHOT_CHUNK_BYTES_MAX as u64);
        let streams = streams_of_a_kind_max(limits.actors_max) as u64;
        let observation = agreement.environment.observation.len() as u64;
        let rows = self.batch_rows() as u64;
        // Observation and final observation become numbers; the rest of a row is as large as on the wire.
        let row = (2 * observation + 16 + agreement.environment.action.len() as u64) * FLOAT_BYTES
            + agreement.environment.mask_len() as u64;
        let phase = if self.algorithm.objective == Objective::Ppg {
            self.algorithm.ppg_policy_updates as u64
        } else {
            0
        };
        let connection = limits.window_bytes as u64
            + CONNECTION_BYTES
            + product(&[
                limits.streams_per_connection_max as u64,
                limits.header_bytes_max as u64,
            ]);
        let message = self.message_bytes_read_max(agreement) as u64;
        let batches = self.learner.reservoir_batches as u64 + BATCHES;
        MemoryBound {
            terms: vec![
                (
                    "connections",
                    product(&[limits.connections_max as u64, connection]),
                ),
                (
                    "messages being read",
                    product(&[limits.streams_max as u64, message, GROWTH]),
                ),
                ("unrolls that wait for a place", product(&[streams, unroll])),
                (
                    "the queue",
                    product(&[self.learner.queue_unrolls as u64, unroll]),
                ),
                ("batches", product(&[batches, rows, row])),
                ("an auxiliary phase", product(&[phase, rows, row])),
                (
                    "parameters being sent",
                    product(&[streams, CHUNKS * chunk + SEND_BUFFER_BYTES]),
                ),
                (
                    "published parameters",
                    // Each slow reader may hold another one.
                    product(&[self.lag.inject.versions_max() + 2 + streams, snapshot]),
                ),
                (
                    "the trainer's parameters",
                    product(&[PARAMETER_COPIES, payload]),
                ),
            ],
        }
    }
}

/// The largest message that a learner with `message_bytes_max` reads from the actors of `agreement`.
#[must_use]
pub fn message_bytes_read_max(message_bytes_max: usize, agreement: &Agreement) -> usize {
    /// A greeting is small, but not nothing.
    const GREETING_BYTES: usize = 64 * 1024;
    unroll_message_bytes(agreement)
        .saturating_add(GREETING_BYTES)
        .min(message_bytes_max)
}

/// Streams of one kind that a learner opens: an actor that reconnects may have its old one open for a while.
#[must_use]
pub fn streams_of_a_kind_max(actors_max: usize) -> usize {
    actors_max.saturating_mul(2).saturating_add(2)
}

fn product(factors: &[u64]) -> u64 {
    factors
        .iter()
        .fold(1, |product, factor| product.saturating_mul(*factor))
}
