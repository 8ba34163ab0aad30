//! Checkpoints: what a run goes on from after its learner ended, however it ended.

mod blob;
pub mod disk;
pub mod failpoint;
pub mod format;
mod life;
mod metrics_file;
mod saver;
pub mod store;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod format_tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use springbok_common::{ids::RunId, version::LearnerEpoch};

pub use self::{
    blob::Blob,
    life::Life,
    metrics_file::cut_metrics,
    saver::{CheckpointSummary, Due, Saver},
};
use self::{
    disk::RealDisk,
    format::{FormatError, Header},
    store::{Retention, Store},
};
use crate::{
    error::LearnerError,
    trainer::{TrainerState, update::UpdaterState},
};

/// Folder of the checkpoints in a run directory.
pub const FOLDER: &str = "checkpoints";

/// All that a run goes on from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The training run.
    pub run_id: RunId,
    /// The life of the learner that wrote it.
    pub epoch: LearnerEpoch,
    /// The effective configuration, as TOML.
    pub config: String,
    /// What the next update depends on.
    pub updater: UpdaterState,
    /// What the loop around it depends on.
    pub trainer: TrainerState,
}

impl Checkpoint {
    fn header(&self) -> Header {
        Header {
            epoch: self.epoch.0,
            version: self.trainer.version.0,
            mean_return: self.trainer.tally.evident_return(),
        }
    }
}

/// How a run went on from a checkpoint: `resumed` in `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The life of the learner that went on.
    pub epoch: u32,
    /// Updates behind the checkpoint: the policy version that it went on from.
    pub from_update: u64,
    /// Updates made after the checkpoint, as far as `metrics.jsonl` knew of them: their experience is gone. None without
    /// metrics.
    pub updates_lost: Option<u64>,
    /// Unrolls that waited for the trainer when the checkpoint was written; the ledger counts them as discarded, and in
    /// lock-step, where they are made again, not at all.
    pub unrolls_queued: u64,
}

/// The newest checkpoint of the run in `directory` that can be used, and where it is. Damaged ones on the way to it are set
/// aside as `.corrupt`.
///
/// # Errors
/// [`LearnerError::NoCheckpoint`] if there is none, [`LearnerError::Checkpoint`] if the folder cannot be read.
pub fn load(directory: &Path) -> Result<(PathBuf, Checkpoint), LearnerError> {
    newest(directory, true)
}

/// The same without touching anything: for a look at what a run would go on from.
///
/// # Errors
/// As [`load`].
pub fn look(directory: &Path) -> Result<(PathBuf, Checkpoint), LearnerError> {
    newest(directory, false)
}

fn newest(directory: &Path, sets_aside: bool) -> Result<(PathBuf, Checkpoint), LearnerError> {
    let folder = directory.join(FOLDER);
    let retention = Retention {
        keep_last: 2,
        keep_best: false,
    };
    let mut store = Store::new(RealDisk::default(), folder.clone(), retention);
    let decoded = |found: &store::Found| -> Result<Checkpoint, FormatError> {
        format::decode(&found.bytes).map(|(_, checkpoint)| checkpoint)
    };
    let found = store
        .newest(sets_aside, decoded)
        .map_err(|source| LearnerError::Checkpoint {
            failures: 1,
            source,
        })?;
    found.ok_or(LearnerError::NoCheckpoint { folder })
}

/// Whether there is anything to go on from in the run in `directory`; it may be damaged.
#[must_use]
pub fn exists(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory.join(FOLDER));
    files.is_ok_and(|files| {
        files.flatten().any(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "ckpt")
        })
    })
}
