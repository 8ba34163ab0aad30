//! Bytes that are nearly right: what a damaged disk, another version or an enemy might send. The same seed gives the
//! same bytes.

use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_pcg::Pcg64;

/// Longest input.
pub const INPUT_BYTES_MAX: usize = 128 * 1024;
/// Changes of one input.
const CHANGES_MAX: u32 = 4;
/// Repetitions of a piece: deep nesting, for example.
const REPETITIONS_MAX: usize = 20_000;

/// Numbers at which decoders go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    1 << 62,
    u64::MAX / 2,
    u64::MAX,
];

/// Words at which readers of text go wrong.
const WORDS: [&str; 28] = [
    "0",
    "-1",
    "1e308",
    "1e999",
    "-0.0",
    "nan",
    "inf",
    "4294967296",
    "18446744073709551615",
    "-9223372036854775808",
    "999999999999999999999999",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\u0000",
    "=",
    ":",
    ",",
    ".",
    "..",
    "\n",
    "\r\n\r\n",
    "\u{feff}",
    "[1,",
];

/// Makes inputs out of examples.
#[derive(Debug)]
pub struct Mutator<'a> {
    examples: &'a [Vec<u8>],
    rng: Pcg64,
}

impl<'a> Mutator<'a> {
    /// For these examples, of which there must be one.
    #[must_use]
    pub fn new(examples: &'a [Vec<u8>], seed: u64) -> Self {
        Self {
            examples,
            rng: Pcg64::seed_from_u64(seed),
        }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut bytes = self
            .examples
            .choose(&mut self.rng)
            .cloned()
            .unwrap_or_default();
        for _ in 0..self.rng.random_range(1..=CHANGES_MAX) {
            self.change(&mut bytes);
            bytes.truncate(INPUT_BYTES_MAX);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        match self.rng.random_range(0..12) {
            0..3 => self.flip(bytes),
            3 => bytes.truncate(self.place(bytes)),
            4 => self.splice(bytes),
            5 | 6 => self.number(bytes),
            7 | 8 => self.word(bytes),
            9 => self.remove(bytes),
            10 => self.insert(bytes),
            _ => self.repeat(bytes),
        }
    }

    /// Somewhere in `bytes`, or at its end.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.rng.random_range(0..=bytes.len())
    }

    /// A piece of at most `max` bytes.
    fn piece(&mut self, bytes: &[u8], max: usize) -> std::ops::Range<usize> {
        let begin = self.place(bytes);
        let length = self.rng.random_range(0..=max.min(bytes.len() - begin));
        begin..begin + length
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.place(bytes);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.rng.random_range(0..8);
        }
    }

    /// Goes on as another example does.
    fn splice(&mut self, bytes: &mut Vec<u8>) {
        let Some(other) = self.examples.choose(&mut self.rng) else {
            return;
        };
        bytes.truncate(self.place(bytes));
        let from = self.place(other);
        bytes.extend_from_slice(&other[from..]);
    }

    /// Puts a number, perhaps the length of all or nearly, where one may be.
    fn number(&mut self, bytes: &mut [u8]) {
        let near = (bytes.len() as u64).wrapping_add_signed(self.rng.random_range(-2..=2));
        let listed = NUMBERS.choose(&mut self.rng).copied().unwrap_or_default();
        let value = if self.rng.random_bool(0.25) {
            near
        } else {
            listed
        };
        let width = 1 << self.rng.random_range(0..4);
        let word = if self.rng.random_bool(0.75) {
            value.to_le_bytes()[..width].to_vec()
        } else {
            value.to_be_bytes()[8 - width..].to_vec()
        };
        let at = self.place(bytes);
        for (byte, new) in bytes[at..].iter_mut().zip(word) {
            *byte = new;
        }
    }

    /// Puts a word in place of a number, or of a few bytes.
    fn word(&mut self, bytes: &mut Vec<u8>) {
        let word = WORDS.choose(&mut self.rng).copied().unwrap_or_default();
        let at = self.place(bytes);
        let is_digit = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
        let piece = match bytes[at..].iter().position(is_digit) {
            Some(begin) => {
                let begin = at + begin;
                let length = bytes[begin..]
                    .iter()
                    .take_while(|byte| is_digit(byte))
                    .count();
                begin..begin + length
            }
            None => self.piece(bytes, 4),
        };
        bytes.splice(piece, word.bytes());
    }

    fn remove(&mut self, bytes: &mut Vec<u8>) {
        let piece = self.piece(bytes, 64);
        bytes.drain(piece);
    }

    fn insert(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes);
        let length = self.rng.random_range(1..=16);
        let new: Vec<u8> = (0..length).map(|_| self.rng.random()).collect();
        bytes.splice(at..at, new);
    }

    /// Says a piece again and again.
    fn repeat(&mut self, bytes: &mut Vec<u8>) {
        let piece = self.piece(bytes, 8);
        let end = piece.end;
        let piece = bytes[piece].to_vec();
        let most = REPETITIONS_MAX.min(INPUT_BYTES_MAX / piece.len().max(1));
        // Mostly a few, sometimes very many.
        let times = (self.rng.random::<f64>().powi(4) * most as f64) as usize;
        bytes.splice(end..end, piece.repeat(times));
    }
}
