//! TensorBoard's event files: the table of metrics as curves, policy lag and importance ratios as distributions, the
//! configuration as text and as hyperparameters.
//!
//! Each life of the learner writes a file of its own. The trainer hands over at most ten points a second, and one a
//! thousandth of the time so far, to a thread that writes; what comes between two points goes into the next one's
//! distributions. A file that cannot be written any more is given up with a warning: the run goes on.

mod event;
mod file;
mod settings;

use std::{
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Sender, TrySendError, bounded};
use springbok_common::config::Config;

use self::file::EventFile;
use super::{Metric, Row};
use crate::{algorithm::health::RATIO_BUCKETS, error::LearnerError, monitor::feed::LagHistogram};

/// Folder of the event files in a run directory.
pub const FOLDER: &str = "tensorboard";

/// The shortest time between two points of a curve.
const POINT_INTERVAL: Duration = Duration::from_millis(100);

/// Points at most in the time from the beginning to any moment, once that is long: TensorBoard shows a thousand.
const POINTS_PER_SPAN: u32 = 1000;

/// Points that may wait to be written.
const POINTS_WAITING_MAX: usize = 16;

/// What the trainer hands over.
enum Message {
    Point(Box<Point>),
    End { succeeded: bool },
}

/// A row, and what there was since the point before.
struct Point {
    at: SystemTime,
    row: Row,
    since: Distributions,
}

/// Steps of all updates since the last point.
#[derive(Debug, Clone, Default)]
struct Distributions {
    lag: LagHistogram,
    /// Largest lag, in versions.
    lag_max: f64,
    ratios: [u64; RATIO_BUCKETS],
}

impl Distributions {
    fn add(&mut self, row: &Row) {
        self.lag.add(row);
        self.lag_max = self.lag_max.max(row.get(Metric::LagMax).unwrap_or(0.0));
        for (sum, steps) in self.ratios.iter_mut().zip(row.ratios) {
            *sum += steps;
        }
    }
}

/// The trainer's end of an event file.
#[derive(Debug)]
pub struct EventLog {
    messages: Option<Sender<Message>>,
    writer: Option<JoinHandle<()>>,
    began: Instant,
    /// When the last point was handed over.
    last: Option<Instant>,
    since: Distributions,
    /// The last row, if it is in no point.
    left: Option<Row>,
}

impl EventLog {
    /// Begins a file in the folder `tensorboard` of the run directory. With `resumed_step`, environment steps at which
    /// the run goes on, points of earlier files beyond it count no more.
    ///
    /// # Errors
    /// [`LearnerError::Output`] if the file cannot be made, [`LearnerError::Start`] if the thread cannot.
    pub fn create(
        run_directory: &Path,
        config: &Config,
        resumed_step: Option<u64>,
    ) -> Result<Self, LearnerError> {
        let folder = run_directory.join(FOLDER);
        let file = EventFile::create(&folder, config, resumed_step)?;
        let (messages, received) = bounded(POINTS_WAITING_MAX);
        let writer = thread::Builder::new()
            .name("tensorboard".to_owned())
            .spawn(move || write(file, received))
            .map_err(LearnerError::Start)?;
        Ok(Self {
            messages: Some(messages),
            writer: Some(writer),
            began: Instant::now(),
            last: None,
            since: Distributions::default(),
            left: None,
        })
    }

    /// Takes the row of one update. Never waits: a point for which there is no room is put off.
    pub fn show(&mut self, row: &Row) {
        let Some(messages) = &self.messages else {
            return;
        };
        self.since.add(row);
        let interval = POINT_INTERVAL.max(self.began.elapsed() / POINTS_PER_SPAN);
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            self.left = Some(row.clone());
            return;
        }
        let point = Message::Point(Box::new(Point::new(row.clone(), self.since.clone())));
        match messages.try_send(point) {
            Ok(()) => {
                self.last = Some(Instant::now());
                self.since = Distributions::default();
                self.left = None;
            }
            Err(TrySendError::Full(_)) => self.left = Some(row.clone()),
            // The writer has said why it gave up.
            Err(TrySendError::Disconnected(_)) => self.messages = None,
        }
    }

    /// Writes what is left, and how the run ended; waits until all is in the file.
    pub fn close(&mut self, succeeded: bool) {
        if let Some(messages) = self.messages.take() {
            // A writer that is gone has said why.
            if let Some(row) = self.left.take() {
                let since = std::mem::take(&mut self.since);
                let _ = messages.send(Message::Point(Box::new(Point::new(row, since))));
            }
            let _ = messages.send(Message::End { succeeded });
        }
        if let Some(writer) = self.writer.take() {
            // It does not panic; if it did, the file ends where it was.
            let _ = writer.join();
        }
    }
}

impl Drop for EventLog {
    /// A trainer that failed has not closed it.
    fn drop(&mut self) {
        self.close(false);
    }
}

impl Point {
    fn new(row: Row, since: Distributions) -> Self {
        Self {
            at: SystemTime::now(),
            row,
            since,
        }
    }
}

/// The thread that writes.
fn write(mut file: EventFile, messages: crossbeam_channel::Receiver<Message>) {
    for message in messages {
        let written = match message {
            Message::Point(point) => file.point(&point),
            Message::End { succeeded } => file.end(succeeded),
        };
        if let Err(error) = written {
            tracing::warn!("{error}; the run goes on without TensorBoard's event file");
            return;
        }
    }
}

#[cfg(test)]
mod tests;
