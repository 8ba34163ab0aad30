//! Checkpoints of the loop: what is in them, when they are taken, and how a loop goes on from one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use springbok_common::version::PolicyVersion;

use super::Trainer;
use crate::{
    admission::BooksState,
    checkpoint::{Blob, Checkpoint, CheckpointSummary, Life, Saver},
    error::LearnerError,
    metrics::{Metric, Row},
    trainer::{PolicyUpdater, steering::SteeringState, tally::Tally},
};

/// What the loop goes on from, besides the updater.
///
/// A reservoir of batches is not in it: after a restart it fills anew. In lock-step there is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TrainerState {
    /// The policy version: updates so far.
    pub version: PolicyVersion,
    /// Duration of the run so far.
    pub wall: Duration,
    /// The counts.
    pub tally: Tally,
    /// What was measured and done about policy lag.
    pub steering: SteeringState,
    /// Ledger and audit.
    pub books: BooksState,
    /// Past versions that may still be served, oldest first.
    shelf: Vec<(PolicyVersion, Blob)>,
}

/// Where checkpoints go, and what is the same in all of them.
#[derive(Debug)]
pub struct Checkpoints {
    /// Writes them.
    pub saver: Saver,
    /// Whose they are.
    pub life: Life,
    /// The effective configuration, as TOML.
    pub config: String,
}

impl<U: PolicyUpdater> Trainer<U> {
    /// Goes on from where an earlier life had come; the books and the updater have been restored already. What is given
    /// are the past versions that may still be served.
    pub(super) fn resume(&mut self) -> Vec<(PolicyVersion, Bytes)> {
        let Some(state) = self.links.resume.take() else {
            return Vec::new();
        };
        self.version = state.version;
        self.wall_before = state.wall;
        self.tally = state.tally;
        // The goal may be another one now.
        self.tally.threshold = None;
        self.reported.trained_steps = self.tally.trained_steps;
        self.steering.restore(state.steering);
        let past = state.shelf.into_iter();
        past.map(|(version, parameters)| (version, parameters.0))
            .collect()
    }

    /// Duration of all lives of the learner.
    pub(super) fn wall(&self) -> Duration {
        self.wall_before + self.started.elapsed()
    }

    /// The version was just made and nobody has it yet: no actor has begun anything with it, so in lock-step the books are
    /// still, and in a checkpoint of it they are as they will be when it is served again.
    pub(super) fn reach_version(&mut self) -> Result<(), LearnerError> {
        let version = self.version.0;
        let begins = |versions: std::num::NonZeroU64| version.is_multiple_of(versions.get());
        if self.settings.life_versions.is_some_and(begins) {
            self.updater.begin_lives();
        }
        let due = match &mut self.links.checkpoints {
            Some(checkpoints) => checkpoints.saver.is_due(version)?,
            None => false,
        };
        self.books_then = due.then(|| self.links.books.lock().state());
        Ok(())
    }

    /// Takes the checkpoint that was found due, and hears what became of the one before.
    pub(super) fn save_if_due(&mut self) -> Result<(), LearnerError> {
        if let Some(checkpoints) = &mut self.links.checkpoints {
            checkpoints.saver.poll()?;
        }
        match self.books_then.take() {
            Some(books) => self.save(books),
            None => Ok(()),
        }
    }

    /// After the last update: the last checkpoint, if the run `succeeded`, and the end of all writing.
    pub(super) fn save_last(&mut self, succeeded: bool) -> Result<(), LearnerError> {
        let version = self.version.0;
        let done =
            self.tally.threshold.is_some() || self.tally.trained_steps >= self.settings.total_steps;
        let Some(checkpoints) = &mut self.links.checkpoints else {
            return Ok(());
        };
        checkpoints.saver.settle(false)?;
        if !succeeded || !checkpoints.saver.ends_with(version, done) {
            return Ok(());
        }
        let books = self.links.books.lock().state();
        self.save(books)?;
        match &mut self.links.checkpoints {
            Some(checkpoints) => checkpoints.saver.settle(true),
            None => Ok(()),
        }
    }

    /// What became of checkpoints.
    pub(super) fn checkpoint_summary(&self) -> CheckpointSummary {
        let checkpoints = self.links.checkpoints.as_ref();
        checkpoints.map_or(CheckpointSummary::default(), |own| own.saver.summary())
    }

    /// Adds what became of checkpoints to the `row` of an update, if there are any.
    pub(super) fn row_of_checkpoints(&self, row: &mut Row) {
        if self.links.checkpoints.is_none() {
            return;
        }
        let summary = self.checkpoint_summary();
        row.set(Metric::CheckpointsWritten, summary.written as f64);
        row.set(Metric::CheckpointsFailed, summary.failed as f64);
        row.set(Metric::CheckpointsSkipped, summary.skipped as f64);
        if summary.written > 0 {
            row.set(Metric::CheckpointBytes, summary.bytes as f64);
            row.set(Metric::CheckpointSeconds, summary.write_s);
            row.set(Metric::CheckpointStall, summary.stall_s_mean);
        }
    }

    fn save(&mut self, books: BooksState) -> Result<(), LearnerError> {
        let begun = Instant::now();
        // Rows up to here survive the end of this process, so that the continuation follows them without a gap.
        self.links.metrics.flush()?;
        let state = TrainerState {
            version: self.version,
            wall: self.wall(),
            tally: self.tally.clone(),
            steering: self.steering.state(),
            books,
            shelf: self.shelf(),
        };
        let updater = self.updater.state();
        let Some(checkpoints) = &mut self.links.checkpoints else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            run_id: checkpoints.life.run_id,
            epoch: checkpoints.life.epoch,
            config: checkpoints.config.clone(),
            updater,
            trainer: state,
        };
        checkpoints.saver.submit(Box::new(checkpoint), begun)
    }

    /// The past versions on the publisher's shelf; the newest is among the updater's state.
    fn shelf(&self) -> Vec<(PolicyVersion, Blob)> {
        let stock = self.links.publisher.stock().into_iter();
        let past = stock.filter(|(version, _)| *version != self.version);
        past.map(|(version, parameters)| (version, parameters.into()))
            .collect()
    }
}
