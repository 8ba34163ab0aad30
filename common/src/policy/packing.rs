//! Parameters in fewer bytes, for the way to the actors.
//!
//! Weights may be rounded to bfloat16: the upper half of an f32, with the same range and 8 bits of precision. Statistics are
//! never rounded: an observation of 1000 +- 1 whose mean is off by 4 is none any more.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    parameters::{PARAMETER_BYTES, layout},
    statistics::is_statistic,
};
use crate::{config::SnapshotEncoding, spec::NetworkSpec};

/// Bytes of a rounded number.
const ROUNDED_BYTES: usize = size_of::<u16>();

/// Parameters of another length than the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit {
    /// Bytes given.
    pub got: usize,
    /// Bytes that the network has in that encoding.
    pub expected: usize,
}

/// Which numbers of a flat buffer may be rounded: stretches of weights and of statistics, by turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatLayout {
    stretches: Vec<Stretch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    numbers: usize,
    /// Whether they are statistics.
    exact: bool,
}

impl FlatLayout {
    /// That of the network `spec`.
    #[must_use]
    pub fn of(spec: &NetworkSpec) -> Self {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (name, shape) in layout(spec) {
            let numbers = shape.iter().fold(1_usize, |all, &n| all.saturating_mul(n));
            let exact = is_statistic(&name);
            match stretches.last_mut() {
                Some(last) if last.exact == exact => {
                    last.numbers = last.numbers.saturating_add(numbers);
                }
                _ => stretches.push(Stretch { numbers, exact }),
            }
        }
        Self { stretches }
    }

    /// So many weights and nothing else.
    #[must_use]
    pub fn weights(numbers: usize) -> Self {
        let exact = false;
        Self {
            stretches: vec![Stretch { numbers, exact }],
        }
    }

    /// Length of the buffer in `encoding`.
    #[must_use]
    pub fn bytes(&self, encoding: SnapshotEncoding) -> usize {
        self.stretches.iter().fold(0, |sum, stretch| {
            sum.saturating_add(stretch.numbers.saturating_mul(stretch.width(encoding)))
        })
    }

    /// `flat`, little-endian f32 in layout order, in `encoding`.
    ///
    /// # Errors
    /// It is not as long as this layout.
    pub fn pack(&self, encoding: SnapshotEncoding, flat: &Bytes) -> Result<Bytes, Misfit> {
        self.fit(SnapshotEncoding::F32, flat)?;
        if encoding == SnapshotEncoding::F32 {
            return Ok(flat.clone());
        }
        let mut packed = BytesMut::with_capacity(self.bytes(encoding));
        let mut rest = flat.as_ref();
        for stretch in &self.stretches {
            let (own, others) = rest.split_at(stretch.numbers * PARAMETER_BYTES);
            rest = others;
            if stretch.exact {
                packed.put_slice(own);
                continue;
            }
            let (words, _) = own.as_chunks::<PARAMETER_BYTES>();
            for word in words {
                packed.put_u16_le(rounded(f32::from_le_bytes(*word)));
            }
        }
        Ok(packed.freeze())
    }

    /// `packed`, which is in `encoding`, as little-endian f32 in layout order.
    ///
    /// # Errors
    /// It is not as long as this layout in that encoding.
    pub fn unpack(&self, encoding: SnapshotEncoding, packed: &Bytes) -> Result<Bytes, Misfit> {
        self.fit(encoding, packed)?;
        if encoding == SnapshotEncoding::F32 {
            return Ok(packed.clone());
        }
        let mut flat = BytesMut::with_capacity(self.bytes(SnapshotEncoding::F32));
        let mut rest = packed.as_ref();
        for stretch in &self.stretches {
            let (own, others) = rest.split_at(stretch.numbers * stretch.width(encoding));
            rest = others;
            if stretch.exact {
                flat.put_slice(own);
                continue;
            }
            let (words, _) = own.as_chunks::<ROUNDED_BYTES>();
            for word in words {
                flat.put_u32_le(u32::from(u16::from_le_bytes(*word)) << 16);
            }
        }
        Ok(flat.freeze())
    }

    fn fit(&self, encoding: SnapshotEncoding, bytes: &Bytes) -> Result<(), Misfit> {
        let (got, expected) = (bytes.len(), self.bytes(encoding));
        if got == expected {
            Ok(())
        } else {
            Err(Misfit { got, expected })
        }
    }
}

impl Stretch {
    /// Bytes of each number in `encoding`.
    fn width(self, encoding: SnapshotEncoding) -> usize {
        match encoding {
            SnapshotEncoding::Bf16 if !self.exact => ROUNDED_BYTES,
            SnapshotEncoding::F32 | SnapshotEncoding::Bf16 => PARAMETER_BYTES,
        }
    }
}

/// The nearest bfloat16, and of two that are equally near the even one (IEEE 754, roundTiesToEven). Only a finite number
/// beyond the largest bfloat16 becomes that and not infinite: what is published is finite.
fn rounded(number: f32) -> u16 {
    /// The exponent of what is not finite, without a sign.
    const INFINITE: u16 = 0x7f80;
    let bits = number.to_bits();
    if number.is_nan() {
        // Quiet, so that it stays one without its lower half.
        return ((bits >> 16) | 0x40) as u16;
    }
    let to_even = (bits >> 16) & 1;
    let half = ((bits + 0x7fff + to_even) >> 16) as u16;
    if number.is_finite() && half & INFINITE == INFINITE {
        half - 1
    } else {
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widened(half: u16) -> f32 {
        f32::from_bits(u32::from(half) << 16)
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_the_even_one() {
        for (bits, half) in [
            (0x0000_0000, 0x0000), // 0
            (0x8000_0000, 0x8000), // -0
            (0x3f80_0000, 0x3f80), // 1
            (0x3f80_7fff, 0x3f80), // just below the middle
            (0x3f80_8000, 0x3f80), // the middle, to the even one below
            (0x3f80_8001, 0x3f81), // just above
            (0x3f81_8000, 0x3f82), // the middle, to the even one above
            (0xbf81_8000, 0xbf82), // the same below 0
            (0x3fff_ffff, 0x4000), // into the next power of two
            (0x0000_0001, 0x0000), // the least of all
            (0x0000_8001, 0x0001), // the least that does not vanish
            (0x007f_ffff, 0x0080), // the largest subnormal becomes the least normal
            (0x7f7f_7fff, 0x7f7f), // the last that is nearest to the largest
            (0x7f7f_ffff, 0x7f7f), // the largest stays finite
            (0xff7f_ffff, 0xff7f),
            (0x7f80_0000, 0x7f80), // infinite
            (0xff80_0000, 0xff80),
        ] {
            assert_eq!(rounded(f32::from_bits(bits)), half, "{bits:08x}");
        }
        for nan in [f32::NAN, f32::from_bits(0x7f80_0001), -f32::NAN] {
            assert!(widened(rounded(nan)).is_nan());
        }
    }

    #[test]
    fn the_error_is_half_a_unit_of_eight_bits_at_most_and_what_was_rounded_stays() {
        let mut number = 1.0e-30_f32;
        while number < 1.0e30 {
            let near = widened(rounded(number));
            assert!(((near - number) / number).abs() <= 1.0 / 256.0, "{number}");
            assert_eq!(widened(rounded(near)).to_bits(), near.to_bits());
            number *= 1.37;
        }
    }

    #[test]
    fn golden_bytes() {
        let flat = FlatLayout {
            stretches: vec![
                Stretch {
                    numbers: 2,
                    exact: false,
                },
                Stretch {
                    numbers: 1,
                    exact: true,
                },
                Stretch {
                    numbers: 1,
                    exact: false,
                },
            ],
        };
        let numbers = [1.0_f32, -2.71875, 1000.123, 0.1];
        let bytes: Bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let packed = flat.pack(SnapshotEncoding::Bf16, &bytes).unwrap();
        let golden = [0x80, 0x3f, 0x2e, 0xc0, 0xdf, 0x07, 0x7a, 0x44, 0xcd, 0x3d];
        assert_eq!(packed.as_ref(), golden);
        let back = flat.unpack(SnapshotEncoding::Bf16, &packed).unwrap();
        let expected = [1.0_f32, -2.71875, 1000.123, 0.100_097_656];
        let expected: Bytes = expected.iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(back, expected);
        assert_eq!(flat.bytes(SnapshotEncoding::Bf16), 10);
        for short in [0, 9] {
            let misfit = flat.unpack(SnapshotEncoding::Bf16, &packed.slice(..short));
            let got = short;
            assert_eq!(misfit, Err(Misfit { got, expected: 10 }));
        }
        assert!(
            flat.pack(SnapshotEncoding::Bf16, &bytes.slice(4..))
                .is_err()
        );
        assert_eq!(flat.pack(SnapshotEncoding::F32, &bytes), Ok(bytes));
    }
}
