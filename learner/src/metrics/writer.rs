//! Where the rows go.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Row, tensorboard::EventLog};
use crate::{error::LearnerError, monitor::Feed, output};

/// Lines reach the file at least this often, so that it can be followed while the run goes on.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Takes the row of each update to wherever it is wanted: `metrics.jsonl`, TensorBoard's event file, and whoever watches.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    /// `None` writes nothing.
    file: Option<BufWriter<File>>,
    flushed: Instant,
    /// Whoever watches the run.
    feed: Option<Feed>,
    /// TensorBoard's event file.
    events: Option<EventLog>,
}

impl MetricsWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn create(path: &Path) -> Result<Self, LearnerError> {
        Self::open(path, File::create(path))
    }

    /// Goes on with the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`LearnerError::Output`] if that is impossible.
    pub fn append(path: &Path) -> Result<Self, LearnerError> {
        Self::open(
            path,
            OpenOptions::new().create(true).append(true).open(path),
        )
    }

    fn open(path: &Path, file: io::Result<File>) -> Result<Self, LearnerError> {
        let file = file.map_err(|source| output::failed(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(BufWriter::with_capacity(64 * 1024, file)),
            flushed: Instant::now(),
            feed: None,
            events: None,
        })
    }

    /// A writer that writes nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            flushed: Instant::now(),
            feed: None,
            events: None,
        }
    }

    /// Shows every row to `feed` too.
    #[must_use]
    pub fn with_feed(mut self, feed: Option<Feed>) -> Self {
        self.feed = feed;
        self
    }

    /// Shows every row to `events` too.
    #[must_use]
    pub fn with_events(mut self, events: Option<EventLog>) -> Self {
        self.events = events;
        self
    }

    /// Whether nobody wants the rows.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.file.is_none() && self.feed.is_none() && self.events.is_none()
    }

    /// Takes one row.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn write(&mut self, row: &Row) -> Result<(), LearnerError> {
        if let Some(feed) = &mut self.feed {
            feed.show(row);
        }
        if let Some(events) = &mut self.events {
            events.show(row);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        serde_json::to_writer(&mut *file, row)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|source| output::failed(&self.path, source))?;
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.flushed = Instant::now();
            self.flush()?;
        }
        Ok(())
    }

    /// The run has ended, and whether it `succeeded`: everything that is left is written.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn close(&mut self, succeeded: bool) -> Result<(), LearnerError> {
        if let Some(events) = &mut self.events {
            events.close(succeeded);
        }
        self.flush()
    }

    /// Hands every line to the operating system.
    ///
    /// # Errors
    /// [`LearnerError::Output`] with the path and the cause.
    pub fn flush(&mut self) -> Result<(), LearnerError> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        flushed.map_err(|source| output::failed(&self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lag::buckets::{BUCKETS, BucketSummary},
        metrics::Metric,
    };

    #[test]
    fn a_line_is_one_object_without_what_has_no_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        let mut row = Row::default();
        row.set(Metric::GlobalStep, 64.0);
        row.set(Metric::Ess, f64::NAN);
        let mut buckets = vec![BucketSummary::default(); BUCKETS];
        buckets[5] = BucketSummary {
            steps: 3,
            k3: Some(0.5),
            ..BucketSummary::default()
        };
        row.set_buckets(&buckets);
        writer.write(&row).unwrap();
        writer.flush().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"global_step\":64.0,\"lag_bucket/5-8/steps\":3.0,\"lag_bucket/5-8/k3\":0.5}\n"
        );
    }
}
