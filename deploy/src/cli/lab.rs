//! The arguments of `springbok lab` and `springbok report`.

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, Command as Clap, builder::PossibleValuesParser, value_parser,
};

use super::{
    ACTORS_FLAG, Command, LAG_FLAGS, SWITCHES, TRAINING_FLAGS, arg, configured, json, layers, path,
    reports, switch,
};
use crate::{lab::preset::PRESETS, verbs::Lab};

/// `lab`.
pub(super) fn verb() -> Clap {
    let training = TRAINING_FLAGS
        .iter()
        .filter(|flag| !matches!(flag.long, "out" | "name"));
    configured(Clap::new("lab"))
        .about("Train a grid of runs, and report throughput and return against policy lag")
        .after_help(presets())
        .arg(many("sweep", "KEY=VALUE,VALUE").help(
            "Vary a key of the configuration; `lag` is short for lag.inject, and lag=8 means fixed:8. \
             Separate values that have commas in them with `;`",
        ))
        .arg(many("variant", "NAME:KEY=VALUE,KEY=VALUE").help(
            "Vary several keys together, under a name; once for each variant",
        ))
        .arg(
            Arg::new("preset")
                .long("preset")
                .value_name("NAME")
                .value_parser(PossibleValuesParser::new(PRESETS.map(|preset| preset.name)))
                .help("Begin with an experiment that comes with the program; what else is given adds to it or wins over it"),
        )
        .arg(
            Arg::new("seeds")
                .long("seeds")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("Runs of each combination, with seeds from --seed on [default: 1, or the preset's]"),
        )
        .arg(
            Arg::new("jobs")
                .long("jobs")
                .value_name("N")
                .default_value("1")
                .value_parser(value_parser!(u16).range(1..=64))
                .help("Runs at the same time; more than one disturb each other's throughput and lag"),
        )
        .arg(
            path("out", "DIR")
                .required_unless_present("dry-run")
                .help("Directory of rows, report and runs; what is finished there already is not run again"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Check every run's configuration, print the plan, and run nothing"),
        )
        .args(training.map(arg))
        .args(LAG_FLAGS.iter().chain([&ACTORS_FLAG]).map(arg))
        .args(SWITCHES.iter().map(switch))
        .arg(
            Arg::new("no-progress")
                .long("no-progress")
                .action(ArgAction::SetTrue)
                .help("Report no progress on stderr"),
        )
        .arg(json("Print one JSON object on stdout, and nothing else there"))
}

/// `report`.
pub(super) fn report_verb() -> Clap {
    Clap::new("report")
        .about("Write report.html and plots/ for a grid of `lab`, for one run, or for several runs beside each other")
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Directory of a run or a grid; several are compared"),
        )
        .arg(path("out", "DIR").help(
            "Where the report goes [default: into the directory of the one grid or run, or `comparison` for several]",
        ))
}

fn many(long: &'static str, value_name: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .value_name(value_name)
        .action(ArgAction::Append)
}

fn presets() -> String {
    let mut text = "Presets (--dry-run prints what they stand for):".to_owned();
    for preset in &PRESETS {
        text.push_str(&format!("\n  {:13} {}", preset.name, preset.question));
    }
    text
}

pub(super) fn command(matches: &ArgMatches) -> Option<Command> {
    let texts = |name: &str| -> Vec<String> {
        let texts = matches.get_many::<String>(name);
        texts.into_iter().flatten().cloned().collect()
    };
    Some(Command::Lab(Box::new(Lab {
        layers: layers(matches),
        sweeps: texts("sweep"),
        variants: texts("variant"),
        preset: matches.get_one("preset").cloned(),
        seeds: matches.get_one("seeds").copied(),
        jobs_max: usize::from(*matches.get_one::<u16>("jobs")?),
        out: matches.get_one("out").cloned(),
        dry_run: matches.get_flag("dry-run"),
        reports: reports(matches),
    })))
}

pub(super) fn report_command(matches: &ArgMatches) -> Option<Command> {
    Some(Command::Report {
        directories: matches.get_many("directory")?.cloned().collect(),
        out: matches.get_one("out").cloned(),
    })
}
