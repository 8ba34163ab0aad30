//! The wire between Springbok's actors and their learner: generated from `springbok/v1/training.proto`, which is
//! written to be read as the specification.
#![forbid(unsafe_code)]

/// Version 1 of the protocol.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("springbok.v1");
}

/// Bytes that `message` takes on the wire, without gRPC's five-byte frame.
pub fn encoded_len(message: &impl prost::Message) -> usize {
    message.encoded_len()
}
