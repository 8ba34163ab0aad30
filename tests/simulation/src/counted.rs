//! Bytes that are counted for as long as anybody holds them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

/// How many are held.
pub(crate) type Held = Arc<AtomicUsize>;

/// One of them.
struct Counted {
    bytes: Bytes,
    held: Held,
}

/// `bytes`, counted in `held` until the last slice of them is gone.
pub(crate) fn lend(bytes: Bytes, held: &Held) -> Bytes {
    held.fetch_add(1, Ordering::Relaxed);
    Bytes::from_owner(Counted {
        bytes,
        held: Arc::clone(held),
    })
}

/// How many there are now.
pub(crate) fn count(held: &Held) -> usize {
    held.load(Ordering::Relaxed)
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}
