//! `springbok bench`: every stage of the system alone and all of them together, each beside a bare loop of the same
//! work. Numbers of different machines, or hours, say little; the ratio of two loops that ran in turns says much.

mod arithmetic;
mod bare;
mod crowd;
mod encode;
mod environment;
mod intake;
mod learner;
mod machine;
mod null_learner;
mod printed;
mod processes;
mod record;
mod rollout;
mod runner;
mod scripted;
mod snapshot;
mod stage;
mod stepping;
mod subject;
mod transport;
mod whole;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use springbok_actor::environment::Registry;

pub(crate) use self::stepping::Bench;
use self::{
    printed::{Report, Settings},
    runner::{Pace, Row},
    stage::Cases,
    subject::Subject,
};
pub(super) use self::{record::run as record, stepping::run as step};
use super::config;
use crate::{
    cli::Layers,
    exit::{Exit, Failure},
    output, shutdown,
};

/// A stage of the system.
struct Entry {
    name: &'static str,
    /// Whether its process computes with one thread, as an actor does.
    is_actor: bool,
    make: fn(&Subject) -> Cases,
}

const fn entry(name: &'static str, is_actor: bool, make: fn(&Subject) -> Cases) -> Entry {
    Entry {
        name,
        is_actor,
        make,
    }
}

/// In the order of an unroll's way.
const ENTRIES: [Entry; 9] = [
    entry("environment", true, environment::cases),
    entry("rollout", true, rollout::cases),
    entry("encode", true, encode::cases),
    entry("transport", false, transport::cases),
    entry("intake", false, intake::cases),
    entry("learner", false, learner::cases),
    entry("snapshot", false, snapshot::cases),
    entry("whole", false, whole::cases),
    entry("scaling", false, whole::scaling),
];

/// Names of the stages.
pub(crate) const STAGES: [&str; ENTRIES.len()] = {
    let mut names = [""; ENTRIES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = ENTRIES[index].name;
        index += 1;
    }
    names
};

/// What to measure, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suite {
    /// The stages; all if there is none.
    pub(crate) stages: Vec<String>,
    /// Whether this process measures the one stage itself, and prints its rows for the process that started it.
    pub(crate) alone: bool,
    /// Seconds of one slice; the usual if absent.
    pub(crate) seconds: Option<f64>,
    /// Rounds of slices; the usual if absent.
    pub(crate) rounds: Option<u32>,
    /// Whether all is to be over within a minute.
    pub(crate) quick: bool,
    /// Unrolls that `bench record` wrote, to train on.
    pub(crate) recording: Option<PathBuf>,
    /// Whether to print one JSON object and nothing else.
    pub(crate) json: bool,
}

/// Measures and prints.
pub(super) fn run(layers: &Layers, suite: &Suite, registry: &Arc<Registry>) -> Result<(), Failure> {
    let (config, environment) = config::playable(layers, registry)?;
    let pace = Pace::of(suite);
    let subject = Subject::new(
        config,
        environment,
        Arc::clone(registry),
        pace,
        suite,
        layers,
    )?;
    let is_wanted = |entry: &&Entry| {
        suite.stages.is_empty() || suite.stages.iter().any(|name| name == entry.name)
    };
    let wanted: Vec<&Entry> = ENTRIES.iter().filter(is_wanted).collect();
    if suite.alone {
        // If the process that asked for it dies, nobody waits for the rows.
        let _token = shutdown::token_of_stdin();
        let mut rows = Vec::new();
        for entry in wanted {
            rows.extend(measure(entry, &subject)?);
        }
        output::json(&rows);
        return Ok(());
    }
    let machine = machine::look();
    let mut rows = Vec::new();
    for entry in wanted {
        output::notice(&format!("measuring {} ...", entry.name));
        rows.extend(apart(layers, suite, entry)?);
    }
    let report = Report {
        machine,
        settings: Settings::of(&subject),
        rows,
    };
    printed::print(&report, suite.json);
    Ok(())
}

/// All cases of a stage, one after the other.
fn measure(entry: &Entry, subject: &Subject) -> Result<Vec<Row>, Failure> {
    let cases = (entry.make)(subject)?;
    cases
        .into_iter()
        .map(|mut case| runner::measure(entry.name, case.as_mut(), &subject.pace))
        .collect()
}

/// The same in a process of its own: no stage finds the memory, the threads or the caches that another left behind.
fn apart(layers: &Layers, suite: &Suite, entry: &Entry) -> Result<Vec<Row>, Failure> {
    let executable = std::env::current_exe().map_err(Failure::internal)?;
    let mut command = Command::new(executable);
    command.args(["bench", "--alone", "--json"]);
    layers.hand_on(&mut command);
    if suite.quick {
        command.arg("--quick");
    }
    let pace = Pace::of(suite);
    command
        .args(["--seconds", &pace.slice.as_secs_f64().to_string()])
        .args(["--rounds", &pace.rounds.to_string()]);
    if let Some(recording) = &suite.recording {
        command.arg("--recording").arg(recording);
    }
    if entry.is_actor && std::env::var_os("RAYON_NUM_THREADS").is_none() {
        command.env("RAYON_NUM_THREADS", "1");
    }
    let mut child = command
        .arg("--stage")
        .arg(entry.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Failure::internal(format!("cannot start the stage {}: {error}", entry.name))
        })?;
    // Held open for as long as it works: it ends with its stdin.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().map_err(Failure::internal)?;
    drop(stdin);
    let Some(0) = output.status.code() else {
        let code = output
            .status
            .code()
            .and_then(|code| u8::try_from(code).ok());
        let exit = code.map_or(Exit::Internal, Exit::Passed);
        return Err(Failure::new(
            exit,
            format!("the stage {} was not measured", entry.name),
        ));
    };
    serde_json::from_slice(&output.stdout).map_err(Failure::internal)
}
