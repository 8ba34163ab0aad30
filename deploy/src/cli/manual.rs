//! The arguments of `springbok completions`, `springbok man` and `springbok reference`: what is made of the definitions
//! in this program.

use clap::{
    Arg, ArgMatches, Command as Clap,
    builder::{EnumValueParser, PossibleValuesParser},
};
use clap_complete::Shell;

use super::{Command, path};
use crate::verbs::{Manual, Table};

pub(super) fn verbs() -> [Clap; 3] {
    let completions = Clap::new("completions")
        .about("Print completions for a shell")
        .after_help(
            "bash: springbok completions bash > ~/.local/share/bash-completion/completions/springbok\n\
             zsh:  springbok completions zsh > DIR/_springbok, with DIR in $fpath\n\
             fish: springbok completions fish > ~/.config/fish/completions/springbok.fish",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(EnumValueParser::<Shell>::new())
                .help("The shell"),
        );
    let man = Clap::new("man")
        .about("Print the manual page, or write those of all verbs")
        .arg(path("out", "DIR").help("Directory to write springbok.1, springbok-train.1 ... to"));
    let reference = Clap::new("reference")
        .about("Print the reference of all keys or all metrics in Markdown, as in deploy/docs")
        .hide(true)
        .arg(
            Arg::new("table")
                .value_name("TABLE")
                .required(true)
                .value_parser(PossibleValuesParser::new(["config", "metrics"])),
        );
    [completions, man, reference]
}

pub(super) fn command(verb: &str, matches: &ArgMatches) -> Option<Command> {
    Some(Command::Manual(match verb {
        "completions" => Manual::Completions(matches.get_one("shell").copied()?),
        "man" => Manual::Pages(matches.get_one("out").cloned()),
        _ => Manual::Reference(match matches.get_one::<String>("table")?.as_str() {
            "config" => Table::Config,
            _ => Table::Metrics,
        }),
    }))
}
