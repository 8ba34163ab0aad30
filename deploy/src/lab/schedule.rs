//! Runs the cells of a grid, a few at a time, each as a `springbok train` of its own.
//!
//! As the launcher does with its children, each run is in a process group of its own, so that Ctrl-C reaches only the
//! laboratory, and holds a pipe from it as stdin: closing it asks for a drain, and the kernel closes it too if the
//! laboratory dies.

use std::{collections::VecDeque, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{ChildStderr, Command},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    exit::{Exit, Failure},
    shutdown::{GRACE, Interrupts},
};

/// How often the progress of the runs is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A run may take its own grace period to drain, and a little more to kill what did not.
const DRAIN_MAX: Duration = GRACE.saturating_add(Duration::from_secs(5));
/// Lines of a run's stderr that are kept for the message of a failure.
const LINES_KEPT: usize = 40;

/// One run to make.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Place among the cells of the grid.
    pub(crate) cell: usize,
    /// Name of the cell.
    pub(crate) name: String,
    /// Its configuration.
    pub(crate) config: PathBuf,
    /// The directory that will hold the run's directory.
    pub(crate) out: PathBuf,
}

/// What happens to the runs.
#[derive(Debug)]
pub(crate) enum Happening<'a> {
    /// Time to look how far the running ones are.
    Look(&'a [Job]),
    /// A run has ended by itself, well or with the sentence that says why not.
    Ended(&'a Job, Result<(), String>),
    /// Asked to stop: no further run is started, and the running ones drain.
    Interrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Killing,
}

/// Runs `jobs`, at most `jobs_max` at a time, and tells `on` what happens. Says whether all were run; if not, an
/// interrupt came first, and the runs that were under way then are told of nowhere.
///
/// # Errors
/// Exit 130 at a second interrupt; whatever `on` fails with, after the running ones have drained.
pub(crate) async fn run(
    jobs: Vec<Job>,
    jobs_max: usize,
    mut on: impl FnMut(Happening) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let executable = std::env::current_exe().map_err(|error| {
        Failure::internal(format!("cannot find this program's own file: {error}"))
    })?;
    let mut interrupts = Interrupts::listen()?;
    let (phase, _) = watch::channel(Phase::Running);
    let mut waiting = VecDeque::from(jobs);
    let mut running: Vec<Job> = Vec::new();
    let mut tasks = JoinSet::new();
    let mut failure = None;
    let mut deadline = None;
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        while *phase.borrow() == Phase::Running && running.len() < jobs_max {
            let Some(job) = waiting.pop_front() else {
                break;
            };
            let command = command(&executable, &job);
            let (cell, phase) = (job.cell, phase.subscribe());
            tasks.spawn(async move { (cell, child(command, phase).await) });
            running.push(job);
        }
        if running.is_empty() {
            break;
        }
        let told = tokio::select! {
            Some(ended) = tasks.join_next() => {
                let (cell, end) = ended.map_err(Failure::internal)?;
                match running.iter().position(|job| job.cell == cell) {
                    Some(at) if *phase.borrow() == Phase::Running => {
                        on(Happening::Ended(&running.remove(at), end))
                    }
                    Some(at) => {
                        running.remove(at);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            () = interrupts.next() => {
                if *phase.borrow() == Phase::Running {
                    phase.send_replace(Phase::Draining);
                    deadline = Some(Instant::now() + DRAIN_MAX);
                    on(Happening::Interrupted)
                } else {
                    phase.send_replace(Phase::Killing);
                    Err(Failure::new(Exit::Interrupted, "interrupted twice: stopped without draining"))
                }
            }
            () = until(deadline) => {
                deadline = None;
                phase.send_replace(Phase::Killing);
                Ok(())
            }
            _ = look.tick() => on(Happening::Look(&running)),
        };
        if let Err(fault) = told {
            failure.get_or_insert(fault);
        }
        if failure.is_some() && *phase.borrow() == Phase::Running {
            phase.send_replace(Phase::Draining);
            deadline = Some(Instant::now() + DRAIN_MAX);
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(*phase.borrow() == Phase::Running),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn command(executable: &PathBuf, job: &Job) -> Command {
    let mut command = Command::new(executable);
    command
        .args(["train", "--supervised", "--json", "--no-progress"])
        .arg("--config")
        .arg(&job.config)
        .arg("--out")
        .arg(&job.out)
        .args(["--name", &job.name])
        .stdin(Stdio::piped())
        // The summary is a file in the run directory too.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // These are in the cell's configuration already, below what distinguishes the cell.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("SPRINGBOK__"))
        {
            command.env_remove(name);
        }
    }
    #[cfg(unix)]
    command.process_group(0);
    command
}

/// Runs one training to its end.
async fn child(mut command: Command, mut phase: watch::Receiver<Phase>) -> Result<(), String> {
    let mut process = command
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut stdin = process.stdin.take();
    let words = process.stderr.take().map(last_words);
    let status = loop {
        match *phase.borrow_and_update() {
            Phase::Running => {}
            Phase::Draining => stdin = None,
            Phase::Killing => {
                stdin = None;
                // An error here means that it has ended by itself.
                let _ = process.start_kill();
            }
        }
        tokio::select! {
            status = process.wait() => break status,
            changed = phase.changed() => if changed.is_err() {
                return Err("nobody waits for it any more".to_owned());
            },
        }
    };
    drop(stdin);
    let status = status.map_err(|error| format!("cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = match words {
        Some(words) => words.await.unwrap_or_default(),
        None => String::new(),
    };
    Err(if said.is_empty() {
        status.to_string()
    } else {
        said
    })
}

/// Reads stderr to its end; what remains is the last complaint of this program, or else the last line.
fn last_words(stderr: ChildStderr) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut kept: VecDeque<String> = VecDeque::new();
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            if !line.trim().is_empty() {
                kept.push_back(line);
            }
        }
        complaint(&Vec::from(kept))
    })
}

fn complaint(lines: &[String]) -> String {
    let begin = lines
        .iter()
        .rposition(|line| line.starts_with("springbok: "))
        .unwrap_or(lines.len().saturating_sub(1));
    let text = lines[begin..].iter().map(|line| line.trim());
    let text: Vec<&str> = text.collect();
    text.join(" ").trim_start_matches("springbok: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_kept_whole_and_without_what_came_before() {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        assert_eq!(
            complaint(&lines(
                "warning\nspringbok: there are 2 faults:\n  - a\n  - b"
            )),
            "there are 2 faults: - a - b"
        );
        assert_eq!(complaint(&lines("thread panicked\nat here")), "at here");
        assert_eq!(complaint(&[]), "");
    }
}
