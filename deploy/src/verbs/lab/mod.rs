//! `springbok lab`: a grid of training runs and its report.

use std::path::PathBuf;

use serde::Serialize;
use springbok_actor::environment::Registry;

use crate::{
    cli::{Layers, Reports},
    exit::{Exit, Failure},
    lab::{preset, store::Store},
    output,
};

mod planning;
mod work;

use planning::{describe, grid, planned};
use work::Work;

/// Cells that a fault is said to be in; there may be thousands.
const CELLS_NAMED_MAX: usize = 3;

/// What to run.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Where the configuration that all runs share comes from.
    pub(crate) layers: Layers,
    /// `KEY=VALUE,VALUE`.
    pub(crate) sweeps: Vec<String>,
    /// `NAME:KEY=VALUE,KEY=VALUE`.
    pub(crate) variants: Vec<String>,
    /// An experiment to begin with.
    pub(crate) preset: Option<String>,
    /// Runs of each combination.
    pub(crate) seeds: Option<u32>,
    /// Runs at the same time.
    pub(crate) jobs_max: usize,
    /// Directory of the grid; none only with `dry_run`.
    pub(crate) out: Option<PathBuf>,
    /// Whether only the plan is made.
    pub(crate) dry_run: bool,
    /// How to report.
    pub(crate) reports: Reports,
}

/// What is printed at the end.
#[derive(Serialize)]
struct Outcome {
    out: PathBuf,
    report: PathBuf,
    /// Runs of the grid.
    runs: usize,
    /// Of them: done, now or earlier.
    done: usize,
    /// Of them: done earlier.
    done_earlier: usize,
    failed: usize,
    interrupted: bool,
}

/// Runs what is left of the grid, and writes rows and report.
pub(super) fn run(lab: &Lab, registry: &Registry) -> Result<(), Failure> {
    let preset = lab.preset.as_deref().and_then(preset::find);
    let grid = grid(lab, preset)?;
    let planned = planned(lab, preset, &grid, registry)?;
    let Some(out) = lab.out.as_ref().filter(|_| !lab.dry_run) else {
        output::line(describe(lab, preset, &grid, &planned).trim_end());
        return Ok(());
    };
    let store = Store::open(out)?;
    let mut work = Work::find(store, planned)?;
    let done_earlier = work.planned.len() - work.jobs.len();
    let plan = describe(lab, preset, &grid, &work.planned);
    work.store.write("plan.txt", &plan)?;
    let finished = work.run(lab);
    work.report()?;
    let finished = finished?;
    let outcome = work.outcome(done_earlier, !finished);
    print(&outcome, lab.reports.json);
    if outcome.failed > 0 {
        return Err(Failure::new(
            Exit::Internal,
            format!(
                "{} of {} runs failed; their rows say why, and the same command tries them again",
                outcome.failed, outcome.runs
            ),
        ));
    }
    Ok(())
}

fn print(outcome: &Outcome, json: bool) {
    if json {
        output::json(outcome);
        return;
    }
    let Outcome {
        runs,
        done,
        done_earlier,
        failed,
        ..
    } = outcome;
    let mut text =
        format!("{done} of {runs} runs are done ({done_earlier} of them earlier), {failed} failed");
    if outcome.interrupted {
        text.push_str("; interrupted: the same command goes on");
    }
    output::line(&text);
    output::line(&format!("written to {}:", outcome.out.display()));
    for file in ["report.html", "results.csv", "results.jsonl", "plan.txt"] {
        output::line(&format!("  {}", outcome.out.join(file).display()));
    }
}
