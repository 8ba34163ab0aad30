//! `springbok bench environment`: how fast environments are stepped, without policy and learner.

use std::time::{Duration, Instant};

use serde::Serialize;
use springbok_actor::{
    environment::Registry,
    python::{PythonSettings, PythonVector, is_python},
    vector::{StepSink, VectorEnvironment},
};
use springbok_common::{
    arrays::Actions,
    spec::{ActionSpec, EnvironmentSpec},
    step::StepOutcome,
};

use super::super::config;
use crate::{cli::Layers, exit::Failure, output};

/// Slices that each of the two ways gets in turn, so that a change of the machine's mood hits both.
const SLICES: u32 = 6;
/// Batches of actions that are repeated over and over.
const BATCHES: usize = 64;

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    /// K; the configuration's if absent.
    pub(crate) environments: Option<usize>,
    /// Seconds for each of the two ways.
    pub(crate) seconds: f64,
    /// Whether to run the Python environments on their own too.
    pub(crate) bare: bool,
    /// Whether to print one JSON object and nothing else.
    pub(crate) json: bool,
}

/// What was done, and how long it took.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    /// K for each call, void rows included.
    pub(super) rows: u64,
    /// The same without void rows.
    pub(super) steps: u64,
    episodes: u64,
    pub(super) seconds: f64,
}

#[derive(Serialize)]
struct Report {
    environment: String,
    environments: usize,
    back_end: String,
    /// Steps of single environments each second.
    steps_per_second: f64,
    /// Rows each second: steps, and the void rows of environments that reset in a row of their own.
    rows_per_second: f64,
    episodes: u64,
    /// Rows each second of the same environments in Python alone.
    bare_rows_per_second: Option<f64>,
    /// `rows_per_second` / `bare_rows_per_second`.
    ratio: Option<f64>,
    /// The same of each pair of slices.
    slice_ratios: Vec<f64>,
}

/// Measures and prints.
pub(in crate::verbs) fn run(
    layers: &Layers,
    bench: Bench,
    registry: &Registry,
) -> Result<(), Failure> {
    let config = config::load(layers)?.config;
    let environments = bench
        .environments
        .unwrap_or(config.actor.environments_per_actor);
    let (id, options) = (&config.environment.id, &config.environment.options);
    let python = PythonSettings::from(&config.environment.python);
    let slice = Duration::from_secs_f64(bench.seconds / f64::from(SLICES));
    let seed = config.run.seed;

    let mut vector = registry
        .make_vector(id, options, &python, environments, seed)
        .map_err(Failure::usage)?;
    let table = table(vector.spec(), environments);
    let mut bare = bare_vector(&bench, vector.spec(), |id| {
        PythonVector::new(id, options, &python, environments, seed)
    })?;
    let mut paces = Vec::new();
    for _ in 0..SLICES {
        let ours = play(vector.as_mut(), &table, slice)?;
        let alone = match &mut bare {
            Some(bare) => Some(bare.bare_loop(&table, slice).map_err(Failure::internal)?),
            None => None,
        };
        paces.push((ours, alone.map(|alone| (alone.steps, alone.seconds))));
    }
    let back_end = bare.map_or_else(String::new, |bare| bare.back_end().to_owned());
    print(&report(id, environments, back_end, &paces), bench.json);
    Ok(())
}

fn bare_vector(
    bench: &Bench,
    spec: &EnvironmentSpec,
    make: impl FnOnce(&str) -> Result<PythonVector, springbok_actor::environment::EnvironmentError>,
) -> Result<Option<PythonVector>, Failure> {
    if !bench.bare {
        return Ok(None);
    }
    if !is_python(&spec.id) || spec.action_mask {
        return Err(Failure::usage(format!(
            "--bare runs a Python environment without action masks on its own, but {} is none; leave it out",
            spec.id
        )));
    }
    make(&spec.id).map(Some).map_err(Failure::usage)
}

/// Steps `vector` for about `duration`.
pub(super) fn play(
    vector: &mut dyn VectorEnvironment,
    table: &[Actions],
    duration: Duration,
) -> Result<Count, Failure> {
    let environments = vector.environments();
    let mut rewards = vec![0.0; environments];
    let mut outcomes = vec![StepOutcome::Continued; environments];
    let mut episodes = Vec::new();
    let mut count = Count::default();
    let begun = Instant::now();
    while begun.elapsed() < duration {
        for actions in table {
            let allowed = allowed(vector, actions);
            let actions = allowed.as_ref().unwrap_or(actions);
            let mut sink = StepSink {
                rewards: &mut rewards,
                outcomes: &mut outcomes,
                on_truncated: &mut |_, _| {},
                episodes: &mut episodes,
            };
            vector
                .step(actions.as_ref(), &mut sink)
                .map_err(Failure::internal)?;
            count.rows += environments as u64;
            count.steps += outcomes.iter().filter(|outcome| outcome.is_step()).count() as u64;
            count.episodes += episodes.len() as u64;
            episodes.clear();
        }
    }
    count.seconds = begun.elapsed().as_secs_f64();
    Ok(count)
}

/// The first choices from `actions` on that the masks allow; `None` if there are no masks.
pub(super) fn allowed(vector: &dyn VectorEnvironment, actions: &Actions) -> Option<Actions> {
    let spec = vector.spec();
    let Actions::Indices(indices) = actions else {
        return None;
    };
    if !spec.action_mask {
        return None;
    }
    let mut masks = vector.action_masks();
    let heads = spec.action.heads().iter().cycle();
    let chosen = indices.iter().zip(heads).map(|(&index, &n)| {
        let (mask, rest) = masks.split_at(n as usize);
        masks = rest;
        let mut later = (0..n).map(|step| (index + step) % n);
        later
            .find(|&choice| mask[choice as usize] == 1)
            .unwrap_or(index)
    });
    Some(Actions::Indices(chosen.collect()))
}

/// Batches of actions, `[K, A]` each, drawn uniformly from what the environment takes.
pub(super) fn table(spec: &EnvironmentSpec, environments: usize) -> Vec<Actions> {
    let mut state = 1_u64;
    // Knuth's MMIX generator: the quality that a benchmark needs.
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let mut batch = || match &spec.action {
        ActionSpec::Box { low, high } => {
            let bounds = low.iter().zip(high).cycle();
            let values = bounds.take(environments * low.len()).map(|(low, high)| {
                let (low, high) = (low.max(-1e3), high.min(1e3));
                low + (high - low) * draw() as f32 / (1 << 24) as f32
            });
            Actions::Values(values.collect())
        }
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => {
            let heads = spec.action.heads();
            let all = heads.iter().cycle().take(environments * heads.len());
            Actions::Indices(all.map(|n| draw() % n).collect())
        }
    };
    (0..BATCHES).map(|_| batch()).collect()
}

fn report(
    id: &str,
    environments: usize,
    back_end: String,
    paces: &[(Count, Option<(u64, f64)>)],
) -> Report {
    let ours = paces
        .iter()
        .fold(Count::default(), |sum, (count, _)| Count {
            rows: sum.rows + count.rows,
            steps: sum.steps + count.steps,
            episodes: sum.episodes + count.episodes,
            seconds: sum.seconds + count.seconds,
        });
    let alone: Vec<(u64, f64)> = paces.iter().filter_map(|(_, alone)| *alone).collect();
    let bare = (!alone.is_empty()).then(|| {
        let rows: u64 = alone.iter().map(|(rows, _)| rows).sum();
        let seconds: f64 = alone.iter().map(|(_, seconds)| seconds).sum();
        rows as f64 / seconds
    });
    let rows_per_second = ours.rows as f64 / ours.seconds;
    let slice_ratio = |(count, alone): &(Count, Option<(u64, f64)>)| {
        alone.map(|(rows, seconds)| (count.rows as f64 / count.seconds) * seconds / rows as f64)
    };
    Report {
        environment: id.to_owned(),
        environments,
        back_end,
        steps_per_second: ours.steps as f64 / ours.seconds,
        rows_per_second,
        episodes: ours.episodes,
        bare_rows_per_second: bare,
        ratio: bare.map(|bare| rows_per_second / bare),
        slice_ratios: paces.iter().filter_map(slice_ratio).collect(),
    }
}

fn print(report: &Report, json: bool) {
    if json {
        output::json(report);
        return;
    }
    output::line(&format!(
        "{}, {} environments: {:.0} steps/s ({} episodes)",
        report.environment, report.environments, report.steps_per_second, report.episodes
    ));
    if let (Some(bare), Some(ratio)) = (report.bare_rows_per_second, report.ratio) {
        let least = report.slice_ratios.iter().copied().fold(f64::MAX, f64::min);
        let most = report.slice_ratios.iter().copied().fold(0.0, f64::max);
        output::line(&format!(
            "rows that reset included: {:.0} rows/s; {} alone in Python: {bare:.0} rows/s; ratio {ratio:.3} \
             (slices from {least:.3} to {most:.3})",
            report.rows_per_second, report.back_end
        ));
    }
}
