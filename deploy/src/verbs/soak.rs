//! `springbok bench soak`: does a run keep its memory and its pace while actors die and come back?

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;

use crate::{cli::Layers, exit::Failure, output};

mod slope;

use slope::theil_sen;

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// The longest that the run may take until it trains.
const START_MAX: Duration = Duration::from_secs(120);
/// Samples without which a slope is no evidence.
const SAMPLES_MIN: usize = 10;
/// Share of the time at the start that says nothing: caches and allocators fill up.
const WARM_UP: f64 = 0.2;

/// How to soak, and what is too much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Soak {
    /// How long.
    pub(crate) time: Duration,
    /// Actors.
    pub(crate) actors: usize,
    /// Time between two kills of an actor; zero kills none.
    pub(crate) kill_every: Duration,
    /// Growth of the learner's memory that is too much, in MiB a minute.
    pub(crate) memory_slope_max: f64,
    /// Loss of throughput that is too much, in percent a minute.
    pub(crate) throughput_loss_max: f64,
    /// Whether to print one JSON object and nothing else.
    pub(crate) json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    minutes: f64,
    samples: usize,
    actors: usize,
    /// Actors killed.
    kills: u64,
    /// Resident memory of the learner after the warm-up and at the end, in MiB.
    memory_mib: [f64; 2],
    /// Theil-Sen slope of the learner's resident memory after the warm-up.
    memory_mib_per_min: f64,
    /// Environment steps trained on each second, median after the warm-up.
    steps_per_s: f64,
    /// Theil-Sen slope of that, relative to the median.
    throughput_percent_per_min: f64,
    /// By how many unrolls the ledger does not balance.
    ledger_imbalance: u64,
    /// The ledger at the end.
    ledger: Value,
    /// Lives of actors.
    actor_lives: Value,
    /// What is beyond its limit.
    faults: Vec<String>,
}

/// One look at the run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    minute: f64,
    memory_mib: f64,
    trained_steps: f64,
}

/// Runs `train` in a directory that vanishes, kills actors, and measures.
pub(super) fn run(layers: &Layers, soak: &Soak) -> Result<(), Failure> {
    let out = tempfile::tempdir()
        .map_err(|error| Failure::files(format!("cannot make a directory for the run: {error}")))?;
    let directory = out.path().join("soak");
    let mut run = Run(start(layers, soak, out.path())?);
    let (samples, kills) = watch(&mut run, soak, &directory)?;
    run.end()?;
    let summary = fs::read_to_string(directory.join("summary.json"))
        .map_err(|error| Failure::files(format!("the run left no summary: {error}")))?;
    let summary: Value = serde_json::from_str(&summary).map_err(Failure::internal)?;
    let report = report(soak, &samples, kills, &summary)?;
    print(&report, soak.json);
    match report.faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::internal(report.faults.join("; "))),
    }
}

fn start(layers: &Layers, soak: &Soak, out: &Path) -> Result<Child, Failure> {
    let executable = std::env::current_exe().map_err(Failure::internal)?;
    let mut command = Command::new(executable);
    command.args(["train", "--supervised", "--no-progress"]);
    layers.hand_on(&mut command);
    command
        .args([
            "--name",
            "soak",
            "--total-steps",
            "1000000000000",
            "--actors",
        ])
        .arg(soak.actors.to_string())
        .arg("--out")
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command
        .spawn()
        .map_err(|error| Failure::internal(format!("cannot start the run: {error}")))
}

/// The launcher; it leaves, with all its children, when its stdin is closed.
struct Run(Child);

impl Run {
    /// Whether it still runs.
    fn check(&mut self) -> Result<(), Failure> {
        match self.0.try_wait().map_err(Failure::internal)? {
            None => Ok(()),
            Some(status) => Err(Failure::internal(format!("the run ended early: {status}"))),
        }
    }

    /// Asks it to drain and waits; it limits the time of that itself.
    fn end(mut self) -> Result<(), Failure> {
        drop(self.0.stdin.take());
        let status = self.0.wait().map_err(Failure::internal)?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::internal(format!(
                "the run did not drain: {status}"
            ))),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Samples until the time is over; gives the actors killed too.
fn watch(run: &mut Run, soak: &Soak, directory: &Path) -> Result<(Vec<Sample>, u64), Failure> {
    let begun = Instant::now();
    while trained_steps(directory).is_none() {
        run.check()?;
        if begun.elapsed() > START_MAX {
            let seconds = START_MAX.as_secs();
            return Err(Failure::internal(format!(
                "nothing was trained within {seconds} s"
            )));
        }
        thread::sleep(Duration::from_millis(200));
    }
    let Some(learner) = pids(directory, "learner").first().copied() else {
        return Err(Failure::internal("the launcher's log names no learner"));
    };
    let begun = Instant::now();
    let (mut samples, mut kills) = (Vec::new(), 0);
    let mut killed = begun;
    while begun.elapsed() < soak.time {
        thread::sleep(SAMPLE_INTERVAL.min(soak.time));
        run.check()?;
        let (Some(memory_mib), Some(trained_steps)) =
            (memory_mib(learner), trained_steps(directory))
        else {
            return Err(Failure::internal(
                "the learner's memory cannot be read: this needs Linux, and telemetry.metrics",
            ));
        };
        samples.push(Sample {
            minute: begun.elapsed().as_secs_f64() / 60.0,
            memory_mib,
            trained_steps,
        });
        if !soak.kill_every.is_zero() && killed.elapsed() >= soak.kill_every {
            killed = Instant::now();
            // In turn, so that no place dies too often for the launcher.
            let place = kills as usize % soak.actors;
            if let Some(pid) = pids(directory, &format!("actor-{place}")).last() {
                kills += u64::from(kill(*pid));
            }
        }
    }
    Ok((samples, kills))
}

/// Process ids of the children with this name, oldest first.
fn pids(directory: &Path, name: &str) -> Vec<i32> {
    let log = directory.join("logs").join("launcher.log");
    let log = fs::read_to_string(log).unwrap_or_default();
    let started = log.lines().filter_map(|line| line.split_once(" started "));
    let children = started.filter_map(|(_, child)| child.split_once(" pid "));
    children
        .filter(|(child, _)| *child == name)
        .filter_map(|(_, pid)| pid.parse().ok())
        .collect()
}

#[cfg(unix)]
fn kill(pid: i32) -> bool {
    use rustix::process::{Pid, Signal, kill_process};

    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

#[cfg(not(unix))]
fn kill(_pid: i32) -> bool {
    false
}

/// Resident memory of a process.
pub(super) fn memory_mib(pid: i32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

/// `global_step` of the last whole line of the metrics.
fn trained_steps(directory: &Path) -> Option<f64> {
    use std::io::{Read as _, Seek as _, SeekFrom};

    let mut file = fs::File::open(directory.join("metrics.jsonl")).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let (whole, _) = tail.rsplit_once('\n')?;
    let row: Value = serde_json::from_str(whole.lines().last()?).ok()?;
    row["global_step"].as_f64()
}

fn report(soak: &Soak, samples: &[Sample], kills: u64, summary: &Value) -> Result<Report, Failure> {
    let begin = WARM_UP * soak.time.as_secs_f64() / 60.0;
    let steady: Vec<Sample> = samples
        .iter()
        .filter(|sample| sample.minute >= begin)
        .copied()
        .collect();
    let (Some(first), Some(last)) = (steady.first(), steady.last()) else {
        return Err(Failure::usage(
            "too short to measure anything; soak for longer",
        ));
    };
    if steady.len() < SAMPLES_MIN {
        let (found, needed) = (steady.len(), SAMPLES_MIN);
        return Err(Failure::usage(format!(
            "{found} samples after the warm-up are too few for a slope, which needs {needed}; soak for longer"
        )));
    }
    let memory: Vec<_> = steady.iter().map(|s| (s.minute, s.memory_mib)).collect();
    let rates: Vec<_> = steady
        .windows(2)
        .map(|pair| {
            let seconds = 60.0 * (pair[1].minute - pair[0].minute);
            let steps = pair[1].trained_steps - pair[0].trained_steps;
            (pair[1].minute, steps / seconds)
        })
        .collect();
    let steps_per_s = slope::median(rates.iter().map(|(_, rate)| *rate).collect());
    let mut report = Report {
        minutes: soak.time.as_secs_f64() / 60.0,
        samples: steady.len(),
        actors: soak.actors,
        kills,
        memory_mib: [first.memory_mib, last.memory_mib],
        memory_mib_per_min: theil_sen(&memory),
        steps_per_s,
        throughput_percent_per_min: 100.0 * theil_sen(&rates) / steps_per_s.max(f64::MIN_POSITIVE),
        ledger_imbalance: summary["ledger_imbalance"].as_u64().unwrap_or(u64::MAX),
        ledger: summary["ledger"].clone(),
        actor_lives: summary["actors"].clone(),
        faults: Vec::new(),
    };
    report.faults = faults(soak, &report);
    Ok(report)
}

/// What is beyond its limit, each in a sentence.
fn faults(soak: &Soak, report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    let (grows, most) = (report.memory_mib_per_min, soak.memory_slope_max);
    if grows > most {
        faults.push(format!(
            "the learner's memory grows by {grows:.3} MiB a minute, more than the limit of {most} (--memory-slope-max)"
        ));
    }
    let (loss, most) = (-report.throughput_percent_per_min, soak.throughput_loss_max);
    if loss > most {
        faults.push(format!(
            "the throughput falls by {loss:.3} % a minute, more than the limit of {most} (--throughput-loss-max)"
        ));
    }
    if report.ledger_imbalance != 0 {
        let unrolls = report.ledger_imbalance;
        faults.push(format!("the ledger is off by {unrolls} unrolls"));
    }
    faults
}

fn print(report: &Report, json: bool) {
    if json {
        output::json(report);
        return;
    }
    let [first, last] = report.memory_mib;
    output::line(&format!(
        "{:.1} minutes, {} actors, {} kills: the learner's memory {first:.1} -> {last:.1} MiB ({:+.3} MiB/min), \
         {:.0} steps/s ({:+.3} %/min), ledger off by {}",
        report.minutes,
        report.actors,
        report.kills,
        report.memory_mib_per_min,
        report.steps_per_s,
        report.throughput_percent_per_min,
        report.ledger_imbalance
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOAK: Soak = Soak {
        time: Duration::from_secs(600),
        actors: 2,
        kill_every: Duration::ZERO,
        memory_slope_max: 1.0,
        throughput_loss_max: 2.0,
        json: false,
    };

    /// Memory that grows by so many MiB a minute, at a pace that falls by so many percent of 1000 steps/s.
    fn samples(growth: f64, loss: f64) -> Vec<Sample> {
        let mut trained_steps = 0.0;
        let at = |second: u32| f64::from(second) / 60.0;
        let seconds = (0..=600).step_by(2);
        let sample = |second| {
            trained_steps += 2.0 * 1000.0 * (1.0 - loss / 100.0 * at(second));
            Sample {
                minute: at(second),
                memory_mib: 100.0 + growth * at(second),
                trained_steps,
            }
        };
        seconds.map(sample).collect()
    }

    #[test]
    fn only_what_grows_or_falls_beyond_its_limit_is_a_fault() {
        let balanced: Value = serde_json::from_str(r#"{"ledger_imbalance": 0}"#).unwrap();
        let faults = |growth, loss, summary: &Value| {
            let report = report(&SOAK, &samples(growth, loss), 0, summary).unwrap();
            report.faults.len()
        };
        assert_eq!(faults(0.9, 1.5, &balanced), 0);
        assert_eq!(faults(-5.0, -5.0, &balanced), 0);
        assert_eq!(faults(1.1, 1.5, &balanced), 1);
        assert_eq!(faults(1.1, 3.0, &balanced), 2);
        assert_eq!(faults(0.0, 0.0, &Value::Null), 1);
    }

    #[test]
    fn too_few_samples_are_a_fault_of_usage() {
        let few = &samples(0.0, 0.0)[60..69];
        assert!(report(&SOAK, few, 0, &Value::Null).is_err());
    }
}
