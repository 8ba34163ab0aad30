//! The trainer: one thread of its own that turns queued unrolls into new policy versions. It never awaits.

pub mod batch;
mod rows;
pub mod run_loop;
#[cfg(test)]
mod run_loop_tests;
pub mod steering;
pub mod tally;
pub mod update;

use bytes::Bytes;

pub use self::run_loop::TrainerState;

/// Stack of a thread that trains: automatic differentiation walks its graph recursively.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;
use self::{
    batch::Batch,
    update::{Staged, UpdateFault, UpdateMetrics, Updater, UpdaterState},
};

/// What the trainer's thread needs of an algorithm; tests put a scripted one in its place.
pub trait PolicyUpdater {
    /// A batch where the algorithm computes.
    type Staged;

    /// Brings `batch` there.
    fn stage(&self, batch: &Batch) -> Self::Staged;

    /// Trains on `batch`, which is there as `staged`. `progress_remaining` falls from 1 to 0 over the run. `meanwhile` may be
    /// called once, where the host would only wait.
    ///
    /// # Errors
    /// [`UpdateFault`] if a number was not finite; parameters and optimiser are then as before.
    fn update(
        &mut self,
        batch: &Batch,
        staged: Self::Staged,
        progress_remaining: f64,
        meanwhile: &mut dyn FnMut(&Self),
    ) -> Result<UpdateMetrics, UpdateFault>;

    /// All parameters, little-endian f32 in layout order.
    fn parameters(&self) -> Bytes;

    /// All that the next update depends on.
    fn state(&self) -> UpdaterState {
        UpdaterState::of_parameters(self.parameters())
    }

    /// Bytes that the tensor library holds on the device; `None` if that is the processor.
    fn device_memory_bytes(&self) -> Option<u64> {
        None
    }

    /// All environments begin anew with the parameters as they are.
    fn begin_lives(&mut self) {}
}

impl PolicyUpdater for Updater {
    type Staged = Staged;

    fn stage(&self, batch: &Batch) -> Staged {
        Updater::stage(self, batch)
    }

    fn update(
        &mut self,
        batch: &Batch,
        staged: Staged,
        progress_remaining: f64,
        meanwhile: &mut dyn FnMut(&Self),
    ) -> Result<UpdateMetrics, UpdateFault> {
        self.update_staged(batch, staged, progress_remaining, meanwhile)
    }

    fn parameters(&self) -> Bytes {
        Updater::parameters(self)
    }

    fn state(&self) -> UpdaterState {
        Updater::state(self)
    }

    fn device_memory_bytes(&self) -> Option<u64> {
        Updater::device_memory_bytes(self)
    }

    fn begin_lives(&mut self) {
        Updater::begin_lives(self);
    }
}
