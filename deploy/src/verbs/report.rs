//! `springbok report`: the report of a grid, or of one run, from its files.

use std::{fs, path::Path};

use springbok_learner::output::write_whole;

use crate::{
    exit::Failure,
    lab::{
        measured::Measured,
        report::{self, Report},
        rows::{Row, Run, Status, equalise},
        store::Store,
    },
    output,
};

/// Writes `report.html` and `plots/` into `directory`, which holds a grid or one run.
pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    let store = Store::existing(directory);
    if store.has_rows() {
        let rows = store.rows()?.into_iter();
        let mut runs: Vec<Run> = rows.map(|row| store.with_files(row)).collect();
        equalise(&mut runs);
        write_grid(&store, &runs)?;
    } else {
        write(directory, &report::of_run(&single(directory)?))?;
    }
    output::line(&directory.join("report.html").display().to_string());
    Ok(())
}

/// Writes the report of a grid.
pub(super) fn write_grid(store: &Store, runs: &[Run]) -> Result<(), Failure> {
    let plan = fs::read_to_string(store.path().join("plan.txt")).unwrap_or_default();
    write(store.path(), &report::of_grid(runs, &plan))
}

fn single(directory: &Path) -> Result<Run, Failure> {
    let path = directory.join("summary.json");
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::files(format!(
            "{} has neither results.jsonl of a grid nor summary.json of a run ({error}); name the directory of one",
            directory.display()
        ))
    })?;
    let measured = Measured::read(&text)
        .map_err(|error| Failure::files(format!("{} is damaged: {error}", path.display())))?;
    let name = directory.file_name().unwrap_or(directory.as_os_str());
    let row = Row {
        cell: name.to_string_lossy().into_owned(),
        settings: Default::default(),
        seed: 0,
        status: Status::Done,
        error: None,
        config_hash: String::new(),
        version: String::new(),
        host: String::new(),
        equal: Default::default(),
        measured,
    };
    // The files of a run lie in its own directory, whatever that is called.
    Ok(Store::with_files_of(directory, row))
}

fn write(directory: &Path, report: &Report) -> Result<(), Failure> {
    let plots = directory.join("plots");
    fs::create_dir_all(&plots)
        .map_err(|error| Failure::files(format!("cannot write {}: {error}", plots.display())))?;
    for (name, svg) in &report.plots {
        write_whole(&plots.join(name), svg.as_bytes()).map_err(Failure::files)?;
    }
    write_whole(&directory.join("report.html"), report.html.as_bytes()).map_err(Failure::files)
}

/// This machine, in a line.
pub(super) fn host() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let system = std::env::consts::OS;
    format!("{cores} cores of {processor}, {system}")
}
