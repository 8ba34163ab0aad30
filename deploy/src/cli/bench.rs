//! The command line of `springbok bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, parser::ValueSource, value_parser};

use super::{Command, TRAINING_FLAGS, arg, configured, json, layers, path};
use crate::verbs::{Bench, STAGES, Soak, Suite};

/// `bench` and what it can measure.
pub(super) fn verb() -> Clap {
    let environment = configured(
        Clap::new("environment")
            .about("Step environments with random actions, without policy and learner"),
    )
    .arg(
        Arg::new("id")
            .value_name("ID")
            .value_parser(environment_id)
            .help("The environment [default: that of the configuration]"),
    )
    .arg(
        Arg::new("environments")
            .long("environments")
            .value_name("K")
            .value_parser(value_parser!(u32).range(1..))
            .help("Environments stepped together [key: actor.environments_per_actor]"),
    )
    .arg(
        Arg::new("seconds")
            .long("seconds")
            .value_name("S")
            .default_value("6")
            .value_parser(value_parser!(u32).range(1..=3600))
            .help("Seconds to step for"),
    )
    .arg(
        Arg::new("bare")
            .long("bare")
            .action(ArgAction::SetTrue)
            .help(
                "Run the same environments in Python alone too, in alternating slices, and compare",
            ),
    )
    .arg(json(
        "Print one JSON object on stdout, and nothing else there",
    ));
    suite()
        .subcommand(environment)
        .subcommand(record())
        .subcommand(soak())
}

/// Flags of [`TRAINING_FLAGS`] that change what is measured.
const SUITE_FLAGS: [&str; 4] = ["env", "envs-per-actor", "seed", "device"];

fn suite_flags() -> Vec<Arg> {
    let flags = TRAINING_FLAGS.iter();
    let flags = flags.filter(|flag| SUITE_FLAGS.contains(&flag.long));
    flags.map(arg).collect()
}

/// All stages, or those that are named.
fn suite() -> Clap {
    configured(
        Clap::new("bench")
            .about("Measure each stage alone, all together, and each beside a bare loop of the same work"),
    )
    .args_conflicts_with_subcommands(true)
    .args(suite_flags())
    .arg(
        Arg::new("stages")
            .value_name("STAGE")
            .num_args(0..)
            .value_parser(STAGES.into_iter().chain(["all"]).collect::<Vec<_>>())
            .help("Stages to measure; `bench environment` alone says more about environments [default: all]"),
    )
    .arg(
        Arg::new("stage")
            .long("stage")
            .hide(true)
            .value_parser(STAGES.to_vec()),
    )
    .arg(
        Arg::new("alone")
            .long("alone")
            .action(ArgAction::SetTrue)
            .hide(true)
            .requires("stage"),
    )
    .arg(
        Arg::new("quick")
            .long("quick")
            .action(ArgAction::SetTrue)
            .help("Short slices of the essential cases: all is over within a minute"),
    )
    .arg(
        Arg::new("seconds")
            .long("seconds")
            .value_name("S")
            .value_parser(slice_seconds)
            .help("Seconds of one slice [default: 0.5, and 0.08 with --quick]"),
    )
    .arg(
        Arg::new("rounds")
            .long("rounds")
            .value_name("N")
            .value_parser(value_parser!(u32).range(1..=1000))
            .help("Rounds of two slices of ours and one of the ceiling [default: 7, and 3 with --quick]"),
    )
    .arg(
        path("recording", "FILE")
            .help("Train on the unrolls in this file too, which `bench record` wrote"),
    )
    .arg(json(
        "Print one JSON object on stdout, and nothing else there",
    ))
}

fn record() -> Clap {
    configured(
        Clap::new("record")
            .about("Record unrolls that the initial policy makes, for `bench learner --recording`"),
    )
    .args(suite_flags())
    .arg(
        Arg::new("file")
            .value_name("FILE")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("The file that they go to"),
    )
    .arg(
        Arg::new("unrolls")
            .long("unrolls")
            .value_name("N")
            .default_value("64")
            .value_parser(value_parser!(u32).range(1..=1_000_000))
            .help("How many"),
    )
}

/// Seconds of a slice.
/// The verb `environment` is a stage, too: a stage that comes after it was meant as one.
fn environment_id(text: &str) -> Result<String, String> {
    if STAGES.contains(&text) || text == "all" {
        return Err(format!(
            "it is a stage, not an environment; to measure both write `bench {text} environment`"
        ));
    }
    Ok(text.to_owned())
}

fn slice_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a slice has 0.001 to 3600 seconds".to_owned()),
    }
}

fn suite_command(matches: &ArgMatches) -> Command {
    let stages = matches.get_many::<String>("stages").into_iter().flatten();
    let stages = stages.chain(matches.get_one::<String>("stage"));
    let stages: Vec<String> = stages.cloned().collect();
    let all = stages.iter().any(|name| name == "all");
    Command::Bench {
        layers: layers(matches),
        suite: Suite {
            stages: if all { Vec::new() } else { stages },
            alone: matches.get_flag("alone"),
            seconds: matches.get_one("seconds").copied(),
            rounds: matches.get_one("rounds").copied(),
            quick: matches.get_flag("quick"),
            recording: matches.get_one("recording").cloned(),
            json: matches.get_flag("json"),
        },
    }
}

fn soak() -> Clap {
    let number = |name: &'static str, value_name: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value_name)
            .default_value(default)
    };
    let limit = |name, value_name, default| {
        number(name, value_name, default).value_parser(value_parser!(f64))
    };
    configured(
        Clap::new("soak")
            .about("Train for long while actors are killed and come back: does memory grow, does the pace fall?"),
    )
    .arg(
        number("seconds", "S", "600")
            .value_parser(value_parser!(u64).range(30..=86_400))
            .help("Seconds to train for"),
    )
    .arg(
        number("minutes", "M", "10")
            .value_parser(value_parser!(u64).range(1..=1440))
            .conflicts_with("seconds")
            .help("The same in minutes"),
    )
    .arg(
        number("actors", "N", "4")
            .value_parser(value_parser!(u32).range(1..))
            .help("Actors"),
    )
    .arg(
        number("kill-every", "S", "5")
            .value_parser(value_parser!(u64).range(0..=3600))
            .help("Seconds between two kills of an actor; 0 kills none"),
    )
    .arg(
        limit("memory-slope-max", "MIB/MIN", "1")
            .help("Growth of the learner's memory, in MiB a minute, beyond which the exit code is 70"),
    )
    .arg(
        limit("throughput-loss-max", "%/MIN", "2")
            .help("Loss of trained steps per second, in percent a minute, beyond which it is 70"),
    )
    .arg(json(
        "Print one JSON object on stdout, and nothing else there",
    ))
}

fn soak_command(matches: &ArgMatches) -> Option<Command> {
    let minutes = match matches.value_source("minutes") {
        Some(ValueSource::CommandLine) => matches.get_one::<u64>("minutes"),
        _ => None,
    };
    let seconds = minutes.map(|minutes| 60 * minutes);
    let seconds = seconds.or(matches.get_one::<u64>("seconds").copied())?;
    Some(Command::BenchSoak {
        layers: layers(matches),
        soak: Soak {
            time: Duration::from_secs(seconds),
            actors: *matches.get_one::<u32>("actors")? as usize,
            kill_every: Duration::from_secs(*matches.get_one::<u64>("kill-every")?),
            memory_slope_max: *matches.get_one::<f64>("memory-slope-max")?,
            throughput_loss_max: *matches.get_one::<f64>("throughput-loss-max")?,
            json: matches.get_flag("json"),
        },
    })
}

/// What a command line of `bench` asks for.
pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let Some((part, matches)) = matches.subcommand() else {
        return Some(suite_command(matches));
    };
    if part == "record" {
        return Some(Command::BenchRecord {
            layers: layers(matches),
            path: matches.get_one("file").cloned()?,
            unrolls: *matches.get_one::<u32>("unrolls")? as usize,
        });
    }
    if part == "soak" {
        return soak_command(matches);
    }
    let mut layers = layers(matches);
    if let Some(id) = matches.get_one::<String>("id") {
        layers.sets.push(format!("environment.id={id}"));
    }
    let environments = matches.get_one::<u32>("environments");
    Some(Command::BenchEnvironment {
        layers,
        bench: Bench {
            environments: environments.map(|&count| count as usize),
            seconds: f64::from(*matches.get_one::<u32>("seconds")?),
            bare: matches.get_flag("bare"),
            json: matches.get_flag("json"),
        },
    })
}
