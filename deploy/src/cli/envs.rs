//! The arguments of `springbok envs` and `springbok envs check`.

use clap::{Arg, ArgMatches, Command as Clap, value_parser};

use super::{Command, configured, json, layers};
use crate::verbs::Thoroughness;

pub(super) fn verb() -> Clap {
    Clap::new("envs")
        .about("List the environments and their spaces, or check one against its contract")
        .args_conflicts_with_subcommands(true)
        .arg(json("Print JSON"))
        .subcommand(
            configured(Clap::new("check").about(
                "Play an environment at random and check all that it promises; exit 70 if it breaks a promise",
            ))
            .arg(
                Arg::new("id")
                    .value_name("ID")
                    .required(true)
                    .help("The environment; its options are set by --set environment.options.NAME=VALUE"),
            )
            .arg(number("seeds", "10", "Seeds to begin from, 0 to N - 1"))
            .arg(number("steps", "1000", "Steps from each seed"))
            .arg(json("Print JSON")),
        )
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .default_value(default)
        .value_parser(value_parser!(u32).range(1..))
        .help(help)
}

pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let Some((_, check)) = matches.subcommand() else {
        return Some(Command::Envs {
            json: matches.get_flag("json"),
        });
    };
    let id: &String = check.get_one("id")?;
    let mut layers = layers(check);
    layers.sets.push(format!("environment.id={id}"));
    Some(Command::EnvsCheck {
        layers,
        thoroughness: Thoroughness {
            seeds: check.get_one("seeds").copied()?,
            steps: check.get_one("steps").copied()?,
        },
        json: check.get_flag("json"),
    })
}
