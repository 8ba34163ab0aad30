//! The command line. A flag that stands for a key of the configuration takes its help from that key, so the two
//! cannot drift apart; its value goes through the same checks as the key's.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};
use springbok_common::config::KEYS;

mod bench;
mod config;
mod envs;
mod eval;
mod keys;
mod lab;
mod manual;
mod resume;
mod security;
mod status;

pub(crate) use resume::Resume;

use self::security::Side;
use crate::verbs::{Bench, Eval, Keys, Lab, Manual, Soak, Status, Suite, Thoroughness};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// A learner and its actors on this machine.
    Train {
        /// Where the configuration comes from.
        layers: Layers,
        /// How to report.
        reports: Reports,
        /// The run to go on with.
        resume: Option<Resume>,
        /// Whether to show the run on the whole screen.
        ui: bool,
        /// Set if a laboratory started this process: the end of stdin is an interrupt.
        supervised: bool,
    },
    /// The learner alone.
    Learner {
        /// Where the configuration comes from.
        layers: Layers,
        /// How to report.
        reports: Reports,
        /// The run to go on with.
        resume: Option<Resume>,
        /// Set if a launcher started this process.
        supervised: bool,
        /// The run directory that the launcher made.
        run_directory: Option<PathBuf>,
    },
    /// An actor alone.
    Actor {
        /// Where the configuration comes from.
        layers: Layers,
        /// URL of the learner.
        learner: String,
        /// Set if a launcher started this process.
        supervised: bool,
        /// Place among the launcher's actors.
        index: Option<u32>,
    },
    /// Plays a trained policy.
    Eval(Eval),
    /// Trains a grid of runs.
    Lab(Box<Lab>),
    /// Writes the report of a grid, a run, or several.
    Report {
        /// Where they are.
        directories: Vec<PathBuf>,
        /// Where it goes.
        out: Option<PathBuf>,
    },
    /// Shows a running learner.
    Status(Status),
    /// Measures stages beside their ceilings.
    Bench {
        /// Where the configuration comes from.
        layers: Layers,
        /// Which, and how.
        suite: Suite,
    },
    /// Records unrolls.
    BenchRecord {
        /// Where the configuration comes from.
        layers: Layers,
        /// Where they go.
        path: PathBuf,
        /// How many.
        unrolls: usize,
    },
    /// Measures how fast environments are stepped.
    BenchEnvironment {
        /// Where the configuration comes from.
        layers: Layers,
        /// How to measure.
        bench: Bench,
    },
    /// Runs for long while actors die and come back, and measures memory and pace.
    BenchSoak {
        /// Where the configuration comes from.
        layers: Layers,
        /// How to soak.
        soak: Soak,
    },
    /// Makes certificates and a token.
    Keys(Keys),
    /// Lists the environments.
    Envs {
        /// Whether to print JSON.
        json: bool,
    },
    /// Checks an environment against its contract.
    EnvsCheck {
        /// Where the configuration comes from; it names the environment too.
        layers: Layers,
        /// How thoroughly.
        thoroughness: Thoroughness,
        /// Whether to print JSON.
        json: bool,
    },
    /// Prints the effective configuration.
    ConfigPrint {
        /// Where the configuration comes from.
        layers: Layers,
        /// Whether to print a file that can be loaded again, without the origins.
        toml: bool,
    },
    /// Lists all faults of the configuration.
    ConfigCheck {
        /// Where the configuration comes from.
        layers: Layers,
    },
    /// Prints or writes what is made of this program's own definitions.
    Manual(Manual),
}

/// Where the configuration comes from, besides defaults and environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    /// The TOML file.
    pub(crate) file: Option<PathBuf>,
    /// `--set` in the order given, then the flags that stand for keys, all as `section.key=value`: the last one wins.
    pub(crate) sets: Vec<String>,
}

impl Layers {
    /// Gives `command`, another process of this program, the same.
    pub(crate) fn hand_on(&self, command: &mut std::process::Command) {
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        for set in &self.sets {
            command.args(["--set", set]);
        }
    }
}

/// How a run is reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reports {
    /// Whether progress goes to stderr.
    pub(crate) progress: bool,
    /// Whether the summary is a JSON object instead of words.
    pub(crate) json: bool,
}

/// A flag that stands for a key.
struct Flag {
    long: &'static str,
    value_name: &'static str,
    key: &'static str,
}

const fn flag(long: &'static str, value_name: &'static str, key: &'static str) -> Flag {
    Flag {
        long,
        value_name,
        key,
    }
}

/// Flags of every verb that reads a configuration.
const COMMON_FLAGS: [Flag; 1] = [flag("log-format", "text|json", "telemetry.log_format")];
const OTLP_FLAG: Flag = flag("otlp", "URL", "telemetry.otlp_endpoint");
/// Flags of the verbs that train.
const TRAINING_FLAGS: [Flag; 10] = [
    flag("env", "ID", "environment.id"),
    flag("envs-per-actor", "K", "actor.environments_per_actor"),
    flag("total-steps", "N", "run.total_steps"),
    flag("stop-return", "X", "run.stop_return"),
    flag("seed", "S", "run.seed"),
    flag("device", "auto|cpu|gpu", "learner.device"),
    flag("out", "DIR", "run.out"),
    flag("name", "NAME", "run.name"),
    flag("http", "ADDRESS", "telemetry.http"),
    OTLP_FLAG,
];
const LAG_FLAGS: [Flag; 5] = [
    flag(
        "lag",
        "none|fixed:8|uniform:0..16|per-actor:0,4",
        "lag.inject",
    ),
    flag("inference", "local|central", "actor.inference"),
    flag("lag-max", "N", "lag.max_versions"),
    flag("target-lag", "VERSIONS", "lag.target_lag"),
    flag("target-ess", "SHARE", "lag.target_ess"),
];
/// Flags without a value: each sets its key to true.
const SWITCHES: [Flag; 2] = [
    flag("deterministic", "", "run.deterministic"),
    flag("tensorboard", "", "telemetry.tensorboard"),
];
const ACTORS_FLAG: Flag = flag("actors", "N", "actor.count");
const LISTEN_FLAG: Flag = flag("listen", "ADDRESS", "learner.listen");

/// Parses a command line, its first word being the program's name.
///
/// # Errors
/// A usage fault; or help or version, which clap treats alike.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let matches = program().try_get_matches_from(arguments)?;
    // clap has asked for a verb and for all that a verb requires; so this error stands for a fault of this file.
    command(&matches).ok_or_else(|| {
        program().error(
            clap::error::ErrorKind::MissingSubcommand,
            "incomplete command",
        )
    })
}

/// The definition of the whole command line.
pub(crate) fn program() -> Clap {
    Clap::new("springbok")
        .about("Distributed actor-learner reinforcement learning, and a laboratory for policy lag")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Exit codes: 0 done or drained; 64 usage or configuration; 69 peer unavailable; \
             70 internal; 74 files; 130 second interrupt",
        )
        .subcommand(
            training_verb(
                "train",
                "Train on this machine: a learner and its actors, each a process of its own",
            )
            .args([arg(&ACTORS_FLAG), arg(&LISTEN_FLAG)])
            .arg(
                Arg::new("ui")
                    .long("ui")
                    .action(ArgAction::SetTrue)
                    .conflicts_with("no-progress")
                    .help(
                        "Show the run on the whole screen of the terminal; q stops it, ? explains",
                    ),
            )
            .arg(supervised().conflicts_with("ui")),
        )
        .subcommand(
            training_verb("learner", "Run the learner alone; actors connect to it")
                .arg(arg(&LISTEN_FLAG))
                .arg(supervised())
                .arg(
                    path("run-directory", "DIR")
                        .hide(true)
                        .requires("supervised"),
                ),
        )
        .subcommand(actor_verb())
        .subcommand(eval::verb())
        .subcommand(lab::verb())
        .subcommand(lab::report_verb())
        .subcommand(status::verb())
        .subcommand(envs::verb())
        .subcommand(bench::verb())
        .subcommand(keys::verb())
        .subcommand(config::verb())
        .subcommands(manual::verbs())
}

fn training_verb(name: &'static str, about: &'static str) -> Clap {
    configured(Clap::new(name).about(about))
        .args(TRAINING_FLAGS.iter().chain(&LAG_FLAGS).map(arg))
        .args(SWITCHES.iter().map(switch))
        .args(resume::arguments())
        .args(security::learner_arguments())
        .arg(
            Arg::new("no-progress")
                .long("no-progress")
                .action(ArgAction::SetTrue)
                .help("Report no progress on stderr"),
        )
        .arg(json(
            "Print the summary as one JSON object on stdout, and nothing else there",
        ))
}

fn actor_verb() -> Clap {
    configured(Clap::new("actor").about("Run an actor alone; it joins a learner"))
        .arg(
            Arg::new("learner")
                .long("learner")
                .value_name("URL")
                .required(true)
                .help(
                    "Address of the learner, such as http://127.0.0.1:5005, https://learner:5005 or unix:/run/learner",
                ),
        )
        .args(security::actor_arguments())
        .arg(arg(&flag("env", "ID", "environment.id")).help(
            "Join only a learner that plays this environment [default: whatever the learner plays]",
        ))
        .arg(arg(&OTLP_FLAG))
        .arg(supervised())
        .arg(
            Arg::new("index")
                .long("index")
                .value_parser(value_parser!(u32))
                .hide(true),
        )
}

/// Adds the arguments that every verb with a configuration has.
fn configured(verb: Clap) -> Clap {
    verb.arg(path("config", "FILE").help("Configuration in TOML"))
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("SECTION.KEY=VALUE")
                .action(ArgAction::Append)
                .help("Set any key of the configuration; see `springbok config print`"),
        )
        .args(COMMON_FLAGS.iter().map(arg))
}

/// The argument for a flag, with the documentation of its key.
fn arg(flag: &Flag) -> Arg {
    let help = KEYS.iter().find(|key| key.path == flag.key).map_or_else(
        || format!("[key: {}]", flag.key),
        |key| {
            format!(
                "{} [key: {}] [default: {}]",
                key.doc.trim_end_matches('.'),
                key.path,
                key.default
            )
        },
    );
    Arg::new(flag.long)
        .long(flag.long)
        .value_name(flag.value_name)
        .allow_negative_numbers(true)
        .help(help)
}

/// The argument for a flag without a value.
fn switch(flag: &Flag) -> Arg {
    arg(flag)
        .value_name(None::<&str>)
        .allow_negative_numbers(false)
        .action(ArgAction::SetTrue)
}

fn path(long: &'static str, value_name: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .value_name(value_name)
        .value_parser(value_parser!(PathBuf))
}

fn json(help: &'static str) -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help(help)
}

fn supervised() -> Arg {
    Arg::new("supervised")
        .long("supervised")
        .action(ArgAction::SetTrue)
        .hide(true)
}

fn command(matches: &ArgMatches) -> Option<Command> {
    let (verb, matches) = matches.subcommand()?;
    Some(match verb {
        "train" => Command::Train {
            layers: layers(matches),
            reports: reports(matches),
            resume: resume::of(matches),
            ui: matches.get_flag("ui"),
            supervised: matches.get_flag("supervised"),
        },
        "learner" => Command::Learner {
            layers: layers(matches),
            reports: reports(matches),
            resume: resume::of(matches),
            supervised: matches.get_flag("supervised"),
            run_directory: matches.get_one("run-directory").cloned(),
        },
        "actor" => Command::Actor {
            layers: layers_of(matches, Side::Actor),
            learner: matches.get_one("learner").cloned()?,
            supervised: matches.get_flag("supervised"),
            index: matches.get_one("index").copied(),
        },
        "keys" => keys::command(matches)?,
        "eval" => eval::command(matches)?,
        "lab" => lab::command(matches)?,
        "report" => lab::report_command(matches)?,
        "status" => status::command(matches)?,
        "envs" => envs::command(matches)?,
        "bench" => bench::command(matches)?,
        "config" => match matches.subcommand()? {
            ("print", matches) => Command::ConfigPrint {
                layers: layers(matches),
                toml: matches.get_one::<String>("format")? == "toml",
            },
            (_, matches) => Command::ConfigCheck {
                layers: layers(matches),
            },
        },
        "completions" | "man" | "reference" => manual::command(verb, matches)?,
        _ => return None,
    })
}

fn reports(matches: &ArgMatches) -> Reports {
    Reports {
        progress: !matches.get_flag("no-progress"),
        json: matches.get_flag("json"),
    }
}

fn layers(matches: &ArgMatches) -> Layers {
    layers_of(matches, Side::Learner)
}

fn layers_of(matches: &ArgMatches, side: Side) -> Layers {
    let mut layers = Layers {
        file: matches.get_one("config").cloned(),
        ..Layers::default()
    };
    if layers.file.is_none() {
        layers.file = resume::configuration(matches);
    }
    // Below what is set one by one.
    layers.sets.extend(security::sets_of_keys(matches, side));
    let sets = matches.get_many::<String>("set");
    layers.sets.extend(sets.into_iter().flatten().cloned());
    let flags = COMMON_FLAGS
        .iter()
        .chain(&TRAINING_FLAGS)
        .chain(&LAG_FLAGS)
        .chain([&ACTORS_FLAG, &LISTEN_FLAG]);
    for flag in flags {
        // A verb that lacks the flag knows nothing of its name.
        if let Ok(Some(value)) = matches.try_get_one::<String>(flag.long) {
            layers.sets.push(format!("{}={value}", flag.key));
        }
    }
    for flag in &SWITCHES {
        if let Ok(Some(true)) = matches.try_get_one::<bool>(flag.long) {
            layers.sets.push(format!("{}=true", flag.key));
        }
    }
    layers.sets.extend(security::sets(matches, side));
    layers
}

#[cfg(test)]
mod tests;
