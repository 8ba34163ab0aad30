//! Between protobuf messages and the domain's types: the only place, with the two gRPC edges, that knows both.
//!
//! Lengths are checked against the joined specification before a number is read.

mod act;
mod join;
mod snapshot;
mod tensor;
mod unroll;

pub use act::{act_message_bytes, decode_acted, decode_observed, encode_acted, encode_observed};
pub use join::{JoinTerms, MESSAGE_BYTES_MAX, join_reply, join_terms};
pub use snapshot::{SNAPSHOT_CHUNK_BYTES_MAX, SnapshotAssembler, snapshot_chunks};
pub use unroll::{
    FrameCompressor, acknowledgement, decode_header, decode_unroll, encode_unroll, message_bytes,
    parse_acknowledgement, unroll_message_bytes, unroll_of_bytes,
};

/// Header of a refusal that says after how many milliseconds trying again may help: the name that gRPC gives it.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A message that does not say what the protocol promises.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field is missing or has a value outside the protocol.
    #[error("the message's field {field} is {problem}")]
    Field {
        /// Name in the .proto file.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Chunks of a snapshot do not fit together.
    #[error(
        "snapshot chunk at offset {offset} does not follow byte {expected} of version {version}"
    )]
    ChunkOrder {
        /// Version the chunk belongs to.
        version: u64,
        /// Where the chunk starts.
        offset: u64,
        /// Where it should start.
        expected: u64,
    },
    /// The assembled snapshot does not fit the network.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::SnapshotFault),
}

fn bad_field(field: &'static str, problem: impl Into<String>) -> WireError {
    WireError::Field {
        field,
        problem: problem.into(),
    }
}
