//! A run begins, or goes on from its last checkpoint.

use std::path::Path;

use super::METRICS;
use crate::{
    checkpoint::{self, Checkpoint, Life, Resumed, cut_metrics},
    error::LearnerError,
};

/// Where a life of the learner begins.
pub(super) struct Start {
    pub(super) life: Life,
    /// In a box, since it is large and most learners have none.
    pub(super) checkpoint: Option<Box<Checkpoint>>,
    pub(super) resumed: Option<Resumed>,
}

impl Start {
    /// The first life of the run in `directory`, or the next one if it is to `resume`.
    pub(super) fn of(directory: &Path, resume: bool) -> Result<Self, LearnerError> {
        if !resume {
            return Ok(Self {
                life: Life::begin(directory)?,
                checkpoint: None,
                resumed: None,
            });
        }
        let (path, checkpoint) = checkpoint::load(directory)?;
        let life = Life::next(
            directory,
            Life {
                run_id: checkpoint.run_id,
                epoch: checkpoint.epoch,
            },
        )?;
        let version = checkpoint.trainer.version.0;
        let metrics = directory.join(METRICS);
        let updates_lost = cut_metrics(&metrics, version)?;
        let resumed = Resumed {
            epoch: life.epoch.0,
            from_update: version,
            updates_lost: metrics.exists().then_some(updates_lost),
            unrolls_queued: checkpoint.trainer.books.queued(),
        };
        tracing::info!(path = %path.display(), ?resumed, "resuming");
        Ok(Self {
            life,
            checkpoint: Some(Box::new(checkpoint)),
            resumed: Some(resumed),
        })
    }
}
