//! The policy and value networks, their parameters as bytes, and the distribution over actions.

pub mod categorical;
mod network;
mod parameters;

pub use network::ActorCritic;
pub use parameters::{
    ParametersError, export_flat, import_flat, layout, layout_fingerprint, payload_bytes,
    read_safetensors, write_safetensors,
};
