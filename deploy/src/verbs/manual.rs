//! `springbok completions`, `springbok man` and `springbok reference`: texts that are made of the definitions in this
//! program, and so cannot go stale.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Command as Clap;
use clap_complete::Shell;
use clap_mangen::Man;
use springbok_learner::output::write_whole;

use crate::{cli, exit::Failure, output, reference};

/// A table that the reference is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    /// The keys of the configuration.
    Config,
    /// The metrics.
    Metrics,
}

/// What to make.
#[derive(Debug)]
pub(crate) enum Manual {
    /// Completions for a shell, on stdout.
    Completions(Shell),
    /// The manual page on stdout, or those of all verbs in a directory.
    Pages(Option<PathBuf>),
    /// A table in Markdown, on stdout.
    Reference(Table),
}

/// Makes it.
pub(super) fn run(manual: &Manual) -> Result<(), Failure> {
    match manual {
        Manual::Completions(shell) => {
            let mut script = Vec::new();
            let (mut program, name) = (without_hidden(&cli::program()), "springbok");
            clap_complete::generate(*shell, &mut program, name, &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Manual::Pages(None) => {
            let page = page(cli::program().disable_help_subcommand(true))?;
            output::line(String::from_utf8_lossy(&page.text).trim_end());
            Ok(())
        }
        Manual::Pages(Some(directory)) => {
            let count = write_pages(directory)?;
            let directory = directory.display();
            output::line(&format!("{count} manual pages written to {directory}"));
            Ok(())
        }
        Manual::Reference(table) => {
            let text = match table {
                Table::Config => reference::configuration(),
                Table::Metrics => reference::metrics(),
            };
            output::line(text.trim_end());
            Ok(())
        }
    }
}

/// The command line without its hidden arguments and verbs, which the makers of completions would show.
fn without_hidden(verb: &Clap) -> Clap {
    // Names are static; this process prints the completions and ends.
    let name: &'static str = verb.get_name().to_owned().leak();
    let shown = Clap::new(name)
        .args(verb.get_arguments().filter(|one| !one.is_hide_set()))
        .subcommands(
            verb.get_subcommands()
                .filter(|one| !one.is_hide_set())
                .map(without_hidden),
        );
    match verb.get_about() {
        Some(about) => shown.about(about.clone()),
        None => shown,
    }
}

/// Writes the manual pages of all verbs to `directory`, and says how many.
///
/// # Errors
/// Exit 74 if the file system refuses.
pub(crate) fn write_pages(directory: &Path) -> Result<usize, Failure> {
    fs::create_dir_all(directory)
        .map_err(|error| Failure::files(format!("cannot make {}: {error}", directory.display())))?;
    let pages = pages()?;
    for page in &pages {
        write_whole(&directory.join(&page.file), &page.text).map_err(Failure::files)?;
    }
    Ok(pages.len())
}

/// A manual page.
struct Page {
    file: String,
    text: Vec<u8>,
}

/// One page for the program and one for each verb, verbs of verbs included.
fn pages() -> Result<Vec<Page>, Failure> {
    let mut program = cli::program().disable_help_subcommand(true);
    // Gives each verb its full name, such as springbok-bench-soak.
    program.build();
    let (mut open, mut pages) = (vec![program], Vec::new());
    while let Some(verb) = open.pop() {
        let inner = verb.get_subcommands().filter(|verb| !verb.is_hide_set());
        open.extend(inner.cloned());
        pages.push(page(verb)?);
    }
    Ok(pages)
}

fn page(verb: Clap) -> Result<Page, Failure> {
    let man = Man::new(verb).manual("Springbok");
    let mut text = Vec::new();
    let rendered: io::Result<()> = man.render(&mut text);
    rendered.map_err(|error| Failure::internal(format!("cannot make a manual page: {error}")))?;
    let file = man.get_filename();
    Ok(Page { file, text })
}
