//! Parameters as a safetensors file, for other programs.

use std::collections::BTreeMap;

use ::safetensors::{Dtype, SafeTensors, tensor::TensorView};
use bytes::Bytes;

use super::parameters::{PARAMETER_BYTES, ParametersError, layout, payload_bytes};
use crate::spec::{CoreSpec, NetworkSpec};

/// The content of a safetensors file with the parameters of a flat buffer, named as in [`layout`]. Matrices are
/// turned to [outputs, inputs], the orientation of `torch.nn.Linear` and of `weight_ih_l0` and `weight_hh_l0` of
/// `torch.nn.LSTM` and `GRU`; convolutions are [outputs, inputs, height, width] as in `torch.nn.Conv2d`. The metadata
/// says so.
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
        .collect::<Result<Vec<_>, ::safetensors::SafeTensorError>>()?;
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        (
            "orientation".to_owned(),
            "weights are [outputs, inputs] as in torch.nn.Linear".to_owned(),
        ),
        (
            "activation".to_owned(),
            format!("{:?}", spec.activation).to_lowercase(),
        ),
        (
            "gates".to_owned(),
            match spec.core {
                CoreSpec::None => "",
                CoreSpec::Lstm { .. } => "i, f, g, o as in torch.nn.LSTM; core.input.bias is the sum of both biases",
                CoreSpec::Gru { .. } => {
                    "r, z, n as in torch.nn.GRU; core.recurrent.bias is the part n of bias_hh, the others are in core.input.bias"
                }
            }
            .to_owned(),
        ),
    ]);
    Ok(with_metadata(
        &::safetensors::serialize(views, None)?,
        &metadata,
    ))
}

/// Adds `metadata` to the header of the file `plain`. The library would take it in the order of a hash map, which is
/// another in each process: the same parameters are to make the same file.
fn with_metadata(plain: &[u8], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let (length, rest) = plain.split_first_chunk::<8>().unwrap_or((&[0; 8], plain));
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, data) = rest.split_at(length.min(rest.len()));
    // A map of strings always has a JSON form.
    let metadata = serde_json::to_string(metadata).unwrap_or_default();
    let mut text = format!("{{\"__metadata__\":{metadata},").into_bytes();
    text.extend_from_slice(header.trim_ascii_end().get(1..).unwrap_or_default());
    // The data begins at a multiple of 8 bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice(), data].concat()
}

/// The flat buffer for `spec` out of the content of a safetensors file that [`write_safetensors`] or another
/// program wrote.
///
/// # Errors
/// A [`ParametersError`] if the file is damaged, a tensor is missing or has another shape or element type.
pub fn read_safetensors(content: &[u8], spec: &NetworkSpec) -> Result<Bytes, ParametersError> {
    // The description comes from a file, too.
    if let Some(fault) = spec.fault() {
        return Err(ParametersError::Network(fault));
    }
    let expected = payload_bytes(spec);
    if content.len() < expected {
        return Err(ParametersError::Length {
            got: content.len(),
            expected,
        });
    }
    let file = SafeTensors::deserialize(content)?;
    let mut flat = Vec::with_capacity(expected);
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

/// The shape of a matrix with rows and columns exchanged; of anything else, the same.
fn turned(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [rows, columns] => vec![columns, rows],
        ref other => other.to_vec(),
    }
}

/// The bytes of a matrix of `shape`, row-major, with rows and columns exchanged; of anything else, the same bytes.
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
