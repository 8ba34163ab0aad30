//! The arguments of `springbok status`.

use clap::{Arg, ArgAction, ArgMatches, Command as Clap};

use super::{Command, json, path};
use crate::verbs::{Status, StatusTarget};

pub(super) fn verb() -> Clap {
    Clap::new("status")
        .about("Show how a running learner is doing")
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required_unless_present("learner")
                .help("What the learner was given as --http, such as http://127.0.0.1:9090"),
        )
        .arg(
            Arg::new("learner")
                .long("learner")
                .value_name("URL")
                .conflicts_with("url")
                .requires("probe")
                .help("Where its actors connect, such as http://127.0.0.1:5005: only for --probe"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .action(ArgAction::SetTrue)
                .help("Show it again every second, until the run has ended"),
        )
        .arg(
            Arg::new("ui")
                .long("ui")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["watch", "json"])
                .help("Show it on the whole screen, with charts, until q is pressed or the run has ended"),
        )
        .arg(
            Arg::new("probe")
                .long("probe")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["watch", "json", "ui"])
                .help("Only say whether it serves actors: exit code 0 or 69, for container health checks"),
        )
        .arg(
            path("token-file", "FILE")
                .help("Token to show, the first of this file, if the learner asks for one [default: that of SPRINGBOK_TOKEN]"),
        )
        .arg(json("Print JSON; with --watch, one object a line"))
}

pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let target = match matches.get_one::<String>("learner") {
        Some(learner) => StatusTarget::Learner(learner.clone()),
        None => {
            let url = matches.get_one::<String>("url").cloned()?;
            if matches.get_flag("probe") {
                StatusTarget::Health(url)
            } else {
                StatusTarget::Run(url)
            }
        }
    };
    Some(Command::Status(Status {
        target,
        watch: matches.get_flag("watch"),
        ui: matches.get_flag("ui"),
        json: matches.get_flag("json"),
        token_file: matches.get_one("token-file").cloned(),
    }))
}
