//! `--resume` and `--resume-anyway`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};

use super::path;
use crate::run_directory::RunDirectory;

/// The run to go on with.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Whether to do so although other settings would learn something else.
    pub(crate) anyway: bool,
}

/// The two flags.
pub(super) fn arguments() -> [Arg; 2] {
    [
        path("resume", "DIR")
            .conflicts_with_all(["out", "name"])
            .help(
                "Go on with the run in this directory from its newest checkpoint; its settings are the defaults",
            ),
        Arg::new("resume-anyway")
            .long("resume-anyway")
            .action(ArgAction::SetTrue)
            .requires("resume")
            .help("Do so although other settings than its own would learn something else"),
    ]
}

/// What they say.
pub(super) fn of(matches: &ArgMatches) -> Option<Resume> {
    Some(Resume {
        directory: matches.get_one::<PathBuf>("resume").cloned()?,
        anyway: matches.get_flag("resume-anyway"),
    })
}

/// The configuration of the run that is to go on, if the verb has such a flag and it is given.
pub(super) fn configuration(matches: &ArgMatches) -> Option<PathBuf> {
    let run = matches.try_get_one::<PathBuf>("resume").ok().flatten()?;
    Some(RunDirectory::config_of(run))
}
