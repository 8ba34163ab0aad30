//! One event file.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use springbok_common::config::Config;

use super::{
    Point,
    event::{
        Event, FILE_VERSION, Histogram, Metadata, SESSION_START, SessionLog, Summary, Value,
        write_record,
    },
    settings,
};
use crate::{
    algorithm::health::ratio_edges,
    error::LearnerError,
    lag::buckets::BUCKET_BOUNDS,
    metrics::{Metric, MetricDoc},
    monitor::feed::LagHistogram,
    output,
};

/// What all names begin with; TensorBoard reads the files of a folder in the order of their names.
const PREFIX: &str = "events.out.tfevents.";

/// An event file that is being written.
pub(super) struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// The step of the last event.
    step: i64,
    /// Metrics that were described.
    described: BTreeSet<&'static str>,
}

impl EventFile {
    /// Begins a file in `folder`, which is made, with the configuration in it.
    pub(super) fn create(
        folder: &Path,
        config: &Config,
        resumed_step: Option<u64>,
    ) -> Result<Self, LearnerError> {
        fs::create_dir_all(folder).map_err(|source| output::failed(folder, source))?;
        let path = folder.join(name(newest(folder)));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|source| output::failed(&path, source))?;
        let mut created = Self {
            path,
            file: BufWriter::with_capacity(64 * 1024, file),
            step: resumed_step.unwrap_or(0) as i64,
            described: BTreeSet::new(),
        };
        let wall_time = seconds(SystemTime::now());
        created.put(&Event {
            wall_time,
            file_version: Some(FILE_VERSION.to_owned()),
            ..Event::default()
        })?;
        if let Some(step) = resumed_step {
            created.put(&Event {
                wall_time,
                // The point at that step is from before the checkpoint.
                step: step as i64 + 1,
                session_log: Some(SessionLog {
                    status: SESSION_START,
                }),
                ..Event::default()
            })?;
        }
        created.summary(SystemTime::now(), settings::values(config, wall_time))?;
        created.flush()?;
        Ok(created)
    }

    /// Adds a point to every curve, and the distributions since the one before.
    pub(super) fn point(&mut self, point: &Point) -> Result<(), LearnerError> {
        // A count that went in as a whole number.
        self.step = point.row.get(Metric::GlobalStep).unwrap_or(0.0) as i64;
        let described = &mut self.described;
        let curves = point.row.values().map(|(doc, value)| {
            let mut value = Value::scalar(doc.name, value);
            if described.insert(doc.name) {
                value.metadata = Some(Metadata::of_scalar(description(doc)));
            }
            value
        });
        let mut values: Vec<Value> = curves.collect();
        let since = &point.since;
        if since.lag.count() > 0 {
            let lag = lag(&since.lag, since.lag_max);
            values.push(Value::histogram("distributions/lag_versions", lag));
        }
        if since.ratios.iter().any(|steps| *steps > 0) {
            let ratios = ratios(&since.ratios);
            values.push(Value::histogram("distributions/importance_ratio", ratios));
        }
        self.summary(point.at, values)?;
        self.flush()
    }

    /// Says how the run ended.
    pub(super) fn end(&mut self, succeeded: bool) -> Result<(), LearnerError> {
        let now = SystemTime::now();
        self.summary(now, vec![settings::end(succeeded, seconds(now))])?;
        self.flush()
    }

    fn summary(&mut self, at: SystemTime, value: Vec<Value>) -> Result<(), LearnerError> {
        self.put(&Event {
            wall_time: seconds(at),
            step: self.step,
            summary: Some(Summary { value }),
            ..Event::default()
        })
    }

    fn put(&mut self, event: &Event) -> Result<(), LearnerError> {
        let written = write_record(&mut self.file, &event.encode_to_vec());
        written.map_err(|source| output::failed(&self.path, source))
    }

    fn flush(&mut self) -> Result<(), LearnerError> {
        let flushed = self.file.flush();
        flushed.map_err(|source| output::failed(&self.path, source))
    }
}

/// The name of a file that is read after that of second `newest`: as TensorFlow names them, and as Weights & Biases reads
/// the names: second since 1970, host, process.
fn name(newest: Option<u64>) -> String {
    let now = seconds(SystemTime::now()) as u64;
    let second = newest.map_or(now, |newest| now.max(newest + 1));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || ['-', '.', '_'].contains(c);
    let host: String = host.trim().chars().filter(plain).collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    format!("{PREFIX}{second:010}.{host}.{}", process::id())
}

/// The second in the name of the newest file in `folder`.
fn newest(folder: &Path) -> Option<u64> {
    let files = fs::read_dir(folder).ok()?.flatten();
    let seconds = files.filter_map(|file| {
        let name = file.file_name();
        let rest = name.to_str()?.strip_prefix(PREFIX)?;
        rest.split('.').next()?.parse().ok()
    });
    seconds.max()
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn description(doc: &MetricDoc) -> String {
    match doc.unit {
        "1" => doc.meaning.to_owned(),
        unit => format!("{} In {unit}.", doc.meaning),
    }
}

/// Steps by lag. Lags are whole numbers: a bar reaches from half a version below its least to half a version above its
/// largest.
fn lag(lag: &LagHistogram, lag_max: f64) -> Histogram {
    let limits = BUCKET_BOUNDS.map(|(_, largest)| match largest {
        u64::MAX => lag_max + 0.5,
        largest => largest as f64 + 0.5,
    });
    histogram(-0.5, &limits, &lag.steps, lag.versions)
}

/// Steps by ratio. Its sum is not known: that of the middles of the buckets stands for it.
fn ratios(steps: &[u64]) -> Histogram {
    let edges = ratio_edges();
    let top = edges[edges.len() - 1];
    let limits: Vec<f64> = edges.into_iter().chain([2.0 * top]).collect();
    let below = [0.0].into_iter().chain(edges);
    let middles = below.zip(&limits).map(|(low, high)| (low + high) / 2.0);
    let sum = middles
        .zip(steps)
        .map(|(middle, steps)| middle * *steps as f64);
    let sum = sum.sum();
    histogram(0.0, &limits, steps, sum)
}

/// A distribution with the upper bounds `limits`, the first bucket of which begins at `low`, without the empty buckets at
/// both ends.
fn histogram(low: f64, limits: &[f64], steps: &[u64], sum: f64) -> Histogram {
    let first = steps.iter().position(|steps| *steps > 0).unwrap_or(0);
    let last = steps.iter().rposition(|steps| *steps > 0).unwrap_or(0);
    let min = match first.checked_sub(1) {
        Some(before) => limits[before],
        None => low,
    };
    Histogram {
        min,
        max: limits[last],
        num: steps.iter().sum::<u64>() as f64,
        sum,
        bucket_limit: limits[first..=last].to_vec(),
        bucket: steps[first..=last]
            .iter()
            .map(|steps| *steps as f64)
            .collect(),
    }
}
