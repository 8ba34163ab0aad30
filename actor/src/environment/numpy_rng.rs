//! numpy's default random numbers, bit for bit, so that a reset from a seed equals Gymnasium's.

use rand::Rng;
use rand_pcg::Pcg64;

/// Words in the pool of a seed sequence.
const POOL: usize = 4;
const MULTIPLIER_A: u32 = 0x931e_8875;
const MULTIPLIER_B: u32 = 0x58f3_8ded;

/// The generator that `numpy.random.default_rng(seed)` gives: PCG64 (M. E. O'Neill, 2014) seeded through a
/// `SeedSequence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumpyRng(Pcg64);

impl NumpyRng {
    /// The generator for `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_words(seed);
        let wide = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        Self(Pcg64::new(
            wide(state_high, state_low),
            wide(stream_high, stream_low),
        ))
    }

    /// Uniform in [low, high), as numpy's `uniform`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// Uniform in 0..bound; 0 for a bound of 0. Not numpy's `integers`: one draw, biased by less than 2^-31.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        (wide >> 64) as u32
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    let pool = seed_pool(seed);
    let mut constant: u32 = 0x8b51_f9dd;
    let mut word = |index: usize| {
        let hashed = hash(pool[index % POOL], &mut constant, MULTIPLIER_B);
        u64::from(hashed)
    };
    std::array::from_fn(|index| {
        let low = word(2 * index);
        low | (word(2 * index + 1) << 32)
    })
}

/// Spreads the two halves of the seed over the pool, so that similar seeds give unlike pools.
fn seed_pool(seed: u64) -> [u32; POOL] {
    let mut constant: u32 = 0x43b0_d7e5;
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0];
    for word in &mut pool {
        *word = hash(*word, &mut constant, MULTIPLIER_A);
    }
    for source in 0..POOL {
        for destination in (0..POOL).filter(|&destination| destination != source) {
            let hashed = hash(pool[source], &mut constant, MULTIPLIER_A);
            pool[destination] = mix(pool[destination], hashed);
        }
    }
    pool
}

/// One round of numpy's multiplicative hash; `constant` moves on, so that each round differs.
fn hash(word: u32, constant: &mut u32, multiplier: u32) -> u32 {
    let mut hashed = word ^ *constant;
    *constant = constant.wrapping_mul(multiplier);
    hashed = hashed.wrapping_mul(*constant);
    hashed ^ (hashed >> 16)
}

fn mix(left: u32, right: u32) -> u32 {
    let mixed = left
        .wrapping_mul(0xca01_f9dd)
        .wrapping_sub(right.wrapping_mul(0x4973_f715));
    mixed ^ (mixed >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = NumpyRng::from_seed(3);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[rng.below(5) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_600..10_400).contains(&count)),
            "{counts:?}"
        );
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    /// Gymnasium's recorded resets pin every bit; these are the numbers that numpy users know.
    #[test]
    fn default_rng_42_begins_as_in_numpy() {
        let mut rng = NumpyRng::from_seed(42);
        for known in [0.773_956_05, 0.438_878_44, 0.858_597_92] {
            assert!((rng.uniform(0.0, 1.0) - known).abs() < 5e-9);
        }
    }
}
