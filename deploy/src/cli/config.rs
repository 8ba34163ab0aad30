//! The command line of `springbok config`.

use clap::{Arg, Command as Clap, builder::PossibleValuesParser};

use super::{
    ACTORS_FLAG, LAG_FLAGS, LISTEN_FLAG, SWITCHES, TRAINING_FLAGS, arg, configured, security,
    switch,
};

pub(super) fn verb() -> Clap {
    let all_flags = |name: &'static str, about: &'static str| {
        configured(Clap::new(name).about(about))
            .args(TRAINING_FLAGS.iter().chain(&LAG_FLAGS).map(arg))
            .args([arg(&ACTORS_FLAG), arg(&LISTEN_FLAG)])
            .args(SWITCHES.iter().map(switch))
            .args(security::learner_arguments())
    };
    Clap::new("config")
        .about("Show or check the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            all_flags(
                "print",
                "Print every effective value and where it came from",
            )
            .arg(
                Arg::new("format")
                    .long("format")
                    .value_name("FORMAT")
                    .default_value("origins")
                    .value_parser(PossibleValuesParser::new(["origins", "toml"]))
                    .help("toml prints a file that can be loaded again"),
            ),
        )
        .subcommand(all_flags(
            "check",
            "List all faults, or say ok and predict the lag",
        ))
}
