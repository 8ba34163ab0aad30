//! `springbok report`: the report of a grid, of one run, or of any number of runs beside each other, from their files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use springbok_learner::output::write_whole;

use crate::{
    exit::Failure,
    lab::{
        measured::Measured,
        report::{self, Report, comparison},
        rows::{Row, Run, Status, equalise},
        store::Store,
    },
    output,
};

/// Where a comparison goes if nobody says.
const COMPARISON: &str = "comparison";

/// Writes `report.html` and `plots/`: of one grid or run into its own directory, of several into one for them, unless `out`
/// says where.
pub(super) fn run(directories: &[PathBuf], out: Option<&Path>) -> Result<(), Failure> {
    let out = match (directories, out) {
        ([one], None) => return of_one(one),
        (_, out) => out.unwrap_or(Path::new(COMPARISON)),
    };
    let mut runs = Vec::new();
    for directory in directories {
        let store = Store::existing(directory);
        if store.has_rows() {
            let grid = name(directory);
            let rows = store.rows()?.into_iter();
            runs.extend(rows.map(|row| {
                let mut run = store.with_files(row);
                run.row.cell = format!("{grid}/{}", run.row.cell);
                run
            }));
        } else {
            runs.push(single(directory)?);
        }
    }
    comparison::name(&mut runs);
    equalise(&mut runs);
    write(out, &report::of_comparison(&runs))?;
    output::line(&out.join("report.html").display().to_string());
    Ok(())
}

/// Writes the report of what `directory` holds, a grid or one run, into it.
fn of_one(directory: &Path) -> Result<(), Failure> {
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
    let row = Row {
        cell: name(directory),
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
    let mut run = Store::with_files_of(directory, row);
    let seed = run.config.iter().find(|(key, _)| key == "run.seed");
    run.row.seed = seed.and_then(|(_, seed)| seed.parse().ok()).unwrap_or(0);
    Ok(run)
}

/// What a directory is called; "." is, too.
fn name(directory: &Path) -> String {
    let whole = directory.canonicalize();
    let whole = whole.as_deref().unwrap_or(directory);
    let name = whole.file_name().unwrap_or(directory.as_os_str());
    name.to_string_lossy().into_owned()
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
