//! A learner and actors as separate processes, so that each can be killed, held up and replaced on its own.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, Program, Said, assert_ledger_closes, assert_newest_is_last};

/// For a learner to listen.
const START_MAX: Duration = Duration::from_secs(60);
/// For an actor to end once its learner has told it to.
const ACTOR_END_MAX: Duration = Duration::from_secs(20);

/// A learner alone, in a directory that vanishes with it.
pub struct Learner {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub address: SocketAddr,
    out: TempDir,
}

/// Starts `springbok learner` on the CPU at `listen`, for hours, with further arguments.
///
/// # Panics
/// If it does not listen in time.
#[must_use]
pub fn learner(binary: &str, listen: &str, arguments: &[&str]) -> Learner {
    let out = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(binary);
    command
        .args(["learner", "--json", "--device", "cpu", "--name", "run"])
        .args([
            "--total-steps",
            "1000000000000",
            "--listen",
            listen,
            "--out",
        ])
        .arg(out.path())
        .args(arguments);
    started(command, out)
}

fn started(command: Command, out: TempDir) -> Learner {
    let mut program = Program::start(command);
    let line = program.wait_for("listening on ", START_MAX);
    let address = line.rsplit(' ').next().and_then(|text| text.parse().ok());
    Learner {
        program,
        address: address.unwrap_or_else(|| panic!("no address in {line:?}")),
        out,
    }
}

/// Starts `springbok actor` for the learner at `url`, in the place `index`.
#[must_use]
pub fn actor(binary: &str, url: &str, index: usize) -> Program {
    actor_with(binary, url, index, &[])
}

/// The same with further arguments.
#[must_use]
pub fn actor_with(binary: &str, url: &str, index: usize, arguments: &[&str]) -> Program {
    let mut command = actor_command(binary, url, index);
    command.args(arguments);
    Program::start(command)
}

/// The command that starts an actor.
#[must_use]
pub fn actor_command(binary: &str, url: &str, index: usize) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["actor", "--learner", url, "--index", &index.to_string()])
        .env("RAYON_NUM_THREADS", "1");
    command
}

impl Learner {
    /// The run directory.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.out.path().join("run")
    }

    /// Kills it without a word, and starts its next life at the same address from its last checkpoint.
    ///
    /// # Panics
    /// If that does not listen in time.
    #[must_use]
    pub fn killed_and_resumed(self, binary: &str) -> Self {
        let Self {
            program,
            address,
            out,
        } = self;
        drop(program);
        let mut command = Command::new(binary);
        command
            .args(["learner", "--json", "--listen", &address.to_string()])
            .arg("--resume")
            .arg(out.path().join("run"));
        started(command, out)
    }

    /// The last whole row of its metrics; null before the first.
    #[must_use]
    pub fn row(&self) -> Value {
        let text = fs::read_to_string(self.run_directory().join("metrics.jsonl"));
        let text = text.unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().last().unwrap_or("null");
        serde_json::from_str(last).expect("a row is JSON")
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.run_directory().join("metrics.jsonl"));
        let text = text.unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("a row is JSON"))
            .collect()
    }

    /// Waits for a row that `holds`; metrics are written each second.
    ///
    /// # Panics
    /// If `within` passes, or the learner ends, before.
    pub fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let row = self.row();
            if holds(&row) {
                return row;
            }
            self.program.listen();
            assert!(
                Instant::now() < deadline && crate::runs(self.program.pid()),
                "{what}: not within {within:?}; last row {row}; {}",
                self.program.account()
            );
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until so many further unrolls are trained on.
    ///
    /// # Panics
    /// If `within` passes before.
    pub fn wait_for_training(&mut self, further: f64, within: Duration) -> Value {
        let until = number(&self.row(), "ledger/trained") + further;
        self.wait_for("further training", within, |row| {
            number(row, "ledger/trained") >= until
        })
    }

    /// Waits until so many actors have places and unrolls are trained on.
    ///
    /// # Panics
    /// If `within` passes before.
    pub fn wait_for_actors(&mut self, actors: usize, within: Duration) {
        self.wait_for("all actors are there", within, |row| {
            number(row, "actors/present") as usize == actors
        });
        self.wait_for_training(2.0, within);
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.pid()));
        let status = status.expect("the learner runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.expect("VmRSS").parse().expect("a number")
    }

    /// Seconds of processor time that it has taken so far.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn processor_s(&self) -> f64 {
        /// Linux counts in hundredths of a second, whatever the machine (proc(5)).
        const TICKS_PER_S: f64 = 100.0;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.program.pid()));
        let stat = stat.expect("the learner runs");
        // The name is in parentheses and may have spaces; user and system time are the 12th and 13th word behind it.
        let (_, words) = stat.rsplit_once(')').expect("a name in parentheses");
        let words = words.split_whitespace().skip(11).take(2);
        let ticks: f64 = words.map(|word| word.parse::<f64>().expect("ticks")).sum();
        ticks / TICKS_PER_S
    }

    /// Terminates it, and asserts that it drained in time with a closed ledger, balanced in every row of its metrics.
    ///
    /// # Panics
    /// If it did not.
    pub fn drain(self, within: Duration) -> Value {
        for row in self.rows() {
            assert_eq!(number(&row, "ledger/imbalance"), 0.0, "{row}");
            assert!(number(&row, "queue/fill") <= 1.0, "{row}");
        }
        self.program.signal(Signal::TERM);
        let Self { program, out, .. } = self;
        let ended = program.wait(within);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(out.path().join("run").join("summary.json").is_file());
        assert_newest_is_last(&out.path().join("run"));
        let summary = ended.json();
        assert_ledger_closes(&summary);
        assert_eq!(summary["ledger_imbalance"].as_u64(), Some(0), "{summary}");
        assert_eq!(summary["ledger"]["queued"].as_u64(), Some(0), "{summary}");
        summary
    }
}

/// A number of a row; 0 if it has no such.
#[must_use]
pub fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or(0.0)
}

/// Waits for actors whose learner drained; gives how many unrolls they made, all together. One that had joined, but had no
/// stream yet when the drain began, was not told and looks for a learner still: all are asked to stop.
///
/// # Panics
/// If one did not end well, or does not say how many it made.
#[must_use]
pub fn unrolls_made(actors: Vec<Program>) -> u64 {
    let ended = actors.into_iter().map(|actor| {
        actor.signal(Signal::TERM);
        actor.wait(ACTOR_END_MAX)
    });
    ended.map(|ended| made_by(&ended)).sum()
}

fn made_by(ended: &Ended) -> u64 {
    assert_eq!(ended.code(), 0, "{ended:?}");
    let done = ended
        .stderr
        .lines()
        .find(|line| line.contains("actor done"));
    let unrolls = done.and_then(|line| line.split_once(" unrolls="));
    let number = unrolls.and_then(|(_, rest)| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("an actor says what it made: {ended:?}"))
}

impl Program {
    /// Takes in what the program has said, so that it is never held up.
    pub fn listen(&mut self) {
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::Stdout(line) => self.stdout.push(line),
                Said::Stderr(line) => self.stderr.push(line),
            }
        }
    }
}

/// How long a fault lasts: moments in the ordinary tests, minutes in a campaign (`SPRINGBOK_CAMPAIGN=1`).
#[must_use]
pub fn campaign() -> bool {
    std::env::var_os("SPRINGBOK_CAMPAIGN").is_some_and(|value| value == "1")
}
