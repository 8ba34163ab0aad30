//! From the command line to a plan: every run with its checked configuration.

use std::collections::BTreeMap;

use springbok_actor::{environment::Registry, python::PythonSettings};
use springbok_common::{config::Config, spec::EnvironmentSpec};

use super::{super::config, CELLS_NAMED_MAX, Lab};
use crate::{
    cli::Layers,
    exit::Failure,
    lab::{
        VARIANT,
        plan::{self, Axis, Cell, Grid, Point},
        preset::Preset,
    },
};

/// A cell with its checked configuration.
pub(super) struct Planned {
    pub(super) cell: Cell,
    pub(super) config: Config,
}

/// The grid that preset and command line make together: a sweep of the same key and a variant of the same name win
/// over the preset's.
pub(super) fn grid(lab: &Lab, preset: Option<&Preset>) -> Result<Grid, Failure> {
    let mut faults = Vec::new();
    let mut parse = |texts: Vec<&str>| -> Vec<Axis> {
        let parsed = texts.into_iter().map(plan::sweep);
        collect(parsed, &mut faults)
    };
    let typed = parse(lab.sweeps.iter().map(String::as_str).collect());
    let mut sweeps = parse(preset.map_or(Vec::new(), |preset| preset.sweeps.to_vec()));
    sweeps.retain(|axis| typed.iter().all(|other| other.key != axis.key));
    sweeps.extend(typed);

    let mut parse = |texts: Vec<&str>| -> Vec<Point> {
        let parsed = texts.into_iter().map(plan::variant);
        collect(parsed, &mut faults)
    };
    let typed = parse(lab.variants.iter().map(String::as_str).collect());
    let mut variants = parse(preset.map_or(Vec::new(), |preset| preset.variants.to_vec()));
    variants.retain(|variant| typed.iter().all(|other| other.label != variant.label));
    variants.extend(typed);

    let seeds = lab.seeds.or(preset.map(|preset| preset.seeds)).unwrap_or(1);
    match Grid::new(variants, sweeps, seeds) {
        Ok(grid) if faults.is_empty() => Ok(grid),
        Ok(_) => Err(list(&faults)),
        Err(more) => {
            faults.extend(more);
            Err(list(&faults))
        }
    }
}

fn collect<T>(parsed: impl Iterator<Item = Result<T, String>>, faults: &mut Vec<String>) -> Vec<T> {
    let mut good = Vec::new();
    for result in parsed {
        match result {
            Ok(value) => good.push(value),
            Err(fault) => faults.push(fault),
        }
    }
    good
}

fn list(faults: &[String]) -> Failure {
    match faults {
        [only] => Failure::usage(format!("the grid has a fault: {only}")),
        faults => Failure::usage(format!(
            "the grid has {} faults:\n  - {}",
            faults.len(),
            faults.join("\n  - ")
        )),
    }
}

/// Every cell with its configuration, all checked before anything is run.
pub(super) fn planned(
    lab: &Lab,
    preset: Option<&Preset>,
    grid: &Grid,
    registry: &Registry,
) -> Result<Vec<Planned>, Failure> {
    let common: Vec<String> = preset
        .iter()
        .flat_map(|preset| preset.sets)
        .map(ToString::to_string)
        .chain(lab.layers.sets.iter().cloned())
        .collect();
    let load = |cell: &Cell, seed: Option<u64>| {
        let mut sets = common.clone();
        sets.extend(cell.sets.iter().cloned());
        sets.extend(seed.map(|seed| format!("run.seed={seed}")));
        config::load_faults(&Layers {
            file: lab.layers.file.clone(),
            sets,
        })
    };
    // No axis varies the seed, so every cell knows the first one; if none can be loaded, the faults are told below.
    let first = grid.cells(0).first().and_then(|cell| load(cell, None).ok());
    let first_seed = first.map_or(1, |config| config.run.seed);
    let mut check = Check {
        registry,
        specs: BTreeMap::new(),
        faults: Vec::new(),
        jobs_max: lab.jobs_max,
    };
    let mut planned = Vec::with_capacity(grid.runs());
    for cell in grid.cells(first_seed) {
        let seed = Some(cell.seed);
        match load(&cell, seed).and_then(|config| check.playable(config)) {
            Ok(config) => planned.push(Planned { cell, config }),
            Err(faults) => check.blame(&cell, faults),
        }
    }
    check.verdict()?;
    Ok(planned)
}

/// Looks at one configuration after the other; an environment is asked for its spaces only once.
struct Check<'a> {
    registry: &'a Registry,
    specs: BTreeMap<String, Result<EnvironmentSpec, String>>,
    /// Each fault once, with the cells that have it.
    faults: Vec<(String, Vec<String>)>,
    jobs_max: usize,
}

impl Check<'_> {
    fn playable(&mut self, config: Config) -> Result<Config, Vec<String>> {
        let environment = &config.environment;
        let python = PythonSettings::from(&environment.python);
        let key = format!("{}\n{}\n{python:?}", environment.id, environment.options);
        let spec = self.specs.entry(key).or_insert_with(|| {
            self.registry
                .spec(&environment.id, &environment.options, &python)
                .map_err(|error| error.to_string())
        });
        match spec {
            Ok(spec) => config
                .check_against(spec)
                .map_err(|error| error.faults().to_vec())?,
            Err(fault) => return Err(vec![fault.clone()]),
        }
        let listen = config.learner.listen;
        if self.jobs_max > 1 && listen.port() != 0 {
            return Err(vec![format!(
                "`learner.listen` is {listen}, but {} runs at the same time cannot share a port; use port 0 or --jobs 1",
                self.jobs_max
            )]);
        }
        if let Some(http) = config.telemetry.http
            && self.jobs_max > 1
            && http.port() != 0
        {
            return Err(vec![format!(
                "`telemetry.http` is {http}, but {} runs at the same time cannot share a port; use port 0 or --jobs 1",
                self.jobs_max
            )]);
        }
        Ok(config)
    }

    fn blame(&mut self, cell: &Cell, faults: Vec<String>) {
        for fault in faults {
            match self.faults.iter_mut().find(|(known, _)| *known == fault) {
                Some((_, cells)) => cells.push(cell.name.clone()),
                None => self.faults.push((fault, vec![cell.name.clone()])),
            }
        }
    }

    fn verdict(self) -> Result<(), Failure> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = self
            .faults
            .iter()
            .map(|(fault, cells)| {
                let named = cells.iter().take(CELLS_NAMED_MAX).cloned();
                let named = named.collect::<Vec<_>>().join(", ");
                match cells.len().saturating_sub(CELLS_NAMED_MAX) {
                    0 => format!("{fault} [{named}]"),
                    more => format!("{fault} [{named} and {more} more]"),
                }
            })
            .collect();
        Err(list(&lines))
    }
}

/// The plan for people: what the command stands for, and every run.
pub(super) fn describe(
    lab: &Lab,
    preset: Option<&Preset>,
    grid: &Grid,
    planned: &[Planned],
) -> String {
    let mut lines = Vec::new();
    if let Some(preset) = preset {
        lines.push(format!("preset {}: {}", preset.name, preset.question));
        lines.push(String::new());
    }
    lines.push("springbok lab".to_owned());
    let mut argument = |name: &str, value: &str| lines.push(format!("  {name} '{value}'"));
    if let Some(file) = &lab.layers.file {
        argument("--config", &file.display().to_string());
    }
    let sets = preset.map_or(&[][..], |preset| preset.sets);
    for set in sets
        .iter()
        .copied()
        .chain(lab.layers.sets.iter().map(String::as_str))
    {
        argument("--set", set);
    }
    for axis in &grid.axes {
        if axis.key == VARIANT {
            for point in &axis.points {
                argument(
                    "--variant",
                    &format!("{}:{}", point.label, join(&point.sets)),
                );
            }
        } else {
            let labels: Vec<String> = axis.points.iter().map(|p| p.label.clone()).collect();
            argument("--sweep", &format!("{}={}", axis.key, join(&labels)));
        }
    }
    lines.push(format!("  --seeds {}", grid.seeds));
    lines.push(String::new());
    let steps: u64 = planned.iter().map(|run| run.config.run.total_steps).sum();
    lines.push(format!("{} runs, {steps} steps together:", planned.len()));
    lines.extend(planned.iter().map(|run| format!("  {}", run.cell.name)));
    lines.join("\n") + "\n"
}

/// Values as one argument: separated by commas where none of them has one.
fn join(values: &[String]) -> String {
    let separator = if values.iter().any(|value| value.contains(',')) {
        ";"
    } else {
        ","
    };
    values.join(separator)
}
