//! Recorded unrolls in a file: a header of fixed length, then the payload, which bincode wrote and wrote only to files.
//!
//! | bytes | content, integers little-endian |
//! | --- | --- |
//! | 0..8 | `SPRBKREC` |
//! | 8..12 | revision of the format |
//! | 12..16 | 0 |
//! | 16..24 | length of the payload in bytes |
//! | 24..40 | XXH3-128 of the bytes before and of the payload |
//!
//! The payload is what the unrolls were made with, and the unrolls as messages, which are read and checked like those that
//! come over the network.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    coding::{array_at, coding},
    reject::RejectReason,
    spec::{EnvironmentSpec, NetworkSpec, RolloutShape},
    unroll::{Agreement, Unroll},
    wire::{encode_unroll, message_bytes, unroll_of_bytes},
};

/// First bytes of every recording.
const MAGIC: [u8; 8] = *b"SPRBKREC";
/// Changes whenever the payload's meaning does.
const FORMAT_REVISION: u32 = 1;
/// Length of the header, and of its part that the checksum covers.
const HEADER_BYTES: usize = 40;
const COVERED_BYTES: usize = 24;
/// Largest payload that is written or read.
pub const RECORDING_BYTES_MAX: usize = 4 << 30;

/// Unrolls, and what they were made with.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What every unroll was checked against.
    pub agreement: Agreement,
    /// The unrolls, oldest first.
    pub unrolls: Vec<Unroll>,
}

/// Why bytes are no recording that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// The first bytes are those of something else.
    #[error("it is no recording of Springbok")]
    Magic,
    /// Another release wrote it.
    #[error(
        "it has revision {got} of the format, and this release reads {FORMAT_REVISION}: record it again"
    )]
    Revision {
        /// Its revision.
        got: u32,
    },
    /// It ends too early, goes on after its end, or is too large.
    #[error(
        "it has {got} bytes instead of {expected}, of which at most {RECORDING_BYTES_MAX} are read"
    )]
    Length {
        /// Bytes there are.
        got: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The checksum does not fit.
    #[error("its checksum does not fit: it is damaged")]
    Checksum,
    /// The content is not what this release writes.
    #[error("its content cannot be read: {0}")]
    Content(String),
    /// An unroll breaks a rule.
    #[error("its unroll {number} is not valid: {reason}")]
    Unroll {
        /// Which one, from 1 on.
        number: usize,
        /// The rule.
        reason: RejectReason,
    },
}

/// The payload.
#[derive(Serialize, Deserialize)]
struct Content {
    environment: EnvironmentSpec,
    network: NetworkSpec,
    rollout: RolloutShape,
    /// Each a message.
    unrolls: Vec<Vec<u8>>,
}

/// `recording` as the bytes of a file.
///
/// # Errors
/// [`RecordingError::Content`] if it is too large.
pub fn write_recording(recording: &Recording) -> Result<Vec<u8>, RecordingError> {
    let Recording { agreement, unrolls } = recording;
    let messages = unrolls.iter().map(encode_unroll);
    let content = Content {
        environment: agreement.environment.clone(),
        network: agreement.network.clone(),
        rollout: agreement.rollout,
        unrolls: messages
            .map(|message| message_bytes(&message).into())
            .collect(),
    };
    let mut bytes = vec![0; HEADER_BYTES];
    bincode::serde::encode_into_std_write(content, &mut bytes, coding::<RECORDING_BYTES_MAX>())
        .map_err(|error| RecordingError::Content(error.to_string()))?;
    let payload_bytes = (bytes.len() - HEADER_BYTES) as u64;
    if payload_bytes > RECORDING_BYTES_MAX as u64 {
        return Err(RecordingError::Content(format!(
            "{payload_bytes} bytes, but at most {RECORDING_BYTES_MAX} are written: record fewer unrolls"
        )));
    }
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_REVISION.to_le_bytes());
    bytes[16..24].copy_from_slice(&payload_bytes.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[COVERED_BYTES..HEADER_BYTES].copy_from_slice(&checksum);
    Ok(bytes)
}

/// The recording that the bytes of a file are, with every unroll checked.
///
/// # Errors
/// [`RecordingError`].
pub fn read_recording(bytes: &[u8]) -> Result<Recording, RecordingError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(RecordingError::Magic);
    }
    let (got, expected) = (bytes.len() as u64, HEADER_BYTES as u64);
    if got < expected {
        return Err(RecordingError::Length { got, expected });
    }
    let revision = u32::from_le_bytes(array_at(bytes, 8));
    if revision != FORMAT_REVISION {
        return Err(RecordingError::Revision { got: revision });
    }
    let payload_bytes = u64::from_le_bytes(array_at(bytes, 16));
    let expected = payload_bytes.saturating_add(expected);
    if got != expected || payload_bytes > RECORDING_BYTES_MAX as u64 {
        return Err(RecordingError::Length { got, expected });
    }
    if checksum(bytes) != array_at::<16>(bytes, COVERED_BYTES) {
        return Err(RecordingError::Checksum);
    }
    check(content(&bytes[HEADER_BYTES..])?)
}

/// Reads every message.
fn check(content: Content) -> Result<Recording, RecordingError> {
    let Content {
        environment,
        network,
        rollout,
        unrolls,
    } = content;
    let agreement = Agreement {
        environment,
        network,
        rollout,
    };
    let unrolls = unrolls.into_iter().enumerate().map(|(index, message)| {
        unroll_of_bytes(Bytes::from(message), &agreement).map_err(|reason| RecordingError::Unroll {
            number: index + 1,
            reason,
        })
    });
    let unrolls = unrolls.collect::<Result<_, _>>()?;
    Ok(Recording { agreement, unrolls })
}

/// Decodes with a limit near the length of the payload: a length in it that lies asks for no more memory than that.
fn content(payload: &[u8]) -> Result<Content, RecordingError> {
    use bincode::serde::decode_from_slice;
    const SMALL: usize = 1 << 20;
    let decoded = match payload.len() {
        bytes if bytes <= SMALL / 2 => decode_from_slice(payload, coding::<SMALL>()),
        _ => decode_from_slice(payload, coding::<RECORDING_BYTES_MAX>()),
    };
    match decoded {
        Ok((content, used)) if used == payload.len() => Ok(content),
        Ok(_) => Err(RecordingError::Content("bytes follow its end".to_owned())),
        Err(error) => Err(RecordingError::Content(error.to_string())),
    }
}

/// Of a whole file but the checksum itself.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(&bytes[..COVERED_BYTES]);
    hash.update(&bytes[HEADER_BYTES..]);
    hash.digest128().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arrays::{Actions, Elements},
        ids::{RunId, UnrollSequence},
        spec::{ActionSpec, Activation, ObservationSpec},
        step::StepOutcome,
        unroll::{UnrollHeader, UnrollParts, UnrollTiming},
        version::{LearnerEpoch, PolicyVersion},
    };

    fn recording() -> Recording {
        let observation = ObservationSpec::floats([2], [-1.0, 1.0]);
        let environment = EnvironmentSpec::new("Test", observation, ActionSpec::Discrete(3));
        let agreement = Agreement {
            network: NetworkSpec::mlp(&environment, vec![4], Activation::Relu, false),
            environment,
            rollout: RolloutShape {
                unroll_length: 2,
                environments: 1,
            },
        };
        let parts = UnrollParts {
            header: UnrollHeader {
                run_id: RunId::random(),
                epoch: LearnerEpoch::FIRST,
                sequence: UnrollSequence(1),
                version: PolicyVersion(3),
            },
            observations: Elements::F32(vec![0.0, 0.1, 0.2, 0.3]),
            bootstrap_observations: Elements::F32(vec![0.4, 0.5]),
            actions: Actions::Indices(vec![0, 2]),
            action_masks: Vec::new(),
            rewards: vec![1.0, -1.0],
            behaviour_log_probs: vec![-1.0, -0.5],
            outcomes: vec![StepOutcome::Continued, StepOutcome::Terminated],
            final_rows: Vec::new(),
            final_observations: Elements::F32(Vec::new()),
            core_states: Vec::new(),
            step_versions: Vec::new(),
            episodes: Vec::new(),
            timing: UnrollTiming::default(),
        };
        let unroll = Unroll::new(parts, &agreement).unwrap();
        Recording {
            agreement,
            unrolls: vec![unroll.clone(), unroll],
        }
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let recording = recording();
        let read = read_recording(&write_recording(&recording).unwrap()).unwrap();
        assert_eq!(read.unrolls, recording.unrolls);
        let [read, written] = [read, recording].map(|recording| recording.agreement.fingerprint());
        assert_eq!(read, written);
    }

    #[test]
    fn damage_of_any_byte_and_every_other_length_is_found() {
        let good = write_recording(&recording()).unwrap();
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 1;
            assert!(read_recording(&bytes).is_err(), "byte {index}");
            assert!(read_recording(&good[..index]).is_err(), "length {index}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        let length = RecordingError::Length {
            got: longer.len() as u64,
            expected: good.len() as u64,
        };
        assert_eq!(read_recording(&longer).unwrap_err(), length);
    }

    #[test]
    fn an_unroll_of_something_else_is_named() {
        let mut recording = recording();
        recording.agreement.rollout.unroll_length = 3;
        let error = read_recording(&write_recording(&recording).unwrap()).unwrap_err();
        let reason = RejectReason::WrongShape;
        assert_eq!(error, RecordingError::Unroll { number: 1, reason });
    }
}
