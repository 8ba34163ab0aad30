//! Faults that the tests must find: each decoder here has one.

use std::hint::black_box;

use super::{Decoder, Example, decoder, sealed};

/// One fault each.
pub(super) const PLANTED: &[Decoder] = &[
    decoder("planted-panic", panics, examples, 2_000),
    decoder("planted-memory", balloons, examples, 2_000),
    decoder("planted-recursion", recurses, examples, 2_000),
    sealed(decoder(
        "planted-seal",
        ignores_the_checksum,
        examples,
        2_000,
    )),
];

fn examples() -> Vec<Example> {
    vec![("list", b"\x04\0\0\0four[1, [2, 3]]".to_vec())]
}

fn claimed(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk::<4>().copied().unwrap_or_default();
    u32::from_le_bytes(length) as usize
}

/// Trusts a length.
fn panics(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && !bytes[4..4 + claimed(bytes)].is_empty()
}

/// Makes room for what is only announced; nothing of it is ever touched.
fn balloons(bytes: &[u8]) -> bool {
    let room = black_box(vec![0_u8; claimed(bytes)]);
    bytes.len() >= room.len()
}

/// Follows brackets as deep as they go.
fn recurses(bytes: &[u8]) -> bool {
    fn depth(bytes: &[u8]) -> usize {
        let page = black_box([0_u8; 4096]);
        match bytes.iter().position(|&byte| byte == b'[') {
            Some(at) => 1 + depth(&bytes[at + 1..]) + usize::from(page[at % 4096]),
            None => 0,
        }
    }
    depth(bytes) > 0
}

/// Takes anything.
fn ignores_the_checksum(_: &[u8]) -> bool {
    true
}
