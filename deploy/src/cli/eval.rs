//! The arguments of `springbok eval`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};

use super::{Command, json, path};
use crate::verbs::Eval;

pub(super) fn verb() -> Clap {
    Clap::new("eval")
        .about("Play a run's policy, by its most probable actions and by sampling, and report the returns")
        .arg(
            Arg::new("run-directory")
                .value_name("RUN_DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Directory of the run"),
        )
        .arg(
            Arg::new("episodes")
                .long("episodes")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help(
                    "Episodes for each way to play [default: 100; 1 with --record; until Ctrl-C with --watch alone]",
                ),
        )
        .arg(
            Arg::new("greedy")
                .long("greedy")
                .action(ArgAction::SetTrue)
                .help("Play the most probable actions only; otherwise both ways, and sampled actions are shown"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("S")
                .default_value("1")
                .value_parser(value_parser!(u64))
                .help("Seed of the environments and of sampling; never that of an actor of any run"),
        )
        .arg(
            json("Print one JSON object on stdout, and nothing else there").conflicts_with("watch"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .action(ArgAction::SetTrue)
                .help("Draw one environment in the terminal, which needs 24-bit colour"),
        )
        .arg(path("record", "FILE").help(
            "Record one environment as FILE: an animated .gif, or an .mp4 if ffmpeg is installed",
        ))
        .arg(
            Arg::new("fps")
                .long("fps")
                .value_name("N")
                .default_value("30")
                .value_parser(value_parser!(u32).range(1..=1000))
                .help("Steps shown and recorded per second; viewers show a .gif at 50 at most"),
        )
}

pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    Some(Command::Eval(Eval {
        run_directory: matches.get_one("run-directory").cloned()?,
        episodes: matches.get_one("episodes").copied(),
        greedy: matches.get_flag("greedy"),
        seed: matches.get_one("seed").copied()?,
        json: matches.get_flag("json"),
        watch: matches.get_flag("watch"),
        record: matches.get_one("record").cloned(),
        fps: matches.get_one("fps").copied()?,
    }))
}
