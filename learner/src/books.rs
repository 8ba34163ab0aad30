//! The books, shared by the streams and the trainer. They are held only for a few integer operations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admission::Admission;

/// Fence, roster and ledger behind one lock.
#[derive(Debug, Clone)]
pub struct Books(Arc<Mutex<Admission>>);

impl Books {
    /// Shares `admission`.
    #[must_use]
    pub fn new(admission: Admission) -> Self {
        Self(Arc::new(Mutex::new(admission)))
    }

    /// Opens the books; the lock is free again when the guard is dropped.
    pub fn lock(&self) -> MutexGuard<'_, Admission> {
        // A holder that panicked cannot have left them half-written: each event is a few additions.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
