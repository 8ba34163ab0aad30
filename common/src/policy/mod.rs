//! The policy and value networks, their parameters as bytes, and the distributions over actions.

pub mod categorical;
mod distribution;
mod encoder;
mod fault;
mod gaussian;
mod initialise;
mod network;
mod packing;
mod parameters;
mod recurrent;
mod safetensors;
mod sampling;
mod statistics;
mod work;

pub use distribution::{ActionTensor, Distribution, DistributionKind};
pub use encoder::{Encoder, EncoderParameters, Initialisation, ParameterShape, register_encoder};
pub use network::{ActorCritic, Sequence, Unrolled};
pub use packing::{FlatLayout, Misfit};
pub use parameters::{
    PARAMETERS_MAX, ParametersError, encode_flat, export_flat, flatten, import_flat, kept_len,
    layout, layout_fingerprint, parameter_count, payload_bytes, to_bytes, to_tensor, unflatten,
};
pub use safetensors::{read_safetensors, write_safetensors};
pub use work::multiply_adds;

#[cfg(test)]
mod tests;
