//! The command line of `springbok bench`.

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};

use super::{Command, configured, json, layers};
use crate::verbs::Bench;

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
}

/// What a command line of `bench` asks for.
pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let (_, matches) = matches.subcommand()?;
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
