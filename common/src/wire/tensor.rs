//! Arrays of numbers as little-endian bytes.

use bytes::Bytes;

use crate::{
    arrays::{Actions, ElementType, Elements},
    spec::ActionSpec,
};

/// Observations in their own type.
pub(super) fn element_bytes(elements: &Elements) -> Bytes {
    match elements {
        Elements::F32(values) => f32_bytes(values),
        Elements::U8(values) => Bytes::copy_from_slice(values),
    }
}

/// The `len` elements of that type in `bytes`; `None` if there are more or fewer.
pub(super) fn element_values(bytes: &Bytes, element: ElementType, len: usize) -> Option<Elements> {
    match element {
        ElementType::F32 => f32_values(bytes, len).map(Elements::F32),
        ElementType::U8 => (bytes.len() == len).then(|| Elements::U8(bytes.to_vec())),
    }
}

/// Actions as u32 or f32.
pub(super) fn action_bytes(actions: &Actions) -> Bytes {
    match actions {
        Actions::Indices(indices) => u32_bytes(indices),
        Actions::Values(values) => f32_bytes(values),
    }
}

/// The `len` numbers in `bytes` that make up actions of that kind; `None` if there are more or fewer.
pub(super) fn action_values(bytes: &[u8], action: &ActionSpec, len: usize) -> Option<Actions> {
    match action {
        ActionSpec::Box { .. } => f32_values(bytes, len).map(Actions::Values),
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => {
            u32_values(bytes, len).map(Actions::Indices)
        }
    }
}

/// `values` as little-endian bytes.
pub(super) fn f32_bytes(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `values` as little-endian bytes.
fn u32_bytes(values: &[u32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The `len` numbers in `bytes`; `None` if there are more or fewer.
pub(super) fn f32_values(bytes: &[u8], len: usize) -> Option<Vec<f32>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    let exact = rest.is_empty() && chunks.len() == len;
    exact.then(|| {
        chunks
            .iter()
            .map(|chunk| f32::from_le_bytes(*chunk))
            .collect()
    })
}

/// The `len` numbers in `bytes`; `None` if there are more or fewer.
fn u32_values(bytes: &[u8], len: usize) -> Option<Vec<u32>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    let exact = rest.is_empty() && chunks.len() == len;
    exact.then(|| {
        chunks
            .iter()
            .map(|chunk| u32::from_le_bytes(*chunk))
            .collect()
    })
}
