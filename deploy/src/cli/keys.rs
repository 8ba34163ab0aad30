//! The command line of `springbok keys`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};

use super::{Command, path};
use crate::verbs::Keys;

/// Longer-lived certificates are for a real authority.
const DAYS_MAX: i64 = 365;

pub(super) fn verb() -> Clap {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Clap::new("keys")
        .about("Make a certificate authority, certificates for learner and actors, and a token")
        .arg(
            path("out", "DIR")
                .default_value("keys")
                .help("Directory to make them in; only its owner can read it"),
        )
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("Name or IP address at which actors find the learner, besides this machine's own loopback"),
        )
        .arg(
            Arg::new("actor")
                .long("actor")
                .value_name("LABEL")
                .action(ArgAction::Append)
                .help("Make a certificate for a machine with actors under this name, which the learner's log shows [default: actor]"),
        )
        .arg(
            Arg::new("days")
                .long("days")
                .value_name("N")
                .default_value("1")
                .value_parser(value_parser!(i64).range(1..=DAYS_MAX))
                .help("Days until the certificates of learner and actors expire"),
        )
        .arg(flag(
            "renew",
            "Make new certificates under the authority that is there; the token stays",
        ))
        .arg(flag("force", "Replace everything that is there").conflicts_with("renew"))
}

pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let all = |name: &str| -> Vec<String> {
        let values = matches.get_many::<String>(name);
        values.into_iter().flatten().cloned().collect()
    };
    Some(Command::Keys(Keys {
        directory: matches.get_one::<PathBuf>("out").cloned()?,
        hosts: all("host"),
        actors: all("actor"),
        days: *matches.get_one("days")?,
        renew: matches.get_flag("renew"),
        force: matches.get_flag("force"),
    }))
}
