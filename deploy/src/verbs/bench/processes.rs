//! Runs in processes of their own, as `train` starts them, in a directory that vanishes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{cli::Layers, exit::Failure};

/// The longest that a run may take until it trains.
const START_MAX: Duration = Duration::from_secs(120);
/// Between two looks at it.
const POLL: Duration = Duration::from_millis(20);
const NAME: &str = "bench";

/// A launcher, its learner and its actors; all leave when it is dropped.
pub(super) struct Run {
    launcher: Child,
    out: TempDir,
}

impl Run {
    /// Starts `train` with so many actors, for hours.
    pub(super) fn start(layers: &Layers, actors: usize) -> Result<Self, Failure> {
        let out = tempfile::tempdir().map_err(Failure::files)?;
        let executable = std::env::current_exe().map_err(Failure::internal)?;
        let mut command = Command::new(executable);
        command.args(["train", "--supervised", "--no-progress"]);
        layers.hand_on(&mut command);
        command
            .args(["--name", NAME, "--total-steps", "1000000000000"])
            .args(["--set", "checkpoint.enabled=false"])
            .args(["--set", "telemetry.metrics=true"])
            .args(["--actors", &actors.to_string(), "--out"])
            .arg(out.path())
            // The learner is to compute with all threads, whatever the process that measures has.
            .env_remove("RAYON_NUM_THREADS")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let launcher = command
            .spawn()
            .map_err(|error| Failure::internal(format!("cannot start the run: {error}")))?;
        Ok(Self { launcher, out })
    }

    fn metrics(&self) -> PathBuf {
        self.out.path().join(NAME).join("metrics.jsonl")
    }

    /// Waits until it has trained with `actors` actors, and then for `slice`.
    pub(super) fn wait(&mut self, actors: usize, slice: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        let trains = |row: &Value| row["actors/present"].as_f64() >= Some(actors as f64);
        // A rate takes two rows.
        while rows(&self.metrics())
            .iter()
            .filter(|row| trains(row))
            .count()
            < 2
        {
            if let Some(status) = self.launcher.try_wait().map_err(Failure::internal)? {
                return Err(Failure::internal(format!("the run ended early: {status}")));
            }
            if begun.elapsed() > START_MAX {
                let seconds = START_MAX.as_secs();
                return Err(Failure::internal(format!(
                    "the run did not train with {actors} actors within {seconds} s"
                )));
            }
            thread::sleep(POLL);
        }
        thread::sleep(slice);
        Ok(())
    }

    /// Drains it; gives its rows, and its summary.
    pub(super) fn end(mut self) -> Result<(Vec<Value>, Value), Failure> {
        drop(self.launcher.stdin.take());
        let status = self.launcher.wait().map_err(Failure::internal)?;
        if !status.success() {
            return Err(Failure::internal(format!(
                "the run did not drain: {status}"
            )));
        }
        let summary = self.out.path().join(NAME).join("summary.json");
        let summary = fs::read_to_string(summary).map_err(Failure::files)?;
        let summary = serde_json::from_str(&summary).map_err(Failure::internal)?;
        Ok((rows(&self.metrics()), summary))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.launcher.stdin.take());
        let _ = self.launcher.wait();
    }
}

/// The whole lines of a file of metrics; none if it is not there yet.
fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Steps trained on each second in the last `slice` of `rows`; `None` if there are too few.
pub(super) fn rate(rows: &[Value], slice: Duration) -> Option<f64> {
    let at = |row: &Value| Some((row["charts/wall_s"].as_f64()?, row["global_step"].as_f64()?));
    let (end, trained) = at(rows.last()?)?;
    let begin = end - slice.as_secs_f64();
    let earlier = rows.iter().rev().filter_map(at);
    let mut earlier = earlier.skip_while(|(seconds, _)| *seconds > begin);
    let (seconds, steps) = earlier.next().or_else(|| at(rows.first()?))?;
    (end > seconds).then(|| (trained - steps) / (end - seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_slice_counts() {
        let row = |seconds: f64, steps: f64| serde_json::json!({"charts/wall_s": seconds, "global_step": steps});
        let rows = [
            row(1.0, 0.0),
            row(2.0, 10.0),
            row(3.0, 110.0),
            row(4.0, 210.0),
        ];
        assert_eq!(rate(&rows, Duration::from_secs(2)), Some(100.0));
        assert_eq!(rate(&rows, Duration::from_secs(60)), Some(70.0));
        assert_eq!(rate(&rows[..1], Duration::from_secs(1)), None);
        assert_eq!(rate(&[], Duration::from_secs(1)), None);
    }
}
