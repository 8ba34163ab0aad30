//! Parameters as bytes: one flat buffer, little-endian f32, for the wire and for snapshots.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    encoder,
    network::{ActorCritic, parameter_shapes},
};
use crate::spec::{CoreSpec, NetworkSpec};

/// Most parameters that a network may have.
pub const PARAMETERS_MAX: u64 = 1 << 30;
/// Bytes of one parameter: a 32-bit float.
pub(super) const PARAMETER_BYTES: usize = size_of::<f32>();

/// Why bytes cannot become the parameters of a network.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// The buffer is for a network of another size.
    #[error("the parameters have {got} bytes, but the network has {expected}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes the network needs.
        expected: usize,
    },
    /// There is no such network.
    #[error("there is no such network: {0}")]
    Network(String),
    /// A safetensors file that is damaged or cannot be written.
    #[error("the safetensors data cannot be used: {0}")]
    Safetensors(#[from] ::safetensors::SafeTensorError),
    /// A tensor of the file has another shape or element type than the network's.
    #[error("tensor {name} is {got}, but the network needs F32 {expected:?}")]
    Tensor {
        /// Name in the file.
        name: String,
        /// Element type and shape found.
        got: String,
        /// Shape needed, in the file's orientation.
        expected: Vec<usize>,
    },
}

/// Names and shapes of all parameters in the order of the flat buffer; statistics that are not trained are among them.
///
/// Matrices are [inputs, outputs]: y = x W + b. Convolutions are [outputs, inputs, height, width].
#[must_use]
pub fn layout(spec: &NetworkSpec) -> Vec<(String, Vec<usize>)> {
    parameter_shapes(spec)
        .into_iter()
        .map(|parameter| (parameter.name, parameter.shape))
        .collect()
}

/// A number that differs if two networks differ in names, shapes or order of their parameters, or compute something
/// else with them.
#[must_use]
pub fn layout_fingerprint(spec: &NetworkSpec) -> u64 {
    let mut text = format!(
        "{:?};{:?};{:?};{:?};",
        spec.encoder, spec.activation, spec.core, spec.gaussian
    );
    for (name, shape) in layout(spec) {
        text.push_str(&format!("{name}{shape:?};"));
    }
    xxh3_64(text.as_bytes())
}

/// Number of parameters, with statistics that are not trained. A network without
/// [fault](crate::spec::NetworkSpec::fault) has at most [`PARAMETERS_MAX`].
#[must_use]
pub fn parameter_count(spec: &NetworkSpec) -> usize {
    let elements = |shape: &[usize]| shape.iter().fold(1_usize, |all, &n| all.saturating_mul(n));
    let layout = layout(spec).into_iter();
    layout.fold(0, |sum, (_, shape)| sum.saturating_add(elements(&shape)))
}

/// Length of the flat buffer.
#[must_use]
pub fn payload_bytes(spec: &NetworkSpec) -> usize {
    parameter_count(spec).saturating_mul(PARAMETER_BYTES)
}

/// Numbers that a network keeps of one step until the backward pass, about: an estimate of the memory of a device.
#[must_use]
pub fn kept_len(spec: &NetworkSpec) -> usize {
    /// Of each gate the two products, their sum and its activation.
    const OF_A_GATE: usize = 4;
    let encoder = encoder::resolve(spec).unwrap_or_else(encoder::identity);
    let core = match spec.core {
        CoreSpec::None => 0,
        CoreSpec::Lstm { size } => size.saturating_mul(4 * OF_A_GATE),
        CoreSpec::Gru { size } => size.saturating_mul(3 * OF_A_GATE),
    };
    let torso = encoder.kept_len(&spec.observation).saturating_add(core);
    torso.saturating_mul(if spec.shared_torso { 1 } else { 2 })
}

/// All parameters `[P]` in layout order, joined on the device. No gradient flows through them.
#[must_use]
pub fn flatten(network: &ActorCritic) -> Tensor<1> {
    let mut flattened = Flatten(Vec::new());
    network.visit(&mut flattened);
    Tensor::cat(flattened.0, 0)
}

struct Flatten(Vec<Tensor<1>>);

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = parameter.val().without_autodiff();
        let elements = tensor.shape().num_elements();
        self.0.push(tensor.reshape([elements]));
    }
}

/// `network` with the parameters `[P]` of [`flatten`]; whether gradients are tracked stays as it is.
///
/// There are [`parameter_count`] of them, and they are on the network's device.
#[must_use]
pub fn unflatten(network: ActorCritic, parameters: &Tensor<1>) -> ActorCritic {
    network.map(&mut Unflatten {
        parameters,
        next: 0,
    })
}

struct Unflatten<'a> {
    parameters: &'a Tensor<1>,
    next: usize,
}

impl ModuleMapper for Unflatten<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, id) = (parameter.lazy_shape(), parameter.id);
        let elements = shape.num_elements();
        let own = self.parameters.clone().narrow(0, self.next, elements);
        self.next += elements;
        let own = own.reshape(shape);
        let own = if parameter.lazy_device().is_autodiff() {
            own.autodiff()
        } else {
            own
        };
        parameter.transform_for_load(own, id)
    }
}

/// All parameters as little-endian f32 in layout order: one read-back from the device.
#[must_use]
pub fn export_flat(network: &ActorCritic) -> Bytes {
    to_bytes(flatten(network))
}

/// What [`export_flat`] gives, for parameters `[P]` that have been read back.
#[must_use]
pub fn encode_flat(parameters: &[f32]) -> Bytes {
    let words = parameters.iter().map(|own| own.to_le_bytes());
    words.collect::<Vec<_>>().into_flattened().into()
}

/// The numbers of `tensor` as little-endian f32; waits for the device.
#[must_use]
pub fn to_bytes(tensor: Tensor<1>) -> Bytes {
    let data = tensor.into_data();
    // Tensor data have the byte order of the host, the wire has little-endian.
    if cfg!(target_endian = "little") {
        Bytes::copy_from_slice(data.as_bytes())
    } else {
        data.as_bytes()
            .chunks_exact(PARAMETER_BYTES)
            .flat_map(|word| word.iter().rev().copied())
            .collect()
    }
}

/// The whole little-endian f32 in `bytes` as a tensor on `device`.
#[must_use]
pub fn to_tensor(bytes: &[u8], device: &Device) -> Tensor<1> {
    let (words, _) = bytes.as_chunks::<PARAMETER_BYTES>();
    let data = if cfg!(target_endian = "little") {
        TensorData::from_bytes_vec(words.as_flattened().to_vec(), [words.len()], DType::F32)
    } else {
        let floats: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        TensorData::new(floats, [words.len()])
    };
    Tensor::from_data(data, device)
}

/// `network` with the parameters of a flat buffer; device and gradient tracking stay as they are.
///
/// # Errors
/// [`ParametersError::Length`] if the buffer is too short or too long.
pub fn import_flat(network: ActorCritic, flat: &[u8]) -> Result<ActorCritic, ParametersError> {
    let expected = network.num_params() * PARAMETER_BYTES;
    if flat.len() != expected {
        return Err(ParametersError::Length {
            got: flat.len(),
            expected,
        });
    }
    let parameters = to_tensor(flat, &network.device().without_autodiff());
    Ok(unflatten(network, &parameters))
}
