//! The disk of the learner: what was written is there for good only once it was forced down.

use rand::RngExt;
use rand_pcg::Pcg64;
use springbok_learner::admission::BooksState;

use std::collections::BTreeSet;

/// Checkpoints that are kept.
const KEPT: usize = 2;

/// What a learner goes on from.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) version: u64,
    pub(crate) books: BooksState,
    /// Every unroll that has been trained on, for the judges only.
    pub(crate) trained: BTreeSet<u64>,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    durable: Vec<Checkpoint>,
    written: Option<Checkpoint>,
    draw: Pcg64,
}

impl Disk {
    pub(crate) fn new(draw: Pcg64) -> Self {
        Self {
            durable: Vec::new(),
            written: None,
            draw,
        }
    }

    /// Hands a checkpoint to the operating system.
    pub(crate) fn write(&mut self, checkpoint: Checkpoint) {
        self.written = Some(checkpoint);
    }

    /// Forces what was written onto the disk; the oldest gives way.
    pub(crate) fn sync(&mut self) {
        if let Some(written) = self.written.take() {
            self.durable.push(written);
            if self.durable.len() > KEPT {
                self.durable.remove(0);
            }
        }
    }

    /// The power fails: what was not forced down may be there, but mostly is not.
    pub(crate) fn lose_power(&mut self) {
        if self.draw.random_bool(0.3) {
            self.sync();
        }
        self.written = None;
    }

    /// The newest checkpoint.
    pub(crate) fn newest(&self) -> Option<Checkpoint> {
        self.durable.last().cloned()
    }
}
