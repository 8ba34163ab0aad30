//! Damage of every kind is detected, and the checkpoint before it is found.

use std::{fs, path::Path};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::{
    disk::RealDisk,
    format::{self, FORMAT_REVISION, FormatError, HEADER_BYTES, Header},
    store::{Retention, Store, file_name},
};

const HEADER: Header = Header {
    epoch: 3,
    version: 77,
    mean_return: Some(12.5),
};

fn content() -> Vec<u64> {
    (0..500).map(|n| n * n).collect()
}

fn encoded() -> Vec<u8> {
    format::encode(&HEADER, &content()).unwrap()
}

fn decode(bytes: &[u8]) -> Result<(Header, Vec<u64>), FormatError> {
    format::decode(bytes)
}

#[test]
fn what_is_encoded_is_decoded() {
    assert_eq!(decode(&encoded()), Ok((HEADER, content())));
    let without = Header {
        mean_return: None,
        ..HEADER
    };
    let bytes = format::encode(&without, &content()).unwrap();
    assert_eq!(format::header(&bytes[..HEADER_BYTES]).unwrap().0, without);
}

#[test]
fn every_flipped_bit_of_the_header_is_detected() {
    let good = encoded();
    for byte in 0..HEADER_BYTES {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[byte] ^= 1 << bit;
            assert!(decode(&bad).is_err(), "byte {byte} bit {bit}");
        }
        for value in [0, 0xff, good[byte].wrapping_add(1)] {
            let mut bad = good.clone();
            bad[byte] = value;
            assert!(value == good[byte] || decode(&bad).is_err(), "byte {byte}");
        }
    }
}

#[test]
fn ten_thousand_flipped_bits_of_the_payload_are_detected() {
    let good = encoded();
    let mut rng = Pcg64::seed_from_u64(11);
    for _ in 0..10_000 {
        let mut bad = good.clone();
        for _ in 0..rng.random_range(1..4) {
            let byte = rng.random_range(HEADER_BYTES..good.len());
            bad[byte] ^= 1 << rng.random_range(0..8);
        }
        assert!(bad == good || decode(&bad) == Err(FormatError::Checksum("payload")));
    }
}

#[test]
fn every_truncation_and_every_addition_is_detected() {
    let good = encoded();
    for length in 0..good.len() {
        assert!(decode(&good[..length]).is_err(), "{length}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(decode(&longer), Err(FormatError::Length { .. })));
    assert_eq!(decode(b"PK\x03\x04 not ours"), Err(FormatError::Magic));
}

#[test]
fn another_revision_is_named_and_a_lying_length_asks_for_no_memory() {
    let mut other = encoded();
    other[8..12].copy_from_slice(&(FORMAT_REVISION + 1).to_le_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&other[..56]);
    other[56..64].copy_from_slice(&sum.to_le_bytes());
    let got = FORMAT_REVISION + 1;
    assert_eq!(decode(&other), Err(FormatError::Revision { got }));

    // A valid container whose payload claims 2^60 elements.
    let lying = format::encode(&HEADER, &(1_u64 << 60)).unwrap();
    assert!(matches!(decode(&lying), Err(FormatError::Content(_))));
}

/// Room is made for a text before it is read: what is announced must not exceed the payload by much.
#[test]
fn an_announced_text_asks_for_no_more_memory_than_the_payload_takes() {
    // A length of 1 GiB, and nothing behind it.
    let lying = format::encode(&HEADER, &(1_u64 << 30)).unwrap();
    let text = format::decode::<String>(&lying).unwrap_err();
    assert!(
        matches!(&text, FormatError::Content(cause) if cause.contains("LimitExceeded")),
        "{text}"
    );
    // The limits of decoding are no limits of what was encoded.
    for payload_bytes in [64 << 10, 4 << 20] {
        for more in [0, 1] {
            let content = vec![7_u64; payload_bytes / 8 - 1 + more];
            let bytes = format::encode(&HEADER, &content).unwrap();
            assert_eq!(bytes.len(), HEADER_BYTES + payload_bytes + 8 * more);
            assert_eq!(decode(&bytes), Ok((HEADER, content)));
        }
    }
}

#[test]
fn the_one_before_a_damaged_checkpoint_is_used_and_the_damaged_one_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention {
        keep_last: 3,
        keep_best: false,
    };
    let mut store = Store::new(RealDisk::default(), directory.path().to_owned(), retention);
    for version in 1..=3 {
        let header = Header { version, ..HEADER };
        let bytes = format::encode(&header, &vec![version]).unwrap();
        store.save(version, &bytes).unwrap();
    }
    let path = |version| directory.path().join(file_name(version));
    let damage = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let decoded = |found: &super::store::Found| decode(&found.bytes).map(|(_, content)| content[0]);
    damage(&path(3));
    assert_eq!(store.newest(false, decoded).unwrap(), Some((path(2), 2)));
    assert!(path(3).exists());
    assert_eq!(store.newest(true, decoded).unwrap(), Some((path(2), 2)));
    assert!(!path(3).exists() && path(3).with_extension("corrupt").exists());
    damage(&path(2));
    damage(&path(1));
    assert_eq!(store.newest(true, decoded).unwrap(), None);
    assert_eq!(store.set_aside_count().unwrap(), 3);
}
