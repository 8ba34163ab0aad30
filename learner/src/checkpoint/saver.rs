//! Writing checkpoints beside the training: a thread of its own encodes and writes one at a time.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use springbok_common::config::Config;

use super::{
    Checkpoint, FOLDER,
    disk::RealDisk,
    format::{self, FormatError},
    store::{Retention, Store, StoreError, file_name},
};
use crate::{error::LearnerError, output};

/// Checkpoints in a row that may fail before the run ends: a disk that is full for a moment is no reason to stop, and one
/// that stays full would make all further training worth nothing.
const FAILURES_MAX: u32 = 3;

/// What became of checkpoints in this life of the learner: `checkpoints` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointSummary {
    /// Written and verified.
    pub written: u64,
    /// Could not be written.
    pub failed: u64,
    /// Were due while the one before was still being written.
    pub skipped: u64,
    /// Length of the last one, in bytes.
    pub bytes: u64,
    /// Seconds from its handing over until it was verified, of the last one.
    pub write_s: f64,
    /// Seconds that the trainer stood still for one, mean.
    pub stall_s_mean: f64,
    /// Seconds that the trainer stood still for one, longest.
    pub stall_s_max: f64,
    /// Version of the last one that was verified.
    pub last_version: Option<u64>,
}

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At each version that is a multiple: in lock-step.
    AtMultiples(Option<u64>),
    /// After so long, or after so many updates, whichever comes first.
    After {
        /// Time between two.
        interval: Option<Duration>,
        /// Updates between two.
        updates: Option<u64>,
    },
}

impl Due {
    /// What `config` says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let updates = config.checkpoint.interval_updates;
        if config.run.deterministic {
            Self::AtMultiples(updates)
        } else {
            Self::After {
                interval: config.checkpoint.interval_s.map(Duration::from_secs),
                updates,
            }
        }
    }
}

/// The trainer's end of it.
#[derive(Debug)]
pub struct Saver {
    due: Due,
    jobs: Sender<Job>,
    results: Receiver<Result<Written, StoreError>>,
    in_flight: bool,
    /// Version and moment of the last one that was begun or skipped.
    last: (u64, Instant),
    failures_in_a_row: u32,
    stalls: u64,
    stall: Duration,
    summary: CheckpointSummary,
}

struct Job {
    checkpoint: Box<Checkpoint>,
    begun: Instant,
}

#[derive(Debug)]
struct Written {
    version: u64,
    bytes: u64,
    time: Duration,
}

impl Saver {
    /// Makes the folder in `directory` and starts the thread; `None` if `config` wants no checkpoints. The run is at
    /// `version`.
    ///
    /// # Errors
    /// [`LearnerError::Output`] or [`LearnerError::Start`].
    pub fn start(
        directory: &Path,
        config: &Config,
        version: u64,
    ) -> Result<Option<Self>, LearnerError> {
        if !config.checkpoint.enabled {
            return Ok(None);
        }
        let folder = directory.join(FOLDER);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::File::open(directory)?.sync_all())
            .map_err(|source| output::failed(&folder, source))?;
        let retention = Retention {
            keep_last: config.checkpoint.keep_last,
            keep_best: config.checkpoint.keep_best,
        };
        let mut store = Store::new(RealDisk::default(), folder, retention);
        // One is in the making at a time, so neither channel ever holds more than one.
        let (jobs, orders) = bounded::<Job>(1);
        let (finished, results) = bounded(1);
        thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                for job in orders {
                    if finished.send(write(&mut store, &job)).is_err() {
                        return;
                    }
                }
            })
            .map_err(LearnerError::Start)?;
        Ok(Some(Self {
            due: Due::of(config),
            jobs,
            results,
            in_flight: false,
            last: (version, Instant::now()),
            failures_in_a_row: 0,
            stalls: 0,
            stall: Duration::ZERO,
            summary: CheckpointSummary::default(),
        }))
    }

    /// Whether a checkpoint of `version` is to be taken now. One that is due while another is being written is left out;
    /// lock-step, which knows no time, waits for the other, so that a slow disk does not decide what there is.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn is_due(&mut self, version: u64) -> Result<bool, LearnerError> {
        let due = match self.due {
            Due::AtMultiples(updates) => {
                updates.is_some_and(|updates| version.is_multiple_of(updates.max(1)))
            }
            Due::After { interval, updates } => {
                let (last, at) = self.last;
                interval.is_some_and(|interval| at.elapsed() >= interval)
                    || updates.is_some_and(|updates| version.saturating_sub(last) >= updates)
            }
        };
        if !due || version == self.last.0 {
            return Ok(false);
        }
        if matches!(self.due, Due::AtMultiples(_)) {
            self.settle(false)?;
        }
        if self.in_flight {
            self.summary.skipped += 1;
            self.last = (version, Instant::now());
        }
        Ok(!self.in_flight)
    }

    /// Whether the last checkpoint of a run that is `done`, or drains, is to be taken at `version`. In lock-step a
    /// checkpoint between two boundaries would not lead back to the same course.
    #[must_use]
    pub fn ends_with(&self, version: u64, done: bool) -> bool {
        let fits = match self.due {
            Due::AtMultiples(updates) => {
                done || updates.is_some_and(|updates| version.is_multiple_of(updates.max(1)))
            }
            Due::After { .. } => true,
        };
        fits && self.summary.last_version != Some(version) && version > 0
    }

    /// Hands `checkpoint` over, which took the trainer since `begun`.
    ///
    /// # Errors
    /// [`LearnerError::TrainerDied`] if the thread is gone.
    pub fn submit(
        &mut self,
        checkpoint: Box<Checkpoint>,
        begun: Instant,
    ) -> Result<(), LearnerError> {
        self.last = (checkpoint.trainer.version.0, Instant::now());
        let job = Job { checkpoint, begun };
        self.jobs.send(job).map_err(|_| LearnerError::TrainerDied)?;
        self.in_flight = true;
        self.stalls += 1;
        let stall = begun.elapsed();
        self.stall += stall;
        self.summary.stall_s_mean = self.stall.as_secs_f64() / self.stalls as f64;
        self.summary.stall_s_max = self.summary.stall_s_max.max(stall.as_secs_f64());
        Ok(())
    }

    /// Takes note of what was written meanwhile.
    ///
    /// # Errors
    /// [`LearnerError::Checkpoint`] after three failures in a row.
    pub fn poll(&mut self) -> Result<(), LearnerError> {
        match self.results.try_recv() {
            Ok(result) => self.note(result, FAILURES_MAX),
            Err(_) => Ok(()),
        }
    }

    /// Waits until nothing is being written any more. The last checkpoint of a run must not fail, and all before it were
    /// given up for it.
    ///
    /// # Errors
    /// [`LearnerError::Checkpoint`] if the one in the making fails, if it `must` not.
    pub fn settle(&mut self, must: bool) -> Result<(), LearnerError> {
        if !self.in_flight {
            return Ok(());
        }
        let result = self.results.recv();
        let result = result.map_err(|_| LearnerError::TrainerDied)?;
        self.note(result, if must { 1 } else { FAILURES_MAX })
    }

    fn note(
        &mut self,
        result: Result<Written, StoreError>,
        failures_max: u32,
    ) -> Result<(), LearnerError> {
        self.in_flight = false;
        match result {
            Ok(written) => {
                self.failures_in_a_row = 0;
                self.summary.written += 1;
                self.summary.bytes = written.bytes;
                self.summary.write_s = written.time.as_secs_f64();
                self.summary.last_version = Some(written.version);
                Ok(())
            }
            Err(source) => {
                self.failures_in_a_row += 1;
                self.summary.failed += 1;
                let failures = self.failures_in_a_row;
                if failures >= failures_max {
                    return Err(LearnerError::Checkpoint { failures, source });
                }
                tracing::warn!(%source, failures, "a checkpoint could not be written; training goes on");
                Ok(())
            }
        }
    }

    /// What became of checkpoints so far.
    #[must_use]
    pub fn summary(&self) -> CheckpointSummary {
        self.summary
    }
}

fn write(store: &mut Store<RealDisk>, job: &Job) -> Result<Written, StoreError> {
    let header = job.checkpoint.header();
    let encoded = format::encode(&header, job.checkpoint.as_ref());
    let bytes = encoded.map_err(|fault: FormatError| StoreError::Verification {
        path: file_name(header.version).into(),
        fault,
    })?;
    let path = store.save(header.version, &bytes)?;
    tracing::info!(path = %path.display(), bytes = bytes.len(), "checkpoint written");
    Ok(Written {
        version: header.version,
        bytes: bytes.len() as u64,
        time: job.begun.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use springbok_common::{ids::RunId, version::LearnerEpoch};

    use super::*;
    use crate::trainer::TrainerState;

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config
    }

    fn checkpoint(version: u64) -> Box<Checkpoint> {
        let mut trainer = TrainerState::default();
        trainer.version.0 = version;
        Box::new(Checkpoint {
            run_id: RunId::random(),
            epoch: LearnerEpoch::FIRST,
            config: String::new(),
            updater: Default::default(),
            trainer,
        })
    }

    fn save(saver: &mut Saver, version: u64, must: bool) -> Result<(), LearnerError> {
        saver.submit(checkpoint(version), Instant::now()).unwrap();
        saver.settle(must)
    }

    #[test]
    fn one_failure_is_no_end_three_in_a_row_are_and_the_last_must_not_fail() {
        let directory = tempfile::tempdir().unwrap();
        let mut saver = Saver::start(directory.path(), &config(&[]), 0)
            .unwrap()
            .unwrap();
        let folder = directory.path().join(FOLDER);
        save(&mut saver, 1, false).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        save(&mut saver, 2, false).unwrap();
        save(&mut saver, 3, false).unwrap();
        fs::create_dir(&folder).unwrap();
        save(&mut saver, 4, false).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        save(&mut saver, 5, false).unwrap();
        save(&mut saver, 6, false).unwrap();
        let error = save(&mut saver, 7, false).unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(
            error.to_string().contains("3 checkpoints in a row"),
            "{error}"
        );
        let counts = saver.summary();
        assert_eq!(
            (counts.written, counts.failed, counts.last_version),
            (2, 5, Some(4))
        );

        let mut saver = Saver::start(directory.path(), &config(&[]), 0)
            .unwrap()
            .unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(save(&mut saver, 1, true).unwrap_err().exit_code(), 74);
    }

    #[test]
    fn only_one_is_in_flight_and_what_is_due_meanwhile_is_skipped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&[
            "checkpoint.interval_updates=2",
            "checkpoint.interval_s=none",
        ]);
        let mut saver = Saver::start(directory.path(), &config, 10)
            .unwrap()
            .unwrap();
        let due = |saver: &mut Saver, versions: std::ops::RangeInclusive<u64>| -> Vec<u64> {
            versions
                .filter(|version| saver.is_due(*version).unwrap())
                .collect()
        };
        assert_eq!(due(&mut saver, 10..=12), [12]);
        saver.submit(checkpoint(12), Instant::now()).unwrap();
        assert_eq!(due(&mut saver, 13..=14), [0; 0]);
        saver.settle(false).unwrap();
        assert_eq!(due(&mut saver, 15..=16), [16]);
        assert_eq!(saver.summary().skipped, 1);
        assert!(saver.ends_with(16, false) && !saver.ends_with(12, true));
    }

    #[test]
    fn lock_step_is_saved_at_all_multiples_only_and_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&["run.deterministic=true", "checkpoint.interval_updates=4"]);
        let mut saver = Saver::start(directory.path(), &config, 0).unwrap().unwrap();
        let mut due = Vec::new();
        for version in 1..10 {
            if saver.is_due(version).unwrap() {
                due.push(version);
                saver.submit(checkpoint(version), Instant::now()).unwrap();
            }
        }
        saver.settle(false).unwrap();
        assert_eq!((due, saver.summary().skipped), (vec![4, 8], 0));
        assert!(
            !saver.ends_with(9, false) && saver.ends_with(9, true) && saver.ends_with(12, false)
        );
        let off = Config {
            checkpoint: springbok_common::config::CheckpointConfig {
                enabled: false,
                ..config.checkpoint.clone()
            },
            ..config
        };
        assert!(Saver::start(directory.path(), &off, 0).unwrap().is_none());
    }
}
