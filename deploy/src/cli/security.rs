//! Flags that say who may connect. They name files; what is secret is never an argument.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Flag, arg, flag, switch};
use crate::keys::{ACTOR_FILES, LEARNER_FILES};

const INSECURE_SWITCH: Flag = flag("insecure", "", "security.insecure");
/// Of the verbs that start a learner.
const LEARNER_FLAGS: [Flag; 4] = [
    flag("certificate", "FILE", "security.certificate_file"),
    flag("key", "FILE", "security.key_file"),
    flag("client-ca", "FILE", "security.client_ca_file"),
    flag("token-file", "FILE", "security.token_file"),
];
/// Of the verb that starts an actor: its certificate is the actor's.
const ACTOR_FLAGS: [Flag; 4] = [
    flag("ca", "FILE", "security.ca_file"),
    flag("certificate", "FILE", "security.actor_certificate_file"),
    flag("key", "FILE", "security.actor_key_file"),
    flag("token-file", "FILE", "security.token_file"),
];

/// For whom a command line is: the same flags mean other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A learner, with or without actors of its own.
    Learner,
    /// An actor alone.
    Actor,
}

impl Side {
    fn flags(self) -> &'static [Flag; 4] {
        match self {
            Self::Learner => &LEARNER_FLAGS,
            Self::Actor => &ACTOR_FLAGS,
        }
    }
}

pub(super) fn learner_arguments() -> Vec<Arg> {
    arguments(&LEARNER_FLAGS)
}

pub(super) fn actor_arguments() -> Vec<Arg> {
    arguments(&ACTOR_FLAGS)
}

fn arguments(flags: &[Flag]) -> Vec<Arg> {
    let mut arguments: Vec<Arg> = flags.iter().map(arg).collect();
    arguments.push(switch(&INSECURE_SWITCH));
    arguments.push(
        Arg::new("keys")
            .long("keys")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Set)
            .help(
                "Directory that `springbok keys` made: takes certificates, keys and tokens from it",
            ),
    );
    arguments
}

/// What the flags set.
pub(super) fn sets(matches: &ArgMatches, side: Side) -> Vec<String> {
    let mut sets = Vec::new();
    for flag in side.flags() {
        // A verb that lacks the flag knows nothing of its name.
        if let Ok(Some(value)) = matches.try_get_one::<String>(flag.long) {
            sets.push(format!("{}={value}", flag.key));
        }
    }
    if let Ok(Some(true)) = matches.try_get_one::<bool>(INSECURE_SWITCH.long) {
        sets.push(format!("{}=true", INSECURE_SWITCH.key));
    }
    sets
}

/// What the directory of `--keys` sets: the files of a learner and of its actors, or of an actor alone. An actor's
/// machine need not have those that only mutual TLS asks for.
pub(super) fn sets_of_keys(matches: &ArgMatches, side: Side) -> Vec<String> {
    let Ok(Some(directory)) = matches.try_get_one::<PathBuf>("keys") else {
        return Vec::new();
    };
    let learner = (side == Side::Learner).then_some(LEARNER_FILES);
    let files = ACTOR_FILES.iter().chain(learner.into_iter().flatten());
    files
        .map(|(key, name, optional)| (key, directory.join(name), optional))
        .filter(|(_, path, optional)| !**optional || path.exists())
        .map(|(key, path, _)| format!("{key}={}", path.display()))
        .collect()
}

#[cfg(test)]
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    LEARNER_FLAGS
        .iter()
        .chain(&ACTOR_FLAGS)
        .chain([&INSECURE_SWITCH])
}
