//! The wire between Springbok's actors and their learner: generated from `springbok/v1/training.proto`, which is
//! written to be read as the specification.
#![forbid(unsafe_code)]

use bytes::{Bytes, BytesMut};
use prost::{DecodeError, Message};

/// Version 1 of the protocol.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("springbok.v1");
}

/// Bytes that `message` takes on the wire, without gRPC's five-byte frame.
pub fn encoded_len(message: &impl Message) -> usize {
    message.encoded_len()
}

/// `message` as those bytes.
pub fn encode(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.encoded_len());
    // A buffer in memory has room for any message.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// The message that `bytes` are; its fields of bytes share them.
///
/// # Errors
/// They are no such message.
pub fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    M::decode(bytes)
}
