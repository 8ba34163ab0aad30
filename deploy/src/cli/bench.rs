//! The command line of `springbok bench`.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, parser::ValueSource, value_parser};

use super::{Command, configured, json, layers};
use crate::verbs::{Bench, Soak};

/// `bench` and what it can measure.
pub(super) fn verb() -> Clap {
    let environment = configured(
        Clap::new("environment")
            .about("Step environments with random actions, without policy and learner"),
    )
    .arg(
        Arg::new("id")
            .value_name("ID")
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
    Clap::new("bench")
        .about("Measure parts of the system on their own")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(environment)
        .subcommand(soak())
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
    let (part, matches) = matches.subcommand()?;
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
