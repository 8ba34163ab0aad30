//! Starts the real program, waits for what it says, and leaves nothing behind.
//!
//! Nothing here waits by sleeping: the end of a pipe, or a line in it, is what a test waits for, always with a
//! deadline. Faults of a test are panics, as everywhere in tests.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only tests use this library, and a panic is how a test fails"
)]

pub mod decoders;
pub mod farm;
pub mod kinds;
pub mod mutations;
pub mod proxy;
pub mod secrets;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Lines that may wait to be looked at; a program that says more is held up.
const LINES_MAX: usize = 10_000;

/// A line that the program wrote.
enum Said {
    Stdout(String),
    Stderr(String),
}

/// A running program; killed when it is dropped, with all that it started.
pub struct Program {
    child: Child,
    said: Receiver<Said>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    run_directory: Option<PathBuf>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Ended {
    /// The exit code; a signal is a fault of the test.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Stdout, which must be one JSON value and nothing else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {self:?}"))
    }
}

impl Program {
    /// Starts `command` with its output captured.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program under test starts");
        let (sender, said) = sync_channel(LINES_MAX);
        let lines = |stream: Box<dyn Read + Send>, wrap: fn(String) -> Said| {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(wrap(line)).is_err() {
                        return;
                    }
                }
            });
        };
        lines(Box::new(child.stdout.take().expect("piped")), Said::Stdout);
        lines(Box::new(child.stderr.take().expect("piped")), Said::Stderr);
        Self {
            child,
            said,
            stdout: Vec::new(),
            stderr: Vec::new(),
            run_directory: None,
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stderr that contains `text`, and returns it.
    ///
    /// # Panics
    /// If the program ends, or `within` passes, before it is said.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Stdout(line)) => self.stdout.push(line),
                Ok(Said::Stderr(line)) => {
                    self.stderr.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(reason) => panic!("{text:?} was not said ({reason}): {}", self.account()),
            }
        }
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Panics
    /// If `within` passes before.
    #[must_use]
    pub fn wait(mut self, within: Duration) -> Ended {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Stdout(line)) => self.stdout.push(line),
                Ok(Said::Stderr(line)) => self.stderr.push(line),
                // Both pipes are closed: the process has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("still running after {within:?}: {}", self.account())
                }
            }
        }
        Ended {
            status: self.child.wait().expect("an ended child is waited for"),
            stdout: self.stdout.join("\n"),
            stderr: self.stderr.join("\n"),
        }
    }

    /// Sends `signal` to the program, and only to it.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// What was said so far, and the logs of the run, for the message of a failed test.
    fn account(&self) -> String {
        let mut text = format!("stdout {:#?}\nstderr {:#?}", self.stdout, self.stderr);
        let logs = self.run_directory.iter().flat_map(|run| {
            fs::read_dir(run.join("logs"))
                .into_iter()
                .flatten()
                .flatten()
        });
        for log in logs {
            let content = fs::read_to_string(log.path()).unwrap_or_default();
            text.push_str(&format!("\n--- {}\n{content}", log.path().display()));
        }
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The launcher's children see the end of their stdin and leave.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A training run in a directory that vanishes with it.
pub struct Train {
    /// The launcher.
    pub program: Program,
    out: TempDir,
}

/// A training run that has ended; its directory is still there.
pub struct Trained {
    /// The launcher.
    pub ended: Ended,
    out: TempDir,
}

/// Starts `springbok train --json` on the CPU with further arguments.
#[must_use]
pub fn train(binary: &str, arguments: &[&str]) -> Train {
    train_with(binary, arguments, &[])
}

/// The same with environment variables.
#[must_use]
pub fn train_with(binary: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Train {
    let out = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(binary);
    command
        .args([
            "train", "--json", "--device", "cpu", "--name", "run", "--out",
        ])
        .arg(out.path())
        .args(arguments)
        .envs(variables.iter().copied());
    let mut program = Program::start(command);
    program.run_directory = Some(out.path().join("run"));
    Train { program, out }
}

impl Train {
    /// The run directory.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.out.path().join("run")
    }

    /// Process ids of the children whose name begins with `name` (`learner`, `actor-0` ...), oldest first.
    #[must_use]
    pub fn pids(&self, name: &str) -> Vec<u32> {
        let log = self.run_directory().join("logs").join("launcher.log");
        let log = fs::read_to_string(log).unwrap_or_default();
        log.lines()
            .filter_map(|line| line.split_once(" started "))
            .filter_map(|(_, child)| child.split_once(" pid "))
            .filter(|(child, _)| child.starts_with(name))
            .map(|(_, pid)| pid.parse().expect("a process id"))
            .collect()
    }

    /// Waits until the launcher has ended.
    ///
    /// # Panics
    /// If `within` passes before.
    #[must_use]
    pub fn wait(self, within: Duration) -> Trained {
        Trained {
            ended: self.program.wait(within),
            out: self.out,
        }
    }
}

impl Trained {
    /// The run directory.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.out.path().join("run")
    }

    /// `summary.json`.
    #[must_use]
    pub fn summary(&self) -> Value {
        let text = fs::read_to_string(self.run_directory().join("summary.json"))
            .unwrap_or_else(|error| panic!("no summary ({error}): {:?}", self.ended));
        serde_json::from_str(&text).expect("summary.json is JSON")
    }

    /// Asserts that the launcher ended with exit code 0, and that nothing it learnt is missing from its last checkpoint.
    ///
    /// # Panics
    /// If not.
    pub fn assert_done(&self) {
        assert_eq!(self.ended.code(), 0, "{:?}", self.ended);
        assert_newest_is_last(&self.run_directory());
    }
}

/// Sends `signal` to the process `pid`.
///
/// # Panics
/// If there is no such process.
pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("the process is there");
}

/// Whether the process still runs; one that has ended and only waits to be collected does not.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // The state follows the name, which is in parentheses and may itself contain any character.
    stat.is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    })
}

/// Waits until none of `pids` runs. They are no children of this process, so there is nothing to wait on but /proc.
///
/// # Panics
/// If one still runs after `within`.
pub fn wait_until_gone(pids: &[u32], within: Duration) {
    let deadline = Instant::now() + within;
    while let Some(pid) = pids.iter().find(|&&pid| runs(pid)) {
        assert!(
            Instant::now() < deadline,
            "process {pid} still runs after {within:?}"
        );
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// The updates that the newest checkpoint in `run` has behind it.
#[must_use]
pub fn newest_checkpoint(run: &Path) -> Option<u64> {
    let files = fs::read_dir(run.join("checkpoints")).ok()?.flatten();
    let numbers = files.filter_map(|file| {
        let name = file.file_name();
        let number = name.to_str()?.strip_prefix("checkpoint-")?;
        number.strip_suffix(".ckpt")?.parse().ok()
    });
    numbers.max()
}

/// Asserts that a run that ended in order has a checkpoint of its very last update, unless it was to write none.
///
/// # Panics
/// If its newest one is older.
pub fn assert_newest_is_last(run: &Path) {
    let read = |name: &str| {
        let text = fs::read_to_string(run.join(name));
        text.unwrap_or_else(|error| panic!("no {name} in {run:?} ({error})"))
    };
    let config: toml::Table = read("config.toml").parse().expect("TOML");
    let policy: Value = serde_json::from_str(&read("policy.json")).expect("JSON");
    let last = policy["policy_version"].as_u64();
    if config["checkpoint"]["enabled"].as_bool() == Some(true) && last > Some(0) {
        assert_eq!(
            newest_checkpoint(run),
            last,
            "the newest checkpoint of {run:?}"
        );
    }
}

/// Asserts that every unroll is accounted for, exactly.
///
/// # Panics
/// If a term is missing or an identity does not hold.
pub fn assert_ledger_closes(summary: &Value) {
    let ledger = &summary["ledger"];
    let term = |name: &str| {
        ledger[name]
            .as_u64()
            .unwrap_or_else(|| panic!("the ledger lacks {name}: {ledger}"))
    };
    assert_eq!(
        term("produced"),
        term("admitted") + term("rejected") + term("lost"),
        "{ledger}"
    );
    assert_eq!(
        term("admitted"),
        term("trained") + term("expired") + term("evicted") + term("discarded") + term("queued"),
        "{ledger}"
    );
}
