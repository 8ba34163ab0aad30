//! Arrays of numbers as little-endian bytes.

use bytes::Bytes;

/// `values` as little-endian bytes.
pub(super) fn f32_bytes(values: &[f32]) -> Bytes {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `values` as little-endian bytes.
pub(super) fn u32_bytes(values: &[u32]) -> Bytes {
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
pub(super) fn u32_values(bytes: &[u8], len: usize) -> Option<Vec<u32>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    let exact = rest.is_empty() && chunks.len() == len;
    exact.then(|| {
        chunks
            .iter()
            .map(|chunk| u32::from_le_bytes(*chunk))
            .collect()
    })
}
