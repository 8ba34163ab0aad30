//! The verbs of the command line.

use std::sync::Arc;

use springbok_actor::environment::Registry;

use crate::{cli::Command, exit::Failure};

pub(crate) use bench::{Bench, STAGES, Suite};
pub(crate) use soak::Soak;

mod actor;
mod bench;
mod config;
mod envs;
mod eval;
mod keys;
mod lab;
mod learner;
mod manual;
mod report;
mod resume;
mod soak;
mod status;
mod train;

pub(crate) use envs::Thoroughness;
pub(crate) use eval::{Eval, has_policy};
pub(crate) use keys::Keys;
pub(crate) use lab::Lab;
#[cfg(test)]
pub(crate) use manual::write_pages as write_manual;
pub(crate) use manual::{Manual, Table};
pub(crate) use status::{Status, Target as StatusTarget, in_words as status_in_words};

/// Does what `command` asks, with the environments of `registry`.
///
/// # Errors
/// With the exit code and the sentence that the process should end with.
pub(crate) fn run(command: Command, registry: Arc<Registry>) -> Result<(), Failure> {
    match command {
        Command::Train {
            layers,
            reports,
            resume,
            ui,
            supervised,
        } => {
            let way = train::Way {
                reports,
                ui,
                supervised,
            };
            train::run(&layers, way, resume.as_ref(), &registry)
        }
        Command::Learner {
            layers,
            reports,
            resume,
            supervised,
            run_directory,
        } => match run_directory {
            Some(directory) if supervised => {
                learner::run_supervised(&layers, directory, resume.is_some(), &registry)
            }
            _ => learner::run(&layers, reports, resume.as_ref(), &registry),
        },
        Command::Actor {
            layers,
            learner,
            supervised,
            index,
        } => actor::run(&layers, learner, supervised, index, registry),
        Command::Eval(eval) => eval::run(&eval, &registry),
        Command::Lab(lab) => lab::run(&lab, &registry),
        Command::Report { directories, out } => report::run(&directories, out.as_deref()),
        Command::Status(status) => status::run(&status),
        Command::Bench { layers, suite } => bench::run(&layers, &suite, &registry),
        Command::BenchRecord {
            layers,
            path,
            unrolls,
        } => bench::record(&layers, &path, unrolls, &registry),
        Command::BenchEnvironment { layers, bench } => bench::step(&layers, bench, &registry),
        Command::BenchSoak { layers, soak } => soak::run(&layers, &soak),
        Command::Keys(keys) => keys::run(&keys),
        Command::Envs { json } => envs::run(json, &registry),
        Command::EnvsCheck {
            layers,
            thoroughness,
            json,
        } => envs::check(&layers, thoroughness, json, &registry),
        Command::ConfigPrint { layers, toml } => config::print(&layers, toml),
        Command::ConfigCheck { layers } => config::check(&layers, &registry),
        Command::Manual(manual) => manual::run(&manual),
    }
}

/// The asynchronous runtime of a process that mostly computes: two threads for the sockets are plenty.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start threads: {error}")))
}
