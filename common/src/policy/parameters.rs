//! Parameters as bytes: one flat buffer for the wire, and safetensors for other programs.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Tensor, TensorData},
};
use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use xxhash_rust::xxh3::xxh3_64;

use super::network::{ActorCritic, hidden_sizes};
use crate::spec::NetworkSpec;

/// Bytes of one parameter: a 32-bit float.
const PARAMETER_BYTES: usize = size_of::<f32>();

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
    /// A safetensors file that is damaged or cannot be written.
    #[error("the safetensors data cannot be used: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
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

/// Names and shapes of all parameters in the order of the flat buffer. Weights are [inputs, outputs]: y = x W + b.
#[must_use]
pub fn layout(spec: &NetworkSpec) -> Vec<(String, Vec<usize>)> {
    let mut entries = Vec::new();
    let mut layer = |name: String, inputs: usize, outputs: usize| {
        entries.push((format!("{name}.weight"), vec![inputs, outputs]));
        entries.push((format!("{name}.bias"), vec![outputs]));
    };
    let torsos: &[&str] = if spec.shared_torso {
        &["torso"]
    } else {
        &["policy_torso", "value_torso"]
    };
    let mut width = spec.observation.len();
    for torso in torsos {
        width = spec.observation.len();
        for (index, &hidden) in hidden_sizes(spec).iter().enumerate() {
            layer(format!("{torso}.{index}"), width, hidden);
            width = hidden;
        }
    }
    layer("policy_head".to_owned(), width, spec.distribution_len());
    layer("value_head".to_owned(), width, 1);
    entries
}

/// A number that differs if names, shapes, order or the activation of two networks differ.
#[must_use]
pub fn layout_fingerprint(spec: &NetworkSpec) -> u64 {
    let mut text = format!("{:?};", spec.activation);
    for (name, shape) in layout(spec) {
        text.push_str(&format!("{name}{shape:?};"));
    }
    xxh3_64(text.as_bytes())
}

/// Length of the flat buffer.
#[must_use]
pub fn payload_bytes(spec: &NetworkSpec) -> usize {
    layout(spec)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>() * PARAMETER_BYTES)
        .sum()
}

/// All parameters as little-endian f32 in layout order. They are joined on the device, so that there is only one
/// read-back.
#[must_use]
pub fn export_flat(network: &ActorCritic) -> Bytes {
    let mut flattened = Flatten(Vec::new());
    network.visit(&mut flattened);
    let data = Tensor::cat(flattened.0, 0).into_data();
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

struct Flatten(Vec<Tensor<1>>);

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = parameter.val().without_autodiff();
        let elements = tensor.shape().num_elements();
        self.0.push(tensor.reshape([elements]));
    }
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
    Ok(network.map(&mut Load { rest: flat }))
}

struct Load<'a> {
    rest: &'a [u8],
}

impl ModuleMapper for Load<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (device, shape, id) = (
            parameter.lazy_device(),
            parameter.lazy_shape(),
            parameter.id,
        );
        let (own, rest) = self.rest.split_at(shape.num_elements() * PARAMETER_BYTES);
        self.rest = rest;
        let data = if cfg!(target_endian = "little") {
            TensorData::from_bytes_vec(own.to_vec(), shape, DType::F32)
        } else {
            TensorData::new(floats(own), shape)
        };
        parameter.transform_for_load(Tensor::from_data(data, &device), id)
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<PARAMETER_BYTES>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// The content of a safetensors file with the parameters of a flat buffer, named as in [`layout`]. Weights are
/// turned to [outputs, inputs], the orientation of `torch.nn.Linear`; the metadata says so.
///
/// # Errors
/// [`ParametersError::Length`] if `flat` does not fit `spec`.
pub fn write_safetensors(flat: &[u8], spec: &NetworkSpec) -> Result<Vec<u8>, ParametersError> {
    if flat.len() != payload_bytes(spec) {
        return Err(ParametersError::Length {
            got: flat.len(),
            expected: payload_bytes(spec),
        });
    }
    let mut rest = flat;
    let mut tensors = Vec::new();
    for (name, shape) in layout(spec) {
        let (own, others) = rest.split_at(shape.iter().product::<usize>() * PARAMETER_BYTES);
        rest = others;
        tensors.push((name, turned(&shape), transposed(own, &shape)));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let metadata = HashMap::from([
        ("format".to_owned(), "pt".to_owned()),
        (
            "orientation".to_owned(),
            "weights are [outputs, inputs] as in torch.nn.Linear".to_owned(),
        ),
        (
            "activation".to_owned(),
            format!("{:?}", spec.activation).to_lowercase(),
        ),
    ]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// The flat buffer for `spec` out of the content of a safetensors file that [`write_safetensors`] or another
/// program wrote.
///
/// # Errors
/// A [`ParametersError`] if the file is damaged, a tensor is missing or has another shape or element type.
pub fn read_safetensors(content: &[u8], spec: &NetworkSpec) -> Result<Bytes, ParametersError> {
    let file = SafeTensors::deserialize(content)?;
    let mut flat = Vec::with_capacity(payload_bytes(spec));
    for (name, shape) in layout(spec) {
        let tensor = file.tensor(&name)?;
        let expected = turned(&shape);
        if tensor.dtype() != Dtype::F32 || tensor.shape() != expected {
            return Err(ParametersError::Tensor {
                name,
                got: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
                expected,
            });
        }
        flat.extend(transposed(tensor.data(), &expected));
    }
    Ok(flat.into())
}

fn turned(shape: &[usize]) -> Vec<usize> {
    shape.iter().rev().copied().collect()
}

/// The bytes of a matrix of `shape`, row-major, with rows and columns exchanged; of a vector, the same bytes.
fn transposed(bytes: &[u8], shape: &[usize]) -> Vec<u8> {
    let &[rows, columns] = shape else {
        return bytes.to_vec();
    };
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let start = (row * columns + column) * PARAMETER_BYTES;
            out.extend_from_slice(&bytes[start..start + PARAMETER_BYTES]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec};

    fn spec(shared_torso: bool) -> NetworkSpec {
        let environment = EnvironmentSpec::new(
            "E",
            ObservationSpec::floats([3], [-1.0, 1.0]),
            ActionSpec::Discrete(2),
        );
        NetworkSpec::mlp(&environment, vec![5, 4], Activation::Relu, shared_torso)
    }

    #[test]
    fn the_layout_is_the_order_in_which_the_network_is_visited() {
        struct Shapes(Vec<Vec<usize>>);
        impl ModuleVisitor for Shapes {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                self.0.push(parameter.val().dims().to_vec());
            }
        }
        for shared_torso in [false, true] {
            let spec = spec(shared_torso);
            let mut shapes = Shapes(Vec::new());
            ActorCritic::new(&spec, 1, &Device::flex()).visit(&mut shapes);
            let expected: Vec<_> = layout(&spec).into_iter().map(|entry| entry.1).collect();
            assert_eq!(shapes.0, expected);
        }
    }

    #[test]
    fn parameters_survive_the_round_trip_bit_for_bit() {
        for shared_torso in [false, true] {
            let spec = spec(shared_torso);
            let device = Device::flex();
            let original = export_flat(&ActorCritic::new(&spec, 1, &device));
            assert_eq!(original, export_flat(&ActorCritic::new(&spec, 1, &device)));
            assert_eq!(original.len(), payload_bytes(&spec));

            let other = ActorCritic::new(&spec, 2, &device.clone().autodiff());
            assert_ne!(original, export_flat(&other));
            let loaded = import_flat(other.clone(), &original).unwrap();
            assert_eq!(original, export_flat(&loaded));
            assert!(import_flat(other.clone(), &original[4..]).is_err());
            assert!(import_flat(other, &[&original[..], &[0; 4]].concat()).is_err());

            // Loaded parameters can still be trained.
            let observations = Tensor::<2>::ones([1, 3], &device.autodiff());
            let gradients = loaded.value(observations).sum().backward();
            let gradients = burn::optim::GradientsParams::from_grads(gradients, &loaded);
            assert!(!gradients.is_empty());
        }
    }

    #[test]
    fn safetensors_carry_the_same_parameters_and_refuse_others() {
        let spec = spec(false);
        let flat = export_flat(&ActorCritic::new(&spec, 5, &Device::flex()));
        let file = write_safetensors(&flat, &spec).unwrap();
        assert_eq!(read_safetensors(&file, &spec).unwrap(), flat);
        let view = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(view.tensor("policy_head.weight").unwrap().shape(), [2, 4]);
        assert!(read_safetensors(&file, &self::spec(true)).is_err());
        assert!(read_safetensors(&file[..file.len() - 1], &spec).is_err());
        assert!(write_safetensors(&flat[1..], &spec).is_err());
    }

    #[test]
    fn another_layout_has_another_fingerprint() {
        let original = layout_fingerprint(&spec(false));
        assert_eq!(original, layout_fingerprint(&spec(false)));
        assert_ne!(original, layout_fingerprint(&spec(true)));
        let tanh = NetworkSpec {
            activation: Activation::Tanh,
            ..spec(false)
        };
        assert_ne!(original, layout_fingerprint(&tanh));
    }
}
