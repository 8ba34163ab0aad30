//! Observations of bytes, compressed. How long they are is known before: a frame that holds more, or less, is refused
//! without making room for it.

use std::io;

use bytes::Bytes;
use springbok_proto::v1;
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    arrays::{ElementType, Elements},
    unroll::Agreement,
};

/// The fastest of zstd's usual levels. Its window of 512 KiB reaches over the rows of one step to those of the next, where
/// stacked frames are found again.
const LEVEL: i32 = 1;

/// Compresses the observations of unrolls; it keeps its memory from one to the next.
pub struct FrameCompressor {
    zstd: Compressor<'static>,
    raw: Vec<u8>,
}

impl FrameCompressor {
    /// One that has compressed nothing yet.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: Compressor::new(LEVEL)?,
            raw: Vec::new(),
        })
    }

    /// Compresses the observations of `message`, an unroll under `agreement`: those of bytes, if that makes them smaller.
    pub fn pack(&mut self, message: &mut v1::Unroll, agreement: &Agreement) {
        if agreement.environment.observation.element != ElementType::U8 {
            return;
        }
        self.raw.clear();
        for part in parts_of(message) {
            self.raw.extend_from_slice(part);
        }
        // Room for one byte less than there is: what does not fit is not smaller.
        let mut frame = Vec::with_capacity(self.raw.len().saturating_sub(1));
        if self.zstd.compress_to_buffer(&self.raw, &mut frame).is_err() {
            return;
        }
        for part in parts_of(message) {
            *part = Bytes::new();
        }
        frame.shrink_to_fit();
        message.zstd_observations = frame.into();
    }
}

impl std::fmt::Debug for FrameCompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FrameCompressor").finish()
    }
}

fn parts_of(message: &mut v1::Unroll) -> [&mut Bytes; 3] {
    [
        &mut message.observations,
        &mut message.bootstrap_observations,
        &mut message.final_observations,
    ]
}

/// The observations in the frame of `message`, of `lens` bytes each; `None` unless the frame holds exactly so many and
/// they are nowhere else.
pub(super) fn unpack(message: &mut v1::Unroll, lens: [usize; 3]) -> Option<[Elements; 3]> {
    if parts_of(message).iter().any(|part| !part.is_empty()) {
        return None;
    }
    let total = lens.iter().sum();
    let mut observations = Vec::with_capacity(total);
    let mut zstd = Decompressor::new().ok()?;
    zstd.decompress_to_buffer(&message.zstd_observations, &mut observations)
        .ok()?;
    if observations.len() != total {
        return None;
    }
    let last = observations.split_off(lens[0] + lens[1]);
    let bootstrap = observations.split_off(lens[0]);
    Some([observations, bootstrap, last].map(Elements::U8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reject::RejectReason,
        spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
        unroll::Unroll,
        wire::{
            decode_unroll, encode_unroll,
            unroll::tests::{agreement, parts},
        },
    };

    const WIDTH: usize = 64;

    /// A game whose frames change little; the numbers are `seen(index)`.
    fn game(seen: impl Fn(usize) -> u8) -> (Agreement, Unroll) {
        let mut agreement = agreement();
        let observation = ObservationSpec::bytes([WIDTH], 255);
        agreement.environment = EnvironmentSpec::new("Game", observation, ActionSpec::Discrete(3));
        agreement.network =
            NetworkSpec::mlp(&agreement.environment, vec![4], Activation::Relu, true);
        let mut parts = parts();
        let rows = |first: usize, end: usize| {
            Elements::U8((first * WIDTH..end * WIDTH).map(&seen).collect())
        };
        parts.observations = rows(0, 6);
        parts.bootstrap_observations = rows(6, 8);
        parts.final_observations = rows(8, 9);
        let unroll = Unroll::new(parts, &agreement).unwrap();
        (agreement, unroll)
    }

    fn packed(agreement: &Agreement, unroll: &Unroll) -> v1::Unroll {
        let mut message = encode_unroll(unroll);
        FrameCompressor::new()
            .unwrap()
            .pack(&mut message, agreement);
        message
    }

    #[test]
    fn frames_arrive_as_they_were_and_in_less() {
        let (agreement, unroll) = game(|index| (index % WIDTH / 9) as u8);
        let message = packed(&agreement, &unroll);
        assert!(
            parts_of(&mut message.clone())
                .iter()
                .all(|part| part.is_empty())
        );
        assert!(message.zstd_observations.len() < 9 * WIDTH / 4);
        assert_eq!(decode_unroll(message, &agreement), Ok(unroll));
    }

    #[test]
    fn what_does_not_get_smaller_and_what_is_not_bytes_travels_as_it_is() {
        let (noisy, noise) =
            game(|index| (xxhash_rust::xxh3::xxh3_64(&index.to_le_bytes()) & 0xff) as u8);
        let floats = (agreement(), Unroll::new(parts(), &agreement()).unwrap());
        for (agreement, unroll) in [(noisy, noise), floats] {
            assert_eq!(packed(&agreement, &unroll), encode_unroll(&unroll));
        }
    }

    #[test]
    fn a_frame_that_holds_anything_else_is_refused() {
        let (agreement, unroll) = game(|_| 0);
        let good = packed(&agreement, &unroll);
        let compress = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], LEVEL).unwrap();
        let mut twice = good.clone();
        twice.observations = Bytes::from(vec![0; 6 * WIDTH]);
        let frames = [
            compress(9 * WIDTH - 1),
            compress(9 * WIDTH + 1),
            // Far longer than its message.
            compress(1 << 24),
            good.zstd_observations[..good.zstd_observations.len() - 1].to_vec(),
            vec![7; 40],
        ];
        let framed = frames.map(|frame| v1::Unroll {
            zstd_observations: frame.into(),
            ..good.clone()
        });
        for message in framed.into_iter().chain([twice]) {
            assert_eq!(
                decode_unroll(message, &agreement),
                Err(RejectReason::WrongShape)
            );
        }
        // Floating-point numbers do not come in frames.
        let mut floats =
            encode_unroll(&Unroll::new(parts(), &super::super::tests::agreement()).unwrap());
        floats.zstd_observations = good.zstd_observations;
        assert_eq!(
            decode_unroll(floats, &super::super::tests::agreement()),
            Err(RejectReason::WrongShape)
        );
    }
}
