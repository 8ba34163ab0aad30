//! The container of a checkpoint: a header of fixed length, then the payload.
//!
//! | bytes | content, integers little-endian |
//! | --- | --- |
//! | 0..8 | `SPRINGBK` |
//! | 8..12 | revision of the format |
//! | 12..16 | learner epoch |
//! | 16..24 | policy version |
//! | 24..32 | mean return of the last 100 episodes, f64; NaN if there was none |
//! | 32..40 | length of the payload in bytes |
//! | 40..56 | XXH3-128 of the payload |
//! | 56..64 | XXH3-64 of bytes 0..56 |
//!
//! Both checksums are XXH3: fast enough not to matter (gigabytes per second on one core), so that one checksum suffices
//! for files of any length. 128 bits make an undetected accident as good as impossible, where the 32 bits of a CRC would
//! let one in four billion pass. Neither protects against someone who forges files on purpose; who can write into the run
//! directory can do worse. The header has a checksum of its own, so that it can be trusted, and retention can read it,
//! before the payload is touched.

use serde::{Serialize, de::DeserializeOwned};
use springbok_common::coding::{array_at, coding};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// First bytes of every checkpoint.
const MAGIC: [u8; 8] = *b"SPRINGBK";
/// Changes whenever the payload's meaning does.
pub const FORMAT_REVISION: u32 = 2;
/// Length of the header.
pub const HEADER_BYTES: usize = 64;
/// Largest payload that is written or read: decoding never asks for more memory than that.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 30;

/// What is known of a checkpoint without its payload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    /// The life of the learner that wrote it.
    pub epoch: u32,
    /// The policy version: updates so far.
    pub version: u64,
    /// Mean return of the last 100 episodes.
    pub mean_return: Option<f64>,
}

/// Why bytes are no checkpoint that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are those of something else.
    #[error("it is no checkpoint of Springbok")]
    Magic,
    /// It ends too early, or goes on after its end.
    #[error("it has {got} bytes instead of {expected}")]
    Length {
        /// Bytes there are.
        got: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// A checksum does not fit.
    #[error("the checksum of its {0} does not fit: it is damaged")]
    Checksum(&'static str),
    /// Another release wrote it.
    #[error("it has revision {got} of the format, and this release reads {FORMAT_REVISION}")]
    Revision {
        /// Its revision.
        got: u32,
    },
    /// The content is not what this release writes.
    #[error("its content cannot be read: {0}")]
    Content(String),
}

/// `content` as the bytes of a checkpoint.
///
/// # Errors
/// [`FormatError::Content`] if it is too large or cannot be encoded.
pub fn encode(header: &Header, content: &impl Serialize) -> Result<Vec<u8>, FormatError> {
    let mut bytes = vec![0; HEADER_BYTES];
    bincode::serde::encode_into_std_write(content, &mut bytes, coding::<PAYLOAD_BYTES_MAX>())
        .map_err(|error| FormatError::Content(error.to_string()))?;
    seal(header, bytes)
}

/// `bytes`, an empty header and the payload behind it, with the header filled in.
///
/// # Errors
/// [`FormatError::Content`] if it is too large.
pub fn seal(header: &Header, mut bytes: Vec<u8>) -> Result<Vec<u8>, FormatError> {
    bytes.resize(bytes.len().max(HEADER_BYTES), 0);
    let payload = &bytes[HEADER_BYTES..];
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(FormatError::Content(format!(
            "{} bytes, but at most {PAYLOAD_BYTES_MAX} are written",
            payload.len()
        )));
    }
    let (length, hash) = (payload.len() as u64, xxh3_128(payload));
    let mut head = Vec::with_capacity(HEADER_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&FORMAT_REVISION.to_le_bytes());
    head.extend_from_slice(&header.epoch.to_le_bytes());
    head.extend_from_slice(&header.version.to_le_bytes());
    let mean_return = header.mean_return.unwrap_or(f64::NAN);
    head.extend_from_slice(&mean_return.to_bits().to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&hash.to_le_bytes());
    head.extend_from_slice(&xxh3_64(&head).to_le_bytes());
    bytes[..HEADER_BYTES].copy_from_slice(&head);
    Ok(bytes)
}

/// The header, checked, and the length of the payload that should follow. `bytes` may be longer than it.
///
/// # Errors
/// [`FormatError`].
pub fn header(bytes: &[u8]) -> Result<(Header, u64), FormatError> {
    let head = parse(bytes)?;
    if head.revision == FORMAT_REVISION {
        Ok((head.header, head.payload_bytes))
    } else {
        Err(FormatError::Revision { got: head.revision })
    }
}

/// Checks length and checksums of a whole checkpoint, and gives its header and its payload.
///
/// # Errors
/// [`FormatError`].
pub fn verify(bytes: &[u8]) -> Result<(Header, &[u8]), FormatError> {
    let (found, payload_bytes) = header(bytes)?;
    let payload = &bytes[HEADER_BYTES..];
    if payload.len() as u64 != payload_bytes {
        return Err(FormatError::Length {
            got: bytes.len() as u64,
            expected: payload_bytes.saturating_add(HEADER_BYTES as u64),
        });
    }
    if xxh3_128(payload).to_le_bytes() != array_at::<16>(bytes, 40) {
        return Err(FormatError::Checksum("payload"));
    }
    Ok((found, payload))
}

/// The content of a whole checkpoint, checked.
///
/// # Errors
/// [`FormatError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Header, T), FormatError> {
    let (found, payload) = verify(bytes)?;
    let (content, used) = read(payload).map_err(|error| FormatError::Content(error.to_string()))?;
    if used == payload.len() {
        Ok((found, content))
    } else {
        Err(FormatError::Content("bytes follow its end".to_owned()))
    }
}

/// Decodes with a limit near the length of the payload. Room is made for a text or a blob before it is read, so that a
/// length in it that lies could ask for as much as the limit allows. What is written takes as many bytes as are claimed
/// while it is read.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    use bincode::serde::decode_from_slice;
    const SMALL: usize = 64 << 10;
    const MEDIUM: usize = 4 << 20;
    const LARGE: usize = 256 << 20;
    match payload.len() {
        bytes if bytes <= SMALL => decode_from_slice(payload, coding::<SMALL>()),
        bytes if bytes <= MEDIUM => decode_from_slice(payload, coding::<MEDIUM>()),
        bytes if bytes <= LARGE => decode_from_slice(payload, coding::<LARGE>()),
        _ => decode_from_slice(payload, coding::<PAYLOAD_BYTES_MAX>()),
    }
}

struct Head {
    header: Header,
    revision: u32,
    payload_bytes: u64,
}

fn parse(bytes: &[u8]) -> Result<Head, FormatError> {
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(FormatError::Magic);
    }
    if bytes.len() < HEADER_BYTES {
        return Err(FormatError::Length {
            got: bytes.len() as u64,
            expected: HEADER_BYTES as u64,
        });
    }
    if xxh3_64(&bytes[..56]).to_le_bytes() != array_at::<8>(bytes, 56) {
        return Err(FormatError::Checksum("header"));
    }
    let word = |at| u64::from_le_bytes(array_at(bytes, at));
    let mean_return = f64::from_bits(word(24));
    Ok(Head {
        header: Header {
            epoch: u32::from_le_bytes(array_at(bytes, 12)),
            version: word(16),
            mean_return: (!mean_return.is_nan()).then_some(mean_return),
        },
        revision: u32::from_le_bytes(array_at(bytes, 8)),
        payload_bytes: word(32),
    })
}
