//! What all files in bincode have in common.

/// Little-endian numbers of fixed widths: a length takes the same room whatever it is, so that sizes can be predicted. No more
/// than `BYTES_MAX` are read or written.
pub fn coding<const BYTES_MAX: usize>() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<BYTES_MAX>()
}

/// `N` bytes from `at` on.
///
/// # Panics
/// If they are not there.
#[must_use]
pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}
