//! The grid while it is worked on: what is done already, what is left, and what came of it.

use std::collections::BTreeMap;

use springbok_common::config::Config;

use super::{
    super::{report, runtime},
    CELLS_NAMED_MAX, Lab, Outcome,
    planning::Planned,
};
use crate::{
    exit::Failure,
    lab::{
        measured::Measured,
        plan::Cell,
        progress::{GridProgress, in_words, steps_so_far},
        rows::{Row, Run, Status, equalise},
        schedule::{self, Happening, Job},
        store::{Found, Store, differences, identity, normalised},
    },
};

/// The grid while it is worked on.
pub(super) struct Work {
    pub(super) store: Store,
    pub(super) planned: Vec<Planned>,
    /// What is known, in the order of the plan; runs of earlier plans follow.
    runs: Vec<Run>,
    /// Cells that have to be run.
    pub(super) jobs: Vec<usize>,
}

impl Work {
    /// What is done already, and what is left to do. Nothing is removed before all of it is known.
    pub(super) fn find(store: Store, planned: Vec<Planned>) -> Result<Self, Failure> {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let mut order = Vec::new();
        for row in store.rows()? {
            order.push(row.cell.clone());
            rows.insert(row.cell.clone(), row);
        }
        let (mut runs, mut jobs, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (at, Planned { cell, config }) in planned.iter().enumerate() {
            let row = rows.remove(&cell.name).filter(Row::is_done);
            match store.find(&cell.name, config) {
                Found::Finished(measured) => {
                    // A row from the time of the run knows the machine that it ran on.
                    let mut found = new_row(cell, config, Ok(*measured));
                    if let Some(row) = row {
                        found.host = row.host;
                        found.version = row.version;
                    }
                    runs.push(store.with_files(found));
                }
                Found::Other(other) => others.push(format!(
                    "{}: {}",
                    cell.name,
                    differences(&other, config).join(", ")
                )),
                Found::Nothing => jobs.push(at),
            }
        }
        if !others.is_empty() {
            let more = others.len().saturating_sub(CELLS_NAMED_MAX);
            others.truncate(CELLS_NAMED_MAX);
            let more = if more > 0 {
                format!("; and {more} more")
            } else {
                String::new()
            };
            return Err(Failure::usage(format!(
                "{} has finished runs of another configuration ({}{more}); choose another --out",
                store.path().display(),
                others.join("; "),
            )));
        }
        for &at in &jobs {
            store.clear(&planned[at].cell.name)?;
        }
        let earlier = order.iter().filter_map(|cell| rows.remove(cell));
        let earlier: Vec<Run> = earlier.map(|row| store.with_files(row)).collect();
        runs.extend(earlier);
        Ok(Self {
            store,
            planned,
            runs,
            jobs,
        })
    }

    /// Runs what is left. Says whether nothing interrupted it.
    pub(super) fn run(&mut self, lab: &Lab) -> Result<bool, Failure> {
        let mut jobs = Vec::new();
        for &at in &self.jobs {
            let Planned { cell, config } = &self.planned[at];
            let path = self.store.config(&cell.name);
            let name = format!("cells/{}.toml", cell.name);
            self.store.write(&name, &normalised(config).to_toml())?;
            jobs.push(Job {
                cell: at,
                name: cell.name.clone(),
                config: path,
                out: self.store.runs(),
            });
        }
        let steps = |job: usize| self.planned[job].config.run.total_steps;
        let all_steps = self.jobs.iter().map(|&job| steps(job)).sum();
        let mut progress = GridProgress::new(lab.reports.progress, jobs.len(), all_steps);
        progress.note(&format!(
            "{} of {} runs are to be made, in {}",
            jobs.len(),
            self.planned.len(),
            self.store.path().display()
        ));
        if jobs.is_empty() {
            return Ok(true);
        }
        let jobs_max = lab.jobs_max;
        runtime()?.block_on(schedule::run(jobs, jobs_max, |happening| {
            self.on(happening, &mut progress)
        }))
    }

    fn on(&mut self, happening: Happening, progress: &mut GridProgress) -> Result<(), Failure> {
        match happening {
            Happening::Look(running) => {
                let steps = |job: &Job| steps_so_far(&self.store.run(&job.name));
                let names: Vec<&str> = running.iter().map(|job| job.name.as_str()).collect();
                progress.running(running.iter().map(steps).sum(), &names.join(", "));
            }
            Happening::Interrupted => progress.note(
                "interrupted: the runs under way are drained and will be made again by the same command \
                 (once more to stop at once)",
            ),
            Happening::Ended(job, end) => {
                let Planned { cell, config } = &self.planned[job.cell];
                let measured = end.and_then(|()| self.store.measured(&job.name));
                let measured = measured.and_then(|measured| {
                    if measured.is_complete(config.run.total_steps) {
                        Ok(measured)
                    } else {
                        Err(format!(
                            "it was stopped from outside after {} of {} steps",
                            measured.trained_steps, config.run.total_steps
                        ))
                    }
                });
                let row = new_row(cell, config, measured);
                progress.ended(config.run.total_steps, &in_a_line(&row));
                let run = self.store.with_files(row);
                let after = self.runs.iter().position(|run| self.place(&run.row.cell) > job.cell);
                self.runs.insert(after.unwrap_or(self.runs.len()), run);
                equalise(&mut self.runs);
                self.store.write_rows(&self.runs)?;
            }
        }
        Ok(())
    }

    /// Place of a cell in the plan; runs of earlier plans come last.
    fn place(&self, cell: &str) -> usize {
        let found = self.planned.iter().position(|run| run.cell.name == cell);
        found.unwrap_or(usize::MAX)
    }

    pub(super) fn report(&mut self) -> Result<(), Failure> {
        equalise(&mut self.runs);
        self.store.write_rows(&self.runs)?;
        report::write_grid(&self.store, &self.runs)
    }

    pub(super) fn outcome(&self, done_earlier: usize, interrupted: bool) -> Outcome {
        let ours = || {
            self.runs
                .iter()
                .filter(|run| self.place(&run.row.cell) < usize::MAX)
        };
        let done = ours().filter(|run| run.row.is_done()).count();
        Outcome {
            out: self.store.path().to_owned(),
            report: self.store.path().join("report.html"),
            runs: self.planned.len(),
            done,
            done_earlier,
            failed: ours().count() - done,
            interrupted,
        }
    }
}

fn new_row(cell: &Cell, config: &Config, measured: Result<Measured, String>) -> Row {
    let (status, error, measured) = match measured {
        Ok(measured) => (Status::Done, None, measured),
        Err(error) => (Status::Failed, Some(error), Default::default()),
    };
    Row {
        cell: cell.name.clone(),
        settings: cell
            .settings
            .iter()
            .map(|(key, label)| (key.clone(), label.clone().into()))
            .collect(),
        seed: cell.seed,
        status,
        error,
        config_hash: identity(config),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: report::host(),
        equal: Default::default(),
        measured,
    }
}

fn in_a_line(row: &Row) -> String {
    let measured = &row.measured;
    if let Some(error) = &row.error {
        return format!("{}: FAILED: {error}", row.cell);
    }
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    format!(
        "{}: return {}, lag {}, {} steps/s, {}",
        row.cell,
        number(measured.return_mean_100),
        number(measured.lag.mean),
        measured
            .trained_steps_per_s
            .map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        in_words(measured.wall_s)
    )
}
